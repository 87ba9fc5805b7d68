//! The states of a single position, multiplied with a matrix: what every token costs that a model generates.
//!
//! It is bound by how fast the weights come from memory, so each is read once, in the order in which they lie, by all processors.
//! Sums are taken in an order that neither depends on how many those are nor on which instructions they have: the same
//! states and weights give the same bits everywhere.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Bytes of weights that are handed out at once: small enough that all processors end together, large enough that it costs nothing.
const TASK_LEN: usize = 32 << 10;

/// Multiplies states, `[1, in]`, 32 bits floats, with weights, `[out, in]`, which may be halves too, to `[1, out]`. Both lie in one
/// piece.
///
/// # Errors
/// They are none of that.
pub(super) fn multiply(states: &Tensor, weights: &Tensor) -> Result<Tensor> {
    states.apply_op2_no_bwd(weights, &Single)
}

struct Single;

impl CustomOp2 for Single {
    fn name(&self) -> &'static str {
        "single"
    }

    fn cpu_fwd(
        &self,
        states: &CpuStorage,
        states_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (one, width) = states_layout.shape().dims2()?;
        let (out, wide) = weights_layout.shape().dims2()?;
        if one != 1 || width != wide || width == 0 {
            bail!("states of {one} x {width} do not multiply with weights of {out} x {wide}");
        }
        let CpuStorage::F32(states) = states else {
            bail!("states that are no 32 bits floats");
        };
        let states = whole(states, states_layout)?;
        let mut product = vec![0.0; out];
        match weights {
            CpuStorage::F32(weights) => {
                let weights = whole(weights, weights_layout)?;
                each(&mut product, weights, width, |weights, _, product| {
                    sums::multiply(states, weights, product);
                });
            }
            CpuStorage::F16(weights) => {
                let weights = whole(weights, weights_layout)?;
                each(&mut product, weights, width, |weights, wide, product| {
                    wide.resize(weights.len(), 0.0);
                    weights.convert_to_f32_slice(wide);
                    sums::multiply(states, wide, product);
                });
            }
            CpuStorage::BF16(weights) => {
                let weights = whole(weights, weights_layout)?;
                each(&mut product, weights, width, |weights, wide, product| {
                    wide.resize(weights.len(), 0.0);
                    weights.convert_to_f32_slice(wide);
                    sums::multiply(states, wide, product);
                });
            }
            _ => bail!("weights that are no floats of 16 or 32 bits"),
        }
        Ok((CpuStorage::F32(product), Shape::from((1, out))))
    }
}

/// Multiplies a few rows of weights a task. Tasks that a thread does one after another share room for rows as 32 bits floats.
fn each<T: Sync>(
    product: &mut [f32],
    weights: &[T],
    width: usize,
    multiply: impl Fn(&[T], &mut Vec<f32>, &mut [f32]) + Sync,
) {
    let rows = (TASK_LEN / (4 * width)).max(1);
    let tasks = product.par_chunks_mut(rows).zip(weights.par_chunks(rows * width));
    tasks.for_each_init(Vec::new, |wide, (product, weights)| {
        multiply(weights, wide, product);
    });
}

/// Returns the numbers of a tensor, which lie one behind the other.
fn whole<'a, T>(all: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&all[from..to]),
        None => bail!("a tensor that is not in one piece"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_product_is_that_of_doubles_and_has_the_same_bits_wherever_a_row_lies(
            width in 1usize..200, out in 1usize..300, seed in any::<u32>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            let states: Vec<f32> = (0..width).map(|_| next()).collect();
            let weights: Vec<f32> = (0..out * width).map(|_| next()).collect();
            let tensor = |values: &[f32], rows| Tensor::from_slice(values, (rows, width), &Device::Cpu).unwrap();
            let product = multiply(&tensor(&states, 1), &tensor(&weights, out)).unwrap().to_vec2::<f32>().unwrap();
            prop_assert_eq!(product.len(), 1);
            prop_assert_eq!(product[0].len(), out);
            for (found, row) in product[0].iter().zip(weights.chunks(width)) {
                let exact: f64 = states.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                prop_assert!((f64::from(*found) - exact).abs() <= 1e-6 * width as f64, "{} {}", found, exact);
                let mut alone = [0.0];
                sums::multiply(&states, row, &mut alone);
                prop_assert_eq!(found.to_bits(), alone[0].to_bits());
            }
        }
    }

    #[test]
    fn what_does_not_multiply_is_an_error() {
        let zeros =
            |rows, width| Tensor::zeros((rows, width), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(multiply(&zeros(2, 4), &zeros(3, 4)).is_err());
        assert!(multiply(&zeros(1, 4), &zeros(3, 5)).is_err());
        assert!(multiply(&zeros(1, 4), &zeros(4, 3).t().unwrap()).is_err());
        assert!(multiply(&zeros(1, 4), &zeros(3, 4)).is_ok());
    }
}
