//! The numbers of a manifest's shards. Everybody who has the manifest derives the same ones, so they need not be told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use super::{SHARD_LEN, shard_count};
use crate::hash::Hash;
use crate::limits::SHARDS_MAX;
use crate::manifest::Manifest;

/// The shards of a manifest, numbered from 0: its distinct blobs in order of first appearance, empty ones left out, and the
/// shards of each in order. Two nodes with the same manifest have the same numbers.
///
/// It holds as much memory as the manifest has distinct blobs, however large they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    blobs: Vec<NumberedBlob>,
    places: HashMap<Hash, usize>,
    count: u32,
}

/// A blob of a manifest, with the number of its first shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberedBlob {
    /// Its hash.
    pub hash: Hash,
    /// Its length, in bytes; never 0.
    pub len: u64,
    /// The number of its first shard.
    pub first: u32,
}

/// A manifest has more shards than the swarm carries: [`SHARDS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("manifest has {count} shards of 1 MiB, more than {SHARDS_MAX}")]
pub struct TooManyShards {
    /// How many it has.
    pub count: u64,
}

impl NumberedBlob {
    /// The numbers of its shards.
    pub fn shards(&self) -> Range<u32> {
        self.first..self.first.saturating_add(shard_count(self.len))
    }

    /// How many of its bytes a run of shards has; what the run has of other blobs counts nothing.
    fn len_of(&self, run: &Range<u32>) -> u64 {
        let offset = |shard: u32| {
            let index = u64::from(shard.saturating_sub(self.first));
            index.saturating_mul(SHARD_LEN).min(self.len)
        };
        offset(run.end).saturating_sub(offset(run.start))
    }
}

impl ShardMap {
    /// Numbers the shards of a manifest. The files of one hash are one blob: a [`Manifest`] gives them one length.
    ///
    /// # Errors
    /// [`TooManyShards`].
    pub fn new(manifest: &Manifest) -> Result<ShardMap, TooManyShards> {
        let mut blobs = Vec::new();
        let mut places = HashMap::new();
        let mut count = 0_u64;
        for file in manifest.files().iter().filter(|file| file.size > 0) {
            let Entry::Vacant(place) = places.entry(file.blake3) else {
                continue;
            };
            place.insert(blobs.len());
            blobs.push(NumberedBlob {
                hash: file.blake3,
                len: file.size,
                // Where it does not fit, there are too many.
                first: u32::try_from(count).unwrap_or(u32::MAX),
            });
            count = count.saturating_add(u64::from(shard_count(file.size)));
        }
        match u32::try_from(count) {
            Ok(count) if count <= SHARDS_MAX => Ok(ShardMap { blobs, places, count }),
            Ok(_) | Err(_) => Err(TooManyShards { count }),
        }
    }

    /// How many shards there are; none if all files are empty.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The blobs, in the order of their shards.
    pub fn blobs(&self) -> &[NumberedBlob] {
        &self.blobs
    }

    /// Returns which of [`ShardMap::blobs`] has this hash; `None` for a hash that the manifest does not list, and for the empty blob.
    pub fn find(&self, hash: Hash) -> Option<usize> {
        self.places.get(&hash).copied()
    }

    /// Returns which of [`ShardMap::blobs`] a shard is of; `None` past the last shard.
    pub fn blob_of(&self, shard: u32) -> Option<usize> {
        if shard >= self.count {
            return None;
        }
        let behind = self.blobs.partition_point(|blob| blob.first <= shard);
        behind.checked_sub(1)
    }

    /// Returns the bytes that a run of shards has, of all blobs it touches, in time linear in these. What lies past the last
    /// shard counts nothing; an empty or inverted run has none.
    pub fn len_of(&self, run: Range<u32>) -> u64 {
        let touched = self.blob_of(run.start).and_then(|at| self.blobs.get(at..));
        touched
            .unwrap_or_default()
            .iter()
            .take_while(|blob| blob.first < run.end)
            .map(|blob| blob.len_of(&run))
            .sum()
    }
}
