//! BERT, DistilBERT, RoBERTa and XLM-RoBERTa: layers that are normalized behind each step, and positions that are learned.
//!
//! After transformers' `modeling_bert.py` and its kin. The activation is the exact GELU of all of them; candle-transformers' own
//! DistilBERT takes its approximation by tanh instead.

use candle_core::{Device, Tensor};
use candle_nn::{LayerNorm, Module};

use super::{Family, Linear, attend, config::BertShape, join_heads, norm, split_heads};
use crate::engine::{weights::Tensors, wire::Fault};

#[derive(Debug)]
pub(super) struct Bert {
    shape: BertShape,
    words: Tensor,
    positions: Tensor,
    /// The type of all tokens: the first.
    kind: Option<Tensor>,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    out_norm: LayerNorm,
    up: Linear,
    down: Linear,
    down_norm: LayerNorm,
}

/// What the steps of a layer are called.
struct Names {
    layers: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    out: &'static str,
    out_norm: &'static str,
    up: &'static str,
    down: &'static str,
    down_norm: &'static str,
}

const BERT: Names = Names {
    layers: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    out: "attention.output.dense",
    out_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    down_norm: "output.LayerNorm",
};

const DISTILBERT: Names = Names {
    layers: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    out: "attention.out_lin",
    out_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    down_norm: "output_layer_norm",
};

/// Where the encoder's tensors are in a model that has a head too.
const PREFIXES: [&str; 4] = ["", "bert.", "roberta.", "distilbert."];
/// What heads of this family are called, and what old files keep that can be counted.
const UNUSED: [&str; 6] = [
    "cls.",
    "lm_head.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "pooler.",
];
const COUNTED: &str = "embeddings.position_ids";

impl Bert {
    pub(super) fn load(shape: BertShape, tensors: &mut Tensors) -> Result<Bert, Fault> {
        let words = "embeddings.word_embeddings.weight";
        let prefix = PREFIXES
            .into_iter()
            .find(|prefix| tensors.has(&format!("{prefix}{words}")))
            .unwrap_or("");
        let embeddings = format!("{prefix}embeddings");
        let width = shape.width;
        let names = match shape.family {
            Family::DistilBert => &DISTILBERT,
            Family::Bert | Family::Roberta | Family::ModernBert => &BERT,
        };
        let bert = Bert {
            words: tensors.tensor(&format!("{prefix}{words}"), &[shape.vocabulary, width])?,
            positions: tensors.tensor(
                &format!("{embeddings}.position_embeddings.weight"),
                &[shape.positions, width],
            )?,
            kind: match shape.types {
                0 => None,
                types => Some(first_row(&tensors.tensor(
                    &format!("{embeddings}.token_type_embeddings.weight"),
                    &[types, width],
                )?)?),
            },
            norm: norm(tensors, &format!("{embeddings}.LayerNorm"), width, shape.epsilon)?,
            layers: (0..shape.layers)
                .map(|layer| {
                    let prefix = format!("{prefix}{}.{layer}", names.layers);
                    Layer::load(tensors, &prefix, names, &shape)
                })
                .collect::<Result<_, Fault>>()?,
            shape,
        };
        tensors.drop_all(|name| {
            let inner = name.strip_prefix(prefix).unwrap_or(name);
            inner == COUNTED || UNUSED.iter().any(|head| inner.starts_with(head))
        });
        Ok(bert)
    }

    /// The last hidden states: a row for each token.
    pub(super) fn forward(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let words = self.words.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        let places = Tensor::new(self.places(ids), &Device::Cpu)?;
        let mut x = (words + self.positions.index_select(&places, 0)?)?;
        if let Some(kind) = &self.kind {
            x = x.broadcast_add(kind)?;
        }
        let mut x = self.norm.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x, self.shape.heads)?;
        }
        Ok(x)
    }

    /// Which position each token is at.
    fn places(&self, ids: &[u32]) -> Vec<u32> {
        let padding = self.shape.padding as u32;
        match self.shape.family {
            Family::Roberta => ids
                .iter()
                .scan(padding, |last, id| match *id == padding {
                    true => Some(padding),
                    false => {
                        *last += 1;
                        Some(*last)
                    }
                })
                .collect(),
            Family::Bert | Family::DistilBert | Family::ModernBert => (0..).take(ids.len()).collect(),
        }
    }
}

impl Layer {
    fn load(tensors: &mut Tensors, prefix: &str, names: &Names, shape: &BertShape) -> Result<Layer, Fault> {
        let (width, inner) = (shape.width, shape.inner);
        let mut linear = |name: &str, out: usize, width: usize| {
            Linear::load(tensors, &format!("{prefix}.{name}"), [out, width], true)
        };
        let query = linear(names.query, width, width)?;
        let key = linear(names.key, width, width)?;
        let value = linear(names.value, width, width)?;
        let out = linear(names.out, width, width)?;
        let up = linear(names.up, inner, width)?;
        let down = linear(names.down, width, inner)?;
        let mut norm = |name: &str| norm(tensors, &format!("{prefix}.{name}"), width, shape.epsilon);
        Ok(Layer {
            query,
            key,
            value,
            out,
            out_norm: norm(names.out_norm)?,
            up,
            down,
            down_norm: norm(names.down_norm)?,
        })
    }

    fn forward(&self, x: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
        let q = split_heads(&self.query.forward(x)?, heads)?;
        let k = split_heads(&self.key.forward(x)?, heads)?;
        let v = split_heads(&self.value.forward(x)?, heads)?;
        let seen = join_heads(&attend(&q, &k, &v, None)?)?;
        let x = self.out_norm.forward(&(self.out.forward(&seen)? + x)?)?;
        let inner = self.up.forward(&x)?.gelu_erf()?;
        self.down_norm.forward(&(self.down.forward(&inner)? + &x)?)
    }
}

fn first_row(table: &Tensor) -> Result<Tensor, Fault> {
    table
        .get(0)
        .map_err(|error| Fault::Ask(format!("the model cannot be built: {error}")))
}
