//! Ways to peers: who waits for a connection, which dials are on their way, and what is told when they end.
//!
//! Invariant: whoever waits for a peer gets an answer when a way is there, when the last dial and search have failed, or when
//! it has stopped waiting itself.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol, kad,
    swarm::{
        self, ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;
use tracing::debug;

use super::{Actor, Now, address, lookups::Query};
use crate::swarm::{
    DialError,
    streams::{Failure, Reply, Way},
};

/// How long a stream waits for hole punching to give a direct connection to a peer that a relay connects.
const DIRECT_WAIT: Duration = Duration::from_secs(6);

/// Somebody who waits for a peer.
pub(super) enum Waiter {
    Connect(oneshot::Sender<Result<(), DialError>>),
    Open {
        protocol: StreamProtocol,
        reply: Reply,
        since: Instant,
    },
}

impl Waiter {
    fn is_gone(&self) -> bool {
        match self {
            Self::Connect(reply) => reply.is_closed(),
            Self::Open { reply, .. } => reply.is_closed(),
        }
    }

    fn fail(self, error: DialError) {
        // Whoever does not wait any more does not mind.
        match self {
            Self::Connect(reply) => drop(reply.send(Err(error))),
            Self::Open { reply, .. } => drop(reply.send(Err(Failure::NotConnected(error)))),
        }
    }
}

/// Everything under way towards one peer.
#[derive(Default)]
struct Pending {
    waiters: Vec<Waiter>,
    dials: HashSet<ConnectionId>,
    /// Whether the DHT is being asked for the peer's addresses.
    searching: bool,
    searched: bool,
    /// What the last dial said.
    error: Option<DialError>,
}

#[derive(Default)]
pub(super) struct Dials {
    pending: HashMap<PeerId, Pending>,
    /// Dials to addresses without a name.
    strangers: HashMap<ConnectionId, (Multiaddr, oneshot::Sender<Result<PeerId, DialError>>)>,
}

impl Actor {
    /// Connects to whoever is at `address`.
    pub(super) fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<PeerId, DialError>>) {
        if let Some(peer) = address::peer(&address)
            && self.swarm.is_connected(&peer)
        {
            let _ = reply.send(Ok(peer));
            return;
        }
        let opts = DialOpts::unknown_peer_id().address(address.clone()).build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dials.strangers.insert(connection, (address, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(DialError::new(&error, &address, address::peer(&address))));
            }
        }
        self.dials.strangers.retain(|_, (_, reply)| !reply.is_closed());
    }

    /// Lets `waiter` wait for `peer`, and dials unless that is under way. The user named `addresses`: they are taken as they are.
    pub(super) fn connect(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, waiter: Waiter, now: Now) {
        if peer == *self.swarm.local_peer_id() {
            let address = self
                .swarm
                .listeners()
                .next()
                .cloned()
                .unwrap_or_else(Multiaddr::empty);
            waiter.fail(DialError::Ourselves { address });
            return;
        }
        if self.swarm.behaviour().guard.is_banned(&peer) {
            waiter.fail(DialError::Refused {
                target: peer.to_string(),
                reason: "banned".to_owned(),
            });
            return;
        }
        let known = self.book.addresses(&peer).len();
        self.book.heard(peer, addresses);
        let more = self.book.addresses(&peer).len() > known;
        let idle = self
            .dials
            .pending
            .get(&peer)
            .is_none_or(|pending| pending.dials.is_empty() && !pending.searching);
        let connected = self
            .swarm
            .behaviour()
            .streams
            .connections(&peer)
            .iter()
            .any(|connection| !connection.relayed);
        self.dials.pending.entry(peer).or_default().waiters.push(waiter);
        if !connected && (idle || more) {
            self.dial_pending(peer);
        }
        self.settle(peer, now);
    }

    /// Dials a known peer for nobody in particular.
    pub(super) fn try_dial(&mut self, peer: PeerId) {
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(self.book.addresses(&peer).to_vec())
            .extend_addresses_through_behaviour()
            .build();
        if let Err(error) = self.swarm.dial(opts) {
            debug!(%peer, %error, "did not dial");
        }
    }

    fn dial_pending(&mut self, peer: PeerId) {
        let relayed_already = self.swarm.is_connected(&peer);
        let known = self.book.addresses(&peer).iter();
        let addresses = known
            .filter(|known| !(relayed_already && address::is_relayed(known)))
            .cloned()
            .collect();
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        let connection = opts.connection_id();
        let result = self.swarm.dial(opts);
        let Some(pending) = self.dials.pending.get_mut(&peer) else {
            return;
        };
        match result {
            Ok(()) => {
                pending.dials.insert(connection);
            }
            Err(error) => {
                pending.error = Some(DialError::new(&error, peer, Some(peer)));
                self.search_peer(peer);
            }
        }
    }

    /// Asks the DHT where `peer` is, once per wait.
    fn search_peer(&mut self, peer: PeerId) {
        let Some(pending) = self
            .dials
            .pending
            .get_mut(&peer)
            .filter(|pending| !pending.searched)
        else {
            return;
        };
        pending.searched = true;
        let kad = &mut self.swarm.behaviour_mut().kad;
        if kad.kbuckets().next().is_some() {
            pending.searching = true;
            let query = kad.get_closest_peers(peer);
            self.lookups.running.insert(query, Query::Peer(peer));
        }
    }

    /// The DHT's answer to where `peer` is.
    pub(super) fn searched(&mut self, peer: PeerId, found: Vec<kad::PeerInfo>, now: Now) {
        let known = self.book.addresses(&peer).len();
        let addresses = found
            .into_iter()
            .filter(|found| found.peer_id == peer)
            .flat_map(|found| found.addrs);
        self.heard(peer, addresses);
        let more = self.book.addresses(&peer).len() > known;
        if let Some(pending) = self.dials.pending.get_mut(&peer) {
            pending.searching = false;
            if more {
                self.dial_pending(peer);
            }
        }
        self.settle(peer, now);
    }

    /// A dial ended well.
    pub(super) fn dial_succeeded(&mut self, connection: ConnectionId, peer: PeerId, now: Now) {
        self.anchors.connected(connection, peer);
        if let Some((_, reply)) = self.dials.strangers.remove(&connection) {
            let _ = reply.send(Ok(peer));
        }
        if let Some(pending) = self.dials.pending.get_mut(&peer) {
            pending.dials.remove(&connection);
        }
        self.settle(peer, now);
    }

    /// A dial ended badly.
    pub(super) fn dial_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &swarm::DialError,
        now: Now,
    ) {
        if let Some(peer) = peer
            && matches!(error, swarm::DialError::Denied { .. })
            && self.swarm.is_connected(&peer)
        {
            // One connection too many to a peer that we have: whoever wanted it has it.
            self.dial_succeeded(connection, peer, now);
            return;
        }
        self.anchors.failed(connection, error, now.instant);
        if let Some((address, reply)) = self.dials.strangers.remove(&connection) {
            let _ = reply.send(Err(DialError::new(error, &address, None)));
        }
        let Some(peer) = peer else { return };
        if let swarm::DialError::Transport(attempts) = error {
            attempts
                .iter()
                .for_each(|(address, _)| self.book.failed(&peer, address));
        }
        if let Some(pending) = self.dials.pending.get_mut(&peer)
            && pending.dials.remove(&connection)
        {
            pending.error = Some(DialError::new(error, peer, Some(peer)));
            if pending.dials.is_empty() {
                self.search_peer(peer);
            }
        }
        self.settle(peer, now);
    }

    /// Answers those who wait for any peer and can be answered.
    pub(super) fn settle_all(&mut self, now: Now) {
        let peers: Vec<_> = self.dials.pending.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.settle(peer, now));
    }

    /// Answers those who wait for `peer` and can be answered.
    pub(super) fn settle(&mut self, peer: PeerId, now: Now) {
        let Some(mut pending) = self.dials.pending.remove(&peer) else {
            return;
        };
        let hopeless = pending.dials.is_empty() && !pending.searching;
        let streams = &mut self.swarm.behaviour_mut().streams;
        let failure = || pending.error.clone().unwrap_or(DialError::NoAddress { peer });
        let mut left = Vec::new();
        for waiter in std::mem::take(&mut pending.waiters) {
            if waiter.is_gone() {
                continue;
            }
            match waiter {
                Waiter::Connect(reply) => {
                    if !streams.connections(&peer).is_empty() {
                        let _ = reply.send(Ok(()));
                    } else if hopeless {
                        Waiter::Connect(reply).fail(failure());
                    } else {
                        left.push(Waiter::Connect(reply));
                    }
                }
                Waiter::Open {
                    protocol,
                    reply,
                    since,
                } => match streams.way(&peer, &protocol) {
                    Way::Over(connection) => streams.open(peer, connection, protocol, reply),
                    Way::OnlyRelayed if hopeless && now.instant.duration_since(since) >= DIRECT_WAIT => {
                        let _ = reply.send(Err(Failure::RelayedOnly));
                    }
                    Way::None if hopeless => Waiter::Open {
                        protocol,
                        reply,
                        since,
                    }
                    .fail(failure()),
                    Way::OnlyRelayed | Way::None => left.push(Waiter::Open {
                        protocol,
                        reply,
                        since,
                    }),
                },
            }
        }
        if !left.is_empty() {
            pending.waiters = left;
            self.dials.pending.insert(peer, pending);
        }
    }
}
