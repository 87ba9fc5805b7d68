//! Why a record is not a signed key statement.

use crate::json::JsonError;
use crate::repo::{Publisher, PublisherError};

/// Why a record is not a signed key statement.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The record is longer than [`KEY_STATEMENT_LEN_MAX`](crate::limits::KEY_STATEMENT_LEN_MAX).
    #[error("key statement has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The record ends within its signatures.
    #[error("key statement has {len} bytes, less than its signatures alone")]
    TooShort {
        /// Bytes of the record.
        len: usize,
    },
    /// It has more or fewer signatures than its kind asks for.
    #[error("key statement has {found} signatures, which is not what its kind asks for")]
    Count {
        /// How many it says that it has.
        found: u8,
    },
    /// A signature is not that of the key that has to sign, over these bytes.
    #[error("key statement has a wrong signature of {signer}")]
    Signature {
        /// The key.
        signer: Publisher,
    },
    /// The key to sign with was not given.
    #[error("key statement has to be signed by {wanted}, and that key is not here")]
    NoKey {
        /// The key that has to sign.
        wanted: Publisher,
    },
    /// The statement is written in another version of the format.
    #[error("key statement is written in version {found} of the format, and this program knows version 1")]
    Version {
        /// The version that it names.
        found: u64,
    },
    /// The bytes mean a statement, but are not the one way to write it.
    #[error("key statement is not in canonical form")]
    NotCanonical,
    /// The bytes are not the JSON of a statement.
    #[error("key statement is not what it should be")]
    Json(#[source] JsonError),
    /// It says something that this version knows nothing of.
    #[error("key statement says {found:?}, not introduce, rotate, recover or revoke")]
    Say {
        /// What it says, cut after 32 characters.
        found: String,
    },
    /// It lacks a field of its kind, or has one of another kind.
    #[error("key statement has or lacks {field} against its kind")]
    Field {
        /// The field.
        field: &'static str,
    },
    /// A field is not a key.
    #[error("key statement has a wrong {field}")]
    Key {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: PublisherError,
    },
    /// Two of its keys are the same.
    #[error("key statement names one key for two purposes")]
    SameKey,
    /// The reason of a revocation is no word for one.
    #[error("key statement has a wrong reason")]
    Reason(#[from] ReasonError),
    /// The time is out of its bounds.
    #[error("key statement has issued {found}, more than {max}")]
    Issued {
        /// The time.
        found: u64,
        /// Its largest value.
        max: u64,
    },
}

/// A reason that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reason is {found:?}, not compromised, lost, retired or superseded")]
pub struct ReasonError {
    /// The text, cut after 32 characters.
    pub found: String,
}

impl From<JsonError> for KeyError {
    fn from(error: JsonError) -> KeyError {
        match error {
            JsonError::Version { found } => KeyError::Version { found },
            JsonError::NotCanonical => KeyError::NotCanonical,
            other => KeyError::Json(other),
        }
    }
}
