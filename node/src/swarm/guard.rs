//! Who may not connect: banned peers, banned addresses, and addresses that knock too often. A libp2p behaviour without a protocol.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent,
        ToSwarm, dummy::ConnectionHandler,
    },
};

use super::address::{self, Scope};

/// Banned peers and, separately, addresses that are remembered; the oldest bans are forgotten first.
const BANS_MAX: usize = 16 * 1024;
/// Connections that one foreign address may begin in [`RATE_WINDOW`]. A carrier's NAT holds many peers; a flood is thousands.
const RATE_MAX: u32 = 64;
/// The time over which connections are counted.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("banned")]
    Banned,
    #[error("too many connections from this address")]
    TooOften,
}

/// A set that forgets its oldest member when it is full.
#[derive(Debug)]
struct Recent<T> {
    members: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self {
            members: HashSet::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Recent<T> {
    fn insert(&mut self, member: T) {
        if self.members.insert(member) {
            self.order.push_back(member);
            if self.order.len() > BANS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.members.remove(&oldest);
            }
        }
    }

    fn contains(&self, member: &T) -> bool {
        self.members.contains(member)
    }
}

#[derive(Debug)]
pub(super) struct Behaviour {
    peers: Recent<PeerId>,
    addresses: Recent<IpAddr>,
    closing: VecDeque<PeerId>,
    window: Instant,
    knocks: HashMap<IpAddr, u32>,
}

impl Behaviour {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            peers: Recent::default(),
            addresses: Recent::default(),
            closing: VecDeque::new(),
            window: now,
            knocks: HashMap::new(),
        }
    }

    /// Closes all connections to `peer` and lets none be made again, nor any from `addresses`. Loopback addresses are left out:
    /// they are everybody's on this machine.
    pub(super) fn ban(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = IpAddr>) {
        self.peers.insert(peer);
        self.closing.push_back(peer);
        addresses
            .into_iter()
            .filter(|ip| !ip.is_loopback())
            .for_each(|ip| self.addresses.insert(ip));
    }

    pub(super) fn is_banned(&self, peer: &PeerId) -> bool {
        self.peers.contains(peer)
    }

    fn check(&self, peer: Option<&PeerId>, address: &Multiaddr) -> Result<(), ConnectionDenied> {
        let by_ip = !address::is_relayed(address)
            && address::ip(address).is_some_and(|ip| self.addresses.contains(&ip));
        if by_ip || peer.is_some_and(|peer| self.is_banned(peer)) {
            return Err(ConnectionDenied::new(Denied::Banned));
        }
        Ok(())
    }

    fn count(&mut self, address: &Multiaddr, now: Instant) -> Result<(), ConnectionDenied> {
        let Some(ip) = address::ip(address).filter(|_| address::scope(address) == Some(Scope::Global)) else {
            return Ok(());
        };
        if now.duration_since(self.window) >= RATE_WINDOW {
            self.window = now;
            // Bounded by what can knock within a window; connection limits bound that.
            self.knocks = HashMap::new();
        }
        let knocks = self.knocks.entry(ip).or_default();
        *knocks += 1;
        if *knocks > RATE_MAX {
            Err(ConnectionDenied::new(Denied::TooOften))
        } else {
            Ok(())
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check(None, remote)?;
        self.count(remote, Instant::now())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<ConnectionHandler, ConnectionDenied> {
        self.check(Some(&peer), remote).map(|()| ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match peer {
            Some(peer) if self.is_banned(&peer) => Err(ConnectionDenied::new(Denied::Banned)),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<ConnectionHandler, ConnectionDenied> {
        self.check(Some(&peer), remote).map(|()| ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: std::convert::Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.closing.pop_front() {
            Some(peer_id) => Poll::Ready(ToSwarm::CloseConnection {
                peer_id,
                connection: CloseConnection::All,
            }),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_ban_holds_for_the_peer_and_for_its_address_but_not_for_loopback() {
        let (mut guard, liar, honest) = (Behaviour::new(Instant::now()), PeerId::random(), PeerId::random());
        guard.ban(liar, ["8.8.8.8".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
        assert!(guard.check(Some(&liar), &address("/ip4/9.9.9.9/tcp/1")).is_err());
        assert!(
            guard
                .check(Some(&honest), &address("/ip4/8.8.8.8/tcp/1"))
                .is_err()
        );
        assert!(guard.check(Some(&honest), &address("/ip4/9.9.9.9/tcp/1")).is_ok());
        assert!(
            guard
                .check(Some(&honest), &address("/ip4/127.0.0.1/tcp/1"))
                .is_ok()
        );
    }

    #[test]
    fn bans_are_bounded_and_the_oldest_goes_first() {
        let (mut guard, first) = (Behaviour::new(Instant::now()), PeerId::random());
        guard.ban(first, []);
        let last = PeerId::random();
        (1..BANS_MAX).for_each(|_| guard.ban(PeerId::random(), []));
        assert!(guard.is_banned(&first));
        guard.ban(last, []);
        assert!(!guard.is_banned(&first) && guard.is_banned(&last));
        assert_eq!(guard.peers.members.len(), BANS_MAX);
    }

    #[test]
    fn an_address_that_knocks_too_often_is_refused_for_a_while() {
        let start = Instant::now();
        let mut guard = Behaviour::new(start);
        let (flood, other, near) = ("/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.9/tcp/1", "/ip4/127.0.0.1/tcp/1");
        (0..RATE_MAX).for_each(|_| guard.count(&address(flood), start).unwrap());
        assert!(guard.count(&address(flood), start).is_err());
        assert!(guard.count(&address(other), start).is_ok());
        (0..10 * RATE_MAX).for_each(|_| guard.count(&address(near), start).unwrap());
        assert!(guard.count(&address(flood), start + RATE_WINDOW).is_ok());
    }
}
