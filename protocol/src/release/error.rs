//! Why a record is not a signed release.

use crate::hash::HashError;
use crate::json::JsonError;
use crate::repo::{KindError, Publisher, PublisherError, RepoNameError};

/// Why a record is not a signed release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The record is longer than [`RELEASE_LEN_MAX`](crate::limits::RELEASE_LEN_MAX).
    #[error("release has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The record ends within the signature.
    #[error("release has {len} bytes, less than its signature alone")]
    TooShort {
        /// Bytes of the record.
        len: usize,
    },
    /// The signature is not the publisher's over these bytes.
    #[error("release has a wrong signature")]
    Signature,
    /// The key given to sign with is not the publisher's.
    #[error("release names {publisher} as its publisher, and the key to sign with is another")]
    OtherKey {
        /// The publisher that the release names.
        publisher: Publisher,
    },
    /// The release is written in another version of the format.
    #[error("release is written in version {found} of the format, and this program knows version 1")]
    Version {
        /// The version that the release names.
        found: u64,
    },
    /// The bytes mean a release, but are not the one way to write it.
    #[error("release is not in canonical form")]
    NotCanonical,
    /// The bytes are not the JSON of a release.
    #[error("release is not what it should be")]
    Json(#[source] JsonError),
    /// The publisher is not a key.
    #[error("release names a wrong publisher")]
    Publisher(#[from] PublisherError),
    /// The name is not one.
    #[error("release has a wrong name")]
    Name(#[from] RepoNameError),
    /// The kind is none of the three.
    #[error("release has a wrong kind")]
    Kind(#[from] KindError),
    /// A hash is not lower-case hex of the right length.
    #[error("release has a wrong {field}")]
    BadHex {
        /// `manifest`, `prev` or `card`.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: HashError,
    },
    /// A number is out of its bounds.
    #[error("release has {field} {found}, not {min} to {max}")]
    Number {
        /// `seq`, `issued` or `expires`.
        field: &'static str,
        /// Its value.
        found: u64,
        /// Its least value.
        min: u64,
        /// Its largest value.
        max: u64,
    },
    /// A part of the upstream breaks its rule.
    #[error("release has a wrong upstream {field}")]
    Upstream {
        /// `commit`, `hub` or `repo`.
        field: &'static str,
    },
}

impl From<JsonError> for ReleaseError {
    fn from(error: JsonError) -> ReleaseError {
        match error {
            JsonError::Version { found } => ReleaseError::Version { found },
            JsonError::NotCanonical => ReleaseError::NotCanonical,
            other => ReleaseError::Json(other),
        }
    }
}
