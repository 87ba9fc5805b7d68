//! What `config.json` says of an encoder. Nothing has a default that the file may forget: a value that is not there is asked for, and
//! one that changes what is computed and that this build does not know is refused.

use serde_json::Value;

use super::Family;
use crate::engine::wire::Fault;

/// The file all of this is read from.
const PATH: &str = "config.json";
/// Most of anything that a config counts: far above every model, and far below where products overflow.
const COUNT_MAX: u64 = 1 << 24;

/// The shape of a BERT, or one of its kin.
#[derive(Clone, Debug)]
pub(super) struct BertShape {
    pub(super) family: Family,
    pub(super) vocabulary: usize,
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) positions: usize,
    pub(super) types: usize,
    pub(super) padding: usize,
    pub(super) epsilon: f64,
}

impl BertShape {
    /// Most tokens of a text.
    pub(super) fn context(&self) -> usize {
        match self.family {
            Family::Roberta => self.positions.saturating_sub(self.padding + 1),
            Family::Bert | Family::DistilBert | Family::ModernBert => self.positions,
        }
    }
}

/// The shape of a ModernBERT.
#[derive(Clone, Debug)]
pub(super) struct ModernBertShape {
    pub(super) vocabulary: usize,
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) layers: Vec<Reach>,
    pub(super) heads: usize,
    pub(super) context: usize,
    pub(super) epsilon: f64,
}

/// How far a layer's tokens look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Most tokens away that one is seen; `None`: all are.
    pub(super) window: Option<usize>,
    /// Base of the rotary angles.
    pub(super) theta: f64,
}

/// Reads the config of a BERT or one of its kin.
pub(super) fn bert(family: Family, config: &Value) -> Result<BertShape, Fault> {
    plain(config)?;
    // transformers 5 no longer writes it: all are of one kind.
    is(config, "position_embedding_type", &["absolute"], true)?;
    let shape = match family {
        Family::DistilBert => {
            is(config, "activation", &["gelu"], false)?;
            BertShape {
                family,
                vocabulary: count(config, "vocab_size")?,
                width: count(config, "dim")?,
                inner: count(config, "hidden_dim")?,
                layers: count(config, "n_layers")?,
                heads: count(config, "n_heads")?,
                positions: count(config, "max_position_embeddings")?,
                types: 0,
                padding: 0,
                epsilon: 1e-12,
            }
        }
        Family::Bert | Family::Roberta | Family::ModernBert => {
            is(config, "hidden_act", &["gelu"], false)?;
            BertShape {
                family,
                vocabulary: count(config, "vocab_size")?,
                width: count(config, "hidden_size")?,
                inner: count(config, "intermediate_size")?,
                layers: count(config, "num_hidden_layers")?,
                heads: count(config, "num_attention_heads")?,
                positions: count(config, "max_position_embeddings")?,
                types: count(config, "type_vocab_size")?,
                padding: match family {
                    Family::Roberta => count(config, "pad_token_id")?,
                    _ => 0,
                },
                epsilon: number(config, "layer_norm_eps")?,
            }
        }
    };
    heads(shape.width, shape.heads)?;
    Ok(shape)
}

/// Reads the config of a ModernBERT, as transformers 4 or 5 writes it.
pub(super) fn modernbert(config: &Value) -> Result<ModernBertShape, Fault> {
    plain(config)?;
    is(config, "hidden_activation", &["gelu"], false)?;
    for key in ["attention_bias", "mlp_bias", "norm_bias"] {
        if config[key] != Value::Bool(false) {
            return Err(unsupported(format!(
                "{key} is {}, and only false is computed",
                config[key]
            )));
        }
    }
    let every = count(config, "global_attn_every_n_layers")?;
    let layers = count(config, "num_hidden_layers")?;
    // A window of 128 tokens is 64 to each side.
    let window = count(config, "local_attention")? / 2;
    if every == 0 {
        return Err(invalid("global_attn_every_n_layers is 0"));
    }
    let global = theta(config, "full_attention", "global_rope_theta")?;
    let local = theta(config, "sliding_attention", "local_rope_theta")?;
    let reach = |layer: usize| match layer % every {
        0 => Reach {
            window: None,
            theta: global,
        },
        _ => Reach {
            window: Some(window),
            theta: local,
        },
    };
    let reaches: Vec<Reach> = (0..layers).map(reach).collect();
    if let Some(types) = config["layer_types"].as_array() {
        let said = reaches.iter().map(|reach| match reach.window {
            None => "full_attention",
            Some(_) => "sliding_attention",
        });
        if !said.eq(types.iter().map(|kind| kind.as_str().unwrap_or(""))) {
            return Err(unsupported(
                "layer_types says otherwise than global_attn_every_n_layers".into(),
            ));
        }
    }
    let shape = ModernBertShape {
        vocabulary: count(config, "vocab_size")?,
        width: count(config, "hidden_size")?,
        inner: count(config, "intermediate_size")?,
        layers: reaches,
        heads: count(config, "num_attention_heads")?,
        context: count(config, "max_position_embeddings")?,
        epsilon: number(config, "norm_eps").or_else(|_| number(config, "layer_norm_eps"))?,
    };
    heads(shape.width, shape.heads)?;
    if !(shape.width / shape.heads).is_multiple_of(2) {
        return Err(invalid("the width of a head is odd, and its halves are rotated"));
    }
    Ok(shape)
}

/// Refuses what would make any encoder compute something else.
fn plain(config: &Value) -> Result<(), Fault> {
    for key in ["quantization_config", "rope_scaling"] {
        if !config[key].is_null() {
            return Err(unsupported(format!(
                "{key} is not computed for this architecture"
            )));
        }
    }
    for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
        if !matches!(config[key], Value::Null | Value::Bool(false)) {
            return Err(unsupported(format!(
                "{key} is {}, and this build runs it as an encoder",
                config[key]
            )));
        }
    }
    Ok(())
}

/// The base of the rotary angles: in `rope_parameters` since transformers 5, before that under a key of its own.
fn theta(config: &Value, kind: &str, before: &str) -> Result<f64, Fault> {
    let now = &config["rope_parameters"][kind];
    if now.is_null() {
        return number(config, before);
    }
    is(now, "rope_type", &["default"], true)?;
    number(now, "rope_theta")
}

fn is(config: &Value, key: &str, known: &[&str], may_miss: bool) -> Result<(), Fault> {
    match &config[key] {
        Value::Null if may_miss => Ok(()),
        Value::String(value) if known.contains(&value.as_str()) => Ok(()),
        other => Err(unsupported(format!(
            "{key} is {other}, and only {} is computed",
            known.join(", ")
        ))),
    }
}

fn count(config: &Value, key: &str) -> Result<usize, Fault> {
    config[key]
        .as_u64()
        .filter(|count| *count <= COUNT_MAX)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| invalid(&format!("{key} is {}, and should be a number", config[key])))
}

fn number(config: &Value, key: &str) -> Result<f64, Fault> {
    config[key]
        .as_f64()
        .filter(|number| *number > 0.0 && number.is_finite())
        .ok_or_else(|| {
            invalid(&format!(
                "{key} is {}, and should be a number above 0",
                config[key]
            ))
        })
}

fn heads(width: usize, heads: usize) -> Result<(), Fault> {
    match width.checked_rem(heads) {
        Some(0) if width > 0 => Ok(()),
        _ => Err(invalid(&format!(
            "{heads} heads do not share a width of {width} evenly"
        ))),
    }
}

fn unsupported(what: String) -> Fault {
    Fault::Unsupported {
        path: PATH.into(),
        what,
    }
}

fn invalid(what: &str) -> Fault {
    Fault::Invalid {
        path: PATH.into(),
        what: what.into(),
    }
}
