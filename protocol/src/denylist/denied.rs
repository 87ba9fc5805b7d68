//! What an entry of a denylist is about.

use std::fmt;
use std::str::FromStr;

use crate::hash::{Hash, HashError};
use crate::repo::{Publisher, PublisherError, RepoId, RepoIdError};

/// What is denied. Text: `repo:PUBLISHER/NAME`, `manifest:HASH`, `blob:HASH`, `publisher:KEY`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Denied {
    /// A repo, with all its releases.
    Repo(RepoId),
    /// One revision, in whatever repo.
    Manifest(Hash),
    /// One file, in whatever revision.
    Blob(Hash),
    /// All that a key publishes.
    Publisher(Publisher),
}

/// Why a text names nothing that can be denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeniedError {
    /// The text has no colon, or a word before it that is none of the four.
    #[error("{found:?} is no repo:, manifest:, blob: or publisher:")]
    Kind {
        /// What stands before the colon, or the text, cut after 32 characters.
        found: String,
    },
    /// What stands behind `repo:` is none.
    #[error("wrong repo")]
    Repo(#[from] RepoIdError),
    /// What stands behind `manifest:` or `blob:` is no hash.
    #[error("wrong hash")]
    Hash(#[from] HashError),
    /// What stands behind `publisher:` is none.
    #[error("wrong publisher")]
    Publisher(#[from] PublisherError),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Repo(repo) => write!(f, "repo:{repo}"),
            Denied::Manifest(hash) => write!(f, "manifest:{hash}"),
            Denied::Blob(hash) => write!(f, "blob:{hash}"),
            Denied::Publisher(publisher) => write!(f, "publisher:{publisher}"),
        }
    }
}

impl FromStr for Denied {
    type Err = DeniedError;

    fn from_str(text: &str) -> Result<Denied, DeniedError> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "repo" => Ok(Denied::Repo(name.parse()?)),
            "manifest" => Ok(Denied::Manifest(name.parse()?)),
            "blob" => Ok(Denied::Blob(name.parse()?)),
            "publisher" => Ok(Denied::Publisher(name.parse()?)),
            _ => Err(DeniedError::Kind {
                found: kind.chars().take(32).collect(),
            }),
        }
    }
}
