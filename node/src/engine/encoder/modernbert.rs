//! ModernBERT: layers that are normalized in front of each step, rotary positions, gated inner layers, and windows that most layers
//! look through.
//!
//! After transformers' `modeling_modernbert.py`.

use candle_core::{Device, Tensor};
use candle_nn::{LayerNorm, Module, rotary_emb::rope};

use super::{
    Linear, attend,
    config::{ModernBertShape, Reach},
    join_heads, split_heads,
};
use crate::engine::{weights::Tensors, wire::Fault};

#[derive(Debug)]
pub(super) struct ModernBert {
    shape: ModernBertShape,
    words: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    last_norm: LayerNorm,
}

#[derive(Debug)]
struct Layer {
    reach: Reach,
    /// The first layer has none: what comes in is normalized already.
    norm: Option<LayerNorm>,
    /// Queries, keys and values, one under the other.
    qkv: Linear,
    out: Linear,
    inner_norm: LayerNorm,
    /// What is let through, and its gate, one under the other.
    up: Linear,
    down: Linear,
}

/// Where the encoder's tensors are in a model that has a head too.
const PREFIXES: [&str; 2] = ["", "model."];
/// What heads of this family are called.
const UNUSED: [&str; 2] = ["head.", "decoder."];

impl ModernBert {
    pub(super) fn load(shape: ModernBertShape, tensors: &mut Tensors) -> Result<ModernBert, Fault> {
        let words = "embeddings.tok_embeddings.weight";
        let prefix = PREFIXES
            .into_iter()
            .find(|prefix| tensors.has(&format!("{prefix}{words}")))
            .unwrap_or("");
        let (width, epsilon) = (shape.width, shape.epsilon);
        let words = tensors.tensor(&format!("{prefix}{words}"), &[shape.vocabulary, width])?;
        let first = norm(tensors, &format!("{prefix}embeddings.norm"), width, epsilon)?;
        let layers = shape.layers.iter().enumerate().map(|(layer, reach)| {
            let prefix = format!("{prefix}layers.{layer}");
            let mut linear = |name: &str, out: usize, width: usize| {
                Linear::load(tensors, &format!("{prefix}.{name}"), [out, width], false)
            };
            let qkv = linear("attn.Wqkv", 3 * width, width)?;
            let out = linear("attn.Wo", width, width)?;
            let up = linear("mlp.Wi", 2 * shape.inner, width)?;
            let down = linear("mlp.Wo", width, shape.inner)?;
            Ok(Layer {
                reach: *reach,
                norm: match layer {
                    0 => None,
                    _ => Some(norm(tensors, &format!("{prefix}.attn_norm"), width, epsilon)?),
                },
                qkv,
                out,
                inner_norm: norm(tensors, &format!("{prefix}.mlp_norm"), width, epsilon)?,
                up,
                down,
            })
        });
        let layers = layers.collect::<Result<_, Fault>>()?;
        let last_norm = norm(tensors, &format!("{prefix}final_norm"), width, epsilon)?;
        tensors.drop_all(|name| UNUSED.iter().any(|head| name.starts_with(head)));
        Ok(ModernBert {
            shape,
            words,
            norm: first,
            layers,
            last_norm,
        })
    }

    /// The last hidden states: a row for each token.
    pub(super) fn forward(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let heads = self.shape.heads;
        let words = self.words.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        let mut x = self.norm.forward(&words)?;
        let mut angles: Option<(f64, (Tensor, Tensor))> = None;
        for layer in &self.layers {
            let theta = layer.reach.theta;
            let (cos, sin) = match angles.take() {
                Some((same, angles)) if same == theta => angles,
                _ => rotations(ids.len(), self.shape.width / heads, theta)?,
            };
            x = layer.forward(&x, heads, &cos, &sin)?;
            angles = Some((theta, (cos, sin)));
        }
        self.last_norm.forward(&x)
    }
}

impl Layer {
    fn forward(&self, x: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
        let normal = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let width = x.dim(1)?;
        let qkv = self.qkv.forward(&normal)?;
        let part = |index: usize| split_heads(&qkv.narrow(1, index * width, width)?.contiguous()?, heads);
        let turned = |x: Tensor| rope(&x.unsqueeze(0)?, cos, sin)?.squeeze(0);
        let (q, k, v) = (turned(part(0)?)?, turned(part(1)?)?, part(2)?);
        let seen = join_heads(&attend(&q, &k, &v, self.reach.window)?)?;
        let x = (x + self.out.forward(&seen)?)?;
        let inner = self.up.forward(&self.inner_norm.forward(&x)?)?;
        let half = inner.dim(1)? / 2;
        let (through, gate) = (
            inner.narrow(1, 0, half)?.contiguous()?,
            inner.narrow(1, half, half)?.contiguous()?,
        );
        &x + self.down.forward(&(through.gelu_erf()? * gate)?)?
    }
}

fn norm(tensors: &mut Tensors, name: &str, width: usize, epsilon: f64) -> Result<LayerNorm, Fault> {
    let weight = tensors.tensor(&format!("{name}.weight"), &[width])?;
    Ok(LayerNorm::new_no_bias(weight, epsilon))
}

/// Cosines and sines of the angles by which each position is turned: both `[tokens, width of a head / 2]`.
fn rotations(tokens: usize, width: usize, theta: f64) -> candle_core::Result<(Tensor, Tensor)> {
    let frequencies: Vec<f32> = (0..width)
        .step_by(2)
        .map(|at| 1.0 / theta.powf(at as f64 / width as f64) as f32)
        .collect();
    let angles: Vec<f32> = (0..tokens)
        .flat_map(|place| frequencies.iter().map(move |frequency| place as f32 * frequency))
        .collect();
    let angles = Tensor::from_vec(angles, (tokens, width / 2), &Device::Cpu)?;
    Ok((angles.cos()?, angles.sin()?))
}
