//! Everything this node says to others that libp2p says for it, put together. No decisions here: they are the actor's.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId, StreamProtocol, autonat, connection_limits, dcutr, identify, identity, kad, mdns,
    memory_connection_limits, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};

use tracing::warn;

use super::{SwarmConfig, guard, records::Records, streams};

/// The protocol of our DHT: other networks' nodes are not in it.
pub(super) const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/shoal/kad/1");
/// What identify calls the family of our protocols.
const IDENTIFY_PROTOCOL: &str = "/shoal/1";

/// Connections that have not finished their handshake, each way.
const PENDING_MAX: u32 = 64;
/// Connections that others made: some room stays for our own.
const INCOMING_MAX: u32 = 384;
/// Connections in all: each costs two tasks and about 100 KiB.
const ESTABLISHED_MAX: u32 = 512;
/// Connections to one peer: both carriers, a relayed one, and one that is being replaced.
const PER_PEER_MAX: u32 = 4;
/// Dials that have not finished: lookups dial many peers that are gone, for seconds each.
const DIALLING_MAX: u32 = 256;

/// How long a DHT lookup may take; what it found until then is used.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Paths that a lookup takes, of which no two meet: one liar spoils one of them.
const PATHS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");
/// Largest DHT message, in bytes: 40 peers with 16 addresses of 60 bytes, and a release.
const KAD_MESSAGE_LEN_MAX: usize = 64 * 1024;
/// How often a quiet connection is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    // Those that refuse connections come first: what they refuse, the others never see.
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(super) guard: guard::Behaviour,
    pub(super) streams: streams::Behaviour,
    pub(super) kad: kad::Behaviour<Records>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    upnp: Toggle<upnp::tokio::Behaviour>,
    autonat_client: autonat::v2::client::Behaviour,
    autonat_server: autonat::v2::server::Behaviour,
    pub(super) relay: relay::Behaviour,
    circuits: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
}

impl Behaviour {
    pub(super) fn new(
        config: &SwarmConfig,
        streams: streams::Behaviour,
        circuits: relay::client::Behaviour,
        records: Records,
    ) -> Self {
        let key = &config.key;
        let local = key.public().to_peer_id();
        Self {
            limits: connection_limits::Behaviour::new(limits()),
            memory: memory_connection_limits::Behaviour::with_max_bytes(config.memory_max),
            guard: guard::Behaviour::new(Instant::now()),
            streams,
            kad: kad::Behaviour::with_config(local, records, kad_config()),
            identify: identify(key, &config.agent),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(PING_INTERVAL)
                    .with_timeout(PING_TIMEOUT),
            ),
            mdns: config.mdns.then(|| mdns(local)).flatten().into(),
            upnp: config.upnp.then(upnp::tokio::Behaviour::default).into(),
            autonat_client: autonat::v2::client::Behaviour::default(),
            autonat_server: autonat::v2::server::Behaviour::default(),
            relay: relay(local),
            circuits,
            dcutr: dcutr::Behaviour::new(local),
        }
    }
}

fn limits() -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(DIALLING_MAX))
        .with_max_established_incoming(Some(INCOMING_MAX))
        .with_max_established(Some(ESTABLISHED_MAX))
        .with_max_established_per_peer(Some(PER_PEER_MAX))
}

fn kad_config() -> kad::Config {
    let mut config = kad::Config::new(KAD_PROTOCOL);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_parallelism(PATHS)
        .disjoint_query_paths(true)
        .set_max_packet_size(KAD_MESSAGE_LEN_MAX)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        // Who is in the routing table is the actor's decision, and so is when we say again what we announce.
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled);
    config
}

fn identify(key: &identity::Keypair, agent: &str) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), key.public())
            .with_agent_version(agent.to_owned())
            .with_push_listen_addr_updates(true)
            // Addresses go through our own checks into our own book.
            .with_cache_size(0),
    )
}

/// A node that cannot use multicast does without.
fn mdns(local: PeerId) -> Option<mdns::tokio::Behaviour> {
    match mdns::tokio::Behaviour::new(mdns::Config::default(), local) {
        Ok(mdns) => Some(mdns),
        Err(error) => {
            warn!(%error, "no mDNS: nodes of the local network are not found by themselves");
            None
        }
    }
}

/// A node that others can reach lends them a circuit of 128 KiB and 2 minutes: enough to punch a hole, no use for data.
/// Whether it does is the actor's decision.
fn relay(local: PeerId) -> relay::Behaviour {
    relay::Behaviour::new(local, relay::Config::default())
}
