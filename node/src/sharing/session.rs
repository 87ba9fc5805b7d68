//! One session: a stream between two members about one manifest, and what both say on it.
//!
//! What comes in is checked, and read no faster than its reader takes it; what goes out waits in the member's outbox, never in
//! a queue. Reading and writing go on side by side, and end together.

use super::{
    Fact, Sharing,
    gathering::{Gathering, Seated, told},
    hints::{Budget, Telling},
};
use crate::{
    frame,
    limits::{ANSWER_WAIT, SEND_STALL},
    swarm::OpenError,
};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{PeerId, Stream};
use protocol::{SwarmTell, WireError, limits::FRAME_LEN_MAX, wire};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::debug;

/// Longest body of a frame that is not bits, in bytes: 32 hints with 8 addresses of 256 bytes each.
const SMALL_FRAME_LEN: usize = 72 * 1024;
/// Longest join, in bytes: a tag and a hash.
pub(super) const JOIN_LEN: usize = 64;
/// Frames that one member may send in a second, on average; a long one counts as several.
const FRAMES_PER_SECOND: f64 = 64.0;
/// Frames that may come at once after a quiet time.
const FRAMES_AT_ONCE: f64 = 128.0;
/// Bytes of a frame that count as one more.
const FRAME_COST_LEN: usize = 16 * 1024;
/// Pause between two batches we write: shards that land in it go out together. 40 a second stay below what is read.
const WRITE_PAUSE: Duration = Duration::from_millis(25);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer closed it.
    #[error("the peer left")]
    Left,
    /// We did: the crowd is over, or another session took its place.
    #[error("it was closed here")]
    Closed,
    /// The stream broke.
    #[error("the stream: {0}")]
    Stream(#[from] io::Error),
    /// There was no way to the peer.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The peer took too long.
    #[error("no progress")]
    Stalled,
    /// The peer broke the format.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The peer said something at the wrong place.
    #[error("{0} at the wrong place")]
    Place(&'static str),
}

impl Ended {
    /// Whether an honest peer cannot have caused it.
    pub(super) fn is_fault(&self) -> bool {
        match self {
            Ended::Wire(_) | Ended::Place(_) => true,
            Ended::Left | Ended::Closed | Ended::Stream(_) | Ended::Open(_) | Ended::Stalled => false,
        }
    }
}

/// A member's session, seated.
pub(super) struct Session {
    pub(super) sharing: Sharing,
    pub(super) gathering: Arc<Gathering>,
    pub(super) peer: PeerId,
    pub(super) number: u64,
    pub(super) seated: Seated,
}

impl Session {
    /// Tells and listens until either side ends it, and leaves the seat. `first`: the answer that came already, where we opened
    /// the stream.
    pub(super) async fn attend(mut self, stream: Stream, first: Option<SwarmTell>) -> Ended {
        let ended = self.run(stream, first).await;
        let left = self.gathering.leave(&self.peer, self.number);
        self.sharing.note(&self.gathering, self.peer);
        if let Some(Some(facts)) = left {
            let _ = facts.send(Fact::Left(self.peer)).await;
        }
        ended
    }

    async fn run(&mut self, stream: Stream, first: Option<SwarmTell>) -> Ended {
        let news = std::mem::take(&mut self.seated.news);
        debug!(peer = %self.peer, manifest = %self.gathering.manifest.short(), "a member joined");
        let (reader, writer) = stream.split();
        let ended = tokio::select! {
            ended = self.listen(reader, news, first) => ended,
            ended = self.tell(writer) => ended,
        };
        let (Ok(ended) | Err(ended)) = ended.map(|()| Ended::Left);
        debug!(peer = %self.peer, manifest = %self.gathering.manifest.short(), why = %ended, "a session ended");
        ended
    }

    async fn listen(
        &self,
        mut reader: impl AsyncRead + Unpin,
        news: Vec<Fact>,
        first: Option<SwarmTell>,
    ) -> Result<(), Ended> {
        if let Some(facts) = &self.seated.facts {
            for fact in news {
                // A fetch that is over does not mind.
                let _ = facts.send(fact).await;
            }
        }
        let max = frame_max(self.gathering.map.count());
        let (mut pace, mut budget) = (Pace::new(Instant::now()), Budget::default());
        if let Some(first) = first {
            self.hear(first, &mut budget).await?;
        }
        while let Some(body) = read_body(&mut reader, max).await? {
            sleep(pace.take(body.len(), Instant::now())).await;
            let tell: SwarmTell = wire::decode_body(&body)?;
            drop(body);
            tell.check(self.gathering.map.count())?;
            self.hear(tell, &mut budget).await?;
        }
        Ok(())
    }

    async fn hear(&self, tell: SwarmTell, budget: &mut Budget) -> Result<(), Ended> {
        match tell {
            SwarmTell::Join { .. } => return Err(Ended::Place("a second join")),
            SwarmTell::Nothing => return Err(Ended::Place("nothing")),
            SwarmTell::Everything | SwarmTell::Bits { .. } | SwarmTell::Got(_) => {
                for runs in told(&tell, self.gathering.map.count()) {
                    let (facts, news) = self.gathering.has(self.peer, &runs);
                    if let Some(facts) = facts.filter(|_| !news.is_empty()) {
                        let fact = match tell {
                            SwarmTell::Everything => Fact::HasAll(self.peer),
                            _ => Fact::Has(self.peer, news),
                        };
                        let _ = facts.send(fact).await;
                    }
                }
            }
            SwarmTell::Peers(hints) if self.gathering.is_fetching() => {
                let found = budget.take(hints, self.sharing.swarm().peer_id());
                let found = self.sharing.swarm().heard_from(self.peer, found).await;
                for peer in found {
                    self.sharing.meet_hinted(&self.gathering, peer);
                }
            }
            SwarmTell::Peers(_) => {}
        }
        Ok(())
    }

    async fn tell(&self, mut writer: impl AsyncWrite + Unpin) -> Result<(), Ended> {
        let mut telling = Telling::new(Instant::now());
        loop {
            let batch = self
                .gathering
                .take(&self.peer, self.number)
                .ok_or(Ended::Closed)?;
            let wrote = !batch.frames.is_empty();
            for frame in batch.frames {
                write(&mut writer, &frame).await?;
            }
            if batch.newcomers {
                telling.look();
            }
            if telling.is_due(Instant::now())
                && let Some(hints) = telling
                    .hints(self.sharing.swarm(), self.peer, self.gathering.members())
                    .await
            {
                write(&mut writer, &SwarmTell::Peers(hints)).await?;
            }
            if wrote {
                sleep(WRITE_PAUSE).await;
            }
            tokio::select! {
                () = self.seated.wake.notified() => {}
                () = sleep_until(telling.next().into()), if telling.is_wanted() => {}
            }
        }
    }
}

/// Longest body of a frame about `count` shards that can pass its check, in bytes.
pub(super) fn frame_max(count: u32) -> usize {
    (count as usize / 8 + 16).clamp(SMALL_FRAME_LEN, FRAME_LEN_MAX)
}

/// Reads the next frame's body, which is at most `max` bytes; `None` when the stream ended before it.
pub(super) async fn read_body(
    reader: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<Option<Vec<u8>>, Ended> {
    let mut prefix = [0; wire::PREFIX_LEN];
    if reader.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    let body = async {
        reader.read_exact(&mut prefix[1..]).await?;
        frame::read_body(reader, prefix, max).await
    };
    timeout(SEND_STALL, body)
        .await
        .map_err(|_| Ended::Stalled)?
        .map(Some)
}

/// Reads the first message of a stream, which is at most `max` bytes and soon there; `None` when the stream ended before it.
pub(super) async fn read_first(
    reader: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<Option<SwarmTell>, Ended> {
    let read = timeout(ANSWER_WAIT, read_body(reader, max)).await;
    let body = read.map_err(|_| Ended::Stalled)??;
    Ok(body.map(|body| wire::decode_body(&body)).transpose()?)
}

/// Writes one message.
pub(super) async fn write(writer: &mut (impl AsyncWrite + Unpin), tell: &SwarmTell) -> Result<(), Ended> {
    let frame = wire::encode_frame(tell).expect("what we tell fits a frame");
    let written = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    Ok(timeout(SEND_STALL, written).await.map_err(|_| Ended::Stalled)??)
}

/// How fast a member may talk.
struct Pace {
    tokens: f64,
    at: Instant,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace {
            tokens: FRAMES_AT_ONCE,
            at: now,
        }
    }

    /// Takes a frame of `len` bytes, and returns how long it has to wait.
    fn take(&mut self, len: usize, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + since * FRAMES_PER_SECOND).min(FRAMES_AT_ONCE);
        self.tokens -= 1.0 + (len / FRAME_COST_LEN) as f64;
        Duration::from_secs_f64((-self.tokens).max(0.0) / FRAMES_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_talks_without_end_is_heard_at_its_pace() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start);
        for _ in 0..10_000 {
            now += pace.take(10, now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((150.0..160.0).contains(&seconds), "{seconds}");
        now += Duration::from_secs(60);
        assert_eq!(pace.take(10, now), Duration::ZERO);
        let waited = (0..10).map(|_| pace.take(1 << 20, now)).max();
        assert!(waited.unwrap() >= Duration::from_secs(5), "{waited:?}");
    }
}
