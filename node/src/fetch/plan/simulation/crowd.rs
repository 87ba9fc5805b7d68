//! A source, receivers that all plan for themselves, and lines of limited rates: how close the whole comes to what lines allow.

use super::super::{Action, FetchPlan, Request, tests::map_of};
use protocol::{SHARD_LEN, ShardMap};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// The clock's step.
const STEP: Duration = Duration::from_millis(10);

/// How long a node collects what landed before it tells.
const COALESCED: Duration = Duration::from_millis(100);

/// Answers that a node sends at once.
const SLOTS: usize = 8;

/// Shards that a source which super-seeds shows to all receivers together, before they have what they were shown; two each at least.
const SHOWN: usize = 16;

/// What is simulated. Rates are in bytes a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) len: u64,
    pub(super) receivers: usize,
    pub(super) sources: usize,
    pub(super) source_up: f64,
    pub(super) up: f64,
    pub(super) down: f64,
    pub(super) rtt: Duration,
    pub(super) super_seeding: bool,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The last receiver's time over the bound of the lines.
    pub(super) over_bound: f64,
    /// What the sources sent over the length.
    pub(super) source_sent: f64,
    /// What was received over what was wanted.
    pub(super) received: f64,
}

enum Tell {
    Ask(Request, Range<u32>),
    Stop(Request),
    Bytes(Request, u64),
    Has(Vec<u32>),
}

struct Answer {
    to: usize,
    request: Request,
    left: u64,
    /// It is being sent; else it waits for its turn.
    running: bool,
}

struct Node {
    plan: Option<FetchPlan<usize>>,
    here: Vec<bool>,
    missing: usize,
    up: f64,
    answers: Vec<Answer>,
    /// Whom it began to answer, the last one last.
    turns: Vec<usize>,
    /// Its own requests: who answers, the shards, and the bytes that came.
    asked: BTreeMap<Request, (usize, Range<u32>, u64)>,
    landed: Vec<u32>,
    told: Instant,
    sent: f64,
    received: f64,
    done: Option<Instant>,
}

struct Crowd {
    setting: Setting,
    map: Arc<ShardMap>,
    nodes: Vec<Node>,
    now: Instant,
    /// What is under way: from, to, what. All of it takes half a round trip.
    mail: VecDeque<(Instant, usize, usize, Tell)>,
    /// Of a source that super-seeds: what was shown to each receiver and is not known to have landed, and the next to show.
    shown: Vec<Vec<u32>>,
    next: u32,
}

/// Runs until all have all.
pub(super) fn run(setting: Setting) -> Outcome {
    let start = Instant::now();
    let mut crowd = Crowd::new(setting, start);
    let (len, receivers) = (setting.len as f64, setting.receivers as f64);
    let ups = setting.source_up * setting.sources as f64;
    let all_ups = ups + setting.up * receivers;
    let bound = (len / ups).max(len / setting.down).max(receivers * len / all_ups);
    while crowd.nodes.iter().any(|node| node.done.is_none()) {
        crowd.step();
        assert!(
            crowd.now < start + Duration::from_secs_f64(bound * 10.0),
            "it does not end"
        );
    }
    let last = crowd.nodes.iter().filter_map(|node| node.done).max().unwrap();
    let (sources, others) = crowd.nodes.split_at(setting.sources);
    Outcome {
        over_bound: last.duration_since(start).as_secs_f64() / bound,
        source_sent: sources.iter().map(|node| node.sent).sum::<f64>() / len,
        received: others.iter().map(|node| node.received).sum::<f64>() / len / receivers,
    }
}

impl Node {
    /// Gives free slots to answers that wait: to the receiver with the fewest running, and then whose turn is longest ago.
    fn give_turns(&mut self) {
        let running = |answers: &[Answer], to: usize| {
            answers
                .iter()
                .filter(|answer| answer.running && answer.to == to)
                .count()
        };
        while self.answers.iter().filter(|answer| answer.running).count() < SLOTS {
            let ago = |to: usize| self.turns.iter().position(|turn| *turn == to);
            let waiting = self
                .answers
                .iter()
                .enumerate()
                .filter(|(_, answer)| !answer.running);
            let next =
                waiting.min_by_key(|(at, answer)| (running(&self.answers, answer.to), ago(answer.to), *at));
            let Some((at, _)) = next else { return };
            let to = self.answers[at].to;
            self.answers[at].running = true;
            self.turns.retain(|turn| *turn != to);
            self.turns.push(to);
        }
    }
}

impl Crowd {
    fn new(setting: Setting, now: Instant) -> Crowd {
        let map = map_of(&[setting.len]);
        let count = map.count() as usize;
        let all = setting.sources + setting.receivers;
        let node = |at: usize| {
            let source = at < setting.sources;
            let plan = (!source).then(|| {
                let mut plan = FetchPlan::new(map.clone(), at as u64);
                plan.want(0..count as u32, false);
                for peer in (0..all).filter(|peer| *peer != at) {
                    plan.peer_joined(peer, now);
                    plan.rtt(peer, setting.rtt);
                    if peer < setting.sources && !setting.super_seeding {
                        plan.peer_has_all(peer);
                    }
                }
                plan
            });
            Node {
                plan,
                here: vec![source; count],
                missing: if source { 0 } else { count },
                up: if source { setting.source_up } else { setting.up },
                answers: Vec::new(),
                turns: Vec::new(),
                asked: BTreeMap::new(),
                landed: Vec::new(),
                told: now,
                sent: 0.0,
                received: 0.0,
                done: source.then_some(now),
            }
        };
        Crowd {
            setting,
            nodes: (0..all).map(node).collect(),
            now,
            mail: VecDeque::new(),
            shown: vec![Vec::new(); all],
            next: 0,
            map,
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        while self.mail.front().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, from, to, tell) = self.mail.pop_front().unwrap();
            self.receive(from, to, tell);
        }
        if self.setting.super_seeding {
            self.show();
        }
        self.transmit();
        for at in self.setting.sources..self.nodes.len() {
            self.decide(at);
            self.tell(at);
        }
    }

    fn send(&mut self, from: usize, to: usize, tell: Tell) {
        self.mail
            .push_back((self.now + self.setting.rtt / 2, from, to, tell));
    }

    fn receive(&mut self, from: usize, to: usize, tell: Tell) {
        let now = self.now;
        match tell {
            Tell::Ask(request, run) => {
                let left = self.map.len_of(run);
                let answers = &mut self.nodes[to].answers;
                answers.push(Answer {
                    to: from,
                    request,
                    left,
                    running: false,
                });
            }
            Tell::Stop(request) => {
                let answers = &mut self.nodes[to].answers;
                answers.retain(|answer| (answer.to, answer.request) != (from, request));
            }
            Tell::Bytes(request, bytes) => {
                let node = &mut self.nodes[to];
                node.received += bytes as f64;
                let Some((_, run, got)) = node.asked.get_mut(&request) else {
                    return;
                };
                let plan = node.plan.as_mut().unwrap();
                plan.progressed(request, bytes, now);
                let before = *got / SHARD_LEN;
                *got += bytes;
                let whole = *got == self.map.len_of(run.clone());
                let after = if whole { run.len() as u64 } else { *got / SHARD_LEN };
                for shard in run.start + before as u32..run.start + after as u32 {
                    if !std::mem::replace(&mut node.here[shard as usize], true) {
                        node.missing -= 1;
                        node.landed.push(shard);
                    }
                    plan.landed(shard..shard + 1);
                }
                if whole {
                    node.asked.remove(&request);
                    plan.finished(request, now);
                }
            }
            Tell::Has(shards) => match &mut self.nodes[to].plan {
                Some(plan) => {
                    let each = shards.into_iter().map(|shard| shard..shard + 1);
                    each.for_each(|run| plan.peer_has(from, run));
                }
                None => self.shown[from].retain(|shown| !shards.contains(shown)),
            },
        }
    }

    /// The source shows each shard to one receiver; when all were shown, everything to everybody.
    fn show(&mut self) {
        let count = self.map.count();
        let receivers = self.setting.sources..self.nodes.len();
        while self.next < count
            && let Some(to) = receivers.clone().min_by_key(|to| self.shown[*to].len())
            && self.shown[to].len() < (SHOWN / self.setting.receivers).max(2)
        {
            self.shown[to].push(self.next);
            self.send(0, to, Tell::Has(vec![self.next]));
            self.next += 1;
            if self.next == count {
                receivers
                    .clone()
                    .for_each(|to| self.send(0, to, Tell::Has((0..count).collect())));
            }
        }
    }

    /// Moves the bytes of a step. Lines are shared as congestion control shares them: between two nodes that exchange something
    /// there is one flow, and no flow could be faster without a slower one getting slower.
    fn transmit(&mut self) {
        self.nodes.iter_mut().for_each(Node::give_turns);
        let pairs = self.nodes.iter().enumerate().flat_map(|(from, node)| {
            let running = node.answers.iter().filter(|answer| answer.running);
            running.map(move |answer| (from, answer.to))
        });
        let pairs: BTreeSet<(usize, usize)> = pairs.collect();
        for ((from, to), bytes) in self.fair_shares(pairs) {
            let node = &mut self.nodes[from];
            let of_flow = |answer: &&mut Answer| answer.running && answer.to == to;
            let each = bytes / node.answers.iter_mut().filter(of_flow).count() as f64;
            let mut moved = Vec::new();
            for answer in node.answers.iter_mut().filter(of_flow) {
                let bytes = (each as u64).min(answer.left);
                answer.left -= bytes;
                node.sent += bytes as f64;
                moved.push(Tell::Bytes(answer.request, bytes));
            }
            node.answers.retain(|answer| answer.left > 0);
            moved.into_iter().for_each(|tell| self.send(from, to, tell));
        }
    }

    /// The bytes of a step for each flow: all grow evenly until a line is full, then those that do not use it.
    fn fair_shares(&self, mut growing: BTreeSet<(usize, usize)>) -> BTreeMap<(usize, usize), f64> {
        let step = STEP.as_secs_f64();
        let mut up: Vec<f64> = self.nodes.iter().map(|node| node.up * step).collect();
        let mut down = vec![self.setting.down * step; self.nodes.len()];
        let mut shares: BTreeMap<_, _> = growing.iter().map(|flow| (*flow, 0.0)).collect();
        while !growing.is_empty() {
            let (mut ups, mut downs) = (vec![0.0; up.len()], vec![0.0; up.len()]);
            for (from, to) in &growing {
                ups[*from] += 1.0;
                downs[*to] += 1.0;
            }
            let of_flow = |(from, to): &(usize, usize)| (up[*from] / ups[*from]).min(down[*to] / downs[*to]);
            let more = growing.iter().map(of_flow).fold(f64::INFINITY, f64::min);
            for (from, to) in &growing {
                *shares.get_mut(&(*from, *to)).unwrap() += more;
                up[*from] -= more;
                down[*to] -= more;
            }
            growing.retain(|(from, to)| up[*from] > 1.0 && down[*to] > 1.0);
        }
        shares
    }

    fn decide(&mut self, at: usize) {
        loop {
            let node = &mut self.nodes[at];
            match node.plan.as_mut().unwrap().next(self.now) {
                Action::Ask {
                    request,
                    peer,
                    shards,
                } => {
                    node.asked.insert(request, (peer, shards.clone(), 0));
                    self.send(at, peer, Tell::Ask(request, shards));
                }
                Action::Stop(request) => {
                    if let Some((peer, ..)) = node.asked.remove(&request) {
                        self.send(at, peer, Tell::Stop(request));
                    }
                }
                Action::Wait(_) | Action::Done => break,
            }
        }
        let node = &mut self.nodes[at];
        if node.missing == 0 && node.done.is_none() {
            node.done = Some(self.now);
        }
    }

    fn tell(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.landed.is_empty() || self.now < node.told + COALESCED {
            return;
        }
        node.told = self.now;
        let landed = std::mem::take(&mut node.landed);
        for to in (0..self.nodes.len()).filter(|to| *to != at) {
            self.send(at, to, Tell::Has(landed.clone()));
        }
    }
}

/// Bytes a second of a line of so many Mbit/s.
const fn mbit(rate: u32) -> f64 {
    rate as f64 * 125_000.0
}

const CROWD: Setting = Setting {
    len: 256 * SHARD_LEN,
    receivers: 8,
    sources: 1,
    source_up: mbit(50),
    up: mbit(50),
    down: mbit(50),
    rtt: Duration::from_millis(20),
    super_seeding: true,
};

#[test]
fn flash_crowd_on_even_lines_ends_near_its_bound() {
    for rate in [50, 100] {
        let rate = mbit(rate);
        let setting = Setting {
            source_up: rate,
            up: rate,
            down: rate,
            ..CROWD
        };
        let outcome = run(setting);
        println!("crowd {outcome:?}");
        assert!(
            outcome.over_bound <= 1.15 && outcome.source_sent <= 1.3,
            "{outcome:?}"
        );
        assert!(outcome.received <= 1.05, "{outcome:?}");
    }
}

#[test]
fn flash_crowd_with_narrow_uplinks_ends_near_its_bound() {
    let setting = Setting {
        source_up: mbit(10),
        up: mbit(10),
        ..CROWD
    };
    let outcome = run(setting);
    println!("asymmetric {outcome:?}");
    assert!(
        outcome.over_bound <= 1.15 && outcome.received <= 1.05,
        "{outcome:?}"
    );
}

#[test]
fn long_link_is_filled_from_one_source_and_from_three() {
    for sources in [1, 3] {
        let setting = Setting {
            receivers: 1,
            sources,
            source_up: mbit(400),
            up: mbit(400),
            down: mbit(400),
            rtt: Duration::from_millis(50),
            super_seeding: false,
            ..CROWD
        };
        let outcome = run(setting);
        println!("long link from {sources} {outcome:?}");
        assert!(
            outcome.over_bound <= 1.15 && outcome.received <= 1.05,
            "{outcome:?}"
        );
    }
}
