//! One answer on its way: verified pieces of blobs, written as fast as its turn, the limits and the peer allow.

use super::{ServeError, Server, request::runs, slots::Turn};
use crate::{
    limits::{SEND_STALL, SLOT_STALL, TURN_LEN, UNALIGNED_LEN},
    meter::Meter,
    store::{Blob, Store, StoreError, blocking, walk},
};
use bao_tree::{
    ChunkRanges,
    io::{
        outboard::PreOrderMemOutboard,
        sync::{encode_ranges, encode_ranges_validated},
    },
};
use futures::AsyncWriteExt;
use iroh_blobs::store::IROH_BLOCK_SIZE;
use libp2p::{PeerId, Stream};
use protocol::{GROUP_LEN, Hash};
use std::{io, path::Path, sync::Arc};
use tokio::time::timeout;

/// Answers shorter than this are gathered before they are written.
const GATHER_LEN: usize = 256 * 1024;

/// The writing side of an answer.
pub(super) struct Answer<'a> {
    server: &'a Server,
    peer: PeerId,
    stream: Stream,
    turn: Turn,
    meter: Arc<Meter>,
    gathered: Vec<u8>,
    /// Bytes sent since the slot came.
    sent: u64,
}

impl Answer<'_> {
    /// Begins once the turn has come.
    pub(super) async fn begin(
        server: &Server,
        peer: PeerId,
        stream: Stream,
        mut turn: Turn,
    ) -> Result<Answer<'_>, ServeError> {
        turn.begin().await?;
        Ok(Answer {
            server,
            peer,
            stream,
            turn,
            meter: server.meter(peer),
            gathered: Vec::new(),
            sent: 0,
        })
    }

    /// Answers for ranges of one blob.
    pub(super) async fn blob(
        &mut self,
        store: &Store,
        hash: Hash,
        blob: Blob,
        ranges: &ChunkRanges,
    ) -> Result<(), ServeError> {
        let len = blob.len();
        let ranges = walk::cut(ranges, len);
        if let Blob::Growing(part) = &blob
            && !walk::bytes_of(&ranges, len).all(|bytes| part.has(bytes))
        {
            return Err(StoreError::Missing(hash).into());
        }
        self.gathered.extend_from_slice(&len.to_le_bytes());
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
        path: &Path,
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
            // It may have been denied meanwhile.
            self.server.refuse_denied(hash)?;
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
        path: &Path,
        ranges: ChunkRanges,
    ) -> Result<(), ServeError> {
        let asked: u64 = runs(&ranges)
            .map(|run| run.end.min(file.len).saturating_sub(run.start) + 2 * GROUP_LEN)
            .sum();
        // Each end of a run may cost a whole group.
        if asked > UNALIGNED_LEN {
            return Err(ServeError::Unknown);
        }
        let (file, path) = (file.clone(), path.to_owned());
        let encoded = blocking(move || {
            let mut encoded = Vec::new();
            encode_ranges_validated(&file.data, file.tree(), &ranges, &mut encoded)
                .map_err(|error| StoreError::io(&path)(error.into()))?;
            Ok(encoded)
        });
        self.gathered.extend(encoded.await?);
        Ok(())
    }

    /// Writes what was gathered, in steps as small as the limits want them.
    async fn flush(&mut self) -> Result<(), ServeError> {
        let (throttle, mut at) = (&self.server.0.throttle, 0);
        while at < self.gathered.len() {
            let end = at.saturating_add(throttle.up_step()).min(self.gathered.len());
            throttle.up(self.peer, end - at).await;
            while at < end {
                at += self.write(at, end).await?;
            }
        }
        self.gathered.clear();
        Ok(())
    }

    /// Writes as much of what was gathered as the peer accepts at once. Nobody waits for one that accepts nothing.
    async fn write(&mut self, at: usize, end: usize) -> Result<usize, ServeError> {
        let mut write = self.stream.write(&self.gathered[at..end]);
        let written = match timeout(SLOT_STALL, &mut write).await {
            Ok(written) => written?,
            Err(_) => {
                self.turn.stuck();
                let written = tokio::select! {
                    written = timeout(SEND_STALL - SLOT_STALL, write) => written,
                    () = self.turn.closed() => return Err(super::slots::Crowded.into()),
                };
                let written = written.map_err(|_| ServeError::Stalled)??;
                self.turn.again().await?;
                written
            }
        };
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        self.meter.add(written as u64);
        self.server.0.sent.add(written as u64);
        self.sent += written as u64;
        if self.sent >= TURN_LEN {
            self.sent = 0;
            self.turn.share().await?;
        }
        Ok(written)
    }

    /// Writes the rest and closes the stream. What is still on its way needs no slot.
    pub(super) async fn finish(mut self) -> Result<(), ServeError> {
        self.flush().await?;
        drop(self.turn);
        timeout(SEND_STALL, self.stream.close())
            .await
            .map_err(|_| ServeError::Stalled)??;
        Ok(())
    }
}
