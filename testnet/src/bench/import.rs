//! Publishing by reference: every byte is read once and three digests are made of it, in the time of the slowest one.

use super::{Files, GIB, Options, argument, human, measure, meter::Measured, say};
use anyhow::Result;
use testnet::report::{Cell, Spread, Table};

const COLUMNS: [&str; 5] = ["what", "seconds", "GiB/s", "CPU-s/GiB", "RSS, MiB"];

pub(super) fn run(options: &Options) -> Result<Vec<Table>> {
    let files = Files::make(options)?;
    Ok(vec![large(options, &files)?, folders(options, &files)?])
}

fn large(options: &Options, files: &Files) -> Result<Table> {
    let path = argument(&files.large)?;
    let (mut publish, mut blake3, mut sha256) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        say(format_args!("publishing the large file, round {round}"));
        blake3.push(measure("blake3", &[path])?);
        sha256.push(measure("sha256", &[path])?);
        let data = files.fresh("data")?;
        publish.push(measure("publish", &[argument(&data)?, path])?);
    }
    let size = human(options.size);
    let mut table = Table::new(
        format!("Publish one file of {size} by reference, cold catalog"),
        &COLUMNS,
    );
    table.row(row("publish: BLAKE3, SHA-256, outboard", options.size, &publish));
    table.row(row("BLAKE3 on all cores", options.size, &blake3));
    table.row(row("SHA-256 on one core", options.size, &sha256));
    let ratios = publish.iter().zip(&blake3).zip(&sha256);
    let ratio =
        Spread::of(ratios.map(|((ours, blake3), sha256)| ours.seconds / blake3.seconds.max(sha256.seconds)));
    let Spread { median, min, max, .. } = ratio;
    table.note(format!(
        "Publish takes {median:.2} ({min:.2}–{max:.2}) times the slower of the two; wanted: at most 1.5."
    ));
    Ok(table)
}

fn folders(options: &Options, files: &Files) -> Result<Table> {
    let columns = ["what", "seconds", "files/s", "CPU-s", "RSS, MiB"];
    let mut table = Table::new("Publish a folder by reference, cold catalog", &columns);
    for ((name, path), count) in files
        .folders(options)
        .into_iter()
        .zip([options.files, options.files / 10])
    {
        let mut publish = Vec::new();
        for round in 1..=options.rounds {
            say(format_args!("publishing {name}, round {round}"));
            let data = files.fresh("data")?;
            publish.push(measure("publish", &[argument(&data)?, argument(path)?])?);
        }
        table.row([
            Cell::text(name),
            Cell::spread(Spread::of(publish.iter().map(|measured| measured.seconds)), 2),
            Cell::spread(
                Spread::of(publish.iter().map(|measured| count as f64 / measured.seconds)),
                0,
            ),
            Cell::spread(Spread::of(publish.iter().map(|measured| measured.cpu)), 2),
            peak(&publish),
        ]);
    }
    Ok(table)
}

/// A row about work on so many bytes.
pub(super) fn row(what: &str, bytes: u64, rounds: &[Measured]) -> [Cell; 5] {
    let gib = bytes as f64 / GIB;
    [
        Cell::text(what),
        Cell::spread(Spread::of(rounds.iter().map(|measured| measured.seconds)), 2),
        Cell::spread(
            Spread::of(rounds.iter().map(|measured| gib / measured.seconds)),
            2,
        ),
        Cell::spread(Spread::of(rounds.iter().map(|measured| measured.cpu / gib)), 2),
        peak(rounds),
    ]
}

/// The most memory of all rounds: a bound is held by the worst.
pub(super) fn peak(rounds: &[Measured]) -> Cell {
    Cell::mib(rounds.iter().map(|measured| measured.peak).max().unwrap_or(0))
}
