//! What the numbers in a tensor are like, told from its bytes as they pass by: whether any is NaN or infinite, whether all are 0
//! or the same, and the largest. No tensor is made.
//!
//! Floats are looked at as integers: without the sign, their bits order them as their values do, and all that is no finite number
//! lies above the largest. A sweep over a piece takes three integer operations an element, which the compiler does on whole
//! vectors; only a piece in which one is found not to be finite is gone over again, to count.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::{floats, wire::Numbers};
use crate::check::{Dtype, TensorInfo};

/// What was seen so far of a tensor.
#[derive(Debug)]
pub(crate) struct Tally {
    dtype: Dtype,
    /// The first element, or block: what all others are compared with.
    first: Option<Vec<u8>>,
    nan: u64,
    infinite: u64,
    max_abs: f64,
    zero: bool,
    same: bool,
}

/// What a sweep over a piece found.
struct Swept {
    nan: u64,
    infinite: u64,
    max_abs: f64,
    zero: bool,
    same: bool,
}

impl Tally {
    /// Begins a tensor of this type.
    pub(crate) fn new(dtype: Dtype) -> Tally {
        Tally {
            dtype,
            first: None,
            nan: 0,
            infinite: 0,
            max_abs: 0.0,
            zero: true,
            same: true,
        }
    }

    /// Looks at a piece: whole elements, or whole blocks. What is left of a piece behind the last whole one is not looked at.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let Ok(len) = usize::try_from(self.dtype.block().1) else {
            return;
        };
        let Some(head) = bytes.get(..len) else {
            return;
        };
        let first = self.first.get_or_insert_with(|| head.to_vec());
        let swept = sweep(self.dtype, bytes, first);
        self.nan += swept.nan;
        self.infinite += swept.infinite;
        self.max_abs = self.max_abs.max(swept.max_abs);
        self.zero &= swept.zero;
        self.same &= swept.same;
    }

    /// Returns what was found, of a tensor that was looked at as a whole.
    pub(crate) fn numbers(self, path: &str, tensor: &TensorInfo) -> Numbers {
        let elements = tensor.elements();
        // Blocks that are all the same hold the same number only where the first holds one number.
        let one = match (&self.first, self.same, self.dtype.block().0) {
            (Some(_), true, 1) => true,
            (Some(first), true, _) => {
                let mut values = Vec::new();
                floats::append(self.dtype, first, &mut values).is_ok()
                    && values.windows(2).all(|pair| pair[0] == pair[1])
            }
            _ => false,
        };
        Numbers {
            path: path.to_owned(),
            tensor: tensor.name.clone(),
            elements,
            nan: self.nan,
            infinite: self.infinite,
            zero: elements > 0 && self.zero,
            equal: elements > 1 && one,
            max_abs: self.max_abs,
        }
    }
}

fn sweep(dtype: Dtype, bytes: &[u8], first: &[u8]) -> Swept {
    match dtype {
        Dtype::F16 => f16(bytes, first, |bits| half::f16::from_bits(bits).to_f64()),
        Dtype::BF16 => bf16(bytes, first, |bits| half::bf16::from_bits(bits).to_f64()),
        Dtype::F32 => f32(bytes, first, |bits| f64::from(f32::from_bits(bits))),
        Dtype::F64 => f64(bytes, first, f64::from_bits),
        Dtype::F8E4M3 => e4m3(bytes, first, floats::e4m3),
        Dtype::F8E5M2 => e5m2(bytes, first, floats::e5m2),
        Dtype::Bool | Dtype::U8 => integers(bytes, first, u8::from_le_bytes, |v| f64::from(*v)),
        Dtype::I8 => integers(bytes, first, i8::from_le_bytes, |v| f64::from(*v)),
        Dtype::U16 => integers(bytes, first, u16::from_le_bytes, |v| f64::from(*v)),
        Dtype::I16 => integers(bytes, first, i16::from_le_bytes, |v| f64::from(*v)),
        Dtype::U32 => integers(bytes, first, u32::from_le_bytes, |v| f64::from(*v)),
        Dtype::I32 => integers(bytes, first, i32::from_le_bytes, |v| f64::from(*v)),
        Dtype::U64 => integers(bytes, first, u64::from_le_bytes, |v| *v as f64),
        Dtype::I64 => integers(bytes, first, i64::from_le_bytes, |v| *v as f64),
        // Where the scales are in a block: ggml's `block_*` structs, in ggml-common.h.
        Dtype::Q4_0 => blocks::<18, 1>(bytes, first, [0]),
        Dtype::Q4_1 => blocks::<20, 2>(bytes, first, [0, 2]),
        Dtype::Q5_0 => blocks::<22, 1>(bytes, first, [0]),
        Dtype::Q5_1 => blocks::<24, 2>(bytes, first, [0, 2]),
        Dtype::Q8_0 => blocks::<34, 1>(bytes, first, [0]),
        Dtype::Q8_1 => blocks::<36, 2>(bytes, first, [0, 2]),
        Dtype::Q2K => blocks::<84, 2>(bytes, first, [80, 82]),
        Dtype::Q3K => blocks::<110, 1>(bytes, first, [108]),
        Dtype::Q4K => blocks::<144, 2>(bytes, first, [0, 2]),
        Dtype::Q5K => blocks::<176, 2>(bytes, first, [0, 2]),
        Dtype::Q6K => blocks::<210, 1>(bytes, first, [208]),
        Dtype::Q8K => wide_blocks(bytes, first),
    }
}

/// Makes the sweep over floats of one width. `$signed` is as wide as `$bits`: without the sign bit, no value is negative in it, and
/// signed comparisons are what the oldest vector units have.
macro_rules! float_sweep {
    ($name:ident, $bits:ident, $signed:ident, $width:literal, magnitude: $magnitude:literal, infinity: $infinity:expr, nan above: $above:literal) => {
        fn $name(bytes: &[u8], first: &[u8], value: fn($bits) -> f64) -> Swept {
            let elements = bytes.as_chunks::<$width>().0;
            let first = first
                .first_chunk::<$width>()
                .map_or(0, |bytes| $bits::from_le_bytes(*bytes));
            let (mut largest, mut differing, mut nonzero): ($signed, $bits, $bits) = (0, 0, 0);
            for element in elements {
                let bits = $bits::from_le_bytes(*element);
                let magnitude = bits & $magnitude;
                largest = largest.max(magnitude as $signed);
                differing |= bits ^ first;
                nonzero |= magnitude;
            }
            let infinity: Option<$bits> = $infinity;
            let (mut nan, mut infinite) = (0, 0);
            if largest as $bits > $above || infinity.is_some_and(|i| largest as $bits >= i) {
                largest = 0;
                for element in elements {
                    let magnitude = $bits::from_le_bytes(*element) & $magnitude;
                    if magnitude > $above {
                        nan += 1;
                    } else if infinity == Some(magnitude) {
                        infinite += 1;
                    } else {
                        largest = largest.max(magnitude as $signed);
                    }
                }
            }
            Swept {
                nan,
                infinite,
                max_abs: value(largest as $bits),
                zero: nonzero == 0,
                same: differing == 0,
            }
        }
    };
}

float_sweep!(f16, u16, i16, 2, magnitude: 0x7fff, infinity: Some(0x7c00), nan above: 0x7c00);
float_sweep!(bf16, u16, i16, 2, magnitude: 0x7fff, infinity: Some(0x7f80), nan above: 0x7f80);
float_sweep!(f32, u32, i32, 4, magnitude: 0x7fff_ffff, infinity: Some(0x7f80_0000), nan above: 0x7f80_0000);
float_sweep!(f64, u64, i64, 8, magnitude: 0x7fff_ffff_ffff_ffff, infinity: Some(0x7ff0_0000_0000_0000), nan above: 0x7ff0_0000_0000_0000);
// The format of that name without infinities: only all ones is none of its numbers.
float_sweep!(e4m3, u8, i8, 1, magnitude: 0x7f, infinity: None, nan above: 0x7e);
float_sweep!(e5m2, u8, i8, 1, magnitude: 0x7f, infinity: Some(0x7c), nan above: 0x7c);

fn integers<T, const N: usize>(
    bytes: &[u8],
    first: &[u8],
    read: fn([u8; N]) -> T,
    value: fn(&T) -> f64,
) -> Swept
where
    T: Ord + Copy + Default,
{
    let elements = bytes.as_chunks::<N>().0;
    let first = first.first_chunk::<N>().map_or(T::default(), |b| read(*b));
    let (mut least, mut most) = (first, first);
    for element in elements {
        let element = read(*element);
        least = least.min(element);
        most = most.max(element);
    }
    Swept {
        nan: 0,
        infinite: 0,
        max_abs: value(&least).abs().max(value(&most).abs()),
        zero: least == T::default() && most == T::default(),
        same: least == most,
    }
}

/// Blocks of `LEN` bytes whose `SCALES` scales are 16 bits floats at `offsets`. Where all scales are 0, so are all elements.
fn blocks<const LEN: usize, const SCALES: usize>(
    bytes: &[u8],
    first: &[u8],
    offsets: [usize; SCALES],
) -> Swept {
    /// Of a 16 bits float: all bits but the sign, and those of infinity.
    const MAGNITUDE: u16 = 0x7fff;
    const INFINITY: u16 = 0x7c00;
    let blocks = bytes.as_chunks::<LEN>().0;
    let scale =
        |block: &[u8; LEN], offset: usize| u16::from_le_bytes([block[offset], block[offset + 1]]) & MAGNITUDE;
    let (mut largest, mut nonzero) = (0, 0);
    for block in blocks {
        for offset in offsets {
            let magnitude = scale(block, offset);
            largest = magnitude.max(largest);
            nonzero |= magnitude;
        }
    }
    let (mut nan, mut infinite) = (0, 0);
    if largest >= INFINITY {
        largest = 0;
        for magnitude in blocks
            .iter()
            .flat_map(|block| offsets.map(|offset| scale(block, offset)))
        {
            match magnitude.cmp(&INFINITY) {
                Ordering::Less => largest = magnitude.max(largest),
                Ordering::Equal => infinite += 1,
                Ordering::Greater => nan += 1,
            }
        }
    }
    Swept {
        nan,
        infinite,
        max_abs: half::f16::from_bits(largest).to_f64(),
        zero: nonzero == 0,
        same: blocks.iter().all(|block| block.as_slice() == first),
    }
}

/// Blocks of `Q8K`, whose scale is a 32 bits float in front.
fn wide_blocks(bytes: &[u8], first: &[u8]) -> Swept {
    let blocks = bytes.as_chunks::<292>().0;
    let scales: Vec<u8> = blocks
        .iter()
        .flat_map(|block| block[..4].iter().copied())
        .collect();
    Swept {
        same: blocks.iter().all(|block| block.as_slice() == first),
        ..f32(&scales, &scales, |bits| f64::from(f32::from_bits(bits)))
    }
}
