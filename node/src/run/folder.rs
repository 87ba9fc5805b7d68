//! A model in a folder, which nobody has published yet.

use std::{fs::File, io, path::Path, path::PathBuf};

use protocol::{FileEntry, Hash, Manifest, RepoPath, RepoRef};
use tokio::task::spawn_blocking;

use super::{Picked, Ready, RunError, header_in};
use crate::{
    engine::wire::{Bytes, Given},
    library::LibraryError,
    progress::{Phase, Progress},
    store::StoreError,
};

/// Folders within the folder that are looked into: models have a folder for each of their modules, and no deeper ones.
const DEPTH: usize = 3;

/// Most files that are looked at.
const FILES_MAX: usize = 10_000;

/// Finds the model that a folder holds, and hashes its files.
///
/// # Errors
/// Those of [`RunError`] that need no engine; [`RunError::Folder`].
pub(crate) async fn ready_in(
    folder: PathBuf,
    file: Option<String>,
    progress: &Progress,
) -> Result<Ready, RunError> {
    let progress = progress.clone();
    let found = spawn_blocking(move || find(&folder, file.as_deref(), &progress)).await;
    found.map_err(|_| LibraryError::from(StoreError::Closed))?
}

fn find(folder: &Path, file: Option<&str>, progress: &Progress) -> Result<Ready, RunError> {
    let listed = Manifest::new(list(folder)?);
    let listed = listed.map_err(|source| RunError::Folder {
        path: folder.to_owned(),
        source: io::Error::other(source),
    })?;
    let picked = Picked::of(&listed, file)?;
    progress.phase(Phase::Reading, picked.files().map(|file| file.size).sum(), 0);
    let mut files = Vec::new();
    let mut tensors = Vec::new();
    for file in picked.files() {
        let at = folder.join(file.path.as_str());
        let failed = |source| RunError::Folder {
            path: at.clone(),
            source,
        };
        let mut hasher = blake3::Hasher::new();
        File::open(&at)
            .and_then(|opened| hasher.update_reader(opened).map(drop))
            .map_err(failed)?;
        progress.add(file.size, 0);
        let entry = FileEntry {
            blake3: Hash::from_bytes(*hasher.finalize().as_bytes()),
            ..file.clone()
        };
        if picked.weights.contains(&file) {
            tensors.append(&mut header_in(&entry, File::open(&at))?);
        }
        files.push(Given {
            path: entry.path.as_str().to_owned(),
            size: entry.size,
            blake3: entry.blake3,
            bytes: Bytes::At(at),
        });
    }
    // Nothing is asked by this name: it only stands where one must.
    let manifest = listed.hash();
    Ok(Ready {
        what: RepoRef::Content(manifest),
        manifest,
        files,
        tensors,
    })
}

/// The files of a folder, with their sizes; what they hash to is not known yet.
fn list(folder: &Path) -> Result<Vec<FileEntry>, RunError> {
    let mut files = Vec::new();
    let failed = |source: walkdir::Error| RunError::Folder {
        path: folder.to_owned(),
        source: source.into(),
    };
    for entry in walkdir::WalkDir::new(folder).max_depth(DEPTH).follow_links(true) {
        let entry = entry.map_err(failed)?;
        let path = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
        let Some(path) = path.and_then(|path| path.parse::<RepoPath>().ok()) else {
            continue;
        };
        let size = entry.metadata().map_err(failed)?.len();
        if !entry.file_type().is_file() || files.len() >= FILES_MAX {
            continue;
        }
        let path_hash = Hash::of(path.as_str().as_bytes());
        files.push(FileEntry {
            path,
            size,
            // Two empty files are one blob; all others count as different ones.
            blake3: if size == 0 { Hash::EMPTY } else { path_hash },
            sha256: None,
            sha1: None,
        });
    }
    Ok(files)
}
