//! The benchmarks. Every figure of Shoal stands beside what it is to be compared with, measured in the same run on the same
//! files. What is measured runs in processes of its own, so that its memory and CPU are its own.

mod baseline;
mod bound;
mod catalog;
mod crowd;
mod engine;
mod field;
mod gateway;
mod hostile;
mod import;
mod link;
mod meter;
mod names;
mod options;
mod part;
mod race;
mod resume;
mod single;
mod usage;

pub(crate) use part::Part;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use meter::Measured;
use node::config::parse_size;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    env, fs,
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread::available_parallelism,
    time::Duration,
};
use tempfile::TempDir;
use testnet::{fixture, nodes::Process, report::Table};

/// Longest that one measured part may take.
const PART_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// How long a part may take to say something small.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// Bytes of a gibibyte, as a divisor.
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Bytes of each file of the folder of small files.
const SMALL_LEN: u64 = 4 * 1024;

/// Bytes of each file of the folder of middling files, of which there are a tenth as many.
const MIDDLING_LEN: u64 = 256 * 1024;

/// The seed of all files.
const SEED: u64 = 1;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Publish by reference: a large file, many small ones, and hashing alone.
    Import(Options),
    /// Fetch over loopback from one provider, verify, and copying and hashing alone.
    Single {
        #[command(flatten)]
        options: Options,
        /// Over which transport.
        #[arg(long, value_enum, default_value_t = Transport::Tcp)]
        transport: Transport,
    },
    /// One source, and receivers that all come at once, on shaped lines.
    Crowd(crowd::Crowd),
    /// A crowd of which some are killed and replaced.
    Churn(crowd::Churn),
    /// One receiver at the end of a long link, beside a plain copy.
    Link(link::Link),
    /// One receiver, and providers of which some are hostile.
    Hostile(hostile::Liars),
    /// Models in the process that runs them: loading, answering, looking at their numbers.
    Engine(engine::Models),
    /// A receiver that is killed on the way and started again, over loopback.
    Resume(resume::Resume),
    /// The Hub's API of a node: a large file beside nginx, and small questions.
    Gateway(gateway::Gateway),
    /// A catalogue as large as a hub's: filling it, opening it, searching it.
    Catalog(catalog::Catalog),
    /// Many whole nodes: a new release on its way to those who follow its publisher, to searches, and names in the DHT.
    Names(names::Names),
}

#[derive(Args)]
pub(crate) struct Options {
    /// Bytes of the large file; K, M and G at the end count in 1,024s.
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = parse_size)]
    size: u64,
    /// Files of 4 KiB in the folder of small files; a tenth as many of 256 KiB are in another.
    #[arg(long, default_value_t = 20_000)]
    files: usize,
    /// How often each thing is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where the files are made, and removed again; by default where the system keeps such.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Over what bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// TCP, Noise, Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

impl Transport {
    /// Where a node of this host listens for it.
    fn listen(self, host: Ipv4Addr) -> String {
        match self {
            Transport::Tcp => format!("/ip4/{host}/tcp/0"),
            Transport::Quic => format!("/ip4/{host}/udp/0/quic-v1"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Quic => "QUIC",
        }
    }
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        let (tables, json) = match self {
            Bench::Import(options) => (import::run(&options)?, options.json),
            Bench::Single { options, transport } => (single::run(&options, transport)?, options.json),
            Bench::Crowd(crowd) => (crowd.run()?, crowd.common.json),
            Bench::Churn(churn) => (churn.run()?, churn.crowd.common.json),
            Bench::Link(link) => (link.run()?, link.common.json),
            Bench::Hostile(liars) => (liars.run()?, liars.common.json),
            Bench::Engine(models) => (models.run()?, models.json),
            Bench::Resume(resume) => (resume.run()?, resume.json),
            Bench::Gateway(gateway) => (gateway.run()?, gateway.json),
            Bench::Catalog(catalog) => (catalog.run()?, catalog.json),
            Bench::Names(names) => (names.run()?, names.json),
        };
        let mut out = io::stdout().lock();
        if json {
            let tables: Vec<_> = tables.iter().map(Table::to_json).collect();
            writeln!(out, "{}", json!({ "machine": machine(), "tables": tables }))?;
        } else {
            writeln!(out, "{}", machine())?;
            for table in tables {
                writeln!(out, "\n{table}")?;
            }
        }
        Ok(())
    }
}

/// The files of a benchmark, gone when it is dropped.
struct Files {
    folder: TempDir,
    large: PathBuf,
    small: PathBuf,
    middling: PathBuf,
}

impl Files {
    /// Makes them, and waits until they are on disk: what is written back later would be measured too.
    fn make(options: &Options) -> Result<Files> {
        let place = options.dir.clone().unwrap_or_else(env::temp_dir);
        let folder = tempfile::Builder::new().prefix("shoal-bench-").tempdir_in(&place);
        let folder = folder.with_context(|| place.display().to_string())?;
        let path = |name| folder.path().join(name);
        let files = Files {
            large: path("large.bin"),
            small: path("small"),
            middling: path("middling"),
            folder,
        };
        say(format_args!("making files in {}", files.folder.path().display()));
        fixture::file(&files.large, SEED, "large", options.size)?;
        fixture::many(&files.small, SEED, options.files, SMALL_LEN)?;
        fixture::many(&files.middling, SEED, options.files / 10, MIDDLING_LEN)?;
        rustix::fs::sync();
        Ok(files)
    }

    /// Returns a new folder, and waits until what was written before is on disk.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        rustix::fs::sync();
        Ok(path)
    }

    /// Returns the folders of files, each with what to call it.
    fn folders(&self, options: &Options) -> [(String, &Path); 2] {
        [
            (format!("{} files of 4 KiB", options.files), &self.small),
            (format!("{} files of 256 KiB", options.files / 10), &self.middling),
        ]
    }
}

/// Starts a part as a child of ours.
fn start(part: &str, arguments: &[&str]) -> Result<Process> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["part", part]).args(arguments);
    Process::spawn(command)
}

/// Runs a part to its end and returns what it measured.
fn measure(part: &str, arguments: &[&str]) -> Result<Measured> {
    let mut process = start(part, arguments)?;
    let measured = process.next_line(PART_DEADLINE)?;
    let status = process.wait(PART_DEADLINE)?;
    ensure!(status.success(), "{part}: {status}: {}", process.stderr());
    serde_json::from_str(&measured).with_context(|| format!("{part} said {measured}"))
}

/// Tells what is being done, on stderr.
fn say(what: std::fmt::Arguments<'_>) {
    // Nobody listening is no failure.
    let _ = writeln!(io::stderr(), "{what}");
}

/// Describes the machine in a line.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown");
    let cores = available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg")
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    format!(
        "{cores} cores, {}, Linux {}, load {load}",
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// Returns a path as an argument.
fn argument(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Names a number of bytes as people do.
fn human(bytes: u64) -> String {
    match bytes as f64 / GIB {
        gib if gib >= 1.0 => format!("{} GiB", (gib * 1000.0).round() / 1000.0),
        gib => format!("{:.0} MiB", gib * 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(human(2 << 30), "2 GiB");
        assert_eq!(human(20 << 30), "20 GiB");
        assert_eq!(human(5 << 28), "1.25 GiB");
        assert_eq!(human((1 << 30) + (1 << 30) / 200), "1.005 GiB");
        assert_eq!(human(512 << 20), "512 MiB");
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        crate::Arguments::command().debug_assert();
    }
}
