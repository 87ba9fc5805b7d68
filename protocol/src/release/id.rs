//! The id of a release in a catalogue: which name it is about, and which release of it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SignedRelease, key_of};
use crate::hash::{Hash, deserialize_bytes, serialize_bytes};
use crate::repo::RepoId;

/// Bytes of each half of an id.
const HALF_LEN: usize = 16;

/// 32 bytes that stand for one signed release: the first half of the DHT key of its name, then the first half of the hash of its encoding.
///
/// Who sees an id knows by its first half which name it is about, if they know the name. Sorted by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId([u8; 32]);

/// The id of a release.
pub fn id_of(signed: &SignedRelease) -> ReleaseId {
    ReleaseId::new(signed.release().key(), signed.hash())
}

impl ReleaseId {
    /// The id of the release with that [`key_of`] its name, and that hash of its encoding.
    pub fn new(key: [u8; 32], hash: Hash) -> ReleaseId {
        let mut bytes = [0; 32];
        let (name, content) = bytes.split_at_mut(HALF_LEN);
        name.copy_from_slice(&half(&key));
        content.copy_from_slice(&half(hash.as_bytes()));
        ReleaseId(bytes)
    }

    /// Takes the bytes of an id as they are; every value is possible.
    pub const fn from_bytes(bytes: [u8; 32]) -> ReleaseId {
        ReleaseId(bytes)
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first half: the same for all releases of one repo.
    pub fn name_half(&self) -> [u8; HALF_LEN] {
        half(&self.0)
    }

    /// The second half: of which release of the repo.
    pub fn content_half(&self) -> [u8; HALF_LEN] {
        let last = self.0.last_chunk::<HALF_LEN>();
        *last.expect("32 bytes have 16 at their end")
    }

    /// The first half of the ids of a repo's releases.
    pub fn half_of(repo: &RepoId) -> [u8; HALF_LEN] {
        half(&key_of(repo.publisher, &repo.name))
    }
}

fn half(bytes: &[u8; 32]) -> [u8; HALF_LEN] {
    let first = bytes.first_chunk::<HALF_LEN>();
    *first.expect("32 bytes begin with 16")
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseId({self})")
    }
}

impl Serialize for ReleaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, || self.to_string(), serializer)
    }
}

impl<'de> Deserialize<'de> for ReleaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => Hash::deserialize(deserializer).map(|hash| ReleaseId(*hash.as_bytes())),
            false => deserialize_bytes(deserializer).map(ReleaseId),
        }
    }
}
