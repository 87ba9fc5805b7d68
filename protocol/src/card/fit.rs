//! The maker's way: whatever stands in a model card becomes a summary that everybody takes.

use super::{Summary, Written, base, is_word};
use crate::json;
use crate::limits::{
    CARD_BASES_MAX, CARD_DESCRIPTION_LEN_MAX, CARD_FORMATS_MAX, CARD_LANGUAGES_MAX, CARD_LEN_MAX,
    CARD_TAG_LEN_MAX, CARD_TAGS_MAX, CARD_WORD_LEN_MAX, RELEASE_NUMBER_MAX,
};
use crate::text;

/// Shortest description that a cut leaves, in bytes: less says nothing, and goes as a whole.
const DESCRIPTION_LEFT_MIN: usize = 24;

impl Summary {
    /// Makes a summary that [`Summary::encode`] takes.
    ///
    /// First each part by itself: texts become one line without what nobody sees, in normal form C; the description is cut at its bound; a word, tag,
    /// base model or number that breaks its rule is left out, as is what a list has twice or too many of. Then, until the
    /// encoding fits: the last tag, one by one; the end of the description; the last language. What is left always fits.
    pub fn fit(mut self) -> Summary {
        self.tidy();
        while self.over() > 0 {
            let over = self.over();
            if self.tags.pop().is_some() {
                continue;
            }
            if let Some(description) = self.description.take() {
                self.description = shorter(&description, over);
                continue;
            }
            if self.languages.pop().is_none() {
                // The bounds of the other parts add up to less than a summary may have.
                break;
            }
        }
        self
    }

    fn tidy(&mut self) {
        tidy_list(&mut self.base_model, CARD_BASES_MAX, |text| {
            let name = text.trim();
            base("base_model", name).is_ok().then(|| name.to_owned())
        });
        tidy_list(&mut self.formats, CARD_FORMATS_MAX, word);
        tidy_list(&mut self.languages, CARD_LANGUAGES_MAX, word);
        tidy_list(&mut self.tags, CARD_TAGS_MAX, |text| {
            let tag = text::clean(text);
            (!tag.is_empty() && tag.len() <= CARD_TAG_LEN_MAX).then_some(tag)
        });
        for part in [
            &mut self.base_relation,
            &mut self.dtype,
            &mut self.library,
            &mut self.license,
            &mut self.task,
        ] {
            *part = part.as_deref().and_then(word);
        }
        let description = self.description.take().map(|text| text::clean(&text));
        self.description = description
            .map(|text| text::cut(&text, CARD_DESCRIPTION_LEN_MAX).to_owned())
            .filter(|text| !text.is_empty());
        for number in [&mut self.bytes, &mut self.parameters] {
            *number = number.filter(|number| *number <= RELEASE_NUMBER_MAX);
        }
    }

    /// By how many bytes the encoding is too long.
    fn over(&self) -> usize {
        json::encode(&Written::of(self))
            .len()
            .saturating_sub(CARD_LEN_MAX)
    }
}

fn tidy_list(texts: &mut Vec<String>, max: usize, tidy: impl Fn(&str) -> Option<String>) {
    let mut kept: Vec<String> = Vec::new();
    for text in texts.iter().filter_map(|text| tidy(text)) {
        if kept.len() < max && !kept.contains(&text) {
            kept.push(text);
        }
    }
    *texts = kept;
}

fn word(text: &str) -> Option<String> {
    let word = text.trim();
    let kept = (1..=CARD_WORD_LEN_MAX).contains(&word.len()) && word.chars().all(is_word);
    kept.then(|| word.to_owned())
}

/// The description without at least `over` bytes at its end, at a word's end if there is one; nothing if little would be left.
fn shorter(description: &str, over: usize) -> Option<String> {
    let left = text::cut(description, description.len().saturating_sub(over));
    let left = left.rsplit_once(' ').map_or(left, |(whole, _)| whole);
    (left.len() >= DESCRIPTION_LEFT_MIN).then(|| left.to_owned())
}
