//! One receiver and its peers, from a seed: honest ones that are fast, slow, come and go; and every kind of hostile one.

use super::{
    super::{Action, Fault, FetchPlan, Request, tests::map_of},
    lens,
};
use protocol::{SHARD_LEN, ShardMap};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// Seconds after the full copy has come for good in which a fetch completes, beside twice what its line needs: peers are found
/// out one after the other.
const BOUND: f64 = 60.0;

/// Longest time between two bytes of a request under way.
const LONGEST_SILENCE: Duration = Duration::from_secs(62);

/// Bytes that are verified at once, at least.
const GROUP: u64 = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Honest,
    /// Sends wrong bytes after so many good ones.
    Liar(u64),
    /// Says nothing more after so many bytes.
    Staller(u64),
    /// Breaks each request after so many bytes.
    Dropper(u64),
    /// One byte a second.
    Drip,
}

#[derive(Debug)]
enum Event {
    Join(usize),
    Leave(usize),
    Gain(usize, Range<u32>),
    /// The piece that a peer is at has arrived; void if it has turned to something else since.
    Piece(usize, u64),
}

struct Peer {
    kind: Kind,
    rate: f64,
    full: bool,
    joined: bool,
    banned: bool,
    claims: BTreeSet<u32>,
    /// Requests, answered one after the other.
    queue: VecDeque<Request>,
    turn: u64,
    sent: u64,
}

struct Running {
    peer: usize,
    run: Range<u32>,
    at: u32,
    offset: u64,
    heard: Instant,
    sent: u64,
}

pub(super) struct World {
    seed: u64,
    map: Arc<ShardMap>,
    plan: FetchPlan<usize>,
    random: StdRng,
    now: Instant,
    start: Instant,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    told: BTreeMap<u64, Event>,
    next: u64,
    /// When the plan wants to be asked again.
    look: Option<Instant>,
    peers: Vec<Peer>,
    running: BTreeMap<Request, Running>,
    /// Bytes of each shard that are here.
    got: Vec<u64>,
    here: Vec<bool>,
    wasted: u64,
    /// When the full copy comes for good, and how fast it is.
    anchor: Option<(Instant, f64)>,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let most = *[3, 8, 20, 60, 200].choose(&mut random).unwrap();
        let lens = lens(&mut random, most);
        let map = map_of(&lens);
        let start = Instant::now();
        let count = map.count() as usize;
        let mut world = World {
            seed,
            plan: FetchPlan::new(map.clone(), seed),
            start,
            now: start,
            events: BinaryHeap::new(),
            told: BTreeMap::new(),
            next: 0,
            look: None,
            peers: Vec::new(),
            running: BTreeMap::new(),
            got: vec![0; count],
            here: vec![false; count],
            wasted: 0,
            anchor: None,
            random,
            map,
        };
        world.populate();
        world.plan.want(0..count as u32, false);
        for _ in 0..world.random.random_range(0..3) {
            let shard = world.random.random_range(0..count as u32);
            world.plan.want(shard..shard + 1, true);
            let shard = world.random.random_range(0..count as u32);
            world.plan.read_next(shard..shard + 2);
        }
        world
    }

    fn populate(&mut self) {
        let peers = self.random.random_range(1..=12);
        for at in 0..peers {
            let anchor = at == 0 && self.random.random_bool(0.9);
            let limit = self.random.random_range(0..4 * SHARD_LEN);
            let kind = match self.random.random_range(0..10) {
                0 => Kind::Liar(limit),
                1 => Kind::Staller(limit),
                2 => Kind::Dropper(limit),
                3 => Kind::Drip,
                4 => Kind::Dropper(0),
                _ => Kind::Honest,
            };
            let rate = 2f64.powf(self.random.random_range(13.0..24.0));
            self.peers.push(Peer {
                kind: if anchor { Kind::Honest } else { kind },
                rate: if anchor { rate.max(200_000.0) } else { rate },
                full: anchor || self.random.random_bool(0.3),
                joined: false,
                banned: false,
                claims: BTreeSet::new(),
                queue: VecDeque::new(),
                turn: 0,
                sent: 0,
            });
            let mut at_ms = self.random.random_range(0..20_000);
            for _ in 0..self.random.random_range(0..3) {
                self.schedule(at_ms, Event::Join(at));
                at_ms += self.random.random_range(0..20_000);
                self.schedule(at_ms, Event::Leave(at));
                at_ms += self.random.random_range(0..20_000);
            }
            if anchor || self.random.random_bool(0.7) {
                self.schedule(at_ms, Event::Join(at));
            }
            if anchor {
                let from = self.start + Duration::from_millis(at_ms);
                self.anchor = Some((from, self.peers[at].rate));
            }
            for _ in 0..self.random.random_range(0..6) {
                let from = self.random.random_range(0..self.map.count());
                let until = (from + self.random.random_range(1..20)).min(self.map.count());
                let at_ms = self.random.random_range(0..60_000);
                self.schedule(at_ms, Event::Gain(at, from..until));
            }
        }
    }

    fn schedule(&mut self, at_ms: u64, event: Event) {
        self.schedule_at(self.start + Duration::from_millis(at_ms), event);
    }

    fn schedule_at(&mut self, at: Instant, event: Event) {
        self.events.push(Reverse((at, self.next)));
        self.told.insert(self.next, event);
        self.next += 1;
    }

    /// Runs to the end, and checks every decision on the way.
    pub(super) fn run(mut self) {
        let len = self.map.len_of(0..self.map.count()) as f64;
        let bound = match self.anchor {
            Some((from, rate)) => from + Duration::from_secs_f64(BOUND + 2.0 * len / rate),
            None => self.start + Duration::from_secs(600),
        };
        let mut done = self.decide();
        while !done {
            let event = self.events.peek().map(|Reverse((at, _))| *at);
            let Some(at) = event.into_iter().chain(self.look).min().filter(|at| *at <= bound) else {
                break;
            };
            self.now = at;
            let looked = self.look.take_if(|look| *look <= at).is_some();
            let mut told = false;
            if event == Some(at)
                && let Some(Reverse((_, number))) = self.events.pop()
            {
                let event = self.told.remove(&number).unwrap();
                told = self.apply(event);
            }
            if looked || told {
                done = self.decide();
            }
        }
        let seed = self.seed;
        if self.anchor.is_some() {
            assert!(
                done,
                "seed {seed}: not complete, missing {:?}",
                self.plan.missing()
            );
        }
        if done {
            assert!(
                self.here.iter().all(|here| *here) && self.running.is_empty(),
                "seed {seed}"
            );
        }
        let hostile = self.peers.iter().filter(|peer| peer.kind != Kind::Honest).count();
        let most = len / 20.0 + ((1 + hostile) as u64 * SHARD_LEN) as f64;
        assert!(
            self.wasted as f64 <= most,
            "seed {seed}: {} of {len} wasted",
            self.wasted
        );
    }

    /// Returns whether the plan was told something.
    fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Join(at) => {
                let peer = &mut self.peers[at];
                peer.joined = true;
                peer.claims.clear();
                self.plan.peer_joined(at, self.now);
                if peer.full {
                    peer.claims.extend(0..self.map.count());
                    self.plan.peer_has_all(at);
                }
                true
            }
            Event::Leave(at) => {
                self.peers[at].joined = false;
                self.plan.peer_left(at, self.now);
                true
            }
            Event::Gain(at, run) => {
                let peer = &mut self.peers[at];
                if peer.joined {
                    peer.claims.extend(run.clone());
                    self.plan.peer_has(at, run);
                }
                peer.joined
            }
            Event::Piece(at, turn) => self.peers[at].turn == turn && self.piece(at),
        }
    }

    /// Carries out what the plan wants. Returns whether it is done.
    fn decide(&mut self) -> bool {
        loop {
            match self.plan.next(self.now) {
                Action::Ask {
                    request,
                    peer,
                    shards,
                } => self.ask(request, peer, shards),
                Action::Stop(request) => {
                    let running = self.running.remove(&request).expect("only what runs is stopped");
                    self.unqueue(running.peer, request);
                }
                Action::Wait(until) => {
                    assert!(
                        until.is_none_or(|until| until > self.now),
                        "seed {}: waits for the past",
                        self.seed
                    );
                    self.look = until;
                    for running in self.running.values() {
                        let silent = self.now.duration_since(running.heard);
                        assert!(silent < LONGEST_SILENCE, "seed {}: outstanding", self.seed);
                    }
                    return false;
                }
                Action::Done => return true,
            }
        }
    }

    fn ask(&mut self, request: Request, at: usize, run: Range<u32>) {
        let seed = self.seed;
        let peer = &mut self.peers[at];
        assert!(
            peer.joined && !peer.banned,
            "seed {seed}: asked one who is not there"
        );
        assert!(
            !run.is_empty() && run.clone().all(|shard| peer.claims.contains(&shard)),
            "seed {seed}"
        );
        assert!(
            run.clone().all(|shard| !self.here[shard as usize]),
            "seed {seed}: asked what is here"
        );
        for shard in run.clone() {
            let others = self
                .running
                .values()
                .filter(|other| other.run.contains(&shard))
                .count();
            assert!(others < 2, "seed {seed}: a third request for {shard}");
        }
        let blobs = run
            .clone()
            .map(|shard| self.map.blobs()[self.map.blob_of(shard).unwrap()]);
        let blobs: Vec<_> = blobs.collect();
        let one = blobs.iter().all(|blob| blob.hash == blobs[0].hash);
        assert!(
            one || blobs.iter().all(|blob| blob.len <= SHARD_LEN),
            "seed {seed}: across {run:?}"
        );
        let running = Running {
            peer: at,
            at: run.start,
            offset: self.got[run.start as usize],
            run,
            heard: self.now,
            sent: 0,
        };
        self.running.insert(request, running);
        peer.queue.push_back(request);
        if peer.queue.len() == 1 {
            self.begin_piece(at);
        }
    }

    /// A peer begins to send the next piece of its first request.
    fn begin_piece(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        peer.turn += 1;
        let Some(running) = peer.queue.front().map(|request| &self.running[request]) else {
            return;
        };
        let stalled = matches!(peer.kind, Kind::Staller(after) if peer.sent >= after);
        if stalled || peer.kind == Kind::Drip {
            return;
        }
        let piece = piece_len(&self.map, running, peer.rate);
        let seconds = piece as f64 / peer.rate + 0.02;
        let event = Event::Piece(at, peer.turn);
        self.schedule_at(self.now + Duration::from_secs_f64(seconds), event);
    }

    fn piece(&mut self, at: usize) -> bool {
        let peer = &mut self.peers[at];
        let request = *peer.queue.front().unwrap();
        let running = self.running.get_mut(&request).unwrap();
        let fault = match peer.kind {
            Kind::Liar(after) if peer.sent >= after => Some(Fault::Lied),
            Kind::Dropper(after) if running.sent >= after => Some(Fault::Broke),
            _ => None,
        };
        if let Some(fault) = fault {
            peer.banned = fault == Fault::Lied;
            self.plan.failed(request, fault, self.now);
            self.running.remove(&request);
            self.unqueue(at, request);
            return true;
        }
        let len = piece_len(&self.map, running, peer.rate);
        let shard = running.at as usize;
        running.offset += len;
        running.sent += len;
        peer.sent += len;
        let new = running.offset.saturating_sub(self.got[shard]).min(len);
        self.got[shard] += new;
        self.wasted += len - new;
        let of_peer = self.running.values_mut().filter(|running| running.peer == at);
        of_peer.for_each(|running| running.heard = self.now);
        self.plan.progressed(request, len, self.now);
        let running = self.running.get_mut(&request).unwrap();
        if running.offset == shard_len(&self.map, shard as u32) {
            self.here[shard] = true;
            self.plan.landed(shard as u32..shard as u32 + 1);
            running.at += 1;
            running.offset = self.got.get(running.at as usize).copied().unwrap_or(0);
            while running.at < running.run.end
                && self.here[running.at as usize]
                && self.random.random_bool(0.5)
            {
                running.at += 1;
            }
            if running.at >= running.run.end {
                self.plan.finished(request, self.now);
                self.running.remove(&request);
                self.unqueue(at, request);
                return true;
            }
            running.offset = if self.here[running.at as usize] {
                0
            } else {
                self.got[running.at as usize]
            };
        }
        self.begin_piece(at);
        true
    }

    fn unqueue(&mut self, at: usize, request: Request) {
        let peer = &mut self.peers[at];
        let was = peer.queue.front() == Some(&request);
        peer.queue.retain(|other| *other != request);
        if was {
            self.begin_piece(at);
        }
    }
}

fn shard_len(map: &ShardMap, shard: u32) -> u64 {
    map.len_of(shard..shard + 1)
}

/// What arrives at once: the rest of a shard, or a second's worth of it in groups.
fn piece_len(map: &ShardMap, running: &Running, rate: f64) -> u64 {
    let rest = shard_len(map, running.at) - running.offset;
    let second = (rate as u64 / GROUP * GROUP).max(GROUP);
    rest.min(second)
}
