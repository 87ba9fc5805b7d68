//! The network: one libp2p identity, one DHT, one set of ports. A possession: it knows nobody else in this crate.
//!
//! One task, the actor, owns libp2p's swarm; [`Swarm`] is a handle to it that can be cloned. Bytes of models never pass
//! through that task: it only hands out opened streams. What it keeps for others (provider records and releases) and where
//! it last found other nodes is written to a folder and read again at the next start; a damaged file costs nothing but that.

mod actor;
mod address;
mod announce;
mod behaviour;
mod book;
mod errors;
mod guard;
mod gulps;
mod mux;
mod records;
mod snapshot;
mod sockets;
mod streams;
mod transport;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, identity::Keypair};
use protocol::SignedRelease;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::timeout,
};

use self::actor::{Actor, Command};
pub use self::{
    errors::{BusyError, DialError, OpenError, PutError, SwarmError},
    records::Refusal,
    streams::{Inbound, InboundStream, Protocol},
};

/// Commands that wait for the actor; callers wait when there are more.
const COMMANDS_MAX: usize = 256;
/// Events that a slow subscriber may lag behind before it misses some.
const EVENTS_MAX: usize = 1_024;
/// How long all listeners together may take to be bound.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream may take to open, with dialling and finding the peer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a dial may take: one attempt at the known addresses, and one at addresses that the DHT finds.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// Times a stream is asked for again when the connection broke under it.
const OPEN_TRIES: usize = 3;
/// Most providers one search hands out.
const PROVIDERS_MAX: usize = 1_024;
/// Memory of this process, in bytes, beyond which no new connection is taken.
pub(crate) const MEMORY_MAX: usize = 2 * 1024 * 1024 * 1024;

/// This node's part in the DHT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DhtRole {
    /// Answers others when they can reach us: on a LAN or loopback at once, on the internet once AutoNAT or UPnP has
    /// confirmed an address.
    #[default]
    Auto,
    /// Answers others, and takes it that all addresses we listen on can be reached: for servers.
    Server,
    /// Only asks.
    Client,
}

/// How to start a [`Swarm`].
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The identity: the peer id is derived from it.
    pub key: Keypair,
    /// Where to listen; port 0 means any. Empty: nowhere, others reach us only over connections that we made.
    pub listen: Vec<Multiaddr>,
    /// Nodes to know from the start, with or without `/p2p/PEER`. They are dialled again whenever they are lost.
    pub peers: Vec<Multiaddr>,
    /// Find nodes on the local network, and be found.
    pub mdns: bool,
    /// Ask the router to map our ports.
    pub upnp: bool,
    /// Our part in the DHT.
    pub dht: DhtRole,
    /// Where records and known peers are kept; `None`: in memory only.
    pub folder: Option<PathBuf>,
    /// Which protocols' streams we accept.
    pub protocols: Vec<Protocol>,
    /// What we call ourselves to others.
    pub agent: String,
    /// Use TCP where both TCP and QUIC would do: it costs a quarter less CPU per byte.
    pub prefer_tcp: bool,
    /// Memory of this process, in bytes, beyond which no new connection is taken.
    pub memory_max: usize,
}

impl SwarmConfig {
    /// A node that listens nowhere, asks nobody, touches no file and accepts no streams: set what you need.
    pub fn new(key: Keypair) -> Self {
        Self {
            key,
            listen: Vec::new(),
            peers: Vec::new(),
            mdns: false,
            upnp: false,
            dht: DhtRole::Auto,
            folder: None,
            protocols: Vec::new(),
            agent: concat!("shoal/", env!("CARGO_PKG_VERSION")).to_owned(),
            prefer_tcp: true,
            memory_max: MEMORY_MAX,
        }
    }
}

/// What happened in the network. Subscribers that lag more than 1,024 events behind miss the oldest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwarmEvent {
    /// The first connection to this peer.
    Connected {
        /// The peer.
        peer: PeerId,
        /// We made the connection.
        dialled: bool,
    },
    /// The last connection to this peer is gone.
    Disconnected(PeerId),
    /// mDNS found this peer on the local network.
    Discovered(PeerId),
    /// We listen on this address, which ends in our id.
    Listening(Multiaddr),
    /// We no longer listen on this address.
    NotListening(Multiaddr),
    /// Others can reach us at this address.
    Reachable(Multiaddr),
    /// This peer is in the DHT's routing table now.
    RoutingUpdated(PeerId),
    /// This peer was banned.
    Banned(PeerId),
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Its identity.
    pub peer: PeerId,
    /// The far ends of our connections to it.
    pub addresses: Vec<Multiaddr>,
    /// Whether one of the connections is direct, not through a relay.
    pub direct: bool,
    /// Whether it takes part in the DHT.
    pub dht: bool,
    /// What it calls itself; its own words, printable characters only, `None` until it said so.
    pub agent: Option<String>,
    /// The last measured round trip.
    pub rtt: Option<Duration>,
    /// When the first of the present connections was made.
    pub since: Instant,
}

/// Numbers about the running swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Peers we are connected to.
    pub connected: usize,
    /// Peers in the DHT's routing table.
    pub routing: usize,
    /// Provider records kept, ours included.
    pub provider_records: usize,
    /// Releases kept, ours included.
    pub releases: usize,
    /// Keys and releases that we announce.
    pub announced: usize,
    /// Requests that announcing them has sent since the start.
    pub announce_requests: u64,
    /// Inbound streams dropped since the start because nobody took them in time.
    pub streams_dropped: u64,
}

/// Where we can be found, as last known.
#[derive(Clone, Debug, Default)]
struct View {
    listeners: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
}

struct Inner {
    local: PeerId,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<SwarmEvent>,
    view: watch::Receiver<View>,
    stop: watch::Sender<bool>,
    done: watch::Receiver<bool>,
}

/// A handle to the running swarm. The swarm stops when [`Swarm::shutdown`] is called, or when the last handle is dropped.
#[derive(Clone)]
pub struct Swarm {
    inner: Arc<Inner>,
}

impl Swarm {
    /// Starts the swarm. Returns once every listener is bound, with one queue of inbound streams per protocol, in the order given.
    ///
    /// # Errors
    /// The address that could not be bound, the keys or system resources that could not be used. Never a damaged file.
    pub async fn start(config: SwarmConfig) -> Result<(Self, Vec<Inbound>), SwarmError> {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (stop, stopping) = watch::channel(false);
        let (finished, done) = watch::channel(false);
        let (viewed, view) = watch::channel(View::default());
        let local = config.key.public().to_peer_id();
        let (mut actor, inbound) = Actor::new(config, receiver, stopping, events.clone(), viewed).await?;
        match timeout(BIND_TIMEOUT, actor.bind()).await {
            Ok(bound) => bound?,
            Err(_) => return Err(actor.unbound(BIND_TIMEOUT)),
        }
        tokio::spawn(async move {
            actor.run().await;
            // The receiver may be gone with the last handle.
            let _ = finished.send(true);
        });
        let inner = Inner {
            local,
            commands,
            events,
            view,
            stop,
            done,
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            inbound,
        ))
    }

    /// Our own id.
    pub fn peer_id(&self) -> PeerId {
        self.inner.local
    }

    /// The addresses we listen on, one per interface, each ending in `/p2p/` and our id.
    pub fn listeners(&self) -> Vec<Multiaddr> {
        self.inner.view.borrow().listeners.clone()
    }

    /// The addresses at which others can reach us, as far as we know.
    pub fn external_addresses(&self) -> Vec<Multiaddr> {
        self.inner.view.borrow().external.clone()
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<SwarmEvent> {
        self.inner.events.subscribe()
    }

    /// Connects to whoever is at `address`; with `/p2p/PEER` at its end, only to that peer. Returns who it is.
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId, DialError> {
        let target = address.to_string();
        self.dialling(target, |reply| Command::Dial { address, reply })
            .await
    }

    /// Connects to `peer` at `addresses` or wherever else it was seen or the DHT finds it; returns at once if it is connected.
    pub async fn connect(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<(), DialError> {
        self.dialling(peer.to_string(), |reply| Command::Connect {
            peer,
            addresses,
            reply,
        })
        .await
    }

    /// Opens a stream to `peer`, over the best connection there is or can be made; waits at most 10 s.
    ///
    /// Only protocols listed in [`SwarmConfig::protocols`] as `over_relay` may run over a relayed connection; any other waits
    /// for a direct one, and is [`OpenError::RelayedOnly`] if there is none in time.
    ///
    /// The peer learns of the stream when something is written and flushed, or read; whether it speaks the protocol shows only
    /// when something is read. No round trip is spent before that.
    pub async fn open_stream(&self, peer: PeerId, protocol: StreamProtocol) -> Result<Stream, OpenError> {
        let opening = async {
            let mut tries = OPEN_TRIES;
            loop {
                let (reply, answer) = oneshot::channel();
                let command = Command::Open {
                    peer,
                    protocol: protocol.clone(),
                    reply,
                };
                self.inner
                    .commands
                    .send(command)
                    .await
                    .map_err(|_| OpenError::Closed)?;
                tries -= 1;
                match answer.await {
                    Ok(Ok(stream)) => return Ok(stream),
                    // The connection went away under the request: there may be another one.
                    Err(_) | Ok(Err(streams::Failure::Broken(_))) if tries > 0 => {}
                    Ok(Err(failure)) => {
                        return Err(OpenError::new(failure, peer, protocol.clone(), OPEN_TIMEOUT));
                    }
                    Err(_) if self.inner.commands.is_closed() => return Err(OpenError::Closed),
                    Err(_) => return Err(OpenError::gone(peer)),
                }
            }
        };
        let late = || OpenError::Timeout {
            peer,
            protocol: protocol.clone(),
            waited: OPEN_TIMEOUT,
        };
        timeout(OPEN_TIMEOUT, opening)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Announces that we provide `key`, now and every 6 to 12 hours until [`Swarm::stop_providing`].
    ///
    /// Returns when the first announcement is through, with whether any other node heard it. If none did, it is repeated soon
    /// after one turns up. Announcements are paced: thousands take hours, and what comes last goes out first. Not kept over a restart.
    pub async fn start_providing(&self, key: [u8; 32]) -> Result<bool, PutError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::StartProviding { key, reply })
            .await
            .map_err(|_| PutError::Closed)?;
        answer.await.unwrap_or(Err(PutError::Closed))
    }

    /// Announces `key` no more. Others forget it within 24 hours.
    pub async fn stop_providing(&self, key: [u8; 32]) {
        // A swarm that has stopped announces nothing.
        let _ = self.send(Command::StopProviding { key }).await;
    }

    /// Searches for providers of `key`, ourselves left out. They come as they are found; the channel closes when the search is
    /// over or `limit` (at most 1,024) is reached. Dropping the receiver ends the search. Addresses are remembered for
    /// [`Swarm::open_stream`].
    pub async fn providers(&self, key: [u8; 32], limit: usize) -> Result<mpsc::Receiver<PeerId>, BusyError> {
        let limit = limit.clamp(1, PROVIDERS_MAX);
        let (sender, receiver) = mpsc::channel(limit);
        self.asking(|reply| Command::Providers {
            key,
            limit,
            sender,
            reply,
        })
        .await?;
        Ok(receiver)
    }

    /// Puts a release into the DHT, now and every 6 to 12 hours until it expires or a newer one takes its place. Returns
    /// whether any other node took it; if none did, it is repeated soon after one turns up. Not kept over a restart.
    ///
    /// # Errors
    /// Refused if it is expired, from the future, or not newer than the one known under its name.
    pub async fn put_record(&self, release: SignedRelease) -> Result<bool, PutError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::PutRecord {
            release: Box::new(release),
            reply,
        })
        .await
        .map_err(|_| PutError::Closed)?;
        answer.await.unwrap_or(Err(PutError::Closed))
    }

    /// Puts what is under `key` into the DHT no more, and tells nobody of it who asks us. Others forget it when it expires.
    pub async fn withdraw_record(&self, key: [u8; 32]) {
        // A swarm that has stopped announces nothing.
        let _ = self.send(Command::WithdrawRecord { key }).await;
    }

    /// Searches the DHT for releases under `key`, ours included: all different ones whose signature and key are right, in no
    /// order, expired ones too. Takes at most 20 s. Which of them counts is for the caller's ratchet to decide.
    pub async fn get_records(&self, key: [u8; 32]) -> Result<Vec<SignedRelease>, BusyError> {
        let (found, answer) = oneshot::channel();
        self.asking(|reply| Command::Records { key, found, reply })
            .await?;
        answer.await.map_err(|_| BusyError::Closed)
    }

    /// The peers we are connected to, in no order; none if the swarm has stopped.
    pub async fn peers(&self) -> Vec<PeerView> {
        let (reply, answer) = oneshot::channel();
        let _ = self.send(Command::Peers { reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Where `to` could find those of `peers` that are connected to us directly, best address first: what to tell it of them.
    /// None if the swarm has stopped.
    pub(crate) async fn addresses_for(
        &self,
        to: PeerId,
        peers: Vec<PeerId>,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let (reply, answer) = oneshot::channel();
        let _ = self.send(Command::AddressesFor { to, peers, reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Remembers what `teller` says of others, as far as it can know it: a stranger does not know our neighbours. Returns those
    /// of them that may be dialled now. None if the swarm has stopped.
    pub(crate) async fn heard_from(
        &self,
        teller: PeerId,
        told: Vec<(PeerId, Vec<Multiaddr>)>,
    ) -> Vec<PeerId> {
        let (reply, answer) = oneshot::channel();
        let _ = self.send(Command::HeardFrom { teller, told, reply }).await;
        answer.await.unwrap_or_default()
    }

    /// How much there is of everything; zeros if the swarm has stopped.
    pub async fn counts(&self) -> SwarmCounts {
        let (reply, answer) = oneshot::channel();
        let _ = self.send(Command::Counts { reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Closes every connection to `peer` and refuses new ones, by its id and by its addresses (not loopback), until restart.
    /// Returns once that holds.
    pub async fn ban(&self, peer: PeerId) {
        let (reply, answer) = oneshot::channel();
        let _ = self.send(Command::Ban { peer, reply }).await;
        let _ = answer.await;
    }

    /// Saves, closes all connections and listeners, and returns when that is done. May be called again.
    pub async fn shutdown(&self) {
        let _ = self.inner.stop.send(true);
        // An error means that the task is gone: done as well.
        let _ = self.inner.done.clone().wait_for(|done| *done).await;
    }

    async fn send(&self, command: Command) -> Result<(), BusyError> {
        self.inner
            .commands
            .send(command)
            .await
            .map_err(|_| BusyError::Closed)
    }

    async fn asking(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), BusyError>>) -> Command,
    ) -> Result<(), BusyError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.unwrap_or(Err(BusyError::Closed))
    }

    async fn dialling<T>(
        &self,
        target: String,
        command: impl FnOnce(oneshot::Sender<Result<T, DialError>>) -> Command,
    ) -> Result<T, DialError> {
        let (reply, answer) = oneshot::channel();
        let dialling = async {
            self.send(command(reply)).await.map_err(|_| DialError::Closed)?;
            answer.await.unwrap_or(Err(DialError::Closed))
        };
        let late = || DialError::Timeout {
            target,
            waited: DIAL_TIMEOUT,
        };
        timeout(DIAL_TIMEOUT, dialling)
            .await
            .unwrap_or_else(|_| Err(late()))
    }
}

#[cfg(test)]
mod tests;
