//! One request at one peer: stream → verify → file. What proved right is kept whatever happens after.

use super::plan::Fault;
use crate::{
    limits::{MANY_LEN, PIECE_LEN, ROWS_LEN, SMALL_LEN},
    node::Node,
    runs,
    store::{Fresh, Kept, Part, Store, StoreError, blocking, walk},
    swarm::{OpenError, Swarm},
    throttle::Throttle,
};
use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, io::BufReader};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesSeq, GetManyRequest, GetRequest, RequestType};
use libp2p::{PeerId, Stream, StreamProtocol};
use protocol::{GROUP_LEN, Hash, NumberedBlob, wire};
use serde::Serialize;
use std::{io, ops::Range, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// How long a peer may take to close a stream after the answer.
const END_WAIT: Duration = Duration::from_secs(2);

/// Bytes read from a stream at a time where answers are small.
const BUFFER: usize = 256 * 1024;

/// Why a request ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// No stream.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream broke.
    #[error("the stream")]
    Stream(#[from] io::Error),
    /// The peer sent wrong bytes.
    #[error("wrong bytes for {blob} at {offset}")]
    Wrong {
        /// For which blob.
        blob: Hash,
        /// Where, in bytes.
        offset: u64,
    },
    /// The peer says the blob has another length. Whoever made the manifest may be the liar, so the peer is not blamed; but it
    /// does not have what this manifest calls the blob.
    #[error("{len} bytes said for {blob} instead of {expected}")]
    Size { blob: Hash, len: u64, expected: u64 },
    /// The peer went on after the answer.
    #[error("more bytes than were asked for")]
    TooMany,
    /// We could not keep the bytes: no peer is blamed.
    #[error("the store")]
    Store(#[from] StoreError),
}

impl TransferError {
    /// How much the peer is to blame. What our own store could not do says nothing against it.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            TransferError::Wrong { .. } | TransferError::TooMany => Fault::Lied,
            TransferError::Open(_)
            | TransferError::Stream(_)
            | TransferError::Size { .. }
            | TransferError::Store(_) => Fault::Broke,
        }
    }
}

/// Room to tell a job one thing.
struct Room {
    first: u32,
    permit: Option<mpsc::OwnedPermit<Came>>,
}

impl Room {
    /// Tells what is filled in of `came`. Shards count from `first`.
    fn came(self, bytes: u64, landed: impl IntoIterator<Item = Range<u32>>, came: Came) {
        let global = |run: Range<u32>| self.first + run.start..self.first + run.end;
        let landed = landed.into_iter().map(global).collect();
        if let Some(permit) = self.permit {
            permit.send(Came {
                bytes,
                landed,
                ..came
            });
        }
    }
}

/// The way to a peer: its streams, and how fast bytes may come over them.
pub(crate) struct Link {
    swarm: Swarm,
    store: Store,
    throttle: Throttle,
    peer: PeerId,
}

impl Link {
    /// The way of a node to `peer`.
    pub(crate) fn new(node: &Node, peer: PeerId) -> Link {
        Link::over(node.swarm(), node.library().store(), node.throttle(), peer)
    }

    /// The way over a swarm, to where the bytes go, as fast as `throttle` allows.
    pub(crate) fn over(swarm: &Swarm, store: &Store, throttle: &Throttle, peer: PeerId) -> Link {
        Link {
            swarm: swarm.clone(),
            store: store.clone(),
            throttle: throttle.clone(),
            peer,
        }
    }
}

/// What a request brought since it was last told. Everything in it is verified and kept.
pub(crate) struct Came {
    /// Which request.
    pub(crate) request: u64,
    /// Who gave it.
    pub(crate) peer: PeerId,
    /// The first shard of the blob, or of the first one, that was asked for.
    pub(crate) first: u32,
    /// Bytes of blobs.
    pub(crate) bytes: u64,
    /// Shards that are whole now, by their numbers in the map.
    pub(crate) landed: Vec<Range<u32>>,
    /// The growing file they are in, when it was just opened.
    pub(crate) part: Option<Arc<Part>>,
    /// Files of blobs that are whole, not yet durable.
    pub(crate) fresh: Vec<(Hash, Fresh)>,
    /// Rows of blobs that are whole, not yet durable.
    pub(crate) kept: Kept,
}

/// Tells a job what one of its requests brings.
pub(crate) struct Teller {
    request: u64,
    peer: PeerId,
    first: u32,
    tell: mpsc::Sender<Came>,
}

impl Teller {
    /// Tells of a request at `peer` for shards of the blob whose first shard is `first`, or of that blob and those behind it.
    pub(crate) fn new(request: u64, peer: PeerId, first: u32, tell: mpsc::Sender<Came>) -> Teller {
        Teller {
            request,
            peer,
            first,
            tell,
        }
    }

    /// Tells what is filled in of `came`. Shards count from `first`.
    async fn came(&self, bytes: u64, landed: impl IntoIterator<Item = Range<u32>>, came: Came) {
        self.room().await.came(bytes, landed, came);
    }

    /// Waits for room to tell something: what is kept in the meantime is told although the request is stopped.
    async fn room(&self) -> Room {
        Room {
            first: self.first,
            // A job that has ended does not need to know.
            permit: self.tell.clone().reserve_owned().await.ok(),
        }
    }

    fn nothing(&self) -> Came {
        Came {
            request: self.request,
            peer: self.peer,
            first: self.first,
            bytes: 0,
            landed: Vec::new(),
            part: None,
            fresh: Vec::new(),
            kept: Kept::default(),
        }
    }
}

async fn ask(link: &Link, kind: RequestType, request: &impl Serialize) -> Result<Stream, TransferError> {
    let mut bytes = postcard::to_stdvec(&kind).map_err(io::Error::other)?;
    bytes.extend(postcard::to_stdvec(request).map_err(io::Error::other)?);
    let protocol = StreamProtocol::new(wire::BLOBS_PROTOCOL);
    let mut stream = link.swarm.open_stream(link.peer, protocol).await?;
    stream.write_all(&bytes).await?;
    stream.close().await?;
    Ok(stream)
}

/// How long pieces are: what is read before any of it is verified. Short on a slow link, so that progress is seen within seconds.
struct Pace(usize);

impl Pace {
    /// Length of the first piece, in bytes.
    const FIRST: usize = 64 * 1024;
    /// Shortest piece, in bytes: one group.
    const SHORTEST: usize = GROUP_LEN as usize;
    /// A piece that took less is followed by a longer one.
    const QUICK: Duration = Duration::from_millis(100);
    /// A piece that took more is followed by a shorter one.
    const SLOW: Duration = Duration::from_secs(1);

    fn took(&mut self, time: Duration) {
        if time < Pace::QUICK {
            self.0 = (self.0 * 2).min(PIECE_LEN);
        } else if time > Pace::SLOW {
            self.0 = (self.0 / 2).max(Pace::SHORTEST);
        }
    }
}

/// Fetches what is missing of a run of shards of a blob into its growing file, and nothing else.
///
/// - `blob`: its hash and length. `part`: its growing file, if it is open; otherwise it is opened here, and told.
/// - Each group is noted as it is written; on an error, those before it are kept.
pub(crate) async fn shards(
    link: &Link,
    blob: (Hash, u64),
    part: Option<Arc<Part>>,
    run: Range<u32>,
    teller: &Teller,
) -> Result<(), TransferError> {
    let (hash, len) = blob;
    let part = match part {
        Some(part) => part,
        None => {
            let store = link.store.clone();
            let part = blocking(move || store.part(hash, len)).await?;
            let came = Came {
                part: Some(part.clone()),
                ..teller.nothing()
            };
            teller.came(0, std::iter::empty(), came).await;
            part
        }
    };
    let missing = part.missing(run.clone());
    if missing.is_empty() {
        // Another job brought it.
        teller.came(0, std::iter::once(run), teller.nothing()).await;
        return Ok(());
    }
    let ranges = walk::chunks_of(&missing, len);
    let request = GetRequest::blob_ranges(iroh_blobs::Hash::from_bytes(*hash.as_bytes()), ranges.clone());
    let mut stream = ask(link, RequestType::Get, &request).await?;
    read_size(&mut stream, hash, len).await?;

    let mut verifier = walk::Verifier::new(hash, len);
    let mut schedule = walk::Schedule::new(len, ranges);
    let mut pace = Pace(Pace::FIRST);
    let mut spare = Vec::new();
    let mut filled = read_piece(link, &mut stream, &mut schedule, &mut pace, Vec::new()).await?;
    while let Some((piece, buffer)) = filled {
        // One piece is verified and written while the next one is read; two buffers go round.
        let kept = keep(&part, verifier, piece, buffer, teller);
        let next = read_piece(
            link,
            &mut stream,
            &mut schedule,
            &mut pace,
            std::mem::take(&mut spare),
        );
        // A wrong piece ends it at once; a stream that breaks does not keep what came before from being counted.
        let (kept, next) = tokio::try_join!(kept, async { Ok(next.await) })?;
        (verifier, spare) = kept;
        filled = next?;
    }
    expect_end(&mut stream).await
}

/// Verifies a piece and writes what is right of it; returns the verifier and the buffer for the pieces to come.
async fn keep(
    part: &Arc<Part>,
    mut verifier: walk::Verifier,
    piece: walk::Piece,
    buffer: Vec<u8>,
    teller: &Teller,
) -> Result<(walk::Verifier, Vec<u8>), TransferError> {
    let (hash, part) = (part.blob.hash, part.clone());
    let (room, came) = (teller.room().await, teller.nothing());
    let (verifier, buffer, right) = blocking(move || {
        let (placed, right) = verifier.verify(&piece, &buffer);
        part.write(&buffer, &placed)?;
        let (mut bytes, mut landed) = (0, Vec::new());
        for (start, spans) in &placed.data {
            let len: u64 = spans.iter().map(|span| span.len() as u64).sum();
            landed.extend(part.landed(*start..start + len));
            bytes += len;
        }
        room.came(bytes, landed, came);
        Ok((verifier, buffer, right))
    })
    .await?;
    right.map_err(|wrong| TransferError::Wrong {
        blob: hash,
        offset: wrong.offset,
    })?;
    Ok((verifier, buffer))
}

/// Reads one piece into a buffer; `None` when there is none to read.
async fn read_piece(
    link: &Link,
    stream: &mut Stream,
    schedule: &mut walk::Schedule,
    pace: &mut Pace,
    mut buffer: Vec<u8>,
) -> Result<Option<(walk::Piece, Vec<u8>)>, TransferError> {
    let Some(piece) = schedule.piece(pace.0) else {
        return Ok(None);
    };
    let begun = Instant::now();
    buffer.resize(piece.len, 0);
    let mut at = 0;
    while at < buffer.len() {
        let end = buffer.len().min(at.saturating_add(link.throttle.down_step()));
        stream.read_exact(&mut buffer[at..end]).await?;
        link.throttle.down(link.peer, end - at).await;
        at = end;
    }
    pace.took(begun.elapsed());
    Ok(Some((piece, buffer)))
}

/// Fetches blobs of at most one shard, which follow each other in the map, in one request.
pub(crate) async fn whole(link: &Link, blobs: &[NumberedBlob], teller: &Teller) -> Result<(), TransferError> {
    let hashes = blobs
        .iter()
        .map(|blob| iroh_blobs::Hash::from_bytes(*blob.hash.as_bytes()))
        .collect();
    let every = ChunkRangesSeq::from_ranges(std::iter::repeat_n(ChunkRanges::all(), blobs.len()));
    let request = GetManyRequest::new(hashes, every);
    let stream = ask(link, RequestType::GetMany, &request).await?;
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut rows = Rows::default();
    let read = async {
        for (at, blob) in (0u32..).zip(blobs) {
            let bytes = read_blob(&mut stream, blob.hash, blob.len).await?;
            link.throttle.down(link.peer, bytes.len()).await;
            if blob.len <= SMALL_LEN {
                rows.add(at, bytes);
                if rows.len >= ROWS_LEN {
                    rows.put(link, teller).await?;
                }
            } else {
                let fresh = link.store.put_middling(blob.hash, bytes).await?;
                let fresh = vec![(blob.hash, fresh)];
                let came = Came {
                    fresh,
                    ..teller.nothing()
                };
                teller.came(blob.len, std::iter::once(at..at + 1), came).await;
            }
        }
        expect_end(&mut stream).await
    };
    let read = read.await;
    rows.put(link, teller).await?;
    read
}

/// Small blobs on their way into the database: many at once cost little more than one.
#[derive(Default)]
struct Rows {
    landed: Vec<Range<u32>>,
    bytes: Vec<Bytes>,
    len: u64,
}

impl Rows {
    fn add(&mut self, at: u32, bytes: Bytes) {
        self.len += bytes.len() as u64;
        self.bytes.push(bytes);
        runs::push(&mut self.landed, at..at + 1);
    }

    async fn put(&mut self, link: &Link, teller: &Teller) -> Result<(), TransferError> {
        let Rows { landed, bytes, len } = std::mem::take(self);
        if !bytes.is_empty() {
            let kept = link.store.put_small(bytes).await?;
            teller
                .came(
                    len,
                    landed,
                    Came {
                        kept,
                        ..teller.nothing()
                    },
                )
                .await;
        }
        Ok(())
    }
}

/// Fetches a blob of unknown length into memory; at most `max` bytes.
pub(crate) async fn blob(link: &Link, hash: Hash, max: u64) -> Result<Bytes, TransferError> {
    let request = GetRequest::blob(iroh_blobs::Hash::from_bytes(*hash.as_bytes()));
    let mut stream = BufReader::with_capacity(BUFFER, ask(link, RequestType::Get, &request).await?);
    let mut prefix = [0; 8];
    stream.read_exact(&mut prefix).await?;
    let len = u64::from_le_bytes(prefix);
    if len > max {
        return Err(TransferError::Size {
            blob: hash,
            len,
            expected: max,
        });
    }
    let bytes = read_encoded(&mut stream, hash, len).await?;
    expect_end(&mut stream).await?;
    Ok(bytes)
}

async fn read_blob(stream: &mut BufReader<Stream>, hash: Hash, len: u64) -> Result<Bytes, TransferError> {
    debug_assert!(len <= MANY_LEN);
    read_size(stream, hash, len).await?;
    read_encoded(stream, hash, len).await
}

/// Reads and verifies the encoding of a whole blob, piece by piece: memory grows only with what proved right.
async fn read_encoded(stream: &mut BufReader<Stream>, hash: Hash, len: u64) -> Result<Bytes, TransferError> {
    let mut verifier = walk::Verifier::new(hash, len);
    let mut bytes = Vec::new();
    let mut buffer = Vec::new();
    let mut schedule = walk::Schedule::new(len, ChunkRanges::all());
    while let Some(piece) = schedule.piece(PIECE_LEN) {
        buffer.resize(piece.len, 0);
        stream.read_exact(&mut buffer).await?;
        let (placed, right) = verifier.verify(&piece, &buffer);
        right.map_err(|wrong| TransferError::Wrong {
            blob: hash,
            offset: wrong.offset,
        })?;
        for span in placed.data.into_iter().flat_map(|(_, spans)| spans) {
            bytes.extend_from_slice(&buffer[span]);
        }
    }
    Ok(bytes.into())
}

async fn read_size(
    stream: &mut (impl futures::AsyncRead + Unpin),
    blob: Hash,
    expected: u64,
) -> Result<(), TransferError> {
    let mut prefix = [0; 8];
    stream.read_exact(&mut prefix).await?;
    let len = u64::from_le_bytes(prefix);
    if len == expected {
        Ok(())
    } else {
        Err(TransferError::Size { blob, len, expected })
    }
}

async fn expect_end(stream: &mut (impl futures::AsyncRead + Unpin)) -> Result<(), TransferError> {
    // All that was asked for is here and right; a peer that does not close is not waited for.
    match timeout(END_WAIT, stream.read(&mut [0])).await {
        Ok(Ok(0) | Err(_)) | Err(_) => Ok(()),
        Ok(Ok(_)) => Err(TransferError::TooMany),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_as_long_as_the_link_is_fast() {
        let mut pace = Pace(Pace::FIRST);
        for _ in 0..10 {
            pace.took(Duration::from_millis(5));
        }
        assert_eq!(pace.0, PIECE_LEN);
        pace.took(Duration::from_millis(500));
        assert_eq!(pace.0, PIECE_LEN);
        for _ in 0..10 {
            pace.took(Duration::from_secs(2));
        }
        assert_eq!(pace.0, GROUP_LEN as usize);
    }

    #[test]
    fn another_length_is_not_held_against_a_peer() {
        let (blob, len, expected) = (Hash::EMPTY, 1, 2);
        let fault = TransferError::Size { blob, len, expected }.fault();
        assert_eq!(fault, Fault::Broke);
    }
}
