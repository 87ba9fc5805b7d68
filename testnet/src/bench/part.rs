//! The measured parts, each in a process of its own: it does one thing, and prints what that took as a line of JSON.

pub(super) mod peer;

use super::{baseline, catalog, meter::Meter, names};
use anyhow::{Result, bail};
use clap::Subcommand;
use libp2p::Multiaddr;
use node::{library::Library, progress::Progress, publish::PublishRequest, verify};
use protocol::{Proof, RepoRef, Ticket};
use serde::Serialize;
use std::{
    fs,
    io::{self, Write},
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
    /// Publish, say the ticket, and serve; obeys the lines of stdin.
    Provide {
        listen: Multiaddr,
        data: PathBuf,
        path: PathBuf,
    },
    /// Fetch into the store.
    Fetch {
        listen: Multiaddr,
        data: PathBuf,
        ticket: Ticket,
    },
    /// Start, and fetch into the store when a line of stdin says so; then serve until stdin ends.
    Take {
        listen: Multiaddr,
        data: PathBuf,
        ticket: Ticket,
        /// Say how far it is, too.
        #[arg(long)]
        progress: bool,
    },
    /// Publish a file, and each folder of another one; open the doors, say where they are, and serve until stdin ends.
    Doors {
        data: PathBuf,
        large: PathBuf,
        repos: PathBuf,
    },
    /// Provide a folder in a hostile way until stdin ends.
    Hostile {
        behaviour: String,
        listen: Multiaddr,
        folder: PathBuf,
    },
    /// Say an address, and send a file to who comes there.
    Send { host: String, path: PathBuf },
    /// Receive a file, hash it and write it.
    Receive { address: String, path: PathBuf },
    /// Fill a catalog and a search index with so many releases.
    CatalogImport { folder: PathBuf, count: u32 },
    /// Open them, ask each question so often, and add so many releases.
    CatalogSearch {
        folder: PathBuf,
        count: u32,
        new: u32,
        rounds: usize,
    },
    /// Start a node, say what that took, and tell of releases until stdin ends.
    CatalogTeller { data: PathBuf },
    /// Start a node, say what that took, learn from that one until so many are known, and say what that took.
    CatalogLearner {
        data: PathBuf,
        from: Multiaddr,
        count: usize,
    },
    /// Start many nodes, and say how releases and names do among them.
    Names { folder: PathBuf, asked: String },
}

impl Part {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Part::Publish { data, path } => block(publish(&data, path)),
            Part::Verify { data, repo } => block(verify_repo(&data, &repo)),
            Part::Proof { data, repo, proof } => block(write_proof(&data, &repo, &proof)),
            Part::Provide { listen, data, path } => block(peer::provide(listen, data, path)),
            Part::Fetch { listen, data, ticket } => block(peer::fetch(listen, data, ticket)),
            Part::Take {
                listen,
                data,
                ticket,
                progress,
            } => block(peer::take(listen, data, ticket, progress)),
            Part::Doors { data, large, repos } => block(peer::doors(data, large, repos)),
            Part::Hostile {
                behaviour,
                listen,
                folder,
            } => block(peer::hostile(&behaviour, listen, folder)),
            Part::Blake3 { path } => measured(|| baseline::blake3(&path)),
            Part::Sha256 { path } => measured(|| baseline::sha256(&path)),
            Part::VerifyFolder { proof, path } => {
                let proof = Proof::decode(&fs::read(proof)?)?;
                measured(|| whole(&verify::folder(&path, &proof, &Progress::default())?))
            }
            Part::Send { host, path } => {
                let listener = TcpListener::bind((host.as_str(), 0))?;
                tell(&listener.local_addr()?.to_string())?;
                measured(|| baseline::send(&listener, &path))
            }
            Part::CatalogImport { folder, count } => tell(&catalog::import(&folder, count)?),
            Part::CatalogSearch {
                folder,
                count,
                new,
                rounds,
            } => tell(&catalog::search(&folder, count, new, rounds)?),
            Part::Names { folder, asked } => names::crowd(&folder, &asked),
            Part::CatalogTeller { data } => block(catalog::teller(&data)),
            Part::CatalogLearner { data, from, count } => block(catalog::learner(&data, from, count)),
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

pub(super) fn tell(what: &impl Serialize) -> Result<()> {
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
