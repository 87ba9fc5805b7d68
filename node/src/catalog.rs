//! The catalog: what we know of repos, manifests, blobs' places, files' digests and providers, and of the releases of others. A cache: all of it can be rebuilt.
//!
//! sled 0.34.7 stands behind it, known by `catalog/engine.rs` alone. Every call **blocks**, some for an fsync: use a blocking pool. A [`Catalog`] is
//! a handle; clone it freely. It doesn't know the store, the release files or the network: whoever opens it rebuilds it when told to.
//!
//! **Promise.** When [`Catalog::write`] returns `Ok`, its changes survive `kill -9` and a power cut. sled's `flush()` does not fsync, so three steps
//! follow each other: sled writes out, its `db` file is fsynced, and the *generation* file beside it gets the number of transactions that are now
//! durable (a 64-byte write in place and `fdatasync`). Writers that come while these run share the next round: group commit.
//!
//! **Noticing loss.** sled opens an emptied or cut-off database without an error. Every transaction therefore counts up a number within sled, and
//! the generation file is written *after* sled's fsync and *before* the acknowledgement: at open sled's number below the file's means that something
//! acknowledged is gone ([`OpenState::Stale`]). The file also names the database by a random number, so that one from elsewhere or from before a rebuild is
//! not believed either, and holds a flag for damage found while running. Writing it with each round costs one `fdatasync` a round, not a write, and
//! leaves no window in which a loss goes unnoticed. A rebuild counts only once [`Catalog::rebuilt`] was called; interrupted, it is stale.
//!
//! **Noticing damage.** At open up to 50,000 rows are read and decoded; what lies beyond is met by a read, which then fails with
//! [`CatalogError::Damaged`]. From there on the catalog refuses writes until [`Catalog::clear_for_rebuild`], and the next open says
//! [`OpenState::Damaged`] even after a crash.
//!
//! **Full disk.** Before sled is touched the free space is compared with what the write may need, because sled can lose its head on a disk that fills
//! under it. If it fills all the same, the write fails with [`CatalogError::StorageFull`] and reads go on (unless the disk fills a second time in the
//! moment of reopening); the first write that finds 16 MiB free reopens the database. No restart is needed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::durable;

mod batch;
mod commit;
mod engine;
mod known;
mod mark;
mod opening;
mod packed;
mod reads;
mod record;
mod reserve;
#[cfg(test)]
mod tests;

pub use batch::{BATCH_CHANGES_MAX, Batch, TRANSACTION_CHANGES_MAX};
pub use known::{KNOWN_ROW_LEN_MAX, KnownItem, KnownRow, NameKey, Tally, name_key};
pub use reads::PAGE_ROWS_MAX;
pub use record::{
    ADDRESS_LEN_MAX, Digest, ManifestRow, NAMES_MAX, PEER_LEN_MAX, PROVIDER_ADDRESSES_MAX, PROVIDERS_MAX,
    Place, PlaceKind, Provider, RepoRow, STORED_PATH_LEN_MAX, Stamp, Sums,
};
pub use reserve::{RESERVE_HIGH_WATER, RESERVE_LEN, RESERVE_LOW_WATER, Reserve, ReserveError};

use commit::Progress;
use engine::{Engine, Fault};
use mark::MarkFile;
use record::Table;

/// Free space that a write or an open needs at least, in bytes: sled's next eight segments of 512 KiB.
pub const CATALOG_ROOM: u64 = 4 * 1024 * 1024;

/// A handle on the catalog. See the module's own words for what it promises.
#[derive(Clone)]
pub struct Catalog(Arc<Inner>);

/// What [`Catalog::open`] gives: an open catalog, and whether it can be believed.
#[derive(Debug)]
pub struct Opened {
    /// The catalog. Empty unless the state is [`OpenState::Good`].
    pub catalog: Catalog,
    /// What was found.
    pub state: OpenState,
}

/// What was found where the catalog should be. All but `Good` mean: it is empty now, put everything in, then call [`Catalog::rebuilt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenState {
    /// All that was acknowledged is there.
    Good,
    /// There was no catalog.
    Missing,
    /// It had lost something, was another one, or its rebuild was not finished. It was removed.
    Stale,
    /// It could not be read. It was moved aside, to `catalog.damaged-N` beside the catalog's folder, where at most two are kept.
    Damaged {
        /// What could not be read.
        why: String,
    },
}

/// Why the catalog could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Another process has it open.
    #[error("catalog {folder} is open in another process")]
    InUse {
        /// The catalog's folder.
        folder: PathBuf,
    },
    /// There is no room. Reads work, and so do writes once there is.
    #[error("no room for the catalog: {need} bytes are needed, {have} are free")]
    StorageFull {
        /// Bytes that must be free.
        need: u64,
        /// Bytes that are free.
        have: u64,
    },
    /// It does not hold what was put in it. Nothing is written any more: call [`Catalog::clear_for_rebuild`] and rebuild.
    #[error("catalog is damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The catalog was opened anew before this write was on disk: whether it is in it is unknown. Write it again.
    #[error("catalog was opened anew before the write was on disk")]
    Lost,
    /// [`Catalog::seal`] was called.
    #[error("catalog is closed")]
    Closed,
    /// A row breaks its bounds. The caller's fault; nothing was written.
    #[error("catalog does not take {what}")]
    Unfit {
        /// What it does not take.
        what: String,
    },
    /// The system refused.
    #[error("catalog {folder} cannot be used")]
    Io {
        /// The catalog's folder.
        folder: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Locks are taken in the order of the fields; `engine` is write-locked only under `writer`, so a closure under `writer` may read.
struct Inner {
    folder: PathBuf,
    /// Serialises writes.
    writer: Mutex<Writer>,
    /// `None`: closed, by [`Catalog::seal`] or by trouble.
    engine: RwLock<Option<Live>>,
    mark: Mutex<MarkFile>,
    progress: Mutex<Progress>,
    /// Told whenever `progress` changes.
    moved_on: Condvar,
}

struct Writer {
    /// Transactions in the database.
    commits: u64,
}

struct Live {
    engine: Engine,
    incarnation: u64,
}

impl Catalog {
    /// Opens the catalog in `folder`, which is made if it is missing. Where the state is not [`OpenState::Good`], it is empty and waits to be filled.
    ///
    /// Call [`Reserve::open`] first: on a full disk it makes room.
    ///
    /// # Errors
    /// - [`CatalogError::InUse`]: another process has it open; said after two seconds.
    /// - [`CatalogError::StorageFull`]: less than [`CATALOG_ROOM`] is free. Nothing was touched.
    /// - [`CatalogError::Io`]: the folder can't be used.
    pub fn open(folder: &Path) -> Result<Opened, CatalogError> {
        durable::create_folders(folder).map_err(|source| CatalogError::io(folder, source))?;
        check_room(folder, CATALOG_ROOM)?;
        let (inner, state) = opening::open(folder)?;
        let catalog = Catalog(Arc::new(inner));
        Ok(Opened { catalog, state })
    }

    /// Changes rows. When this returns, all of it is durable.
    ///
    /// `fill` collects the changes and may read, through the batch or the catalog; it must not write. No other write runs at the same time, so that
    /// what it read still holds. If it fails, nothing is written. A batch of up to [`TRANSACTION_CHANGES_MAX`] changes is applied whole or not at
    /// all; a larger one in several such steps, so that a crash leaves a part of it that names nothing missing.
    ///
    /// # Errors
    /// That of `fill`, and any [`CatalogError`] but `InUse`.
    pub fn write<R>(
        &self,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<R, CatalogError>,
    ) -> Result<R, CatalogError> {
        let (answer, written) = self.0.apply(fill)?;
        self.0.make_durable(written)?;
        Ok(answer)
    }

    /// Changes rows, without waiting for the disk: a crash within the next half second, or a disk that fills, may take the changes back. For what can be
    /// found out again, and for the bulk of a rebuild, for which [`Catalog::rebuilt`] answers.
    ///
    /// # Errors
    /// As [`Catalog::write`].
    pub fn write_soon<R>(
        &self,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<R, CatalogError>,
    ) -> Result<R, CatalogError> {
        self.0.apply(fill).map(|(answer, _)| answer)
    }

    /// Empties the catalog, for a rebuild; a damaged one is moved aside. Until [`Catalog::rebuilt`] it counts as stale.
    ///
    /// # Errors
    /// [`CatalogError::StorageFull`], [`CatalogError::Closed`] and [`CatalogError::Io`]. If it fails half-way, call it again.
    pub fn clear_for_rebuild(&self) -> Result<(), CatalogError> {
        self.0.begin_anew()
    }

    /// Says that everything is in the catalog again. When this returns, the next open finds it [`OpenState::Good`].
    ///
    /// # Errors
    /// As [`Catalog::write`]. [`CatalogError::Damaged`] also where the disk was full in between and rows were lost: clear it and start again.
    pub fn rebuilt(&self) -> Result<(), CatalogError> {
        self.0.set_complete()
    }

    /// Makes everything durable and closes the catalog for all its handles; later calls fail with [`CatalogError::Closed`]. Its lock is free on return.
    ///
    /// # Errors
    /// As [`Catalog::write`]; it is closed all the same.
    pub fn seal(&self) -> Result<(), CatalogError> {
        self.0.close()
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = &self.0.folder;
        f.debug_struct("Catalog").field("folder", folder).finish()
    }
}

impl CatalogError {
    fn io(folder: &Path, source: io::Error) -> CatalogError {
        if durable::is_full(&source) {
            return CatalogError::full(folder, CATALOG_ROOM);
        }
        let folder = folder.to_owned();
        CatalogError::Io { folder, source }
    }

    fn full(folder: &Path, need: u64) -> CatalogError {
        let have = durable::free_space(folder).unwrap_or(0);
        CatalogError::StorageFull { need, have }
    }

    fn of(folder: &Path, fault: Fault) -> CatalogError {
        match fault {
            Fault::InUse => CatalogError::InUse {
                folder: folder.to_owned(),
            },
            Fault::Full => CatalogError::full(folder, CATALOG_ROOM),
            Fault::Damaged(what) => CatalogError::Damaged { what },
            Fault::Io(source) => CatalogError::io(folder, source),
        }
    }
}

/// Refuses where less than `need` bytes are free. Where that can't be told, it is not asked.
fn check_room(folder: &Path, need: u64) -> Result<(), CatalogError> {
    match durable::free_space(folder) {
        Ok(have) if have < need => Err(CatalogError::StorageFull { need, have }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Reads a pair as a row of its table.
fn decode<T: Table>(key: &[u8], value: &[u8]) -> Result<(T::OwnedKey, T::Row), CatalogError> {
    T::decode(key, value).map_err(|record::Unreadable| unreadable(T::TREE))
}

fn unreadable(tree: engine::Tree) -> CatalogError {
    let what = format!("a row of {tree:?} is unreadable");
    CatalogError::Damaged { what }
}

/// Locks, whether or not somebody panicked under the lock: what it guards is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_lock<T>(shared: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    shared.read().unwrap_or_else(PoisonError::into_inner)
}
