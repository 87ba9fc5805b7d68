//! Whom the user follows, and under what alias: `following.toml`, which a person may edit.
//!
//! ```toml
//! [[publisher]]
//! alias = "meta"
//! key = "ybndrfg8ejkmcpqxot1uwisza345h769ybndrfg8ejkmcpqxot1u"
//! since = 1767225600
//! mirror = "llama-*"     # which of its repos are fetched and kept; without it none
//! quota = 500000000000   # most bytes they may take
//! ```
//! An alias names one publisher, and a publisher has one alias. A file that breaks a rule is refused whole, with the line: half of it would turn a name
//! into another publisher's.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::{Alias, Publisher};
use serde::Deserialize;
use toml::Spanned;

use crate::durable;

mod mirror;

pub use mirror::{Mirror, NameMatcher, NamePattern, PATTERN_LEN_MAX, PatternError};

/// Most publishers that can be followed: each costs lookups.
pub const FOLLOWS_MAX: usize = 4_096;

/// Longest `following.toml`, in bytes: 512 for each of [`FOLLOWS_MAX`].
pub const FOLLOWING_LEN_MAX: u64 = 2 * 1024 * 1024;

const HEADING: &str = "# Publishers this node follows. Comments are not kept when it is written again.\n";

/// One publisher that the user follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// What the user calls it.
    pub alias: Alias,
    /// Who it is.
    pub publisher: Publisher,
    /// When it was followed first, in Unix seconds.
    pub since: u64,
    /// Which of its repos are fetched and kept, if any are.
    pub mirror: Option<Mirror>,
}

/// What [`Following::follow`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The publisher was not followed before.
    New,
    /// It was, under this alias.
    Same,
    /// It was, under another alias, which now names nobody.
    Renamed {
        /// The alias before.
        from: Alias,
    },
}

/// Why `following.toml` can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FollowingError {
    /// The file breaks a rule.
    #[error("{path}, line {line}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// The file is longer than [`FOLLOWING_LEN_MAX`].
    #[error("{path} is longer than {FOLLOWING_LEN_MAX} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The alias names another publisher already.
    #[error("{alias} already names {publisher}")]
    AliasTaken {
        /// The alias.
        alias: Alias,
        /// Whom it names.
        publisher: Publisher,
    },
    /// [`FOLLOWS_MAX`] publishers are followed already.
    #[error("{FOLLOWS_MAX} publishers are followed, and that is the most")]
    TooMany,
    /// Only who is followed can be mirrored.
    #[error("{publisher} is not followed")]
    NotFollowed {
        /// Who is not.
        publisher: Publisher,
    },
    /// There is no room.
    #[error("no room for {path}")]
    StorageFull {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// The publishers the user follows. A handle: clone it freely. Looking up does not touch the disk.
#[derive(Debug, Clone)]
pub struct Following(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    follows: Mutex<Vec<Follow>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    publisher: Vec<WrittenFollow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFollow {
    alias: Spanned<String>,
    key: Spanned<String>,
    #[serde(default)]
    since: u64,
    mirror: Option<Spanned<String>>,
    quota: Option<Spanned<u64>>,
}

impl Following {
    /// Reads `data/following.toml`; a missing one is empty.
    ///
    /// # Errors
    /// [`FollowingError::Malformed`], [`FollowingError::TooLong`] and [`FollowingError::Io`].
    pub fn open(data: &Path) -> Result<Following, FollowingError> {
        let path = data.join("following.toml");
        let follows = Mutex::new(load(&path)?);
        Ok(Following(Arc::new(Inner { path, follows })))
    }

    /// Follows a publisher under an alias, or gives one that is followed a new alias; durable on return. `now` is in Unix seconds.
    ///
    /// The file is read again first, so that what was edited by hand is kept.
    ///
    /// # Errors
    /// Every variant of [`FollowingError`]. Nothing is changed then.
    pub fn follow(&self, publisher: Publisher, alias: &Alias, now: u64) -> Result<Followed, FollowingError> {
        let mut held = self.lock();
        let mut follows = load(&self.0.path)?;
        let taken = follows.iter().find(|follow| follow.alias == *alias);
        if let Some(taken) = taken.filter(|taken| taken.publisher != publisher) {
            return Err(FollowingError::AliasTaken {
                alias: alias.clone(),
                publisher: taken.publisher,
            });
        }
        let known = follows.iter().position(|known| known.publisher == publisher);
        let followed = match known {
            Some(at) if follows[at].alias == *alias => {
                *held = follows;
                return Ok(Followed::Same);
            }
            Some(at) => Followed::Renamed {
                from: std::mem::replace(&mut follows[at].alias, alias.clone()),
            },
            None if follows.len() >= FOLLOWS_MAX => return Err(FollowingError::TooMany),
            None => {
                follows.push(Follow {
                    alias: alias.clone(),
                    publisher,
                    since: now,
                    mirror: None,
                });
                Followed::New
            }
        };
        self.0.store(&follows)?;
        *held = follows;
        Ok(followed)
    }

    /// Follows a publisher no more; durable on return. `false`: it was not followed.
    ///
    /// # Errors
    /// Every variant of [`FollowingError`] but `AliasTaken` and `TooMany`. Nothing is changed then.
    pub fn unfollow(&self, publisher: Publisher) -> Result<bool, FollowingError> {
        let mut held = self.lock();
        let mut follows = load(&self.0.path)?;
        let before = follows.len();
        follows.retain(|follow| follow.publisher != publisher);
        let was_followed = follows.len() < before;
        if was_followed {
            self.0.store(&follows)?;
        }
        *held = follows;
        Ok(was_followed)
    }

    /// Sets which of a publisher's repos are fetched and kept; durable on return.
    ///
    /// # Errors
    /// Every variant of [`FollowingError`] but `AliasTaken` and `TooMany`. Nothing is changed then.
    pub fn set_mirror(&self, publisher: Publisher, mirror: Option<Mirror>) -> Result<(), FollowingError> {
        let mut held = self.lock();
        let mut follows = load(&self.0.path)?;
        let known = follows.iter_mut().find(|known| known.publisher == publisher);
        let known = known.ok_or(FollowingError::NotFollowed { publisher })?;
        if known.mirror != mirror {
            known.mirror = mirror;
            self.0.store(&follows)?;
        }
        *held = follows;
        Ok(())
    }

    /// The publisher that an alias names.
    pub fn by_alias(&self, alias: &Alias) -> Option<Publisher> {
        let follows = self.lock();
        let named = follows.iter().find(|follow| follow.alias == *alias);
        named.map(|follow| follow.publisher)
    }

    /// What the user calls a publisher.
    pub fn alias_of(&self, publisher: Publisher) -> Option<Alias> {
        let follows = self.lock();
        let known = follows.iter().find(|follow| follow.publisher == publisher);
        known.map(|follow| follow.alias.clone())
    }

    /// Everybody who is followed, in the order of the file.
    pub fn all(&self) -> Vec<Follow> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Follow>> {
        self.0.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn store(&self, follows: &[Follow]) -> Result<(), FollowingError> {
        let mut text = HEADING.to_owned();
        for follow in follows {
            // Neither an alias nor a key has a character that TOML would have to escape.
            write!(
                text,
                "\n[[publisher]]\nalias = \"{}\"\nkey = \"{}\"\nsince = {}\n",
                follow.alias, follow.publisher, follow.since
            )
            .expect("writing to a string cannot fail");
            if let Some(Mirror { names, quota }) = &follow.mirror {
                let names = toml::Value::String(names.to_string());
                writeln!(text, "mirror = {names}").expect("writing to a string cannot fail");
                if let Some(quota) = quota {
                    writeln!(text, "quota = {quota}").expect("writing to a string cannot fail");
                }
            }
        }
        durable::write_atomic(&self.path, text.as_bytes()).map_err(|source| io_error(&self.path, source))
    }
}

fn load(path: &Path) -> Result<Vec<Follow>, FollowingError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(|source| io_error(path, source))?,
    };
    let mut text = Vec::new();
    file.take(FOLLOWING_LEN_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|source| io_error(path, source))?;
    if text.len() as u64 > FOLLOWING_LEN_MAX {
        let path = path.to_owned();
        return Err(FollowingError::TooLong { path });
    }
    parse(&text).map_err(|(at, why)| FollowingError::Malformed {
        path: path.to_owned(),
        line: 1 + text.iter().take(at).filter(|byte| **byte == b'\n').count(),
        why,
    })
}

/// Reads the text; an error is the byte it is at, and what is wrong.
fn parse(text: &[u8]) -> Result<Vec<Follow>, (usize, String)> {
    let text = std::str::from_utf8(text).map_err(|error| (error.valid_up_to(), "not UTF-8".to_owned()))?;
    let written: Written = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (at, error.message().to_owned())
    })?;
    let mut follows: Vec<Follow> = Vec::new();
    let mut aliases = BTreeSet::new();
    let mut publishers = BTreeSet::new();
    for written in written.publisher {
        let mirror = mirror_of(&written)?;
        let WrittenFollow {
            alias, key, since, ..
        } = written;
        let (alias_at, key_at) = (alias.span().start, key.span().start);
        let alias = Alias::new(alias.get_ref()).map_err(|error| (alias_at, chain(&error)))?;
        let publisher: Publisher = key.get_ref().parse().map_err(|error| (key_at, chain(&error)))?;
        if follows.len() == FOLLOWS_MAX {
            return Err((alias_at, format!("more than {FOLLOWS_MAX} publishers")));
        }
        if !aliases.insert(alias.clone()) {
            return Err((alias_at, format!("alias {alias} is there twice")));
        }
        if !publishers.insert(publisher) {
            return Err((key_at, "the publisher is there twice".to_owned()));
        }
        follows.push(Follow {
            alias,
            publisher,
            since,
            mirror,
        });
    }
    Ok(follows)
}

/// What an entry says of mirroring; an error is the byte it is at, and what is wrong.
fn mirror_of(written: &WrittenFollow) -> Result<Option<Mirror>, (usize, String)> {
    let quota = written.quota.as_ref();
    if let Some(nothing) = quota.filter(|quota| *quota.get_ref() == 0) {
        return Err((nothing.span().start, "nothing fits into a quota of 0".to_owned()));
    }
    match (&written.mirror, quota) {
        (None, Some(quota)) => Err((quota.span().start, "a quota without mirror".to_owned())),
        (None, None) => Ok(None),
        (Some(names), quota) => {
            let pattern = names.get_ref().parse();
            Ok(Some(Mirror {
                names: pattern.map_err(|error: PatternError| (names.span().start, chain(&error)))?,
                quota: quota.map(|quota| *quota.get_ref()),
            }))
        }
    }
}

/// An error and what it comes from, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

fn io_error(path: &Path, source: io::Error) -> FollowingError {
    let full = durable::is_full(&source);
    let path = path.to_owned();
    if full {
        return FollowingError::StorageFull { path };
    }
    FollowingError::Io { path, source }
}

#[cfg(test)]
mod tests;
