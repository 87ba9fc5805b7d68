//! `shoal jobs`: what the running node fetches, and how to pause, resume and cancel it.

use node::fetch::{JobState, JobView, PeerRate};
use node::http::messages::{JobAsk, JobPick, JobsAnswer};
use node::progress::grouped;

use crate::args::{Jobs, JobsVerb};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session;

/// Longest text of what was asked for in the table, in characters: a ticket has hundreds.
const WHAT_LEN: usize = 64;

pub(crate) fn run(jobs: &Jobs, context: &mut Context<'_>) -> Result<(), Failure> {
    match jobs.verb {
        None => list(jobs.peers, context),
        Some(JobsVerb::Pause(which)) => change("pause", "paused", which.id, context),
        Some(JobsVerb::Resume(which)) => change("resume", "resumed", which.id, context),
        Some(JobsVerb::Cancel(which)) => change("cancel", "cancelled", which.id, context),
    }
}

fn list(peers: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    let jobs: Vec<JobView> = session::running(context)?.get("jobs")?;
    if context.json {
        return Ok(context.print_json(&jobs)?);
    }
    if jobs.is_empty() {
        context.note(format_args!("none"));
    }
    write!(context.io.stdout, "{}", table(&jobs))?;
    for (id, why) in jobs.iter().filter_map(|job| Some((job.id, note(job)?))) {
        context.print(format_args!("job {id}: {why}"))?;
    }
    let by_peer = peers.then(|| peer_table(&jobs)).filter(|text| !text.is_empty());
    if let Some(text) = by_peer {
        write!(context.io.stdout, "\n{text}")?;
    }
    Ok(())
}

fn change(verb: &str, done: &str, id: JobPick, context: &mut Context<'_>) -> Result<(), Failure> {
    let answer: JobsAnswer = session::running(context)?.post(&format!("jobs/{verb}"), &JobAsk { id })?;
    if context.json {
        return Ok(context.print_json(&answer)?);
    }
    if answer.jobs.is_empty() {
        context.note(format_args!("none"));
    }
    for id in answer.jobs {
        context.print(format_args!("{done} job {id}"))?;
    }
    Ok(())
}

fn table(jobs: &[JobView]) -> String {
    let heading = [
        ("JOB", Side::Right),
        ("STATE", Side::Left),
        ("DONE", Side::Left),
        ("SHARDS", Side::Right),
        ("RATE", Side::Right),
        ("LEFT", Side::Right),
        ("PEERS", Side::Right),
        ("WHAT", Side::Left),
    ];
    let rows: Vec<_> = jobs.iter().map(row).collect();
    output::table(heading, &rows)
}

fn row(job: &JobView) -> [String; 8] {
    let unknown = || "-".to_owned();
    let shards = match job.shards_total {
        0 => unknown(),
        total => format!("{} of {}", grouped(job.shards), grouped(total)),
    };
    [
        job.id.to_string(),
        state(job.state).to_owned(),
        done(job).unwrap_or_else(unknown),
        shards,
        output::per_second(job.down_bytes_s).unwrap_or_else(unknown),
        job.eta_s.map_or_else(unknown, output::about),
        grouped(job.peers.len() as u64),
        output::shortened(&output::printable(&job.what), WHAT_LEN),
    ]
}

/// `12.0 MiB of 91.1 MiB, 13%`; all of it is 100%, and nothing less.
fn done(job: &JobView) -> Option<String> {
    let (bytes, total) = (job.snapshot.bytes, job.snapshot.bytes_total);
    let percent = (u128::from(bytes) * 100).checked_div(u128::from(total))?;
    Some(format!(
        "{} of {}, {percent}%",
        output::size(bytes),
        output::size(total)
    ))
}

/// Why nothing moves, or not all of it.
fn note(job: &JobView) -> Option<String> {
    let said = job.snapshot.note.as_ref().map(|note| output::printable(note));
    said.or_else(|| job.without_provider())
}

fn state(state: JobState) -> &'static str {
    match state {
        JobState::Starting => "starting",
        JobState::Finding => "finding",
        JobState::Fetching => "fetching",
        JobState::Waiting => "waiting",
        JobState::Paused => "paused",
        JobState::Storing => "storing",
    }
}

fn peer_table(jobs: &[JobView]) -> String {
    let heading = [
        ("JOB", Side::Right),
        ("RATE", Side::Right),
        ("IN FLIGHT", Side::Right),
        ("HAS SHARDS", Side::Right),
        ("GAVE", Side::Right),
        ("PEER", Side::Left),
    ];
    let row = |job: u64, peer: &PeerRate| {
        [
            job.to_string(),
            output::per_second(peer.down_bytes_s).unwrap_or_else(|| "-".to_owned()),
            peer.requests.to_string(),
            grouped(peer.shards),
            output::size(peer.bytes),
            output::printable(&peer.peer),
        ]
    };
    let rows: Vec<_> = jobs
        .iter()
        .flat_map(|job| job.peers.iter().map(move |peer| row(job.id, peer)))
        .collect();
    output::table(heading, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::progress::{Phase, Snapshot};

    const MIB: u64 = 1024 * 1024;

    fn fetching() -> JobView {
        let peer = |peer: &str, bytes_s: f64| PeerRate {
            peer: peer.to_owned(),
            down_bytes_s: bytes_s,
            bytes: 6 * MIB,
            requests: 3,
            shards: 4096,
        };
        JobView {
            id: 1,
            what: "meta/llama".to_owned(),
            manifest: None,
            state: JobState::Fetching,
            snapshot: Snapshot {
                phase: Phase::Fetching,
                bytes: 12 * MIB,
                bytes_total: 4096 * MIB,
                ..Snapshot::default()
            },
            seconds: 3.0,
            shards: 12,
            shards_total: 4096,
            unprovided: 0,
            down_bytes_s: 4.0 * MIB as f64,
            eta_s: Some(1021.0),
            peers: vec![peer("12D3a", 4.0 * MIB as f64), peer("12D3b", 0.0)],
        }
    }

    fn starting() -> JobView {
        JobView {
            id: 12,
            what: "shoal:".to_owned() + &"a".repeat(300),
            state: JobState::Starting,
            snapshot: Snapshot::default(),
            shards: 0,
            shards_total: 0,
            down_bytes_s: 0.0,
            eta_s: None,
            peers: Vec::new(),
            ..fetching()
        }
    }

    #[test]
    fn table_says_what_is_known_of_each_job() {
        let text = table(&[fetching(), starting()]);
        let lines: Vec<&str> = text.lines().collect();
        let words = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(lines[0]),
            ["JOB", "STATE", "DONE", "SHARDS", "RATE", "LEFT", "PEERS", "WHAT"]
        );
        assert_eq!(
            words(lines[1]),
            [
                "1",
                "fetching",
                "12.0 MiB of 4.0 GiB, 0%",
                "12 of 4,096",
                "4.0 MiB/s",
                "17 min 1 s",
                "2",
                "meta/llama"
            ]
        );
        let short = words(lines[2]);
        assert_eq!(short[..7], ["12", "starting", "-", "-", "-", "-", "0"]);
        assert!(
            short[7].starts_with("shoal:a") && short[7].chars().count() == WHAT_LEN,
            "{short:?}"
        );
    }

    #[test]
    fn peers_are_shown_with_the_job_they_work_for() {
        let text = peer_table(&[fetching(), starting()]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(
            lines[1],
            ["1", "4.0", "MiB/s", "3", "4,096", "6.0", "MiB", "12D3a"]
        );
        assert_eq!(lines[2], ["1", "-", "3", "4,096", "6.0", "MiB", "12D3b"]);
        assert_eq!(peer_table(&[starting()]), "");
    }

    #[test]
    fn job_that_waits_says_why() {
        let mut job = fetching();
        assert_eq!(note(&job), None);
        job.unprovided = 11;
        assert_eq!(note(&job).as_deref(), Some("11 of 4,096 shards have no provider"));
        job.snapshot.note = Some("nobody\nyet".to_owned());
        assert_eq!(note(&job).as_deref(), Some("nobody\u{fffd}yet"));
    }

    #[test]
    fn only_all_of_it_is_a_hundred_percent() {
        let mut job = fetching();
        for (bytes, total, wanted) in [
            (0, 0, None),
            (4095, 4096, Some("99%")),
            (4096, 4096, Some("100%")),
            (u64::MAX - 1, u64::MAX, Some("99%")),
        ] {
            (job.snapshot.bytes, job.snapshot.bytes_total) = (bytes, total);
            let text = done(&job);
            assert_eq!(
                text.as_deref().and_then(|text| text.rsplit(' ').next()),
                wanted,
                "{text:?}"
            );
        }
    }
}
