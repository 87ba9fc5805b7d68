//! Requests for bytes, as the iroh-blobs get protocol has them.

use super::ServeError;
use crate::limits::REQUEST_FRAME_LEN;
use bao_tree::ChunkRanges;
use iroh_blobs::protocol::{GetManyRequest, GetRequest};
use protocol::Hash;
use std::ops::Range;

/// First byte of a request for one blob.
pub(super) const GET: u8 = 0;
/// First byte of a request for many blobs.
pub(super) const GET_MANY: u8 = 9;
/// Ranges of one request that are looked at before it is answered: a few for each blob of the largest of ours.
const RANGES_MAX: usize = 8 * crate::limits::MANY_BLOBS;

/// What a peer asks for.
pub(super) enum Request {
    /// Ranges of a blob, or of the blobs that it names.
    Get(GetRequest),
    /// Ranges of many blobs.
    GetMany(GetManyRequest),
}

impl Request {
    /// Reads a request of at most [`REQUEST_FRAME_LEN`] bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Request, ServeError> {
        match bytes.split_first() {
            Some((&GET, body)) if body.len() < REQUEST_FRAME_LEN => {
                Ok(Request::Get(postcard::from_bytes(body)?))
            }
            Some((&GET_MANY, body)) if body.len() < REQUEST_FRAME_LEN => {
                Ok(Request::GetMany(postcard::from_bytes(body)?))
            }
            _ => Err(ServeError::Unknown),
        }
    }

    /// Returns the ranges of bytes that it names by blob, the first of them if there are very many. One without an end ends
    /// at `u64::MAX`; those of blobs that only a hash sequence names are left out.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (Hash, Range<u64>)> {
        let named: Box<dyn Iterator<Item = (&iroh_blobs::Hash, &ChunkRanges)>> = match self {
            Request::Get(get) => Box::new(std::iter::once(&get.hash).zip(get.ranges.iter_infinite())),
            Request::GetMany(many) => Box::new(many.hashes.iter().zip(many.ranges.iter_infinite())),
        };
        let runs = named.flat_map(|(hash, ranges)| {
            let hash = Hash::from_bytes(*hash.as_bytes());
            runs(ranges).map(move |run| (hash, run))
        });
        runs.take(RANGES_MAX)
    }
}

/// Returns the ranges of bytes that ranges of chunks are; one without an end ends at `u64::MAX`.
pub(super) fn runs(ranges: &ChunkRanges) -> impl Iterator<Item = Range<u64>> {
    ranges.boundaries().chunks(2).map(|run| {
        let byte = |at: usize| run.get(at).map_or(u64::MAX, |chunk| chunk.0.saturating_mul(1024));
        byte(0)..byte(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bao_tree::ChunkNum;
    use iroh_blobs::protocol::{ChunkRangesExt, ChunkRangesSeq};

    #[test]
    fn ranges_are_told_in_bytes_by_blob() {
        let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
        let hash = |hash: Hash| iroh_blobs::Hash::from_bytes(*hash.as_bytes());
        let two = ChunkRanges::from(ChunkNum(0)..ChunkNum(16)) | ChunkRanges::from(ChunkNum(1024)..);
        let get = GetRequest::blob_ranges(hash(a), two.clone());
        let bytes = [&[GET][..], &postcard::to_stdvec(&get).unwrap()].concat();
        let expected = vec![(a, 0..16 * 1024), (a, 1024 * 1024..u64::MAX)];
        let read = Request::decode(&bytes).unwrap();
        assert_eq!(read.ranges().collect::<Vec<_>>(), expected);
        let seq = ChunkRangesSeq::from_ranges([two, ChunkRanges::last_chunk()]);
        let many = Request::GetMany(GetManyRequest::new(vec![hash(a), hash(b)], seq));
        let ranges: Vec<_> = many.ranges().collect();
        assert_eq!(ranges[..2], expected);
        assert_eq!(ranges[2..], [(b, u64::MAX..u64::MAX)]);
    }

    #[test]
    fn a_request_for_very_many_ranges_is_looked_at_in_part() {
        let bits: ChunkRanges = (0..2_000).fold(ChunkRanges::empty(), |ranges, at| {
            ranges | ChunkRanges::from(ChunkNum(at * 2)..ChunkNum(at * 2 + 1))
        });
        let hashes = vec![iroh_blobs::Hash::EMPTY; 20_000];
        let seq = ChunkRangesSeq::from_ranges_infinite([bits]);
        let many = Request::GetMany(GetManyRequest::new(hashes, seq));
        assert_eq!(many.ranges().count(), RANGES_MAX);
    }
}
