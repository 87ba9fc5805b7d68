//! Attention over all that was read, and the keys and values that are remembered for it.

use candle_core::{DType, Device, Tensor};

/// Tokens that the memory of keys and values holds at first; it doubles whenever it is full.
const CAPACITY_MIN: usize = 256;

/// Keys and values of all tokens read, `[kv_heads, capacity, head_dim]` each.
#[derive(Debug, Default)]
pub(super) struct Memory {
    both: Option<(Tensor, Tensor)>,
}

impl Memory {
    /// Forgets all.
    pub(super) fn reset(&mut self) {
        self.both = None;
    }

    /// Adds keys and values, `[kv_heads, n, head_dim]`, behind the first `from`; returns those of positions `start..from + n`.
    pub(super) fn add(
        &mut self,
        k: &Tensor,
        v: &Tensor,
        from: usize,
        start: usize,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let (heads, count, width) = k.dims3()?;
        let end = from + count;
        let (keys, values) = match self.both.take() {
            Some(both) if both.0.dim(1)? >= end => both,
            before => {
                let capacity = end.next_power_of_two().max(CAPACITY_MIN);
                let grown = |before: Option<&Tensor>| {
                    let grown = Tensor::zeros((heads, capacity, width), DType::F32, &Device::Cpu)?;
                    if let Some(before) = before.filter(|_| from > 0) {
                        grown.slice_set(&before.narrow(1, 0, from)?.contiguous()?, 1, 0)?;
                    }
                    candle_core::Result::Ok(grown)
                };
                let (k, v) = before.as_ref().map(|(k, v)| (k, v)).unzip();
                (grown(k)?, grown(v)?)
            }
        };
        keys.slice_set(&k.contiguous()?, 1, from)?;
        values.slice_set(&v.contiguous()?, 1, from)?;
        let seen = (
            keys.narrow(1, start, end - start)?,
            values.narrow(1, start, end - start)?,
        );
        self.both = Some((keys, values));
        Ok(seen)
    }
}

/// Lets each of `n` positions look at those before it and itself.
///
/// - `q`: `[heads, n, head_dim]`, scaled; `k`, `v`: `[kv_heads, seen, head_dim]`, of which the last `n` are the positions' own.
/// - `window`: how far back each looks, itself included.
/// - Returns `[n, heads * head_dim]`.
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    window: Option<usize>,
) -> candle_core::Result<Tensor> {
    let (heads, count, width) = q.dims3()?;
    let (kv_heads, seen, _) = k.dims3()?;
    // Heads that share keys are rows of one multiplication.
    let q = q.reshape((kv_heads, heads / kv_heads * count, width))?;
    let mut scores = q.matmul(&k.transpose(1, 2)?)?;
    // The caller gives no more keys than the window of the first position reaches back to: one position alone sees all of them.
    if count > 1 {
        let mask = mask(count, seen, window)?;
        scores = scores
            .reshape((heads, count, seen))?
            .broadcast_add(&mask)?
            .reshape(scores.shape())?;
    }
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    let mixed = weights.matmul(v)?.reshape((heads, count, width))?;
    mixed.transpose(0, 1)?.reshape((count, heads * width))
}

/// What is added to scores, `[count, seen]`: 0 where a position sees another, minus infinity where it does not.
fn mask(count: usize, seen: usize, window: Option<usize>) -> candle_core::Result<Tensor> {
    let before = seen - count;
    let at = |i: usize| {
        let own = before + i;
        let first = window.map_or(0, |window| (own + 1).saturating_sub(window));
        (0..seen).map(move |other| {
            if (first..=own).contains(&other) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
    };
    let values: Vec<f32> = (0..count).flat_map(at).collect();
    Tensor::from_vec(values, (count, seen), &Device::Cpu)
}
