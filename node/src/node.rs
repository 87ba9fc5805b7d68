//! The node: a library, a swarm, and the tasks between them. It starts them in order and stops them in the reverse one.

use crate::{
    config::Config,
    discovery::{Discovery, following, meeting},
    fetch::{JobView, Jobs, NoSuchJob, Unfinished},
    library::{Library, LibraryError, OpenError, now},
    meter::Meter,
    mirror::{Board, MirrorView, keep_mirroring},
    moderate::{LOOK_PAUSE, Moderator, keep_lists},
    names::Mirror,
    progress::Progress,
    publish::{PublishError, PublishRequest, Published},
    run::Engines,
    serve::Server,
    sharing::Sharing,
    store::{StoreError, blocking},
    swarm::{Protocol, Swarm, SwarmConfig, SwarmError},
    throttle::Throttle,
};
use libp2p::{Multiaddr, PeerId};
use protocol::{
    FileEntry, Hash, Publisher, RepoRef, SignedRelease, Ticket, limits::TICKET_ADDRESSES_MAX,
    release::provider_key, wire,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

pub use crate::{serve::PeerUp, throttle::Limits};

/// How long a publish waits for a first node to hear of it.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at the reserve file, and at what wants mending.
const TEND_PAUSE: Duration = Duration::from_secs(5);
/// Pause after a mending that found no peer.
const MEND_AGAIN: Duration = Duration::from_secs(60);

/// A running node. A cheap handle.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    library: Library,
    discovery: Discovery,
    swarm: Swarm,
    server: Server,
    sharing: Sharing,
    throttle: Throttle,
    fetches: Jobs,
    mirror: Board,
    engines: Engines,
    config: Config,
    received: Meter,
    since: Instant,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    http: Mutex<Option<SocketAddr>>,
}

/// A handle for tasks of the node, which must not keep it.
#[derive(Clone)]
pub(crate) struct WeakNode(Weak<Inner>);

impl WeakNode {
    /// The node, as long as somebody else keeps it.
    pub(crate) fn upgrade(&self) -> Option<Node> {
        self.0.upgrade().map(Node)
    }
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
    /// How fast bytes of blobs may pass.
    pub limits: Limits,
    /// Most bytes that the data folder may take; `None`: what the disk has.
    pub quota: Option<u64>,
    /// Bytes that the data folder takes.
    pub used: u64,
    /// Bytes of blobs sent a second, of late.
    pub up_bytes_s: f64,
    /// Bytes of blobs received and verified a second, of late.
    pub down_bytes_s: f64,
    /// Whom we send blobs to.
    pub serving: Vec<PeerUp>,
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
        swarm.memory_max = config.memory_max;
        swarm.protocols = vec![
            Protocol::direct(wire::BLOBS_PROTOCOL),
            Protocol::anywhere(wire::SWARM_PROTOCOL),
            Protocol::anywhere(wire::CATALOG_PROTOCOL),
        ];
        let (of, relay) = (library.clone(), config.relay);
        let opened = blocking(move || Ok(Discovery::open(of, relay))).await;
        let (discovery, heard) = match opened.map_err(LibraryError::from).and_then(|opened| opened) {
            Ok(opened) => opened,
            Err(error) => {
                library.close().await;
                return Err(error.into());
            }
        };
        let started = Swarm::start(swarm).await;
        let (swarm, inbound) = match started {
            Ok(started) => started,
            Err(error) => {
                library.close().await;
                return Err(error.into());
            }
        };
        let throttle = Throttle::new(config.limits);
        let sharing = Sharing::new(library.clone(), swarm.clone());
        let server = Server::new(
            library.clone(),
            discovery.clone(),
            throttle.clone(),
            config.upload_slots,
            Arc::new(sharing.clone()),
        );
        library.set_quota(config.quota);
        if let Err(error) = library.renew_denials().await {
            swarm.shutdown().await;
            library.close().await;
            return Err(error.into());
        }
        let node = Node(Arc::new(Inner {
            library,
            discovery,
            swarm,
            server: server.clone(),
            sharing: sharing.clone(),
            throttle,
            engines: Engines::new(config.engines.clone()),
            config,
            fetches: Jobs::default(),
            mirror: Board::default(),
            received: Meter::new(),
            since: Instant::now(),
            tasks: Mutex::default(),
            http: Mutex::default(),
        }));
        for (protocol, streams) in inbound {
            match protocol.as_ref() {
                wire::BLOBS_PROTOCOL => node.task(server.clone().answer(wire::BLOBS_PROTOCOL, streams)),
                wire::CATALOG_PROTOCOL => node.task(server.clone().answer(wire::CATALOG_PROTOCOL, streams)),
                _ => node.task(sharing.clone().answer(streams)),
            }
        }
        node.task(node.discovery().clone().read_set());
        node.announce_all()?;
        node.task(tend(Arc::downgrade(&node.0)));
        node.task(meeting::spread(node.downgrade(), node.discovery().news()));
        let shunned = Arc::default();
        node.task(meeting::keep_in_sync(
            node.downgrade(),
            node.swarm().subscribe(),
            Arc::clone(&shunned),
        ));
        node.task(meeting::keep_hearing(node.downgrade(), heard, shunned));
        node.task(following::keep_following(node.downgrade()));
        node.task(meeting::keep_indexed(node.downgrade(), node.discovery().news()));
        node.task(keep_mirroring(node.downgrade(), node.discovery().news()));
        node.task(keep_mending(Arc::downgrade(&node.0)));
        node.task(moderate(Arc::downgrade(&node.0)));
        node.task(keep_lists(node.downgrade(), node.discovery().news()));
        Ok(node)
    }

    /// A handle that does not keep the node.
    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode(Arc::downgrade(&self.0))
    }

    /// Runs a task that ends with the node.
    pub(crate) fn task(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock().expect("nothing panics while it holds this");
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(task));
    }

    /// Leaves the network and closes the data folder. Safe to call twice.
    pub async fn shutdown(&self) {
        self.0.swarm.shutdown().await;
        self.0.sharing.close();
        self.0.engines.clear();
        let tasks = std::mem::take(&mut *self.0.tasks.lock().expect("nothing panics while it holds this"));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        let discovery = self.0.discovery.clone();
        let closed = blocking(move || {
            discovery.close();
            Ok(())
        });
        if let Err(error) = closed.await {
            warn!(%error, "closing the search index");
        }
        self.0.library.close().await;
    }

    /// What this node has.
    pub fn library(&self) -> &Library {
        &self.0.library
    }

    /// What it knows of the releases of others.
    pub fn discovery(&self) -> &Discovery {
        &self.0.discovery
    }

    /// Its place in the network.
    pub fn swarm(&self) -> &Swarm {
        &self.0.swarm
    }

    /// The models that are loaded.
    pub fn engines(&self) -> &Engines {
        &self.0.engines
    }

    /// Who of which swarm has what.
    pub(crate) fn sharing(&self) -> &Sharing {
        &self.0.sharing
    }

    /// How it was started.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where it listens, with its peer id.
    pub fn listeners(&self) -> Vec<Multiaddr> {
        self.0.swarm.listeners()
    }

    /// Returns how fast bytes of blobs may go.
    pub fn limits(&self) -> Limits {
        self.0.throttle.limits()
    }

    /// Changes how fast bytes of blobs may go, also for what is under way. A limit of 0 counts as 1.
    pub fn set_limits(&self, limits: Limits) {
        self.0.throttle.set(limits);
    }

    /// Notes where the doors are, for the status.
    pub fn set_http(&self, address: SocketAddr) {
        *self.0.http.lock().expect("nothing panics while it holds this") = Some(address);
    }

    /// Counts verified bytes that came.
    pub(crate) fn received(&self, bytes: u64) {
        self.0.received.add(bytes);
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
            let denials = node.library().denials();
            let mut releases = names
                .iter()
                .filter(|name| denials.repo(name).is_none())
                .filter_map(|name| node.library().names().get(name).ok().flatten());
            let release = releases.find(|release| release.release().manifest == manifest);
            node.tell(manifest, release).await;
        });
    }

    /// Puts a release among what is known, from where searches and peers have it.
    pub(crate) async fn know(&self, release: SignedRelease) {
        let (discovery, repo) = (self.discovery().clone(), release.release().repo());
        let known = blocking(move || Ok(discovery.released(&release))).await;
        if let Err(error) = known.map_err(LibraryError::from).and_then(|known| known) {
            warn!(%repo, %error, "a release is not told to peers");
        }
    }

    pub(crate) async fn tell(&self, manifest: Hash, release: Option<SignedRelease>) {
        let (swarm, denials) = (self.swarm(), self.library().denials());
        // What is new may have files that only what is denied had.
        denials.look_again();
        if denials.manifest(manifest).is_some() {
            debug!(manifest = %manifest.short(), "what is denied is not announced");
            return;
        }
        if let Some(release) = release.clone() {
            self.know(release).await;
        }
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
        if denials.manifest(manifest).is_some() {
            // It was denied meanwhile.
            swarm.stop_providing(provider_key(manifest)).await;
        }
    }

    /// Announces a manifest of which something is kept here.
    pub(crate) async fn announce_if_here(&self, manifest: Hash) {
        let row = self.library().catalog().manifest(manifest).ok().flatten();
        let kept = row.filter(|row| row.complete || row.pinned);
        if let Some(row) = kept
            && (row.complete || self.has_some(manifest).await)
        {
            self.announce(manifest);
        }
    }

    /// Announces again what is kept here, also without some of its files: announcements do not outlive the process.
    fn announce_all(&self) -> Result<(), LibraryError> {
        let kept = self.library().list()?.into_iter();
        let kept = kept.filter(|view| view.complete || view.pinned);
        let manifests: BTreeMap<Hash, bool> = kept.map(|view| (view.manifest, view.complete)).collect();
        let node = self.clone();
        self.task(async move {
            for (manifest, complete) in manifests {
                if complete || node.has_some(manifest).await {
                    node.announce(manifest);
                }
                tokio::task::yield_now().await;
            }
        });
        Ok(())
    }

    /// Whether files of a manifest are here. What is damaged waits until it is mended.
    async fn has_some(&self, manifest: Hash) -> bool {
        let library = self.library();
        let Ok(content) = library.manifest(manifest).await else {
            return false;
        };
        let damaged = library.store().damaged();
        let files = content.files().iter().filter(|file| file.size > 0);
        let blobs: HashSet<Hash> = files.map(|file| file.blake3).collect();
        let missing = library.missing(&content).await;
        blobs.iter().all(|blob| !damaged.contains_key(blob))
            && missing.is_ok_and(|missing| missing.len() < blobs.len())
    }

    /// Stops providing a manifest that was let go.
    pub async fn forget(&self, what: &RepoRef) -> Result<crate::library::Forgotten, LibraryError> {
        self.fetches().cancel_of(self.library().resolve_local(what)?);
        let forgotten = self.library().forget(what).await?;
        self.sharing().drop_crowd(forgotten.manifest);
        self.swarm()
            .stop_providing(provider_key(forgotten.manifest))
            .await;
        self.mirror_board().change();
        Ok(forgotten)
    }

    /// Has the repos of a publisher that is followed fetched and kept from now on, or not any more.
    ///
    /// # Errors
    /// Those of [`Library::set_mirror`].
    pub async fn set_mirror(&self, publisher: Publisher, mirror: Option<Mirror>) -> Result<(), LibraryError> {
        let library = self.library().clone();
        let set = blocking(move || Ok(library.set_mirror(publisher, mirror))).await;
        self.mirror_board().change();
        set?
    }

    /// Tells how the mirrors are.
    ///
    /// # Errors
    /// The releases or the store cannot be read.
    pub async fn mirror_views(&self) -> Result<Vec<MirrorView>, LibraryError> {
        let board = self.mirror_board().clone();
        self.library().mirror_views_by(Some(board)).await
    }

    /// What the mirror says of what is not here; and where it is told that something changed.
    pub(crate) fn mirror_board(&self) -> &Board {
        &self.0.mirror
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
        let mut seen = HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        addresses.truncate(TICKET_ADDRESSES_MAX);
        Ok(Ticket::new(manifest, addresses, self.library().repo_of(what)?)?)
    }

    /// Returns the fetches under way.
    pub fn jobs(&self) -> Vec<JobView> {
        self.0.fetches.views()
    }

    /// Stops a fetch from asking peers, until it is resumed. It keeps what it has, and serves it.
    pub fn pause(&self, job: u64) -> Result<(), NoSuchJob> {
        self.set_paused(job, true)
    }

    /// Lets a paused fetch go on.
    pub fn resume(&self, job: u64) -> Result<(), NoSuchJob> {
        self.set_paused(job, false)
    }

    fn set_paused(&self, job: u64, paused: bool) -> Result<(), NoSuchJob> {
        let manifest = self.0.fetches.pause(job, paused)?;
        let data = self.library().data().to_owned();
        self.task(async move {
            let written = blocking(move || Unfinished::pause(&data, manifest, paused)).await;
            if let Err(error) = written {
                warn!(%error, "a pause will not outlive the node");
            }
        });
        Ok(())
    }

    /// Gives a fetch up. What came is kept until the next collection.
    pub fn cancel(&self, job: u64) -> Result<(), NoSuchJob> {
        self.0.fetches.cancel(job)
    }

    pub(crate) fn fetches(&self) -> &Jobs {
        &self.0.fetches
    }

    pub(crate) fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    /// Returns the peers we are connected to.
    pub async fn peers(&self) -> Vec<crate::swarm::PeerView> {
        self.swarm().peers().await
    }

    /// Returns the state of the node.
    pub async fn status(&self) -> Result<Status, LibraryError> {
        let views = self.library().list()?;
        let counts = self.swarm().counts().await;
        let store = self.library().store().clone();
        let used = blocking(move || store.used()).await?;
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
            down_bytes: self.0.received.total(),
            uptime_s: self.0.since.elapsed().as_secs_f64(),
            damaged: self
                .library()
                .store()
                .damaged()
                .iter()
                .map(|(hash, what)| format!("{hash}: {what}"))
                .collect(),
            limits: self.limits(),
            quota: self.config().quota,
            used,
            up_bytes_s: self.0.server.rate_up(),
            down_bytes_s: self.0.received.rate(),
            serving: self.0.server.serving(),
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
            if self.library().denials().manifest(manifest).is_some() {
                continue;
            }
            let Ok(content) = self.library().store().manifest(manifest).await else {
                continue;
            };
            let files = content.files().iter();
            let files: Vec<&FileEntry> = files.filter(|file| damaged.contains_key(&file.blake3)).collect();
            if !files.is_empty() {
                self.library().set_complete(manifest, false)?;
                self.sharing().drop_crowd(manifest);
                self.swarm().stop_providing(provider_key(manifest)).await;
                if let Err(error) = self.fetch_again(manifest, &files).await {
                    info!(manifest = %manifest.short(), %error, "a damaged repo waits for a peer that has it");
                    mended = false;
                }
            }
        }
        Ok(mended)
    }
}

impl Drop for Inner {
    /// The tasks of a node that was dropped without a shutdown would keep its swarm.
    fn drop(&mut self) {
        self.sharing.close();
        let tasks = self.tasks.get_mut().expect("nothing panics while it holds this");
        tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Looks after the reserve file, as long as the node lives.
async fn tend(node: Weak<Inner>) {
    loop {
        tokio::time::sleep(TEND_PAUSE).await;
        let Some(node) = node.upgrade() else {
            return;
        };
        let library = node.library.clone();
        let _ = tokio::task::spawn_blocking(move || library.tend_reserve()).await;
    }
}

/// Sees to what is denied, as long as the node lives.
async fn moderate(node: Weak<Inner>) {
    let Some(denials) = node.upgrade().map(|node| node.library.denials().clone()) else {
        return;
    };
    let (mut changes, mut moderator) = (denials.changes(), Moderator::default());
    changes.mark_changed();
    loop {
        let Some(node) = node.upgrade().map(Node) else {
            return;
        };
        moderator.look(&node).await;
        if changes.has_changed().unwrap_or(false) {
            changes.mark_unchanged();
            moderator.enforce(&node).await;
        }
        moderator.refresh(&node, Instant::now());
        drop(node);
        tokio::select! {
            _ = changes.changed() => changes.mark_changed(),
            () = denials.asked_to_look() => {}
            () = tokio::time::sleep(LOOK_PAUSE) => {}
        }
    }
}

/// Mends what is damaged, as long as the node lives.
async fn keep_mending(node: Weak<Inner>) {
    let mut pause = TEND_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(node) = node.upgrade().map(Node) else {
            return;
        };
        pause = match node.mend().await {
            Ok(true) => TEND_PAUSE,
            Ok(false) => MEND_AGAIN,
            Err(error) => {
                warn!(%error, "mending");
                TEND_PAUSE
            }
        };
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
