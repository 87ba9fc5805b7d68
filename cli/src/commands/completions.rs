//! `shoal completions SHELL`.

use clap::CommandFactory;

use crate::args::{Args, Completions};
use crate::context::Context;
use crate::failure::Failure;

pub(crate) fn run(completions: Completions, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Args::command(), "shoal", &mut script);
    Ok(context.io.stdout.write_all(&script)?)
}
