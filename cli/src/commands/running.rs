//! The running node: `peers`, `status`.

use std::time::Duration;

use node::http::messages::PeerAnswer;
use node::node::Status;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session;

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
    let text = output::pairs(&described(&status, client.pid()));
    Ok(write!(context.io.stdout, "{text}")?)
}

fn described(status: &Status, pid: u32) -> Vec<(&'static str, String)> {
    let up = output::about(status.uptime_s);
    let mut pairs = vec![
        ("up for", format!("{up}, process {pid}")),
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
    pairs.extend(traffic(status));
    pairs.extend(
        status
            .damaged
            .iter()
            .map(|what| ("damaged", output::printable(what))),
    );
    pairs
}

/// How much passes, to whom, and how much may.
fn traffic(status: &Status) -> Vec<(&'static str, String)> {
    let rate = |bytes_s| output::per_second(bytes_s).unwrap_or_else(|| "nothing".to_owned());
    let limits = &status.limits;
    let quota = status.quota.map_or_else(
        || "no quota".to_owned(),
        |quota| format!("a quota of {}", output::size(quota)),
    );
    let mut pairs = vec![
        ("uses", format!("{} of disk, {quota}", output::size(status.used))),
        (
            "moves",
            format!(
                "{} up, {} down",
                rate(status.up_bytes_s),
                rate(status.down_bytes_s)
            ),
        ),
        (
            "limits",
            format!(
                "{} up, {} down; for each peer {} up, {} down",
                output::limit(limits.up),
                output::limit(limits.down),
                output::limit(limits.peer_up),
                output::limit(limits.peer_down)
            ),
        ),
    ];
    pairs.extend(status.serving.iter().map(|peer| {
        let text = format!(
            "{}, {} now, {} so far",
            output::printable(&peer.peer),
            rate(peer.bytes_s),
            output::size(peer.bytes)
        );
        ("serves", text)
    }));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::node::{Limits, PeerUp};
    use std::path::PathBuf;

    fn status() -> Status {
        let publisher = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo";
        Status {
            peer_id: "12D3".to_owned(),
            publisher: publisher.parse().unwrap(),
            listen: Vec::new(),
            http: None,
            data: PathBuf::from("/d"),
            repos: 1,
            bytes: 1024,
            connected: 2,
            routing: 3,
            announced: 4,
            up_bytes: 5,
            down_bytes: 6,
            uptime_s: 7.0,
            damaged: Vec::new(),
            limits: Limits::default(),
            quota: None,
            used: 2048,
            up_bytes_s: 0.0,
            down_bytes_s: 0.0,
            serving: Vec::new(),
        }
    }

    #[test]
    fn status_shows_limits_quota_rates_and_who_is_served() {
        let mut status = status();
        let text = output::pairs(&described(&status, 4711));
        for wanted in [
            "process 4711",
            "uses       2.0 KiB of disk, no quota\n",
            "nothing up, nothing down\n",
            "none up, none down; for each peer none up, none down\n",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(!text.contains("serves"), "{text}");
        status.quota = Some(4096);
        status.limits.peer_down = Some(1024);
        (status.up_bytes_s, status.down_bytes_s) = (2048.0, 1536.0);
        status.serving = vec![PeerUp {
            peer: "12D3x".to_owned(),
            bytes_s: 2048.0,
            bytes: 10,
        }];
        let text = output::pairs(&described(&status, 4711));
        for wanted in [
            "a quota of 4.0 KiB\n",
            "2.0 KiB/s up, 1.5 KiB/s down\n",
            "for each peer none up, 1.0 KiB/s down\n",
            "serves     12D3x, 2.0 KiB/s now, 10 B so far\n",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
