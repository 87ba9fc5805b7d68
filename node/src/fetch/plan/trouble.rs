//! Peers that say nothing, or next to nothing: their requests go to others.

use super::{FetchPlan, Request, peer::Peer, pick::END_GAME_PAUSE};
use crate::limits::STALL;
use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// Bytes a second below which a peer is slow, when others are faster.
const SLOW_RATE: f64 = 32.0 * 1024.0;

/// Over how long that is measured.
const SLOW_TIME: Duration = Duration::from_secs(30);

/// How many times as fast another must be.
const FASTER: f64 = 4.0;

/// How long a request may go without a byte when nobody else has the shards.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a silent peer whose requests could not go elsewhere.
const JUDGE_PAUSE: Duration = Duration::from_secs(1);

/// How long a request goes on of which others brought everything, unless it was given to a second peer.
const OVER_GRACE: Duration = Duration::from_secs(1);

impl Peer {
    /// How long no byte came although something is asked for.
    fn silence(&self, now: Instant) -> Duration {
        match self.requests {
            0 => Duration::ZERO,
            _ => now.saturating_duration_since(self.heard),
        }
    }

    /// In how many seconds it will have brought what is under way. Who has been silent for a while will be for as long again.
    pub(super) fn end_in(&self, now: Instant) -> f64 {
        self.seconds_for(0).max(self.silence(now).as_secs_f64())
    }

    /// Whether something may be asked of it now.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        !self.penalty.holds(now) && self.silence(now) < STALL
    }

    /// When it has to be looked at again though nothing is told.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let pause = self.penalty.until().filter(|until| *until > now);
        if self.requests == 0 {
            return pause;
        }
        let silent = (self.heard + STALL).max(self.judged + JUDGE_PAUSE);
        [Some(silent), Some(self.slow_since + SLOW_TIME), pause]
            .into_iter()
            .flatten()
            .min()
    }
}

impl<P: Copy + Ord + Debug> FetchPlan<P> {
    /// Looks at all that time does: takes requests from peers that are silent or slow, and ends those that bring nothing new.
    pub(super) fn judge(&mut self, now: Instant) {
        let mut due: Vec<P> = Vec::new();
        for (name, peer) in &mut self.peers {
            if peer.requests > 0 {
                peer.rate.measure(now, Duration::from_millis(500));
                if peer.due(now).is_some_and(|at| at <= now) {
                    peer.judged = now;
                    due.push(*name);
                }
            }
        }
        for peer in due {
            self.judge_peer(peer, now);
        }
        for request in std::mem::take(&mut self.over_now) {
            match self.requests.get(&request) {
                Some(under) if under.twinned && under.left == 0 => self.stop(request, now),
                Some(_) => self.over.push_back((request, now)),
                None => {}
            }
        }
        while let Some((request, since)) = self.over.front().copied() {
            if now < since + OVER_GRACE {
                break;
            }
            self.over.pop_front();
            if self.requests.get(&request).is_some_and(|under| under.left == 0) {
                self.stop(request, now);
            }
        }
        while let Some((at, ..)) = self.doubts.front()
            && *at <= now
        {
            self.believe_again();
        }
    }

    /// When [`FetchPlan::next`] has to be called again though nothing is told.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let peers = self.peers.values().filter_map(|peer| peer.due(now));
        let idle = self
            .peers
            .values()
            .filter(|peer| peer.has_room() && peer.is_usable(now));
        let idle = idle.filter_map(|peer| peer.end_game.filter(|at| *at > now && !self.requests.is_empty()));
        let over = self.over.front().map(|(_, since)| *since + OVER_GRACE);
        let doubt = self.doubts.front().map(|(until, ..)| *until);
        let read = self.reads.front().map(|_| now + END_GAME_PAUSE);
        let read = read.filter(|_| !self.requests.is_empty());
        peers.chain(idle).chain(read).chain(over).chain(doubt).min()
    }

    fn judge_peer(&mut self, name: P, now: Instant) {
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        let silence = peer.silence(now);
        let mut slow = false;
        if now >= peer.slow_since + SLOW_TIME {
            let span = now.saturating_duration_since(peer.slow_since).as_secs_f64();
            slow = (peer.slow_bytes as f64) < SLOW_RATE * span;
            peer.slow_since = now;
            peer.slow_bytes = 0;
        }
        if silence < STALL && !slow {
            return;
        }
        let faster = (peer.rate.value().unwrap_or(0.0) * FASTER).max(1.0);
        let least = (silence < STALL).then_some(faster);
        let of_peer = self.requests.iter().filter(|(_, under)| under.peer == name);
        let going: Vec<Request> = of_peer
            .map(|(request, _)| *request)
            .filter(|request| silence >= PATIENCE || self.is_elsewhere(*request, least, now))
            .collect();
        if going.is_empty() {
            return;
        }
        for request in going {
            self.stop(request, now);
        }
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.penalty.punish(STALL, now);
        }
    }

    /// Whether another peer could bring something of a request now, at least at the rate `least`.
    fn is_elsewhere(&self, request: Request, least: Option<f64>, now: Instant) -> bool {
        let Some(under) = self.requests.get(&request) else {
            return false;
        };
        let able = self.peers.iter().filter(|(name, peer)| {
            **name != under.peer && peer.is_usable(now) && (least.is_none() || peer.rate.value() >= least)
        });
        let mut able = able.map(|(_, peer)| &peer.have);
        able.any(|have| {
            let mut run = under.run.clone();
            run.any(|shard| have.has(shard) && !self.shards.is_here(shard))
        })
    }
}
