//! The node: a library, a swarm, and the tasks between them. It starts them in order and stops them in the reverse one.

use crate::{
    config::Config,
    library::{Library, LibraryError, OpenError, now},
    progress::Progress,
    publish::{PublishError, PublishRequest, Published},
    serve::Server,
    store::StoreError,
    swarm::{Protocol, Swarm, SwarmConfig, SwarmError},
};
use libp2p::{Multiaddr, PeerId};
use protocol::{
    Hash, Publisher, RepoRef, SignedRelease, Ticket, limits::TICKET_ADDRESSES_MAX, release::provider_key,
    wire,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::OwnedMutexGuard, task::JoinHandle};
use tracing::{debug, info, warn};

/// How long a publish waits for a first node to hear of it.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at what wants mending.
const MEND_PAUSE: Duration = Duration::from_secs(5);
/// Pause after a mending that found no peer.
const MEND_AGAIN: Duration = Duration::from_secs(60);

/// A running node. A cheap handle.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    library: Library,
    swarm: Swarm,
    server: Server,
    config: Config,
    received: AtomicU64,
    since: Instant,
    turns: Mutex<HashMap<Hash, Arc<tokio::sync::Mutex<()>>>>,
    jobs: Mutex<Vec<(u64, JobView)>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    http: Mutex<Option<SocketAddr>>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The network.
    #[error("the network")]
    Swarm(#[from] SwarmError),
    /// What is pinned cannot be listed.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// A fetch under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// What was asked for, as the user wrote it.
    pub what: String,
    /// How far it is.
    pub snapshot: crate::progress::Snapshot,
    /// Seconds since it began.
    pub seconds: f64,
}

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who we are to other nodes.
    pub peer_id: String,
    /// Who we publish as.
    pub publisher: Publisher,
    /// Where we listen.
    pub listen: Vec<String>,
    /// Where our doors are.
    pub http: Option<SocketAddr>,
    /// The data folder.
    pub data: PathBuf,
    /// Repos and unnamed manifests here.
    pub repos: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Peers we are connected to.
    pub connected: u64,
    /// Peers in the routing table.
    pub routing: u64,
    /// Manifests and releases we announce.
    pub announced: u64,
    /// Bytes of blobs sent since the start.
    pub up_bytes: u64,
    /// Bytes of blobs received and verified since the start.
    pub down_bytes: u64,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Blobs that are known to be damaged, and what was found.
    pub damaged: Vec<String>,
}

impl Node {
    /// Opens the data folder and joins the network.
    pub async fn start(config: Config) -> Result<Node, StartError> {
        let library = Library::open(&config.data).await?;
        Node::over(library, config).await
    }

    /// Joins the network with a library that is open.
    pub async fn over(library: Library, config: Config) -> Result<Node, StartError> {
        let mut swarm = SwarmConfig::new(library.keypair());
        swarm.listen = config.listen.clone();
        swarm.peers = config.peers.clone();
        (swarm.mdns, swarm.upnp, swarm.dht) = (config.mdns, config.upnp, config.dht);
        swarm.folder = Some(library.data().join("swarm"));
        swarm.protocols = vec![
            Protocol::direct(wire::BLOBS_PROTOCOL),
            Protocol::anywhere(wire::SWARM_PROTOCOL),
            Protocol::anywhere(wire::CATALOG_PROTOCOL),
        ];
        let started = Swarm::start(swarm).await;
        let (swarm, inbound) = match started {
            Ok(started) => started,
            Err(error) => {
                library.close().await;
                return Err(error.into());
            }
        };
        let server = Server::new(library.clone());
        let node = Node(Arc::new(Inner {
            library,
            swarm,
            server: server.clone(),
            config,
            received: AtomicU64::new(0),
            since: Instant::now(),
            turns: Mutex::default(),
            jobs: Mutex::default(),
            tasks: Mutex::default(),
            http: Mutex::default(),
        }));
        let protocols = [wire::BLOBS_PROTOCOL, wire::SWARM_PROTOCOL, wire::CATALOG_PROTOCOL];
        for (protocol, (_, streams)) in protocols.into_iter().zip(inbound) {
            node.task(server.clone().answer(protocol, streams));
        }
        node.announce_all()?;
        node.task(tend(Arc::downgrade(&node.0)));
        Ok(node)
    }

    fn task(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock().expect("nothing panics while it holds this");
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
    }

    /// Leaves the network and closes the data folder. Safe to call twice.
    pub async fn shutdown(&self) {
        self.0.swarm.shutdown().await;
        let tasks = std::mem::take(&mut *self.0.tasks.lock().expect("nothing panics while it holds this"));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.0.library.close().await;
    }

    /// What this node has.
    pub fn library(&self) -> &Library {
        &self.0.library
    }

    /// Its place in the network.
    pub fn swarm(&self) -> &Swarm {
        &self.0.swarm
    }

    /// How it was started.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where it listens, with its peer id.
    pub fn listeners(&self) -> Vec<Multiaddr> {
        self.0.swarm.listeners()
    }

    /// Notes where the doors are, for the status.
    pub fn set_http(&self, address: SocketAddr) {
        *self.0.http.lock().expect("nothing panics while it holds this") = Some(address);
    }

    /// Waits until no other fetch of the manifest is under way.
    pub(crate) async fn turn(&self, manifest: Hash) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.turns.lock().expect("nothing panics while it holds this");
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(manifest).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Counts verified bytes that came.
    pub(crate) fn received(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Publishes, and tells the swarm.
    pub async fn publish(
        &self,
        request: PublishRequest,
        progress: &Progress,
    ) -> Result<(Published, Ticket), PublishError> {
        let published = self.library().publish(request, progress).await?;
        progress.phase(crate::progress::Phase::Announcing, 0, 0);
        let (node, manifest) = (self.clone(), published.manifest);
        let release = self.library().names().get(&published.repo)?;
        let mut told = tokio::spawn(async move { node.tell(manifest, release).await });
        if tokio::time::timeout(ANNOUNCE_WAIT, &mut told).await.is_err() {
            debug!(manifest = %manifest.short(), "announcing goes on in the background");
        }
        let ticket = self.ticket(&RepoRef::Id(published.repo.clone()))?;
        info!(repo = %published.repo, manifest = %manifest.short(), "published");
        Ok((published, ticket))
    }

    /// Tells the swarm, in the background, that we provide a manifest, with the releases that name it.
    pub(crate) fn announce(&self, manifest: Hash) {
        let node = self.clone();
        self.task(async move {
            let names = node
                .library()
                .catalog()
                .manifest(manifest)
                .ok()
                .flatten()
                .map(|row| row.names)
                .unwrap_or_default();
            let mut releases = names
                .iter()
                .filter_map(|name| node.library().names().get(name).ok().flatten());
            let release = releases.find(|release| release.release().manifest == manifest);
            node.tell(manifest, release).await;
        });
    }

    async fn tell(&self, manifest: Hash, release: Option<SignedRelease>) {
        let swarm = self.swarm();
        let provide = swarm.start_providing(provider_key(manifest));
        let put = async {
            match release {
                Some(release) => swarm.put_record(release).await.map(drop),
                None => Ok(()),
            }
        };
        let (provided, put) = tokio::join!(provide, put);
        if let Err(error) = provided.map(drop).and(put) {
            warn!(manifest = %manifest.short(), %error, "announcing");
        }
    }

    /// Announces again what is complete here: announcements do not outlive the process.
    fn announce_all(&self) -> Result<(), LibraryError> {
        let complete = self.library().list()?.into_iter().filter(|view| view.complete);
        let manifests: std::collections::BTreeSet<Hash> = complete.map(|view| view.manifest).collect();
        let node = self.clone();
        self.task(async move {
            for manifest in manifests {
                node.announce(manifest);
                tokio::task::yield_now().await;
            }
        });
        Ok(())
    }

    /// Stops providing a manifest that was let go.
    pub async fn forget(&self, what: &RepoRef) -> Result<crate::library::Forgotten, LibraryError> {
        let forgotten = self.library().forget(what).await?;
        self.swarm()
            .stop_providing(provider_key(forgotten.manifest))
            .await;
        Ok(forgotten)
    }

    /// Makes a ticket: the manifest, its name, and where we are reached.
    pub fn ticket(&self, what: &RepoRef) -> Result<Ticket, LibraryError> {
        let manifest = self.library().resolve_local(what)?;
        let mut addresses: Vec<String> = self
            .swarm()
            .external_addresses()
            .iter()
            .map(Multiaddr::to_string)
            .collect();
        addresses.extend(self.listeners().iter().map(Multiaddr::to_string));
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        addresses.truncate(TICKET_ADDRESSES_MAX);
        Ok(Ticket::new(manifest, addresses, self.library().repo_of(what)?)?)
    }

    /// Lists a fetch while it runs; the listing ends when the guard is dropped.
    pub fn job(&self, what: String, watch: tokio::sync::watch::Receiver<crate::progress::Snapshot>) -> Job {
        let number = self
            .0
            .jobs
            .lock()
            .expect("nothing panics while it holds this")
            .iter()
            .map(|(number, _)| number + 1)
            .max()
            .unwrap_or(0);
        let view = JobView {
            what,
            snapshot: watch.borrow().clone(),
            seconds: 0.0,
        };
        self.0
            .jobs
            .lock()
            .expect("nothing panics while it holds this")
            .push((number, view));
        let node = self.clone();
        let begun = Instant::now();
        let task = tokio::spawn(async move {
            let mut watch = watch;
            while watch.changed().await.is_ok() {
                let snapshot = watch.borrow_and_update().clone();
                let mut jobs = node.0.jobs.lock().expect("nothing panics while it holds this");
                if let Some((_, view)) = jobs.iter_mut().find(|(other, _)| *other == number) {
                    (view.snapshot, view.seconds) = (snapshot, begun.elapsed().as_secs_f64());
                }
            }
        });
        Job {
            node: self.clone(),
            number,
            task,
        }
    }

    /// Returns the fetches under way.
    pub fn jobs(&self) -> Vec<JobView> {
        self.0
            .jobs
            .lock()
            .expect("nothing panics while it holds this")
            .iter()
            .map(|(_, view)| view.clone())
            .collect()
    }

    /// Returns the peers we are connected to.
    pub async fn peers(&self) -> Vec<crate::swarm::PeerView> {
        self.swarm().peers().await
    }

    /// Returns the state of the node.
    pub async fn status(&self) -> Result<Status, LibraryError> {
        let views = self.library().list()?;
        let counts = self.swarm().counts().await;
        Ok(Status {
            peer_id: self.swarm().peer_id().to_string(),
            publisher: self.library().publisher(),
            listen: self.listeners().iter().map(Multiaddr::to_string).collect(),
            http: *self.0.http.lock().expect("nothing panics while it holds this"),
            data: self.library().data().to_owned(),
            repos: views.len() as u64,
            bytes: views
                .iter()
                .filter(|view| view.complete)
                .map(|view| view.bytes)
                .sum(),
            connected: counts.connected as u64,
            routing: counts.routing as u64,
            announced: counts.announced as u64,
            up_bytes: self.0.server.sent(),
            down_bytes: self.0.received.load(Ordering::Relaxed),
            uptime_s: self.0.since.elapsed().as_secs_f64(),
            damaged: self
                .library()
                .store()
                .damaged()
                .iter()
                .map(|(hash, what)| format!("{hash}: {what}"))
                .collect(),
        })
    }

    /// Fetches again what is damaged, from whoever has it; returns whether a peer had it.
    async fn mend(&self) -> Result<bool, StoreError> {
        let damaged = self.library().store().damaged();
        if damaged.is_empty() {
            return Ok(true);
        }
        let mut mended = true;
        for manifest in self.library().store().pinned().await? {
            let Ok(content) = self.library().store().manifest(manifest).await else {
                continue;
            };
            if content
                .files()
                .iter()
                .any(|file| damaged.contains_key(&file.blake3))
            {
                self.library().set_complete(manifest, false)?;
                self.swarm().stop_providing(provider_key(manifest)).await;
                let request = crate::fetch::FetchRequest::new(crate::fetch::FetchWhat::Repo(
                    RepoRef::Content(manifest),
                ));
                if let Err(error) = self.fetch(request, &Progress::default()).await {
                    info!(manifest = %manifest.short(), %error, "a damaged repo waits for a peer that has it");
                    mended = false;
                }
            }
        }
        Ok(mended)
    }
}

/// A listed fetch.
pub struct Job {
    node: Node,
    number: u64,
    task: JoinHandle<()>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
        self.node
            .0
            .jobs
            .lock()
            .expect("nothing panics while it holds this")
            .retain(|(number, _)| *number != self.number);
    }
}

/// Looks after the reserve file and mends what is damaged, as long as the node lives.
async fn tend(node: std::sync::Weak<Inner>) {
    let mut next_mending = Instant::now();
    loop {
        tokio::time::sleep(MEND_PAUSE).await;
        let Some(node) = node.upgrade().map(Node) else {
            return;
        };
        let library = node.library().clone();
        let _ = tokio::task::spawn_blocking(move || library.tend_reserve()).await;
        if next_mending <= Instant::now() {
            match node.mend().await {
                Ok(true) => {}
                Ok(false) => next_mending = Instant::now() + MEND_AGAIN,
                Err(error) => warn!(%error, "mending"),
            }
        }
    }
}

/// Our clock and our peer id in one line, for the log at the start.
impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peer: PeerId = self.swarm().peer_id();
        f.debug_struct("Node")
            .field("peer", &peer)
            .field("now", &now())
            .finish()
    }
}
