//! A catalogue as large as a hub's: what it takes to put it in, to open it cold, to search it, and to add to it. See [`fixture::releases`].

mod part;

use super::{PART_DEADLINE, SEED, argument, human, say, start};
use anyhow::{Context, Result, ensure};
use clap::Args;
use part::{Imported, Searched};
pub(super) use part::{import, search};
use serde::de::DeserializeOwned;
use std::{env, fs, path::PathBuf};
use testnet::report::{Cell, Table};

/// Bytes of a mebibyte, as a divisor.
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Args)]
pub(crate) struct Catalog {
    /// Releases in the catalogue.
    #[arg(long, default_value_t = 2_400_000)]
    releases: u32,
    /// Releases that come anew once it is full.
    #[arg(long, default_value_t = 10_000)]
    new: u32,
    /// How often each question is asked.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Where it is made, and removed again; by default where the system keeps such.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Catalog {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        let place = self.dir.clone().unwrap_or_else(env::temp_dir);
        let folder = tempfile::Builder::new().prefix("shoal-bench-").tempdir_in(&place);
        let folder = folder.with_context(|| place.display().to_string())?;
        let path = argument(folder.path())?;
        let (count, new, rounds) = (
            self.releases.to_string(),
            self.new.to_string(),
            self.rounds.to_string(),
        );
        say(format_args!("making {count} releases in {path}"));
        let imported: Imported = ask("catalog-import", &[path, &count])?;
        // The first start after so much reads the log once more, and the next ones do not.
        let first: Searched = ask("catalog-search", &[path, &count, "0", "0"])?;
        let cold = forget_pages();
        say(format_args!("searching"));
        let searched: Searched = ask("catalog-search", &[path, &count, &new, &rounds])?;
        Ok(vec![
            self.sizes(&imported, &first, &searched, cold),
            questions(&searched),
        ])
    }

    fn sizes(&self, imported: &Imported, first: &Searched, searched: &Searched, cold: bool) -> Table {
        let mut table = Table::new(
            format!("A catalogue of {} releases", self.releases),
            &["what", "catalog", "search index", "both"],
        );
        let mut row = |what: &str, (catalog, index): (f64, f64), digits| {
            let cells = [catalog, index, catalog + index].map(|number| Cell::number(number, digits));
            table.row(std::iter::once(Cell::text(what)).chain(cells));
        };
        row("put in, s", imported.seconds, 0);
        let mib = |(catalog, index): (u64, u64)| (catalog as f64 / MIB, index as f64 / MIB);
        row("on disk, MiB", mib(imported.len), 0);
        row("opened for the first time, s", first.opened, 2);
        row("opened, s", searched.opened, 2);
        row(&format!("{} new ones, s", self.new), searched.added, 2);
        row(&format!("{} new ones, MiB", self.new), mib(searched.added_len), 1);
        table.note(format!(
            "Resident: {} once opened, {} after all questions, {} after the new ones, of which {} {} {} are its own and the rest pages of the index.",
            human(searched.resident[0].all),
            human(searched.resident[1].all),
            human(searched.resident[2].all),
            human(searched.resident[0].own),
            human(searched.resident[1].own),
            human(searched.resident[2].own),
        ));
        table.note(format!(
            "Making and signing them took {:.0} s beside. The pages of the disk were {} before it was opened.",
            imported.making,
            if cold { "forgotten" } else { "in memory" },
        ));
        table
    }
}

fn questions(searched: &Searched) -> Table {
    let columns = ["question", "p50, ms", "p99, ms", "longest, ms", "CPU, ms", "hits"];
    let mut table = Table::new("Searching it, 20 hits a page", &columns);
    for asked in &searched.asked {
        let numbers = [asked.median, asked.late, asked.longest, asked.cpu];
        let numbers = numbers.map(|number| Cell::number(number, 1));
        let cells = std::iter::once(Cell::text(&asked.what)).chain(numbers);
        table.row(cells.chain([Cell::number(asked.hits as f64, 0)]));
    }
    table.note("With 200 followed publishers and 5,000 reproduced names, which come first. Each kind is asked with several words in turn.");
    table
}

/// Runs a part to its end and returns what it says.
fn ask<T: DeserializeOwned>(part: &str, arguments: &[&str]) -> Result<T> {
    let mut process = start(part, arguments)?;
    let said = process.next_line(PART_DEADLINE)?;
    let status = process.wait(PART_DEADLINE)?;
    ensure!(status.success(), "{part}: {status}: {}", process.stderr());
    serde_json::from_str(&said).with_context(|| format!("{part} said {said}"))
}

/// Has the system forget what it keeps of files in memory. `false`: it may not.
fn forget_pages() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// The seed of the releases that come anew.
const NEW_SEED: u64 = SEED + 1;
