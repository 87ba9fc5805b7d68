//! `denied.toml`, which a person may edit: what the user denies, what is allowed all the same, and the lists that are followed.
//!
//! ```toml
//! [[deny]]
//! what = "repo:ybndrfg8ejkmcpqxot1uwisza345h769ybndrfg8ejkmcpqxot1u/model"
//! reason = "it is not what it says"
//! since = 1767225600
//! expires = 1769817600
//!
//! [[allow]]
//! what = "blob:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
//! since = 1767225600
//!
//! [[list]]
//! repo = "ybndrfg8ejkmcpqxot1uwisza345h769ybndrfg8ejkmcpqxot1u/denylist"
//! since = 1767225600
//! ```
//! Nothing is denied and allowed at once. A file that breaks a rule is refused whole, with the line: half of it would serve what it should not.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use protocol::{Denial, Denied, Denylist, DenylistError, RepoId, RepoRef};
use serde::Deserialize;
use toml::Spanned;

use super::NO_REASON;
use crate::catalog::Stamp;
use crate::durable;

/// Most things that the user denies, and most that are excepted: what a person edits.
pub const DENIED_MAX: usize = 5_000;

/// Most lists that are followed: with [`protocol::limits::DENIALS_MAX`] entries each they take about 100 MiB in memory.
pub const LISTS_MAX: usize = 16;

/// Longest `denied.toml`, in bytes: 800 for each of two times [`DENIED_MAX`], and some for remarks.
pub const DENIED_LEN_MAX: u64 = 8 * 1024 * 1024;

const HEADING: &str = "# What this node denies. Comments are not kept when it is written again.\n";

/// Something that is allowed, whatever a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// What.
    pub what: Denied,
    /// Since when, in Unix seconds.
    pub since: u64,
}

/// A list that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its repo.
    pub repo: RepoId,
    /// Since when, in Unix seconds.
    pub since: u64,
}

/// Why `denied.toml` can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DenialsError {
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
    /// The file is longer than [`DENIED_LEN_MAX`].
    #[error("{path} is longer than {DENIED_LEN_MAX} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The reason or a time of a denial is none.
    #[error("the denial has {why}")]
    Unfit {
        /// What is wrong.
        why: String,
    },
    /// What is to be followed as a list has no name: its next release would not be found.
    #[error("{what} names one revision, and a list is followed by its repo")]
    NoName {
        /// What was named.
        what: RepoRef,
    },
    /// There are as many as there may be.
    #[error("there are {max} {what}, and that is the most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
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

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) deny: Vec<Denial>,
    pub(super) allow: Vec<Exception>,
    pub(super) lists: Vec<Subscription>,
    /// What tells that it was edited since; `None`: there is no file.
    pub(super) stamp: Option<Stamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    deny: Vec<WrittenDenial>,
    #[serde(default)]
    allow: Vec<WrittenException>,
    #[serde(default)]
    list: Vec<WrittenList>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDenial {
    what: Spanned<String>,
    reason: Option<String>,
    #[serde(default)]
    since: u64,
    expires: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenException {
    what: Spanned<String>,
    #[serde(default)]
    since: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenList {
    repo: Spanned<String>,
    #[serde(default)]
    since: u64,
}

/// The stamp of a file; `None`: there is none.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}

impl File {
    /// Reads the file; a missing one is empty.
    pub(super) fn load(path: &Path) -> Result<File, DenialsError> {
        let opened = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
            file => file.map_err(|source| io_error(path, source))?,
        };
        let metadata = opened.metadata().map_err(|source| io_error(path, source))?;
        let mut text = Vec::new();
        opened
            .take(DENIED_LEN_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|source| io_error(path, source))?;
        if text.len() as u64 > DENIED_LEN_MAX {
            let path = path.to_owned();
            return Err(DenialsError::TooLong { path });
        }
        let file = parse(&text).map_err(|(at, why)| DenialsError::Malformed {
            path: path.to_owned(),
            line: 1 + text.iter().take(at).filter(|byte| **byte == b'\n').count(),
            why,
        })?;
        let stamp = Some(Stamp::of(&metadata));
        Ok(File { stamp, ..file })
    }

    /// Writes the file, and notes its stamp.
    pub(super) fn store(&mut self, path: &Path) -> Result<(), DenialsError> {
        let text = self.text();
        durable::write_atomic(path, text.as_bytes()).map_err(|source| io_error(path, source))?;
        self.stamp = stamp(path);
        Ok(())
    }

    /// Whether another file says what this one does.
    pub(super) fn says_the_same(&self, other: &File) -> bool {
        (&self.deny, &self.allow, &self.lists) == (&other.deny, &other.allow, &other.lists)
    }

    fn text(&self) -> String {
        let mut text = HEADING.to_owned();
        let mut entry = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("writing to a string cannot fail");
        };
        for denial in &self.deny {
            // Neither names nor hashes have a character that TOML would have to escape; and a reason has no control characters.
            let reason = denial.reason.replace('\\', "\\\\").replace('"', "\\\"");
            let (what, since) = (&denial.what, denial.since);
            entry(format_args!(
                "\n[[deny]]\nwhat = \"{what}\"\nreason = \"{reason}\"\nsince = {since}\n"
            ));
            if let Some(expires) = denial.expires {
                entry(format_args!("expires = {expires}\n"));
            }
        }
        for Exception { what, since } in &self.allow {
            entry(format_args!("\n[[allow]]\nwhat = \"{what}\"\nsince = {since}\n"));
        }
        for Subscription { repo, since } in &self.lists {
            entry(format_args!("\n[[list]]\nrepo = \"{repo}\"\nsince = {since}\n"));
        }
        text
    }
}

/// Checks the reason and the times of a denial; an error says what it has.
pub(super) fn check(denial: &Denial) -> Result<(), String> {
    let checked = Denylist::new(vec![denial.clone()]);
    checked.map(drop).map_err(|error| match error {
        DenylistError::ReasonLength { len, max, .. } => {
            format!("a reason of {len} bytes, not 1 to {max}")
        }
        DenylistError::Reason { source, .. } => format!("a wrong reason: {source}"),
        DenylistError::Time { field, found, .. } => format!("a wrong time: {field} is {found}"),
        other => chain(&other),
    })
}

/// Reads the text; an error is the byte it is at, and what is wrong.
fn parse(text: &[u8]) -> Result<File, (usize, String)> {
    let text = std::str::from_utf8(text).map_err(|error| (error.valid_up_to(), "not UTF-8".to_owned()))?;
    let written: Written = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (at, error.message().to_owned())
    })?;
    let mut file = File::default();
    let mut seen = HashSet::new();
    for written in written.deny {
        let at = written.what.span().start;
        let denial = Denial {
            what: denied(&written.what)?,
            reason: written.reason.unwrap_or_else(|| NO_REASON.to_owned()),
            since: written.since,
            expires: written.expires,
        };
        check(&denial).map_err(|why| (at, format!("it has {why}")))?;
        bounded(at, "denials", file.deny.len(), DENIED_MAX)?;
        if !seen.insert(denial.what.clone()) {
            return Err((at, format!("{} is there twice", denial.what)));
        }
        file.deny.push(denial);
    }
    for written in written.allow {
        let at = written.what.span().start;
        let what = denied(&written.what)?;
        bounded(at, "exceptions", file.allow.len(), DENIED_MAX)?;
        if !seen.insert(what.clone()) {
            return Err((at, format!("{what} is there twice, or both denied and allowed")));
        }
        let since = written.since;
        file.allow.push(Exception { what, since });
    }
    for written in written.list {
        let at = written.repo.span().start;
        let repo: RepoId = written
            .repo
            .get_ref()
            .parse()
            .map_err(|error| (at, chain(&error)))?;
        bounded(at, "lists", file.lists.len(), LISTS_MAX)?;
        if file.lists.iter().any(|list| list.repo == repo) {
            return Err((at, format!("{repo} is there twice")));
        }
        let since = written.since;
        file.lists.push(Subscription { repo, since });
    }
    Ok(file)
}

fn denied(written: &Spanned<String>) -> Result<Denied, (usize, String)> {
    let parsed = written.get_ref().parse::<Denied>();
    parsed.map_err(|error| (written.span().start, chain(&error)))
}

fn bounded(at: usize, what: &str, len: usize, max: usize) -> Result<(), (usize, String)> {
    match len < max {
        true => Ok(()),
        false => Err((at, format!("more than {max} {what}"))),
    }
}

/// An error and what it comes from, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

fn io_error(path: &Path, source: io::Error) -> DenialsError {
    let full = durable::is_full(&source);
    let path = path.to_owned();
    if full {
        return DenialsError::StorageFull { path };
    }
    DenialsError::Io { path, source }
}
