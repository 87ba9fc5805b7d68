//! The decisions of the link emulator: when each packet arrives, or that it never does. It does no I/O and takes the time as given.
//!
//! A packet is known by a slot (where its bytes are, the caller's affair) and its length. Invariants: every slot that was offered and
//! taken comes out of [`Wire::next`] once; one pair's packets come out in the order they went in, unless its link says `reorder`;
//! the same seed and the same offers give the same losses and delays.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Access, Counters, Link};

/// Most bytes on their way between two hosts in one direction: 50 ms at 10 Gbit/s. Bounds memory where no rate does.
const FLIGHT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most packets on their way between two hosts in one direction, so that small packets cannot outgrow their buffers' memory either.
const FLIGHT_PACKETS_MAX: u64 = 32 * 1024;

/// Where the caller keeps the bytes of a packet.
pub(crate) type Slot = usize;

/// What becomes of a packet whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Hand it to host `to`.
    Deliver { to: usize, slot: Slot },
    /// Nobody gets it; its slot is free.
    Drop { slot: Slot },
}

/// The state of every link and every packet on its way.
#[derive(Debug)]
pub(crate) struct Wire {
    seed: u64,
    default: Link,
    links: HashMap<(usize, usize), Link>,
    cuts: HashSet<(usize, usize)>,
    pairs: HashMap<(usize, usize), Pair>,
    hosts: Vec<HostSide>,
    events: BinaryHeap<Event>,
    next_order: u64,
}

impl Wire {
    /// A wire between `hosts` hosts with default links. `seed` decides all losses and jitter.
    pub(crate) fn new(hosts: usize, seed: u64) -> Self {
        Self {
            seed,
            default: Link::default(),
            links: HashMap::new(),
            cuts: HashSet::new(),
            pairs: HashMap::new(),
            hosts: (0..hosts).map(|_| HostSide::default()).collect(),
            events: BinaryHeap::new(),
            next_order: 0,
        }
    }

    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn set_default(&mut self, link: Link) {
        check(&link);
        self.links.clear();
        self.default = link;
    }

    pub(crate) fn set(&mut self, from: usize, to: usize, link: Link) {
        self.check_hosts(from, to);
        check(&link);
        self.links.insert((from, to), link);
    }

    pub(crate) fn set_access(&mut self, host: usize, access: Access) {
        self.hosts[host].access = access;
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.check_hosts(from, to);
        self.cuts.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    pub(crate) fn counters(&self, host: usize) -> Counters {
        self.hosts[host].counters
    }

    /// Counts a packet of `from` that goes to no host.
    pub(crate) fn stray(&mut self, from: usize) {
        self.hosts[from].counters.stray_packets += 1;
    }

    /// Takes the packet in `slot` on its way, or drops it at once: then the slot is free, and the answer `false`.
    pub(crate) fn offer(&mut self, now: Instant, from: usize, to: usize, len: u64, slot: Slot) -> bool {
        let counters = &mut self.hosts[from].counters;
        counters.sent_packets += 1;
        counters.sent_bytes += len;
        let Some(at) = self.arrival(now, from, to, len) else {
            self.count_drop(from, len);
            return false;
        };
        let flight = &mut self
            .pairs
            .get_mut(&(from, to))
            .expect("arrival made the pair")
            .flight;
        flight.packets += 1;
        flight.bytes += len;
        self.push(Event {
            at,
            order: 0,
            from,
            to,
            len,
            slot,
            stage: Stage::Arriving,
        });
        true
    }

    /// The next packet whose time has come by `now`, or `None` when there is none.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Fate> {
        while self.next_at()? <= now {
            let event = self.events.pop().expect("just peeked");
            if event.stage == Stage::Arriving {
                let flight = &mut self
                    .pairs
                    .get_mut(&(event.from, event.to))
                    .expect("made on offer")
                    .flight;
                flight.packets -= 1;
                flight.bytes -= event.len;
                if self.cuts.contains(&(event.from, event.to)) {
                    self.count_drop(event.from, event.len);
                    return Some(Fate::Drop { slot: event.slot });
                }
                let HostSide { access, down, .. } = &mut self.hosts[event.to];
                match down.pass(
                    event.at,
                    event.len,
                    access.down_bits_per_s,
                    access.down_queue_bytes,
                ) {
                    None => {
                        self.count_drop(event.from, event.len);
                        return Some(Fate::Drop { slot: event.slot });
                    }
                    Some(at) if at > event.at => {
                        self.push(Event {
                            at,
                            stage: Stage::Leaving,
                            ..event
                        });
                        continue;
                    }
                    Some(_) => {}
                }
            }
            let counters = &mut self.hosts[event.to].counters;
            counters.received_packets += 1;
            counters.received_bytes += event.len;
            return Some(Fate::Deliver {
                to: event.to,
                slot: event.slot,
            });
        }
        None
    }

    /// When the next packet is due, or `None` when none is on its way.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.events.peek().map(|event| event.at)
    }

    /// When a packet sent `now` reaches the downlink of `to`, or `None` when it never does.
    fn arrival(&mut self, now: Instant, from: usize, to: usize, len: u64) -> Option<Instant> {
        let link = *self.links.get(&(from, to)).unwrap_or(&self.default);
        let seed = self.seed;
        let pair = self
            .pairs
            .entry((from, to))
            .or_insert_with(|| Pair::new(now, seed, from, to));
        // Drawn before anything that depends on time, so that a pair's nth packet meets the same luck in every run.
        let lost = link.loss > 0.0 && pair.luck.random_bool(link.loss);
        let jitter = link.jitter.mul_f64(if link.jitter.is_zero() {
            0.0
        } else {
            pair.luck.random()
        });
        if self.cuts.contains(&(from, to)) {
            return None;
        }
        let HostSide { access, up, .. } = &mut self.hosts[from];
        let out = up.pass(now, len, access.up_bits_per_s, access.up_queue_bytes)?;
        if lost || pair.flight.packets >= FLIGHT_PACKETS_MAX || pair.flight.bytes + len > FLIGHT_BYTES_MAX {
            return None;
        }
        let through = pair
            .shaper
            .pass(out, len, link.rate_bits_per_s, link.queue_bytes)?;
        let mut at = through + link.delay + jitter;
        if !link.reorder {
            at = at.max(pair.last_at);
            pair.last_at = at;
        }
        Some(at)
    }

    fn push(&mut self, mut event: Event) {
        event.order = self.next_order;
        self.next_order += 1;
        self.events.push(event);
    }

    fn count_drop(&mut self, from: usize, len: u64) {
        let counters = &mut self.hosts[from].counters;
        counters.dropped_packets += 1;
        counters.dropped_bytes += len;
    }

    fn check_hosts(&self, from: usize, to: usize) {
        assert!(
            from < self.hosts.len() && to < self.hosts.len(),
            "no such host: {from} or {to}"
        );
    }
}

fn check(link: &Link) {
    assert!(
        (0.0..=1.0).contains(&link.loss),
        "loss must be from 0 to 1: {}",
        link.loss
    );
}

#[derive(Debug, Default)]
struct HostSide {
    access: Access,
    up: Shaper,
    down: Shaper,
    counters: Counters,
}

/// One direction between two hosts.
#[derive(Debug)]
struct Pair {
    shaper: Shaper,
    luck: SmallRng,
    last_at: Instant,
    flight: Flight,
}

impl Pair {
    fn new(now: Instant, seed: u64, from: usize, to: usize) -> Self {
        // An odd factor spreads the pairs over the seeds; any would do.
        let spread = ((from as u64) << 32 | to as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            shaper: Shaper::default(),
            luck: SmallRng::seed_from_u64(seed ^ spread),
            last_at: now,
            flight: Flight::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Flight {
    packets: u64,
    bytes: u64,
}

/// A queue before a rate: remembers only when the last packet in it will have left.
#[derive(Debug, Default)]
struct Shaper {
    free_at: Option<Instant>,
}

impl Shaper {
    /// When the last bit of a packet that comes at `at` has left, or `None` when the queue is full.
    ///
    /// A packet that finds the queue empty is always taken, however short the queue.
    fn pass(
        &mut self,
        at: Instant,
        len: u64,
        rate_bits_per_s: Option<u64>,
        queue_bytes: u64,
    ) -> Option<Instant> {
        let start = self.free_at.map_or(at, |free_at| free_at.max(at));
        // A limit just lifted leaves packets that this one must not overtake.
        let Some(rate) = rate_bits_per_s else {
            return Some(start);
        };
        let waiting = start.duration_since(at);
        if !waiting.is_zero() && waiting + time_of(len, rate) > time_of(queue_bytes, rate) {
            return None;
        }
        let done = start + time_of(len, rate);
        self.free_at = Some(done);
        Some(done)
    }
}

/// How long `len` bytes take at `rate` bits per second. A rate of 0 counts as 1.
fn time_of(len: u64, rate: u64) -> Duration {
    let nanos = u128::from(len) * 8 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A packet at a point of its way. Ordered so that the heap's greatest is the earliest, and among equals the first pushed.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    at: Instant,
    order: u64,
    from: usize,
    to: usize,
    len: u64,
    slot: Slot,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Reaches the downlink of its host.
    Arriving,
    /// Has passed the downlink.
    Leaving,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests;
