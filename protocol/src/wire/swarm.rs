//! What two nodes say to each other on `/shoal/swarm/1`: which shards of one manifest they have, and who else takes part.
//!
//! Decoding bounds how many entries a message has; [`SwarmTell::check`] holds every rule that one message can break alone.
//! In which order messages come is for the stream's reader.

use std::iter;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::WireError;
use super::bounded::at_most;
use crate::hash::Hash;
use crate::limits::{
    ADDRESS_LEN_MAX, BITS_LEN_MAX, HINT_ADDRESSES_MAX, HINTS_MAX, PEER_ID_LEN_MAX, RUNS_MAX,
};
#[cfg(doc)]
use crate::shard::ShardMap;

/// What two nodes say to each other about one manifest. Who opens the stream joins; both sides then tell, in any order and as
/// often as they like, until one closes.
///
/// Shards are numbered as [`ShardMap`] has them. What was told adds up; nothing is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwarmTell {
    /// I am about this manifest. The first frame of who opened the stream, and of nobody else.
    Join {
        /// The revision.
        manifest: Hash,
    },
    /// I have no byte of it and am not fetching it: the stream ends here. Only as the first answer.
    Nothing,
    /// I have the manifest and every shard.
    Everything,
    /// I have the manifest, and those of the shards from `first` on whose bit is set. It may have no bits, as a first answer that
    /// shows nothing yet.
    Bits {
        /// The shard of the first bit; a multiple of 8.
        first: u32,
        /// One bit a shard: shard `first + i` is bit `i % 8`, counted from the lowest, of byte `i / 8`. Bits past the last shard are
        /// 0, and no byte is past it as a whole. At most [`BITS_LEN_MAX`] bytes: who has more sends them in pieces.
        bits: Vec<u8>,
    },
    /// I have these now: at most [`RUNS_MAX`] runs, in any order.
    Got(#[serde(deserialize_with = "at_most::<RUNS_MAX, _, _>")] Vec<ShardRun>),
    /// These peers take part too: at most [`HINTS_MAX`].
    Peers(#[serde(deserialize_with = "at_most::<HINTS_MAX, _, _>")] Vec<PeerHint>),
}

/// Shards one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRun {
    /// The first.
    pub first: u32,
    /// How many; never 0.
    pub count: u32,
}

/// Somebody who takes part, by hearsay: to be dialled, and believed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHint {
    /// The peer id, in libp2p's binary form: 1 to [`PEER_ID_LEN_MAX`] bytes.
    pub peer: Vec<u8>,
    /// Where it may be reached: at most [`HINT_ADDRESSES_MAX`] multiaddresses as text, each at most [`ADDRESS_LEN_MAX`] bytes.
    #[serde(deserialize_with = "at_most::<HINT_ADDRESSES_MAX, _, _>")]
    pub addresses: Vec<String>,
}

impl SwarmTell {
    /// Checks a message against the number of shards that the manifest has. Whether it comes at its place is for the stream's reader.
    ///
    /// # Errors
    /// [`WireError::Shard`] and [`WireError::Bounds`]: the peer's fault.
    pub fn check(&self, count: u32) -> Result<(), WireError> {
        match self {
            SwarmTell::Join { .. } | SwarmTell::Nothing | SwarmTell::Everything => Ok(()),
            SwarmTell::Bits { first, bits } => check_bits(*first, bits, count),
            SwarmTell::Got(runs) => {
                bound(runs.len() <= RUNS_MAX, "too many runs")?;
                runs.iter().try_for_each(|run| run.check(count))
            }
            SwarmTell::Peers(hints) => {
                bound(hints.len() <= HINTS_MAX, "too many peers")?;
                hints.iter().try_for_each(PeerHint::check)
            }
        }
    }

    /// Returns the runs of shards that a checked message tells of: those of bits ascend and do not touch, those of
    /// [`SwarmTell::Got`] are as they were told. None for the other messages, [`SwarmTell::Everything`] among them.
    ///
    /// It makes no room for them. Of a message that was not checked, shards that no `u32` counts are left out.
    pub fn runs(&self) -> impl Iterator<Item = Range<u32>> {
        let (first, bits, got): (u32, &[u8], &[ShardRun]) = match self {
            SwarmTell::Bits { first, bits } => (*first, bits, &[]),
            SwarmTell::Got(runs) => (0, &[], runs),
            SwarmTell::Join { .. } | SwarmTell::Nothing | SwarmTell::Everything | SwarmTell::Peers(_) => {
                (0, &[], &[])
            }
        };
        runs_of_bits(first, bits).chain(got.iter().map(ShardRun::shards))
    }
}

impl ShardRun {
    /// The numbers of its shards, as far as a `u32` counts.
    pub fn shards(&self) -> Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }

    fn check(&self, count: u32) -> Result<(), WireError> {
        bound(self.count > 0, "an empty run")?;
        let end = u64::from(self.first).saturating_add(u64::from(self.count));
        if end > u64::from(count) {
            let shard = end.saturating_sub(1);
            return Err(WireError::Shard { shard, count });
        }
        Ok(())
    }
}

impl PeerHint {
    fn check(&self) -> Result<(), WireError> {
        let PeerHint { peer, addresses } = self;
        bound(!peer.is_empty(), "an empty peer id")?;
        bound(peer.len() <= PEER_ID_LEN_MAX, "a peer id that is too long")?;
        bound(
            addresses.len() <= HINT_ADDRESSES_MAX,
            "too many addresses of a peer",
        )?;
        let short = addresses.iter().all(|address| address.len() <= ADDRESS_LEN_MAX);
        bound(short, "an address that is too long")
    }
}

fn bound(kept: bool, what: &'static str) -> Result<(), WireError> {
    match kept {
        true => Ok(()),
        false => Err(WireError::Bounds { what }),
    }
}

fn check_bits(first: u32, bits: &[u8], count: u32) -> Result<(), WireError> {
    bound(bits.len() <= BITS_LEN_MAX, "too many bits")?;
    bound(first.is_multiple_of(8), "bits that begin within a byte")?;
    let bytes = u64::try_from(bits.len()).unwrap_or(u64::MAX);
    let first = u64::from(first);
    let end = first.saturating_add(bytes.saturating_mul(8));
    let shard = |shard| Err(WireError::Shard { shard, count });
    if end > u64::from(count).next_multiple_of(8) {
        return shard(end.saturating_sub(8).max(first));
    }
    // Only the last byte may go past the last shard, by fewer than its 8 bits.
    let unused = end.saturating_sub(u64::from(count));
    let zeros = bits.last().map_or(8, |byte| u64::from(byte.leading_zeros()));
    if zeros < unused {
        return shard(end.saturating_sub(zeros).saturating_sub(1));
    }
    Ok(())
}

/// The longest runs of shards whose bit is set. The last number of `u32` is no shard, so that the end of every run is a number.
fn runs_of_bits(first: u32, bits: &[u8]) -> impl Iterator<Item = Range<u32>> {
    let set = bits
        .iter()
        .flat_map(|byte| [1, 2, 4, 8, 16, 32, 64, 128].map(|bit| byte & bit != 0));
    let mut shards = (first..u32::MAX)
        .zip(set)
        .filter_map(|(shard, set)| set.then_some(shard))
        .peekable();
    iter::from_fn(move || {
        let start = shards.next()?;
        let mut end = start.saturating_add(1);
        while shards.next_if_eq(&end).is_some() {
            end = end.saturating_add(1);
        }
        Some(start..end)
    })
}
