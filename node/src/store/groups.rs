//! Which 16 KiB groups of a blob are here. Pure, and small: a bit for each shard, and one word for each that is partly here.

use crate::runs;
use fixedbitset::FixedBitSet;
use protocol::{GROUP_LEN, SHARD_LEN, shard};
use std::{collections::BTreeMap, ops::Range};

/// Groups in a whole shard: one word has a bit for each.
const SHARD_GROUPS: u64 = SHARD_LEN / GROUP_LEN;

const _: () = assert!(SHARD_GROUPS == u64::BITS as u64);

/// The groups of one blob that are here.
#[derive(Debug)]
pub(super) struct Groups {
    len: u64,
    whole: FixedBitSet,
    count: usize,
    /// Shards that are partly here, and which of their groups: neither none nor all.
    begun: BTreeMap<u32, u64>,
}

impl Groups {
    /// Nothing of a blob of `len` bytes.
    pub(super) fn none(len: u64) -> Groups {
        Groups {
            len,
            whole: FixedBitSet::with_capacity(shard::shard_count(len) as usize),
            count: 0,
            begun: BTreeMap::new(),
        }
    }

    /// Takes in the groups that lie wholly within `bytes`; returns the runs of shards that are complete by it.
    pub(super) fn add(&mut self, bytes: Range<u64>) -> Vec<Range<u32>> {
        let mut new: Vec<Range<u32>> = Vec::new();
        let end = match bytes.end {
            end if end >= self.len => self.len.div_ceil(GROUP_LEN),
            end => end / GROUP_LEN,
        };
        for (index, mask) in masks(bytes.start.div_ceil(GROUP_LEN)..end) {
            if self.whole.contains(index as usize) {
                continue;
            }
            let here = self.begun.entry(index).or_default();
            *here |= mask;
            if *here != full(self.len, index) {
                continue;
            }
            self.begun.remove(&index);
            self.whole.insert(index as usize);
            self.count += 1;
            runs::push(&mut new, index..index + 1);
        }
        new
    }

    /// Returns the bytes of the groups of a run of shards that are not here, joined; those behind the end are left out.
    pub(super) fn missing(&self, run: Range<u32>) -> Vec<Range<u64>> {
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut add = |groups: Range<u64>| {
            let bytes = groups.start * GROUP_LEN..(groups.end * GROUP_LEN).min(self.len);
            runs::push(&mut missing, bytes);
        };
        for index in run.start..run.end.min(self.whole.len() as u32) {
            if self.whole.contains(index as usize) {
                continue;
            }
            let mut absent = full(self.len, index) & !self.begun.get(&index).copied().unwrap_or_default();
            let first = u64::from(index) * SHARD_GROUPS;
            while absent != 0 {
                let start = absent.trailing_zeros();
                let count = (absent >> start).trailing_ones();
                absent &= !bits(start, start + count);
                add(first + u64::from(start)..first + u64::from(start + count));
            }
        }
        missing
    }

    /// Tells whether every byte of a range is here; what lies behind the end of the blob does not count.
    pub(super) fn has(&self, bytes: Range<u64>) -> bool {
        let end = bytes.end.min(self.len).div_ceil(GROUP_LEN);
        masks(bytes.start / GROUP_LEN..end).all(|(index, mask)| {
            let here = self.begun.get(&index).copied().unwrap_or_default();
            self.whole.contains(index as usize) || here & mask == mask
        })
    }

    /// Tells which shards are complete.
    pub(super) fn shards(&self) -> &FixedBitSet {
        &self.whole
    }

    /// How many shards are complete.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// Cuts a run of groups into shards: each with the bits of its groups.
fn masks(groups: Range<u64>) -> impl Iterator<Item = (u32, u64)> {
    let shards = groups.start / SHARD_GROUPS..groups.end.div_ceil(SHARD_GROUPS);
    let shards = if groups.is_empty() { 0..0 } else { shards };
    shards.map(move |index| {
        let first = index * SHARD_GROUPS;
        let start = groups.start.saturating_sub(first) as u32;
        let end = (groups.end - first).min(SHARD_GROUPS) as u32;
        let index = u32::try_from(index).expect("blobs have at most 2^22 shards");
        (index, bits(start, end))
    })
}

/// The bits of all groups that a shard has.
fn full(len: u64, index: u32) -> u64 {
    let first = u64::from(index) * SHARD_GROUPS;
    let count = len.div_ceil(GROUP_LEN).saturating_sub(first).min(SHARD_GROUPS);
    bits(0, count as u32)
}

/// A word with the bits from `start` to below `end` set; `start <= end <= 64`.
fn bits(start: u32, end: u32) -> u64 {
    let below = |bit: u32| 1u64.checked_shl(bit).map_or(u64::MAX, |word| word - 1);
    below(end) & !below(start)
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one run is meant")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by one `bool` a group.
    struct Naive(Vec<bool>);

    impl Naive {
        fn shard(&self, index: u32) -> &[bool] {
            let first = (u64::from(index) * SHARD_GROUPS) as usize;
            &self.0[first..self.0.len().min(first + SHARD_GROUPS as usize)]
        }
    }

    proptest! {
        #[test]
        fn groups_are_what_one_flag_for_each_would_say(
            len in 1u64..5 * SHARD_LEN,
            landed in prop::collection::vec((0u64..320, 1u64..100), 0..40),
            asked in (0u64..5 * SHARD_LEN, 0u64..2 * SHARD_LEN),
        ) {
            let count = len.div_ceil(GROUP_LEN);
            let mut groups = Groups::none(len);
            let mut naive = Naive(vec![false; count as usize]);
            let shards = shard::shard_count(len);
            for (start, run) in landed {
                let (start, end) = (start.min(count), (start + run).min(count));
                let before: Vec<bool> = (0..shards).map(|i| naive.shard(i).iter().all(|here| *here)).collect();
                naive.0[start as usize..end as usize].fill(true);
                let new: Vec<u32> = groups.add(start * GROUP_LEN..(end * GROUP_LEN).min(len)).into_iter().flatten().collect();
                let expected: Vec<u32> = (0..shards)
                    .filter(|i| !before[*i as usize] && naive.shard(*i).iter().all(|here| *here))
                    .collect();
                prop_assert_eq!(new, expected);
            }
            let whole = (0..shards).filter(|i| naive.shard(*i).iter().all(|here| *here));
            prop_assert_eq!(whole.clone().count(), groups.count());
            prop_assert!(whole.eq(groups.shards().ones().map(|i| i as u32)));
            let mut missing = vec![true; count as usize];
            let ranges = groups.missing(0..shards + 3);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            for range in ranges {
                prop_assert!(range.start % GROUP_LEN == 0 && (range.end % GROUP_LEN == 0 || range.end == len));
                for group in range.start / GROUP_LEN..range.end.div_ceil(GROUP_LEN) {
                    missing[group as usize] = false;
                }
            }
            prop_assert_eq!(&missing, &naive.0);
            let asked = asked.0..asked.0 + asked.1;
            let touched = asked.start / GROUP_LEN..asked.end.min(len).div_ceil(GROUP_LEN);
            let here = touched.into_iter().all(|group| naive.0[group as usize]);
            prop_assert_eq!(groups.has(asked), here);
        }
    }

    #[test]
    fn half_a_group_is_none() {
        let len = 3 * SHARD_LEN + 5;
        let mut groups = Groups::none(len);
        assert!(groups.add(1..GROUP_LEN * 2 - 1).is_empty());
        assert!(groups.add(0..GROUP_LEN - 1).is_empty());
        assert_eq!(groups.missing(0..4), [0..len]);
        assert_eq!(groups.add(3 * SHARD_LEN..len), [3..4]);
        assert_eq!(groups.add(0..SHARD_LEN * 2 + GROUP_LEN), [0..2]);
        assert_eq!(groups.missing(0..4), [2 * SHARD_LEN + GROUP_LEN..3 * SHARD_LEN]);
        assert!(groups.has(0..0) && groups.has(len..len + 1) && groups.has(5..2 * SHARD_LEN + 1));
        assert!(!groups.has(0..len));
    }
}
