//! What a plan shows of itself.

use super::FetchPlan;
use std::fmt::Debug;

/// Shards, and the bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// How many.
    pub(crate) shards: u32,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Amount {
    /// One shard more, of `len` bytes.
    pub(super) fn add(&mut self, len: u64) {
        self.shards += 1;
        self.bytes += len;
    }

    /// One shard less, of `len` bytes.
    pub(super) fn sub(&mut self, len: u64) {
        self.shards -= 1;
        self.bytes -= len;
    }
}

/// A peer as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PeerView<P> {
    /// Which.
    pub(crate) peer: P,
    /// What it gives, in bytes a second while something is asked of it; 0 as long as that was not measured.
    pub(crate) rate: f64,
    /// Requests under way.
    pub(crate) requests: u32,
    /// Shards it says it has.
    pub(crate) shards_have: u32,
    /// It lied: it is never asked again.
    pub(crate) banned: bool,
}

impl<P: Copy + Ord + Debug> FetchPlan<P> {
    /// All that is wanted, here or not.
    pub(crate) fn wanted(&self) -> Amount {
        self.shards.total()
    }

    /// What is wanted and here.
    pub(crate) fn here(&self) -> Amount {
        let (total, missing) = (self.shards.total(), self.shards.missing());
        Amount {
            shards: total.shards - missing.shards,
            bytes: total.bytes - missing.bytes,
        }
    }

    /// What is wanted and not here.
    pub(crate) fn missing(&self) -> Amount {
        self.shards.missing()
    }

    /// Shards that are wanted, not here, and that none of the peers says it has. A peer that sits out a pause counts; a
    /// banned one does not.
    pub(crate) fn unprovided(&self) -> u32 {
        self.shards.unprovided()
    }

    /// The peers, those that take part first, then the banned ones.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerView<P>> {
        let count = self.shards.map().count();
        let here = self.peers.iter().map(move |(peer, state)| PeerView {
            peer: *peer,
            rate: state.rate.value().unwrap_or(0.0),
            requests: state.requests,
            shards_have: state.have.count(count),
            banned: false,
        });
        let banned = self.banned.iter().map(|peer| PeerView {
            peer: *peer,
            rate: 0.0,
            requests: 0,
            shards_have: 0,
            banned: true,
        });
        here.chain(banned)
    }

    /// How many peers have requests under way.
    pub(crate) fn busy(&self) -> usize {
        self.peers.values().filter(|peer| peer.requests > 0).count()
    }
}
