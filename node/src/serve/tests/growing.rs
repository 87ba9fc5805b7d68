//! Serving what is still being fetched.

use super::*;
use crate::fetch::transfer::{Link, Teller};
use crate::store::tests::{content as of_len, land};
use protocol::{GROUP_LEN, SHARD_LEN};

#[tokio::test(flavor = "multi_thread")]
async fn growing_blob_is_served_where_it_is_here_and_nowhere_else() {
    let ((server, _a), (asker, _b)) = (node().await, node().await);
    let content = of_len(3 * SHARD_LEN + 5);
    let len = content.len() as u64;
    let hash = Hash::of(&content);
    let part = server.library().store().part(hash, len).unwrap();
    land(&part, &content, SHARD_LEN..2 * SHARD_LEN + GROUP_LEN, None);
    let ask = async |ranges: &ChunkRanges| {
        let request = GetRequest::blob_ranges(blake3::hash(&content).into(), ranges.clone());
        answer(&asker, &server, GET, postcard::to_stdvec(&request).unwrap()).await
    };
    let here = [
        ChunkRanges::from(ChunkNum(1024)..ChunkNum(2048 + 16)),
        ChunkRanges::from(ChunkNum(1024)..ChunkNum(1040)) | ChunkRanges::from(ChunkNum(2048)..ChunkNum(2064)),
        ChunkRanges::from(ChunkNum(1500)..ChunkNum(1501)),
    ];
    for ranges in here {
        assert!(
            assert_decodes(&ask(&ranges).await, &content, &ranges).is_empty(),
            "{ranges:?}"
        );
    }
    let absent = [
        ChunkRanges::all(),
        ChunkRanges::last_chunk(),
        ChunkRanges::from(ChunkNum(1023)..ChunkNum(1040)),
        ChunkRanges::from(ChunkNum(1024)..ChunkNum(2048 + 17)),
        ChunkRanges::from(ChunkNum(1024)..ChunkNum(1040)) | ChunkRanges::from(ChunkNum(3072)..),
    ];
    for ranges in absent {
        assert!(ask(&ranges).await.is_empty(), "{ranges:?}");
    }

    // A peer takes exactly what it lacks, from a file that has only that.
    let mine = asker.library().store().part(hash, len).unwrap();
    land(
        &mine,
        &content,
        SHARD_LEN + 3 * GROUP_LEN..SHARD_LEN + 9 * GROUP_LEN,
        None,
    );
    land(&mine, &content, 2 * SHARD_LEN + GROUP_LEN..3 * SHARD_LEN, None);
    let (tell, mut came) = mpsc::channel(64);
    let link = Link::new(&asker, server.swarm().peer_id());
    let teller = Teller::new(1, server.swarm().peer_id(), 0, tell);
    transfer::shards(&link, (hash, len), Some(mine.clone()), 1..3, &teller)
        .await
        .unwrap();
    drop(teller);
    let (mut bytes, mut landed) = (0, Vec::new());
    while let Some(told) = came.recv().await {
        bytes += told.bytes;
        landed.extend(told.landed);
    }
    assert_eq!(bytes, SHARD_LEN + GROUP_LEN - 6 * GROUP_LEN);
    assert_eq!(landed.into_iter().flatten().collect::<Vec<u32>>(), [1, 2]);
    assert_eq!(mine.missing(0..4), [0..SHARD_LEN, 3 * SHARD_LEN..len]);
    server.shutdown().await;
    asker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn middling_blob_is_served_before_it_is_settled() {
    let ((server, _a), (asker, _b)) = (node().await, node().await);
    let content = of_len(900_000);
    let hash = Hash::of(&content);
    let store = server.library().store();
    let fresh = store.put_middling(hash, content.clone().into()).await.unwrap();
    asker.swarm().dial(server.listeners()[0].clone()).await.unwrap();
    let link = Link::new(&asker, server.swarm().peer_id());
    let bytes = transfer::blob(&link, hash, 1_000_000).await.unwrap();
    assert!(bytes == content);
    drop(fresh);
    server.shutdown().await;
    asker.shutdown().await;
}
