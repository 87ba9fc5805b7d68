//! Shard arithmetic, and the BLAKE3 tree above the shards.
//!
//! A blob is cut into shards of [`SHARD_LEN`], the last one shorter. 1 MiB is a power of two of BLAKE3's chunks, so each shard is a
//! subtree of the blob's hash tree, has a chaining value of its own, and can be verified alone. [`ShardMap`] numbers the shards of a whole manifest.

mod map;

use std::fmt;
use std::ops::Range;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use map::{NumberedBlob, ShardMap, TooManyShards};

use crate::hash::{Hash, deserialize_bytes, serialize_bytes};

/// Bytes of one group: the smallest range that the blobs protocol verifies.
pub const GROUP_LEN: u64 = 16 * 1024;

/// Bytes of every shard but the last of a blob: what the swarm asks for, advertises and retries.
pub const SHARD_LEN: u64 = 1024 * 1024;

/// The chaining value of one shard: the hash of its subtree before it is finished as a root. It is not the [`Hash`](struct@crate::Hash) of the shard's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainingValue(pub [u8; 32]);

impl ChainingValue {
    /// Takes the bytes of a chaining value as they are; every value is possible.
    pub const fn from_bytes(bytes: [u8; 32]) -> ChainingValue {
        ChainingValue(bytes)
    }

    /// The bytes of the chaining value.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ChainingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(&self.0);
        write!(f, "ChainingValue({hex})")
    }
}

impl Serialize for ChainingValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = || data_encoding::HEXLOWER.encode(&self.0);
        serialize_bytes(&self.0, text, serializer)
    }
}

impl<'de> Deserialize<'de> for ChainingValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Hash::deserialize(deserializer).map(|hash| ChainingValue(*hash.as_bytes()))
        } else {
            deserialize_bytes(deserializer).map(ChainingValue)
        }
    }
}

/// Returns how many shards a blob of `blob_len` bytes has. An empty blob has none.
///
/// Exact for every blob that a manifest may list; past 4 PiB, where the count leaves `u32`, the answer stays at `u32::MAX`.
pub fn shard_count(blob_len: u64) -> u32 {
    u32::try_from(blob_len.div_ceil(SHARD_LEN)).unwrap_or(u32::MAX)
}

/// Returns the bytes of shard `index`, as a half-open range within its blob.
///
/// - `blob_len` and the returned bounds are in bytes; `index` counts from 0. Every shard is [`SHARD_LEN`] long but the last.
/// - `None`: `index` is past the last shard. An empty blob has no shards.
pub fn shard_range(blob_len: u64, index: u32) -> Option<Range<u64>> {
    let start = u64::from(index).checked_mul(SHARD_LEN)?;
    (start < blob_len).then(|| start..start.saturating_add(SHARD_LEN).min(blob_len))
}

/// Returns the indexes of the shards that hold any byte of `bytes`.
///
/// What lies past the end of the blob is cut off; an empty or inverted range needs no shard (`0..0`).
pub fn shards_covering(blob_len: u64, bytes: Range<u64>) -> Range<u32> {
    let end = bytes.end.min(blob_len);
    if bytes.start >= end {
        return 0..0;
    }
    let first = bytes.start / SHARD_LEN;
    u32::try_from(first).unwrap_or(u32::MAX)..shard_count(end)
}

/// Hashes one shard that is not the whole blob, and returns the value its parent in the tree is made of.
///
/// - `offset`: where the shard starts in its blob, in bytes.
/// - For a blob of at most one shard there is no such value: its subtree is the root. Compare [`Hash::of`] instead.
///
/// # Panics
/// If `offset` is not a multiple of [`SHARD_LEN`], or `shard` is empty or longer than that: both are the caller's own arithmetic.
pub fn chaining_value(offset: u64, shard: &[u8]) -> ChainingValue {
    assert!(
        offset.is_multiple_of(SHARD_LEN),
        "a shard starts at a multiple of its length"
    );
    let len = u64::try_from(shard.len()).unwrap_or(u64::MAX);
    assert!((1..=SHARD_LEN).contains(&len), "a shard has 1 byte to 1 MiB");
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(shard);
    ChainingValue(hasher.finalize_non_root())
}

/// Merges the chaining values of all shards of a blob into the blob's hash.
///
/// - `shards`: in order, one a shard, from [`chaining_value`].
/// - `None`: their number is not [`shard_count`], or the blob has at most one shard (then the hash is all there is).
///
/// The left subtree of every node holds the largest power of two of shards that is less than the number below the node. Subtrees are merged as
/// soon as they are full, which needs one value a level, and no recursion.
pub fn root_of_shards(blob_len: u64, shards: &[ChainingValue]) -> Option<Hash> {
    if shards.len() < 2 || u64::try_from(shards.len()).ok()? != blob_len.div_ceil(SHARD_LEN) {
        return None;
    }
    let mut stack: Vec<[u8; 32]> = Vec::with_capacity(33);
    for (before, shard) in shards.iter().enumerate() {
        // As many full subtrees as there are ones in the number of shards before this one. Merging them only now keeps the last two apart for the root.
        let full = usize::try_from(before.count_ones()).ok()?;
        while stack.len() > full {
            let (right, left) = (stack.pop()?, stack.pop()?);
            stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        stack.push(shard.0);
    }
    let mut right = stack.pop()?;
    while let Some(left) = stack.pop() {
        if stack.is_empty() {
            return Some(merge_subtrees_root(&left, &right, Mode::Hash).into());
        }
        right = merge_subtrees_non_root(&left, &right, Mode::Hash);
    }
    None
}
