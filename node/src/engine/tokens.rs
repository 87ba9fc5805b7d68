//! Texts and the tokens they are: a tokenizer from `tokenizer.json`, or from what a GGUF file says of its vocabulary.
//!
//! Nothing is cut off and nothing filled up, whatever the file asks for: who asks gets all tokens of his text.

mod gguf;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokenizers::Tokenizer;

pub(crate) use self::stream::Stream;
use super::wire::Fault;
use crate::check::gguf::VOCAB_MAX;

/// Longest text that is taken apart, in bytes: some two million tokens.
const TEXT_LEN_MAX: usize = 8 << 20;
/// Tokens at which a turn of a chat is over, by the names that models in use have for them. They end a text where the vocabulary
/// has them as special tokens, even if the files forget to say so.
const TURN_ENDS: [&str; 5] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
];

/// A tokenizer.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    /// What goes in front of a text and behind it, beside what `tokenizer` puts there itself.
    around: (Vec<u32>, Vec<u32>),
    /// The token at which a text begins, and the one at which it ends, by the files' own word.
    bos: Option<u32>,
    end: Option<u32>,
    /// All tokens at which a text may end.
    eos: BTreeSet<u32>,
}

/// What other files of a repo say of its tokens; `Null` where there is no such file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    /// `tokenizer_config.json`.
    pub(crate) tokenizer_config: Value,
    /// `generation_config.json`.
    pub(crate) generation_config: Value,
    /// `config.json`.
    pub(crate) config: Value,
}

impl Tokens {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Fault::Invalid`]: it is none. [`Fault::Unsupported`]: its vocabulary is too large.
    pub(crate) fn from_json(path: &str, bytes: &[u8], beside: &Beside) -> Result<Tokens, Fault> {
        let invalid = |what: String| Fault::Invalid {
            path: path.to_owned(),
            what,
        };
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| invalid(error.to_string()))?;
        tokenizer
            .with_padding(None)
            .with_truncation(None)
            .map_err(|error| invalid(error.to_string()))?;
        let size = tokenizer.get_vocab_size(true);
        if size as u64 > VOCAB_MAX {
            return Err(Fault::Unsupported {
                path: path.to_owned(),
                what: format!("{size} tokens; at most {VOCAB_MAX} are read"),
            });
        }
        let named = |key: &str| {
            let token = &beside.tokenizer_config[key];
            let name = token.as_str().or_else(|| token["content"].as_str())?;
            tokenizer.token_to_id(name)
        };
        let numbered = |key: &str| {
            [&beside.generation_config, &beside.config]
                .into_iter()
                .flat_map(|file| match &file[key] {
                    Value::Array(ids) => ids.clone(),
                    id => vec![id.clone()],
                })
                .filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
                .collect::<Vec<u32>>()
        };
        let bos = named("bos_token").or_else(|| numbered("bos_token_id").first().copied());
        let numbers = numbered("eos_token_id");
        let end = named("eos_token").or_else(|| numbers.first().copied());
        let mut eos = BTreeSet::from_iter(numbers);
        eos.extend(end);
        eos.extend(turn_ends(&tokenizer));
        Ok(Tokens {
            tokenizer,
            around: (Vec::new(), Vec::new()),
            bos,
            end,
            eos,
        })
    }

    /// The tokens of a text; `special` adds what the tokenizer puts around it. Special tokens that are written out in the text are
    /// tokens, as chat templates ask for.
    ///
    /// # Errors
    /// [`Fault::Ask`]: the text is too long, or the tokenizer has no tokens for it.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, Fault> {
        if text.len() > TEXT_LEN_MAX {
            return Err(Fault::Ask(format!(
                "a text of {} bytes is too long; at most {TEXT_LEN_MAX} are taken",
                text.len()
            )));
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, special)
            .map_err(|error| Fault::Ask(format!("the tokenizer has no tokens for this text: {error}")))?;
        let ids = encoding.get_ids();
        Ok(match special {
            true => [&self.around.0, ids, &self.around.1].concat(),
            false => ids.to_vec(),
        })
    }

    /// The text of tokens, without that of special ones. Bytes that are no whole character become U+FFFD, and tokens that it does
    /// not know nothing.
    ///
    /// # Errors
    /// [`Fault::Ask`]: the tokenizer can't.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, Fault> {
        self.tokenizer
            .decode(ids, true)
            .map_err(|error| Fault::Ask(format!("the tokenizer has no text for these tokens: {error}")))
    }

    /// How special tokens are written, by what chat templates call them.
    pub(crate) fn specials(&self) -> BTreeMap<String, String> {
        let written =
            |(name, id): (&str, Option<u32>)| Some((name.to_owned(), self.tokenizer.id_to_token(id?)?));
        let named = [("bos_token", self.bos), ("eos_token", self.end)];
        named.into_iter().filter_map(written).collect()
    }

    /// The tokens at which a text, or a turn of a chat, is over.
    pub(crate) fn eos(&self) -> &BTreeSet<u32> {
        &self.eos
    }
}

/// Special tokens of a vocabulary at which a turn is over.
fn turn_ends(tokenizer: &Tokenizer) -> Vec<u32> {
    let special = tokenizer.get_added_tokens_decoder();
    TURN_ENDS
        .iter()
        .filter_map(|name| tokenizer.token_to_id(name))
        .filter(|id| special.get(id).is_some_and(|token| token.special))
        .collect()
}
