//! The measured part: all nodes, the emulated internet between them, and the clock.

use super::super::{
    SEED, Transport,
    meter::{Measured, Meter, cpu_of},
    part::tell,
    say,
};
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, future::join_all, stream};
use node::{config::Config, discovery::SearchAsk, node::Node, progress::Progress, publish::PublishRequest};
use protocol::{Alias, RepoId, RepoName, RepoRef, release::key_of};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::index};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    future::Future,
    path::Path,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use testnet::{
    fixture,
    link::Link,
    netns::{Net, NetOptions},
    report::Spread,
};
use tokio::{
    runtime::Runtime,
    task::spawn_blocking,
    time::{interval, sleep, timeout},
};

/// The node that all others know.
const BOOTSTRAP: usize = 0;
/// The node that publishes.
const PUBLISHER: usize = 1;
/// Nodes that are asked for a new release by words, in each round others.
pub(super) const SEARCHERS: usize = 4;
/// Memory of all nodes together, in bytes, beyond which none of them takes a new connection: a few times what they need.
const MEMORY_MAX: usize = 16 << 30;
/// Nodes that start at once.
const STARTING: usize = 8;
/// Lookups at once: one alone would take minutes, many would wait for the machine.
const LOOKING: usize = 4;
/// From one look at who knows it to the next.
const LOOK: Duration = Duration::from_millis(5);
/// From one search to the next.
const SEARCH: Duration = Duration::from_millis(20);
/// How long a release may take to be known and found.
const ROUND_DEADLINE: Duration = Duration::from_secs(60);
/// How long a node may take to meet another one.
const MEET_DEADLINE: Duration = Duration::from_secs(120);
/// Over what time the nodes are quiet or not.
const QUIET: Duration = Duration::from_secs(2);
/// Share of the machine that they may take and be quiet: 200 whole nodes that ping each other are never silent.
const QUIET_SHARE: f64 = 0.4;
/// Longest wait for quiet after the start, when each meets each.
const QUIET_DEADLINE: Duration = Duration::from_secs(300);
/// Longest wait for quiet after a round.
const REST_DEADLINE: Duration = Duration::from_secs(10);

/// What is to be measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(super) nodes: usize,
    pub(super) rtt: Duration,
    pub(super) rounds: usize,
    pub(super) lookups: usize,
    pub(super) transport: Transport,
}

/// What was measured, times in seconds.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Until all nodes had started and met.
    pub(super) up: f64,
    /// Until they were quiet.
    pub(super) quiet: f64,
    /// Connections of a node, and nodes in its routing table: the medians.
    pub(super) connected: f64,
    pub(super) routing: f64,
    /// In each round when each follower knew it; who never did is not among them.
    pub(super) known: Vec<Vec<f64>>,
    /// When searches found it.
    pub(super) found: Vec<f64>,
    /// How long publishing took.
    pub(super) published: Vec<f64>,
    /// How long lookups took, and how many found nothing.
    pub(super) looked_up: Vec<f64>,
    pub(super) not_looked_up: usize,
    /// Requests that an announcement took, on the average: of what is provided, and of a name.
    pub(super) requests: f64,
    /// Share of the machine that was taken while quiet, and during rounds.
    pub(super) idle: f64,
    pub(super) busy: f64,
    pub(super) measured: Measured,
}

/// Whole nodes, each on a host and with a runtime of its own there: a socket is of the host where its thread is.
struct Crowd<'a> {
    nodes: Vec<Node>,
    runtimes: &'a [Runtime],
}

/// Runs all of it, and tells the figures.
pub(crate) fn crowd(folder: &Path, asked: &str) -> Result<()> {
    let asked: Asked = serde_json::from_str(asked)?;
    let meter = Meter::start()?;
    let net = Net::with(NetOptions {
        hosts: asked.nodes,
        ..NetOptions::default()
    })?;
    net.links().set_default(Link {
        delay: asked.rtt / 2,
        ..Link::default()
    });
    let runtimes = net.hosts().iter().map(|host| host.runtime(1));
    let runtimes: Vec<Runtime> = runtimes.collect::<Result<_, _>>()?;
    let figures = Runtime::new()?.block_on(measure(folder, &asked, &net, &runtimes));
    runtimes.into_iter().for_each(Runtime::shutdown_background);
    tell(&Figures {
        measured: meter.stop()?,
        ..figures?
    })
}

async fn measure(folder: &Path, asked: &Asked, net: &Net, runtimes: &[Runtime]) -> Result<Figures> {
    let begun = Instant::now();
    let crowd = Crowd::start(folder, asked, net, runtimes).await?;
    let mut figures = Figures {
        up: begun.elapsed().as_secs_f64(),
        ..Figures::default()
    };
    crowd.follow()?;
    figures.idle = quiet(QUIET_DEADLINE).await?;
    figures.quiet = begun.elapsed().as_secs_f64();
    let counts = join_all(crowd.nodes.iter().map(|node| node.swarm().counts())).await;
    figures.connected = Spread::of(counts.iter().map(|counts| counts.connected as f64)).median;
    figures.routing = Spread::of(counts.iter().map(|counts| counts.routing as f64)).median;
    let repos = crowd.rounds(folder, asked.rounds, &mut figures).await?;
    let counts = crowd.nodes[PUBLISHER].swarm().counts().await;
    figures.requests = counts.announce_requests as f64 / counts.announced as f64;
    crowd.look_up(&repos, asked.lookups, &mut figures).await;
    crowd.stop().await;
    Ok(figures)
}

impl<'a> Crowd<'a> {
    async fn start(folder: &Path, asked: &Asked, net: &Net, runtimes: &'a [Runtime]) -> Result<Crowd<'a>> {
        let start = |host: usize, peers: Vec<_>| {
            let listen = asked.transport.listen(net.host(host).ip()).parse();
            let (data, runtime) = (folder.join(format!("node-{host}")), &runtimes[host]);
            async move {
                let config = Config {
                    listen: vec![listen?],
                    peers,
                    memory_max: MEMORY_MAX,
                    ..Config::loopback(data)
                };
                let node = runtime.spawn(Node::start(config)).await?;
                let node = node.with_context(|| format!("starting node {host}"))?;
                // The next ones wait: hundreds at once would time out at the one that all know.
                let met = timeout(MEET_DEADLINE, meet(&node, host)).await;
                met.with_context(|| format!("node {host} has not met another one"))?;
                anyhow::Ok(node)
            }
        };
        let first = start(BOOTSTRAP, Vec::new()).await?;
        let meeting = first.listeners();
        let others = stream::iter(1..asked.nodes).map(|host| start(host, meeting.clone()));
        let others: Vec<Result<Node>> = others.buffered(STARTING).collect().await;
        let nodes = std::iter::once(Ok(first)).chain(others).collect::<Result<_>>()?;
        Ok(Crowd { nodes, runtimes })
    }

    /// Has all nodes but one follow that one.
    fn follow(&self) -> Result<()> {
        let publisher = self.nodes[PUBLISHER].library().publisher();
        let alias = Alias::new("publisher")?;
        for node in self.followers() {
            node.library().follow(publisher, &alias)?;
        }
        Ok(())
    }

    fn followers(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(host, _)| *host != PUBLISHER)
            .map(|(_, node)| node)
    }

    /// Publishes so often, and watches what becomes of it; returns what was published.
    async fn rounds(&self, folder: &Path, rounds: usize, figures: &mut Figures) -> Result<Vec<RepoId>> {
        let mut random = StdRng::seed_from_u64(SEED);
        let (mut repos, mut busy) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            say(format_args!("round {} of {rounds}", round + 1));
            let (name, model) = (
                RepoName::new(&format!("model-{round}"))?,
                folder.join(format!("model-{round}")),
            );
            fixture::folder(
                &model,
                round as u64,
                &[("config.json", 300), ("weights.bin", 40_000)],
            )?;
            let card = format!("---\nlicense: mit\n---\nThe herring of round {round}, and what it tells.\n");
            fs::write(model.join("README.md"), card)?;
            let followers: Vec<&Node> = self.followers().collect();
            let searchers = index::sample(&mut random, followers.len(), SEARCHERS);
            let cpu = cpu_of("self")?;
            let begun = Instant::now();
            let publishing = self.on(PUBLISHER, |node| {
                let request = PublishRequest {
                    name: Some(name.clone()),
                    ..PublishRequest::new(model)
                };
                async move {
                    node.publish(request, &Progress::default())
                        .await
                        .map(|told| (told.0, begun.elapsed()))
                }
            });
            let finding = searchers.iter().map(|at| found(followers[at], &name, begun));
            let (published, known, found) =
                tokio::join!(publishing, known(&followers, begun), join_all(finding));
            busy.push((cpu_of("self")? - cpu) / begun.elapsed().as_secs_f64() / cores());
            let (published, took) = published??;
            let repo = RepoRef::Id(published.repo.clone());
            let follow = followers.iter().filter(|node| {
                let here = node.library().resolve_local(&repo);
                here.is_ok_and(|manifest| manifest == published.manifest)
            });
            let follow = follow.count();
            ensure!(
                follow >= known.len(),
                "{} know it and {follow} follow it",
                known.len()
            );
            figures.known.push(known);
            figures.found.extend(found.into_iter().flatten());
            figures.published.push(took.as_secs_f64());
            repos.push(published.repo);
            quiet(REST_DEADLINE).await?;
        }
        figures.busy = Spread::of(busy).median;
        Ok(repos)
    }

    /// Looks names up in the DHT, on nodes that did not publish them.
    async fn look_up(&self, repos: &[RepoId], lookups: usize, figures: &mut Figures) {
        say(format_args!("{lookups} lookups"));
        let mut random = StdRng::seed_from_u64(SEED);
        let followers: Vec<&Node> = self.followers().collect();
        let chosen = (0..lookups).map(|_| {
            let repo = &repos[random.random_range(0..repos.len())];
            (followers[random.random_range(0..followers.len())], repo)
        });
        let look = |(node, repo): (&Node, &RepoId)| {
            let (swarm, repo) = (node.swarm().clone(), repo.clone());
            async move {
                let begun = Instant::now();
                let found = swarm
                    .get_records(key_of(repo.publisher, &repo.name))
                    .await
                    .unwrap_or_default();
                let found = found.iter().any(|release| release.release().repo() == repo);
                found.then(|| begun.elapsed().as_secs_f64())
            }
        };
        let looks: Vec<_> = chosen.map(look).collect();
        let looked: Vec<Option<f64>> = stream::iter(looks).buffer_unordered(LOOKING).collect().await;
        figures.not_looked_up = looked.iter().filter(|found| found.is_none()).count();
        figures.looked_up = looked.into_iter().flatten().collect();
    }

    /// Works with a node where it is.
    fn on<T: Send + 'static, W: Future<Output = T> + Send + 'static>(
        &self,
        host: usize,
        work: impl FnOnce(Node) -> W,
    ) -> tokio::task::JoinHandle<T> {
        self.runtimes[host].spawn(work(self.nodes[host].clone()))
    }

    async fn stop(self) {
        let stopping = |host: usize| self.on(host, |node| async move { node.shutdown().await });
        let stopped: Vec<_> = (0..self.nodes.len()).map(stopping).collect();
        // At worst a folder is not tidy: it goes.
        let _ = join_all(stopped).await;
    }
}

/// Waits until a node has another one in its routing table; the first has nobody to wait for.
async fn meet(node: &Node, host: usize) {
    while host != BOOTSTRAP && node.swarm().counts().await.routing == 0 {
        sleep(LOOK).await;
    }
}

/// When each of the nodes knows one release more than now, in seconds.
async fn known(nodes: &[&Node], begun: Instant) -> Vec<f64> {
    let mut waiting: Vec<(&Node, usize)> = nodes.iter().map(|node| (*node, node.discovery().len())).collect();
    let mut times = Vec::new();
    let mut looks = interval(LOOK);
    while !waiting.is_empty() && begun.elapsed() < ROUND_DEADLINE {
        looks.tick().await;
        waiting.retain(|(node, before)| {
            let knows = node.discovery().len() > *before;
            times.extend(knows.then(|| begun.elapsed().as_secs_f64()));
            !knows
        });
    }
    times
}

/// When a search on a node finds this name, in seconds. `None`: it does not.
async fn found(node: &Node, name: &RepoName, begun: Instant) -> Option<f64> {
    let mut looks = interval(SEARCH);
    while begun.elapsed() < ROUND_DEADLINE {
        looks.tick().await;
        let discovery = node.discovery().clone();
        let ask = SearchAsk {
            words: format!("herring {name}"),
            ..SearchAsk::default()
        };
        let searched = spawn_blocking(move || discovery.search(&ask)).await.ok()?;
        if searched.ok()?.hits.iter().any(|hit| hit.repo.name == *name) {
            return Some(begun.elapsed().as_secs_f64());
        }
    }
    None
}

/// Waits until the nodes take little of the machine, or for so long; returns which share of it they take then.
async fn quiet(deadline: Duration) -> Result<f64> {
    let begun = Instant::now();
    loop {
        let (cpu, since) = (cpu_of("self")?, Instant::now());
        sleep(QUIET).await;
        let taken = (cpu_of("self")? - cpu) / since.elapsed().as_secs_f64() / cores();
        if taken <= QUIET_SHARE || begun.elapsed() > deadline {
            return Ok(taken);
        }
    }
}

fn cores() -> f64 {
    available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}
