//! Checking: what a model's files say of themselves, read from their headers alone and within bounds. Nothing here believes a
//! length before it is bounded, and nothing of a file is given to other code before it was checked here.
//!
//! It knows neither the store nor the network: it is given bytes, and readers of bytes.

pub mod code;
pub mod config;
mod error;
pub mod facts;
pub mod gguf;
mod json;
pub mod safetensors;
pub mod shards;
pub mod tokenizer;

use std::{collections::HashSet, fmt, ops::Range};

pub use error::{CheckError, Wrong};
use serde::{Deserialize, Serialize};

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Its name, unique in the file.
    pub name: String,
    /// What its elements are.
    pub dtype: Dtype,
    /// Lengths of its dimensions, outermost first (rows before columns, whatever the format writes). Empty: one element.
    pub shape: Vec<u64>,
    /// Its bytes within the file.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// Returns how many elements it has. A checked tensor has fewer than 2^63.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// Multiplies dimensions; `None` where the product is 2^63 or more. Those that are 0 count only in the end, so that no order of
/// multiplying them comes further.
fn product(shape: &[u64]) -> Option<u64> {
    let mut others = shape.iter().filter(|len| **len != 0);
    let product = others.try_fold(1_u64, |product, len| product.checked_mul(*len))?;
    let product = (product < 1 << 63).then_some(product)?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// Refuses two tensors of one name.
fn unique(tensors: &[TensorInfo]) -> Result<(), CheckError> {
    let mut names = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        None => Ok(()),
        Some(twice) => Err(CheckError::twice("tensor", &twice.name)),
    }
}

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the formats' own names say it")]
#[serde(rename_all = "UPPERCASE")]
pub enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F8E4M3,
    F8E5M2,
    F16,
    BF16,
    F32,
    F64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

impl Dtype {
    /// Returns how many elements are packed in a block, and the bytes of a block. One element a block for plain types.
    pub const fn block(self) -> (u64, u64) {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 | Dtype::F8E4M3 | Dtype::F8E5M2 => (1, 1),
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::BF16 => (1, 2),
            Dtype::U32 | Dtype::I32 | Dtype::F32 => (1, 4),
            Dtype::U64 | Dtype::I64 | Dtype::F64 => (1, 8),
            Dtype::Q4_0 => (32, 18),
            Dtype::Q4_1 => (32, 20),
            Dtype::Q5_0 => (32, 22),
            Dtype::Q5_1 => (32, 24),
            Dtype::Q8_0 => (32, 34),
            Dtype::Q8_1 => (32, 36),
            Dtype::Q2K => (256, 84),
            Dtype::Q3K => (256, 110),
            Dtype::Q4K => (256, 144),
            Dtype::Q5K => (256, 176),
            Dtype::Q6K => (256, 210),
            Dtype::Q8K => (256, 292),
        }
    }

    /// Returns the bytes that `elements` of them take; `None` where they do not fill whole blocks, or the number is too large.
    pub fn len(self, elements: u64) -> Option<u64> {
        let (packed, bytes) = self.block();
        elements
            .is_multiple_of(packed)
            .then(|| (elements / packed).checked_mul(bytes))
            .flatten()
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
