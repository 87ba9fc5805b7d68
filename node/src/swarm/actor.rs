//! The task that owns libp2p's swarm. Every `await` is in [`Actor::next_event`], every decision in a sync `apply`.
//!
//! Shutdown comes before our own commands, those before the clock, and the network last: it always has something to say.

mod anchors;
mod dials;
mod hearsay;
mod lookups;
mod network;
mod reach;
mod saving;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{transport::ListenerId, upgrade::Version},
    swarm::{self, ConnectionId},
};
use protocol::SignedRelease;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, info, warn};

use self::{anchors::Anchors, dials::Dials, lookups::Lookups, reach::Reach};
use super::{
    BusyError, DialError, PeerView, PutError, SwarmConfig, SwarmCounts, SwarmError, SwarmEvent, View,
    address::{self, Carrier},
    announce::Schedule,
    behaviour::{Behaviour, BehaviourEvent},
    book::Book,
    records::{Key, Records},
    sockets,
    streams::{self, Inbound, Reply},
    transport,
};

/// How often the actor looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// How often records that are over are swept out.
const SWEEP_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often what is kept for others is written, if it changed: the loss of a crash.
const SAVE_EVERY: Duration = Duration::from_secs(5 * 60);
/// How long a connection without streams is kept: finding a peer again costs more than a quiet connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Quiet after which no more interfaces are expected at the start. Others are noticed whenever they come.
const INTERFACE_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for more interfaces at the start.
const INTERFACES_WAIT: Duration = Duration::from_millis(500);
/// How long peers may take to hear that we go.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a handle asks of the actor.
pub(super) enum Command {
    Dial {
        address: Multiaddr,
        reply: oneshot::Sender<Result<PeerId, DialError>>,
    },
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), DialError>>,
    },
    Open {
        peer: PeerId,
        protocol: StreamProtocol,
        reply: Reply,
    },
    StartProviding {
        key: Key,
        reply: oneshot::Sender<Result<bool, PutError>>,
    },
    StopProviding {
        key: Key,
    },
    PutRecord {
        release: Box<SignedRelease>,
        reply: oneshot::Sender<Result<bool, PutError>>,
    },
    WithdrawRecord {
        key: Key,
    },
    Providers {
        key: Key,
        limit: usize,
        sender: mpsc::Sender<PeerId>,
        reply: oneshot::Sender<Result<(), BusyError>>,
    },
    Records {
        key: Key,
        found: oneshot::Sender<Vec<SignedRelease>>,
        reply: oneshot::Sender<Result<(), BusyError>>,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerView>>,
    },
    Counts {
        reply: oneshot::Sender<SwarmCounts>,
    },
    AddressesFor {
        to: PeerId,
        peers: Vec<PeerId>,
        reply: oneshot::Sender<Vec<(PeerId, Vec<Multiaddr>)>>,
    },
    HeardFrom {
        teller: PeerId,
        told: Vec<(PeerId, Vec<Multiaddr>)>,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    Ban {
        peer: PeerId,
        reply: oneshot::Sender<()>,
    },
}

enum Event {
    Command(Command),
    Saved(Result<(), String>),
    Tick,
    Network(Box<swarm::SwarmEvent<BehaviourEvent>>),
}

/// The two clocks, read once an event: one for waiting, one for what is written down.
#[derive(Clone, Copy)]
struct Now {
    instant: Instant,
    /// Unix time in seconds.
    unix: u64,
}

impl Now {
    fn read() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            instant: Instant::now(),
            unix: since_epoch.map_or(0, |since| since.as_secs()),
        }
    }
}

/// What we know of a connected peer beside its connections.
struct Peer {
    agent: Option<String>,
    rtt: Option<Duration>,
    since: Instant,
    dht: bool,
    /// Records it sent that no honest node sends.
    faults: u32,
}

/// A listener that was asked for.
struct Listener {
    id: ListenerId,
    address: Multiaddr,
    bound: bool,
}

pub(super) struct Actor {
    swarm: libp2p::Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    stop: watch::Receiver<bool>,
    events: broadcast::Sender<SwarmEvent>,
    view: watch::Sender<View>,
    ticks: tokio::time::Interval,
    folder: Option<PathBuf>,
    listeners: Vec<Listener>,
    /// The first listener that failed before all were bound.
    failed: Option<SwarmError>,
    peers: HashMap<PeerId, Peer>,
    /// Pings in a row that a connection has not answered, where there are any.
    silent: HashMap<ConnectionId, u8>,
    book: Book,
    anchors: Anchors,
    dials: Dials,
    lookups: Lookups,
    schedule: Schedule,
    reach: Reach,
    saving: Option<JoinHandle<io::Result<()>>>,
    saved: Instant,
    swept: Instant,
}

impl Actor {
    /// Builds everything and begins to listen.
    pub(super) async fn new(
        config: SwarmConfig,
        commands: mpsc::Receiver<Command>,
        stop: watch::Receiver<bool>,
        events: broadcast::Sender<SwarmEvent>,
        view: watch::Sender<View>,
    ) -> Result<(Self, Vec<Inbound>), SwarmError> {
        let now = Now::read();
        let local = config.key.public().to_peer_id();
        let (records, book) = saving::load(config.folder.clone(), local, now.unix).await;
        let preferred = if config.prefer_tcp {
            Carrier::Tcp
        } else {
            Carrier::Quic
        };
        let (streams, inbound) = streams::Behaviour::new(config.protocols.clone(), preferred);
        let (transport, circuits) = transport::build(&config.key, preferred).map_err(SwarmError::Setup)?;
        let behaviour = Behaviour::new(&config, streams, circuits, records);
        // Lazy: what a stream begins with goes out together with the name of its protocol, a round trip earlier.
        let pool = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut actor = Self {
            swarm: libp2p::Swarm::new(transport, behaviour, local, pool),
            commands,
            stop,
            events,
            view,
            ticks,
            folder: config.folder,
            listeners: Vec::new(),
            failed: None,
            peers: HashMap::new(),
            silent: HashMap::new(),
            anchors: Anchors::new(config.peers, now.instant),
            book,
            dials: Dials::default(),
            lookups: Lookups::default(),
            schedule: Schedule::default(),
            reach: Reach::new(config.dht, now.instant),
            saving: None,
            saved: now.instant,
            swept: now.instant,
        };
        for address in config.listen {
            match actor.swarm.listen_on(address.clone()) {
                Ok(id) => actor.listeners.push(Listener {
                    id,
                    address,
                    bound: false,
                }),
                Err(error) => {
                    return Err(SwarmError::Listen {
                        address,
                        reason: error.to_string(),
                    });
                }
            }
        }
        actor.update_reach();
        Ok((actor, inbound))
    }

    /// Waits until every listener has an address, and those on all interfaces have most of theirs.
    pub(super) async fn bind(&mut self) -> Result<(), SwarmError> {
        loop {
            if let Some(failed) = self.failed.take() {
                return Err(failed);
            }
            if self.listeners.iter().all(|listener| listener.bound) {
                break;
            }
            let event = self.swarm.select_next_some().await;
            self.apply(Event::Network(Box::new(event)), Now::read());
        }
        let everywhere =
            |listener: &Listener| address::ip(&listener.address).is_some_and(|ip| ip.is_unspecified());
        if self.listeners.iter().any(everywhere) {
            // One event an interface, one after the other: the system does not say which is the last.
            let latest = Instant::now() + INTERFACES_WAIT;
            while let Some(left) = latest.checked_duration_since(Instant::now()) {
                let pause = INTERFACE_PAUSE.min(left);
                let Ok(event) = timeout(pause, self.swarm.select_next_some()).await else {
                    break;
                };
                self.apply(Event::Network(Box::new(event)), Now::read());
            }
        }
        sockets::make_room();
        Ok(())
    }

    /// What to say when [`Actor::bind`] took longer than `waited`.
    pub(super) fn unbound(&self, waited: Duration) -> SwarmError {
        let late = self.listeners.iter().find(|listener| !listener.bound);
        let address = late.map_or_else(Multiaddr::empty, |listener| listener.address.clone());
        SwarmError::ListenTimeout { address, waited }
    }

    /// Works until told to stop, then closes everything.
    pub(super) async fn run(mut self) {
        self.greet();
        while let Some(event) = self.next_event().await {
            self.apply(event, Now::read());
        }
        self.close().await;
    }

    /// `None`: it is time to stop.
    async fn next_event(&mut self) -> Option<Event> {
        let saved = async {
            match &mut self.saving {
                Some(saving) => saving.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // An error means that no handle is left.
            _ = self.stop.wait_for(|stop| *stop) => None,
            command = self.commands.recv() => command.map(Event::Command),
            saved = saved => Some(Event::Saved(match saved {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            })),
            _ = self.ticks.tick() => Some(Event::Tick),
            event = self.swarm.select_next_some() => Some(Event::Network(Box::new(event))),
        }
    }

    fn apply(&mut self, event: Event, now: Now) {
        match event {
            Event::Command(command) => self.command(command, now),
            Event::Saved(result) => {
                self.saving = None;
                if let Err(error) = result {
                    warn!(error, "could not save what the DHT entrusted to us");
                }
            }
            Event::Tick => self.tick(now),
            Event::Network(event) => self.network(*event, now),
        }
        self.announce(now);
        self.begin_lookups();
    }

    fn command(&mut self, command: Command, now: Now) {
        match command {
            Command::Dial { address, reply } => self.dial(address, reply),
            Command::Connect {
                peer,
                addresses,
                reply,
            } => self.connect(peer, addresses, dials::Waiter::Connect(reply), now),
            Command::Open {
                peer,
                protocol,
                reply,
            } => {
                self.connect(
                    peer,
                    Vec::new(),
                    dials::Waiter::Open {
                        protocol,
                        reply,
                        since: now.instant,
                    },
                    now,
                );
            }
            Command::StartProviding { key, reply } => self.start_providing(key, reply, now),
            Command::StopProviding { key } => self.stop_providing(key),
            Command::WithdrawRecord { key } => self.withdraw_record(key),
            Command::PutRecord { release, reply } => self.put_record(&release, reply, now),
            Command::Providers {
                key,
                limit,
                sender,
                reply,
            } => {
                let _ = reply.send(self.lookups.ask_providers(key, limit, sender));
            }
            Command::Records { key, found, reply } => {
                let _ = reply.send(self.lookups.ask_records(key, found));
            }
            Command::Peers { reply } => {
                let _ = reply.send(self.peer_views());
            }
            Command::Counts { reply } => {
                let _ = reply.send(self.counts());
            }
            Command::AddressesFor { to, peers, reply } => {
                let _ = reply.send(self.addresses_for(&to, peers));
            }
            Command::HeardFrom { teller, told, reply } => {
                let _ = reply.send(self.heard_from(&teller, told));
            }
            Command::Ban { peer, reply } => {
                self.ban(peer);
                let _ = reply.send(());
            }
        }
    }

    fn tick(&mut self, now: Now) {
        self.records().advance(now.unix);
        if now.instant.duration_since(self.swept) >= SWEEP_EVERY {
            self.swept = now.instant;
            self.records().sweep();
        }
        if now.instant.duration_since(self.saved) >= SAVE_EVERY {
            self.saved = now.instant;
            self.save();
        }
        self.settle_all(now);
        self.dial_anchors(now);
        self.seek_circuit(now);
    }

    /// Begins to know the network: the nodes we found it through last time.
    fn greet(&mut self) {
        let local = *self.swarm.local_peer_id();
        info!(peer = %local, listeners = ?self.view.borrow().listeners, "swarm started");
        for peer in self.book.recent(anchors::GREETED) {
            self.try_dial(peer);
        }
    }

    fn records(&mut self) -> &mut Records {
        self.swarm.behaviour_mut().kad.store_mut()
    }

    fn emit(&self, event: SwarmEvent) {
        // Nobody listens: nobody minds.
        let _ = self.events.send(event);
    }

    fn ban(&mut self, peer: PeerId) {
        let behaviour = self.swarm.behaviour_mut();
        let direct = behaviour
            .streams
            .connections(&peer)
            .iter()
            .filter(|connection| !connection.relayed);
        let addresses: Vec<_> = direct
            .filter_map(|connection| address::ip(&connection.address))
            .collect();
        info!(%peer, "peer banned");
        behaviour.guard.ban(peer, addresses);
        behaviour.kad.remove_peer(&peer);
        self.book.forget(&peer);
        self.emit(SwarmEvent::Banned(peer));
    }

    fn peer_views(&self) -> Vec<PeerView> {
        let connected = self.swarm.behaviour().streams.peers();
        let views = connected.filter_map(|(peer, connections)| {
            let known = self.peers.get(peer)?;
            Some(PeerView {
                peer: *peer,
                addresses: connections
                    .iter()
                    .map(|connection| connection.address.clone())
                    .collect(),
                direct: connections.iter().any(|connection| !connection.relayed),
                dht: known.dht,
                agent: known.agent.clone(),
                rtt: known.rtt,
                since: known.since,
            })
        });
        views.collect()
    }

    fn counts(&mut self) -> SwarmCounts {
        let routing = self.routing_size();
        let (provider_records, releases) = self.records().counts();
        let streams = &self.swarm.behaviour().streams;
        SwarmCounts {
            connected: streams.peer_count(),
            routing,
            provider_records,
            releases,
            announced: self.schedule.len(),
            announce_requests: self.schedule.sent(),
            streams_dropped: streams.inbox().dropped(),
        }
    }

    /// Says goodbye, for a moment at most, and writes everything down.
    async fn close(mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener.id);
        }
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // It may have gone this moment.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            debug!("some peers did not hear that we go");
        }
        self.save_last().await;
    }
}
