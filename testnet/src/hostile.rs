//! Peers that lie: providers that take part in the network as others do, announce a folder, say what they have of it, and then
//! speak of it or answer for its bytes badly, each in one chosen way. They hold the right bytes, so that what they send is wrong
//! only where it is meant to be.
//!
//! They speak the protocols as `protocol/README.md` has them, and share no code with a node but its swarm.

mod answer;
mod serve;
mod session;

use crate::nodes::{DEADLINE, until, within};
use anyhow::{Context, Result};
use libp2p::{Multiaddr, PeerId, StreamProtocol, identity::Keypair};
use node::swarm::{DhtRole, Protocol, Swarm, SwarmConfig};
use protocol::{
    FileEntry, Manifest, RepoId, SignedRelease, Ticket,
    release::provider_key,
    wire::{BLOBS_PROTOCOL, CATALOG_PROTOCOL, SWARM_PROTOCOL},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::watch, task::JoinSet};

/// Where a hostile provider listens unless it is told otherwise.
const LISTEN: [&str; 2] = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];

/// What a hostile provider does when it is asked for bytes, or when it tells what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Behaviour {
    /// Answers rightly: what the others are compared with.
    Honest,
    /// Changes one byte in the answer for each blob, behind its size.
    WrongBytes,
    /// Says that each blob is one byte longer than it is.
    WrongSize,
    /// Sends 64 KiB more after a right answer.
    TooMany,
    /// Claims what it has, takes each request and never sends a byte.
    Nothing,
    /// Takes the request and ends the stream.
    Resets,
    /// Sends random bytes, as many as the right answer has.
    Garbage,
    /// Sends the first half of a right answer, and then nothing more.
    StallsHalf,
    /// Sends a right answer, a byte a second.
    OneBytePerSecond,
    /// Claims all shards, answers rightly for the first half of them, and ends the stream of a request for any other.
    LiesInBits,
    /// Tells what it has in bytes that are no message. What follows answers rightly for bytes, too.
    GarbageFrames,
    /// Tells what it has in a frame that would be 4 GiB long.
    OversizePrefix,
    /// Claims shards that the folder does not have.
    OutOfRange,
    /// Tells without an end that it got the first shard.
    FloodsGot,
}

impl Behaviour {
    /// All of them but [`Behaviour::Honest`].
    pub const LIES: [Behaviour; 13] = [
        Behaviour::WrongBytes,
        Behaviour::WrongSize,
        Behaviour::TooMany,
        Behaviour::Nothing,
        Behaviour::Resets,
        Behaviour::Garbage,
        Behaviour::StallsHalf,
        Behaviour::OneBytePerSecond,
        Behaviour::LiesInBits,
        Behaviour::GarbageFrames,
        Behaviour::OversizePrefix,
        Behaviour::OutOfRange,
        Behaviour::FloodsGot,
    ];
}

/// How to start a [`Hostile`].
#[derive(Clone, Debug)]
pub struct HostileOptions {
    /// The folder whose bytes it holds. It is read into memory.
    pub folder: PathBuf,
    /// What it does when asked for them.
    pub behaviour: Behaviour,
    /// Where it listens; by default on loopback, TCP and QUIC, on any port.
    pub listen: Vec<Multiaddr>,
    /// Nodes it knows from the start.
    pub peers: Vec<Multiaddr>,
    /// Whether it treats a request for the manifest no better; otherwise it answers that one rightly.
    pub manifest_too: bool,
    /// The shards that it has and says so, numbered as [`protocol::ShardMap`] has them; all when there are none given. It ends the stream of
    /// a request for others.
    pub holds: Option<Range<u32>>,
    /// A manifest that it claims to have instead of the folder, of which it has no more than the manifest. It takes each request for
    /// the rest and never sends a byte.
    pub claims: Option<Manifest>,
    /// What its manifest says of each file of the folder, made of what is so.
    pub says: fn(FileEntry) -> FileEntry,
    /// What it tells of names: any release, old or forked, one a repo.
    pub releases: Vec<SignedRelease>,
    /// What it tells of who validated a model, whichever it is asked about.
    pub attestations: Vec<Vec<u8>>,
}

impl HostileOptions {
    /// A provider of this folder, without peers and releases, that answers for the manifest rightly.
    pub fn new(folder: impl Into<PathBuf>, behaviour: Behaviour) -> HostileOptions {
        HostileOptions {
            folder: folder.into(),
            behaviour,
            listen: LISTEN
                .map(|address| address.parse().expect("a fixed address"))
                .to_vec(),
            peers: Vec::new(),
            manifest_too: false,
            holds: None,
            claims: None,
            says: |file| file,
            releases: Vec::new(),
            attestations: Vec::new(),
        }
    }
}

/// How often a hostile provider was asked, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What it has: sessions that others opened.
    pub have: u64,
    /// For bytes, the manifest's included: streams with a request that could be read.
    pub blobs: u64,
    /// Which release is the newest.
    pub releases: u64,
}

/// A running hostile provider. It stops when it is dropped.
pub struct Hostile {
    swarm: Swarm,
    state: Arc<State>,
    // Aborted when dropped.
    _serving: JoinSet<()>,
}

/// What all its streams share.
struct State {
    holdings: answer::Holdings,
    holds: Range<u32>,
    manifest_too: bool,
    attestations: Vec<Vec<u8>>,
    mood: Mutex<Mood>,
    asked: watch::Sender<Asked>,
}

/// What a test may change while it runs.
struct Mood {
    behaviour: Behaviour,
    releases: HashMap<RepoId, SignedRelease>,
}

impl Hostile {
    /// Starts a provider of a folder, whose manifest it answers for rightly. It announces nothing yet.
    ///
    /// # Errors
    /// The folder cannot be read or makes no manifest; the swarm does not start.
    pub async fn start(folder: &Path, behaviour: Behaviour, peers: Vec<Multiaddr>) -> Result<Hostile> {
        Hostile::start_with(HostileOptions {
            peers,
            ..HostileOptions::new(folder, behaviour)
        })
        .await
    }

    /// The same with everything to choose.
    pub async fn start_with(options: HostileOptions) -> Result<Hostile> {
        let (folder, claims, says) = (options.folder.clone(), options.claims, options.says);
        let holdings = tokio::task::spawn_blocking(move || match claims {
            Some(manifest) => answer::Holdings::claim(manifest),
            None => answer::Holdings::read(&folder, says),
        })
        .await?;
        let holdings = holdings.with_context(|| format!("reading {}", options.folder.display()))?;
        let mut config = SwarmConfig::new(Keypair::generate_ed25519());
        config.listen = options.listen;
        config.peers = options.peers;
        config.dht = DhtRole::Server;
        config.protocols = vec![
            Protocol::anywhere(CATALOG_PROTOCOL),
            Protocol::anywhere(SWARM_PROTOCOL),
            Protocol::direct(BLOBS_PROTOCOL),
        ];
        let (swarm, inbound) = Swarm::start(config).await?;
        let releases = options
            .releases
            .into_iter()
            .map(|release| (release.release().repo(), release));
        let state = Arc::new(State {
            holds: options.holds.unwrap_or(0..holdings.map.count()),
            holdings,
            manifest_too: options.manifest_too,
            attestations: options.attestations,
            mood: Mutex::new(Mood {
                behaviour: options.behaviour,
                releases: releases.collect(),
            }),
            asked: watch::Sender::new(Asked::default()),
        });
        let mut serving = JoinSet::new();
        for (protocol, streams) in inbound {
            serving.spawn(serve::answer(Arc::clone(&state), protocol, streams));
        }
        Ok(Hostile {
            swarm,
            state,
            _serving: serving,
        })
    }

    /// Returns its id.
    pub fn peer_id(&self) -> PeerId {
        self.swarm.peer_id()
    }

    /// Returns where it listens, with its id.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.swarm.listeners()
    }

    /// Returns the manifest of its folder.
    pub fn manifest(&self) -> &Manifest {
        &self.state.holdings.manifest
    }

    /// Returns a ticket for its folder that names no other provider and no repo.
    pub fn ticket(&self) -> Ticket {
        let addresses = self.addresses().iter().map(Multiaddr::to_string).collect();
        Ticket::new(self.manifest().hash(), addresses, None).expect("our own addresses fit a ticket")
    }

    /// Returns its swarm, to put records with, or to dial.
    pub fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// Announces itself as a provider of its folder, and waits until another node heard it.
    ///
    /// # Errors
    /// Nobody heard it before [`DEADLINE`].
    pub async fn announce(&self) -> Result<()> {
        let key = provider_key(self.manifest().hash());
        let heard = async || {
            if self.swarm.counts().await.routing == 0 {
                return None;
            }
            self.swarm
                .start_providing(key)
                .await
                .ok()
                .filter(|heard| *heard)
                .map(|_| ())
        };
        until(
            &[&self.swarm],
            DEADLINE,
            "another node to hear of a hostile provider",
            heard,
        )
        .await
    }

    /// Opens a session about its folder to a node it can reach, speaks there in its way, and returns when the node ends it.
    ///
    /// # Errors
    /// It cannot be reached, or ends the session before it was spoken to.
    pub async fn join(&self, peer: PeerId) -> Result<()> {
        let stream = self
            .swarm
            .open_stream(peer, StreamProtocol::new(SWARM_PROTOCOL))
            .await?;
        session::open(&self.state, stream).await
    }

    /// Changes what it does from now on; what it is doing already goes on.
    pub fn set(&self, behaviour: Behaviour) {
        self.state.mood().behaviour = behaviour;
    }

    /// Tells this release from now on to whoever asks for its repo.
    pub fn tell(&self, release: SignedRelease) {
        self.state
            .mood()
            .releases
            .insert(release.release().repo(), release);
    }

    /// Returns how often it was asked.
    pub fn asked(&self) -> Asked {
        *self.state.asked.borrow()
    }

    /// Waits until it was asked as often as wanted.
    ///
    /// # Errors
    /// It was not before [`DEADLINE`].
    pub async fn until_asked(&self, mut wanted: impl FnMut(Asked) -> bool) -> Result<Asked> {
        let mut asked = self.state.asked.subscribe();
        let waiting = asked.wait_for(|asked| wanted(*asked));
        let asked = within(DEADLINE, "questions to a hostile provider", waiting).await??;
        Ok(*asked)
    }

    /// Stops it: its streams break, its ports are free.
    pub async fn stop(self) {
        self.swarm.shutdown().await;
    }
}

impl State {
    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
