//! Nodes that were named in the configuration, and how the swarm keeps in touch with enough others.

use std::time::{Duration, Instant};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{ConnectionId, dial_opts::DialOpts},
};
use tracing::{debug, info};

use super::{Actor, Now, address};

/// Peers from last time that are dialled at the start.
pub(super) const GREETED: usize = 16;
/// With fewer connected peers than this, known ones are dialled again.
const COMPANY: usize = 4;
/// How often, and how many at a time.
const COMPANY_EVERY: Duration = Duration::from_secs(30);
const COMPANY_STEP: usize = 4;
/// Pause after the first failure to reach a configured node; doubles up to the longest.
const WAIT_MIN: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);

struct Anchor {
    address: Multiaddr,
    /// Who it is, from its address or from the last time it answered.
    peer: Option<PeerId>,
    dialling: Option<ConnectionId>,
    wait: Duration,
    due: Instant,
}

/// The nodes to know from the start.
pub(super) struct Anchors {
    anchors: Vec<Anchor>,
    company: Instant,
}

impl Anchors {
    pub(super) fn new(addresses: Vec<Multiaddr>, now: Instant) -> Self {
        let anchor = |address: Multiaddr| {
            let peer = address::peer(&address);
            Anchor {
                address,
                peer,
                dialling: None,
                wait: WAIT_MIN,
                due: now,
            }
        };
        Self {
            anchors: addresses.into_iter().map(anchor).collect(),
            company: now + COMPANY_EVERY,
        }
    }

    pub(super) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(anchor) = self
            .anchors
            .iter_mut()
            .find(|anchor| anchor.dialling == Some(connection))
        {
            info!(address = %anchor.address, %peer, "reached a configured node");
            anchor.peer = Some(peer);
            anchor.dialling = None;
            anchor.wait = WAIT_MIN;
        }
    }

    pub(super) fn failed(&mut self, connection: ConnectionId, reason: impl std::fmt::Display, now: Instant) {
        if let Some(anchor) = self
            .anchors
            .iter_mut()
            .find(|anchor| anchor.dialling == Some(connection))
        {
            debug!(address = %anchor.address, %reason, retry = ?anchor.wait, "could not reach a configured node");
            anchor.dialling = None;
            anchor.due = now + anchor.wait;
            anchor.wait = (anchor.wait * 2).min(WAIT_MAX);
        }
    }
}

impl Actor {
    /// Dials configured nodes that are not connected, and a few known ones when company is thin.
    pub(super) fn dial_anchors(&mut self, now: Now) {
        let mut failed = Vec::new();
        for anchor in &mut self.anchors.anchors {
            let lost =
                anchor.dialling.is_none() && !anchor.peer.is_some_and(|peer| self.swarm.is_connected(&peer));
            if !lost || anchor.due > now.instant {
                continue;
            }
            let opts = DialOpts::unknown_peer_id()
                .address(anchor.address.clone())
                .build();
            anchor.dialling = Some(opts.connection_id());
            anchor.due = now.instant + anchor.wait;
            let connection = opts.connection_id();
            if let Err(error) = self.swarm.dial(opts) {
                failed.push((connection, error));
            }
        }
        for (connection, error) in failed {
            self.anchors.failed(connection, error, now.instant);
        }
        if self.anchors.company <= now.instant {
            self.anchors.company = now.instant + COMPANY_EVERY;
            if self.swarm.behaviour().streams.peer_count() < COMPANY {
                let known = self.book.recent(GREETED);
                let absent = known
                    .into_iter()
                    .filter(|peer| !self.swarm.is_connected(peer))
                    .take(COMPANY_STEP);
                for peer in absent.collect::<Vec<_>>() {
                    self.try_dial(peer);
                }
            }
        }
    }
}
