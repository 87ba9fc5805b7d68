//! Whole fetches between nodes on loopback.

mod trouble;

use super::*;
use crate::{Config, publish::PublishRequest};
use libp2p::Multiaddr;
use std::{fs, path::Path};
use tempfile::TempDir;

async fn node(peers: Vec<Multiaddr>) -> (Node, TempDir) {
    let data = TempDir::new().unwrap();
    let mut config = Config::loopback(data.path());
    config.peers = peers;
    (Node::start(config).await.unwrap(), data)
}

fn folder(sizes: &[(&str, usize)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (seed, (name, len)) in sizes.iter().enumerate() {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = vec![0; *len];
        blake3::Hasher::new()
            .update(&[seed as u8])
            .finalize_xof()
            .fill(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn assert_same(sizes: &[(&str, usize)], a: &Path, b: &Path) {
    for (name, _) in sizes {
        assert!(
            fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(),
            "{name}"
        );
    }
}

const SIZES: &[(&str, usize)] = &[
    ("config.json", 700),
    ("empty", 0),
    ("one", 1),
    ("a/group", 16 * 1024),
    ("a/group+1", 16 * 1024 + 1),
    ("a/shard", 1024 * 1024),
    ("b/shard+1", 1024 * 1024 + 1),
    ("b/some.bin", 5 * 1024 * 1024 + 12_345),
    ("c/more.bin", 40 * 1024 * 1024),
];

#[tokio::test(flavor = "multi_thread")]
async fn repo_is_fetched_by_name_through_a_third_node() {
    let (meeting, _b) = node(Vec::new()).await;
    let peers = vec![meeting.listeners()[0].clone()];
    let (publisher, _a) = node(peers.clone()).await;
    let (reader, _c) = node(peers).await;
    let source = folder(SIZES);
    let (published, _) = publisher
        .publish(PublishRequest::new(source.path()), &Progress::default())
        .await
        .unwrap();
    let again = publisher
        .publish(PublishRequest::new(source.path()), &Progress::default())
        .await
        .unwrap()
        .0;
    assert_eq!(
        (again.manifest, again.seq, again.read_bytes),
        (published.manifest, 1, 0)
    );

    let to = TempDir::new().unwrap();
    let mut request = FetchRequest::new(FetchWhat::Repo(published.repo.clone().into()));
    request.to = Some(to.path().to_owned());
    let fetched = reader.fetch(request.clone(), &Progress::default()).await.unwrap();
    assert_eq!(
        (fetched.manifest, fetched.bytes),
        (published.manifest, published.bytes)
    );
    assert_eq!(fetched.fetched_bytes, published.bytes);
    assert_same(SIZES, source.path(), to.path());
    let report = reader
        .library()
        .verify(&published.repo.clone().into(), &Progress::default())
        .await
        .unwrap();
    assert!(report.ok, "{report:?}");
    let proof = reader
        .library()
        .proof(&published.repo.clone().into(), &Progress::default())
        .await
        .unwrap();
    let report = crate::verify::folder(to.path(), &proof, &Progress::default()).unwrap();
    assert!(report.ok, "{report:?}");
    let second = reader.fetch(request, &Progress::default()).await.unwrap();
    assert_eq!(second.fetched_bytes, 0);
    for node in [meeting, publisher, reader] {
        node.shutdown().await;
    }
}
