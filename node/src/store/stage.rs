//! Bytes that come before anybody says what they are for: an upload. They lie as files that the next start sweeps away, or as rows
//! that a collection spares while they are wanted here, until a manifest names them and they are settled.

use super::{
    Fresh, Kept, Store, StoreError, blocking,
    digest::{self, DigestError, Digests},
    make_parent,
};
use crate::limits::{PIECE_LEN, SMALL_LEN, WHOLE_LEN};
use bytes::Bytes;
use protocol::{GitId, Hash, limits::GIT_FILE_LEN_MAX};
use sha1::Digest as _;
use std::{
    fs::File,
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tempfile::TempPath;

/// Bytes that were taken in and hashed on the way. They go when this does, unless they were settled.
pub(crate) struct Staged {
    /// Their digests; the git id where they are few enough for git.
    pub(crate) digests: Digests,
    held: Held,
    /// They could not be made durable once. A second fsync may say that all is well where the first one lost them.
    spoiled: AtomicBool,
}

enum Held {
    /// Nothing, or a small blob on its way into the database.
    Memory(Bytes),
    /// A small blob in the database.
    Row(#[expect(dead_code, reason = "its drop lets the row go")] Arc<Kept>),
    /// Files that get their names when they are settled.
    File(Fresh),
}

/// Why bytes were not taken in.
#[derive(Debug)]
pub(crate) enum StageError {
    /// They did not come.
    Read(io::Error),
    /// They cannot be kept.
    Store(StoreError),
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> StageError {
        StageError::Store(error)
    }
}

impl Staged {
    fn new(digests: Digests, held: Held) -> Staged {
        Staged {
            digests,
            held,
            spoiled: AtomicBool::new(false),
        }
    }

    /// Tells whether the bytes are still there, staged or settled. What could not be settled is not: it has to come again.
    pub(crate) fn is_there(&self) -> bool {
        if self.spoiled.load(Ordering::Relaxed) {
            return false;
        }
        match &self.held {
            Held::Memory(_) | Held::Row(_) => true,
            Held::File(fresh) => fresh.moves.iter().all(|(from, to)| from.exists() || to.exists()),
        }
    }
}

impl Store {
    /// Takes in bytes as they come, expecting `len` of them, and tells `written` of those that are on the disk. Blocking.
    ///
    /// What ends early or goes on gives digests whose `len` tells so, and is not to be used.
    pub(crate) fn stage(
        &self,
        from: &mut impl Read,
        len: u64,
        written: &(dyn Fn(u64) + Sync),
    ) -> Result<Staged, StageError> {
        if len <= WHOLE_LEN {
            let mut bytes = Vec::new();
            from.take(len + 1)
                .read_to_end(&mut bytes)
                .map_err(StageError::Read)?;
            return Ok(self.stage_bytes(bytes)?);
        }
        let (outboard, outboard_path) = self.unfinished()?;
        let (copy, path) = self.unfinished()?;
        let git = len <= GIT_FILE_LEN_MAX;
        let digests = digest::of_file(from, len, git, &outboard, Some(&copy), written);
        let digests = digests.map_err(|error| match error {
            DigestError::Read(error) => StageError::Read(error),
            DigestError::Write(error) => StageError::Store(StoreError::io(&path)(error)),
        })?;
        let place = self.file_path(digests.blake3);
        make_parent(&place)?;
        let moves = vec![(outboard_path, self.outboard_path(digests.blake3)), (path, place)];
        Ok(Staged::new(digests, Held::File(Fresh::unfinished(moves))))
    }

    /// Takes in bytes from memory, at most a shard of them. Blocking.
    pub(crate) fn stage_bytes(&self, bytes: Vec<u8>) -> Result<Staged, StoreError> {
        let digests = digest::of_bytes(&bytes, true);
        let held = match digests.len {
            ..=SMALL_LEN => Held::Memory(bytes.into()),
            _ => Held::File(self.fresh_bytes(digests.blake3, &bytes)?),
        };
        Ok(Staged::new(digests, held))
    }

    /// Takes in a file made by [`Store::unfinished`], of more than one shard. Blocking: it is read once.
    pub(crate) fn stage_file(&self, path: TempPath, len: u64) -> Result<Staged, StoreError> {
        let mut file = File::open(&path).map_err(StoreError::io(&path))?;
        let git = len <= GIT_FILE_LEN_MAX;
        let (digests, mut fresh) = self.read_big(&path, &mut file, len, git, false, &|_| {})?;
        let place = self.file_path(digests.blake3);
        fresh.moves.push((path.to_path_buf(), place));
        fresh._unfinished.push(path);
        let held = Held::File(fresh);
        Ok(Staged::new(digests, held))
    }

    /// Takes in a file made by [`Store::unfinished`], of any size. Blocking: it is read once.
    pub(crate) fn stage_parts(&self, path: TempPath, len: u64) -> Result<Staged, StoreError> {
        if len > WHOLE_LEN {
            return self.stage_file(path, len);
        }
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(len + 1).read_to_end(&mut bytes));
        read.map_err(StoreError::io(&path))?;
        self.stage_bytes(bytes)
    }

    /// Puts what is held in memory into the database, all at once; durable with the next pin.
    pub(crate) async fn put_staged(&self, staged: &mut [Staged]) -> Result<(), StoreError> {
        let in_memory = |staged: &Staged| match &staged.held {
            Held::Memory(bytes) => Some(bytes.clone()),
            Held::Row(_) | Held::File(_) => None,
        };
        let kept = self
            .put_small(staged.iter().filter_map(in_memory).collect())
            .await?;
        let kept = Arc::new(kept);
        for staged in staged {
            if let Held::Memory(_) = staged.held {
                staged.held = Held::Row(kept.clone());
            }
        }
        Ok(())
    }

    /// Makes what was staged durable and gives it its names; rows are durable with the next pin. May be done again where it
    /// was done; where it failed, nothing of it is there any more.
    pub(crate) async fn settle_staged(&self, staged: Vec<Arc<Staged>>) -> Result<(), StoreError> {
        let store = self.clone();
        blocking(move || {
            if let Some(gone) = staged.iter().find(|staged| !staged.is_there()) {
                return Err(StoreError::Missing(gone.digests.blake3));
            }
            let settled = store.settle_now(staged.iter().filter_map(|staged| match &staged.held {
                Held::File(fresh) => Some(fresh),
                Held::Memory(_) | Held::Row(_) => None,
            }));
            settled.inspect_err(|_| {
                let spoil = |staged: &Arc<Staged>| staged.spoiled.store(true, Ordering::Relaxed);
                staged.iter().for_each(spoil);
            })?;
            staged
                .iter()
                .for_each(|staged| store.mended(staged.digests.blake3));
            Ok(())
        })
        .await
    }

    /// Reads a blob that is here, and says what git calls it.
    pub(crate) async fn git_id(&self, hash: Hash) -> Result<GitId, StoreError> {
        let blob = self.blob(hash).await?;
        let store = self.clone();
        blocking(move || {
            let len = blob.len();
            let mut sha1 = digest::git_hasher("blob", len);
            for start in (0..len).step_by(PIECE_LEN) {
                let end = len.min(start + PIECE_LEN as u64);
                sha1.update(store.read_range(hash, &blob, start..end)?);
            }
            Ok(GitId::from_bytes(sha1.finalize().into()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::store::tests::content;

    #[tokio::test]
    async fn what_could_not_be_made_durable_once_is_not_believed_later() {
        let data = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&data.path().join("catalog")).unwrap().catalog;
        let store = Store::open(data.path(), catalog).await.unwrap();
        let bytes = content(3 * protocol::SHARD_LEN);
        let stage = || store.stage(&mut bytes.as_slice(), bytes.len() as u64, &|_| {});
        let staged = Arc::new(stage().unwrap());
        let Held::File(fresh) = &staged.held else {
            panic!("large content lies in a file");
        };
        // A device has no fsync: as a disk that loses what it was to write.
        let (file, aside) = (&fresh.moves[1].0, data.path().join("aside"));
        std::fs::rename(file, &aside).unwrap();
        std::os::unix::fs::symlink("/dev/null", file).unwrap();
        store.settle_staged(vec![staged.clone()]).await.unwrap_err();
        std::fs::rename(&aside, file).unwrap();
        assert!(!staged.is_there());
        store.settle_staged(vec![staged.clone()]).await.unwrap_err();
        let hash = staged.digests.blake3;
        assert!(!store.file_path(hash).exists());

        let again = Arc::new(stage().unwrap());
        store.settle_staged(vec![again.clone()]).await.unwrap();
        assert!(again.is_there() && store.seems_whole(hash, bytes.len() as u64).unwrap());
    }
}
