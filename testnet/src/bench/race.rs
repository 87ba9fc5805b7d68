//! A race: receivers that begin to fetch at the same moment, some of them killed and replaced on the way, and sources that may
//! leave. It ends when everybody has finished or failed, each before a deadline.

use super::{
    ANSWER_DEADLINE,
    field::{Field, Peer},
    part::peer::{Order, Told},
    usage::{Shares, Watch},
};
use anyhow::{Context, Result, bail};
use protocol::Ticket;
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use testnet::link::Counters;

/// How often a source's bytes are counted while it is to leave: 5 ms are 30 KiB at 50 Mbit/s.
const COUNT_PAUSE: Duration = Duration::from_millis(5);

/// How a race is run.
pub(super) struct Race<'a> {
    pub(super) field: &'a Field,
    /// What the receivers know.
    pub(super) ticket: Ticket,
    /// The hosts of the receivers.
    pub(super) receivers: Range<usize>,
    /// When a receiver is killed and a new one started in its place, by its number; it is not when it has finished by then.
    pub(super) kills: Vec<(usize, Duration)>,
    /// The first source, on host 0, is killed when it has sent so many bytes of blobs.
    pub(super) source_leaves: Option<u64>,
    /// How long each may take.
    pub(super) deadline: Duration,
}

/// What came of a receiver.
#[derive(Clone, Debug)]
pub(super) struct Finish {
    /// Seconds from the start of the race until it had everything; or why it never had.
    pub(super) seconds: Result<f64, String>,
    /// Whether it replaced one that was killed.
    pub(super) replaced: bool,
    /// Verified bytes that it fetched.
    pub(super) fetched_bytes: u64,
    /// The most memory that was resident, in bytes.
    pub(super) peak: u64,
}

/// What came of a race.
pub(super) struct Raced {
    /// By the receivers' numbers.
    pub(super) finishes: Vec<Finish>,
    /// What passed between each host and the internet.
    pub(super) traffic: Vec<Counters>,
    /// Bytes of blobs that the first source sent; `None` when it left.
    pub(super) payload: Option<u64>,
    /// The most memory of a source that was resident, in bytes.
    pub(super) source_peak: u64,
    /// Who used the machine.
    pub(super) shares: Shares,
}

/// A receiver at its host.
struct Runner {
    peer: Peer,
    host: usize,
    kill: Option<Duration>,
    /// CPU seconds of those that were killed.
    gone: f64,
    replaced: bool,
}

impl Race<'_> {
    /// Runs it, with these sources already serving; the first of them is on host 0.
    pub(super) fn run(self, sources: &mut [Peer]) -> Result<Raced> {
        let mut runners = self.ready()?;
        for peer in sources
            .iter_mut()
            .chain(runners.iter_mut().map(|runner| &mut runner.peer))
        {
            peer.mark()?;
        }
        let before = self.counters();
        let watch = Watch::start()?;
        let begun = Instant::now();
        for runner in &mut runners {
            runner.peer.order(Order::Go)?;
        }
        let over = AtomicBool::new(false);
        let (first, others) = sources.split_first_mut().context("a source")?;
        let finishes = thread::scope(|scope| {
            let leaving = scope.spawn(|| self.source_leaves(first, &over));
            let running: Vec<_> = runners
                .iter_mut()
                .map(|runner| scope.spawn(|| runner.run(&self, begun)))
                .collect();
            let finishes: Vec<Finish> = running
                .into_iter()
                .map(|running| running.join().expect("a runner does not panic"))
                .collect();
            over.store(true, Ordering::Relaxed);
            leaving.join().expect("counting does not panic")?;
            Ok::<_, anyhow::Error>(finishes)
        })?;
        let nodes = || others.iter().chain([&*first]).map(Peer::spent);
        let cpu = nodes().map(|spent| spent.cpu).sum::<f64>() + runners.iter().map(Runner::cpu).sum::<f64>();
        let shares = watch.stop(cpu)?;
        let source_peak = nodes().map(|spent| spent.peak).max().unwrap_or(0);
        let after = self.counters().into_iter().zip(before);
        Ok(Raced {
            traffic: after.map(|(after, before)| after.since(before)).collect(),
            payload: first.sent().ok(),
            finishes,
            source_peak,
            shares,
        })
    }

    /// Starts all receivers, and waits until they are ready.
    fn ready(&self) -> Result<Vec<Runner>> {
        let started: Result<Vec<_>> = (self.receivers.clone().enumerate())
            .map(|(number, host)| {
                let kill = self.kills.iter().find(|(killed, _)| *killed == number);
                Ok(Runner {
                    peer: self.field.taker(host, &self.ticket)?,
                    host,
                    kill: kill.map(|(_, when)| *when),
                    gone: 0.0,
                    replaced: false,
                })
            })
            .collect();
        let runners = started?;
        runners.iter().try_for_each(|runner| ready(&runner.peer))?;
        Ok(runners)
    }

    fn counters(&self) -> Vec<Counters> {
        let net = self.field.net();
        (0..net.hosts().len())
            .map(|host| net.links().counters(host))
            .collect()
    }

    /// Kills the first source when it has sent as much as it is to, unless the race is over before.
    fn source_leaves(&self, source: &mut Peer, over: &AtomicBool) -> Result<()> {
        let Some(bytes) = self.source_leaves else {
            return Ok(());
        };
        while !over.load(Ordering::Relaxed) {
            if source.sent()? >= bytes {
                return source.kill();
            }
            thread::sleep(COUNT_PAUSE);
        }
        Ok(())
    }
}

fn ready(peer: &Peer) -> Result<()> {
    match peer.hear(ANSWER_DEADLINE)? {
        Told::Ready => Ok(()),
        other => bail!("{other:?} before it was ready"),
    }
}

impl Runner {
    /// Waits until the receiver has finished, and kills and replaces it on the way where it is to be.
    fn run(&mut self, race: &Race<'_>, begun: Instant) -> Finish {
        let taken = self.finish(race, begun);
        Finish {
            fetched_bytes: taken.as_ref().map_or(0, |(_, bytes)| *bytes),
            seconds: taken
                .map(|(seconds, _)| seconds)
                .map_err(|error| format!("{error:#}")),
            replaced: self.replaced,
            peak: self.peer.spent().peak,
        }
    }

    fn finish(&mut self, race: &Race<'_>, begun: Instant) -> Result<(f64, u64)> {
        let end = begun + race.deadline;
        if let Some(when) = self.kill {
            let heard = self.peer.hear(begun + when - Instant::now());
            if heard.is_ok() || !self.peer.running() {
                return taken(heard?, begun);
            }
            self.peer.kill()?;
            self.gone = self.peer.spent().cpu;
            self.peer = race.field.taker(self.host, &race.ticket)?;
            self.replaced = true;
            ready(&self.peer)?;
            self.peer.order(Order::Go)?;
        }
        taken(
            self.peer.hear(end.saturating_duration_since(Instant::now()))?,
            begun,
        )
    }

    fn cpu(&self) -> f64 {
        self.gone + self.peer.spent().cpu
    }
}

/// Reads what a receiver says at its end: when, and how much it fetched.
fn taken(told: Told, begun: Instant) -> Result<(f64, u64)> {
    match told {
        Told::Taken { fetched_bytes, .. } => Ok((begun.elapsed().as_secs_f64(), fetched_bytes)),
        other => bail!("{other:?} at the end"),
    }
}

impl Raced {
    /// The times of those who finished and were not replaced, sorted.
    pub(super) fn times(&self) -> Vec<f64> {
        let stayed = self.finishes.iter().filter(|finish| !finish.replaced);
        let mut times: Vec<f64> = stayed
            .filter_map(|finish| finish.seconds.as_ref().ok())
            .copied()
            .collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// Why receivers failed.
    pub(super) fn failures(&self) -> impl Iterator<Item = &str> {
        self.finishes
            .iter()
            .filter_map(|finish| finish.seconds.as_ref().err())
            .map(String::as_str)
    }
}
