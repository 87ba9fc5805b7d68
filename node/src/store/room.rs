//! Room: what our bytes take, the quota, and the check before anything is written.

use super::{Store, StoreError, blocking};
use crate::{durable, limits::FREE_FLOOR};
use std::{io, os::unix::fs::MetadataExt, path::Path, sync::atomic::Ordering};
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

    /// Refuses to begin to keep `bytes` more, before one of them is asked for or written.
    ///
    /// - [`StoreError::NoRoom`]: the disk has not that much, with the outboards and what is kept free.
    /// - [`StoreError::OverQuota`]: the quota does not allow it. What others begin at the same time is not counted.
    pub(crate) async fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let need = bytes.saturating_add(bytes / 256);
        let store = self.clone();
        blocking(move || {
            let folder = &store.0.folder;
            let free = durable::free_space(folder).map_err(StoreError::io(folder))?;
            if free < need.saturating_add(FREE_FLOOR) {
                return Err(StoreError::NoRoom {
                    folder: folder.clone(),
                    need: need.saturating_add(FREE_FLOOR),
                    free,
                });
            }
            let quota = store.0.quota.load(Ordering::Relaxed);
            if quota == u64::MAX {
                return Ok(());
            }
            let used = store.used()?;
            if used.saturating_add(need) > quota {
                return Err(StoreError::OverQuota { quota, used, need });
            }
            Ok(())
        })
        .await
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
