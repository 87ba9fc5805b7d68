//! What is looked at now and then while a job runs: who went away, who has waited long enough, and what the user sees.

use super::{FetchError, Run};
use crate::{
    fetch::views::{JobState, JobView, PeerRate},
    meter::Meter,
};
use libp2p::PeerId;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

/// How often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is remembered from one look to the next.
pub(super) struct Look {
    /// Whether the user paused it.
    pub(super) paused: bool,
    begun: Instant,
    fruitful: Instant,
    meter: Meter,
    peers: HashMap<PeerId, u64>,
}

impl Look {
    pub(super) fn new() -> Look {
        let now = Instant::now();
        Look {
            paused: false,
            begun: now,
            fruitful: now,
            meter: Meter::new(),
            peers: HashMap::new(),
        }
    }

    /// When to look.
    pub(super) fn ticks() -> Interval {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Verified bytes came.
    pub(super) fn came(&mut self, peer: PeerId, bytes: u64) {
        self.fruitful = Instant::now();
        self.meter.add(bytes);
        *self.peers.entry(peer).or_default() += bytes;
    }
}

/// Waits until then; for ever where there is no time.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

impl Run<'_> {
    /// Looks at what nobody tells.
    pub(super) async fn look_around(&mut self, view: &watch::Sender<JobView>) {
        self.wants.forget_gone();
        for peer in self.node.swarm().peers().await {
            if let Some(rtt) = peer.rtt {
                self.plan.rtt(peer.peer, rtt);
            }
        }
        let idle = self.under.is_empty() && self.settling.is_empty() && !self.look.paused;
        if idle {
            let (manifest, missing) = (self.hash, self.plan.missing().bytes);
            let no_provider = |waited| FetchError::NoProvider {
                manifest,
                waited,
                missing,
            };
            self.wants
                .send_away(self.look.fruitful, Instant::now(), no_provider);
        } else if self.look.paused {
            self.look.fruitful = Instant::now();
        }
        let mut seen = self.view();
        let note = match self.look.paused {
            true => Some("paused".to_owned()),
            false => seen.without_provider(),
        };
        let busy = self.plan.busy();
        self.wants.show(|progress| {
            progress.note(note.clone());
            progress.peers(busy);
        });
        seen.snapshot = self.wants.snapshot();
        view.send_modify(|view| {
            let old = std::mem::take(view);
            *view = JobView {
                id: old.id,
                what: old.what,
                ..seen
            };
        });
    }

    /// What the user sees, but for how far those who wait are.
    fn view(&self) -> JobView {
        let missing = self.plan.missing().bytes;
        let state = match () {
            () if self.look.paused => JobState::Paused,
            () if !self.under.is_empty() => JobState::Fetching,
            () if missing == 0 => JobState::Storing,
            () => JobState::Waiting,
        };
        let rate = self.look.meter.rate();
        let peers = self
            .plan
            .peers()
            .filter(|peer| !peer.banned)
            .map(|peer| PeerRate {
                peer: peer.peer.to_string(),
                down_bytes_s: peer.rate,
                bytes: self.look.peers.get(&peer.peer).copied().unwrap_or_default(),
                requests: peer.requests,
                shards: peer.shards_have.into(),
            });
        JobView {
            manifest: Some(self.hash),
            state,
            seconds: self.look.begun.elapsed().as_secs_f64(),
            shards: self.plan.here().shards.into(),
            shards_total: self.plan.wanted().shards.into(),
            unprovided: self.plan.unprovided().into(),
            down_bytes_s: rate,
            eta_s: (rate >= 1.0 && missing > 0).then(|| missing as f64 / rate),
            peers: peers.collect(),
            ..JobView::default()
        }
    }
}
