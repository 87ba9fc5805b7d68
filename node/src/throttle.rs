//! Rate limits: bytes wait here until they may pass, in both directions, in all and for each peer.
//!
//! Token buckets of our own. async-speed-limit keeps who waits to the rate there was when it came; governor and leaky-bucket
//! have one rate for life. Here a change is heard by those who wait. A bucket begins empty, so a peer's may be dropped when
//! nobody uses it. Who waits for a bucket waits in line: a task in front of it holds its lock, which tokio hands on in order.

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep},
};

/// Seconds of a rate that may pass at once after a pause.
const BURST_S: f64 = 0.25;
/// A burst is never less than this, in bytes: one group.
const BURST_MIN: f64 = 16.0 * 1024.0;
/// Steps a second that bytes pass in under a limit: often enough that nobody looks stalled.
const STEPS_PER_S: u64 = 8;
/// Peers with a bucket of their own. More are there only while more are moving bytes.
const PEERS_MAX: usize = 1_024;
/// A peer's bucket that was not used for so long may be dropped: it had the time to fill.
const IDLE: Duration = Duration::from_secs(2);
/// Least and most time slept before a bucket is looked at again.
const SLEEP: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(3_600));

/// How fast bytes of blobs may go, in bytes a second; `None` is as fast as they can. A limit of 0 counts as 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// To all peers together.
    pub up: Option<u64>,
    /// From all peers together.
    pub down: Option<u64>,
    /// To each peer.
    pub peer_up: Option<u64>,
    /// From each peer.
    pub peer_down: Option<u64>,
}

/// The limits in force, and who waits for them. A cheap handle. Without limits it costs two atomic reads.
#[derive(Clone)]
pub(crate) struct Throttle(Arc<Inner>);

#[derive(Default)]
struct Inner {
    up: Direction,
    down: Direction,
    changed: Notify,
}

/// The limits of one direction. A rate of 0 stands for none.
#[derive(Default)]
struct Direction {
    all: AtomicU64,
    each: AtomicU64,
    bucket: Bucket,
    peers: Mutex<HashMap<PeerId, (Instant, Arc<Bucket>)>>,
}

/// Bytes that may pass now, and since when; empty and unused at first. Held by whoever is first in line.
#[derive(Default)]
struct Bucket(tokio::sync::Mutex<Option<(f64, Instant)>>);

impl Throttle {
    /// Begins with these limits.
    pub(crate) fn new(limits: Limits) -> Throttle {
        let throttle = Throttle(Arc::default());
        throttle.set(limits);
        throttle
    }

    /// Returns the limits in force.
    pub(crate) fn limits(&self) -> Limits {
        let Inner { up, down, .. } = &*self.0;
        Limits {
            up: rate(&up.all),
            down: rate(&down.all),
            peer_up: rate(&up.each),
            peer_down: rate(&down.each),
        }
    }

    /// Changes the limits, also for those who wait.
    pub(crate) fn set(&self, limits: Limits) {
        let Inner { up, down, .. } = &*self.0;
        for (rate, limit) in [
            (&up.all, limits.up),
            (&down.all, limits.down),
            (&up.each, limits.peer_up),
            (&down.each, limits.peer_down),
        ] {
            rate.store(limit.map_or(0, |limit| limit.max(1)), Ordering::Relaxed);
        }
        self.0.changed.notify_waiters();
    }

    /// Waits until `bytes` may go to a peer. Ask for at most [`Throttle::up_step`] at once.
    pub(crate) async fn up(&self, peer: PeerId, bytes: usize) {
        self.0.up.pass(peer, bytes, &self.0.changed).await;
    }

    /// Waits until `bytes` may come from a peer. Ask for at most [`Throttle::down_step`] at once.
    pub(crate) async fn down(&self, peer: PeerId, bytes: usize) {
        self.0.down.pass(peer, bytes, &self.0.changed).await;
    }

    /// Most bytes to send at once so that they trickle; at least 1, and `usize::MAX` without a limit.
    pub(crate) fn up_step(&self) -> usize {
        self.0.up.step()
    }

    /// Most bytes to take at once so that they trickle; at least 1, and `usize::MAX` without a limit.
    pub(crate) fn down_step(&self) -> usize {
        self.0.down.step()
    }
}

impl Direction {
    /// The peer's own bucket comes first: who waits there holds nobody up.
    async fn pass(&self, peer: PeerId, bytes: usize, changed: &Notify) {
        if rate(&self.each).is_some() {
            self.of(peer).take(&self.each, bytes, changed).await;
        }
        if rate(&self.all).is_some() {
            self.bucket.take(&self.all, bytes, changed).await;
        }
    }

    fn step(&self) -> usize {
        let rates = [rate(&self.all), rate(&self.each)].into_iter().flatten();
        let step = rates.min().map(|rate| (rate / STEPS_PER_S).max(1));
        step.map_or(usize::MAX, |step| usize::try_from(step).unwrap_or(usize::MAX))
    }

    fn of(&self, peer: PeerId) -> Arc<Bucket> {
        let now = Instant::now();
        let mut peers = self.peers.lock().expect("nothing panics while it holds this");
        if !peers.contains_key(&peer) && peers.len() >= PEERS_MAX {
            let used = |bucket: &Arc<Bucket>| Arc::strong_count(bucket) > 1;
            peers.retain(|_, (at, bucket)| used(bucket) || now - *at < IDLE);
            if peers.len() >= PEERS_MAX {
                peers.retain(|_, (_, bucket)| used(bucket));
            }
        }
        let (at, bucket) = peers.entry(peer).or_insert_with(|| (now, Arc::default()));
        *at = now;
        bucket.clone()
    }
}

impl Bucket {
    async fn take(&self, limit: &AtomicU64, bytes: usize, changed: &Notify) {
        let mut left = bytes as f64;
        while left > 0.0 {
            // Given up after every burst, so that one who takes much does not hold up the line.
            let mut level = self.0.lock().await;
            loop {
                let change = changed.notified();
                let Some(rate) = rate(limit).map(|rate| rate as f64) else {
                    return;
                };
                let (now, burst) = (Instant::now(), (rate * BURST_S).max(BURST_MIN));
                let (held, since) = level.unwrap_or((0.0, now));
                let held = (held + rate * (now - since).as_secs_f64()).min(burst);
                let wanted = left.min(burst);
                if held >= wanted {
                    *level = Some((held - wanted, now));
                    left -= wanted;
                    break;
                }
                *level = Some((held, now));
                let wait = Duration::try_from_secs_f64((wanted - held) / rate).unwrap_or(SLEEP.1);
                tokio::select! {
                    () = sleep(wait.clamp(SLEEP.0, SLEEP.1)) => {}
                    () = change => {}
                }
            }
        }
    }
}

/// Reads a rate in bytes a second; `None` where there is no limit.
fn rate(limit: &AtomicU64) -> Option<u64> {
    Some(limit.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests;
