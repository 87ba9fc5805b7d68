//! How requests end, and what that says of the peer.

use super::{BANNED_MAX, BROKE_PAUSE, DOUBT, DOUBTS_MAX, Fault, FetchPlan, Have, Request, Under};
use fixedbitset::FixedBitSet;
use std::{fmt::Debug, ops::Range, time::Instant};

impl<P: Copy + Ord + Debug> FetchPlan<P> {
    /// A request brought all it asked for; its shards were told to have landed before. Those that were not are asked for again,
    /// and if that is all of them, it broke.
    pub(crate) fn finished(&mut self, request: Request, now: Instant) {
        let Some(under) = self.end(request, now) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&under.peer) else {
            return;
        };
        if under.left < under.run.len() as u32 {
            peer.penalty.ease();
        } else {
            peer.penalty.punish(BROKE_PAUSE, now);
        }
    }

    /// A request ended early; what of it is not here is asked for again.
    pub(crate) fn failed(&mut self, request: Request, fault: Fault, now: Instant) {
        let Some(under) = self.end(request, now) else {
            return;
        };
        match fault {
            Fault::Lied => {
                self.remove(under.peer, now);
                if self.banned.len() >= BANNED_MAX {
                    self.banned.pop_front();
                }
                self.banned.push_back(under.peer);
            }
            Fault::Broke => {
                if let Some(peer) = self.peers.get_mut(&under.peer) {
                    peer.penalty.punish(BROKE_PAUSE, now);
                }
                if under.got == 0 {
                    self.doubt(under.peer, under.run, now);
                }
            }
        }
    }

    /// Ends a request that still runs.
    pub(super) fn stop(&mut self, request: Request, now: Instant) {
        if let Some(under) = self.end(request, now) {
            self.stops.push_back(request);
            // It may have been about to say that it finished.
            if under.left == 0
                && under.got * 2 >= under.len
                && let Some(peer) = self.peers.get_mut(&under.peer)
            {
                peer.penalty.ease();
            }
        }
    }

    fn end(&mut self, request: Request, now: Instant) -> Option<Under<P>> {
        let under = self.requests.remove(&request)?;
        if self.shards.unask(under.run.clone()) {
            self.opened();
        }
        self.wake(now);
        if let Some(peer) = self.peers.get_mut(&under.peer) {
            peer.end(under.len - under.got, now);
        }
        Some(under)
    }

    /// A peer does not have what it said it had.
    fn doubt(&mut self, name: P, run: Range<u32>, now: Instant) {
        let count = self.shards.map().count();
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        if let Have::All = peer.have {
            let mut bits = FixedBitSet::with_capacity(count as usize);
            bits.insert_range(..);
            peer.have = Have::Some(bits);
            (0..count).for_each(|shard| self.shards.copy(shard, true));
            self.shards.complete(false);
        }
        let Have::Some(bits) = &mut peer.have else { return };
        for shard in run.clone() {
            if bits.contains(shard as usize) && !self.shards.is_here(shard) {
                bits.remove(shard as usize);
                self.shards.copy(shard, false);
            }
        }
        if self.doubts.len() >= DOUBTS_MAX {
            self.believe_again();
        }
        self.doubts.push_back((now + DOUBT, name, run));
    }

    /// The oldest doubt is over.
    pub(super) fn believe_again(&mut self) {
        if let Some((_, peer, run)) = self.doubts.pop_front() {
            self.peer_has(peer, run);
        }
    }
}
