//! The set against a plain ordered one.

use super::{ID_LEN, ITEMS_MAX, Item, KnownSet, LEAF_ITEMS_MAX, LEAF_MERGE_MAX, SetError};
use proptest::{collection::vec, prelude::*};
use protocol::limits::RELEASE_NUMBER_MAX;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::collections::BTreeSet;

fn item(issued: u64, n: u64) -> Item {
    let mut id = [0; ID_LEN];
    id[..8].copy_from_slice(&n.to_be_bytes());
    Item::new(issued, id).unwrap()
}

/// As many as fill several leaves, at few times, so that ids decide too.
fn many(count: usize, seed: u64) -> Vec<Item> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| item(rng.random_range(0..50), rng.random_range(0..1_000_000)))
        .collect()
}

/// Every way to look at a set agrees with the plain one.
fn same(set: &KnownSet, plain: &BTreeSet<Item>) {
    let snapshot = set.snapshot();
    assert_eq!(set.len(), plain.len());
    assert_eq!(snapshot.len(), plain.len());
    assert_eq!(
        (set.is_empty(), snapshot.is_empty()),
        (plain.is_empty(), plain.is_empty())
    );
    assert!(snapshot.iter().eq(plain.iter().copied()));
    assert!(snapshot.iter().rev().eq(plain.iter().rev().copied()));
    assert!(
        set.leaves
            .iter()
            .all(|leaf| (1..=LEAF_ITEMS_MAX).contains(&leaf.len()))
    );
}

#[test]
fn built_set_holds_each_item_once_in_order() {
    for count in [
        0,
        1,
        LEAF_ITEMS_MAX - 1,
        LEAF_ITEMS_MAX,
        LEAF_ITEMS_MAX + 1,
        40_000,
        70_001,
    ] {
        let mut items = many(count, 1);
        items.extend_from_within(..count / 2);
        items.shuffle(&mut StdRng::seed_from_u64(2));
        let set = KnownSet::build(items.clone()).unwrap();
        same(&set, &items.into_iter().collect());
    }
}

#[test]
fn set_takes_and_gives_up_as_a_plain_one_does() {
    let items = many(20_000, 3);
    let (mut set, mut plain) = (KnownSet::default(), BTreeSet::new());
    for item in &items {
        assert_eq!(set.insert(*item), Ok(plain.insert(*item)));
    }
    same(&set, &plain);
    for (at, item) in items.iter().enumerate() {
        assert!(at % 64 != 0 || set.snapshot().contains(item) == plain.contains(item));
        if at % 20 != 0 {
            assert_eq!(set.remove(item), plain.remove(item));
        }
    }
    same(&set, &plain);
    assert!(
        set.leaves.len() * LEAF_MERGE_MAX < 4 * set.len(),
        "{} leaves for {}",
        set.leaves.len(),
        set.len()
    );
    for item in &items {
        assert_eq!(set.remove(item), plain.remove(item));
    }
    same(&set, &plain);
}

#[test]
fn snapshot_stays_as_it_was() {
    let items = many(5_000, 4);
    let mut set = KnownSet::build(items.clone()).unwrap();
    let plain: BTreeSet<Item> = items.iter().copied().collect();
    let before = set.snapshot();
    for (n, old) in items.iter().take(2_500).enumerate() {
        set.replace(old, item(100, n as u64)).unwrap();
    }
    assert!(before.iter().eq(plain.iter().copied()));
    assert!(set.snapshot().iter().ne(plain.iter().copied()));
    assert_eq!(set.snapshot().since(100).len(), 2_500);
}

#[test]
fn memory_stays_within_48_bytes_an_item_and_52_after_removals() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut set = KnownSet::build(many(100_000, 6)).unwrap();
    let within = |set: &KnownSet, most, what| {
        let each = set.memory() as f64 / set.len() as f64;
        assert!(each <= most, "{what}: {each:.1} bytes an item");
    };
    within(&set, 48.0, "built");
    for n in 0..30_000 {
        set.insert(item(rng.random_range(0..50), 2_000_000 + n)).unwrap();
        if n % 1_000 == 0 {
            within(&set, 48.0, "inserted at random");
        }
    }
    for n in 0..30_000 {
        set.insert(item(60, n)).unwrap();
    }
    within(&set, 48.0, "inserted at the end");
    let all: Vec<Item> = set.snapshot().iter().collect();
    for old in all.iter().filter(|item| item.id()[7] % 4 != 0) {
        set.remove(old);
    }
    within(&set, 52.0, "three quarters removed");
}

#[test]
fn full_set_takes_no_more_but_replaces() {
    let mut set = KnownSet::build((0..ITEMS_MAX as u64).map(|n| item(n, n)).collect()).unwrap();
    assert_eq!(set.insert(item(1, 0)), Err(SetError::Full));
    assert_eq!(set.insert(item(1, 1)), Ok(false));
    assert_eq!(set.replace(&item(1, 1), item(1, 0)), Ok(true));
    assert_eq!(set.len(), ITEMS_MAX);
    let more = (0..=ITEMS_MAX as u64).map(|n| item(n, n)).collect();
    assert_eq!(KnownSet::build(more).err(), Some(SetError::Full));
}

#[test]
fn item_from_past_the_last_number_is_refused() {
    assert!(Item::new(RELEASE_NUMBER_MAX, [0; ID_LEN]).is_ok());
    let issued = RELEASE_NUMBER_MAX + 1;
    assert_eq!(Item::new(issued, [0; ID_LEN]), Err(SetError::Issued { issued }));
}

#[test]
fn order_is_of_time_then_of_the_bytes_of_the_id() {
    let mut high = [0; ID_LEN];
    high[0] = 1;
    let mut low = [0xff; ID_LEN];
    low[0] = 0;
    let [early, late] = [Item::new(5, low).unwrap(), Item::new(5, high).unwrap()];
    let later = Item::new(6, [0; ID_LEN]).unwrap();
    let set = KnownSet::build(vec![later, late, early]).unwrap();
    assert!(set.snapshot().iter().eq([early, late, later]));
    assert_eq!(late.name()[0], 1);
}

proptest! {
    #[test]
    fn ranks_ranges_and_windows_agree_with_a_plain_list(
        keys in vec((0u64..20, 0u64..200), 0..1_500),
        bound in (0u64..21, 0u64..201),
        ends in (0usize..1_600, 0usize..1_600),
    ) {
        let plain: BTreeSet<Item> = keys.into_iter().map(|(issued, n)| item(issued, n)).collect();
        let list: Vec<Item> = plain.iter().copied().collect();
        let snapshot = KnownSet::build(list.clone()).unwrap().snapshot();
        let bound = item(bound.0, bound.1);
        prop_assert_eq!(snapshot.rank(bound.issued(), bound.id()), list.partition_point(|item| *item < bound));
        prop_assert_eq!(snapshot.contains(&bound), list.contains(&bound));
        let (start, end) = (ends.0.min(list.len()), ends.1.min(list.len()));
        let expected: &[Item] = list.get(start..end).unwrap_or_default();
        prop_assert!(snapshot.range(ends.0..ends.1).eq(expected.iter().copied()));
        let since = snapshot.since(bound.issued());
        let kept = &list[list.partition_point(|item| item.issued() < bound.issued())..];
        prop_assert!(since.iter().eq(kept.iter().copied()));
        prop_assert_eq!(since.rank(bound.issued(), bound.id()), kept.partition_point(|item| *item < bound));
        prop_assert_eq!(since.get(ends.0), kept.get(ends.0).copied());
        prop_assert_eq!(since.since(0).len(), kept.len());
        prop_assert_eq!(since.floor(), bound.issued());
    }
}
