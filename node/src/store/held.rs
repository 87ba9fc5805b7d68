//! What is being fetched: kept from collection in memory, and only while somebody is at it. What is to be kept when the process
//! ends is pinned, or written down by whoever goes on with it.

use super::Store;
use protocol::Hash;
use std::{
    collections::BTreeSet,
    sync::{Arc, MutexGuard, Weak},
};

/// Keeps a manifest, and all it lists, from collection until the last clone of it is dropped, or the manifest is let go.
#[derive(Clone)]
pub(crate) struct Held(#[expect(dead_code, reason = "its drop lets the manifest go")] Arc<Hash>);

impl Store {
    /// Keeps a manifest that is being fetched from collection, also before any of it is here.
    pub(crate) fn hold(&self, manifest: Hash) -> Held {
        let held = Arc::new(manifest);
        let mut all = self.all_held();
        all.retain(|held| held.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        Held(held)
    }

    /// Returns the manifests that are held.
    pub(crate) fn held(&self) -> BTreeSet<Hash> {
        let all = self.all_held();
        all.iter().filter_map(Weak::upgrade).map(|held| *held).collect()
    }

    /// Holds a manifest no longer, whoever is at it.
    pub(super) fn hold_no_longer(&self, manifest: Hash) {
        self.all_held()
            .retain(|held| held.upgrade().is_some_and(|held| *held != manifest));
    }

    fn all_held(&self) -> MutexGuard<'_, Vec<Weak<Hash>>> {
        self.0.held.lock().expect("nothing panics while it holds this")
    }
}
