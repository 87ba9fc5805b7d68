//! From here to safe: what is whole is made durable in batches, and who waits for it learns it.

use super::{Blob, Run};
use crate::{
    limits::{FLUSH_LEN, ROWS_LOOSE_MAX, SETTLE_BLOBS, SETTLE_LEN, SMALL_LEN},
    store::{Fresh, Part, blocking},
};
use std::sync::Arc;

impl Run<'_> {
    /// A blob is whole: it is on its way to be safe.
    pub(super) fn whole(&mut self, at: usize) {
        let blob = self.map.blobs()[at];
        if self.blobs[at] != Blob::Missing {
            return;
        }
        if blob.len <= SMALL_LEN {
            self.loose.row_bytes += blob.len;
            self.safe(at);
        } else if let Some(part) = self.parts.get(&at) {
            let fresh = self.node.library().store().finished(part);
            self.loosen(at, fresh);
        }
    }

    pub(super) fn loosen(&mut self, at: usize, fresh: Fresh) {
        if self.loose.files.insert(at, fresh).is_none() {
            self.loose.bytes += self.map.blobs()[at].len;
        }
        self.blobs[at] = Blob::Loose;
        self.wants.landed(at);
    }

    pub(super) fn safe(&mut self, at: usize) {
        self.blobs[at] = Blob::Safe;
        self.parts.remove(&at);
        self.wants.safe(at);
        self.node.library().store().mended(self.map.blobs()[at].hash);
    }

    /// Makes durable what came, when somebody waits for nothing else, or when it is much.
    pub(super) fn settle_when_due(&mut self) {
        let loose = &mut self.loose;
        let rows = loose.row_bytes >= ROWS_LOOSE_MAX;
        let much = rows || loose.files.len() >= SETTLE_BLOBS || loose.bytes >= SETTLE_LEN;
        let waited_for = self.wants.wait_for_storing() && !loose.files.is_empty();
        if !self.settling.is_empty() || !(much || waited_for) {
            return;
        }
        let (places, fresh): (Vec<usize>, Vec<Fresh>) = std::mem::take(&mut loose.files).into_iter().unzip();
        loose.bytes = 0;
        if rows {
            loose.row_bytes = 0;
        }
        if waited_for {
            self.wants.show_storing();
        }
        let store = self.node.library().store().clone();
        self.settling.spawn(async move {
            let _writing = store.writing().await;
            store.settle(fresh).await?;
            if rows {
                store.sync_rows().await?;
            }
            Ok(places)
        });
    }

    /// Has growing files written to disk while more comes, so that little is left to wait for at the end.
    pub(super) fn flush_when_due(&mut self) {
        if self.unflushed < FLUSH_LEN || !self.flushing.is_empty() || self.parts.is_empty() {
            return;
        }
        self.unflushed = 0;
        let parts: Vec<Arc<Part>> = self.parts.values().cloned().collect();
        self.flushing.spawn(async move {
            // What the disk says now it does not say again: it must not be lost.
            blocking(move || parts.iter().try_for_each(|part| part.flush())).await
        });
    }
}
