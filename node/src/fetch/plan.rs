//! What is asked of whom, and when. It is told facts and the time and returns decisions; it does no I/O and repeats exactly
//! from its seed.
//!
//! The unit is the shard of at most 1 MiB, numbered over the manifest ([`ShardMap`]). A request is a run of adjacent shards: of
//! one blob longer than a shard, or of blobs of at most one shard each.
//!
//! *Which.* What a reader waits for, in its order; then what is wanted first (small files and headers); then the shard
//! that the fewest peers have, at random among equals, so that those who fetch at the same time bring different ones and can
//! serve each other. Its neighbours come along, up to an aligned block, if they are about as rare. A limited number of longer
//! blobs is begun at once.
//!
//! *How much of whom.* A peer's rate is measured while something is asked of it. As many bytes are kept under way at it as it gives
//! in two round trips and half a second: a long link stays full, and nothing waits long at a slow peer. A new peer gets two
//! shards. A request is an eighth of that, and at least a shard. Who is furthest below it is asked next.
//!
//! *Trouble.* A peer without a verified byte for [`STALL`](crate::limits::STALL), or that gives next to nothing while others
//! could give more, loses the requests that others can take, and sits out a pause that doubles each time. So does one whose
//! request breaks; if that brought nothing, the peer is not believed to have these shards until it says so again, or until
//! [`DOUBT`] is over. A liar is never asked again. What only one peer has stays with it a minute.
//!
//! *The end.* When nothing is open for a peer that has room, it is given the back half of the request that will end latest, if
//! it would need less than half the time; the shard that a reader waits for is given away like that at any time. No shard is
//! in more than two requests. A request of which everything is here is stopped.
//!
//! The invariant: each wanted shard that is not here is either open, and then it is asked of the first peer that has
//! it and has room, or part of a request, and each request ends in bounded time.

use crate::limits::MEMBERS_MAX;
use protocol::ShardMap;
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Debug,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

mod end;
mod peer;
mod pick;
mod shards;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod trouble;
pub(crate) mod view;

use peer::{Have, Peer, Penalty};
use shards::Shards;

/// Liars that are remembered, at most: the oldest is forgotten for the next.
const BANNED_MAX: usize = 1024;

/// Peers that left and whose pauses are remembered, at most: leaving and coming back clears nobody.
const PAST_MAX: usize = 64;

/// Runs that readers wait for, at most: beyond it the oldest is an ordinary one again.
const READS_MAX: usize = 64;

/// Shards of a run that a reader waits for, at most: the rest of it is ordinary until it is told again.
const READ_SHARDS_MAX: u32 = 256;

/// How long a peer that broke a request without a byte is not believed to have what was asked.
const DOUBT: Duration = Duration::from_secs(5);

/// Shards runs that are doubted at once, at most: beyond it the oldest is believed again.
const DOUBTS_MAX: usize = 1024;

/// The first pause of a peer whose request broke.
const BROKE_PAUSE: Duration = Duration::from_secs(1);

/// The number of a request under way.
pub(crate) type Request = u64;

/// Why a request ended without all it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Wrong bytes: the peer is not asked again.
    Lied,
    /// It broke or was refused: the peer is asked again after a pause.
    Broke,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action<P> {
    /// Ask a peer.
    Ask {
        /// The request's number.
        request: Request,
        /// Whom.
        peer: P,
        /// For what: shards of one blob longer than a shard, or blobs of one shard each.
        shards: Range<u32>,
    },
    /// Stop a request. It is over for the plan; what is still told of it is ignored, but for the shards that land.
    Stop(Request),
    /// Nothing until a fact is told or this time is reached.
    Wait(Option<Instant>),
    /// All that is wanted is here, and no request is under way.
    Done,
}

/// A request under way.
struct Under<P> {
    peer: P,
    run: Range<u32>,
    len: u64,
    /// Verified bytes it brought.
    got: u64,
    /// Shards of it that are not here.
    left: u32,
    /// Part of it was given to a second peer, or it is such a second one.
    twinned: bool,
}

impl<P> Under<P> {
    /// How many of its shards are in one of these runs.
    fn shared_with(&self, runs: &[Range<u32>]) -> u32 {
        let shared = |run: &Range<u32>| {
            let (start, end) = (run.start.max(self.run.start), run.end.min(self.run.end));
            end.saturating_sub(start)
        };
        runs.iter().map(shared).sum()
    }
}

/// The state of one fetch.
pub(crate) struct FetchPlan<P> {
    shards: Shards,
    peers: BTreeMap<P, Peer>,
    banned: VecDeque<P>,
    past: VecDeque<(P, Penalty)>,
    requests: BTreeMap<Request, Under<P>>,
    reads: VecDeque<Range<u32>>,
    /// What is not believed, and until when; in the order of time.
    doubts: VecDeque<(Instant, P, Range<u32>)>,
    /// Requests that are over for the plan and still run.
    stops: VecDeque<Request>,
    /// Requests of which everything has come to be here, since the last look at the time; and since when.
    over_now: Vec<Request>,
    over: VecDeque<(Request, Instant)>,
    paused: bool,
    next: Request,
    random: StdRng,
}

impl<P: Copy + Ord + Debug> FetchPlan<P> {
    /// A plan in which nothing is wanted and nothing is here.
    pub(crate) fn new(map: Arc<ShardMap>, seed: u64) -> FetchPlan<P> {
        FetchPlan {
            shards: Shards::new(map),
            peers: BTreeMap::new(),
            banned: VecDeque::new(),
            past: VecDeque::new(),
            requests: BTreeMap::new(),
            reads: VecDeque::new(),
            doubts: VecDeque::new(),
            stops: VecDeque::new(),
            over_now: Vec::new(),
            over: VecDeque::new(),
            paused: false,
            next: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Wants a run of shards; with `first`, before those that are not. To want twice is to want once. What lies past the last
    /// shard is left out, here as everywhere.
    pub(crate) fn want(&mut self, run: Range<u32>, first: bool) {
        if self.shards.want(run, first) {
            self.opened();
        }
    }

    /// A reader waits for a run: it is wanted, and asked for before everything else that is told later or not at all. Only the
    /// first [`READ_SHARDS_MAX`] shards count.
    pub(crate) fn read_next(&mut self, run: Range<u32>) {
        let run = self.shards.clip(run);
        let run = run.start..run.end.min(run.start.saturating_add(READ_SHARDS_MAX));
        self.want(run.clone(), false);
        if self.shards.left(&run) == 0 {
            return;
        }
        let covers = |had: &Range<u32>| had.start <= run.start && run.end <= had.end;
        if !self.reads.iter().any(covers) {
            if self.reads.len() >= READS_MAX {
                self.reads.pop_front();
            }
            self.reads.push_back(run);
        }
    }

    /// These shards are here: found on the disk, or fetched by any request. Once this is told of all its shards, a request
    /// may be stopped.
    pub(crate) fn landed(&mut self, run: Range<u32>) {
        let new = self.shards.landed(run);
        for (request, under) in &mut self.requests {
            let landed = under.shared_with(&new);
            under.left -= landed;
            if landed > 0 && under.left == 0 {
                self.over_now.push(*request);
            }
        }
    }

    /// These shards turned out not to be here.
    pub(crate) fn lost(&mut self, run: Range<u32>) {
        let new = self.shards.lost(run);
        for under in self.requests.values_mut() {
            under.left += under.shared_with(&new);
        }
        self.opened();
    }

    /// A peer takes part; it has nothing until that is told. Beyond [`MEMBERS_MAX`] peers, and if it is banned, it is ignored.
    pub(crate) fn peer_joined(&mut self, peer: P, now: Instant) {
        if self.peers.len() >= MEMBERS_MAX || self.peers.contains_key(&peer) || self.banned.contains(&peer) {
            return;
        }
        let past = self.past.iter().position(|(past, _)| *past == peer);
        let past = past.and_then(|at| self.past.remove(at));
        let penalty = past.map_or_else(Penalty::default, |(_, penalty)| penalty);
        let count = self.shards.map().count();
        self.peers.insert(peer, Peer::new(count, penalty, now));
    }

    /// A peer takes part no longer: its requests are stopped, and asked of others.
    pub(crate) fn peer_left(&mut self, peer: P, now: Instant) {
        let Some(gone) = self.remove(peer, now) else {
            return;
        };
        if !gone.penalty.is_clear() {
            if self.past.len() >= PAST_MAX {
                self.past.pop_front();
            }
            self.past.push_back((peer, gone.penalty));
        }
    }

    /// A peer has these shards. Nothing that it said it had is taken back by that.
    pub(crate) fn peer_has(&mut self, peer: P, run: Range<u32>) {
        let run = self.shards.clip(run);
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        peer.has_more();
        let Have::Some(bits) = &mut peer.have else { return };
        for shard in run {
            if !bits.put(shard as usize) {
                self.shards.copy(shard, true);
            }
        }
    }

    /// A peer has every shard.
    pub(crate) fn peer_has_all(&mut self, peer: P) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        peer.has_more();
        if let Have::Some(bits) = std::mem::replace(&mut peer.have, Have::All) {
            bits.ones()
                .for_each(|shard| self.shards.copy(shard as u32, false));
            self.shards.complete(true);
        }
    }

    /// The round trip to a peer, as it was measured last.
    pub(crate) fn rtt(&mut self, peer: P, rtt: Duration) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.rtt = Some(rtt);
        }
    }

    /// Verified bytes came, of what a request asked for.
    pub(crate) fn progressed(&mut self, request: Request, bytes: u64, now: Instant) {
        if let Some(under) = self.requests.get_mut(&request)
            && let Some(peer) = self.peers.get_mut(&under.peer)
            && bytes > 0
        {
            let due = bytes.min(under.len - under.got);
            under.got += due;
            peer.bring(bytes, due, now);
        }
    }

    /// Stops everything and asks for nothing until it is set back.
    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Decides. Call it until it says [`Action::Wait`] or [`Action::Done`], and again when a fact was told.
    pub(crate) fn next(&mut self, now: Instant) -> Action<P> {
        self.judge(now);
        if self.paused {
            let all: Vec<Request> = self.requests.keys().copied().collect();
            all.into_iter().for_each(|request| self.stop(request, now));
        }
        if let Some(request) = self.stops.pop_front() {
            return Action::Stop(request);
        }
        if self.requests.is_empty() && self.shards.missing().shards == 0 {
            return Action::Done;
        }
        if self.paused {
            return Action::Wait(None);
        }
        self.trim_reads();
        match self.choose(now) {
            Some((peer, shards)) => self.ask(peer, shards, now),
            None => Action::Wait(self.due(now)),
        }
    }

    fn ask(&mut self, peer: P, run: Range<u32>, now: Instant) -> Action<P> {
        let request = self.next;
        self.next += 1;
        let len = self.shards.map().len_of(run.clone());
        let twinned = run.clone().any(|shard| !self.shards.is_open(shard));
        let under = Under {
            peer,
            run: run.clone(),
            len,
            got: 0,
            left: self.shards.left(&run),
            twinned,
        };
        self.shards.ask(run.clone());
        self.requests.insert(request, under);
        self.wake(now);
        let asked = self.peers.get_mut(&peer).expect("it was just chosen");
        asked.begin(request, len, now);
        Action::Ask {
            request,
            peer,
            shards: run,
        }
    }

    /// What is here is not waited for.
    fn trim_reads(&mut self) {
        while let Some(run) = self.reads.front_mut() {
            while run.start < run.end && self.shards.is_here(run.start) {
                run.start += 1;
            }
            if run.start < run.end {
                break;
            }
            self.reads.pop_front();
        }
    }

    /// The requests under way are others than they were: there may be something to take over.
    fn wake(&mut self, now: Instant) {
        let idle = self.peers.values_mut().filter(|peer| peer.end_game.is_none());
        idle.for_each(|peer| peer.end_game = Some(now));
    }

    /// Something is open that was not.
    fn opened(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.dry = false);
    }

    /// Forgets a peer and what it has, and stops its requests.
    fn remove(&mut self, name: P, now: Instant) -> Option<Peer> {
        let of_peer = self.requests.iter().filter(|(_, under)| under.peer == name);
        let going: Vec<Request> = of_peer.map(|(request, _)| *request).collect();
        going.into_iter().for_each(|request| self.stop(request, now));
        let peer = self.peers.remove(&name)?;
        self.doubts.retain(|(_, doubted, _)| *doubted != name);
        match &peer.have {
            Have::All => self.shards.complete(false),
            Have::Some(bits) => bits
                .ones()
                .for_each(|shard| self.shards.copy(shard as u32, false)),
        }
        Some(peer)
    }
}
