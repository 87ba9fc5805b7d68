//! The shards of a fetch, a bit each for all that is known of them, and how many peers have each.
//!
//! Every count is kept as it changes, so that asking for one costs nothing; what has to be searched is searched a word at a time.

use super::view::Amount;
use crate::runs;
use fixedbitset::FixedBitSet;
use protocol::{SHARD_LEN, ShardMap};
use std::{ops::Range, sync::Arc};

/// Bits in a word of a bitmap.
pub(super) const WORD: usize = usize::BITS as usize;

/// What is wanted, here and asked for.
pub(super) struct Shards {
    map: Arc<ShardMap>,
    wanted: FixedBitSet,
    here: FixedBitSet,
    /// Wanted before the others.
    first: FixedBitSet,
    /// Wanted, not here, and asked of nobody.
    open: FixedBitSet,
    open_count: u32,
    /// Part of a request under way.
    asked: FixedBitSet,
    /// Part of two.
    twice: FixedBitSet,
    /// Of a blob longer than one shard, of which nothing is here or was asked for.
    unbegun: FixedBitSet,
    /// Blobs longer than one shard that were begun and are not complete.
    begun: usize,
    /// Shards of each blob that are not here.
    absent: Vec<u32>,
    /// Peers that have a shard, and not every shard. There are fewer peers than a `u8` counts.
    copies: Vec<u8>,
    /// Peers that have every shard.
    complete: u32,
    /// Missing shards with no copy.
    bare: u32,
    first_missing: u32,
    total: Amount,
    missing: Amount,
}

impl Shards {
    pub(super) fn new(map: Arc<ShardMap>) -> Shards {
        let count = map.count() as usize;
        let mut unbegun = FixedBitSet::with_capacity(count);
        for blob in map.blobs().iter().filter(|blob| blob.len > SHARD_LEN) {
            unbegun.insert_range(runs::span(&blob.shards()));
        }
        let bits = || FixedBitSet::with_capacity(count);
        Shards {
            wanted: bits(),
            here: bits(),
            first: bits(),
            open: bits(),
            open_count: 0,
            asked: bits(),
            twice: bits(),
            unbegun,
            begun: 0,
            absent: map
                .blobs()
                .iter()
                .map(|blob| blob.shards().len() as u32)
                .collect(),
            copies: vec![0; count],
            complete: 0,
            bare: 0,
            first_missing: 0,
            total: Amount::default(),
            missing: Amount::default(),
            map,
        }
    }

    pub(super) fn map(&self) -> &ShardMap {
        &self.map
    }

    /// Cuts off what lies past the last shard.
    pub(super) fn clip(&self, run: Range<u32>) -> Range<u32> {
        run.start.min(self.map.count())..run.end.min(self.map.count())
    }

    pub(super) fn is_here(&self, shard: u32) -> bool {
        self.here.contains(shard as usize)
    }

    pub(super) fn is_open(&self, shard: u32) -> bool {
        self.open.contains(shard as usize)
    }

    pub(super) fn is_first(&self, shard: u32) -> bool {
        self.first.contains(shard as usize)
    }

    pub(super) fn is_unbegun(&self, shard: u32) -> bool {
        self.unbegun.contains(shard as usize)
    }

    pub(super) fn is_twice(&self, shard: u32) -> bool {
        self.twice.contains(shard as usize)
    }

    /// Peers that have this shard and not all of them: what rarity is compared by.
    pub(super) fn copies(&self, shard: u32) -> u8 {
        self.copies[shard as usize]
    }

    pub(super) fn open_count(&self) -> u32 {
        self.open_count
    }

    pub(super) fn first_missing(&self) -> u32 {
        self.first_missing
    }

    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    /// Words of a bitmap.
    pub(super) fn words(&self) -> usize {
        self.open.as_slice().len()
    }

    pub(super) fn open_word(&self, word: usize) -> usize {
        self.open.as_slice()[word]
    }

    pub(super) fn first_word(&self, word: usize) -> usize {
        self.first.as_slice()[word]
    }

    pub(super) fn unbegun_word(&self, word: usize) -> usize {
        self.unbegun.as_slice()[word]
    }

    pub(super) fn total(&self) -> Amount {
        self.total
    }

    pub(super) fn missing(&self) -> Amount {
        self.missing
    }

    /// Missing shards that no peer has.
    pub(super) fn unprovided(&self) -> u32 {
        if self.complete > 0 { 0 } else { self.bare }
    }

    /// Shards of a run that are not here.
    pub(super) fn left(&self, run: &Range<u32>) -> u32 {
        run.clone().filter(|shard| !self.is_here(*shard)).count() as u32
    }

    /// Wants a run. Returns whether something of it became open.
    pub(super) fn want(&mut self, run: Range<u32>, first: bool) -> bool {
        let before = self.open_count;
        for (_, piece) in self.pieces(run) {
            for shard in piece {
                let absent = !self.is_here(shard);
                if first && !self.first.put(shard as usize) && absent {
                    self.first_missing += 1;
                }
                if !self.wanted.put(shard as usize) {
                    let len = self.map.len_of(shard..shard + 1);
                    self.total.add(len);
                    if absent {
                        self.missing_grew(shard, len);
                    }
                }
            }
        }
        self.open_count > before
    }

    /// A run is here. Returns those of its shards of which that is new.
    pub(super) fn landed(&mut self, run: Range<u32>) -> Vec<Range<u32>> {
        let mut new = Vec::new();
        for (blob, piece) in self.pieces(run) {
            for shard in piece {
                if !self.here.put(shard as usize) {
                    self.arrived(blob, shard);
                    runs::push(&mut new, shard..shard + 1);
                }
            }
        }
        new
    }

    /// A run is not here after all. Returns those of its shards of which that is new.
    pub(super) fn lost(&mut self, run: Range<u32>) -> Vec<Range<u32>> {
        let mut new = Vec::new();
        for (blob, piece) in self.pieces(run) {
            for shard in piece {
                if self.is_here(shard) {
                    self.here.remove(shard as usize);
                    self.vanished(blob, shard);
                    runs::push(&mut new, shard..shard + 1);
                }
            }
        }
        new
    }

    fn arrived(&mut self, blob: usize, shard: u32) {
        self.begin(shard);
        self.absent[blob] -= 1;
        if self.absent[blob] == 0 && self.map.blobs()[blob].len > SHARD_LEN {
            self.begun -= 1;
        }
        if self.wanted.contains(shard as usize) {
            self.missing.sub(self.map.len_of(shard..shard + 1));
            self.bare -= u32::from(self.copies[shard as usize] == 0);
            self.first_missing -= u32::from(self.is_first(shard));
            self.close(shard);
        }
    }

    fn vanished(&mut self, blob: usize, shard: u32) {
        if self.absent[blob] == 0 && self.map.blobs()[blob].len > SHARD_LEN {
            self.begun += 1;
        }
        self.absent[blob] += 1;
        if self.wanted.contains(shard as usize) {
            self.first_missing += u32::from(self.is_first(shard));
            self.missing_grew(shard, self.map.len_of(shard..shard + 1));
        }
    }

    /// A run goes into a request.
    pub(super) fn ask(&mut self, run: Range<u32>) {
        for shard in run {
            if self.asked.put(shard as usize) {
                self.twice.insert(shard as usize);
            }
            self.begin(shard);
            self.close(shard);
        }
    }

    /// A request for a run is over. Returns whether something of it became open.
    pub(super) fn unask(&mut self, run: Range<u32>) -> bool {
        let before = self.open_count;
        for shard in run {
            if self.twice.contains(shard as usize) {
                self.twice.remove(shard as usize);
            } else {
                self.asked.remove(shard as usize);
                self.open_if_missing(shard);
            }
        }
        self.open_count > before
    }

    /// One more peer that does not have everything has this shard, or one less.
    pub(super) fn copy(&mut self, shard: u32, more: bool) {
        let copies = &mut self.copies[shard as usize];
        let bare = *copies == 0;
        *copies = if more { *copies + 1 } else { *copies - 1 };
        let is_bare = *copies == 0;
        if bare != is_bare && self.wanted.contains(shard as usize) && !self.is_here(shard) {
            self.bare = if is_bare { self.bare + 1 } else { self.bare - 1 };
        }
    }

    /// One more peer has everything, or one less.
    pub(super) fn complete(&mut self, more: bool) {
        self.complete = if more {
            self.complete + 1
        } else {
            self.complete - 1
        };
    }

    /// Cuts a run by the blobs it lies in.
    pub(super) fn pieces(&self, run: Range<u32>) -> impl Iterator<Item = (usize, Range<u32>)> + use<> {
        let map = self.map.clone();
        let run = self.clip(run);
        let begin = map.blob_of(run.start).unwrap_or(map.blobs().len());
        (begin..map.blobs().len()).map_while(move |at| {
            let blob = map.blobs()[at].shards();
            let piece = blob.start.max(run.start)..blob.end.min(run.end);
            (piece.start < piece.end).then_some((at, piece))
        })
    }

    /// A wanted shard is missing from now on.
    fn missing_grew(&mut self, shard: u32, len: u64) {
        self.missing.add(len);
        self.bare += u32::from(self.copies[shard as usize] == 0);
        self.open_if_missing(shard);
    }

    fn open_if_missing(&mut self, shard: u32) {
        let shard = shard as usize;
        let missing =
            self.wanted.contains(shard) && !self.here.contains(shard) && !self.asked.contains(shard);
        if missing && !self.open.put(shard) {
            self.open_count += 1;
        }
    }

    fn close(&mut self, shard: u32) {
        if self.is_open(shard) {
            self.open.remove(shard as usize);
            self.open_count -= 1;
        }
    }

    /// The blob of this shard is begun, if it is longer than one.
    fn begin(&mut self, shard: u32) {
        if self.unbegun.contains(shard as usize)
            && let Some(blob) = self.map.blob_of(shard)
        {
            let shards = self.map.blobs()[blob].shards();
            self.unbegun.remove_range(runs::span(&shards));
            self.begun += 1;
        }
    }
}
