//! Which shards are asked of which peer.

use super::{
    FetchPlan, Request,
    peer::{Have, Peer, ones},
    shards::Shards,
};
use crate::limits::{MANY_BLOBS, MANY_LEN};
use protocol::SHARD_LEN;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use std::{
    fmt::Debug,
    ops::Range,
    time::{Duration, Instant},
};

/// Blobs longer than one shard that are begun at once: each is an open file, and only a complete one is of use to a reader.
const OPEN_BLOBS_MAX: usize = 64;

/// Shards compared by rarity for one request. Further ones are left for another time: the search begins at a random place.
const COMPARED_MAX: u32 = 4096;

/// A request that ends sooner is left alone: what could be won is less than what may be wasted. In seconds.
const END_GAME: f64 = 1.0;

/// Pause between two looks for something that a peer may take over.
pub(super) const END_GAME_PAUSE: Duration = Duration::from_millis(500);

/// Which of the open shards are looked at.
#[derive(Clone, Copy)]
enum Class {
    First,
    Begun,
    Any,
}

impl Class {
    fn word(self, shards: &Shards, word: usize) -> usize {
        match self {
            Class::First => shards.first_word(word),
            Class::Begun => !shards.unbegun_word(word),
            Class::Any => usize::MAX,
        }
    }

    fn contains(self, shards: &Shards, shard: u32) -> bool {
        match self {
            Class::First => shards.is_first(shard),
            Class::Begun => !shards.is_unbegun(shard),
            Class::Any => true,
        }
    }
}

impl<P: Copy + Ord + Debug> FetchPlan<P> {
    /// Returns the next request there should be: the peer that is furthest below what should be under way at it, and shards
    /// for it; among equals the peer that was asked longest ago.
    pub(super) fn choose(&mut self, now: Instant) -> Option<(P, Range<u32>)> {
        if let Some(rescue) = self.rescue(now) {
            return Some(rescue);
        }
        while self.shards.open_count() > 0 {
            let Some(peer) = self.emptiest(now, |peer| !peer.dry) else {
                break;
            };
            if let Some(run) = self.pick(peer) {
                return Some((peer, run));
            }
            self.peers.get_mut(&peer)?.dry = true;
        }
        while !self.requests.is_empty() {
            let peer = self.emptiest(now, |peer| peer.end_game.is_some_and(|at| at <= now))?;
            let (run, again) = self.take_over(peer, now);
            if let Some(run) = run {
                return Some((peer, run));
            }
            self.peers.get_mut(&peer)?.end_game = again.then_some(now + END_GAME_PAUSE);
        }
        None
    }

    fn emptiest(&self, now: Instant, fits: impl Fn(&Peer) -> bool) -> Option<P> {
        let able = self
            .peers
            .iter()
            .filter(|(_, peer)| fits(peer) && peer.has_room() && peer.is_usable(now));
        able.min_by(|(_, a), (_, b)| a.load().total_cmp(&b.load()).then(a.asked.cmp(&b.asked)))
            .map(|(peer, _)| *peer)
    }

    /// Picks open shards for a peer: what a reader waits for, in its order; then the first ones; then the rarest.
    fn pick(&mut self, peer: P) -> Option<Range<u32>> {
        let peer = self.peers.get(&peer)?;
        let shards = &self.shards;
        for run in &self.reads {
            let mut open = run
                .clone()
                .filter(|shard| shards.is_open(*shard) && peer.have.has(*shard));
            if let Some(shard) = open.next() {
                let fits = |other: u32| other >= shard && other < run.end && peer.have.has(other);
                return Some(extend(shards, shard, peer.request_len(), fits));
            }
        }
        let most = if shards.begun() < OPEN_BLOBS_MAX {
            Class::Any
        } else {
            Class::Begun
        };
        for class in [Class::First, most, Class::Any] {
            if matches!(class, Class::First) && shards.first_missing() == 0 {
                continue;
            }
            if let Some(shard) = rarest(shards, &peer.have, class, &mut self.random) {
                // What many others have is not taken along from a peer that has something rare.
                let common = shards.copies(shard).saturating_mul(2).saturating_add(1);
                let fits = |other: u32| {
                    peer.have.has(other) && class.contains(shards, other) && shards.copies(other) <= common
                };
                return Some(extend(shards, shard, peer.request_len(), fits));
            }
        }
        None
    }

    /// Picks the shard that a reader waits for next, for the peer that would bring it first, if the one it was asked of is late.
    fn rescue(&mut self, now: Instant) -> Option<(P, Range<u32>)> {
        let shard = self.reads.front()?.start;
        let at = self.requests.values().find(|under| under.run.contains(&shard))?;
        let (end, slow) = (self.peers[&at.peer].end_in(now), at.peer);
        if self.shards.is_twice(shard) || end < END_GAME {
            return None;
        }
        let len = self.shards.map().len_of(shard..shard + 1);
        let able = self.peers.iter().filter(|(name, peer)| {
            **name != slow && peer.have.has(shard) && peer.has_room() && peer.is_usable(now)
        });
        let times = able.map(|(name, peer)| (*name, peer.seconds_for(len)));
        let (taker, own) = times.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        if own * 2.0 >= end {
            return None;
        }
        let of_shard = self
            .requests
            .values_mut()
            .filter(|under| under.run.contains(&shard));
        of_shard.for_each(|under| under.twinned = true);
        Some((taker, shard..shard + 1))
    }

    /// Picks shards for a peer out of the request of another that will end latest: the back half of what it has to bring. Only
    /// where this peer would be clearly sooner; also returns whether that may come by time alone.
    fn take_over(&mut self, taker: P, now: Instant) -> (Option<Range<u32>>, bool) {
        let peer = &self.peers[&taker];
        let mut best: Option<(f64, Request, Range<u32>)> = None;
        let mut again = false;
        for (request, under) in self.requests.iter().filter(|(_, under)| under.peer != taker) {
            let end = self.peers[&under.peer].end_in(now);
            if best.as_ref().is_some_and(|(latest, ..)| end <= *latest) {
                continue;
            }
            if let Some(run) = back_half(&self.shards, peer, under.run.clone()) {
                again = true;
                let own = peer.seconds_for(self.shards.map().len_of(run.clone()));
                if end >= END_GAME && own * 2.0 < end {
                    best = Some((end, *request, run));
                }
            }
        }
        let Some((_, request, run)) = best else {
            return (None, again);
        };
        self.requests
            .get_mut(&request)
            .expect("it was just found")
            .twinned = true;
        (Some(run), again)
    }
}

/// Finds an open shard that a peer has and as few others as possible; a random one among those.
fn rarest(shards: &Shards, have: &Have, class: Class, random: &mut StdRng) -> Option<u32> {
    let words = shards.words();
    let mut compared = 0;
    let mut fewest = u8::MAX;
    let mut equals = Vec::new();
    let start = random.random_range(0..words.max(1));
    for word in (start..words).chain(0..start) {
        let bits = shards.open_word(word) & have.word(word) & class.word(shards, word);
        for shard in ones(word, bits) {
            let copies = shards.copies(shard);
            if copies < fewest {
                fewest = copies;
                equals.clear();
            }
            if copies == fewest {
                equals.push(shard);
            }
        }
        compared += bits.count_ones();
        if compared >= COMPARED_MAX {
            break;
        }
    }
    equals.choose(random).copied()
}

/// Makes a request of at most `len` bytes around a shard, out of open neighbours that fit.
///
/// Within a blob longer than one shard it stays in an aligned block, so that what remains is not cut to pieces. Around a shorter
/// one it takes others of that kind.
fn extend(shards: &Shards, shard: u32, len: u64, fits: impl Fn(u32) -> bool) -> Range<u32> {
    let blobs = shards.map().blobs();
    let Some(at) = shards.map().blob_of(shard) else {
        return shard..shard + 1;
    };
    let fits = |other: u32| shards.is_open(other) && fits(other);
    if blobs[at].len > SHARD_LEN {
        let blob = blobs[at].shards();
        let block = 1u32 << (len / SHARD_LEN).clamp(1, 1 << 16).ilog2();
        let first = blob.start + (shard - blob.start) / block * block;
        let last = (first + block).min(blob.end);
        let start = (first..shard)
            .rev()
            .take_while(|other| fits(*other))
            .last()
            .unwrap_or(shard);
        let end = (shard + 1..last)
            .take_while(|other| fits(*other))
            .last()
            .unwrap_or(shard)
            + 1;
        return start..end;
    }
    let most = len.min(MANY_LEN);
    let (mut run, mut sum) = (shard..shard + 1, blobs[at].len);
    let mut small = |at: usize, run: &Range<u32>, next: u32, most: u64| {
        let len = blobs.get(at).map_or(u64::MAX, |blob| blob.len);
        let takes = len <= SHARD_LEN && sum + len <= most && run.len() < MANY_BLOBS && fits(next);
        sum += if takes { len } else { 0 };
        takes
    };
    let mut before = at;
    while before > 0 && small(before - 1, &run, run.start - 1, most / 2) {
        before -= 1;
        run.start -= 1;
    }
    let mut after = at + 1;
    while after < blobs.len() && small(after, &run, run.end, most) {
        after += 1;
        run.end += 1;
    }
    run
}

/// Returns the last adjacent shards of a run that are not here, that a peer has, and that only one request is for: at most half
/// of all such, rounded up, and a request's length for that peer.
fn back_half(shards: &Shards, peer: &Peer, run: Range<u32>) -> Option<Range<u32>> {
    let single = |shard: &u32| !shards.is_here(*shard) && !shards.is_twice(*shard);
    let fits = |shard: &u32| single(shard) && peer.have.has(*shard);
    let last = run.clone().rev().find(fits)?;
    let half = run.clone().filter(single).count().div_ceil(2);
    let mut len = 0;
    let first = (run.start..=last)
        .rev()
        .take_while(fits)
        .take(half)
        .take_while(|shard| {
            len += shards.map().len_of(*shard..shard + 1);
            *shard == last || len <= peer.request_len()
        });
    first.last().map(|first| first..last + 1)
}
