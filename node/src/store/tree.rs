//! The BLAKE3 tree of a blob above its 16 KiB groups, and the outboard that keeps it: pairs of chaining values in
//! pre-order, 64 bytes each, as bao-tree and iroh-blobs lay them out (no size prefix). Pure arithmetic and hashing.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use protocol::{GROUP_LEN, Hash, SHARD_LEN};

/// Bytes of one pair in an outboard.
pub(crate) const PAIR_LEN: u64 = 64;

/// Groups in a whole shard.
const SHARD_GROUPS: u64 = SHARD_LEN / GROUP_LEN;

/// Returns the length of the outboard of a blob, in bytes.
pub(crate) fn outboard_len(blob_len: u64) -> u64 {
    groups(blob_len).saturating_sub(1) * PAIR_LEN
}

/// Returns how many groups a blob has; an empty one has one.
fn groups(blob_len: u64) -> u64 {
    blob_len.div_ceil(GROUP_LEN).max(1)
}

/// Returns the groups of the left half of a subtree of `n > 1` groups: the largest power of two below `n`.
fn left_of(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Hashes one shard that is not its whole blob and puts the pairs inside it, in pre-order, into `pairs`.
///
/// - `offset`: where the shard begins in its blob, in bytes; a multiple of [`SHARD_LEN`].
/// - `data`: 1 to [`SHARD_LEN`] bytes.
pub(crate) fn hash_shard(offset: u64, data: &[u8], pairs: &mut Vec<u8>) -> ChainingValue {
    let mut values = [[0u8; 32]; SHARD_GROUPS as usize];
    let mut count = 0;
    for (index, group) in data.chunks(GROUP_LEN as usize).enumerate() {
        values[index] = blake3::Hasher::new()
            .set_input_offset(offset + index as u64 * GROUP_LEN)
            .update(group)
            .finalize_non_root();
        count = index + 1;
    }
    pairs.clear();
    merge_groups(&values[..count], pairs)
}

/// Merges the groups of one shard; a pair stands before the pairs below it.
fn merge_groups(values: &[ChainingValue], pairs: &mut Vec<u8>) -> ChainingValue {
    if let [one] = values {
        return *one;
    }
    let place = pairs.len();
    pairs.extend_from_slice(&[0; PAIR_LEN as usize]);
    let (left, right) = values.split_at(left_of(values.len() as u64) as usize);
    let left = merge_groups(left, pairs);
    let right = merge_groups(right, pairs);
    pairs[place..place + 32].copy_from_slice(&left);
    pairs[place + 32..place + 64].copy_from_slice(&right);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

/// Returns where the pairs inside shard `index` begin in the outboard of its blob, in bytes.
pub(crate) fn shard_offset(blob_len: u64, index: u32) -> u64 {
    let wanted = u64::from(index) * SHARD_GROUPS;
    let (mut first, mut count, mut pair) = (0, groups(blob_len), 0);
    while count > SHARD_GROUPS {
        let left = left_of(count);
        if wanted < first + left {
            (count, pair) = (left, pair + 1);
        } else {
            (first, count, pair) = (first + left, count - left, pair + left);
        }
    }
    pair * PAIR_LEN
}

/// Merges the chaining values of all shards of a blob of more than one shard up to its root.
///
/// `place` is given each pair above the shards with its offset in the outboard, in bytes.
pub(crate) fn merge_shards(
    blob_len: u64,
    shards: &[ChainingValue],
    place: &mut impl FnMut(u64, [u8; 64]),
) -> Hash {
    let (left, right) = merge_children(groups(blob_len), shards, 0, place);
    Hash::from(merge_subtrees_root(&left, &right, Mode::Hash))
}

/// Merges the two halves of a subtree of more than one shard, whose own pair stands at `pair`.
fn merge_children(
    count: u64,
    shards: &[ChainingValue],
    pair: u64,
    place: &mut impl FnMut(u64, [u8; 64]),
) -> (ChainingValue, ChainingValue) {
    let left = left_of(count);
    let (left_shards, right_shards) = shards.split_at((left / SHARD_GROUPS) as usize);
    let left_value = merge_subtree(left, left_shards, pair + 1, place);
    let right_value = merge_subtree(count - left, right_shards, pair + left, place);
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&left_value);
    bytes[32..].copy_from_slice(&right_value);
    place(pair * PAIR_LEN, bytes);
    (left_value, right_value)
}

fn merge_subtree(
    count: u64,
    shards: &[ChainingValue],
    pair: u64,
    place: &mut impl FnMut(u64, [u8; 64]),
) -> ChainingValue {
    if let [one] = shards {
        return *one;
    }
    let (left, right) = merge_children(count, shards, pair, place);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

/// The pairs of a blob as they lie on disk, for a verification to compare.
pub(crate) struct Outboard {
    pub(crate) file: std::fs::File,
    pub(crate) spoiled: std::sync::atomic::AtomicBool,
}

impl Outboard {
    /// Hashes a shard, notes whether its pairs on disk are others, and returns its chaining value.
    pub(crate) fn check(
        &self,
        blob_len: u64,
        index: u32,
        offset: u64,
        shard: &[u8],
    ) -> protocol::ChainingValue {
        use std::os::unix::fs::FileExt;
        let mut pairs = Vec::with_capacity(SHARD_GROUPS as usize * PAIR_LEN as usize);
        let value = hash_shard(offset, shard, &mut pairs);
        let mut there = vec![0; pairs.len()];
        let read = self.file.read_exact_at(&mut there, shard_offset(blob_len, index));
        if read.is_err() || there != pairs {
            self.spoiled.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        protocol::ChainingValue::from_bytes(value)
    }

    /// Notes whether the pairs above the shards of a blob of more than one shard are others on disk. `shards`: one for each shard.
    pub(crate) fn check_above(&self, blob_len: u64, shards: &[protocol::ChainingValue]) {
        use std::os::unix::fs::FileExt;
        let values: Vec<ChainingValue> = shards.iter().map(|value| *value.as_bytes()).collect();
        merge_shards(blob_len, &values, &mut |at, pair| {
            let mut there = [0; PAIR_LEN as usize];
            if self.file.read_exact_at(&mut there, at).is_err() || there != pair {
                self.spoiled.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        });
    }

    /// Tells whether any pair was another.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Reads the chaining values of all shards of a blob of more than one shard out of the pairs just above them.
///
/// `pair` reads one pair at an offset in the outboard, in bytes. Nothing is checked here.
pub(crate) fn read_shards<E>(
    blob_len: u64,
    values: &mut [ChainingValue],
    pair: &mut impl FnMut(u64) -> Result<[u8; 64], E>,
) -> Result<(), E> {
    read_children(groups(blob_len), values, 0, pair)
}

fn read_children<E>(
    count: u64,
    values: &mut [ChainingValue],
    at: u64,
    pair: &mut impl FnMut(u64) -> Result<[u8; 64], E>,
) -> Result<(), E> {
    let read = pair(at * PAIR_LEN)?;
    let left = left_of(count);
    let (left_values, right_values) = values.split_at_mut((left / SHARD_GROUPS) as usize);
    match left_values {
        [one] => one.copy_from_slice(&read[..32]),
        more => read_children(left, more, at + 1, pair)?,
    }
    match right_values {
        [one] => one.copy_from_slice(&read[32..]),
        more => read_children(count - left, more, at + left, pair)?,
    }
    Ok(())
}

/// Hashes a file of `len` bytes shard by shard on all cores, without keeping its tree: its root and its shards' values.
pub(crate) fn shard_values(
    file: &std::fs::File,
    len: u64,
    seen: &(dyn Fn(u64) + Sync),
) -> std::io::Result<(Hash, Vec<ChainingValue>)> {
    use rayon::prelude::{IntoParallelIterator, ParallelIterator};
    use std::os::unix::fs::FileExt;
    let value = |buffer: &mut Vec<u8>, index: u32| {
        let range = protocol::shard::shard_range(len, index).unwrap_or(0..0);
        buffer.resize((range.end - range.start) as usize, 0);
        file.read_exact_at(buffer, range.start)?;
        seen(range.end - range.start);
        Ok::<_, std::io::Error>(if len <= SHARD_LEN {
            *Hash::of(buffer).as_bytes()
        } else {
            *protocol::shard::chaining_value(range.start, buffer).as_bytes()
        })
    };
    let count = protocol::shard::shard_count(len);
    let values = (0..count)
        .into_par_iter()
        .map_init(Vec::new, value)
        .collect::<Result<Vec<_>, _>>()?;
    let root = match values.as_slice() {
        [] => Hash::EMPTY,
        [one] => Hash::from_bytes(*one),
        more => merge_shards(len, more, &mut |_, _| {}),
    };
    Ok((root, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bao_tree::io::outboard::PreOrderMemOutboard;
    use iroh_blobs::store::IROH_BLOCK_SIZE;

    fn our_outboard(data: &[u8]) -> (Hash, Vec<u8>) {
        let len = data.len() as u64;
        let mut outboard = vec![0; outboard_len(len) as usize];
        let mut pairs = Vec::new();
        let mut values = Vec::new();
        for (index, shard) in data.chunks(SHARD_LEN as usize).enumerate() {
            values.push(hash_shard(index as u64 * SHARD_LEN, shard, &mut pairs));
            let at = shard_offset(len, index as u32) as usize;
            outboard[at..at + pairs.len()].copy_from_slice(&pairs);
        }
        let root = merge_shards(len, &values, &mut |at, pair| {
            outboard[at as usize..at as usize + 64].copy_from_slice(&pair);
        });
        (root, outboard)
    }

    #[test]
    fn outboard_is_the_one_bao_tree_makes() {
        let shard = SHARD_LEN as usize;
        for len in [
            shard + 1,
            shard + 16 * 1024,
            2 * shard - 1,
            2 * shard,
            2 * shard + 5,
            3 * shard + 70_000,
            7 * shard + 16 * 1024 + 1,
            13 * shard,
        ] {
            let data: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let theirs = PreOrderMemOutboard::create(&data, IROH_BLOCK_SIZE);
            let (root, outboard) = our_outboard(&data);
            assert_eq!(root, Hash::from(theirs.root), "root of {len} bytes");
            assert!(outboard == theirs.data, "outboard of {len} bytes");
        }
    }
}
