//! `model.safetensors.index.json`: which tensor is in which file of a model that is cut into several.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{CheckError, TensorInfo, Wrong, json::Found};

/// Longest index, in bytes: 200,000 tensors with short names.
pub const INDEX_LEN_MAX: u64 = 16 << 20;
/// Most tensors of a model.
const TENSORS_MAX: u64 = 200_000;
/// Most files that a model is cut into: the largest are in about 200.
const FILES_MAX: u64 = 4_096;
/// Longest name of a tensor or a file, in bytes.
const NAME_LEN_MAX: u64 = 512;

/// What an index says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The files, by name: they are in the folder of the index.
    files: BTreeMap<String, BTreeSet<String>>,
    /// Where each tensor is.
    places: BTreeMap<String, String>,
}

/// Reads an index.
///
/// - `has`: whether the repo has a file of that name beside the index. It may name no other.
///
/// # Errors
/// What it breaks, or has more of than is read here. See [`CheckError`].
pub fn read(bytes: &[u8], has: impl Fn(&str) -> bool) -> Result<Index, CheckError> {
    CheckError::bound("bytes of an index", bytes.len() as u64, INDEX_LEN_MAX)?;
    let found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = json.deserialize_map(Whole(&found));
    let places = match read.and_then(|places| json.end().map(|()| places)) {
        Ok(places) => places,
        Err(error) => return Err(found.over(error)),
    };
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, file) in &places {
        if let Some(tensors) = files.get_mut(file) {
            tensors.insert(tensor.clone());
            continue;
        }
        // A name that is a path could lead out of the folder, and out of the repo.
        if file.contains('/') || !has(file) {
            return Err(CheckError::value(file, "is in the index, and no file beside it"));
        }
        files.insert(file.clone(), BTreeSet::from([tensor.clone()]));
        CheckError::bound("files of a model", files.len() as u64, FILES_MAX)?;
    }
    Ok(Index { files, places })
}

impl Index {
    /// The names of the files that it lists, in order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// How many tensors it lists.
    pub fn tensors(&self) -> usize {
        self.places.len()
    }

    /// Compares what it says of a file with what is in there.
    ///
    /// # Errors
    /// The first tensor that is only in one of them.
    pub fn agree(&self, file: &str, tensors: &[TensorInfo]) -> Result<(), CheckError> {
        let mut listed: BTreeSet<&str> = match self.files.get(file) {
            Some(listed) => listed.iter().map(String::as_str).collect(),
            None => BTreeSet::new(),
        };
        for tensor in tensors {
            if !listed.remove(tensor.name.as_str()) {
                let wrong = Wrong::Unlisted {
                    found: file.to_owned(),
                    listed: self.places.get(&tensor.name).cloned(),
                };
                return Err(CheckError::tensor(&tensor.name, wrong));
            }
        }
        match listed.first() {
            None => Ok(()),
            Some(absent) => Err(CheckError::tensor(absent, Wrong::Absent(file.to_owned()))),
        }
    }
}

/// Reads the whole object; what is beside the map of tensors is not looked at.
struct Whole<'a>(&'a Found);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Whole(found) = self;
        let mut places = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "weight_map" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if places.replace(map.next_value_seed(Places(found))?).is_some() {
                return Err(found.end(CheckError::twice("key", &key)));
            }
        }
        places.ok_or_else(|| Error::missing_field("weight_map"))
    }
}

/// Reads the map of tensors.
struct Places<'a>(&'a Found);

impl<'de> DeserializeSeed<'de> for Places<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Places<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Places(found) = self;
        let bound = |what, count: usize, most| {
            CheckError::bound(what, count as u64, most).map_err(|error| found.end(error))
        };
        let mut places = BTreeMap::new();
        while let Some((tensor, file)) = map.next_entry::<String, String>()? {
            bound("bytes of a tensor's name", tensor.len(), NAME_LEN_MAX)?;
            bound("bytes of a file's name", file.len(), NAME_LEN_MAX)?;
            if places.contains_key(&tensor) {
                return Err(found.end(CheckError::twice("tensor", &tensor)));
            }
            places.insert(tensor, file);
            bound("tensors", places.len(), TENSORS_MAX)?;
        }
        Ok(places)
    }
}
