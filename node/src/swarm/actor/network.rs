//! What the network says: connections, listeners, and the events of every behaviour, each turned into a decision.

use libp2p::{
    Multiaddr, PeerId, autonat,
    core::ConnectedPoint,
    dcutr, identify,
    kad::{self, InboundRequest},
    mdns, ping, relay,
    swarm::{ConnectionId, SwarmEvent as Raw},
    upnp,
};
use tracing::{debug, info, warn};

use super::{Actor, Now, Peer, SwarmError, SwarmEvent, address};
use crate::swarm::{
    address::{Net, Scope},
    behaviour::{BehaviourEvent, KAD_PROTOCOL},
    records::{ADDRESSES_MAX, Kept, Refusal},
};

/// Unanswered pings in a row after which a connection counts as dead: half a minute.
const SILENT_MAX: u8 = 3;
/// Longest name of a peer's program that we repeat, in characters.
const AGENT_LEN_MAX: usize = 64;
/// Peers of the local network that we connect to by ourselves.
const NEIGHBOURS_MAX: usize = 64;
/// Peers of one foreign network in one bucket of the routing table: more and one landlord could be all our neighbours.
const BUCKET_NET_MAX: usize = 2;

impl Actor {
    pub(super) fn network(&mut self, event: Raw<BehaviourEvent>, now: Now) {
        match event {
            Raw::Behaviour(event) => self.behaviour(event, now),
            Raw::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.connected(peer_id, connection_id, &endpoint, now);
            }
            Raw::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                ..
            } => {
                self.silent.remove(&connection_id);
                if num_established == 0 {
                    self.peers.remove(&peer_id);
                    self.reach.peer_gone(&peer_id);
                    self.emit(SwarmEvent::Disconnected(peer_id));
                }
            }
            Raw::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                debug!(peer = ?peer_id, %error, "dial failed");
                self.dial_failed(connection_id, peer_id, &error, now);
            }
            other => self.listening(other),
        }
    }

    /// What changed about where we can be found.
    fn listening(&mut self, event: Raw<BehaviourEvent>) {
        match event {
            Raw::NewListenAddr { listener_id, address } => {
                if let Some(listener) = self
                    .listeners
                    .iter_mut()
                    .find(|listener| listener.id == listener_id)
                {
                    listener.bound = true;
                }
                info!(%address, "listening");
                self.update_reach();
                let local = *self.swarm.local_peer_id();
                self.emit(SwarmEvent::Listening(
                    address::with_peer(&address, local).unwrap_or(address),
                ));
            }
            Raw::ExpiredListenAddr { address, .. } => {
                info!(%address, "no longer listening");
                self.update_reach();
                let local = *self.swarm.local_peer_id();
                self.emit(SwarmEvent::NotListening(
                    address::with_peer(&address, local).unwrap_or(address),
                ));
            }
            Raw::ListenerClosed {
                listener_id, reason, ..
            } => {
                if !self.reach.circuit_closed(listener_id)
                    && let Some(listener) = self.listeners.iter().find(|listener| listener.id == listener_id)
                {
                    let reason = reason
                        .err()
                        .map_or_else(|| "closed".to_owned(), |error| error.to_string());
                    let address = listener.address.clone();
                    warn!(%address, reason, "listener closed");
                    self.failed.get_or_insert(SwarmError::Listen { address, reason });
                }
                self.update_reach();
            }
            Raw::ListenerError { error, .. } => debug!(%error, "listener"),
            Raw::ExternalAddrConfirmed { address } => {
                info!(%address, "others can reach us");
                self.update_reach();
                self.emit(SwarmEvent::Reachable(address));
            }
            Raw::ExternalAddrExpired { address } => {
                info!(%address, "others can no longer reach us");
                self.update_reach();
            }
            // Only news, or told to us by the behaviour that caused it.
            _ => {}
        }
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint, now: Now) {
        let first = !self.peers.contains_key(&peer);
        let fresh = Peer {
            agent: None,
            rtt: None,
            since: now.instant,
            dht: false,
            faults: 0,
        };
        self.peers.entry(peer).or_insert(fresh);
        if endpoint.is_dialer() && !endpoint.is_relayed() {
            self.book.answered(peer, endpoint.get_remote_address(), now.unix);
        }
        if first {
            let dialled = endpoint.is_dialer();
            self.emit(SwarmEvent::Connected { peer, dialled });
        }
        self.dial_succeeded(connection, peer, now);
    }

    fn behaviour(&mut self, event: BehaviourEvent, now: Now) {
        match event {
            BehaviourEvent::Kad(event) => self.kad(event, now),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.identified(peer_id, info)
            }
            BehaviourEvent::Identify(event) => debug!(?event, "identify"),
            BehaviourEvent::Ping(event) => self.pinged(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.discovered(found),
            BehaviourEvent::Mdns(mdns::Event::Expired(_)) => {}
            BehaviourEvent::Upnp(upnp::Event::NewExternalAddr { external_addr, .. }) => {
                info!(address = %external_addr, "the router maps a port for us");
            }
            BehaviourEvent::Upnp(event) => debug!(?event, "upnp"),
            BehaviourEvent::AutonatClient(autonat::v2::client::Event {
                tested_addr, result, ..
            }) => {
                debug!(address = %tested_addr, reachable = result.is_ok(), "autonat");
            }
            BehaviourEvent::AutonatServer(event) => debug!(?event, "autonat server"),
            BehaviourEvent::Circuits(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                renewal,
                ..
            }) => {
                debug!(relay = %relay_peer_id, renewal, "circuit granted");
            }
            BehaviourEvent::Circuits(event) => debug!(?event, "circuit"),
            BehaviourEvent::Relay(event) => debug!(?event, "relay"),
            BehaviourEvent::Dcutr(dcutr::Event {
                remote_peer_id,
                result,
            }) => {
                debug!(peer = %remote_peer_id, direct = result.is_ok(), "hole punching");
            }
            BehaviourEvent::Limits(never)
            | BehaviourEvent::Memory(never)
            | BehaviourEvent::Guard(never)
            | BehaviourEvent::Streams(never) => match never {},
        }
    }

    fn kad(&mut self, event: kad::Event, now: Now) {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::AddProvider { record: Some(record) },
            } => {
                self.provider_offered(record, now);
            }
            kad::Event::InboundRequest {
                request:
                    InboundRequest::PutRecord {
                        source,
                        record: Some(record),
                        ..
                    },
            } => {
                let net = self.net_of(&source);
                self.records().advance(now.unix);
                let result = self
                    .records()
                    .offer_value(record.key.as_ref(), &record.value, source, net);
                self.judged(source, result);
            }
            kad::Event::InboundRequest { .. } => {}
            kad::Event::OutboundQueryProgressed {
                id,
                result,
                stats,
                step,
            } => {
                self.progressed(id, result, &stats, &step, now);
            }
            kad::Event::RoutingUpdated {
                peer,
                is_new_peer: true,
                ..
            } => {
                let nodes = self.routing_size();
                self.schedule.node_joined(nodes, now.instant);
                self.emit(SwarmEvent::RoutingUpdated(peer));
            }
            kad::Event::RoutingUpdated { .. } => {}
            kad::Event::RoutablePeer { peer, address }
            | kad::Event::PendingRoutablePeer { peer, address } => {
                self.route(peer, [address]);
            }
            kad::Event::UnroutablePeer { .. } | kad::Event::ModeChanged { .. } => {}
        }
    }

    /// "I provide this", from the provider itself: libp2p has checked that.
    fn provider_offered(&mut self, record: kad::ProviderRecord, now: Now) {
        let peer = record.provider;
        let told_from = self.scope_of(&peer);
        let named = record
            .addresses
            .into_iter()
            .filter(|found| address::is_plausible(found, told_from));
        let mut addresses: Vec<_> = named.take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            // A node that knows of no address of its own may still have told us by identify where it listens.
            addresses = self.book.addresses(&peer).to_vec();
        }
        let net = self.net_of(&peer);
        self.records().advance(now.unix);
        let result = self
            .records()
            .offer_provider(record.key.as_ref(), peer, addresses, net);
        self.judged(peer, result);
    }

    /// Whoever sends what no honest node can send, again and again, is sent away.
    fn judged(&mut self, peer: PeerId, result: Result<Kept, Refusal>) {
        /// Impossible records from one peer before it is banned: old versions of us make none at all.
        const FAULTS_MAX: u32 = 32;
        let Err(refusal) = result else { return };
        debug!(%peer, %refusal, "record refused");
        let impossible = match refusal {
            Refusal::Key | Refusal::TooLong | Refusal::NotARelease | Refusal::WrongKey => true,
            Refusal::Expired
            | Refusal::TooNew
            | Refusal::Older
            | Refusal::Fork
            | Refusal::PeerQuota
            | Refusal::NetQuota
            | Refusal::Full => false,
        };
        if impossible && let Some(known) = self.peers.get_mut(&peer) {
            known.faults += 1;
            if known.faults == FAULTS_MAX {
                warn!(%peer, faults = FAULTS_MAX, "peer keeps sending impossible records");
                self.ban(peer);
            }
        }
    }

    fn identified(&mut self, peer: PeerId, info: identify::Info) {
        let dht = info.protocols.contains(&KAD_PROTOCOL);
        if let Some(known) = self.peers.get_mut(&peer) {
            let printable = info
                .agent_version
                .chars()
                .filter(|c| c.is_ascii_graphic() || *c == ' ');
            known.agent = Some(printable.take(AGENT_LEN_MAX).collect());
            known.dht = dht;
        }
        let told_from = self.scope_of(&peer);
        let plausible = info
            .listen_addrs
            .into_iter()
            .filter(|found| address::is_plausible(found, told_from));
        let addresses: Vec<_> = plausible.take(ADDRESSES_MAX).collect();
        self.book.heard(peer, addresses.iter().cloned());
        if info.protocols.contains(&relay::HOP_PROTOCOL_NAME) {
            let global = |found: &&Multiaddr| {
                !address::is_relayed(found) && address::scope(found) == Some(Scope::Global)
            };
            if let Some(found) = addresses.iter().find(global) {
                self.reach.relay_found(peer, found.clone());
            }
        }
        if dht {
            self.route(peer, addresses);
        } else {
            self.swarm.behaviour_mut().kad.remove_peer(&peer);
        }
    }

    /// Puts a peer that answers DHT requests into the routing table, at addresses that were judged plausible.
    fn route(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>) {
        for found in addresses {
            if address::is_relayed(&found)
                || address::scope(&found).is_none()
                || self.is_crowded(peer, &found)
            {
                continue;
            }
            let kad = &mut self.swarm.behaviour_mut().kad;
            kad.add_address(&peer, found);
            let Some(bucket) = kad.kbucket(peer) else {
                return;
            };
            let listed = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
            let oldest = listed
                .filter(|entry| entry.node.value.len() > ADDRESSES_MAX)
                .map(|entry| entry.node.value.first().clone());
            if let Some(oldest) = oldest {
                kad.remove_address(&peer, &oldest);
            }
        }
    }

    /// Whether the bucket that `peer` would be new in has enough peers from its network already.
    fn is_crowded(&mut self, peer: PeerId, found: &Multiaddr) -> bool {
        let Some(net) = address::ip(found).and_then(Net::of) else {
            return false;
        };
        let Some(bucket) = self.swarm.behaviour_mut().kad.kbucket(peer) else {
            return false;
        };
        let mut of_net = 0;
        for entry in bucket.iter() {
            if *entry.node.key.preimage() == peer {
                return false;
            }
            if entry
                .node
                .value
                .iter()
                .any(|known| address::ip(known).and_then(Net::of) == Some(net))
            {
                of_net += 1;
            }
        }
        of_net >= BUCKET_NET_MAX
    }

    pub(super) fn routing_size(&mut self) -> usize {
        self.swarm
            .behaviour_mut()
            .kad
            .kbuckets()
            .map(|bucket| bucket.num_entries())
            .sum()
    }

    fn pinged(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => {
                self.silent.remove(&event.connection);
                if let Some(known) = self.peers.get_mut(&event.peer) {
                    known.rtt = Some(rtt);
                }
            }
            Err(ping::Failure::Unsupported) => {}
            Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => {
                let silent = self.silent.entry(event.connection).or_default();
                *silent += 1;
                if *silent >= SILENT_MAX {
                    self.silent.remove(&event.connection);
                    debug!(peer = %event.peer, "connection is dead");
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }

    fn discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut new = Vec::new();
        for (peer, found) in found {
            if address::is_plausible(&found, Scope::Private) {
                self.book.heard(peer, [found]);
                if !new.contains(&peer) {
                    new.push(peer);
                }
            }
        }
        for peer in new {
            debug!(%peer, "found on the local network");
            if !self.swarm.is_connected(&peer) && self.swarm.behaviour().streams.peer_count() < NEIGHBOURS_MAX
            {
                self.try_dial(peer);
            }
            self.emit(SwarmEvent::Discovered(peer));
        }
    }

    /// From how near `peer` speaks to us; through a relay everybody is far.
    pub(super) fn scope_of(&self, peer: &PeerId) -> Scope {
        let connections = self.swarm.behaviour().streams.connections(peer).iter();
        let direct = connections.filter(|connection| !connection.relayed);
        direct
            .filter_map(|connection| address::scope(&connection.address))
            .min()
            .unwrap_or(Scope::Global)
    }

    /// From which network `peer` speaks to us.
    fn net_of(&self, peer: &PeerId) -> Option<Net> {
        let connections = self.swarm.behaviour().streams.connections(peer);
        match connections.iter().find(|connection| !connection.relayed) {
            Some(connection) => address::ip(&connection.address).and_then(Net::of),
            None => Some(Net::RELAYED),
        }
    }
}
