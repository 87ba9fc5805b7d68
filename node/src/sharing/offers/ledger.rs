//! What happened to each shard of a complete node: three bytes a shard, and the sets and counts that follow from them.

use fixedbitset::FixedBitSet;
use std::ops::Range;

/// The slot of nobody.
pub(super) const NOBODY: u8 = u8::MAX;

/// How far the first copy of a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody was shown it, or whoever was is to be asked for nothing.
    Unseen,
    /// A member was shown it, and nobody asked for it.
    Offered,
    /// A member asked for it.
    Asked,
    /// It was sent to a member.
    Sent,
}

#[derive(Clone, Copy)]
struct Shard {
    step: Step,
    slot: u8,
    holders: u8,
}

impl Shard {
    fn is_free(self) -> bool {
        self.holders == 0 && self.step == Step::Unseen
    }

    fn is_wanting(self) -> bool {
        self.holders == 0 && self.step != Step::Sent
    }
}

/// All shards.
pub(super) struct Ledger {
    shards: Vec<Shard>,
    unseen: FixedBitSet,
    free: usize,
    wanting: usize,
}

impl Ledger {
    /// Nobody has any of `count` shards.
    pub(super) fn new(count: u32) -> Ledger {
        let count = count as usize;
        let mut unseen = FixedBitSet::with_capacity(count);
        unseen.insert_range(..);
        let shard = Shard {
            step: Step::Unseen,
            slot: NOBODY,
            holders: 0,
        };
        Ledger {
            shards: vec![shard; count],
            unseen,
            free: count,
            wanting: count,
        }
    }

    /// Shards that nobody has, asks for or is offered.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// Shards that nobody has, and that were sent to nobody.
    pub(super) fn wanting(&self) -> usize {
        self.wanting
    }

    /// How far a shard is, and whose it is.
    pub(super) fn place(&self, shard: usize) -> (Step, u8) {
        (self.shards[shard].step, self.shards[shard].slot)
    }

    /// Whether a member has a shard.
    pub(super) fn is_held(&self, shard: usize) -> bool {
        self.shards[shard].holders > 0
    }

    /// Notes how far a shard is, and whose it is.
    pub(super) fn put(&mut self, shard: usize, step: Step, slot: u8) {
        self.change(shard, |shard| (shard.step, shard.slot) = (step, slot));
    }

    /// One more member has a shard: it is offered no longer, and who asked for it counts as served.
    pub(super) fn hold(&mut self, shard: usize) {
        self.change(shard, |shard| {
            shard.holders += 1;
            match shard.step {
                Step::Unseen | Step::Sent => {}
                Step::Offered => (shard.step, shard.slot) = (Step::Unseen, NOBODY),
                Step::Asked => shard.step = Step::Sent,
            }
        });
    }

    /// One member less has a shard.
    pub(super) fn lose(&mut self, shard: usize) {
        self.change(shard, |shard| shard.holders = shard.holders.saturating_sub(1));
    }

    /// What was offered to a slot, or asked for by it, is nobody's; with `sent`, what was sent to it too.
    pub(super) fn forget(&mut self, slot: u8, sent: bool) {
        for shard in 0..self.shards.len() {
            let Shard { step, slot: of, .. } = self.shards[shard];
            if of == slot && (sent || step != Step::Sent) {
                self.put(shard, Step::Unseen, NOBODY);
            }
        }
    }

    /// The free shards of the first block, `block` shards long and so aligned, that has any at or behind `from`, or else from
    /// the beginning.
    pub(super) fn pick(&self, from: usize, block: usize) -> Vec<usize> {
        let found = self.next(from - from % block).or_else(|| self.next(0));
        let whole = found.map_or(0..0, |found| {
            let first = found - found % block;
            first..(first + block).min(self.shards.len())
        });
        whole.filter(|shard| self.unseen.contains(*shard)).collect()
    }

    /// What members may get from each other: shards that were sent, or that a member has.
    pub(super) fn out(&self) -> FixedBitSet {
        let mut out = FixedBitSet::with_capacity(self.shards.len());
        let places: Range<usize> = 0..self.shards.len();
        out.extend(places.filter(|shard| !self.shards[*shard].is_wanting()));
        out
    }

    fn next(&self, from: usize) -> Option<usize> {
        const BITS: usize = usize::BITS as usize;
        let words = self.unseen.as_slice().iter().enumerate().skip(from / BITS);
        let mut first = usize::MAX << (from % BITS);
        for (at, word) in words {
            let word = word & std::mem::replace(&mut first, usize::MAX);
            if word != 0 {
                return Some(at * BITS + word.trailing_zeros() as usize);
            }
        }
        None
    }

    fn change(&mut self, shard: usize, change: impl FnOnce(&mut Shard)) {
        let before = self.shards[shard];
        change(&mut self.shards[shard]);
        let after = self.shards[shard];
        self.unseen.set(shard, after.is_free());
        self.free = self.free + usize::from(after.is_free()) - usize::from(before.is_free());
        self.wanting = self.wanting + usize::from(after.is_wanting()) - usize::from(before.is_wanting());
    }
}
