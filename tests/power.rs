//! The power goes: what was acknowledged is there when it comes back, and what was not is whole or absent.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use node::library::Library;
use protocol::{RepoId, RepoRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testnet::disk::{DiskError, PowerCut, PowerCutOptions};
use testnet::nodes::Process;
use testnet::skip;

use crate::acts::unseen;

/// Cuts with the file system's usual commits, and as many with none but those that were asked for.
const CUTS: u32 = 6;

/// How long a cut waits for the first acknowledgement.
const FIRST: Duration = Duration::from_secs(30);

/// A disk whose power can be cut; `None`, said loudly, where there is none to be had.
fn disk(commit: Option<Duration>) -> Option<PowerCut> {
    match PowerCut::create(PowerCutOptions {
        commit,
        ..PowerCutOptions::default()
    }) {
        Ok(disk) => Some(disk),
        Err(error @ DiskError::Unavailable { .. }) => {
            skip(error);
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn random() -> (u64, StdRng) {
    let seed = rand::rng().random();
    eprintln!("seed {seed}");
    (seed, StdRng::seed_from_u64(seed))
}

fn writer<'a>(args: impl IntoIterator<Item = &'a OsStr>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_writer"));
    command.args(args);
    Process::spawn(command).unwrap()
}

/// Hears a writer out until some moment; a moment is as good as any other, so it may pass in the middle of a line's work.
fn hear_until(writer: &Process, moment: Instant, mut heard: impl FnMut(&str)) {
    while let Some(left) = moment.checked_duration_since(Instant::now()) {
        match writer.next_line(left) {
            Ok(line) => heard(&line),
            Err(error) => assert!(Instant::now() >= moment, "{error:#}"),
        }
    }
}

/// What a writer may be held to.
#[derive(Default)]
struct Acknowledged(BTreeMap<RepoId, (String, u64)>);

impl Acknowledged {
    fn hear(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["published", repo, manifest, seq] => {
                self.0.insert(
                    repo.parse().unwrap(),
                    ((*manifest).to_owned(), seq.parse().unwrap()),
                );
            }
            ["forgetting", repo] => drop(self.0.remove(&repo.parse().unwrap())),
            _ => panic!("the writer said {line:?}"),
        }
    }
}

/// Opens what the cut left and holds it to what was acknowledged.
async fn assert_nothing_lost(data: &Path, acknowledged: &Acknowledged) {
    let library = Library::open(data).await.unwrap();
    let views = library.list().unwrap();
    for (repo, (manifest, seq)) in &acknowledged.0 {
        let view = views.iter().find(|view| view.repo.as_ref() == Some(repo));
        let view = view.unwrap_or_else(|| panic!("{repo} is lost"));
        assert!(view.seq >= Some(*seq), "{repo}: release {seq} is lost: {view:?}");
        assert!(
            view.seq > Some(*seq) || view.manifest.to_string() == *manifest,
            "{repo} is another: {view:?}"
        );
        assert!(view.complete, "{repo} is incomplete: {view:?}");
    }
    // Whatever says that it is complete is, acknowledged or not.
    for view in views.iter().filter(|view| view.complete) {
        let report = library
            .verify(&RepoRef::Content(view.manifest), &unseen())
            .await
            .unwrap();
        assert!(report.ok, "{view:?}: {:?}", report.bad);
    }
    library.close().await;
}

async fn nothing_acknowledged_is_lost(commit: Option<Duration>) {
    let Some(disk) = disk(commit) else { return };
    let (seed, mut random) = random();
    let data = disk.live().join("data");
    // What is published lies on another disk than the one that is cut: only the copy counts.
    let source = tempfile::tempdir().unwrap();
    let writer = writer([
        OsStr::new("library"),
        data.as_os_str(),
        source.path().as_os_str(),
        OsStr::new(&seed.to_string()),
    ]);
    let mut acknowledged = Acknowledged::default();
    acknowledged.hear(&writer.next_line(FIRST).unwrap());
    for cut in 0..CUTS {
        let moment = Instant::now() + Duration::from_millis(random.random_range(50..1_500));
        hear_until(&writer, moment, |line| acknowledged.hear(line));
        let (held_to, now) = (acknowledged.0.len(), disk.cut().unwrap());
        // What the writer began to forget until the cut is no more to be held to; what it published since is a gift.
        let published = acknowledged.0.clone();
        hear_until(&writer, Instant::now() + Duration::from_millis(20), |line| {
            acknowledged.hear(line)
        });
        let held = published
            .into_iter()
            .filter(|(repo, _)| acknowledged.0.contains_key(repo))
            .collect();
        eprintln!("cut {cut}: {held_to} repos acknowledged");
        assert_nothing_lost(&now.path().join("data"), &Acknowledged(held)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_power_goes() {
    nothing_acknowledged_is_lost(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_on_a_disk_that_commits_only_when_asked() {
    nothing_acknowledged_is_lost(Some(Duration::from_secs(300))).await;
}

/// The numbers that raw sled acknowledged and a cut has lost: all, where it does not open any more, or panics over it.
fn lost(folder: &Path, acknowledged: u64) -> u64 {
    let Ok(Ok(database)) = std::panic::catch_unwind(|| sled::open(folder)) else {
        return acknowledged + 1;
    };
    let there = |number: &u64| {
        database
            .get(number.to_be_bytes())
            .is_ok_and(|value| value.is_some())
    };
    (0..=acknowledged).filter(|number| !there(number)).count() as u64
}

/// The control: a harness that cannot make sled, whose flush does not reach the disk, lose anything shows nothing above either.
#[test]
fn same_cuts_make_raw_sled_lose_what_it_acknowledged() {
    let Some(disk) = disk(Some(Duration::from_secs(300))) else {
        return;
    };
    let (_, mut random) = random();
    let folder = disk.live().join("sled");
    let writer = writer([OsStr::new("sled"), folder.as_os_str()]);
    let number = |line: &str| line.strip_prefix("wrote ").unwrap().parse::<u64>().unwrap();
    let mut acknowledged = number(&writer.next_line(FIRST).unwrap());
    for cut in 0..12 {
        let moment = Instant::now() + Duration::from_millis(random.random_range(50..700));
        hear_until(&writer, moment, |line| acknowledged = number(line));
        let now = disk.cut().unwrap();
        let lost = lost(&now.path().join("sled"), acknowledged);
        eprintln!("cut {cut}: raw sled lost {lost} of {}", acknowledged + 1);
        if lost > 0 {
            return;
        }
    }
    panic!("raw sled lost nothing in 12 cuts: this harness would not notice a loss");
}
