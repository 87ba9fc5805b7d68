//! Manifests that lie, disks and quotas that are too small, and two fetches of one blob.

use super::*;
use protocol::limits::BLOB_LEN_MAX;
use tokio::time::timeout;

/// What a fetch that has nothing to wait for may take.
const SOON: Duration = Duration::from_secs(20);

/// Makes a node hold a manifest that says `size` of `blob`.
async fn claim(node: &Node, blob: Hash, size: u64) -> FetchRequest {
    let entry = FileEntry {
        path: "claimed".parse().unwrap(),
        size,
        blake3: blob,
        sha256: None,
        sha1: None,
    };
    let manifest = protocol::Manifest::new(vec![entry]).unwrap();
    let store = node.library().store();
    drop(store.put_manifest(&manifest).await.unwrap());
    FetchRequest::new(FetchWhat::Repo(RepoRef::Content(manifest.hash())))
}

fn stored(data: &TempDir) -> Vec<String> {
    walkdir::WalkDir::new(data.path().join("files"))
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.file_name().to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_size_in_a_manifest_costs_no_blob_that_another_keeps() {
    let (node, _data) = node(Vec::new()).await;
    let source = folder(&[("a.bin", 5 * 1024 * 1024)]);
    let mut request = PublishRequest::new(source.path());
    request.copy = true;
    let (published, _) = node.publish(request, &Progress::default()).await.unwrap();
    let blob = Hash::of(&fs::read(source.path().join("a.bin")).unwrap());
    for size in [100, 500_000, 2 * 1024 * 1024, 6 * 1024 * 1024] {
        let lie = claim(&node, blob, size).await;
        let fetched = timeout(SOON, node.fetch(lie, &Progress::default())).await;
        let error = fetched
            .unwrap_or_else(|_| panic!("{size} bytes: the fetch goes on"))
            .unwrap_err();
        assert!(
            matches!(error, FetchError::Store(StoreError::WrongLen { len, .. }) if len == size),
            "{size}: {error:?}"
        );
        let repo = published.repo.clone().into();
        let verified = node.library().verify(&repo, &Progress::default()).await;
        assert!(verified.unwrap().ok, "{size}");
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifest_that_claims_more_than_the_disk_holds_leaves_no_file() {
    let (node, data) = node(Vec::new()).await;
    let claimed = claim(&node, Hash::of(b"nobody has this"), BLOB_LEN_MAX).await;
    let fetched = timeout(SOON, node.fetch(claimed, &Progress::default()))
        .await
        .unwrap();
    let error = fetched.unwrap_err();
    assert!(
        matches!(error, FetchError::Store(StoreError::NoRoom { need, .. }) if need > BLOB_LEN_MAX),
        "{error:?}"
    );
    assert!(stored(&data).is_empty());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_refuses_a_fetch_and_a_copy_before_anything_is_written() {
    let (node, data) = node(Vec::new()).await;
    let mib = 1024 * 1024;
    // Databases grow and shrink by a few MiB of their own: what is copied is far more than that.
    let used = node.library().store().used().unwrap();
    node.library().set_quota(Some(used + 32 * mib));
    let claimed = claim(&node, Hash::of(b"nobody has this"), 48 * mib).await;
    let fetched = timeout(SOON, node.fetch(claimed, &Progress::default()))
        .await
        .unwrap();
    let error = fetched.unwrap_err();
    assert!(
        matches!(error, FetchError::Store(StoreError::OverQuota { .. })),
        "{error:?}"
    );
    let source = folder(&[("a.bin", 32 << 20), ("b.bin", 16 << 20)]);
    let mut request = PublishRequest::new(source.path());
    request.copy = true;
    let refused = node
        .publish(request.clone(), &Progress::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            crate::publish::PublishError::Store(StoreError::OverQuota { .. })
        ),
        "{refused:?}"
    );
    assert_eq!(stored(&data), [""; 0]);
    // By reference nothing is copied; and what is copied already is not counted again.
    let by_reference = PublishRequest::new(source.path());
    node.publish(by_reference, &Progress::default()).await.unwrap();
    node.library().set_quota(None);
    node.publish(request.clone(), &Progress::default()).await.unwrap();
    node.library()
        .set_quota(Some(node.library().store().used().unwrap() + 8 * mib));
    node.publish(request, &Progress::default()).await.unwrap();
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_has_written_is_not_counted_twice() {
    let (node, _data) = node(Vec::new()).await;
    let len = 64 << 20;
    let source = folder(&[("a.bin", len)]);
    let len = len as u64;
    let store = node.library().store();
    // The copy and three quarters of it for somebody else, while half of it or more is written.
    store.set_quota(Some(store.used().unwrap() + len * 15 / 8));
    let mut request = PublishRequest::new(source.path());
    request.copy = true;
    let (progress, mut seen) = Progress::channel();
    let publisher = node.clone();
    let publishing = tokio::spawn(async move { publisher.publish(request, &progress).await });
    let reading = |now: &crate::progress::Snapshot| now.phase == Phase::Reading && now.bytes >= len / 2;
    while let Ok(true) = timeout(SOON, async { seen.wait_for(reading).await.is_ok() }).await {
        store.room(len * 3 / 4).await.unwrap();
    }
    publishing.await.unwrap().unwrap();
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_says_another_length_than_the_manifest_is_not_banned() {
    let (publisher, _a) = node(Vec::new()).await;
    let (reader, _b) = node(vec![publisher.listeners()[0].clone()]).await;
    let source = folder(&[("small", 100), ("middling", 300_000)]);
    let publish = PublishRequest::new(source.path());
    let (published, _) = publisher.publish(publish, &Progress::default()).await.unwrap();
    let address = publisher.listeners()[0].clone();
    let peer = reader.swarm().dial(address).await.unwrap();
    for name in ["small", "middling"] {
        let blob = Hash::of(&fs::read(source.path().join(name)).unwrap());
        let part = reader.library().store().part(blob, 3 * 1024 * 1024).unwrap();
        let link = transfer::Link::new(&reader, peer);
        let teller = transfer::Teller::new(1, peer, 0, mpsc::channel(64).0);
        let asked = transfer::shards(&link, (blob, 3 * 1024 * 1024), Some(part), 0..3, &teller);
        let error = timeout(SOON, asked).await.unwrap().unwrap_err();
        assert!(matches!(error, transfer::TransferError::Size { .. }), "{error:?}");
        assert_eq!(error.fault(), plan::Fault::Broke);
    }
    let request = FetchRequest::new(FetchWhat::Repo(published.repo.into()));
    let fetched = timeout(SOON, reader.fetch(request, &Progress::default())).await;
    assert_eq!(fetched.unwrap().unwrap().bytes, 300_100);
    for node in [publisher, reader] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_bring_and_settle_one_blob_at_once() {
    let (publisher, _a) = node(Vec::new()).await;
    let (reader, _b) = node(vec![publisher.listeners()[0].clone()]).await;
    let shared = &[("a.bin", 5 * 1024 * 1024 + 3), ("b.bin", 800_000), ("c", 9)];
    let (one, two) = (folder(shared), folder(shared));
    fs::write(two.path().join("more"), b"another manifest").unwrap();
    let mut requests = Vec::new();
    for source in [&one, &two] {
        let mut publish = PublishRequest::new(source.path());
        publish.name = Some(format!("repo{}", requests.len()).parse().unwrap());
        let (published, _) = publisher.publish(publish, &Progress::default()).await.unwrap();
        requests.push(FetchRequest::new(FetchWhat::Repo(published.repo.into())));
    }
    let (first, second) = (requests.remove(0), requests.remove(0));
    let progress = Progress::default();
    let both = async {
        tokio::join!(
            reader.fetch(first.clone(), &progress),
            reader.fetch(second, &progress)
        )
    };
    let (a, b) = timeout(SOON * 2, both).await.unwrap();
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    let again = reader.fetch(first, &Progress::default()).await.unwrap();
    assert_eq!(again.fetched_bytes, 0);
    for what in reader.library().store().pinned().await.unwrap() {
        let repo = RepoRef::Content(what);
        let verified = reader.library().verify(&repo, &Progress::default()).await;
        assert!(verified.unwrap().ok);
    }
    for node in [publisher, reader] {
        node.shutdown().await;
    }
}
