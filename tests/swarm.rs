//! Every half-finished download serves, and a fetch is one job that waits, pauses, resumes and keeps to its limits.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::StoreError;
use node::fetch::{FetchError, FetchRequest, FetchWhat, JobState, JobView};
use node::node::{Limits, Node};
use node::progress::Progress;
use node::publish::Published;
use protocol::release::provider_key;
use protocol::{Hash, RepoId, RepoRef, SHARD_LEN, Ticket};
use testnet::fixture;
use testnet::nodes::{Testnet, within};
use tokio::task::JoinHandle;

use crate::acts::{assert_verifies, bytes_in, fetch, files, publish, try_fetch};

const A: usize = 1;
const B: usize = 2;
const C: usize = 3;

/// Longest that a fetch of these tests may take.
const FETCH: Duration = Duration::from_secs(90);

type Fetching = JoinHandle<Result<node::fetch::Fetched, FetchError>>;

fn content(manifest: Hash) -> FetchWhat {
    FetchWhat::Repo(RepoRef::Content(manifest))
}

/// Fetches in the background.
fn begin(node: &Node, request: FetchRequest) -> Fetching {
    let node = node.clone();
    tokio::spawn(async move { node.fetch(request, &Progress::channel().0).await })
}

async fn end(fetching: Fetching) -> node::fetch::Fetched {
    within(FETCH, "a fetch", fetching)
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

/// Waits until the only job of a node is as wanted.
async fn until_job(net: &Testnet, node: usize, what: &str, wanted: impl Fn(&JobView) -> bool) -> JobView {
    let job = async || net.node(node).jobs().into_iter().find(|job| wanted(job));
    net.until(what, job).await.unwrap()
}

/// A folder that A published.
struct Model {
    folder: PathBuf,
    manifest: Hash,
    repo: RepoId,
    ticket: Ticket,
}

impl Model {
    /// All of it, by its ticket.
    fn by_ticket(&self) -> FetchRequest {
        FetchRequest::new(FetchWhat::Ticket(self.ticket.clone()))
    }

    /// All of it, from whoever is found to have it.
    fn by_hash(&self) -> FetchRequest {
        FetchRequest::new(content(self.manifest))
    }
}

/// Publishes these files at A.
async fn model(net: &Testnet, files: &[(&str, u64)]) -> Model {
    let folder = net.scratch().join("model");
    fixture::folder(&folder, 1, files).unwrap();
    let (Published { manifest, repo, .. }, ticket) = publish(net.node(A), &folder, "model").await;
    Model {
        folder,
        manifest,
        repo,
        ticket,
    }
}

fn up(bytes: u64) -> Limits {
    Limits {
        up: Some(bytes),
        ..Limits::default()
    }
}

fn from(fetched: &node::fetch::Fetched, node: &Node) -> u64 {
    let peer = node.swarm().peer_id().to_string();
    let shares = fetched.peers.iter().filter(|share| share.peer == peer);
    shares.map(|share| share.bytes).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_fetch_at_once_give_each_other_what_they_have() {
    let net = Testnet::start(4).await.unwrap();
    let len = 24 << 20;
    let model = model(&net, &[("model.safetensors", len), ("config.json", 500)]).await;
    net.node(A).set_limits(up(4 << 20));
    let [b, c] = [B, C].map(|index| begin(net.node(index), model.by_ticket()));
    let (b, c) = (end(b).await, end(c).await);
    assert!(from(&b, net.node(C)) > 0, "{b:?}");
    assert!(from(&c, net.node(B)) > 0, "{c:?}");
    let sent = net.node(A).status().await.unwrap().up_bytes;
    assert!(
        sent < len * 8 / 5,
        "the source sent {sent} of {len} bytes for two"
    );
    for node in [B, C] {
        assert_verifies(net.node(node).library(), &model.repo).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn part_of_a_repo_is_served_and_the_rest_is_waited_for() {
    let mut net = Testnet::start(4).await.unwrap();
    let model = model(&net, &[("one.bin", 5 << 20), ("two.bin", 3 << 20), ("small", 9)]).await;
    let mut some = model.by_hash();
    some.include = vec!["one.bin".into(), "small".into()];
    end(begin(net.node(B), some)).await;
    net.stop(A).await;

    let fetching = begin(net.node(C), model.by_hash());
    let waiting = |job: &JobView| job.state == JobState::Waiting && job.shards == 6;
    let job = until_job(&net, C, "the fetch to wait for the rest", waiting).await;
    assert_eq!((job.shards_total, job.unprovided), (9, 3));
    assert_eq!(
        job.snapshot.note.as_deref(),
        Some("3 of 9 shards have no provider")
    );
    net.start_again(A).await.unwrap();
    let fetched = end(fetching).await;
    assert!(from(&fetched, net.node(B)) >= 5 << 20, "{fetched:?}");
    let out = net.scratch().join("out");
    let again = fetch(net.node(C), &RepoRef::Content(model.manifest), Some(&out)).await;
    assert_eq!(again.fetched_bytes, 0);
    fixture::assert_same(&model.folder, &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_that_will_not_wait_says_what_is_missing() {
    let mut net = Testnet::start(4).await.unwrap();
    let model = model(&net, &[("one.bin", 5 << 20), ("two.bin", 3 << 20)]).await;
    let mut some = model.by_hash();
    some.include = vec!["one.bin".into()];
    end(begin(net.node(B), some)).await;
    net.stop(A).await;
    let mut all = model.by_hash();
    all.wait = Some(Duration::from_secs(3));
    let error = within(FETCH, "the end", begin(net.node(C), all))
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    match error {
        FetchError::NoProvider { missing, .. } => assert_eq!(missing, 3 << 20),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_of_one_manifest_are_one_job() {
    let net = Testnet::start(3).await.unwrap();
    let len = 12 << 20;
    let model = model(&net, &[("model.bin", len), ("config.json", 500)]).await;
    net.node(A).set_limits(up(6 << 20));
    let first = begin(net.node(B), model.by_ticket());
    until_job(&net, B, "a first shard", |job| job.shards > 0).await;
    let mut request = model.by_hash();
    let (one, two) = (net.scratch().join("one"), net.scratch().join("two"));
    request.to = Some(one.clone());
    let second = begin(net.node(B), request.clone());
    request.to = Some(two.clone());
    request.include = vec!["*.json".into()];
    // What is wanted of it is here at once or soon: it does not wait for the rest.
    let third = end(begin(net.node(B), request)).await;
    assert_eq!(third.files, 1);
    assert_eq!(net.node(B).jobs().len(), 1);
    assert!(
        !first.is_finished(),
        "all of it came before the test could see anything"
    );
    end(first).await;
    end(second).await;
    fixture::assert_same(&model.folder, &one);
    let received = net.node(B).status().await.unwrap().down_bytes;
    assert!(received < len + len / 10, "{received} bytes came for {len}");
    assert!(net.node(B).jobs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn job_is_paused_resumed_and_cancelled() {
    let net = Testnet::start(3).await.unwrap();
    let model = model(&net, &[("model.bin", 16 << 20)]).await;
    net.node(A).set_limits(up(4 << 20));
    let fetching = begin(net.node(B), model.by_ticket());
    let job = until_job(&net, B, "a first shard", |job| job.shards > 0).await;
    net.node(B).pause(job.id).unwrap();
    let quiet =
        |job: &JobView| job.state == JobState::Paused && job.peers.iter().all(|peer| peer.requests == 0);
    let paused = until_job(&net, B, "the pause", quiet).await;
    assert!(paused.shards < paused.shards_total);
    net.node(B).resume(job.id).unwrap();
    end(fetching).await;
    assert_verifies(net.node(B).library(), &model.repo).await;
    net.node(B).pause(job.id).unwrap_err();

    let node = net.node(B);
    node.forget(&RepoRef::Content(model.manifest)).await.unwrap();
    let fetching = begin(node, model.by_ticket());
    let job = until_job(&net, B, "a first shard", |job| job.shards > 0).await;
    net.node(B).cancel(job.id).unwrap();
    let ended = within(FETCH, "the end", fetching).await.unwrap().unwrap();
    assert!(matches!(ended, Err(FetchError::Cancelled { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_looks_for_its_manifest_hears_what_is_asked() {
    let net = Testnet::start(2).await.unwrap();
    let nobody_has = Hash::of(b"a manifest that nobody has");
    let fetching = begin(net.node(A), FetchRequest::new(content(nobody_has)));
    let job = until_job(&net, A, "the search", |job| job.state == JobState::Finding).await;
    net.node(A).pause(job.id).unwrap();
    until_job(&net, A, "the pause", |job| job.state == JobState::Paused).await;
    net.node(A).resume(job.id).unwrap();
    until_job(&net, A, "the search to go on", |job| {
        job.state == JobState::Finding
    })
    .await;
    net.node(A).cancel(job.id).unwrap();
    let ended = within(FETCH, "the end", fetching).await.unwrap().unwrap();
    assert!(matches!(ended, Err(FetchError::Cancelled { .. })), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_that_joins_a_job_that_has_waited_for_long_waits_as_long_as_it_says() {
    let mut net = Testnet::start(3).await.unwrap();
    let model = model(&net, &[("model.bin", 16 << 20)]).await;
    net.node(A).set_limits(up(4 << 20));
    let patient = begin(net.node(B), model.by_ticket());
    until_job(&net, B, "a first shard", |job| job.shards > 0).await;
    net.stop(A).await;
    // By its hash: to find that nobody of the ticket answers takes a while too.
    let mut request = model.by_hash();
    request.wait = Some(Duration::from_secs(2));
    for _ in 0..2 {
        let begun = Instant::now();
        let ended = begin(net.node(B), request.clone());
        let ended = within(FETCH, "the end", ended).await.unwrap().unwrap();
        let Err(FetchError::NoProvider { waited, .. }) = ended else {
            panic!("{ended:?}");
        };
        assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(
            (Duration::from_secs(2)..Duration::from_secs(20)).contains(&waited),
            "{waited:?}"
        );
    }
    assert_eq!(net.node(B).jobs().len(), 1, "the patient one still waits");
    patient.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_change_while_running() {
    let net = Testnet::start(3).await.unwrap();
    let model = model(&net, &[("model.bin", 6 << 20)]).await;
    let down = Limits {
        down: Some(2 << 20),
        ..Limits::default()
    };
    for (sender, receiver) in [(up(2 << 20), Limits::default()), (Limits::default(), down)] {
        net.node(A).set_limits(sender);
        net.node(B).set_limits(receiver);
        let begun = Instant::now();
        fetch(net.node(B), &model.ticket, None).await;
        let took = begun.elapsed();
        assert!(
            took > Duration::from_millis(2_300),
            "6 MiB at 2 MiB/s took {took:?}"
        );
        net.node(B)
            .forget(&RepoRef::Content(model.manifest))
            .await
            .unwrap();
    }
    // At a KiB a second this would take an hour and a half.
    net.node(A).set_limits(up(1 << 10));
    let fetching = begin(net.node(B), model.by_ticket());
    until_job(&net, B, "a request", |job| {
        job.peers.iter().any(|peer| peer.requests > 0)
    })
    .await;
    net.node(A).set_limits(Limits::default());
    net.node(B).set_limits(Limits::default());
    end(fetching).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_is_kept_before_a_byte_is_written() {
    let net = Testnet::start_with(3, |index, config| {
        config.quota = (index == B).then_some(3 << 20);
    })
    .await
    .unwrap();
    let model = model(&net, &[("model.bin", 8 << 20), ("config.json", 500)]).await;
    let error = try_fetch(net.node(B), &model.ticket, None).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Store(StoreError::OverQuota { quota, .. }) if quota == 3 << 20),
        "{error:?}"
    );
    assert!(
        !net.data(B)
            .join("files")
            .join(&model.manifest.to_string()[..2])
            .exists()
            || {
                let left = bytes_in(&net.data(B).join("files"));
                left < 64 << 10
            }
    );
    // What fits is fetched all the same.
    let mut small = model.by_hash();
    small.include = vec!["*.json".into()];
    end(begin(net.node(B), small)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_starts_again_goes_on_with_what_it_was_fetching() {
    let mut net = Testnet::start(3).await.unwrap();
    let len = 24 << 20;
    let model = model(&net, &[("model.bin", len), ("config.json", 500)]).await;
    net.node(A).set_limits(up(8 << 20));
    let out = net.scratch().join("out");
    let mut request = model.by_ticket();
    request.to = Some(out.clone());
    let fetching = begin(net.node(B), request);
    until_job(&net, B, "some shards", |job| job.shards >= 8).await;
    fetching.abort();
    net.stop(B).await;
    net.start_again(B).await.unwrap();
    assert_eq!(net.node(B).resume_jobs().await, 1);
    let complete = async || {
        let listed = net.node(B).library().list().unwrap();
        let complete = listed
            .iter()
            .any(|view| view.complete && view.manifest == model.manifest);
        (complete && net.node(B).jobs().is_empty() && out.join("config.json").exists()).then_some(())
    };
    net.until("the fetch to end", complete).await.unwrap();
    fixture::assert_same(&model.folder, &out);
    let received = net.node(B).status().await.unwrap().down_bytes;
    assert!(received <= len - 7 * SHARD_LEN, "{received} bytes came again");
    let ended = async || (net.node(B).resume_jobs().await == 0).then_some(());
    net.until("the fetch to be forgotten", ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_left_behind_is_collected() {
    let net = Testnet::start(3).await.unwrap();
    let model = model(&net, &[("model.bin", 24 << 20), ("config.json", 500)]).await;
    net.node(A).set_limits(up(8 << 20));
    let manifest = net.node(A).library().manifest(model.manifest).await.unwrap();
    let file = manifest.file("model.bin").unwrap().clone();
    let mut reader = net.node(B).open(model.manifest, file);
    let read = within(FETCH, "the first bytes", reader.read(0..10)).await;
    assert_eq!(read.unwrap().unwrap().len(), 10);
    drop(reader);
    let gone = async || net.node(B).jobs().is_empty().then_some(());
    net.until("the fetch to end", gone).await.unwrap();
    net.node(B).library().collect().await.unwrap();
    assert_eq!(bytes_in(&net.data(B).join("files")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_fetch_keeps_what_came_until_it_is_forgotten() {
    let mut net = Testnet::start(3).await.unwrap();
    let model = model(&net, &[("model.bin", 24 << 20), ("config.json", 500)]).await;
    net.node(A).set_limits(up(8 << 20));
    let fetching = begin(net.node(B), model.by_hash());
    until_job(&net, B, "some shards", |job| job.shards >= 4).await;
    fetching.abort();
    let gone = async || net.node(B).jobs().is_empty().then_some(());
    net.until("the job to end", gone).await.unwrap();
    let left = bytes_in(&net.data(B).join("files"));
    assert!(left >= 3 * SHARD_LEN, "{left}");
    for _ in 0..2 {
        net.node(B).library().collect().await.unwrap();
        assert_eq!(bytes_in(&net.data(B).join("files")), left);
        net.restart(B).await.unwrap();
    }
    let what = RepoRef::Content(model.manifest);
    net.node(B).forget(&what).await.unwrap();
    assert_eq!(bytes_in(&net.data(B).join("files")), 0);
    assert_eq!(net.node(B).resume_jobs().await, 0, "it was forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_that_goes_on_after_a_start_is_as_patient_as_it_was() {
    let mut net = Testnet::start(3).await.unwrap();
    let model = model(&net, &[("model.bin", 24 << 20), ("config.json", 500)]).await;
    net.node(A).set_limits(up(8 << 20));
    let mut request = model.by_hash();
    request.wait = Some(Duration::from_secs(1));
    let fetching = begin(net.node(B), request);
    until_job(&net, B, "some shards", |job| job.shards >= 4).await;
    fetching.abort();
    net.stop(A).await;
    net.restart(B).await.unwrap();
    assert_eq!(net.node(B).resume_jobs().await, 1);
    let unfinished = net.data(B).join("unfinished");
    let ended = async || files(&unfinished).is_empty().then_some(());
    net.until("the fetch to give up", ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn node_announces_itself_with_its_first_shard() {
    let net = Testnet::start(4).await.unwrap();
    let model = model(&net, &[("model.bin", 24 << 20)]).await;
    net.node(A).set_limits(up(2 << 20));
    let fetching = begin(net.node(B), model.by_ticket());
    until_job(&net, B, "a first shard", |job| job.shards > 0).await;
    let b = net.node(B).swarm().peer_id();
    let announced = async || {
        let found = net
            .node(C)
            .swarm()
            .providers(provider_key(model.manifest), 8)
            .await;
        let mut found = found.ok()?;
        while let Some(peer) = found.recv().await {
            if peer == b {
                return Some(());
            }
        }
        None
    };
    net.until("the half-finished download to be announced", announced)
        .await
        .unwrap();
    assert!(
        !fetching.is_finished(),
        "all of it came before the test could see anything"
    );
    fetching.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_waits_for_comes_first() {
    let net = Testnet::start(3).await.unwrap();
    let model = model(&net, &[("model.bin", 64 << 20), ("config.json", 500)]).await;
    net.node(A).set_limits(up(8 << 20));
    let fetching = begin(net.node(B), model.by_ticket());
    until_job(&net, B, "a first shard", |job| job.shards > 0).await;
    let manifest = net.node(B).library().manifest(model.manifest).await.unwrap();
    let file = manifest
        .files()
        .iter()
        .find(|file| file.path.as_str() == "model.bin")
        .unwrap()
        .clone();
    let mut reader = net.node(B).open(model.manifest, file);
    let wanted = std::fs::read(model.folder.join("model.bin")).unwrap();
    for start in [63 << 20, 5_000_000, 63 << 20] {
        let read = within(FETCH, "a read", reader.read(start..start + 700_000))
            .await
            .unwrap()
            .unwrap();
        assert!(
            read == wanted[start as usize..start as usize + 700_000],
            "at {start}"
        );
    }
    assert!(
        !fetching.is_finished(),
        "all of it came before the test could see anything"
    );
    fetching.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn source_that_leaves_once_all_of_it_is_out_is_not_missed() {
    let mut net = Testnet::start(5).await.unwrap();
    let len = 20 << 20;
    let model = model(&net, &[("model.bin", len), ("config.json", 500)]).await;
    net.node(A).set_limits(up(6 << 20));
    let fetching = [B, C, 4].map(|index| begin(net.node(index), model.by_ticket()));
    // When one of them has all of it, no shard is only at the source.
    let out = async || fetching.iter().any(JoinHandle::is_finished).then_some(());
    net.until("one of them to have all of it", out).await.unwrap();
    net.stop(A).await;
    for fetching in fetching {
        end(fetching).await;
    }
    for index in [B, C, 4] {
        assert_verifies(net.node(index).library(), &model.repo).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_come_and_go_do_not_keep_the_others_from_all_of_it() {
    let mut net = Testnet::start(5).await.unwrap();
    let model = model(&net, &[("model.bin", 24 << 20), ("config.json", 500)]).await;
    net.node(A).set_limits(up(6 << 20));
    let staying = [B, C].map(|index| begin(net.node(index), model.by_ticket()));
    let going = begin(net.node(4), model.by_ticket());
    until_job(&net, 4, "some shards at the one that goes", |job| job.shards > 2).await;
    going.abort();
    net.stop(4).await;
    let new = net.add().await.unwrap();
    let coming = begin(net.node(new), model.by_ticket());
    for fetching in staying.into_iter().chain([coming]) {
        end(fetching).await;
    }
    for index in [B, C, new] {
        assert_verifies(net.node(index).library(), &model.repo).await;
    }
}
