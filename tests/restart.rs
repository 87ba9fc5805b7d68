//! Killed at any moment: what was acknowledged is there, the next start is quick, and a fetch goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::{GROUP_LEN, Hash, RepoRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use testnet::fixture;
use testnet::nodes::{Process, Testnet};

use crate::acts::{assert_verifies, fetch, files, publish, request, unseen};
use crate::program::{Shoal, field, last_json, text};

/// Random moments at which each verb is killed: 40 in all.
const PUBLISHES: u64 = 14;
const FETCHES: u64 = 13;
const FORGETS: u64 = 13;

/// How long a start may take after a kill.
const START: Duration = Duration::from_secs(5);

/// Most that a fetch may fetch again after a kill, in bytes.
const AGAIN_MAX: u64 = 16 << 20;

/// Longest that one command of these tests may take when nobody kills it.
const COMMAND: Duration = Duration::from_secs(60);

fn random() -> StdRng {
    let seed = rand::rng().random();
    eprintln!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

/// Runs a command and kills it at some moment before `longest` has passed, if it still runs then. Returns what it had acknowledged.
fn killed(shoal: &Shoal, args: &[&str], random: &mut StdRng, longest: Duration) -> Option<Value> {
    let mut process = Process::spawn(shoal.command(&[args, &["--json"]].concat())).unwrap();
    drop(process.stdin());
    // When it ends by itself, that too is a moment.
    let _ = process.wait(longest.mul_f64(random.random_range(0.0..1.0)));
    process.kill_nine().unwrap();
    let mut printed = String::new();
    while let Ok(line) = process.next_line(COMMAND) {
        printed.push_str(&line);
        printed.push('\n');
    }
    last_json(&printed)
}

/// How long a command takes when nobody kills it.
fn time(command: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    command();
    begun.elapsed()
}

/// What `shoal ls` says right after a kill; it must not take long.
fn list_at_once(shoal: &Shoal) -> Vec<Value> {
    let begun = Instant::now();
    let list = shoal.json(&["ls"]);
    assert!(
        begun.elapsed() < START,
        "the start after a kill took {:?}",
        begun.elapsed()
    );
    list.as_array().unwrap().clone()
}

fn is_complete(list: &[Value], repo: &str) -> bool {
    list.iter()
        .any(|view| view["repo"] == repo && view["complete"] == true)
}

fn assert_verifies_whole(shoal: &Shoal, repo: &str) {
    let report = shoal.json(&["verify", repo]);
    assert_eq!(report["ok"], true, "{repo}: {report}");
}

fn model(folder: &Path, seed: u64) -> PathBuf {
    let model = folder.join(format!("model-{seed}"));
    let files = [
        ("large.bin", 9 << 20),
        ("two.bin", 2_500_000),
        ("shard.bin", 400_000),
        ("row.bin", 9_000),
        ("config.json", 200),
    ];
    fixture::folder(&model, seed, &files).unwrap();
    model
}

#[test]
fn killed_publish_loses_nothing_that_was_acknowledged() {
    let mut random = random();
    let folder = tempfile::tempdir().unwrap();
    let shoal = Shoal::new();
    let first = model(folder.path(), 1_000);
    let longest = time(|| drop(shoal.publish(&first, &["--copy"]))).mul_f64(1.1);
    let mut acknowledged = vec![field(&shoal.publish(&first, &[]), "repo").to_owned()];
    for round in 0..PUBLISHES {
        let model = model(folder.path(), round);
        let copy = if round % 2 == 0 {
            &["publish", text(&model), "--copy"][..]
        } else {
            &["publish", text(&model)]
        };
        let printed = killed(&shoal, copy, &mut random, longest);
        let list = list_at_once(&shoal);
        if let Some(printed) = &printed {
            acknowledged.push(field(printed, "repo").to_owned());
        }
        for repo in &acknowledged {
            assert!(
                is_complete(&list, repo),
                "round {round}: {repo} is lost: {list:?}"
            );
        }
        // What is listed as complete is, acknowledged or not; and the same publish goes through now.
        let last = list
            .iter()
            .filter(|view| view["complete"] == true)
            .map(|view| field(view, "manifest"));
        let newest =
            last.filter(|manifest| *manifest == fixture::manifest(&model).unwrap().hash().to_string());
        newest.for_each(|manifest| assert_verifies_whole(&shoal, &format!("blake3/{manifest}")));
        let published = shoal.json(copy);
        assert_eq!(
            field(&published, "manifest"),
            fixture::manifest(&model).unwrap().hash().to_string()
        );
        acknowledged.push(field(&published, "repo").to_owned());
    }
    acknowledged.dedup();
    acknowledged
        .iter()
        .for_each(|repo| assert_verifies_whole(&shoal, repo));
}

/// Verified bytes that a killed fetch left on the disk: groups of 16 KiB, in their place, that are right.
fn right_bytes_on_disk(data: &Path, model: &Path) -> u64 {
    let mut right = 0;
    for path in files(model) {
        let whole = fs::read(&path).unwrap();
        let hash = Hash::of(&whole).to_string();
        for kept in files(&data.join("files")).iter().filter(|kept| {
            let name = kept.file_name().unwrap().to_string_lossy().into_owned();
            name == hash || name == format!("{hash}.part")
        }) {
            let kept = fs::read(kept).unwrap();
            let groups = whole
                .chunks(GROUP_LEN as usize)
                .zip(kept.chunks(GROUP_LEN as usize));
            right += groups
                .filter(|(right, kept)| right == kept)
                .map(|(right, _)| right.len() as u64)
                .sum::<u64>();
        }
    }
    right
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_fetch_goes_on_where_it_was() {
    let mut random = random();
    let net = Testnet::start(1).await.unwrap();
    let shoal = Shoal::new();
    let kept = model(&net.scratch(), 1);
    let kept = tokio::task::block_in_place(|| field(&shoal.publish(&kept, &["--copy"]), "repo").to_owned());
    let mut longest = None;
    for round in 0..=FETCHES {
        let model = net.scratch().join(format!("fetched-{round}"));
        fixture::folder(
            &model,
            round,
            &[
                ("large.bin", 48 << 20),
                ("shard.bin", 500_000),
                ("config.json", 100),
            ],
        )
        .unwrap();
        // Without a word to the network: the ticket is enough, and whom a killed fetch has left behind there does not answer.
        let request = request(&model, &format!("fetched-{round}"));
        let published = net.node(0).library().publish(request, &unseen()).await.unwrap();
        let ticket = net
            .node(0)
            .ticket(&RepoRef::Id(published.repo.clone()))
            .unwrap()
            .to_string();
        let args = ["fetch", &*ticket];
        tokio::task::block_in_place(|| {
            let Some(longest) = longest else {
                longest = Some(time(|| drop(shoal.json(&args))).mul_f64(1.1));
                return;
            };
            let printed = killed(&shoal, &args, &mut random, longest);
            let list = list_at_once(&shoal);
            let name = published.repo.to_string();
            assert!(
                printed.is_none() || is_complete(&list, &name),
                "round {round}: {name} is lost: {list:?}"
            );
            assert!(
                is_complete(&list, &kept),
                "round {round}: {kept} is lost: {list:?}"
            );
            let had = right_bytes_on_disk(shoal.data(), &model);
            let rest = shoal.json(&args);
            let again = rest["fetched_bytes"].as_u64().unwrap();
            eprintln!(
                "round {round}: {had} of {} bytes were there, {again} were fetched",
                published.bytes
            );
            assert!(
                again <= published.bytes.saturating_sub(had) + AGAIN_MAX,
                "round {round}: {again} bytes, {had} were there"
            );
            assert_verifies_whole(&shoal, &format!("blake3/{}", published.manifest));
        });
        fs::remove_dir_all(&model).unwrap();
    }
    tokio::task::block_in_place(|| assert_verifies_whole(&shoal, &kept));
}

#[test]
fn killed_forget_takes_nothing_else_with_it() {
    let mut random = random();
    let folder = tempfile::tempdir().unwrap();
    let shoal = Shoal::new();
    // What is kept shares files with each of those that are forgotten.
    let kept = model(folder.path(), 0);
    let kept = field(&shoal.publish(&kept, &["--copy"]), "repo").to_owned();
    let mut longest = None;
    for round in 0..=FORGETS {
        let model = folder.path().join(format!("forgotten-{round}"));
        fixture::folder(&model, 0, &[("large.bin", 9 << 20), ("row.bin", 9_000)]).unwrap();
        fixture::folder(&model, round + 10, &[("other.bin", 3 << 20), ("other.json", 500)]).unwrap();
        let published = shoal.publish(&model, &["--copy"]);
        let content = format!("blake3/{}", field(&published, "manifest"));
        let args = ["forget", &*content];
        let Some(longest) = longest else {
            longest = Some(time(|| drop(shoal.json(&args))).mul_f64(1.1));
            continue;
        };
        let printed = killed(&shoal, &args, &mut random, longest);
        let list = list_at_once(&shoal);
        assert!(
            is_complete(&list, &kept),
            "round {round}: {kept} is lost: {list:?}"
        );
        assert_verifies_whole(&shoal, &kept);
        let still = list
            .iter()
            .any(|view| view["manifest"] == published["manifest"] && view["complete"] == true);
        assert!(
            printed.is_none() || !still,
            "round {round}: {content} was forgotten and is still there: {list:?}"
        );
        if still {
            assert_verifies_whole(&shoal, &content);
            shoal.json(&args);
        }
        // Nothing is left behind for ever: the next collection finds what the killed one did not.
        shoal.json(&["collect"]);
        let other = Hash::of(&fixture::bytes(round + 10, "other.bin", 3 << 20)).to_string();
        let left = files(&shoal.data().join("files"))
            .into_iter()
            .filter(|path| text(path).contains(&other))
            .count();
        assert_eq!(left, 0, "round {round}: bytes of what was forgotten are left");
    }
    assert_verifies_whole(&shoal, &kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_node_serves_what_it_had_when_it_is_back() {
    let mut net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::toy_model(&folder, 1).unwrap();
    let (published, _) = publish(net.node(1), &folder, "model").await;
    net.restart(1).await.unwrap();
    assert_verifies(net.node(1).library(), &published.repo).await;
    let out = net.scratch().join("out");
    // Nobody was told anything but by the restarted node itself.
    fetch(net.node(2), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    net.restart(2).await.unwrap();
    assert_eq!(fetch(net.node(2), &published.repo, None).await.fetched_bytes, 0);
}

#[test]
fn killed_node_is_up_again_within_five_seconds_with_all_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let shoal = Shoal::new();
    let mut repos = Vec::new();
    for round in 0..5 {
        let mut node = shoal.up();
        let published = shoal.publish(&model(folder.path(), round), &["--copy"]);
        repos.push(field(&published, "repo").to_owned());
        node.kill_nine().unwrap();
        let begun = Instant::now();
        let again = shoal.up();
        assert!(begun.elapsed() < START, "it took {:?}", begun.elapsed());
        let list = list_at_once(&shoal);
        repos
            .iter()
            .for_each(|repo| assert!(is_complete(&list, repo), "{repo} is lost: {list:?}"));
        drop(again);
    }
    repos.iter().for_each(|repo| assert_verifies_whole(&shoal, repo));
}
