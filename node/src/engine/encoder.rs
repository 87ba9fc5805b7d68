//! Encoders: models that make a vector of a text. Always computed in 32 bits floats: with less, the masks and norms of this family
//! overflow, and what comes out is silently no number.
//!
//! An architecture is in [`ARCHITECTURES`] only with a test against the original (`encoder/tests.rs`).

mod bert;
mod config;
mod modernbert;
mod pooling;
#[cfg(test)]
mod tests;

use candle_core::{Device, Tensor};
use candle_nn::{LayerNorm, ops::softmax_last_dim};
use serde_json::Value;

pub(crate) use self::pooling::Pooling;
use self::{bert::Bert, modernbert::ModernBert};
use super::{weights::Tensors, wire::Fault};

/// The encoders that this build runs, as `config.json` calls them, and how each is read.
pub(crate) const ARCHITECTURES: [(&str, Family); 9] = [
    ("BertModel", Family::Bert),
    ("BertForMaskedLM", Family::Bert),
    ("DistilBertModel", Family::DistilBert),
    ("DistilBertForMaskedLM", Family::DistilBert),
    ("RobertaModel", Family::Roberta),
    ("XLMRobertaModel", Family::Roberta),
    ("XLMRobertaForMaskedLM", Family::Roberta),
    ("ModernBertModel", Family::ModernBert),
    ("ModernBertForMaskedLM", Family::ModernBert),
];

/// Encoders that differ only in their heads, which embeddings have no use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// BERT.
    Bert,
    /// BERT without types of tokens, and with other names.
    DistilBert,
    /// BERT whose positions are counted from behind the padding token's number.
    Roberta,
    /// ModernBERT.
    ModernBert,
}

/// An encoder.
#[derive(Debug)]
pub(crate) struct Encoder {
    layers: Layers,
    pooling: Pooling,
    /// Tokens of its vocabulary.
    vocabulary: usize,
    /// Most tokens of a text.
    context: usize,
}

#[derive(Debug)]
enum Layers {
    Bert(Bert),
    ModernBert(ModernBert),
}

impl Encoder {
    /// Builds an encoder out of its tensors, which have to be 32 bits floats. `config` is its `config.json`. What tensors its family
    /// has for other tasks are taken and dropped.
    ///
    /// # Errors
    /// [`Fault::Unsupported`]: the config asks for something that this build does not compute. [`Fault::Invalid`],
    /// [`Fault::Absent`]: tensors are not as the config says.
    pub(crate) fn load(
        family: Family,
        config: &Value,
        pooling: Pooling,
        tensors: &mut Tensors,
    ) -> Result<Encoder, Fault> {
        let (layers, width, vocabulary, context) = match family {
            Family::ModernBert => {
                let shape = config::modernbert(config)?;
                let (width, vocabulary, context) = (shape.width, shape.vocabulary, shape.context);
                (
                    Layers::ModernBert(ModernBert::load(shape, tensors)?),
                    width,
                    vocabulary,
                    context,
                )
            }
            family => {
                let shape = config::bert(family, config)?;
                let (width, vocabulary, context) = (shape.width, shape.vocabulary, shape.context());
                (
                    Layers::Bert(Bert::load(shape, tensors)?),
                    width,
                    vocabulary,
                    context,
                )
            }
        };
        pooling.fits(width)?;
        Ok(Encoder {
            layers,
            context: pooling.context().map_or(context, |most| most.min(context)),
            pooling,
            vocabulary,
        })
    }

    /// Most tokens of a text, with those around it.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    /// The embedding of a text's tokens.
    ///
    /// # Errors
    /// [`Fault::Ask`]: there are none, too many, or one that is not in the vocabulary. [`Fault::NotANumber`]: what is computed is not
    /// finite.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, Fault> {
        if ids.is_empty() || ids.len() > self.context {
            return Err(Fault::Ask(format!(
                "{} tokens; this model reads 1 to {} at once",
                ids.len(),
                self.context
            )));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocabulary) {
            return Err(Fault::Ask(format!(
                "token {id} is not among the {} of this model",
                self.vocabulary
            )));
        }
        let rows = self
            .hidden(ids)
            .map_err(|error| Fault::Ask(format!("the model cannot compute this: {error}")))?;
        if !rows.iter().flatten().all(|value| value.is_finite()) {
            return Err(Fault::NotANumber(
                "an embedding with NaN or infinity in it".into(),
            ));
        }
        self.pooling.pool(&rows)
    }

    /// The last hidden states: a row for each token.
    fn hidden(&self, ids: &[u32]) -> candle_core::Result<Vec<Vec<f32>>> {
        match &self.layers {
            Layers::Bert(layers) => layers.forward(ids),
            Layers::ModernBert(layers) => layers.forward(ids),
        }?
        .to_vec2()
    }
}

/// A layer without memory of its own: `x · weightᵀ + bias`.
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `{name}.weight` of `[out, width]`, and `{name}.bias` of `[out]` if there has to be one.
    fn load(
        tensors: &mut Tensors,
        name: &str,
        [out, width]: [usize; 2],
        bias: bool,
    ) -> Result<Linear, Fault> {
        Ok(Linear {
            weight: tensors.tensor(&format!("{name}.weight"), &[out, width])?,
            bias: match bias {
                true => Some(tensors.tensor(&format!("{name}.bias"), &[out])?),
                false => None,
            },
        })
    }

    /// `x` has a row for each token.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Takes a norm: `{name}.weight` and `{name}.bias`, or as the first BERTs have it, `gamma` and `beta`.
fn norm(tensors: &mut Tensors, name: &str, width: usize, epsilon: f64) -> Result<LayerNorm, Fault> {
    let (weight, bias) = match tensors.has(&format!("{name}.gamma")) {
        true => ("gamma", "beta"),
        false => ("weight", "bias"),
    };
    Ok(LayerNorm::new(
        tensors.tensor(&format!("{name}.{weight}"), &[width])?,
        tensors.tensor(&format!("{name}.{bias}"), &[width])?,
        epsilon,
    ))
}

/// Most scores of an attention that are in memory at once: 64 MiB of them. Longer texts are attended to in several steps.
const SCORES_MAX: usize = 1 << 24;

/// Attention of all tokens to all, or to those at most `window` tokens away. `q`, `k` and `v` are `[heads, tokens, width of a head]`,
/// as what is returned.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, window: Option<usize>) -> candle_core::Result<Tensor> {
    let (heads, tokens, _) = q.dims3()?;
    let rows = SCORES_MAX / (heads * tokens);
    attend_in_steps(q, k, v, window, rows.clamp(1, tokens))
}

/// Attends for so many tokens at once.
fn attend_in_steps(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    window: Option<usize>,
    rows: usize,
) -> candle_core::Result<Tensor> {
    let (_, tokens, width) = q.dims3()?;
    let scale = 1.0 / (width as f64).sqrt();
    let keys = k.t()?;
    let mut parts = Vec::new();
    for start in (0..tokens).step_by(rows) {
        let len = rows.min(tokens - start);
        let mut scores = (q.narrow(1, start, len)?.contiguous()?.matmul(&keys)? * scale)?;
        if let Some(window) = window {
            scores = scores.broadcast_add(&mask(start, len, tokens, window)?)?;
        }
        parts.push(softmax_last_dim(&scores)?.matmul(v)?);
    }
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Tensor::cat(&parts, 1),
    }
}

/// 0 where a token is at most `window` away, and minus infinity further off: `[len, tokens]`, from token `start` on.
fn mask(start: usize, len: usize, tokens: usize, window: usize) -> candle_core::Result<Tensor> {
    let far = |at: usize, to: usize| match at.abs_diff(to) > window {
        true => f32::NEG_INFINITY,
        false => 0.0,
    };
    let values = (start..start + len).flat_map(|at| (0..tokens).map(move |to| far(at, to)));
    Tensor::from_vec(values.collect(), (len, tokens), &Device::Cpu)
}

/// `[tokens, heads · width]` to `[heads, tokens, width]`.
fn split_heads(x: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    x.reshape((tokens, heads, width / heads))?
        .transpose(0, 1)?
        .contiguous()
}

/// `[heads, tokens, width]` to `[tokens, heads · width]`.
fn join_heads(x: &Tensor) -> candle_core::Result<Tensor> {
    let (heads, tokens, width) = x.dims3()?;
    x.transpose(0, 1)?.contiguous()?.reshape((tokens, heads * width))
}
