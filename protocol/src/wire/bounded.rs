//! Sequences that are refused at their count, before room is made for what they announce.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a sequence of at most `MAX` entries. A longer one is refused at its count, so that a frame of tiny entries cannot
/// take many times its own size.
pub(super) fn at_most<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct AtMost<const MAX: usize, T>(PhantomData<T>);

    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a sequence of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut read = Vec::new();
            let announced = entries.size_hint().unwrap_or(0);
            if announced > MAX {
                return Err(A::Error::invalid_length(announced, &self));
            }
            while let Some(entry) = entries.next_element()? {
                if read.len() == MAX {
                    return Err(A::Error::invalid_length(MAX.saturating_add(1), &self));
                }
                read.push(entry);
            }
            Ok(read)
        }
    }

    deserializer.deserialize_seq(AtMost::<MAX, T>(PhantomData))
}

/// Reads a sequence of at most `MAX` byte strings, each of at most `LEN` bytes.
pub(super) fn lists_at_most<'de, const MAX: usize, const LEN: usize, D>(
    deserializer: D,
) -> Result<Vec<Vec<u8>>, D::Error>
where
    D: Deserializer<'de>,
{
    let read: Vec<Bytes<LEN>> = at_most::<MAX, _, D>(deserializer)?;
    Ok(read.into_iter().map(|Bytes(bytes)| bytes).collect())
}

/// Reads an option of at most `LEN` bytes.
pub(super) fn option_at_most<'de, const LEN: usize, D>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error>
where
    D: Deserializer<'de>,
{
    let read = Option::<Bytes<LEN>>::deserialize(deserializer)?;
    Ok(read.map(|Bytes(bytes)| bytes))
}

/// At most `LEN` bytes.
struct Bytes<const LEN: usize>(Vec<u8>);

impl<'de, const LEN: usize> Deserialize<'de> for Bytes<LEN> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_most::<LEN, u8, D>(deserializer).map(Bytes)
    }
}
