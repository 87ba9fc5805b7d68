//! The folder of releases: which file is whose, and what can be read of it. Knows no ratchet.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use protocol::limits::RELEASE_LEN_MAX;
use protocol::{Hash, Publisher, RepoId, RepoName, SignedRelease};

use super::NamesError;
use crate::durable;

/// Free space that accepting a release needs, in bytes: two files of [`RELEASE_LEN_MAX`] and their folder, in blocks.
const ROOM: u64 = 64 * 1024;

const ENDING: &str = ".release";
const CARD_ENDING: &str = ".json";

/// The folder, and the names in it.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
}

/// A file that should be a release and is not.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path} is no release: {why}")]
pub struct DamagedRelease {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// The files of one repo besides the current release.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Numbers in the history, in order.
    pub(super) seqs: Vec<u64>,
    /// Evidence, in the order of the names.
    pub(super) forks: Vec<PathBuf>,
}

impl Files {
    /// Reads a file that should be a release of `repo`. The inner `Err` says what is wrong with it; `None`: it is not there.
    pub(super) fn read(
        &self,
        path: &Path,
        repo: &RepoId,
    ) -> Result<Result<SignedRelease, Option<DamagedRelease>>, NamesError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(None)),
            file => file.map_err(|source| io_error(path, source))?,
        };
        let damaged = |why: String| {
            let path = path.to_owned();
            Ok(Err(Some(DamagedRelease { path, why })))
        };
        let mut bytes = Vec::new();
        let bound = RELEASE_LEN_MAX as u64 + 1;
        if let Err(error) = file.take(bound).read_to_end(&mut bytes) {
            return damaged(error.to_string());
        }
        match SignedRelease::decode(&bytes) {
            Ok(release) if release.release().repo() == *repo => Ok(Ok(release)),
            Ok(release) => damaged(format!("it is about {}", release.release().repo())),
            Err(error) => damaged(error.to_string()),
        }
    }

    pub(super) fn kept(&self, repo: &RepoId) -> Result<Kept, NamesError> {
        let mut kept = Kept::default();
        let start = format!("{}@", repo.name);
        for name in self.files_of(repo.publisher)? {
            let Some(what) = name
                .strip_prefix(&start)
                .and_then(|rest| rest.strip_suffix(ENDING))
            else {
                continue;
            };
            if what.starts_with("fork-") {
                kept.forks.push(self.folder_of(repo.publisher).join(&name));
            } else {
                kept.seqs.extend(what.parse::<u64>().ok());
            }
        }
        kept.seqs.sort_unstable();
        kept.forks.sort_unstable();
        Ok(kept)
    }

    /// The repos of a publisher that have any file but evidence.
    pub(super) fn repos_of(&self, publisher: Publisher) -> Result<Vec<RepoId>, NamesError> {
        let mut names: Vec<RepoName> = Vec::new();
        for file in self.files_of(publisher)? {
            let stem = file.strip_suffix(ENDING).unwrap_or_default();
            let name = match stem.split_once('@') {
                Some((_, what)) if what.starts_with("fork-") => continue,
                Some((name, _)) => name,
                None => stem,
            };
            names.extend(RepoName::new(name).ok());
        }
        names.sort_unstable();
        names.dedup();
        let repo = |name| RepoId { publisher, name };
        Ok(names.into_iter().map(repo).collect())
    }

    fn files_of(&self, publisher: Publisher) -> Result<Vec<String>, NamesError> {
        list(&self.folder_of(publisher))
    }

    pub(super) fn publishers(&self) -> Result<Vec<Publisher>, NamesError> {
        let names = list(&self.folder)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) fn folder_of(&self, publisher: Publisher) -> PathBuf {
        self.folder.join(publisher.to_string())
    }

    pub(super) fn current_file(&self, repo: &RepoId) -> PathBuf {
        let name = format!("{}{ENDING}", repo.name);
        self.folder_of(repo.publisher).join(name)
    }

    pub(super) fn fork_file(&self, repo: &RepoId, release: &SignedRelease) -> PathBuf {
        let name = format!("{}@fork-{}{ENDING}", repo.name, release.hash().short());
        self.folder_of(repo.publisher).join(name)
    }

    pub(super) fn card_file(&self, repo: &RepoId, card: Hash) -> PathBuf {
        let name = format!("{}@card-{}{CARD_ENDING}", repo.name, card.short());
        self.folder_of(repo.publisher).join(name)
    }

    /// The files with summaries of a repo's cards.
    pub(super) fn cards(&self, repo: &RepoId) -> Result<Vec<PathBuf>, NamesError> {
        let (start, folder) = (format!("{}@card-", repo.name), self.folder_of(repo.publisher));
        let mut files = self.files_of(repo.publisher)?;
        files.retain(|name| name.starts_with(&start) && name.ends_with(CARD_ENDING));
        Ok(files.into_iter().map(|name| folder.join(name)).collect())
    }

    pub(super) fn history_file(&self, repo: &RepoId, seq: u64) -> PathBuf {
        let name = format!("{}@{seq}{ENDING}", repo.name);
        self.folder_of(repo.publisher).join(name)
    }
}

/// The UTF-8 names in a folder; none where it is missing.
fn list(folder: &Path) -> Result<Vec<String>, NamesError> {
    let read = || -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    };
    read().map_err(|source| io_error(folder, source))
}

pub(in crate::names) fn io_error(path: &Path, source: io::Error) -> NamesError {
    if durable::is_full(&source) {
        let folder = path.ancestors().find(|folder| folder.is_dir());
        let have = folder.map(durable::free_space);
        let have = have.and_then(Result::ok).unwrap_or(0);
        return NamesError::StorageFull { need: ROOM, have };
    }
    let path = path.to_owned();
    NamesError::Io { path, source }
}
