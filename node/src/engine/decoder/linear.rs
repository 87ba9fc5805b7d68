//! Matrices and norms. A matrix keeps its weights as they are in memory: 32 bits floats, halves, or packed blocks.

use std::ops::Range;

use candle_core::{DType, Device, IndexOp as _, Module as _, Tensor, quantized::QMatMul};
use rayon::prelude::*;

use super::{
    super::{config::Settings, weights::Tensors, wire::Fault},
    single,
};

/// Bytes of weights that one task widens and multiplies with: small enough that all processors have work and that they stay in a
/// core's cache, large enough that handing them out costs nothing. A constant, so that results are too.
const TASK_LEN: usize = 256 << 10;
/// Fewest positions for which packed weights are unpacked before they multiply. candle multiplies packed blocks with a position after
/// another, some kinds of blocks (Q4_1, Q5_0, Q5_1) in a loop without SIMD: unpacking costs as much as three positions, and once.
const UNPACKED_MIN: usize = 4;

/// `x·Wᵀ + b`, with W of `[out, in]`.
#[derive(Debug)]
pub(super) struct Linear {
    weights: QMatMul,
    bias: Option<Tensor>,
    shape: [usize; 2],
}

impl Linear {
    /// Takes a matrix of exactly this shape, `[out, in]`, and its bias.
    pub(super) fn load(
        tensors: &mut Tensors,
        name: &str,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<Linear, Fault> {
        let weights = tensors.matrix(name, shape)?;
        let bias = match bias {
            true => Some(floats(tensors, &name.replace(".weight", ".bias"), &shape[..1])?),
            false => None,
        };
        Ok(Linear { weights, bias, shape })
    }

    /// Multiplies states, `[n, in]`, to `[n, out]`.
    pub(super) fn forward(&self, states: &Tensor) -> candle_core::Result<Tensor> {
        let positions = states.dim(0)?;
        let product = match &self.weights {
            QMatMul::QTensor(weights) if positions >= UNPACKED_MIN => self.in_tasks(states, |rows| {
                weights.embedding(&Tensor::arange(rows.start as u32, rows.end as u32, &Device::Cpu)?)
            })?,
            QMatMul::QTensor(_) => self.weights.forward(states)?,
            QMatMul::Tensor(weights) | QMatMul::TensorF16(weights) => match (positions, weights.dtype()) {
                (1, _) => single::multiply(&states.contiguous()?, weights)?,
                (_, DType::F32) => states.matmul(&weights.t()?)?,
                _ => self.in_tasks(states, |rows| {
                    weights.narrow(0, rows.start, rows.len())?.to_dtype(DType::F32)
                })?,
            },
        };
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    /// Multiplies a few rows of weights a task, as 32 bits floats: halves and packed blocks are widened here, a task's worth at a time.
    fn in_tasks(
        &self,
        states: &Tensor,
        floats: impl Fn(Range<usize>) -> candle_core::Result<Tensor> + Sync,
    ) -> candle_core::Result<Tensor> {
        let [out, width] = self.shape;
        let rows = (TASK_LEN / (4 * width)).max(1);
        let parts: Vec<Tensor> = (0..out.div_ceil(rows))
            .into_par_iter()
            .map(|task| states.matmul(&floats(task * rows..out.min((task + 1) * rows))?.t()?))
            .collect::<candle_core::Result<_>>()?;
        Tensor::cat(&parts, 1)
    }

    /// Returns rows of the weights, by their numbers: `[ids.len(), in]`, 32 bits floats.
    pub(super) fn rows(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        self.weights.embedding(ids)?.to_dtype(DType::F32)
    }

    /// Tells whether another matrix has the same numbers, bit by bit.
    pub(super) fn same(&self, other: &Linear) -> candle_core::Result<bool> {
        if self.shape != other.shape {
            return Ok(false);
        }
        for row in 0..self.shape[0] as u32 {
            let row = Tensor::new(&[row], &Device::Cpu)?;
            let (ours, theirs) = (
                self.rows(&row)?.i(0)?.to_vec1::<f32>()?,
                other.rows(&row)?.i(0)?.to_vec1::<f32>()?,
            );
            if ours.iter().zip(&theirs).any(|(a, b)| a.to_bits() != b.to_bits()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// x / sqrt(mean(x²) + eps) · w, over the last dimension.
#[derive(Debug)]
pub(super) struct Norm {
    weights: Tensor,
    eps: f32,
}

impl Norm {
    /// Takes the weights of a norm over so many numbers.
    pub(super) fn load(
        tensors: &mut Tensors,
        name: &str,
        width: usize,
        settings: &Settings,
    ) -> Result<Norm, Fault> {
        let mut weights = floats(tensors, name, &[width])?;
        if settings.norm_from_one {
            weights = (weights + 1.0).map_err(|error| super::of(settings, error))?;
        }
        Ok(Norm {
            weights,
            eps: settings.norm_eps as f32,
        })
    }

    /// Norms states whose last dimension is the norm's.
    pub(super) fn forward(&self, states: &Tensor) -> candle_core::Result<Tensor> {
        candle_nn::ops::rms_norm(&states.contiguous()?, &self.weights, self.eps)
    }
}

/// Takes a small tensor as 32 bits floats, whatever it is kept as.
fn floats(tensors: &mut Tensors, name: &str, shape: &[usize]) -> Result<Tensor, Fault> {
    tensors
        .tensor(name, shape)?
        .to_dtype(DType::F32)
        .map_err(|error| Fault::Ask(format!("tensor {name}: {error}")))
}
