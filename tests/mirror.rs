//! A mirror keeps what a publisher releases, by itself, within its quota, and serves it.

use std::fs;
use std::path::{Path, PathBuf};

use node::denials::What;
use node::mirror::{Lack, MirrorView};
use node::names::Mirror;
use node::node::Node;
use node::publish::{PublishRequest, Published};
use protocol::release::teller_key;
use protocol::{Alias, Hash, Kind, RepoId, RepoRef};
use testnet::fixture;
use testnet::nodes::Testnet;

use crate::acts::{assert_verifies, fetch, publish, request, unseen};
use crate::program::{Shoal, text};

const A: usize = 1;
const B: usize = 2;
const C: usize = 3;

/// A dataset or a small model: a configuration of 300 bytes, and weights that differ by the seed.
fn content(folder: &Path, seed: u64, weights: u64) {
    fs::create_dir_all(folder).unwrap();
    fixture::file(&folder.join("config.json"), 1, "config.json", 300).unwrap();
    fixture::file(&folder.join("weights.data"), seed, "weights", weights).unwrap();
}

fn terms(names: &str, quota: Option<u64>) -> Option<Mirror> {
    Some(Mirror {
        names: names.parse().unwrap(),
        quota,
    })
}

/// Has one node follow another, and mirror it.
async fn mirror(of: &Node, by: &Node, names: &str, quota: Option<u64>) {
    let publisher = of.library().publisher();
    by.library()
        .follow(publisher, &Alias::new("fisher").unwrap())
        .unwrap();
    by.keep_up_with(publisher);
    by.set_mirror(publisher, terms(names, quota)).await.unwrap();
}

async fn view(node: &Node) -> MirrorView {
    let mut views = node.mirror_views().await.unwrap();
    assert_eq!(views.len(), 1, "{views:?}");
    views.remove(0)
}

/// Waits until a node's mirror is like this.
async fn until(net: &Testnet, node: usize, what: &str, is: impl Fn(&MirrorView) -> bool) -> MirrorView {
    let mut last = None;
    let looked = async || {
        let view = view(net.node(node)).await;
        let reached = is(&view).then(|| view.clone());
        last = Some(view);
        reached
    };
    let reached = net.until(format!("the mirror to have {what}"), looked).await;
    reached.unwrap_or_else(|error| panic!("{error}: {last:?}"))
}

/// Waits until a node has all of a revision.
async fn has(net: &Testnet, node: usize, published: &Published) {
    let manifest = published.manifest;
    let here = async || is_here(net.node(node), manifest).then_some(());
    let what = format!(
        "node {node} to have release {} of {}",
        published.seq, published.repo
    );
    if let Err(error) = net.until(what, here).await {
        panic!("{error}: {:?}", view(net.node(node)).await);
    }
}

fn is_here(node: &Node, manifest: Hash) -> bool {
    let all = node.library().list().unwrap();
    all.iter()
        .any(|view| view.manifest == manifest && view.complete && view.pinned)
}

async fn has_manifest(node: &Node, manifest: Hash) -> bool {
    node.library().manifest(manifest).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_gets_everything_by_itself_and_serves_it_when_its_publisher_has_gone() {
    let mut net = Testnet::start(4).await.unwrap();
    let folder = |name: &str| net.scratch().join(name);
    content(&folder("model"), 1, 3 << 20);
    // It would run code if it were loaded: who fetches it decides, a mirror has it.
    fs::write(
        folder("model").join("old.pt"),
        b"\x80\x02cos\nsystem\n(S'true'\ntR.",
    )
    .unwrap();
    content(&folder("texts"), 2, 50_000);
    let (model, _) = publish(net.node(A), &folder("model"), "model").await;
    mirror(net.node(A), net.node(B), "*", Some(100 << 20)).await;
    let dataset = PublishRequest {
        kind: Kind::Dataset,
        ..request(&folder("texts"), "texts")
    };
    let (texts, _) = net.node(A).publish(dataset, &unseen()).await.unwrap();
    has(&net, B, &model).await;
    has(&net, B, &texts).await;
    let view = until(&net, B, "both", |view| view.kept == 2).await;
    assert_eq!(
        (view.known, view.older, view.lacking.len()),
        (2, 0, 0),
        "{view:?}"
    );
    let least = model.bytes + texts.bytes - 300;
    assert!((least..least + 4_096).contains(&view.bytes), "{view:?}, {least}");

    let (scratch, repos) = (net.scratch(), [("model", &model.repo), ("texts", &texts.repo)]);
    net.stop(A).await;
    // Who looks for its publisher's releases is told to ask the mirror.
    let (mirror, key) = (net.node(B).swarm().peer_id(), teller_key(model.repo.publisher));
    let tells = async || {
        let mut tellers = net.node(C).swarm().providers(key, 16).await.ok()?;
        while let Some(peer) = tellers.recv().await {
            if peer == mirror {
                return Some(());
            }
        }
        None
    };
    net.until("the mirror to be found as a teller", tells)
        .await
        .unwrap();
    for (name, repo) in repos {
        assert_verifies(net.node(B).library(), repo).await;
        let out = scratch.join(format!("out-{name}"));
        let ask = node::fetch::FetchRequest {
            to: Some(out.clone()),
            allow_code: true,
            ..node::fetch::FetchRequest::new(node::fetch::FetchWhat::Repo(RepoRef::Id(repo.clone())))
        };
        net.node(C).fetch(ask, &unseen()).await.unwrap();
        fixture::assert_same(&scratch.join(name), &out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_goes_on_with_the_key_that_its_publisher_goes_on_with() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    content(&folder, 1, 40_000);
    let (first, _) = publish(net.node(A), &folder, "model").await;
    mirror(net.node(A), net.node(B), "*", Some(100_000)).await;
    has(&net, B, &first).await;
    let moved = net.node(A).rotate(None).await.unwrap();
    let seen = until(&net, B, "the new key", |view| view.publisher == moved.to).await;
    assert_eq!(seen.mirror.quota, Some(100_000));
    content(&folder, 2, 40_000);
    let (second, _) = publish(net.node(A), &folder, "model").await;
    assert_eq!(second.repo.publisher, moved.to);
    has(&net, B, &second).await;
    // What was released under the old key counts, and is what goes when the quota needs it.
    let both = until(&net, B, "both revisions", |view| view.older == 1).await;
    assert_eq!((both.known, both.kept), (1, 1), "{both:?}");
    assert!(both.bytes > 80_000, "{both:?}");
    content(&folder, 3, 40_000);
    let (third, _) = publish(net.node(A), &folder, "model").await;
    has(&net, B, &third).await;
    assert!(!is_here(net.node(B), first.manifest) && is_here(net.node(B), second.manifest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_not_mirrored_until_it_is_allowed() {
    let net = Testnet::start(3).await.unwrap();
    let (a, b) = (net.node(A), net.node(B));
    let folder = net.scratch().join("model");
    content(&folder, 1, 40_000);
    let (model, _) = publish(a, &folder, "model").await;
    let what = What::Repo(RepoRef::Id(model.repo.clone()));
    b.library().deny(&what, None, None).await.unwrap();
    mirror(a, b, "*", None).await;
    content(&net.scratch().join("other"), 2, 40_000);
    let (other, _) = publish(a, &net.scratch().join("other"), "other").await;
    has(&net, B, &other).await;
    assert!(!is_here(b, model.manifest));
    b.library().allow(&what).await.unwrap();
    has(&net, B, &model).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_revisions_go_only_when_the_quota_needs_it_and_never_what_the_user_pinned() {
    const QUOTA: u64 = 100_000;
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    let release = async |seed: u64| {
        content(&folder, seed, 40_000);
        publish(net.node(A), &folder, "model").await.0
    };
    let b = net.node(B);
    let pin = async |published: &Published| {
        let what = RepoRef::Content(published.manifest);
        b.library().pin(&what).await.unwrap();
    };
    let first = release(1).await;
    mirror(net.node(A), b, "*", Some(QUOTA)).await;
    has(&net, B, &first).await;
    let second = release(2).await;
    has(&net, B, &second).await;
    let both = view(b).await;
    assert_eq!((both.kept, both.older), (1, 1), "both fit: {both:?}");
    assert!(has_manifest(b, first.manifest).await);

    let third = release(3).await;
    has(&net, B, &third).await;
    assert!(!has_manifest(b, first.manifest).await, "the oldest made room");
    assert!(has_manifest(b, second.manifest).await, "and no other");
    let now = view(b).await;
    assert!(now.older == 1 && now.bytes <= QUOTA, "{now:?}");

    // What the user pins is the user's: it neither counts nor goes.
    pin(&second).await;
    assert_eq!(view(b).await.older, 0);
    let fourth = release(4).await;
    has(&net, B, &fourth).await;
    assert!(has_manifest(b, third.manifest).await, "there was room");
    let fifth = release(5).await;
    has(&net, B, &fifth).await;
    assert!(!has_manifest(b, third.manifest).await);
    for kept in [&second, &fourth, &fifth] {
        assert!(has_manifest(b, kept.manifest).await, "release {}", kept.seq);
    }
    b.library().collect().await.unwrap();
    assert!(has_manifest(b, second.manifest).await);

    // What does not fit is shown, and nothing goes for it.
    content(&net.scratch().join("huge"), 9, 200_000);
    let (huge, _) = publish(net.node(A), &net.scratch().join("huge"), "huge").await;
    let full = until(&net, B, "seen what does not fit", |view| {
        view.lacking
            .iter()
            .any(|lacking| matches!(lacking.lack, Lack::TooLarge { .. }))
    })
    .await;
    assert_eq!((full.known, full.kept, full.older), (2, 1, 1), "{full:?}");
    let Lack::TooLarge { need, free } = full.lacking[0].lack else {
        panic!("{full:?}")
    };
    assert!(need > 200_000 && free < 60_000, "{need}, {free}");
    assert_eq!(full.lacking[0].repo, huge.repo);
    assert!(!is_here(b, huge.manifest));

    // More room, and it comes.
    b.set_mirror(huge.repo.publisher, terms("*", None)).await.unwrap();
    has(&net, B, &huge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_goes_on_after_a_restart_and_what_it_kept_stays_when_it_ends() {
    let mut net = Testnet::start(3).await.unwrap();
    let folder = |name: &str| -> PathBuf { net.scratch().join(name) };
    for (name, seed) in [("llama-1", 1), ("qwen-1", 2), ("llama-2", 3)] {
        content(&folder(name), seed, 40_000);
    }
    let (first, _) = publish(net.node(A), &folder("llama-1"), "llama-1").await;
    let (other, _) = publish(net.node(A), &folder("qwen-1"), "qwen-1").await;
    let later = folder("llama-2");
    mirror(net.node(A), net.node(B), "llama-*", Some(1 << 20)).await;
    has(&net, B, &first).await;
    net.stop(B).await;
    let (second, _) = publish(net.node(A), &later, "llama-2").await;
    net.start_again(B).await.unwrap();
    has(&net, B, &second).await;
    let view = until(&net, B, "both", |view| view.kept == 2).await;
    assert!(view.known == 2 && view.bytes > 80_000, "{view:?}");
    assert!(!is_here(net.node(B), other.manifest), "its name does not match");

    let (b, publisher) = (net.node(B), first.repo.publisher);
    b.set_mirror(publisher, None).await.unwrap();
    assert_eq!(b.mirror_views().await.unwrap(), []);
    b.library().collect().await.unwrap();
    for repo in [&first.repo, &second.repo] {
        assert_verifies(b.library(), repo).await;
    }
    // It is the user's now, and does not count, also when it is mirrored again within no room at all.
    b.set_mirror(publisher, terms("llama-*", Some(1))).await.unwrap();
    let again = self::view(b).await;
    assert_eq!(
        (again.kept, again.bytes, again.lacking.len()),
        (2, 0, 0),
        "{again:?}"
    );
    b.library().unfollow(publisher).unwrap();
    assert_eq!(b.mirror_views().await.unwrap(), []);
    assert!(is_here(b, second.manifest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_user_lets_go_is_not_fetched_again_until_the_user_wants_it() {
    let net = Testnet::start(3).await.unwrap();
    let folder = |name: &str| -> PathBuf { net.scratch().join(name) };
    content(&folder("one"), 1, 40_000);
    let (one, _) = publish(net.node(A), &folder("one"), "one").await;
    let b = net.node(B);
    mirror(net.node(A), b, "*", None).await;
    has(&net, B, &one).await;
    b.forget(&RepoRef::Id(one.repo.clone())).await.unwrap();
    content(&folder("two"), 2, 40_000);
    let (two, _) = publish(net.node(A), &folder("two"), "two").await;
    has(&net, B, &two).await;
    let now = view(b).await;
    let lacking = |repo: &RepoId| now.lacking.iter().find(|lacking| lacking.repo == *repo);
    assert_eq!(lacking(&one.repo).unwrap().lack, Lack::LetGo, "{now:?}");
    assert!(!is_here(b, one.manifest));
    let before = now.bytes;
    fetch(b, &one.repo, None).await;
    let now = view(b).await;
    assert_eq!((now.kept, now.bytes), (2, before), "it is the user's: {now:?}");
}

#[test]
fn command_line_sets_shows_and_ends_a_mirror() {
    let shoal = Shoal::new();
    let key = shoal.json(&["id"])["publisher"].as_str().unwrap().to_owned();
    let follow = |rest: &[&str]| shoal.json(&[&["follow", &key, "--as", "me"], rest].concat());
    let mirror = || shoal.json(&["following"])[0]["mirror"].clone();
    assert!(mirror().is_null());
    follow(&[]);
    assert!(mirror().is_null());
    let said = follow(&["--mirror", "llama-*", "--quota", "500GB"]);
    assert_eq!(said["mirror"]["quota"], 500_u64 << 30, "{said}");
    follow(&[]);
    follow(&["--mirror", "llama-*"]);
    let shown = mirror();
    assert_eq!(
        (&shown["names"], &shown["quota"]),
        (&"llama-*".into(), &(500_u64 << 30).into())
    );
    let said = shoal.run(&["following"]);
    assert!(
        said.stdout
            .contains("me is mirrored (llama-*): 0 of 0 repos, 0 B of 500.0 GiB"),
        "{said:?}"
    );
    follow(&["--mirror", "--quota", "none"]);
    assert_eq!(mirror()["names"], "*");
    assert!(mirror()["quota"].is_null());
    let alone = shoal.run(&["follow", &key, "--as", "me", "--mirror"]);
    assert!(alone.stderr.contains("shoal up"), "{alone:?}");

    // A list that is not what was written is refused with words, and nothing else stops.
    fs::write(shoal.data().join("mirrored"), "nonsense\n").unwrap();
    let said = shoal.run(&["following"]);
    assert!(
        said.status.success() && said.stdout.contains("mirrored is damaged"),
        "{said:?}"
    );
    let folder = shoal.folder("model");
    content(&folder, 1, 5_000);
    let published = shoal.publish(Path::new(text(&folder)), &[]);
    assert!(
        shoal
            .run(&["pin", published["repo"].as_str().unwrap()])
            .status
            .success()
    );
    fs::remove_file(shoal.data().join("mirrored")).unwrap();
    follow(&["--no-mirror"]);
    assert!(mirror().is_null());
    let said = shoal.fails(2, &["follow", &key, "--as", "me", "--quota", "5G"]);
    assert!(said.stderr.contains("--mirror"), "{said:?}");
}
