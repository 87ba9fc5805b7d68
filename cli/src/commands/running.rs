//! The node itself: `id`, `peers`, `status`, `jobs`.

use std::time::Duration;

use node::http::messages::PeerAnswer;
use node::node::{JobView, Status};
use protocol::Publisher;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::meter;
use crate::output::{self, Side};
use crate::session::{self, Session};

/// What `id --json` prints.
#[derive(Serialize)]
struct Ids {
    peer_id: String,
    publisher: Publisher,
}

pub(crate) async fn id(context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let ids = session.ids();
    session.close().await;
    let (peer_id, publisher) = ids?;
    if context.json {
        return Ok(context.print_json(&Ids { peer_id, publisher })?);
    }
    let text = output::pairs(&[("peer", peer_id), ("publisher", publisher.to_string())]);
    Ok(write!(context.io.stdout, "{text}")?)
}

pub(crate) fn peers(context: &mut Context<'_>) -> Result<(), Failure> {
    let peers: Vec<PeerAnswer> = session::running(context)?.get("peers")?;
    if context.json {
        return Ok(context.print_json(&peers)?);
    }
    if peers.is_empty() {
        context.note(format_args!(
            "none yet: shoal up --peer MULTIADDR names one to begin with"
        ));
    }
    let heading = [
        ("WAY", Side::Left),
        ("DHT", Side::Left),
        ("ROUND TRIP", Side::Right),
        ("CONNECTED", Side::Right),
        ("AGENT", Side::Left),
        ("PEER", Side::Left),
    ];
    let row = |peer: &PeerAnswer| {
        [
            if peer.direct { "direct" } else { "relayed" }.to_owned(),
            if peer.dht { "yes" } else { "no" }.to_owned(),
            peer.rtt_ms
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms")),
            output::about(Duration::from_secs(peer.connected_s).as_secs_f64()),
            peer.agent
                .as_ref()
                .map_or_else(|| "-".to_owned(), |agent| output::printable(agent)),
            peer.addresses
                .first()
                .map_or_else(|| peer.peer.clone(), |address| format!("{} {address}", peer.peer)),
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    Ok(write!(context.io.stdout, "{}", output::table(heading, &rows))?)
}

pub(crate) fn status(context: &mut Context<'_>) -> Result<(), Failure> {
    let client = session::running(context)?;
    let status: Status = client.get("status")?;
    if context.json {
        return Ok(context.print_json(&status)?);
    }
    let up = output::about(status.uptime_s);
    let mut pairs = vec![
        ("up for", format!("{up}, process {}", client.pid())),
        ("peer", status.peer_id.clone()),
        ("publisher", status.publisher.to_string()),
        ("data", status.data.display().to_string()),
    ];
    if let Some(http) = &status.http {
        pairs.push(("control", format!("http://{http}")));
    }
    pairs.extend(
        status
            .listen
            .iter()
            .map(|address| ("listening", address.to_string())),
    );
    pairs.extend([
        (
            "has",
            format!(
                "{}, {}",
                output::count(status.repos, "repo"),
                output::size(status.bytes)
            ),
        ),
        (
            "knows",
            format!(
                "{} connected, {} in its routing table",
                output::count(status.connected, "peer"),
                status.routing
            ),
        ),
        ("announces", output::count(status.announced, "record")),
        (
            "moved",
            format!(
                "{} up, {} down",
                output::size(status.up_bytes),
                output::size(status.down_bytes)
            ),
        ),
    ]);
    pairs.extend(
        status
            .damaged
            .iter()
            .map(|what| ("damaged", output::printable(what))),
    );
    let text = output::pairs(&pairs);
    Ok(write!(context.io.stdout, "{text}")?)
}

pub(crate) fn jobs(context: &mut Context<'_>) -> Result<(), Failure> {
    let jobs: Vec<JobView> = session::running(context)?.get("jobs")?;
    if context.json {
        return Ok(context.print_json(&jobs)?);
    }
    if jobs.is_empty() {
        context.note(format_args!("none"));
    }
    for job in &jobs {
        let since = output::about(job.seconds);
        let how = meter::describe(&job.snapshot, None);
        context.print(format_args!(
            "{}: {how}, for {since}",
            output::printable(&job.what)
        ))?;
    }
    Ok(())
}
