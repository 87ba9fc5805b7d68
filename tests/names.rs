//! Names: only forward, never into a fork, and only where the user knows the publisher.

use std::path::Path;

use protocol::{RepoId, RepoRef};
use testnet::fixture;
use testnet::hostile::{Behaviour, Hostile, HostileOptions};
use testnet::nodes::Testnet;

use crate::acts::{fetch, files, open_doors, publish, tool, try_fetch};

const B: usize = 0;
const A: usize = 1;
const C: usize = 2;

/// The files of evidence that a node keeps of the forks of a name.
fn evidence(data: &Path, repo: &RepoId) -> Vec<String> {
    let below = data.join("releases").join(repo.publisher.to_string());
    let names = files(&below)
        .into_iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with(&format!("{}@fork-", repo.name)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_release_played_again_is_not_followed() {
    let mut net = Testnet::start(3).await.unwrap();
    let (old, new) = (net.scratch().join("old"), net.scratch().join("new"));
    fixture::toy_model(&old, 1).unwrap();
    fixture::toy_model(&new, 2).unwrap();
    let (first, _) = publish(net.node(A), &old, "model").await;
    let (second, _) = publish(net.node(A), &new, "model").await;
    assert_eq!((first.seq, second.seq), (1, 2));
    let out = net.scratch().join("out");
    assert_eq!(
        fetch(net.node(C), &second.repo, Some(&out)).await.manifest,
        second.manifest
    );

    // The publisher goes; somebody who kept the first release is the only one left to ask, and really offers it.
    let key = fixture::publisher_key(&net.data(A)).unwrap();
    net.stop(A).await;
    let replay = HostileOptions {
        peers: net.meeting_point(),
        releases: vec![fixture::release(&key, "model", first.manifest, 1)],
        ..HostileOptions::new(&old, Behaviour::Honest)
    };
    let replay = Hostile::start_with(replay).await.unwrap();
    replay.announce().await.unwrap();
    let address = replay.addresses().remove(0);
    net.node(C).swarm().dial(address.clone()).await.unwrap();
    let again = fetch(net.node(C), &second.repo, Some(&net.scratch().join("again"))).await;
    assert_eq!((again.manifest, again.fetched_bytes), (second.manifest, 0));
    assert!(replay.asked().releases > 0, "the old release was never offered");

    // What was seen stays seen over a restart.
    net.restart(C).await.unwrap();
    net.node(C).swarm().dial(address.clone()).await.unwrap();
    let seen = net
        .node(C)
        .library()
        .resolve_local(&RepoRef::Id(second.repo.clone()))
        .unwrap();
    assert_eq!(seen, second.manifest);
    assert_eq!(
        fetch(net.node(C), &second.repo, None).await.manifest,
        second.manifest
    );
    fixture::assert_same(&new, &out);
    replay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fork_is_kept_as_evidence_and_neither_side_is_followed() {
    let net = Testnet::start(3).await.unwrap();
    let (one, other) = (net.scratch().join("one"), net.scratch().join("other"));
    fixture::toy_model(&one, 1).unwrap();
    fixture::toy_model(&other, 2).unwrap();
    let (published, _) = publish(net.node(A), &one, "model").await;
    fetch(net.node(C), &published.repo, None).await;
    assert_eq!(evidence(&net.data(C), &published.repo), Vec::<String>::new());

    // The same key signs something else under the same number.
    let key = fixture::publisher_key(&net.data(A)).unwrap();
    let forked = fixture::manifest(&other).unwrap().hash();
    let fork = HostileOptions {
        peers: net.meeting_point(),
        releases: vec![fixture::release(&key, "model", forked, published.seq)],
        ..HostileOptions::new(&other, Behaviour::Honest)
    };
    let fork = Hostile::start_with(fork).await.unwrap();
    fork.announce().await.unwrap();
    net.node(C)
        .swarm()
        .dial(fork.addresses().remove(0))
        .await
        .unwrap();
    let out = net.scratch().join("out");
    let refused = try_fetch(net.node(C), &published.repo, Some(&out))
        .await
        .unwrap_err();
    let told = format!("{refused}: {refused:?}").to_lowercase();
    assert!(told.contains("fork") && told.contains("model"), "{told}");
    assert!(!out.exists());
    assert_eq!(evidence(&net.data(C), &published.repo).len(), 1);
    assert!(fork.asked().releases > 0, "the fork was never offered");
    // Content is not what is doubted: who asks for it by its hash gets it.
    assert_eq!(
        fetch(net.node(C), &*format!("blake3/{forked}"), None)
            .await
            .manifest,
        forked
    );

    // Tools that know the Hub are not given either side by its name.
    let door = open_doors(net.node(C)).await;
    let address = format!("http://{}/api/models/{}", door.address(), published.repo);
    let asked = tokio::task::spawn_blocking(move || {
        let answer = tool().get(address).call().unwrap();
        let message = answer.headers()["x-error-message"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), message)
    });
    let (status, message) = asked.await.unwrap();
    assert!(status == 404 && message.contains("forked"), "{status} {message}");
    door.close().await;

    // The publisher can leave the fork behind with a higher number.
    fixture::file(&one.join("more.txt"), 3, "more", 10).unwrap();
    let (next, _) = publish(net.node(A), &one, "model").await;
    assert_eq!(next.seq, published.seq + 1);
    let fetched = fetch(net.node(C), &published.repo, Some(&out)).await;
    assert_eq!(fetched.manifest, next.manifest);
    fork.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn release_of_a_stranger_is_no_release_of_the_publisher() {
    let net = Testnet::start(3).await.unwrap();
    let (ours, theirs) = (net.scratch().join("ours"), net.scratch().join("theirs"));
    fixture::toy_model(&ours, 1).unwrap();
    fixture::toy_model(&theirs, 2).unwrap();
    let (published, _) = publish(net.node(A), &ours, "model").await;
    // B signs the same name with a key of its own: another repo.
    let (other, _) = publish(net.node(B), &theirs, "model").await;
    assert_ne!(other.repo, published.repo);
    assert_eq!(
        fetch(net.node(C), &published.repo, None).await.manifest,
        published.manifest
    );
    assert_eq!(
        fetch(net.node(C), &other.repo, None).await.manifest,
        other.manifest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn alias_means_what_this_node_was_told_and_nothing_before() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::toy_model(&folder, 1).unwrap();
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let library = net.node(C).library();
    assert!(try_fetch(net.node(C), "friend/model", None).await.is_err());
    library
        .follow(published.repo.publisher, &"friend".parse().unwrap())
        .unwrap();
    assert_eq!(
        fetch(net.node(C), "friend/model", None).await.manifest,
        published.manifest
    );
    assert!(library.unfollow(published.repo.publisher).unwrap());
    assert!(try_fetch(net.node(C), "friend/model", None).await.is_err());
    // By its own name it is still there.
    assert_eq!(fetch(net.node(C), &published.repo, None).await.fetched_bytes, 0);
}
