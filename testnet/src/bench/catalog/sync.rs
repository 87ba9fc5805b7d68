//! Whole nodes over a large catalogue: one that tells, and one that lacks what came last and learns it.

use super::{
    super::part::{peer::orders, tell},
    part::{Resident, resident},
};
use anyhow::{Context, Result};
use libp2p::Multiaddr;
use node::{config::Config, node::Node};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path, time::Duration, time::Instant};
use tokio::time::{interval, timeout};

/// From one look at how much is known to the next.
const LOOK: Duration = Duration::from_millis(10);
/// How long a sync may take.
const SYNC_DEADLINE: Duration = Duration::from_secs(600);

/// What a node says once it is there.
#[derive(Serialize, Deserialize)]
pub(crate) struct Started {
    /// Where it is reached.
    pub(super) address: Multiaddr,
    /// Seconds from nothing to a node that answers.
    pub(super) seconds: f64,
    /// Its memory then.
    pub(super) resident: Resident,
    /// Seconds until it could compare what it knows with others.
    pub(super) read: f64,
    /// Its memory then.
    pub(super) resident_read: Resident,
    /// Releases that it knows.
    pub(super) known: usize,
}

/// What a sync took.
#[derive(Serialize, Deserialize)]
pub(crate) struct Synced {
    /// Seconds from the first packet to the last release, in the catalog.
    pub(super) seconds: f64,
    /// Bytes over loopback meanwhile, both ways, headers and handshakes among them.
    pub(super) bytes: u64,
    /// Its memory after.
    pub(super) resident: Resident,
}

async fn start(data: &Path) -> Result<(Node, Started)> {
    let begun = Instant::now();
    let node = Node::start(Config::loopback(data)).await?;
    let (seconds, at_first) = (begun.elapsed().as_secs_f64(), resident()?);
    node.discovery().is_read().await;
    let started = Started {
        address: node.listeners().first().context("it listens nowhere")?.clone(),
        seconds,
        resident: at_first,
        read: begun.elapsed().as_secs_f64(),
        resident_read: resident()?,
        known: node.discovery().len(),
    };
    Ok((node, started))
}

/// Tells of what it knows until stdin ends.
pub(crate) async fn teller(data: &Path) -> Result<()> {
    let mut orders = orders();
    let (node, started) = start(data).await?;
    tell(&started)?;
    while orders.recv().await.is_some() {}
    node.shutdown().await;
    Ok(())
}

/// Learns from who is there, until it knows so many.
pub(crate) async fn learner(data: &Path, from: Multiaddr, count: usize) -> Result<()> {
    let (node, started) = start(data).await?;
    tell(&started)?;
    let (before, begun) = (loopback_bytes()?, Instant::now());
    node.swarm().dial(from).await?;
    let learnt = async {
        let mut looks = interval(LOOK);
        while node.discovery().len() < count {
            looks.tick().await;
        }
    };
    let learnt = timeout(SYNC_DEADLINE, learnt).await;
    learnt.with_context(|| format!("it knows {} of {count}", node.discovery().len()))?;
    let seconds = begun.elapsed().as_secs_f64();
    tell(&Synced {
        seconds,
        bytes: loopback_bytes()?.saturating_sub(before),
        resident: resident()?,
    })?;
    node.shutdown().await;
    Ok(())
}

/// What the loopback device carried so far.
fn loopback_bytes() -> Result<u64> {
    let devices = fs::read_to_string("/proc/net/dev")?;
    let line = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    let received = line.and_then(|line| line.split_whitespace().next());
    Ok(received.context("/proc/net/dev has no lo")?.parse()?)
}
