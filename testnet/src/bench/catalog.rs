//! A catalogue as large as a hub's: what it takes to put it in, to open it cold, to search it, to add to it, and to sync what another lacks. See
//! [`fixture::releases`].

mod part;
mod sync;

use super::{PART_DEADLINE, SEED, argument, human, say, start};
use anyhow::{Context, Result, ensure};
use clap::Args;
use part::{Imported, Searched};
pub(super) use part::{import, search};
use serde::de::DeserializeOwned;
use std::{
    env, fs,
    path::{Path, PathBuf},
};
use sync::{Started, Synced};
pub(super) use sync::{learner, teller};
use testnet::{
    nodes::Process,
    report::{Cell, Table},
};

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
        let full = folder.path().join("full");
        let lacking = folder.path().join("lacking");
        let path = argument(&full)?;
        let (count, new, rounds) = (
            self.releases.to_string(),
            self.new.to_string(),
            self.rounds.to_string(),
        );
        say(format_args!("making {count} releases in {path}"));
        let imported: Imported = ask("catalog-import", &[path, &count])?;
        // The same without the new ones, for a node that is to learn them.
        let _: Imported = ask("catalog-import", &[argument(&lacking)?, "0"])?;
        for part in ["catalog", "search"] {
            copy(&full.join(part), &lacking.join(part))?;
        }
        // The first start after so much reads the log once more, and the next ones do not.
        let first: Searched = ask("catalog-search", &[path, &count, "0", "0"])?;
        let cold = forget_pages();
        say(format_args!("searching"));
        let searched: Searched = ask("catalog-search", &[path, &count, &new, &rounds])?;
        say(format_args!("syncing {new} of them"));
        let payload = part::payload(self.new)?;
        let sync = self.sync(path, argument(&lacking)?, payload)?;
        Ok(vec![
            self.sizes(&imported, &first, &searched, cold),
            questions(&searched),
            sync,
        ])
    }

    /// Two whole nodes, of which one lacks the new ones.
    fn sync(&self, full: &str, lacking: &str, payload: u64) -> Result<Table> {
        forget_pages();
        let mut teller = start("catalog-teller", &[full])?;
        let told: Started = said(&mut teller)?;
        let all = told.known.to_string();
        let address = told.address.to_string();
        let mut learner = start("catalog-learner", &[lacking, &address, &all])?;
        let lacks: Started = said(&mut learner)?;
        let synced: Synced = said(&mut learner)?;
        for process in [&mut learner, &mut teller] {
            drop(process.stdin());
            let status = process.wait(PART_DEADLINE)?;
            ensure!(status.success(), "{status}: {}", process.stderr());
        }
        let columns = ["what", "seconds", "resident, MiB", "of these its own, MiB"];
        let mut table = Table::new(
            format!("Whole nodes, of which one lacks {} releases", self.new),
            &columns,
        );
        let mut row = |what: &str, seconds, resident: part::Resident| {
            table.row([
                Cell::text(what),
                Cell::number(seconds, 2),
                Cell::number(resident.all as f64 / MIB, 0),
                Cell::number(resident.own as f64 / MIB, 0),
            ]);
        };
        for node in [&told, &lacks] {
            let known = node.known;
            row(&format!("start, {known} known"), node.seconds, node.resident);
            row("until it can compare them", node.read, node.resident_read);
        }
        row(
            &format!("sync of {}", told.known - lacks.known),
            synced.seconds,
            synced.resident,
        );
        table.note(format!(
            "Over loopback went {:.2} MB in all, both ways, headers and handshakes among them; the releases and their cards are {:.2} MB of it.",
            synced.bytes as f64 / 1e6,
            payload as f64 / 1e6,
        ));
        Ok(table)
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

/// What a part says next.
fn said<T: DeserializeOwned>(process: &mut Process) -> Result<T> {
    let line = process.next_line(PART_DEADLINE);
    let line = line.with_context(|| process.stderr())?;
    serde_json::from_str(&line).with_context(|| line)
}

/// Copies a folder's files over another's.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(from).min_depth(1) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from)?);
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
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
