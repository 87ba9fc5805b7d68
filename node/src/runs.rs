//! Runs of numbers that follow each other: of shards, mostly, and of bytes.

use fixedbitset::FixedBitSet;
use std::ops::Range;

const WORD: u32 = usize::BITS;

/// Adds a run behind others: to the last of them, where it goes on.
pub(crate) fn push<T: PartialEq>(runs: &mut Vec<Range<T>>, run: Range<T>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}

/// A run of shards as places in a bit set.
pub(crate) fn span(run: &Range<u32>) -> Range<usize> {
    run.start as usize..(run.end as usize).max(run.start as usize)
}

/// The runs of a set, in order.
pub(crate) fn of(shards: &FixedBitSet) -> impl Iterator<Item = Range<u32>> {
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
pub(crate) fn outside(known: &FixedBitSet, run: Range<u32>) -> Vec<Range<u32>> {
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
            push(&mut found, shard..shard + step);
        }
        shard += step;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn outside_is_what_is_not_known() {
        let mut random = StdRng::seed_from_u64(4);
        for _ in 0..500 {
            let mut known = FixedBitSet::with_capacity(300);
            let (a, b) = (random.random_range(0..300), random.random_range(0..300));
            known.insert_range(a.min(b)..a.max(b));
            (0..random.random_range(0..20)).for_each(|_| known.toggle(random.random_range(0..300)));
            let (a, b) = (random.random_range(0..=300), random.random_range(0..=300));
            let run = a.min(b)..a.max(b);
            let found: Vec<u32> = outside(&known, run.clone()).into_iter().flatten().collect();
            let wanted: Vec<u32> = run.filter(|shard| !known.contains(*shard as usize)).collect();
            assert_eq!(found, wanted);
        }
    }
}
