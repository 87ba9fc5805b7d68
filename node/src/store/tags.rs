//! Marks in the blob database: which manifests are kept.

use super::{Store, StoreError, row_hash};
use futures::{StreamExt, TryStreamExt};
use iroh_blobs::{BlobFormat, HashAndFormat};
use protocol::Hash;
use std::collections::BTreeSet;

/// Start of the name of a mark that keeps a manifest.
const PIN: &str = "pin/";

impl Store {
    /// Keeps a manifest, and all it lists, from collection; durable when it returns, with every row put before.
    pub(crate) async fn pin(&self, manifest: Hash) -> Result<(), StoreError> {
        let value = HashAndFormat::new(row_hash(manifest), BlobFormat::Raw);
        let set = self.0.rows.tags().set(name(manifest), value).await;
        set.map_err(StoreError::database)?;
        self.sync_rows().await
    }

    /// Lets a manifest go, also if it is being fetched; durable when it returns. The bytes stay until [`Store::collect`].
    pub(crate) async fn unpin(&self, manifest: Hash) -> Result<(), StoreError> {
        self.hold_no_longer(manifest);
        let deleted = self.0.rows.tags().delete(name(manifest)).await;
        deleted.map_err(StoreError::database)?;
        self.sync_rows().await
    }

    /// Returns the manifests that are pinned.
    pub(crate) async fn pinned(&self) -> Result<BTreeSet<Hash>, StoreError> {
        let tags = self
            .0
            .rows
            .tags()
            .list_prefix(PIN)
            .await
            .map_err(StoreError::database)?;
        tags.map(|tag| {
            tag.map(|tag| Hash::from_bytes(*tag.hash.as_bytes()))
                .map_err(StoreError::database)
        })
        .try_collect()
        .await
    }
}

fn name(manifest: Hash) -> String {
    format!("{PIN}{manifest}")
}
