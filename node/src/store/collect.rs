//! Letting go: what is neither pinned nor being fetched is removed, rows and files alike. `FsStore` offers no deletion of its own
//! accord, only a collector that asks what to keep; ours waits inside that question until somebody wants a collection.

use super::{Store, StoreError, blocking, row_hash};
use iroh_blobs::store::{
    GcConfig, ProtectOutcome,
    fs::{FsStore, options::Options},
};
use protocol::{Hash, limits::MANIFEST_LEN_MAX};
use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::warn;

/// Pause between two looks whether somebody still writes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What must stay, and who wants to know when the rest is gone.
pub(super) struct Ask {
    live: HashSet<iroh_blobs::Hash>,
    done: oneshot::Sender<()>,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Blobs removed.
    pub(crate) blobs: u64,
    /// Their bytes, without outboards.
    pub(crate) bytes: u64,
}

/// Opens the database with a collector that runs when it is asked.
pub(super) async fn open_rows(root: &Path, asks: mpsc::Receiver<Ask>) -> Result<FsStore, StoreError> {
    let mut options = Options::new(root);
    let state = Arc::new(Mutex::new((asks, None::<oneshot::Sender<()>>)));
    options.gc = Some(GcConfig {
        interval: Duration::from_millis(1),
        add_protected: Some(Arc::new(move |live| {
            let state = state.clone();
            Box::pin(async move {
                let mut state = state.lock().await;
                // We are asked again: the run before has ended.
                if let Some(done) = state.1.take() {
                    let _ = done.send(());
                }
                match state.0.recv().await {
                    Some(ask) => {
                        live.extend(ask.live);
                        state.1 = Some(ask.done);
                        ProtectOutcome::Continue
                    }
                    None => std::future::pending().await,
                }
            })
        })),
    });
    let opened = FsStore::load_with_opts(root.join("blobs.db"), options).await;
    opened.map_err(StoreError::database)
}

impl Store {
    /// Removes every blob that no manifest names that is pinned, held or one of `begun`: fetches to go on with.
    ///
    /// Waits until nobody writes, and keeps nobody from it before: who waited in line with a publish of minutes would hold up
    /// all who come behind. From then on writers wait until it is done.
    pub(crate) async fn collect(&self, mut begun: BTreeSet<Hash>) -> Result<Collected, StoreError> {
        let _gate = loop {
            match self.0.gate.try_write() {
                Ok(gate) => break gate,
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        let mut live = HashSet::new();
        // These first: a fetch that ends meanwhile is pinned before it is held no longer.
        begun.append(&mut self.held());
        let mut named = self.pinned().await?;
        named.extend(&begun);
        for manifest in named {
            live.insert(manifest);
            match self.manifest(manifest).await {
                Ok(manifest) => live.extend(manifest.files().iter().map(|file| file.blake3)),
                // Without its manifest we cannot tell what is named: keep everything rather than lose something.
                Err(StoreError::Missing(_)) if begun.contains(&manifest) => {}
                Err(error) => return Err(error),
            }
        }
        let before = self.rows_len().await?;
        let (done, removed) = oneshot::channel();
        let ask = Ask {
            live: live.iter().copied().map(row_hash).collect(),
            done,
        };
        self.0.collector.send(ask).await.map_err(|_| StoreError::Closed)?;
        removed.await.map_err(|_| StoreError::Closed)?;
        let after = self.rows_len().await?;
        let store = self.clone();
        let mut collected = blocking(move || store.collect_files(&live)).await?;
        collected.blobs += before.saturating_sub(after);
        Ok(collected)
    }

    async fn rows_len(&self) -> Result<u64, StoreError> {
        let rows = self
            .0
            .rows
            .blobs()
            .list()
            .hashes()
            .await
            .map_err(StoreError::database)?;
        Ok(rows.len() as u64)
    }

    /// Removes files, outboards, references and folder records that are not live.
    fn collect_files(&self, live: &HashSet<Hash>) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        self.each_file(|path, hash, extension| {
            if live.contains(&hash) {
                return Ok(());
            }
            if extension.is_none() {
                collected.blobs += 1;
                collected.bytes += fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
            }
            crate::durable::remove(path)
                .map(drop)
                .map_err(StoreError::io(path))
        })?;
        self.drop_sources(live)?;
        let mut after = None;
        loop {
            let page = self.0.catalog.places(after, 10_000)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let gone: Vec<Hash> = page
                .iter()
                .map(|(hash, _)| *hash)
                .filter(|hash| !live.contains(hash))
                .collect();
            collected.blobs += gone.len() as u64;
            self.0.catalog.write(|batch| {
                gone.iter().for_each(|hash| batch.remove_place(*hash));
                Ok(())
            })?;
        }
        Ok(collected)
    }

    /// Visits every file below `files/` that bears a hash: its path, the hash and the extension.
    pub(super) fn each_file(
        &self,
        mut visit: impl FnMut(&Path, Hash, Option<&str>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let root = self.0.folder.join("files");
        for entry in walkdir::WalkDir::new(&root).min_depth(2).max_depth(2) {
            let entry = entry.map_err(|error| StoreError::io(&root)(error.into()))?;
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            match stem.and_then(|stem| Hash::from_str(stem).ok()) {
                Some(hash) => visit(
                    path,
                    hash,
                    path.extension().and_then(|extension| extension.to_str()),
                )?,
                None => warn!(path = %path.display(), "a file that is not ours lies among the blobs"),
            }
        }
        Ok(())
    }

    /// Reads a manifest from the store, verified and checked.
    pub(crate) async fn manifest(&self, hash: Hash) -> Result<protocol::Manifest, StoreError> {
        let bytes = self.read(hash, MANIFEST_LEN_MAX as u64).await?;
        protocol::Manifest::decode(&bytes).map_err(|error| StoreError::Malformed {
            path: format!("manifest {hash}").into(),
            why: error.to_string(),
        })
    }
}
