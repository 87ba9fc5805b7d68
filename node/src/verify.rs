//! Verifying: bytes against a hash, offline. A folder against a proof file needs no data folder and no node; a repo is verified
//! where its bytes lie. Every bad 1 MiB shard is named by its offset.

use crate::{
    library::{Library, LibraryError},
    progress::{Phase, Progress},
    store::{Blob, Lies, Outboard, StoreError, shard_values},
};
use protocol::{
    ChainingValue, FileEntry, Hash, Manifest, Proof, ProofError, RepoId, RepoRef, SHARD_LEN, SignedRelease,
    shard,
};
use rayon::prelude::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Most bad shards named in one report; past it the report says how many more there are.
const BAD_MAX: usize = 100_000;

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A shard, or the whole of a file of one shard, has other bytes.
    Changed,
    /// The file is not there.
    Missing,
    /// The file is not in the manifest.
    Extra,
    /// The file has another length.
    WrongSize,
    /// The file cannot be read.
    Unreadable,
    /// The bytes are right, and do not have the digest that the manifest names them by.
    FalseDigest,
    /// The release is not of this manifest or not signed by the expected publisher.
    WrongSignature,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// The file's path in the repo.
    pub path: String,
    /// What is wrong.
    pub reason: Reason,
    /// Where the bad shard begins, in bytes.
    pub offset: Option<u64>,
    /// More, in words.
    pub detail: Option<String>,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether everything is as it was published.
    pub ok: bool,
    /// Files in the manifest.
    pub files: u64,
    /// Bytes verified.
    pub bytes: u64,
    /// All that is wrong, by path and offset.
    pub bad: Vec<Bad>,
    /// The name under which it was released, by a valid signature.
    pub signed_by: Option<RepoId>,
    /// The manifest.
    pub manifest: Hash,
}

/// Why a verification could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The folder cannot be read.
    #[error("{path}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A proof cannot be made.
    #[error("the proof")]
    Proof(#[from] ProofError),
    /// The repo is not here or cannot be read.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl From<StoreError> for VerifyError {
    fn from(error: StoreError) -> VerifyError {
        LibraryError::Store(error).into()
    }
}

/// Verifies a folder, or a single file, against a proof. Blocking; uses all cores; touches no network and no data folder.
pub fn folder(dir: &Path, proof: &Proof, progress: &Progress) -> Result<Report, VerifyError> {
    let manifest = proof.manifest();
    progress.phase(
        Phase::Checking,
        manifest.total_len(),
        manifest.files().len() as u64,
    );
    let read = |source| VerifyError::Folder {
        path: dir.to_owned(),
        source,
    };
    let single = dir.metadata().map_err(read)?.is_file();
    let place = |file: &FileEntry| {
        if single {
            dir.to_owned()
        } else {
            dir.join(file.path.as_str())
        }
    };
    let files: Vec<(&FileEntry, &Vec<ChainingValue>)> = manifest.files().iter().zip(proof.shards()).collect();
    let mut bad: Vec<Bad> = files
        .par_iter()
        .flat_map_iter(|(file, shards)| {
            let found = check_path(file, &place(file), shards, None, progress);
            progress.add(0, 1);
            found
        })
        .collect();
    if !single {
        bad.extend(extra(dir, manifest).map_err(read)?);
    }
    Ok(report(manifest, proof.release(), bad))
}

fn report(manifest: &Manifest, release: Option<&SignedRelease>, mut bad: Vec<Bad>) -> Report {
    bad.sort_by(|a, b| (&a.path, a.offset).cmp(&(&b.path, b.offset)));
    bad.truncate(BAD_MAX);
    Report {
        ok: bad.is_empty(),
        files: manifest.files().len() as u64,
        bytes: manifest.total_len(),
        bad,
        signed_by: release.map(|release| release.release().repo()),
        manifest: manifest.hash(),
    }
}

fn bad(file: &FileEntry, reason: Reason, offset: Option<u64>, detail: Option<String>) -> Bad {
    Bad {
        path: file.path.as_str().into(),
        reason,
        offset,
        detail,
    }
}

fn check_path(
    file: &FileEntry,
    path: &Path,
    shards: &[ChainingValue],
    outboard: Option<&Outboard>,
    progress: &Progress,
) -> Vec<Bad> {
    // Links are followed: what counts is the bytes that a reader of this path gets.
    let opened = File::open(path).and_then(|open| open.metadata().map(|metadata| (open, metadata)));
    let (open, metadata) = match opened {
        Ok(opened) => opened,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return vec![bad(file, Reason::Missing, None, None)];
        }
        Err(error) => return vec![bad(file, Reason::Unreadable, None, Some(error.to_string()))],
    };
    if !metadata.is_file() {
        return vec![bad(
            file,
            Reason::Missing,
            None,
            Some("something else than a file is in its place".into()),
        )];
    }
    let mut found = Vec::new();
    if metadata.len() != file.size {
        let detail = format!("{} bytes instead of {}", metadata.len(), file.size);
        found.push(bad(file, Reason::WrongSize, None, Some(detail)));
    }
    found.extend(check_bytes(file, &open, shards, outboard, progress));
    found
}

/// Verifies a file's bytes shard by shard, on all cores.
fn check_bytes(
    file: &FileEntry,
    open: &File,
    shards: &[ChainingValue],
    outboard: Option<&Outboard>,
    progress: &Progress,
) -> Vec<Bad> {
    let count = shard::shard_count(file.size).max(1);
    let check = |buffer: &mut Vec<u8>, index: u32| {
        let range = shard::shard_range(file.size, index).unwrap_or(0..0);
        buffer.resize((range.end - range.start) as usize, 0);
        let read = open.read_exact_at(buffer, range.start);
        progress.add(range.end - range.start, 0);
        let wrong = match (&read, shards.get(index as usize)) {
            (Err(error), _) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Some(bad(
                    file,
                    Reason::Unreadable,
                    Some(range.start),
                    Some(error.to_string()),
                ));
            }
            (Err(_), _) => true,
            (Ok(()), Some(expected)) => match outboard {
                Some(outboard) => outboard.check(file.size, index, range.start, buffer) != *expected,
                None => shard::chaining_value(range.start, buffer) != *expected,
            },
            (Ok(()), None) => Hash::of(buffer) != file.blake3,
        };
        wrong.then(|| bad(file, Reason::Changed, Some(range.start), None))
    };
    if count == 1 {
        return check(&mut Vec::new(), 0).into_iter().collect();
    }
    (0..count)
        .into_par_iter()
        .map_init(|| Vec::with_capacity(SHARD_LEN as usize), check)
        .flatten_iter()
        .collect()
}

/// Finds the files of a folder that a manifest does not list, but for what a publish leaves out.
fn extra(dir: &Path, manifest: &Manifest) -> io::Result<Vec<Bad>> {
    let known: BTreeSet<&str> = manifest.files().iter().map(|file| file.path.as_str()).collect();
    let mut found = Vec::new();
    let mut walk = walkdir::WalkDir::new(dir).min_depth(1).into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry?;
        if crate::publish::is_dropping(&entry.file_name().to_string_lossy()) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        let name = entry
            .path()
            .strip_prefix(dir)
            .expect("the walk stays below its root")
            .to_string_lossy()
            .into_owned();
        if !entry.file_type().is_dir() && !known.contains(name.as_str()) && found.len() < BAD_MAX {
            found.push(Bad {
                path: name,
                reason: Reason::Extra,
                offset: None,
                detail: None,
            });
        }
    }
    Ok(found)
}

impl Library {
    /// Verifies a repo where its bytes lie. What is found bad is not served any more, and is fetched again when a peer has it.
    pub async fn verify(&self, what: &RepoRef, progress: &Progress) -> Result<Report, VerifyError> {
        let hash = self.resolve_local(what)?;
        let manifest = self.known_manifest(what, hash).await?;
        let release = self.release_of(what)?;
        progress.phase(
            Phase::Checking,
            manifest.total_len(),
            manifest.files().len() as u64,
        );
        let mut found = Vec::new();
        let (library, seen) = (self.clone(), progress.clone());
        let small: Vec<FileEntry> = manifest
            .files()
            .iter()
            .filter(|file| file.size <= crate::limits::SMALL_LEN)
            .cloned()
            .collect();
        for file in &small {
            found.extend(self.check_row(file).await);
            progress.add(file.size, 1);
        }
        let checked = manifest.clone();
        let files = tokio::task::spawn_blocking(move || {
            let files: Vec<&FileEntry> = checked
                .files()
                .iter()
                .filter(|file| file.size > crate::limits::SMALL_LEN)
                .collect();
            let check = |file: &&FileEntry| {
                let found = library.check_file(file, &seen);
                seen.add(0, 1);
                found
            };
            files.par_iter().flat_map_iter(check).collect::<Vec<Bad>>()
        });
        found.extend(files.await.map_err(|_| StoreError::Closed)?);
        found.extend(self.check_digests(&manifest, &found, progress).await?);
        for bad in &found {
            if let Some(file) = manifest.file(&bad.path)
                && !matches!(bad.reason, Reason::Missing | Reason::FalseDigest)
            {
                self.store()
                    .report_damage(file.blake3, format!("{} does not verify", bad.path));
            }
        }
        Ok(report(&manifest, release.as_ref(), found))
    }

    /// Holds what the manifest says of files whose bytes are right against these. What was hashed before is remembered.
    async fn check_digests(
        &self,
        manifest: &Manifest,
        found: &[Bad],
        progress: &Progress,
    ) -> Result<Vec<Bad>, StoreError> {
        let wrong: BTreeSet<&str> = found.iter().map(|bad| bad.path.as_str()).collect();
        let right = manifest
            .files()
            .iter()
            .filter(|file| !wrong.contains(file.path.as_str()));
        progress.phase(
            Phase::Reading,
            manifest.total_len(),
            manifest.files().len() as u64,
        );
        let mut lies = Vec::new();
        for file in right {
            match self.store().prove(file).await {
                Ok(()) => {}
                Err(error @ StoreError::FalseDigest { .. }) => {
                    lies.push(bad(file, Reason::FalseDigest, None, Some(error.to_string())));
                }
                // It went bad, or away, a moment ago.
                Err(error) => lies.push(bad(file, Reason::Unreadable, None, Some(error.to_string()))),
            }
            progress.add(file.size, 1);
        }
        Ok(lies)
    }

    async fn check_row(&self, file: &FileEntry) -> Option<Bad> {
        match self.store().blob(file.blake3).await {
            Ok(Blob::Memory(bytes)) if bytes.len() as u64 == file.size => None,
            Ok(_) => Some(bad(file, Reason::WrongSize, None, None)),
            Err(StoreError::Missing(_)) => Some(bad(file, Reason::Missing, None, None)),
            Err(error) => Some(bad(file, Reason::Changed, Some(0), Some(error.to_string()))),
        }
    }

    fn check_file(&self, file: &FileEntry, progress: &Progress) -> Vec<Bad> {
        let path = match self.store().lies(file.blake3) {
            Ok(Some(Lies::Owned(path) | Lies::Reference(path, _))) => path,
            Ok(None) => return vec![bad(file, Reason::Missing, None, None)],
            Err(error) => return vec![bad(file, Reason::Unreadable, None, Some(error.to_string()))],
        };
        // The shard values come from the outboard, which must hash up to the file's name to be believed.
        match self.store().shard_values(file.blake3, file.size) {
            Ok(shards) => {
                let outboard = self.store().outboard(file.blake3, file.size);
                if let Some(outboard) = &outboard {
                    outboard.check_above(file.size, &shards);
                }
                let found = check_path(file, &path, &shards, outboard.as_ref(), progress);
                if found.is_empty() && outboard.is_some_and(|outboard| outboard.is_spoiled()) {
                    return self.renew(file, &path);
                }
                found
            }
            Err(_) => match check_whole(file, &path, progress) {
                Ok(true) => self.renew(file, &path),
                Ok(false) => vec![bad(
                    file,
                    Reason::Changed,
                    None,
                    Some("its tree is damaged too".into()),
                )],
                Err(error) => vec![bad(file, Reason::Unreadable, None, Some(error.to_string()))],
            },
        }
    }

    /// The bytes are right and their tree is not: it is made anew from them.
    fn renew(&self, file: &FileEntry, path: &Path) -> Vec<Bad> {
        match self.store().renew_outboard(file.blake3, file.size, path) {
            Ok(true) => Vec::new(),
            Ok(false) => vec![bad(file, Reason::Changed, None, None)],
            Err(error) => vec![bad(
                file,
                Reason::Unreadable,
                None,
                Some(format!("its tree: {error}")),
            )],
        }
    }

    /// Makes the proof of a repo: what anybody needs to verify its files offline.
    pub async fn proof(&self, what: &RepoRef, progress: &Progress) -> Result<Proof, VerifyError> {
        let hash = self.resolve_local(what)?;
        let manifest = self.known_manifest(what, hash).await?;
        let release = self.release_of(what)?;
        progress.phase(Phase::Reading, 0, manifest.files().len() as u64);
        let library = self.clone();
        let progress = progress.clone();
        let proof = tokio::task::spawn_blocking(move || {
            let values = |file: &FileEntry| {
                progress.add(0, 1);
                if file.size <= SHARD_LEN {
                    Ok(Vec::new())
                } else {
                    library.store().shard_values(file.blake3, file.size)
                }
            };
            let shards = manifest
                .files()
                .iter()
                .map(values)
                .collect::<Result<Vec<_>, _>>()?;
            Ok::<Proof, VerifyError>(Proof::new(manifest, release, shards)?)
        });
        proof.await.map_err(|_| StoreError::Closed)?
    }
}

fn check_whole(file: &FileEntry, path: &Path, progress: &Progress) -> io::Result<bool> {
    let (root, _) = shard_values(&File::open(path)?, file.size, &|bytes| progress.add(bytes, 0))?;
    Ok(root == file.blake3)
}
