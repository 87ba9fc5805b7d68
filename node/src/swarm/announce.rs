//! When to say again what we announce: a schedule without I/O. Every method takes `now`; random spread comes from one generator.
//!
//! Each thing is said again after 6 to 12 hours, at a random moment, so that thousands announced together spread out over
//! the day by themselves. What reached nobody, or only the few nodes of a small network, is said again soon after a new node
//! turns up. However much is due, it goes out at a steady pace, what became due last before what waits already: thousands that
//! a node announces at its start don't hold up what is published meanwhile. Invariant: `order` holds exactly the things that
//! wait, each at its moment.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::records::Key;

/// Announcements on their way at once: each is a lookup, and telling the 20 nodes found.
const RUNNING_MAX: usize = 16;
/// Requests that our announcements may send within an hour: 55 a second. 10,000 manifests with their names take 110,000 an hour
/// while they are said again and again; after a start they are all said for the first time within 5 hours.
const REQUESTS_PER_HOUR_MAX: u32 = 200_000;
/// Requests of an announcement, until one has told how many there are in this network: 46 were measured among 100 nodes.
const REQUESTS_USUAL: u32 = 50;
/// Within this time everything can be said once, even if the budget doesn't suffice: that is for tens of thousands of things, and
/// more than that would be forgotten before they are said again.
const ROUND: Duration = Duration::from_secs(6 * 60 * 60);
/// Announcements that may go out at once after a while without any: a user who publishes doesn't wait.
const BURST: u32 = 16;
/// Longest time between two announcements; provider records hold 24 h, so one may be lost.
const AGAIN_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// How long after a new node turned up we tell it: others often come with it, and they are told together.
const SOON: Duration = Duration::from_secs(3);
/// Over how long a wave of such announcements is spread, per thing announced: 100 a second.
const SPREAD_EACH: Duration = Duration::from_millis(10);
/// Longest such spread.
const SPREAD_MAX: Duration = Duration::from_secs(10 * 60);
/// Pause between two announcements of one thing, however many nodes turn up.
const PAUSE: Duration = Duration::from_secs(60);
/// When to try again what reached nobody, if no new node turns up before.
const RETRY: Duration = Duration::from_secs(5 * 60);
/// A network of at most this many nodes is small: every node of it is among the nearest to every key.
const SMALL_NETWORK: usize = 20;

/// One thing that we announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Item {
    /// "We provide this key."
    Provider(Key),
    /// "This release is under this key."
    Value(Key),
}

#[derive(Debug)]
struct Entry {
    /// When it goes out next; `None` while it is on its way.
    due: Option<Instant>,
    /// When it went out last.
    last: Option<Instant>,
    reached: bool,
}

/// The schedule of everything we announce.
#[derive(Debug)]
pub(super) struct Schedule {
    entries: HashMap<Item, Entry>,
    order: BTreeSet<(Instant, Item)>,
    running: usize,
    /// When the pace lets the next one go out; the past if it was quiet. `None`: nothing has gone out yet.
    free: Option<Instant>,
    /// Requests of the last announcement that reached somebody.
    requests: u32,
    /// Requests of all announcements so far.
    sent: u64,
    /// How many things nobody has heard yet, or heard last time.
    unheard: usize,
    rng: StdRng,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeSet::new(),
            running: 0,
            free: None,
            requests: REQUESTS_USUAL,
            sent: 0,
            unheard: 0,
            rng: StdRng::from_os_rng(),
        }
    }
}

impl Schedule {
    /// Announces `item` at once, and from now on; also if it is known already. One on its way is not started twice.
    pub(super) fn add(&mut self, item: Item, now: Instant) {
        let unheard = &mut self.unheard;
        let entry = self.entries.entry(item).or_insert_with(|| {
            *unheard += 1;
            Entry {
                due: None,
                last: None,
                reached: false,
            }
        });
        let on_its_way = entry.due.is_none() && entry.last.is_some();
        if !on_its_way {
            reschedule(&mut self.order, item, entry, now);
        }
    }

    /// Says `item` no more.
    pub(super) fn remove(&mut self, item: Item) {
        let Some(entry) = self.entries.remove(&item) else {
            return;
        };
        self.unheard -= usize::from(!entry.reached);
        if let Some(due) = entry.due {
            self.order.remove(&(due, item));
        }
    }

    /// The next thing to announce now, if any; [`Schedule::finished`] must follow, also when it could not be started.
    pub(super) fn next(&mut self, now: Instant) -> Option<Item> {
        let last = Item::Value([u8::MAX; 32]);
        let (due, item) = *self.order.range(..=(now, last)).next_back()?;
        if self.running >= RUNNING_MAX || self.free.is_some_and(|free| free > now) {
            return None;
        }
        let gap = self.gap();
        let earliest = now.checked_sub(gap * (BURST - 1)).unwrap_or(now);
        self.free = Some(self.free.map_or(earliest, |free| free.max(earliest)) + gap);
        self.order.remove(&(due, item));
        self.running += 1;
        if let Some(entry) = self.entries.get_mut(&item) {
            entry.due = None;
            entry.last = Some(now);
        }
        Some(item)
    }

    /// The time from one announcement to the next while more are due.
    fn gap(&self) -> Duration {
        let budget = Duration::from_secs(60 * 60) * self.requests / REQUESTS_PER_HOUR_MAX;
        let round = ROUND / u32::try_from(self.entries.len().max(1)).unwrap_or(u32::MAX);
        budget.min(round)
    }

    /// Notes that `item` went out with so many requests, and whether anybody heard it.
    pub(super) fn finished(&mut self, item: Item, reached: bool, requests: u32, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.sent += u64::from(requests);
        if reached {
            self.requests = requests;
        }
        let wait = if reached {
            AGAIN_MAX.mul_f64(self.rng.random_range(0.5..1.0))
        } else {
            RETRY
        };
        // It may have been taken back while it was on its way.
        if let Some(entry) = self.entries.get_mut(&item) {
            self.unheard -= usize::from(!entry.reached);
            self.unheard += usize::from(!reached);
            entry.reached = reached;
            reschedule(&mut self.order, item, entry, now + wait);
        }
    }

    /// A node joined the routing table, which now has `nodes`.
    pub(super) fn node_joined(&mut self, nodes: usize, now: Instant) {
        if nodes > SMALL_NETWORK && self.unheard == 0 {
            return;
        }
        let spread = (SPREAD_EACH * self.entries.len().min(1 << 20) as u32).min(SPREAD_MAX);
        for (item, entry) in &mut self.entries {
            let Some(due) = entry.due else { continue };
            if entry.reached && nodes > SMALL_NETWORK {
                continue;
            }
            let earliest = match entry.last {
                Some(last) if entry.reached => last + PAUSE,
                Some(_) | None => now,
            };
            let soon = (now + SOON).max(earliest) + spread.mul_f64(self.rng.random_range(0.0..1.0));
            if soon < due {
                reschedule(&mut self.order, *item, entry, soon);
            }
        }
    }

    /// How many requests announcements have sent since the start.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many things are announced.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn reschedule(order: &mut BTreeSet<(Instant, Item)>, item: Item, entry: &mut Entry, due: Instant) {
    if let Some(old) = entry.due.replace(due) {
        order.remove(&(old, item));
    }
    order.insert((due, item));
}

#[cfg(test)]
mod tests;
