//! A flash crowd: one source, and receivers that all come at once and know only the source. And the same with receivers that
//! crash and are replaced.

use super::{
    SEED,
    bound::Lines,
    field::{Field, Line, announce, describe, queues},
    human,
    options::{Common, megabits, rate, share, time},
    race::{Race, Raced},
};
use anyhow::{Result, ensure};
use clap::Args;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::index};
use std::time::Duration;
use testnet::report::{Cell, Spread, Table};

/// A fetch may take so many times the bound, and a minute.
const PATIENCE: f64 = 15.0;

#[derive(Args)]
pub(crate) struct Crowd {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many fetch at once.
    #[arg(long, default_value_t = 8)]
    receivers: usize,
    /// What each host sends at most, the source too, in bits a second.
    #[arg(long, value_name = "BITS", default_value = "50M", value_parser = rate)]
    up: u64,
    /// What each host receives at most, in bits a second.
    #[arg(long, value_name = "BITS", default_value = "50M", value_parser = rate)]
    down: u64,
    /// Time from one host to another and back.
    #[arg(long, default_value = "20ms", value_parser = time)]
    rtt: Duration,
    /// The source is killed when it has sent so many times the file, not counting what carries it.
    #[arg(long, value_name = "FACTOR")]
    source_leaves: Option<f64>,
}

#[derive(Args)]
pub(crate) struct Churn {
    #[command(flatten)]
    pub(super) crowd: Crowd,
    /// Share of the receivers that are killed at random moments, and replaced by others that have nothing.
    #[arg(long, default_value = "30%", value_parser = share)]
    kill: f64,
}

const COLUMNS: [&str; 15] = [
    "round",
    "done",
    "first, s",
    "median, s",
    "last, s",
    "last/bound",
    "source sent, F",
    "of it payload, F",
    "received, F",
    "of it verified, F",
    "machine, %",
    "nodes, %",
    "emulator, %",
    "RSS source, MiB",
    "RSS receiver, MiB",
];

impl Crowd {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        let title = match self.source_leaves {
            Some(factor) => format!("Flash crowd whose source leaves at {factor} F"),
            None => "Flash crowd".to_owned(),
        };
        Ok(vec![self.table(&title, |_| Vec::new())?])
    }

    fn table(&self, title: &str, kills: impl Fn(usize) -> Vec<(usize, Duration)>) -> Result<Table> {
        ensure!(self.receivers > 0, "a crowd is one receiver or more");
        let (common, line) = (&self.common, self.line());
        let title = format!(
            "{title}: {} to {} receivers, up {}, down {}, {}",
            human(common.size),
            self.receivers,
            megabits(self.up),
            megabits(self.down),
            describe(common, self.rtt),
        );
        let mut table = Table::new(title, &COLUMNS);
        let (mut ratios, mut failures) = (Vec::new(), Vec::new());
        for round in 1..=common.rounds {
            announce("a crowd", round);
            let raced = self.race(kills(round))?;
            ratios.extend(raced.times().last().map(|last| last / self.bound()));
            failures.extend(raced.failures().map(|why| format!("Round {round}: {why}")));
            table.row(self.row(round, &raced));
        }
        let Spread { median, min, max, .. } = Spread::of(ratios);
        table.note(format!(
            "Bound {:.2} s = max(F/u_s, F/d_min, N·F/(u_s+Σu_i)). Last finisher {median:.2} ({min:.2}–{max:.2}) times that.",
            self.bound()
        ));
        table.note(format!(
            "Each line: {}. F is the file; what is sent and received is whole IP packets.",
            queues(common, line)
        ));
        failures.into_iter().for_each(|failure| table.note(failure));
        Ok(table)
    }

    fn line(&self) -> Line {
        Line {
            up: Some(self.up),
            down: Some(self.down),
        }
    }

    fn bound(&self) -> f64 {
        let lines = Lines {
            source_up: self.up,
            up: self.up,
            down: self.down,
        };
        lines.bound(self.common.size, self.receivers)
    }

    fn race(&self, kills: Vec<(usize, Duration)>) -> Result<Raced> {
        let lines = vec![self.line(); 1 + self.receivers];
        let field = Field::new(&self.common, self.rtt, &lines)?;
        let (source, ticket) = field.source(0)?;
        let leaves = self
            .source_leaves
            .map(|factor| (field.size() as f64 * factor) as u64);
        let race = Race {
            field: &field,
            ticket,
            receivers: 1..1 + self.receivers,
            kills,
            source_leaves: leaves,
            deadline: patience(self.bound()),
        };
        race.run(&mut [source])
    }

    fn row(&self, round: usize, raced: &Raced) -> [Cell; 15] {
        let size = self.common.size as f64;
        let times = raced.times();
        let spread = Spread::of(times.iter().copied());
        let done = raced
            .finishes
            .iter()
            .filter(|finish| finish.seconds.is_ok())
            .count();
        let seconds = |seconds: f64| match times.is_empty() {
            true => Cell::none(),
            false => Cell::number(seconds, 2),
        };
        let received = raced.traffic[1..]
            .iter()
            .map(|counters| counters.received_bytes as f64 / size);
        let finished = raced.finishes.iter().filter(|finish| finish.seconds.is_ok());
        let fetched = finished.map(|finish| finish.fetched_bytes as f64 / size);
        let percent = |share: f64| Cell::number(share * 100.0, 0);
        [
            Cell::number(round as f64, 0),
            Cell::text(format!("{done} of {}", self.receivers)),
            seconds(spread.min),
            seconds(spread.median),
            seconds(spread.max),
            seconds(spread.max / self.bound()),
            Cell::number(raced.traffic[0].sent_bytes as f64 / size, 2),
            raced
                .payload
                .map_or(Cell::none(), |bytes| Cell::number(bytes as f64 / size, 2)),
            Cell::spread(Spread::of(received), 3),
            Cell::spread(Spread::of(fetched), 3),
            percent(raced.shares.machine),
            percent(raced.shares.nodes),
            percent(raced.shares.emulator),
            Cell::mib(raced.source_peak),
            Cell::mib(raced.finishes.iter().map(|finish| finish.peak).max().unwrap_or(0)),
        ]
    }
}

impl Churn {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        let crowd = &self.crowd;
        let killed = (crowd.receivers as f64 * self.kill).round() as usize;
        let title = format!("A crowd of which {killed} are killed and replaced");
        let kills = |round: usize| moments(SEED + round as u64, crowd.receivers, killed, crowd.bound());
        let mut table = crowd.table(&title, kills)?;
        table.note("First, median and last are of those who stayed; done counts the new ones too.");
        Ok(vec![table])
    }
}

/// Chooses who is killed, and when: at any time of the race but its very ends.
fn moments(seed: u64, receivers: usize, killed: usize, bound: f64) -> Vec<(usize, Duration)> {
    let mut random = StdRng::seed_from_u64(seed);
    let chosen = index::sample(&mut random, receivers, killed.min(receivers));
    chosen
        .into_iter()
        .map(|number| {
            (
                number,
                Duration::from_secs_f64(bound * random.random_range(0.05..0.95)),
            )
        })
        .collect()
}

/// How long a fetch that could take `bound` seconds may take before it has failed.
pub(super) fn patience(bound: f64) -> Duration {
    Duration::from_secs_f64(60.0 + PATIENCE * bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_kills_the_same_at_the_same_moments() {
        let kills = moments(3, 8, 2, 40.0);
        assert_eq!(kills, moments(3, 8, 2, 40.0));
        assert_ne!(kills, moments(4, 8, 2, 40.0));
        let who: HashSet<usize> = kills.iter().map(|(number, _)| *number).collect();
        assert!(who.len() == 2 && who.iter().all(|number| *number < 8));
        assert!(
            kills
                .iter()
                .all(|(_, when)| (2.0..38.0).contains(&when.as_secs_f64()))
        );
        assert_eq!(moments(1, 2, 9, 1.0).len(), 2);
    }
}
