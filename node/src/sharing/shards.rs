//! Sets of shards, and the frames that tell of them.

use crate::runs;
use fixedbitset::FixedBitSet;
use protocol::{
    ShardRun, SwarmTell,
    limits::{BITS_LEN_MAX, RUNS_MAX},
};
use std::ops::Range;

/// Bytes of bits that are read at once, so that their runs are few.
const SLICE_LEN: usize = 1024;

/// The frames that tell of a set: runs where they are few, bits where they are many.
pub(super) fn frames(shards: &FixedBitSet) -> Vec<SwarmTell> {
    let few: Vec<ShardRun> = runs::of(shards)
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
    let parts = (0u32..).step_by(8 * BITS_LEN_MAX).zip(bytes.chunks(BITS_LEN_MAX));
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
                    runs.iter().for_each(|run| heard.insert_range(runs::span(run)));
                }
            }
            assert!(heard == set, "{count} shards");
        }
    }
}
