//! What a person calls a thing that is denied or allowed.

use std::fmt;
use std::str::FromStr;

use protocol::{
    Alias, AliasError, Denied, DeniedError, Hash, HashError, Publisher, RepoId, RepoRef, RepoRefError,
};

/// A thing to deny or to allow. Text: `ALIAS/NAME`, `PUBLISHER/NAME`, `blake3/HASH`, `blob:HASH`, `publisher:KEY`, `publisher:ALIAS`; and what
/// denylists write, `repo:PUBLISHER/NAME` and `manifest:HASH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A repo, or one manifest.
    Repo(RepoRef),
    /// One file, in whatever revision.
    Blob(Hash),
    /// All that a key publishes.
    Publisher(Publisher),
    /// The same, by what the user calls it.
    Followed(Alias),
}

/// Why a text names nothing that can be denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhatError {
    /// It has a colon, and what stands around it is wrong.
    #[error(transparent)]
    Denied(#[from] DeniedError),
    /// What stands behind `blob:` is no hash.
    #[error("wrong hash")]
    Hash(#[from] HashError),
    /// What stands behind `publisher:` is neither a key nor an alias.
    #[error("wrong publisher")]
    Alias(#[from] AliasError),
    /// It is no repo.
    #[error(transparent)]
    Repo(#[from] RepoRefError),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Repo(repo) => repo.fmt(f),
            What::Blob(hash) => write!(f, "blob:{hash}"),
            What::Publisher(publisher) => write!(f, "publisher:{publisher}"),
            What::Followed(alias) => write!(f, "publisher:{alias}"),
        }
    }
}

impl FromStr for What {
    type Err = WhatError;

    fn from_str(text: &str) -> Result<What, WhatError> {
        match text.split_once(':') {
            None => Ok(What::Repo(text.parse()?)),
            Some(("blob", hash)) => Ok(What::Blob(hash.parse()?)),
            Some(("publisher", name)) => match name.parse() {
                Ok(publisher) => Ok(What::Publisher(publisher)),
                Err(_) => Ok(What::Followed(name.parse()?)),
            },
            Some(_) => Ok(What::from(&text.parse::<Denied>()?)),
        }
    }
}

impl From<&Denied> for What {
    fn from(denied: &Denied) -> What {
        match denied {
            Denied::Repo(repo) => What::Repo(RepoRef::Id(RepoId::clone(repo))),
            Denied::Manifest(hash) => What::Repo(RepoRef::Content(*hash)),
            Denied::Blob(hash) => What::Blob(*hash),
            Denied::Publisher(publisher) => What::Publisher(*publisher),
        }
    }
}

/// Serde for what has a text form and is checked when it is parsed.
pub(super) mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}
