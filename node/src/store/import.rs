//! Taking in the files of a publish: each is read once, and stays where it is unless a copy is wanted.

use super::{
    Fresh, Store, StoreError, blocking, digest,
    digest::{DigestError, Digests},
    make_parent,
    source::SourceFile,
};
use crate::{
    catalog::Stamp,
    limits::{SMALL_LEN, WHOLE_LEN},
};
use bytes::Bytes;
use protocol::Hash;
use std::{fs::File, io::Write, path::Path};
use tempfile::TempPath;

/// Prefix of files that were not finished; they are removed at the next start.
const UNFINISHED: &str = ".unfinished-";

/// What a publish has taken in, not yet durable.
#[derive(Default)]
pub(crate) struct Import {
    fresh: Vec<Fresh>,
}

/// One file that was read.
pub(crate) struct Taken {
    /// Its digests.
    pub(crate) digests: Digests,
    /// What it looked like before and after.
    pub(crate) stamp: Stamp,
    /// How it is kept.
    pub(crate) how: How,
}

/// How a file is kept.
pub(crate) enum How {
    /// As a row, put by [`Store::put_small`].
    Small(Bytes),
    /// Where it lies.
    Reference(SourceFile),
    /// As a row or a file of ours that needs nothing more.
    Copy,
}

impl Import {
    /// Reads one file and prepares to keep it. Blocking; many may run at once.
    ///
    /// - `git`: told the length, answers whether the git id is wanted.
    /// - [`StoreError::Moving`]: it changed while it was read.
    pub(crate) fn file(
        store: &Store,
        path: &Path,
        git: impl Fn(u64) -> bool,
        copy: bool,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(Taken, Option<Fresh>), StoreError> {
        let mut file = File::open(path).map_err(StoreError::io(path))?;
        let before = Stamp::of(&file.metadata().map_err(StoreError::io(path))?);
        let len = before.len;
        let (digests, small, fresh) = if len <= WHOLE_LEN {
            let mut bytes = vec![0; len as usize + 1];
            let read = digest::read_full(&mut file, &mut bytes).map_err(StoreError::io(path))?;
            bytes.truncate(read);
            seen(read as u64);
            let digests = digest::of_bytes(&bytes, git(len));
            if len <= SMALL_LEN {
                (digests, Some(Bytes::from(bytes)), None)
            } else if copy && digests.len == len {
                let fresh = store.fresh_bytes(digests.blake3, &bytes)?;
                (digests, None, Some(fresh))
            } else {
                (digests, None, None)
            }
        } else {
            let (digests, fresh) = store.read_big(path, &mut file, len, git(len), copy, seen)?;
            (digests, None, Some(fresh))
        };
        let after = path.metadata().map(|metadata| Stamp::of(&metadata));
        if digests.len != len || after.map_err(StoreError::io(path))? != before {
            return Err(StoreError::Moving {
                path: path.to_owned(),
            });
        }
        let how = match small {
            Some(bytes) => How::Small(bytes),
            None if copy => How::Copy,
            None => How::Reference(SourceFile {
                path: path.to_owned(),
                blake3: digests.blake3,
                len,
                mtime_ns: before.mtime_ns,
                inode: before.inode,
            }),
        };
        Ok((
            Taken {
                digests,
                stamp: before,
                how,
            },
            fresh,
        ))
    }

    /// Takes in bytes of more than one shard from memory. Blocking.
    pub(crate) fn bytes(&mut self, store: &Store, bytes: &[u8]) -> Result<(), StoreError> {
        let (mut data, path) = store.unfinished()?;
        data.write_all(bytes).map_err(StoreError::io(&path))?;
        let mut file = File::open(&path).map_err(StoreError::io(&path))?;
        let (digests, fresh) = store.read_big(&path, &mut file, bytes.len() as u64, false, false, &|_| {})?;
        let place = store.file_path(digests.blake3);
        self.fresh.push(fresh);
        self.fresh.push(Fresh::unfinished(vec![(path, place)]));
        Ok(())
    }

    /// Adds what [`Import::file`] prepared.
    pub(crate) fn add(&mut self, fresh: Fresh) {
        self.fresh.push(fresh);
    }

    /// Makes all of it durable and gives it its names.
    pub(crate) async fn settle(self, store: &Store) -> Result<(), StoreError> {
        store.settle(self.fresh).await
    }
}

impl Store {
    /// Makes a file that is removed when its path is dropped, or at the next start.
    pub(crate) fn unfinished(&self) -> Result<(File, TempPath), StoreError> {
        let folder = self.0.folder.join("files");
        let made = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&folder);
        Ok(made.map_err(StoreError::io(&folder))?.into_parts())
    }

    pub(super) fn fresh_bytes(&self, hash: Hash, bytes: &[u8]) -> Result<Fresh, StoreError> {
        let (mut file, path) = self.unfinished()?;
        file.write_all(bytes).map_err(StoreError::io(&path))?;
        let place = self.file_path(hash);
        make_parent(&place)?;
        Ok(Fresh::unfinished(vec![(path, place)]))
    }

    /// Reads a file of more than one shard, and makes its outboard and, where asked, a copy of it.
    pub(super) fn read_big(
        &self,
        path: &Path,
        file: &mut File,
        len: u64,
        git: bool,
        copy: bool,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(Digests, Fresh), StoreError> {
        let (outboard, outboard_path) = self.unfinished()?;
        let copied = copy.then(|| self.unfinished()).transpose()?;
        let digests = digest::of_file(
            file,
            len,
            git,
            &outboard,
            copied.as_ref().map(|(file, _)| file),
            seen,
        );
        let digests = digests.map_err(|error| match error {
            DigestError::Read(error) => StoreError::io(path)(error),
            DigestError::Write(error) => StoreError::io(&outboard_path)(error),
        })?;
        let hash = digests.blake3;
        let place = self.file_path(hash);
        make_parent(&place)?;
        let mut moves = vec![(outboard_path, self.outboard_path(hash))];
        moves.extend(copied.map(|(_, path)| (path, place)));
        Ok((digests, Fresh::unfinished(moves)))
    }

    /// Makes the outboard of a blob anew from its file; `false` where the file is not the blob. Blocking.
    pub(crate) fn renew_outboard(&self, hash: Hash, len: u64, path: &Path) -> Result<bool, StoreError> {
        let mut file = File::open(path).map_err(StoreError::io(path))?;
        let (digests, fresh) = self.read_big(path, &mut file, len, false, false, &|_| {})?;
        if digests.len != len || digests.blake3 != hash {
            return Ok(false);
        }
        self.settle_now(&[fresh])?;
        Ok(true)
    }

    /// Settles an import off the async threads and records the references it made.
    pub(crate) async fn record(&self, manifest: Hash, files: Vec<SourceFile>) -> Result<(), StoreError> {
        let store = self.clone();
        blocking(move || {
            if files.is_empty() {
                return Ok(());
            }
            store.put_source(manifest, &super::Source { files: files.clone() })?;
            store.0.catalog.write(|batch| {
                for file in &files {
                    batch.put_place(file.blake3, &file.place())?;
                }
                Ok(())
            })?;
            Ok(())
        })
        .await
    }
}
