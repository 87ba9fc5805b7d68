//! The parts that are peers: they take part in a network, obey the lines of stdin, and end when it ends.

use super::{
    super::meter::{Measured, Meter},
    tell,
};
use anyhow::{Context, Result, ensure};
use libp2p::Multiaddr;
use node::{
    config::Config,
    fetch::{FetchRequest, FetchWhat},
    http::control,
    library::Library,
    node::Node,
    progress::{Phase, Progress, Snapshot},
    publish::PublishRequest,
};
use protocol::Ticket;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, BufRead},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
};
use testnet::hostile::{Behaviour, Hostile, HostileOptions};
use tokio::sync::{mpsc, watch};

/// Lines of stdin that wait to be obeyed.
const LINES_MAX: usize = 16;

/// What a provider says when it serves.
#[derive(Serialize, Deserialize)]
pub(crate) struct Provided {
    /// What it calls it, where it has a name.
    pub(crate) repo: Option<String>,
    /// How to fetch it.
    pub(crate) ticket: String,
}

/// What a node with open doors says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Where they are.
    pub(crate) address: SocketAddr,
    /// The path of the large file there.
    pub(crate) large: String,
}

/// What a provider may be told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Begin to measure.
    Begin,
    /// Say what was measured, as [`Measured`].
    End,
    /// Say how many bytes of blobs were sent since the start.
    Sent,
    /// Begin to fetch.
    Go,
}

impl Order {
    /// The line that says it.
    pub(crate) fn line(self) -> &'static str {
        match self {
            Order::Begin => "begin\n",
            Order::End => "end\n",
            Order::Sent => "sent\n",
            Order::Go => "go\n",
        }
    }

    fn read(line: &str) -> Result<Order> {
        let orders = [Order::Begin, Order::End, Order::Sent, Order::Go];
        let order = orders
            .into_iter()
            .find(|order| order.line().trim_end() == line.trim_end());
        order.with_context(|| format!("no order: {line}"))
    }
}

/// What somebody who fetches says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// It waits for the line that begins the fetch.
    Ready,
    /// So many bytes of the files are here and verified.
    Has(u64),
    /// All is here, and durable.
    Taken {
        /// What that took, from the line on.
        measured: Measured,
        /// Verified bytes that came from peers.
        fetched_bytes: u64,
        /// Peers they came from.
        peers: usize,
    },
}

/// Starts a node that knows nobody.
async fn start(listen: Multiaddr, data: PathBuf) -> Result<Node> {
    let mut config = Config::loopback(data);
    config.listen = vec![listen];
    Ok(Node::start(config).await?)
}

/// The lines of stdin; nothing more comes when our parent is gone, or is done with us.
pub(in crate::bench) fn orders() -> mpsc::Receiver<Result<Order>> {
    let (sender, orders) = mpsc::channel(LINES_MAX);
    // Ends with the process: nothing else ends a read of stdin.
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(Order::read(&line)).is_err() {
                return;
            }
        }
    });
    orders
}

pub(super) async fn provide(listen: Multiaddr, data: PathBuf, path: PathBuf) -> Result<()> {
    let node = start(listen, data).await?;
    let (published, ticket) = node
        .publish(PublishRequest::new(path), &Progress::default())
        .await?;
    tell(&Provided {
        repo: Some(published.repo.to_string()),
        ticket: ticket.to_string(),
    })?;
    let mut orders = orders();
    let mut meter: Option<Meter> = None;
    while let Some(order) = orders.recv().await {
        match order? {
            Order::Begin => {
                meter = Some(Meter::start()?);
                tell(&"begun")?;
            }
            Order::End => tell(&meter.take().context("an end without a begin")?.stop()?)?,
            Order::Sent => tell(&node.status().await?.up_bytes)?,
            Order::Go => {}
        }
    }
    node.shutdown().await;
    Ok(())
}

pub(super) async fn fetch(listen: Multiaddr, data: PathBuf, ticket: Ticket) -> Result<()> {
    let node = start(listen, data).await?;
    let meter = Meter::start()?;
    let request = FetchRequest::new(FetchWhat::Ticket(ticket));
    let fetched = node.fetch(request, &Progress::default()).await?;
    tell(&meter.stop()?)?;
    ensure!(
        fetched.fetched_bytes == fetched.bytes,
        "some of it was there already"
    );
    node.shutdown().await;
    Ok(())
}

pub(super) async fn take(listen: Multiaddr, data: PathBuf, ticket: Ticket, progress: bool) -> Result<()> {
    let node = start(listen, data).await?;
    let mut orders = orders();
    tell(&Told::Ready)?;
    if orders.recv().await.is_none() {
        return Ok(());
    }
    let (reported, watch) = Progress::channel();
    if progress {
        tokio::spawn(tell_progress(watch));
    }
    let meter = Meter::start()?;
    let request = FetchRequest::new(FetchWhat::Ticket(ticket));
    tokio::select! {
        fetched = node.fetch(request, &reported) => {
            let fetched = fetched?;
            tell(&Told::Taken {
                measured: meter.stop()?,
                fetched_bytes: fetched.fetched_bytes,
                peers: fetched.peers.len(),
            })?;
        }
        // Nobody waits for it any more.
        _ = orders.recv() => return Ok(()),
    }
    // Others may fetch from us until nobody needs us.
    while orders.recv().await.is_some() {}
    Ok(())
}

async fn tell_progress(mut watch: watch::Receiver<Snapshot>) -> Result<()> {
    while watch.changed().await.is_ok() {
        let (phase, bytes) = {
            let snapshot = watch.borrow_and_update();
            (snapshot.phase, snapshot.bytes)
        };
        if phase == Phase::Fetching {
            tell(&Told::Has(bytes))?;
        }
    }
    Ok(())
}

pub(super) async fn doors(data: PathBuf, large: PathBuf, repos: PathBuf) -> Result<()> {
    // What is published before the node starts is announced to nobody.
    let library = Library::open(&data).await?;
    let publish = async |path: &Path, name: &str| {
        let request = PublishRequest {
            name: Some(name.parse()?),
            ..PublishRequest::new(path)
        };
        library.publish(request, &Progress::default()).await?;
        anyhow::Ok(())
    };
    publish(&large, "large").await?;
    for repo in fs::read_dir(repos)? {
        let repo = repo?;
        publish(&repo.path(), &repo.file_name().to_string_lossy()).await?;
    }
    library.follow(library.publisher(), &"me".parse()?)?;
    library.close().await;
    let node = Node::start(Config::loopback(data)).await?;
    let door = control::serve(node.clone(), (Ipv4Addr::LOCALHOST, 0).into()).await?;
    let name = large.file_name().context("a file has a name")?;
    tell(&Opened {
        address: door.address(),
        large: format!("/me/large/resolve/main/{}", name.to_string_lossy()),
    })?;
    let mut orders = orders();
    while orders.recv().await.is_some() {}
    door.close().await;
    node.shutdown().await;
    Ok(())
}

pub(super) async fn hostile(behaviour: &str, listen: Multiaddr, folder: PathBuf) -> Result<()> {
    let behaviour: Behaviour = serde_json::from_str(behaviour)?;
    let hostile = Hostile::start_with(HostileOptions {
        listen: vec![listen],
        ..HostileOptions::new(folder, behaviour)
    })
    .await?;
    tell(&Provided {
        repo: None,
        ticket: hostile.ticket().to_string(),
    })?;
    let mut orders = orders();
    while orders.recv().await.is_some() {}
    hostile.stop().await;
    Ok(())
}
