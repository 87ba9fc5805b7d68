//! Requests that are made to cost much, and peers that hold on to what they were given.

use super::*;
use crate::limits::SLOTS_MAX;

#[tokio::test(flavor = "multi_thread")]
async fn endless_walk_over_empty_ranges_ends() {
    let ((server, _a), (asker, _b)) = (node().await, node().await);
    let folder = TempDir::new().unwrap();
    let content = content(3 * 1024 * 1024);
    std::fs::write(folder.path().join("a"), &content).unwrap();
    let publish = PublishRequest::new(folder.path());
    server.publish(publish, &Progress::default()).await.unwrap();
    let hash: iroh_blobs::Hash = blake3::hash(&content).into();
    let far = std::iter::repeat_n(ChunkRanges::empty(), 1_000_000);
    let walks = [
        ChunkRangesSeq::empty(),
        ChunkRangesSeq::from_ranges_infinite([ChunkRanges::empty()]),
        ChunkRangesSeq::from_ranges_infinite(far.chain([ChunkRanges::all()])),
    ];
    for walk in walks {
        let request = postcard::to_stdvec(&GetRequest::new(hash, walk.clone())).unwrap();
        assert!(answer(&asker, &server, GET, request).await.is_empty());
        let request = postcard::to_stdvec(&GetManyRequest::new(vec![hash; 1_000], walk)).unwrap();
        assert!(answer(&asker, &server, GET_MANY, request).await.is_empty());
    }
    // Every child of something that is no list of hashes: the first that nobody has ends it, and only the blob came.
    let request = postcard::to_stdvec(&GetRequest::new(hash, ChunkRangesSeq::all())).unwrap();
    assert!(answer(&asker, &server, GET, request).await.len() < content.len() * 2);
    server.shutdown().await;
    asker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_open_streams_and_do_not_ask_keep_nobody_waiting() {
    let ((server, _a), (asker, _b)) = (node().await, node().await);
    let peer = server.swarm().peer_id();
    let (mut silent, mut held) = (Vec::new(), Vec::new());
    for _ in 0..SLOTS_MAX.div_ceil(SERVED_PER_PEER) + 1 {
        let (other, data) = node().await;
        other.swarm().dial(server.listeners()[0].clone()).await.unwrap();
        for _ in 0..SERVED_PER_PEER {
            let protocol = StreamProtocol::new(wire::BLOBS_PROTOCOL);
            let mut stream = other.swarm().open_stream(peer, protocol).await.unwrap();
            // A byte, so that the stream is opened in earnest.
            stream.write_all(&[GET]).await.unwrap();
            stream.flush().await.unwrap();
            held.push(stream);
        }
        silent.push((other, data));
    }
    asker.swarm().dial(server.listeners()[0].clone()).await.unwrap();
    let link = transfer::Link::new(&asker, peer);
    let asked = transfer::blob(&link, Hash::EMPTY, 10);
    // Well before those that say nothing are given up.
    let answered = timeout(ANSWER_WAIT / 2, asked).await;
    assert!(answered.expect("answered in time").unwrap().is_empty());
    drop(held);
    for (node, _) in &silent {
        node.shutdown().await;
    }
    server.shutdown().await;
    asker.shutdown().await;
}
