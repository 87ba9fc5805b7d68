//! Full nodes in one process, on loopback, each with a data folder of its own, and the program itself as a child process.
//!
//! The first node is where the others meet. Whatever a test waits for, it waits for with a deadline, and is told what did
//! not come.

mod process;

pub use process::{Process, Ready, Said, ShoalProcess, UpOptions, shoal};

use anyhow::{Context, Result, bail};
use futures::future::{join_all, select_all};
use libp2p::{Multiaddr, multiaddr::Protocol};
use node::{
    config::Config,
    node::Node,
    swarm::{Swarm, SwarmEvent},
};
use std::{fmt::Display, fs, path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::broadcast::{Receiver, error::RecvError},
    task::block_in_place,
    time::{sleep, timeout},
};

/// Longest wait for anything: generous, for a busy machine. It only passes when something is broken.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a state is looked at without an event: not everything that is waited for is an event of the network.
const TICK: Duration = Duration::from_millis(50);

/// Longest that a dropped [`Testnet`] waits for its nodes to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Changes a node's configuration before it starts; is given its index.
type Configure = Box<dyn Fn(usize, &mut Config) + Send + Sync>;

/// Several nodes that know each other. Data folders and scratch folder go when it is dropped.
pub struct Testnet {
    nodes: Vec<Member>,
    configure: Configure,
    folder: TempDir,
}

/// One node, running or not.
struct Member {
    node: Option<Node>,
    /// Where it listened when it was started first, without its id: it listens there again.
    listened: Vec<Multiaddr>,
}

impl Testnet {
    /// Starts nodes as [`Config::loopback`] says, and waits until each has another one in its routing table.
    ///
    /// # Errors
    /// Why one did not start; that they did not meet within [`DEADLINE`].
    pub async fn start(count: usize) -> Result<Testnet> {
        Testnet::start_with(count, |_, _| {}).await
    }

    /// The same; `configure` is given the index and configuration of each node, at its every start.
    pub async fn start_with(
        count: usize,
        configure: impl Fn(usize, &mut Config) + Send + Sync + 'static,
    ) -> Result<Testnet> {
        let folder = tempfile::Builder::new().prefix("shoal-testnet-").tempdir()?;
        fs::create_dir(folder.path().join("scratch"))?;
        let mut net = Testnet {
            nodes: Vec::new(),
            configure: Box::new(configure),
            folder,
        };
        if count > 0 {
            net.add().await?;
        }
        let added = join_all((1..count).map(|index| net.member(index, &[]))).await;
        for member in added {
            net.nodes.push(member?);
        }
        net.meet().await?;
        Ok(net)
    }

    /// Starts one more node and returns its index. It knows the meeting point; nobody waits until they have met.
    pub async fn add(&mut self) -> Result<usize> {
        let index = self.nodes.len();
        let member = self.member(index, &[]).await?;
        self.nodes.push(member);
        Ok(index)
    }

    /// Waits until each running node has another one in its routing table. One alone waits for nobody.
    pub async fn meet(&self) -> Result<()> {
        if self.running().count() < 2 {
            return Ok(());
        }
        let met = async || {
            let counts = join_all(self.running().map(|node| node.swarm().counts())).await;
            counts.iter().all(|counts| counts.routing > 0).then_some(())
        };
        self.until("the nodes to meet", met).await
    }

    async fn member(&self, index: usize, listen: &[Multiaddr]) -> Result<Member> {
        let mut config = Config::loopback(self.data(index));
        if !listen.is_empty() {
            config.listen = listen.to_vec();
        }
        if index > 0 {
            config.peers = self.meeting_point();
        }
        (self.configure)(index, &mut config);
        let node = Node::start(config)
            .await
            .with_context(|| format!("starting node {index}"))?;
        let listened = node.listeners().into_iter().map(without_peer).collect();
        Ok(Member {
            node: Some(node),
            listened,
        })
    }

    /// Returns how many nodes there are, stopped ones included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Tells whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns a running node.
    ///
    /// # Panics
    /// If there is no such node, or it was stopped.
    pub fn node(&self, index: usize) -> &Node {
        self.nodes[index]
            .node
            .as_ref()
            .unwrap_or_else(|| panic!("node {index} was stopped"))
    }

    /// Returns the nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter_map(|member| member.node.as_ref())
    }

    /// Returns the data folder of a node, running or not.
    pub fn data(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("node-{index}"))
    }

    /// Returns a folder for what a test publishes and fetches. It is on the disk of the data folders.
    pub fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// Returns the addresses of the first node, with its id; none if it does not run.
    pub fn meeting_point(&self) -> Vec<Multiaddr> {
        let first = self.nodes.first().and_then(|member| member.node.as_ref());
        first.map(Node::listeners).unwrap_or_default()
    }

    /// Stops a node cleanly; its data folder stays, and is free when this returns. One that is stopped stays so.
    pub async fn stop(&mut self, index: usize) {
        if let Some(node) = self.nodes[index].node.take() {
            node.shutdown().await;
        }
    }

    /// Starts a stopped node again on its data folder and its former ports; if those are taken by now, on any.
    ///
    /// # Errors
    /// Why it did not start; that it still runs.
    pub async fn start_again(&mut self, index: usize) -> Result<()> {
        if self.nodes[index].node.is_some() {
            bail!("node {index} still runs");
        }
        let listened = self.nodes[index].listened.clone();
        self.nodes[index] = match self.member(index, &listened).await {
            Ok(member) => member,
            Err(_) => self.member(index, &[]).await?,
        };
        Ok(())
    }

    /// Stops a node and starts it again on its data folder.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.stop(index).await;
        self.start_again(index).await
    }

    /// Stops all nodes cleanly.
    pub async fn stop_all(&mut self) {
        join_all(self.running().map(Node::shutdown)).await;
        self.nodes.iter_mut().for_each(|member| member.node = None);
    }

    /// Waits until `state` returns something: it is asked at once, and again after every event of any running node.
    ///
    /// # Errors
    /// It did not within [`DEADLINE`]; `what` says what was waited for.
    pub async fn until<T>(&self, what: impl Display, state: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        let swarms: Vec<&Swarm> = self.running().map(Node::swarm).collect();
        until(&swarms, DEADLINE, what, state).await
    }
}

impl Drop for Testnet {
    /// Stops what still runs, so that nobody writes into the folders any more when they go. Within a runtime of one thread nobody
    /// can be waited for: stop the nodes yourself there.
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if runtime.runtime_flavor() == RuntimeFlavor::MultiThread {
            let stopped = || runtime.block_on(timeout(STOP_DEADLINE, self.stop_all()));
            // Nobody is left to be told; at worst a folder stays.
            let _ = block_in_place(stopped);
        }
    }
}

/// Waits until `state` returns something: it is asked at once, after every event of the swarms, and every 50 ms.
///
/// # Errors
/// It did not before the deadline; `what` says what was waited for.
pub async fn until<T>(
    swarms: &[&Swarm],
    deadline: Duration,
    what: impl Display,
    mut state: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let mut events: Vec<Receiver<SwarmEvent>> = swarms.iter().map(|swarm| swarm.subscribe()).collect();
    let waiting = async {
        loop {
            if let Some(reached) = state().await {
                return reached;
            }
            // Not a test's sleep: the state is what is waited for, and it was just looked at.
            let _ = timeout(TICK, event(&mut events)).await;
        }
    };
    within(deadline, what, waiting).await
}

/// Waits for the next event of any swarm; swarms that have stopped are left out from then on.
async fn event(events: &mut Vec<Receiver<SwarmEvent>>) {
    loop {
        if events.is_empty() {
            // Nothing will come: the caller's tick ends this.
            sleep(TICK).await;
            return;
        }
        let (received, index, _) = select_all(events.iter_mut().map(|events| Box::pin(events.recv()))).await;
        match received {
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => drop(events.swap_remove(index)),
        }
    }
}

/// Waits for some work, with a deadline.
///
/// # Errors
/// It was not done before the deadline; `what` names it.
pub async fn within<T>(deadline: Duration, what: impl Display, work: impl Future<Output = T>) -> Result<T> {
    let done = timeout(deadline, work).await;
    done.ok()
        .with_context(|| format!("waited {deadline:?} in vain for {what}"))
}

/// Takes the `/p2p/PEER` from the end of an address.
fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_meet_and_come_back_as_who_and_where_they_were() {
        let mut net = Testnet::start(3).await.unwrap();
        let ids: HashSet<_> = net.running().map(|node| node.swarm().peer_id()).collect();
        assert_eq!(ids.len(), 3);
        let place = |net: &Testnet| net.meeting_point().into_iter().collect::<HashSet<_>>();
        let before = place(&net);
        net.stop(0).await;
        assert_eq!(net.running().count(), 2);
        net.start_again(0).await.unwrap();
        assert_eq!(place(&net), before);
        assert!(net.start_again(0).await.is_err(), "it runs");
        net.meet().await.unwrap();
        assert_eq!(net.add().await.unwrap(), 3);
        net.meet().await.unwrap();
        net.stop_all().await;
        assert_eq!(net.running().count(), 0);
    }

    #[tokio::test]
    async fn waiting_ends_with_what_did_not_come() {
        let never = until::<()>(&[], Duration::from_millis(120), "pigs to fly", async || None).await;
        assert_eq!(
            never.unwrap_err().to_string(),
            "waited 120ms in vain for pigs to fly"
        );
        let mut asked = 0;
        let third = async || {
            asked += 1;
            (asked == 3).then_some(asked)
        };
        assert_eq!(until(&[], DEADLINE, "the third time", third).await.unwrap(), 3);
    }
}
