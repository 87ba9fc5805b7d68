//! Byte streams between two nodes: our own libp2p behaviour, because libp2p-stream drops inbound streams when nobody waits for
//! them and opens outbound ones on a random connection.
//!
//! Inbound streams go into one bounded queue per protocol; one that finds it full is dropped, counted and reported. Outbound
//! streams go over a chosen connection: direct before relayed, then the carrier of choice, then the older one. What a stream
//! carries is none of its business. Invariant: `connections` holds exactly the established connections.

mod handler;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        THandlerInEvent, ToSwarm, behaviour::ConnectionEstablished,
    },
};
use tokio::sync::mpsc;
use tracing::warn;

pub(super) use self::handler::{Failure, Reply};
use self::handler::{Handler, Open};
use super::address::{self, Carrier};

/// Inbound streams of one protocol that wait for somebody to take them. Two hundred at once is a busy provider's worst second.
const INBOUND_QUEUE: usize = 256;
/// One warning per this many dropped streams, after the first.
const DROPPED_PER_WARNING: u64 = 1_000;

/// A protocol whose streams this node accepts.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Its name, as in `/shoal/blobs/1`.
    pub name: StreamProtocol,
    /// Whether it may run over a relayed connection. A relay carries 128 KiB and two minutes: nothing that moves data may.
    pub over_relay: bool,
}

impl Protocol {
    /// A protocol that runs over direct connections only.
    pub const fn direct(name: &'static str) -> Self {
        Self {
            name: StreamProtocol::new(name),
            over_relay: false,
        }
    }

    /// A protocol of small messages, which may go over a relay too.
    pub const fn anywhere(name: &'static str) -> Self {
        Self {
            name: StreamProtocol::new(name),
            over_relay: true,
        }
    }
}

/// A stream that a peer opened to us.
#[derive(Debug)]
pub struct InboundStream {
    /// Who opened it: authenticated by the connection.
    pub peer: PeerId,
    /// The bytes.
    pub stream: Stream,
}

/// One established connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) address: Multiaddr,
    pub(super) relayed: bool,
    carrier: Option<Carrier>,
}

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Over this connection.
    Over(ConnectionId),
    /// There are only relayed connections, which this protocol may not use.
    OnlyRelayed,
    /// There is no connection.
    None,
}

/// Where inbound streams go, shared with all connection handlers.
#[derive(Debug)]
pub(super) struct Inbox {
    queues: Vec<(Protocol, mpsc::Sender<InboundStream>)>,
    dropped: AtomicU64,
}

impl Inbox {
    fn deliver(&self, peer: PeerId, protocol: &StreamProtocol, stream: Stream) {
        let Some((_, queue)) = self.queues.iter().find(|(known, _)| known.name == *protocol) else {
            return;
        };
        if queue.try_send(InboundStream { peer, stream }).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped % DROPPED_PER_WARNING == 1 {
                warn!(%peer, %protocol, dropped, "inbound streams dropped: nobody takes them fast enough");
            }
        }
    }

    /// How many inbound streams were dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A protocol's queue of inbound streams, to be taken by whoever serves it.
pub type Inbound = (StreamProtocol, mpsc::Receiver<InboundStream>);

pub(super) struct Behaviour {
    inbox: Arc<Inbox>,
    preferred: Carrier,
    connections: HashMap<PeerId, Vec<Connection>>,
    opening: VecDeque<(PeerId, ConnectionId, Open)>,
}

impl Behaviour {
    /// A behaviour that accepts `protocols`, with the queues of their streams in the same order.
    pub(super) fn new(protocols: Vec<Protocol>, preferred: Carrier) -> (Self, Vec<Inbound>) {
        let (queues, inbound) = protocols
            .into_iter()
            .map(|protocol| {
                let (sender, receiver) = mpsc::channel(INBOUND_QUEUE);
                let name = protocol.name.clone();
                ((protocol, sender), (name, receiver))
            })
            .unzip();
        let inbox = Arc::new(Inbox {
            queues,
            dropped: AtomicU64::new(0),
        });
        (
            Self {
                inbox,
                preferred,
                connections: HashMap::new(),
                opening: VecDeque::new(),
            },
            inbound,
        )
    }

    pub(super) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// The connections to `peer`.
    pub(super) fn connections(&self, peer: &PeerId) -> &[Connection] {
        self.connections.get(peer).map_or(&[], Vec::as_slice)
    }

    /// Everybody we are connected to.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&PeerId, &[Connection])> {
        self.connections
            .iter()
            .map(|(peer, connections)| (peer, connections.as_slice()))
    }

    /// Number of peers we are connected to.
    pub(super) fn peer_count(&self) -> usize {
        self.connections.len()
    }

    /// The best way to `peer` for `protocol`.
    pub(super) fn way(&self, peer: &PeerId, protocol: &StreamProtocol) -> Way {
        let connections = self.connections(peer);
        // `min_by_key` keeps the first of equals, and the first is the oldest.
        let best = connections
            .iter()
            .min_by_key(|one| (one.relayed, one.carrier != Some(self.preferred)));
        match best {
            None => Way::None,
            Some(best) if best.relayed && !self.may_be_relayed(protocol) => Way::OnlyRelayed,
            Some(best) => Way::Over(best.id),
        }
    }

    /// Opens a stream over one connection. The reply comes through `reply`, which is dropped if the connection closes first.
    pub(super) fn open(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        protocol: StreamProtocol,
        reply: Reply,
    ) {
        self.opening
            .push_back((peer, connection, Open { protocol, reply }));
    }

    fn may_be_relayed(&self, protocol: &StreamProtocol) -> bool {
        self.inbox
            .queues
            .iter()
            .any(|(known, _)| known.name == *protocol && known.over_relay)
    }

    fn handler(&self, peer: PeerId, relayed: bool) -> Handler {
        let accepted = self
            .inbox
            .queues
            .iter()
            .filter(|(protocol, _)| !relayed || protocol.over_relay);
        Handler::new(
            peer,
            accepted.map(|(protocol, _)| protocol.name.clone()).collect(),
            Arc::clone(&self.inbox),
        )
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        // An inbound relayed connection shows the relay in our own address.
        Ok(self.handler(peer, address::is_relayed(local) || address::is_relayed(remote)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer, address::is_relayed(remote)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let address = endpoint.get_remote_address().clone();
                let connection = Connection {
                    id: connection_id,
                    relayed: endpoint.is_relayed(),
                    carrier: address::carrier(&address),
                    address,
                };
                self.connections.entry(peer_id).or_default().push(connection);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                ..
            }) => {
                if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.retain(|connection| connection.id != connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
                // Dropping the request drops its reply: the one who waits learns that it must look for another way.
                self.opening
                    .retain(|(_, connection, _)| *connection != connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: std::convert::Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // The actor calls `open` and polls the swarm from one task: nobody needs to be woken.
        match self.opening.pop_front() {
            Some((peer_id, connection, open)) => {
                let handler = NotifyHandler::One(connection);
                Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event: open,
                })
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::ConnectedPoint;

    use super::*;

    const DATA: StreamProtocol = StreamProtocol::new("/data");
    const WORDS: StreamProtocol = StreamProtocol::new("/words");

    fn endpoint(address: &str) -> ConnectedPoint {
        ConnectedPoint::Dialer {
            address: address.parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        }
    }

    fn establish(behaviour: &mut Behaviour, peer: PeerId, id: usize, address: &str) -> ConnectionId {
        let connection_id = ConnectionId::new_unchecked(id);
        behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id,
            endpoint: &endpoint(address),
            failed_addresses: &[],
            other_established: 0,
        }));
        connection_id
    }

    fn close(behaviour: &mut Behaviour, peer: PeerId, connection_id: ConnectionId) {
        behaviour.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: peer,
            connection_id,
            endpoint: &endpoint("/ip4/8.8.8.8/tcp/1"),
            cause: None,
            remaining_established: 0,
        }));
    }

    fn behaviour(preferred: Carrier) -> Behaviour {
        Behaviour::new(
            vec![Protocol::direct("/data"), Protocol::anywhere("/words")],
            preferred,
        )
        .0
    }

    #[test]
    fn direct_goes_before_relayed_and_the_preferred_carrier_before_the_other() {
        let peer = PeerId::random();
        let relayed = format!("/ip4/8.8.8.8/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        for (preferred, wins) in [(Carrier::Tcp, 3), (Carrier::Quic, 2)] {
            let mut behaviour = behaviour(preferred);
            assert_eq!(behaviour.way(&peer, &DATA), Way::None);
            let first = establish(&mut behaviour, peer, 1, &relayed);
            assert_eq!(behaviour.way(&peer, &DATA), Way::OnlyRelayed);
            assert_eq!(behaviour.way(&peer, &WORDS), Way::Over(first));
            establish(&mut behaviour, peer, 2, "/ip4/8.8.8.8/udp/1/quic-v1");
            establish(&mut behaviour, peer, 3, "/ip4/8.8.8.8/tcp/1");
            establish(&mut behaviour, peer, 4, "/ip4/8.8.8.8/tcp/2");
            for protocol in [DATA, WORDS] {
                assert_eq!(
                    behaviour.way(&peer, &protocol),
                    Way::Over(ConnectionId::new_unchecked(wins))
                );
            }
        }
    }

    #[test]
    fn a_closed_connection_leaves_nothing_behind_and_tells_those_who_wait() {
        let (mut behaviour, peer) = (behaviour(Carrier::Tcp), PeerId::random());
        let mut answers = Vec::new();
        for id in 0..100 {
            let connection = establish(&mut behaviour, peer, id, "/ip4/8.8.8.8/tcp/1");
            let (reply, answer) = tokio::sync::oneshot::channel();
            behaviour.open(peer, connection, DATA, reply);
            answers.push(answer);
            close(&mut behaviour, peer, connection);
        }
        assert!(behaviour.connections.is_empty() && behaviour.opening.is_empty());
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()));
    }
}
