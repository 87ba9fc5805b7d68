//! The measured parts, each in a process of its own: it does one thing, and prints what that took as a line of JSON.

use super::{
    Transport, baseline,
    meter::{Measured, Meter},
};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use node::{
    config::Config,
    fetch::{FetchRequest, FetchWhat},
    library::Library,
    node::Node,
    progress::Progress,
    publish::PublishRequest,
    verify,
};
use protocol::{Proof, RepoRef, Ticket};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, BufRead, Write},
    net::TcpListener,
    path::{Path, PathBuf},
};
use tokio::runtime::Runtime;

#[derive(Subcommand)]
pub(crate) enum Part {
    /// Publish by reference, without a network.
    Publish { data: PathBuf, path: PathBuf },
    /// BLAKE3 of a file on all cores.
    Blake3 { path: PathBuf },
    /// SHA-256 of a file on one core.
    Sha256 { path: PathBuf },
    /// Verify a repo in the store.
    Verify { data: PathBuf, repo: RepoRef },
    /// Write the proof of a repo; measures nothing.
    Proof {
        data: PathBuf,
        repo: RepoRef,
        proof: PathBuf,
    },
    /// Verify a folder or file against a proof.
    VerifyFolder { proof: PathBuf, path: PathBuf },
    /// Publish, say the ticket, and serve; each line of stdin begins a measurement or ends it.
    Provide {
        transport: Transport,
        data: PathBuf,
        path: PathBuf,
    },
    /// Fetch into the store.
    Fetch {
        transport: Transport,
        data: PathBuf,
        ticket: Ticket,
    },
    /// Say an address, and send a file to who comes there.
    Send { path: PathBuf },
    /// Receive a file, hash it and write it.
    Receive { address: String, path: PathBuf },
}

/// What a provider says when it serves.
#[derive(Serialize, Deserialize)]
pub(super) struct Provided {
    pub(super) repo: String,
    pub(super) ticket: String,
}

impl Part {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Part::Publish { data, path } => block(publish(&data, path)),
            Part::Verify { data, repo } => block(verify_repo(&data, &repo)),
            Part::Proof { data, repo, proof } => block(write_proof(&data, &repo, &proof)),
            Part::Provide {
                transport,
                data,
                path,
            } => block(provide(transport, data, path)),
            Part::Fetch {
                transport,
                data,
                ticket,
            } => block(fetch(transport, data, ticket)),
            Part::Blake3 { path } => measured(|| baseline::blake3(&path)),
            Part::Sha256 { path } => measured(|| baseline::sha256(&path)),
            Part::VerifyFolder { proof, path } => {
                let proof = Proof::decode(&fs::read(proof)?)?;
                measured(|| whole(&verify::folder(&path, &proof, &Progress::default())?))
            }
            Part::Send { path } => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                tell(&listener.local_addr()?.to_string())?;
                measured(|| baseline::send(&listener, &path))
            }
            Part::Receive { address, path } => measured(|| baseline::receive(&address, &path)),
        }
    }
}

fn block(part: impl Future<Output = Result<()>>) -> Result<()> {
    Runtime::new()?.block_on(part)
}

fn measured<T>(work: impl FnOnce() -> Result<T>) -> Result<()> {
    let meter = Meter::start()?;
    work()?;
    tell(&meter.stop()?)
}

fn tell(what: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}

async fn publish(data: &Path, path: PathBuf) -> Result<()> {
    let library = Library::open(data).await?;
    let meter = Meter::start()?;
    library
        .publish(PublishRequest::new(path), &Progress::default())
        .await?;
    tell(&meter.stop()?)?;
    library.close().await;
    Ok(())
}

async fn verify_repo(data: &Path, repo: &RepoRef) -> Result<()> {
    let library = Library::open(data).await?;
    let meter = Meter::start()?;
    whole(&library.verify(repo, &Progress::default()).await?)?;
    tell(&meter.stop()?)?;
    library.close().await;
    Ok(())
}

async fn write_proof(data: &Path, repo: &RepoRef, path: &Path) -> Result<()> {
    let library = Library::open(data).await?;
    let proof = library.proof(repo, &Progress::default()).await?;
    fs::write(path, proof.encode())?;
    library.close().await;
    Ok(())
}

fn whole(report: &verify::Report) -> Result<()> {
    match report.bad.first() {
        None => Ok(()),
        Some(bad) => bail!("{bad:?}, and {} more", report.bad.len() - 1),
    }
}

async fn start(transport: Transport, data: PathBuf) -> Result<Node> {
    let mut config = Config::loopback(data);
    config.listen = vec![transport.address().parse()?];
    Ok(Node::start(config).await?)
}

async fn provide(transport: Transport, data: PathBuf, path: PathBuf) -> Result<()> {
    let node = start(transport, data).await?;
    let (published, ticket) = node
        .publish(PublishRequest::new(path), &Progress::default())
        .await?;
    tell(&Provided {
        repo: published.repo.to_string(),
        ticket: ticket.to_string(),
    })?;
    // Ends with our parent's handle on our stdin. A line begins a measurement, the next one ends it.
    let listening = tokio::task::spawn_blocking(|| {
        let mut meter: Option<Meter> = None;
        for line in io::stdin().lock().lines() {
            line?;
            meter = match meter {
                None => {
                    let meter = Meter::start()?;
                    tell(&"begun")?;
                    Some(meter)
                }
                Some(meter) => {
                    tell(&meter.stop()?)?;
                    None
                }
            };
        }
        Ok::<(), anyhow::Error>(())
    });
    listening.await??;
    node.shutdown().await;
    Ok(())
}

async fn fetch(transport: Transport, data: PathBuf, ticket: Ticket) -> Result<()> {
    let node = start(transport, data).await?;
    let meter = Meter::start()?;
    let request = FetchRequest::new(FetchWhat::Ticket(ticket));
    let fetched = node.fetch(request, &Progress::default()).await?;
    let measured: Measured = meter.stop()?;
    tell(&measured)?;
    let missing = fetched.bytes.checked_sub(fetched.fetched_bytes);
    missing
        .filter(|missing| *missing == 0)
        .context("some of it was there already")?;
    node.shutdown().await;
    Ok(())
}
