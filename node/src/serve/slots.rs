//! Upload slots: a request waits here for its turn, and an answer that cannot go on lets others have theirs.

mod climb;
mod turns;

use self::{
    climb::Climb,
    turns::{Next, Turns},
};
use libp2p::PeerId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::{sync::watch, time::Instant};

/// The answer was closed to make room: too many had begun, and this one was missed least.
#[derive(Debug, thiserror::Error)]
#[error("too many answers have begun; the one that waited longest is closed")]
pub(super) struct Crowded;

/// The slots and who waits for them. A cheap handle.
#[derive(Clone)]
pub(super) struct Slots(Arc<Mutex<State>>);

struct State {
    turns: Turns,
    climb: Climb,
    told: HashMap<u64, watch::Sender<Told>>,
    /// When bytes were counted last, and how many there were.
    counted: (Instant, u64),
}

/// What a request was told last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Wait,
    Begin,
    Close,
}

impl Slots {
    /// A fixed number of slots, or one that adapts.
    pub(super) fn new(fixed: Option<usize>) -> Slots {
        let climb = Climb::new(fixed);
        Slots(Arc::new(Mutex::new(State {
            turns: Turns::new(climb.slots()),
            climb,
            told: HashMap::new(),
            counted: (Instant::now(), 0),
        })))
    }

    /// Puts a request in line; the caller bounds how many there are.
    pub(super) fn enter(&self, peer: PeerId, first_copy: bool) -> Turn {
        let (tell, told) = watch::channel(Told::Wait);
        let id = self.change(|state| {
            let id = state.turns.enter(peer, first_copy);
            state.told.insert(id, tell);
            id
        });
        Turn {
            slots: self.clone(),
            id,
            told,
        }
    }

    /// To be called about once a second with all bytes sent so far: adapts the number of slots.
    pub(super) fn second(&self, sent: u64) {
        self.change(|state| {
            let now = Instant::now();
            let (at, before) = std::mem::replace(&mut state.counted, (now, sent));
            let seconds = (now - at).as_secs_f64();
            if seconds > 0.0 {
                let rate = sent.saturating_sub(before) as f64 / seconds;
                state.climb.second(rate, state.turns.full());
                state.turns.set_slots(state.climb.slots());
            }
        });
    }

    /// Changes something, and tells those whom it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock().expect("nothing panics while it holds this");
        let changed = change(&mut state);
        while let Some(next) = state.turns.next() {
            let (id, told) = match next {
                Next::Begin(id) => (id, Told::Begin),
                Next::Close(id) => (id, Told::Close),
            };
            if let Some(tell) = state.told.get(&id) {
                tell.send_replace(told);
            }
        }
        changed
    }
}

/// A request's place, until it is dropped.
pub(super) struct Turn {
    slots: Slots,
    id: u64,
    told: watch::Receiver<Told>,
}

impl Turn {
    /// Waits for a slot.
    pub(super) async fn begin(&mut self) -> Result<(), Crowded> {
        let told = self.told.wait_for(|told| *told != Told::Wait).await;
        match told.map(|told| *told) {
            Ok(Told::Begin) => Ok(()),
            Ok(Told::Wait | Told::Close) | Err(_) => Err(Crowded),
        }
    }

    /// Gives the slot up because the peer accepts nothing; [`Turn::again`] before going on.
    pub(super) fn stuck(&self) {
        self.let_go(|turns, id| {
            turns.stuck(id, Instant::now());
            true
        });
    }

    /// Waits for a slot once more.
    pub(super) async fn again(&mut self) -> Result<(), Crowded> {
        self.let_go(|turns, id| {
            turns.again(id);
            true
        });
        self.begin().await
    }

    /// Gives the slot to who waits, if somebody does, and waits for it to come back.
    pub(super) async fn share(&mut self) -> Result<(), Crowded> {
        self.let_go(|turns, id| {
            let awaited = turns.awaited();
            if awaited {
                turns.again(id);
            }
            awaited
        });
        self.begin().await
    }

    /// Changes the place of an answer that was not closed; `change` tells whether it lets the slot go.
    fn let_go(&self, change: impl FnOnce(&mut Turns, u64) -> bool) {
        self.slots.change(|state| {
            let tell = state.told.get(&self.id).expect("kept as long as this place");
            let closed = *tell.borrow() == Told::Close;
            if !closed && change(&mut state.turns, self.id) {
                tell.send_replace(Told::Wait);
            }
        });
    }

    /// Waits until the answer must end; for ever if it need not.
    pub(super) async fn closed(&mut self) {
        // The sender is kept as long as this place.
        let _ = self.told.wait_for(|told| *told == Told::Close).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.slots.change(|state| {
            state.turns.leave(self.id);
            state.told.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests;
