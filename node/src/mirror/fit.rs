//! Whether a revision fits beside what is kept, and what has to go for it. Pure: it neither reads nor drops anything.

use std::collections::{HashMap, HashSet};

use protocol::Hash;

use super::Kept;

/// Distinct blobs and their lengths in bytes.
pub(crate) type Blobs = [(Hash, u64)];

/// One revision that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shelved<'a> {
    /// What it takes.
    pub(crate) blobs: &'a Blobs,
    /// Whether it may go for another one.
    pub(crate) droppable: bool,
}

/// Whether something fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It does, once these have gone: their places in what was given.
    Fits {
        /// Places, in the order in which they were given.
        drop: Vec<usize>,
    },
    /// It does not, whatever goes.
    No {
        /// Bytes that it adds to what cannot go.
        need: u64,
        /// Bytes that the quota leaves for it.
        free: u64,
    },
}

/// What must not go, whatever it is on the list for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    /// The newest revisions of names that are mirrored.
    pub(crate) newest: HashSet<Hash>,
    /// What is being fetched by somebody.
    pub(crate) busy: HashSet<Hash>,
}

/// Whether an entry may go for another one: a newer revision took its place, and nobody else needs it.
///
/// - `newest`: the newest revision of its name; `None`: it cannot be told.
pub(crate) fn may_go(kept: &Kept, newest: Option<Hash>, needed: &Needed) -> bool {
    let superseded = newest.is_some_and(|newest| newest != kept.manifest);
    let is_needed = needed.newest.contains(&kept.manifest) || needed.busy.contains(&kept.manifest);
    superseded && !is_needed && !kept.shared && !kept.going
}

/// The order in which entries go: the oldest first.
pub(crate) fn oldest_first(kept: &mut [&Kept]) {
    kept.sort_by_key(|kept| (kept.issued, kept.seq, &kept.repo));
}

/// The union of revisions, which knows how many of them have a blob.
#[derive(Default)]
struct Union {
    blobs: HashMap<Hash, (u64, u32)>,
    /// In bytes. Lengths are a stranger's: 64 bits may not hold their sum.
    bytes: u128,
}

impl Union {
    fn add(&mut self, blobs: &Blobs) {
        for (hash, len) in blobs {
            let (len, count) = self.blobs.entry(*hash).or_insert((*len, 0));
            if *count == 0 {
                self.bytes += u128::from(*len);
            }
            *count += 1;
        }
    }

    fn remove(&mut self, blobs: &Blobs) {
        for (hash, _) in blobs {
            if let Some((len, count)) = self.blobs.get_mut(hash) {
                *count -= 1;
                if *count == 0 {
                    self.bytes -= u128::from(*len);
                    self.blobs.remove(hash);
                }
            }
        }
    }

    fn is_within(&self, quota: u64) -> bool {
        self.bytes <= u128::from(quota)
    }
}

/// How many bytes revisions take together.
pub(crate) fn union<'a>(all: impl IntoIterator<Item = &'a Blobs>) -> u64 {
    let mut union = Union::default();
    all.into_iter().for_each(|blobs| union.add(blobs));
    bytes(union.bytes)
}

/// Finds what has to go so that `new` fits into `quota` bytes beside the rest.
///
/// - `kept`: the oldest first. What is older goes first, but nothing goes that makes no difference, and nothing at all where it would not be enough.
/// - `quota`: `None`: there is none.
pub(crate) fn fit(quota: Option<u64>, kept: &[Shelved<'_>], new: &Blobs) -> Fit {
    let Some(quota) = quota else {
        return Fit::Fits { drop: Vec::new() };
    };
    let mut union = Union::default();
    kept.iter().for_each(|kept| union.add(kept.blobs));
    let before = union.bytes;
    union.add(new);
    // What adds nothing takes no room, even where the quota was lowered below what is kept.
    if union.bytes == before {
        return Fit::Fits { drop: Vec::new() };
    }
    let mut drop = Vec::new();
    for (at, shelved) in kept.iter().enumerate() {
        if union.is_within(quota) {
            break;
        }
        if shelved.droppable {
            union.remove(shelved.blobs);
            drop.push(at);
        }
    }
    if !union.is_within(quota) {
        let with = union.bytes;
        union.remove(new);
        return Fit::No {
            need: bytes(with - union.bytes),
            free: quota.saturating_sub(bytes(union.bytes)),
        };
    }
    // Something that went early may not have been needed once the rest had gone.
    let spared: Vec<usize> = drop
        .iter()
        .rev()
        .copied()
        .filter(|at| {
            union.add(kept[*at].blobs);
            let spared = union.is_within(quota);
            if !spared {
                union.remove(kept[*at].blobs);
            }
            spared
        })
        .collect();
    drop.retain(|at| !spared.contains(at));
    Fit::Fits { drop }
}

fn bytes(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
