//! `testnet bench …`: measures Shoal on this machine, beside what the machine can do without it.

mod bench;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measurements of Shoal on this machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print tables.
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// One measured part of a benchmark, in a process of its own.
    #[command(hide = true)]
    Part {
        #[command(subcommand)]
        part: bench::Part,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    // This program is also what models run in, in a process of their own.
    if let Some(code) = node::engine::child::run(std::env::args_os()) {
        return Ok(code);
    }
    match Arguments::parse().command {
        Command::Bench { bench } => bench.run()?,
        Command::Part { part } => part.run()?,
    }
    Ok(ExitCode::SUCCESS)
}
