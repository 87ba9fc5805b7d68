//! `tokenizer.json`: how much is in it. What it means is for who builds a tokenizer from it, in the engine.

use std::{fmt, io::Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{CheckError, gguf::VOCAB_MAX, json::Found};

/// Longest `tokenizer.json`, in bytes: the largest known has 33 MB.
pub const TOKENIZER_LEN_MAX: u64 = 64 << 20;
/// Most rules of how tokens are joined.
const MERGES_MAX: u64 = VOCAB_MAX;

/// How much is in a `tokenizer.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenizer {
    /// What kind it is, as it says: `BPE`, `Unigram`, `WordPiece`, `WordLevel`.
    pub model: Option<String>,
    /// Tokens of its vocabulary.
    pub vocab: u64,
    /// Rules of how tokens are joined.
    pub merges: u64,
    /// Tokens that were added.
    pub added: u64,
}

/// Counts what is in a `tokenizer.json` of `len` bytes; keeps none of it.
///
/// # Errors
/// It does not read as an object, or there is more of something than is read here.
pub fn read(source: impl Read, len: u64) -> Result<Tokenizer, CheckError> {
    CheckError::bound("bytes of a tokenizer", len, TOKENIZER_LEN_MAX)?;
    let mut text = Vec::new();
    source.take(len).read_to_end(&mut text)?;
    let found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(&text);
    let read = json.deserialize_map(Whole(&found));
    match read.and_then(|whole| json.end().map(|()| whole)) {
        Ok(tokenizer) => Ok(tokenizer),
        Err(error) => Err(found.over(error)),
    }
}

struct Whole<'a>(&'a Found);

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Tokenizer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tokenizer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokenizer, A::Error> {
        let Whole(found) = self;
        let (mut tokenizer, mut seen) = (Tokenizer::default(), (false, false));
        while let Some(key) = map.next_key::<String>()? {
            let again = match key.as_str() {
                "model" => {
                    map.next_value_seed(Model(found, &mut tokenizer))?;
                    std::mem::replace(&mut seen.0, true)
                }
                "added_tokens" => {
                    tokenizer.added = map.next_value_seed(Count(found, "added tokens", VOCAB_MAX))?;
                    std::mem::replace(&mut seen.1, true)
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if again {
                return Err(found.end(CheckError::twice("key", &key)));
            }
        }
        Ok(tokenizer)
    }
}

struct Model<'a>(&'a Found, &'a mut Tokenizer);

impl<'de> DeserializeSeed<'de> for Model<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Model<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the model of a tokenizer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Model(found, tokenizer) = self;
        let mut seen = (false, false, false);
        while let Some(key) = map.next_key::<String>()? {
            let again = match key.as_str() {
                "type" => {
                    tokenizer.model = map.next_value()?;
                    std::mem::replace(&mut seen.0, true)
                }
                "vocab" => {
                    tokenizer.vocab = map.next_value_seed(Count(found, "tokens", VOCAB_MAX))?;
                    std::mem::replace(&mut seen.1, true)
                }
                "merges" => {
                    tokenizer.merges = map.next_value_seed(Count(found, "merges", MERGES_MAX))?;
                    std::mem::replace(&mut seen.2, true)
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if again {
                return Err(found.end(CheckError::twice("key", &key)));
            }
        }
        Ok(())
    }
}

/// Counts the entries of an object or an array, of which there are at most so many.
struct Count<'a>(&'a Found, &'static str, u64);

impl Count<'_> {
    fn one_more<E: Error>(&self, count: &mut u64) -> Result<(), E> {
        *count += 1;
        CheckError::bound(self.1, *count, self.2).map_err(|error| self.0.end(error))
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            self.one_more(&mut count)?;
        }
        Ok(count)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            self.one_more(&mut count)?;
        }
        Ok(count)
    }

    fn visit_unit<E: Error>(self) -> Result<u64, E> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Tokenizer, CheckError> {
        read(text.as_bytes(), text.len() as u64)
    }

    #[test]
    fn tokens_are_counted_in_each_of_the_forms() {
        let bpe = r#"{"version":"1.0","added_tokens":[{"id":0},{"id":1}],"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#;
        let counted = of(bpe).unwrap();
        assert_eq!((counted.vocab, counted.merges, counted.added), (3, 1, 2));
        assert_eq!(counted.model.as_deref(), Some("BPE"));
        let unigram =
            r#"{"model":{"type":"Unigram","vocab":[["<unk>",0.0],["a",-1.5]]},"added_tokens":null}"#;
        assert_eq!(of(unigram).unwrap().vocab, 2);
        assert_eq!(of("{}").unwrap(), Tokenizer::default());
    }

    #[test]
    fn tokenizers_without_bounds_are_refused() {
        let many = "0,".repeat(VOCAB_MAX as usize);
        let bound = |result| matches!(result, Err(CheckError::Bound { .. }));
        assert!(bound(of(&format!(r#"{{"model":{{"vocab":[{many}0]}}}}"#))));
        assert!(bound(of(&format!(r#"{{"added_tokens":[{many}0]}}"#))));
        assert!(bound(read(std::io::empty(), TOKENIZER_LEN_MAX + 1)));
        for twice in [
            r#"{"model":{},"model":{}}"#,
            r#"{"model":{"vocab":{},"vocab":{}}}"#,
        ] {
            assert!(matches!(of(twice), Err(CheckError::Twice { .. })), "{twice}");
        }
        for text in [
            "",
            "[]",
            "{",
            "{\"model\":3}",
            "{\"model\":{\"vocab\":3}}",
            "{}{}",
        ] {
            assert!(matches!(of(text), Err(CheckError::Json(_))), "{text}");
        }
        // What is nested without an end is gone through without being kept, and without a deep stack.
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(of(&deep).unwrap(), Tokenizer::default());
    }
}
