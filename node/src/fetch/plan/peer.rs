//! What is known of a peer: what it has, how fast it is, how much to ask of it, and what it has done wrong.

use super::shards::WORD;
use crate::limits::REQUEST_LEN;
use fixedbitset::FixedBitSet;
use protocol::SHARD_LEN;
use std::time::{Duration, Instant};

/// Requests under way at one peer: under the answers that a node gives one peer at once.
pub(super) const REQUESTS_MAX: u32 = 10;

/// Bytes under way at one peer, at most: 64 MiB are 5 Gbit/s over 100 ms.
const FLYING_MAX: f64 = 4.0 * REQUEST_LEN as f64;

/// Requests under way at a peer that is far or fast.
const STREAMS: f64 = 8.0;

/// How much of a peer's work is kept waiting at it beyond two round trips, in seconds: what our own turning around and its
/// other customers take.
const SLACK: f64 = 0.5;

/// The round trip that is assumed of a peer before one was measured.
const RTT_ASSUMED: Duration = Duration::from_millis(100);

/// A peer that takes longer for one shard gets one request at a time.
const SHARD_TIME_LONG: f64 = 8.0;

/// Bytes a second that are assumed of a peer before any were measured.
const RATE_ASSUMED: f64 = 1e6;

/// Shortest time over which a rate is measured: several of the steps in which a caller counts bytes.
const MEASURE: Duration = Duration::from_millis(200);

/// After how long without a byte a new peer's rate is called 0.
const SILENT_START: Duration = Duration::from_secs(2);

/// How fast a measured rate follows a higher one, in seconds (the time constant).
const RISE: f64 = 0.5;

/// How fast a measured rate follows a lower one, in seconds: slower, as answers come in bursts.
const FALL: f64 = 2.0;

/// Longest pause after trouble.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A pause shorter than this is none.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The shards that a peer says it has.
pub(super) enum Have {
    All,
    Some(FixedBitSet),
}

impl Have {
    pub(super) fn has(&self, shard: u32) -> bool {
        match self {
            Have::All => true,
            Have::Some(bits) => bits.contains(shard as usize),
        }
    }

    /// Word `word` of the bitmap.
    pub(super) fn word(&self, word: usize) -> usize {
        match self {
            Have::All => usize::MAX,
            Have::Some(bits) => bits.as_slice().get(word).copied().unwrap_or(0),
        }
    }

    /// How many of `count` shards.
    pub(super) fn count(&self, count: u32) -> u32 {
        match self {
            Have::All => count,
            Have::Some(bits) => bits.count_ones(..) as u32,
        }
    }
}

/// Bytes a second while something was asked for.
#[derive(Default)]
pub(super) struct Rate {
    value: Option<f64>,
    since: Option<Instant>,
    bytes: u64,
}

impl Rate {
    /// The rate; `None` before anything was measured.
    pub(super) fn value(&self) -> Option<f64> {
        self.value
    }

    /// Something is asked for from now on.
    pub(super) fn start(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Bytes came.
    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        self.measure(now, MEASURE);
    }

    /// Takes in what came since the last time, when that is at least `least` ago.
    pub(super) fn measure(&mut self, now: Instant, least: Duration) {
        let Some(since) = self.since else { return };
        let span = now.saturating_duration_since(since);
        let nothing_yet = self.value.is_none() && self.bytes == 0 && span < SILENT_START;
        if span < least || span.is_zero() || nothing_yet {
            return;
        }
        let span = span.as_secs_f64();
        let sample = self.bytes as f64 / span;
        self.value = Some(match self.value {
            None => sample,
            Some(value) => {
                let constant = if sample > value { RISE } else { FALL };
                value + (sample - value) * (1.0 - (-span / constant).exp())
            }
        });
        self.since = Some(now);
        self.bytes = 0;
    }

    /// A request has ended: when it is the first, that is a measurement, however short.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.value.is_none() && self.bytes > 0 {
            self.measure(now, Duration::ZERO);
        }
    }

    /// Nothing is asked for from now on.
    pub(super) fn stop(&mut self, now: Instant) {
        if self.bytes > 0 {
            self.measure(now, Duration::ZERO);
        }
        self.since = None;
        self.bytes = 0;
    }
}

/// The pauses of a peer that causes trouble. They double each time, and halve with every request that brings what it should.
#[derive(Clone, Copy, Default)]
pub(super) struct Penalty {
    pause: Duration,
    until: Option<Instant>,
}

impl Penalty {
    /// A pause of at least `least`. Trouble during a pause is the same trouble.
    pub(super) fn punish(&mut self, least: Duration, now: Instant) {
        if !self.holds(now) {
            self.pause = (self.pause * 2).clamp(least, PAUSE_MAX);
            self.until = Some(now + self.pause);
        }
    }

    /// A request brought what it should.
    pub(super) fn ease(&mut self) {
        self.pause /= 2;
        if self.pause < PAUSE_MIN {
            self.pause = Duration::ZERO;
        }
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether there is anything to remember.
    pub(super) fn is_clear(&self) -> bool {
        self.pause.is_zero()
    }
}

/// A peer that takes part.
pub(super) struct Peer {
    pub(super) have: Have,
    pub(super) rtt: Option<Duration>,
    pub(super) rate: Rate,
    pub(super) penalty: Penalty,
    /// Requests under way.
    pub(super) requests: u32,
    /// Bytes asked for that have not come.
    pub(super) flying: u64,
    /// The number of the request that was asked of it last.
    pub(super) asked: u64,
    /// When its last byte came, or it was first asked for something since it had nothing to do.
    pub(super) heard: Instant,
    /// Since when `slow_bytes` are counted.
    pub(super) slow_since: Instant,
    pub(super) slow_bytes: u64,
    /// When its requests were last looked at for trouble.
    pub(super) judged: Instant,
    /// It has nothing that is open: found out, and not told otherwise since.
    pub(super) dry: bool,
    /// When it is next looked for work that another peer is at; `None`: when the
    /// requests under way are others, or it has more.
    pub(super) end_game: Option<Instant>,
}

impl Peer {
    pub(super) fn new(count: u32, penalty: Penalty, now: Instant) -> Peer {
        Peer {
            have: Have::Some(FixedBitSet::with_capacity(count as usize)),
            rtt: None,
            rate: Rate::default(),
            penalty,
            requests: 0,
            flying: 0,
            asked: 0,
            heard: now,
            slow_since: now,
            slow_bytes: 0,
            judged: now,
            dry: false,
            end_game: Some(now),
        }
    }

    /// It has more than it had.
    pub(super) fn has_more(&mut self) {
        self.dry = false;
        self.end_game = self.end_game.or(Some(self.judged));
    }

    /// A request of `len` bytes is asked of it.
    pub(super) fn begin(&mut self, request: u64, len: u64, now: Instant) {
        if self.requests == 0 {
            self.heard = now;
            self.judged = now;
            self.slow_since = now;
            self.slow_bytes = 0;
        }
        self.rate.start(now);
        self.requests += 1;
        self.flying += len;
        self.asked = request;
    }

    /// Verified bytes came, `due` of them for the first time.
    pub(super) fn bring(&mut self, bytes: u64, due: u64, now: Instant) {
        self.heard = now;
        self.slow_bytes += bytes;
        self.flying -= due;
        self.rate.add(bytes, now);
    }

    /// A request is over, of which `rest` bytes did not come.
    pub(super) fn end(&mut self, rest: u64, now: Instant) {
        self.requests -= 1;
        self.flying -= rest;
        self.end_game = Some(now);
        self.rate.settle(now);
        if self.requests == 0 {
            self.rate.stop(now);
        }
    }

    /// Bytes that should be under way at it.
    pub(super) fn aim(&self) -> f64 {
        let shard = SHARD_LEN as f64;
        match self.rate.value() {
            None => 2.0 * shard,
            Some(rate) => {
                let delay = 2.0 * self.rtt.unwrap_or(RTT_ASSUMED).as_secs_f64() + SLACK;
                let quick = rate * SHARD_TIME_LONG >= shard;
                let least = if quick { shard } else { 0.0 };
                (rate * delay).clamp(least, FLYING_MAX)
            }
        }
    }

    /// Bytes of its next request: an eighth of what should be under way, one shard to the longest request. On a long link each
    /// stream takes some round trips until it is as fast as it can be: many at once fill the link meanwhile.
    pub(super) fn request_len(&self) -> u64 {
        ((self.aim() / STREAMS) as u64).clamp(SHARD_LEN, REQUEST_LEN)
    }

    /// Whether another request may be asked of it.
    pub(super) fn has_room(&self) -> bool {
        if self.requests == 0 {
            return true;
        }
        if self.rate.value().is_none() {
            return self.requests < 2;
        }
        let next = self.flying + self.request_len();
        let room = self.flying as f64 * 3.0 <= self.aim() * 2.0 || next as f64 <= self.aim();
        self.requests < REQUESTS_MAX && room
    }

    /// What is under way at it, in relation to what should be.
    pub(super) fn load(&self) -> f64 {
        if self.requests == 0 {
            0.0
        } else {
            self.flying as f64 / self.aim().max(1.0)
        }
    }

    /// In how many seconds it would have brought what is under way and `more` bytes.
    pub(super) fn seconds_for(&self, more: u64) -> f64 {
        (self.flying + more) as f64 / self.rate.value().unwrap_or(RATE_ASSUMED)
    }
}

/// Bits of the words of a bitmap, by their number.
pub(super) fn ones(word: usize, mut bits: usize) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = bits.trailing_zeros() as usize;
        (bit < WORD).then(|| {
            bits &= bits - 1;
            (word * WORD + bit) as u32
        })
    })
}
