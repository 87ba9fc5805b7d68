//! When to say again what we announce: a schedule without I/O. Every method takes `now`; random spread comes from one generator.
//!
//! Each thing is said again after 6 to 12 hours, at a random moment, so that thousands announced together spread out over
//! the day by themselves. What reached nobody, or only the few nodes of a small network, is said again soon after a new node
//! turns up. Invariant: `order` holds exactly the things that wait, each at its moment.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::records::Key;

/// Announcements on their way at once: each is a lookup of about 21 requests and 20 more to tell the nodes found.
const RUNNING_MAX: usize = 16;
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
        let (due, item) = *self.order.first()?;
        if due > now || self.running >= RUNNING_MAX {
            return None;
        }
        self.order.pop_first();
        self.running += 1;
        if let Some(entry) = self.entries.get_mut(&item) {
            entry.due = None;
            entry.last = Some(now);
        }
        Some(item)
    }

    /// Notes that `item` went out, and whether anybody heard it.
    pub(super) fn finished(&mut self, item: Item, reached: bool, now: Instant) {
        self.running = self.running.saturating_sub(1);
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
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            rng: StdRng::seed_from_u64(7),
            ..Schedule::default()
        }
    }

    fn item(n: u16) -> Item {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        Item::Provider(key)
    }

    #[test]
    fn a_new_item_goes_out_at_once_and_again_within_twelve_hours() {
        let (mut schedule, start) = (schedule(), Instant::now());
        schedule.add(item(1), start);
        assert_eq!(schedule.next(start), Some(item(1)));
        assert_eq!(schedule.next(start), None);
        schedule.finished(item(1), true, start);
        assert_eq!(schedule.next(start + AGAIN_MAX / 2 - SOON), None);
        assert_eq!(schedule.next(start + AGAIN_MAX), Some(item(1)));
    }

    #[test]
    fn no_more_than_the_bound_are_on_their_way() {
        let (mut schedule, start) = (schedule(), Instant::now());
        (0..100).for_each(|n| schedule.add(item(n), start));
        let out: Vec<_> = std::iter::from_fn(|| schedule.next(start)).collect();
        assert_eq!(out.len(), RUNNING_MAX);
        schedule.finished(out[0], true, start);
        assert!(schedule.next(start).is_some());
    }

    #[test]
    fn what_went_out_together_comes_back_spread_out() {
        let (mut schedule, start) = (schedule(), Instant::now());
        (0..10_000).for_each(|n| schedule.add(item(n), start));
        while let Some(item) = schedule.next(start) {
            schedule.finished(item, true, start);
        }
        // Six hours for ten thousand is one in 2.2 s: no minute has more than twice its share.
        let mut per_minute = HashMap::<u64, u32>::new();
        for (due, _) in &schedule.order {
            *per_minute
                .entry(due.duration_since(start).as_secs() / 60)
                .or_default() += 1;
        }
        assert!(
            per_minute.values().all(|count| *count < 60),
            "{:?}",
            per_minute.values().max()
        );
    }

    #[test]
    fn what_reached_nobody_goes_out_when_a_node_turns_up() {
        let (mut schedule, start) = (schedule(), Instant::now());
        schedule.add(item(1), start);
        schedule.next(start).unwrap();
        schedule.finished(item(1), false, start);
        assert_eq!(schedule.next(start + SOON * 2), None);
        schedule.node_joined(1_000, start);
        assert_eq!(schedule.next(start + SOON * 2), Some(item(1)));
    }

    #[test]
    fn a_small_network_tells_its_new_nodes_and_a_large_one_waits() {
        let (mut schedule, start) = (schedule(), Instant::now());
        schedule.add(item(1), start);
        schedule.next(start).unwrap();
        schedule.finished(item(1), true, start);
        schedule.node_joined(1_000, start);
        assert_eq!(schedule.next(start + 2 * PAUSE), None);
        schedule.node_joined(3, start);
        assert_eq!(
            schedule.next(start + PAUSE / 2),
            None,
            "not more often than once a minute"
        );
        assert_eq!(schedule.next(start + 2 * PAUSE), Some(item(1)));
    }

    #[test]
    fn a_removed_item_never_goes_out() {
        let (mut schedule, start) = (schedule(), Instant::now());
        schedule.add(item(1), start);
        schedule.add(item(2), start);
        schedule.remove(item(1));
        assert_eq!(schedule.next(start), Some(item(2)));
        schedule.remove(item(2));
        schedule.finished(item(2), true, start);
        assert_eq!(
            (
                schedule.next(start + AGAIN_MAX * 2),
                schedule.len(),
                schedule.order.len(),
                schedule.unheard
            ),
            (None, 0, 0, 0)
        );
    }

    #[test]
    fn an_item_on_its_way_is_not_started_twice() {
        let (mut schedule, start) = (schedule(), Instant::now());
        schedule.add(item(1), start);
        schedule.next(start).unwrap();
        schedule.add(item(1), start);
        assert_eq!(schedule.next(start), None);
    }
}
