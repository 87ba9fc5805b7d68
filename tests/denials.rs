//! What is denied is neither announced nor served nor fetched nor found nor shown, within five seconds; and all of it comes back.

mod found;
mod lists;

use std::fs;
use std::time::Duration;

use node::denials::{DenialState, What};
use node::fetch::{FetchError, FetchRequest, FetchWhat, Fetched};
use node::http::control::Door;
use node::node::{Limits, Node};
use node::publish::{PublishRequest, Published};
use protocol::{Kind, RepoId, RepoRef};
use serde_json::Value;
use testnet::fixture;
use testnet::nodes::{Testnet, until, within};

use crate::acts::{fetch, open_doors, publish, request, unseen};
use crate::gateway::{drain, get, head, send};
use crate::program::{Shoal, field, last_json, text, toy};

const B: usize = 0;
const A: usize = 1;
const C: usize = 2;

/// How soon a denial counts.
const SOON: Duration = Duration::from_secs(5);

/// Longest that a fetch of these tests may take.
const FETCH: Duration = Duration::from_secs(60);

fn repo(repo: &RepoId) -> What {
    What::Repo(RepoRef::Id(repo.clone()))
}

async fn deny(node: &Node, what: &What) {
    let reason = Some("not what it says".to_owned());
    node.library().deny(what, reason, None).await.unwrap();
}

async fn soon<T>(node: &Node, what: &str, state: impl AsyncFnMut() -> Option<T>) -> T {
    until(&[node.swarm()], SOON, what, state).await.unwrap()
}

/// Waits until a node announces so many manifests and releases.
async fn announces(node: &Node, count: usize) {
    let what = format!("{count} announcements");
    let counted = async || (node.swarm().counts().await.announced == count).then_some(());
    soon(node, &what, counted).await;
}

/// Fetches, without much patience.
async fn bring(node: &Node, what: RepoRef, include: &[&str]) -> Result<Fetched, FetchError> {
    let mut asked = FetchRequest::new(FetchWhat::Repo(what));
    asked.include = include.iter().map(|glob| (*glob).to_owned()).collect();
    asked.wait = Some(Duration::from_secs(2));
    within(FETCH, "a fetch", node.fetch(asked, &unseen()))
        .await
        .unwrap()
}

/// Publishes a model with a file that others have too.
async fn model(net: &Testnet, node: usize, name: &str, len: u64) -> Published {
    repo_of(net, node, Kind::Model, name, len).await
}

async fn repo_of(net: &Testnet, node: usize, kind: Kind, name: &str, len: u64) -> Published {
    let folder = net.scratch().join(name);
    let own = format!("{name}.safetensors.txt");
    let files = [("LICENSE", 70_000), ("config.json", 500), (own.as_str(), len)];
    fixture::folder(&folder, 1, &files).unwrap();
    fs::write(folder.join("config.json"), format!("{{\"name\":\"{name}\"}}")).unwrap();
    let asked = PublishRequest {
        kind,
        ..request(&folder, name)
    };
    let published = within(FETCH, "a publish", net.node(node).publish(asked, &unseen())).await;
    published.unwrap().unwrap().0
}

/// The names of the models that a gateway lists.
async fn listed(door: &Door) -> Vec<String> {
    listed_at(door, "/api/models").await
}

async fn listed_at(door: &Door, path: &str) -> Vec<String> {
    let answer = get(door, path, &[]).await;
    let listed: Value = serde_json::from_slice(&answer.body).unwrap();
    let names = listed.as_array().unwrap().iter();
    names
        .map(|one| field(one, "id").rsplit('/').next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_repo_is_neither_announced_nor_served_nor_shown_until_it_is_allowed() {
    let net = Testnet::start(3).await.unwrap();
    let a = net.node(A);
    let bad = model(&net, A, "bad", 3 << 20).await;
    let good = model(&net, A, "good", 100_000).await;
    announces(a, 4).await;
    let door = open_doors(a).await;
    let file = format!("/{}/resolve/main/config.json", bad.repo);
    assert_eq!(get(&door, &file, &[]).await.status, 200);
    // Somebody who knows the manifest, and has a file of it.
    let some = bring(net.node(C), RepoRef::Id(bad.repo.clone()), &["config.json"]).await;
    assert_eq!(some.unwrap().files, 1);

    deny(a, &repo(&bad.repo)).await;
    announces(a, 2).await;
    for answer in [get(&door, &file, &[]).await, head(&door, &file, &[]).await] {
        let said = answer.header("x-error-message");
        assert_eq!(answer.status, 403, "{said}");
        assert!(
            said.contains("not what it says (by you)") && said.contains("shoal allow"),
            "{said}"
        );
    }
    let by_hash = format!("/blake3/{}/resolve/main/config.json", bad.manifest);
    assert_eq!(get(&door, &by_hash, &[]).await.status, 403);
    let info = format!("/api/models/{}", bad.repo);
    assert_eq!(get(&door, &info, &[]).await.status, 403);
    let refs = format!("/api/models/{}/refs", bad.repo);
    assert_eq!(get(&door, &refs, &[]).await.status, 403);
    assert_eq!(listed(&door).await, ["good"]);
    assert_eq!(
        get(&door, &format!("/v1/models/{}", bad.repo), &[]).await.status,
        403
    );

    // Its name, its manifest and its blobs are not to be had here; what others have too is.
    for what in [RepoRef::Id(bad.repo.clone()), RepoRef::Content(bad.manifest)] {
        let refused = bring(net.node(C), what, &[]).await.unwrap_err();
        assert!(
            matches!(refused, FetchError::NoProvider { .. } | FetchError::Resolve(_)),
            "{refused:?}"
        );
    }
    let fetched = fetch(net.node(C), &good.repo, None).await;
    assert_eq!((fetched.files, fetched.bytes > 170_000), (3, true));
    // It is still here, and says so.
    let views = a.library().list().unwrap();
    let view = views.iter().find(|view| view.repo.as_ref() == Some(&bad.repo));
    let why = view.unwrap().denied.clone().unwrap();
    assert_eq!((why.reason.as_str(), why.by), ("not what it says", None));
    let shown = a.library().show(&RepoRef::Id(bad.repo.clone())).await.unwrap();
    assert!(shown.view.denied.is_some() && shown.view.complete);

    let allowed = a.library().allow(&repo(&bad.repo)).await.unwrap();
    assert_eq!((allowed.lifted, allowed.despite), (true, None));
    announces(a, 4).await;
    assert_eq!(get(&door, &file, &[]).await.status, 200);
    assert_eq!(listed(&door).await.len(), 2);
    assert_eq!(fetch(net.node(C), &bad.repo, None).await.files, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_dataset_and_space_are_refused_as_a_model_is() {
    let net = Testnet::start(3).await.unwrap();
    let (a, c) = (net.node(A), net.node(C));
    let door = open_doors(a).await;
    for (kind, path) in [(Kind::Dataset, "datasets"), (Kind::Space, "spaces")] {
        let bad = repo_of(&net, A, kind, path, 1_000).await;
        announces(a, 2).await;
        let (file, list) = (
            format!("/{path}/{}/resolve/main/config.json", bad.repo),
            format!("/api/{path}"),
        );
        assert_eq!(get(&door, &file, &[]).await.status, 200);
        assert_eq!(listed_at(&door, &list).await, [path]);
        deny(a, &repo(&bad.repo)).await;
        announces(a, 0).await;
        let refused = get(&door, &file, &[]).await;
        assert_eq!(refused.status, 403);
        assert!(refused.header("x-error-message").contains("not what it says"));
        assert_eq!(listed_at(&door, &list).await, [""; 0]);
        let refused = bring(c, RepoRef::Content(bad.manifest), &[]).await;
        assert!(
            matches!(refused, Err(FetchError::NoProvider { .. })),
            "{refused:?}"
        );
        a.library().allow(&repo(&bad.repo)).await.unwrap();
        announces(a, 2).await;
        assert_eq!(get(&door, &file, &[]).await.status, 200);
        assert_eq!(listed_at(&door, &list).await, [path]);
        assert_eq!(fetch(c, &bad.repo, None).await.files, 3);
        deny(a, &repo(&bad.repo)).await;
        announces(a, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_manifest_blob_and_publisher_are_refused_each_by_their_own_name() {
    let net = Testnet::start(3).await.unwrap();
    let bad = model(&net, A, "bad", 100_000).await;
    let good = model(&net, A, "good", 100_000).await;
    let c = net.node(C);
    fetch(c, &good.repo, None).await;
    let licence = fixture::manifest(&net.scratch().join("bad")).unwrap();
    let licence = licence.file("LICENSE").unwrap().blake3;

    // One file: the rest of the repo comes, and the error says how.
    deny(c, &What::Blob(licence)).await;
    let refused = bring(c, RepoRef::Id(bad.repo.clone()), &[]).await.unwrap_err();
    assert!(
        matches!(&refused, FetchError::DeniedFile { path, .. } if path == "LICENSE"),
        "{refused:?}"
    );
    let rest = bring(c, RepoRef::Id(bad.repo.clone()), &["*.json", "*.txt"]).await;
    assert_eq!(rest.unwrap().files, 2);
    let door = open_doors(c).await;
    let of_good = format!("/{}/resolve/main/LICENSE", good.repo);
    assert_eq!(get(&door, &of_good, &[]).await.status, 403);
    let config = of_good.replace("LICENSE", "config.json");
    assert_eq!(get(&door, &config, &[]).await.status, 200);
    c.library().allow(&What::Blob(licence)).await.unwrap();
    assert_eq!(get(&door, &of_good, &[]).await.status, 200);

    // One revision, whatever its name.
    let manifest = What::Repo(RepoRef::Content(good.manifest));
    deny(c, &manifest).await;
    let refused = bring(c, RepoRef::Id(good.repo.clone()), &[]).await.unwrap_err();
    assert!(matches!(refused, FetchError::Denied(_)), "{refused:?}");
    assert_eq!(get(&door, &config, &[]).await.status, 403);
    c.library().allow(&manifest).await.unwrap();

    // All of a publisher, but for what is allowed.
    let publisher = What::Publisher(good.repo.publisher);
    deny(c, &publisher).await;
    let refused = bring(c, RepoRef::Id(bad.repo.clone()), &[]).await.unwrap_err();
    assert!(refused.to_string().contains("publisher:"), "{refused}");
    assert_eq!(get(&door, &config, &[]).await.status, 403);
    let allowed = c.library().allow(&repo(&good.repo)).await.unwrap();
    assert!(!allowed.lifted && allowed.despite.is_some());
    assert_eq!(get(&door, &config, &[]).await.status, 200);
    let other = format!("/{}/resolve/main/config.json", bad.repo);
    assert_eq!(get(&door, &other, &[]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_others_publish_too_are_not_taken_along_by_who_is_denied() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("same");
    fixture::folder(&folder, 1, &[("a.bin", 200_000), ("b.txt", 100)]).unwrap();
    let (first, _) = publish(net.node(A), &folder, "original").await;
    let (second, _) = publish(net.node(B), &folder, "copy").await;
    assert_eq!(first.manifest, second.manifest);
    let c = net.node(C);
    fetch(c, &first.repo, None).await;
    fetch(c, &second.repo, None).await;
    deny(c, &What::Publisher(second.repo.publisher)).await;
    let denials = c.library().denials();
    assert!(denials.repo(&second.repo).is_some());
    assert_eq!(denials.manifest(first.manifest), None);
    let door = open_doors(c).await;
    let status = async |repo: &RepoId| {
        get(&door, &format!("/{repo}/resolve/main/b.txt"), &[])
            .await
            .status
    };
    assert_eq!(
        (status(&first.repo).await, status(&second.repo).await),
        (200, 403)
    );
    // Nobody is left who names it.
    deny(c, &repo(&first.repo)).await;
    assert!(denials.manifest(first.manifest).is_some());
    let blob = fixture::manifest(&folder).unwrap().file("b.txt").unwrap().blake3;
    assert!(denials.blob(blob).is_some());
    assert_eq!(status(&first.repo).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_with_something_denied_ends() {
    let net = Testnet::start(3).await.unwrap();
    let (a, c) = (net.node(A), net.node(C));
    let bad = model(&net, A, "bad", 64 << 20).await;
    let door = open_doors(a).await;
    // An answer that nobody reads: what the socket holds is all that was sent of it.
    let path = format!("/{}/resolve/main/bad.safetensors.txt", bad.repo);
    let stream = send(door.address(), &path);
    a.set_limits(Limits {
        up: Some(1 << 20),
        ..Limits::default()
    });
    let fetching = tokio::spawn({
        let (c, what) = (c.clone(), RepoRef::Id(bad.repo.clone()));
        async move { c.fetch(FetchRequest::new(FetchWhat::Repo(what)), &unseen()).await }
    });
    let coming = async || {
        let jobs = c.jobs();
        jobs.iter().any(|job| job.shards > 0).then_some(())
    };
    until(&[c.swarm()], FETCH, "the first bytes", coming)
        .await
        .unwrap();

    deny(c, &repo(&bad.repo)).await;
    let ended = within(SOON, "the end of the fetch", fetching)
        .await
        .unwrap()
        .unwrap();
    let error = ended.unwrap_err();
    assert!(matches!(error, FetchError::Denied(_)), "{error:?}");
    soon(c, "the job to go", async || c.jobs().is_empty().then_some(())).await;

    deny(a, &repo(&bad.repo)).await;
    let (_, body) = tokio::task::spawn_blocking(move || drain(stream)).await.unwrap();
    assert!(body.len() < 64 << 20, "all of it was sent");
    // What a peer is sent ends too: it does not get the rest.
    c.library().allow(&repo(&bad.repo)).await.unwrap();
    let refused = bring(c, RepoRef::Content(bad.manifest), &[]).await.unwrap_err();
    assert!(matches!(refused, FetchError::NoProvider { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_name_that_is_denied_is_not_published_and_what_is_new_frees_shared_files() {
    let net = Testnet::start(3).await.unwrap();
    let a = net.node(A);
    let bad = model(&net, A, "bad", 100_000).await;
    deny(a, &repo(&bad.repo)).await;
    let asked = request(&net.scratch().join("bad"), "bad");
    let refused = a.publish(asked, &unseen()).await.unwrap_err();
    assert!(refused.to_string().contains("is denied"), "{refused}");
    let licence = fixture::manifest(&net.scratch().join("bad")).unwrap();
    let licence = licence.file("LICENSE").unwrap().blake3;
    assert!(a.library().denials().blob(licence).is_some());
    let good = model(&net, A, "good", 100_000).await;
    soon(a, "the shared file to be free", async || {
        a.library().denials().blob(licence).is_none().then_some(())
    })
    .await;
    assert_eq!(fetch(net.node(C), &good.repo, None).await.files, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_file_is_obeyed_within_seconds_and_restarts_keep_it() {
    let mut net = Testnet::start(2).await.unwrap();
    let bad = model(&net, A, "bad", 100_000).await;
    announces(net.node(A), 2).await;
    let path = net.data(A).join("denied.toml");
    fs::write(&path, format!("[[deny]]\nwhat = 'repo:{}'\n", bad.repo)).unwrap();
    announces(net.node(A), 0).await;
    // A mistake is said, and what was read before stays.
    fs::write(&path, "[[deny]]\nwhat = 'nonsense'\n").unwrap();
    let wrong = async || net.node(A).library().denied(false).wrong;
    let wrong = soon(net.node(A), "the mistake", wrong).await;
    assert!(wrong.contains("line 2"), "{wrong}");
    assert!(net.node(A).library().denials().repo(&bad.repo).is_some());

    fs::write(&path, format!("[[deny]]\nwhat = 'manifest:{}'\n", bad.manifest)).unwrap();
    net.restart(A).await.unwrap();
    net.meet().await.unwrap();
    let a = net.node(A);
    let licence = fixture::manifest(&net.scratch().join("bad")).unwrap();
    let licence = licence.file("LICENSE").unwrap().blake3;
    let denials = a.library().denials();
    assert!(denials.manifest(bad.manifest).is_some() && denials.blob(licence).is_some());
    assert_eq!(a.swarm().counts().await.announced, 0);
    let refused = bring(net.node(B), RepoRef::Content(bad.manifest), &[]).await;
    assert!(
        matches!(refused, Err(FetchError::NoProvider { .. })),
        "{refused:?}"
    );

    fs::remove_file(&path).unwrap();
    announces(a, 2).await;
    fetch(net.node(B), &bad.repo, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denial_for_a_while_ends_by_itself() {
    let net = Testnet::start(2).await.unwrap();
    let a = net.node(A);
    let bad = model(&net, A, "bad", 1_000).await;
    announces(a, 2).await;
    let denied = a.library().deny(&repo(&bad.repo), None, Some(8)).await.unwrap();
    assert_eq!(denied.reason, node::denials::NO_REASON);
    announces(a, 0).await;
    let back = async || (a.swarm().counts().await.announced == 2).then_some(());
    until(&[a.swarm()], 4 * SOON, "the announcements to come back", back)
        .await
        .unwrap();
    assert!(a.library().denials().repo(&bad.repo).is_none());
    assert_eq!(a.library().denied(false).denials[0].state, DenialState::Ended);
}

#[test]
fn program_denies_allows_and_lists_with_and_without_a_node() {
    let folder = toy();
    let shoal = Shoal::new();
    let published = shoal.publish(&folder.path().join("toy-model"), &[]);
    let repo = field(&published, "repo");
    for daemon in [false, true] {
        let up = daemon.then(|| shoal.up());
        let denied = shoal.json(&["deny", repo, "--reason", "not mine", "--for", "30d"]);
        assert_eq!(
            (field(&denied, "reason"), &denied["by"]),
            ("not mine", &Value::Null)
        );
        let lasts = denied["expires"].as_u64().unwrap() - denied["since"].as_u64().unwrap();
        assert_eq!(lasts, 30 * 86_400);
        let view = shoal.json(&["denied"]);
        assert_eq!(field(&view["denials"][0], "what"), repo);
        assert_eq!(field(&view["denials"][0], "state"), "in_force");
        assert!(shoal.run(&["denied"]).stdout.contains("not mine"));
        for command in ["ls", "show"] {
            let args: &[&str] = if command == "ls" { &["ls"] } else { &["show", repo] };
            let said = shoal.run(args).stdout;
            assert!(
                said.contains("denied: not mine (by you), until 20"),
                "{command}: {said}"
            );
        }
        let found = shoal.json(&["search", "toy"]);
        assert_eq!(
            (&found["hits"], &found["denied"]),
            (&Value::Array(Vec::new()), &Value::from(1))
        );
        let said = shoal.run(&["search", "toy"]);
        assert!(
            said.stderr.contains("1 repo left out as denied: shoal denied"),
            "{said:?}"
        );
        let relatives = shoal.json(&["similar", repo]);
        assert_eq!(field(&relatives["repo"]["denied"], "reason"), "not mine");
        for args in [
            &["run", repo, "x"][..],
            &["validate", repo],
            &["publish", text(&folder.path().join("toy-model"))],
        ] {
            let said = shoal.fails(1, args);
            assert!(
                said.stderr.contains("not mine (by you)")
                    && said.stderr.contains(&format!("hint: shoal allow {repo}")),
                "{args:?}: {said:?}"
            );
        }
        let allowed = shoal.json(&["allow", repo]);
        assert_eq!(
            (&allowed["lifted"], &allowed["despite"]),
            (&Value::Bool(true), &Value::Null)
        );
        assert!(shoal.run(&["allow", repo]).stdout.contains("was not denied"));
        assert_eq!(shoal.json(&["search", "toy"])["hits"][0]["repo"], repo);
        let followed = shoal.run(&["deny", "--list", repo, "--json"]);
        let followed = last_json(&followed.stdout).unwrap();
        assert_eq!(field(&followed, "repo"), repo);
        assert_eq!(
            shoal.json(&["denied", "--all"])["lists"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(shoal.json(&["allow", "--list", repo])["subscribed"], true);
        assert_eq!(shoal.json(&["allow", "--list", repo])["subscribed"], false);
        drop(up);
    }
    let said = shoal.fails(1, &["deny", repo, "--reason", "two\nlines"]);
    assert!(said.stderr.contains("wrong reason"), "{said:?}");
    let said = shoal.fails(1, &["deny", "publisher:nobody"]);
    assert!(said.stderr.contains("nobody is followed as nobody"), "{said:?}");
    fs::write(shoal.data().join("denied.toml"), "[[deny]]\nwhat = 3\n").unwrap();
    let said = shoal.fails(1, &["ls"]);
    assert!(
        said.stderr.contains("line 2") && said.stderr.contains("hint: mend the file"),
        "{said:?}"
    );
}
