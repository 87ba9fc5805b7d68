//! Fetching over loopback: one provider, one fetcher, two processes. And verifying.

use super::{
    ANSWER_DEADLINE, Files, GIB, Options, PART_DEADLINE, Transport, argument, baseline, human,
    import::{peak, row},
    measure,
    meter::Measured,
    part::peer::{Order, Provided},
    say, start,
};
use anyhow::{Context, Result};
use std::{io::Write, net::Ipv4Addr, path::Path, process::ChildStdin};
use testnet::{
    nodes::Process,
    report::{Cell, Spread, Table},
};

/// Where all of it happens.
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The data folder of the provider.
const PROVIDER: &str = "provider";

pub(super) fn run(options: &Options, transport: Transport) -> Result<Vec<Table>> {
    let files = Files::make(options)?;
    let mut provider = Provider::start(&files, transport, &files.large)?;
    let large = large(options, &files, &mut provider, transport)?;
    let repo = provider
        .provided
        .repo
        .clone()
        .context("what is published has a name")?;
    provider.stop()?;
    // The provider's data folder is free now: what it published is verified there.
    let verify = verify(options, &files, &repo)?;
    Ok(vec![large, folders(options, &files, transport)?, verify])
}

/// One transfer, at both ends.
struct Transfer {
    provide: Measured,
    fetch: Measured,
}

/// A provider in a process of its own.
struct Provider {
    process: Process,
    stdin: ChildStdin,
    provided: Provided,
}

impl Provider {
    fn start(files: &Files, transport: Transport, path: &Path) -> Result<Provider> {
        say(format_args!("publishing {}", path.display()));
        let data = files.fresh(PROVIDER)?;
        let mut process = start(
            "provide",
            &[&transport.listen(LOOPBACK), argument(&data)?, argument(path)?],
        )?;
        let line = process.next_line(PART_DEADLINE)?;
        let provided = serde_json::from_str(&line).with_context(|| line.clone())?;
        let stdin = process.stdin().context("its stdin was piped")?;
        Ok(Provider {
            process,
            stdin,
            provided,
        })
    }

    /// Fetches everything into a fresh data folder, and measures both ends.
    fn transfer(&mut self, files: &Files, transport: Transport) -> Result<Transfer> {
        let data = files.fresh("fetcher")?;
        self.stdin.write_all(Order::Begin.line().as_bytes())?;
        self.process.next_line(ANSWER_DEADLINE)?;
        let fetch = measure(
            "fetch",
            &[
                &transport.listen(LOOPBACK),
                argument(&data)?,
                &self.provided.ticket,
            ],
        )?;
        self.stdin.write_all(Order::End.line().as_bytes())?;
        let provide = serde_json::from_str(&self.process.next_line(ANSWER_DEADLINE)?)?;
        Ok(Transfer { provide, fetch })
    }

    fn stop(mut self) -> Result<()> {
        drop(self.stdin);
        self.process.wait(ANSWER_DEADLINE)?;
        Ok(())
    }
}

fn large(options: &Options, files: &Files, provider: &mut Provider, transport: Transport) -> Result<Table> {
    let (mut shoal, mut raw) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        say(format_args!("fetching the large file, round {round}"));
        shoal.push(provider.transfer(files, transport)?);
        raw.push(raw_copy(files)?);
    }
    let columns = [
        "what",
        "GiB/s",
        "CPU-s/GiB provide",
        "CPU-s/GiB fetch",
        "RSS provide, MiB",
        "RSS fetch, MiB",
    ];
    let title = format!(
        "Fetch one file of {} over loopback from one provider",
        human(options.size)
    );
    let mut table = Table::new(title, &columns);
    let gib = options.size as f64 / GIB;
    let ours = format!("shoal fetch, {}", transport.name());
    for (what, transfers) in [
        (ours.as_str(), &shoal),
        ("raw TCP and BLAKE3, file to file", &raw),
    ] {
        let (provide, fetch): (Vec<_>, Vec<_>) =
            transfers.iter().map(|both| (both.provide, both.fetch)).unzip();
        table.row([
            Cell::text(what),
            Cell::spread(Spread::of(fetch.iter().map(|measured| gib / measured.seconds)), 3),
            Cell::spread(Spread::of(provide.iter().map(|measured| measured.cpu / gib)), 2),
            Cell::spread(Spread::of(fetch.iter().map(|measured| measured.cpu / gib)), 2),
            peak(&provide),
            peak(&fetch),
        ]);
    }
    table.note("Fetched into an empty store, durable at the end; the raw copy is not made durable, and not encrypted.");
    Ok(table)
}

fn raw_copy(files: &Files) -> Result<Transfer> {
    let to = files.fresh("raw")?.join("copy");
    let mut sender = start("send", &[&LOOPBACK.to_string(), argument(&files.large)?])?;
    let address: String = serde_json::from_str(&sender.next_line(ANSWER_DEADLINE)?)?;
    let fetch = measure("receive", &[&address, argument(&to)?])?;
    let provide = serde_json::from_str(&sender.next_line(ANSWER_DEADLINE)?)?;
    sender.wait(ANSWER_DEADLINE)?;
    files.fresh("raw")?;
    Ok(Transfer { provide, fetch })
}

fn folders(options: &Options, files: &Files, transport: Transport) -> Result<Table> {
    let columns = [
        "what",
        "seconds",
        "CPU-s provide",
        "CPU-s fetch",
        "RSS provide, MiB",
        "RSS fetch, MiB",
    ];
    let title = format!(
        "Fetch a folder over loopback from one provider, {}",
        transport.name()
    );
    let mut table = Table::new(title, &columns);
    for (name, path) in files.folders(options) {
        let mut provider = Provider::start(files, transport, path)?;
        let (mut provide, mut fetch) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds {
            say(format_args!("fetching {name}, round {round}"));
            let both = provider.transfer(files, transport)?;
            provide.push(both.provide);
            fetch.push(both.fetch);
        }
        provider.stop()?;
        table.row([
            Cell::text(name),
            Cell::spread(Spread::of(fetch.iter().map(|measured| measured.seconds)), 2),
            Cell::spread(Spread::of(provide.iter().map(|measured| measured.cpu)), 2),
            Cell::spread(Spread::of(fetch.iter().map(|measured| measured.cpu)), 2),
            peak(&provide),
            peak(&fetch),
        ]);
    }
    Ok(table)
}

fn verify(options: &Options, files: &Files, repo: &str) -> Result<Table> {
    let (data, proof) = (
        files.folder.path().join(PROVIDER),
        files.folder.path().join("large.proof"),
    );
    let (data, proof, large) = (argument(&data)?, argument(&proof)?, argument(&files.large)?);
    start("proof", &[data, repo, proof])?.wait(PART_DEADLINE)?;
    let (mut store, mut folder, mut all_cores, mut program) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        say(format_args!("verifying the large file, round {round}"));
        store.push(measure("verify", &[data, repo])?);
        folder.push(measure("verify-folder", &[proof, large])?);
        all_cores.push(measure("blake3", &[large])?);
        program.extend(baseline::b3sum(&files.large)?);
    }
    let columns = ["what", "seconds", "GiB/s", "CPU-s/GiB", "RSS, MiB"];
    let mut table = Table::new(format!("Verify one file of {}", human(options.size)), &columns);
    table.row(row("shoal verify REPO", options.size, &store));
    table.row(row("shoal verify FOLDER --proof FILE", options.size, &folder));
    table.row(row("BLAKE3 on all cores", options.size, &all_cores));
    if program.is_empty() {
        table.note("b3sum is not installed here.");
    } else {
        let gib = options.size as f64 / GIB;
        table.row([
            Cell::text("b3sum"),
            Cell::spread(Spread::of(program.iter().copied()), 2),
            Cell::spread(Spread::of(program.iter().map(|seconds| gib / seconds)), 2),
            Cell::none(),
            Cell::none(),
        ]);
    }
    Ok(table)
}
