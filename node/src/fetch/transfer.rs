//! One request at one peer: stream → verify → file. What proved right is kept whatever happens after.

use super::plan::Fault;
use crate::{
    limits::MANY_LEN,
    store::{Fresh, Kept, Part, Store, StoreError, blocking, walk},
    swarm::{OpenError, Swarm},
};
use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt, io::BufReader};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesSeq, GetManyRequest, GetRequest, RequestType};
use libp2p::{PeerId, Stream, StreamProtocol};
use protocol::{Hash, SHARD_LEN, wire};
use serde::Serialize;
use std::{io, ops::Range, sync::Arc, time::Duration};
use tokio::time::timeout;

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
    /// The peer says the blob has another length.
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
    /// Whose fault it is; `None` when it is ours.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            TransferError::Open(_) | TransferError::Stream(_) => Some(Fault::Broke),
            TransferError::Wrong { .. } | TransferError::Size { .. } | TransferError::TooMany => {
                Some(Fault::Lied)
            }
            TransferError::Store(_) => None,
        }
    }
}

/// Verified blobs of at most one shard.
#[derive(Default)]
pub(crate) struct Whole {
    /// Which.
    pub(crate) got: Vec<Hash>,
    /// Their files, not yet durable.
    pub(crate) fresh: Vec<Fresh>,
    /// Their rows, not yet durable.
    pub(crate) kept: Kept,
}

/// Told the verified bytes as they are kept.
pub(crate) trait Seen: Fn(u64) + Send + Sync {}
impl<F: Fn(u64) + Send + Sync> Seen for F {}

async fn ask(
    swarm: &Swarm,
    peer: PeerId,
    kind: RequestType,
    request: &impl Serialize,
) -> Result<Stream, TransferError> {
    let mut bytes = postcard::to_stdvec(&kind).map_err(io::Error::other)?;
    bytes.extend(postcard::to_stdvec(request).map_err(io::Error::other)?);
    let mut stream = swarm
        .open_stream(peer, StreamProtocol::new(wire::BLOBS_PROTOCOL))
        .await?;
    stream.write_all(&bytes).await?;
    stream.close().await?;
    Ok(stream)
}

/// Fetches a run of shards into a growing file.
pub(crate) async fn shards(
    swarm: &Swarm,
    peer: PeerId,
    part: &Arc<Part>,
    run: Range<u32>,
    seen: &impl Seen,
) -> Result<(), TransferError> {
    let (hash, len) = (part.blob.hash, part.blob.len);
    let bytes = u64::from(run.start) * SHARD_LEN..(u64::from(run.end) * SHARD_LEN).min(len);
    let ranges = walk::chunks(&bytes, len);
    let request = GetRequest::blob_ranges(iroh_blobs::Hash::from_bytes(*hash.as_bytes()), ranges.clone());
    let mut stream = ask(swarm, peer, RequestType::Get, &request).await?;
    read_size(&mut stream, hash, len).await?;

    let mut verifier = walk::Verifier::new(hash, len);
    let mut schedule = walk::Schedule::new(len, ranges);
    let mut spare = Vec::new();
    let mut filled = read_piece(&mut stream, schedule.next(), Vec::new()).await?;
    let mut done = bytes.start;
    while let Some((piece, buffer)) = filled {
        // One piece is verified and written while the next one is read; two buffers go round.
        let part_ = part.clone();
        let kept = blocking(move || {
            let (placed, right) = verifier.verify(&piece, &buffer);
            part_.write(&buffer, &placed)?;
            let end = placed
                .data
                .last()
                .map(|(at, spans)| at + spans.iter().map(|span| span.len() as u64).sum::<u64>());
            Ok((verifier, buffer, end, right))
        });
        let next = read_piece(&mut stream, schedule.next(), std::mem::take(&mut spare));
        let (kept, next) = tokio::join!(kept, next);
        let (used, buffer, end, right) = kept?;
        (verifier, spare) = (used, buffer);
        if let Some(end) = end {
            let whole = if end == len {
                run.end
            } else {
                (end / SHARD_LEN) as u32
            };
            part.mark((done / SHARD_LEN) as u32..whole);
            seen(end.saturating_sub(done));
            done = end;
        }
        right.map_err(|wrong| TransferError::Wrong {
            blob: hash,
            offset: wrong.offset,
        })?;
        filled = next?;
    }
    expect_end(&mut stream).await
}

/// Reads one piece into a buffer; `None` when there is none to read.
async fn read_piece(
    stream: &mut Stream,
    piece: Option<walk::Piece>,
    mut buffer: Vec<u8>,
) -> Result<Option<(walk::Piece, Vec<u8>)>, TransferError> {
    let Some(piece) = piece else { return Ok(None) };
    buffer.resize(piece.len, 0);
    stream.read_exact(&mut buffer).await?;
    Ok(Some((piece, buffer)))
}

/// Fetches blobs of at most one shard, many in one request.
pub(crate) async fn whole(
    swarm: &Swarm,
    peer: PeerId,
    store: &Store,
    blobs: &[(Hash, u64)],
    seen: &impl Seen,
) -> Result<Whole, (Whole, TransferError)> {
    let mut whole = Whole::default();
    match read_whole(swarm, peer, store, blobs, seen, &mut whole).await {
        Ok(()) => Ok(whole),
        Err(error) => Err((whole, error)),
    }
}

async fn read_whole(
    swarm: &Swarm,
    peer: PeerId,
    store: &Store,
    blobs: &[(Hash, u64)],
    seen: &impl Seen,
    whole: &mut Whole,
) -> Result<(), TransferError> {
    let hashes = blobs
        .iter()
        .map(|(hash, _)| iroh_blobs::Hash::from_bytes(*hash.as_bytes()))
        .collect();
    let every = ChunkRangesSeq::from_ranges(std::iter::repeat_n(ChunkRanges::all(), blobs.len()));
    let stream = ask(
        swarm,
        peer,
        RequestType::GetMany,
        &GetManyRequest::new(hashes, every),
    )
    .await?;
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut small = Vec::new();
    let read = async {
        for (hash, len) in blobs {
            let bytes = read_blob(&mut stream, *hash, *len).await?;
            seen(*len);
            if *len <= crate::limits::SMALL_LEN {
                small.push((*hash, bytes));
            } else {
                whole
                    .fresh
                    .extend(store.put_whole(*hash, bytes, &mut whole.kept).await?);
                whole.got.push(*hash);
            }
        }
        expect_end(&mut stream).await
    };
    let read = read.await;
    let (hashes, bytes): (Vec<Hash>, Vec<Bytes>) = small.into_iter().unzip();
    whole.kept.append(store.put_small(bytes).await?);
    whole.got.extend(hashes);
    read
}

/// Fetches a blob of unknown length into memory; at most `max` bytes.
pub(crate) async fn blob(swarm: &Swarm, peer: PeerId, hash: Hash, max: u64) -> Result<Bytes, TransferError> {
    let request = GetRequest::blob(iroh_blobs::Hash::from_bytes(*hash.as_bytes()));
    let mut stream = BufReader::with_capacity(BUFFER, ask(swarm, peer, RequestType::Get, &request).await?);
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
    for piece in walk::Schedule::new(len, ChunkRanges::all()) {
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
