//! Verified bytes on their way out and in, in the encoding of the iroh-blobs get protocol: the pairs of the tree in
//! pre-order, each before what it vouches for, and the 16 KiB groups as leaves.
//!
//! [`Encoder`] reads a blob's file and gives an encoding of which every byte was verified; [`Verifier`] takes a peer's
//! encoding and tells which bytes are right. Neither knows of streams; both work a piece (1 MiB) at a time.

use super::{StoreError, tree::PAIR_LEN};
use crate::{limits::PIECE_LEN, runs};
use bao_tree::{
    BaoTree, ChunkNum, ChunkRanges, ChunkRangesRef,
    io::{outboard::PreOrderOutboard, sync::truncate_ranges},
    iter::{BaoChunk, ResponseIter},
};
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use iroh_blobs::store::IROH_BLOCK_SIZE;
use protocol::{GROUP_LEN, Hash};
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, sync::Arc};

/// Returns the chunks of a byte range that begins at a group and ends at one or at the end of a blob of `len` bytes.
pub(crate) fn chunks(range: &Range<u64>, len: u64) -> ChunkRanges {
    let start = ChunkNum(range.start / 1024);
    if range.end >= len {
        ChunkRanges::from(start..)
    } else {
        ChunkRanges::from(start..ChunkNum(range.end.div_ceil(1024)))
    }
}

/// Returns the chunks of several byte ranges, each like one of [`chunks`].
pub(crate) fn chunks_of(ranges: &[Range<u64>], len: u64) -> ChunkRanges {
    let each = ranges.iter().map(|range| chunks(range, len));
    each.fold(ChunkRanges::empty(), |all, more| all | more)
}

/// Returns the bytes that chunks of a blob of `len` bytes stand for, range by range.
pub(crate) fn bytes_of(ranges: &ChunkRanges, len: u64) -> impl Iterator<Item = Range<u64>> {
    ranges.boundaries().chunks(2).map(move |range| match range {
        [start, end] => start.to_bytes().min(len)..end.to_bytes().min(len),
        [start, ..] => start.to_bytes().min(len)..len,
        [] => 0..0,
    })
}

/// Cuts what a peer asked for to a blob of `len` bytes; what lies behind its end means its last chunk.
pub(crate) fn cut(ranges: &ChunkRanges, len: u64) -> ChunkRanges {
    truncate_ranges(ranges, len).union(ChunkRangesRef::empty())
}

/// Tells whether every boundary of `ranges`, which were [`cut`], falls on a group: then every leaf is a whole group.
pub(crate) fn aligned(ranges: &ChunkRanges, len: u64) -> bool {
    let group = GROUP_LEN / 1024;
    let last_group = len.saturating_sub(1) / GROUP_LEN * group;
    let mut boundaries = ranges.boundaries().iter();
    boundaries.all(|chunk| chunk.0.is_multiple_of(group) && chunk.0 <= last_group)
}

/// The hashes that what comes next must have, deepest last.
struct Expected(Vec<[u8; 32]>);

impl Expected {
    fn pair(&mut self, pair: &[u8; 64], root: bool, left: bool, right: bool) -> bool {
        let (a, b) = pair.split_at(32);
        let (a, b): ([u8; 32], [u8; 32]) = (
            a.try_into().expect("half of 64 bytes"),
            b.try_into().expect("half of 64 bytes"),
        );
        let actual = if root {
            *merge_subtrees_root(&a, &b, Mode::Hash).as_bytes()
        } else {
            merge_subtrees_non_root(&a, &b, Mode::Hash)
        };
        let right_one = self.0.pop() == Some(actual);
        if right {
            self.0.push(b);
        }
        if left {
            self.0.push(a);
        }
        right_one
    }

    fn leaf(&mut self, offset: u64, data: &[u8], root: bool) -> bool {
        let actual = if root {
            *blake3::hash(data).as_bytes()
        } else {
            blake3::Hasher::new()
                .set_input_offset(offset)
                .update(data)
                .finalize_non_root()
        };
        self.0.pop() == Some(actual)
    }
}

/// Reads pairs from an outboard a few KiB at a time: in pre-order most stand one behind the other.
struct Pairs {
    file: File,
    buffer: Vec<u8>,
    start: u64,
    len: u64,
}

impl Pairs {
    const BUFFER: u64 = 4096;

    fn at(&mut self, offset: u64) -> io::Result<[u8; 64]> {
        let held = self.start..self.start + self.buffer.len() as u64;
        if offset < held.start || offset + PAIR_LEN > held.end {
            let len = Self::BUFFER.min(self.len.saturating_sub(offset));
            self.buffer.resize(len as usize, 0);
            self.file.read_exact_at(&mut self.buffer, offset)?;
            self.start = offset;
        }
        let at = (offset - self.start) as usize;
        let pair = self.buffer.get(at..at + PAIR_LEN as usize);
        let pair = pair.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(pair.try_into().expect("64 bytes"))
    }
}

/// A blob that is a file with an outboard beside it.
#[derive(Debug)]
pub(crate) struct FileBlob {
    /// The blob's name.
    pub(crate) hash: Hash,
    /// Its length in bytes.
    pub(crate) len: u64,
    /// Its bytes, or some of them while it is being fetched.
    pub(crate) data: File,
    /// Its tree.
    pub(crate) outboard: File,
}

impl FileBlob {
    /// Returns its tree as bao-tree reads it.
    pub(crate) fn tree(&self) -> PreOrderOutboard<&File> {
        PreOrderOutboard {
            root: self.hash.into(),
            tree: BaoTree::new(self.len, IROH_BLOCK_SIZE),
            data: &self.outboard,
        }
    }
}

/// Gives the encoding of some ranges of a [`FileBlob`], verified.
pub(crate) struct Encoder {
    blob: Arc<FileBlob>,
    tree: BaoTree,
    items: ResponseIter,
    expected: Expected,
    pairs: Pairs,
}

impl Encoder {
    /// Begins to encode `ranges`, which must be [`aligned`].
    pub(crate) fn new(blob: &Arc<FileBlob>, ranges: ChunkRanges) -> io::Result<Encoder> {
        let tree = BaoTree::new(blob.len, IROH_BLOCK_SIZE);
        Ok(Encoder {
            blob: blob.clone(),
            tree,
            items: ResponseIter::new(tree, ranges),
            expected: Expected(vec![*blob.hash.as_bytes()]),
            pairs: Pairs {
                file: blob.outboard.try_clone()?,
                buffer: Vec::new(),
                start: 0,
                len: tree.outboard_size(),
            },
        })
    }

    /// Appends about [`PIECE_LEN`] bytes of the encoding to `out`; `Ok(false)` when there is no more. Blocking.
    ///
    /// - `pairs`: whether the pairs are wanted too, or the bytes of the blob alone.
    /// - [`StoreError::Damaged`]: a group or a pair is not what it was; nothing of it is in `out`.
    pub(crate) fn piece(&mut self, out: &mut Vec<u8>, pairs: bool) -> Result<bool, EncodeError> {
        let begun = out.len();
        while out.len() - begun < PIECE_LEN {
            match self.items.next() {
                None => return Ok(out.len() > begun),
                Some(BaoChunk::Parent {
                    node,
                    is_root,
                    left,
                    right,
                    ..
                }) => {
                    let at = self.tree.pre_order_offset(node).ok_or(EncodeError::Unaligned)? * PAIR_LEN;
                    let pair = self.pairs.at(at)?;
                    if !self.expected.pair(&pair, is_root, left, right) {
                        let offset = node.chunk_range().start.to_bytes();
                        return Err(EncodeError::Mismatch { offset, tree: true });
                    }
                    if pairs {
                        out.extend_from_slice(&pair);
                    }
                }
                Some(BaoChunk::Leaf {
                    start_chunk,
                    size,
                    is_root,
                    ..
                }) => {
                    let offset = start_chunk.to_bytes();
                    let at = out.len();
                    out.resize(at + size, 0);
                    let group = &mut out[at..];
                    let read = self.blob.data.read_exact_at(group, offset);
                    if read.is_err() || !self.expected.leaf(offset, group, is_root) {
                        out.truncate(at);
                        return Err(match read {
                            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => error.into(),
                            _ => EncodeError::Mismatch { offset, tree: false },
                        });
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Why an encoding ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// The disk failed.
    #[error("read")]
    Io(#[from] io::Error),
    /// The bytes from `offset` on, or the `tree` over them, are not what they were, or not there yet.
    #[error("mismatch at byte {offset}")]
    Mismatch { offset: u64, tree: bool },
    /// The ranges do not fall on groups: a caller of ours did not check.
    #[error("ranges that do not fall on groups")]
    Unaligned,
}

/// What of a piece proved right, and where it goes. Runs are joined, so that each is one write.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// Bytes of the blob: the offset in the blob, and the ranges of the piece that follow each other there.
    pub(crate) data: Vec<(u64, Vec<Range<usize>>)>,
    /// Pairs of its outboard: the offset there, and the bytes.
    pub(crate) pairs: Vec<(u64, Vec<u8>)>,
}

impl Placed {
    fn add_data(&mut self, offset: u64, span: Range<usize>) {
        if let Some((start, spans)) = self.data.last_mut()
            && *start + spans.iter().map(|span| span.len() as u64).sum::<u64>() == offset
        {
            runs::push(spans, span);
        } else {
            self.data.push((offset, vec![span]));
        }
    }

    fn add_pair(&mut self, offset: u64, pair: &[u8; 64]) {
        match self.pairs.last_mut() {
            Some((start, bytes)) if *start + bytes.len() as u64 == offset => bytes.extend_from_slice(pair),
            _ => self.pairs.push((offset, pair.to_vec())),
        }
    }
}

/// Cuts the encoding of some ranges of a blob, without its size, into pieces.
pub(crate) struct Schedule(ResponseIter);

/// One piece of an encoding: what it is made of, in order.
pub(crate) struct Piece {
    items: Vec<BaoChunk>,
    /// Its length in bytes.
    pub(crate) len: usize,
}

impl Schedule {
    /// Expects the encoding of `ranges` of a blob of `len` bytes.
    pub(crate) fn new(len: u64, ranges: ChunkRanges) -> Schedule {
        Schedule(ResponseIter::new(BaoTree::new(len, IROH_BLOCK_SIZE), ranges))
    }

    /// Returns the next piece, the shortest of at least `wanted` bytes; `None` when there is no more.
    pub(crate) fn piece(&mut self, wanted: usize) -> Option<Piece> {
        let mut piece = Piece {
            items: Vec::new(),
            len: 0,
        };
        while piece.len < wanted.max(1) {
            let Some(item) = self.0.next() else { break };
            piece.len += match item {
                BaoChunk::Parent { .. } => PAIR_LEN as usize,
                BaoChunk::Leaf { size, .. } => size,
            };
            piece.items.push(item);
        }
        (piece.len > 0).then_some(piece)
    }
}

/// Takes the pieces of a [`Schedule`] in order and tells which bytes are right.
pub(crate) struct Verifier {
    tree: BaoTree,
    expected: Expected,
}

/// A peer sent bytes that are not the blob's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong bytes at {offset}")]
pub(crate) struct WrongBytes {
    /// Where the wrong group, or what the wrong pair vouches for, begins; in bytes.
    pub(crate) offset: u64,
}

impl Verifier {
    /// Expects pieces of this blob.
    pub(crate) fn new(hash: Hash, len: u64) -> Verifier {
        Verifier {
            tree: BaoTree::new(len, IROH_BLOCK_SIZE),
            expected: Expected(vec![*hash.as_bytes()]),
        }
    }

    /// Verifies the next piece. On an error, what came before it in the piece is right and is placed.
    pub(crate) fn verify(&mut self, piece: &Piece, bytes: &[u8]) -> (Placed, Result<(), WrongBytes>) {
        let mut placed = Placed::default();
        let mut at = 0;
        for item in &piece.items {
            match *item {
                BaoChunk::Parent {
                    node,
                    is_root,
                    left,
                    right,
                    ..
                } => {
                    let span = at..at + PAIR_LEN as usize;
                    let pair: &[u8; 64] = bytes[span.clone()].try_into().expect("64 bytes");
                    if !self.expected.pair(pair, is_root, left, right) {
                        let offset = node.chunk_range().start.to_bytes();
                        return (placed, Err(WrongBytes { offset }));
                    }
                    at = span.end;
                    if let Some(number) = self.tree.pre_order_offset(node) {
                        placed.add_pair(number * PAIR_LEN, pair);
                    }
                }
                BaoChunk::Leaf {
                    start_chunk,
                    size,
                    is_root,
                    ..
                } => {
                    let offset = start_chunk.to_bytes();
                    let span = at..at + size;
                    if !self.expected.leaf(offset, &bytes[span.clone()], is_root) {
                        return (placed, Err(WrongBytes { offset }));
                    }
                    at = span.end;
                    placed.add_data(offset, span);
                }
            }
        }
        (placed, Ok(()))
    }
}

impl EncodeError {
    /// Names the blob.
    pub(crate) fn of(self, blob: Hash, path: &std::path::Path) -> StoreError {
        match self {
            EncodeError::Io(source) => StoreError::io(path)(source),
            EncodeError::Mismatch { offset, .. } => StoreError::Damaged { blob, offset },
            EncodeError::Unaligned => StoreError::Missing(blob),
        }
    }
}
