//! The publisher: a public key, written so that it fits where a user name does.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use ed25519_dalek::VerifyingKey;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::{deserialize_bytes, serialize_bytes};

/// Characters of a publisher's id: 256 bits, five a character.
pub(super) const PUBLISHER_LEN: usize = 52;

static Z_BASE_32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("ybndrfg8ejkmcpqxot1uwisza345h769");
    spec.encoding()
        .expect("32 distinct ASCII symbols are an encoding")
});

/// A publisher: the Ed25519 public key that signs its releases. Text: 52 characters of z-base-32.
///
/// Always a canonical encoding of a point that is not of small order, so that a signature under it means something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publisher([u8; 32]);

/// Why a text or bytes are not a publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublisherError {
    /// The text is not 52 bytes long.
    #[error("publisher has {found} characters, not 52")]
    Length {
        /// Bytes that the text has.
        found: usize,
    },
    /// The text is not z-base-32 in its one canonical spelling.
    #[error("publisher is not z-base-32: wrong character at {at}")]
    Encoding {
        /// Position in bytes, from 0.
        at: usize,
    },
    /// The bytes are not the canonical encoding of a point on the curve.
    #[error("publisher is not an Ed25519 public key")]
    NotAKey,
    /// The point is of small order: anybody can make signatures that fit it.
    #[error("publisher is a weak Ed25519 public key")]
    Weak,
}

impl Publisher {
    /// Checks the bytes of a public key.
    ///
    /// # Errors
    /// [`PublisherError::NotAKey`] and [`PublisherError::Weak`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Publisher, PublisherError> {
        if !is_reduced(&bytes) {
            return Err(PublisherError::NotAKey);
        }
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| PublisherError::NotAKey)?;
        if key.is_weak() {
            return Err(PublisherError::Weak);
        }
        Ok(Publisher(bytes))
    }

    /// The bytes of the public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that verifies this publisher's signatures. Costs a decompression of the point, some microseconds.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.0).expect("a publisher was checked to be a key when made")
    }

    /// The first 10 characters of the id: for people and logs, never for looking anything up.
    pub fn short(&self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

/// Whether the y coordinate is below 2^255 - 19: each point then has one encoding. (The other ambiguity, a sign bit on x = 0, is
/// only found on points of small order.)
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let [lowest, middle @ .., highest] = bytes;
    *lowest < 0xed || (highest & 0x7f) != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

impl From<VerifyingKey> for Publisher {
    /// Takes the key of a pair that we made ourselves.
    ///
    /// # Panics
    /// If the key is of small order, which no secret key gives.
    fn from(key: VerifyingKey) -> Publisher {
        Publisher::from_bytes(key.to_bytes()).expect("the public half of a secret key is sound")
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&Z_BASE_32.encode(&self.0))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({self})")
    }
}

impl FromStr for Publisher {
    type Err = PublisherError;

    fn from_str(text: &str) -> Result<Publisher, PublisherError> {
        if text.len() != PUBLISHER_LEN {
            return Err(PublisherError::Length { found: text.len() });
        }
        let bytes = Z_BASE_32
            .decode(text.as_bytes())
            .map_err(|error| PublisherError::Encoding { at: error.position })?;
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| PublisherError::NotAKey)?;
        Publisher::from_bytes(bytes)
    }
}

impl Serialize for Publisher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, || self.to_string(), serializer)
    }
}

impl<'de> Deserialize<'de> for Publisher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = Cow::<str>::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            Publisher::from_bytes(deserialize_bytes(deserializer)?).map_err(D::Error::custom)
        }
    }
}
