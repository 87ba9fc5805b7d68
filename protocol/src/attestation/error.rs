//! Why a record is not a signed attestation.

use super::finite::FiniteError;
use crate::hash::HashError;
use crate::json::JsonError;
use crate::repo::{Publisher, PublisherError};

/// Why a record is not a signed attestation.
#[derive(Debug, thiserror::Error)]
pub enum AttestationError {
    /// The record is longer than [`ATTESTATION_LEN_MAX`](crate::limits::ATTESTATION_LEN_MAX).
    #[error("attestation has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The record ends within the signature.
    #[error("attestation has {len} bytes, less than its signature alone")]
    TooShort {
        /// Bytes of the record.
        len: usize,
    },
    /// The signature is not that of the key it names, over these bytes.
    #[error("attestation has a wrong signature")]
    Signature,
    /// The key given to sign with is not the one it names.
    #[error("attestation names {by} as who makes it, and the key to sign with is another")]
    OtherKey {
        /// The key that the attestation names.
        by: Publisher,
    },
    /// The attestation is written in another version of the format.
    #[error("attestation is written in version {found} of the format, and this program knows version 1")]
    Version {
        /// The version that it names.
        found: u64,
    },
    /// The bytes mean an attestation, but are not the one way to write it.
    #[error("attestation is not in canonical form")]
    NotCanonical,
    /// The bytes are not the JSON of an attestation.
    #[error("attestation is not what it should be")]
    Json(#[source] JsonError),
    /// Who makes it is not a key.
    #[error("attestation names a wrong key")]
    By(#[from] PublisherError),
    /// A verdict is none of the three.
    #[error("attestation has a wrong verdict")]
    Verdict(#[from] VerdictError),
    /// A hash or nonce is not lower-case hex of the right length.
    #[error("attestation has a wrong {field}")]
    BadHex {
        /// `manifest`, `probes`, `digest` or `nonce`.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: HashError,
    },
    /// A number is not finite, or not in its one spelling.
    #[error("attestation has a wrong number")]
    Number(#[from] FiniteError),
    /// The time is out of its bounds.
    #[error("attestation has issued {found}, more than {max}")]
    Issued {
        /// The time.
        found: u64,
        /// Its largest value.
        max: u64,
    },
    /// A rule about its parts is broken.
    #[error("attestation has {what}")]
    Rule {
        /// What it has and must not have.
        what: &'static str,
    },
}

/// A verdict that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("verdict is none of passed, failed, not_done")]
pub struct VerdictError;

impl From<JsonError> for AttestationError {
    fn from(error: JsonError) -> AttestationError {
        match error {
            JsonError::Version { found } => AttestationError::Version { found },
            JsonError::NotCanonical => AttestationError::NotCanonical,
            other => AttestationError::Json(other),
        }
    }
}
