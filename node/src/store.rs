//! The bytes on disk, and our word that they are there.
//!
//! A blob of at most 16 KiB is a row of iroh-blobs' `FsStore`. A larger one is a file: in `files/` when it is ours, or where
//! the user has it when it was published by reference; above 1 MiB it has an outboard beside it. Nothing is given out that
//! was not verified on the way, and nothing is acknowledged that a power cut could take: [`Store::settle`] makes the files
//! durable, [`Store::pin`] the rows, in this order.
//!
//! The store looks references up in the catalog, which can be rebuilt from `sources/`; otherwise it knows nobody.

mod blob;
mod claims;
mod collect;
pub(crate) mod digest;
mod error;
mod groups;
mod held;
mod import;
mod part;
mod room;
mod source;
mod stage;
mod tags;
mod tree;
pub(crate) mod walk;

pub(crate) use blob::{Blob, Lies};
pub(crate) use claims::begin as begin_proof;
pub use error::StoreError;
pub(crate) use held::Held;
pub(crate) use import::{How, Import};
pub(crate) use part::Part;
pub(crate) use room::Room;
pub(crate) use source::{Source, SourceFile};
pub(crate) use stage::{StageError, Staged};
pub(crate) use tree::{Outboard, shard_values};

use crate::{
    catalog::Catalog,
    durable,
    limits::{SMALL_LEN, SYNC_EACH_MAX, WHOLE_LEN},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use iroh_blobs::{api::TempTag, store::fs::FsStore};
use protocol::{Hash, Manifest};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak, atomic::AtomicU64},
};
use tempfile::TempPath;
use tracing::warn;

/// A node's bytes. A cheap handle.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    rows: FsStore,
    folder: PathBuf,
    catalog: Catalog,
    parts: Mutex<HashMap<Hash, Weak<Part>>>,
    damaged: Mutex<BTreeMap<Hash, String>>,
    held: Mutex<Vec<Weak<Hash>>>,
    gate: tokio::sync::RwLock<()>,
    settling: Mutex<()>,
    /// The turn of whoever hashes a blob again for what a manifest says of it.
    proving: Arc<tokio::sync::Mutex<()>>,
    quota: AtomicU64,
    /// Bytes of the disk that fetches and publishes under way will take.
    set_aside: Mutex<u64>,
    collector: tokio::sync::mpsc::Sender<collect::Ask>,
}

/// Keeps blobs that nothing names yet from collection until it is dropped.
#[derive(Default)]
pub(crate) struct Kept(Vec<TempTag>);

/// Keeps a collection from running while something is published.
pub(crate) type Writing<'a> = tokio::sync::RwLockReadGuard<'a, ()>;

impl Kept {
    /// Keeps the blobs of another one too.
    pub(crate) fn append(&mut self, mut other: Kept) {
        self.0.append(&mut other.0);
    }
}

impl Store {
    /// Opens the store below `data`, makes what is missing, and sweeps what a crash left.
    pub(crate) async fn open(data: &Path, catalog: Catalog) -> Result<Store, StoreError> {
        let folder = data.to_owned();
        let swept = folder.clone();
        blocking(move || sweep(&swept)).await?;
        let root = folder.join("store");
        let (collector, asks) = tokio::sync::mpsc::channel(1);
        let rows = collect::open_rows(&root, asks).await?;
        Ok(Store(Arc::new(Inner {
            rows,
            folder,
            catalog,
            parts: Mutex::default(),
            damaged: Mutex::default(),
            held: Mutex::default(),
            gate: tokio::sync::RwLock::new(()),
            settling: Mutex::new(()),
            proving: Arc::default(),
            quota: AtomicU64::new(u64::MAX),
            set_aside: Mutex::default(),
            collector,
        })))
    }

    /// Stops the database. What was settled and pinned is durable already.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.0.rows.shutdown().await {
            warn!(%error, "closing the blob database");
        }
    }

    /// Holds collection off while blobs arrive that nothing names yet.
    pub(crate) async fn writing(&self) -> Writing<'_> {
        self.0.gate.read().await
    }

    /// Returns where a blob's own file lies, complete.
    pub(crate) fn file_path(&self, hash: Hash) -> PathBuf {
        let name = hash.to_string();
        self.0.folder.join("files").join(&name[..2]).join(name)
    }

    fn outboard_path(&self, hash: Hash) -> PathBuf {
        self.file_path(hash).with_extension("outboard")
    }

    fn part_path(&self, hash: Hash) -> PathBuf {
        self.file_path(hash).with_extension("part")
    }

    /// Puts small blobs into the database. They are durable once [`Store::pin`] returned.
    pub(crate) async fn put_small(&self, mut blobs: Vec<Bytes>) -> Result<Kept, StoreError> {
        debug_assert!(blobs.iter().all(|blob| blob.len() as u64 <= SMALL_LEN));
        // The database refuses as busy whoever puts one blob too often at once.
        let mut seen = HashSet::new();
        blobs.retain(|blob| seen.insert(Hash::of(blob)));
        let api = self.0.rows.blobs();
        let tags = futures::stream::iter(blobs)
            .map(|blob| async move { api.add_bytes(blob).temp_tag().await.map_err(StoreError::database) })
            .buffer_unordered(256)
            .try_collect()
            .await?;
        Ok(Kept(tags))
    }

    /// Keeps the verified bytes of a blob that is no small one and of at most one shard, as a file that has to be settled.
    pub(crate) async fn put_middling(&self, hash: Hash, bytes: Bytes) -> Result<Fresh, StoreError> {
        let store = self.clone();
        blocking(move || store.put_part(hash, &bytes)).await
    }

    /// Keeps verified bytes in the file of a fetch. What is there already is never replaced while it is right, for somebody
    /// may be settling it.
    fn put_part(&self, hash: Hash, bytes: &[u8]) -> Result<Fresh, StoreError> {
        let part = self.part_path(hash);
        make_parent(&part)?;
        loop {
            if let Some(fresh) = self.left_whole(hash, bytes.len() as u64)? {
                return Ok(fresh);
            }
            let (mut file, path) = self.unfinished()?;
            file.write_all(bytes).map_err(StoreError::io(&path))?;
            match path.persist_noclobber(&part) {
                Ok(()) => return Ok(Fresh::found(vec![(part, self.file_path(hash))])),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                    self.drop_torn(hash, bytes.len() as u64)?;
                }
                Err(error) => return Err(StoreError::io(&part)(error.error)),
            }
        }
    }

    /// Removes the file of a fetch unless it is right: a power cut tore it, or somebody just brought it.
    fn drop_torn(&self, hash: Hash, len: u64) -> Result<(), StoreError> {
        // Alone, so that it is not one that another put in its place since we looked.
        let _turn = self
            .0
            .settling
            .lock()
            .expect("nothing panics while it holds this");
        if self.left_whole(hash, len)?.is_none() {
            let part = self.part_path(hash);
            durable::remove(&part).map_err(StoreError::io(&part))?;
        }
        Ok(())
    }

    /// Keeps the encoding of a manifest, of any size, durable but not pinned.
    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        let bytes = Bytes::from(manifest.encode());
        let hash = manifest.hash();
        let len = bytes.len() as u64;
        if len <= SMALL_LEN {
            kept = self.put_small(vec![bytes]).await?;
        } else if len <= WHOLE_LEN {
            let fresh = self.put_middling(hash, bytes).await?;
            self.settle(vec![fresh]).await?;
        } else {
            let mut import = self.import();
            let store = self.clone();
            blocking(move || {
                import.bytes(&store, &bytes)?;
                Ok(import)
            })
            .await?
            .settle(self)
            .await?;
        }
        Ok(kept)
    }

    /// Begins to take in files of a publish.
    pub(crate) fn import(&self) -> Import {
        Import::default()
    }

    /// Opens the growing file of a blob of more than one shard; two callers get the same one. Blocking.
    pub(crate) fn part(&self, hash: Hash, len: u64) -> Result<Arc<Part>, StoreError> {
        let same = |part: Arc<Part>| match part.blob.len {
            actual if actual == len => Ok(part),
            actual => Err(StoreError::WrongLen {
                blob: hash,
                len,
                actual,
            }),
        };
        if let Some(part) = self.growing(hash) {
            return same(part);
        }
        let path = self.part_path(hash);
        make_parent(&path)?;
        // Opening verifies what is there and may take a while: nobody else waits for it.
        let part = Arc::new(Part::open(hash, len, path, self.outboard_path(hash))?);
        let mut parts = self.0.parts.lock().expect("nothing panics while it holds this");
        if let Some(first) = parts.get(&hash).and_then(Weak::upgrade) {
            return same(first);
        }
        parts.retain(|_, part| part.strong_count() > 0);
        parts.insert(hash, Arc::downgrade(&part));
        Ok(part)
    }

    /// Forgets a growing file: what it says of its shards is not true any more.
    fn let_go(&self, hash: Hash) {
        self.0
            .parts
            .lock()
            .expect("nothing panics while it holds this")
            .remove(&hash);
    }

    /// Returns a blob's growing file when a fetch has it open.
    fn growing(&self, hash: Hash) -> Option<Arc<Part>> {
        let parts = self.0.parts.lock().expect("nothing panics while it holds this");
        parts.get(&hash).and_then(Weak::upgrade)
    }

    /// Makes finished files durable and gives them their names: data and outboards first, then names, then folders.
    ///
    /// May be called again and again while a fetch goes on; a blob that is named twice, or has its name already, is no error.
    pub(crate) async fn settle(&self, fresh: Vec<Fresh>) -> Result<(), StoreError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let store = self.clone();
        blocking(move || store.settle_now(&fresh)).await
    }

    /// The same, blocking. One at a time: whoever finds a name in its place may rely on its being durable.
    fn settle_now<'a>(&self, fresh: impl IntoIterator<Item = &'a Fresh>) -> Result<(), StoreError> {
        let _turn = self
            .0
            .settling
            .lock()
            .expect("nothing panics while it holds this");
        settle(&self.0.folder, fresh)
    }

    /// Names a finished part for [`Store::settle`]; it can be read until then and after.
    pub(crate) fn finished(&self, part: &Arc<Part>) -> Fresh {
        let moves = vec![
            (part.outboard_path.clone(), part.outboard_path.clone()),
            (part.path.clone(), self.file_path(part.blob.hash)),
        ];
        Fresh {
            _part: Some(part.clone()),
            ..Fresh::found(moves)
        }
    }

    /// Makes every row and mark that was put before durable.
    ///
    /// The database gathers rows for half a second, or a thousand of them, and then commits them with one fsync; this ends the
    /// gathering at once. Without it a power cut or a kill takes the rows of that time, and nothing else. A fetch of many small
    /// blobs calls it every few MiB: it costs about one fsync, however many rows there are.
    pub(crate) async fn sync_rows(&self) -> Result<(), StoreError> {
        self.0.rows.sync_db().await.map_err(StoreError::database)
    }

    /// Returns which of these small blobs the database has.
    pub(crate) async fn has_small(&self, wanted: &[Hash]) -> Result<HashSet<Hash>, StoreError> {
        let api = self.0.rows.blobs();
        if wanted.len() > 1_000 {
            let all = api.list().hashes().await.map_err(StoreError::database)?;
            let all: HashSet<Hash> = all
                .into_iter()
                .map(|hash| Hash::from_bytes(*hash.as_bytes()))
                .collect();
            return Ok(wanted.iter().copied().filter(|hash| all.contains(hash)).collect());
        }
        let mut has = HashSet::new();
        for hash in wanted {
            if api.has(row_hash(*hash)).await.map_err(StoreError::database)? {
                has.insert(*hash);
            }
        }
        Ok(has)
    }

    /// Notes that a blob on our disk is not what it was, for the operator and for the mending.
    pub(crate) fn report_damage(&self, hash: Hash, what: String) {
        warn!(blob = %hash.short(), what, "damaged blob: not served until it is fetched again");
        let mut damaged = self.0.damaged.lock().expect("nothing panics while it holds this");
        if damaged.len() < 10_000 {
            damaged.insert(hash, what);
        }
    }

    /// Tells whether a blob is known to be damaged.
    pub(crate) fn is_damaged(&self, hash: Hash) -> bool {
        self.0
            .damaged
            .lock()
            .expect("nothing panics while it holds this")
            .contains_key(&hash)
    }

    /// Takes a blob off the list of damaged ones.
    pub(crate) fn mended(&self, hash: Hash) {
        self.0
            .damaged
            .lock()
            .expect("nothing panics while it holds this")
            .remove(&hash);
    }

    /// Returns the blobs known to be damaged, with what was found.
    pub(crate) fn damaged(&self) -> BTreeMap<Hash, String> {
        self.0
            .damaged
            .lock()
            .expect("nothing panics while it holds this")
            .clone()
    }
}

/// Finished files that are not durable and have not got their names yet.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// From where to where each of its files goes; to its own place when the name is right already.
    moves: Vec<(PathBuf, PathBuf)>,
    /// Files that go away with this unless they got their names.
    _unfinished: Vec<TempPath>,
    /// Keeps a finished part readable until it is settled.
    _part: Option<Arc<Part>>,
}

impl Fresh {
    /// Files that are worth keeping even when they never get their names.
    fn found(moves: Vec<(PathBuf, PathBuf)>) -> Fresh {
        Fresh {
            moves,
            _unfinished: Vec::new(),
            _part: None,
        }
    }

    /// Files that are worth nothing without their names.
    fn unfinished(files: Vec<(TempPath, PathBuf)>) -> Fresh {
        let moves = files
            .iter()
            .map(|(from, to)| (from.to_path_buf(), to.clone()))
            .collect();
        Fresh {
            moves,
            _unfinished: files.into_iter().map(|(from, _)| from).collect(),
            _part: None,
        }
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| StoreError::Closed)?
}

fn row_hash(hash: Hash) -> iroh_blobs::Hash {
    iroh_blobs::Hash::from_bytes(*hash.as_bytes())
}

fn make_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().expect("files lie in a folder");
    if !parent.is_dir() {
        durable::create_folders(parent).map_err(StoreError::io(parent))?;
    }
    Ok(())
}

/// The order matters: a name must never be durable before what it names.
fn settle<'a>(folder: &Path, fresh: impl IntoIterator<Item = &'a Fresh>) -> Result<(), StoreError> {
    // A blob may have come twice, and another fetch may have brought and named it meanwhile: one move for each place.
    let mut places = HashSet::new();
    let moves: Vec<&(PathBuf, PathBuf)> = fresh
        .into_iter()
        .flat_map(|fresh| &fresh.moves)
        .filter(|(from, to)| from == to || from.exists() || !to.exists())
        .filter(|(_, to)| places.insert(to))
        .collect();
    sync_all(folder, moves.iter().map(|(from, _)| from.as_path()))?;
    let mut folders = BTreeSet::new();
    for (from, to) in moves {
        if from != to {
            let mode = if to.extension().is_none() { 0o444 } else { 0o600 };
            fs::set_permissions(from, Permissions::from_mode(mode)).map_err(StoreError::io(from))?;
            fs::rename(from, to).map_err(StoreError::io(to))?;
        }
        folders.extend(to.parent().map(Path::to_owned));
    }
    sync_all(folder, folders.iter().map(PathBuf::as_path))
}

/// Makes files or folders durable: one by one, or all of the file system at once where they are many.
pub(crate) fn sync_all<'a>(
    folder: &Path,
    paths: impl Iterator<Item = &'a Path> + Clone,
) -> Result<(), StoreError> {
    if paths.clone().count() > SYNC_EACH_MAX {
        let file = fs::File::open(folder).map_err(StoreError::io(folder))?;
        return rustix::fs::syncfs(&file).map_err(|error| StoreError::io(folder)(error.into()));
    }
    for path in paths {
        durable::sync_file(path).map_err(StoreError::io(path))?;
    }
    Ok(())
}

/// Makes the folders, and removes what an interrupted import of `FsStore` or of ours left behind.
fn sweep(data: &Path) -> Result<(), StoreError> {
    for name in ["store", "files", "sources"] {
        let folder = data.join(name);
        durable::create_folders(&folder).map_err(StoreError::io(&folder))?;
    }
    let temp = data.join("store").join("temp");
    if let Ok(left) = fs::read_dir(&temp) {
        for entry in left.flatten() {
            fs::remove_file(entry.path()).map_err(StoreError::io(&entry.path()))?;
        }
    }
    for folder in ["sources", "files"].map(|name| data.join(name)) {
        durable::sweep_unfinished(&folder).map_err(StoreError::io(&folder))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one run is meant")]
pub(crate) mod tests;
