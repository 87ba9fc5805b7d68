//! Frames and messages: what nodes say to each other on `/shoal/catalog/1` and `/shoal/swarm/1`.
//!
//! A frame is a length (4 bytes, little-endian) and that many bytes of postcard. It is a pure matter of slices: who reads the socket reads 4 bytes,
//! asks [`frame_len`], and only then makes room.

mod bounded;
mod known;
mod swarm;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use known::{Known, KnownError};
pub use swarm::{PeerHint, ShardRun, SwarmTell};

use crate::hash::Hash;
use crate::limits::{
    ATTESTATIONS_TOLD_MAX, FRAME_LEN_MAX, IDS_MAX, KEY_STATEMENT_LEN_MAX, KEY_STATEMENTS_MAX,
    RECONCILE_LEN_MAX, SCOPE_MAX,
};
use crate::release::ReleaseId;
use crate::repo::{Publisher, RepoName};

/// The stream protocol of releases, summaries, key statements and attestations: one [`CatalogAsk`] a frame, one [`CatalogTell`] back.
pub const CATALOG_PROTOCOL: &str = "/shoal/catalog/1";

/// The version of the catalog protocol that this crate writes: what a node answers to [`CatalogAsk::Version`] if it answers every ask. One
/// that knows only version 1 closes the stream at an ask of version 2.
pub const CATALOG_VERSION: u32 = 2;

/// The stream protocol of availability: frames of [`SwarmTell`] both ways, about one manifest, as long as the stream is open.
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
    /// What you know that others found when they validated a revision.
    Attestations {
        /// The revision.
        manifest: Hash,
    },
    /// Finding out which releases one of us knows and the other does not. From version 2 on, like all that follow.
    Reconcile {
        /// Only releases of these publishers, at most [`SCOPE_MAX`]; none: all. The first ask of a session says it for all that follow.
        #[serde(deserialize_with = "bounded::at_most::<SCOPE_MAX, _, _>")]
        of: Vec<Publisher>,
        /// One message of it, at most [`RECONCILE_LEN_MAX`] bytes: what is in it the node knows.
        #[serde(deserialize_with = "bounded::at_most::<RECONCILE_LEN_MAX, _, _>")]
        message: Vec<u8>,
    },
    /// These releases, at most [`IDS_MAX`].
    Get(#[serde(deserialize_with = "bounded::at_most::<IDS_MAX, _, _>")] Vec<ReleaseId>),
    /// I have these releases, at most [`IDS_MAX`]; ask for those that you want.
    Have(#[serde(deserialize_with = "bounded::at_most::<IDS_MAX, _, _>")] Vec<ReleaseId>),
    /// What you know about a publisher's key.
    Keys {
        /// The key.
        publisher: Publisher,
    },
    /// I heard this about keys: encodings of signed statements, for you to verify. At most [`KEY_STATEMENTS_MAX`], each at most
    /// [`KEY_STATEMENT_LEN_MAX`] bytes.
    Heard(
        #[serde(deserialize_with = "bounded::lists_at_most::<KEY_STATEMENTS_MAX, KEY_STATEMENT_LEN_MAX, _>")]
        Vec<Vec<u8>>,
    ),
}

/// The answer to a [`CatalogAsk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogTell {
    /// The encoding of a signed release, for its receiver to verify; or that none is known.
    Release(Option<Vec<u8>>),
    /// The highest version of this protocol that is spoken here: at most [`CATALOG_VERSION`].
    Version(u32),
    /// Encodings of signed attestations of the revision asked for, for their receiver to verify: at most [`ATTESTATIONS_TOLD_MAX`],
    /// those first that the teller values most.
    Attestations(#[serde(deserialize_with = "bounded::at_most::<ATTESTATIONS_TOLD_MAX, _, _>")] Vec<Vec<u8>>),
    /// The answer to a message of a reconciliation, at most [`RECONCILE_LEN_MAX`] bytes.
    Reconcile(#[serde(deserialize_with = "bounded::at_most::<RECONCILE_LEN_MAX, _, _>")] Vec<u8>),
    /// Releases that were asked for, in the order of the asking, at most [`IDS_MAX`]: what is not known is left out, and from the first on that the
    /// frame has no room for, all. See [`Known::fitting`].
    Known(#[serde(deserialize_with = "bounded::at_most::<IDS_MAX, _, _>")] Vec<Known>),
    /// It was read.
    Have,
    /// Encodings of signed statements about the key asked for, for their receiver to verify: at most [`KEY_STATEMENTS_MAX`], each at
    /// most [`KEY_STATEMENT_LEN_MAX`] bytes.
    Keys(
        #[serde(deserialize_with = "bounded::lists_at_most::<KEY_STATEMENTS_MAX, KEY_STATEMENT_LEN_MAX, _>")]
        Vec<Vec<u8>>,
    ),
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
    /// The message names shards that the manifest does not have.
    #[error("message names shard {shard} of {count}")]
    Shard {
        /// The last of those it names, or the first of a byte of bits that is past all shards.
        shard: u64,
        /// How many there are.
        count: u32,
    },
    /// The message has more entries than it may, or one that is empty, too long or misplaced.
    #[error("message has {what}")]
    Bounds {
        /// Which rule it breaks.
        what: &'static str,
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
