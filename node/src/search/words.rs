//! Words: how a text is cut into what is found, the same for what is known and for what is asked.
//!
//! A run of letters and digits is a word as it stands, in lower case. What is written together is found apart too: `Qwen2` by `qwen` and `2`, `TinyLlama` by
//! `llama`. A single letter stays with its digits (`7b`, `v2`), and a character of Chinese or Japanese is a word of its own.

/// Longest word, in bytes; longer ones are cut. A hash in a name is still found by its beginning.
pub(super) const WORD_LEN_MAX: usize = 40;

/// Most words of one text: the longest card has about as many.
const WORDS_MAX: usize = 400;

/// The words of a text that is to be found: whole runs, and their parts.
pub(super) fn of_text(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for run in runs(text) {
        if words.len() >= WORDS_MAX {
            break;
        }
        let first = words.len();
        words.push(lower(run));
        for border in [is_number_border as Border, is_border] {
            for part in parts(run, border) {
                let part = lower(part);
                if !words.iter().skip(first).any(|word| *word == part) {
                    words.push(part);
                }
            }
        }
    }
    words.truncate(WORDS_MAX);
    words
}

/// One word that somebody asks for: all of `parts` have to be there; where they stand as one word, `whole`, it is worth more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) whole: String,
    pub(super) parts: Vec<String>,
}

/// The words of a question, at most `max`, each once.
pub(super) fn of_question(text: &str, max: usize) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    for run in runs(text) {
        let whole = lower(run);
        let parts = parts(&run.to_lowercase(), is_number_border)
            .into_iter()
            .map(lower)
            .collect();
        let word = Asked { whole, parts };
        if !asked.contains(&word) {
            asked.push(word);
        }
        if asked.len() == max {
            break;
        }
    }
    asked
}

/// Whether a text ends within a word: the reader is still typing it.
pub(super) fn ends_in_word(text: &str) -> bool {
    text.chars().next_back().is_some_and(char::is_alphanumeric)
}

fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .flat_map(single_signs)
        .filter(|run| !run.is_empty())
}

/// Cuts a run into the signs of scripts that do not part their words, and what lies between.
fn single_signs(run: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = run;
    while let Some((at, sign)) = rest.char_indices().find(|(_, c)| is_sign(*c)) {
        let (before, after) = rest.split_at(at);
        let (sign, after) = after.split_at(sign.len_utf8());
        pieces.extend([before, sign]);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// Han, Hiragana and Katakana.
fn is_sign(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether a word ends between two neighbours.
type Border = fn(char, char) -> bool;

fn is_number_border(before: char, after: char) -> bool {
    before.is_numeric() != after.is_numeric()
}

fn is_border(before: char, after: char) -> bool {
    is_number_border(before, after) || (before.is_lowercase() && after.is_uppercase())
}

/// Cuts a run at its borders, but leaves a single letter where it is.
fn parts(run: &str, border: Border) -> Vec<&str> {
    let mut cuts = vec![0];
    let mut before = None;
    for (at, c) in run.char_indices() {
        if before.is_some_and(|before| border(before, c)) {
            cuts.push(at);
        }
        before = Some(c);
    }
    cuts.push(run.len());
    let is_letter = |part: &str| part.chars().count() == 1 && part.chars().all(char::is_alphabetic);
    let mut parts: Vec<&str> = Vec::new();
    let mut start = 0;
    for (at, &end) in cuts.iter().enumerate().skip(1) {
        let part = run.get(start..end).unwrap_or_default();
        let next_start = end;
        let is_last = at + 1 == cuts.len();
        if is_letter(part) && !is_last {
            // It goes with what follows.
            continue;
        }
        match parts.pop() {
            Some(last) if is_letter(part) => {
                let from = start - last.len();
                parts.push(run.get(from..end).unwrap_or_default());
            }
            Some(last) => parts.extend([last, part]),
            None => parts.push(part),
        }
        start = next_start;
    }
    parts
}

/// A word in lower case, cut after [`WORD_LEN_MAX`] bytes.
fn lower(word: &str) -> String {
    let mut lower = word.to_lowercase();
    let mut end = lower.len().min(WORD_LEN_MAX);
    while !lower.is_char_boundary(end) {
        end -= 1;
    }
    lower.truncate(end);
    lower
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_cut_where_people_would_cut_them() {
        let cases: [(&str, &[&str]); 10] = [
            ("Llama-3.1-8B", &["llama", "3", "1", "8b"]),
            ("qwen2.5_7b", &["qwen2", "qwen", "2", "5", "7b"]),
            ("TinyLlama", &["tinyllama", "tiny", "llama"]),
            ("SmolLM2", &["smollm2", "smollm", "2", "smol", "lm"]),
            ("gpt2", &["gpt2", "gpt", "2"]),
            ("v2", &["v2"]),
            ("a1b2", &["a1b2", "a1", "b2"]),
            ("ünicode Straße", &["ünicode", "straße"]),
            ("多语言 bert", &["多", "语", "言", "bert"]),
            ("-./_ \u{0}", &[]),
        ];
        for (text, words) in cases {
            assert_eq!(of_text(text), words, "{text}");
        }
    }

    #[test]
    fn question_asks_for_the_parts_of_each_word() {
        let asked = of_question("Qwen2 GGUF gguf", 8);
        let parts: Vec<_> = asked.iter().map(|word| word.parts.join("+")).collect();
        assert_eq!(parts, ["qwen+2", "gguf"]);
        assert_eq!(of_question("a b c d", 2).len(), 2);
        assert!(ends_in_word("lla"));
        assert!(!ends_in_word("llama "));
        assert!(!ends_in_word(""));
    }

    proptest! {
        #[test]
        fn every_word_of_a_name_that_is_asked_for_is_there(name in "[A-Za-z0-9._-]{1,96}") {
            let words = of_text(&name);
            for asked in of_question(&name, 100) {
                prop_assert!(words.contains(&asked.whole), "{} of {words:?}", asked.whole);
                for part in &asked.parts {
                    prop_assert!(words.contains(part), "{part} of {words:?}");
                }
            }
        }

        #[test]
        fn any_text_has_bounded_words(text in any::<String>()) {
            for word in of_text(&text).into_iter().chain(of_question(&text, 8).into_iter().flat_map(|asked| asked.parts)) {
                prop_assert!(!word.is_empty() && word.len() <= WORD_LEN_MAX);
            }
        }
    }
}
