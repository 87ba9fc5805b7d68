//! Why bytes are not a denylist.

use super::DeniedError;
use crate::json::JsonError;
use crate::text::TextError;

/// Why bytes are not a denylist. Entries are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum DenylistError {
    /// It is longer than [`DENYLIST_LEN_MAX`](crate::limits::DENYLIST_LEN_MAX).
    #[error("denylist has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the list.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// It is written in another version of the format.
    #[error("denylist is written in version {found} of the format, and this program knows version 1")]
    Version {
        /// The version that it names.
        found: u64,
    },
    /// It is not the JSON of a list.
    #[error("denylist is not what it should be")]
    Json(#[source] JsonError),
    /// An entry is not the JSON of one.
    #[error("entry {number} of the denylist is not what it should be")]
    Entry {
        /// Which.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: JsonError,
    },
    /// It has more entries than [`DENIALS_MAX`](crate::limits::DENIALS_MAX).
    #[error("denylist has more than {max} entries")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// An entry is about something that cannot be denied here.
    #[error("entry {number} of the denylist names a wrong thing")]
    What {
        /// Which.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: DeniedError,
    },
    /// The reason of an entry is empty or too long.
    #[error("entry {number} of the denylist has a reason of {len} bytes, not 1 to {max}")]
    ReasonLength {
        /// Which.
        number: usize,
        /// Bytes of the reason.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The reason of an entry has a character that people do not see, or is not in normal form.
    #[error("entry {number} of the denylist has a wrong reason")]
    Reason {
        /// Which.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: TextError,
    },
    /// A time of an entry is too large, or it ends before it began.
    #[error("entry {number} of the denylist has a wrong time: {field} is {found}")]
    Time {
        /// Which.
        number: usize,
        /// `since` or `expires`.
        field: &'static str,
        /// Its value.
        found: u64,
    },
}
