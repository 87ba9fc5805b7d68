//! Names among many whole nodes: how soon those who follow a publisher know its next release, how soon a search on another node finds it, and how long
//! the DHT takes to answer for its name. All nodes are in one process, each on a host of its own, and knew one of them at the start.

mod part;

use super::{PART_DEADLINE, Transport, argument, human, options::time, say, start};
use anyhow::{Context, Result, ensure};
use clap::Args;
pub(super) use part::{Asked, crowd};
use part::{Figures, SEARCHERS};
use std::{env, path::PathBuf, time::Duration};
use testnet::report::{Cell, Table};

/// The followers whose last one counts.
const MOST: f64 = 0.99;

#[derive(Args)]
#[command(after_help = "Example, as root: testnet bench names --nodes 200 --rtt 50ms --json > names.json")]
pub(crate) struct Names {
    /// How many nodes there are: one publishes, and all others follow it.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Time from one node to another and back.
    #[arg(long, default_value = "50ms", value_parser = time)]
    rtt: Duration,
    /// How many releases are published, one after the other.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// How many names are looked up in the DHT.
    #[arg(long, default_value_t = 200)]
    lookups: usize,
    /// Over which transport. Over TCP each connection takes two of the process's file descriptors.
    #[arg(long, value_enum, default_value_t = Transport::Quic)]
    transport: Transport,
    /// Where the data folders are made, and removed again; by default where the system keeps such.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Names {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        ensure!(
            self.nodes > SEARCHERS,
            "there are {SEARCHERS} that search, and one that publishes"
        );
        ensure!(self.rounds > 0, "nothing would be published");
        let place = self.dir.clone().unwrap_or_else(env::temp_dir);
        let folder = tempfile::Builder::new().prefix("shoal-bench-").tempdir_in(&place);
        let folder = folder.with_context(|| place.display().to_string())?;
        let asked = serde_json::to_string(&Asked {
            nodes: self.nodes,
            rtt: self.rtt,
            rounds: self.rounds,
            lookups: self.lookups,
            transport: self.transport,
        })?;
        say(format_args!(
            "{} nodes in {}",
            self.nodes,
            folder.path().display()
        ));
        let mut process = start("names", &[argument(folder.path())?, &asked])?;
        let figures = process.next_line(PART_DEADLINE);
        let figures: Figures = serde_json::from_str(&figures.with_context(|| process.stderr())?)?;
        let status = process.wait(PART_DEADLINE)?;
        ensure!(status.success(), "{status}: {}", process.stderr());
        Ok(vec![self.table(&figures)])
    }

    fn table(&self, figures: &Figures) -> Table {
        let title = format!(
            "{} whole nodes in one process, {:.0} ms from each other and back, {}",
            self.nodes,
            self.rtt.as_secs_f64() * 1000.0,
            self.transport.name()
        );
        let columns = [
            "what",
            "wanted, s",
            "p50, s",
            "p99, s",
            "longest, s",
            "measured",
            "missed",
        ];
        let mut table = Table::new(title, &columns);
        let mut row = |what: &str, wanted: &str, times: &[f64], missed: usize| {
            let mut times = times.to_vec();
            times.sort_by(f64::total_cmp);
            let numbers = [0.5, 0.99, 1.0].map(|share| match times.is_empty() {
                true => Cell::none(),
                false => Cell::number(at(&times, share), 2),
            });
            let counts = [times.len(), missed].map(|count| Cell::number(count as f64, 0));
            let said = [Cell::text(what), Cell::text(wanted)];
            table.row(said.into_iter().chain(numbers).chain(counts));
        };
        let followers = self.nodes - 1;
        let most: Vec<f64> = figures
            .known
            .iter()
            .filter_map(|times| most(times, followers))
            .collect();
        let each: Vec<f64> = figures.known.iter().flatten().copied().collect();
        let unknown = figures.known.len() * followers - each.len();
        row(
            &format!("99 % of {followers} followers know a release"),
            "5",
            &most,
            figures.known.len() - most.len(),
        );
        row("a follower knows it", "–", &each, unknown);
        row(
            "a search on another node finds it",
            "2",
            &figures.found,
            figures.known.len() * SEARCHERS - figures.found.len(),
        );
        row(
            "the DHT answers for its name",
            "1 (p50)",
            &figures.looked_up,
            figures.not_looked_up,
        );
        row("publishing returns", "–", &figures.published, 0);
        table.note(format!(
            "From the call that publishes. Searches are on {SEARCHERS} other nodes a round. A lookup counts until the DHT has said all it knows of the name."
        ));
        table.note(format!(
            "An announcement is {:.0} requests: a lookup, and telling the nodes found.",
            figures.requests
        ));
        table.note(format!(
            "Nodes were up after {:.0} s and quiet after {:.0} s, each with {:.0} connections and {:.0} nodes in its routing table (medians). Memory at most \
             {}, {:.0} CPU-seconds in all; while quiet they took {:.0} % of the machine, during rounds {:.0} %, emulator included.",
            figures.up,
            figures.quiet,
            figures.connected,
            figures.routing,
            human(figures.measured.peak),
            figures.measured.cpu,
            figures.idle * 100.0,
            figures.busy * 100.0,
        ));
        table
    }
}

/// When most of the followers knew it, of the times at which some did. `None`: so many never did.
fn most(times: &[f64], followers: usize) -> Option<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let count = (followers as f64 * MOST).ceil() as usize;
    times.get(count.saturating_sub(1)).copied()
}

/// The time that this share of them is not longer than; they ascend. NaN if there are none.
fn at(times: &[f64], share: f64) -> f64 {
    let count = (times.len() as f64 * share).ceil() as usize;
    times.get(count.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_are_all_but_one_of_a_hundred() {
        let times: Vec<f64> = (1..=199).rev().map(f64::from).collect();
        assert_eq!(most(&times, 199), Some(198.0));
        assert_eq!(most(&times[2..], 199), None, "two never knew it");
        assert_eq!(most(&[1.0, 3.0, 2.0], 3), Some(3.0));
    }

    #[test]
    fn shares_are_of_what_is_there() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            [0.5, 0.99, 1.0].map(|share| at(&times, share)),
            [50.0, 99.0, 100.0]
        );
        assert_eq!(at(&[7.0], 0.5), 7.0);
        assert!(at(&[], 0.5).is_nan());
    }
}
