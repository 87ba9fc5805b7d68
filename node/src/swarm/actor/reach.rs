//! Where others can reach us, and what follows from it: our part in the DHT, whether we lend circuits, whether we need one.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId, kad, multiaddr::Protocol, relay};
use tracing::{debug, info};

use super::{Actor, Now, address};
use crate::swarm::{DhtRole, View, address::Scope};

/// Circuits that a node behind a NAT asks for: one, and one in case its relay goes.
const CIRCUITS_MAX: usize = 2;
/// How long AutoNAT and UPnP have before we ask for a circuit, and the pause between two requests.
const CIRCUIT_WAIT: Duration = Duration::from_secs(30);
/// Relays that are remembered.
const RELAYS_MAX: usize = 64;

pub(super) struct Reach {
    role: DhtRole,
    mode: Option<kad::Mode>,
    lending: Option<bool>,
    /// Listen addresses that we take for reachable without proof.
    assumed: HashSet<Multiaddr>,
    /// Connected peers that lend circuits, with an address of theirs.
    relays: HashMap<PeerId, Multiaddr>,
    circuits: HashMap<ListenerId, PeerId>,
    seek: Instant,
}

impl Reach {
    pub(super) fn new(role: DhtRole, now: Instant) -> Self {
        Self {
            role,
            mode: None,
            lending: None,
            assumed: HashSet::new(),
            relays: HashMap::new(),
            circuits: HashMap::new(),
            seek: now + CIRCUIT_WAIT,
        }
    }

    /// A connected peer says that it lends circuits.
    pub(super) fn relay_found(&mut self, peer: PeerId, address: Multiaddr) {
        if self.relays.len() < RELAYS_MAX {
            self.relays.insert(peer, address);
        }
    }

    pub(super) fn peer_gone(&mut self, peer: &PeerId) {
        self.relays.remove(peer);
    }

    /// Whether the closed listener was a circuit.
    pub(super) fn circuit_closed(&mut self, id: ListenerId) -> bool {
        self.circuits.remove(&id).is_some()
    }
}

impl Actor {
    /// The narrowest scope we live in ourselves: addresses in it can mean something to us.
    pub(super) fn own_scope(&self) -> Scope {
        let direct = self
            .swarm
            .listeners()
            .filter(|listener| !address::is_relayed(listener));
        let scopes: Vec<_> = direct.filter_map(address::scope).collect();
        let off_loopback = scopes
            .iter()
            .copied()
            .filter(|scope| *scope > Scope::Loopback)
            .min();
        match off_loopback {
            Some(scope) => scope,
            None if !scopes.is_empty() => Scope::Loopback,
            // We listen nowhere: as near as those we know.
            None => {
                let connections = self
                    .swarm
                    .behaviour()
                    .streams
                    .peers()
                    .flat_map(|(_, connections)| connections);
                connections
                    .filter_map(|connection| address::scope(&connection.address))
                    .min()
                    .unwrap_or(Scope::Global)
            }
        }
    }

    /// Draws the conclusions after an address of ours came or went.
    pub(super) fn update_reach(&mut self) {
        let listeners: Vec<_> = self
            .swarm
            .listeners()
            .filter(|one| !address::is_relayed(one))
            .cloned()
            .collect();
        let loopback_only = self.own_scope() == Scope::Loopback;
        let assumed: HashSet<_> = listeners
            .iter()
            .filter(|listener| match address::scope(listener) {
                Some(Scope::Loopback) => loopback_only,
                Some(Scope::Private) => true,
                Some(Scope::Global) => self.reach.role == DhtRole::Server,
                None => false,
            })
            .cloned()
            .collect();
        for gone in self.reach.assumed.difference(&assumed) {
            self.swarm.remove_external_address(gone);
        }
        for new in assumed.difference(&self.reach.assumed) {
            self.swarm.add_external_address(new.clone());
        }
        self.reach.assumed = assumed;
        let proven = self.is_reachable();
        let global = listeners
            .iter()
            .any(|listener| address::scope(listener) == Some(Scope::Global));
        let mode = match self.reach.role {
            DhtRole::Server => kad::Mode::Server,
            DhtRole::Client => kad::Mode::Client,
            // Who cannot be reached from outside serves those inside; nobody outside will keep its private addresses.
            DhtRole::Auto if !listeners.is_empty() && (proven || !global) => kad::Mode::Server,
            DhtRole::Auto => kad::Mode::Client,
        };
        if self.reach.mode.replace(mode) != Some(mode) {
            debug!(?mode, "our part in the DHT");
            self.swarm.behaviour_mut().kad.set_mode(Some(mode));
        }
        let lending = proven || self.reach.role == DhtRole::Server;
        if self.reach.lending.replace(lending) != Some(lending) {
            let status = if lending {
                relay::Status::Enable
            } else {
                relay::Status::Disable
            };
            self.swarm.behaviour_mut().relay.set_status(Some(status));
        }
        self.publish_view();
    }

    /// Whether an address is known at which anybody can reach us directly.
    fn is_reachable(&self) -> bool {
        let mut external = self.swarm.external_addresses();
        external.any(|one| !address::is_relayed(one) && address::scope(one) == Some(Scope::Global))
    }

    fn publish_view(&self) {
        let local = *self.swarm.local_peer_id();
        let named = |found: &Multiaddr| address::with_peer(found, local);
        let listeners = self.swarm.listeners().filter_map(named).collect();
        let external = self.swarm.external_addresses().filter_map(named).collect();
        self.view.send_replace(View { listeners, external });
    }

    /// Asks a relay for a circuit if nobody outside can reach us otherwise.
    pub(super) fn seek_circuit(&mut self, now: Now) {
        if self.reach.seek > now.instant || self.reach.circuits.len() >= CIRCUITS_MAX || self.is_reachable() {
            return;
        }
        self.reach.seek = now.instant + CIRCUIT_WAIT;
        let used: HashSet<_> = self.reach.circuits.values().collect();
        let Some((relay, found)) = self.reach.relays.iter().find(|(relay, _)| !used.contains(relay)) else {
            return;
        };
        let (relay, found) = (*relay, found.clone());
        let Some(circuit) = address::with_peer(&found, relay).map(|found| found.with(Protocol::P2pCircuit))
        else {
            return;
        };
        match self.swarm.listen_on(circuit) {
            Ok(id) => {
                info!(%relay, "asking for a circuit: no direct way leads here from outside");
                self.reach.circuits.insert(id, relay);
            }
            Err(error) => debug!(%relay, %error, "no circuit"),
        }
    }
}
