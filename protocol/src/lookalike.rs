//! Names that look alike: what a user may take for a name they know. A pure comparison of two names, and a warning at most: it proves nothing.
//!
//! Names are ASCII (see [`repo`](crate::repo)), so that there are few characters to mistake for each other. Digits tell versions and sizes apart, so
//! names that differ in a digit are two names, not a slip.

/// Shortest name that one wrong letter makes a lookalike, in characters: shorter ones are too near to each other anyway.
const SLIP_NAME_LEN_MIN: usize = 5;

/// Shortest words between which one wrong letter counts, in characters: the shorter of both, and the longer. Below, letters tell variants
/// apart: the sizes `n`, `s` and `m`, the languages `en` and `de`, `t5` and `mt5`.
const SLIP_WORD_LEN_MIN: (usize, usize) = (3, 4);

/// What is left of a name to the eye: names with the same skeleton look the same.
///
/// Case counts nothing; `-`, `_` and `.` are one; `0` is `o`; `1` and `i` are `l`; `rn` is `m`, `vv` is `w`; a letter in a row stands once, but for `o`
/// and `l`, which may be digits of a number. What is not ASCII stays as it is. At most as long as the name.
pub fn skeleton(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let mut skeleton = String::new();
    let mut words = lower.split(is_separator);
    skeleton.push_str(&word_skeleton(words.next().unwrap_or_default()));
    for word in words {
        skeleton.push('-');
        skeleton.push_str(&word_skeleton(word));
    }
    skeleton
}

/// Whether a user may take one name for the other.
///
/// Two different names look alike if they have the same [`skeleton`], or have the same numbers and differ by one slip: one letter too many, too few,
/// wrong or in its neighbour's place, in one word of some length, or a separator that is missing. The same name twice does not look alike:
/// whether it is the same thing is not a matter of looks.
pub fn looks_like(a: &str, b: &str) -> bool {
    a != b && (skeleton(a) == skeleton(b) || one_slip(&a.to_ascii_lowercase(), &b.to_ascii_lowercase()))
}

fn is_separator(c: char) -> bool {
    matches!(c, '-' | '_' | '.')
}

fn word_skeleton(word: &str) -> String {
    let seen = word.replace("rn", "m").replace("vv", "w");
    let mut skeleton = String::new();
    for c in seen.chars() {
        let shape = match c {
            '0' => 'o',
            '1' | 'i' => 'l',
            other => other,
        };
        let once = shape.is_ascii_lowercase() && !matches!(shape, 'o' | 'l');
        if !(once && skeleton.ends_with(shape)) {
            skeleton.push(shape);
        }
    }
    skeleton
}

fn one_slip(a: &str, b: &str) -> bool {
    if a.chars().count().min(b.chars().count()) < SLIP_NAME_LEN_MIN || !numbers(a).eq(numbers(b)) {
        return false;
    }
    let (a, b) = (words(a), words(b));
    if a.concat() == b.concat() {
        return true;
    }
    let mut differing = a.iter().zip(&b).filter(|(a, b)| a != b);
    match (differing.next(), differing.next(), a.len() == b.len()) {
        (Some((a, b)), None, true) => {
            let lens = (
                a.chars().count().min(b.chars().count()),
                a.chars().count().max(b.chars().count()),
            );
            let (shorter, longer) = SLIP_WORD_LEN_MIN;
            lens.0 >= shorter && lens.1 >= longer && strsim::osa_distance(a, b) == 1
        }
        _ => false,
    }
}

fn numbers(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty())
}

/// The words of a name: what stands between separators, cut where letters and digits meet.
fn words(name: &str) -> Vec<&str> {
    let parts = name.split(is_separator);
    parts
        .flat_map(|part| part.split_inclusive(|c: char| c.is_ascii_digit()))
        .flat_map(|part| {
            let digit = part.ends_with(|c: char| c.is_ascii_digit());
            let (word, number) = part.split_at(part.len().saturating_sub(usize::from(digit)));
            [word, number]
        })
        .filter(|word| !word.is_empty())
        .collect()
}
