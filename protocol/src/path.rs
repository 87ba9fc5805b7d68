//! Paths of files in a manifest, judged on every platform by the rules of all platforms.
//!
//! An accepted path names one file below the folder it is joined to, under POSIX and Windows rules alike, and reads on a screen as what it is.

use std::fmt;
use std::str::FromStr;

use caseless::Caseless;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::limits::{COMPONENT_LEN_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX};
use crate::text;

/// A checked relative path with `/` between its components. Sorted by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoPath(String);

/// Why a text is not a path that a manifest may list: one variant a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path has no bytes.
    #[error("path is empty")]
    Empty,
    /// The path is longer than [`PATH_LEN_MAX`].
    #[error("path has {len} bytes, more than 1024")]
    TooLong {
        /// Bytes that the path has.
        len: usize,
    },
    /// The path starts with a slash.
    #[error("path is absolute")]
    Absolute,
    /// The path has a backslash, which Windows takes for a slash (and two of them for a machine's name).
    #[error("path has a backslash")]
    Backslash,
    /// The path has a colon: a drive letter or a stream of a file on Windows.
    #[error("path has a colon")]
    Colon,
    /// The path has one of `< > " | ? *`, which Windows refuses.
    #[error("path has the character {found:?}, which not every platform takes")]
    Forbidden {
        /// The first such character.
        found: char,
    },
    /// The path has a control character or a line separator.
    #[error("path has the control character {found:?}")]
    Control {
        /// The first such character.
        found: char,
    },
    /// The path has a character that turns the direction of writing around.
    #[error("path has the direction mark {found:?}")]
    Bidi {
        /// The first such character.
        found: char,
    },
    /// The path has a character that cannot be seen.
    #[error("path has the invisible character {found:?}")]
    Invisible {
        /// The first such character.
        found: char,
    },
    /// The path is not in Unicode's normal form C.
    #[error("path is not in normal form C")]
    NotNfc,
    /// The path has more than [`PATH_DEPTH_MAX`] components.
    #[error("path has {depth} components, more than 16")]
    TooDeep {
        /// Components that the path has.
        depth: usize,
    },
    /// Two slashes in a row, or one at the end.
    #[error("path has an empty component")]
    EmptyComponent,
    /// A component is longer than [`COMPONENT_LEN_MAX`].
    #[error("path has a component of {len} bytes, more than 255")]
    ComponentTooLong {
        /// Bytes that the component has.
        len: usize,
    },
    /// A component is `.` or `..`.
    #[error("path has a component of dots only")]
    Dots,
    /// A component ends with a dot or space, which Windows cuts off.
    #[error("path has a component that ends with a dot or space")]
    TrailingDotOrSpace,
    /// A component is a device on Windows, whatever its extension.
    #[error("path has the device name {name:?}")]
    Device {
        /// The component.
        name: String,
    },
}

impl RepoPath {
    /// Checks a path against every rule, in time linear in its length.
    ///
    /// # Errors
    /// The first rule of [`PathError`] that is broken: length, characters, normal form, then the components from the left.
    pub fn new(path: &str) -> Result<RepoPath, PathError> {
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if path.len() > PATH_LEN_MAX {
            return Err(PathError::TooLong { len: path.len() });
        }
        path.chars().try_for_each(check_char)?;
        if path.starts_with('/') {
            return Err(PathError::Absolute);
        }
        if !path.is_ascii() && !unicode_normalization::is_nfc(path) {
            return Err(PathError::NotNfc);
        }
        let depth = path.split('/').count();
        if depth > PATH_DEPTH_MAX {
            return Err(PathError::TooDeep { depth });
        }
        path.split('/').try_for_each(check_component)?;
        Ok(RepoPath(path.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components from the left: folders, then the file. There is at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The key under which two paths collide: the path after NFKC and full case folding.
    ///
    /// Equal keys are what Unicode calls a compatibility caseless match (D146); a file system that folds less tells more paths apart.
    pub fn fold(&self) -> String {
        if self.0.is_ascii() {
            return self.0.to_ascii_lowercase();
        }
        self.0
            .chars()
            .nfd()
            .default_case_fold()
            .nfkd()
            .default_case_fold()
            .nfkc()
            .collect()
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepoPath({:?})", self.0)
    }
}

impl FromStr for RepoPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<RepoPath, PathError> {
        RepoPath::new(text)
    }
}

impl TryFrom<String> for RepoPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<RepoPath, PathError> {
        RepoPath::new(&text)
    }
}

impl From<RepoPath> for String {
    fn from(path: RepoPath) -> String {
        path.0
    }
}

impl AsRef<str> for RepoPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn check_char(found: char) -> Result<(), PathError> {
    match found {
        '\\' => Err(PathError::Backslash),
        ':' => Err(PathError::Colon),
        '<' | '>' | '"' | '|' | '?' | '*' => Err(PathError::Forbidden { found }),
        _ if text::is_control(found) => Err(PathError::Control { found }),
        _ if text::is_bidi(found) => Err(PathError::Bidi { found }),
        _ if text::is_invisible(found) => Err(PathError::Invisible { found }),
        _ => Ok(()),
    }
}

fn check_component(component: &str) -> Result<(), PathError> {
    if component.is_empty() {
        return Err(PathError::EmptyComponent);
    }
    if component.len() > COMPONENT_LEN_MAX {
        return Err(PathError::ComponentTooLong { len: component.len() });
    }
    if component == "." || component == ".." {
        return Err(PathError::Dots);
    }
    if component.ends_with(['.', ' ']) {
        return Err(PathError::TrailingDotOrSpace);
    }
    if is_device(component) {
        return Err(PathError::Device {
            name: component.to_owned(),
        });
    }
    Ok(())
}

/// Whether Windows opens a device under this name. It looks at what stands before the first dot, without the spaces at its end.
fn is_device(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(' ');
    if ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let mut chars = stem.chars();
    let Some(number) = chars.next_back() else {
        return false;
    };
    let port = chars.as_str();
    matches!(number, '0'..='9' | '¹' | '²' | '³')
        && (port.eq_ignore_ascii_case("com") || port.eq_ignore_ascii_case("lpt"))
}
