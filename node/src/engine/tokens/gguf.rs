//! A tokenizer from the metadata of a GGUF file, which names its vocabulary and merges, but says how texts are split before them
//! only by a name that other programs know (`tokenizer.ggml.pre`). Guessing gives other tokens without an error, so a name that is
//! not in the table here, with a test against the original, is refused.

use std::collections::BTreeSet;

use tokenizers::{
    AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
    models::bpe::{BPE, Vocab},
    normalizers::unicode::NFC,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{Tokens, turn_ends};
use crate::{
    check::gguf::{Header, VOCAB_MAX},
    engine::wire::Fault,
};

/// Most tokens that are matched whole in a text: vocabularies have up to a few thousand.
const ADDED_MAX: usize = 1 << 16;
/// Types of tokens, as `tokenizer.ggml.token_type` numbers them: those that are never text, and those matched whole that are.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How a vocabulary's texts are split before its merges.
pub(super) struct Pre {
    pub(super) name: &'static str,
    /// Whether texts are composed (NFC) first.
    composed: bool,
    /// Whether every digit stands alone.
    digits: bool,
    /// What is split at; `None`: as GPT-2 does.
    split: Option<&'static str>,
    /// Whether a piece that is a token is taken whole, even if no merges lead to it.
    whole: bool,
    /// Whether a text begins with a token of its own if the file does not say.
    bos: bool,
}

pub(super) const PRES: [Pre; 4] = [
    Pre {
        name: "gpt-2",
        composed: false,
        digits: false,
        split: None,
        whole: false,
        bos: false,
    },
    Pre {
        name: "smollm",
        composed: false,
        digits: true,
        split: None,
        whole: false,
        bos: false,
    },
    Pre {
        name: "qwen2",
        composed: true,
        digits: false,
        split: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        whole: false,
        bos: false,
    },
    Pre {
        name: "llama-bpe",
        composed: false,
        digits: false,
        split: Some(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        whole: true,
        bos: true,
    },
];

impl Tokens {
    /// Makes the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// [`Fault::Unsupported`]: it is of a kind that this build does not make. [`Fault::Invalid`]: what it says does not hold together.
    pub(crate) fn from_gguf(path: &str, header: &Header) -> Result<Tokens, Fault> {
        let unsupported = |what: String| Fault::Unsupported {
            path: path.to_owned(),
            what,
        };
        let invalid = |what: String| Fault::Invalid {
            path: path.to_owned(),
            what,
        };
        let model = header.text("tokenizer.ggml.model").unwrap_or("");
        if model != "gpt2" {
            return Err(unsupported(format!(
                "a tokenizer of kind {model:?} is not made from a GGUF file; a tokenizer.json beside it would do"
            )));
        }
        let name = header.text("tokenizer.ggml.pre").unwrap_or("");
        let Some(pre) = PRES.iter().find(|pre| pre.name == name) else {
            let known = PRES.map(|pre| pre.name).join(", ");
            return Err(unsupported(format!(
                "texts split by {name:?} (tokenizer.ggml.pre) are not known, only {known}; a tokenizer.json beside it would do"
            )));
        };
        let texts = |key: &str| header.texts(key).ok_or_else(|| invalid(format!("no {key}")));
        let tokens = texts("tokenizer.ggml.tokens")?;
        let mut tokenizer =
            Tokenizer::new(bpe(tokens, texts("tokenizer.ggml.merges")?, pre).map_err(invalid)?);
        pre.prepare(&mut tokenizer).map_err(invalid)?;
        let types = header.integers("tokenizer.ggml.token_type").unwrap_or(&[]);
        let added: Vec<AddedToken> = tokens
            .iter()
            .zip(types)
            .filter(|(token, kind)| matches!(**kind, CONTROL | USER_DEFINED) && !token.is_empty())
            .map(|(token, kind)| AddedToken::from(token.clone(), *kind == CONTROL).normalized(false))
            .collect();
        if added.len() > ADDED_MAX {
            return Err(unsupported(format!(
                "{} special tokens; at most {ADDED_MAX} are taken",
                added.len()
            )));
        }
        tokenizer
            .add_tokens(added)
            .map_err(|error| invalid(error.to_string()))?;
        let id = |key: &str| {
            let id = u32::try_from(header.unsigned(key)?).ok()?;
            ((id as usize) < tokens.len()).then_some(id)
        };
        let bos = id("tokenizer.ggml.bos_token_id");
        let eos = id("tokenizer.ggml.eos_token_id");
        let adds = |key: &str, id: Option<u32>, otherwise: bool| match header.flag(key) {
            Some(false) => Ok(Vec::new()),
            None if !otherwise => Ok(Vec::new()),
            _ => id
                .map(|id| vec![id])
                .ok_or_else(|| invalid(format!("{key} asks for a token that is not named"))),
        };
        let around = (
            adds("tokenizer.ggml.add_bos_token", bos, pre.bos)?,
            adds("tokenizer.ggml.add_eos_token", eos, false)?,
        );
        let mut ends = BTreeSet::from_iter(eos);
        ends.extend(id("tokenizer.ggml.eot_token_id"));
        ends.extend(turn_ends(&tokenizer));
        Ok(Tokens {
            tokenizer,
            around,
            bos,
            end: eos,
            eos: ends,
        })
    }
}

impl Pre {
    fn prepare(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        let bytes = ByteLevel::new(false, true, self.split.is_none());
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        if self.digits {
            steps.push(Digits::new(true).into());
        }
        if let Some(split) = self.split {
            let pattern = SplitPattern::Regex(split.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            steps.push(split.map_err(|error| error.to_string())?.into());
        }
        steps.push(bytes.into());
        if self.composed {
            tokenizer
                .with_normalizer(Some(NFC))
                .map_err(|error| error.to_string())?;
        }
        tokenizer
            .with_pre_tokenizer(Some(Sequence::new(steps)))
            .with_decoder(Some(bytes));
        Ok(())
    }
}

fn bpe(tokens: &[String], merges: &[String], pre: &Pre) -> Result<BPE, String> {
    if tokens.len() as u64 > VOCAB_MAX {
        return Err(format!("{} tokens; at most {VOCAB_MAX} are taken", tokens.len()));
    }
    let ids = tokens.iter().zip(0..);
    let vocabulary: Vocab = ids.map(|(token, id)| (token.clone(), id)).collect();
    if vocabulary.len() != tokens.len() {
        return Err("a token is there twice".into());
    }
    let merges = merges
        .iter()
        .map(|merge| {
            let (left, right) = merge
                .split_once(' ')
                .ok_or_else(|| format!("the merge {merge:?} is not of two tokens"))?;
            Ok((left.to_owned(), right.to_owned()))
        })
        .collect::<Result<_, String>>()?;
    BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(pre.whole)
        .build()
        .map_err(|error| error.to_string())
}
