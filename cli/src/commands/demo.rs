//! `shoal demo [DIR]`: the main promise on real nodes. A publishes; C, which knows only B, finds it by name and by words, fetches it, verifies it,
//! runs it and validates it, follows A and gets its next release.
//!
//! The nodes are whole ones, in one process, each with its own data folder and its own ports on loopback. Every step says what
//! it did and how long it took; the command ends with 0 only if all of them held.

mod compare;
mod discovering;
mod model;
mod running;
mod steps;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node::config::Config;
use node::fetch::{FetchRequest, FetchWhat};
use node::node::Node;
use node::progress::Progress;
use node::publish::{PublishRequest, Published};
use node::verify::{self, Report};
use protocol::release::{key_of, provider_key};
use protocol::{Kind, Proof, RepoRef};
use tempfile::TempDir;

use crate::args::Demo;
use crate::context::Context;
use crate::failure::Failure;
use crate::meeting::meets_somebody;
use crate::meter::Meter;
use crate::output;
use crate::session;
use steps::{Step, Steps};

/// How long nodes on one machine may take to find each other.
const MEET_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest file in which a byte is changed to see that it is found: it is copied for that.
const SPOIL_LEN_MAX: u64 = 256 * 1024 * 1024;

/// The three nodes.
struct Trio {
    a: Node,
    b: Node,
    c: Node,
}

pub(crate) async fn run(demo: Demo, context: &mut Context<'_>) -> Result<(), Failure> {
    let source = demo.dir.map(session::absolute).transpose()?;
    let folder = tempfile::Builder::new()
        .prefix("shoal-demo-")
        .tempdir_in(&context.io.temp)?;
    let interrupted = || Failure::new("interrupted");
    let outcome = {
        let mut steps = Steps::new(context);
        tokio::select! {
            outcome = play(source, folder.path(), &mut steps) => outcome,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        }
    };
    remove(folder).await?;
    outcome
}

async fn play(source: Option<PathBuf>, folder: &Path, steps: &mut Steps<'_, '_>) -> Result<(), Failure> {
    let ours = source.is_none();
    let source = match source {
        Some(source) => source,
        None => make_model(folder, steps).await?,
    };
    let trio = start(folder, steps).await?;
    let outcome = main_promise(&trio, &source, ours, folder, steps).await;
    trio.stop().await;
    outcome?;
    steps.all_held()
}

async fn make_model(folder: &Path, steps: &mut Steps<'_, '_>) -> Result<PathBuf, Failure> {
    let begun = Instant::now();
    let source = folder.join("demo-model");
    let bytes = model::make(&source)?;
    let text = format!(
        "made a model to publish: {}, random weights, not trained",
        output::size(bytes)
    );
    steps.done(Step::new("make", begun).text(text))?;
    running::probe(&source, steps).await?;
    Ok(source)
}

async fn start(folder: &Path, steps: &mut Steps<'_, '_>) -> Result<Trio, Failure> {
    let begun = Instant::now();
    let b = Node::start(Config::loopback(folder.join("b"))).await?;
    let knowing_b = |name: &str| {
        let mut config = Config::loopback(folder.join(name));
        config.peers = b.listeners();
        config
    };
    let a = Node::start(knowing_b("a")).await?;
    let c = Node::start(knowing_b("c")).await?;
    let trio = Trio { a, b, c };
    if let Err(failure) = trio.meet().await {
        trio.stop().await;
        return Err(failure);
    }
    let ids = [&trio.a, &trio.b, &trio.c].map(|node| tail(&node.library().peer_id().to_string()));
    let [a, b, c] = ids;
    let text = format!("started three nodes on loopback: A …{a}, B …{b}, C …{c}; A and C know only B");
    steps.done(Step::new("start", begun).text(text))?;
    Ok(trio)
}

async fn main_promise(
    trio: &Trio,
    source: &Path,
    ours: bool,
    folder: &Path,
    steps: &mut Steps<'_, '_>,
) -> Result<(), Failure> {
    let published = publish(trio, source, steps).await?;
    let repo = RepoRef::Id(published.repo.clone());
    find(trio, &published, steps).await?;
    discovering::search(&trio.c, &published, steps).await?;
    let to = folder.join("fetched");
    fetch(trio, &repo, &published, &to, steps).await?;
    same_bytes(source, &to, published.files, steps).await?;
    let proof_file = folder.join("demo.proof");
    prove(trio, &repo, &proof_file, steps).await?;
    verify_offline(&to, &proof_file, &published, steps).await?;
    running::run(&trio.c, &repo, ours, steps).await?;
    spoil(&to, &proof_file, steps).await?;
    discovering::next_release(&trio.a, &trio.c, &published, folder, steps).await
}

/// A release that is not missed when the demo is over.
fn request(source: &Path) -> PublishRequest {
    PublishRequest {
        path: source.to_owned(),
        name: None,
        kind: Kind::Model,
        copy: false,
        upstream: None,
        valid_days: 1,
        require_card: false,
    }
}

async fn publish(trio: &Trio, source: &Path, steps: &mut Steps<'_, '_>) -> Result<Published, Failure> {
    let begun = Instant::now();
    let request = request(source);
    let (progress, snapshots) = Progress::channel();
    let work = trio.a.publish(request, &progress);
    let (published, _) = Meter::new(steps.context())
        .watch(snapshots, work, steps.context())
        .await?;
    let files = output::count(published.files, "file");
    let text = format!(
        "A published {} ({files}, {})",
        published.repo,
        output::size(published.bytes)
    );
    steps.done(Step::new("publish", begun).bytes(published.bytes).text(text))?;
    Ok(published)
}

/// C asks the DHT, and nobody else: for the release by its name, and for who has its manifest.
async fn find(trio: &Trio, published: &Published, steps: &mut Steps<'_, '_>) -> Result<(), Failure> {
    let begun = Instant::now();
    let (swarm, repo) = (trio.c.swarm(), &published.repo);
    let releases = swarm.get_records(key_of(repo.publisher, &repo.name)).await?;
    let named = releases
        .iter()
        .any(|found| found.release().manifest == published.manifest);
    let mut providers = swarm.providers(provider_key(published.manifest), 1).await?;
    let provider = providers.recv().await;
    let held = named && provider == Some(trio.a.library().peer_id());
    let text = match held {
        true => "C, which knows only B, found in the DHT what the name means, and that A has it".to_owned(),
        false => "C did not find in the DHT what A announced".to_owned(),
    };
    steps.done(Step::new("find", begun).held(held).text(text))
}

/// C is told nothing but the name.
async fn fetch(
    trio: &Trio,
    repo: &RepoRef,
    published: &Published,
    to: &Path,
    steps: &mut Steps<'_, '_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let request = FetchRequest {
        to: Some(to.to_owned()),
        ..FetchRequest::new(FetchWhat::Repo(repo.clone()))
    };
    let (progress, snapshots) = Progress::channel();
    let work = trio.c.fetch(request, &progress);
    let fetched = Meter::new(steps.context())
        .watch(snapshots, work, steps.context())
        .await?;
    let a = trio.a.library().peer_id().to_string();
    let from_a = fetched
        .peers
        .iter()
        .filter(|share| share.peer == a)
        .map(|share| share.bytes)
        .sum::<u64>();
    let text = format!(
        "C fetched it by its name: {}, {} of it from A",
        output::size(fetched.fetched_bytes),
        output::size(from_a)
    );
    let held = fetched.manifest == published.manifest
        && fetched.files == published.files
        && fetched.bytes == published.bytes;
    steps.done(
        Step::new("fetch", begun)
            .bytes(fetched.fetched_bytes)
            .held(held)
            .text(text),
    )
}

async fn same_bytes(source: &Path, to: &Path, files: u64, steps: &mut Steps<'_, '_>) -> Result<(), Failure> {
    let begun = Instant::now();
    let (source, to) = (source.to_owned(), to.to_owned());
    let compared = tokio::task::spawn_blocking(move || compare::folders(&source, &to)).await??;
    let held = compared.difference.is_none() && compared.files == files;
    let count = output::count(compared.files, "file");
    let text = match &compared.difference {
        None if held => format!("every byte C has is what A published: {count} compared"),
        None => format!("C has {count}, and A published {files}"),
        Some(path) => format!("what C has is not what A published: {path}"),
    };
    steps.done(
        Step::new("compare", begun)
            .bytes(compared.bytes)
            .held(held)
            .text(text),
    )
}

async fn prove(trio: &Trio, repo: &RepoRef, file: &Path, steps: &mut Steps<'_, '_>) -> Result<(), Failure> {
    let begun = Instant::now();
    let proof = trio.c.library().proof(repo, &Progress::default()).await?;
    let bytes = proof.encode();
    std::fs::write(file, &bytes)?;
    let held = proof.release().is_some();
    let text = format!(
        "C wrote a proof file: {}, with A's signature",
        output::size(bytes.len() as u64)
    );
    steps.done(Step::new("proof", begun).held(held).text(text))
}

/// Verifies as somebody would who has only the folder and the proof file.
async fn verify_offline(
    to: &Path,
    file: &Path,
    published: &Published,
    steps: &mut Steps<'_, '_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let report = verified(to, file).await?;
    let held =
        report.ok && report.files == published.files && report.signed_by.as_ref() == Some(&published.repo);
    let text = match held {
        true => format!(
            "verified offline with the proof file: {}, signed",
            output::count(report.files, "file")
        ),
        false => format!("not verified: {} bad", report.bad.len()),
    };
    steps.done(
        Step::new("verify", begun)
            .bytes(report.bytes)
            .held(held)
            .text(text),
    )
}

/// Changes one bit, and sees that it is found, where it is.
async fn spoil(to: &Path, file: &Path, steps: &mut Steps<'_, '_>) -> Result<(), Failure> {
    let begun = Instant::now();
    let Some(spoilt) = compare::spoil(to, SPOIL_LEN_MAX)? else {
        return Ok(());
    };
    let report = verified(to, file).await?;
    let named = |report: &Report| match report.bad.as_slice() {
        [bad] => {
            Path::new(&bad.path) == spoilt && bad.reason == verify::Reason::Changed && bad.offset == Some(0)
        }
        _ => false,
    };
    let held = !report.ok && named(&report);
    let text = match held {
        true => format!(
            "changed one bit of {}: noticed, and named with its place",
            spoilt.display()
        ),
        false => format!(
            "changed one bit of {}, and that was not noticed as it should be",
            spoilt.display()
        ),
    };
    steps.done(Step::new("spoil", begun).held(held).text(text))
}

async fn verified(to: &Path, file: &Path) -> Result<Report, Failure> {
    let proof = Proof::decode(&std::fs::read(file)?)?;
    let to = to.to_owned();
    let work = tokio::task::spawn_blocking(move || verify::folder(&to, &proof, &Progress::default()));
    Ok(work.await??)
}

impl Trio {
    /// Waits until A and C have B in their routing tables: then they can announce and ask.
    async fn meet(&self) -> Result<(), Failure> {
        for node in [&self.a, &self.c] {
            if !meets_somebody(node, MEET_TIMEOUT).await {
                let waited = output::time(MEET_TIMEOUT);
                return Err(Failure::new(format!("the nodes did not meet within {waited}")));
            }
        }
        Ok(())
    }

    async fn stop(&self) {
        for node in [&self.c, &self.a, &self.b] {
            node.shutdown().await;
        }
    }
}

/// The end of a long id, by which a person tells a few of them apart.
fn tail(id: &str) -> String {
    let skipped = id.chars().count().saturating_sub(6);
    id.chars().skip(skipped).collect()
}

async fn remove(folder: TempDir) -> Result<(), Failure> {
    let path = folder.path().to_owned();
    let removed = tokio::task::spawn_blocking(move || folder.close()).await?;
    removed.map_err(|error| Failure::from(error).context(format!("{} cannot be removed", path.display())))
}
