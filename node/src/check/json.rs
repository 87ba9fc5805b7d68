//! JSON of strangers: read into a tree of bounded size and depth in which no key stands for two things.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{CheckError, error::shortened};

/// Deepest nesting that is read: the deepest known configurations have 8.
const DEPTH_MAX: u32 = 32;

/// The first thing that is wrong with a text, found where an error has no words of ours.
#[derive(Default)]
pub(super) struct Found(RefCell<Option<CheckError>>);

impl Found {
    /// Keeps an error, and ends the reading.
    pub(super) fn end<E: Error>(&self, error: CheckError) -> E {
        let words = E::custom(&error);
        self.0.borrow_mut().get_or_insert(error);
        words
    }

    /// The error that was found, or what the reader says.
    pub(super) fn over(self, error: serde_json::Error) -> CheckError {
        self.0
            .into_inner()
            .unwrap_or_else(|| CheckError::Json(shortened(&error.to_string())))
    }
}

/// Reads a text into a tree of at most `nodes_max` values and keys.
pub(super) fn value(bytes: &[u8], nodes_max: u64) -> Result<Value, CheckError> {
    let (found, nodes) = (Found::default(), RefCell::new(0));
    let tree = Tree {
        found: &found,
        nodes: &nodes,
        nodes_max,
        depth: 0,
    };
    let mut text = serde_json::Deserializer::from_slice(bytes);
    match tree
        .deserialize(&mut text)
        .and_then(|value| text.end().map(|()| value))
    {
        Ok(value) => Ok(value),
        Err(error) => Err(found.over(error)),
    }
}

#[derive(Clone, Copy)]
struct Tree<'a> {
    found: &'a Found,
    nodes: &'a RefCell<u64>,
    nodes_max: u64,
    depth: u32,
}

impl<'a> Tree<'a> {
    fn node<E: Error>(&self) -> Result<(), E> {
        let mut nodes = self.nodes.borrow_mut();
        *nodes += 1;
        CheckError::bound("values and keys", *nodes, self.nodes_max).map_err(|error| self.found.end(error))
    }

    fn below<E: Error>(&self) -> Result<Tree<'a>, E> {
        let depth = self.depth + 1;
        CheckError::bound("nested values", depth.into(), DEPTH_MAX.into())
            .map_err(|error| self.found.end(error))?;
        Ok(Tree { depth, ..*self })
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.node().map(|()| Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.node().map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.node().map(|()| value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.node().map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.node()
            .map(|()| Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.node().map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.node()?;
        let (below, mut values) = (self.below()?, Vec::new());
        while let Some(value) = seq.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.node()?;
        let (below, mut object) = (self.below()?, Map::new());
        while let Some(key) = map.next_key::<String>()? {
            self.node()?;
            if object.contains_key(&key) {
                return Err(self.found.end(CheckError::twice("key", &key)));
            }
            let value = map.next_value_seed(below)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
