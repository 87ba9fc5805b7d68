//! What of a followed publisher's repos is to be mirrored: which names, and how many bytes they may take.

use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobMatcher};
use protocol::RepoName;
use serde::{Deserialize, Serialize};

/// Longest pattern of names, in bytes: a name has at most 96.
pub const PATTERN_LEN_MAX: usize = 128;

/// A wish to have a publisher's repos fetched and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Which repos, by their names.
    pub names: NamePattern,
    /// Most bytes that all of them may take. `None`: what the node and the disk have.
    pub quota: Option<u64>,
}

/// A glob over names of repos, such as `llama-*`. Text: the glob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(Glob);

/// Why a text is no pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no glob.
    #[error("the pattern does not read")]
    Glob(#[from] globset::Error),
    /// It is empty, or longer than [`PATTERN_LEN_MAX`].
    #[error("a pattern has 1 to {PATTERN_LEN_MAX} bytes")]
    Len,
    /// It has a character that no name has, and no glob needs.
    #[error("a pattern has no control characters")]
    Control,
}

impl NamePattern {
    /// What tells names that match from others.
    pub fn matcher(&self) -> NameMatcher {
        NameMatcher(self.0.compile_matcher())
    }
}

/// A pattern that is ready to be asked.
#[derive(Debug, Clone)]
pub struct NameMatcher(GlobMatcher);

impl NameMatcher {
    /// Whether a name matches.
    pub fn is_match(&self, name: &RepoName) -> bool {
        self.0.is_match(name.as_str())
    }
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<NamePattern, PatternError> {
        if text.is_empty() || text.len() > PATTERN_LEN_MAX {
            return Err(PatternError::Len);
        }
        if text.contains(char::is_control) {
            return Err(PatternError::Control);
        }
        Ok(NamePattern(Glob::new(text)?))
    }
}

impl TryFrom<String> for NamePattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<NamePattern, PatternError> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> String {
        pattern.0.glob().to_owned()
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.glob())
    }
}
