//! Waits until a node that was just started knows another one: before that it can neither ask nor announce.

use std::time::Duration;

use node::node::Node;
use node::swarm::SwarmEvent;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// Returns whether `node` has somebody in its routing table, as soon as it has, or `false` after `patience`.
pub(crate) async fn meets_somebody(node: &Node, patience: Duration) -> bool {
    timeout(patience, knows_somebody(node)).await.is_ok()
}

async fn knows_somebody(node: &Node) {
    let mut events = node.swarm().subscribe();
    while node.swarm().counts().await.routing == 0 {
        loop {
            match events.recv().await {
                Ok(SwarmEvent::RoutingUpdated(_)) | Err(RecvError::Lagged(_)) => break,
                // The swarm has stopped: nobody will come.
                Err(RecvError::Closed) => std::future::pending().await,
                Ok(_) => {}
            }
        }
    }
}
