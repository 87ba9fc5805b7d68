//! The header of a safetensors file: its JSON, and where the tensors are. The tensors' own bytes are never read.
//!
//! What is accepted here the `safetensors` crate accepts too, with the same tensors in the same places.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{CheckError, Dtype, TensorInfo, Wrong, error::shortened, json::Found};

/// Longest header, in bytes: 200,000 tensors with short names. The reference reads up to 100,000,000.
pub const HEADER_LEN_MAX: u64 = 16 << 20;
/// Bytes that say how long the header is.
const LEN_LEN: u64 = 8;
/// Most tensors of a file: mixtures of many experts have about 60,000 in all their files.
const TENSORS_MAX: u64 = 200_000;
/// Longest name of a tensor, in bytes.
const NAME_LEN_MAX: u64 = 512;
/// Most dimensions of a tensor: none with more than 6 are known.
const RANK_MAX: u64 = 8;
/// Most entries that are not tensors: they have a handful.
const METADATA_MAX: u64 = 4_096;
/// The key of these.
const METADATA: &str = "__metadata__";

/// What the header of a safetensors file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its tensors by where they are, with ranges counted from the beginning of the file. They follow each other without a gap, and
    /// the last ends where the file does. One without elements has no bytes, and lies between two others, never within one.
    pub tensors: Vec<TensorInfo>,
    /// What else it says, by key.
    pub metadata: BTreeMap<String, String>,
    /// Where the tensors begin, in bytes from the beginning of the file.
    pub data: u64,
}

/// Reads the header of a file of `len` bytes. It reads nothing of the source behind the header.
///
/// # Errors
/// What the file breaks, or has more of than is read here. See [`CheckError`].
pub fn read(mut source: impl Read, len: u64) -> Result<Header, CheckError> {
    let short = |what| CheckError::Short { what, len };
    if len < LEN_LEN {
        return Err(short("the length of the header"));
    }
    let mut prefix = [0; LEN_LEN as usize];
    source.read_exact(&mut prefix)?;
    let header = u64::from_le_bytes(prefix);
    let data = LEN_LEN.checked_add(header).filter(|data| *data <= len);
    let data = data.ok_or_else(|| short("the header"))?;
    CheckError::bound("bytes of a header", header, HEADER_LEN_MAX)?;
    let mut text = Vec::new();
    // It grows with what comes: a source may have less than it should.
    if source.take(header).read_to_end(&mut text)? as u64 != header {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if text.first() != Some(&b'{') {
        return Err(CheckError::Format("safetensors"));
    }
    let Entries { tensors, metadata } = entries(&text)?;
    Ok(Header {
        tensors: placed(tensors, data, len)?,
        metadata: metadata.unwrap_or_default(),
        data,
    })
}

/// Gives the tensors their places in the file, where they follow each other without a gap from `data` to `len`.
fn placed(entries: Vec<(String, Entry)>, data: u64, len: u64) -> Result<Vec<TensorInfo>, CheckError> {
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let wrong = |wrong| CheckError::tensor(&name, wrong);
        let Some(dtype) = dtype(&entry.dtype) else {
            return Err(CheckError::Dtype {
                tensor: name,
                dtype: format!("{:?}", shortened(&entry.dtype)),
            });
        };
        let elements = super::product(&entry.shape).ok_or_else(|| wrong(Wrong::Overflow))?;
        let shape = dtype.len(elements).ok_or_else(|| wrong(Wrong::Overflow))?;
        let (start, end) = entry.offsets;
        let range = end.checked_sub(start).ok_or_else(|| wrong(Wrong::Order))?;
        if shape != range {
            return Err(wrong(Wrong::Length { shape, range }));
        }
        let place = |offset: u64| data.checked_add(offset).ok_or_else(|| wrong(Wrong::Overflow));
        let range = place(start)?..place(end)?;
        if range.end > len {
            let end = range.end;
            return Err(wrong(Wrong::Outside { end, len }));
        }
        tensors.push(TensorInfo {
            name,
            dtype,
            shape: entry.shape,
            range,
        });
    }
    super::unique(&tensors)?;
    tensors.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    let (mut at, mut before) = (data, "");
    for tensor in &tensors {
        if tensor.range.start < at {
            return Err(CheckError::tensor(
                &tensor.name,
                Wrong::Overlap(before.to_owned()),
            ));
        }
        left(at, tensor.range.start)?;
        (at, before) = (tensor.range.end, &tensor.name);
    }
    left(at, len)?;
    Ok(tensors)
}

/// Refuses bytes that belong to nothing.
fn left(offset: u64, next: u64) -> Result<(), CheckError> {
    match next - offset {
        0 => Ok(()),
        bytes => Err(CheckError::Left { offset, bytes }),
    }
}

/// The types that this build reads, by their names in the format.
fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "BOOL" => Dtype::Bool,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "U16" => Dtype::U16,
        "I16" => Dtype::I16,
        "U32" => Dtype::U32,
        "I32" => Dtype::I32,
        "U64" => Dtype::U64,
        "I64" => Dtype::I64,
        "F8_E4M3" => Dtype::F8E4M3,
        "F8_E5M2" => Dtype::F8E5M2,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "F32" => Dtype::F32,
        "F64" => Dtype::F64,
        _ => return None,
    })
}

/// What the JSON says.
#[derive(Default)]
struct Entries {
    tensors: Vec<(String, Entry)>,
    metadata: Option<BTreeMap<String, String>>,
}

/// What it says of a tensor.
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    offsets: (u64, u64),
}

fn entries(text: &[u8]) -> Result<Entries, CheckError> {
    let found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = json.deserialize_map(Whole(&found));
    match read.and_then(|entries| json.end().map(|()| entries)) {
        Ok(entries) => Ok(entries),
        Err(error) => Err(found.over(error)),
    }
}

/// Refuses more than `most`.
fn bound<E: Error>(found: &Found, what: &'static str, count: usize, most: u64) -> Result<(), E> {
    CheckError::bound(what, count as u64, most).map_err(|error| found.end(error))
}

/// Fills what is there once.
fn once<T, E: Error>(found: &Found, key: &str, place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(found.end(CheckError::twice("key", key))),
    }
}

/// Reads the whole object.
struct Whole<'a>(&'a Found);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let Whole(found) = self;
        let mut entries = Entries::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == METADATA {
                let texts = map.next_value_seed(Texts(found))?;
                once(found, METADATA, &mut entries.metadata, texts)?;
                continue;
            }
            bound(found, "bytes of a tensor's name", key.len(), NAME_LEN_MAX)?;
            if key.is_empty() {
                return Err(found.end(CheckError::value(&key, "is no name of a tensor")));
            }
            let entry = map.next_value_seed(OneEntry(found))?;
            entries.tensors.push((key, entry));
            bound(found, "tensors", entries.tensors.len(), TENSORS_MAX)?;
        }
        Ok(entries)
    }
}

/// Reads what is no tensor.
struct Texts<'a>(&'a Found);

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Texts(found) = self;
        let mut texts = BTreeMap::new();
        while let Some((key, text)) = map.next_entry::<String, String>()? {
            if texts.contains_key(&key) {
                return Err(found.end(CheckError::twice("key", &key)));
            }
            texts.insert(key, text);
            bound(found, "entries of metadata", texts.len(), METADATA_MAX)?;
        }
        Ok(texts)
    }
}

/// Reads what is said of a tensor.
struct OneEntry<'a>(&'a Found);

impl<'de> DeserializeSeed<'de> for OneEntry<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneEntry<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let OneEntry(found) = self;
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "dtype" => once(found, &key, &mut dtype, map.next_value()?)?,
                "shape" => once(found, &key, &mut shape, map.next_value_seed(Shape(found))?)?,
                "data_offsets" => once(found, &key, &mut offsets, map.next_value()?)?,
                _ => {
                    return Err(found.end(CheckError::value(&key, "is no key that a tensor has")));
                }
            }
        }
        Ok(Entry {
            dtype: dtype.ok_or_else(|| Error::missing_field("dtype"))?,
            shape: shape.ok_or_else(|| Error::missing_field("shape"))?,
            offsets: offsets.ok_or_else(|| Error::missing_field("data_offsets"))?,
        })
    }
}

/// Reads a shape.
struct Shape<'a>(&'a Found);

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of lengths")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut shape = Vec::new();
        while let Some(len) = seq.next_element()? {
            shape.push(len);
            bound(self.0, "dimensions of a tensor", shape.len(), RANK_MAX)?;
        }
        Ok(shape)
    }
}
