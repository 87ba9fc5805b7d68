//! What one member is still to be told. Not a queue: whatever comes before the writer looks is told at once, so that a member
//! that does not read costs one bit a shard.

use super::{offers::Show, shards::frames};
use crate::runs::span;
use fixedbitset::FixedBitSet;
use protocol::SwarmTell;
use std::ops::Range;

/// The outgoing side of a session.
pub(super) struct Outbox {
    /// The first answer was not given yet.
    answer: bool,
    all: All,
    shards: FixedBitSet,
    newcomers: bool,
}

#[derive(PartialEq)]
enum All {
    No,
    Due,
    Told,
}

/// What is to be written now.
pub(super) struct Batch {
    /// The messages, in order; the first one is the answer where one is due.
    pub(super) frames: Vec<SwarmTell>,
    /// Other members came since the last batch.
    pub(super) newcomers: bool,
}

impl Outbox {
    /// Nothing is due but the answer, where the member opened the stream.
    pub(super) fn new(count: u32, answer: bool) -> Outbox {
        Outbox {
            answer,
            all: All::No,
            shards: FixedBitSet::with_capacity(count as usize),
            newcomers: true,
        }
    }

    /// Adds what the member is to be shown.
    pub(super) fn show(&mut self, show: &Show) {
        match show {
            Show::Everything if self.all == All::No => self.all = All::Due,
            Show::Everything => {}
            Show::Shards(runs) => runs.iter().for_each(|run| self.add(run)),
        }
    }

    /// Adds a run of shards.
    pub(super) fn add(&mut self, run: &Range<u32>) {
        if self.all == All::No {
            self.shards.insert_range(span(run));
        }
    }

    /// Adds a set of shards.
    pub(super) fn add_all(&mut self, shards: &FixedBitSet) {
        if self.all == All::No {
            self.shards.union_with(shards);
        }
    }

    /// Somebody came whom the member may want to know.
    pub(super) fn newcomer(&mut self) {
        self.newcomers = true;
    }

    /// Takes out all that is due.
    pub(super) fn take(&mut self) -> Batch {
        let answer = std::mem::take(&mut self.answer);
        let mut due = Vec::new();
        match self.all {
            All::Due => {
                self.all = All::Told;
                due.push(SwarmTell::Everything);
            }
            All::No | All::Told => {
                if answer {
                    let (first, bits) = (0, Vec::new());
                    due.push(SwarmTell::Bits { first, bits });
                }
                due.extend(frames(&self.shards));
            }
        }
        self.shards.clear();
        Batch {
            frames: due,
            newcomers: std::mem::take(&mut self.newcomers),
        }
    }
}
