//! What all sessions about one manifest share: what we have, who takes part, what each is still to be told.
//!
//! One lock, held for short sums only. Invariant: whoever has a seat is a member of `offers`, and nobody else is.

use super::{
    Fact,
    offers::{Offers, Show},
    outbox::{Batch, Outbox},
};
use crate::{limits::MEMBERS_MAX, runs, store::Part};
use fixedbitset::FixedBitSet;
use libp2p::PeerId;
use protocol::{Hash, SHARD_LEN, ShardMap, SwarmTell, shard::shards_covering};
use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};

/// How long a crowd that nobody is in keeps its manifest: a peer that looked whether we take part comes back soon.
const EMPTY_KEPT: Duration = Duration::from_secs(10);
/// Growing files of one manifest that are kept open without a fetch: two open files each.
pub(super) const PARTS_MAX: usize = 16;
/// Peers that are being met at once.
const MEETING_MAX: usize = MEMBERS_MAX;
/// Bytes of memory for a blob in a map of shards, about.
const BLOB_WEIGHT: usize = 128;
/// Bytes of memory for a shard, of all that counts shards, about.
const SHARD_WEIGHT: usize = 4;

/// Where facts go, if a fetch is there to hear them.
pub(super) type Facts = Option<mpsc::Sender<Fact>>;

/// The crowd of one manifest.
pub(super) struct Gathering {
    /// Which.
    pub(super) manifest: Hash,
    /// Its shards.
    pub(super) map: Arc<ShardMap>,
    us: PeerId,
    state: Mutex<State>,
    parts: Mutex<Vec<Arc<Part>>>,
}

struct State {
    /// Nobody may come any more.
    closed: bool,
    have: FixedBitSet,
    complete: bool,
    offers: Offers<PeerId>,
    seats: BTreeMap<PeerId, Seat>,
    meeting: HashSet<PeerId>,
    fetch: Option<(u64, mpsc::Sender<Fact>)>,
    /// When the last member left; `None`: nobody is expected back.
    left: Option<Instant>,
}

/// A member's session.
struct Seat {
    number: u64,
    opener: PeerId,
    outbox: Outbox,
    wake: Arc<Notify>,
    since: Instant,
}

/// A seat that was taken: what its session waits for, and what the fetch is to hear.
pub(super) struct Seated {
    /// Wakes the session's writer.
    pub(super) wake: Arc<Notify>,
    /// Who is to hear of it.
    pub(super) facts: Facts,
    /// What.
    pub(super) news: Vec<Fact>,
}

impl Gathering {
    /// Nobody is there yet; `have` are the shards we have.
    pub(super) fn new(
        manifest: Hash,
        map: Arc<ShardMap>,
        us: PeerId,
        have: FixedBitSet,
        seed: u64,
    ) -> Gathering {
        let mut state = State {
            closed: false,
            complete: false,
            offers: Offers::new(map.count(), seed),
            seats: BTreeMap::new(),
            meeting: HashSet::new(),
            fetch: None,
            left: Some(Instant::now()),
            have,
        };
        state.look();
        Gathering {
            manifest,
            map,
            us,
            state: Mutex::new(state),
            parts: Mutex::default(),
        }
    }

    /// Keeps growing files open that no fetch takes care of any more: we have shards of them.
    pub(super) fn hold(&self, parts: impl IntoIterator<Item = Arc<Part>>) {
        let parts = parts.into_iter().take(PARTS_MAX).collect();
        *self.parts.lock().expect("nothing panics while it holds this") = parts;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this")
    }

    /// Bytes of memory that this takes, about, beside its members.
    pub(super) fn weight(&self) -> usize {
        self.map.blobs().len() * BLOB_WEIGHT + self.map.count() as usize * SHARD_WEIGHT
    }

    /// Lets a fetch in, numbered `entry`, that has `have`. What is known of the members is told at once.
    /// `None`: this is closed, or told of more than `have`, and so cannot be the fetch's.
    pub(super) fn enter(&self, entry: u64, have: &FixedBitSet, room: usize) -> Option<mpsc::Receiver<Fact>> {
        let mut state = self.state();
        if state.closed || !state.have.is_subset(have) {
            return None;
        }
        let (facts, heard) = mpsc::channel(room);
        for peer in state.seats.keys() {
            for fact in state.known(peer) {
                // Two facts a member: the channel holds them all.
                let _ = facts.try_send(fact);
            }
        }
        state.fetch = Some((entry, facts));
        runs::of(have).for_each(|run| state.got(&run));
        state.look();
        Some(heard)
    }

    /// The fetch numbered `entry` is over; nothing happens when another one took its place.
    pub(super) fn part(&self, entry: u64) {
        let mut state = self.state();
        if state.fetch.as_ref().is_some_and(|(number, _)| *number == entry) {
            (state.fetch, state.left) = (None, None);
        }
    }

    /// We have these shards now.
    pub(super) fn got(&self, run: &Range<u32>) {
        let mut state = self.state();
        let run = run.start..run.end.min(self.map.count());
        state.got(&run);
        state.look();
    }

    /// We have every shard now.
    pub(super) fn complete(&self) {
        self.got(&(0..self.map.count()));
    }

    /// Whether we have every shard.
    pub(super) fn is_complete(&self) -> bool {
        self.state().complete
    }

    /// Whether a fetch is here.
    pub(super) fn is_fetching(&self) -> bool {
        self.state().fetch.is_some()
    }

    /// The members.
    pub(super) fn members(&self) -> Vec<PeerId> {
        self.state().seats.keys().copied().collect()
    }

    /// Whether a peer is a member; `then` runs before that can change.
    pub(super) fn with_seat<T>(&self, peer: &PeerId, then: impl FnOnce(bool) -> T) -> T {
        let state = self.state();
        then(state.seats.contains_key(peer))
    }

    /// Marks a peer as being met. `false`: it is a member, or is being met, or there are enough.
    pub(super) fn meet(&self, peer: PeerId) -> bool {
        let mut state = self.state();
        peer != self.us
            && state.fetch.is_some()
            && !state.seats.contains_key(&peer)
            && state.seats.len() < MEMBERS_MAX
            && state.meeting.len() < MEETING_MAX
            && state.meeting.insert(peer)
    }

    /// A peer is being met no longer.
    pub(super) fn met(&self, peer: &PeerId) {
        self.state().meeting.remove(peer);
    }

    /// Seats a peer whose session, opened by `opener`, is numbered `number`.
    ///
    /// `None`: there is no room, or the peer has a session that is to be kept. Of two that both opened, that of the smaller id
    /// is; of two that one opened, the newer.
    pub(super) fn seat(&self, peer: PeerId, opener: PeerId, number: u64) -> Option<Seated> {
        let mut state = self.state();
        let now = Instant::now();
        if state.closed || peer == self.us {
            return None;
        }
        match state.seats.get(&peer) {
            Some(old) if old.opener != opener && old.opener < opener => return None,
            Some(old) => old.wake.notify_one(),
            None if state.seats.len() >= MEMBERS_MAX => state.dismiss()?,
            None => {}
        }
        let mut outbox = Outbox::new(self.map.count(), opener != self.us);
        state.offers.join(peer, now);
        match state.complete {
            true => state
                .offers
                .shown(&peer)
                .iter()
                .for_each(|show| outbox.show(show)),
            false => outbox.add_all(&state.have),
        }
        let wake = Arc::new(Notify::new());
        let seat = Seat {
            number,
            opener,
            outbox,
            wake: Arc::clone(&wake),
            since: now,
        };
        state.seats.insert(peer, seat);
        state.step(now);
        for (_, other) in state.seats.iter_mut().filter(|(other, _)| **other != peer) {
            other.outbox.newcomer();
            other.wake.notify_one();
        }
        Some(Seated {
            wake,
            facts: state.facts(),
            news: state.known(&peer).collect(),
        })
    }

    /// A session ended; returns who is to hear that the member left. `None`: it has another session, or left before.
    pub(super) fn leave(&self, peer: &PeerId, number: u64) -> Option<Facts> {
        let mut state = self.state();
        if state.seats.get(peer)?.number != number {
            return None;
        }
        state.rise(peer);
        Some(state.facts())
    }

    /// Takes what a session is to write now. `None`: it is to end.
    pub(super) fn take(&self, peer: &PeerId, number: u64) -> Option<Batch> {
        let mut state = self.state();
        let seat = state.seats.get_mut(peer).filter(|seat| seat.number == number)?;
        Some(seat.outbox.take())
    }

    /// A member says that it has these shards; returns the part that is news, and who is to hear it.
    pub(super) fn has(&self, peer: PeerId, told: &[Range<u32>]) -> (Facts, Vec<Range<u32>>) {
        let mut state = self.state();
        let news: Vec<Range<u32>> = told
            .iter()
            .flat_map(|run| state.offers.has(peer, run.clone()))
            .collect();
        if !news.is_empty() {
            state.step(Instant::now());
        }
        (state.facts(), news)
    }

    /// A member asks us for bytes of a blob; whether that is a first copy of a shard.
    pub(super) fn asked(&self, peer: PeerId, blob: Hash, bytes: &Range<u64>) -> bool {
        let Some(blob) = self.map.find(blob).map(|at| self.map.blobs()[at]) else {
            return false;
        };
        let run = shards_covering(blob.len, bytes.clone());
        let (mut state, now) = (self.state(), Instant::now());
        let first = state
            .offers
            .asked(peer, blob.first + run.start..blob.first + run.end, now);
        state.step(now);
        first
    }

    /// A member was sent bytes of a blob in full.
    pub(super) fn sent(&self, peer: PeerId, blob: Hash, bytes: &Range<u64>) {
        let Some(blob) = self.map.find(blob).map(|at| self.map.blobs()[at]) else {
            return;
        };
        let covered = shards_covering(blob.len, bytes.clone());
        // Only whole shards: whoever got a part of one cannot give it on.
        let end = if bytes.end < blob.len {
            (bytes.end / SHARD_LEN) as u32
        } else {
            covered.end
        };
        let first = bytes.start.div_ceil(SHARD_LEN).min(u64::from(end)) as u32;
        let (mut state, now) = (self.state(), Instant::now());
        state.offers.sent(peer, blob.first + first..blob.first + end, now);
        state.step(now);
    }

    /// Looks at the clock.
    pub(super) fn tick(&self, now: Instant) {
        let mut state = self.state();
        if state.offers.is_holding_back() {
            state.step(now);
        }
    }

    /// Ends all sessions, and lets nobody in again; `then` runs before that can be seen.
    pub(super) fn close(&self, then: impl FnOnce()) {
        let mut state = self.state();
        state.closed = true;
        state.fetch = None;
        for seat in std::mem::take(&mut state.seats).into_values() {
            seat.wake.notify_one();
        }
        then();
    }

    /// Closes this if nobody has been here for a while; `then` runs before that can be seen.
    pub(super) fn close_if_empty(&self, now: Instant, then: impl FnOnce()) {
        let mut state = self.state();
        let left = state.left.map(|left| now.saturating_duration_since(left));
        let quiet = left.is_none_or(|left| left >= EMPTY_KEPT);
        if quiet && state.fetch.is_none() && state.seats.is_empty() {
            state.closed = true;
            then();
        }
    }

    /// Closes one session of two complete nodes, which have nothing to tell each other; whether there was one.
    pub(super) fn make_room(&self) -> bool {
        self.state().dismiss().is_some()
    }
}

impl State {
    fn facts(&self) -> Facts {
        self.fetch.as_ref().map(|(_, facts)| facts.clone())
    }

    /// What a fetch is to know of a member.
    fn known(&self, peer: &PeerId) -> impl Iterator<Item = Fact> {
        let has = match self.offers.held(peer) {
            Some(_) if self.offers.is_complete(peer) => Some(Fact::HasAll(*peer)),
            Some(held) if !held.is_clear() => Some(Fact::Has(*peer, runs::of(held).collect())),
            Some(_) | None => None,
        };
        [Fact::Joined(*peer)].into_iter().chain(has)
    }

    fn got(&mut self, run: &Range<u32>) {
        for new in runs::outside(&self.have, run.clone()) {
            self.have.insert_range(runs::span(&new));
            for seat in self.seats.values_mut() {
                seat.outbox.add(&new);
                seat.wake.notify_one();
            }
        }
    }

    /// Looks whether we have become complete: then everybody is told.
    fn look(&mut self) {
        if !self.complete && self.have.is_full() {
            self.complete = true;
            self.offers.begin();
            for seat in self.seats.values_mut() {
                seat.outbox.show(&Show::Everything);
                seat.wake.notify_one();
            }
        }
    }

    fn step(&mut self, now: Instant) {
        for (peer, show) in self.offers.step(now) {
            if let Some(seat) = self.seats.get_mut(&peer) {
                seat.outbox.show(&show);
                seat.wake.notify_one();
            }
        }
    }

    /// A member's session ends.
    fn rise(&mut self, peer: &PeerId) {
        if let Some(seat) = self.seats.remove(peer) {
            seat.wake.notify_one();
            self.offers.leave(*peer);
            let now = Instant::now();
            self.left = Some(now);
            self.step(now);
        }
    }

    /// Ends the oldest session with a complete member, where we are complete too.
    fn dismiss(&mut self) -> Option<()> {
        let complete = self
            .seats
            .iter()
            .filter(|(peer, _)| self.offers.is_complete(peer));
        let oldest = complete.min_by_key(|(_, seat)| seat.since).map(|(peer, _)| *peer);
        let peer = oldest.filter(|_| self.complete && self.fetch.is_none())?;
        self.rise(&peer);
        Some(())
    }
}

/// The runs that a checked message about shards tells of, a bounded number at a time; all of `count` for everything.
pub(super) fn told(tell: &SwarmTell, count: u32) -> Box<dyn Iterator<Item = Vec<Range<u32>>> + Send + '_> {
    match tell {
        SwarmTell::Everything => Box::new(std::iter::once(vec![0..count])),
        other => Box::new(super::shards::told(other)),
    }
}
