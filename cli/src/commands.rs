//! The commands: one function each, which asks, and prints what came out.

mod attest;
mod catalog;
mod completions;
mod demo;
mod deny;
mod doctor;
mod fetch;
mod follow;
mod identity;
mod import;
mod jobs;
mod limit;
mod publish;
mod repos;
mod run;
mod running;
mod search;
mod up;
mod validate;
mod verify;

use std::process::ExitCode;

use crate::args::{Catalog, Command};
use crate::context::Context;
use crate::failure::Failure;

/// Runs one command.
pub(crate) async fn run(command: Command, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(up) => up::run(up, context).await?,
        Command::Publish(publish) => publish::run(publish, context).await?,
        // What is damaged, or could not be taken, is told with the rest.
        Command::Import(import) => return import::run(import, context).await,
        Command::Fetch(fetch) => fetch::run(fetch, context).await?,
        Command::Run(run) => run::run(run, context).await?,
        // Finding something wrong is no failure of the command, and yet not 0.
        Command::Verify(verify) => return verify::run(verify, context).await,
        // So has what does not do what it should.
        Command::Validate(validate) => return validate::run(validate, context).await,
        Command::Probe(probe) => validate::probe(probe, context).await?,
        Command::Attest(attest) => attest::run(attest, context).await?,
        Command::Proof(proof) => verify::prove(proof, context).await?,
        Command::Ls => repos::list(context).await?,
        Command::Search(search) => search::run(search, context).await?,
        Command::Similar(similar) => search::similar(similar, context).await?,
        Command::Show(repo) => repos::show(repo, context).await?,
        Command::Ticket(repo) => repos::ticket(repo, context).await?,
        Command::Pin(repo) => repos::pin(repo, context).await?,
        Command::Forget(repo) => repos::forget(repo, context).await?,
        Command::Collect => repos::collect(context).await?,
        Command::Follow(follow) => follow::follow(follow, context).await?,
        Command::Unfollow(unfollow) => follow::unfollow(unfollow, context).await?,
        Command::Following => follow::list(context).await?,
        Command::Deny(what) => deny::deny(what, context).await?,
        Command::Allow(what) => deny::allow(what, context).await?,
        Command::Denied(denied) => deny::list(denied, context).await?,
        Command::Id(id) => identity::run(id, context).await?,
        Command::Peers => running::peers(context)?,
        Command::Status => running::status(context)?,
        // What it found is what was asked for, and yet not 0.
        Command::Doctor => return doctor::run(context),
        Command::Jobs(jobs) => jobs::run(&jobs, context)?,
        Command::Limit(limit) => limit::run(&limit, context)?,
        Command::Catalog(Catalog::Rebuild) => catalog::rebuild(context).await?,
        Command::Completions(completions) => completions::run(completions, context)?,
        Command::Demo(demo) => demo::run(demo, context).await?,
    }
    Ok(ExitCode::SUCCESS)
}
