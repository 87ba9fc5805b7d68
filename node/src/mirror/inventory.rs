//! What the mirror answers for, on disk: `mirrored` in the data folder. What is on this list it may drop; what is not is somebody else's.
//!
//! ```text
//! shoal mirror 1 BLAKE3-of-the-rest
//! {"kept":[{"repo":…,"manifest":…,"seq":…,"issued":…,"bytes":…}],"let_go":[…]}
//! ```
//! An entry is durable before the first byte of it is asked for, and goes only after the last one is gone. The hash is there because a flipped bit
//! could name something of the user's: a file that is not what was written is refused whole, and then the mirror neither fetches nor drops anything.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::Hash;

use crate::durable;

mod list;

pub(crate) use list::{Dropping, Kept, List};
use list::{KEPT_MAX, LET_GO_MAX};

/// Longest file, in bytes: 1,024 for each entry.
pub(crate) const INVENTORY_LEN_MAX: u64 = 24 * 1024 * 1024;

/// How the first line begins.
const HEADING: &str = "shoal mirror 1 ";

/// Why the list can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The file is not what was written.
    #[error("{} is damaged ({why}): nothing is mirrored or dropped until it is removed; what it lists is yours then", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is full.
    #[error("{KEPT_MAX} revisions are mirrored, and that is the most")]
    TooMany,
    /// There is no room.
    #[error("no room for {}", path.display())]
    StorageFull {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// The list. A handle: clone it freely. Reading does not touch the disk; changes block, for two fsyncs.
#[derive(Clone, Debug)]
pub(crate) struct Inventory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// What is on disk; an error is why it does not read.
    written: Mutex<Result<List, String>>,
    /// Held from the look whose something is until it is let go, or from the claim until it is the user's.
    turn: tokio::sync::Mutex<()>,
}

impl Inventory {
    /// Reads `data/mirrored`; a missing one is empty, and one that does not read is refused at each use. It is read again then, so that
    /// removing it is enough.
    pub(crate) fn open(data: &Path) -> Inventory {
        let path = data.join("mirrored");
        let written = Mutex::new(load(&path));
        Inventory(Arc::new(Inner {
            path,
            written,
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// The turn of whoever lets go of something, or claims it.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    /// All entries.
    ///
    /// # Errors
    /// [`InventoryError::Damaged`].
    pub(crate) fn all(&self) -> Result<Vec<Kept>, InventoryError> {
        self.read(|written| written.kept.clone())
    }

    /// The manifests of entries that are not being dropped: what of them is here must stay.
    ///
    /// # Errors
    /// [`InventoryError::Damaged`].
    pub(crate) fn staying(&self) -> Result<Vec<Hash>, InventoryError> {
        self.read(|written| {
            let staying = written.kept.iter().filter(|kept| !kept.going);
            staying.map(|kept| kept.manifest).collect()
        })
    }

    /// Whether the user let a manifest go.
    pub(crate) fn was_let_go(&self, manifest: Hash) -> bool {
        self.read(|written| written.let_go.contains(&manifest))
            .unwrap_or(false)
    }

    /// Adds an entry, or puts it into the place of the one of the same revision and name.
    ///
    /// # Errors
    /// Every variant. Nothing is changed then.
    pub(crate) fn add(&self, kept: Kept) -> Result<(), InventoryError> {
        self.change(|list| list.add(kept).map_err(|list::Full| InventoryError::TooMany))
    }

    /// The user wants a manifest: it is on the list no more, nor among what was let go. `false`: it was on neither.
    ///
    /// # Errors
    /// Every variant but `TooMany`. Nothing is changed then.
    pub(crate) fn claim(&self, manifest: Hash) -> Result<bool, InventoryError> {
        self.change(|list| Ok(list.claim(manifest)))
    }

    /// The user lets a manifest go: it is on the list no more, and not wanted again.
    ///
    /// # Errors
    /// Every variant but `TooMany`. Nothing is changed then.
    pub(crate) fn let_go(&self, manifest: Hash) -> Result<(), InventoryError> {
        self.change(|list| {
            list.let_go(manifest);
            Ok(())
        })
    }

    /// These may be wanted again.
    ///
    /// # Errors
    /// Every variant but `TooMany`. Nothing is changed then.
    pub(crate) fn want_again(&self, manifests: &[Hash]) -> Result<(), InventoryError> {
        self.change(|list| {
            list.let_go.retain(|let_go| !manifests.contains(let_go));
            Ok(())
        })
    }

    /// Takes entries off the list that are not to be `ours` any more: what of them is here is the user's. Those that are being dropped stay.
    ///
    /// # Errors
    /// Every variant but `TooMany`. Nothing is changed then.
    pub(crate) fn keep_only(&self, ours: impl Fn(&Kept) -> bool) -> Result<(), InventoryError> {
        self.change(|list| {
            list.kept.retain(|kept| kept.going || ours(kept));
            Ok(())
        })
    }

    /// Begins to drop an entry; the turn must be held.
    ///
    /// # Errors
    /// Every variant but `TooMany`. Nothing is changed then.
    pub(crate) fn begin_drop(&self, dropped: &Kept) -> Result<Dropping, InventoryError> {
        self.change(|list| Ok(list.begin_drop(dropped)))
    }

    /// The bytes of all that was being dropped are gone.
    ///
    /// # Errors
    /// Every variant but `TooMany`. Nothing is changed then.
    pub(crate) fn gone(&self) -> Result<(), InventoryError> {
        self.change(|list| {
            list.gone();
            Ok(())
        })
    }

    fn read<T>(&self, read: impl FnOnce(&List) -> T) -> Result<T, InventoryError> {
        let mut held = self.lock();
        if held.is_err() {
            *held = load(&self.0.path);
        }
        match &*held {
            Ok(written) => Ok(read(written)),
            Err(why) => Err(self.damaged(why)),
        }
    }

    /// Changes a copy, and writes it if it differs; what is on disk counts.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut List) -> Result<T, InventoryError>,
    ) -> Result<T, InventoryError> {
        let mut held = self.lock();
        if held.is_err() {
            *held = load(&self.0.path);
        }
        let written = held.as_ref().map_err(|why| self.damaged(why))?;
        let mut changed = written.clone();
        let answer = change(&mut changed)?;
        if changed != *written {
            self.store(&changed)?;
            *held = Ok(changed);
        }
        Ok(answer)
    }

    fn damaged(&self, why: &str) -> InventoryError {
        InventoryError::Damaged {
            path: self.0.path.clone(),
            why: why.to_owned(),
        }
    }

    fn store(&self, written: &List) -> Result<(), InventoryError> {
        let path = &self.0.path;
        let json = serde_json::to_vec(written).map_err(|error| io_error(path, error.into()))?;
        let mut bytes = format!("{HEADING}{}\n", Hash::of(&json)).into_bytes();
        bytes.extend(json);
        durable::write_atomic(path, &bytes).map_err(|source| io_error(path, source))
    }

    fn lock(&self) -> MutexGuard<'_, Result<List, String>> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path) -> Result<List, String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(List::default()),
        file => file.map_err(|error| error.to_string())?,
    };
    let mut bytes = Vec::new();
    let read = file.take(INVENTORY_LEN_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > INVENTORY_LEN_MAX {
        return Err(format!("it is longer than {INVENTORY_LEN_MAX} bytes"));
    }
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<List, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (heading, json) = bytes.split_at(end.ok_or("it has no first line")?);
    let json = json.get(1..).unwrap_or_default();
    let hash = std::str::from_utf8(heading)
        .ok()
        .and_then(|heading| heading.strip_prefix(HEADING))
        .ok_or("it does not begin as it should")?;
    if hash != Hash::of(json).to_string() {
        return Err("it is not what its first line says".to_owned());
    }
    let written: List = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if written.kept.len() > KEPT_MAX || written.let_go.len() > LET_GO_MAX {
        return Err("it lists too much".to_owned());
    }
    Ok(written)
}

fn io_error(path: &Path, source: io::Error) -> InventoryError {
    let full = durable::is_full(&source);
    let path = path.to_owned();
    match full {
        true => InventoryError::StorageFull { path },
        false => InventoryError::Io { path, source },
    }
}

#[cfg(test)]
mod tests;
