//! One block: attention, and the feed-forward part, each within a residual.

use candle_core::{D, Tensor};

use super::{
    super::{
        config::{Activation, Settings},
        weights::Tensors,
        wire::Fault,
    },
    attention::{Memory, attend},
    linear::{Linear, Norm},
    names::Part,
    rope::Turn,
};

/// A block and what it remembers.
#[derive(Debug)]
pub(super) struct Block {
    norm: Norm,
    projections: Projections,
    /// Norms of q and k.
    qk_norm: Option<(Norm, Norm)>,
    output: Linear,
    norm_behind: Option<Norm>,
    feed_norm: Norm,
    gates: Gates,
    down: Linear,
    feed_norm_behind: Option<Norm>,
    memory: Memory,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    window: Option<usize>,
    activation: Activation,
}

/// From states to q, k and v.
#[derive(Debug)]
enum Projections {
    Apart { q: Linear, k: Linear, v: Linear },
    Fused(Linear),
}

/// From states to gate and up.
#[derive(Debug)]
enum Gates {
    Apart { gate: Linear, up: Linear },
    Fused(Linear),
}

impl Block {
    /// Takes the tensors of a layer, counted from 0.
    pub(super) fn load(layer: usize, settings: &Settings, tensors: &mut Tensors) -> Result<Block, Fault> {
        let name = |part: Part| part.name(settings.form, Some(layer));
        let (hidden, wide) = (settings.hidden, settings.intermediate);
        let (q, kv) = (
            settings.heads * settings.head_dim,
            settings.kv_heads * settings.head_dim,
        );
        let biases = settings.biases;
        let mut linear = |part, out, width, bias| Linear::load(tensors, &name(part), [out, width], bias);
        let projections = match settings.fused {
            true => Projections::Fused(linear(Part::Qkv, q + 2 * kv, hidden, biases.qkv)?),
            false => Projections::Apart {
                q: linear(Part::Q, q, hidden, biases.qkv)?,
                k: linear(Part::K, kv, hidden, biases.qkv)?,
                v: linear(Part::V, kv, hidden, biases.qkv)?,
            },
        };
        let output = linear(Part::Output, hidden, q, biases.output)?;
        let gates = match settings.fused {
            true => Gates::Fused(linear(Part::GateUp, 2 * wide, hidden, biases.feed_forward)?),
            false => Gates::Apart {
                gate: linear(Part::Gate, wide, hidden, biases.feed_forward)?,
                up: linear(Part::Up, wide, hidden, biases.feed_forward)?,
            },
        };
        let down = linear(Part::Down, hidden, wide, biases.feed_forward)?;
        let mut norm = |part, width| Norm::load(tensors, &name(part), width, settings);
        let four = settings.norm_behind;
        Ok(Block {
            norm: norm(Part::AttentionNorm, hidden)?,
            projections,
            qk_norm: match settings.qk_norm {
                true => Some((
                    norm(Part::QNorm, settings.head_dim)?,
                    norm(Part::KNorm, settings.head_dim)?,
                )),
                false => None,
            },
            output,
            norm_behind: four
                .then(|| norm(Part::AttentionNormBehind, hidden))
                .transpose()?,
            feed_norm: norm(
                if four {
                    Part::FeedNormOfFour
                } else {
                    Part::FeedNorm
                },
                hidden,
            )?,
            gates,
            down,
            feed_norm_behind: four.then(|| norm(Part::FeedNormBehind, hidden)).transpose()?,
            memory: Memory::default(),
            heads: settings.heads,
            kv_heads: settings.kv_heads,
            head_dim: settings.head_dim,
            scale: settings.attention_scale as f32,
            window: settings.windows[layer],
            activation: settings.activation,
        })
    }

    /// Tells whether it looks back only so far.
    pub(super) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Forgets all.
    pub(super) fn reset(&mut self) {
        self.memory.reset();
    }

    /// Computes states, `[n, hidden]`, of positions from `from` on.
    pub(super) fn forward(
        &mut self,
        states: &Tensor,
        turn: &Turn,
        from: usize,
    ) -> candle_core::Result<Tensor> {
        let attended = self.attention(&self.norm.forward(states)?, turn, from)?;
        let states = (states + behind(self.norm_behind.as_ref(), attended)?)?;
        let fed = self.feed_forward(&self.feed_norm.forward(&states)?)?;
        states + behind(self.feed_norm_behind.as_ref(), fed)?
    }

    fn attention(&mut self, states: &Tensor, turn: &Turn, from: usize) -> candle_core::Result<Tensor> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let (q, k, v) = match &self.projections {
            Projections::Apart { q, k, v } => (q.forward(states)?, k.forward(states)?, v.forward(states)?),
            Projections::Fused(all) => {
                let all = all.forward(states)?;
                let (q, kv) = (heads * self.head_dim, kv_heads * self.head_dim);
                (
                    all.narrow(1, 0, q)?,
                    all.narrow(1, q, kv)?,
                    all.narrow(1, q + kv, kv)?,
                )
            }
        };
        let by_head = |states: Tensor, heads: usize| {
            let positions = states.dim(0)?;
            states
                .contiguous()?
                .reshape((positions, heads, self.head_dim))?
                .transpose(0, 1)?
                .contiguous()
        };
        let (mut q, mut k, v) = (by_head(q, heads)?, by_head(k, kv_heads)?, by_head(v, kv_heads)?);
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        let q = (turn.apply(&q)? * f64::from(self.scale))?;
        let k = turn.apply(&k)?;
        let start = self.window.map_or(0, |window| (from + 1).saturating_sub(window));
        let (k, v) = self.memory.add(&k, &v, from, start)?;
        self.output.forward(&attend(&q, &k, &v, self.window)?)
    }

    fn feed_forward(&self, states: &Tensor) -> candle_core::Result<Tensor> {
        let (gate, up) = match &self.gates {
            Gates::Apart { gate, up } => (gate.forward(states)?, up.forward(states)?),
            Gates::Fused(both) => {
                let both = both.forward(states)?;
                let wide = both.dim(D::Minus1)? / 2;
                (
                    both.narrow(1, 0, wide)?.contiguous()?,
                    both.narrow(1, wide, wide)?.contiguous()?,
                )
            }
        };
        let gate = match self.activation {
            Activation::Silu => gate.silu()?,
            Activation::GeluTanh => gate.gelu()?,
        };
        self.down.forward(&(gate * up)?)
    }
}

fn behind(norm: Option<&Norm>, states: Tensor) -> candle_core::Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&states),
        None => Ok(states),
    }
}
