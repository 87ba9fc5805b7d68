//! Sets of shards, and the frames that tell of them.

use fixedbitset::FixedBitSet;
use protocol::{ShardRun, SwarmTell, limits::RUNS_MAX};
use std::ops::Range;

/// Bytes of bits in one frame: half of what a frame holds.
const BITS_LEN: usize = 512 * 1024;
/// Bytes of bits that are read at once, so that their runs are few.
const SLICE_LEN: usize = 1024;
const WORD: u32 = usize::BITS;

/// A run of shards as places in a bit set.
pub(super) fn span(run: &Range<u32>) -> Range<usize> {
    run.start as usize..(run.end as usize).max(run.start as usize)
}

/// The runs of a set, in order.
pub(super) fn runs(shards: &FixedBitSet) -> impl Iterator<Item = Range<u32>> {
    let mut ones = shards.ones().map(|shard| shard as u32).peekable();
    std::iter::from_fn(move || {
        let first = ones.next()?;
        let mut end = first + 1;
        while ones.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(first..end)
    })
}

/// The part of a run, which lies within the set, that is not in it.
pub(super) fn fresh(known: &FixedBitSet, run: Range<u32>) -> Vec<Range<u32>> {
    let mut found: Vec<Range<u32>> = Vec::new();
    let mut shard = run.start;
    while shard < run.end {
        let word = known
            .as_slice()
            .get((shard / WORD) as usize)
            .copied()
            .unwrap_or_default();
        let end = (shard - shard % WORD).saturating_add(WORD).min(run.end);
        // Whole words at once where nothing or everything is known.
        let step = match word {
            0 | usize::MAX => end - shard,
            _ => 1,
        };
        if word & 1 << (shard % WORD) == 0 {
            match found.last_mut() {
                Some(last) if last.end == shard => last.end += step,
                _ => found.push(shard..shard + step),
            }
        }
        shard += step;
    }
    found
}

/// The frames that tell of a set: runs where they are few, bits where they are many.
pub(super) fn frames(shards: &FixedBitSet) -> Vec<SwarmTell> {
    let few: Vec<ShardRun> = runs(shards)
        .take(RUNS_MAX + 1)
        .map(|run| ShardRun {
            first: run.start,
            count: run.end - run.start,
        })
        .collect();
    if few.is_empty() {
        return Vec::new();
    }
    if few.len() <= RUNS_MAX {
        return vec![SwarmTell::Got(few)];
    }
    let words = shards.as_slice().iter().flat_map(|word| word.to_le_bytes());
    let bytes: Vec<u8> = words.take(shards.len().div_ceil(8)).collect();
    let parts = (0u32..).step_by(8 * BITS_LEN).zip(bytes.chunks(BITS_LEN));
    parts
        .filter(|(_, bits)| bits.iter().any(|byte| *byte != 0))
        .map(|(first, bits)| SwarmTell::Bits {
            first,
            bits: bits.to_vec(),
        })
        .collect()
}

/// The runs of a checked message, a bounded number at a time.
pub(super) fn told(tell: &SwarmTell) -> impl Iterator<Item = Vec<Range<u32>>> {
    let (first, bits, rest) = match tell {
        SwarmTell::Bits { first, bits } => (*first, &bits[..], Vec::new()),
        other => (0, &[][..], other.runs().collect()),
    };
    let parts = (first..).step_by(8 * SLICE_LEN).zip(bits.chunks(SLICE_LEN));
    let parts = parts.map(|(first, bits)| {
        let bits = bits.to_vec();
        SwarmTell::Bits { first, bits }.runs().collect()
    });
    parts.chain([rest]).filter(|runs| !runs.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn frames_tell_exactly_the_set_however_it_is_torn() {
        let mut random = StdRng::seed_from_u64(3);
        for (count, density) in [
            (1, 1.0),
            (64, 0.5),
            (20_000, 0.5),
            (9_000_001, 0.3),
            (100_000, 0.001),
            (77, 0.0),
        ] {
            let mut set = FixedBitSet::with_capacity(count);
            (0..count)
                .filter(|_| random.random_bool(density))
                .for_each(|shard| set.insert(shard));
            let mut heard = FixedBitSet::with_capacity(count);
            for frame in frames(&set) {
                frame.check(count as u32).unwrap();
                protocol::wire::encode_frame(&frame).unwrap();
                for runs in told(&frame) {
                    assert!(runs.len() <= RUNS_MAX);
                    runs.iter().for_each(|run| heard.insert_range(span(run)));
                }
            }
            assert!(heard == set, "{count} shards");
        }
    }

    #[test]
    fn fresh_is_what_is_not_known() {
        let mut random = StdRng::seed_from_u64(4);
        for _ in 0..500 {
            let mut known = FixedBitSet::with_capacity(300);
            let (a, b) = (random.random_range(0..300), random.random_range(0..300));
            known.insert_range(a.min(b)..a.max(b));
            (0..random.random_range(0..20)).for_each(|_| known.toggle(random.random_range(0..300)));
            let (a, b) = (random.random_range(0..=300), random.random_range(0..=300));
            let run = a.min(b)..a.max(b);
            let found: Vec<u32> = fresh(&known, run.clone()).into_iter().flatten().collect();
            let wanted: Vec<u32> = run.filter(|shard| !known.contains(*shard as usize)).collect();
            assert_eq!(found, wanted);
        }
    }
}
