//! How many nodes have what a search found: asked of the DHT where the user wants it, since it tells others what they look for.

use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, stream};
use libp2p::PeerId;
use protocol::release::provider_key;
use tokio::time::{Instant, timeout_at};

use super::{FindError, Hit, SearchAnswer, SearchAsk};
use crate::{library::LibraryError, node::Node, store::blocking};

/// How long all lookups of one search may take.
const COUNT_WAIT: Duration = Duration::from_secs(5);
/// Lookups at once.
const LOOKUPS: usize = 8;
/// Hits that are looked up, the first ones.
const COUNTED_MAX: usize = 100;
/// Sources of one repo that are counted: what has so many is not rare.
const SOURCES_MAX: usize = 64;

impl Node {
    /// Looks for repos, as [`super::Discovery::search`], and asks who has them where that is wanted.
    ///
    /// # Errors
    /// [`FindError`].
    pub async fn find(&self, ask: SearchAsk) -> Result<SearchAnswer, FindError> {
        let (discovery, asks) = (self.discovery().clone(), ask.sources);
        let found = blocking(move || Ok(discovery.search(&ask))).await;
        let mut answer = found.map_err(LibraryError::from)??;
        if asks {
            let until = Instant::now() + COUNT_WAIT;
            let counts = answer.hits.iter_mut().take(COUNTED_MAX);
            stream::iter(counts)
                .for_each_concurrent(LOOKUPS, |hit| self.count_sources(hit, until))
                .await;
            answer.asked = true;
        }
        Ok(answer)
    }

    /// Counts those who say that they have a hit, until it is too late for more.
    async fn count_sources(&self, hit: &mut Hit, until: Instant) {
        let key = provider_key(hit.manifest);
        let Ok(mut told) = self.swarm().providers(key, SOURCES_MAX).await else {
            return;
        };
        let mut peers: HashSet<PeerId> = HashSet::new();
        while let Ok(Some(peer)) = timeout_at(until, told.recv()).await {
            peers.insert(peer);
        }
        hit.sources = hit.sources.max(peers.len() as u64 + u64::from(hit.here));
    }
}
