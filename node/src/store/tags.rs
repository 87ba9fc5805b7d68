//! Marks in the blob database: which manifests are kept, and which are being fetched. What neither names may be collected.

use super::{Store, StoreError, row_hash};
use futures::{StreamExt, TryStreamExt};
use iroh_blobs::{BlobFormat, HashAndFormat};
use protocol::Hash;
use std::collections::BTreeSet;

/// Start of the name of a mark that keeps a manifest.
const PIN: &str = "pin/";
/// Start of the name of a mark for a fetch under way.
const JOB: &str = "job/";

impl Store {
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
}
