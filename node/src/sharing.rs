//! Who of a manifest's swarm has which shards, told over `/shoal/swarm/1`: one session a peer, a crowd a manifest.
//!
//! A crowd is there while a fetch is in it or a member is. A fetch hears by facts what its members have; those who come to us
//! find what is here, whole or in part. A complete node does not show everything to everybody at once (see [`offers`]).
//! Lock order: a gathering's, then the index's.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one run of shards is meant"
)]

mod gathering;
mod hints;
mod loading;
mod meeting;
mod offers;
mod outbox;
mod session;
mod shards;

use crate::{
    library::Library,
    limits::ANSWER_WAIT,
    serve::Watcher,
    store::Part,
    swarm::{InboundStream, Swarm},
};
use fixedbitset::FixedBitSet;
use gathering::Gathering;
use libp2p::PeerId;
use protocol::{Hash, ShardMap, limits::FRAME_LEN_MAX};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::debug;

/// Streams of all crowds together: a full crowd for each of sixteen manifests.
const STREAMS_MAX: usize = 1_024;
/// Streams with one peer: each is about another manifest.
const STREAMS_PER_PEER: usize = 64;
/// Facts that wait for a fetch. A member that has more to say waits: more than two for each of a full crowd.
const FACTS_MAX: usize = 256;
/// Crowds beyond which none is made for a peer that asks: a crowd for each stream would be a manifest in memory for each.
const CROWDS_MAX: usize = 256;
/// Bytes of memory for crowds, about, beyond which none is made for a peer that asks.
const CROWDS_WEIGHT_MAX: usize = 64 * 1024 * 1024;
/// Peers that are met at once because a fetch named them.
const MEETS_AT_ONCE: usize = 16;
/// Peers that are met at once because other members named them.
const HINTED_AT_ONCE: usize = 8;
/// How often super-seeding looks at the clock.
const TICK: Duration = Duration::from_millis(250);

/// All crowds of a node. A cheap handle.
#[derive(Clone)]
pub(crate) struct Sharing(Arc<Inner>);

struct Inner {
    library: Library,
    swarm: Swarm,
    index: Mutex<Index>,
    /// One manifest is read at a time, however many ask.
    loading: tokio::sync::Mutex<()>,
    meets: Semaphore,
    hinted: Semaphore,
    tasks: Mutex<JoinSet<()>>,
    numbers: AtomicU64,
}

#[derive(Default)]
struct Index {
    crowds: HashMap<Hash, Arc<Gathering>>,
    /// The crowds of which a peer is a member.
    seated: HashMap<PeerId, Vec<Arc<Gathering>>>,
    streams: HashMap<PeerId, usize>,
    streams_total: usize,
}

impl Index {
    /// Forgets a crowd, if it is there.
    fn remove(&mut self, gathering: &Arc<Gathering>) {
        let listed = self.crowds.get(&gathering.manifest);
        if listed.is_some_and(|listed| Arc::ptr_eq(listed, gathering)) {
            self.crowds.remove(&gathering.manifest);
        }
        self.seated.retain(|_, crowds| {
            crowds.retain(|listed| !Arc::ptr_eq(listed, gathering));
            !crowds.is_empty()
        });
    }
}

/// What a fetch hears of its crowd. A member may be told of again after its stream was replaced: the last word adds up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A peer takes part.
    Joined(PeerId),
    /// A member has these shards, beside those told before.
    Has(PeerId, Vec<Range<u32>>),
    /// A member has every shard.
    HasAll(PeerId),
    /// A member is gone.
    Left(PeerId),
}

/// A fetch's place in its crowd; the fetch is over when this is dropped. The members may stay, and are served.
pub(crate) struct Crowd {
    sharing: Sharing,
    gathering: Arc<Gathering>,
    entry: u64,
}

impl Crowd {
    /// Opens a session with a peer in the background, unless there is one or enough.
    pub(crate) fn meet(&self, peer: PeerId) {
        self.sharing.meet(&self.gathering, peer);
    }

    /// We have these shards now; the members are told soon.
    pub(crate) fn got(&self, run: Range<u32>) {
        self.gathering.got(&run);
    }

    /// Keeps growing files open that the fetch leaves behind, as long as there is a crowd: what is here of them is shared.
    pub(crate) fn leave(&self, parts: impl IntoIterator<Item = Arc<Part>>) {
        self.gathering.hold(parts);
    }

    /// Who takes part, in no order.
    #[cfg(test)]
    pub(crate) fn members(&self) -> Vec<PeerId> {
        self.gathering.members()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.gathering.part(self.entry);
        self.sharing.tidy(&self.gathering, Instant::now());
    }
}

/// A stream that counts.
struct Counted(Sharing, PeerId);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut index = self.0.index();
        index.streams_total -= 1;
        if let Some(streams) = index.streams.get_mut(&self.1) {
            *streams -= 1;
            if *streams == 0 {
                index.streams.remove(&self.1);
            }
        }
    }
}

impl Sharing {
    /// No crowds yet.
    pub(crate) fn new(library: Library, swarm: Swarm) -> Sharing {
        Sharing(Arc::new(Inner {
            library,
            swarm,
            index: Mutex::default(),
            loading: tokio::sync::Mutex::new(()),
            meets: Semaphore::new(MEETS_AT_ONCE),
            hinted: Semaphore::new(HINTED_AT_ONCE),
            tasks: Mutex::default(),
            numbers: AtomicU64::new(0),
        }))
    }

    /// Takes the streams of `/shoal/swarm/1`, and looks at the clock; ends with the swarm.
    pub(crate) async fn answer(self, mut inbound: mpsc::Receiver<InboundStream>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                stream = inbound.recv() => match stream {
                    Some(InboundStream { peer, stream }) => self.accept(peer, stream),
                    None => return,
                },
                _ = ticks.tick() => {
                    let crowds: Vec<_> = self.index().crowds.values().cloned().collect();
                    let now = Instant::now();
                    for gathering in crowds {
                        gathering.tick(now);
                        self.tidy(&gathering, now);
                    }
                }
            }
        }
    }

    /// Ends all sessions, at once.
    pub(crate) fn close(&self) {
        self.tasks().abort_all();
    }

    /// A fetch of a manifest begins, that has `have`. A second fetch of one manifest takes the facts of the first.
    pub(crate) fn enter(
        &self,
        manifest: Hash,
        map: Arc<ShardMap>,
        have: FixedBitSet,
    ) -> (Crowd, mpsc::Receiver<Fact>) {
        let entry = self.number();
        loop {
            let gathering = {
                let mut index = self.index();
                let fresh = || {
                    let (map, us) = (Arc::clone(&map), self.swarm().peer_id());
                    let none = FixedBitSet::with_capacity(map.count() as usize);
                    Arc::new(Gathering::new(manifest, map, us, none, rand::random()))
                };
                Arc::clone(index.crowds.entry(manifest).or_insert_with(fresh))
            };
            if let Some(facts) = gathering.enter(entry, &have, FACTS_MAX) {
                let sharing = self.clone();
                let crowd = Crowd {
                    sharing,
                    gathering,
                    entry,
                };
                return (crowd, facts);
            }
            // Closed this moment, or its members believe that we have more than we do.
            self.close_crowd(&gathering);
        }
    }

    /// Ends the crowd of a manifest that is no longer here, or not as it was said to be.
    pub(crate) fn drop_crowd(&self, manifest: Hash) {
        let found = self.index().crowds.get(&manifest).cloned();
        if let Some(gathering) = found {
            self.close_crowd(&gathering);
        }
    }

    /// Asks a peer whether it takes part in a manifest: whether it has all or some of it, or fetches it.
    pub(crate) async fn probe(&self, peer: PeerId, manifest: Hash) -> bool {
        let found = self.index().crowds.get(&manifest).cloned();
        if found.is_some_and(|gathering| gathering.members().contains(&peer)) {
            return true;
        }
        let asked = async {
            let mut stream = self.open(peer).await.map_err(|error| error.to_string())?;
            match self.join(&mut stream, manifest, FRAME_LEN_MAX).await {
                Ok(told) => Ok(told.is_some()),
                Err(ended) => {
                    self.judge(peer, &ended).await;
                    Err(ended.to_string())
                }
            }
        };
        match timeout(ANSWER_WAIT, asked).await {
            Ok(Ok(has)) => has,
            Ok(Err(error)) => {
                debug!(%peer, error, "a peer did not say what it has");
                false
            }
            Err(_) => false,
        }
    }

    /// How many members the crowd of a manifest has.
    #[cfg(test)]
    pub(crate) fn takes_part(&self, manifest: Hash) -> usize {
        let found = self.index().crowds.get(&manifest).cloned();
        found.map_or(0, |gathering| gathering.members().len())
    }

    fn swarm(&self) -> &Swarm {
        &self.0.swarm
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().expect("nothing panics while it holds this")
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.tasks.lock().expect("nothing panics while it holds this")
    }

    fn number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn crowds_of(&self, peer: &PeerId) -> Vec<Arc<Gathering>> {
        self.index().seated.get(peer).cloned().unwrap_or_default()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Counts a stream; `None` when there are too many. Sessions between complete nodes make room for others.
    fn count(&self, peer: PeerId) -> Option<Counted> {
        let crowds = {
            let mut index = self.index();
            let total = index.streams_total;
            let streams = index.streams.entry(peer).or_default();
            if *streams >= STREAMS_PER_PEER {
                return None;
            }
            if total < STREAMS_MAX {
                *streams += 1;
                index.streams_total += 1;
                return Some(Counted(self.clone(), peer));
            }
            if *streams == 0 {
                index.streams.remove(&peer);
            }
            index.crowds.values().cloned().collect::<Vec<_>>()
        };
        // Its stream is free soon: whoever comes again finds the place.
        crowds.iter().any(|gathering| gathering.make_room());
        None
    }

    /// Notes whether a peer is a member, after its session began or ended.
    fn note(&self, gathering: &Arc<Gathering>, peer: PeerId) {
        gathering.with_seat(&peer, |seated| {
            let mut index = self.index();
            let crowds = index.seated.entry(peer).or_default();
            crowds.retain(|listed| !Arc::ptr_eq(listed, gathering));
            if seated {
                crowds.push(Arc::clone(gathering));
            } else if crowds.is_empty() {
                index.seated.remove(&peer);
            }
        });
    }

    /// Forgets a crowd that nobody has been in for a while.
    fn tidy(&self, gathering: &Arc<Gathering>, now: Instant) {
        gathering.close_if_empty(now, || self.index().remove(gathering));
    }

    fn close_crowd(&self, gathering: &Arc<Gathering>) {
        gathering.close(|| self.index().remove(gathering));
    }
}

impl Watcher for Sharing {
    fn asked(&self, peer: PeerId, blob: Hash, bytes: Range<u64>) -> bool {
        let mut first = false;
        for gathering in self.crowds_of(&peer) {
            first |= gathering.asked(peer, blob, &bytes);
        }
        first
    }

    fn sent(&self, peer: PeerId, blob: Hash, bytes: Range<u64>) {
        for gathering in self.crowds_of(&peer) {
            gathering.sent(peer, blob, &bytes);
        }
    }
}

#[cfg(test)]
mod tests;
