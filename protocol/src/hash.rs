//! Digests as names: [`Hash`](struct@crate::Hash) (BLAKE3), [`Sha256`] and [`GitId`]. Three types, so that a mix-up does not compile.
//!
//! The text form is lower-case hex of exactly the right length and nothing else, so that one digest has one spelling.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The text is shorter or longer than the digest's hex form.
    #[error("digest has {found} characters, not {wanted}")]
    Length {
        /// Hex digits that the digest has.
        wanted: usize,
        /// Bytes that the text has.
        found: usize,
    },
    /// A character is not one of `0-9a-f`. Upper-case digits count as wrong.
    #[error("digest has a character that is not a lower-case hex digit at {at}")]
    Digit {
        /// Position in bytes, from 0.
        at: usize,
    },
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the bytes of a digest as they are; every value is possible.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes of the digest.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first 10 hex digits: for people and logs, never for looking anything up.
            pub fn short(&self) -> String {
                self.to_string().chars().take(10).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = HashError;

            fn from_str(text: &str) -> Result<Self, HashError> {
                Ok(Self(parse_hex(text)?))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_bytes(&self.0, || self.to_string(), serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                    text.parse().map_err(D::Error::custom)
                } else {
                    deserialize_bytes(deserializer).map(Self)
                }
            }
        }
    };
}

digest! {
    /// The BLAKE3 digest of a blob, and its name everywhere. Text: 64 lower-case hex digits.
    Hash, 32
}

digest! {
    /// The SHA-256 digest of a file: how the Hub, OCI and OpenSSF name it. Text: 64 lower-case hex digits.
    Sha256, 32
}

digest! {
    /// The git blob id of a file: SHA-1 over `"blob " ‖ length ‖ "\0" ‖ bytes`. Text: 40 lower-case hex digits.
    GitId, 20
}

impl Hash {
    /// The BLAKE3 of the empty string: the name of every empty file.
    pub const EMPTY: Hash = Hash([
        0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49, 0x9b,
        0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
    ]);

    /// Hashes `bytes`, on this thread.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }
}

impl Sha256 {
    /// The SHA-256 of the empty string.
    pub const EMPTY: Sha256 = Sha256([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);
}

impl GitId {
    /// The git blob id of the empty file.
    pub const EMPTY: GitId = GitId([
        0xe6, 0x9d, 0xe2, 0x9b, 0xb2, 0xd1, 0xd6, 0x43, 0x4b, 0x8b, 0x29, 0xae, 0x77, 0x5a, 0xd8, 0xc2, 0xe4,
        0x8c, 0x53, 0x91,
    ]);
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Hash {
        Hash(*hash.as_bytes())
    }
}

impl From<Hash> for blake3::Hash {
    fn from(hash: Hash) -> blake3::Hash {
        blake3::Hash::from_bytes(hash.0)
    }
}

/// Serializes fixed bytes: as `text()` where people read the format, else as the bytes alone, with no length before them.
pub(crate) fn serialize_bytes<S: Serializer>(
    bytes: &[u8],
    text: impl FnOnce() -> String,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        return serializer.serialize_str(&text());
    }
    let mut tuple = serializer.serialize_tuple(bytes.len())?;
    for byte in bytes {
        tuple.serialize_element(byte)?;
    }
    tuple.end()
}

/// The other direction of [`serialize_bytes`], for formats that no people read.
pub(crate) fn deserialize_bytes<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    struct Bytes<const N: usize>;

    impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{N} bytes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
            let mut bytes = [0; N];
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = seq
                    .next_element()?
                    .ok_or_else(|| A::Error::invalid_length(at, &self))?;
            }
            Ok(bytes)
        }
    }

    deserializer.deserialize_tuple(N, Bytes)
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], HashError> {
    let wanted = N.saturating_mul(2);
    if text.len() != wanted {
        return Err(HashError::Length {
            wanted,
            found: text.len(),
        });
    }
    let mut bytes = [0; N];
    data_encoding::HEXLOWER
        .decode_mut(text.as_bytes(), &mut bytes)
        .map_err(|partial| HashError::Digit {
            at: partial.error.position,
        })?;
    Ok(bytes)
}
