//! Releases as files, behind the ratchet: what a node follows only moves forward, over restarts too.
//!
//! ```text
//! releases/PUBLISHER/NAME.release              what we follow
//!                    NAME@SEQ.release          every release we accepted, the last 64: older revisions stay addressable
//!                    NAME@fork-HASH.release    the other side of a fork: evidence, never followed
//!                    NAME@card-HASH.json       the summary of the card that the current release names
//! ```
//! An `@` is in no repo's name, so no repo's file looks like another's history. The history holds the current release as well: written first, it
//! stands in where `NAME.release` is lost or damaged, so that a flipped bit does not set the ratchet back.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::key::Revoked;
use protocol::limits::CARD_LEN_MAX;
use protocol::{Decision, Hash, Publisher, Release, RepoId, SignedRelease, ratchet};

use crate::durable;

mod files;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;

pub use files::DamagedRelease;

use files::Files;
pub(in crate::names) use files::io_error;

/// Releases of one repo that are kept, the current one among them.
pub const HISTORY_KEPT_MAX: usize = 64;

/// Other sides of forks that are kept of one repo: two prove it, and a stolen key can't fill the disk with more.
pub const FORKS_KEPT_MAX: usize = 4;

/// Locks that repos share by their hash: one repo's releases are accepted one at a time.
const LOCKS: usize = 16;

/// The releases we hold. A handle: clone it freely.
#[derive(Debug, Clone)]
pub struct Names(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Files,
    locks: [Mutex<()>; LOCKS],
}

/// What became of an offered release that is not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is newer than what we had, and is what we follow now.
    New,
    /// It says what we follow already.
    Same,
}

/// Why an offered release is not followed, or releases can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// Its publisher signed another release with the same number. Neither moves us; both are kept.
    #[error("{repo} is forked: its publisher signed two releases with number {seq}")]
    Fork {
        /// The repo.
        repo: RepoId,
        /// The number.
        seq: u64,
        /// Where the offered release is kept. `None`: there is enough evidence already.
        evidence: Option<PathBuf>,
    },
    /// It has a lower number than what we follow: late, or replayed.
    #[error("release {offered} of {repo} is older than release {have}, which is followed")]
    Older {
        /// The repo.
        repo: RepoId,
        /// The number we follow.
        have: u64,
        /// The number offered.
        offered: u64,
    },
    /// Its number is too far from what we follow.
    #[error("release {offered} of {repo} skips too many numbers")]
    JumpTooLarge {
        /// The repo.
        repo: RepoId,
        /// The number offered.
        offered: u64,
    },
    /// It was issued in the future: one of two clocks is wrong.
    #[error("release {offered} of {repo} was issued at {issued}, which is in the future")]
    NotYetIssued {
        /// The repo.
        repo: RepoId,
        /// The number offered.
        offered: u64,
        /// When it says it was issued, in Unix seconds.
        issued: u64,
    },
    /// Its key was revoked: nothing new that it signs is followed.
    #[error("{repo} is of a key that was revoked ({reason}): nothing that it signs is followed any more", reason = revoked.reason)]
    Revoked {
        /// The repo.
        repo: RepoId,
        /// The revocation.
        revoked: Revoked,
    },
    /// Its publisher goes on as another key: nothing new of this one is followed.
    #[error("{repo} is of a key whose publisher goes on as {by}")]
    Replaced {
        /// The repo.
        repo: RepoId,
        /// The publisher's key by now.
        by: Publisher,
    },
    /// What was said about a key of the publisher cannot be read: whether it was revoked is unknown, so nothing new is accepted.
    #[error(
        "what was said about the key {publisher} cannot be read: restore {path}, or remove it and its copy to hear it again from peers",
        path = path.display()
    )]
    KeysDamaged {
        /// The key.
        publisher: Publisher,
        /// The file.
        path: PathBuf,
    },
    /// There are files of the repo, and not one of them can be read: what we followed is unknown, so nothing is accepted.
    #[error(
        "no release of {repo} can be read: restore {}, or remove it and its @ files to start over",
        source.path.display()
    )]
    Damaged {
        /// The repo.
        repo: RepoId,
        /// The file of the current release, and what is wrong with it.
        source: DamagedRelease,
    },
    /// There is no room.
    #[error("no room for a release: {need} bytes are needed, {have} are free")]
    StorageFull {
        /// Bytes that must be free.
        need: u64,
        /// Bytes that are free.
        have: u64,
    },
    /// The system refused.
    #[error("{path} cannot be used")]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl Names {
    /// Takes charge of the releases in `data/releases`, and removes what a crash left half-written there.
    ///
    /// # Errors
    /// [`NamesError::Io`] and [`NamesError::StorageFull`].
    pub fn open(data: &Path) -> Result<Names, NamesError> {
        let folder = data.join("releases");
        durable::create_folders(&folder).map_err(|source| io_error(&folder, source))?;
        let names = Names(Arc::new(Inner {
            files: Files { folder },
            locks: Default::default(),
        }));
        for publisher in names.0.files.publishers()? {
            let folder = names.0.files.folder_of(publisher);
            durable::sweep_unfinished(&folder).map_err(|source| io_error(&folder, source))?;
        }
        Ok(names)
    }

    /// Decides about a release by what is on disk, and keeps it: on `New` it is durable. `now` is in Unix seconds.
    ///
    /// # Errors
    /// Every variant of [`NamesError`]. Where it is not followed, what we followed before stands.
    pub fn accept(&self, offered: &SignedRelease, now: u64) -> Result<Accepted, NamesError> {
        let inner = &*self.0;
        let repo = offered.release().repo();
        let _one_at_a_time = inner.lock(&repo);
        let current = inner.current(&repo)?;
        let seq = offered.release().seq;
        let before = inner
            .files
            .read(&inner.files.history_file(&repo, seq), &repo)?
            .ok();
        let judged = judge(
            current.as_ref().map(SignedRelease::release),
            before.as_ref().map(SignedRelease::release),
            offered.release(),
            now,
        );
        match judged {
            Decision::Accept => {}
            Decision::Same => return Ok(Accepted::Same),
            Decision::Fork => return Err(inner.forked(repo, offered)?),
            Decision::Older { have, offered } => {
                return Err(NamesError::Older { repo, have, offered });
            }
            Decision::JumpTooLarge => {
                return Err(NamesError::JumpTooLarge { repo, offered: seq });
            }
            Decision::NotYetIssued => {
                let issued = offered.release().issued;
                return Err(NamesError::NotYetIssued {
                    repo,
                    offered: seq,
                    issued,
                });
            }
            Decision::OtherRepo => unreachable!("the current release was looked up by the repo"),
        }
        inner.keep(&repo, offered)?;
        Ok(Accepted::New)
    }

    /// Keeps the summary of a card, before the release that names it: durable on return. What it is of is checked by whoever reads it.
    ///
    /// # Errors
    /// [`NamesError::Io`] and [`NamesError::StorageFull`].
    pub fn keep_card(&self, repo: &RepoId, card: &[u8]) -> Result<(), NamesError> {
        let files = &self.0.files;
        let path = files.card_file(repo, Hash::of(card));
        if path.exists() {
            return Ok(());
        }
        durable::create_folders(&files.folder_of(repo.publisher))
            .and_then(|()| durable::write_atomic(&path, card))
            .map_err(|source| io_error(&path, source))
    }

    /// The summary of the card that a release names, as it was signed; `None` where it names none, or it is not here as it was.
    ///
    /// # Errors
    /// [`NamesError::Io`].
    pub fn card(&self, release: &SignedRelease) -> Result<Option<Vec<u8>>, NamesError> {
        let Some(hash) = release.release().card else {
            return Ok(None);
        };
        let path = self.0.files.card_file(&release.release().repo(), hash);
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| io_error(&path, source))?,
        };
        let mut card = Vec::new();
        let read = file.take(CARD_LEN_MAX as u64 + 1).read_to_end(&mut card);
        read.map_err(|source| io_error(&path, source))?;
        Ok((Hash::of(&card) == hash).then_some(card))
    }

    /// The release of a repo that we follow: the highest we accepted.
    ///
    /// # Errors
    /// [`NamesError::Damaged`] and [`NamesError::Io`].
    pub fn get(&self, repo: &RepoId) -> Result<Option<SignedRelease>, NamesError> {
        self.0.current(repo)
    }

    /// Whether we hold a release of a repo.
    pub fn has(&self, repo: &RepoId) -> bool {
        self.0.files.current_file(repo).exists()
    }

    /// The repos of a publisher of which we hold releases.
    ///
    /// # Errors
    /// [`NamesError::Io`].
    pub fn repos_of(&self, publisher: Publisher) -> Result<Vec<RepoId>, NamesError> {
        self.0.files.repos_of(publisher)
    }

    /// The releases of a repo that we accepted, the newest first; at most [`HISTORY_KEPT_MAX`]. Damaged files are left out.
    ///
    /// # Errors
    /// [`NamesError::Io`].
    pub fn history(&self, repo: &RepoId) -> Result<Vec<SignedRelease>, NamesError> {
        let mut accepted = Vec::new();
        for seq in self.0.files.kept(repo)?.seqs.into_iter().rev() {
            accepted.extend(
                self.0
                    .files
                    .read(&self.0.files.history_file(repo, seq), repo)?
                    .ok(),
            );
        }
        Ok(accepted)
    }

    /// Releases that prove forks of a repo: each has the number of one that we accepted, and another content. At most [`FORKS_KEPT_MAX`].
    ///
    /// # Errors
    /// [`NamesError::Io`].
    pub fn forks(&self, repo: &RepoId) -> Result<Vec<SignedRelease>, NamesError> {
        let mut forks = Vec::new();
        for path in self.0.files.kept(repo)?.forks {
            forks.extend(self.0.files.read(&path, repo)?.ok());
        }
        Ok(forks)
    }

    /// The releases we follow, of all repos, in no order. Damaged files are reported one by one, and are not the end.
    ///
    /// # Errors
    /// [`NamesError::Io`]: the folders can't be listed.
    pub fn all(&self) -> Result<Releases, NamesError> {
        let mut repos = Vec::new();
        for publisher in self.0.files.publishers()? {
            repos.extend(self.0.files.repos_of(publisher)?);
        }
        Ok(Releases {
            names: self.clone(),
            repos: repos.into_iter(),
        })
    }
}

/// Decides about a release by the one that is followed, and by the one of its own number that was accepted once, which need not be that: a fork is one
/// wherever it begins.
fn judge(current: Option<&Release>, before: Option<&Release>, offered: &Release, now: u64) -> Decision {
    match before {
        Some(before) if before != offered => Decision::Fork,
        Some(_) | None => ratchet::judge(current, offered, now),
    }
}

/// What [`Names::all`] walks: the release we follow of each repo, read when it is asked for.
#[derive(Debug)]
pub struct Releases {
    names: Names,
    repos: std::vec::IntoIter<RepoId>,
}

impl Iterator for Releases {
    type Item = Result<SignedRelease, DamagedRelease>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let repo = self.repos.next()?;
            let path = self.names.0.files.current_file(&repo);
            let damaged = |why| DamagedRelease { path, why };
            match self.names.get(&repo) {
                Ok(Some(release)) => return Some(Ok(release)),
                // Its files went away since they were listed.
                Ok(None) => {}
                Err(NamesError::Damaged { source, .. }) => return Some(Err(source)),
                Err(NamesError::Io { path, source }) => {
                    let why = source.to_string();
                    return Some(Err(DamagedRelease { path, why }));
                }
                Err(other) => return Some(Err(damaged(other.to_string()))),
            }
        }
    }
}

impl Inner {
    /// Writes an accepted release: history first, then current, then the folder; then drops the oldest.
    fn keep(&self, repo: &RepoId, release: &SignedRelease) -> Result<(), NamesError> {
        let folder = self.files.folder_of(repo.publisher);
        let encoding = release.encode();
        let history = self.files.history_file(repo, release.release().seq);
        let current = self.files.current_file(repo);
        durable::create_folders(&folder)
            .and_then(|()| durable::replace(&history, &encoding))
            .and_then(|()| durable::replace(&current, &encoding))
            .and_then(|()| durable::sync_folder(&folder))
            .map_err(|source| io_error(&current, source))?;
        let card = release.release().card;
        let card = card.map(|card| self.files.card_file(repo, card));
        for path in self.files.cards(repo)? {
            if Some(&path) != card.as_ref()
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(%error, path = %path.display(), "old card cannot be removed");
            }
        }
        let seqs = self.files.kept(repo)?.seqs;
        let surplus = seqs.len().saturating_sub(HISTORY_KEPT_MAX);
        for seq in seqs.into_iter().take(surplus) {
            let path = self.files.history_file(repo, seq);
            // The release is kept; a file too many is no reason to say otherwise.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "old release cannot be removed");
            }
        }
        Ok(())
    }

    /// Keeps the offered side of a fork, unless there is enough, and says that it is one.
    fn forked(&self, repo: RepoId, offered: &SignedRelease) -> Result<NamesError, NamesError> {
        let seq = offered.release().seq;
        let forks = self.files.kept(&repo)?.forks;
        let mut evidence = Some(self.files.fork_file(&repo, offered));
        if let Some(path) = &evidence
            && !forks.contains(path)
        {
            if forks.len() < FORKS_KEPT_MAX {
                durable::write_atomic(path, &offered.encode()).map_err(|source| io_error(path, source))?;
                tracing::warn!(%repo, seq, "publisher signed two releases with one number");
            } else {
                evidence = None;
            }
        }
        Ok(NamesError::Fork { repo, seq, evidence })
    }

    /// The highest release we accepted: by its own file, or where that is missing or damaged by the history.
    fn current(&self, repo: &RepoId) -> Result<Option<SignedRelease>, NamesError> {
        let path = self.files.current_file(repo);
        let damage = match self.files.read(&path, repo)? {
            Ok(release) => return Ok(Some(release)),
            Err(damage) => damage,
        };
        let mut any = damage.is_some();
        for seq in self.files.kept(repo)?.seqs.into_iter().rev() {
            any = true;
            if let Ok(release) = self.files.read(&self.files.history_file(repo, seq), repo)? {
                tracing::warn!(%repo, seq, "current release is damaged: its copy stands in");
                return Ok(Some(release));
            }
        }
        if !any {
            return Ok(None);
        }
        let source = damage.unwrap_or_else(|| DamagedRelease {
            path,
            why: "it is missing, and no release before it can be read".to_owned(),
        });
        Err(NamesError::Damaged {
            repo: repo.clone(),
            source,
        })
    }

    fn lock(&self, repo: &RepoId) -> MutexGuard<'_, ()> {
        let hash = Hash::of(repo.to_string().as_bytes());
        let index = usize::from(hash.as_bytes()[0]) % LOCKS;
        self.locks[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
