//! What can go wrong in the swarm, one enum a verb.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId, StreamProtocol, swarm};

use super::{guard, records::Refusal, streams::Failure};

/// Why the swarm did not start.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// The address is not ours, in use, or of a kind we cannot listen on.
    #[error("could not listen on {address}: {reason}")]
    Listen {
        /// As configured.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
    /// The system did not say in time whether we listen.
    #[error("no listener on {address} within {waited:?}")]
    ListenTimeout {
        /// As configured.
        address: Multiaddr,
        /// How long we waited.
        waited: Duration,
    },
    /// Sockets or handshake keys could not be set up.
    #[error("could not set up the network")]
    Setup(#[source] std::io::Error),
}

/// Why a peer was not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No address of the peer is known, and the DHT knows none.
    #[error("no known address of {peer}")]
    NoAddress {
        /// Whom we wanted.
        peer: PeerId,
    },
    /// Nobody answered at any address. Theirs, or the network's fault.
    #[error("{target} could not be reached: {reason}")]
    Unreachable {
        /// Whom or what we dialled.
        target: String,
        /// What the last attempts said, per address.
        reason: String,
    },
    /// Somebody else answered.
    #[error("{address} is {found}, not the expected peer")]
    WrongPeer {
        /// Where we dialled.
        address: Multiaddr,
        /// Who answered.
        found: PeerId,
    },
    /// The address leads back to us.
    #[error("{address} is this node itself")]
    Ourselves {
        /// Where we dialled.
        address: Multiaddr,
    },
    /// We did not want to: banned, or too many connections.
    #[error("no connection to {target}: {reason}")]
    Refused {
        /// Whom or what we were to dial.
        target: String,
        /// Which rule said no.
        reason: String,
    },
    /// Neither success nor failure in time.
    #[error("{target} did not answer within {waited:?}")]
    Timeout {
        /// Whom or what we dialled.
        target: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The swarm has stopped.
    #[error("swarm has stopped")]
    Closed,
}

impl DialError {
    /// Translates what libp2p says about a dial to `target`.
    pub(super) fn new(error: &swarm::DialError, target: impl ToString, peer: Option<PeerId>) -> Self {
        let target = target.to_string();
        match error {
            swarm::DialError::LocalPeerId { address } => Self::Ourselves {
                address: address.clone(),
            },
            swarm::DialError::NoAddresses => match peer {
                Some(peer) => Self::NoAddress { peer },
                None => Self::Unreachable {
                    target,
                    reason: "no address".to_owned(),
                },
            },
            swarm::DialError::WrongPeerId { obtained, address } => Self::WrongPeer {
                address: address.clone(),
                found: *obtained,
            },
            swarm::DialError::Denied { cause } => Self::Refused {
                target,
                reason: denied(cause),
            },
            swarm::DialError::Transport(attempts) => Self::Unreachable {
                target,
                reason: attempted(attempts),
            },
            swarm::DialError::DialPeerConditionFalse(_) | swarm::DialError::Aborted => Self::Unreachable {
                target,
                reason: "dial was given up".to_owned(),
            },
        }
    }
}

fn denied(cause: &swarm::ConnectionDenied) -> String {
    match cause.downcast_ref::<guard::Denied>() {
        Some(reason) => reason.to_string(),
        None => chain(cause),
    }
}

/// Attempts of which the error text tells; a peer with more dead addresses is not more interesting.
const ATTEMPTS_TOLD: usize = 4;

fn attempted(attempts: &[(Multiaddr, libp2p::TransportError<std::io::Error>)]) -> String {
    let told = attempts
        .iter()
        .take(ATTEMPTS_TOLD)
        .map(|(address, error)| format!("{address}: {}", chain(error)));
    told.collect::<Vec<_>>().join("; ")
}

/// The innermost cause: the layers above it say only that something failed below them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection and none could be made.
    #[error("no connection to {peer}")]
    Unreachable {
        /// Whom we wanted.
        peer: PeerId,
        /// What the attempt said.
        #[source]
        source: Box<DialError>,
    },
    /// Nothing was tried: the peer is banned, or more than 1,024 streams to it wait already.
    #[error("no stream to {peer}: {reason}")]
    Refused {
        /// Whom we wanted.
        peer: PeerId,
        /// Which rule said no.
        reason: String,
    },
    /// The peer was not found, not connected, or did not answer in time.
    #[error("{peer} did not open {protocol} within {waited:?}")]
    Timeout {
        /// Whom we asked.
        peer: PeerId,
        /// What we asked for.
        protocol: StreamProtocol,
        /// How long we waited.
        waited: Duration,
    },
    /// The peer can be reached through a relay only, and this protocol may not use one.
    #[error("{peer} can be reached through a relay only")]
    RelayedOnly {
        /// Whom we wanted.
        peer: PeerId,
    },
    /// The swarm has stopped.
    #[error("swarm has stopped")]
    Closed,
}

impl OpenError {
    pub(super) fn new(failure: Failure, peer: PeerId, protocol: StreamProtocol, waited: Duration) -> Self {
        let unreachable = |reason: String| Self::Unreachable {
            peer,
            source: Box::new(DialError::Unreachable {
                target: peer.to_string(),
                reason,
            }),
        };
        match failure {
            Failure::Timeout => Self::Timeout {
                peer,
                protocol,
                waited,
            },
            Failure::TooMany => Self::Refused {
                peer,
                reason: "too many streams wait already".to_owned(),
            },
            Failure::Broken(error) => unreachable(error.to_string()),
            Failure::RelayedOnly => Self::RelayedOnly { peer },
            Failure::NotConnected(DialError::Refused { reason, .. }) => Self::Refused { peer, reason },
            Failure::NotConnected(source) => Self::Unreachable {
                peer,
                source: Box::new(source),
            },
        }
    }

    /// The connection went away again and again.
    pub(super) fn gone(peer: PeerId) -> Self {
        let reason = "connection closed while the stream was being opened".to_owned();
        Self::Unreachable {
            peer,
            source: Box::new(DialError::Unreachable {
                target: peer.to_string(),
                reason,
            }),
        }
    }
}

/// Why something of ours was not put into the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The record did not pass the checks that every node makes, or there are more than 262,144 of ours.
    #[error("record was not taken")]
    Refused(#[from] Refusal),
    /// The swarm has stopped.
    #[error("swarm has stopped")]
    Closed,
}

/// Why a search was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusyError {
    /// More than 1,024 searches wait already.
    #[error("too many searches wait already")]
    Busy,
    /// The swarm has stopped.
    #[error("swarm has stopped")]
    Closed,
}
