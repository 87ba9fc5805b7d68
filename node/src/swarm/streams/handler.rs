//! One connection's part of the streams behaviour: asks for outbound streams, hands inbound ones to the inbox.
//!
//! It keeps no connection alive by itself: streams in use do.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::oneshot;

use super::Inbox;
use crate::swarm::errors::DialError;

/// Streams that wait on one connection to be opened; more are refused. A peer grants 256 at once.
const OPENING_MAX: usize = 1_024;
/// How long the two sides may take to agree on a protocol.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection did not give a stream.
#[derive(Debug)]
pub(in crate::swarm) enum Failure {
    /// The peer did not answer in time.
    Timeout,
    /// Too many streams wait on this connection already.
    TooMany,
    /// The connection broke.
    Broken(std::io::Error),
    /// There are only relayed connections, and the protocol may not use one.
    RelayedOnly,
    /// There is no connection.
    NotConnected(DialError),
}

/// Where the stream goes. Dropped without a word if the connection closes first.
pub(in crate::swarm) type Reply = oneshot::Sender<Result<Stream, Failure>>;

/// The wish for a stream.
pub(in crate::swarm) struct Open {
    pub(in crate::swarm) protocol: StreamProtocol,
    pub(in crate::swarm) reply: Reply,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// The names on offer, in one stream's negotiation.
#[derive(Clone, Debug)]
pub(in crate::swarm) struct Names(Arc<[StreamProtocol]>);

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((name, stream)))
    }
}

impl OutboundUpgrade<Stream> for Names {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

pub(in crate::swarm) struct Handler {
    peer: PeerId,
    accepted: Names,
    inbox: Arc<Inbox>,
    wishes: VecDeque<Open>,
    /// Requests handed to libp2p that have no stream yet.
    opening: usize,
}

impl Handler {
    pub(super) fn new(peer: PeerId, accepted: Vec<StreamProtocol>, inbox: Arc<Inbox>) -> Self {
        Self {
            peer,
            accepted: Names(accepted.into()),
            inbox,
            wishes: VecDeque::new(),
            opening: 0,
        }
    }

    fn finish(&mut self, reply: Reply, result: Result<Stream, Failure>) {
        self.opening = self.opening.saturating_sub(1);
        // Nobody waits any more: the stream is closed by being dropped.
        let _ = reply.send(result);
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Names;
    type OutboundProtocol = Names;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(self.accepted.clone(), ()).with_timeout(NEGOTIATION_TIMEOUT)
    }

    fn on_behaviour_event(&mut self, open: Open) {
        if self.wishes.len() + self.opening >= OPENING_MAX {
            let _ = open.reply.send(Err(Failure::TooMany));
        } else {
            self.wishes.push_back(open);
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Names, Reply, Infallible>> {
        while let Some(Open { protocol, reply }) = self.wishes.pop_front() {
            if reply.is_closed() {
                continue;
            }
            self.opening += 1;
            let protocol =
                SubstreamProtocol::new(Names([protocol].into()), reply).with_timeout(NEGOTIATION_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Names, Names, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (name, stream),
                ..
            }) => {
                self.inbox.deliver(self.peer, &name, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: reply,
            }) => {
                self.finish(reply, Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let failure = match error {
                    StreamUpgradeError::Timeout => Failure::Timeout,
                    // Not here: we ask for one protocol and go on before the answer, so that the reader learns it.
                    StreamUpgradeError::NegotiationFailed => {
                        Failure::Broken(std::io::ErrorKind::Unsupported.into())
                    }
                    StreamUpgradeError::Io(error) => Failure::Broken(error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.finish(reply, Err(failure));
            }
            _ => {}
        }
    }
}
