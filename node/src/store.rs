//! The bytes on disk, and our word that they are there.
//!
//! A blob of at most 16 KiB is a row of iroh-blobs' `FsStore`. A larger one is a file: in `files/` when it is ours, or where
//! the user has it when it was published by reference; above 1 MiB it has an outboard beside it. Nothing is given out that
//! was not verified on the way, and nothing is acknowledged that a power cut could take: [`Store::settle`] makes the files
//! durable, [`Store::pin`] the rows, in this order.
//!
//! The store looks references up in the catalog, which can be rebuilt from `sources/`; otherwise it knows nobody.

mod blob;
mod collect;
pub(crate) mod digest;
mod error;
mod import;
mod part;
mod source;
mod tree;
pub(crate) mod walk;

pub(crate) use blob::{Blob, Lies};
pub use error::StoreError;
pub(crate) use import::{How, Import};
pub(crate) use part::Part;
pub(crate) use source::{Source, SourceFile};
pub(crate) use tree::{Outboard, shard_values};

use crate::{
    catalog::Catalog,
    durable,
    limits::{SMALL_LEN, SYNC_EACH_MAX, WHOLE_LEN},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use iroh_blobs::{BlobFormat, HashAndFormat, api::TempTag, store::fs::FsStore};
use protocol::{Hash, Manifest};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};
use tempfile::TempPath;
use tracing::warn;

const PIN: &str = "pin/";
const JOB: &str = "job/";

/// A node's bytes. A cheap handle.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    rows: FsStore,
    folder: PathBuf,
    catalog: Catalog,
    parts: Mutex<HashMap<Hash, Weak<Part>>>,
    damaged: Mutex<BTreeMap<Hash, String>>,
    gate: tokio::sync::RwLock<()>,
    settling: Mutex<()>,
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
            gate: tokio::sync::RwLock::new(()),
            settling: Mutex::new(()),
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
    pub(crate) async fn put_small(&self, blobs: Vec<Bytes>) -> Result<Kept, StoreError> {
        debug_assert!(blobs.iter().all(|blob| blob.len() as u64 <= SMALL_LEN));
        let api = self.0.rows.blobs();
        let tags = futures::stream::iter(blobs)
            .map(|blob| async move { api.add_bytes(blob).temp_tag().await.map_err(StoreError::database) })
            .buffer_unordered(256)
            .try_collect()
            .await?;
        Ok(Kept(tags))
    }

    /// Keeps verified bytes of at most one shard: as a row, or as a file that still has to be settled.
    pub(crate) async fn put_whole(
        &self,
        hash: Hash,
        bytes: Bytes,
        kept: &mut Kept,
    ) -> Result<Option<Fresh>, StoreError> {
        if bytes.len() as u64 <= SMALL_LEN {
            kept.append(self.put_small(vec![bytes]).await?);
            return Ok(None);
        }
        let (store, part, place) = (self.clone(), self.part_path(hash), self.file_path(hash));
        blocking(move || {
            make_parent(&part)?;
            // A file that somebody else may be settling is replaced, never written into.
            let (mut file, path) = store.unfinished()?;
            file.write_all(&bytes).map_err(StoreError::io(&path))?;
            path.persist(&part)
                .map_err(|error| StoreError::io(&part)(error.error))?;
            Ok(Some(Fresh::found(hash, vec![(part, place)])))
        })
        .await
    }

    /// Keeps the encoding of a manifest, of any size, durable but not pinned.
    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        let bytes = Bytes::from(manifest.encode());
        let hash = manifest.hash();
        if bytes.len() as u64 <= WHOLE_LEN {
            let fresh = self.put_whole(hash, bytes, &mut kept).await?;
            self.settle(fresh.into_iter().collect()).await?;
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
    pub(crate) async fn settle(&self, fresh: Vec<Fresh>) -> Result<(), StoreError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let store = self.clone();
        blocking(move || store.settle_now(&fresh)).await
    }

    /// The same, blocking. One at a time: whoever finds a name in its place may rely on its being durable.
    fn settle_now(&self, fresh: &[Fresh]) -> Result<(), StoreError> {
        let _turn = self
            .0
            .settling
            .lock()
            .expect("nothing panics while it holds this");
        settle(&self.0.folder, fresh)
    }

    /// Names a finished part for [`Store::settle`].
    pub(crate) fn finished(&self, part: &Part) -> Fresh {
        let hash = part.blob.hash;
        Fresh::found(
            hash,
            vec![
                (part.outboard_path.clone(), part.outboard_path.clone()),
                (part.path.clone(), self.file_path(hash)),
            ],
        )
    }

    /// Keeps a manifest, and all it lists, from collection; durable when it returns, with every row put before.
    pub(crate) async fn pin(&self, manifest: Hash) -> Result<(), StoreError> {
        self.tag(PIN, manifest).await?;
        self.sync_rows().await
    }

    /// Keeps a manifest that is being fetched from collection; durable when it returns.
    pub(crate) async fn begin_job(&self, manifest: Hash) -> Result<(), StoreError> {
        self.tag(JOB, manifest).await?;
        self.sync_rows().await
    }

    /// Lets a job's mark go: it is pinned now, or given up.
    pub(crate) async fn end_job(&self, manifest: Hash) -> Result<(), StoreError> {
        let name = format!("{JOB}{manifest}");
        self.0
            .rows
            .tags()
            .delete(name)
            .await
            .map(drop)
            .map_err(StoreError::database)
    }

    /// Lets a manifest go; durable when it returns. The bytes stay until [`Store::collect`].
    pub(crate) async fn unpin(&self, manifest: Hash) -> Result<(), StoreError> {
        for prefix in [PIN, JOB] {
            let name = format!("{prefix}{manifest}");
            self.0
                .rows
                .tags()
                .delete(name)
                .await
                .map_err(StoreError::database)?;
        }
        self.sync_rows().await
    }

    async fn tag(&self, prefix: &str, manifest: Hash) -> Result<(), StoreError> {
        let value = HashAndFormat::new(row_hash(manifest), BlobFormat::Raw);
        let set = self.0.rows.tags().set(format!("{prefix}{manifest}"), value).await;
        set.map_err(StoreError::database)
    }

    async fn sync_rows(&self) -> Result<(), StoreError> {
        self.0.rows.sync_db().await.map_err(StoreError::database)
    }

    /// Returns the manifests that are pinned.
    pub(crate) async fn pinned(&self) -> Result<BTreeSet<Hash>, StoreError> {
        self.tagged(PIN).await
    }

    /// Returns the manifests whose fetch was begun and not ended.
    pub(crate) async fn jobs(&self) -> Result<BTreeSet<Hash>, StoreError> {
        self.tagged(JOB).await
    }

    async fn tagged(&self, prefix: &str) -> Result<BTreeSet<Hash>, StoreError> {
        let tags = self
            .0
            .rows
            .tags()
            .list_prefix(prefix)
            .await
            .map_err(StoreError::database)?;
        tags.map(|tag| {
            tag.map(|tag| Hash::from_bytes(*tag.hash.as_bytes()))
                .map_err(StoreError::database)
        })
        .try_collect()
        .await
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
    /// The blob.
    pub(crate) hash: Hash,
    /// From where to where each of its files goes; to its own place when the name is right already.
    moves: Vec<(PathBuf, PathBuf)>,
    /// Files that go away with this unless they got their names.
    _unfinished: Vec<TempPath>,
}

impl Fresh {
    /// Files that are worth keeping even when they never get their names.
    fn found(hash: Hash, moves: Vec<(PathBuf, PathBuf)>) -> Fresh {
        Fresh {
            hash,
            moves,
            _unfinished: Vec::new(),
        }
    }

    /// Files that are worth nothing without their names.
    fn unfinished(hash: Hash, files: Vec<(TempPath, PathBuf)>) -> Fresh {
        let moves = files
            .iter()
            .map(|(from, to)| (from.to_path_buf(), to.clone()))
            .collect();
        Fresh {
            hash,
            moves,
            _unfinished: files.into_iter().map(|(from, _)| from).collect(),
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
fn settle(folder: &Path, fresh: &[Fresh]) -> Result<(), StoreError> {
    // Another fetch may have brought the same blob and named it meanwhile.
    let named = |(from, to): &&(PathBuf, PathBuf)| from != to && !from.exists() && to.exists();
    let moves = || {
        fresh
            .iter()
            .flat_map(|fresh| &fresh.moves)
            .filter(|pair| !named(pair))
    };
    sync_all(folder, moves().map(|(from, _)| from.as_path()))?;
    let mut folders = BTreeSet::new();
    for (from, to) in moves() {
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
