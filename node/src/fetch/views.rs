//! What a fetch looks like from outside.

use crate::progress::{Snapshot, grouped};
use protocol::Hash;
use serde::{Deserialize, Serialize};

/// A fetch under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// Its number, for pausing it; counted from the node's start.
    pub id: u64,
    /// What was asked for first.
    pub what: String,
    /// The manifest.
    pub manifest: Option<Hash>,
    /// What it is about.
    pub state: JobState,
    /// How far it is.
    pub snapshot: Snapshot,
    /// Seconds since it began.
    pub seconds: f64,
    /// Shards wanted and here.
    pub shards: u64,
    /// Shards wanted.
    pub shards_total: u64,
    /// Shards wanted and missing that no peer we reach has.
    pub unprovided: u64,
    /// Verified bytes a second, over the last seconds.
    pub down_bytes_s: f64,
    /// Seconds until it is done at this rate; none while nothing comes.
    pub eta_s: Option<f64>,
    /// The peers that take part.
    pub peers: Vec<PeerRate>,
}

impl JobView {
    /// Says how many of its shards have no provider; nothing when none is without.
    pub fn without_provider(&self) -> Option<String> {
        let (some, all) = (grouped(self.unprovided), grouped(self.shards_total));
        (self.unprovided > 0).then(|| format!("{some} of {all} shards have no provider"))
    }
}

/// What a fetch is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It has just begun.
    #[default]
    Starting,
    /// It looks for somebody who has the manifest.
    Finding,
    /// Bytes come.
    Fetching,
    /// Nobody has what is missing.
    Waiting,
    /// The user said so.
    Paused,
    /// What came is made durable.
    Storing,
}

/// What a peer is worth to a fetch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerRate {
    /// Who.
    pub peer: String,
    /// Verified bytes a second, as measured while it was asked.
    pub down_bytes_s: f64,
    /// Verified bytes in all.
    pub bytes: u64,
    /// Requests under way.
    pub requests: u32,
    /// Shards it has.
    pub shards: u64,
}

/// There is no fetch of that number, or it is too busy to hear anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no job {0} answers: there is none of that number, or it is too busy")]
pub struct NoSuchJob(pub u64);
