//! Lists that others keep: what they deny counts while they say so, and what they cannot mean is said and does no harm.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use node::node::Node;
use node::publish::{PublishRequest, Published};
use protocol::limits::DENIALS_MAX;
use protocol::{Denial, Denied, Denylist, Hash, Kind, RepoRef};
use testnet::fixture;
use testnet::nodes::{Testnet, until};

use super::{C, SOON, bring, deny, model, repo, soon};
use crate::acts::{fetch, open_doors, request, unseen};
use crate::gateway::get;

// By A all meet; B, which follows lists, also starts again.
const A: usize = 0;
const B: usize = 1;

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn listed(what: Denied, expires: Option<u64>) -> Denial {
    Denial {
        what,
        reason: "malware".to_owned(),
        since: 1,
        expires,
    }
}

/// Publishes a denylist.
async fn publish_list(node: &Node, folder: &Path, bytes: &[u8]) -> Published {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("denylist.json"), bytes).unwrap();
    let asked = PublishRequest {
        kind: Kind::Dataset,
        copy: true,
        ..request(folder, "denylist")
    };
    node.publish(asked, &unseen()).await.unwrap().0
}

fn encoded(entries: Vec<Denial>) -> Vec<u8> {
    Denylist::new(entries).unwrap().encode().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_list_counts_when_it_is_here_and_its_next_release_lifts_what_it_leaves_out() {
    let mut net = Testnet::start(3).await.unwrap();
    let bad = model(&net, A, "bad", 100_000).await;
    let other = model(&net, A, "other", 100_000).await;
    let ours = model(&net, B, "ours", 100_000).await;
    let folder = net.scratch().join("denylist");
    let end = now() + 12;
    let entries = vec![
        listed(Denied::Repo(bad.repo.clone()), None),
        listed(Denied::Manifest(other.manifest), Some(end)),
        listed(Denied::Publisher(ours.repo.publisher), None),
        listed(Denied::Manifest(ours.manifest), None),
    ];
    let list = publish_list(net.node(C), &folder, &encoded(entries)).await;
    let b = net.node(B);
    fetch(b, &bad.repo, None).await;
    fetch(b, &other.repo, None).await;
    let view = b
        .subscribe(&RepoRef::Id(list.repo.clone()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.seq, view.entries, view.trouble), (Some(1), 4, None));
    let denials = b.library().denials();
    let why = denials.repo(&bad.repo).unwrap();
    assert_eq!(
        (why.reason.as_str(), why.by.as_ref()),
        ("malware", Some(&list.repo))
    );
    assert!(denials.manifest(other.manifest).is_some() || now() >= end);
    let refused = bring(b, RepoRef::Id(bad.repo.clone()), &[]).await.unwrap_err();
    assert!(refused.to_string().contains("malware"), "{refused}");
    // The node's own stays, and this is said.
    assert!(denials.repo(&ours.repo).is_none() && denials.manifest(ours.manifest).is_none());
    assert_eq!(b.library().list_view(&list.repo).unwrap().spared, 2);
    // An entry's time is over.
    let over = async || denials.manifest(other.manifest).is_none().then_some(());
    until(&[b.swarm()], 4 * SOON, "the entry to end", over)
        .await
        .unwrap();

    // What cannot be read changes nothing, and is said; also after a restart.
    publish_list(
        net.node(C),
        &folder,
        b"{\"deny\":[{\"what\":\"song:x\"}],\"shoal\":1}",
    )
    .await;
    b.refresh_lists().await;
    let said = b.library().list_view(&list.repo).unwrap();
    assert_eq!(said.seq, Some(1));
    assert!(said.trouble.unwrap().contains("release 2 is not obeyed"));
    assert!(denials.repo(&bad.repo).is_some());
    net.restart(B).await.unwrap();
    net.meet().await.unwrap();
    let b = net.node(B);
    let why = b.library().denials().repo(&bad.repo).unwrap();
    assert_eq!(why.by.as_ref(), Some(&list.repo));

    // The user knows better than the list.
    let allowed = b.library().allow(&repo(&bad.repo)).await.unwrap();
    assert_eq!(allowed.despite.unwrap().by, Some(list.repo.clone()));
    assert_eq!(
        b.library().denials().check(Some(&bad.repo), Some(bad.manifest)),
        Ok(())
    );
    deny(b, &repo(&bad.repo)).await;
    b.library().allow(&repo(&bad.repo)).await.unwrap();
    assert_eq!(b.library().denials().repo(&bad.repo), None);

    // A list without the entry lifts it, as soon as its release is told of; and one that is followed no more lifts all.
    let entries = encoded(vec![listed(Denied::Blob(Hash::of(b"x")), None)]);
    assert_eq!(publish_list(net.node(C), &folder, &entries).await.seq, 3);
    let lifted = async || {
        b.library()
            .list_view(&list.repo)
            .filter(|list| list.seq == Some(3))
    };
    soon(b, "the next release of the list", lifted).await;
    let view = b.library().list_view(&list.repo).unwrap();
    assert_eq!((view.seq, view.entries, view.trouble), (Some(3), 1, None));
    let denied = async || b.library().denials().file(Hash::of(b"x"));
    soon(b, "its entry to be in force", denied).await;
    let (_, was) = b
        .library()
        .unsubscribe(&RepoRef::Id(list.repo.clone()))
        .await
        .unwrap();
    assert!(was && b.library().denials().file(Hash::of(b"x")).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_lists_are_refused_each_with_what_is_wrong() {
    let net = Testnet::start(2).await.unwrap();
    let b = net.node(B);
    let folder = net.scratch().join("denylist");
    let none = b.subscribe(&RepoRef::Content(Hash::EMPTY)).await;
    assert!(none.is_err(), "a revision has no next one");
    let list = publish_list(net.node(A), &folder, b"").await;
    let named = RepoRef::Id(list.repo.clone());
    let view = b.subscribe(&named).await.unwrap().unwrap();
    assert!(view.seq.is_none() && view.trouble.is_some(), "{view:?}");
    let entry = |rest: &str| format!("{{\"deny\":[{{{rest}}}],\"shoal\":1}}");
    let blob = format!("\"what\":\"blob:{}\"", Hash::EMPTY);
    let table = [
        (
            "another version",
            "{\"deny\":[],\"shoal\":2}".to_owned(),
            "version 2",
        ),
        (
            "unknown field",
            "{\"deny\":[],\"forbid\":[],\"shoal\":1}".to_owned(),
            "not what it should be",
        ),
        (
            "hidden reason",
            entry(&format!("{blob},\"since\":1,\"reason\":\"a\u{202e}b\"")),
            "wrong reason",
        ),
        (
            "ends first",
            entry(&format!("{blob},\"since\":9,\"expires\":9,\"reason\":\"x\"")),
            "wrong time",
        ),
        (
            "every repo",
            entry("\"what\":\"repo:*\",\"since\":1,\"reason\":\"x\""),
            "names a wrong thing",
        ),
        (
            "every publisher",
            entry("\"what\":\"publisher:*\",\"since\":1,\"reason\":\"x\""),
            "names a wrong thing",
        ),
        (
            "a part of a hash",
            entry("\"what\":\"blob:af1349\",\"since\":1,\"reason\":\"x\""),
            "names a wrong thing",
        ),
        (
            "later than all numbers",
            entry(&format!("{blob},\"since\":18446744073709551616,\"reason\":\"x\"")),
            "entry 1",
        ),
        (
            "one entry too many",
            format!(
                "{{\"deny\":[{}],\"shoal\":1}}",
                vec![format!("{{{blob},\"since\":1,\"reason\":\"x\"}}"); DENIALS_MAX + 1].join(",")
            ),
            "more than 20000 entries",
        ),
        (
            "too long",
            format!("{{\"deny\":[],\"shoal\":1}}{}", " ".repeat(5 << 20)),
            "bytes",
        ),
    ];
    for (case, text, word) in table {
        publish_list(net.node(A), &folder, text.as_bytes()).await;
        b.refresh_lists().await;
        let view = b.library().list_view(&list.repo).unwrap();
        let trouble = view.trouble.unwrap_or_default();
        assert!(view.seq.is_none() && trouble.contains(word), "{case}: {trouble}");
    }
    fs::rename(folder.join("denylist.json"), folder.join("other.json")).unwrap();
    let asked = PublishRequest {
        kind: Kind::Dataset,
        ..request(&folder, "denylist")
    };
    net.node(A).publish(asked, &unseen()).await.unwrap();
    let refused = b.refresh_list(&list.repo).await.unwrap_err();
    assert!(refused.to_string().contains("has no denylist.json"), "{refused}");
    assert!(b.library().denials().is_empty());
    // One of which all is over is in force, and denies nothing.
    let over = vec![Denial {
        expires: Some(2),
        ..listed(Denied::Publisher(list.repo.publisher), None)
    }];
    publish_list(net.node(A), &folder, &encoded(over)).await;
    let obeyed = async || {
        let view = b.library().list_view(&list.repo);
        view.filter(|list| list.seq.is_some() && list.trouble.is_none())
    };
    let view = soon(b, "the list that is over", obeyed).await;
    assert_eq!((view.entries, view.in_force), (1, 0));
    assert!(b.library().denials().publisher(list.repo.publisher).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn list_that_denies_everything_withholds_neither_what_is_ours_nor_itself_and_can_be_left() {
    let net = Testnet::start(3).await.unwrap();
    let (b, c) = (net.node(B), net.node(C));
    let ours = model(&net, B, "ours", 10_000).await;
    let other = model(&net, C, "other", 10_000).await;
    fetch(b, &other.repo, None).await;
    let folder = net.scratch().join("denylist");
    let list = publish_list(net.node(A), &folder, &encoded(Vec::new())).await;
    let view = b.subscribe(&RepoRef::Id(list.repo.clone())).await.unwrap();
    assert_eq!(view.unwrap().seq, Some(1));

    let files = |name: &str| {
        let manifest = fixture::manifest(&net.scratch().join(name)).unwrap();
        let files = manifest.files().iter();
        files.map(|file| Denied::Blob(file.blake3)).collect::<Vec<_>>()
    };
    let publishers = [&ours, &other, &list].map(|of| Denied::Publisher(of.repo.publisher));
    let repos = [&ours, &other, &list].map(|of| Denied::Repo(of.repo.clone()));
    let manifests = [&ours, &other, &list].map(|of| Denied::Manifest(of.manifest));
    let mut all: Vec<Denied> = publishers.into_iter().chain(repos).chain(manifests).collect();
    all.extend(files("ours").into_iter().chain(files("other")));
    let some = (all.len()..DENIALS_MAX).map(|number| Denied::Blob(Hash::of(&number.to_le_bytes())));
    all.extend(some);
    let entries: Vec<_> = all.into_iter().map(|what| listed(what, None)).collect();
    publish_list(net.node(A), &folder, &encoded(entries)).await;
    let obeyed = async || {
        b.library()
            .list_view(&list.repo)
            .filter(|list| list.seq == Some(2))
    };
    let view = soon(b, "the list", obeyed).await;
    assert_eq!((view.entries, view.trouble), (DENIALS_MAX as u64, None));
    let door = open_doors(b).await;
    let status = async |of: &Published| {
        let path = format!("/{}/resolve/main/config.json", of.repo);
        get(&door, &path, &[]).await.status
    };
    let denied = async || (status(&other).await == 403).then_some(());
    soon(b, "what it denies to be withheld", denied).await;
    assert_eq!(status(&ours).await, 200);
    assert_eq!(fetch(c, &ours.repo, None).await.files, 3);

    publish_list(net.node(A), &folder, &encoded(Vec::new())).await;
    let obeyed = async || {
        b.library()
            .list_view(&list.repo)
            .filter(|list| list.seq == Some(3))
    };
    soon(b, "the list that denies nothing", obeyed).await;
    let lifted = async || (status(&other).await == 200).then_some(());
    soon(b, "what it denied to be back", lifted).await;
}
