//! Why the store could not do what was asked.

use protocol::Hash;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why bytes could not be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no. Ours or the operator's to mend.
    #[error("{path}", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room. Nothing that was acknowledged is touched; free space and go on.
    #[error("the disk of {path} is full ({free} bytes free)", path = path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// Bytes free on that disk when it failed.
        free: u64,
    },
    /// More room is needed than there is; nothing was written.
    #[error("{need} bytes are needed in {folder} and {free} are free", folder = folder.display())]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// Bytes needed, with what is kept free.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// More would be kept than the operator allows; nothing was written.
    #[error("{need} bytes more do not fit into the quota of {quota} bytes, of which {used} are taken")]
    OverQuota {
        /// What all blobs together may take, in bytes.
        quota: u64,
        /// What they take, in bytes.
        used: u64,
        /// Bytes needed.
        need: u64,
    },
    /// The blob database failed.
    #[error("the blob database: {0}")]
    Database(String),
    /// The catalog failed.
    #[error("the catalog")]
    Catalog(#[from] crate::catalog::CatalogError),
    /// We do not have the blob.
    #[error("{0} is not in the store")]
    Missing(Hash),
    /// A file seeded from where it lies is not the one that was published.
    #[error("{path} is not the file that was published as {blob}", path = path.display())]
    Changed {
        /// What it was.
        blob: Hash,
        /// Where it lies.
        path: PathBuf,
    },
    /// A file changed while it was being read; the user's to settle.
    #[error("{path} changed while it was read", path = path.display())]
    Moving {
        /// Which file.
        path: PathBuf,
    },
    /// Bytes on our disk are not what they were.
    #[error("{blob} is damaged at byte {offset}")]
    Damaged {
        /// Which blob.
        blob: Hash,
        /// The first bad 16 KiB group, in bytes from the start of the blob.
        offset: u64,
    },
    /// A blob is larger than the reader is ready for.
    #[error("{blob} has {len} bytes, more than {max}")]
    TooLong {
        /// Which blob.
        blob: Hash,
        /// Its length in bytes.
        len: u64,
        /// The most that was wanted.
        max: u64,
    },
    /// A folder record or another file of ours does not read.
    #[error("{path}: {why}", path = path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A manifest states another length than the blob has: the manifest lies, whoever signed it.
    #[error("{blob} has {actual} bytes, and a manifest says {len}")]
    WrongLen {
        /// Which blob.
        blob: Hash,
        /// What the manifest says, in bytes.
        len: u64,
        /// What it is, in bytes.
        actual: u64,
    },
    /// A manifest states another digest than the file has: the manifest lies, whoever signed it.
    #[error(
        "{path} has the {what} {actual}, not {claimed} as its publisher says: it is not given out by that name; shoal fetch gets it by its own"
    )]
    FalseDigest {
        /// The file's path in the repo.
        path: String,
        /// Which digest.
        what: &'static str,
        /// What the manifest says, in hex.
        claimed: String,
        /// What it is, in hex.
        actual: String,
    },
    /// A task of ours ended before its time: the node is shutting down.
    #[error("the store is shutting down")]
    Closed,
}

impl StoreError {
    /// Names the path in an I/O error, and tells a full disk from the rest.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
        move |source| {
            if crate::durable::is_full(&source) {
                let folder = path.parent().unwrap_or(path);
                StoreError::Full {
                    path: path.to_owned(),
                    free: crate::durable::free_space(folder).unwrap_or(0),
                }
            } else {
                StoreError::Io {
                    path: path.to_owned(),
                    source,
                }
            }
        }
    }

    /// Wraps what iroh-blobs says; a full disk inside it is told apart by its words, for it gives no type.
    pub(crate) fn database(error: impl std::fmt::Display) -> StoreError {
        StoreError::Database(format!("{error:#}"))
    }
}
