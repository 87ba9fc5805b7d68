//! Room: what our bytes take, the quota, and the check before anything is written.

use super::{Store, StoreError, blocking};
use crate::{durable, limits::FREE_FLOOR};
use std::{
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{MutexGuard, atomic::Ordering},
};
use walkdir::WalkDir;

/// Folders below ours that hold blobs, and how deep their files lie at most.
const FOLDERS: [(&str, usize); 2] = [("files", 2), ("store", 3)];

impl Store {
    /// Bounds what [`Store::used`] may become, in bytes; `None`: only the disk does.
    pub(crate) fn set_quota(&self, quota: Option<u64>) {
        self.0.quota.store(quota.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns how many bytes of the disk our blobs take: files, outboards, what is half fetched, and the database. What users
    /// published from where it lies does not count. Blocking: looks at every file.
    pub(crate) fn used(&self) -> Result<u64, StoreError> {
        let mut used = 0;
        for (name, depth) in FOLDERS {
            let folder = self.0.folder.join(name);
            used += taken(&folder, depth).map_err(StoreError::io(&folder))?;
        }
        Ok(used)
    }

    /// Sets room aside for `bytes` more, before one of them is asked for or written.
    ///
    /// - [`StoreError::NoRoom`]: the disk has not that much, with the outboards and what is kept free.
    /// - [`StoreError::OverQuota`]: the quota does not allow it.
    ///
    /// What others set aside counts as used in both.
    pub(crate) async fn room(&self, bytes: u64) -> Result<Room, StoreError> {
        let need = bytes.saturating_add(bytes / 256);
        let store = self.clone();
        blocking(move || {
            let folder = &store.0.folder;
            // Two that look at once must not both take the last room.
            let mut set_aside = store.set_aside();
            let free = durable::free_space(folder).map_err(StoreError::io(folder))?;
            let free = free.saturating_sub(*set_aside);
            if free < need.saturating_add(FREE_FLOOR) {
                return Err(StoreError::NoRoom {
                    folder: folder.clone(),
                    need: need.saturating_add(FREE_FLOOR),
                    free,
                });
            }
            let quota = store.0.quota.load(Ordering::Relaxed);
            if quota != u64::MAX {
                let used = store.used()?.saturating_add(*set_aside);
                if used.saturating_add(need) > quota {
                    return Err(StoreError::OverQuota { quota, used, need });
                }
            }
            *set_aside += need;
            drop(set_aside);
            Ok(Room { store, bytes: need })
        })
        .await
    }

    fn set_aside(&self) -> MutexGuard<'_, u64> {
        self.0
            .set_aside
            .lock()
            .expect("nothing panics while it holds this")
    }
}

/// Room on the disk that nobody else gets, until it is taken or this is dropped.
pub(crate) struct Room {
    store: Store,
    bytes: u64,
}

impl Room {
    /// So many of the bytes are on the disk now.
    pub(crate) fn taken(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        *self.store.set_aside() -= bytes;
    }

    /// How many bytes are not taken yet.
    pub(crate) fn left(&self) -> u64 {
        self.bytes
    }

    /// Adds room that was set aside later.
    pub(crate) fn add(&mut self, mut more: Room) {
        self.bytes += std::mem::take(&mut more.bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken(self.bytes);
    }
}

/// Adds up the blocks of the files below a folder; what goes away meanwhile does not count.
fn taken(folder: &Path, depth: usize) -> io::Result<u64> {
    let mut taken = 0;
    for entry in WalkDir::new(folder).min_depth(1).max_depth(depth) {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(io::Error::from);
        match metadata {
            Ok(metadata) if metadata.is_file() => taken += metadata.blocks() * 512,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}
