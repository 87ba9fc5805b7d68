//! Whose turn it is to be answered, decided without I/O. Each answer under way has a slot; the others wait for one.
//!
//! First copies go first, then the peer that has the fewest answers under way, then the one whose last turn is the longest
//! ago: newcomers never had one. Every eighth turn goes to who has waited longest, so that nobody waits for ever.

use crate::limits::ANSWERS_MAX;
use libp2p::PeerId;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

/// One in so many turns goes to who has waited longest.
const PATIENCE: u64 = 8;
/// Peers whose last turn is remembered; one that is forgotten is a newcomer again.
const REMEMBERED: usize = 1_024;

/// Requests that wait and answers under way, and how many of these may send.
pub(super) struct Turns {
    slots: usize,
    entries: BTreeMap<u64, Entry>,
    /// Of each peer, the number of its last turn.
    last: HashMap<PeerId, u64>,
    given: u64,
    next: u64,
}

struct Entry {
    peer: PeerId,
    first_copy: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not begun. With the place in line.
    Waiting(u64),
    /// Has a slot.
    Running,
    /// Begun; its peer accepts nothing since then.
    Stuck(Instant),
    /// Begun, and waits for a slot to go on. With the place in line.
    Again(u64),
}

impl State {
    fn place(self) -> Option<u64> {
        match self {
            State::Waiting(place) | State::Again(place) => Some(place),
            State::Running | State::Stuck(_) => None,
        }
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This one has a slot now.
    Begin(u64),
    /// This one is over: its memory is needed.
    Close(u64),
}

impl Turns {
    /// Begins with so many slots.
    pub(super) fn new(slots: usize) -> Turns {
        Turns {
            slots,
            entries: BTreeMap::new(),
            last: HashMap::new(),
            given: 0,
            next: 0,
        }
    }

    /// Changes the number of slots. Who has one keeps it.
    pub(super) fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// A request came; returns its number. The caller bounds how many there are.
    pub(super) fn enter(&mut self, peer: PeerId, first_copy: bool) -> u64 {
        let id = self.number();
        let state = State::Waiting(id);
        let entry = Entry {
            peer,
            first_copy,
            state,
        };
        self.entries.insert(id, entry);
        id
    }

    /// The peer of an answer accepts nothing: its slot goes to another.
    pub(super) fn stuck(&mut self, id: u64, now: Instant) {
        self.put(id, State::Stuck(now));
    }

    /// An answer wants a slot to go on, and has none, or gives its own to who waits.
    pub(super) fn again(&mut self, id: u64) {
        let place = self.number();
        self.put(id, State::Again(place));
    }

    /// A request is over, or was given up.
    pub(super) fn leave(&mut self, id: u64) {
        self.entries.remove(&id);
    }

    /// Tells whether somebody waits for a slot.
    pub(super) fn awaited(&self) -> bool {
        self.entries.values().any(|entry| entry.state.place().is_some())
    }

    /// Tells whether every slot is taken and somebody waits for one.
    pub(super) fn full(&self) -> bool {
        self.count(|state| state == State::Running) >= self.slots && self.awaited()
    }

    /// Decides; to be called until there is nothing to do.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.count(|state| state == State::Running) >= self.slots {
            return None;
        }
        let id = self.choose()?;
        let alive = self.count(|state| !matches!(state, State::Waiting(_)));
        let entry = self.entries.get(&id).expect("it was just chosen");
        if matches!(entry.state, State::Waiting(_)) && alive >= ANSWERS_MAX {
            let closed = self.stalest()?;
            self.leave(closed);
            return Some(Next::Close(closed));
        }
        self.given += 1;
        self.last.insert(entry.peer, self.given);
        if self.last.len() > REMEMBERED {
            let oldest = self.last.iter().min_by_key(|(_, turn)| **turn);
            let oldest = *oldest.expect("there are more than none").0;
            self.last.remove(&oldest);
        }
        self.put(id, State::Running);
        Some(Next::Begin(id))
    }

    fn choose(&self) -> Option<u64> {
        let waiting = self
            .entries
            .iter()
            .filter_map(|(id, entry)| Some((entry.state.place()?, *id, entry)));
        let chosen = if self.given % PATIENCE == PATIENCE - 1 {
            waiting.min_by_key(|(place, ..)| *place)
        } else {
            let mut running: HashMap<PeerId, usize> = HashMap::new();
            for entry in self
                .entries
                .values()
                .filter(|entry| entry.state == State::Running)
            {
                *running.entry(entry.peer).or_default() += 1;
            }
            waiting.min_by_key(|(place, _, entry)| {
                let running = running.get(&entry.peer).copied().unwrap_or(0);
                let last = self.last.get(&entry.peer).copied().unwrap_or(0);
                (!entry.first_copy, running, last, *place)
            })
        };
        chosen.map(|(_, id, _)| id)
    }

    /// Returns the answer that is missed least: the one stuck longest, else the one that waits longest to go on.
    fn stalest(&self) -> Option<u64> {
        let stuck = self.entries.iter().filter_map(|(id, entry)| match entry.state {
            State::Stuck(since) => Some((since, *id)),
            _ => None,
        });
        let again = self.entries.iter().filter_map(|(id, entry)| match entry.state {
            State::Again(place) => Some((place, *id)),
            _ => None,
        });
        let stuck = stuck.min().map(|(_, id)| id);
        stuck.or_else(|| again.min().map(|(_, id)| id))
    }

    fn count(&self, of: impl Fn(State) -> bool) -> usize {
        self.entries.values().filter(|entry| of(entry.state)).count()
    }

    fn put(&mut self, id: u64, state: State) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = state;
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests;
