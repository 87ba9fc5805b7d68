//! Serving: peers ask, and get what was verified on the way out. Blobs by the iroh-blobs get protocol, releases and what we
//! hold by small frames. Every peer has a bounded number of answers under way, and one that does not read loses its stream.

use crate::{
    frame,
    library::Library,
    limits::{ANSWER_WAIT, REQUEST_FRAME_LEN, SEND_STALL, SERVED_AT_ONCE, SERVED_PER_PEER, UNALIGNED_LEN},
    store::{Blob, Store, StoreError, blocking, walk},
    swarm::InboundStream,
};
use bao_tree::{
    BaoTree, ChunkRanges,
    io::{
        outboard::{PreOrderMemOutboard, PreOrderOutboard},
        sync::{encode_ranges, encode_ranges_validated},
    },
};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, stream::FuturesOrdered};
use iroh_blobs::{
    protocol::{GetManyRequest, GetRequest},
    store::IROH_BLOCK_SIZE,
};
use libp2p::{PeerId, Stream};
use protocol::{CatalogAsk, CatalogTell, GROUP_LEN, Hash, RepoId, SwarmAsk, SwarmTell, wire};
use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tracing::debug;

/// First byte of a request for one blob.
const GET: u8 = 0;
/// First byte of a request for many blobs.
const GET_MANY: u8 = 9;
/// Answers shorter than this are gathered before they are written.
const GATHER_LEN: usize = 256 * 1024;
/// Blobs of a hash sequence that one request may name: what a sequence that we read into memory holds.
const CHILDREN_MAX: usize = REQUEST_FRAME_LEN * 4 / 32;
/// Blobs of a request for many that are read ahead of the writing.
const READ_AHEAD: usize = 16;

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
    #[error("a small message")]
    Frame(#[from] frame::FrameError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers peers until the swarm closes. A cheap handle.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    library: Library,
    slots: Semaphore,
    peers: Mutex<HashMap<PeerId, usize>>,
    sent: AtomicU64,
}

impl Server {
    /// Answers out of a library.
    pub(crate) fn new(library: Library) -> Server {
        Server(Arc::new(Inner {
            library,
            slots: Semaphore::new(SERVED_AT_ONCE),
            peers: Mutex::default(),
            sent: AtomicU64::new(0),
        }))
    }

    /// Bytes of blobs sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Answers the streams of one protocol; ends with the swarm.
    pub(crate) async fn answer(self, protocol: &'static str, mut streams: mpsc::Receiver<InboundStream>) {
        while let Some(InboundStream { peer, stream }) = streams.recv().await {
            let Some(_counted) = self.count(peer) else {
                debug!(%peer, "too many answers under way; the stream is closed");
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                let _counted = _counted;
                let answered = match protocol {
                    wire::BLOBS_PROTOCOL => server.blobs(stream).await,
                    wire::CATALOG_PROTOCOL => server.catalog(stream).await,
                    _ => server.swarm(stream).await,
                };
                if let Err(error) = answered {
                    debug!(%peer, protocol, %error, "an answer ended early");
                }
            });
        }
    }

    fn count(&self, peer: PeerId) -> Option<Counted> {
        let mut peers = self.0.peers.lock().expect("nothing panics while it holds this");
        let count = peers.entry(peer).or_default();
        if *count >= SERVED_PER_PEER {
            return None;
        }
        *count += 1;
        Some(Counted(self.clone(), peer))
    }

    async fn catalog(&self, mut stream: Stream) -> Result<(), ServeError> {
        let tell = match frame::read::<CatalogAsk>(&mut stream).await? {
            CatalogAsk::Release { publisher, name } => {
                let repo = RepoId { publisher, name };
                let release = self.0.library.names().get(&repo).ok().flatten();
                CatalogTell::Release(release.map(|release| release.encode()))
            }
            CatalogAsk::Version => CatalogTell::Version(1),
        };
        Ok(frame::write(&mut stream, &tell).await?)
    }

    async fn swarm(&self, mut stream: Stream) -> Result<(), ServeError> {
        let SwarmAsk::Have { manifest } = frame::read::<SwarmAsk>(&mut stream).await?;
        let complete = self.0.library.is_complete(manifest);
        let tell = if complete {
            SwarmTell::Everything
        } else {
            SwarmTell::Nothing
        };
        Ok(frame::write(&mut stream, &tell).await?)
    }

    async fn blobs(&self, mut stream: Stream) -> Result<(), ServeError> {
        let mut request = Vec::new();
        let mut bounded = (&mut stream).take(REQUEST_FRAME_LEN as u64 + 1);
        let read = timeout(ANSWER_WAIT, bounded.read_to_end(&mut request)).await;
        read.map_err(|_| ServeError::Stalled)??;
        // A slot is for answering: who only asks, slowly, holds none.
        let _slot = self.0.slots.acquire().await.map_err(|_| ServeError::Stalled)?;
        let mut answer = Answer {
            stream,
            gathered: Vec::new(),
            sent: &self.0.sent,
        };
        match request.split_first() {
            Some((&GET, request)) if request.len() < REQUEST_FRAME_LEN => {
                self.get(postcard::from_bytes(request)?, &mut answer).await?;
            }
            Some((&GET_MANY, request)) if request.len() < REQUEST_FRAME_LEN => {
                self.get_many(postcard::from_bytes(request)?, &mut answer).await?;
            }
            _ => return Err(ServeError::Unknown),
        }
        answer.finish().await
    }

    /// Answers a request for a blob, or for the blobs that a hash sequence names.
    async fn get(&self, request: GetRequest, answer: &mut Answer<'_>) -> Result<(), ServeError> {
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
            let blob = store.blob(hash).await?;
            answer.blob(store, hash, blob, ranges).await?;
            if request.ranges.is_blob() {
                break;
            }
        }
        Ok(())
    }

    async fn get_many(&self, request: GetManyRequest, answer: &mut Answer<'_>) -> Result<(), ServeError> {
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

/// An answer under way at a peer.
struct Counted(Server, PeerId);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut peers = self.0.0.peers.lock().expect("nothing panics while it holds this");
        if let Some(count) = peers.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.1);
            }
        }
    }
}

/// The writing side of an answer.
struct Answer<'a> {
    stream: Stream,
    gathered: Vec<u8>,
    sent: &'a AtomicU64,
}

impl Answer<'_> {
    async fn blob(
        &mut self,
        store: &Store,
        hash: Hash,
        blob: Blob,
        ranges: &ChunkRanges,
    ) -> Result<(), ServeError> {
        let len = blob.len();
        self.gathered.extend_from_slice(&len.to_le_bytes());
        let ranges = walk::cut(ranges, len);
        match blob {
            Blob::Memory(bytes) if len <= GROUP_LEN && walk::aligned(&ranges, len) => {
                self.gathered.extend_from_slice(&bytes);
            }
            Blob::Memory(bytes) => {
                let outboard = PreOrderMemOutboard::create(&bytes, IROH_BLOCK_SIZE);
                encode_ranges(&bytes[..], &outboard, &ranges, &mut self.gathered)
                    .map_err(io::Error::other)?;
            }
            Blob::File(file, path) => {
                let sent = self.file(&file, &path, ranges).await;
                if let Err(ServeError::Store(StoreError::Damaged { offset, .. })) = &sent {
                    store.report_damage(hash, format!("{} is damaged at byte {offset}", path.display()));
                }
                sent?;
            }
            Blob::Growing(part) => self.file(&part.blob, &part.path, ranges).await?,
        }
        if self.gathered.len() >= GATHER_LEN {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Sends ranges of a file: one piece is read and verified while the one before it is written.
    async fn file(
        &mut self,
        file: &Arc<walk::FileBlob>,
        path: &std::path::Path,
        ranges: ChunkRanges,
    ) -> Result<(), ServeError> {
        if !walk::aligned(&ranges, file.len) {
            return self.unaligned(file, path, ranges).await;
        }
        let mut encoder = walk::Encoder::new(file, ranges).map_err(ServeError::Stream)?;
        let (hash, path) = (file.hash, path.to_owned());
        let mut spare = Vec::new();
        loop {
            let mut piece = std::mem::take(&mut spare);
            let path = path.clone();
            let encoded = blocking(move || {
                let more = encoder
                    .piece(&mut piece, true)
                    .map_err(|error| error.of(hash, &path))?;
                Ok((encoder, piece, more))
            });
            let (encoded, flushed) = tokio::join!(encoded, self.flush());
            flushed?;
            let (next, piece, more) = encoded?;
            encoder = next;
            spare = std::mem::replace(&mut self.gathered, piece);
            if !more {
                return Ok(());
            }
        }
    }

    /// Answers a request that cuts through groups. Ours never do; others' are small (the last chunk, to learn a size).
    async fn unaligned(
        &mut self,
        file: &Arc<walk::FileBlob>,
        path: &std::path::Path,
        ranges: ChunkRanges,
    ) -> Result<(), ServeError> {
        let runs = ranges.boundaries().chunks(2).map(|run| match run {
            [start, end] => end.0.saturating_sub(start.0),
            [start, ..] => file.len.div_ceil(1024).saturating_sub(start.0),
            [] => 0,
        });
        // Each end of a run may cost a whole group.
        let asked: u64 = runs.map(|chunks| chunks * 1024 + 2 * GROUP_LEN).sum();
        if asked > UNALIGNED_LEN {
            return Err(ServeError::Unknown);
        }
        let (file, path) = (file.clone(), path.to_owned());
        let encoded = blocking(move || {
            let outboard = PreOrderOutboard {
                root: file.hash.into(),
                tree: BaoTree::new(file.len, IROH_BLOCK_SIZE),
                data: &file.outboard,
            };
            let mut encoded = Vec::new();
            encode_ranges_validated(&file.data, outboard, &ranges, &mut encoded)
                .map_err(|error| StoreError::io(&path)(error.into()))?;
            Ok(encoded)
        });
        self.gathered.extend(encoded.await?);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ServeError> {
        let written = timeout(SEND_STALL, self.stream.write_all(&self.gathered)).await;
        written.map_err(|_| ServeError::Stalled)??;
        self.sent.fetch_add(self.gathered.len() as u64, Ordering::Relaxed);
        self.gathered.clear();
        Ok(())
    }

    async fn finish(mut self) -> Result<(), ServeError> {
        self.flush().await?;
        timeout(SEND_STALL, self.stream.close())
            .await
            .map_err(|_| ServeError::Stalled)??;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
