//! What the store keeps, finds and refuses, without any peer.

use super::*;
use crate::limits::FREE_FLOOR;
use bao_tree::{
    ChunkNum, ChunkRanges,
    io::{outboard::PreOrderMemOutboard, sync::encode_ranges},
};
use iroh_blobs::store::IROH_BLOCK_SIZE;
use protocol::{FileEntry, GROUP_LEN, SHARD_LEN};
use std::{ops::Range, time::Duration};
use tempfile::TempDir;

async fn open(data: &Path) -> Store {
    let catalog = Catalog::open(&data.join("catalog")).unwrap().catalog;
    Store::open(data, catalog).await.unwrap()
}

async fn store() -> (Store, TempDir) {
    let data = TempDir::new().unwrap();
    (open(data.path()).await, data)
}

/// Bytes that no other length has.
pub(crate) fn content(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Lets bytes of a blob land as if a peer had sent them, with the byte at `wrong` changed on the way.
pub(crate) fn land(part: &Part, content: &[u8], bytes: Range<u64>, wrong: Option<u64>) -> Vec<Range<u32>> {
    let len = content.len() as u64;
    let ranges = walk::chunks(&bytes, len);
    let outboard = PreOrderMemOutboard::create(content, IROH_BLOCK_SIZE);
    let mut encoded = Vec::new();
    encode_ranges(content, &outboard, &ranges, &mut encoded).unwrap();
    if let Some(wrong) = wrong {
        let group = &content[wrong as usize..][..32];
        let at = encoded.windows(32).position(|window| window == group).unwrap();
        encoded[at] ^= 1;
    }
    let mut verifier = walk::Verifier::new(part.blob.hash, len);
    let piece = walk::Schedule::new(len, ranges).piece(usize::MAX).unwrap();
    let (placed, right) = verifier.verify(&piece, &encoded);
    assert_eq!(right.err().map(|wrong| wrong.offset), wrong);
    part.write(&encoded, &placed).unwrap();
    let landed = placed.data.iter().flat_map(|(start, spans)| {
        let len: u64 = spans.iter().map(|span| span.len() as u64).sum();
        part.landed(*start..start + len)
    });
    landed.collect()
}

fn begin(store: &Store, content: &[u8]) -> (Hash, Arc<Part>) {
    let hash = Hash::of(content);
    (hash, store.part(hash, content.len() as u64).unwrap())
}

fn listing(blobs: &[&[u8]]) -> Manifest {
    let entry = |(index, blob): (usize, &&[u8])| FileEntry {
        path: format!("{index}").parse().unwrap(),
        size: blob.len() as u64,
        blake3: Hash::of(blob),
        sha256: None,
        sha1: None,
    };
    Manifest::new(blobs.iter().enumerate().map(entry).collect()).unwrap()
}

#[tokio::test]
async fn groups_that_landed_are_known_when_the_part_is_opened_again() {
    let (store, _data) = store().await;
    let content = content(3 * SHARD_LEN + 5 * GROUP_LEN + 7);
    let len = content.len() as u64;
    let (hash, part) = begin(&store, &content);
    let run = GROUP_LEN..5 * GROUP_LEN;
    assert!(land(&part, &content, run.clone(), None).is_empty());
    assert_eq!(
        land(&part, &content, SHARD_LEN..2 * SHARD_LEN + GROUP_LEN, None),
        [1..2]
    );
    assert_eq!(land(&part, &content, 3 * SHARD_LEN..len, None), [3..4]);
    // Only what is wrong, and what comes behind it, has to come again.
    let wrong = 2 * SHARD_LEN + 9 * GROUP_LEN;
    land(
        &part,
        &content,
        2 * SHARD_LEN + 4 * GROUP_LEN..3 * SHARD_LEN,
        Some(wrong),
    );
    let missing = [
        0..run.start,
        run.end..SHARD_LEN,
        2 * SHARD_LEN + GROUP_LEN..2 * SHARD_LEN + 4 * GROUP_LEN,
        wrong..3 * SHARD_LEN,
    ];
    assert_eq!(part.missing(0..4), missing);
    drop(part);
    let part = store.part(hash, len).unwrap();
    assert_eq!(part.missing(0..4), missing);
    assert_eq!((part.count(), part.shards().ones().collect()), (2, vec![1, 3]));
    let ranges = walk::chunks_of(&missing, len);
    assert!(walk::aligned(&ranges, len) && walk::bytes_of(&ranges, len).eq(missing.iter().cloned()));
    for range in missing {
        assert!(!part.has(range.clone()));
        land(&part, &content, range, None);
    }
    assert!(part.is_complete() && part.has(0..len));
    store.close().await;
}

#[tokio::test]
async fn what_came_whole_can_be_read_before_and_after_it_is_settled() {
    let (store, _data) = store().await;
    let middling = content(700_000);
    let hash = Hash::of(&middling);
    let bytes = Bytes::from(middling);
    let fresh = store.put_middling(hash, bytes.clone()).await.unwrap();
    let large = content(2 * SHARD_LEN + 1);
    let (large_hash, part) = begin(&store, &large);
    land(&part, &large, 0..SHARD_LEN, None);
    let blob = store.blob(large_hash).await.unwrap();
    assert!(store.read_range(large_hash, &blob, 5..10).unwrap() == large[5..10]);
    assert!(matches!(
        store.read_range(large_hash, &blob, 0..SHARD_LEN + 1),
        Err(StoreError::Missing(_))
    ));
    land(&part, &large, SHARD_LEN..large.len() as u64, None);
    let finished = store.finished(&part);
    drop((part, blob));
    let all = async |hash| store.read(hash, u64::MAX).await.unwrap();
    assert!(all(hash).await == bytes && all(large_hash).await == large);
    store.settle(vec![fresh, finished]).await.unwrap();
    assert!(all(hash).await == bytes && all(large_hash).await == large);
    assert!(store.file_path(hash).exists() && store.file_path(large_hash).exists());

    // A torn file of the same kind is not there at all, and makes room for the right one.
    let other = content(500_000);
    let torn = Hash::of(&other);
    make_parent(&store.part_path(torn)).unwrap();
    fs::write(store.part_path(torn), &other[..400_000]).unwrap();
    assert!(matches!(store.blob(torn).await, Err(StoreError::Missing(_))));
    store.put_middling(torn, other.clone().into()).await.unwrap();
    assert!(all(torn).await == other);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_blob_may_be_settled_twice_and_by_two_at_once() {
    let (store, _data) = store().await;
    let (middling, large) = (content(300_000), content(SHARD_LEN + 40_000));
    let (hash, (large_hash, part)) = (Hash::of(&middling), begin(&store, &large));
    land(&part, &large, 0..large.len() as u64, None);
    let bring = async || {
        let mut fresh = Vec::new();
        for _ in 0..3 {
            let bytes = Bytes::from(middling.clone());
            fresh.push(store.put_middling(hash, bytes).await.unwrap());
            fresh.push(store.finished(&part));
        }
        store.settle(fresh).await
    };
    let (a, b, c) = tokio::join!(bring(), bring(), bring());
    assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
    bring().await.unwrap();
    drop(part);
    for (hash, content) in [(hash, middling), (large_hash, large)] {
        assert!(store.read(hash, u64::MAX).await.unwrap() == content);
        assert!(store.seems_whole(hash, content.len() as u64).unwrap());
        assert!(!store.is_begun(hash));
    }
    store.close().await;
}

#[tokio::test]
async fn collection_between_the_bytes_of_a_fetch_and_its_pin_loses_nothing() {
    let (store, _data) = store().await;
    let contents = [content(100), content(200_000), content(SHARD_LEN + 1)];
    let manifest = listing(&contents.each_ref().map(Vec::as_slice));
    let hash = manifest.hash();
    drop(store.put_manifest(&manifest).await.unwrap());
    let held = store.hold(hash);
    let kept = store.put_small(vec![contents[0].clone().into()]).await.unwrap();
    let fresh = store.put_middling(Hash::of(&contents[1]), contents[1].clone().into());
    let mut fresh: Vec<Fresh> = vec![fresh.await.unwrap()];
    let (_, part) = begin(&store, &contents[2]);
    land(&part, &contents[2], 0..contents[2].len() as u64, None);
    fresh.push(store.finished(&part));
    drop((kept, part));
    store.collect(BTreeSet::new()).await.unwrap();
    store.settle(fresh).await.unwrap();
    store.collect(BTreeSet::new()).await.unwrap();
    store.pin(hash).await.unwrap();
    drop(held);
    store.collect(BTreeSet::new()).await.unwrap();
    for content in contents {
        assert!(store.read(Hash::of(&content), u64::MAX).await.unwrap() == content);
    }
    store.unpin(hash).await.unwrap();
    assert_eq!(store.collect(BTreeSet::new()).await.unwrap().blobs, 4);
    store.close().await;
}

#[tokio::test]
async fn one_small_blob_may_be_put_any_number_of_times_at_once() {
    let (store, _data) = store().await;
    let same = Bytes::from(content(100));
    let _kept = store.put_small(vec![same.clone(); 10_000]).await.unwrap();
    assert!(store.read(Hash::of(&same), u64::MAX).await.unwrap() == same);
    store.close().await;
}

#[tokio::test]
async fn rows_are_durable_once_they_were_synced() {
    let (store, data) = store().await;
    let blobs: Vec<Vec<u8>> = (1..200).map(content).collect();
    let put = blobs.iter().cloned().map(Bytes::from).collect();
    let _kept = store.put_small(put).await.unwrap();
    store.sync_rows().await.unwrap();
    // What a kill leaves behind: the files as they are now, the database never closed.
    let after = TempDir::new().unwrap();
    for entry in walkdir::WalkDir::new(data.path().join("store")) {
        let entry = entry.unwrap();
        let to = after.path().join(entry.path().strip_prefix(data.path()).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(to).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
    let again = open(after.path()).await;
    let hashes: Vec<Hash> = blobs.iter().map(|blob| Hash::of(blob)).collect();
    assert_eq!(again.has_small(&hashes).await.unwrap().len(), hashes.len());
    assert!(again.read(hashes[7], 100).await.unwrap() == blobs[7]);
    again.close().await;
    store.close().await;
}

#[tokio::test]
async fn collection_that_waits_for_a_long_publish_holds_nobody_up() {
    let (store, _data) = store().await;
    let publishing = store.writing().await;
    let mut collecting = Box::pin(store.collect(BTreeSet::new()));
    assert!(futures::poll!(&mut collecting).is_pending());
    let soon = Duration::from_secs(20);
    let fetching = tokio::time::timeout(soon, store.writing()).await;
    drop(fetching.expect("a fetch waits for the collection, and that for the publish"));
    assert!(futures::poll!(&mut collecting).is_pending());
    drop(publishing);
    tokio::time::timeout(soon, collecting).await.unwrap().unwrap();
    store.close().await;
}

#[tokio::test]
async fn quota_and_disk_are_asked_before_anything_is_kept() {
    let (store, _data) = store().await;
    store.room(SHARD_LEN).await.unwrap();
    let error = store.room(u64::MAX / 2).await.err().unwrap();
    assert!(
        matches!(error, StoreError::NoRoom { need, .. } if need > FREE_FLOOR),
        "{error}"
    );
    let before = store.used().unwrap();
    let content = content(3 * SHARD_LEN);
    let (_, part) = begin(&store, &content);
    // Holes take no room.
    assert!(store.used().unwrap() < before + SHARD_LEN);
    land(&part, &content, 0..content.len() as u64, None);
    let used = store.used().unwrap();
    assert!(used >= before + 3 * SHARD_LEN && used < before + 4 * SHARD_LEN);
    store.set_quota(Some(used + 2 * SHARD_LEN));
    store.room(SHARD_LEN).await.unwrap();
    match store.room(2 * SHARD_LEN).await.err().unwrap() {
        StoreError::OverQuota { quota, need, .. } => {
            assert_eq!(quota, used + 2 * SHARD_LEN);
            assert_eq!(need, 2 * SHARD_LEN + 2 * SHARD_LEN / 256);
        }
        other => panic!("{other}"),
    }
    // What one set aside another does not get, until it is taken or given back.
    let mut room = store.room(SHARD_LEN).await.unwrap();
    assert!(store.room(SHARD_LEN).await.is_err());
    room.taken(SHARD_LEN / 2);
    let more = store.room(SHARD_LEN / 2).await.unwrap();
    room.add(more);
    assert!(store.room(SHARD_LEN).await.is_err());
    drop(room);
    store.room(SHARD_LEN).await.unwrap();
    store.set_quota(None);
    store.room(2 * SHARD_LEN).await.unwrap();
    store.close().await;
}

#[test]
fn chunks_of_several_ranges_are_their_union() {
    let group = GROUP_LEN;
    let ranges = walk::chunks_of(&[0..group, 3 * group..10 * group + 5], 10 * group + 5);
    assert_eq!(
        ranges,
        ChunkRanges::from(..ChunkNum(16)) | ChunkRanges::from(ChunkNum(48)..)
    );
}

/// A file's bytes, with what a publisher may say of them.
fn said(content: &[u8], sha256: &[u8], sha1: &[u8]) -> FileEntry {
    let digests = |bytes| digest::of_bytes(bytes, true);
    FileEntry {
        path: "a.bin".parse().unwrap(),
        size: content.len() as u64,
        blake3: Hash::of(content),
        sha256: Some(digests(sha256).sha256),
        sha1: digests(sha1).sha1,
    }
}

#[tokio::test]
async fn what_is_said_of_a_blob_is_hashed_once_and_a_lie_is_told_from_it() {
    let (store, _data) = store().await;
    for len in [0, 5, 700_000, 2 * SHARD_LEN + 1] {
        let bytes = content(len);
        let hash = Hash::of(&bytes);
        let (truth, lie) = (said(&bytes, &bytes, &bytes), said(&bytes, b"x", &bytes));
        let half = said(&bytes, &bytes, b"x");
        match len {
            0 => {}
            5 => drop(store.put_small(vec![bytes.clone().into()]).await.unwrap()),
            700_000 => drop(store.put_middling(hash, bytes.clone().into()).await.unwrap()),
            _ => {
                let (_, part) = begin(&store, &bytes);
                land(&part, &bytes, 0..SHARD_LEN, None);
                // There is nothing to hold it against before all of it is here.
                for file in [&truth, &lie] {
                    assert!(matches!(store.prove(file).await, Err(StoreError::Missing(_))));
                }
                land(&part, &bytes, SHARD_LEN..len, None);
                store.prove(&truth).await.unwrap();
                store.settle(vec![store.finished(&part)]).await.unwrap();
                drop(part);
                // Once is enough: it is known without the bytes.
                fs::remove_file(store.file_path(hash)).unwrap();
                assert!(store.is_proven(&truth, None).unwrap());
                assert!(store.is_proven(&lie, None).is_err() && store.is_proven(&half, None).is_err());
                continue;
            }
        }
        store.prove(&truth).await.unwrap();
        for lie in [&lie, &half] {
            let proven = store.prove(lie).await;
            assert!(
                matches!(proven, Err(StoreError::FalseDigest { .. })),
                "{len}: {proven:?}"
            );
        }
        let silent = FileEntry {
            sha256: None,
            sha1: None,
            ..lie
        };
        store.prove(&silent).await.unwrap();
    }
    store.close().await;
}
