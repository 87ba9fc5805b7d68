//! A field: hosts on the link emulator, a file to hand round, and peers on the hosts, each a process of its own.

use super::{
    ANSWER_DEADLINE, PART_DEADLINE, SEED, Transport, argument,
    options::{Common, megabits},
    part::peer::{Order, Provided},
    say,
    usage::Spent,
};
use anyhow::{Context, Result};
use protocol::Ticket;
use serde::de::DeserializeOwned;
use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{ChildStdin, Command},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tempfile::TempDir;
use testnet::{
    fixture,
    hostile::Behaviour,
    link::{Access, Link},
    netns::{Net, NetOptions},
    nodes::Process,
};

/// Hosts, the link between every two of them, and a file. The processes on the hosts go before it.
pub(super) struct Field {
    net: Net,
    transport: Transport,
    folder: TempDir,
    size: u64,
    data: AtomicUsize,
}

/// How a host is joined: its rates in bits a second, `None` for a line that is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) up: Option<u64>,
    pub(super) down: Option<u64>,
}

impl Field {
    /// Makes hosts with these lines, `rtt` from each other.
    pub(super) fn new(common: &Common, rtt: Duration, lines: &[Line]) -> Result<Field> {
        let net = Net::with(NetOptions {
            hosts: lines.len(),
            mtu: common.mtu,
            offload: common.offload,
            congestion: Some(common.congestion.clone()),
            ..NetOptions::default()
        })?;
        net.links().set_default(Link {
            delay: rtt / 2,
            ..Link::default()
        });
        let place = common.dir.clone().unwrap_or_else(env::temp_dir);
        let folder = tempfile::Builder::new().prefix("shoal-bench-").tempdir_in(&place);
        let field = Field {
            net,
            transport: common.transport,
            folder: folder.with_context(|| place.display().to_string())?,
            size: common.size,
            data: AtomicUsize::new(0),
        };
        for (host, line) in lines.iter().enumerate() {
            let queue = |rate: Option<u64>| rate.map_or(0, |rate| common.queue(rate));
            field.net.links().set_access(
                host,
                Access {
                    up_bits_per_s: line.up,
                    down_bits_per_s: line.down,
                    up_queue_bytes: queue(line.up),
                    down_queue_bytes: queue(line.down),
                },
            );
        }
        fixture::folder(&field.shared(), SEED, &[(FILE, field.size)])?;
        rustix::fs::sync();
        Ok(field)
    }

    /// The hosts and their links.
    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The folder with nothing but the file.
    fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// The file.
    pub(super) fn file(&self) -> PathBuf {
        self.shared().join(FILE)
    }

    /// Starts a part on a host.
    pub(super) fn start(&self, host: usize, part: &str, arguments: &[&str]) -> Result<Peer> {
        let mut command = self.net.host(host).command(env::current_exe()?);
        command.args(["part", part]).args(arguments);
        Peer::start(command)
    }

    /// Returns a path that nobody used yet.
    pub(super) fn fresh(&self) -> PathBuf {
        let number = self.data.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(format!("data-{number}"))
    }

    fn listen(&self, host: usize) -> String {
        self.transport.listen(self.net.host(host).ip())
    }

    /// Starts a node that has the file, and waits until it serves.
    pub(super) fn source(&self, host: usize) -> Result<(Peer, Ticket)> {
        let data = self.fresh();
        let arguments = [&self.listen(host), argument(&data)?, argument(&self.shared())?].map(str::to_owned);
        self.provider(host, "provide", &arguments)
    }

    /// Starts a hostile provider that has the file, and waits until it serves.
    pub(super) fn hostile(&self, host: usize, behaviour: Behaviour) -> Result<(Peer, Ticket)> {
        let arguments = [
            serde_json::to_string(&behaviour)?,
            self.listen(host),
            argument(&self.shared())?.to_owned(),
        ];
        self.provider(host, "hostile", &arguments)
    }

    fn provider(&self, host: usize, part: &str, arguments: &[String]) -> Result<(Peer, Ticket)> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let peer = self.start(host, part, &arguments)?;
        let provided: Provided = peer.hear(PART_DEADLINE)?;
        Ok((peer, provided.ticket.parse()?))
    }

    /// Starts a node that will fetch what the ticket names, into a fresh data folder. It says when it is ready.
    pub(super) fn taker(&self, host: usize, ticket: &Ticket) -> Result<Peer> {
        let data = self.fresh();
        self.start(
            host,
            "take",
            &[&self.listen(host), argument(&data)?, &ticket.to_string()],
        )
    }
}

/// The name of the file.
const FILE: &str = "file.bin";

/// Makes one ticket of several for the same revision.
pub(super) fn merge(tickets: &[Ticket]) -> Result<Ticket> {
    let first = tickets.first().context("a ticket")?;
    let addresses = tickets.iter().flat_map(Ticket::addresses).cloned().collect();
    Ok(Ticket::new(first.manifest(), addresses, None)?)
}

/// A process on a host, or on none. It is killed when it is dropped.
pub(super) struct Peer {
    process: Process,
    stdin: Option<ChildStdin>,
    before: f64,
    /// What it had spent when it was killed.
    last: Option<Spent>,
}

impl Peer {
    pub(super) fn start(mut command: Command) -> Result<Peer> {
        // What it says at its end becomes a remark below a table.
        command.env("RUST_BACKTRACE", "0");
        let mut process = Process::spawn(command)?;
        let stdin = process.stdin();
        Ok(Peer {
            process,
            stdin,
            before: 0.0,
            last: None,
        })
    }

    /// Orders it to do something.
    pub(super) fn order(&mut self, order: Order) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its stdin was piped")?;
        Ok(stdin.write_all(order.line().as_bytes())?)
    }

    /// Returns the next thing that it says.
    pub(super) fn hear<T: DeserializeOwned>(&self, deadline: Duration) -> Result<T> {
        let line = self.process.next_line(deadline)?;
        serde_json::from_str(&line).with_context(|| format!("it said {line}"))
    }

    /// Orders a source to say how many bytes of blobs it sent, and returns them.
    pub(super) fn sent(&mut self) -> Result<u64> {
        self.order(Order::Sent)?;
        self.hear(ANSWER_DEADLINE)
    }

    /// Whether it still runs.
    pub(super) fn running(&mut self) -> bool {
        self.process.running()
    }

    /// Counts its CPU from now on.
    pub(super) fn mark(&mut self) -> Result<()> {
        self.before = Spent::of(self.process.id())?.cpu;
        Ok(())
    }

    /// What it spent since it was marked; its memory since its start.
    pub(super) fn spent(&self) -> Spent {
        // One that ended by itself has spent nothing that anybody could still read.
        let now = self.last.or_else(|| Spent::of(self.process.id()).ok());
        now.map_or(Spent::default(), |now| Spent {
            cpu: now.cpu - self.before,
            peak: now.peak,
        })
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.last = Spent::of(self.process.id()).ok();
        self.process.kill_nine()?;
        Ok(())
    }
}

/// Tells what a field is, for the title of a table.
pub(super) fn describe(common: &Common, rtt: Duration) -> String {
    let transport = match common.transport {
        Transport::Tcp => format!("TCP ({})", common.congestion),
        Transport::Quic => common.transport.name().to_owned(),
    };
    format!(
        "{transport}, RTT {} ms, MTU {}{}",
        rtt.as_secs_f64() * 1000.0,
        common.mtu,
        if common.offload { " in runs" } else { "" }
    )
}

/// Tells the queues of a line, for a remark.
pub(super) fn queues(common: &Common, line: Line) -> String {
    let one = |name: &str, rate: Option<u64>| {
        rate.map(|rate| {
            format!(
                "{name} {} behind a queue of {} KiB",
                megabits(rate),
                common.queue(rate) / 1024
            )
        })
    };
    let both: Vec<String> = [one("up", line.up), one("down", line.down)]
        .into_iter()
        .flatten()
        .collect();
    both.join(", ")
}

/// Tells that a round begins.
pub(super) fn announce(what: &str, round: usize) {
    say(format_args!("{what}, round {round}"));
}
