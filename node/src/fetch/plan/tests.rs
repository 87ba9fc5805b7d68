//! The claims of the policy, one by one.

mod trouble;
mod which;

use super::*;
use protocol::{FileEntry, Hash, Manifest, RepoPath, SHARD_LEN};

/// The shards of a manifest of files with these lengths, in their order.
pub(super) fn map_of(lens: &[u64]) -> Arc<ShardMap> {
    let files = lens.iter().enumerate().map(|(at, len)| FileEntry {
        path: RepoPath::new(&format!("{at:06}")).unwrap(),
        size: *len,
        blake3: Hash::of(&at.to_le_bytes()),
        sha256: None,
        sha1: None,
    });
    Arc::new(ShardMap::new(&Manifest::new(files.collect()).unwrap()).unwrap())
}

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// What is stopped when nothing is.
const NO_STOP: [Request; 0] = [];

type Asked = (Request, u8, Range<u32>);

/// A plan, its clock, and what it decided.
struct Bench {
    plan: FetchPlan<u8>,
    now: Instant,
    running: BTreeMap<Request, (u8, Range<u32>)>,
}

impl Bench {
    /// Everything is wanted of files with these lengths; these peers have everything.
    fn new(lens: &[u64], complete: &[u8]) -> Bench {
        let mut bench = Bench::empty(lens);
        let count = bench.plan.shards.map().count();
        bench.plan.want(0..count, false);
        complete.iter().for_each(|peer| bench.join(*peer));
        bench
    }

    /// Nothing is wanted, and nobody is there.
    fn empty(lens: &[u64]) -> Bench {
        Bench {
            plan: FetchPlan::new(map_of(lens), 7),
            now: Instant::now(),
            running: BTreeMap::new(),
        }
    }

    fn join(&mut self, peer: u8) {
        self.plan.peer_joined(peer, self.now);
        self.plan.peer_has_all(peer);
    }

    /// Carries out what is decided now: what was asked, and what was stopped.
    fn decide(&mut self) -> (Vec<Asked>, Vec<Request>) {
        let (mut asked, mut stopped) = (Vec::new(), Vec::new());
        loop {
            match self.plan.next(self.now) {
                Action::Ask {
                    request,
                    peer,
                    shards,
                } => {
                    self.running.insert(request, (peer, shards.clone()));
                    asked.push((request, peer, shards));
                }
                Action::Stop(request) => {
                    self.running.remove(&request).unwrap();
                    stopped.push(request);
                }
                Action::Wait(_) | Action::Done => return (asked, stopped),
            }
        }
    }

    fn asks(&mut self) -> Vec<Asked> {
        self.decide().0
    }

    /// A request brings everything.
    fn finish(&mut self, request: Request) {
        let (_, run) = self.running.remove(&request).unwrap();
        let len = self.plan.shards.map().len_of(run.clone());
        self.plan.progressed(request, len, self.now);
        self.plan.landed(run);
        self.plan.finished(request, self.now);
    }

    fn fail(&mut self, request: Request, fault: Fault) {
        self.running.remove(&request).unwrap();
        self.plan.failed(request, fault, self.now);
    }

    /// Everything that is asked of a peer comes after `each`, one request after the other, until `count` came or nothing is asked.
    fn serve(&mut self, peer: u8, count: usize, each: Duration) {
        for _ in 0..count {
            self.decide();
            let Some(request) = self.request_of(peer) else {
                return;
            };
            self.now += each;
            self.finish(request);
        }
    }

    /// The oldest request of a peer.
    fn request_of(&self, peer: u8) -> Option<Request> {
        let mut of_peer = self.running.iter().filter(|(_, (of, _))| *of == peer);
        of_peer.next().map(|(request, _)| *request)
    }

    fn requests_of(&self, peer: u8) -> usize {
        self.running.values().filter(|(of, _)| *of == peer).count()
    }
}

#[test]
fn fetch_of_nothing_is_done_at_once() {
    let mut bench = Bench::empty(&[SHARD_LEN]);
    assert_eq!(bench.plan.next(bench.now), Action::Done);
    bench.plan.want(0..1, false);
    assert_eq!(bench.plan.next(bench.now), Action::Wait(None));
    bench.plan.landed(0..1);
    assert_eq!(bench.plan.next(bench.now), Action::Done);
}

#[test]
fn what_is_lost_is_asked_for_again() {
    let mut bench = Bench::new(&[SHARD_LEN], &[1]);
    bench.plan.landed(0..1);
    assert_eq!(bench.plan.next(bench.now), Action::Done);
    bench.plan.lost(0..1);
    assert_eq!(bench.asks().len(), 1);
}

#[test]
fn counts_tell_what_is_wanted_here_missing_and_unprovided() {
    let mut bench = Bench::empty(&[3 * SHARD_LEN + 5, 100]);
    bench.plan.want(0..99, false);
    bench.plan.want(0..99, true);
    let amount = |shards, bytes| view::Amount { shards, bytes };
    assert_eq!(bench.plan.wanted(), amount(5, 3 * SHARD_LEN + 105));
    bench.plan.landed(3..4);
    assert_eq!(bench.plan.here(), amount(1, 5));
    assert_eq!(bench.plan.missing(), amount(4, 3 * SHARD_LEN + 100));
    assert_eq!(bench.plan.unprovided(), 4);
    bench.plan.peer_joined(1, bench.now);
    bench.plan.peer_has(1, 2..5);
    assert_eq!(bench.plan.unprovided(), 2);
    bench.join(2);
    assert_eq!(bench.plan.unprovided(), 0);
    bench.plan.peer_left(2, bench.now);
    bench.plan.peer_left(1, bench.now);
    assert_eq!(bench.plan.unprovided(), 4);
    bench.plan.lost(3..4);
    assert_eq!(bench.plan.unprovided(), 5);
}

#[test]
fn new_peer_gets_two_requests_of_one_shard() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1]);
    let asked = bench.asks();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|(_, _, run)| run.len() == 1));
}

#[test]
fn fast_peer_gets_long_requests_and_no_more_than_64_mib_of_them() {
    let mut bench = Bench::new(&[1000 * SHARD_LEN], &[1]);
    bench.serve(1, 30, 10 * MS);
    bench.decide();
    let longest = bench.running.values().map(|(_, run)| run.len()).max().unwrap();
    assert_eq!(longest, 8);
    let flying: usize = bench.running.values().map(|(_, run)| run.len()).sum();
    assert!((48..=64).contains(&flying), "{flying} shards");
}

#[test]
fn far_peer_gets_more_at_once_than_a_near_one_of_the_same_rate() {
    let flying = |rtt| {
        let mut bench = Bench::new(&[1000 * SHARD_LEN], &[1]);
        bench.plan.rtt(1, rtt);
        for _ in 0..40 {
            bench.decide();
            let request = bench.request_of(1).unwrap();
            bench.now += 100 * MS * bench.running[&request].1.len() as u32;
            bench.finish(request);
        }
        bench.decide();
        let runs = bench.running.values();
        runs.map(|(_, run)| run.len()).sum::<usize>()
    };
    assert!(flying(2 * SECOND) >= 2 * flying(MS));
}

#[test]
fn slow_peer_gets_one_shard_at_a_time() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1]);
    bench.serve(1, 4, 9 * SECOND);
    bench.decide();
    assert_eq!(bench.requests_of(1), 1);
}

#[test]
fn requests_are_spread_evenly_over_equal_peers() {
    let peers: Vec<u8> = (0..10).collect();
    let mut bench = Bench::new(&[1000 * SHARD_LEN], &peers);
    let mut served = [0; 10];
    for round in 0..30 {
        for (_, peer, _) in bench.asks() {
            served[peer as usize] += 1;
        }
        bench.now += 300 * MS;
        for peer in peers.iter().filter(|_| round < 29) {
            let request = bench.request_of(*peer).unwrap();
            bench.finish(request);
        }
    }
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(most - least <= 1, "{served:?}");
}

#[test]
fn fast_peer_is_asked_more_than_a_slow_one() {
    let mut bench = Bench::new(&[6000 * SHARD_LEN], &[1, 2]);
    let mut served = [0; 3];
    for step in 1..300 {
        bench.decide();
        bench.now += 100 * MS;
        let fast = bench.request_of(1).unwrap();
        served[1] += bench.running[&fast].1.len();
        bench.finish(fast);
        if step % 10 == 0 {
            let slow = bench.request_of(2).unwrap();
            served[2] += bench.running[&slow].1.len();
            bench.finish(slow);
        }
    }
    assert!(served[1] > 8 * served[2], "{served:?}");
}

#[test]
fn peers_are_bounded_and_banned_ones_take_no_place() {
    let mut bench = Bench::new(&[1000 * SHARD_LEN], &[]);
    for peer in 0..MEMBERS_MAX as u8 {
        bench.join(peer);
    }
    bench.join(200);
    assert_eq!(bench.plan.peers().count(), MEMBERS_MAX);
    bench.decide();
    let request = bench.request_of(0).unwrap();
    bench.fail(request, Fault::Lied);
    bench.join(200);
    assert!(bench.plan.peers().any(|view| view.peer == 200));
    assert_eq!(bench.plan.peers().filter(|view| view.banned).count(), 1);
}

#[test]
fn pause_stops_everything_and_its_end_asks_again() {
    let mut bench = Bench::new(&[10 * SHARD_LEN], &[1, 2]);
    assert_eq!(bench.asks().len(), 4);
    bench.plan.set_paused(true);
    let (asked, stopped) = bench.decide();
    assert_eq!((asked.len(), stopped.len()), (0, 4));
    assert_eq!(bench.plan.next(bench.now), Action::Wait(None));
    bench.now += 3600 * SECOND;
    assert_eq!(bench.decide(), (vec![], vec![]));
    bench.plan.set_paused(false);
    assert_eq!(bench.asks().len(), 4);
}

#[test]
fn sixty_peers_of_a_hundred_gigabytes_cost_little_memory() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let before = resident();
    let count = 100_000;
    let mut plan: FetchPlan<u8> = FetchPlan::new(map_of(&[u64::from(count) * SHARD_LEN]), 1);
    plan.want(0..count, false);
    let now = Instant::now();
    for peer in 0..60 {
        plan.peer_joined(peer, now);
        for shard in (u32::from(peer) % 7..count).step_by(3) {
            plan.peer_has(peer, shard..shard + 1);
        }
    }
    let mut asked = 0;
    while let Action::Ask { .. } = plan.next(now) {
        asked += 1;
    }
    assert!(asked >= 60);
    let grown = resident().saturating_sub(before);
    // Other tests of this process grow meanwhile: a bitmap of bytes a peer, or a set of numbers, would be far beyond that.
    assert!(grown < 200 << 20, "{grown} bytes");
}
