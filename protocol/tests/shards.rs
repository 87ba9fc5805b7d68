//! Shards tile a blob, and their chaining values hash up to its root.

use crate::fixture::{pattern, values_of};
use proptest::prelude::*;
use protocol::shard::{
    self, GROUP_LEN, SHARD_LEN, root_of_shards, shard_count, shard_range, shards_covering,
};
use protocol::{ChainingValue, Hash};

/// The sizes that matter, in bytes.
fn sizes() -> Vec<u64> {
    let mut sizes = vec![0, 1];
    for edge in [
        1024,
        GROUP_LEN,
        SHARD_LEN,
        2 * SHARD_LEN,
        4 * SHARD_LEN,
        5 * SHARD_LEN,
    ] {
        sizes.extend([edge - 1, edge, edge + 1]);
    }
    sizes.extend([
        2 * SHARD_LEN + 12_345,
        3 * SHARD_LEN,
        7 * SHARD_LEN + SHARD_LEN * 3 / 10,
        8 * SHARD_LEN,
        9 * SHARD_LEN,
    ]);
    sizes
}

#[test]
fn chaining_values_hash_up_to_the_root() {
    for size in sizes() {
        let blob = pattern(size);
        let values = values_of(&blob);
        let wanted = (size > SHARD_LEN).then(|| Hash::of(&blob));
        assert_eq!(root_of_shards(size, &values), wanted, "{size} bytes");
    }
}

#[test]
fn wrong_chaining_value_gives_another_root() {
    let blob = pattern(7 * SHARD_LEN + 1);
    let size = 7 * SHARD_LEN + 1;
    let good = values_of(&blob);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at].0[31] ^= 1;
        assert_ne!(root_of_shards(size, &bad), Some(Hash::of(&blob)), "{at}");
    }
    let mut swapped = good.clone();
    swapped.swap(2, 3);
    assert_ne!(root_of_shards(size, &swapped), Some(Hash::of(&blob)));
}

#[test]
fn wrong_number_of_chaining_values_gives_no_root() {
    let value = ChainingValue([1; 32]);
    for size in sizes() {
        let right = usize::try_from(shard_count(size)).unwrap();
        for count in (0..12).filter(|count| *count != right || *count < 2) {
            assert_eq!(
                root_of_shards(size, &vec![value; count]),
                None,
                "{size} bytes, {count} values"
            );
        }
    }
    assert_eq!(root_of_shards(u64::MAX, &[value; 2]), None);
}

#[test]
fn subtrees_of_every_shape_merge_as_blake3_merges_them() {
    // Shards of a million bytes are slow to hash in great number, so this one walks the tree by counting: the left subtree of each node
    // is the largest power of two below the number of shards.
    fn merge(values: &[ChainingValue], root: bool) -> [u8; 32] {
        use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
        if let [one] = values {
            return one.0;
        }
        let left = values.len().div_ceil(2).next_power_of_two();
        let (left, right) = values.split_at(left);
        let (left, right) = (merge(left, false), merge(right, false));
        if root {
            return *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes();
        }
        merge_subtrees_non_root(&left, &right, Mode::Hash)
    }
    for count in 2..=130_u8 {
        let values: Vec<_> = (0..count).map(|number| ChainingValue([number; 32])).collect();
        let size = (u64::from(count) - 1) * SHARD_LEN + 1;
        let wanted = Hash::from_bytes(merge(&values, true));
        assert_eq!(root_of_shards(size, &values), Some(wanted), "{count} shards");
    }
}

#[test]
#[should_panic(expected = "a shard starts at a multiple of its length")]
fn chaining_value_of_a_misplaced_shard_is_a_bug_of_the_caller() {
    shard::chaining_value(SHARD_LEN + 1, b"x");
}

#[test]
#[should_panic(expected = "a shard has 1 byte to 1 MiB")]
fn chaining_value_of_an_empty_shard_is_a_bug_of_the_caller() {
    shard::chaining_value(0, b"");
}

#[test]
fn empty_blob_has_no_shards() {
    assert_eq!(shard_count(0), 0);
    assert_eq!(shard_range(0, 0), None);
    assert_eq!(shards_covering(0, 0..u64::MAX), 0..0);
}

#[test]
fn counts_that_do_not_fit_stay_at_the_largest() {
    assert_eq!(shard_count(u64::MAX), u32::MAX);
    let last = u64::from(u32::MAX) * SHARD_LEN;
    assert_eq!(shard_range(u64::MAX, u32::MAX), Some(last..last + SHARD_LEN));
}

proptest! {
    #[test]
    fn shards_tile_the_blob(size in prop_oneof![0..20 * SHARD_LEN, sizes_that_matter()]) {
        let mut next = 0;
        for index in 0..shard_count(size) {
            let range = shard_range(size, index).unwrap();
            prop_assert_eq!(range.start, next);
            prop_assert!(range.start < range.end && range.end - range.start <= SHARD_LEN);
            next = range.end;
        }
        prop_assert_eq!(next, size);
        prop_assert_eq!(shard_range(size, shard_count(size)), None);
    }

    #[test]
    fn covering_shards_are_those_that_hold_a_byte(
        size in 0..10 * SHARD_LEN,
        start in 0..12 * SHARD_LEN,
        len in prop_oneof![0..3_u64, 0..12 * SHARD_LEN],
    ) {
        let wanted = start..start + len;
        let covering = shards_covering(size, wanted.clone());
        for index in 0..shard_count(size) {
            let range = shard_range(size, index).unwrap();
            let holds = range.start.max(wanted.start) < range.end.min(wanted.end);
            prop_assert_eq!(covering.contains(&index), holds, "shard {}", index);
        }
        prop_assert!(covering.end <= shard_count(size));
    }
}

fn sizes_that_matter() -> impl Strategy<Value = u64> {
    proptest::sample::select(sizes())
}
