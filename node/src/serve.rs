//! Serving: peers ask, and get what was verified on the way out. Blobs by the iroh-blobs get protocol, when their turn comes;
//! releases by small frames. Every peer has a bounded number of requests, and one that does not read loses its stream.

mod answer;
mod request;
mod slots;

use self::{
    answer::Answer,
    request::Request,
    slots::{Crowded, Slots},
};
use crate::{
    discovery::{Discovery, Session, SessionError},
    frame,
    library::Library,
    limits::{ANSWER_WAIT, REQUEST_FRAME_LEN, SEND_STALL, SERVED_MAX, SERVED_PER_PEER},
    meter::Meter,
    store::{Blob, Store, StoreError},
    swarm::InboundStream,
    throttle::Throttle,
};
use bao_tree::ChunkRanges;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, stream::FuturesOrdered};
use iroh_blobs::protocol::{GetManyRequest, GetRequest};
use libp2p::{PeerId, Stream};
use protocol::{CatalogAsk, Hash, wire};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    io,
    ops::Range,
    sync::{Arc, Mutex},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Duration, MissedTickBehavior, interval, timeout},
};
use tracing::debug;

/// Blobs of a hash sequence that one request may name: what a sequence that we read into memory holds.
const CHILDREN_MAX: usize = REQUEST_FRAME_LEN * 4 / 32;
/// Blobs of a request for many that are read ahead of the writing.
const READ_AHEAD: usize = 16;
/// Bytes of all requests that wait or are answered; read apart, a hostile one takes twenty times its length in memory.
const REQUESTS_LEN: usize = 4 * REQUEST_FRAME_LEN;
/// Peers whose bytes are counted apart. More are there only while more are answered.
const METERED_MAX: usize = 256;
/// How often the number of slots is thought over.
const SECOND: Duration = Duration::from_secs(1);

/// Why an answer ended early. The peer sees its stream end; it can tell from the encoding that something is missing.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("the stream")]
    Stream(#[from] io::Error),
    #[error("no progress for {SEND_STALL:?}")]
    Stalled,
    #[error("a request that does not read: {0}")]
    Request(#[from] postcard::Error),
    #[error("a request of an unknown kind, or too long")]
    Unknown,
    #[error("too many long requests at once")]
    NoRoom,
    #[error("a small message")]
    Frame(#[from] frame::FrameError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who is told of what is asked for and what was sent. A range that a peer left open ends at `u64::MAX`.
pub(crate) trait Watcher: Send + Sync {
    /// A peer asks for bytes of a blob; returns whether some of them are a first copy, which is sent first.
    fn asked(&self, peer: PeerId, blob: Hash, bytes: Range<u64>) -> bool;
    /// They were sent in full.
    fn sent(&self, peer: PeerId, blob: Hash, bytes: Range<u64>);
}

/// What a peer is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerUp {
    /// Who.
    pub peer: String,
    /// Bytes a second over the last few seconds.
    pub bytes_s: f64,
    /// Bytes since it began to ask; counted anew after a long time without requests.
    pub bytes: u64,
}

/// Answers peers until the swarm closes. A cheap handle.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    library: Library,
    discovery: Discovery,
    throttle: Throttle,
    slots: Slots,
    /// In bytes of requests.
    room: Semaphore,
    watcher: Arc<dyn Watcher>,
    sent: Meter,
    meters: Mutex<HashMap<PeerId, Arc<Meter>>>,
    counts: Mutex<HashMap<PeerId, usize>>,
}

impl Server {
    /// Answers out of a library, as fast as `throttle` allows; `slots` at once, or as many as prove useful.
    pub(crate) fn new(
        library: Library,
        discovery: Discovery,
        throttle: Throttle,
        slots: Option<usize>,
        watcher: Arc<dyn Watcher>,
    ) -> Server {
        Server(Arc::new(Inner {
            library,
            discovery,
            throttle,
            slots: Slots::new(slots),
            room: Semaphore::new(REQUESTS_LEN),
            watcher,
            sent: Meter::new(),
            meters: Mutex::default(),
            counts: Mutex::default(),
        }))
    }

    /// Bytes of blobs sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.total()
    }

    /// Bytes of blobs sent a second, over the last few seconds.
    pub(crate) fn rate_up(&self) -> f64 {
        self.0.sent.rate()
    }

    /// Returns the peers that are being answered or were in the last few seconds, the fastest first.
    pub(crate) fn serving(&self) -> Vec<PeerUp> {
        let meters = self.0.meters.lock().expect("nothing panics while it holds this");
        let mut serving: Vec<PeerUp> = meters
            .iter()
            .map(|(peer, meter)| (peer, meter, meter.rate()))
            .filter(|(_, meter, rate)| *rate > 0.0 || Arc::strong_count(meter) > 1)
            .map(|(peer, meter, bytes_s)| PeerUp {
                peer: peer.to_string(),
                bytes_s,
                bytes: meter.total(),
            })
            .collect();
        serving.sort_by(|a, b| b.bytes_s.total_cmp(&a.bytes_s));
        serving
    }

    fn meter(&self, peer: PeerId) -> Arc<Meter> {
        let mut meters = self.0.meters.lock().expect("nothing panics while it holds this");
        if !meters.contains_key(&peer) && meters.len() >= METERED_MAX {
            let used = |meter: &Arc<Meter>| Arc::strong_count(meter) > 1;
            meters.retain(|_, meter| used(meter) || meter.rate() > 0.0);
            if meters.len() >= METERED_MAX {
                meters.retain(|_, meter| used(meter));
            }
        }
        let meter = meters.entry(peer).or_insert_with(|| Arc::new(Meter::new()));
        meter.clone()
    }

    /// Answers the streams of one protocol; ends with the swarm.
    pub(crate) async fn answer(self, protocol: &'static str, mut streams: mpsc::Receiver<InboundStream>) {
        let mut second = interval(SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let inbound = tokio::select! {
                inbound = streams.recv() => inbound,
                _ = second.tick(), if protocol == wire::BLOBS_PROTOCOL => {
                    self.0.slots.second(self.sent());
                    continue;
                }
            };
            let Some(InboundStream { peer, stream }) = inbound else {
                return;
            };
            let Some(counted) = self.count(peer) else {
                debug!(%peer, "too many requests at once; the stream is closed");
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                let _counted = counted;
                let answered = match protocol {
                    wire::BLOBS_PROTOCOL => server.blobs(peer, stream).await,
                    _ => server.catalog(peer, stream).await,
                };
                if let Err(error) = answered {
                    debug!(%peer, protocol, %error, "an answer ended early");
                }
            });
        }
    }

    /// Counts a request from when its stream is there until it is over; `None` where there are too many.
    fn count(&self, peer: PeerId) -> Option<Counted> {
        let mut counts = self.0.counts.lock().expect("nothing panics while it holds this");
        if counts.values().sum::<usize>() >= SERVED_MAX {
            return None;
        }
        let count = counts.entry(peer).or_default();
        if *count >= SERVED_PER_PEER {
            return None;
        }
        *count += 1;
        Some(Counted(self.clone(), peer))
    }

    async fn catalog(&self, peer: PeerId, mut stream: Stream) -> Result<(), ServeError> {
        let mut session = Session::new(self.0.discovery.clone(), peer);
        while let Some(ask) = frame::next::<CatalogAsk>(&mut stream).await? {
            let tell = session.answer(ask).await?;
            frame::send(&mut stream, &tell).await?;
        }
        Ok(stream.close().await?)
    }

    async fn blobs(&self, peer: PeerId, mut stream: Stream) -> Result<(), ServeError> {
        let mut request = Vec::new();
        let mut bounded = (&mut stream).take(REQUEST_FRAME_LEN as u64 + 1);
        let read = timeout(ANSWER_WAIT, bounded.read_to_end(&mut request)).await;
        read.map_err(|_| ServeError::Stalled)??;
        let len = u32::try_from(request.len()).map_err(|_| ServeError::Unknown)?;
        let room = self.0.room.try_acquire_many(len);
        let _room = room.map_err(|_| ServeError::NoRoom)?;
        let request = Request::decode(&std::mem::take(&mut request))?;
        let watcher = &self.0.watcher;
        // Each is told of, also behind a first copy.
        let first_copy = request.ranges().fold(false, |first, (blob, bytes)| {
            watcher.asked(peer, blob, bytes) || first
        });
        let turn = self.0.slots.enter(peer, first_copy);
        let mut answer = Answer::begin(self, peer, stream, turn).await?;
        match &request {
            Request::Get(request) => self.get(request, &mut answer).await?,
            Request::GetMany(request) => self.get_many(request, &mut answer).await?,
        }
        answer.finish().await?;
        for (blob, bytes) in request.ranges() {
            watcher.sent(peer, blob, bytes);
        }
        Ok(())
    }

    /// Answers a request for a blob, or for the blobs that a hash sequence names.
    async fn get(&self, request: &GetRequest, answer: &mut Answer<'_>) -> Result<(), ServeError> {
        let store = self.0.library.store();
        let root = Hash::from_bytes(*request.hash.as_bytes());
        let mut children = None;
        for (index, ranges) in (0u64..)
            .zip(request.ranges.iter_infinite())
            .take(1 + CHILDREN_MAX)
        {
            if ranges.is_empty() {
                continue;
            }
            let hash = if index == 0 {
                root
            } else {
                if children.is_none() {
                    self.refuse_denied(root)?;
                    children = Some(store.read(root, REQUEST_FRAME_LEN as u64 * 4).await?);
                }
                let list = children.as_deref().unwrap_or_default();
                let child = usize::try_from(index - 1)
                    .ok()
                    .and_then(|index| list.chunks_exact(32).nth(index));
                match child {
                    Some(child) => Hash::from_bytes(child.try_into().expect("32 bytes")),
                    None => break,
                }
            };
            self.refuse_denied(hash)?;
            let blob = store.blob(hash).await?;
            answer.blob(store, hash, blob, ranges).await?;
            if request.ranges.is_blob() {
                break;
            }
        }
        Ok(())
    }

    /// A blob that is denied is served as if it were not here.
    fn refuse_denied(&self, blob: Hash) -> Result<(), StoreError> {
        match self.0.library.denials().blob(blob) {
            Some(_) => Err(StoreError::Missing(blob)),
            None => Ok(()),
        }
    }

    async fn get_many(&self, request: &GetManyRequest, answer: &mut Answer<'_>) -> Result<(), ServeError> {
        let store = self.0.library.store();
        let mut wanted = request.hashes.iter().zip(request.ranges.iter_infinite());
        let mut ahead = FuturesOrdered::new();
        loop {
            while ahead.len() < READ_AHEAD
                && let Some((hash, ranges)) = wanted.next()
            {
                if !ranges.is_empty() {
                    ahead.push_back(read(store, Hash::from_bytes(*hash.as_bytes()), ranges.clone()));
                }
            }
            let Some((hash, ranges, blob)) = ahead.next().await else {
                return Ok(());
            };
            self.refuse_denied(hash)?;
            answer.blob(store, hash, blob?, &ranges).await?;
        }
    }
}

async fn read(
    store: &Store,
    hash: Hash,
    ranges: ChunkRanges,
) -> (Hash, ChunkRanges, Result<Blob, StoreError>) {
    (hash, ranges, store.blob(hash).await)
}

/// A request of a peer that waits or is answered.
struct Counted(Server, PeerId);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self
            .0
            .0
            .counts
            .lock()
            .expect("nothing panics while it holds this");
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
