//! Reading typed values from a JSON object, with faults that name the file, the key and the value.

use serde_json::{Map, Value};

use super::super::wire::Fault;

/// Most characters of a value that a message repeats.
const SHOWN_MAX: usize = 80;

/// The keys of one object.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// Put before a key in messages, and when it is looked up: `llama.` in GGUF metadata.
    prefix: &'a str,
    path: &'a str,
}

impl<'a> Keys<'a> {
    /// Takes keys that begin with `prefix`, of the object that is (in) the file at `path`.
    pub(super) fn new(map: &'a Map<String, Value>, prefix: &'a str, path: &'a str) -> Keys<'a> {
        Keys { map, prefix, path }
    }

    /// Returns a value; `null` is none.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.raw(key).filter(|value| !value.is_null())
    }

    /// Returns a value, which may be `null`.
    pub(super) fn raw(&self, key: &str) -> Option<&'a Value> {
        self.map.get(&format!("{}{key}", self.prefix))
    }

    /// Returns a count.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>, Fault> {
        self.typed(key, "a count", |value| {
            value.as_u64().and_then(|count| usize::try_from(count).ok())
        })
    }

    /// Returns a count that must be there: there is no value that a model could be expected to have.
    pub(super) fn count_needed(&self, key: &str) -> Result<usize, Fault> {
        self.count(key)?
            .ok_or_else(|| self.invalid(format!("it has no {}{key}", self.prefix)))
    }

    /// Returns a number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, Fault> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// Returns true or false.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// Returns a text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Fault> {
        self.typed(key, "a text", Value::as_str)
    }

    /// Returns an object.
    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, Fault> {
        self.typed(key, "an object", Value::as_object)
    }

    fn typed<T>(
        &self,
        key: &str,
        what: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.invalid(format!("{}{key} is {}, not {what}", self.prefix, shown(value)))),
        }
    }

    /// Refuses a key that changes what the model computes, in a way that is not known here.
    pub(super) fn unknown(&self, key: &str) -> Fault {
        let value = self.raw(key).map(shown).unwrap_or_default();
        self.unsupported(format!(
            "{}{key} {value} is not known to this build, and changes what the model computes",
            self.prefix
        ))
    }

    /// Refuses what is said in words.
    pub(super) fn unsupported(&self, what: String) -> Fault {
        Fault::Unsupported {
            path: self.path.to_owned(),
            what,
        }
    }

    /// Says what is wrong with the file.
    pub(super) fn invalid(&self, what: String) -> Fault {
        Fault::Invalid {
            path: self.path.to_owned(),
            what,
        }
    }
}

/// Returns a token id, or the ids in a list.
pub(super) fn ids(value: &Value) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().filter_map(one).collect(),
        value => one(value).into_iter().collect(),
    }
}

/// A value as a message shows it: not more of it than fits a line.
fn shown(value: &Value) -> String {
    let mut text: String = value.to_string().chars().take(SHOWN_MAX + 1).collect();
    if text.chars().count() > SHOWN_MAX {
        text.pop();
        text.push('…');
    }
    text
}
