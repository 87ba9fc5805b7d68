//! A new revision of a repo of ours, made of the newest one by changing some of its files. Files that are not touched keep their
//! entries and need not be here.

use super::{After, PublishError, Saying};
use crate::{
    fetch::FetchError,
    library::{Library, LibraryError},
    limits::RELEASE_DAYS,
    node::Node,
    store::{Staged, StoreError},
};
use protocol::{
    FileEntry, Hash, Kind, Manifest, ManifestError, RepoId, RepoName, RepoPath, Sha256, SignedRelease,
    manifest::kept_in_git,
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};
use tracing::info;

/// How long the newest revision's list of files is looked for where it should be here and is not.
const MANIFEST_WAIT: Duration = Duration::from_secs(30);
/// The same where it was let go here: a look into the DHT takes that long, and most often nobody else has it.
const LET_GO_WAIT: Duration = Duration::from_secs(10);

/// What to make of the newest revision of a repo of ours; the first one, where there is none.
pub(crate) struct Revise {
    /// The repo's name under our key.
    pub(crate) name: RepoName,
    /// What it is.
    pub(crate) kind: Kind,
    /// The commit that the changes were made for, or the start of its id: another one is not changed.
    pub(crate) parent: Option<String>,
    /// What changes, in this order.
    pub(crate) changes: Vec<Change>,
}

/// One change.
pub(crate) enum Change {
    /// A file has this content from now on.
    Put {
        /// Which file.
        path: RepoPath,
        /// Its bytes.
        content: Arc<Staged>,
    },
    /// A file has content from now on that a revision of the repo lists.
    Again {
        /// Which file.
        path: RepoPath,
        /// Its content.
        sha256: Sha256,
    },
    /// A file goes.
    Delete {
        /// Which one.
        path: String,
    },
    /// All files below a folder go.
    DeleteFolder {
        /// Which one, without a slash at its end.
        path: String,
    },
}

/// What became of it.
pub(crate) struct Revised {
    /// The repo.
    pub(crate) repo: RepoId,
    /// The revision, as clients of the Hub call it. The old one if nothing changed.
    pub(crate) commit: String,
    /// Its manifest.
    pub(crate) manifest: Hash,
}

/// Why there is no new revision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviseError {
    /// The changes were made for another revision.
    #[error(
        "the newest revision of {repo} is {current}, not {parent}: read it again, and commit on top of it"
    )]
    Stale {
        repo: RepoId,
        parent: String,
        current: String,
    },
    /// One name is one kind of repo.
    #[error("{repo} is a {actual}, not a {wanted}: take another name")]
    OtherKind {
        repo: RepoId,
        actual: Kind,
        wanted: Kind,
    },
    /// What is to be deleted is not there.
    #[error("there is no {path} in revision {commit}")]
    NoFile { path: String, commit: String },
    /// The content was not sent, and is not known.
    #[error("the content of {path} (SHA-256 {sha256}) was not uploaded, and no revision of the repo has it")]
    NoContent { path: RepoPath, sha256: Sha256 },
    /// Nothing would be left.
    #[error("no file would be left, and a revision has at least one: shoal forget lets a whole repo go")]
    Empty,
    /// The files do not make a manifest.
    #[error("the files do not make a revision")]
    Manifest(#[source] ManifestError),
    /// The list of the files that stay cannot be had.
    #[error("the list of the files of {repo} is not here")]
    Base {
        repo: RepoId,
        #[source]
        source: FetchError,
    },
    /// The release cannot be made.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The bytes cannot be kept.
    #[error("the store")]
    Store(#[from] StoreError),
    /// Something of ours fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// What clients call the revision of a repo that has none yet.
pub(crate) const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

impl Node {
    /// Makes a new revision of a repo of ours, and tells the swarm in the background. All of it is durable when this returns.
    /// Changes that change nothing make no release, but the bytes that came with them are kept: they mend what was lost here.
    pub(crate) async fn revise(&self, ask: Revise) -> Result<Revised, ReviseError> {
        let library = self.library();
        let repo = RepoId {
            publisher: library.publisher(),
            name: ask.name.clone(),
        };
        let _one_at_a_time = library.revising().await;
        let last = library.names().get(&repo).map_err(LibraryError::from)?;
        let base = match &last {
            Some(last) => self.base(last, &ask).await?,
            None => None,
        };
        let commit = base.as_ref().map(Manifest::commit_id);
        if let Some(parent) = ask.parent {
            let current = commit.clone().unwrap_or_else(|| NO_COMMIT.to_owned());
            if !current.starts_with(&parent) {
                return Err(ReviseError::Stale {
                    repo,
                    parent,
                    current,
                });
            }
        }
        let _writing = library.store().writing().await;
        let mut draft = Draft::of(library, &repo, base.as_ref());
        for change in ask.changes {
            draft.apply(change).await?;
        }
        let Draft { files, staged, .. } = draft;
        if files.is_empty() {
            return Err(ReviseError::Empty);
        }
        let manifest = Manifest::new(files.into_values().collect()).map_err(ReviseError::Manifest)?;
        let hash = manifest.hash();
        let revised = Revised {
            repo,
            commit: manifest.commit_id(),
            manifest: hash,
        };
        let last = last.as_ref().map(SignedRelease::release);
        library.store().settle_staged(staged).await?;
        let _manifest = library.store().put_manifest(&manifest).await?;
        library.claim(hash).await?;
        library.store().pin(hash).await?;
        let saying = Saying {
            name: ask.name,
            kind: ask.kind,
            manifest: &manifest,
            // What was changed is no copy any more.
            upstream: last
                .filter(|last| last.manifest == hash)
                .and_then(|last| last.upstream.clone()),
            valid_days: RELEASE_DAYS,
        };
        let after = After::Exactly(last.map(|last| last.manifest));
        let release = match library.release(saying, after).await {
            Ok(release) => release,
            Err(error) => {
                // Nobody will ask for it: it must not be kept for ever.
                if library
                    .catalog()
                    .manifest(hash)
                    .map_err(LibraryError::from)?
                    .is_none()
                {
                    library.store().unpin(hash).await?;
                }
                return Err(error.into());
            }
        };
        let complete = library.missing(&manifest).await?.is_empty();
        library
            .record_published(&manifest, Some(&release), complete, Vec::new())
            .await?;
        // Who lists repos right after it finds it.
        self.know(release.clone()).await;
        self.announce(hash);
        info!(repo = %revised.repo, manifest = %hash.short(), seq = release.release().seq, "a revision is published");
        Ok(revised)
    }

    /// The revision that is changed. `None` where it was let go here and nobody else has it, or the changes were made for none:
    /// who let go of it and uploads again begins anew.
    async fn base(&self, last: &SignedRelease, ask: &Revise) -> Result<Option<Manifest>, ReviseError> {
        let (library, hash) = (self.library(), last.release().manifest);
        let (repo, actual, wanted) = (last.release().repo(), last.release().kind, ask.kind);
        if actual != wanted {
            return Err(ReviseError::OtherKind { repo, actual, wanted });
        }
        match library.store().manifest(hash).await {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(StoreError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let row = library.catalog().manifest(hash).map_err(LibraryError::from)?;
        let (let_go, for_none) = (row.is_none(), ask.parent.as_deref() == Some(NO_COMMIT));
        if let_go && for_none {
            return Ok(None);
        }
        let wait = if let_go { LET_GO_WAIT } else { MANIFEST_WAIT };
        match self.bring_manifest(hash, wait).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(FetchError::NoProvider { .. }) if let_go => Ok(None),
            Err(source) => Err(ReviseError::Base { repo, source }),
        }
    }
}

/// A revision in the making.
struct Draft<'a> {
    library: &'a Library,
    repo: &'a RepoId,
    base: Option<&'a Manifest>,
    /// By their paths.
    files: BTreeMap<String, FileEntry>,
    staged: Vec<Arc<Staged>>,
    /// What the revisions list, by its SHA-256; read when it is wanted.
    listed: Option<BTreeMap<Sha256, FileEntry>>,
}

impl Draft<'_> {
    fn of<'a>(library: &'a Library, repo: &'a RepoId, base: Option<&'a Manifest>) -> Draft<'a> {
        let files = base.map(Manifest::files).unwrap_or_default().iter();
        Draft {
            library,
            repo,
            base,
            files: files
                .map(|file| (file.path.as_str().to_owned(), file.clone()))
                .collect(),
            staged: Vec::new(),
            listed: None,
        }
    }

    async fn apply(&mut self, change: Change) -> Result<(), ReviseError> {
        match change {
            Change::Put { path, content } => {
                let digests = content.digests;
                let git = kept_in_git(&path, digests.len);
                let entry = FileEntry {
                    size: digests.len,
                    blake3: digests.blake3,
                    sha256: Some(digests.sha256),
                    sha1: digests.sha1.filter(|_| git),
                    path,
                };
                self.staged.push(content);
                self.files.insert(entry.path.as_str().to_owned(), entry);
            }
            Change::Again { path, sha256 } => {
                let entry = self.again(path, sha256).await?;
                self.files.insert(entry.path.as_str().to_owned(), entry);
            }
            Change::Delete { path } => {
                if self.files.remove(&path).is_none() {
                    return Err(self.no_file(path));
                }
            }
            Change::DeleteFolder { path } => {
                let below = format!("{path}/");
                let from = (Bound::Included(below.clone()), Bound::Unbounded);
                let found = self.files.range(from).map(|(name, _)| name);
                let names: Vec<String> = found
                    .take_while(|name| name.starts_with(&below))
                    .cloned()
                    .collect();
                if names.is_empty() {
                    return Err(self.no_file(path));
                }
                for name in names {
                    self.files.remove(&name);
                }
            }
        }
        Ok(())
    }

    /// An entry for content that a revision lists under whatever path.
    async fn again(&mut self, path: RepoPath, sha256: Sha256) -> Result<FileEntry, ReviseError> {
        if self.listed.is_none() {
            self.listed = Some(self.list().await?);
        }
        let found = self.listed.as_ref().and_then(|listed| listed.get(&sha256));
        let Some(found) = found.cloned() else {
            return Err(ReviseError::NoContent { path, sha256 });
        };
        let sha1 = match (kept_in_git(&path, found.size), found.sha1) {
            (false, _) => None,
            (true, Some(sha1)) => Some(sha1),
            (true, None) => Some(self.library.store().git_id(found.blake3).await?),
        };
        Ok(FileEntry { path, sha1, ..found })
    }

    /// All that the newest revision lists, and what older ones list whose manifests are here.
    async fn list(&self) -> Result<BTreeMap<Sha256, FileEntry>, ReviseError> {
        let mut listed = BTreeMap::new();
        let mut list = |manifest: &Manifest| {
            for file in manifest.files() {
                if let Some(sha256) = file.sha256 {
                    listed.entry(sha256).or_insert_with(|| file.clone());
                }
            }
        };
        self.base.into_iter().for_each(&mut list);
        let (library, repo) = (self.library.clone(), self.repo.clone());
        let history = tokio::task::spawn_blocking(move || library.names().history(&repo));
        let history = history.await.map_err(|_| StoreError::Closed)?;
        for release in history.map_err(LibraryError::from)? {
            match self.library.store().manifest(release.release().manifest).await {
                Ok(manifest) => list(&manifest),
                Err(StoreError::Missing(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(listed)
    }

    fn no_file(&self, path: String) -> ReviseError {
        let commit = self
            .base
            .map_or_else(|| NO_COMMIT.to_owned(), Manifest::commit_id);
        ReviseError::NoFile { path, commit }
    }
}
