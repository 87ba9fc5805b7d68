//! Whole sessions: what differs is found, all of it, and only that.

mod hostile;
mod vectors;

use super::{
    super::set::{Item, KnownSet, Snapshot},
    Answerer, MESSAGE_LEN_MAX, Next, Opener, ROUNDS_MAX,
};
use proptest::{collection::vec, prelude::*};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeSet;

const OPENER: [u8; 16] = [1; 16];
const ANSWERER: [u8; 16] = [2; 16];

/// How a session went, seen from the opener.
struct Session {
    need: Vec<Item>,
    have: Vec<Item>,
    /// Asks, without the greeting.
    asks: u32,
    bytes: usize,
    /// Bytes of the longest ask and of the longest answer.
    longest: (usize, usize),
    complete: bool,
}

fn session(opener: &Snapshot, answerer: &Snapshot) -> Session {
    let (mut opener, mut message) = Opener::new(opener.clone(), OPENER);
    let mut answerer = Answerer::new(answerer.clone(), ANSWERER);
    let mut session = Session {
        need: vec![],
        have: vec![],
        asks: 0,
        bytes: 0,
        longest: (0, 0),
        complete: false,
    };
    loop {
        let told = answerer.take(&message).unwrap();
        assert!(told.len() <= MESSAGE_LEN_MAX && message.len() <= MESSAGE_LEN_MAX);
        session.bytes += message.len() + told.len();
        session.longest = (
            session.longest.0.max(message.len()),
            session.longest.1.max(told.len()),
        );
        let step = opener.take(&told).unwrap();
        assert!(step.need.is_sorted_by(|newer, older| newer > older));
        assert!(step.have.iter().is_sorted_by(|newer, older| newer > older));
        assert_eq!(step.have.len(), step.have.iter().count());
        assert_eq!(step.have.is_empty(), step.have.iter().next().is_none());
        session.need.extend(step.need);
        session.have.extend(step.have.iter());
        match step.next {
            Next::Ask(next) => message = next,
            end => {
                session.complete = end == Next::Done;
                return session;
            }
        }
        session.asks += 1;
        assert!(session.asks <= ROUNDS_MAX);
    }
}

fn snapshot(items: impl IntoIterator<Item = Item>) -> Snapshot {
    KnownSet::build(items.into_iter().collect()).unwrap().snapshot()
}

fn random(rng: &mut StdRng, times: u64) -> Item {
    Item::new(rng.random_range(0..times), rng.random()).unwrap()
}

/// The session finds what plain sets find, each item once.
fn finds_all(one: &BTreeSet<Item>, other: &BTreeSet<Item>) -> Session {
    let session = session(&snapshot(one.iter().copied()), &snapshot(other.iter().copied()));
    let sorted = |items: &[Item]| {
        let mut items = items.to_vec();
        items.sort_unstable();
        items
    };
    assert!(session.complete);
    assert_eq!(
        sorted(&session.need),
        other.difference(one).copied().collect::<Vec<_>>()
    );
    assert_eq!(
        sorted(&session.have),
        one.difference(other).copied().collect::<Vec<_>>()
    );
    session
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_differs_is_found_exactly(
        seed: u64, count in 0usize..3_000, times in 1u64..5_000, here in 0usize..300, there in 0usize..300,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut draw = |count| (0..count).map(|_| random(&mut rng, times)).collect::<BTreeSet<_>>();
        let (common, here, there) = (draw(count), draw(here), draw(there));
        finds_all(&(&common | &here), &(&common | &there));
    }

    #[test]
    fn few_items_anywhere_are_found_exactly(one in vec((0u64..3, 0u8..4, 0u8..4), 0..60), other in vec((0u64..3, 0u8..4, 0u8..4), 0..60)) {
        let items = |keys: Vec<(u64, u8, u8)>| keys.into_iter().map(|(issued, first, last)| {
            let mut id = [0; 32];
            (id[0], id[31]) = (first, last);
            Item::new(issued, id).unwrap()
        }).collect::<BTreeSet<Item>>();
        finds_all(&items(one), &items(other));
    }

    #[test]
    fn window_of_either_side_bounds_what_is_compared(
        seed: u64, here in 0usize..600, there in 0usize..600, since in 0u64..60, their_since in 0u64..60,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut draw = |count| (0..count).map(|_| random(&mut rng, 50)).collect::<BTreeSet<_>>();
        let (common, mut here, mut there) = (draw(300), draw(here), draw(there));
        here.extend(&common);
        there.extend(&common);
        let found = session(&snapshot(here.clone()).since(since), &snapshot(there.clone()).since(their_since));
        let floor = since.max(their_since);
        here.retain(|item| item.issued() >= floor);
        there.retain(|item| item.issued() >= floor);
        prop_assert_eq!(found.need.into_iter().collect::<BTreeSet<_>>(), &there - &here);
        prop_assert_eq!(found.have.into_iter().collect::<BTreeSet<_>>(), &here - &there);
    }
}

#[test]
fn equal_sets_are_known_to_be_after_one_ask() {
    let mut rng = StdRng::seed_from_u64(1);
    for count in [0, 1, 16, 17, 1_023, 1_024, 20_000] {
        let items: BTreeSet<Item> = (0..count).map(|_| random(&mut rng, 9_999)).collect();
        let session = finds_all(&items, &items);
        assert_eq!(session.asks, 1, "{count} items");
        assert!(session.bytes < 512, "{} bytes for {count} items", session.bytes);
    }
}

#[test]
fn one_item_of_many_is_found_in_a_few_kilobytes() {
    let mut rng = StdRng::seed_from_u64(2);
    let all: BTreeSet<Item> = (0..50_000).map(|_| random(&mut rng, 1_000_000)).collect();
    for at in [0, 1, 25_000, 49_998, 49_999] {
        let mut fewer = all.clone();
        fewer.remove(&snapshot(all.clone()).get(at).unwrap());
        for session in [finds_all(&all, &fewer), finds_all(&fewer, &all)] {
            assert!(session.bytes < 2_500, "{} bytes for number {at}", session.bytes);
            assert!(session.asks <= 7, "{} asks for number {at}", session.asks);
        }
    }
}

#[test]
fn items_that_share_a_name_or_a_release_or_a_time_are_told_apart() {
    let mut rng = StdRng::seed_from_u64(3);
    let half: [u8; 16] = rng.random();
    let mut alike = |name: bool, times: u64| -> BTreeSet<Item> {
        let one = |rng: &mut StdRng| {
            let mut id = [0; 32];
            let (first, last) = id.split_at_mut(16);
            let (same, other) = if name { (first, last) } else { (last, first) };
            same.copy_from_slice(&half);
            other[14..].copy_from_slice(&rng.random::<[u8; 2]>());
            Item::new(rng.random_range(0..times), id).unwrap()
        };
        (0..900).map(|_| one(&mut rng)).collect()
    };
    for (name, times) in [(true, 1), (false, 1), (true, 30), (false, 30)] {
        let (common, here, there) = (alike(name, times), alike(name, times), alike(name, times));
        finds_all(&(&common | &here), &(&common | &there));
    }
}

#[test]
fn same_id_at_two_times_is_two_items() {
    let at = |issued| Item::new(issued, [7; 32]).unwrap();
    let one: BTreeSet<Item> = (0..100).map(|n| at(2 * n)).collect();
    let other: BTreeSet<Item> = (0..100).map(|n| at(3 * n)).collect();
    finds_all(&one, &other);
}

#[test]
fn who_has_nothing_gets_the_newest_first_in_pieces() {
    let mut rng = StdRng::seed_from_u64(4);
    let all: BTreeSet<Item> = (0..60_000).map(|_| random(&mut rng, 1 << 40)).collect();
    let (mut opener, first) = Opener::new(snapshot([]), OPENER);
    let mut answerer = Answerer::new(snapshot(all.clone()), ANSWERER);
    let mut told = answerer.take(&first).unwrap();
    let mut newest = all.iter().rev();
    let mut pieces = 0;
    loop {
        let step = opener.take(&told).unwrap();
        assert!(step.need.iter().eq(newest.by_ref().take(step.need.len())));
        assert!(step.need.len() < 16_500);
        let Next::Ask(ask) = step.next else {
            assert_eq!(step.next, Next::Done);
            break;
        };
        assert!(ask.len() < 100);
        told = answerer.take(&ask).unwrap();
        assert!(told.len() <= MESSAGE_LEN_MAX);
        pieces += 1;
    }
    assert_eq!((pieces, newest.next()), (5, None));
}

#[test]
fn what_does_not_fit_into_a_message_is_asked_again() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut draw = |count| {
        (0..count)
            .map(|_| random(&mut rng, 1 << 40))
            .collect::<BTreeSet<_>>()
    };
    let (common, here, there) = (draw(150_000), draw(30_000), draw(30_000));
    let session = finds_all(&(&common | &here), &(&common | &there));
    assert!(
        session.longest.0 > MESSAGE_LEN_MAX - 1_024,
        "{:?}",
        session.longest
    );
    let nothing_in_common = finds_all(&here, &there);
    assert!(
        nothing_in_common.bytes < 4_000_000,
        "{} bytes",
        nothing_in_common.bytes
    );
    let few = here.into_iter().step_by(30).collect();
    let session = finds_all(&few, &(&there | &few));
    assert!(
        session.longest.1 > MESSAGE_LEN_MAX - 1_024,
        "{:?}",
        session.longest
    );
}

#[test]
fn session_that_is_too_short_for_all_goes_on_in_the_next_one() {
    // Each message holds 16,000 items: 64 of them are not enough.
    let item = |n: u64| Item::new(n / 3, blake3::hash(&n.to_le_bytes()).into()).unwrap();
    let all = KnownSet::build((0..1_100_000).map(item).collect())
        .unwrap()
        .snapshot();
    let mut ours = KnownSet::default();
    let first = session(&ours.snapshot(), &all);
    assert!(!first.complete);
    assert_eq!(first.asks, ROUNDS_MAX);
    assert!(
        first
            .need
            .iter()
            .copied()
            .eq(all.iter().rev().take(first.need.len()))
    );
    ours = KnownSet::build(first.need).unwrap();
    let second = session(&ours.snapshot(), &all);
    assert!(second.complete);
    assert!(second.have.is_empty());
    assert_eq!(second.need.len() + ours.len(), all.len());
}
