//! Keys that are rotated, stolen, recovered and revoked, as those see it who follow their publisher.

use std::fs;
use std::path::{Path, PathBuf};

use node::identity::{IdentityError, Moved, Revoke};
use node::library::FollowView;
use node::node::Node;
use node::publish::PublishError;
use protocol::{Alias, Publisher, Reason, RepoRef};
use testnet::fixture;
use testnet::nodes::Testnet;

use crate::acts::{fetch, publish, request, try_fetch, unseen};
use crate::program::{Shoal, text};

const A: usize = 1;
const B: usize = 2;
const C: usize = 3;

fn model(folder: &Path, seed: u64) {
    fixture::folder(folder, seed, &[("config.json", 300), ("weights.bin", 40_000)]).unwrap();
}

fn alias() -> Alias {
    Alias::new("fisher").unwrap()
}

fn named(name: &str) -> RepoRef {
    format!("fisher/{name}").parse().unwrap()
}

/// Follows, as the control API does.
fn follow(node: &Node, publisher: Publisher) {
    node.discovery().follow(publisher, &alias()).unwrap();
    node.keep_up_with(publisher);
}

fn followed(node: &Node) -> FollowView {
    node.library().follow_views().remove(0)
}

/// Waits until a node follows this key under the alias.
async fn follows(net: &Testnet, node: usize, key: Publisher) {
    let what = format!("node {node} to follow {key}");
    let moved = async || (followed(net.node(node)).publisher == key).then_some(());
    net.until(&what, moved).await.unwrap();
}

/// Waits until a node knows that the key that it follows was revoked.
async fn sees_revoked(net: &Testnet, node: usize) {
    let seen = async || followed(net.node(node)).revoked;
    net.until("the revocation", seen).await.unwrap();
}

/// Waits until a name leads to this number on a node, without asking for it.
async fn has_release(net: &Testnet, node: usize, name: &str, key: Publisher, seq: u64) {
    let what = format!("release {seq} of {name} on node {node}");
    let came = async || {
        let release = net.node(node).library().release_of(&named(name)).ok()??;
        let release = release.release();
        (release.publisher == key && release.seq == seq).then_some(())
    };
    net.until(&what, came).await.unwrap();
}

fn recovery_of(net: &Testnet, node: usize) -> PathBuf {
    net.data(node).join("recovery.key")
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_key_is_followed_by_itself_with_its_names_and_its_next_release() {
    let mut net = Testnet::start(4).await.unwrap();
    let folder = net.scratch().join("model");
    model(&folder, 1);
    let (first, _) = publish(net.node(A), &folder, "model").await;
    assert_eq!(first.recovery, Some(recovery_of(&net, A)));
    follow(net.node(C), first.repo.publisher);
    has_release(&net, C, "model", first.repo.publisher, 1).await;

    let Moved {
        from,
        to,
        recovery,
        names,
        left_out,
    } = net.node(A).rotate(None).await.unwrap();
    assert_eq!((from, recovery), (first.repo.publisher, true));
    assert_eq!((names, left_out), (vec!["model".to_owned()], Vec::new()));
    assert_eq!(net.node(A).library().publisher(), to);
    follows(&net, C, to).await;
    has_release(&net, C, "model", to, 1).await;
    assert_eq!(followed(net.node(C)).followed_as, Some(from));
    // The old name leads there too, and lists show the repo once.
    let old = RepoRef::Id(first.repo.clone());
    let here = net.node(C).library().release_of(&old).unwrap().unwrap();
    assert_eq!(here.release().publisher, to);
    assert_eq!(net.node(C).library().list().unwrap().len(), 1);
    assert_eq!(net.node(A).library().list().unwrap().len(), 1);

    // What it publishes from now on comes without being asked for; both survive a restart.
    model(&folder, 2);
    let (second, _) = publish(net.node(A), &folder, "model").await;
    assert_eq!(
        (second.repo.publisher, second.seq, second.recovery),
        (to, 2, None)
    );
    has_release(&net, C, "model", to, 2).await;
    net.restart(A).await.unwrap();
    net.restart(C).await.unwrap();
    assert_eq!(net.node(A).library().publisher(), to);
    assert_eq!(followed(net.node(C)).publisher, to);
    let fetched = fetch(net.node(C), &named("model"), None).await;
    assert_eq!(fetched.manifest, second.manifest);
    // Who has only the old name, from a friend say, gets there too.
    let fetched = fetch(net.node(B), &first.repo, None).await;
    assert_eq!(fetched.manifest, second.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn thief_who_rotates_is_beaten_by_the_recovery_key_and_a_revocation_beats_both() {
    let mut net = Testnet::start(4).await.unwrap();
    let folder = net.scratch().join("model");
    model(&folder, 1);
    let (first, _) = publish(net.node(A), &folder, "model").await;
    follow(net.node(C), first.repo.publisher);
    has_release(&net, C, "model", first.repo.publisher, 1).await;

    // B gets hold of the key, but not of the recovery key.
    net.stop(B).await;
    fs::copy(
        net.data(A).join("publisher.key"),
        net.data(B).join("publisher.key"),
    )
    .unwrap();
    net.start_again(B).await.unwrap();
    net.meet().await.unwrap();
    let stolen = net.node(B).rotate(None).await.unwrap();
    assert_eq!(stolen.from, first.repo.publisher);
    follows(&net, C, stolen.to).await;
    // Whose key it was notices at the next release.
    let taken = async || {
        let publisher = net.node(A).library().publisher();
        (publisher == stolen.to).then_some(())
    };
    net.until("the victim to hear of it", taken).await.unwrap();
    let refused = net.node(A).publish(request(&folder, "model"), &unseen()).await;
    assert!(
        matches!(&refused, Err(PublishError::Identity(IdentityError::Taken { to, .. })) if *to == stolen.to),
        "{refused:?}"
    );

    let recovered = net.node(A).recover(None, recovery_of(&net, A)).await.unwrap();
    assert_eq!(recovered.from, first.repo.publisher);
    follows(&net, C, recovered.to).await;
    has_release(&net, C, "model", recovered.to, 1).await;
    let heard = async || (net.node(B).library().publisher() == recovered.to).then_some(());
    net.until("the thief to hear of it", heard).await.unwrap();
    // What the thief publishes goes under no name that anybody here follows.
    let evil = net.scratch().join("evil");
    model(&evil, 66);
    let refused = net.node(B).publish(request(&evil, "model"), &unseen()).await;
    assert!(refused.is_err(), "the thief's node follows the recovery too");
    model(&folder, 2);
    publish(net.node(A), &folder, "model").await;
    has_release(&net, C, "model", recovered.to, 2).await;

    // The old key is revoked: it stays where it went on. Then the new one as well: that is the end.
    let revoke = |key| Revoke {
        key: Some(key),
        reason: Reason::Compromised,
        recovery: Some(recovery_of(&net, A)),
    };
    let revoked = net.node(A).revoke(revoke(first.repo.publisher)).await.unwrap();
    assert_eq!(revoked.goes_on_as, Some(recovered.to));
    let revoked = net.node(A).revoke(revoke(recovered.to)).await.unwrap();
    assert_eq!(revoked.goes_on_as, None);
    sees_revoked(&net, C).await;
    let refused = net.node(A).publish(request(&folder, "model"), &unseen()).await;
    assert!(
        matches!(
            &refused,
            Err(PublishError::Identity(IdentityError::Revoked { .. }))
        ),
        "{refused:?}"
    );
    net.restart(C).await.unwrap();
    assert_eq!(followed(net.node(C)).revoked.as_deref(), Some("compromised"));
    let refused = try_fetch(net.node(C), &named("model"), None).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    let listed = net.node(C).library().list().unwrap();
    assert_eq!(listed[0].revoked.as_deref(), Some("compromised"));
    let hits = net.node(C).discovery().search(&Default::default()).unwrap().hits;
    let ours = hits
        .iter()
        .find(|hit| hit.repo.publisher == recovered.to)
        .unwrap();
    assert_eq!(ours.revoked.as_deref(), Some("compromised"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_learns_all_from_a_peer() {
    let mut net = Testnet::start(4).await.unwrap();
    let folder = net.scratch().join("model");
    model(&folder, 1);
    let (first, _) = publish(net.node(A), &folder, "model").await;
    follow(net.node(B), first.repo.publisher);
    has_release(&net, B, "model", first.repo.publisher, 1).await;
    let moved = net.node(A).rotate(None).await.unwrap();
    let revoke = Revoke {
        key: Some(moved.from),
        reason: Reason::Superseded,
        recovery: Some(recovery_of(&net, A)),
    };
    net.node(A).revoke(revoke).await.unwrap();
    has_release(&net, B, "model", moved.to, 1).await;
    let heard = async || {
        let standing = net.node(B).library().standing_of(moved.from);
        standing.step(moved.from)?.revoked
    };
    net.until("the revocation", heard).await.unwrap();
    // The publisher is gone. Only B is left that heard of it, and is asked by one who knows the old key from a book.
    net.stop(A).await;
    net.stop(C).await;
    net.restart(B).await.unwrap();
    let late = net.add().await.unwrap();
    net.meet().await.unwrap();
    let address = net.node(B).listeners().remove(0);
    net.node(late).swarm().dial(address).await.unwrap();
    follow(net.node(late), first.repo.publisher);
    follows(&net, late, moved.to).await;
    has_release(&net, late, "model", moved.to, 1).await;
    let standing = net.node(late).library().standing_of(moved.from);
    assert!(standing.step(moved.from).unwrap().revoked.is_some());
    assert!(standing.follows(moved.to));
    let recovery = standing.recovery;
    assert!(recovery.is_some());
}

#[test]
fn keys_are_changed_from_the_command_line_only_by_who_means_it() {
    let (shoal, scratch) = (Shoal::new(), tempfile::tempdir().unwrap());
    let folder = scratch.path().join("model");
    model(&folder, 1);
    let said = shoal.run(&["publish", text(&folder), "--name", "model"]);
    assert!(
        said.stderr.contains("recovery.key") && said.stderr.contains("offline"),
        "{said:?}"
    );
    let recovery = scratch.path().join("recovery.key");
    fs::rename(shoal.data().join("recovery.key"), &recovery).unwrap();
    let before = shoal.json(&["id"]);
    let first = before["publisher"].as_str().unwrap().to_owned();
    assert!(before["recovery"].is_string() && before["recovery_file"].is_null());

    let refused = shoal.run(&["id", "rotate"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    let moved = shoal.json(&["id", "rotate", "--recovery", text(&recovery), "--yes"]);
    assert_eq!(
        (&moved["from"], &moved["recovery"], &moved["names"][0]),
        (&first.as_str().into(), &true.into(), &"model".into())
    );
    let second = moved["to"].as_str().unwrap().to_owned();
    assert_eq!(shoal.json(&["id"])["publisher"], second.as_str());
    // The old name leads to the new one.
    let shown = shoal.json(&["show", &format!("{first}/model")]);
    assert_eq!(shown["view"]["repo"], format!("{second}/model"));
    assert_eq!(shoal.json(&["ls"]).as_array().unwrap().len(), 1);

    // A key that was rotated away is revoked by the recovery key only, which says where it goes on.
    let revoke = ["id", "revoke", &first, "--reason", "superseded", "--yes"];
    let refused = shoal.run(&revoke);
    assert!(
        !refused.status.success() && refused.stderr.contains("--recovery"),
        "{refused:?}"
    );
    let revoked = shoal.json(&[revoke.as_slice(), &["--recovery", text(&recovery)]].concat());
    assert_eq!(revoked["goes_on_as"], second.as_str());
    let said = shoal.run(&["id"]).stdout;
    assert!(
        said.contains("revoked (superseded)") && said.contains(&second),
        "{said}"
    );

    // Another recovery key than ours is none.
    let other = Shoal::new();
    other.json(&["publish", text(&folder), "--name", "other"]);
    let foreign = other.data().join("recovery.key");
    let refused = shoal.run(&["id", "recover", text(&foreign), "--yes"]);
    assert!(
        !refused.status.success() && refused.stderr.contains("is not the recovery key"),
        "{refused:?}"
    );
    let recovered = shoal.json(&["id", "recover", text(&recovery), "--yes"]);
    assert_eq!(recovered["from"], second.as_str());
    let third = recovered["to"].as_str().unwrap().to_owned();
    shoal.json(&["id", "revoke", "--reason", "retired", "--yes"]);
    let refused = shoal.run(&["publish", text(&folder), "--name", "again"]);
    assert!(
        refused.stderr.contains(&third)
            && refused.stderr.contains("revoked")
            && refused.stderr.contains("shoal id recover"),
        "{refused:?}"
    );
    let said = shoal.run(&["ls"]).stdout;
    assert!(said.contains("revoked"), "{said}");
}

#[test]
fn follow_warns_of_who_looks_like_somebody_followed() {
    let shoal = Shoal::new();
    let id = |number| Publisher::from(fixture::stranger(number).verifying_key()).to_string();
    assert!(shoal.run(&["follow", &id(1), "--as", "modern"]).status.success());
    let said = shoal.run(&["follow", &id(2), "--as", "modem"]);
    assert!(
        said.status.success() && said.stderr.contains("modem looks like modern"),
        "{said:?}"
    );
    let said = shoal.run(&["follow", &id(3), "--as", "whale"]);
    assert!(
        said.status.success() && !said.stderr.contains("careful"),
        "{said:?}"
    );
}
