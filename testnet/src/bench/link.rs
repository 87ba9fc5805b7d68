//! A long link: one receiver whose line down is the limit, one or several sources, and a plain copy over the same link.

use super::{
    ANSWER_DEADLINE, argument,
    crowd::patience,
    field::{Field, Line, announce, describe, merge},
    human,
    meter::Measured,
    options::{Common, megabits, rate, time, worth},
    race::{Race, Raced},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::time::Duration;
use testnet::report::{Cell, Spread, Table};

#[derive(Args)]
pub(crate) struct Link {
    #[command(flatten)]
    pub(super) common: Common,
    /// What the receiver receives at most, in bits a second.
    #[arg(long, value_name = "BITS", default_value = "400M", value_parser = rate)]
    rate: u64,
    /// Time from the sources to the receiver and back.
    #[arg(long, default_value = "50ms", value_parser = time)]
    rtt: Duration,
    /// How many have the file; each may send as much as it likes.
    #[arg(long, default_value_t = 1)]
    sources: usize,
}

impl Link {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        ensure!(self.sources > 0, "somebody has to have the file");
        let mut common = self.common.clone();
        let queue = *common.queue.get_or_insert(worth(self.rate, self.rtt));
        let bound = common.size as f64 * 8.0 / self.rate as f64;
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for round in 1..=common.rounds {
            announce("a long link", round);
            let field = self.field(&common)?;
            ours.push(self.race(&field, bound)?);
            plain.push(copy(&field, self.sources, patience(bound))?);
        }
        let title = format!(
            "A long link: {} from {} source{} at {}, {}, queue {} KiB",
            human(common.size),
            self.sources,
            if self.sources == 1 { "" } else { "s" },
            megabits(self.rate),
            describe(&common, self.rtt),
            queue / 1024,
        );
        let mut table = Table::new(
            title,
            &[
                "what",
                "seconds",
                "over the bound",
                "received, F",
                "machine, %",
                "nodes, %",
                "emulator, %",
                "RSS, MiB",
            ],
        );
        self.row(&mut table, bound, &ours);
        let seconds = || plain.iter().map(|measured| measured.seconds);
        table.row([
            Cell::text("plain TCP from one, in clear"),
            Cell::spread(Spread::of(seconds()), 2),
            Cell::spread(Spread::of(seconds().map(|seconds| seconds / bound)), 2),
            Cell::none(),
            Cell::none(),
            Cell::none(),
            Cell::none(),
            Cell::none(),
        ]);
        table.note(format!(
            "Bound {bound:.2} s = F over the rate. Fetched durable; the plain copy is not."
        ));
        let failures = ours.iter().flat_map(|raced| raced.failures());
        failures.for_each(|failure| table.note(failure));
        Ok(vec![table])
    }

    /// Hosts of the sources, and behind them that of the receiver.
    fn field(&self, common: &Common) -> Result<Field> {
        let free = Line { up: None, down: None };
        let mut lines = vec![free; self.sources];
        lines.push(Line {
            up: None,
            down: Some(self.rate),
        });
        Field::new(common, self.rtt, &lines)
    }

    fn race(&self, field: &Field, bound: f64) -> Result<Raced> {
        let (mut sources, mut tickets) = (Vec::new(), Vec::new());
        for host in 0..self.sources {
            let (source, ticket) = field.source(host)?;
            sources.push(source);
            tickets.push(ticket);
        }
        let race = Race {
            field,
            ticket: merge(&tickets)?,
            receivers: self.sources..self.sources + 1,
            kills: Vec::new(),
            source_leaves: None,
            deadline: patience(bound),
        };
        race.run(&mut sources)
    }

    fn row(&self, table: &mut Table, bound: f64, ours: &[Raced]) {
        let seconds: Vec<f64> = ours.iter().flat_map(Raced::times).collect();
        let size = self.common.size as f64;
        let spread =
            |value: &dyn Fn(&Raced) -> f64, digits| Cell::spread(Spread::of(ours.iter().map(value)), digits);
        let peak = ours
            .iter()
            .flat_map(|raced| &raced.finishes)
            .map(|finish| finish.peak)
            .max();
        table.row([
            Cell::text(format!("shoal fetch, {}", self.common.transport.name())),
            Cell::spread(Spread::of(seconds.iter().copied()), 2),
            Cell::spread(Spread::of(seconds.iter().map(|seconds| seconds / bound)), 2),
            spread(
                &|raced| raced.traffic[self.sources].received_bytes as f64 / size,
                3,
            ),
            spread(&|raced| raced.shares.machine * 100.0, 0),
            spread(&|raced| raced.shares.nodes * 100.0, 0),
            spread(&|raced| raced.shares.emulator * 100.0, 0),
            Cell::mib(peak.unwrap_or(0)),
        ]);
    }
}

/// Copies the file over a plain socket from the first host to the receiver's, which hashes and writes it.
fn copy(field: &Field, receiver: usize, deadline: Duration) -> Result<Measured> {
    let host = field.net().host(0).ip().to_string();
    let sender = field.start(0, "send", &[&host, argument(&field.file())?])?;
    let address: String = sender.hear(ANSWER_DEADLINE)?;
    let to = field.fresh();
    let receiver = field.start(receiver, "receive", &[&address, argument(&to)?])?;
    receiver.hear(deadline).context("a plain copy")
}
