//! What the parts of a decoder are called in the files: as transformers saves them, and as llama.cpp's converter does.

use super::super::config::Form;

/// What the angles of rope are divided by, in GGUF files of llama 3.1 and later: how its scaling is written there.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A part of a decoder that has a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Embeddings of the tokens.
    Embeddings,
    /// The norm behind the last block.
    Norm,
    /// The output's matrix.
    Head,
    /// The norm before attention.
    AttentionNorm,
    /// The norm behind attention, where there is one.
    AttentionNormBehind,
    /// The norm before the feed-forward part, where a block has two norms.
    FeedNorm,
    /// The same where a block has four.
    FeedNormOfFour,
    /// The norm behind the feed-forward part, where there is one.
    FeedNormBehind,
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Queries, keys and values in one.
    Qkv,
    /// The norm of each head's queries.
    QNorm,
    /// The norm of each head's keys.
    KNorm,
    /// Behind attention.
    Output,
    /// What opens or closes `Up`.
    Gate,
    /// From narrow to wide.
    Up,
    /// `Gate` and `Up` in one.
    GateUp,
    /// Back from wide to narrow.
    Down,
}

impl Part {
    /// Returns the name of its weights; of the layer, where it is in one.
    pub(super) fn name(self, form: Form, layer: Option<usize>) -> String {
        let (stem, in_layer) = match form {
            Form::Safetensors => ("model.layers", self.in_safetensors()),
            Form::Gguf => ("blk", self.in_gguf()),
        };
        match layer {
            Some(layer) => format!("{stem}.{layer}.{in_layer}.weight"),
            None => format!("{in_layer}.weight"),
        }
    }

    fn in_safetensors(self) -> &'static str {
        match self {
            Part::Embeddings => "model.embed_tokens",
            Part::Norm => "model.norm",
            Part::Head => "lm_head",
            Part::AttentionNorm => "input_layernorm",
            // One name for two places: with two norms it is the one before the feed-forward part.
            Part::AttentionNormBehind | Part::FeedNorm => "post_attention_layernorm",
            Part::FeedNormOfFour => "pre_feedforward_layernorm",
            Part::FeedNormBehind => "post_feedforward_layernorm",
            Part::Q => "self_attn.q_proj",
            Part::K => "self_attn.k_proj",
            Part::V => "self_attn.v_proj",
            Part::Qkv => "self_attn.qkv_proj",
            Part::QNorm => "self_attn.q_norm",
            Part::KNorm => "self_attn.k_norm",
            Part::Output => "self_attn.o_proj",
            Part::Gate => "mlp.gate_proj",
            Part::Up => "mlp.up_proj",
            Part::GateUp => "mlp.gate_up_proj",
            Part::Down => "mlp.down_proj",
        }
    }

    fn in_gguf(self) -> &'static str {
        match self {
            Part::Embeddings => "token_embd",
            Part::Norm => "output_norm",
            Part::Head => "output",
            Part::AttentionNorm => "attn_norm",
            Part::AttentionNormBehind => "post_attention_norm",
            Part::FeedNorm | Part::FeedNormOfFour => "ffn_norm",
            Part::FeedNormBehind => "post_ffw_norm",
            Part::Q => "attn_q",
            Part::K => "attn_k",
            Part::V => "attn_v",
            Part::Qkv => "attn_qkv",
            Part::QNorm => "attn_q_norm",
            Part::KNorm => "attn_k_norm",
            Part::Output => "attn_output",
            Part::Gate => "ffn_gate",
            // Where gate and up are one, they go by the name of up.
            Part::Up | Part::GateUp => "ffn_up",
            Part::Down => "ffn_down",
        }
    }
}

/// Tells whether a tensor that is left over computes nothing: old files of transformers keep the angles of rope, which follow from the config.
pub(super) fn ignored(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}
