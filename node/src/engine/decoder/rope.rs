//! Rope: q and k are turned by their positions.

use candle_core::{Device, Tensor};

use super::super::{
    config::{Pairs, Rope, Scaling, Settings},
    wire::Fault,
};

/// How fast each pair of numbers turns.
#[derive(Debug)]
pub(super) struct Turns {
    /// Radians a position, for each pair.
    speeds: Vec<f32>,
    pairs: Pairs,
}

/// The turns of a few positions: cosines and sines, `[positions, pairs]`.
#[derive(Debug)]
pub(super) struct Turn {
    cos: Tensor,
    sin: Tensor,
    pairs: Pairs,
}

impl Turns {
    /// Computes the speeds for `dim` numbers of a head. `factors` divide them: `dim / 2` of them.
    ///
    /// Powers are rounded once, from 64 bits: the same on every machine, and torch's to the last bit but one.
    pub(super) fn new(
        rope: Rope,
        dim: usize,
        factors: Option<&[f32]>,
        settings: &Settings,
    ) -> Result<Turns, Fault> {
        let speed = |i: usize| {
            let exponent = i as f32 / dim as f32;
            1.0 / rope.theta.powf(f64::from(exponent)) as f32
        };
        let speeds = (0..dim)
            .step_by(2)
            .map(speed)
            .map(|speed| scaled(speed, rope.scaling));
        let speeds: Vec<f32> = match factors {
            Some(factors) => speeds
                .zip(factors)
                .map(|(speed, factor)| speed / factor)
                .collect(),
            None => speeds.collect(),
        };
        match speeds.iter().all(|speed| *speed > 0.0 && *speed <= 1e3) {
            true => Ok(Turns {
                speeds,
                pairs: settings.pairs,
            }),
            false => Err(Fault::Invalid {
                path: settings.path.clone(),
                what: "positions turn by no number".to_owned(),
            }),
        }
    }

    /// Returns the turns of `count` positions from `from` on.
    pub(super) fn at(&self, from: usize, count: usize) -> candle_core::Result<Turn> {
        let angles = (from..from + count).flat_map(|position| {
            self.speeds
                .iter()
                .map(move |speed| f64::from(position as f32 * speed))
        });
        let angles: Vec<f64> = angles.collect();
        let tensor = |of: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle) as f32).collect();
            Tensor::from_vec(values, (count, self.speeds.len()), &Device::Cpu)
        };
        Ok(Turn {
            cos: tensor(f64::cos)?,
            sin: tensor(f64::sin)?,
            pairs: self.pairs,
        })
    }
}

fn scaled(speed: f32, scaling: Scaling) -> f32 {
    match scaling {
        Scaling::None => speed,
        Scaling::Linear { factor } => speed / factor as f32,
        // In the words of transformers' `_compute_llama3_parameters`, in 32 bits as there.
        Scaling::Llama3 {
            factor,
            low,
            high,
            original,
        } => {
            let [factor, low, high, original] = [factor, low, high, original].map(|number| number as f32);
            let wave = 2.0 * std::f32::consts::PI / speed;
            if wave > original / low {
                speed / factor
            } else if wave < original / high {
                speed
            } else {
                let smooth = (original / wave - low) / (high - low);
                (1.0 - smooth) * (speed / factor) + smooth * speed
            }
        }
    }
}

impl Turn {
    /// Turns the first numbers of each head: `[heads, positions, head_dim]`, contiguous.
    pub(super) fn apply(&self, heads: &Tensor) -> candle_core::Result<Tensor> {
        let (_, _, width) = heads.dims3()?;
        let turned = 2 * self.cos.dim(1)?;
        let heads = heads.unsqueeze(0)?;
        let first = match turned == width {
            true => heads.clone(),
            false => heads.narrow(3, 0, turned)?.contiguous()?,
        };
        let first = match self.pairs {
            Pairs::Halves => candle_nn::rotary_emb::rope(&first, &self.cos, &self.sin)?,
            Pairs::Neighbours => candle_nn::rotary_emb::rope_i(&first, &self.cos, &self.sin)?,
        };
        match turned == width {
            true => first.squeeze(0),
            false => Tensor::cat(&[&first, &heads.narrow(3, turned, width - turned)?], 3)?.squeeze(0),
        }
    }
}
