//! Ranges of a snapshot and how they are split: by ranks, so that parts have as many items each, wherever in time they lie.

use super::{
    super::set::Snapshot,
    fingerprint::{Fold, SessionKey},
    message::{Edge, PARTS_MAX},
};
use std::ops::Range;

/// Parts of a range of few items: a difference is then alone in its part, and each further split costs least this way.
const PARTS_FEW: usize = 4;

/// Items from which on a range is split into [`PARTS_MAX`]: there the rounds cost more than the bytes.
const PARTS_MANY_FROM: usize = 1_024;

/// A part of a range, gone over.
pub(super) struct Part {
    pub(super) low: Edge,
    pub(super) ranks: Range<usize>,
    pub(super) fold: Fold,
}

/// The rank of the first item from `edge` on.
pub(super) fn rank(set: &Snapshot, edge: &Edge) -> usize {
    set.rank(edge.issued, &edge.id)
}

/// The ranks of the items from `low` on and below `high`, which is not less.
pub(super) fn ranks(set: &Snapshot, low: &Edge, high: &Edge) -> Range<usize> {
    rank(set, low)..rank(set, high)
}

/// Goes once over a range that begins at `low`, and returns its parts, the newest first. An empty range has none.
pub(super) fn parts(key: &SessionKey, set: &Snapshot, low: Edge, ranks: Range<usize>) -> Vec<Part> {
    let count = ranks.len();
    let wanted = if count < PARTS_MANY_FROM {
        PARTS_FEW
    } else {
        PARTS_MAX
    };
    let mut left = wanted.min(count);
    let mut parts = Vec::with_capacity(left);
    let mut end = ranks.end;
    while left > 0 {
        let start = end - (end - ranks.start).div_ceil(left);
        let low = match (
            start.checked_sub(1).and_then(|below| set.get(below)),
            set.get(start),
        ) {
            (Some(below), Some(above)) if start > ranks.start => Edge::between(&below, &above),
            _ => low,
        };
        let fold = key.fold(set, start..end);
        parts.push(Part {
            low,
            ranks: start..end,
            fold,
        });
        (end, left) = (start, left - 1);
    }
    parts
}

/// The whole of some parts that share no item.
pub(super) fn whole(parts: &[Part]) -> Fold {
    parts
        .iter()
        .fold(Fold::EMPTY, |whole, part| whole.join(part.fold))
}
