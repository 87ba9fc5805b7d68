//! Why bytes or parts are not the summary of a card.

use crate::hash::Hash;
use crate::json::JsonError;
use crate::text::TextError;

/// Why bytes or parts are not the summary of a card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// The encoding is longer than [`CARD_LEN_MAX`](crate::limits::CARD_LEN_MAX).
    #[error("summary of the card has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the encoding.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// It is not the summary that the release names.
    #[error("summary of the card has the hash {found}, and the release names another or none")]
    OtherCard {
        /// What the release names.
        wanted: Option<Hash>,
        /// The hash of what came.
        found: Hash,
    },
    /// It is written in another version of the format.
    #[error(
        "summary of the card is written in version {found} of the format, and this program knows version 1"
    )]
    Version {
        /// The version that it names.
        found: u64,
    },
    /// The bytes mean a summary, but are not the one way to write it.
    #[error("summary of the card is not in canonical form")]
    NotCanonical,
    /// The bytes are not the JSON of a summary.
    #[error("summary of the card is not what it should be")]
    Json(#[source] JsonError),
    /// A list has too many entries.
    #[error("summary of the card has {found} entries in {field}, more than {max}")]
    Count {
        /// The field, as it is written.
        field: &'static str,
        /// Entries that it has.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A list has an entry twice.
    #[error("summary of the card has an entry twice in {field}")]
    Twice {
        /// The field, as it is written.
        field: &'static str,
    },
    /// A text is empty or too long.
    #[error("summary of the card has a text of {len} bytes in {field}, not 1 to {max}")]
    Length {
        /// The field, as it is written.
        field: &'static str,
        /// Bytes of the text.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A text has a character that people do not see, or is not in normal form.
    #[error("summary of the card has a wrong {field}")]
    Text {
        /// The field, as it is written.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: TextError,
    },
    /// An identifier has a character other than those of ASCII that can be seen, or a quote or backslash.
    #[error("summary of the card has the character {found:?} in {field}")]
    Word {
        /// The field, as it is written.
        field: &'static str,
        /// The first such character.
        found: char,
    },
    /// A base model is not the name of a repo.
    #[error("summary of the card has a base model that no repo can be called")]
    Base,
    /// A number is too large.
    #[error("summary of the card has {field} {found}, more than {max}")]
    Number {
        /// The field, as it is written.
        field: &'static str,
        /// Its value.
        found: u64,
        /// Its largest value.
        max: u64,
    },
}

impl From<JsonError> for CardError {
    fn from(error: JsonError) -> CardError {
        match error {
            JsonError::Version { found } => CardError::Version { found },
            JsonError::NotCanonical => CardError::NotCanonical,
            other => CardError::Json(other),
        }
    }
}
