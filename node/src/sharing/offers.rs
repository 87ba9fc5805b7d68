//! Super-seeding: which shards a complete node shows to whom, so that it sends each once before it sends any twice. Pure: no
//! clock, no I/O, a seed for its choices.
//!
//! While no other complete member is there, each incomplete one is shown a few shards that nobody has, and gets new ones as it
//! asks for those; what they got they get from each other. Only when none is left to offer are shards shown that were sent
//! before, and when a first copy of each is out, everything is. What was shown cannot be taken back.
//!
//! Invariant: a shard that is offered or asked for is held by no member; `free` are the shards that nobody has, asks for or is
//! offered; `wanting` counts those that nobody has and that were not sent.

mod ledger;

use crate::runs;
use fixedbitset::FixedBitSet;
use ledger::{Ledger, NOBODY, Step};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

/// First copies that a member is shown or asked for and was not sent, at least: one on its way, and one to be asked for.
const WINDOW: usize = 2;
/// The same of all members together, at least: enough for the source's line where there are few. More only makes them wait
/// longer for each other's.
const WINDOW_ALL: usize = 16;
/// Most shards of one offer: what a member asks for in one request.
const BLOCK_MAX: usize = 16;
/// How long who comes first is shown no more than others would be: in a flash crowd these are there a moment later, and what
/// was shown cannot be taken back.
const ALONE: Duration = Duration::from_millis(200);
/// How long a member may ask for nothing of what it is offered. It may want only some files, or be gone.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a member may take nothing of what it asked for before its first copies are somebody else's.
const STALL: Duration = Duration::from_secs(30);
/// Shards that a member may have asked for and not been sent, that count as its own. Who asks for all at once gets no more.
const CLAIMS_MAX: usize = 64;
/// A first copy that was asked for is on its way as long as its member was sent one so lately.
const MOVES: Duration = Duration::from_secs(2);
/// Pause between two looks at what else can be shown when no unseen shard is left: each costs a pass over all shards.
const OPEN_PAUSE: Duration = Duration::from_millis(100);
/// The span over which we count what a member takes.
const TAKEN_SPAN: Duration = Duration::from_millis(500);

/// What a member is to be shown now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Show {
    /// All shards.
    Everything,
    /// These.
    Shards(Vec<Range<u32>>),
}

/// Who has what, and what we show to whom.
pub(super) struct Offers<P> {
    count: u32,
    members: BTreeMap<P, Member>,
    /// There while we have every shard.
    ledger: Option<Ledger>,
    opened: Option<Instant>,
    random: StdRng,
}

struct Member {
    slot: u8,
    joined: Instant,
    has: FixedBitSet,
    held: usize,
    /// It was shown everything.
    all: bool,
    /// It asked for first copies and did not take them: its asking counts for nothing.
    stalled: bool,
    shown: FixedBitSet,
    /// Shards offered to it that it has not asked for.
    waiting: usize,
    /// Shards it asked for as a first copy that were not sent.
    claimed: usize,
    /// When it last asked for another first copy, was sent one, or was offered one with nothing under way.
    heard: Instant,
    /// When it was last sent a first copy, or asked for one with nothing under way.
    moved: Instant,
    taken: Taken,
}

/// First copies that a member was sent in the last [`TAKEN_SPAN`] and the one before.
struct Taken {
    since: Instant,
    now: usize,
    before: usize,
}

impl Taken {
    fn add(&mut self, shards: usize, now: Instant) {
        self.turn(now);
        self.now += shards;
    }

    fn turn(&mut self, now: Instant) {
        let spans = now.saturating_duration_since(self.since).as_millis() / TAKEN_SPAN.as_millis();
        if spans > 0 {
            self.before = if spans == 1 { self.now } else { 0 };
            (self.now, self.since) = (0, now);
        }
    }

    fn recent(&mut self, now: Instant) -> usize {
        self.turn(now);
        self.now + self.before
    }
}

impl Member {
    /// First copies that it should be shown or have asked for: what it takes in about a second, and enough to begin with.
    fn window(&mut self, members: usize, now: Instant) -> usize {
        let least = (WINDOW_ALL / members.max(1)).max(WINDOW);
        self.taken.recent(now).max(least)
    }
}

impl<P: Copy + Ord> Offers<P> {
    /// No members yet, of a manifest with `count` shards; `seed` is for the choices.
    pub(super) fn new(count: u32, seed: u64) -> Offers<P> {
        Offers {
            count,
            members: BTreeMap::new(),
            ledger: None,
            opened: None,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// From now on we have every shard. Those who are members already were told of everything.
    pub(super) fn begin(&mut self) {
        if self.ledger.is_some() {
            return;
        }
        let mut ledger = Ledger::new(self.count);
        for member in self.members.values_mut() {
            member.all = true;
            member.has.ones().for_each(|shard| ledger.hold(shard));
        }
        self.ledger = Some(ledger);
    }

    /// A member comes, with nothing. There are at most 64; `false` when it is one already.
    pub(super) fn join(&mut self, peer: P, now: Instant) -> bool {
        if self.members.contains_key(&peer) {
            return false;
        }
        let taken = |slot: &u8| self.members.values().any(|member| member.slot == *slot);
        let slot = (0..NOBODY).find(|slot| !taken(slot)).unwrap_or(NOBODY);
        let none = || FixedBitSet::with_capacity(self.count as usize);
        let member = Member {
            slot,
            joined: now,
            has: none(),
            held: 0,
            all: false,
            stalled: false,
            shown: none(),
            waiting: 0,
            claimed: 0,
            heard: now,
            moved: now,
            taken: Taken {
                since: now,
                now: 0,
                before: 0,
            },
        };
        self.members.insert(peer, member);
        true
    }

    /// A member goes: what was offered or sent to it only is nobody's again.
    pub(super) fn leave(&mut self, peer: P) {
        let Some(member) = self.members.remove(&peer) else {
            return;
        };
        if let Some(ledger) = &mut self.ledger {
            member.has.ones().for_each(|shard| ledger.lose(shard));
            ledger.forget(member.slot, true);
        }
    }

    /// A member says that it has these shards. Returns those we did not know of.
    pub(super) fn has(&mut self, peer: P, run: Range<u32>) -> Vec<Range<u32>> {
        let Some(member) = self.members.get_mut(&peer) else {
            return Vec::new();
        };
        let run = run.start..run.end.min(self.count);
        let found = runs::outside(&member.has, run.clone());
        member.has.insert_range(runs::span(&run));
        member.held += found.iter().map(Range::len).sum::<usize>();
        let Some(ledger) = &mut self.ledger else {
            return found;
        };
        for shard in found.iter().cloned().flatten().map(|shard| shard as usize) {
            let (step, slot) = ledger.place(shard);
            ledger.hold(shard);
            settle(&mut self.members, step, slot);
        }
        found
    }

    /// A member asks us for these shards. Returns whether one of them is a first copy: one that nobody has and that was sent to
    /// nobody.
    pub(super) fn asked(&mut self, peer: P, run: Range<u32>, now: Instant) -> bool {
        let seeding = self.is_seeding(now);
        let (Some(member), Some(ledger)) = (self.members.get(&peer), &mut self.ledger) else {
            return false;
        };
        let (own, mut room) = (member.slot, CLAIMS_MAX.saturating_sub(member.claimed));
        if member.stalled {
            return false;
        }
        let (mut first, mut claims) = (false, 0);
        for shard in runs::span(&(run.start..run.end.min(self.count))) {
            match ledger.place(shard) {
                (Step::Asked, slot) => first |= slot == own,
                (step @ (Step::Unseen | Step::Offered), slot) if !ledger.is_held(shard) && room > 0 => {
                    ledger.put(shard, Step::Asked, own);
                    settle(&mut self.members, step, slot);
                    (room, claims, first) = (room - 1, claims + 1, true);
                }
                _ => {}
            }
        }
        if let Some(member) = self.members.get_mut(&peer).filter(|_| claims > 0) {
            if member.claimed == 0 {
                member.moved = now;
            }
            member.claimed += claims;
            member.heard = now;
        }
        first && seeding
    }

    /// A member was sent these shards in full.
    pub(super) fn sent(&mut self, peer: P, run: Range<u32>, now: Instant) {
        let (Some(own), Some(ledger)) = (
            self.members.get(&peer).map(|member| member.slot),
            &mut self.ledger,
        ) else {
            return;
        };
        let mut taken = 0;
        for shard in runs::span(&(run.start..run.end.min(self.count))) {
            let (step, slot) = ledger.place(shard);
            if step != Step::Sent && !ledger.is_held(shard) {
                ledger.put(shard, Step::Sent, own);
                settle(&mut self.members, step, slot);
                taken += 1;
            }
        }
        if let Some(member) = self.members.get_mut(&peer).filter(|_| taken > 0) {
            (member.heard, member.moved, member.stalled) = (now, now, false);
            member.taken.add(taken, now);
        }
    }

    /// Returns what members are to be shown now. To be called after each change, and a few times a second while
    /// [`Offers::is_holding_back`].
    pub(super) fn step(&mut self, now: Instant) -> Vec<(P, Show)> {
        if self.ledger.is_none() {
            return Vec::new();
        }
        let mut shows = Vec::new();
        if !self.is_seeding(now) {
            let peers: Vec<P> = self.members.keys().copied().collect();
            peers.into_iter().for_each(|peer| self.show_all(peer, &mut shows));
            return shows;
        }
        self.judge(now, &mut shows);
        let peers: Vec<P> = self.members.keys().copied().collect();
        for peer in &peers {
            let offered = self.fill(*peer, now);
            if !offered.is_empty() {
                shows.push((*peer, Show::Shards(offered)));
            }
        }
        if self.opened.is_none_or(|at| now >= at + OPEN_PAUSE) {
            self.open(now, &mut shows);
        }
        shows
    }

    /// Whether we hold anything back from anybody.
    pub(super) fn is_holding_back(&self) -> bool {
        self.ledger.is_some() && self.members.values().any(|member| !member.all)
    }

    /// Whether there is a crowd to hold anything back from, or who came first may be the first of one.
    fn is_seeding(&self, now: Instant) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        let all = self.count as usize;
        let crowd = match self.members.values().next() {
            Some(first) if self.members.len() == 1 => {
                self.count as usize > WINDOW_ALL && now < first.joined + ALONE
            }
            Some(_) => true,
            None => false,
        };
        crowd && ledger.wanting() > 0 && self.members.values().all(|member| member.held < all)
    }

    /// The shards that a member says it has; `None` for strangers.
    pub(super) fn held(&self, peer: &P) -> Option<&FixedBitSet> {
        self.members.get(peer).map(|member| &member.has)
    }

    /// Whether a member says that it has every shard.
    pub(super) fn is_complete(&self, peer: &P) -> bool {
        self.members
            .get(peer)
            .is_some_and(|member| member.held == self.count as usize)
    }

    /// What a member was shown, all of it, to be said again on another stream.
    pub(super) fn shown(&self, peer: &P) -> Option<Show> {
        let member = self.members.get(peer)?;
        Some(match member.all {
            true => Show::Everything,
            false => Show::Shards(runs::of(&member.shown).collect()),
        })
    }

    /// Gives up on members that ask for nothing, or do not take what they asked for.
    fn judge(&mut self, now: Instant, shows: &mut Vec<(P, Show)>) {
        let silent: Vec<P> = self
            .members
            .iter()
            .filter(|(_, member)| {
                let since = |at| now.saturating_duration_since(at);
                match member.claimed {
                    0 => member.waiting > 0 && since(member.heard) >= SILENCE,
                    _ => since(member.moved) >= STALL,
                }
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in silent {
            if let (Some(member), Some(ledger)) = (self.members.get_mut(&peer), &mut self.ledger) {
                member.stalled |= member.claimed > 0;
                (member.claimed, member.waiting) = (0, 0);
                ledger.forget(member.slot, false);
            }
            self.show_all(peer, shows);
        }
    }

    fn show_all(&mut self, peer: P, shows: &mut Vec<(P, Show)>) {
        if let Some(member) = self.members.get_mut(&peer).filter(|member| !member.all) {
            member.all = true;
            shows.push((peer, Show::Everything));
        }
    }

    /// Offers unseen shards to a member until its window is full; returns those that it was not shown before.
    fn fill(&mut self, peer: P, now: Instant) -> Vec<Range<u32>> {
        let members = self.members.len();
        let (Some(member), Some(ledger)) = (self.members.get_mut(&peer), &mut self.ledger) else {
            return Vec::new();
        };
        let window = member.window(members, now);
        let mut offered: Vec<Range<u32>> = Vec::new();
        while !member.all && member.waiting + member.claimed < window && ledger.free() > 0 {
            if member.waiting == 0 && member.claimed == 0 {
                member.heard = now;
            }
            // Near the end a small block each, so that all have something to give to the others.
            let share = (ledger.free() / (2 * members)).clamp(1, BLOCK_MAX.min(window));
            let block = 1 << share.ilog2();
            let from = self.random.random_range(0..self.count as usize);
            for shard in ledger.pick(from, block) {
                ledger.put(shard, Step::Offered, member.slot);
                member.waiting += 1;
                if !member.shown.put(shard) {
                    let shard = shard as u32;
                    runs::push(&mut offered, shard..shard + 1);
                }
            }
        }
        offered
    }

    /// Shows what others got to those who have room, when no unseen shard is left.
    fn open(&mut self, now: Instant, shows: &mut Vec<(P, Show)>) {
        let Some(ledger) = self.ledger.as_ref().filter(|ledger| ledger.free() == 0) else {
            return;
        };
        self.opened = Some(now);
        // A first copy on its way is worth more than any second one: both share the line.
        let moves = |member: &Member| member.claimed > 0 && now < member.moved + MOVES;
        if self.members.values().any(moves) {
            return;
        }
        let (out, members) = (ledger.out(), self.members.len());
        for (peer, member) in &mut self.members {
            if member.all || member.waiting + member.claimed >= member.window(members, now) {
                continue;
            }
            let mut new = out.clone();
            new.difference_with(&member.shown);
            new.difference_with(&member.has);
            if !new.is_clear() {
                member.shown.union_with(&new);
                shows.push((*peer, Show::Shards(runs::of(&new).collect())));
            }
        }
    }
}

/// A shard that was offered to, or asked for by, the member in this slot is so no longer.
fn settle<P: Ord>(members: &mut BTreeMap<P, Member>, step: Step, slot: u8) {
    if matches!(step, Step::Unseen | Step::Sent) {
        return;
    }
    if let Some(member) = members.values_mut().find(|member| member.slot == slot) {
        let count = if step == Step::Offered {
            &mut member.waiting
        } else {
            &mut member.claimed
        };
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
