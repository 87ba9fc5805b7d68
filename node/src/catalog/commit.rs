//! How changes get in and become durable: one writer at a time, one fsync for all who wait for one, and what happens when either fails.

use std::sync::{PoisonError, RwLockWriteGuard};

use super::batch::Batch;
use super::engine::{Change, Engine, Fault};
use super::mark::Mark;
use super::opening::{self, META_COMMITS, META_COMPLETE};
use super::{CATALOG_ROOM, CatalogError, Inner, Live, Writer, check_room, lock, read_lock};

/// Bytes of log that sled may write for each byte of a batch: pages are written anew when they are split.
const WRITE_FACTOR: u64 = 8;

/// Free space that it takes to open the database again after a full disk, in bytes: more than a write needs, so that it does not fill while it is closed.
const REVIVE_ROOM: u64 = 4 * CATALOG_ROOM;

/// How far the database and the disk are.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Transactions in the database.
    pub(super) applied: u64,
    /// Transactions on disk, and in the generation file.
    pub(super) durable: u64,
    /// Somebody is at the fsync.
    pub(super) leading: bool,
    /// How often the database was opened: numbers of transactions mean something only within one.
    pub(super) epoch: u64,
    /// The catalog was built to its end.
    pub(super) complete: bool,
    /// Why nothing is written at present.
    pub(super) trouble: Option<Trouble>,
    /// [`super::Catalog::seal`] was called.
    pub(super) sealed: bool,
    /// Rounds of fsync, for tests of their sharing.
    pub(super) rounds: u64,
}

/// Why nothing is written.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The disk was full; opening the database anew mends it.
    Full,
    /// Only a rebuild mends it.
    Broken(String),
}

/// What must be durable before a write is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    epoch: u64,
    commits: u64,
}

impl Inner {
    /// Runs `fill` and applies what it collected.
    pub(super) fn apply<R>(
        &self,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<R, CatalogError>,
    ) -> Result<(R, Written), CatalogError> {
        let mut writer = lock(&self.writer);
        self.ready(&mut writer)?;
        let live = read_lock(&self.engine);
        let engine = &live.as_ref().ok_or(CatalogError::Closed)?.engine;
        let mut batch = Batch::new(engine, &self.folder);
        let answer = fill(&mut batch).inspect_err(|error| self.note(error))?;
        let len = batch.len();
        let transactions = batch.into_transactions()?;
        if !transactions.is_empty() {
            let need = len.saturating_mul(WRITE_FACTOR);
            check_room(&self.folder, CATALOG_ROOM.saturating_add(need))?;
        }
        for changes in transactions {
            self.transact(&mut writer, engine, changes)?;
        }
        let written = Written {
            epoch: lock(&self.progress).epoch,
            commits: writer.commits,
        };
        Ok((answer, written))
    }

    /// Applies one transaction, which counts itself.
    fn transact(
        &self,
        writer: &mut Writer,
        engine: &Engine,
        mut changes: Vec<Change>,
    ) -> Result<(), CatalogError> {
        let commits = writer.commits + 1;
        changes.push(opening::meta(META_COMMITS, commits));
        engine.apply(&changes).map_err(|fault| self.trouble(fault))?;
        writer.commits = commits;
        lock(&self.progress).applied = commits;
        Ok(())
    }

    /// Waits until `written` is on disk, or brings it there for all who wait.
    pub(super) fn make_durable(&self, written: Written) -> Result<(), CatalogError> {
        let mut progress = lock(&self.progress);
        loop {
            if progress.epoch != written.epoch {
                return Err(CatalogError::Lost);
            }
            if progress.durable >= written.commits {
                return Ok(());
            }
            if let Some(trouble) = progress.trouble.clone() {
                drop(progress);
                return Err(self.refusal(trouble));
            }
            if progress.leading {
                let waited = self.moved_on.wait(progress);
                progress = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            progress.leading = true;
            drop(progress);
            let outcome = self.lead();
            progress = lock(&self.progress);
            progress.leading = false;
            self.moved_on.notify_all();
            outcome?;
        }
    }

    /// One round: everything applied by now becomes durable, then is marked so.
    fn lead(&self) -> Result<(), CatalogError> {
        // Held to the end, so that the numbers stay those of this database.
        let live = read_lock(&self.engine);
        let Live { engine, incarnation } = live.as_ref().ok_or(CatalogError::Closed)?;
        let target = lock(&self.progress).applied;
        let synced = engine.sync().and_then(|()| {
            let mut file = lock(&self.mark);
            let mark = Mark {
                incarnation: *incarnation,
                commits: target,
                suspect: file.mark().is_some_and(|mark| mark.suspect),
            };
            file.write(mark).map_err(Fault::Io)
        });
        synced.map_err(|fault| self.trouble(fault))?;
        let mut progress = lock(&self.progress);
        progress.durable = progress.durable.max(target);
        progress.rounds += 1;
        Ok(())
    }

    /// Sees to it that a write can be taken, opening the database anew after a full disk.
    fn ready(&self, writer: &mut Writer) -> Result<(), CatalogError> {
        let progress = lock(&self.progress);
        if progress.sealed {
            return Err(CatalogError::Closed);
        }
        match progress.trouble.clone() {
            None => Ok(()),
            Some(Trouble::Full) => {
                drop(progress);
                self.revive(writer)
            }
            Some(broken @ Trouble::Broken(_)) => {
                drop(progress);
                Err(self.refusal(broken))
            }
        }
    }

    /// Opens the database again: after an error of its own it takes no writes, and may show rows that are on no disk.
    fn revive(&self, writer: &mut Writer) -> Result<(), CatalogError> {
        check_room(&self.folder, REVIVE_ROOM)?;
        let mut live = self.engine_alone();
        live.take();
        let engine = Engine::open(&opening::database(&self.folder)).map_err(|fault| self.trouble(fault))?;
        let marked = lock(&self.mark).mark().unwrap_or_default();
        let counted = opening::counted(&engine).map_err(|fault| self.trouble(fault))?;
        let mut progress = lock(&self.progress);
        let torn = !progress.complete && counted.commits < progress.applied;
        if counted.incarnation != marked.incarnation || counted.commits < marked.commits || torn {
            drop(progress);
            let what = "rows were lost on a full disk".to_owned();
            return Err(self.trouble(Fault::Damaged(what)));
        }
        writer.commits = counted.commits;
        *progress = Progress {
            applied: counted.commits,
            durable: marked.commits,
            leading: progress.leading,
            epoch: progress.epoch + 1,
            complete: progress.complete,
            ..Progress::default()
        };
        *live = Some(Live {
            engine,
            incarnation: counted.incarnation,
        });
        self.moved_on.notify_all();
        tracing::info!("catalog reopened: there is room again");
        Ok(())
    }

    /// Throws everything away and begins a new database.
    pub(super) fn begin_anew(&self) -> Result<(), CatalogError> {
        let mut writer = lock(&self.writer);
        if lock(&self.progress).sealed {
            return Err(CatalogError::Closed);
        }
        let mut live = self.engine_alone();
        // Without this a failure below would leave an old mark and a database that fits it.
        lock(&self.progress).complete = false;
        live.take();
        let mut file = lock(&self.mark);
        let broken = matches!(lock(&self.progress).trouble, Some(Trouble::Broken(_)));
        opening::clear(&self.folder, broken)?;
        let (begun, commits) = opening::begin(&self.folder, &mut file)?;
        drop(file);
        writer.commits = commits;
        let mut progress = lock(&self.progress);
        *progress = Progress {
            applied: commits,
            durable: commits,
            leading: progress.leading,
            epoch: progress.epoch + 1,
            ..Progress::default()
        };
        *live = Some(begun);
        self.moved_on.notify_all();
        Ok(())
    }

    pub(super) fn set_complete(&self) -> Result<(), CatalogError> {
        let mut writer = lock(&self.writer);
        self.ready(&mut writer)?;
        let live = read_lock(&self.engine);
        let engine = &live.as_ref().ok_or(CatalogError::Closed)?.engine;
        self.transact(&mut writer, engine, vec![opening::meta(META_COMPLETE, 1)])?;
        let mut progress = lock(&self.progress);
        progress.complete = true;
        let written = Written {
            epoch: progress.epoch,
            commits: writer.commits,
        };
        drop(progress);
        drop(live);
        drop(writer);
        self.make_durable(written)
    }

    pub(super) fn close(&self) -> Result<(), CatalogError> {
        let writer = lock(&self.writer);
        let mut progress = lock(&self.progress);
        if progress.sealed {
            return Ok(());
        }
        progress.sealed = true;
        let written = Written {
            epoch: progress.epoch,
            commits: writer.commits,
        };
        drop(progress);
        let outcome = self.make_durable(written);
        self.engine_alone().take();
        outcome
    }

    /// Takes down that the catalog is damaged, if the error says so: writes are refused from now on, and the next open will know.
    pub(super) fn note(&self, error: &CatalogError) {
        let CatalogError::Damaged { what } = error else {
            return;
        };
        let mut progress = lock(&self.progress);
        if matches!(progress.trouble, Some(Trouble::Broken(_))) {
            return;
        }
        progress.trouble = Some(Trouble::Broken(what.clone()));
        drop(progress);
        self.moved_on.notify_all();
        tracing::error!(%what, "catalog is damaged and must be rebuilt");
        let mut file = lock(&self.mark);
        let mark = Mark {
            suspect: true,
            ..file.mark().unwrap_or_default()
        };
        if let Err(error) = file.write(mark) {
            tracing::warn!(%error, "generation file cannot be written");
        }
    }

    /// Takes down a fault of a write, and says it as an error.
    fn trouble(&self, fault: Fault) -> CatalogError {
        let error = match fault {
            Fault::Full => {
                let mut progress = lock(&self.progress);
                progress.trouble.get_or_insert(Trouble::Full);
                drop(progress);
                self.moved_on.notify_all();
                return CatalogError::full(&self.folder, CATALOG_ROOM);
            }
            Fault::Damaged(what) => CatalogError::Damaged { what },
            // What a failed write or fsync left on disk is unknown, and the next fsync would not tell.
            Fault::Io(error) => CatalogError::Damaged {
                what: format!("its file cannot be written: {error}"),
            },
            Fault::InUse => CatalogError::Damaged {
                what: "somebody else took its lock".to_owned(),
            },
        };
        self.note(&error);
        error
    }

    /// A trouble taken down before, as an error for the next who asks.
    pub(super) fn refusal(&self, trouble: Trouble) -> CatalogError {
        match trouble {
            Trouble::Full => CatalogError::full(&self.folder, CATALOG_ROOM),
            Trouble::Broken(what) => CatalogError::Damaged { what },
        }
    }

    fn engine_alone(&self) -> RwLockWriteGuard<'_, Option<Live>> {
        self.engine.write().unwrap_or_else(PoisonError::into_inner)
    }
}
