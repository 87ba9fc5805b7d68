//! Names that people choose: [`RepoName`] for a repo, [`Alias`] for a publisher.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CONTENT, Publisher};
use crate::limits::{ALIAS_LEN_MAX, REPO_NAME_LEN_MAX};

/// The name of a repo under its publisher: 1 to 96 of `A-Z a-z 0-9 . _ -`, as the Hub's clients accept it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoName(String);

/// Why a text is not the name of a repo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepoNameError {
    /// The name is empty or over 96 bytes long.
    #[error("repo name has {len} bytes, not 1 to 96")]
    Length {
        /// Bytes that the text has.
        len: usize,
    },
    /// The name has a character other than `A-Z a-z 0-9 . _ -`.
    #[error("repo name has the character {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
    /// The name starts or ends with a dot or hyphen.
    #[error("repo name {name:?} starts or ends with a dot or hyphen")]
    Edge {
        /// The name.
        name: String,
    },
    /// The name has `..` or `--` in it.
    #[error("repo name {name:?} has two dots or hyphens in a row")]
    Doubled {
        /// The name.
        name: String,
    },
    /// The name ends with `.git`, which the Hub's clients cut off.
    #[error("repo name {name:?} ends with .git")]
    Git {
        /// The name.
        name: String,
    },
}

impl RepoName {
    /// Checks a name.
    ///
    /// # Errors
    /// Every variant of [`RepoNameError`]: one a rule.
    pub fn new(name: &str) -> Result<RepoName, RepoNameError> {
        if name.is_empty() || name.len() > REPO_NAME_LEN_MAX {
            return Err(RepoNameError::Length { len: name.len() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(found) = name.chars().find(|c| !allowed(*c)) {
            return Err(RepoNameError::Character { found });
        }
        let owned = || name.to_owned();
        if name.starts_with(['.', '-']) || name.ends_with(['.', '-']) {
            return Err(RepoNameError::Edge { name: owned() });
        }
        if name.contains("..") || name.contains("--") {
            return Err(RepoNameError::Doubled { name: owned() });
        }
        if name.ends_with(".git") {
            return Err(RepoNameError::Git { name: owned() });
        }
        Ok(RepoName(owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a user calls a publisher on their own node: a [`RepoName`] of at most 39 bytes without upper-case letters, and not `blake3`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias(String);

/// Why a text is not an alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// The alias is over 39 bytes long.
    #[error("alias has {len} bytes, more than 39")]
    Length {
        /// Bytes that the text has.
        len: usize,
    },
    /// The alias has an upper-case letter.
    #[error("alias {alias:?} has an upper-case letter")]
    UpperCase {
        /// The alias.
        alias: String,
    },
    /// The alias has a meaning of its own: `blake3`, or the form of a publisher's id.
    #[error("{alias:?} cannot be an alias: it has a meaning of its own")]
    Taken {
        /// The alias.
        alias: String,
    },
    /// The alias would not be a repo name either.
    #[error("alias is not a name")]
    Name(#[from] RepoNameError),
}

impl Alias {
    /// Checks an alias.
    ///
    /// # Errors
    /// Every variant of [`AliasError`]: one a rule.
    pub fn new(alias: &str) -> Result<Alias, AliasError> {
        if alias.len() > ALIAS_LEN_MAX {
            return Err(AliasError::Length { len: alias.len() });
        }
        RepoName::new(alias)?;
        let owned = || alias.to_owned();
        if alias.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(AliasError::UpperCase { alias: owned() });
        }
        if alias == CONTENT || alias.parse::<Publisher>().is_ok() {
            return Err(AliasError::Taken { alias: owned() });
        }
        Ok(Alias(owned()))
    }

    /// The alias as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_newtype {
    ($name:ident, $error:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                $name::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                $name::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_newtype!(RepoName, RepoNameError);
text_newtype!(Alias, AliasError);
