//! The doctor: what each tool must be told to use this node, and what usually keeps it from working. [`examine`] is given
//! facts and looks at nothing; `look` gathers them.

mod env;
mod look;

pub use look::{look_around, usual_is_taken};

use crate::limits::FREE_FLOOR;
use protocol::limits::CLOCK_SKEW_MAX;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// The first second of 2026, before which this program was not written.
const YEAR_MIN: u64 = 1_767_225_600;

/// The first second of 2100: a clock that says more is wrong.
const YEAR_MAX: u64 = 4_102_444_800;

/// Free bytes below which a user is told: one ordinary model does not fit any more.
const FREE_LOW: u64 = 5 * 1024 * 1024 * 1024;

/// Per cent of the quota above which a user is told.
const QUOTA_HIGH: u64 = 90;

/// Most releases from the future that are told of by name.
const FUTURE_MAX: usize = 5;

/// What is known before anything is judged.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The variables of the environment.
    pub env: BTreeMap<String, String>,
    /// The data folder and what of its rights is not as it should be.
    pub data: DataFacts,
    /// The time, in Unix seconds.
    pub now: u64,
    /// Where a node listens for tools if nobody says otherwise.
    pub usual: Option<SocketAddr>,
    /// Whether something listens there that is not the node of this data folder.
    pub usual_taken: bool,
    /// What the node says; `None`: none runs on the data folder.
    pub node: Option<Running>,
}

/// What was seen of the data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFacts {
    /// Where it is.
    pub folder: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// What is wrong with its rights, and how to mend it.
    pub rights: Vec<(String, String)>,
    /// Bytes free on its disk; `None`: that cannot be told.
    pub free: Option<u64>,
}

/// What a running node says of itself to the doctor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Where tools reach it.
    pub http: Option<SocketAddr>,
    /// Where it listens for peers.
    pub listen: Vec<String>,
    /// Where others reach it from outside, as far as it knows.
    pub external: Vec<String>,
    /// Peers it is connected to.
    pub connected: u64,
    /// Most bytes its data folder may take.
    pub quota: Option<u64>,
    /// Bytes it takes.
    pub used: u64,
    /// Blobs that are damaged.
    pub damaged: u64,
    /// Releases that were issued in the future: what they are of, and when, in Unix seconds.
    pub future: Vec<(String, u64)>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could, or only for some.
    Warning,
    /// Does not work like this.
    Problem,
}

/// What came out of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub level: Level,
    /// In words.
    pub says: String,
    /// What to do about it.
    pub next: Option<String>,
}

impl Finding {
    fn ok(check: &str, says: impl Into<String>) -> Finding {
        Finding {
            check: check.to_owned(),
            level: Level::Ok,
            says: says.into(),
            next: None,
        }
    }

    fn warning(check: &str, says: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding {
            level: Level::Warning,
            next: Some(next.into()),
            ..Finding::ok(check, says)
        }
    }

    fn problem(check: &str, says: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding {
            level: Level::Problem,
            ..Finding::warning(check, says, next)
        }
    }
}

/// What to tell one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// For whom.
    pub tool: String,
    /// What to write, as it is.
    pub set: String,
}

/// What each tool must be told to use the node at `http`.
pub fn settings(http: SocketAddr) -> Vec<Setting> {
    let url = format!("http://{http}");
    let table = [
        (
            "huggingface_hub, hf, transformers, datasets, diffusers, vLLM",
            format!("export HF_ENDPOINT={url}"),
        ),
        (
            "the same, without what only the Hub has",
            "export HF_HUB_DISABLE_XET=1 DISABLE_SAFETENSORS_CONVERSION=1".to_owned(),
        ),
        ("llama.cpp", format!("export MODEL_ENDPOINT={url}")),
        ("Ollama", format!("ollama pull {url}/owner/name --insecure")),
        ("@huggingface/hub (on every call)", format!("hubUrl: \"{url}\"")),
        ("transformers.js", format!("env.remoteHost = \"{url}/\"")),
        (
            "hf-hub crate (reads HF_ENDPOINT)",
            "ApiBuilder::from_env()".to_owned(),
        ),
        (
            "OpenAI's clients, and what is made for them",
            format!("export OPENAI_BASE_URL={url}/v1"),
        ),
        ("behind a proxy", env::no_proxy()),
        ("to upload", "export HF_TOKEN=\"$(shoal id --token)\"".to_owned()),
    ];
    let setting = |(tool, set): (&str, String)| Setting {
        tool: tool.to_owned(),
        set,
    };
    table.into_iter().map(setting).collect()
}

/// Judges the facts: one finding a check at least, in the order in which a user would mend them.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![node(facts)];
    findings.extend(rights(&facts.data));
    findings.extend(env::examine(facts));
    findings.push(clock(facts));
    findings.extend(future(facts));
    findings.push(disk(facts));
    if let Some(node) = &facts.node {
        findings.extend(quota(node));
        findings.push(peers(node));
        findings.push(reach(node));
        if node.damaged > 0 {
            findings.push(Finding::warning(
                "content",
                format!(
                    "{} blobs are damaged; they are fetched again from whoever has them",
                    node.damaged
                ),
                "shoal status names them; check the disk",
            ));
        }
    }
    findings
}

fn node(facts: &Facts) -> Finding {
    const CHECK: &str = "node";
    let usual = facts.usual.map_or_else(String::new, |usual| usual.to_string());
    match &facts.node {
        Some(Running { http: Some(http), .. }) => Finding::ok(CHECK, format!("it answers at http://{http}")),
        Some(_) => Finding::problem(
            CHECK,
            "it runs, but listens for no tools",
            "start it anew: shoal up",
        ),
        None if facts.usual_taken => Finding::problem(
            CHECK,
            format!(
                "none runs on {}, and another program listens at {usual}",
                facts.data.folder.display()
            ),
            "stop that program and run shoal up, or run shoal up --http 127.0.0.1:0 for another port; is it a node on another data folder? then name that: --data DIR",
        ),
        None => Finding::problem(
            CHECK,
            format!("none runs on {}", facts.data.folder.display()),
            "run one: shoal up",
        ),
    }
}

fn rights(data: &DataFacts) -> Vec<Finding> {
    const CHECK: &str = "data folder";
    let folder = data.folder.display();
    if data.rights.is_empty() {
        return vec![match data.exists {
            true => Finding::ok(CHECK, format!("{folder} is ours alone")),
            false => Finding::ok(CHECK, format!("{folder} is not there yet; shoal up makes it")),
        }];
    }
    let wrong = data.rights.iter();
    wrong
        .map(|(says, next)| Finding::problem(CHECK, says, next))
        .collect()
}

fn clock(facts: &Facts) -> Finding {
    const CHECK: &str = "clock";
    match facts.now {
        YEAR_MIN..YEAR_MAX => Finding::ok(CHECK, "its year can be right"),
        _ => Finding::problem(
            CHECK,
            "its year cannot be right: releases of others look expired, or as if they came from the future",
            "set the clock, such as with timedatectl set-ntp true",
        ),
    }
}

fn future(facts: &Facts) -> Option<Finding> {
    let limit = facts.now.saturating_add(CLOCK_SKEW_MAX);
    let future = &facts.node.as_ref()?.future;
    let late: Vec<&str> = future
        .iter()
        .filter(|(_, issued)| *issued > limit)
        .map(|(repo, _)| repo.as_str())
        .collect();
    let first = *late.first()?;
    let named = match late.len() {
        1 => first.to_owned(),
        2..=FUTURE_MAX => late.join(", "),
        more => format!("{} and {} more", late[..FUTURE_MAX].join(", "), more - FUTURE_MAX),
    };
    Some(Finding::warning(
        "clock",
        format!("releases come from the future: {named}"),
        "one of two clocks is wrong: compare this one with another machine's",
    ))
}

fn disk(facts: &Facts) -> Finding {
    const CHECK: &str = "disk";
    const NEXT: &str = "free some space: shoal ls shows what is kept, shoal forget REPO lets go of it";
    match facts.data.free {
        None => Finding::warning(
            CHECK,
            "how much is free cannot be told",
            "see whether the disk of the data folder is there: df",
        ),
        Some(free) if free < FREE_FLOOR => Finding::problem(
            CHECK,
            format!("{} are free: nothing can be fetched", amount(free)),
            NEXT,
        ),
        Some(free) if free < FREE_LOW => {
            Finding::warning(CHECK, format!("only {} are free", amount(free)), NEXT)
        }
        Some(free) => Finding::ok(CHECK, format!("{} are free", amount(free))),
    }
}

fn quota(node: &Running) -> Option<Finding> {
    const CHECK: &str = "quota";
    const NEXT: &str =
        "let something go with shoal forget REPO, or raise quota in config.toml or with shoal up --quota";
    let quota = node.quota?;
    let says = format!("{} of {} are used", amount(node.used), amount(quota));
    Some(if node.used >= quota {
        Finding::problem(CHECK, format!("{says}: nothing can be fetched"), NEXT)
    } else if node.used / QUOTA_HIGH >= quota / 100 {
        Finding::warning(CHECK, says, NEXT)
    } else {
        Finding::ok(CHECK, says)
    })
}

fn peers(node: &Running) -> Finding {
    const CHECK: &str = "peers";
    match node.connected {
        0 => Finding::warning(
            CHECK,
            "the node is connected to no other: what is here is served to tools, and nothing else can be found",
            "name one to begin with: shoal up --peer MULTIADDR, or fetch by a ticket",
        ),
        1 => Finding::ok(CHECK, "connected to 1"),
        more => Finding::ok(CHECK, format!("connected to {more}")),
    }
}

fn reach(node: &Running) -> Finding {
    const CHECK: &str = "reachability";
    let loopback = |address: &String| ip_of(address).is_some_and(|ip| ip.is_loopback());
    let outside: Vec<&str> = node
        .external
        .iter()
        .map(String::as_str)
        .filter(|address| is_outside(address))
        .collect();
    if node.listen.is_empty() {
        Finding::problem(
            CHECK,
            "the node listens nowhere for peers",
            "let it listen: shoal up --listen /ip4/0.0.0.0/udp/0/quic-v1",
        )
    } else if !outside.is_empty() {
        Finding::ok(CHECK, format!("reached from outside at {}", outside.join(", ")))
    } else if node.listen.iter().all(loopback) {
        Finding::warning(
            CHECK,
            "the node listens on loopback only: no other machine reaches it",
            "take listen out of config.toml, or run shoal up --listen /ip4/0.0.0.0/udp/4001/quic-v1",
        )
    } else {
        Finding::warning(
            CHECK,
            "nobody has reached the node from outside this network yet; it still fetches, and serves who is on this network or comes by a relay",
            "let the router pass a port: shoal up --listen /ip4/0.0.0.0/udp/4001/quic-v1, and forward UDP 4001 to this machine",
        )
    }
}

/// The IP address that a multiaddress begins with; `None`: it begins with a name.
fn ip_of(address: &str) -> Option<IpAddr> {
    let mut parts = address.split('/').skip(1);
    matches!(parts.next()?, "ip4" | "ip6").then_some(())?;
    parts.next()?.parse().ok()
}

/// Whether an address leads here from beyond the local network.
fn is_outside(address: &str) -> bool {
    match ip_of(address) {
        Some(IpAddr::V4(ip)) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        Some(IpAddr::V6(ip)) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        None => true,
    }
}

/// An amount of bytes, roughly.
fn amount(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests;
