//! Publishing: a folder or a file becomes a manifest, and the manifest a signed release. Each file is read once, on all
//! cores; a file that has not changed since it was last read is not read again.

mod release;
mod revise;
mod walk;

pub(crate) use release::{After, Saying};
pub(crate) use revise::{Change, NO_COMMIT, Revise, ReviseError};
pub(crate) use walk::{Found, fit, found, is_dropping};

use crate::{
    card,
    catalog::{Digest, PlaceKind, Stamp},
    identity::RECOVERY_FILE,
    library::{Library, LibraryError},
    limits::{RELEASE_DAYS, SMALL_LEN, WHOLE_LEN},
    names::NamesError,
    progress::{Phase, Progress},
    store::{Fresh, How, Import, Kept, Room, SourceFile, StoreError, digest::Digests},
};
use protocol::{
    CardError, FileEntry, Hash, Kind, Manifest, ManifestError, PathError, ReleaseError, RepoId, RepoName,
    Upstream, manifest::kept_in_git,
};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};
use walk::{find, name_of};

/// Files hashed before their small ones go to the database: bounds the memory they take.
const BATCH: usize = 1_024;

/// A file modified less than this before it was read is read again next time: its time stamp may not tell a later change.
const FRESH: Duration = Duration::from_millis(20);

/// What to publish, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The folder or file.
    pub path: PathBuf,
    /// The repo's name; by default the folder's or file's, made fit.
    pub name: Option<RepoName>,
    /// What it is.
    pub kind: Kind,
    /// Whether files are copied into the store instead of being seeded from where they lie.
    pub copy: bool,
    /// What this is a copy of.
    pub upstream: Option<Upstream>,
    /// How long the release is valid, in days.
    pub valid_days: u32,
    /// Whether it is refused where its card does not say what a card should.
    pub require_card: bool,
}

impl PublishRequest {
    /// Asks to publish a model by reference under its folder's name.
    pub fn new(path: impl Into<PathBuf>) -> PublishRequest {
        PublishRequest {
            path: path.into(),
            name: None,
            kind: Kind::Model,
            copy: false,
            upstream: None,
            valid_days: RELEASE_DAYS,
            require_card: false,
        }
    }
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Under which name.
    pub repo: RepoId,
    /// As what.
    pub kind: Kind,
    /// The manifest.
    pub manifest: Hash,
    /// The release's number.
    pub seq: u64,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that had to be read.
    pub read_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// What was left out of the folder, and why.
    pub left_out: Vec<String>,
    /// What its card should say and does not: `license`, `pipeline_tag`, `base_model` and the like.
    #[serde(default)]
    pub unsaid: Vec<String>,
    /// The file of the recovery key, if it was made now: the user is to move it offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<PathBuf>,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The folder or file is not there or may not be read.
    #[error("{path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A name in the folder that could not be kept on every platform.
    #[error("{path}: its name cannot be published", path = path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// The rule it breaks.
        source: PathError,
    },
    /// A name that is not UTF-8.
    #[error("{path}: its name is not UTF-8", path = path.display())]
    NotUtf8 {
        /// Which.
        path: PathBuf,
    },
    /// Neither a file nor a folder.
    #[error("{path} is neither a file nor a folder", path = path.display())]
    Special {
        /// Which.
        path: PathBuf,
    },
    /// The folder's name cannot be made a repo name.
    #[error("no repo name can be made of {path}", path = path.display())]
    Name {
        /// Which.
        path: PathBuf,
    },
    /// The files do not make a manifest.
    #[error("{path} cannot be published", path = path.display())]
    Manifest {
        /// The folder.
        path: PathBuf,
        /// The rule it breaks.
        source: ManifestError,
    },
    /// The release cannot be made.
    #[error("the release")]
    Release(#[from] ReleaseError),
    /// The summary of its card cannot be made.
    #[error("the summary of its card")]
    Summary(#[from] CardError),
    /// Its card does not say what it was asked to say.
    #[error("{path}: its card says nothing of {missing}", path = path.display(), missing = missing.join(", "))]
    Card {
        /// The folder.
        path: PathBuf,
        /// What is missing: [`Published::unsaid`].
        missing: Vec<String>,
    },
    /// Our key signs nothing that anybody follows.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// The names on disk refuse the release.
    #[error("the name")]
    Names(#[from] NamesError),
    /// The bytes cannot be kept.
    #[error("the store")]
    Store(#[from] StoreError),
    /// Somebody else published under the name between our looking and our signing.
    #[error("{repo} was published anew meanwhile")]
    Overtaken {
        /// Which repo.
        repo: RepoId,
    },
    /// Something of ours fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl Library {
    /// Publishes a folder or a file under the publisher's key. When it returns, all of it is durable.
    pub async fn publish(
        &self,
        request: PublishRequest,
        progress: &Progress,
    ) -> Result<Published, PublishError> {
        let begun = Instant::now();
        progress.phase(Phase::Reading, 0, 0);
        let root = request.path.clone();
        let name = match &request.name {
            Some(name) => name.clone(),
            None => name_of(&root)?,
        };
        self.refuse_denied_name(&name)?;
        let (kind, asked) = (request.kind, request.path.clone());
        let unsaid = run(move || Ok(card::unsaid_in(kind, &asked))).await?;
        if request.require_card && !unsaid.is_empty() {
            let path = request.path;
            let missing = unsaid;
            return Err(PublishError::Card { path, missing });
        }
        let (found, left_out) = run(move || find(&root)).await?;
        let total = found.iter().map(|file| file.stamp.len).sum();
        progress.phase(Phase::Reading, total, found.len() as u64);

        let _writing = self.store().writing().await;
        let taken = self.take_in(found, request.copy, progress).await?;
        let settled = self.settle(&request.path, taken, progress).await?;
        let saying = Saying {
            name,
            kind: request.kind,
            manifest: &settled.manifest,
            upstream: request.upstream.clone(),
            valid_days: request.valid_days,
        };
        let recovery = self.data().join(RECOVERY_FILE);
        let had_recovery = recovery.exists();
        let release = self.release(saying, After::Any).await?;
        let Settled {
            manifest,
            digests,
            read,
        } = settled;
        self.record_published(&manifest, Some(&release), true, digests)
            .await?;
        Ok(Published {
            recovery: (!had_recovery && recovery.exists()).then_some(recovery),
            repo: release.release().repo(),
            kind: request.kind,
            manifest: manifest.hash(),
            seq: release.release().seq,
            files: manifest.files().len() as u64,
            bytes: manifest.total_len(),
            read_bytes: read,
            seconds: begun.elapsed().as_secs_f64(),
            left_out,
            unsaid,
        })
    }

    /// Reads what has to be read of these files. Nothing is kept yet.
    pub(crate) async fn take_in(
        &self,
        found: Vec<Found>,
        copy: bool,
        progress: &Progress,
    ) -> Result<Took, PublishError> {
        let room = match copy {
            true => Some(self.store().room(self.to_copy(&found)?).await?),
            false => None,
        };
        self.take(found, room.map(Mutex::new).map(Arc::new), progress)
            .await
    }

    /// Keeps what was taken in, and pins its manifest: all of it is durable when this returns.
    ///
    /// - `root`: the folder, for errors.
    pub(crate) async fn settle(
        &self,
        root: &Path,
        taken: Took,
        progress: &Progress,
    ) -> Result<Settled, PublishError> {
        let manifest = Manifest::new(taken.entries).map_err(|source| PublishError::Manifest {
            path: root.to_owned(),
            source,
        })?;
        progress.phase(Phase::Storing, 0, 0);
        let hash = manifest.hash();
        taken.import.settle(self.store()).await?;
        let _manifest = self.store().put_manifest(&manifest).await?;
        self.store().record(hash, taken.references).await?;
        self.claim(hash).await?;
        self.store().pin(hash).await?;
        Ok(Settled {
            manifest,
            digests: taken.digests,
            read: taken.read,
        })
    }

    /// Returns how many bytes a copy of these files will add, as far as we know without reading them.
    fn to_copy(&self, found: &[Found]) -> Result<u64, PublishError> {
        let mut bytes = 0;
        for file in found {
            let here = self.known(file)?.is_some_and(|digest| {
                file.stamp.len <= SMALL_LEN || self.store().file_path(digest.blake3).exists()
            });
            bytes += if here { 0 } else { file.stamp.len };
        }
        Ok(bytes)
    }

    /// Reads what has to be read.
    ///
    /// - `copies`: the room for copies; `None`: the files stay where they are.
    async fn take(
        &self,
        mut found: Vec<Found>,
        copies: Option<Arc<Mutex<Room>>>,
        progress: &Progress,
    ) -> Result<Took, PublishError> {
        let mut took = Took::default();
        while !found.is_empty() {
            let batch: Vec<Found> = found.drain(..found.len().min(BATCH)).collect();
            let mut small = Vec::new();
            for file in batch.iter().filter(|file| file.stamp.len <= SMALL_LEN) {
                small.extend(self.known(file)?.map(|digest| digest.blake3));
            }
            let rows = self.store().has_small(&small).await?;
            let (library, progress, copies) = (self.clone(), progress.clone(), copies.clone());
            let batch = run(move || library.take_batch(batch, copies.as_deref(), &rows, &progress)).await?;
            let mut small = Vec::new();
            for taking in batch {
                took.read += taking.read;
                if taking.read > 0 {
                    self.store().mended(taking.entry.blake3);
                }
                match taking.how {
                    How::Small(bytes) => small.push(bytes),
                    How::Reference(file) => took.references.push(file),
                    How::Copy => {}
                }
                took.digests.extend(taking.digest);
                taking.fresh.into_iter().for_each(|fresh| took.import.add(fresh));
                took.entries.push(taking.entry);
            }
            took.kept.push(self.store().put_small(small).await?);
        }
        Ok(took)
    }

    fn take_batch(
        &self,
        batch: Vec<Found>,
        copies: Option<&Mutex<Room>>,
        rows: &HashSet<Hash>,
        progress: &Progress,
    ) -> Result<Vec<Taking>, PublishError> {
        let take = |file: &Found| {
            let taking = match self.unchanged(file, copies.is_some(), rows)? {
                Some(taking) => {
                    progress.add(taking.entry.size, 0);
                    taking
                }
                None => self.read(file, copies, progress)?,
            };
            progress.add(0, 1);
            Ok(taking)
        };
        batch.par_iter().map(take).collect()
    }

    fn read(
        &self,
        file: &Found,
        copies: Option<&Mutex<Room>>,
        progress: &Progress,
    ) -> Result<Taking, PublishError> {
        let git = |len| kept_in_git(&file.name, len);
        let seen = |bytes| {
            if let Some(room) = copies {
                // A copy is written as it is read.
                let mut room = room.lock().expect("nothing panics while it holds this");
                room.taken(bytes);
            }
            progress.add(bytes, 0);
        };
        let read = Import::file(self.store(), &file.path, git, copies.is_some(), &seen);
        let (taken, fresh) = read.map_err(|error| match error {
            StoreError::Io { path, source } if path == file.path => PublishError::Read { path, source },
            error => error.into(),
        })?;
        let Digests {
            blake3,
            sha256,
            sha1,
            len,
        } = taken.digests;
        let digest = Digest {
            stamp: taken.stamp,
            blake3,
            sha256,
            sha1,
        };
        let path = file.name.clone();
        Ok(Taking {
            entry: FileEntry {
                path,
                size: len,
                blake3,
                sha256: Some(sha256),
                sha1,
            },
            how: taken.how,
            fresh,
            digest: settled(&taken.stamp).then(|| (file.path.clone(), digest)),
            read: len,
        })
    }

    /// Returns a file that was read before, has not changed, and whose bytes we have.
    ///
    /// - `rows`: small blobs that the store has.
    fn unchanged(
        &self,
        file: &Found,
        copy: bool,
        rows: &HashSet<Hash>,
    ) -> Result<Option<Taking>, PublishError> {
        let Some(digest) = self
            .known(file)?
            .filter(|digest| !self.store().is_damaged(digest.blake3))
        else {
            return Ok(None);
        };
        let (hash, len, stamp) = (digest.blake3, file.stamp.len, file.stamp);
        let how = if len <= SMALL_LEN {
            rows.contains(&hash).then_some(How::Copy)
        } else if len > WHOLE_LEN && !self.store().has_outboard(hash) {
            None
        } else if self.store().file_path(hash).exists() {
            Some(How::Copy)
        } else {
            let place = self.catalog().place(hash).map_err(LibraryError::from)?;
            // Two equal files have one place; whichever it names, the blob is here while that file is unchanged.
            let here = place.is_some_and(|place| match place.kind {
                PlaceKind::Reference { path, stamp } => path
                    .metadata()
                    .is_ok_and(|metadata| Stamp::of(&metadata) == stamp),
                PlaceKind::Owned => false,
            });
            let reference = SourceFile {
                path: file.path.clone(),
                blake3: hash,
                len,
                mtime_ns: stamp.mtime_ns,
                inode: stamp.inode,
            };
            (here && !copy).then_some(How::Reference(reference))
        };
        let entry = FileEntry {
            path: file.name.clone(),
            size: len,
            blake3: hash,
            sha256: Some(digest.sha256),
            sha1: digest.sha1,
        };
        Ok(how.map(|how| Taking {
            entry,
            how,
            fresh: None,
            digest: None,
            read: 0,
        }))
    }

    /// Returns the digests of a file that was read before and has not changed.
    fn known(&self, file: &Found) -> Result<Option<Digest>, PublishError> {
        let digest = self.catalog().digest(&file.path).map_err(LibraryError::from)?;
        let git = kept_in_git(&file.name, file.stamp.len);
        Ok(digest.filter(|digest| digest.stamp == file.stamp && git == digest.sha1.is_some()))
    }
}

/// A file on its way into the manifest.
struct Taking {
    entry: FileEntry,
    how: How,
    fresh: Option<Fresh>,
    digest: Option<(PathBuf, Digest)>,
    read: u64,
}

/// All that a publish took in.
#[derive(Default)]
pub(crate) struct Took {
    /// The files, in the order in which they were found.
    pub(crate) entries: Vec<FileEntry>,
    import: Import,
    kept: Vec<Kept>,
    references: Vec<SourceFile>,
    digests: Vec<(PathBuf, Digest)>,
    read: u64,
}

/// What was taken in, kept and pinned.
pub(crate) struct Settled {
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// What its files hash to, for the next time.
    pub(crate) digests: Vec<(PathBuf, Digest)>,
    /// Bytes that had to be read.
    pub(crate) read: u64,
}

/// Tells whether a time stamp is old enough to prove that a file did not change since.
fn settled(stamp: &Stamp) -> bool {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(stamp.mtime_ns).unwrap_or(0));
    modified.elapsed().is_ok_and(|age| age > FRESH)
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StoreError::Closed)?
}
