//! The known releases as a set of small items, in memory: what two nodes compare to find out what one lacks.
//!
//! A sorted list cut into leaves of at most [`LEAF_ITEMS_MAX`], each behind an [`Arc`]: a change moves items of one leaf only, and a
//! [`Snapshot`] shares all leaves until they change. It doesn't know releases, nor where they are kept. Invariant: no leaf
//! is empty, items ascend within and across leaves, and none is there twice.

mod snapshot;
#[cfg(test)]
mod tests;

use protocol::limits::RELEASE_NUMBER_MAX;
use std::sync::Arc;

pub(crate) use snapshot::Snapshot;

/// Most items in a set: all models, datasets and spaces of the Hub, and as many again. 170 MB.
pub(crate) const ITEMS_MAX: usize = 4_000_000;

/// Bytes of an item's id.
pub(crate) const ID_LEN: usize = 32;

/// Most items in a leaf (2.5 KB): so few that changes all over the set while a snapshot is held copy little of it, and so many that the list of leaves is short.
const LEAF_ITEMS_MAX: usize = 64;

/// Items for which room is made at once when a leaf is full: more would be memory that nobody uses, fewer would be copied often.
const LEAF_ROOM: usize = 8;

/// Items of neighbouring leaves that are put into one after a removal, at most: so few that it doesn't split again at once.
const LEAF_MERGE_MAX: usize = LEAF_ITEMS_MAX / 4 * 3;

/// Leaves cut off at once while a set is built, before the memory they came from is given back: 1.3 MB.
const BUILD_LEAVES: usize = 512;

/// One known release: when it was issued, and which it is. The order is that of time, then that of the id's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Item {
    issued: u64,
    id: [u8; ID_LEN],
}

/// Why something does not go into a set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetError {
    /// No release was issued then.
    #[error("an item was issued at {issued}, later than any release may be")]
    Issued {
        /// Unix seconds.
        issued: u64,
    },
    /// The set has [`ITEMS_MAX`] items.
    #[error("{ITEMS_MAX} releases are known, which is the most there may be; remove some first")]
    Full,
}

impl Item {
    /// Returns the item of a release issued at `issued`, in Unix seconds. The first half of `id` tells the name, the second the release.
    ///
    /// # Errors
    /// [`SetError::Issued`]: the time is past `RELEASE_NUMBER_MAX`.
    pub(crate) fn new(issued: u64, id: [u8; ID_LEN]) -> Result<Item, SetError> {
        if issued > RELEASE_NUMBER_MAX {
            return Err(SetError::Issued { issued });
        }
        Ok(Item { issued, id })
    }

    /// When the release was issued, in Unix seconds.
    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    /// The id: which name, and which release of it.
    pub(crate) fn id(&self) -> &[u8; ID_LEN] {
        &self.id
    }

    /// The first half of the id: the name that the release is of.
    pub(crate) fn name(&self) -> [u8; 16] {
        let mut name = [0; 16];
        name.copy_from_slice(&self.id[..16]);
        name
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.issued)?;
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A part of the sorted list.
type Leaf = Arc<Vec<Item>>;

/// All items known now, at most [`ITEMS_MAX`]. It takes 42 to 46 bytes an item, and 50 where most of the neighbours were removed.
#[derive(Default)]
pub(crate) struct KnownSet {
    leaves: Arc<Vec<Leaf>>,
    len: usize,
}

impl KnownSet {
    /// Builds a set of items in any order; those that come more than once are there once. It holds the items once while it
    /// does, and sorts: half a second for 2.4 million.
    ///
    /// # Errors
    /// [`SetError::Full`]: there are more than [`ITEMS_MAX`], counting each time that one comes.
    pub(crate) fn build(items: Vec<Item>) -> Result<KnownSet, SetError> {
        if items.len() > ITEMS_MAX {
            return Err(SetError::Full);
        }
        let mut sorted = items;
        sorted.sort_unstable();
        sorted.dedup();
        let len = sorted.len();
        // From the end, and the memory is given back in between: otherwise there would be all items twice.
        let mut leaves = Vec::with_capacity(len.div_ceil(LEAF_ITEMS_MAX));
        while !sorted.is_empty() {
            for _ in 0..BUILD_LEAVES {
                let whole = sorted.len().saturating_sub(1) / LEAF_ITEMS_MAX * LEAF_ITEMS_MAX;
                if whole < sorted.len() {
                    leaves.push(Arc::new(sorted[whole..].to_vec()));
                    sorted.truncate(whole);
                }
            }
            sorted.shrink_to_fit();
        }
        leaves.reverse();
        Ok(KnownSet {
            leaves: Arc::new(leaves),
            len,
        })
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an item in; returns whether it is new.
    ///
    /// # Errors
    /// [`SetError::Full`]: it would be one more than [`ITEMS_MAX`].
    pub(crate) fn insert(&mut self, item: Item) -> Result<bool, SetError> {
        let at = self.leaf_of(&item);
        let Some(place) = self.leaves.get(at).map(|leaf| leaf.binary_search(&item)) else {
            Arc::make_mut(&mut self.leaves).push(Arc::new(vec![item]));
            self.len += 1;
            return Ok(true);
        };
        let Err(place) = place else {
            return Ok(false);
        };
        if self.len >= ITEMS_MAX {
            return Err(SetError::Full);
        }
        let leaves = Arc::make_mut(&mut self.leaves);
        let is_last = at + 1 == leaves.len();
        let leaf = Arc::make_mut(&mut leaves[at]);
        if leaf.len() < LEAF_ITEMS_MAX {
            put(leaf, place, item);
        } else if place == LEAF_ITEMS_MAX && is_last {
            // Newest of all, as most are: the leaves before stay full.
            leaves.push(Arc::new(vec![item]));
        } else {
            let mut upper = leaf.split_off(LEAF_ITEMS_MAX / 2);
            leaf.shrink_to_fit();
            match place.checked_sub(leaf.len()) {
                Some(place) if place > 0 => put(&mut upper, place, item),
                _ => put(leaf, place, item),
            }
            leaves.insert(at + 1, Arc::new(upper));
        }
        self.len += 1;
        Ok(true)
    }

    /// Takes an item out; returns whether it was there.
    pub(crate) fn remove(&mut self, item: &Item) -> bool {
        let at = self.leaf_of(item);
        let Some(Ok(place)) = self.leaves.get(at).map(|leaf| leaf.binary_search(item)) else {
            return false;
        };
        let leaves = Arc::make_mut(&mut self.leaves);
        let leaf = Arc::make_mut(&mut leaves[at]);
        leaf.remove(place);
        if leaf.capacity() > leaf.len() + LEAF_ROOM / 2 {
            leaf.shrink_to_fit();
        }
        let left = leaf.len();
        self.len -= 1;
        if left == 0 {
            leaves.remove(at);
        } else if leaves
            .get(at + 1)
            .is_some_and(|next| left + next.len() <= LEAF_MERGE_MAX)
        {
            let next = leaves.remove(at + 1);
            let leaf = Arc::make_mut(&mut leaves[at]);
            leaf.reserve_exact(next.len());
            leaf.extend_from_slice(&next);
        }
        true
    }

    /// Takes `old` out and puts `new` in; returns whether `new` was not there before. It works for a full set too.
    ///
    /// # Errors
    /// [`SetError::Full`]: the set is full and `old` was not in it.
    pub(crate) fn replace(&mut self, old: &Item, new: Item) -> Result<bool, SetError> {
        self.remove(old);
        self.insert(new)
    }

    /// Returns all items as they are now. It costs the room of the list of leaves (12 bytes a leaf), and a changed leaf is copied once.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::new(Arc::clone(&self.leaves))
    }

    /// The leaf that holds `item`, or would: the last one that begins at or before it. 0 if there is none.
    fn leaf_of(&self, item: &Item) -> usize {
        self.leaves
            .partition_point(|leaf| leaf.first().is_some_and(|first| first <= item))
            .saturating_sub(1)
    }

    /// Bytes of memory that the items take, with the room that leaves have left.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let leaves = self
            .leaves
            .iter()
            .map(|leaf| leaf.capacity() * size_of::<Item>() + LEAF_COST);
        leaves.sum::<usize>() + self.leaves.capacity() * size_of::<Leaf>()
    }
}

/// Bytes that a leaf takes beside its items: two counts, pointer, length, room, and the allocator's two headers.
#[cfg(test)]
const LEAF_COST: usize = 5 * size_of::<usize>() + 2 * 16;

/// Inserts at `place`, with little room to spare.
fn put(leaf: &mut Vec<Item>, place: usize, item: Item) {
    if leaf.len() == leaf.capacity() {
        leaf.reserve_exact(LEAF_ROOM);
    }
    leaf.insert(place, item);
}
