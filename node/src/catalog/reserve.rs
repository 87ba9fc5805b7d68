//! The reserve: a file that is only there to be given up, so that a node on a full disk can still open its catalog and free space.
//!
//! Open it *before* the catalog: sled does not open on a full disk, and deleting anything needs the catalog.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::durable;

/// Length of the reserve, in bytes. Measured: 6 MB let sled open and recover in 9 of 9 full disks; the rest is for the deletes that follow.
pub const RESERVE_LEN: u64 = 32 * 1024 * 1024;

/// Free space below which the reserve is given up, in bytes: less than that, and sled may stop in the middle of a write.
pub const RESERVE_LOW_WATER: u64 = 16 * 1024 * 1024;

/// Free space above which the reserve is made, in bytes: four times its length, so that it is not what fills the disk.
pub const RESERVE_HIGH_WATER: u64 = 4 * RESERVE_LEN;

/// Why the reserve could not be looked after. A node can run without one.
#[derive(Debug, thiserror::Error)]
#[error("reserve {path} cannot be kept")]
pub struct ReserveError {
    /// The reserve.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The reserve of one data folder. Blocking, at most for the time to write [`RESERVE_LEN`] bytes.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    held: Mutex<bool>,
}

impl Reserve {
    /// Takes charge of the reserve at `path`: given up where less than [`RESERVE_LOW_WATER`] is free, made where it is missing and more than
    /// [`RESERVE_HIGH_WATER`] is. Its folder must exist.
    ///
    /// # Errors
    /// Those of the file system; a disk that turns out to be full is none.
    pub fn open(path: &Path) -> Result<Reserve, ReserveError> {
        let reserve = Reserve::at(path);
        reserve.tend()?;
        Ok(reserve)
    }

    /// Does the same as [`Reserve::open`] again, for a running node: call it every minute or so. Returns whether the reserve is held now.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn tend(&self) -> Result<bool, ReserveError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let free = durable::free_space(folder).map_err(|source| self.error(source))?;
        self.settle(free)
    }

    /// Gives the reserve up, whatever is free: for a node that must delete something and found no room. Returns the bytes that came free.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn give_up(&self) -> Result<u64, ReserveError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let len = fs::metadata(&self.path).map_or(0, |metadata| metadata.blocks() * 512);
        let removed = durable::remove(&self.path).map_err(|source| self.error(source))?;
        *held = false;
        Ok(if removed { len } else { 0 })
    }

    /// Whether the reserve is there, whole, to be given up.
    pub fn is_held(&self) -> bool {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(path: &Path) -> Reserve {
        Reserve {
            path: path.to_owned(),
            held: Mutex::new(false),
        }
    }

    /// Decides by the free space, in bytes, and acts.
    fn settle(&self, free: u64) -> Result<bool, ReserveError> {
        if free < RESERVE_LOW_WATER {
            let freed = self.give_up()?;
            if freed > 0 {
                tracing::warn!(free, freed, "disk is full: reserve given up");
            }
            return Ok(false);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = is_whole(&self.path);
        if !*held && free > RESERVE_HIGH_WATER {
            *held = self.make().map_err(|source| self.error(source))?;
        }
        Ok(*held)
    }

    /// Makes the file. `false`: there was no room after all.
    fn make(&self) -> io::Result<bool> {
        durable::remove(&self.path)?;
        let made = allocate(&self.path).and_then(|()| durable::sync_file(&self.path));
        match made {
            Ok(()) => {
                durable::sync_folder(self.path.parent().unwrap_or(Path::new("/")))?;
                Ok(true)
            }
            Err(error) => {
                durable::remove(&self.path)?;
                if durable::is_full(&error) {
                    return Ok(false);
                }
                Err(error)
            }
        }
    }

    fn error(&self, source: io::Error) -> ReserveError {
        ReserveError {
            path: self.path.clone(),
            source,
        }
    }
}

/// Whether the file has its length, and blocks behind it: a sparse one is no reserve.
fn is_whole(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.len() == RESERVE_LEN && metadata.blocks() * 512 >= RESERVE_LEN)
}

fn allocate(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path)?;
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(&file, flags, 0, RESERVE_LEN) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(file),
        Err(error) => Err(error.into()),
    }
}

/// Writes bytes that no file system can compress or share away.
fn fill(mut file: File) -> io::Result<()> {
    let mut stream = blake3::Hasher::new().update(b"shoal reserve").finalize_xof();
    let mut piece = vec![0; 1024 * 1024];
    for _ in 0..RESERVE_LEN / piece.len() as u64 {
        stream.fill(&mut piece);
        file.write_all(&piece)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_made_where_there_is_plenty_of_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let reserve = Reserve::at(&path);
        assert!(!reserve.settle(RESERVE_HIGH_WATER).unwrap());
        assert!(!path.exists());
        assert!(reserve.settle(RESERVE_HIGH_WATER + 1).unwrap());
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), RESERVE_LEN);
        assert!(metadata.blocks() * 512 >= RESERVE_LEN);
    }

    #[test]
    fn reserve_is_given_up_on_a_full_disk_and_made_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        Reserve::at(&path).settle(u64::MAX).unwrap();

        let reserve = Reserve::at(&path);
        assert!(reserve.settle(RESERVE_LOW_WATER).unwrap());
        assert!(!reserve.settle(RESERVE_LOW_WATER - 1).unwrap());
        assert!(!path.exists());
        assert!(!reserve.is_held());
        assert!(!reserve.settle(RESERVE_LOW_WATER).unwrap());
        assert!(reserve.settle(u64::MAX).unwrap());
        assert!(reserve.give_up().unwrap() >= RESERVE_LEN);
        assert_eq!(reserve.give_up().unwrap(), 0);
    }

    #[test]
    fn sparse_or_short_file_is_no_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        for len in [10, RESERVE_LEN] {
            let file = File::create(&path).unwrap();
            file.set_len(len).unwrap();
            let reserve = Reserve::at(&path);
            assert!(!reserve.settle(RESERVE_LOW_WATER).unwrap());
            assert!(reserve.settle(u64::MAX).unwrap());
            assert!(is_whole(&path));
        }
    }

    #[test]
    fn filled_reserve_is_whole_where_nothing_can_be_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let file = File::create(&path).unwrap();
        fill(file).unwrap();
        durable::sync_file(&path).unwrap();
        assert!(is_whole(&path));
    }
}
