//! Handing out: a repo's files appear in a folder of the user's, by reflink where the file system can, else by hard link, else
//! by a copy that is hashed on the way. Names were checked with the manifest; nothing is written through a link.

use crate::{
    library::Library,
    limits::SMALL_LEN,
    progress::{Phase, Progress},
    store::{Blob, Lies, Store, StoreError, blocking, shard_values},
};
use protocol::{FileEntry, Hash};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// How files were handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOut {
    /// By reflink: no bytes were copied, and an edit stays the user's.
    pub reflink: u64,
    /// By hard link: no bytes were copied; the file is read-only, for it is the store's too.
    pub hard_link: u64,
    /// By a copy that was hashed.
    pub copy: u64,
    /// Already there and right.
    pub kept: u64,
}

impl HandedOut {
    pub(super) fn count(&mut self, way: Way) {
        match way {
            Way::Reflink => self.reflink += 1,
            Way::HardLink => self.hard_link += 1,
            Way::Copy => self.copy += 1,
            Way::Kept => self.kept += 1,
        }
    }

    /// Both together.
    pub(super) fn and(self, other: HandedOut) -> HandedOut {
        HandedOut {
            reflink: self.reflink + other.reflink,
            hard_link: self.hard_link + other.hard_link,
            copy: self.copy + other.copy,
            kept: self.kept + other.kept,
        }
    }
}

/// Why files could not be handed out.
#[derive(Debug, thiserror::Error)]
pub enum HandOutError {
    /// The folder cannot be written.
    #[error("{path}", path = path.display())]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is in the place of a file or leads out of the folder.
    #[error("{path} is in the way", path = path.display())]
    InTheWay {
        /// What.
        path: PathBuf,
    },
    /// A file does not have the digest that its publisher names it by.
    #[error("{path} has another digest than its publisher says")]
    Claim {
        /// The file's path in the repo.
        path: String,
    },
    /// The store cannot give the bytes.
    #[error("the store")]
    Store(#[from] StoreError),
}

/// How one file was handed out.
pub(super) enum Way {
    Reflink,
    HardLink,
    Copy,
    Kept,
}

/// Hands files out into `to`.
///
/// - `sure`: blobs whose bytes were verified a moment ago; the others are verified before they are linked.
pub(crate) async fn hand_out(
    library: &Library,
    files: Vec<FileEntry>,
    to: &Path,
    sure: HashSet<Hash>,
    progress: &Progress,
) -> Result<HandedOut, HandOutError> {
    progress.phase(
        Phase::HandingOut,
        files.iter().map(|file| file.size).sum(),
        files.len() as u64,
    );
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| HandOutError::Write { path, source }
    };
    fs::create_dir_all(to).map_err(write(to))?;
    let root = to.canonicalize().map_err(write(to))?;
    let mut handed = HandedOut::default();
    let mut folders = BTreeSet::new();
    for file in files {
        let place = root.join(file.path.as_str());
        make_folders(&root, &place, &mut folders)?;
        let way = if file.size <= SMALL_LEN {
            let bytes = library.store().read(file.blake3, SMALL_LEN).await?;
            let place = place.clone();
            blocking(move || Ok(put_small(&place, file.blake3, &bytes))).await??
        } else {
            let library = library.clone();
            let sure = sure.contains(&file.blake3);
            let file = file.clone();
            let blob = library.store().blob(file.blake3).await?;
            blocking(move || Ok(put(library.store(), &place, &file, &blob, sure))).await??
        };
        handed.count(way);
        progress.add(0, 1);
    }
    Ok(handed)
}

/// Makes the folders above a file, refusing anything that is a link or no folder.
pub(super) fn make_folders(
    root: &Path,
    place: &Path,
    made: &mut BTreeSet<PathBuf>,
) -> Result<(), HandOutError> {
    let parent = place.parent().expect("a file lies in a folder");
    if made.contains(parent) {
        return Ok(());
    }
    let below = parent
        .strip_prefix(root)
        .expect("checked paths stay below their root");
    let mut folder = root.to_owned();
    for part in below.components() {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(HandOutError::InTheWay { path: folder }),
            Err(_) => fs::create_dir(&folder).map_err(|source| HandOutError::Write {
                path: folder.clone(),
                source,
            })?,
        }
    }
    made.insert(parent.to_owned());
    Ok(())
}

/// Writes beside the place and renames: a reader sees the old file or the new one, never half of it.
fn replace(place: &Path, make: impl FnOnce(&Path) -> io::Result<Way>) -> Result<Way, HandOutError> {
    let write = |source| HandOutError::Write {
        path: place.to_owned(),
        source,
    };
    if place.is_dir() {
        return Err(HandOutError::InTheWay {
            path: place.to_owned(),
        });
    }
    let folder = place.parent().expect("a file lies in a folder");
    let beside = tempfile::Builder::new()
        .prefix(".shoal-")
        .tempdir_in(folder)
        .map_err(write)?;
    let made = beside.path().join("file");
    let way = make(&made).map_err(write)?;
    fs::rename(&made, place).map_err(write)?;
    Ok(way)
}

pub(super) fn put_small(place: &Path, hash: Hash, bytes: &[u8]) -> Result<Way, HandOutError> {
    if fs::symlink_metadata(place)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes.len() as u64)
        && fs::read(place).is_ok_and(|there| Hash::of(&there) == hash)
    {
        return Ok(Way::Kept);
    }
    if fs::symlink_metadata(place).is_err() {
        // Nothing is there: written in place at once, for a rename each would cost more than the bytes.
        let made = fs::OpenOptions::new().write(true).create_new(true).open(place);
        let written = made.and_then(|mut file| file.write_all(bytes));
        return written.map(|()| Way::Copy).map_err(|source| HandOutError::Write {
            path: place.to_owned(),
            source,
        });
    }
    replace(place, |made| fs::write(made, bytes).map(|()| Way::Copy))
}

pub(super) fn put(
    store: &Store,
    place: &Path,
    file: &FileEntry,
    blob: &Blob,
    sure: bool,
) -> Result<Way, HandOutError> {
    let hash = file.blake3;
    let there = fs::symlink_metadata(place)
        .ok()
        .filter(|there| there.is_file() && there.len() == file.size);
    if there.is_some()
        && File::open(place)
            .and_then(|there| shard_values(&there, file.size, &|_| {}))
            .is_ok_and(|(root, _)| root == hash)
    {
        return Ok(Way::Kept);
    }
    let source = store.lies(hash)?;
    if let Some(Lies::Owned(path) | Lies::Reference(path, _)) = &source {
        let right = sure || {
            let (root, _) = File::open(path)
                .and_then(|file_| shard_values(&file_, file.size, &|_| {}))
                .map_err(StoreError::io(path))?;
            root == hash
        };
        if !right {
            store.report_damage(hash, format!("{} does not verify", path.display()));
            return Err(StoreError::Damaged {
                blob: hash,
                offset: 0,
            }
            .into());
        }
        // A hard link to the user's own published file would tie two of his files together; only ours are linked.
        let ours = matches!(source, Some(Lies::Owned(_)));
        let linked = replace(place, |made| {
            reflink_copy::reflink(path, made)
                .map(|()| Way::Reflink)
                .or_else(|error| {
                    if ours {
                        fs::hard_link(path, made).map(|()| Way::HardLink)
                    } else {
                        Err(error)
                    }
                })
        });
        if let Ok(way) = linked {
            return Ok(way);
        }
    }
    replace(place, |made| {
        let mut out = File::create_new(made)?;
        let mut at = 0;
        while at < file.size {
            let end = file.size.min(at + 4 * 1024 * 1024);
            let bytes = store.read_range(hash, blob, at..end).map_err(io::Error::other)?;
            out.write_all(&bytes)?;
            at = end;
        }
        Ok(Way::Copy)
    })
}
