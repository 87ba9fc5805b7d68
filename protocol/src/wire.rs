//! Frames and messages: what nodes say to each other on `/shoal/catalog/1` and `/shoal/swarm/1`.
//!
//! A frame is a length (4 bytes, little-endian) and that many bytes of postcard. It is a pure matter of slices: who reads the socket reads 4 bytes,
//! asks [`frame_len`], and only then makes room.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::limits::FRAME_LEN_MAX;
use crate::manifest::Manifest;
use crate::repo::{Publisher, RepoName};
use crate::shard::shard_count;

/// The stream protocol of releases: one [`CatalogAsk`] a frame, one [`CatalogTell`] back.
pub const CATALOG_PROTOCOL: &str = "/shoal/catalog/1";

/// The stream protocol of availability: one [`SwarmAsk`] a frame, one [`SwarmTell`] back.
pub const SWARM_PROTOCOL: &str = "/shoal/swarm/1";

/// The stream protocol of bytes: the iroh-blobs get protocol.
pub const BLOBS_PROTOCOL: &str = "/shoal/blobs/1";

/// The protocol of the DHT.
pub const KAD_PROTOCOL: &str = "/shoal/kad/1";

/// Bytes of the length before a frame.
pub const PREFIX_LEN: usize = 4;

/// What a node may ask of another's catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogAsk {
    /// The newest release of a repo that you know.
    Release {
        /// Who publishes it.
        publisher: Publisher,
        /// Its name under that publisher.
        name: RepoName,
    },
    /// The highest version of this protocol that you speak.
    Version,
}

/// The answer to a [`CatalogAsk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogTell {
    /// The encoding of a signed release, for its receiver to verify; or that none is known.
    Release(Option<Vec<u8>>),
    /// The highest version of this protocol that is spoken here: 1.
    Version(u32),
}

/// What a node may ask about what another has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwarmAsk {
    /// Which shards of this revision do you have?
    Have {
        /// The revision.
        manifest: Hash,
    },
}

/// The answer to a [`SwarmAsk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwarmTell {
    /// No byte of it.
    Nothing,
    /// The manifest and every file.
    Everything,
    /// The manifest, and these shards. A file that is not listed has none.
    Partial(Vec<FileBits>),
}

/// Which shards of one file a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBits {
    /// The file's index in the manifest, from 0.
    pub file: u32,
    /// One bit a shard: shard `i` is bit `i % 8`, counted from the lowest, of byte `i / 8`. Bits past the last shard are 0.
    pub bits: Vec<u8>,
}

/// Why bytes are not a frame, or a message not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The body of the frame is longer than [`FRAME_LEN_MAX`].
    #[error("frame has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the body.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The body is not the wanted message.
    #[error("frame does not hold the expected message")]
    Message,
    /// Bytes follow the message within its frame.
    #[error("frame goes on for {len} bytes behind its message")]
    Trailing {
        /// How many.
        len: usize,
    },
    /// The message lists files out of order, twice, or past the end of the manifest.
    #[error("message lists file {file}, which is out of order or not in the manifest")]
    File {
        /// The file's index.
        file: u32,
    },
    /// The bits of a file are not as many as its shards, or bits past the last shard are set.
    #[error("message has wrong bits for file {file}")]
    Bits {
        /// The file's index.
        file: u32,
    },
}

/// Encodes a message as one frame: its length and its bytes.
///
/// # Errors
/// [`WireError::TooLong`]: the message does not fit into a frame. [`WireError::Message`]: it is of a type that postcard cannot write.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let body = postcard::to_stdvec(message).map_err(|_| WireError::Message)?;
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    frame_len(len)?;
    Ok([&len, body.as_slice()].concat())
}

/// Reads the length of a frame's body, in bytes, from the four bytes before it.
///
/// # Errors
/// [`WireError::TooLong`]: nobody should make room for such a frame.
pub fn frame_len(prefix: [u8; PREFIX_LEN]) -> Result<usize, WireError> {
    let len = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    let max = FRAME_LEN_MAX;
    if len > max {
        return Err(WireError::TooLong { len, max });
    }
    Ok(len)
}

/// Decodes the frame at the front of `bytes`, and returns its message and how many bytes it took.
///
/// `None`: the frame is not there in full yet.
///
/// # Errors
/// [`WireError::TooLong`], as soon as the length is there; [`WireError::Message`] and [`WireError::Trailing`].
pub fn decode_frame<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, WireError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let len = frame_len(*prefix)?;
    let Some(body) = rest.get(..len) else {
        return Ok(None);
    };
    let message = decode_body(body)?;
    Ok(Some((message, PREFIX_LEN.saturating_add(len))))
}

/// Decodes the body of a frame, of which the length was already read.
///
/// # Errors
/// [`WireError::Message`] and [`WireError::Trailing`].
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    let (message, behind) = postcard::take_from_bytes(body).map_err(|_| WireError::Message)?;
    if !behind.is_empty() {
        return Err(WireError::Trailing { len: behind.len() });
    }
    Ok(message)
}

impl FileBits {
    /// Collects the shards of one file. `shard_count` is that of the file; a shard past it is left out.
    pub fn new(file: u32, shard_count: u32, have: impl IntoIterator<Item = u32>) -> FileBits {
        let mut bits = vec![0; bits_len(shard_count)];
        for shard in have.into_iter().filter(|shard| *shard < shard_count) {
            let (byte, mask) = place(shard);
            if let Some(byte) = bits.get_mut(byte) {
                *byte |= mask;
            }
        }
        FileBits { file, bits }
    }

    /// Whether the bit of `shard` is set. What lies past the end of the bits is not.
    pub fn has(&self, shard: u32) -> bool {
        let (byte, mask) = place(shard);
        self.bits.get(byte).is_some_and(|byte| byte & mask != 0)
    }

    /// How many shards have their bit set.
    pub fn count(&self) -> u32 {
        let ones = self.bits.iter().map(|byte| byte.count_ones());
        ones.fold(0, u32::saturating_add)
    }
}

impl SwarmTell {
    /// Checks an answer against the manifest it is about: files in order and once, a bit for each shard and no more.
    ///
    /// # Errors
    /// [`WireError::File`] and [`WireError::Bits`]: the peer's fault.
    pub fn check(&self, manifest: &Manifest) -> Result<(), WireError> {
        let files = match self {
            SwarmTell::Nothing | SwarmTell::Everything => return Ok(()),
            SwarmTell::Partial(files) => files,
        };
        let mut next = 0;
        for FileBits { file, bits } in files {
            let file = *file;
            let entry = usize::try_from(file).ok();
            let entry = entry.and_then(|at| manifest.files().get(at));
            let entry = entry.ok_or(WireError::File { file })?;
            if file < next {
                return Err(WireError::File { file });
            }
            next = file.saturating_add(1);
            let shards = shard_count(entry.size);
            if bits.len() != bits_len(shards) || has_bits_past(shards, bits) {
                return Err(WireError::Bits { file });
            }
        }
        Ok(())
    }
}

fn bits_len(shards: u32) -> usize {
    usize::try_from(shards.div_ceil(8)).unwrap_or(usize::MAX)
}

/// Whether a bit behind that of the last shard is set in the last byte.
fn has_bits_past(shards: u32, bits: &[u8]) -> bool {
    let (_, first_unused) = place(shards);
    let used = first_unused.wrapping_sub(1);
    !shards.is_multiple_of(8) && bits.last().is_some_and(|last| last & !used != 0)
}

/// The byte of a shard's bit, and the bit in it.
fn place(shard: u32) -> (usize, u8) {
    let byte = usize::try_from(shard >> 3).unwrap_or(usize::MAX);
    (byte, 1u8.wrapping_shl(shard & 7))
}
