//! What peers tell each other about third ones: what we may tell to whom, and what we believe of whom.

use libp2p::{Multiaddr, PeerId};

use super::{Actor, address};

impl Actor {
    /// Those of `peers` that are connected to us directly, with the addresses of theirs that mean something to `to`, best
    /// first. The far end of a connection that they made is none.
    pub(super) fn addresses_for(&self, to: &PeerId, peers: Vec<PeerId>) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let told_to = self.scope_of(to);
        let found = peers.into_iter().filter_map(|peer| {
            let connections = self.swarm.behaviour().streams.connections(&peer);
            if connections.iter().all(|connection| connection.relayed) {
                return None;
            }
            let known = self.book.addresses(&peer).iter();
            let addresses: Vec<_> = known
                .filter(|known| address::is_plausible(known, told_to))
                .cloned()
                .collect();
            (!addresses.is_empty()).then_some((peer, addresses))
        });
        found.collect()
    }

    /// Takes in what `teller` says of others, and returns those of them that it may know, and that are not banned.
    pub(super) fn heard_from(&mut self, teller: &PeerId, told: Vec<(PeerId, Vec<Multiaddr>)>) -> Vec<PeerId> {
        let told_from = self.scope_of(teller);
        let mut heard = Vec::new();
        for (peer, addresses) in told {
            let plausible = addresses
                .into_iter()
                .filter(|found| address::is_plausible(found, told_from));
            let plausible: Vec<_> = plausible.collect();
            if !plausible.is_empty() && !self.swarm.behaviour().guard.is_banned(&peer) {
                self.book.heard(peer, plausible);
                heard.push(peer);
            }
        }
        heard
    }
}
