//! The only file that knows sled: eight trees of bytes, opened, read in pages, changed by one transaction, made durable.
//!
//! sled's errors become [`Fault`]s here, and so do its panics: it asserts in many places what a damaged file does not keep.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use crate::durable;

/// sled's page cache, in bytes: the working set of 100,000 repos.
const CACHE_LEN: u64 = 64 * 1024 * 1024;

/// How often sled writes out by itself, in milliseconds: the most that an unpromised write can lose.
const FLUSH_EVERY_MS: u64 = 500;

/// How long we wait for sled's lock: a handle just dropped lets go of it a little later.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How long to wait between two tries for the lock.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// A tree of the database. The order is that in which a batch too large for one transaction is written: what is named before what names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tree {
    Meta,
    Digests,
    Sums,
    Places,
    Providers,
    Known,
    Manifests,
    Repos,
}

impl Tree {
    pub(super) const ALL: [Tree; 8] = [
        Tree::Meta,
        Tree::Digests,
        Tree::Sums,
        Tree::Places,
        Tree::Providers,
        Tree::Known,
        Tree::Manifests,
        Tree::Repos,
    ];

    fn name(self) -> &'static str {
        match self {
            Tree::Meta => "meta",
            Tree::Digests => "digests",
            Tree::Sums => "sums",
            Tree::Places => "places",
            Tree::Providers => "providers",
            Tree::Known => "known",
            Tree::Manifests => "manifests",
            Tree::Repos => "repos",
        }
    }
}

/// What went wrong below us, sorted by what there is to do about it.
#[derive(Debug)]
pub(super) enum Fault {
    /// Somebody else has the database open.
    InUse,
    /// There is no room. The database is sound, and must be opened again before it takes another write.
    Full,
    /// The database does not hold what was put in it.
    Damaged(String),
    /// The system refused; whether what was written is on disk is unknown.
    Io(io::Error),
}

/// One change: put, or with no value remove.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) tree: Tree,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// A key and its value.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// An open database. Dropping it writes out what it holds, without a promise.
pub(super) struct Engine {
    /// `None` only while it is dropped.
    open: Option<Open>,
}

struct Open {
    trees: [sled::Tree; 8],
    db: sled::Db,
    /// Our own handle on sled's file: `flush()` alone calls `sync_file_range`, which a power cut does not respect.
    file: File,
}

impl Engine {
    /// Opens the database in `folder`, or makes one; waits a little where somebody has it open. Its files' names are durable on return.
    pub(super) fn open(folder: &Path) -> Result<Engine, Fault> {
        let deadline = Instant::now() + LOCK_WAIT;
        let db = loop {
            match guarded(|| config(folder).open()) {
                Err(Fault::InUse) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
                outcome => break outcome?,
            }
        };
        let trees = Tree::ALL.map(|tree| guarded(|| db.open_tree(tree.name())));
        let [a, b, c, d, e, f, g, h] = trees;
        let trees = [a?, b?, c?, d?, e?, f?, g?, h?];
        let file = File::open(folder.join("db"))?;
        durable::sync_file(&folder.join("conf"))?;
        durable::sync_folder(folder)?;
        let engine = Engine {
            open: Some(Open { trees, db, file }),
        };
        Ok(engine)
    }

    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let tree = self.tree(tree);
        guarded(|| Ok(tree.get(key)?.map(|value| value.to_vec())))
    }

    /// Up to `limit` pairs in the order of their keys, of those that start with `prefix` and come after `after`.
    pub(super) fn page(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, Fault> {
        let tree = self.tree(tree);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(prefix.to_vec()),
        };
        guarded(|| {
            let mut pairs = Vec::new();
            for pair in tree.range((start.clone(), Bound::Unbounded)).take(limit) {
                let (key, value) = pair?;
                if !key.starts_with(prefix) {
                    break;
                }
                pairs.push((key.to_vec(), value.to_vec()));
            }
            Ok(pairs)
        })
    }

    /// Applies changes as one transaction over all trees: after a crash all of them are there, or none. Not yet durable.
    pub(super) fn apply(&self, changes: &[Change]) -> Result<(), Fault> {
        let mut used = Tree::ALL.to_vec();
        used.retain(|tree| changes.iter().any(|change| change.tree == *tree));
        let trees: Vec<&sled::Tree> = used.iter().map(|tree| self.tree(*tree)).collect();
        let outcome = guarded(|| {
            Ok(trees.as_slice().transaction(|views| {
                for change in changes {
                    let view = used.iter().position(|tree| *tree == change.tree);
                    let view = &views[view.expect("every changed tree is in the list")];
                    match &change.value {
                        Some(value) => view.insert(change.key.as_slice(), value.as_slice())?,
                        None => view.remove(change.key.as_slice())?,
                    };
                }
                Ok::<(), ConflictableTransactionError<()>>(())
            }))
        })?;
        match outcome {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(error)) => Err(error.into()),
            Err(TransactionError::Abort(())) => unreachable!("nothing in the closure aborts"),
        }
    }

    /// Makes everything applied so far durable: sled writes it out, then the file is fsynced.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        let open = self.opened();
        guarded(|| open.db.flush())?;
        // Whatever this error is, even "full": the pages may be lost, and no later fsync would say so.
        open.file.sync_all().map_err(Fault::Io)
    }

    fn tree(&self, tree: Tree) -> &sled::Tree {
        &self.opened().trees[tree as usize]
    }

    fn opened(&self) -> &Open {
        self.open.as_ref().expect("open until dropped")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // sled unwraps the fsync of its last words.
        let open = self.open.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(open)));
    }
}

fn config(folder: &Path) -> sled::Config {
    sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_LEN)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .mode(sled::Mode::LowSpace)
}

/// Runs a piece of sled; a panic in it is damage.
fn guarded<T>(run: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.map_err(Fault::from),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Fault::Damaged(format!(
                "the database gave up: {}",
                text.unwrap_or("no reason given")
            )))
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        if durable::is_full(&error) {
            return Fault::Full;
        }
        Fault::Io(error)
    }
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Fault {
        let error = match error {
            sled::Error::Io(error) => error,
            other => return Fault::Damaged(other.to_string()),
        };
        // sled has no error of its own for this, only a text.
        if error.to_string().starts_with("could not acquire lock") {
            return Fault::InUse;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                Fault::Damaged(error.to_string())
            }
            _ => error.into(),
        }
    }
}
