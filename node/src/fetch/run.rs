//! The running job of one manifest. It holds the state and does what has to be done: facts go to the plan, the plan's
//! decisions become requests, what these bring is told to the swarm and made durable, and who waits for it is told.

mod admit;
mod heads;
mod look;
mod safe;

use super::{
    FetchError,
    begin::{self, Found},
    plan::{Action, Fault, FetchPlan},
    providers::Providers,
    transfer::{self, Came, Link, Teller, TransferError},
    views::JobView,
    wants::{Want, Wants},
};
use crate::{
    limits::WHOLE_LEN,
    node::Node,
    runs::{self, span},
    sharing::{Crowd, Fact},
    store::{Fresh, Held, Kept, Part, Room, StoreError, blocking},
};
use fixedbitset::FixedBitSet;
use heads::Heads;
pub(super) use heads::Verdict;
use libp2p::PeerId;
use look::Look;
use protocol::{Hash, Manifest, ShardMap, shard::shards_covering};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Instant,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
};
use tracing::{debug, warn};

/// Pieces that came and wait for the job. Each is a few words, not the bytes.
const CAME_MAX: usize = 1_024;

/// What is asked of a running job.
pub(crate) enum Ask {
    /// Somebody wants files.
    Want(Want),
    /// Somebody reads: these bytes of a blob come first.
    Read {
        /// Which blob.
        blob: Hash,
        /// Which of its bytes.
        bytes: Range<u64>,
        /// Told when they are here; dropped when they will not be.
        done: oneshot::Sender<()>,
    },
    /// Stop asking peers, or go on.
    Pause(bool),
    /// Give it up. What came is kept until it is collected.
    Cancel,
}

/// The running job.
pub(super) struct Run<'a> {
    node: &'a Node,
    manifest: Arc<Manifest>,
    hash: Hash,
    held: Held,
    map: Arc<ShardMap>,
    /// Blobs whose first shards come before the rest.
    first: HashSet<usize>,
    plan: FetchPlan<PeerId>,
    crowd: Crowd,
    facts: mpsc::Receiver<Fact>,
    providers: Providers,
    tasks: JoinSet<(u64, Result<(), TransferError>)>,
    under: HashMap<u64, Under>,
    tell: mpsc::Sender<Came>,
    came: mpsc::Receiver<Came>,
    here: FixedBitSet,
    blobs: Vec<Blob>,
    parts: HashMap<usize, Arc<Part>>,
    loose: Loose,
    settling: JoinSet<Result<Vec<usize>, StoreError>>,
    flushing: JoinSet<Result<(), StoreError>>,
    unflushed: u64,
    heads: Heads,
    /// Blobs that nobody wants any more, since what they are was seen. To the plan they are here.
    dropped: HashSet<usize>,
    /// Room for what is to come of the blobs in `spoken_for`.
    room: Option<Room>,
    spoken_for: HashSet<usize>,
    wants: Wants,
    reads: Vec<(Range<u32>, oneshot::Sender<()>)>,
    announced: bool,
    look: Look,
}

/// How much of a blob is here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blob {
    /// Not all of it.
    Missing,
    /// All of it, and a power cut could take it.
    Loose,
    /// All of it. A row is as safe as it has to be: it becomes durable with the pin of its manifest.
    Safe,
}

/// A request under way.
struct Under {
    peer: PeerId,
    handle: AbortHandle,
}

/// What came and is not durable yet.
#[derive(Default)]
struct Loose {
    files: HashMap<usize, Fresh>,
    bytes: u64,
    rows: Kept,
    row_bytes: u64,
}

impl<'a> Run<'a> {
    /// Begins a job whose manifest is here, and takes part in its swarm with what is here of it.
    pub(super) async fn begin(
        node: &'a Node,
        manifest: Manifest,
        held: Held,
        providers: Providers,
    ) -> Result<Run<'a>, FetchError> {
        let hash = manifest.hash();
        let too_large = |source| FetchError::TooLarge {
            manifest: hash,
            source,
        };
        let map = Arc::new(ShardMap::new(&manifest).map_err(too_large)?);
        let missing = node.library().missing(&manifest).await?;
        let missing: Vec<usize> = missing.iter().filter_map(|(blob, _)| map.find(*blob)).collect();
        let (tell, came) = mpsc::channel(CAME_MAX);
        let mut blobs = vec![Blob::Safe; map.blobs().len()];
        let mut here = FixedBitSet::with_capacity(map.count() as usize);
        here.insert_range(..);
        for at in &missing {
            blobs[*at] = Blob::Missing;
            here.set_range(span(&map.blobs()[*at].shards()), false);
        }
        let found = {
            let (store, map, missing) = (node.library().store().clone(), map.clone(), missing.clone());
            blocking(move || begin::look(&store, &map, &missing)).await?
        };
        for (at, found) in missing.iter().zip(&found) {
            let shards = found.shards(&map.blobs()[*at]);
            shards.iter().for_each(|run| here.insert_range(span(run)));
        }
        let first = begin::first(&manifest, &map);
        let mut plan = FetchPlan::new(map.clone(), rand::random());
        for run in runs::of(&here) {
            plan.landed(run);
        }
        let (crowd, facts) = node.sharing().enter(hash, map.clone(), here.clone());
        let mut run = Run {
            node,
            manifest: Arc::new(manifest),
            hash,
            held,
            map,
            first,
            plan,
            crowd,
            facts,
            providers,
            tasks: JoinSet::new(),
            under: HashMap::new(),
            tell,
            came,
            here,
            blobs,
            parts: HashMap::new(),
            loose: Loose::default(),
            settling: JoinSet::new(),
            flushing: JoinSet::new(),
            unflushed: 0,
            heads: Heads::default(),
            dropped: HashSet::new(),
            room: None,
            spoken_for: HashSet::new(),
            wants: Wants::default(),
            reads: Vec::new(),
            announced: false,
            look: Look::new(),
        };
        for (at, found) in missing.into_iter().zip(found) {
            run.found(at, found);
        }
        run.announce();
        Ok(run)
    }

    fn found(&mut self, at: usize, found: Found) {
        match found {
            Found::Nothing => {}
            Found::Safe => self.blobs[at] = Blob::Safe,
            Found::Left(fresh) => self.loosen(at, fresh),
            Found::Some(part, _) => {
                let whole = part.is_complete();
                self.parts.insert(at, part);
                if whole {
                    self.whole(at);
                }
            }
        }
    }

    /// Hears what was asked early, and works until nobody waits any more. An error of ours ends it; what came is kept.
    pub(super) async fn work(
        mut self,
        early: Vec<Ask>,
        asked: &mut mpsc::Receiver<Ask>,
        view: &watch::Sender<JobView>,
    ) {
        if let Err(error) = self.drive(early, asked, view).await {
            debug!(manifest = %self.hash.short(), %error, "a fetch ends early");
            self.wants.fail(error);
        }
        self.tasks.shutdown().await;
        // What is being made durable is let finish.
        while self.settling.join_next().await.is_some() {}
        self.crowd.leave(self.parts.into_values());
    }

    async fn drive(
        &mut self,
        early: Vec<Ask>,
        asked: &mut mpsc::Receiver<Ask>,
        view: &watch::Sender<JobView>,
    ) -> Result<(), FetchError> {
        for ask in early {
            self.asked(ask).await?;
        }
        let mut look = Look::ticks();
        loop {
            let until = self.decide();
            self.settle_when_due();
            self.flush_when_due();
            self.wants.tell_done(&self.manifest, &self.map, &self.held);
            if self.wants.is_empty() && self.settling.is_empty() && self.node.fetches().end(self.hash, asked)
            {
                return Ok(());
            }
            tokio::select! {
                Some(came) = self.came.recv() => self.came(came),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // A request that was stopped has been forgotten already.
                    if let Ok((request, result)) = ended {
                        self.ended(request, result).await?;
                    }
                }
                fact = self.facts.recv() => match fact {
                    Some(fact) => self.fact(fact),
                    None => self.enter_again(),
                },
                Some(settled) = self.settling.join_next(), if !self.settling.is_empty() => {
                    let places = settled.map_err(|_| StoreError::Closed)??;
                    places.into_iter().for_each(|at| self.safe(at));
                }
                Some(looked) = self.heads.next(), if self.heads.looks() => {
                    let (at, look) = looked?;
                    self.looked(at, look);
                }
                Some(flushed) = self.flushing.join_next(), if !self.flushing.is_empty() => {
                    flushed.map_err(|_| StoreError::Closed)??;
                }
                Some(ask) = asked.recv() => self.asked(ask).await?,
                Some(peer) = self.providers.next() => self.crowd.meet(peer),
                () = look::until(until) => {}
                _ = look.tick() => self.look_around(view).await,
            }
        }
    }

    /// Carries out what the plan wants now; returns when it wants to be asked again.
    fn decide(&mut self) -> Option<Instant> {
        loop {
            match self.plan.next(Instant::now()) {
                Action::Ask {
                    request,
                    peer,
                    shards,
                } => self.ask(request, peer, shards),
                Action::Stop(request) => {
                    if let Some(under) = self.under.remove(&request) {
                        under.handle.abort();
                    }
                }
                Action::Wait(until) => return until,
                Action::Done => return None,
            }
        }
    }

    fn ask(&mut self, request: u64, peer: PeerId, shards: Range<u32>) {
        let at = self
            .map
            .blob_of(shards.start)
            .expect("the plan asks for shards that there are");
        let blob = self.map.blobs()[at];
        let link = Link::new(self.node, peer);
        let teller = Teller::new(request, peer, blob.first, self.tell.clone());
        let handle = if blob.len > WHOLE_LEN {
            let local = shards.start - blob.first..shards.end - blob.first;
            let part = self.parts.get(&at).cloned();
            self.tasks.spawn(async move {
                let result = transfer::shards(&link, (blob.hash, blob.len), part, local, &teller).await;
                (request, result)
            })
        } else {
            let blobs = self.map.blobs()[at..at + shards.len()].to_vec();
            self.tasks.spawn(async move {
                let result = transfer::whole(&link, &blobs, &teller).await;
                (request, result)
            })
        };
        self.under.insert(request, Under { peer, handle });
    }

    /// Takes in what a request brought.
    fn came(&mut self, came: Came) {
        let now = Instant::now();
        // What a request brought before it was stopped counts too.
        if came.bytes > 0
            && let Some(blob) = self.map.blob_of(came.first)
        {
            let peer = came.peer;
            self.plan.progressed(came.request, came.bytes, now);
            self.wants.came(blob, peer, came.bytes);
            self.look.came(peer, came.bytes);
            self.unflushed += came.bytes;
            if let Some(room) = &mut self.room {
                room.taken(came.bytes);
            }
            self.node.received(came.bytes);
        }
        if let Some(part) = came.part
            && let Some(at) = self.map.find(part.blob.hash)
        {
            self.parts.insert(at, part);
        }
        for (hash, fresh) in came.fresh {
            if let Some(at) = self.map.find(hash) {
                self.loosen(at, fresh);
            }
        }
        self.loose.rows.append(came.kept);
        for run in came.landed {
            self.landed(run);
        }
        if let Some(at) = self.map.blob_of(came.first) {
            self.look_into(at);
        }
    }

    /// These shards are here: the plan and the swarm learn it, and blobs that are whole now are on their way to be safe.
    fn landed(&mut self, run: Range<u32>) {
        let range = span(&run);
        if self.here.contains_all_in_range(range.clone()) {
            return;
        }
        self.here.insert_range(range);
        self.plan.landed(run.clone());
        self.crowd.got(run.clone());
        self.announce();
        self.tell_readers();
        let first = self.map.blob_of(run.start).unwrap_or(self.blobs.len());
        for at in first..self.blobs.len() {
            let shards = self.map.blobs()[at].shards();
            if shards.start >= run.end {
                break;
            }
            if self.here.contains_all_in_range(span(&shards)) {
                self.whole(at);
            }
        }
    }

    /// Tells those whose bytes are here.
    fn tell_readers(&mut self) {
        let here = &self.here;
        let read = |(run, _): &mut (Range<u32>, _)| here.contains_all_in_range(span(run));
        for (_, done) in self.reads.extract_if(.., read) {
            // A reader that has gone does not need to know.
            let _ = done.send(());
        }
    }

    /// Tells the network, once, that there is something to be had here.
    fn announce(&mut self) {
        if !self.announced && !self.here.is_clear() {
            self.announced = true;
            self.node.announce(self.hash);
        }
    }

    async fn ended(&mut self, request: u64, result: Result<(), TransferError>) -> Result<(), FetchError> {
        // What it brought was told before it ended.
        while let Ok(came) = self.came.try_recv() {
            self.came(came);
        }
        let Some(Under { peer, .. }) = self.under.remove(&request) else {
            return Ok(());
        };
        let now = Instant::now();
        match result {
            Ok(()) => self.plan.finished(request, now),
            Err(TransferError::Store(error)) => return Err(error.into()),
            Err(error) => {
                let fault = error.fault();
                if fault == Fault::Lied {
                    warn!(%peer, manifest = %self.hash.short(), %error, "a provider lied; it is not asked again");
                    self.node.swarm().ban(peer).await;
                } else {
                    debug!(%peer, %error, "a request broke");
                }
                self.plan.failed(request, fault, now);
            }
        }
        Ok(())
    }

    /// The crowd was ended under us, because what it told of us was not true any more: begins anew with what is here.
    fn enter_again(&mut self) {
        let now = Instant::now();
        for peer in self.plan.peers().map(|peer| peer.peer).collect::<Vec<_>>() {
            self.plan.peer_left(peer, now);
        }
        let sharing = self.node.sharing();
        (self.crowd, self.facts) = sharing.enter(self.hash, self.map.clone(), self.here.clone());
    }

    fn fact(&mut self, fact: Fact) {
        let now = Instant::now();
        match fact {
            Fact::Joined(peer) => self.plan.peer_joined(peer, now),
            Fact::Has(peer, runs) => runs.into_iter().for_each(|run| self.plan.peer_has(peer, run)),
            Fact::HasAll(peer) => self.plan.peer_has_all(peer),
            Fact::Left(peer) => self.plan.peer_left(peer, now),
        }
    }

    async fn asked(&mut self, ask: Ask) -> Result<(), FetchError> {
        match ask {
            Ask::Want(want) => self.admit(want).await,
            Ask::Read { blob, bytes, done } => {
                if let Some(at) = self.map.find(blob) {
                    let blob = self.map.blobs()[at];
                    let local = shards_covering(blob.len, bytes);
                    let run = blob.first + local.start..blob.first + local.end;
                    self.plan.read_next(run.clone());
                    self.reads.retain(|(_, done)| !done.is_closed());
                    self.reads.push((run, done));
                    self.tell_readers();
                }
                Ok(())
            }
            Ask::Pause(paused) => {
                self.pause(paused);
                Ok(())
            }
            Ask::Cancel => {
                let manifest = self.hash;
                self.wants.end(|| FetchError::Cancelled { manifest });
                Ok(())
            }
        }
    }

    fn pause(&mut self, paused: bool) {
        self.look.paused = paused;
        self.plan.set_paused(paused);
    }
}
