//! Crowds without a fetch: those of manifests that are here, whole or in part, made when the first peer asks.

use super::{
    CROWDS_MAX, CROWDS_WEIGHT_MAX, Sharing,
    gathering::{Gathering, PARTS_MAX},
};
use crate::{
    runs::{self, span},
    store::{StoreError, blocking},
};
use fixedbitset::FixedBitSet;
use protocol::{Hash, ShardMap};
use std::{collections::HashSet, sync::Arc};
use tracing::debug;

/// Bytes of a growing file that are verified again because a peer asks: the head of one that was left out is shorter.
const BEGUN_LEN_MAX: u64 = 64 << 20;

impl Sharing {
    /// Returns the crowd of a manifest, and makes it where there is something to share. `None`: we take no part.
    pub(super) async fn gathering(&self, manifest: Hash) -> Option<Arc<Gathering>> {
        if self.0.library.denials().manifest(manifest).is_some() {
            return None;
        }
        if let Some(found) = self.present(manifest) {
            return Some(found);
        }
        if !self.is_known(manifest) {
            return None;
        }
        let _turn = self.0.loading.lock().await;
        if let Some(found) = self.present(manifest) {
            return Some(found);
        }
        match self.load(manifest).await {
            Ok(gathering) => gathering.and_then(|gathering| self.list(gathering)),
            Err(error) => {
                debug!(manifest = %manifest.short(), %error, "a manifest that somebody asks for does not read");
                None
            }
        }
    }

    /// Returns a crowd that is there; what was not whole may be by now.
    fn present(&self, manifest: Hash) -> Option<Arc<Gathering>> {
        let found = self.index().crowds.get(&manifest).cloned()?;
        if !found.is_fetching() && !found.is_complete() && self.0.library.is_complete(manifest) {
            found.complete();
        }
        Some(found)
    }

    /// Whether a manifest is listed, or being fetched: nothing else is read because a stranger asks for it.
    fn is_known(&self, manifest: Hash) -> bool {
        let listed = self.0.library.catalog().manifest(manifest);
        listed.is_ok_and(|row| row.is_some()) || self.0.library.store().held().contains(&manifest)
    }

    async fn load(&self, manifest: Hash) -> Result<Option<Gathering>, StoreError> {
        let library = &self.0.library;
        let content = library.store().manifest(manifest).await?;
        let missing = match library.is_complete(manifest) {
            true => Vec::new(),
            false => library.missing(&content).await?,
        };
        let (us, store) = (self.swarm().peer_id(), library.store().clone());
        blocking(move || {
            let Ok(map) = ShardMap::new(&content) else {
                return Ok(None);
            };
            let missing: HashSet<Hash> = missing.into_iter().map(|(hash, _)| hash).collect();
            let mut have = FixedBitSet::with_capacity(map.count() as usize);
            for blob in map.blobs().iter().filter(|blob| !missing.contains(&blob.hash)) {
                have.insert_range(span(&blob.shards()));
            }
            let begun = map.blobs().iter().filter(|blob| {
                missing.contains(&blob.hash) && (1..=BEGUN_LEN_MAX).contains(&store.begun_len(blob.hash))
            });
            let mut parts = Vec::new();
            for blob in begun.take(PARTS_MAX) {
                // One that does not open is as good as none.
                let Ok(part) = store.part(blob.hash, blob.len) else {
                    continue;
                };
                for run in runs::of(&part.shards()) {
                    have.insert_range(span(&(blob.first + run.start..blob.first + run.end)));
                }
                parts.push(part);
            }
            let some = !have.is_clear() || missing.is_empty();
            Ok(some.then(|| {
                let gathering = Gathering::new(manifest, Arc::new(map), us, have, rand::random());
                gathering.hold(parts);
                gathering
            }))
        })
        .await
    }

    /// Lists a crowd, unless there are too many.
    fn list(&self, gathering: Gathering) -> Option<Arc<Gathering>> {
        let manifest = gathering.manifest;
        let mut index = self.index();
        let weight: usize = index.crowds.values().map(|crowd| crowd.weight()).sum();
        if index.crowds.len() >= CROWDS_MAX || weight + gathering.weight() > CROWDS_WEIGHT_MAX {
            debug!(manifest = %manifest.short(), "too many crowds");
            return None;
        }
        let listed = index.crowds.entry(manifest);
        Some(Arc::clone(listed.or_insert_with(|| Arc::new(gathering))))
    }
}
