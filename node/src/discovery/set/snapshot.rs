//! A set as it was at one moment: ordered, counted, shared between whoever reads it.
//!
//! An item's *rank* is how many items come before it. Ranks are those of this snapshot only.

use super::{ID_LEN, Item, Leaf};
use std::{ops::Range, sync::Arc};

/// All items of a set at one moment, or those issued since some time. A cheap handle: it may be cloned and sent.
#[derive(Clone)]
pub(crate) struct Snapshot {
    list: Arc<List>,
    /// Ranks of `list` below this are not part of it.
    from: usize,
    since: u64,
}

/// The leaves, and the rank at which each begins; one more at the end.
struct List {
    leaves: Arc<Vec<Leaf>>,
    starts: Vec<u32>,
}

impl Snapshot {
    /// `leaves` ascend and none is empty.
    pub(super) fn new(leaves: Arc<Vec<Leaf>>) -> Snapshot {
        let mut starts = Vec::with_capacity(leaves.len() + 1);
        let mut start = 0u32;
        starts.push(start);
        for leaf in leaves.iter() {
            start += u32::try_from(leaf.len()).expect("a leaf is small");
            starts.push(start);
        }
        let list = Arc::new(List { leaves, starts });
        Snapshot {
            list,
            from: 0,
            since: 0,
        }
    }

    /// Returns the items that were issued at `since` or later, in Unix seconds. It shares everything with this one.
    #[cfg(test)]
    pub(crate) fn since(&self, since: u64) -> Snapshot {
        let since = since.max(self.since);
        let from = self.list.rank(since, &[0; ID_LEN]);
        Snapshot {
            from,
            since,
            list: Arc::clone(&self.list),
        }
    }

    /// The time of [`Snapshot::since`], in Unix seconds; 0 if it holds all.
    pub(crate) fn floor(&self) -> u64 {
        self.since
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len() - self.from
    }

    /// Whether there are no items.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the item of a rank; `None` past the last one.
    pub(crate) fn get(&self, rank: usize) -> Option<Item> {
        let rank = rank.checked_add(self.from)?;
        if rank >= self.list.len() {
            return None;
        }
        let (leaf, within) = self.list.place(rank);
        self.list.leaves.get(leaf)?.get(within).copied()
    }

    /// Returns how many items come before this time and id: the rank of the first one that doesn't.
    pub(crate) fn rank(&self, issued: u64, id: &[u8; ID_LEN]) -> usize {
        self.list.rank(issued, id).saturating_sub(self.from)
    }

    /// Whether the item is there.
    pub(crate) fn contains(&self, item: &Item) -> bool {
        self.get(self.rank(item.issued, &item.id)) == Some(*item)
    }

    /// Returns all items, ascending; `rev` gives the newest first.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Item> {
        self.range(0..self.len())
    }

    /// Returns the items of a range of ranks, ascending; ranks past the end are left out.
    pub(crate) fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = Item> {
        self.slices(ranks).flat_map(|slice| slice.iter().copied())
    }

    /// Returns the items of a range of ranks in pieces, ascending; ranks past the end are left out.
    pub(crate) fn slices(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = &[Item]> {
        let end = ranks.end.min(self.len()) + self.from;
        let start = (ranks.start + self.from).min(end);
        let (first, last) = if start == end {
            (0, 0)
        } else {
            (self.list.place(start).0, self.list.place(end - 1).0 + 1)
        };
        (first..last).map(move |leaf| {
            let base = self.list.starts[leaf] as usize;
            let items = &self.list.leaves[leaf];
            &items[start.saturating_sub(base)..items.len().min(end - base)]
        })
    }
}

impl List {
    fn len(&self) -> usize {
        self.starts.last().map_or(0, |end| *end as usize)
    }

    /// The leaf of a rank that there is, and the place in it.
    fn place(&self, rank: usize) -> (usize, usize) {
        let leaf = self
            .starts
            .partition_point(|start| *start as usize <= rank)
            .saturating_sub(1);
        (leaf, rank - self.starts[leaf] as usize)
    }

    fn rank(&self, issued: u64, id: &[u8; ID_LEN]) -> usize {
        let before = |item: &Item| (item.issued, &item.id) < (issued, id);
        let leaf = self
            .leaves
            .partition_point(|leaf| leaf.first().is_some_and(before));
        match leaf.checked_sub(1) {
            None => 0,
            Some(leaf) => {
                let within = self.leaves[leaf].partition_point(before);
                self.starts[leaf] as usize + within
            }
        }
    }
}
