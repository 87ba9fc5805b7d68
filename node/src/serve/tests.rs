//! Answers, taken apart by bao-tree and not by our own decoder: what we speak is the iroh-blobs get protocol.

mod growing;
mod hostile;
mod turns;

use super::{
    request::{GET, GET_MANY},
    *,
};
use crate::{Config, Node, denials::What, fetch::transfer, progress::Progress, publish::PublishRequest};
use bao_tree::{
    BaoTree, ChunkNum,
    io::{BaoContentItem, sync::DecodeResponseIter},
};
use futures::AsyncWriteExt;
use iroh_blobs::{
    protocol::{ChunkRangesExt, ChunkRangesSeq},
    store::IROH_BLOCK_SIZE,
};
use libp2p::StreamProtocol;
use protocol::RepoRef;
use tempfile::TempDir;

async fn node() -> (Node, TempDir) {
    let data = TempDir::new().unwrap();
    (Node::start(Config::loopback(data.path())).await.unwrap(), data)
}

fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&len.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Sends a request byte for byte and returns the whole answer.
async fn answer(asker: &Node, server: &Node, kind: u8, request: Vec<u8>) -> Vec<u8> {
    let protocol = StreamProtocol::new(wire::BLOBS_PROTOCOL);
    asker.swarm().dial(server.listeners()[0].clone()).await.unwrap();
    let mut stream = asker
        .swarm()
        .open_stream(server.swarm().peer_id(), protocol)
        .await
        .unwrap();
    stream.write_all(&[&[kind][..], &request].concat()).await.unwrap();
    stream.close().await.unwrap();
    let mut answer = Vec::new();
    timeout(ANSWER_WAIT, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

/// Decodes one blob of an answer as iroh-blobs does, and compares what came with the content.
fn assert_decodes<'a>(answer: &'a [u8], content: &[u8], ranges: &ChunkRanges) -> &'a [u8] {
    let (size, mut encoded) = answer.split_at(8);
    assert_eq!(u64::from_le_bytes(size.try_into().unwrap()), content.len() as u64);
    let tree = BaoTree::new(content.len() as u64, IROH_BLOCK_SIZE);
    let mut bytes = 0;
    for item in DecodeResponseIter::new(blake3::hash(content), tree, &mut encoded, ranges) {
        if let BaoContentItem::Leaf(leaf) = item.unwrap() {
            let at = leaf.offset as usize;
            assert!(leaf.data == content[at..at + leaf.data.len()]);
            bytes += leaf.data.len();
        }
    }
    assert!(bytes > 0 || content.is_empty());
    encoded
}

#[tokio::test(flavor = "multi_thread")]
async fn any_ranges_of_any_blob_are_answered_as_iroh_blobs_decodes_them() {
    let ((server, _a), (asker, _b)) = (node().await, node().await);
    let folder = TempDir::new().unwrap();
    let lengths = [
        0,
        1,
        16 * 1024,
        16 * 1024 + 1,
        700_000,
        1024 * 1024,
        1024 * 1024 + 1,
        3 * 1024 * 1024 + 77,
    ];
    let contents: Vec<Vec<u8>> = lengths.into_iter().map(content).collect();
    for (index, content) in contents.iter().enumerate() {
        std::fs::write(folder.path().join(index.to_string()), content).unwrap();
    }
    server
        .publish(PublishRequest::new(folder.path()), &Progress::default())
        .await
        .unwrap();
    let wanted = [
        ChunkRanges::all(),
        ChunkRanges::last_chunk(),
        ChunkRanges::from(ChunkNum(0)..ChunkNum(1)),
        ChunkRanges::from(ChunkNum(3)..ChunkNum(40)),
        ChunkRanges::from(ChunkNum(16)..ChunkNum(64)) | ChunkRanges::from(ChunkNum(1024)..),
    ];
    for content in contents.iter().filter(|content| !content.is_empty()) {
        for ranges in &wanted {
            let request = GetRequest::blob_ranges(blake3::hash(content).into(), ranges.clone());
            let answer = answer(&asker, &server, GET, postcard::to_stdvec(&request).unwrap()).await;
            assert!(
                assert_decodes(&answer, content, ranges).is_empty(),
                "{} bytes, {ranges:?}",
                content.len()
            );
        }
    }
    let hashes = contents
        .iter()
        .map(|content| blake3::hash(content).into())
        .collect();
    let every = ChunkRangesSeq::from_ranges(contents.iter().map(|_| ChunkRanges::all()));
    let request = postcard::to_stdvec(&GetManyRequest::new(hashes, every)).unwrap();
    let answer = answer(&asker, &server, GET_MANY, request).await;
    let rest = contents.iter().fold(&answer[..], |rest, content| {
        assert_decodes(rest, content, &ChunkRanges::all())
    });
    assert!(rest.is_empty());
    server.shutdown().await;
    asker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_read_end_the_stream_and_nothing_else() {
    let ((server, _a), (asker, _b)) = (node().await, node().await);
    for (kind, request) in [
        (GET, vec![0xff; 100]),
        (GET_MANY, vec![0xff; 10_000]),
        (1, vec![]),
        (77, vec![1, 2, 3]),
        (8, vec![0; 64]),
    ] {
        assert!(answer(&asker, &server, kind, request).await.is_empty());
    }
    let unknown = GetRequest::blob(blake3::hash(b"nobody has this"));
    assert!(
        answer(&asker, &server, GET, postcard::to_stdvec(&unknown).unwrap())
            .await
            .is_empty()
    );
    // The empty blob is everybody's.
    let link = transfer::Link::new(&asker, server.swarm().peer_id());
    assert!(transfer::blob(&link, Hash::EMPTY, 10).await.unwrap().is_empty());
    server.shutdown().await;
    asker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_not_sent_to_who_asks_for_it_and_is_again_when_it_is_allowed() {
    let ((server, _a), (asker, _b)) = (node().await, node().await);
    let folder = TempDir::new().unwrap();
    let contents = [content(300_000), content(5_000)];
    for (index, content) in contents.iter().enumerate() {
        std::fs::write(folder.path().join(index.to_string()), content).unwrap();
    }
    let request = PublishRequest::new(folder.path());
    let (published, _) = server.publish(request, &Progress::default()).await.unwrap();
    let hashes = [0, 1].map(|index: usize| blake3::hash(&contents[index]));
    let sent = async || {
        let mut sent = Vec::new();
        for hash in hashes
            .into_iter()
            .chain([(*published.manifest.as_bytes()).into()])
        {
            let one = postcard::to_stdvec(&GetRequest::blob(hash)).unwrap();
            let many = GetManyRequest::new(vec![hash.into()], ChunkRangesSeq::all());
            let many = postcard::to_stdvec(&many).unwrap();
            let answers = [
                answer(&asker, &server, GET, one).await,
                answer(&asker, &server, GET_MANY, many).await,
            ];
            assert_eq!(answers[0].is_empty(), answers[1].is_empty());
            sent.push(!answers[0].is_empty());
        }
        sent
    };
    assert_eq!(sent().await, [true, true, true]);
    let library = server.library();
    let blob = What::Blob(Hash::from_bytes(hashes[0].into()));
    let reason = || Some("spam".to_owned());
    library.deny(&blob, reason(), None).await.unwrap();
    assert_eq!(sent().await, [false, true, true]);
    let all = What::Repo(RepoRef::Id(published.repo.clone()));
    library.deny(&all, reason(), None).await.unwrap();
    assert_eq!(sent().await, [false, false, false]);
    library.allow(&all).await.unwrap();
    library.allow(&blob).await.unwrap();
    assert_eq!(sent().await, [true, true, true]);
}
