//! Providers of which some are hostile: what that costs somebody who fetches from all of them.

use super::{
    bound::Lines,
    crowd::patience,
    field::{Field, Line, announce, describe, merge, queues},
    human,
    options::{Common, rate, time},
    race::{Race, Raced},
};
use anyhow::{Result, ensure};
use clap::Args;
use std::time::Duration;
use testnet::{
    hostile::Behaviour,
    report::{Cell, Spread, Table},
};

/// Bytes of a mebibyte, as a divisor.
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Args)]
pub(crate) struct Liars {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many provide the file.
    #[arg(long, default_value_t = 12)]
    providers: usize,
    /// How many of them are hostile; more than one number, separated by commas, are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "3,11")]
    hostile: Vec<usize>,
    /// What each provider sends at most, in bits a second.
    #[arg(long, value_name = "BITS", default_value = "50M", value_parser = rate)]
    up: u64,
    /// What the receiver receives at most, in bits a second.
    #[arg(long, value_name = "BITS", default_value = "200M", value_parser = rate)]
    down: u64,
    /// Time from the providers to the receiver and back.
    #[arg(long, default_value = "20ms", value_parser = time)]
    rtt: Duration,
}

const COLUMNS: [&str; 9] = [
    "providers",
    "done",
    "seconds",
    "over the same honest ones alone",
    "over all honest",
    "received, F",
    "more than the honest alone, MiB",
    "machine, %",
    "RSS, MiB",
];

/// Several rounds with the same providers.
struct Rounds(Vec<Raced>);

impl Rounds {
    fn seconds(&self) -> Spread {
        Spread::of(self.0.iter().flat_map(Raced::times))
    }

    /// Bytes of packets that the receiver got, in the middle.
    fn received(&self) -> f64 {
        let received = |raced: &Raced| raced.traffic.last().map_or(0, |host| host.received_bytes) as f64;
        Spread::of(self.0.iter().map(received)).median
    }
}

impl Liars {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        let most = self.hostile.iter().copied().max().unwrap_or(0);
        ensure!(most < self.providers, "one provider is to be honest");
        let title = format!(
            "Hostile providers: {}, {}",
            human(self.common.size),
            describe(&self.common, self.rtt)
        );
        let mut table = Table::new(title, &COLUMNS);
        let clean = self.rounds(self.providers, 0)?;
        self.row(
            &mut table,
            format!("{} honest", self.providers),
            &clean,
            &clean,
            &clean,
        );
        for hostile in self.hostile.iter().copied().filter(|hostile| *hostile > 0) {
            let honest = self.providers - hostile;
            let alone = self.rounds(honest, 0)?;
            self.row(
                &mut table,
                format!("{honest} honest alone"),
                &alone,
                &alone,
                &clean,
            );
            let mixed = self.rounds(honest, hostile)?;
            self.row(
                &mut table,
                format!("{honest} honest, {hostile} hostile"),
                &mixed,
                &alone,
                &clean,
            );
        }
        let lines = [
            ("provider", Some(self.up), None),
            ("receiver", None, Some(self.down)),
        ];
        for (whose, up, down) in lines {
            table.note(format!(
                "Line of each {whose}: {}.",
                queues(&self.common, Line { up, down })
            ));
        }
        let each: Vec<String> = Behaviour::LIES.iter().map(|lie| format!("{lie:?}")).collect();
        table.note("What is received is whole IP packets; what the hostile ones sent in vain is in it.");
        table.note(format!("Hostile ones are, in turn: {}.", each.join(", ")));
        Ok(vec![table])
    }

    fn rounds(&self, honest: usize, hostile: usize) -> Result<Rounds> {
        let each = (1..=self.common.rounds).map(|round| {
            announce(&format!("{honest} honest, {hostile} hostile"), round);
            self.race(honest, hostile)
        });
        Ok(Rounds(each.collect::<Result<_>>()?))
    }

    /// The honest have the first hosts, then come the hostile, then the receiver.
    fn race(&self, honest: usize, hostile: usize) -> Result<Raced> {
        let providers = honest + hostile;
        let mut lines = vec![
            Line {
                up: Some(self.up),
                down: None
            };
            providers
        ];
        lines.push(Line {
            up: None,
            down: Some(self.down),
        });
        let field = Field::new(&self.common, self.rtt, &lines)?;
        let (mut sources, mut tickets) = (Vec::new(), Vec::new());
        let lies = Behaviour::LIES.into_iter().cycle();
        for host in 0..honest {
            let (source, ticket) = field.source(host)?;
            sources.push(source);
            tickets.push(ticket);
        }
        for (host, lie) in (honest..providers).zip(lies) {
            let (source, ticket) = field.hostile(host, lie)?;
            sources.push(source);
            tickets.push(ticket);
        }
        let lines = Lines {
            source_up: self.up * honest as u64,
            up: 0,
            down: self.down,
        };
        let race = Race {
            field: &field,
            ticket: merge(&tickets)?,
            receivers: providers..providers + 1,
            kills: Vec::new(),
            source_leaves: None,
            deadline: patience(lines.bound(self.common.size, 1)),
        };
        race.run(&mut sources)
    }

    fn row(&self, table: &mut Table, name: String, rounds: &Rounds, alone: &Rounds, clean: &Rounds) {
        let seconds = rounds.seconds();
        let over = |other: &Rounds| Cell::number(seconds.median / other.seconds().median, 2);
        let done = rounds
            .0
            .iter()
            .filter(|raced| raced.failures().next().is_none())
            .count();
        let machine = Spread::of(rounds.0.iter().map(|raced| raced.shares.machine * 100.0));
        let peak = rounds
            .0
            .iter()
            .flat_map(|raced| &raced.finishes)
            .map(|finish| finish.peak)
            .max();
        table.row([
            Cell::text(name),
            Cell::text(format!("{done} of {}", rounds.0.len())),
            Cell::spread(seconds, 2),
            over(alone),
            over(clean),
            Cell::number(rounds.received() / self.common.size as f64, 3),
            Cell::number((rounds.received() - alone.received()) / MIB, 1),
            Cell::spread(machine, 0),
            Cell::mib(peak.unwrap_or(0)),
        ]);
        for raced in &rounds.0 {
            raced.failures().for_each(|why| table.note(why));
        }
    }
}
