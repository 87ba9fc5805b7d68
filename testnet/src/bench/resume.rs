//! A receiver that is killed on the way and started again: what it fetches twice, and how soon it goes on.

use super::{
    ANSWER_DEADLINE, PART_DEADLINE, SEED, Transport, argument,
    field::Peer,
    human,
    part::peer::{Order, Provided, Told},
    say,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use node::config::parse_size;
use std::{
    env,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};
use testnet::{
    fixture,
    report::{Cell, Spread, Table},
};

/// Bytes of a mebibyte, as a divisor.
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Args)]
pub(crate) struct Resume {
    /// Bytes of the file; K, M and G at the end count in 1,024s.
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = parse_size)]
    size: u64,
    /// When the receiver is killed, in percent of the file.
    #[arg(long, value_delimiter = ',', default_value = "10,50,99")]
    at: Vec<f64>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Over which transport.
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    transport: Transport,
    /// Where the files are made, and removed again; by default where the system keeps such.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// What one interruption cost.
struct Cost {
    /// Verified bytes that were there at the kill and came again.
    twice: f64,
    /// Bytes that the source sent beyond the file.
    sent_twice: f64,
    /// Seconds from the start of the process to its first new verified byte.
    first: f64,
    /// Seconds until it had all of it.
    whole: f64,
}

impl Resume {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        let place = self.dir.clone().unwrap_or_else(env::temp_dir);
        let folder = tempfile::Builder::new().prefix("shoal-bench-").tempdir_in(&place);
        let folder = folder.with_context(|| place.display().to_string())?;
        let file = folder.path().join("file.bin");
        fixture::file(&file, SEED, "file.bin", self.size)?;
        rustix::fs::sync();
        let listen = self.transport.listen(Ipv4Addr::LOCALHOST);
        let data = folder.path().join("source");
        let mut source = part("provide", &[&listen, argument(&data)?, argument(&file)?])?;
        let provided: Provided = source.hear(PART_DEADLINE)?;
        let columns = [
            "killed at, %",
            "verified twice, MiB",
            "sent beyond F, MiB",
            "first new byte, s",
            "whole, s",
        ];
        let title = format!(
            "Killed and started again: {} over loopback from one provider, {}",
            human(self.size),
            self.transport.name()
        );
        let mut table = Table::new(title, &columns);
        for at in &self.at {
            let mut costs = Vec::new();
            for round in 1..=self.rounds {
                say(format_args!("killed at {at} %, round {round}"));
                let data = folder.path().join("receiver");
                costs.push(self.interrupted(&mut source, &data, &provided.ticket, *at)?);
                std::fs::remove_dir_all(&data)?;
                rustix::fs::sync();
            }
            let spread =
                |of: fn(&Cost) -> f64, digits| Cell::spread(Spread::of(costs.iter().map(of)), digits);
            table.row([
                Cell::number(*at, 0),
                spread(|cost| cost.twice / MIB, 1),
                spread(|cost| cost.sent_twice / MIB, 1),
                spread(|cost| cost.first, 2),
                spread(|cost| cost.whole, 2),
            ]);
        }
        table.note("Times from the start of the new process. Sent beyond F counts what was on its way at the kill, too.");
        Ok(vec![table])
    }

    fn interrupted(&self, source: &mut Peer, data: &Path, ticket: &str, at: f64) -> Result<Cost> {
        let listen = self.transport.listen(Ipv4Addr::LOCALHOST);
        let arguments = [&listen, argument(data)?, ticket, "--progress"];
        let before = source.sent()?;
        let mut first = part("take", &arguments)?;
        go(&mut first)?;
        let until = (self.size as f64 * at / 100.0) as u64;
        let mut had = 0;
        while had < until {
            match first.hear(PART_DEADLINE)? {
                Told::Has(bytes) => had = bytes,
                other => bail!("{other:?} before it was killed"),
            }
        }
        first.kill()?;
        // What it still said before it was gone.
        while let Ok(Told::Has(bytes)) = first.hear(ANSWER_DEADLINE) {
            had = bytes;
        }
        let begun = Instant::now();
        let mut second = part("take", &arguments)?;
        go(&mut second)?;
        let mut moved = Vec::new();
        let fetched = loop {
            match second.hear(PART_DEADLINE)? {
                Told::Has(bytes) => moved.push((begun.elapsed().as_secs_f64(), bytes)),
                Told::Taken { fetched_bytes, .. } => break fetched_bytes,
                Told::Ready => bail!("it is ready twice"),
            }
        };
        let whole = begun.elapsed().as_secs_f64();
        Ok(Cost {
            twice: (had + fetched).saturating_sub(self.size) as f64,
            sent_twice: (source.sent()? - before).saturating_sub(self.size) as f64,
            first: first_new(&moved, self.size.saturating_sub(fetched)).unwrap_or(whole),
            whole,
        })
    }
}

/// When more than what was there at the start had come.
fn first_new(moved: &[(f64, u64)], there: u64) -> Option<f64> {
    let new = moved.iter().find(|(_, bytes)| *bytes > there);
    new.map(|(when, _)| *when)
}

fn part(part: &str, arguments: &[&str]) -> Result<Peer> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["part", part]).args(arguments);
    Peer::start(command)
}

fn go(peer: &mut Peer) -> Result<()> {
    match peer.hear(ANSWER_DEADLINE)? {
        Told::Ready => peer.order(Order::Go),
        other => bail!("{other:?} before it was ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_new_byte_is_the_first_beyond_what_was_there() {
        let moved = [(0.1, 0), (0.2, 100), (0.3, 100), (0.4, 101), (0.5, 400)];
        assert_eq!(first_new(&moved, 100), Some(0.4));
        assert_eq!(first_new(&moved, 0), Some(0.2));
        assert_eq!(first_new(&moved, 400), None);
    }
}
