//! The header of a GGUF file: keys and values, and where the tensors are. Read from a stream, front to back; the tensors' own bytes
//! are never read.
//!
//! What is accepted here `candle_core::quantized::gguf_file::Content::read` accepts too, with the same tensors in the same places.

mod source;
mod values;

use std::{collections::BTreeMap, io::Read};

use self::source::Source;
use super::{CheckError, Dtype, TensorInfo, Wrong};

/// Most tensors of a file, and most keys: the largest models have a few thousand.
const COUNT_MAX: u64 = 65_536;
/// Longest name of a tensor, in bytes: as in safetensors files.
const NAME_LEN_MAX: u64 = 512;
/// Most tokens of a vocabulary: eight times the largest that is known.
pub const VOCAB_MAX: u64 = 1 << 21;
/// Most dimensions of a tensor, by the format.
const RANK_MAX: u32 = 4;
/// Where tensors are aligned to if the file does not say.
const ALIGNMENT: u64 = 32;
/// Least and most that they may be aligned to.
const ALIGNMENTS: std::ops::RangeInclusive<u64> = 8..=65_536;
/// The key that says so.
const ALIGNMENT_KEY: &str = "general.alignment";
/// The type of a token that stands for one byte.
const TOKEN_TYPE_BYTE: i64 = 6;

/// What the header of a GGUF file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The version of the format: 2 or 3.
    pub version: u32,
    /// Its values by their keys.
    pub metadata: BTreeMap<String, Value>,
    /// Its tensors by where they are, with ranges counted from the beginning of the file, and shapes with rows before columns.
    pub tensors: Vec<TensorInfo>,
    /// Where the first tensor may begin, in bytes from the beginning of the file.
    pub data: u64,
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number that is not negative, of any width.
    Unsigned(u64),
    /// A negative whole number, of any width.
    Negative(i64),
    /// A number of either width.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A text. What is not UTF-8 in it has become U+FFFD.
    Text(String),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of whole numbers or of yes and no (1 and 0), of any width that they all fit.
    Integers(Vec<i64>),
    /// An array of numbers.
    Floats(Vec<f64>),
    /// An array that is read over: it has too many elements, or its elements are arrays, or do not fit.
    Skipped {
        /// Its elements.
        elements: u64,
    },
}

impl Header {
    /// The text of a key; `None` where it has none, or something else.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number of a key, if it is not negative.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Unsigned(number) => Some(*number),
            _ => None,
        }
    }

    /// The number of a key, whole or not.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            Value::Float(number) => Some(*number),
            Value::Unsigned(number) => Some(*number as f64),
            Value::Negative(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// Whether a key says yes.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The texts of a key.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.metadata.get(key)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// The whole numbers of a key.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.metadata.get(key)? {
            Value::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// The numbers of a key.
    pub fn floats(&self, key: &str) -> Option<&[f64]> {
        match self.metadata.get(key)? {
            Value::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// A whole number whose key begins with the architecture, such as `context_length` for `llama.context_length`.
    pub fn of_architecture(&self, key: &str) -> Option<u64> {
        let architecture = self.text("general.architecture")?;
        self.unsigned(&format!("{architecture}.{key}"))
    }
}

/// Reads the header of a file of `len` bytes. It reads a few kilobytes more of the source than the header is long.
///
/// # Errors
/// What the file breaks, or has more of than is read here. See [`CheckError`].
pub fn read(source: impl Read, len: u64) -> Result<Header, CheckError> {
    let mut source = Source::new(source, len);
    match source.array("the magic number") {
        Ok(magic) if magic == *b"GGUF" => {}
        Ok(_) | Err(CheckError::Short { .. }) => return Err(CheckError::Format("GGUF")),
        Err(error) => return Err(error),
    }
    let version = source.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(CheckError::Version {
            format: "GGUF",
            found: version,
        });
    }
    let tensors = source.u64("the number of tensors")?;
    let keys = source.u64("the number of keys")?;
    CheckError::bound("tensors", tensors, COUNT_MAX)?;
    CheckError::bound("keys", keys, COUNT_MAX)?;
    let metadata = values::metadata(&mut source, keys)?;
    vocabulary(&metadata)?;
    let alignment = alignment(&metadata)?;
    let mut found = Vec::new();
    for _ in 0..tensors {
        found.push(tensor(&mut source, alignment)?);
    }
    let data = source.at().next_multiple_of(alignment);
    let tensors = placed(found, data, len)?;
    Ok(Header {
        version,
        metadata,
        tensors,
        data,
    })
}

fn wrong(key: &str, what: &'static str) -> CheckError {
    CheckError::value(key, what)
}

/// Checks the vocabulary, where there is one: its lists are equally long, and tokens that stand for bytes say for which.
fn vocabulary(metadata: &BTreeMap<String, Value>) -> Result<(), CheckError> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const TYPES: &str = "tokenizer.ggml.token_type";
    const SCORES: &str = "tokenizer.ggml.scores";
    let tokens = match metadata.get(TOKENS) {
        None => return Ok(()),
        Some(Value::Texts(tokens)) => tokens,
        Some(Value::Skipped { elements }) if *elements > VOCAB_MAX => {
            return CheckError::bound("tokens", *elements, VOCAB_MAX);
        }
        Some(_) => return Err(wrong(TOKENS, "is no array of strings")),
    };
    match metadata.get(SCORES) {
        None => {}
        Some(Value::Floats(scores)) if scores.len() == tokens.len() => {}
        Some(_) => return Err(wrong(SCORES, "is no array of a number for each token")),
    }
    let types = match metadata.get(TYPES) {
        None => return Ok(()),
        Some(Value::Integers(types)) if types.len() == tokens.len() => types,
        Some(_) => return Err(wrong(TYPES, "is no array of a type for each token")),
    };
    let byte = |token: &str| {
        let digits = token
            .strip_prefix("<0x")
            .and_then(|token| token.strip_suffix('>'));
        digits
            .is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    let mut both = tokens.iter().zip(types);
    match both.all(|(token, kind)| *kind != TOKEN_TYPE_BYTE || byte(token)) {
        true => Ok(()),
        false => Err(wrong(
            TOKENS,
            "has a token of type byte that is not written as <0xHH>",
        )),
    }
}

/// What the tensors are aligned to.
fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, CheckError> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(ALIGNMENT),
        Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() && ALIGNMENTS.contains(alignment) => {
            Ok(*alignment)
        }
        Some(_) => Err(wrong(ALIGNMENT_KEY, "is no power of two from 8 to 65536")),
    }
}

/// A tensor whose range is still counted from where tensors begin.
fn tensor<R: Read>(source: &mut Source<R>, alignment: u64) -> Result<TensorInfo, CheckError> {
    let name = source.name("the name of a tensor", NAME_LEN_MAX)?;
    let wrong = |wrong| CheckError::tensor(&name, wrong);
    let rank = source.u32("a tensor")?;
    // The format does not forbid one without dimensions, but none is known, and candle loads none.
    if rank == 0 || rank > RANK_MAX {
        return Err(wrong(Wrong::Rank(rank.into())));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(source.u64("a tensor")?);
    }
    let row = shape.first().copied().unwrap_or(1);
    // The format has columns before rows.
    shape.reverse();
    let number = source.u32("a tensor")?;
    let offset = source.u64("a tensor")?;
    if shape.contains(&0) {
        return Err(wrong(Wrong::Empty));
    }
    let Some(dtype) = dtype(number) else {
        return Err(CheckError::Dtype {
            tensor: name,
            dtype: dtype_name(number),
        });
    };
    let (block, _) = dtype.block();
    if !row.is_multiple_of(block) {
        return Err(wrong(Wrong::Blocks { row, block }));
    }
    let elements = super::product(&shape).ok_or_else(|| wrong(Wrong::Overflow))?;
    let len = dtype.len(elements).ok_or_else(|| wrong(Wrong::Overflow))?;
    if !offset.is_multiple_of(alignment) {
        return Err(wrong(Wrong::Alignment { offset, alignment }));
    }
    let end = offset.checked_add(len).ok_or_else(|| wrong(Wrong::Overflow))?;
    Ok(TensorInfo {
        name,
        dtype,
        shape,
        range: offset..end,
    })
}

/// Gives the tensors their places in the file, where nothing lies over anything.
fn placed(mut tensors: Vec<TensorInfo>, data: u64, len: u64) -> Result<Vec<TensorInfo>, CheckError> {
    super::unique(&tensors)?;
    for tensor in &mut tensors {
        let outside = |end| CheckError::tensor(&tensor.name, Wrong::Outside { end, len });
        let end = data.saturating_add(tensor.range.end);
        if end > len {
            return Err(outside(end));
        }
        tensor.range = data + tensor.range.start..end;
    }
    tensors.sort_by_key(|tensor| tensor.range.start);
    for pair in tensors.windows(2) {
        if let [before, after] = pair
            && after.range.start < before.range.end
        {
            let wrong = Wrong::Overlap(before.name.clone());
            return Err(CheckError::tensor(&after.name, wrong));
        }
    }
    Ok(tensors)
}

/// The types that this build reads, by their numbers in the format.
fn dtype(number: u32) -> Option<Dtype> {
    Some(match number {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::Q4_0,
        3 => Dtype::Q4_1,
        6 => Dtype::Q5_0,
        7 => Dtype::Q5_1,
        8 => Dtype::Q8_0,
        9 => Dtype::Q8_1,
        10 => Dtype::Q2K,
        11 => Dtype::Q3K,
        12 => Dtype::Q4K,
        13 => Dtype::Q5K,
        14 => Dtype::Q6K,
        15 => Dtype::Q8K,
        30 => Dtype::BF16,
        _ => return None,
    })
}

/// What a type is called that this build does not read (`ggml_type` in ggml.h).
fn dtype_name(number: u32) -> String {
    let name = match number {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("number {number}"),
    };
    name.to_owned()
}
