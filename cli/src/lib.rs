//! The command line: words in, words out. [`run`] is the whole program against a given [`Io`]; only `main` knows the process.
//!
//! What a command prints to be used goes to stdout, everything else to stderr. Where a node runs on the data folder, a command
//! asks it over the control API; where none does, it does the work in this process and says so.

mod args;
mod client;
mod commands;
mod context;
mod failure;
mod markdown;
mod meeting;
mod meter;
mod output;
mod session;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

pub use context::Io;

use args::{Args, Global};
use context::Context;
use failure::Failure;

/// Exit code of a command line that makes no sense.
const MISUSE: u8 = 2;

/// Runs one command: `args` with the program's name first. Returns 0 when it is done, 1 when it could not be done, 2 for a
/// command line that makes no sense, 3 when a verification failed.
pub fn run(args: impl IntoIterator<Item = OsString>, io: &mut Io) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(wrong) => return explain(&wrong, io),
    };
    log(&args.global, io.log.as_deref());
    let outcome = start(args, io);
    // Nobody is left to tell if that goes wrong.
    let _ = io.stdout.flush();
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            failure.print(&mut io.stderr);
            ExitCode::from(failure.code)
        }
    }
}

fn start(args: Args, io: &mut Io) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = Context::new(args.global, io)
        .and_then(|mut context| runtime.block_on(commands::run(args.command, &mut context)));
    // What still runs was either told to stop or must not hold us up.
    runtime.shutdown_background();
    outcome
}

/// Help and versions are what was asked for; anything else is misuse.
fn explain(wrong: &clap::Error, io: &mut Io) -> ExitCode {
    let text = wrong.render();
    let (stream, code) = match wrong.use_stderr() {
        true => (&mut io.stderr, ExitCode::from(MISUSE)),
        false => (&mut io.stdout, ExitCode::SUCCESS),
    };
    // Nobody is left to tell if that goes wrong.
    let _ = write!(stream, "{text}").and_then(|()| stream.flush());
    code
}

fn log(global: &Global, wanted: Option<&str>) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "off",
        (false, 0) => "error",
        (false, 1) => "warn,node=info,cli=info",
        (false, 2) => "info,node=debug,cli=debug",
        (false, _) => "debug",
    };
    let filter = wanted
        .and_then(|wanted| EnvFilter::try_new(wanted).ok())
        .unwrap_or_else(|| EnvFilter::new(level));
    // A second program in one process, as in a test, keeps the first one's log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

#[cfg(test)]
mod tests;
