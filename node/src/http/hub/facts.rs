//! What the answers about repos remember, so that a question costs no second look at the disk: heads of cards, and folders.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use moka::future::Cache;
use protocol::{FileEntry, Hash, Kind, Manifest};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Hub;
use super::card::{self, Labels, Object};
use super::revisions::Revision;
use super::tree::Folders;
use crate::store::blocking;

/// The file with the card.
const CARD: &str = "README.md";
/// The file that says how a model is built.
const CONFIG: &str = "config.json";
/// Longest of these two that is read, in bytes.
const FILE_LEN_MAX: u64 = 1024 * 1024;
/// How long an answer waits for a card that is not here.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long a card that could not be brought is not asked for again.
const ABSENT_AGAIN: Duration = Duration::from_secs(60);
/// Cards of which that is remembered.
const ABSENT_MAX: u64 = 10_000;
/// Bytes of cards that are kept, as JSON.
const HEADS_LEN_MAX: u64 = 32 * 1024 * 1024;
/// Folders that are kept, of all manifests together: 32 bytes each.
const FOLDERS_MAX: u64 = 500_000;
/// The last second that has four digits for its year.
const TIME_MAX: u64 = 253_402_300_799;

/// What is remembered.
pub(super) struct Facts {
    /// What was read of a blob, as a card or as a configuration.
    heads: Cache<(Hash, &'static str), Arc<Object>>,
    /// Blobs that were not to be had lately.
    absent: Cache<Hash, ()>,
    pub(super) folders: Cache<Hash, Arc<Folders>>,
}

impl Facts {
    pub(super) fn new() -> Facts {
        let len = |_: &(Hash, &'static str), head: &Arc<Object>| {
            let len = serde_json::to_string(&**head).map_or(usize::MAX, |text| text.len());
            u32::try_from(len.saturating_add(100)).unwrap_or(u32::MAX)
        };
        let count = |_: &Hash, folders: &Arc<Folders>| u32::try_from(folders.len() + 1).unwrap_or(u32::MAX);
        Facts {
            heads: Cache::builder().weigher(len).max_capacity(HEADS_LEN_MAX).build(),
            absent: Cache::builder()
                .max_capacity(ABSENT_MAX)
                .time_to_live(ABSENT_AGAIN)
                .build(),
            folders: Cache::builder().weigher(count).max_capacity(FOLDERS_MAX).build(),
        }
    }
}

/// What a revision says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    /// The head of its card; empty where there is none, or it is not here.
    pub(super) card: Arc<Object>,
    /// The interesting part of its configuration; likewise.
    pub(super) config: Arc<Object>,
}

impl Heads {
    /// How the repo is found.
    pub(super) fn labels(&self, kind: Kind, manifest: &Manifest) -> Labels {
        Labels::new(kind, &self.card, &self.config, manifest)
    }
}

impl Hub {
    /// Reads card and configuration where they are here.
    pub(super) async fn heads(&self, manifest: &Manifest) -> Heads {
        Heads {
            card: self.head(manifest, CARD, None).await.unwrap_or_default(),
            config: self.head(manifest, CONFIG, None).await.unwrap_or_default(),
        }
    }

    /// The same for a revision that somebody asks for: a card that is not here is waited for, shortly.
    pub(super) async fn heads_of(&self, revision: &Revision) -> Heads {
        let manifest = &*revision.manifest;
        let card = self.head(manifest, CARD, Some(revision)).await;
        Heads {
            card: card.unwrap_or_default(),
            config: self.head(manifest, CONFIG, None).await.unwrap_or_default(),
        }
    }

    /// - `asked`: of which revision it may be fetched, if it may.
    async fn head(
        &self,
        manifest: &Manifest,
        path: &'static str,
        asked: Option<&Revision>,
    ) -> Option<Arc<Object>> {
        let file = manifest.file(path)?;
        if file.size > FILE_LEN_MAX {
            return None;
        }
        let (heads, key) = (&self.0.facts.heads, (file.blake3, path));
        if let Some(known) = heads.get(&key).await {
            return Some(known);
        }
        let here = self
            .node()
            .library()
            .store()
            .read(file.blake3, FILE_LEN_MAX)
            .await;
        let bytes = match here {
            Ok(bytes) => bytes,
            Err(_) => self.bring(asked?, file).await?,
        };
        let read = move || {
            Ok(match path {
                CARD => card::of_readme(&bytes),
                _ => card::of_config(&bytes),
            })
        };
        let head = Arc::new(blocking(read).await.ok()?);
        heads.insert(key, head.clone()).await;
        Some(head)
    }

    /// Fetches a small file, if the user allows it and it takes no longer than a reader of metadata would wait.
    async fn bring(&self, revision: &Revision, file: &FileEntry) -> Option<Bytes> {
        let absent = &self.0.facts.absent;
        if absent.contains_key(&file.blake3) || self.refuses(revision, file).is_some() {
            return None;
        }
        let mut reader = self.node().open(revision.manifest.hash(), file.clone());
        match timeout(PATIENCE, reader.read(0..file.size)).await {
            Ok(Ok(bytes)) => Some(bytes),
            Ok(Err(_)) | Err(_) => {
                absent.insert(file.blake3, ()).await;
                None
            }
        }
    }

    /// A manifest that is here.
    pub(super) async fn manifest_here(&self, hash: Hash) -> Option<Arc<Manifest>> {
        let library = self.node().library().clone();
        let read = async move { library.store().manifest(hash).await.map(Arc::new) };
        self.0.manifests.try_get_with(hash, read).await.ok()
    }
}

/// A time as clients read it.
pub(super) fn time(seconds: u64) -> Value {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(TIME_MAX));
    json!(humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_however_far_they_are() {
        assert_eq!(time(1_704_164_645), "2024-01-02T03:04:05.000Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59.000Z");
    }
}
