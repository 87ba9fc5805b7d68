//! Publish on one node, find and fetch on another, verify anywhere: the main promise, on whole nodes that talk over loopback.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use node::config::Config;
use node::fetch::{FetchRequest, FetchWhat};
use node::library::Library;
use node::node::Node;
use node::publish::PublishRequest;
use node::verify;
use protocol::{Proof, RepoRef, Ticket};
use tempfile::TempDir;
use testnet::fixture;
use testnet::nodes::Testnet;

use crate::acts::{age, assert_verifies, bytes_in, fetch, publish, publish_copy, request, try_fetch, unseen};

/// Everybody's first peer: it publishes and fetches nothing.
const B: usize = 0;
/// Publishes.
const A: usize = 1;
/// Fetches. It knows B alone.
const C: usize = 2;

/// A folder with all that a folder may hold: every size that matters, equal files, empty ones, folders in folders, names in all scripts.
fn varied(folder: &Path) {
    fixture::folder(folder, 7, &fixture::telling_sizes()).unwrap();
    let more = [
        ("deep/er/and/deeper/x.bin", 20_000),
        ("deep/empty", 0),
        ("名前/модель ü.txt", 333),
        ("file with spaces.md", 50),
    ];
    fixture::folder(folder, 8, &more).unwrap();
    // Equal files of every kind of keeping: a row, one shard, several.
    for (name, len) in [("small", 5_000), ("shard", 300_000), ("large", 2_500_000)] {
        for copy in ["a", "b", "sub/c"] {
            fixture::file(&folder.join(format!("equal/{copy}-{name}")), 9, name, len).unwrap();
        }
    }
}

fn varied_in(net: &Testnet, name: &str) -> PathBuf {
    let folder = net.scratch().join(name);
    varied(&folder);
    folder
}

async fn single_node() -> (TempDir, Node) {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(Config::loopback(folder.path().join("data")))
        .await
        .unwrap();
    (folder, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_publishes_another_finds_by_name_through_a_third_and_gets_byte_for_byte() {
    let mut net = Testnet::start(3).await.unwrap();
    let folder = varied_in(&net, "varied");
    let (published, _) = publish(net.node(A), &folder, "varied").await;
    assert_eq!(published.manifest, fixture::manifest(&folder).unwrap().hash());

    let out = net.scratch().join("out");
    let fetched = fetch(net.node(C), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    assert_eq!(
        (fetched.manifest, fetched.files, fetched.bytes),
        (published.manifest, published.files, published.bytes)
    );
    assert_eq!(fetched.repo.as_ref(), Some(&published.repo));
    let ways = fetched.handed_out;
    assert_eq!(
        ways.reflink + ways.hard_link + ways.copy + ways.kept,
        fetched.files
    );
    // Equal files came once: 5,000, 300,000 and 2,500,000 bytes were needed three times each.
    assert!(
        fetched.fetched_bytes <= published.bytes - 2 * 2_805_000,
        "{fetched:?}"
    );
    let from: Vec<&str> = fetched.peers.iter().map(|share| &*share.peer).collect();
    assert_eq!(from, [net.node(A).library().peer_id().to_string()]);
    assert_eq!(
        net.node(B).library().list().unwrap(),
        [],
        "the one in the middle keeps nothing"
    );

    // The proof that the second node writes is as good as the publisher's, and needs no node.
    let proof = net
        .node(C)
        .library()
        .proof(&RepoRef::Id(published.repo.clone()), &unseen())
        .await
        .unwrap();
    net.stop_all().await;
    let proof = Proof::decode(&proof.encode()).unwrap();
    let report = verify::folder(&out, &proof, &unseen()).unwrap();
    assert!(report.ok, "{:?}", report.bad);
    assert_eq!(
        (report.files, report.signed_by),
        (published.files, Some(published.repo))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn same_folder_has_the_same_manifest_on_every_machine_and_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let (model, copy) = (folder.path().join("model"), folder.path().join("elsewhere/copy"));
    varied(&model);
    varied(&copy);
    age(&model);
    let one = Library::open(&folder.path().join("one")).await.unwrap();
    let other = Library::open(&folder.path().join("other")).await.unwrap();
    let first = one.publish(request(&model, "model"), &unseen()).await.unwrap();
    assert_eq!(
        first.read_bytes, first.bytes,
        "every byte is read once, equal files too"
    );
    let elsewhere = other
        .publish(request(&copy, "another-name"), &unseen())
        .await
        .unwrap();
    assert_eq!(
        (elsewhere.manifest, elsewhere.files),
        (first.manifest, first.files)
    );
    assert_ne!(elsewhere.repo.publisher, first.repo.publisher);

    let again = one.publish(request(&model, "model"), &unseen()).await.unwrap();
    assert_eq!(
        (again.manifest, again.seq, again.read_bytes),
        (first.manifest, first.seq, 0)
    );
    // Still so after a restart.
    one.close().await;
    let one = Library::open(&folder.path().join("one")).await.unwrap();
    let again = one.publish(request(&model, "model"), &unseen()).await.unwrap();
    assert_eq!(
        (again.manifest, again.seq, again.read_bytes),
        (first.manifest, first.seq, 0)
    );
    // One file changes: it alone is read.
    fixture::file(&model.join("deep/er/and/deeper/x.bin"), 99, "other", 20_001).unwrap();
    let changed = one.publish(request(&model, "model"), &unseen()).await.unwrap();
    assert_eq!((changed.seq, changed.read_bytes), (first.seq + 1, 20_001));
    assert_ne!(changed.manifest, first.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn next_release_of_a_changed_folder_is_found_by_who_had_the_one_before() {
    let net = Testnet::start(3).await.unwrap();
    let folder = varied_in(&net, "model");
    let (first, _) = publish(net.node(A), &folder, "model").await;
    let out = net.scratch().join("first");
    fetch(net.node(C), &first.repo, Some(&out)).await;

    fs::remove_file(folder.join("deep/empty")).unwrap();
    fixture::file(&folder.join("new.bin"), 1, "new", 3_000_000).unwrap();
    let (second, _) = publish(net.node(A), &folder, "model").await;
    assert_eq!((second.seq, &second.repo), (first.seq + 1, &first.repo));
    let newer = net.scratch().join("second");
    let fetched = fetch(net.node(C), &second.repo, Some(&newer)).await;
    assert_eq!(fetched.manifest, second.manifest);
    fixture::assert_same(&folder, &newer);
    // What both have in common was not fetched again.
    assert!(fetched.fetched_bytes < 3_200_000, "{fetched:?}");
    assert!(
        !out.join("new.bin").exists() && out.join("deep/empty").exists(),
        "what was handed out before stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn single_file_is_a_repo_too() {
    let net = Testnet::start(3).await.unwrap();
    let file = net.scratch().join("weights.safetensors");
    fixture::file(&file, 3, "weights.safetensors", 1_500_000).unwrap();
    let (published, _) = publish(net.node(A), &file, "weights").await;
    assert_eq!((published.files, published.bytes), (1, 1_500_000));
    let out = net.scratch().join("out");
    fetch(net.node(C), &published.repo, Some(&out)).await;
    assert_eq!(
        fs::read(out.join("weights.safetensors")).unwrap(),
        fs::read(&file).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_by_reference_keeps_one_copy_and_publishing_a_copy_needs_the_folder_no_more() {
    let net = Testnet::start(3).await.unwrap();
    let (lent, given) = (varied_in(&net, "lent"), net.scratch().join("given"));
    fixture::folder(
        &given,
        4,
        &[("a.bin", 3_000_000), ("b.bin", 200_000), ("c.txt", 77)],
    )
    .unwrap();
    let before = bytes_in(&net.data(A).join("files"));
    let (published, _) = publish(net.node(A), &lent, "lent").await;
    let kept = bytes_in(&net.data(A).join("files")) - before;
    assert!(
        kept < published.bytes / 50,
        "{kept} bytes of {} were stored again",
        published.bytes
    );

    let as_given = fixture::manifest(&given).unwrap();
    let (published, _) = publish_copy(net.node(A), &given, "given").await;
    fs::remove_dir_all(&given).unwrap();
    assert_verifies(net.node(A).library(), &published.repo).await;
    let out = net.scratch().join("out");
    fetch(net.node(C), &published.repo, Some(&out)).await;
    assert_eq!(fixture::manifest(&out).unwrap(), as_given);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_include_and_exclude_choose_is_fetched() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    let files = [
        ("model.safetensors", 3_000_000),
        ("model.onnx", 2_900_000),
        ("sub/extra.safetensors", 1_200_000),
        ("config.json", 600),
    ];
    fixture::folder(&folder, 5, &files).unwrap();
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let out = net.scratch().join("out");
    let what = FetchWhat::Repo(RepoRef::Id(published.repo.clone()));
    let some = FetchRequest {
        to: Some(out.clone()),
        include: vec!["**/*.safetensors".into(), "*.json".into()],
        exclude: vec!["sub/**".into()],
        ..FetchRequest::new(what.clone())
    };
    let fetched = net.node(C).fetch(some, &unseen()).await.unwrap();
    assert_eq!(
        fixture::files(&out).unwrap(),
        ["config.json", "model.safetensors"]
    );
    assert!(
        (3_000_600..3_100_000).contains(&fetched.fetched_bytes),
        "{fetched:?}"
    );
    let view = &net.node(C).library().list().unwrap()[0];
    assert!(!view.complete, "{view:?}");
    // The rest later: only the rest.
    let rest = fetch(net.node(C), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    assert!((4_100_000..4_200_000).contains(&rest.fetched_bytes), "{rest:?}");
    assert!(net.node(C).library().list().unwrap()[0].complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn repo_is_fetched_by_hash_by_alias_and_by_name() {
    let net = Testnet::start(3).await.unwrap();
    let folder = varied_in(&net, "model");
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let by_hash = net.scratch().join("by-hash");
    let fetched = fetch(
        net.node(C),
        &*format!("blake3/{}", published.manifest),
        Some(&by_hash),
    )
    .await;
    assert_eq!((fetched.repo, fetched.manifest), (None, published.manifest));
    fixture::assert_same(&folder, &by_hash);

    net.node(C)
        .library()
        .follow(published.repo.publisher, &"friend".parse().unwrap())
        .unwrap();
    let by_alias = net.scratch().join("by-alias");
    let fetched = fetch(net.node(C), "friend/model", Some(&by_alias)).await;
    assert_eq!((fetched.repo, fetched.fetched_bytes), (Some(published.repo), 0));
    fixture::assert_same(&folder, &by_alias);
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_alone_is_enough() {
    let ((folder, a), (_kept, c)) = (single_node().await, single_node().await);
    let model = folder.path().join("model");
    varied(&model);
    let (published, ticket) = publish(&a, &model, "model").await;
    let out = folder.path().join("out");
    // As text, the way it is passed on.
    let ticket: Ticket = ticket.to_string().parse().unwrap();
    let fetched = fetch(&c, &ticket, Some(&out)).await;
    fixture::assert_same(&model, &out);
    assert_eq!(fetched.manifest, published.manifest);
    a.shutdown().await;
    c.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_providers_share_the_work() {
    let mut net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(
        &folder,
        6,
        &[
            ("one.bin", 64 << 20),
            ("two.bin", 48 << 20),
            ("three.bin", 48 << 20),
        ],
    )
    .unwrap();
    let (published, _) = publish(net.node(A), &folder, "model").await;
    fetch(net.node(C), &published.repo, None).await;
    let d = net.add().await.unwrap();
    let out = net.scratch().join("out");
    let fetched = fetch(net.node(d), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    let gave: BTreeSet<&str> = fetched
        .peers
        .iter()
        .filter(|share| share.bytes > 0)
        .map(|share| &*share.peer)
        .collect();
    let providers = [A, C].map(|index| net.node(index).library().peer_id().to_string());
    assert_eq!(
        gave,
        providers.iter().map(String::as_str).collect(),
        "{:?}",
        fetched.peers
    );
    let sum: u64 = fetched.peers.iter().map(|share| share.bytes).sum();
    assert!(
        sum < published.bytes * 11 / 10,
        "{sum} bytes came for {}",
        published.bytes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fetched_serves_when_the_publisher_is_gone() {
    let mut net = Testnet::start(3).await.unwrap();
    let folder = varied_in(&net, "model");
    let (published, _) = publish(net.node(A), &folder, "model").await;
    fetch(net.node(C), &published.repo, None).await;
    net.stop(A).await;
    let d = net.add().await.unwrap();
    let out = net.scratch().join("out");
    let fetched = fetch(net.node(d), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    assert_eq!(fetched.peers[0].peer, net.node(C).library().peer_id().to_string());
    // And nothing is fetched twice.
    let again = fetch(net.node(d), &published.repo, None).await;
    assert_eq!(again.fetched_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_small_files_arrive_whole() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("many");
    fixture::many(&folder, 11, 3_000, 700).unwrap();
    let (published, _) = publish(net.node(A), &folder, "many").await;
    let out = net.scratch().join("out");
    fetch(net.node(C), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_content_is_left_out_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let droppings = [
        ".git/config",
        ".cache/x/y",
        "sub/__pycache__/a.pyc",
        "notes.md~",
        ".notes.md.swp",
    ];
    fixture::folder(&model, 1, &[("notes.md", 100), ("sub/weights.bin", 40_000)]).unwrap();
    fixture::folder(&model, 2, &droppings.map(|name| (name, 10))).unwrap();
    fixture::file(&folder.path().join("secret"), 3, "secret", 10).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), model.join("outside")).unwrap();
    std::os::unix::fs::symlink("notes.md", model.join("inside.md")).unwrap();
    let library = Library::open(&folder.path().join("data")).await.unwrap();
    let published = library
        .publish(request(&model, "model"), &unseen())
        .await
        .unwrap();
    let shown = library.show(&RepoRef::Id(published.repo)).await.unwrap();
    let paths: Vec<&str> = shown.entries.iter().map(|entry| &*entry.path).collect();
    assert_eq!(paths, ["inside.md", "notes.md", "sub/weights.bin"]);
    for name in [
        ".git",
        ".cache",
        "__pycache__",
        "notes.md~",
        ".notes.md.swp",
        "outside",
    ] {
        assert!(
            published.left_out.iter().any(|line| line.contains(name)),
            "{name} is not in {:?}",
            published.left_out
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_refused_by_name_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(&folder.path().join("data")).await.unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let reserved = folder.path().join("reserved");
    fixture::folder(&reserved, 1, &[("fine.txt", 1), ("sub/CON.txt", 1)]).unwrap();
    let twins = folder.path().join("twins");
    fixture::folder(&twins, 1, &[("README.md", 1), ("readme.md", 2)]).unwrap();
    for (path, named) in [
        (&empty, "empty"),
        (&reserved, "CON.txt"),
        (&twins, "twins"),
        (&folder.path().join("absent"), "absent"),
    ] {
        let refused = library
            .publish(request(path, "name"), &unseen())
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(named), "{refused}");
    }
    assert_eq!(library.list().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_fetch_ends_with_a_reason_and_hands_out_nothing() {
    let net = Testnet::start(2).await.unwrap();
    let publisher = net.node(A).library().publisher();
    let out = net.scratch().join("out");
    let unknown = try_fetch(net.node(A), &*format!("{publisher}/unheard-of"), Some(&out))
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("unheard-of") || format!("{unknown:?}").contains("unheard-of"),
        "{unknown}"
    );
    let unmet = try_fetch(net.node(A), "nobody/model", Some(&out))
        .await
        .unwrap_err();
    assert!(unmet.to_string().contains("nobody"), "{unmet}");
    assert!(!out.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_and_other_names_of_one_content_live_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fixture::toy_model(&model, 1).unwrap();
    let library = Library::open(&folder.path().join("data")).await.unwrap();
    let one = library.publish(request(&model, "one"), &unseen()).await.unwrap();
    let dataset = PublishRequest {
        kind: protocol::Kind::Dataset,
        ..request(&model, "two")
    };
    let two = library.publish(dataset, &unseen()).await.unwrap();
    assert_eq!((one.manifest, two.kind), (two.manifest, protocol::Kind::Dataset));
    let mut names: Vec<String> = library
        .list()
        .unwrap()
        .iter()
        .map(|view| view.repo.as_ref().unwrap().name.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["one", "two"]);
}
