//! The card's summary: what a catalogue shows of a repo without fetching it. Canonical JSON of at most 2 KiB, bound to a release by its hash.
//!
//! Nothing in it is proven: it is what the publisher says, signed by way of the release. Its fields have the Hub's names where the Hub has one.

mod error;
mod fit;
mod written;

use serde::{Deserialize, Serialize};

pub use error::CardError;

use crate::hash::Hash;
use crate::json;
use crate::limits::{
    CARD_BASES_MAX, CARD_DESCRIPTION_LEN_MAX, CARD_FORMATS_MAX, CARD_LANGUAGES_MAX, CARD_LEN_MAX,
    CARD_TAG_LEN_MAX, CARD_TAGS_MAX, CARD_WORD_LEN_MAX, RELEASE_NUMBER_MAX, UPSTREAM_REPO_LEN_MAX,
};
use crate::release::{Release, Upstream};
use crate::text;
use written::Written;

/// What is shown of a repo before it is fetched. Every part may be missing; the fields are anybody's until [`Summary::encode`] checked them.
///
/// It serializes with all its fields, for a node's own stores. What travels is [`Summary::encode`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What it was made from: `OWNER/NAME` on a hub or `PUBLISHER/NAME` here, at most [`CARD_BASES_MAX`]. Written as `base_model`.
    pub base_model: Vec<String>,
    /// How it was made from that, in the Hub's words: `finetune`, `adapter`, `merge`, `quantized`. Written as `base_model_relation`.
    pub base_relation: Option<String>,
    /// The sizes of all files together, in bytes.
    pub bytes: Option<u64>,
    /// One or two sentences, at most [`CARD_DESCRIPTION_LEN_MAX`] bytes.
    pub description: Option<String>,
    /// The type of most weights: `bfloat16`, `q4_k_m`.
    pub dtype: Option<String>,
    /// The formats of the weights or data: `safetensors`, `gguf`, `parquet`. At most [`CARD_FORMATS_MAX`].
    pub formats: Vec<String>,
    /// The languages, as the card names them: `en`, `zh-hant`. At most [`CARD_LANGUAGES_MAX`]. Written as `language`.
    pub languages: Vec<String>,
    /// The library that reads it: `transformers`. Written as `library_name`.
    pub library: Option<String>,
    /// The licence's identifier: `apache-2.0`.
    pub license: Option<String>,
    /// How many numbers its weights are.
    pub parameters: Option<u64>,
    /// Anything else to be found by, at most [`CARD_TAGS_MAX`] texts.
    pub tags: Vec<String>,
    /// What it is for: `text-generation`. Written as `pipeline_tag`.
    pub task: Option<String>,
}

impl Summary {
    /// Checks a summary and encodes it: canonical JSON of at most [`CARD_LEN_MAX`] bytes.
    ///
    /// # Errors
    /// Those of its parts, and [`CardError::TooLong`]. What [`Summary::fit`] returns has none.
    pub fn encode(&self) -> Result<Vec<u8>, CardError> {
        self.check()?;
        let bytes = json::encode(&Written::of(self));
        check_len(bytes.len())?;
        Ok(bytes)
    }

    /// Reads a summary: length and version, then the form, then its parts.
    ///
    /// # Errors
    /// Every [`CardError`] but [`CardError::OtherCard`].
    pub fn decode(bytes: &[u8]) -> Result<Summary, CardError> {
        check_len(bytes.len())?;
        let written: Written<'_> = json::decode(bytes)?;
        let summary = written.read();
        summary.check()?;
        Ok(summary)
    }

    /// Reads the summary that came beside a release, and refuses what is not the one that it names.
    ///
    /// # Errors
    /// [`CardError::OtherCard`] before anything is read; then those of [`Summary::decode`].
    pub fn decode_of(release: &Release, bytes: &[u8]) -> Result<Summary, CardError> {
        check_len(bytes.len())?;
        let found = Hash::of(bytes);
        if release.card != Some(found) {
            let wanted = release.card;
            return Err(CardError::OtherCard { wanted, found });
        }
        Summary::decode(bytes)
    }

    /// The hash of the encoding, which is what a release says as its `card`.
    ///
    /// # Errors
    /// Those of [`Summary::encode`].
    pub fn hash(&self) -> Result<Hash, CardError> {
        Ok(Hash::of(&self.encode()?))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Summary::default()
    }

    fn check(&self) -> Result<(), CardError> {
        list("base_model", &self.base_model, CARD_BASES_MAX, base)?;
        list("formats", &self.formats, CARD_FORMATS_MAX, word)?;
        list("language", &self.languages, CARD_LANGUAGES_MAX, word)?;
        list("tags", &self.tags, CARD_TAGS_MAX, |field, text| {
            readable(field, text, CARD_TAG_LEN_MAX)
        })?;
        let words = [
            ("base_model_relation", &self.base_relation),
            ("dtype", &self.dtype),
            ("library_name", &self.library),
            ("license", &self.license),
            ("pipeline_tag", &self.task),
        ];
        for (field, text) in words {
            text.as_deref().map_or(Ok(()), |text| word(field, text))?;
        }
        if let Some(text) = &self.description {
            readable("description", text, CARD_DESCRIPTION_LEN_MAX)?;
        }
        for (field, number) in [("bytes", self.bytes), ("parameters", self.parameters)] {
            let max = RELEASE_NUMBER_MAX;
            if let Some(found) = number.filter(|number| *number > max) {
                return Err(CardError::Number { field, found, max });
            }
        }
        Ok(())
    }
}

fn check_len(len: usize) -> Result<(), CardError> {
    let max = CARD_LEN_MAX;
    if len > max {
        return Err(CardError::TooLong { len, max });
    }
    Ok(())
}

fn list(
    field: &'static str,
    texts: &[String],
    max: usize,
    one: impl Fn(&'static str, &str) -> Result<(), CardError>,
) -> Result<(), CardError> {
    let found = texts.len();
    if found > max {
        return Err(CardError::Count { field, found, max });
    }
    for (at, text) in texts.iter().enumerate() {
        one(field, text)?;
        if texts.iter().take(at).any(|before| before == text) {
            return Err(CardError::Twice { field });
        }
    }
    Ok(())
}

/// A text that people read: 1 to `max` bytes.
fn readable(field: &'static str, found: &str, max: usize) -> Result<(), CardError> {
    let len = found.len();
    if len == 0 || len > max {
        return Err(CardError::Length { field, len, max });
    }
    text::check(found).map_err(|source| CardError::Text { field, source })
}

/// An identifier: a text of ASCII that can be seen, without a quote or backslash, so that it has one spelling and its own length in JSON.
fn word(field: &'static str, found: &str) -> Result<(), CardError> {
    readable(field, found, CARD_WORD_LEN_MAX)?;
    match found.chars().find(|c| !is_word(*c)) {
        Some(found) => Err(CardError::Word { field, found }),
        None => Ok(()),
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '\\')
}

fn base(field: &'static str, found: &str) -> Result<(), CardError> {
    readable(field, found, UPSTREAM_REPO_LEN_MAX)?;
    match Upstream::can_be_repo(found) {
        true => Ok(()),
        false => Err(CardError::Base),
    }
}
