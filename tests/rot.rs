//! Bytes that change on our disk: noticed, never served, reported, and fetched again where a peer has them.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::fetch::{FetchRequest, FetchWhat};
use node::node::Node;
use node::publish::Published;
use node::verify::Reason;
use protocol::{Hash, RepoRef, SHARD_LEN, Ticket};
use testnet::fixture;
use testnet::nodes::{Testnet, within};

use crate::acts::{assert_verifies, fetch, files, publish, publish_copy, try_fetch, unseen, verify};

const A: usize = 1;
/// Has the right bytes too.
const C: usize = 2;
/// Wants them, and knows only what its ticket says.
const D: usize = 3;

const FILES: [(&str, u64); 4] = [
    ("large.bin", 6 * SHARD_LEN + 99),
    ("shard.bin", 700_000),
    ("row.bin", 10_000),
    ("config.json", 300),
];

/// A publishes, by reference or a copy, and C has fetched it.
async fn two_with_the_same(copy: bool) -> (Testnet, PathBuf, Published) {
    let net = Testnet::start(4).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(&folder, 1, &FILES).unwrap();
    let (published, _) = if copy {
        publish_copy(net.node(A), &folder, "model").await
    } else {
        publish(net.node(A), &folder, "model").await
    };
    let whole = net.scratch().join("whole");
    fetch(net.node(C), &published.repo, Some(&whole)).await;
    fixture::assert_same(&folder, &whole);
    (net, folder, published)
}

fn hash_of(name: &str, len: u64) -> Hash {
    Hash::of(&fixture::bytes(1, name, len as usize))
}

/// Where a node keeps a file of its own.
fn kept(data: &Path, name: &str, len: u64) -> PathBuf {
    let hash = hash_of(name, len).to_string();
    let found = files(&data.join("files"))
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| *name == *hash));
    found.unwrap_or_else(|| panic!("{name} is kept in a file of its own"))
}

/// Changes one byte the way a disk does: behind everybody's back.
fn rot(path: &Path, offset: u64) {
    let permissions = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fixture::keep_times(path, || fixture::flip(path, offset)).unwrap();
    fs::set_permissions(path, permissions).unwrap();
}

/// Has a node fetch from the rotten one alone, until that one has noticed; sees that no byte that came is wrong.
///
/// C is not there meanwhile, so that nobody else gives anything and nothing is mended.
async fn is_noticed_and_not_served(net: &mut Testnet, manifest: Hash) {
    net.stop(C).await;
    let alone = Ticket::new(manifest, addresses(net.node(A)), None).unwrap();
    let out = net.scratch().join("from-the-rotten");
    let noticed = net.until("the rotten node to notice", async || {
        let damaged = net.node(A).status().await.unwrap().damaged;
        (!damaged.is_empty()).then_some(())
    });
    tokio::select! {
        noticed = noticed => noticed.unwrap(),
        fetched = try_fetch(net.node(D), &alone, Some(&out)) => panic!("a rotten repo was fetched: {fetched:?}"),
    }
    assert!(!out.exists(), "files were handed out of what is not whole");
    for view in net.node(D).library().list().unwrap() {
        assert!(!view.complete, "{view:?}");
    }
    let content = RepoRef::Content(manifest);
    // Whatever of it came is right: all that may be is that something is missing.
    if let Ok(report) = net.node(D).library().verify(&content, &unseen()).await {
        let wrong: Vec<_> = report
            .bad
            .iter()
            .filter(|bad| bad.reason != Reason::Missing)
            .collect();
        assert!(wrong.is_empty(), "wrong bytes arrived: {wrong:?}");
    }
}

fn addresses(node: &Node) -> Vec<String> {
    node.swarm().listeners().iter().map(ToString::to_string).collect()
}

fn changed((name, offset): (&str, u64)) -> (String, Reason, Option<u64>) {
    (name.to_owned(), Reason::Changed, Some(offset))
}

/// What a verification finds: path, reason, offset.
async fn found(node: &Node, published: &Published) -> Vec<(String, Reason, Option<u64>)> {
    let report = verify(node.library(), &published.repo).await;
    report
        .bad
        .into_iter()
        .map(|bad| (bad.path, bad.reason, bad.offset))
        .collect()
}

/// Has what is bad mended with the help of who has it, and sees how many bytes came for it.
async fn mends(net: &mut Testnet, published: &Published, wanted: RangeInclusive<u64>) {
    let _ = net.start_again(C).await;
    fetch(net.node(A), &published.repo, None).await;
    assert_verifies(net.node(A).library(), &published.repo).await;
    let status = net.node(A).status().await.unwrap();
    // A published all of it: whatever came, came for this; by itself or because it was asked to.
    assert!(
        wanted.contains(&status.down_bytes),
        "{} bytes came, {wanted:?} were expected",
        status.down_bytes
    );
    assert_eq!(status.damaged, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_byte_of_a_kept_file_is_never_served_and_is_fetched_again_by_range() {
    let (mut net, _, published) = two_with_the_same(true).await;
    rot(&kept(&net.data(A), "large.bin", FILES[0].1), 4 * SHARD_LEN + 17);
    is_noticed_and_not_served(&mut net, published.manifest).await;
    mends(&mut net, &published, 1..=SHARD_LEN + 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_is_named_by_verify_and_mended_by_range() {
    let (mut net, _, published) = two_with_the_same(true).await;
    let data = net.data(A);
    rot(&kept(&data, "large.bin", FILES[0].1), 4 * SHARD_LEN + 17);
    rot(&kept(&data, "large.bin", FILES[0].1), 6 * SHARD_LEN);
    rot(&kept(&data, "shard.bin", FILES[1].1), 1);
    let wanted = [
        ("large.bin", 4 * SHARD_LEN),
        ("large.bin", 6 * SHARD_LEN),
        ("shard.bin", 0),
    ];
    assert_eq!(found(net.node(A), &published).await, wanted.map(changed));
    assert_eq!(net.node(A).status().await.unwrap().damaged.len(), 2);
    mends(&mut net, &published, 1..=2 * SHARD_LEN + 900_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_was_found_is_mended_without_being_asked() {
    let (net, _, published) = two_with_the_same(true).await;
    rot(&kept(&net.data(A), "large.bin", FILES[0].1), 2 * SHARD_LEN);
    assert_eq!(
        found(net.node(A), &published).await,
        [changed(("large.bin", 2 * SHARD_LEN))]
    );
    net.until("the node to mend itself", async || {
        net.node(A)
            .status()
            .await
            .unwrap()
            .damaged
            .is_empty()
            .then_some(())
    })
    .await
    .unwrap();
    assert_verifies(net.node(A).library(), &published.repo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mending_brings_no_file_that_was_not_wanted() {
    let (net, _, published) = two_with_the_same(true).await;
    let mut some = FetchRequest::new(FetchWhat::Repo(RepoRef::Content(published.manifest)));
    some.include = vec!["shard.bin".into()];
    let fetched = within(
        Duration::from_secs(60),
        "a fetch",
        net.node(D).fetch(some, &unseen()),
    )
    .await;
    assert_eq!(fetched.unwrap().unwrap().bytes, FILES[1].1);
    rot(&kept(&net.data(D), "shard.bin", FILES[1].1), 5);
    let content = RepoRef::Content(published.manifest);
    let report = net.node(D).library().verify(&content, &unseen()).await;
    assert!(!report.unwrap().ok);
    net.until("the node to mend itself", async || {
        let status = net.node(D).status().await.unwrap();
        (status.damaged.is_empty() && net.node(D).jobs().is_empty()).then_some(())
    })
    .await
    .unwrap();
    let received = net.node(D).status().await.unwrap().down_bytes;
    assert_eq!(received, 2 * FILES[1].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_byte_in_the_blob_database_is_never_given_out() {
    let (mut net, _, published) = two_with_the_same(true).await;
    net.stop(A).await;
    let row = fixture::bytes(1, "row.bin", FILES[2].1 as usize);
    let database = net.data(A).join("store/blobs.db");
    let bytes = fs::read(&database).unwrap();
    let wanted = &row[5_000..5_064];
    let places: Vec<usize> = (0..bytes.len() - 64)
        .filter(|at| bytes[*at] == wanted[0] && &bytes[*at..at + 64] == wanted)
        .collect();
    assert!(!places.is_empty(), "the row lies in the database as it is");
    for at in places {
        fixture::flip(&database, at as u64).unwrap();
    }
    net.start_again(A).await.unwrap();
    is_noticed_and_not_served(&mut net, published.manifest).await;
    assert_eq!(found(net.node(A), &published).await, [changed(("row.bin", 0))]);
    mends(&mut net, &published, 1..=20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_published_by_reference_and_edited_is_noticed_and_fetched_again() {
    let (mut net, folder, published) = two_with_the_same(false).await;
    let large = folder.join("large.bin");
    fixture::flip(&large, 2 * SHARD_LEN + 5).unwrap();
    is_noticed_and_not_served(&mut net, published.manifest).await;
    assert_eq!(
        found(net.node(A), &published).await,
        [changed(("large.bin", 2 * SHARD_LEN))]
    );
    mends(&mut net, &published, 1..=FILES[0].1 + 100_000).await;
    // The user's file is the user's: it is as the user left it.
    let edited = fs::read(&large).unwrap();
    assert_ne!(edited, fixture::bytes(1, "large.bin", FILES[0].1 as usize));
    assert_eq!(edited.len() as u64, FILES[0].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_published_by_reference_and_rotten_under_the_same_time_is_never_served() {
    let (mut net, folder, published) = two_with_the_same(false).await;
    rot(&folder.join("large.bin"), 3 * SHARD_LEN);
    rot(&folder.join("shard.bin"), 0);
    is_noticed_and_not_served(&mut net, published.manifest).await;
    assert_eq!(
        found(net.node(A), &published).await,
        [("large.bin", 3 * SHARD_LEN), ("shard.bin", 0)].map(changed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn file_published_by_reference_and_truncated_or_deleted_is_noticed_and_fetched_again() {
    let (mut net, folder, published) = two_with_the_same(false).await;
    fs::File::options()
        .write(true)
        .open(folder.join("large.bin"))
        .unwrap()
        .set_len(3 * SHARD_LEN)
        .unwrap();
    fs::remove_file(folder.join("shard.bin")).unwrap();
    is_noticed_and_not_served(&mut net, published.manifest).await;
    let bad = found(net.node(A), &published).await;
    assert!(
        bad.contains(&("large.bin".to_owned(), Reason::WrongSize, None)),
        "{bad:?}"
    );
    assert!(
        bad.contains(&("shard.bin".to_owned(), Reason::Missing, None)),
        "{bad:?}"
    );
    mends(&mut net, &published, 1..=FILES[0].1 + 900_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spoiled_outboard_gives_no_wrong_byte_and_is_mended() {
    let (mut net, folder, published) = two_with_the_same(true).await;
    let outboard = kept(&net.data(A), "large.bin", FILES[0].1).with_extension("outboard");
    rot(&outboard, 64);
    is_noticed_and_not_served(&mut net, published.manifest).await;
    // The bytes are right: their tree is made anew from them, and nothing has to come.
    mends(&mut net, &published, 0..=0).await;
    // It is served again, whole, by itself.
    net.stop(C).await;
    let out = net.scratch().join("served-again");
    let alone = Ticket::new(published.manifest, addresses(net.node(A)), None).unwrap();
    fetch(net.node(D), &alone, Some(&out)).await;
    fixture::assert_same(&folder, &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn spoiled_outboard_over_right_bytes_is_renewed_by_verify_without_any_peer() {
    let (mut net, folder, published) = two_with_the_same(true).await;
    net.stop(C).await;
    let outboard = kept(&net.data(A), "large.bin", FILES[0].1).with_extension("outboard");
    let right = fs::read(&outboard).unwrap();
    // A pair at the root, between shards, within the first shard, and the very last; then half of it; then nothing.
    for offset in [0, 64, 64 * 5, right.len() as u64 - 1] {
        rot(&outboard, offset);
        assert_verifies(net.node(A).library(), &published.repo).await;
        assert!(
            fs::read(&outboard).unwrap() == right,
            "byte {offset} was not renewed"
        );
    }
    for len in [right.len() as u64 / 2, 0] {
        fs::File::options()
            .write(true)
            .open(&outboard)
            .unwrap()
            .set_len(len)
            .unwrap();
        assert_verifies(net.node(A).library(), &published.repo).await;
        assert!(
            fs::read(&outboard).unwrap() == right,
            "what was cut to {len} bytes was not renewed"
        );
    }
    let out = net.scratch().join("served-again");
    let alone = Ticket::new(published.manifest, addresses(net.node(A)), None).unwrap();
    fetch(net.node(D), &alone, Some(&out)).await;
    fixture::assert_same(&folder, &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotten_file_is_not_handed_out() {
    let (mut net, folder, published) = two_with_the_same(true).await;
    rot(&kept(&net.data(A), "large.bin", FILES[0].1), 5 * SHARD_LEN);
    rot(&kept(&net.data(A), "shard.bin", FILES[1].1), 5);
    let out = net.scratch().join("handed-out");
    // Nobody has the right bytes now: it is better to hand out nothing than a wrong one.
    net.stop(C).await;
    if try_fetch(net.node(A), &published.repo, Some(&out)).await.is_ok() {
        fixture::assert_same(&folder, &out);
    }
    // The node looks for them by itself meanwhile, and does not write that down as something that was asked for.
    assert_eq!(net.node(A).resume_jobs().await, 0);
    for path in if out.exists() { files(&out) } else { Vec::new() } {
        let name = path.strip_prefix(&out).unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(folder.join(name)).unwrap(),
            "{} went out rotten",
            name.display()
        );
    }
    net.start_again(C).await.unwrap();
    fetch(net.node(A), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
}
