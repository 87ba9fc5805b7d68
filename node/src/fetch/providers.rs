//! Finding providers while a fetch runs: those the ticket named, those remembered, connected peers, and the DHT. Each is asked
//! whether it has the manifest before the fetch is told of it.

use crate::{
    frame,
    limits::{PROVIDERS_ASKED, SEARCH_PAUSE},
    node::Node,
};
use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{PeerId, StreamProtocol};
use protocol::{Hash, SwarmAsk, SwarmTell, release::provider_key, wire};
use std::collections::HashMap;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Duration, Instant},
};
use tracing::debug;

/// A peer that was asked is asked again after this long: it may have the manifest by now, or be back.
const ASK_AGAIN: Duration = Duration::from_secs(6);
/// Peers asked at once.
const ASKED_AT_ONCE: usize = 16;

/// Providers as they are found; the search ends when this is dropped.
pub(crate) struct Providers {
    found: mpsc::Receiver<PeerId>,
    back: Vec<PeerId>,
    search: JoinHandle<()>,
}

impl Providers {
    /// Begins to search, with `known` peers first.
    pub(crate) fn start(node: Node, manifest: Hash, known: Vec<PeerId>) -> Providers {
        let (tell, found) = mpsc::channel(PROVIDERS_ASKED);
        let search = tokio::spawn(search(node, manifest, known, tell));
        Providers {
            found,
            back: Vec::new(),
            search,
        }
    }

    /// Returns the next provider; `None` never comes while the search runs.
    pub(crate) async fn next(&mut self) -> Option<PeerId> {
        match self.back.pop() {
            Some(peer) => Some(peer),
            None => self.found.recv().await,
        }
    }

    /// Puts a provider back that was taken only for the manifest.
    pub(crate) fn again(&mut self, peer: PeerId) {
        self.back.push(peer);
    }
}

impl Drop for Providers {
    fn drop(&mut self) {
        self.search.abort();
    }
}

async fn search(node: Node, manifest: Hash, known: Vec<PeerId>, tell: mpsc::Sender<PeerId>) {
    let mut asked: HashMap<PeerId, Instant> = HashMap::new();
    let mut asking = FuturesUnordered::new();
    let mut candidates = known;
    candidates.extend(remembered(&node, manifest));
    candidates.extend(node.swarm().peers().await.into_iter().map(|peer| peer.peer));
    let key = provider_key(manifest);
    let mut from_dht = node.swarm().providers(key, PROVIDERS_ASKED).await.ok();
    let mut pause = tokio::time::interval(SEARCH_PAUSE);
    pause.tick().await;
    loop {
        while asking.len() < ASKED_AT_ONCE
            && let Some(peer) = candidates.pop()
        {
            let due = asked.get(&peer).is_none_or(|at| at.elapsed() >= ASK_AGAIN);
            if due && peer != node.swarm().peer_id() {
                asked.insert(peer, Instant::now());
                asking.push(has(&node, peer, manifest));
            }
        }
        tokio::select! {
            Some((peer, has)) = asking.next() => {
                if has && tell.send(peer).await.is_err() {
                    return;
                }
            }
            found = next_found(&mut from_dht) => match found {
                Some(peer) => candidates.push(peer),
                None => from_dht = None,
            },
            _ = pause.tick() => {
                candidates.extend(node.swarm().peers().await.into_iter().map(|peer| peer.peer));
                candidates.extend(asked.keys().copied());
                if from_dht.is_none() {
                    from_dht = node.swarm().providers(key, PROVIDERS_ASKED).await.ok();
                }
            }
        }
    }
}

async fn next_found(found: &mut Option<mpsc::Receiver<PeerId>>) -> Option<PeerId> {
    match found {
        Some(found) => found.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns the providers of an earlier fetch.
fn remembered(node: &Node, manifest: Hash) -> Vec<PeerId> {
    let rows = node.library().catalog().providers(manifest).unwrap_or_default();
    rows.iter()
        .filter_map(|row| PeerId::from_bytes(&row.peer).ok())
        .collect()
}

async fn has(node: &Node, peer: PeerId, manifest: Hash) -> (PeerId, bool) {
    let asked = async {
        let protocol = StreamProtocol::new(wire::SWARM_PROTOCOL);
        let mut stream = node
            .swarm()
            .open_stream(peer, protocol)
            .await
            .map_err(|error| error.to_string())?;
        frame::write(&mut stream, &SwarmAsk::Have { manifest })
            .await
            .map_err(|error| error.to_string())?;
        frame::read::<SwarmTell>(&mut stream)
            .await
            .map_err(|error| error.to_string())
    };
    match asked.await {
        Ok(SwarmTell::Everything) => (peer, true),
        Ok(SwarmTell::Nothing | SwarmTell::Partial(_)) => (peer, false),
        Err(error) => {
            debug!(%peer, error, "a peer did not say what it has");
            (peer, false)
        }
    }
}
