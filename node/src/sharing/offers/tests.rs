//! Crowds of numbers, at times that are made up.

use super::*;
use std::collections::{BTreeSet, VecDeque};

const MS: Duration = Duration::from_millis(1);

/// A source with members that ask for what they are shown.
struct World {
    offers: Offers<u32>,
    count: u32,
    now: Instant,
    /// What each member was shown and has not asked for.
    shown: BTreeMap<u32, VecDeque<u32>>,
    /// Who was shown everything.
    all: BTreeSet<u32>,
}

impl World {
    fn new(count: u32, members: u32) -> World {
        let mut world = World {
            offers: Offers::new(count, 7),
            count,
            now: Instant::now(),
            shown: BTreeMap::new(),
            all: BTreeSet::new(),
        };
        world.offers.begin();
        (0..members).for_each(|member| assert!(world.offers.join(member, world.now)));
        world.step();
        world
    }

    fn join(&mut self, member: u32) {
        assert!(self.offers.join(member, self.now));
        self.step();
    }

    fn step(&mut self) {
        for (member, show) in self.offers.step(self.now) {
            let shown = self.shown.entry(member).or_default();
            match show {
                Show::Everything => assert!(self.all.insert(member), "{member} was shown everything twice"),
                Show::Shards(runs) => {
                    for shard in runs.into_iter().flatten() {
                        assert!(!shown.contains(&shard), "{member} was shown {shard} twice");
                        shown.push_back(shard);
                    }
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + 250 * MS).min(end);
            self.step();
        }
    }

    fn ask(&mut self, member: u32, shard: u32) -> bool {
        let first = self.offers.asked(member, shard..shard + 1, self.now);
        self.step();
        first
    }

    fn send(&mut self, member: u32, shard: u32) {
        self.offers.sent(member, shard..shard + 1, self.now);
        self.step();
        self.has(member, shard..shard + 1);
    }

    fn has(&mut self, member: u32, run: Range<u32>) {
        self.offers.has(member, run);
        self.step();
    }

    fn take(&mut self, member: u32) -> Option<u32> {
        self.shown.get_mut(&member)?.pop_front()
    }

    fn waiting(&self, member: u32) -> usize {
        self.offers.members[&member].waiting
    }

    /// First copies that it is shown or has asked for.
    fn window(&self, member: u32) -> usize {
        let member = &self.offers.members[&member];
        member.waiting + member.claimed
    }
}

#[test]
fn each_shard_is_offered_to_one_member_while_unseen_ones_remain() {
    let (count, members) = (256, 8);
    let mut world = World::new(count, members);
    let mut copies = vec![0; count as usize];
    let mut given: BTreeMap<u32, usize> = BTreeMap::new();
    let mut member = 0;
    while world.offers.ledger.as_ref().unwrap().free() > 0 {
        assert!(world.all.is_empty());
        for other in 0..members {
            assert!(world.window(other) >= WINDOW || world.offers.ledger.as_ref().unwrap().free() == 0);
        }
        let shard = world.take(member).expect("an offer at once");
        assert!(world.ask(member, shard), "a first copy");
        world.now += 20 * MS;
        world.send(member, shard);
        copies[shard as usize] += 1;
        *given.entry(member).or_default() += 1;
        member = (member + 1) % members;
    }
    assert!(copies.iter().all(|copies| *copies <= 1));
    let sent: usize = copies.iter().sum();
    assert!(sent > 256 - 8 * (WINDOW + BLOCK_MAX), "{sent}");
    assert!(given.values().all(|given| *given >= sent / 10), "{given:?}");
}

#[test]
fn when_a_first_copy_of_each_is_out_everything_is_shown_and_stays_shown() {
    let mut world = World::new(64, 4);
    let mut out = BTreeSet::new();
    for turn in 0..10_000u32 {
        if out.len() == 64 {
            break;
        }
        let member = turn % 4;
        if let Some(shard) = world.take(member)
            && world.ask(member, shard)
        {
            assert!(out.insert(shard), "{shard} counted as a first copy twice");
            world.send(member, shard);
        }
        world.now += 10 * MS;
    }
    assert_eq!(out.len(), 64);
    assert_eq!(world.all, (0..4).collect());
    world.pass(Duration::from_secs(5));
    assert!(!world.offers.is_seeding(world.now));
}

#[test]
fn shards_that_were_sent_are_shown_to_others_only_when_none_is_unseen() {
    let mut world = World::new(32, 2);
    let mut sent = BTreeSet::new();
    while world.offers.ledger.as_ref().unwrap().free() > 0 {
        let shard = world.take(0).unwrap();
        assert!(world.ask(0, shard));
        world.send(0, shard);
        sent.insert(shard);
        assert!(world.shown[&1].iter().all(|shown| !sent.contains(shown)));
        world.now += MS;
    }
    // 1 has not been sent its window: no room for more. Then it is.
    let window: Vec<u32> = std::iter::from_fn(|| world.take(1)).collect();
    assert!(!window.is_empty());
    assert!(world.ask(1, window[0]));
    for shard in &window[1..] {
        world.ask(1, *shard);
    }
    world.pass(Duration::from_secs(1));
    assert!(world.shown[&1].iter().all(|shown| !sent.contains(shown)));
    for shard in &window {
        world.send(1, *shard);
    }
    world.pass(Duration::from_secs(1));
    let shown: BTreeSet<u32> = world.shown[&1].iter().copied().collect();
    assert!(shown.is_superset(&sent), "{shown:?} of {sent:?}");
    let again = *sent.first().unwrap();
    assert!(!world.ask(1, again), "a second copy is none of the first");
}

#[test]
fn what_was_offered_to_one_that_leaves_is_offered_to_another_at_once() {
    let mut world = World::new(16, 3);
    let shown: BTreeSet<u32> = world.shown[&2].iter().copied().collect();
    let asked = world.take(2).unwrap();
    assert!(world.ask(2, asked));
    world.offers.leave(2);
    world.step();
    // The others take all that they are shown, and at last everything.
    let mut got = BTreeSet::new();
    for turn in 0..200 {
        if let Some(shard) = world.take(turn % 2)
            && world.ask(turn % 2, shard)
        {
            got.insert(shard);
            world.send(turn % 2, shard);
        }
    }
    assert!(got.is_superset(&shown));
    assert_eq!(got.len(), 16);
}

#[test]
fn a_shard_that_only_a_leaver_had_is_unseen_again() {
    let mut world = World::new(8, 3);
    let shard = world.take(0).unwrap();
    assert!(world.ask(0, shard));
    world.send(0, shard);
    world.offers.leave(0);
    world.step();
    let ledger = world.offers.ledger.as_ref().unwrap();
    assert!(!ledger.is_held(shard as usize));
    assert!(world.shown.values().flatten().any(|shown| *shown == shard));
}

#[test]
fn a_member_that_asks_for_nothing_is_shown_everything_and_its_offers_go_to_others() {
    let mut world = World::new(12, 2);
    // 0 takes all it is shown, 1 nothing.
    let mut got = BTreeSet::new();
    for _ in 0..40 {
        while let Some(shard) = world.take(0) {
            assert!(world.ask(0, shard));
            got.insert(shard);
            world.send(0, shard);
        }
        world.now += 100 * MS;
        world.step();
        assert_eq!(world.all.contains(&1), got.len() == 12 || world.waiting(1) == 0);
    }
    assert_eq!(got.len(), 12);
}

#[test]
fn a_member_that_wants_only_some_shards_is_not_kept_waiting_for_others() {
    let mut world = World::new(4_000, 3);
    let wanted = |shard: u32| shard.is_multiple_of(40);
    let begun = world.now;
    while !world.all.contains(&0) {
        while let Some(shard) = world.take(0) {
            if wanted(shard) {
                world.ask(0, shard);
                world.send(0, shard);
            }
        }
        for member in 1..3 {
            let shard = world.take(member).unwrap();
            world.ask(member, shard);
            world.send(member, shard);
        }
        world.now += 100 * MS;
        world.step();
        assert!(world.now - begun < Duration::from_secs(10));
    }
    assert!(!world.all.contains(&1) && !world.all.contains(&2));
}

#[test]
fn a_slow_member_keeps_what_it_asked_for_while_it_takes_it() {
    let mut world = World::new(100, 2);
    for _ in 0..10 {
        let shard = world.take(0).unwrap();
        assert!(world.ask(0, shard));
        // Twenty seconds for one shard.
        for _ in 0..80 {
            world.now += 250 * MS;
            let other = world.take(1);
            if let Some(other) = other.filter(|_| world.offers.is_seeding(world.now)) {
                world.ask(1, other);
                world.send(1, other);
            }
            world.step();
        }
        world.send(0, shard);
        if !world.offers.is_seeding(world.now) {
            return;
        }
        assert!(!world.all.contains(&0));
    }
}

#[test]
fn who_asks_for_much_and_takes_nothing_loses_it_and_is_not_believed_again() {
    let mut world = World::new(32, 3);
    let shard = world.take(0).unwrap();
    assert!(world.ask(0, shard));
    let mut others = 0;
    for _ in 0..160 {
        world.now += 250 * MS;
        // Asking again is no progress.
        world.ask(0, shard);
        for member in 1..3 {
            if let Some(other) = world.take(member)
                && world.ask(member, other)
            {
                others += 1;
                world.send(member, other);
            }
        }
        world.step();
    }
    assert_eq!(others, 32, "the others got a first copy of all");
    assert!(!world.ask(0, shard));
}

#[test]
fn one_member_cannot_claim_everything() {
    let mut world = World::new(1_000, 2);
    assert!(world.offers.asked(0, 0..1_000, world.now));
    world.step();
    assert!(world.offers.ledger.as_ref().unwrap().free() >= 1_000 - CLAIMS_MAX - 50);
    assert!(!world.offers.asked(9, 0..1_000, world.now), "a stranger");
}

#[test]
fn a_lone_member_is_shown_everything_and_a_second_only_what_neither_has() {
    let mut world = World::new(100, 1);
    assert_eq!(
        world.shown[&0].len(),
        WINDOW_ALL,
        "a crowd may be on its way behind it"
    );
    world.pass(250 * MS);
    assert!(world.all.contains(&0));
    assert!(!world.ask(0, 3), "nobody else waits");
    world.send(0, 3);
    world.has(0, 10..60);
    world.join(1);
    assert!(!world.all.contains(&1));
    assert!(
        world.shown[&1]
            .iter()
            .all(|shard| *shard != 3 && !(10..60).contains(shard))
    );
    assert!(world.ask(0, 99));
}

#[test]
fn who_comes_first_in_a_flash_crowd_is_shown_no_more_than_the_others() {
    let mut world = World::new(100, 1);
    world.now += 50 * MS;
    world.join(1);
    world.pass(Duration::from_secs(1));
    assert!(world.all.is_empty());
    let (a, b) = (&world.shown[&0], &world.shown[&1]);
    assert!(!b.is_empty() && b.iter().all(|shard| !a.contains(shard)));
    // Nothing is held back of what is small.
    let mut world = World::new(WINDOW_ALL as u32, 1);
    world.step();
    assert!(world.all.contains(&0));
}

#[test]
fn with_another_complete_member_everything_is_shown_until_it_leaves() {
    let mut world = World::new(100, 2);
    world.join(7);
    world.has(7, 0..100);
    assert!(world.all.is_superset(&[0, 1].into()));
    world.join(2);
    assert!(world.all.contains(&2));
    world.offers.leave(7);
    world.step();
    world.join(3);
    assert!(!world.all.contains(&3) && !world.shown[&3].is_empty());
}

#[test]
fn a_fast_member_has_a_wider_window() {
    let mut world = World::new(10_000, 2);
    for _ in 0..100 {
        for _ in 0..8 {
            let shard = world.take(0).unwrap();
            world.ask(0, shard);
            world.send(0, shard);
        }
        world.now += 100 * MS;
        world.step();
    }
    assert!(world.waiting(0) >= 40, "{}", world.waiting(0));
    assert!(world.waiting(1) < WINDOW_ALL + BLOCK_MAX);
}

#[test]
fn shards_that_do_not_exist_and_empty_manifests_are_harmless() {
    let mut world = World::new(0, 2);
    assert_eq!(world.all.len(), 2);
    assert!(!world.offers.asked(0, 0..9, world.now));
    world.offers.sent(0, 0..9, world.now);
    world.has(0, 0..9);
    let mut world = World::new(5, 2);
    world.has(0, 3..u32::MAX);
    assert_eq!(world.offers.held(&0).unwrap().count_ones(..), 2);
    world.offers.asked(1, 4..u32::MAX, world.now);
    world.offers.sent(1, 4..u32::MAX, world.now);
    let count = world.count;
    world.has(1, 0..count);
    assert!(world.offers.is_complete(&1));
}
