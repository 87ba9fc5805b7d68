//! Names: who publishes ([`Publisher`], [`Alias`]), what ([`RepoName`], [`Kind`]), and how people refer to it ([`RepoId`], [`RepoRef`]).
//!
//! Every type is checked when made, so that a value of it may stand in a path, a URL or a terminal.

mod name;
mod publisher;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use name::{Alias, AliasError, RepoName, RepoNameError};
pub use publisher::{Publisher, PublisherError};

use crate::hash::{Hash, HashError};
use publisher::PUBLISHER_LEN;

/// The owner part that stands for "exactly this manifest" in a [`RepoRef`].
const CONTENT: &str = "blake3";

/// What a repo is. Text: `model`, `dataset`, `space`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Weights and what is needed to run them.
    Model,
    /// Data to train or measure with.
    Dataset,
    /// A small app.
    Space,
}

/// A text that is none of the three kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kind is {found:?}, not model, dataset or space")]
pub struct KindError {
    /// The text, cut after 32 characters.
    pub found: String,
}

impl Kind {
    /// The kind as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Dataset => "dataset",
            Kind::Space => "space",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Kind, KindError> {
        match text {
            "model" => Ok(Kind::Model),
            "dataset" => Ok(Kind::Dataset),
            "space" => Ok(Kind::Space),
            other => Err(KindError {
                found: other.chars().take(32).collect(),
            }),
        }
    }
}

/// A repo: a publisher and a name. Self-certifying: the publisher is the key that signs. Text: `PUBLISHER/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId {
    /// Who signs its releases.
    pub publisher: Publisher,
    /// Its name under that publisher.
    pub name: RepoName,
}

/// Why a text is not a [`RepoId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoIdError {
    /// The text has no slash.
    #[error("repo has no slash between publisher and name")]
    NoSlash,
    /// What stands before the slash is not a publisher.
    #[error("repo has a wrong publisher")]
    Publisher(#[from] PublisherError),
    /// What stands behind the slash is not a name.
    #[error("repo has a wrong name")]
    Name(#[from] RepoNameError),
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.name)
    }
}

impl FromStr for RepoId {
    type Err = RepoIdError;

    fn from_str(text: &str) -> Result<RepoId, RepoIdError> {
        let (publisher, name) = text.split_once('/').ok_or(RepoIdError::NoSlash)?;
        Ok(RepoId {
            publisher: publisher.parse()?,
            name: name.parse()?,
        })
    }
}

impl Serialize for RepoId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (&self.publisher, &self.name).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for RepoId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Cow::<str>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            let (publisher, name) = Deserialize::deserialize(deserializer)?;
            Ok(RepoId { publisher, name })
        }
    }
}

/// How a person refers to a repo or a revision: `PUBLISHER/NAME`, `ALIAS/NAME` or `blake3/HASH`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepoRef {
    /// `PUBLISHER/NAME`: the same repo for everybody.
    Id(RepoId),
    /// `ALIAS/NAME`: means something only on the node where the alias was given.
    Aliased {
        /// What the user calls the publisher.
        alias: Alias,
        /// The repo's name under it.
        name: RepoName,
    },
    /// `blake3/HASH`: exactly the manifest with this hash.
    Content(Hash),
}

/// Why a text refers to no repo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoRefError {
    /// The text has no slash.
    #[error("{text:?} has no slash: a repo is PUBLISHER/NAME, ALIAS/NAME or blake3/HASH")]
    NoSlash {
        /// The text, cut after 200 characters.
        text: String,
    },
    /// What stands before the slash has the length of a publisher, but is none.
    #[error("repo has a wrong publisher")]
    Publisher(#[from] PublisherError),
    /// What stands before the slash is not an alias either.
    #[error("repo has a wrong owner")]
    Alias(#[from] AliasError),
    /// What stands behind the slash is not a name.
    #[error("repo has a wrong name")]
    Name(#[from] RepoNameError),
    /// What stands behind `blake3/` is not a hash.
    #[error("revision has a wrong hash")]
    Hash(#[from] HashError),
}

impl fmt::Display for RepoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RepoRef::Id(id) => id.fmt(f),
            RepoRef::Aliased { alias, name } => write!(f, "{alias}/{name}"),
            RepoRef::Content(hash) => write!(f, "{CONTENT}/{hash}"),
        }
    }
}

impl FromStr for RepoRef {
    type Err = RepoRefError;

    fn from_str(text: &str) -> Result<RepoRef, RepoRefError> {
        let Some((owner, name)) = text.split_once('/') else {
            let text = text.chars().take(200).collect();
            return Err(RepoRefError::NoSlash { text });
        };
        if owner == CONTENT {
            return Ok(RepoRef::Content(name.parse()?));
        }
        if owner.len() == PUBLISHER_LEN {
            return Ok(RepoRef::Id(RepoId {
                publisher: owner.parse()?,
                name: name.parse()?,
            }));
        }
        Ok(RepoRef::Aliased {
            alias: owner.parse()?,
            name: name.parse()?,
        })
    }
}

impl From<RepoId> for RepoRef {
    fn from(id: RepoId) -> RepoRef {
        RepoRef::Id(id)
    }
}
