//! What a library knows of mirrors: whose repos are to be kept, what the mirror answers for, and what the user claims of that.

use std::sync::Arc;

use protocol::{Hash, Publisher, RepoId};
use tracing::warn;

use super::{Library, LibraryError};
use crate::{
    mirror::{Blobs, Inventory, InventoryError, Kept, blobs_of},
    names::Mirror,
    store::{StoreError, blocking},
};

/// Largest quota that `following.toml` can hold, in bytes: TOML's integers are signed.
const QUOTA_MAX: u64 = i64::MAX as u64;

impl Library {
    /// Has the repos of a publisher that is followed fetched and kept from now on, or not any more: then what is here of them stays, and is the
    /// user's. Blocking.
    ///
    /// # Errors
    /// The publisher is not followed; `following.toml` or the mirror's list cannot be read or written.
    pub fn set_mirror(&self, publisher: Publisher, mirror: Option<Mirror>) -> Result<(), LibraryError> {
        let mirror = mirror.map(|mirror| Mirror {
            quota: mirror.quota.map(|quota| quota.min(QUOTA_MAX)),
            ..mirror
        });
        let begun = mirror.is_some();
        // By whichever key the user began to follow it.
        let mut followed = self.0.following.all().into_iter().map(|follow| follow.publisher);
        let followed = followed.find(|followed| self.today(*followed) == self.today(publisher));
        self.0
            .following
            .set_mirror(followed.unwrap_or(publisher), mirror)?;
        if begun {
            // Who asks anew wants what was let go too.
            let mut newest = Vec::new();
            for repo in self.repos_of(publisher)? {
                if let Ok(Some(release)) = self.names().get(&repo) {
                    newest.push(release.release().manifest);
                }
            }
            self.inventory().want_again(&newest)?;
        }
        self.settle_mirrors()
    }

    /// What is to be mirrored of a publisher, if anything.
    pub fn mirror_of(&self, publisher: Publisher) -> Option<Mirror> {
        let (mut follows, publisher) = (self.following().into_iter(), self.today(publisher));
        follows.find(|follow| follow.publisher == publisher)?.mirror
    }

    /// Whose repos are to be mirrored, by their keys of today, and which.
    pub(crate) fn mirrors(&self) -> Vec<(Publisher, Mirror)> {
        let follows = self.following().into_iter();
        follows
            .filter_map(|follow| Some((follow.publisher, follow.mirror?)))
            .collect()
    }

    /// Takes what is not to be mirrored any more off the mirror's list: it is the user's from then on. Blocking.
    pub(crate) fn settle_mirrors(&self) -> Result<(), LibraryError> {
        let mirrors = self.mirrors();
        let mirrors: Vec<_> = mirrors
            .iter()
            .map(|(publisher, mirror)| (*publisher, mirror.names.matcher()))
            .collect();
        let ours = |kept: &Kept| {
            let mut mirrors = mirrors.iter();
            mirrors.any(|(publisher, names)| {
                *publisher == self.today(kept.repo.publisher) && names.is_match(&kept.repo.name)
            })
        };
        match self.inventory().keep_only(ours) {
            // Nothing is dropped by a list that does not read.
            Err(InventoryError::Damaged { .. }) => Ok(()),
            settled => Ok(settled?),
        }
    }

    /// What the mirror answers for.
    pub(crate) fn inventory(&self) -> &Inventory {
        &self.0.inventory
    }

    /// Makes a manifest the user's, before it is pinned: the mirror neither counts nor drops it any more.
    ///
    /// A list that does not read claims nothing, and nothing is dropped by it: then there is nothing to do.
    pub(crate) async fn claim(&self, manifest: Hash) -> Result<(), LibraryError> {
        let inventory = self.inventory().clone();
        let _turn = self.inventory().turn().await;
        match blocking(move || Ok(inventory.claim(manifest))).await? {
            Err(error @ InventoryError::Damaged { .. }) => {
                warn!(%error, "the mirror's list");
                Ok(())
            }
            claimed => Ok(claimed.map(drop)?),
        }
    }

    /// Notes that the user let a manifest go, so that the mirror does not fetch it again.
    pub(super) async fn note_let_go(&self, manifest: Hash) -> Result<(), LibraryError> {
        if self.mirrors().is_empty() {
            return Ok(());
        }
        let inventory = self.inventory().clone();
        match blocking(move || Ok(inventory.let_go(manifest))).await? {
            Err(error @ InventoryError::Damaged { .. }) => {
                warn!(%error, "the mirror's list");
                Ok(())
            }
            noted => Ok(noted?),
        }
    }

    /// Keeps a manifest from collection no longer, and lists it no more.
    pub(crate) async fn unkeep(&self, manifest: Hash) -> Result<(), LibraryError> {
        self.0.store.unpin(manifest).await?;
        self.0.catalog.write(|batch| {
            batch.remove_manifest(manifest);
            batch.remove_providers(manifest);
            Ok(())
        })?;
        Ok(())
    }

    /// What an entry of the mirror's list takes. Where its manifest does not read, as much as it took alone.
    pub(crate) async fn taken_by(&self, kept: &Kept) -> Arc<Blobs> {
        match self.0.store.manifest(kept.manifest).await {
            Ok(manifest) => blobs_of(&manifest),
            Err(error) => {
                if !matches!(error, StoreError::Missing(_)) {
                    warn!(repo = %kept.repo, %error, "a mirrored manifest does not read");
                }
                Arc::new([(kept.manifest, kept.bytes)])
            }
        }
    }

    /// Whether the publisher of a repo signed another release with this number, or a later one.
    pub(crate) fn is_forked(&self, repo: &RepoId, seq: u64) -> Result<bool, LibraryError> {
        let forks = self.names().forks(repo)?;
        Ok(forks.iter().any(|fork| fork.release().seq >= seq))
    }
}
