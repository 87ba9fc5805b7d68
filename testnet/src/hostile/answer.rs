//! Right answers, made from bytes in memory, and how each behaviour spoils one. Pure.

use super::Behaviour;
use crate::fixture;
use anyhow::{Context, Result, bail, ensure};
use bao_tree::{
    ChunkRanges,
    io::{outboard::PreOrderMemOutboard, sync::encode_ranges_validated},
};
use iroh_blobs::{
    protocol::{ChunkRangesSeq, Request},
    store::IROH_BLOCK_SIZE,
};
use protocol::{FileEntry, Hash, Manifest, SHARD_LEN, ShardMap};
use std::{collections::HashMap, fs, ops::Range, path::Path};

/// Bytes that [`Behaviour::TooMany`] sends on top.
pub(super) const MORE: usize = 64 * 1024;

/// Bytes of the size in front of each blob.
const SIZE_LEN: usize = 8;

/// Chunks of BLAKE3 in a shard.
const CHUNKS: u64 = SHARD_LEN / 1024;

/// The bytes of a folder, its manifest, and the numbers of its shards.
pub(super) struct Holdings {
    pub(super) manifest: Manifest,
    pub(super) map: ShardMap,
    /// Whether all but the manifest is only claimed.
    pub(super) claimed: bool,
    blobs: HashMap<Hash, Held>,
}

struct Held {
    bytes: Vec<u8>,
    outboard: PreOrderMemOutboard,
}

/// A right answer: for each blob its size and encoding, and how long that is.
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    lengths: Vec<usize>,
    /// Whether the manifest is among what was asked for.
    pub(super) manifest: bool,
    /// The shards that were asked for lie within these.
    pub(super) shards: Option<Range<u32>>,
}

impl Holdings {
    /// Reads a folder, of whose files the manifest says what `says` makes of the truth.
    pub(super) fn read(folder: &Path, says: fn(FileEntry) -> FileEntry) -> Result<Holdings> {
        let manifest = fixture::manifest(folder)?;
        let manifest = Manifest::new(manifest.files().iter().cloned().map(says).collect())?;
        let mut blobs = HashMap::from([(manifest.hash(), Held::new(manifest.encode()))]);
        for file in manifest.files() {
            blobs.insert(file.blake3, Held::new(fs::read(folder.join(file.path.as_str()))?));
        }
        let map = ShardMap::new(&manifest)?;
        Ok(Holdings {
            manifest,
            map,
            claimed: false,
            blobs,
        })
    }

    /// Holds nothing but a manifest.
    pub(super) fn claim(manifest: Manifest) -> Result<Holdings> {
        let blobs = HashMap::from([(manifest.hash(), Held::new(manifest.encode()))]);
        let map = ShardMap::new(&manifest)?;
        Ok(Holdings {
            manifest,
            map,
            claimed: true,
            blobs,
        })
    }

    /// Answers a request as it was sent: its kind, then what it wants.
    ///
    /// # Errors
    /// It is no request, is of a kind that nodes do not send, or is for a blob that is not held.
    pub(super) fn answer(&self, request: &[u8]) -> Result<Answer> {
        let wanted: Vec<(Hash, ChunkRanges)> = match postcard::from_bytes(request)? {
            Request::Get(get) => {
                ensure!(get.ranges.is_blob(), "a get of more than one blob");
                wanted(&[get.hash], &get.ranges)
            }
            Request::GetMany(many) => wanted(&many.hashes, &many.ranges),
            other => bail!("a request of another kind: {other:?}"),
        };
        let mut answer = Answer {
            bytes: Vec::new(),
            lengths: Vec::new(),
            manifest: false,
            shards: None,
        };
        for (hash, ranges) in wanted {
            let held = self
                .blobs
                .get(&hash)
                .with_context(|| format!("{hash} is not held"))?;
            answer.manifest |= hash == self.manifest.hash();
            let touched = self.shards(hash, &ranges);
            answer.shards = match answer.shards.take().zip(touched.clone()) {
                Some((some, more)) => Some(some.start.min(more.start)..some.end.max(more.end)),
                None => answer.shards.or(touched),
            };
            let before = answer.bytes.len();
            answer.bytes.extend((held.bytes.len() as u64).to_le_bytes());
            encode_ranges_validated(&held.bytes[..], &held.outboard, &ranges, &mut answer.bytes)?;
            answer.lengths.push(answer.bytes.len() - before);
        }
        Ok(answer)
    }

    /// Returns between which shards the ranges of a blob lie; `None` for the manifest, for the empty blob, and for no range.
    fn shards(&self, hash: Hash, ranges: &ChunkRanges) -> Option<Range<u32>> {
        let shards = self.map.blobs().get(self.map.find(hash)?)?.shards();
        let bounds = ranges.boundaries();
        let shard = |chunks: u64| {
            shards
                .start
                .saturating_add(u32::try_from(chunks).unwrap_or(u32::MAX))
        };
        let first = shard(bounds.first()?.0 / CHUNKS);
        // Without a last bound it goes on to the end.
        let last = match bounds.len() % 2 {
            0 => shard(bounds.last()?.0.div_ceil(CHUNKS)),
            _ => shards.end,
        };
        Some(first.min(shards.end)..last.min(shards.end))
    }
}

impl Held {
    fn new(bytes: Vec<u8>) -> Held {
        let outboard = PreOrderMemOutboard::create(&bytes, IROH_BLOCK_SIZE);
        Held { bytes, outboard }
    }
}

/// Pairs blobs with what is wanted of each, and leaves out those of which nothing is.
fn wanted(hashes: &[iroh_blobs::Hash], ranges: &ChunkRangesSeq) -> Vec<(Hash, ChunkRanges)> {
    let pairs = hashes.iter().zip(ranges.iter_infinite());
    let some = pairs.filter(|(_, ranges)| !ranges.is_empty());
    some.map(|(hash, ranges)| (Hash::from_bytes(*hash.as_bytes()), ranges.clone()))
        .collect()
}

impl Answer {
    /// Makes of the right answer what this behaviour sends. Behaviours that are a matter of time change nothing.
    pub(super) fn spoil(mut self, behaviour: Behaviour) -> Vec<u8> {
        match behaviour {
            Behaviour::WrongBytes => self.each_blob(|blob| {
                // Three quarters in: for a large blob a group, for a small one its bytes; for an empty one there is none.
                let at = SIZE_LEN + (blob.len() - SIZE_LEN) * 3 / 4;
                if let Some(byte) = blob.get_mut(at) {
                    *byte ^= 0x10;
                }
            }),
            Behaviour::WrongSize => self.each_blob(|blob| {
                if let Some(size) = blob.first_chunk_mut::<SIZE_LEN>() {
                    *size = (u64::from_le_bytes(*size) + 1).to_le_bytes();
                }
            }),
            Behaviour::TooMany => self.bytes.extend(fixture::bytes(0, "too many", MORE)),
            Behaviour::Garbage => self.bytes = fixture::bytes(0, "garbage", self.bytes.len()),
            Behaviour::StallsHalf => self.bytes.truncate(self.bytes.len() / 2),
            Behaviour::Nothing | Behaviour::Resets => self.bytes.clear(),
            Behaviour::Honest
            | Behaviour::OneBytePerSecond
            | Behaviour::LiesInBits
            | Behaviour::GarbageFrames
            | Behaviour::OversizePrefix
            | Behaviour::OutOfRange
            | Behaviour::FloodsGot => {}
        }
        self.bytes
    }

    fn each_blob(&mut self, change: impl Fn(&mut [u8])) {
        let mut rest = &mut self.bytes[..];
        for len in &self.lengths {
            let (blob, behind) = rest.split_at_mut(*len);
            change(blob);
            rest = behind;
        }
    }
}
