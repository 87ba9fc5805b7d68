//! Finding providers while a fetch runs: those the ticket named, those remembered, connected peers, and the DHT. They are said
//! to take part, no more: who is told of one asks it.

use crate::{
    limits::{PROVIDERS_ASKED, SEARCH_PAUSE},
    node::Node,
};
use libp2p::PeerId;
use protocol::{Hash, release::provider_key};
use std::collections::HashMap;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Duration, Instant},
};

/// A peer that was told of is told of again after this long: it may take part by now, or be back.
const TELL_AGAIN: Duration = Duration::from_secs(6);

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
    let mut told: HashMap<PeerId, Instant> = HashMap::new();
    let mut candidates = known;
    candidates.extend(remembered(&node, manifest));
    candidates.extend(node.swarm().peers().await.into_iter().map(|peer| peer.peer));
    let key = provider_key(manifest);
    let mut from_dht = node.swarm().providers(key, PROVIDERS_ASKED).await.ok();
    let mut pause = tokio::time::interval(SEARCH_PAUSE);
    pause.tick().await;
    loop {
        for peer in candidates.drain(..) {
            let due = told.get(&peer).is_none_or(|at| at.elapsed() >= TELL_AGAIN);
            if due && peer != node.swarm().peer_id() {
                told.insert(peer, Instant::now());
                if tell.send(peer).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            found = next_found(&mut from_dht) => match found {
                Some(peer) => candidates.push(peer),
                None => from_dht = None,
            },
            _ = pause.tick() => {
                candidates.extend(node.swarm().peers().await.into_iter().map(|peer| peer.peer));
                candidates.extend(told.keys().copied());
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
