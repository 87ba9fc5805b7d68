//! Numbers of any type that files have, made 32 bits floats.

use candle_core::{
    Device, Result, Storage,
    quantized::{GgmlDType, QTensor, ggml_file},
};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::{IndexedParallelIterator, ParallelIterator, ParallelSlice, ParallelSliceMut};

use crate::check::Dtype;

/// Appends the elements in `bytes`, whole ones or whole blocks, as 32 bits floats. Integers and 64 bits floats are rounded.
///
/// # Errors
/// candle has no way to read blocks of this type, or they lie at an odd address: it reads them in place, scales of 16 bits first.
pub(crate) fn append(dtype: Dtype, bytes: &[u8], floats: &mut Vec<f32>) -> Result<()> {
    match dtype {
        Dtype::F32 => each(bytes, floats, f32::from_le_bytes),
        Dtype::F16 => {
            let (elements, from) = (bytes.as_chunks::<2>().0, floats.len());
            let halves: Vec<f16> = elements.iter().map(|b| f16::from_le_bytes(*b)).collect();
            floats.resize(from + halves.len(), 0.0);
            halves.convert_to_f32_slice(&mut floats[from..]);
        }
        Dtype::BF16 => each(bytes, floats, |b: [u8; 2]| {
            f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
        }),
        Dtype::F64 => each(bytes, floats, |b| f64::from_le_bytes(b) as f32),
        Dtype::F8E4M3 => each(bytes, floats, |[b]| e4m3(b) as f32),
        Dtype::F8E5M2 => each(bytes, floats, |[b]| e5m2(b) as f32),
        Dtype::Bool | Dtype::U8 => each(bytes, floats, |[b]| f32::from(b)),
        Dtype::I8 => each(bytes, floats, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U16 => each(bytes, floats, |b| f32::from(u16::from_le_bytes(b))),
        Dtype::I16 => each(bytes, floats, |b| f32::from(i16::from_le_bytes(b))),
        Dtype::U32 => each(bytes, floats, |b| u32::from_le_bytes(b) as f32),
        Dtype::I32 => each(bytes, floats, |b| i32::from_le_bytes(b) as f32),
        Dtype::U64 => each(bytes, floats, |b| u64::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, floats, |b| i64::from_le_bytes(b) as f32),
        _ => unpack(dtype, bytes, floats)?,
    }
    Ok(())
}

/// Blocks that one task unpacks: what it makes of them stays in a core's cache.
const TASK_BLOCKS: usize = 256;

/// Appends the elements of blocks, on all processors.
fn unpack(dtype: Dtype, bytes: &[u8], floats: &mut Vec<f32>) -> Result<()> {
    let (packed, len) = dtype.block();
    let (packed, len) = (packed as usize, len as usize);
    let from = floats.len();
    floats.resize(from + bytes.len() / len * packed, 0.0);
    let tasks = floats[from..].par_chunks_mut(TASK_BLOCKS * packed);
    let pieces = bytes.par_chunks(TASK_BLOCKS * len);
    tasks.zip(pieces).try_for_each(|(floats, bytes)| {
        let values = packed_tensor(dtype, bytes, vec![floats.len()])?.dequantize(&Device::Cpu)?;
        let (storage, _) = values.storage_and_layout();
        match &*storage {
            Storage::Cpu(values) => floats.copy_from_slice(values.as_slice()?),
            _ => candle_core::bail!("a tensor that is not in memory"),
        }
        Ok(())
    })
}

/// Makes a tensor of blocks, of these dimensions.
///
/// # Errors
/// candle has no way to read blocks of this type, the rows are no whole blocks, or they lie at an odd address.
pub(crate) fn packed_tensor(dtype: Dtype, bytes: &[u8], dims: Vec<usize>) -> Result<QTensor> {
    let dtype = match dtype {
        Dtype::Q4_0 => GgmlDType::Q4_0,
        Dtype::Q4_1 => GgmlDType::Q4_1,
        Dtype::Q5_0 => GgmlDType::Q5_0,
        Dtype::Q5_1 => GgmlDType::Q5_1,
        Dtype::Q8_0 => GgmlDType::Q8_0,
        Dtype::Q2K => GgmlDType::Q2K,
        Dtype::Q3K => GgmlDType::Q3K,
        Dtype::Q4K => GgmlDType::Q4K,
        Dtype::Q5K => GgmlDType::Q5K,
        Dtype::Q6K => GgmlDType::Q6K,
        other => candle_core::bail!("{other} is a type that this build does not compute with"),
    };
    if !bytes.as_ptr().addr().is_multiple_of(2) {
        candle_core::bail!("its blocks lie at an odd address");
    }
    ggml_file::qtensor_from_ggml(dtype, bytes, dims, &Device::Cpu)
}

fn each<const N: usize>(bytes: &[u8], floats: &mut Vec<f32>, float: impl Fn([u8; N]) -> f32) {
    floats.extend(bytes.as_chunks::<N>().0.iter().map(|bytes| float(*bytes)));
}

/// Returns the number that a byte is: 4 bits of exponent, 3 of mantissa, no infinities (`torch.float8_e4m3fn`).
pub(crate) fn e4m3(bits: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let magnitude = match (exponent, bits & 0x7f) {
        (_, 0x7f) => f64::NAN,
        (0, _) => mantissa * 2f64.powi(-9),
        _ => (8.0 + mantissa) * 2f64.powi(exponent - 10),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Returns the number that a byte is: the upper half of a 16 bits float (`torch.float8_e5m2`).
pub(crate) fn e5m2(bits: u8) -> f64 {
    f16::from_bits(u16::from(bits) << 8).to_f64()
}

/// Returns 16 bits floats as they are in the file.
pub(crate) fn halves(bytes: &[u8]) -> Vec<f16> {
    let elements = bytes.as_chunks::<2>().0;
    elements.iter().map(|b| f16::from_le_bytes(*b)).collect()
}

/// Returns 16 bits floats of the other kind as they are in the file.
pub(crate) fn brain_halves(bytes: &[u8]) -> Vec<bf16> {
    let elements = bytes.as_chunks::<2>().0;
    elements.iter().map(|b| bf16::from_le_bytes(*b)).collect()
}
