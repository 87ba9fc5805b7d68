//! The shards of a manifest have one numbering, which counts every byte of it once.

use std::collections::HashSet;

use crate::fixture::{entry, golden_manifest};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::limits::{BLOB_LEN_MAX, FILES_MAX, SHARDS_MAX};
use protocol::shard::{SHARD_LEN, shard_count, shard_range};
use protocol::{FileEntry, Hash, Manifest, ManifestError, NumberedBlob, ShardMap, TooManyShards};

/// A manifest whose files have these sizes, in this order; equal sizes are one blob.
fn manifest(sizes: &[u64]) -> Manifest {
    let file = |(at, size): (usize, &u64)| entry(&format!("{at:06}"), *size);
    Manifest::new(sizes.iter().enumerate().map(file).collect()).unwrap()
}

fn map(sizes: &[u64]) -> ShardMap {
    ShardMap::new(&manifest(sizes)).unwrap()
}

/// The same numbers, one entry a shard: its blob and its length.
fn naive(manifest: &Manifest) -> Vec<(Hash, u64)> {
    let mut seen = HashSet::new();
    let new = |file: &&FileEntry| seen.insert(file.blake3);
    let of_blob = |file: &FileEntry| {
        let (hash, size) = (file.blake3, file.size);
        let lens = (0..shard_count(size)).map(move |at| shard_range(size, at).unwrap());
        lens.map(move |bytes| (hash, bytes.end - bytes.start))
    };
    manifest.files().iter().filter(new).flat_map(of_blob).collect()
}

#[test]
fn blobs_are_numbered_once_where_they_first_appear() {
    let map = map(&[SHARD_LEN + 1, 0, 5, SHARD_LEN + 1, SHARD_LEN, 5]);
    let blob = |len, first| NumberedBlob {
        hash: entry("a", len).blake3,
        len,
        first,
    };
    let wanted = [blob(SHARD_LEN + 1, 0), blob(5, 2), blob(SHARD_LEN, 3)];
    assert_eq!(map.blobs(), wanted);
    assert_eq!(map.count(), 4);
    assert_eq!(map.find(wanted[1].hash), Some(1));
    assert_eq!(map.find(Hash::EMPTY), None);
    assert_eq!(map.find(Hash::of(b"another")), None);
}

#[test]
fn manifest_of_empty_files_has_no_shards() {
    let map = map(&[0, 0]);
    assert_eq!((map.count(), map.blobs()), (0, &[][..]));
    assert_eq!(map.blob_of(0), None);
    assert_eq!(map.len_of(0..u32::MAX), 0);
}

#[test]
fn one_hash_of_two_lengths_is_numbered_by_nobody() {
    let mut files = vec![entry("a", 1), entry("b", SHARD_LEN + 1)];
    files[1].blake3 = files[0].blake3;
    assert!(matches!(
        Manifest::new(files),
        Err(ManifestError::SizeConflict { .. })
    ));
}

#[test]
fn as_many_shards_as_the_swarm_carries_are_numbered() {
    let map = map(&[BLOB_LEN_MAX, BLOB_LEN_MAX - SHARD_LEN, 1]);
    assert_eq!(map.count(), SHARDS_MAX);
    assert_eq!(map.blob_of(SHARDS_MAX - 1), Some(2));
    assert_eq!(map.blob_of(SHARDS_MAX), None);
    assert_eq!(map.len_of(0..u32::MAX), 2 * BLOB_LEN_MAX - SHARD_LEN + 1);
}

#[test]
fn more_shards_than_the_swarm_carries_are_refused_and_counted() {
    let count = |sizes: &[u64]| ShardMap::new(&manifest(sizes)).unwrap_err();
    let over = u64::from(SHARDS_MAX) + 1;
    let sizes = [BLOB_LEN_MAX, BLOB_LEN_MAX - SHARD_LEN, 1, 2, 2];
    assert_eq!(count(&sizes), TooManyShards { count: over });
    // The largest sum of a manifest, of which no number of shards fits `u32`.
    let most: Vec<u64> = (0..2047).map(|file| BLOB_LEN_MAX - file).collect();
    let error = count(&most);
    assert_eq!(error.count, 2047 * (BLOB_LEN_MAX / SHARD_LEN));
    assert!(error.to_string().contains("more than 8388608"), "{error}");
}

#[test]
fn as_many_files_as_a_manifest_may_list_are_numbered() {
    let sizes: Vec<u64> = (1..).take(FILES_MAX).collect();
    let map = map(&sizes);
    assert_eq!(usize::try_from(map.count()).unwrap(), FILES_MAX);
    assert_eq!(map.len_of(0..u32::MAX), sizes.iter().sum::<u64>());
}

#[test]
fn golden_manifest_has_five_shards() {
    let map = ShardMap::new(&golden_manifest()).unwrap();
    let shards: Vec<_> = map.blobs().iter().map(NumberedBlob::shards).collect();
    assert_eq!(shards, [0..1, 1..2, 2..5]);
}

#[test]
fn blob_of_a_made_up_number_does_not_overflow() {
    let blob = NumberedBlob {
        hash: Hash::EMPTY,
        len: u64::MAX,
        first: 7,
    };
    assert_eq!(blob.shards(), 7..u32::MAX);
}

fn sizes() -> impl Strategy<Value = Vec<u64>> {
    let shards = (0..4_u64, prop_oneof![Just(0), Just(1), 0..SHARD_LEN]);
    vec(shards.prop_map(|(whole, more)| whole * SHARD_LEN + more), 1..20)
}

proptest! {
    #[test]
    fn numbers_are_those_of_a_list_of_shards(sizes in sizes()) {
        let manifest = manifest(&sizes);
        let (map, naive) = (ShardMap::new(&manifest).unwrap(), naive(&manifest));
        prop_assert_eq!(usize::try_from(map.count()).unwrap(), naive.len());
        for (shard, (hash, len)) in (0..).zip(&naive) {
            let at = map.blob_of(shard).unwrap();
            prop_assert_eq!(map.find(*hash), Some(at));
            prop_assert_eq!(map.blobs()[at].hash, *hash);
            prop_assert!(map.blobs()[at].shards().contains(&shard));
            prop_assert_eq!(map.len_of(shard..shard + 1), *len);
        }
        for past in [map.count(), map.count() + 1, u32::MAX] {
            prop_assert_eq!(map.blob_of(past), None);
        }
        let ends: Vec<u32> = map.blobs().iter().map(|blob| blob.shards().end).collect();
        let firsts: Vec<u32> = map.blobs().iter().map(|blob| blob.first).collect();
        prop_assert_eq!([&[0], ends.as_slice()].concat(), [&firsts[..], &[map.count()]].concat());
    }

    #[test]
    fn run_has_the_bytes_of_its_shards(sizes in sizes(), start in 0..90_u32, end in prop_oneof![0..90_u32, Just(u32::MAX)]) {
        let manifest = manifest(&sizes);
        let (map, naive) = (ShardMap::new(&manifest).unwrap(), naive(&manifest));
        let lens = (0..).zip(&naive).filter(|(shard, _)| (start..end).contains(shard));
        prop_assert_eq!(map.len_of(start..end), lens.map(|(_, (_, len))| len).sum::<u64>());
        prop_assert_eq!(map.len_of(0..map.count()), map.blobs().iter().map(|blob| blob.len).sum::<u64>());
    }
}
