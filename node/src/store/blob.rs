//! Reading: a blob is found wherever it lies, and what it gives is verified.

use super::{Fresh, Store, StoreError, blocking, make_parent, row_hash, tree, walk};
use crate::{
    catalog::{Place, PlaceKind, Stamp},
    limits::{SMALL_LEN, WHOLE_LEN},
};
use bytes::Bytes;
use protocol::{ChainingValue, Hash, shard};
use std::{
    fs::{self, File, Permissions},
    io::{self, Read},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A blob that can be read.
#[derive(Clone, Debug)]
pub(crate) enum Blob {
    /// At most one shard, verified whole.
    Memory(Bytes),
    /// More than one shard: every piece is verified as it is read.
    File(Arc<walk::FileBlob>, PathBuf),
    /// More than one shard, some of them still missing.
    Growing(Arc<super::Part>),
}

impl Blob {
    /// Returns the length of the blob in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Blob::Memory(bytes) => bytes.len() as u64,
            Blob::File(file, _) => file.len,
            Blob::Growing(part) => part.blob.len,
        }
    }
}

/// Where a blob's file lies.
pub(crate) enum Lies {
    /// In our own folder.
    Owned(PathBuf),
    /// Where the user has it.
    Reference(PathBuf, Stamp),
}

impl Store {
    /// Finds a blob. What is at most one shard long is read and verified here, the rest as it is used.
    ///
    /// [`StoreError::Missing`] where we do not have it, [`StoreError::Changed`] or [`StoreError::Damaged`] where what we had
    /// is not there any more; these two are reported to the operator.
    pub(crate) async fn blob(&self, hash: Hash) -> Result<Blob, StoreError> {
        if hash == Hash::EMPTY {
            return Ok(Blob::Memory(Bytes::new()));
        }
        let row = self.0.rows.blobs().get_bytes(row_hash(hash)).await;
        match row {
            Ok(bytes) if Hash::of(&bytes) == hash => return Ok(Blob::Memory(bytes)),
            _ => {
                if self
                    .0
                    .rows
                    .blobs()
                    .has(row_hash(hash))
                    .await
                    .map_err(StoreError::database)?
                {
                    self.report_damage(hash, "its row in the blob database does not verify".into());
                    return Err(StoreError::Damaged {
                        blob: hash,
                        offset: 0,
                    });
                }
            }
        }
        let store = self.clone();
        blocking(move || store.find(hash)).await
    }

    /// Finds a blob that is no row: settled, being fetched, or whole and not settled yet.
    fn find(&self, hash: Hash) -> Result<Blob, StoreError> {
        // Twice: it may be given its name after we looked for that, and before we looked where it was.
        for _ in 0..2 {
            if let Some(blob) = self.file_blob(hash)? {
                return Ok(blob);
            }
            if let Some(part) = self.growing(hash) {
                return Ok(Blob::Growing(part));
            }
            if let Some(bytes) = self.unsettled(hash)? {
                return Ok(Blob::Memory(bytes));
            }
        }
        Err(StoreError::Missing(hash))
    }

    /// Returns where a blob's file lies, whether or not it is still the right one; `None` for a blob without a file.
    pub(crate) fn lies(&self, hash: Hash) -> Result<Option<Lies>, StoreError> {
        let path = self.file_path(hash);
        if path.exists() {
            return Ok(Some(Lies::Owned(path)));
        }
        Ok(match self.0.catalog.place(hash)? {
            Some(Place {
                kind: PlaceKind::Reference { path, stamp },
                ..
            }) => Some(Lies::Reference(path, stamp)),
            _ => None,
        })
    }

    /// Tells whether a blob of `len` bytes, which is not a small one, is whole by what the file system says of it.
    pub(crate) fn seems_whole(&self, hash: Hash, len: u64) -> Result<bool, StoreError> {
        Ok(match self.lies(hash)? {
            Some(Lies::Owned(path)) => path.metadata().is_ok_and(|metadata| metadata.len() == len),
            Some(Lies::Reference(path, stamp)) => path
                .metadata()
                .is_ok_and(|metadata| Stamp::of(&metadata) == stamp),
            None => false,
        })
    }

    /// Tells whether some of a blob is here.
    pub(crate) fn is_begun(&self, hash: Hash) -> bool {
        self.part_path(hash).exists()
    }

    /// Bytes that the growing file of a blob takes on the disk, about; 0 where there is none.
    pub(crate) fn begun_len(&self, hash: Hash) -> u64 {
        let metadata = self.part_path(hash).metadata();
        metadata.map_or(0, |metadata| metadata.blocks().saturating_mul(512))
    }

    /// Makes a blob whose bytes are not right any more one that is being fetched, keeping what is right of it. Blocking.
    ///
    /// The bytes are believed, not whoever called them bad or another length: where they are right nothing is touched and
    /// the answer is `true`.
    pub(crate) fn demote(&self, hash: Hash, len: u64) -> Result<bool, StoreError> {
        let (path, owned) = match self.lies(hash)? {
            None => return Ok(false),
            Some(Lies::Owned(path)) => (path, true),
            Some(Lies::Reference(path, _)) => (path, false),
        };
        let metadata = path.metadata().ok().filter(fs::Metadata::is_file);
        if let Some(metadata) = metadata
            && self.is_right(hash, metadata.len(), &path)?
        {
            let actual = metadata.len();
            if actual != len {
                return Err(StoreError::WrongLen {
                    blob: hash,
                    len,
                    actual,
                });
            }
            if !owned {
                let stamp = Stamp::of(&metadata);
                let kind = PlaceKind::Reference { path, stamp };
                self.0
                    .catalog
                    .write(|batch| batch.put_place(hash, &Place { len, kind }))?;
            }
            self.mended(hash);
            return Ok(true);
        }
        self.let_go(hash);
        let part = self.part_path(hash);
        if owned && len > WHOLE_LEN {
            fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(StoreError::io(&path))?;
            fs::rename(&path, &part).map_err(StoreError::io(&part))?;
        } else if owned {
            crate::durable::remove(&path).map_err(StoreError::io(&path))?;
        } else {
            if len > WHOLE_LEN && path.is_file() {
                make_parent(&part)?;
                // What of the user's file is still right is not fetched again; a copy that fails costs only that.
                if fs::copy(&path, &part).is_ok() {
                    fs::set_permissions(&part, Permissions::from_mode(0o600))
                        .map_err(StoreError::io(&part))?;
                }
            }
            self.0.catalog.write(|batch| {
                batch.remove_place(hash);
                Ok(())
            })?;
        }
        Ok(false)
    }

    /// Tells whether a file is a blob, by its bytes; a tree beside it that is not right is made anew.
    fn is_right(&self, hash: Hash, len: u64, path: &Path) -> Result<bool, StoreError> {
        if len <= WHOLE_LEN {
            return Ok(fs::read(path).is_ok_and(|bytes| Hash::of(&bytes) == hash));
        }
        match self.renew_outboard(hash, len, path) {
            Err(error @ (StoreError::Full { .. } | StoreError::Catalog(_))) => Err(error),
            other => Ok(other.unwrap_or(false)),
        }
    }

    /// Returns a whole blob of at most one shard that a fetch brought and has not settled, if it is right. Blocking.
    pub(crate) fn left_whole(&self, hash: Hash, len: u64) -> Result<Option<Fresh>, StoreError> {
        let left = self.unsettled(hash)?.filter(|bytes| bytes.len() as u64 == len);
        Ok(left.map(|_| Fresh::found(vec![(self.part_path(hash), self.file_path(hash))])))
    }

    /// Reads such a blob, verified; `None` for one that is longer, not right or not there.
    fn unsettled(&self, hash: Hash) -> Result<Option<Bytes>, StoreError> {
        let path = self.part_path(hash);
        let read = || {
            let file = File::open(&path)?;
            let len = file.metadata()?.len();
            let mut bytes = Vec::new();
            if len <= WHOLE_LEN {
                file.take(len).read_to_end(&mut bytes)?;
            }
            Ok::<_, io::Error>(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(Bytes::from(bytes)).filter(|bytes| Hash::of(bytes) == hash)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path)(error)),
        }
    }

    /// Tells whether a blob of more than one shard has its outboard.
    pub(crate) fn has_outboard(&self, hash: Hash) -> bool {
        self.outboard_path(hash).exists()
    }

    /// Opens the outboard of a blob of more than one shard to compare it with its bytes. Blocking.
    pub(crate) fn outboard(&self, hash: Hash, len: u64) -> Option<tree::Outboard> {
        let file = (len > WHOLE_LEN)
            .then(|| File::open(self.outboard_path(hash)).ok())
            .flatten()?;
        Some(tree::Outboard {
            file,
            spoiled: false.into(),
        })
    }

    /// Returns the chaining values of a blob's shards from its outboard, checked up to the blob's name; none for a blob of
    /// at most one shard. Blocking.
    pub(crate) fn shard_values(&self, hash: Hash, len: u64) -> Result<Vec<ChainingValue>, StoreError> {
        if len <= WHOLE_LEN {
            return Ok(Vec::new());
        }
        let path = self.outboard_path(hash);
        let outboard = File::open(&path).map_err(StoreError::io(&path))?;
        let mut values = vec![[0; 32]; shard::shard_count(len) as usize];
        let read = tree::read_shards(len, &mut values, &mut |at| {
            let mut pair = [0; 64];
            outboard.read_exact_at(&mut pair, at).map(|()| pair)
        });
        read.map_err(StoreError::io(&path))?;
        let values: Vec<ChainingValue> = values.into_iter().map(ChainingValue::from_bytes).collect();
        if shard::root_of_shards(len, &values) != Some(hash) {
            return Err(StoreError::Damaged {
                blob: hash,
                offset: 0,
            });
        }
        Ok(values)
    }

    fn file_blob(&self, hash: Hash) -> Result<Option<Blob>, StoreError> {
        let Some(lies) = self.lies(hash)? else {
            return Ok(None);
        };
        let opened = match &lies {
            Lies::Owned(path) => File::open(path).map_err(StoreError::io(path)),
            Lies::Reference(path, stamp) => open_unchanged(hash, path, stamp),
        };
        let path = match lies {
            Lies::Owned(path) | Lies::Reference(path, _) => path,
        };
        let found = opened.and_then(|file| self.open_blob(hash, file, &path));
        match &found {
            Err(StoreError::Changed { .. }) => {
                self.report_damage(hash, format!("{} changed", path.display()))
            }
            Err(StoreError::Damaged { .. }) => {
                self.report_damage(hash, format!("{} is damaged", path.display()))
            }
            _ => {}
        }
        found.map(Some)
    }

    fn open_blob(&self, hash: Hash, mut file: File, path: &Path) -> Result<Blob, StoreError> {
        let len = file.metadata().map_err(StoreError::io(path))?.len();
        if len > WHOLE_LEN {
            let outboard = self.outboard_path(hash);
            let outboard = File::open(&outboard).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => StoreError::Damaged {
                    blob: hash,
                    offset: 0,
                },
                _ => StoreError::io(&outboard)(error),
            })?;
            let blob = walk::FileBlob {
                hash,
                len,
                data: file,
                outboard,
            };
            return Ok(Blob::File(Arc::new(blob), path.to_owned()));
        }
        let mut bytes = Vec::with_capacity(len as usize);
        file.by_ref()
            .take(WHOLE_LEN + 1)
            .read_to_end(&mut bytes)
            .map_err(StoreError::io(path))?;
        if Hash::of(&bytes) != hash {
            return Err(StoreError::Damaged {
                blob: hash,
                offset: 0,
            });
        }
        Ok(Blob::Memory(bytes.into()))
    }

    /// Reads a whole blob of at most `max` bytes into memory, verified.
    pub(crate) async fn read(&self, hash: Hash, max: u64) -> Result<Bytes, StoreError> {
        let blob = self.blob(hash).await?;
        let len = blob.len();
        if len > max {
            return Err(StoreError::TooLong { blob: hash, len, max });
        }
        let store = self.clone();
        blocking(move || store.read_range(hash, &blob, 0..len)).await
    }

    /// Reads a range of a blob, verified. Blocking; the caller bounds the range.
    ///
    /// [`StoreError::Missing`] where not all of it has come yet.
    pub(crate) fn read_range(&self, hash: Hash, blob: &Blob, range: Range<u64>) -> Result<Bytes, StoreError> {
        let range = range.start.min(blob.len())..range.end.min(blob.len());
        let (file, path) = match blob {
            Blob::Memory(bytes) => return Ok(bytes.slice(range.start as usize..range.end as usize)),
            Blob::File(file, path) => (file, path.as_path()),
            Blob::Growing(part) if part.has(range.clone()) => (&part.blob, part.path.as_path()),
            Blob::Growing(_) => return Err(StoreError::Missing(hash)),
        };
        let group = protocol::GROUP_LEN;
        let start = range.start / group * group;
        let end = range.end.div_ceil(group) * group;
        let mut out = Vec::with_capacity((end.min(file.len) - start) as usize);
        let mut encoder =
            walk::Encoder::new(file, walk::chunks(&(start..end), file.len)).map_err(StoreError::io(path))?;
        loop {
            match encoder.piece(&mut out, false) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let error = error.of(hash, path);
                    if let (StoreError::Damaged { offset, .. }, Blob::File(..)) = (&error, blob) {
                        self.report_damage(hash, format!("{} is damaged at byte {offset}", path.display()));
                    }
                    return Err(error);
                }
            }
        }
        let bytes = Bytes::from(out);
        Ok(bytes.slice((range.start - start) as usize..(range.end - start) as usize))
    }
}

/// Opens a file that was published from where it lies, if it is the same by length, time and inode.
fn open_unchanged(blob: Hash, path: &Path, stamp: &Stamp) -> Result<File, StoreError> {
    let changed = || StoreError::Changed {
        blob,
        path: path.to_owned(),
    };
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => changed(),
        _ => StoreError::io(path)(error),
    })?;
    let metadata = file.metadata().map_err(StoreError::io(path))?;
    if Stamp::of(&metadata) == *stamp {
        Ok(file)
    } else {
        Err(changed())
    }
}

const _: () = assert!(SMALL_LEN <= WHOLE_LEN);
