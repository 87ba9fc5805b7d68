//! What is asked of whom, and when. It is told facts and the time and returns decisions; it does no I/O and repeats exactly.
//!
//! Work goes out in order, at most a few requests to a peer. A request without a verified byte for [`STALL`] goes to somebody
//! else; when nothing is left to begin, an idle peer is given what another has not finished. A liar is not asked again.

use crate::limits::{PROVIDERS_MAX, REQUESTS_PER_PEER, STALL, STRIKES_MAX};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

/// A piece of work, by its place in the fetch's list.
pub(crate) type Work = usize;
/// A request under way.
pub(crate) type Request = u64;

/// Why a request ended without all it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Wrong bytes: the peer is not asked again.
    Lied,
    /// It broke, was refused or stalled: the peer may try again a few times.
    Broke,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action<P> {
    /// Ask a peer.
    Ask {
        /// The request's number.
        request: Request,
        /// Whom.
        peer: P,
        /// For what.
        work: Work,
    },
    /// Stop a request whose work is done or given to somebody else.
    Stop(Request),
    /// Nothing until something is told.
    Wait,
    /// There is work and nobody to ask.
    FindProviders,
    /// All work is done.
    Done,
}

struct Peer {
    requests: usize,
    strikes: u32,
    banned: bool,
}

struct Under<P> {
    peer: P,
    work: Work,
    progressed: Instant,
}

/// The state of one fetch.
pub(crate) struct FetchPlan<P> {
    queue: VecDeque<Work>,
    open: Vec<bool>,
    peers: BTreeMap<P, Peer>,
    under: BTreeMap<Request, Under<P>>,
    stops: Vec<Request>,
    next: Request,
}

impl<P: Copy + Ord> FetchPlan<P> {
    /// Plans `count` pieces of work, in order.
    pub(crate) fn new(count: usize) -> FetchPlan<P> {
        FetchPlan {
            queue: (0..count).collect(),
            open: vec![true; count],
            peers: BTreeMap::new(),
            under: BTreeMap::new(),
            stops: Vec::new(),
            next: 0,
        }
    }

    /// A peer has everything.
    pub(crate) fn provider_found(&mut self, peer: P) {
        // Liars keep their place in the list, so that they stay known, but not one of the places there are.
        let able = self
            .peers
            .values()
            .filter(|peer| !peer.banned && peer.strikes < STRIKES_MAX)
            .count();
        if able < PROVIDERS_MAX || self.peers.contains_key(&peer) {
            self.peers.entry(peer).or_insert(Peer {
                requests: 0,
                strikes: 0,
                banned: false,
            });
        }
    }

    /// Verified bytes came.
    pub(crate) fn progressed(&mut self, request: Request, now: Instant) {
        if let Some(under) = self.under.get_mut(&request) {
            under.progressed = now;
            let peer = under.peer;
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.strikes = 0;
            }
        }
    }

    /// A request brought all it asked for.
    pub(crate) fn finished(&mut self, request: Request) {
        let Some(under) = self.end(request) else { return };
        if let Some(open) = self.open.get_mut(under.work) {
            *open = false;
        }
        let same = self.under.iter().filter(|(_, other)| other.work == under.work);
        self.stops.extend(same.map(|(request, _)| *request));
    }

    /// A request ended early; what of its work is still missing is asked for again.
    pub(crate) fn failed(&mut self, request: Request, fault: Fault) {
        let Some(under) = self.end(request) else { return };
        if let Some(peer) = self.peers.get_mut(&under.peer) {
            match fault {
                Fault::Lied => peer.banned = true,
                Fault::Broke => peer.strikes += 1,
            }
        }
        let elsewhere = self.under.values().any(|other| other.work == under.work);
        if self.open.get(under.work) == Some(&true) && !elsewhere {
            self.queue.push_front(under.work);
        }
    }

    fn end(&mut self, request: Request) -> Option<Under<P>> {
        let under = self.under.remove(&request)?;
        if let Some(peer) = self.peers.get_mut(&under.peer) {
            peer.requests -= 1;
        }
        Some(under)
    }

    /// Decides. Call it until it says [`Action::Wait`], [`Action::FindProviders`] or [`Action::Done`].
    pub(crate) fn next(&mut self, now: Instant) -> Action<P> {
        if let Some(request) = self.stops.pop() {
            return if self.end(request).is_some() {
                Action::Stop(request)
            } else {
                self.next(now)
            };
        }
        if let Some((&request, _)) = self
            .under
            .iter()
            .find(|(_, under)| now.duration_since(under.progressed) >= STALL)
        {
            self.failed(request, Fault::Broke);
            return Action::Stop(request);
        }
        if !self.open.contains(&true) {
            return Action::Done;
        }
        let Some(peer) = self.idlest() else {
            return if self.under.is_empty() {
                Action::FindProviders
            } else {
                Action::Wait
            };
        };
        let work = loop {
            match self.queue.pop_front() {
                Some(work) if self.open[work] => break work,
                Some(_) => {}
                None => match self.end_game(peer) {
                    Some(work) => break work,
                    None => return Action::Wait,
                },
            }
        };
        let request = self.next;
        self.next += 1;
        self.peers.get_mut(&peer).expect("it was just chosen").requests += 1;
        self.under.insert(
            request,
            Under {
                peer,
                work,
                progressed: now,
            },
        );
        Action::Ask { request, peer, work }
    }

    /// Returns the peer with the fewest requests that may have one more; among equals the one that failed least.
    fn idlest(&self) -> Option<P> {
        let able = self.peers.iter().filter(|(_, peer)| {
            !peer.banned && peer.strikes < STRIKES_MAX && peer.requests < REQUESTS_PER_PEER
        });
        able.min_by_key(|(_, peer)| (peer.requests, peer.strikes))
            .map(|(peer, _)| *peer)
    }

    /// Returns the work that has waited longest for its next byte at somebody else, when `peer` has nothing to do.
    fn end_game(&self, peer: P) -> Option<Work> {
        if self.peers.get(&peer)?.requests > 0 {
            return None;
        }
        let others = self.under.values().filter(|under| {
            under.peer != peer && self.under.values().filter(|twin| twin.work == under.work).count() == 1
        });
        others
            .min_by_key(|under| under.progressed)
            .map(|under| under.work)
    }

    /// Returns how many peers are at work.
    pub(crate) fn busy(&self) -> usize {
        self.peers.values().filter(|peer| peer.requests > 0).count()
    }

    /// Forgets the strikes of peers that did not lie: they were found again.
    pub(crate) fn forgive(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.strikes = 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(action: Action<u8>) -> (Request, u8, Work) {
        match action {
            Action::Ask { request, peer, work } => (request, peer, work),
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn work_is_spread_over_providers() {
        let now = Instant::now();
        let mut plan = FetchPlan::new(2);
        plan.provider_found(1);
        plan.provider_found(2);
        let (_, first, _) = ask(plan.next(now));
        let (_, second, _) = ask(plan.next(now));
        assert_ne!(first, second);
    }

    #[test]
    fn liar_is_not_asked_again() {
        let now = Instant::now();
        let mut plan = FetchPlan::new(1);
        plan.provider_found(1);
        let (request, ..) = ask(plan.next(now));
        plan.failed(request, Fault::Lied);
        assert_eq!(plan.next(now), Action::FindProviders);
        plan.provider_found(1);
        plan.forgive();
        assert_eq!(plan.next(now), Action::FindProviders);
    }

    #[test]
    fn stalled_request_goes_to_somebody_else() {
        let start = Instant::now();
        let mut plan = FetchPlan::new(1);
        plan.provider_found(1);
        let (request, ..) = ask(plan.next(start));
        assert_eq!(plan.next(start + STALL / 2), Action::Wait);
        assert_eq!(plan.next(start + STALL), Action::Stop(request));
        plan.provider_found(2);
        assert_eq!(ask(plan.next(start + STALL)).1, 2);
    }

    #[test]
    fn idle_peer_takes_over_the_last_work_and_the_slower_one_is_stopped() {
        let now = Instant::now();
        let mut plan = FetchPlan::new(1);
        plan.provider_found(1);
        let (slow, ..) = ask(plan.next(now));
        plan.provider_found(2);
        let (fast, peer, _) = ask(plan.next(now));
        assert_eq!(peer, 2);
        assert_eq!(plan.next(now), Action::Wait);
        plan.finished(fast);
        assert_eq!(plan.next(now), Action::Stop(slow));
        assert_eq!(plan.next(now), Action::Done);
    }

    #[test]
    fn peer_that_keeps_breaking_sits_out() {
        let now = Instant::now();
        let mut plan = FetchPlan::new(1);
        plan.provider_found(1);
        for _ in 0..STRIKES_MAX {
            let (request, ..) = ask(plan.next(now));
            plan.failed(request, Fault::Broke);
        }
        assert_eq!(plan.next(now), Action::FindProviders);
        plan.forgive();
        ask(plan.next(now));
    }
}
