//! Getting a manifest: from the store, or from the first peer that has it right.

use super::{
    FetchError,
    plan::Fault,
    providers::Providers,
    transfer::{self, Link},
};
use crate::{
    limits::{STALL, STRIKES_MAX},
    node::Node,
    store::StoreError,
};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::PeerId;
use protocol::{Hash, Manifest, limits::MANIFEST_LEN_MAX};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tracing::{debug, warn};

/// Peers asked for a manifest at once: the first right answer counts.
const MANIFESTS_ASKED: usize = 4;

impl Node {
    /// Returns a held manifest from the store; `None`: it has to be fetched.
    pub(super) async fn stored_manifest(&self, hash: Hash) -> Option<Manifest> {
        let store = self.library().store();
        // A collection that began before it was held may be about to remove it.
        let _writing = store.writing().await;
        match store.manifest(hash).await {
            Ok(manifest) => return Some(manifest),
            Err(StoreError::Missing(_)) => {}
            Err(error) => debug!(manifest = %hash.short(), %error, "a stored manifest is fetched again"),
        }
        None
    }

    /// Brings a manifest here, without its files and without keeping it from collection.
    pub(crate) async fn bring_manifest(&self, hash: Hash, wait: Duration) -> Result<Manifest, FetchError> {
        let mut providers = Providers::start(self.clone(), hash, Vec::new());
        self.fetch_manifest(hash, &mut providers, wait).await
    }

    /// Returns the manifest from the first of several providers asked at once that has it right. It is in the store then, for
    /// as long as somebody holds it.
    pub(super) async fn fetch_manifest(
        &self,
        hash: Hash,
        providers: &mut Providers,
        wait: Duration,
    ) -> Result<Manifest, FetchError> {
        let store = self.library().store();
        let begun = Instant::now();
        let mut end = Box::pin(tokio::time::sleep(wait));
        let mut asking = FuturesUnordered::new();
        let mut tried = HashMap::<PeerId, u32>::new();
        loop {
            tokio::select! {
                Some(peer) = providers.next(), if asking.len() < MANIFESTS_ASKED => {
                    let tries = tried.entry(peer).or_default();
                    *tries += 1;
                    if *tries <= STRIKES_MAX {
                        asking.push(self.ask_manifest(hash, peer));
                    }
                }
                Some((peer, answer)) = asking.next() => {
                    let Some(bytes) = answer else { continue };
                    let refused = |source| FetchError::Manifest { manifest: hash, source };
                    let manifest = Manifest::decode(&bytes).map_err(refused)?;
                    // A collection that began before it was held must not take it.
                    let _writing = store.writing().await;
                    let _kept = store.put_manifest(&manifest).await?;
                    // A fetch that goes on after a crash may find nobody to ask for it again.
                    store.sync_rows().await?;
                    providers.again(peer);
                    return Ok(manifest);
                }
                () = &mut end => {
                    let waited = begun.elapsed();
                    return Err(FetchError::NoProvider { manifest: hash, waited, missing: 0 });
                }
            }
        }
    }

    /// Asks one peer for a manifest, if it takes part in its swarm.
    async fn ask_manifest(&self, hash: Hash, peer: PeerId) -> (PeerId, Option<Bytes>) {
        if !self.sharing().probe(peer, hash).await {
            return (peer, None);
        }
        let link = Link::new(self, peer);
        let fetched = transfer::blob(&link, hash, MANIFEST_LEN_MAX as u64);
        match tokio::time::timeout(STALL * 3, fetched).await {
            Ok(Ok(bytes)) => return (peer, Some(bytes)),
            Ok(Err(error)) if error.fault() == Fault::Lied => {
                warn!(%peer, manifest = %hash.short(), %error, "a provider lied; it is not asked again");
                self.swarm().ban(peer).await;
            }
            Ok(Err(error)) => debug!(%peer, %error, "a provider did not give the manifest"),
            Err(_) => debug!(%peer, "a provider was too slow with the manifest"),
        }
        (peer, None)
    }
}
