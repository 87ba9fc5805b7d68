//! Settings from the metadata of a GGUF file: keys as llama.cpp's converter writes them. A key of the architecture that is not known
//! here refuses the model: what it does to the numbers is not known either.

use serde_json::{Map, Value};

use crate::check::gguf::{self, Header};

use super::{
    super::wire::Fault, Activation, Architecture, Biases, Form, Pairs, Rope, Scaling, Settings, architecture,
    keys, keys::Keys,
};

/// Keys of an architecture that are read here, or say nothing of what is computed.
const KNOWN: &[&str] = &[
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.causal",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
];

/// Gemma3's layers with a window turn by this base, in every GGUF file: no key says it.
const THETA_WINDOW_GEMMA3: f64 = 10_000.0;
/// Every so many of gemma3's layers one looks back to the beginning, in every GGUF file: no key says it.
const PATTERN_GEMMA3: usize = 6;
/// The one gemma3, of 27 billion parameters, whose attention is scaled by its width shared among the heads is known by its layers.
const LAYERS_GEMMA3_27B: usize = 62;

impl Settings {
    /// Reads the header of a GGUF file.
    ///
    /// # Errors
    /// As [`Settings::from_config`].
    pub(crate) fn from_gguf(header: &Header, path: &str) -> Result<Settings, Fault> {
        let tokens = header.texts("tokenizer.ggml.tokens").map(<[String]>::len);
        let value = |value: &gguf::Value| match value {
            gguf::Value::Unsigned(number) => Value::from(*number),
            gguf::Value::Negative(number) => Value::from(*number),
            gguf::Value::Float(number) => Value::from(*number),
            gguf::Value::Bool(flag) => Value::from(*flag),
            gguf::Value::Text(text) => Value::from(text.as_str()),
            // No key that is read here has a list: one that does is refused for its type.
            gguf::Value::Texts(_)
            | gguf::Value::Integers(_)
            | gguf::Value::Floats(_)
            | gguf::Value::Skipped { .. } => Value::Array(Vec::new()),
        };
        let metadata = header
            .metadata
            .iter()
            .map(|(key, found)| (key.clone(), value(found)))
            .collect();
        Settings::from_metadata(&metadata, tokens, path)
    }

    /// Reads the metadata of a GGUF file, whose vocabulary has `vocab` tokens where no key says it.
    pub(in crate::engine) fn from_metadata(
        metadata: &Map<String, Value>,
        vocab: Option<usize>,
        path: &str,
    ) -> Result<Settings, Fault> {
        let general = Keys::new(metadata, "", path);
        let name = general.text("general.architecture")?.unwrap_or_default();
        let (architecture, _) = architecture(name, Form::Gguf, path)?;
        let prefix = format!("{name}.");
        let keys = Keys::new(metadata, &prefix, path);
        if let Some(key) = metadata
            .keys()
            .filter_map(|key| key.strip_prefix(&prefix))
            .find(|key| !KNOWN.contains(key))
        {
            return Err(keys.unknown(key));
        }
        if keys.flag("attention.causal")? == Some(false) {
            return Err(keys.unknown("attention.causal"));
        }

        let hidden = keys.count_needed("embedding_length")?;
        let heads = keys.count_needed("attention.head_count")?;
        let shared = hidden.checked_div(heads).unwrap_or_default();
        let head_dim = keys.count("attention.key_length")?.unwrap_or(shared);
        if keys.count("attention.value_length")?.unwrap_or(head_dim) != head_dim {
            return Err(keys.unknown("attention.value_length"));
        }
        let layers = keys.count_needed("block_count")?;
        let rope_dim = keys.count("rope.dimension_count")?.unwrap_or(head_dim);
        if architecture != Architecture::Phi3 && rope_dim != head_dim {
            return Err(keys.unknown("rope.dimension_count"));
        }
        let gemma = architecture == Architecture::Gemma3;
        let scale = match gemma && layers == LAYERS_GEMMA3_27B {
            true => shared,
            false => head_dim,
        };
        let stops = ["eos", "eot", "eom"].map(|kind| general.get(&format!("tokenizer.ggml.{kind}_token_id")));
        let context = keys.count_needed("context_length")?;
        Settings {
            name: name.to_owned(),
            architecture,
            form: Form::Gguf,
            path: path.to_owned(),
            vocab: match (keys.count("vocab_size")?, vocab) {
                (Some(said), _) => said,
                (None, Some(vocab)) => vocab,
                (None, None) => keys.count_needed("vocab_size")?,
            },
            hidden,
            intermediate: keys.count_needed("feed_forward_length")?,
            heads,
            kv_heads: keys.count("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            windows: windows(&keys, architecture, layers, context)?,
            norm_eps: match keys.number("attention.layer_norm_rms_epsilon")? {
                Some(eps) => eps,
                None => {
                    return Err(keys.invalid(format!("it has no {prefix}attention.layer_norm_rms_epsilon")));
                }
            },
            // The converter adds the 1.
            norm_from_one: false,
            norm_behind: gemma,
            qk_norm: matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3),
            attention_scale: (scale as f64).powf(-0.5),
            embedding_scale: gemma.then(|| (hidden as f64).sqrt()),
            activation: match gemma {
                true => Activation::GeluTanh,
                false => Activation::Silu,
            },
            fused: architecture == Architecture::Phi3,
            biases: Biases {
                qkv: architecture == Architecture::Qwen2,
                ..Biases::default()
            },
            rope: rope(&keys, architecture)?,
            rope_window: gemma.then_some(Rope {
                theta: THETA_WINDOW_GEMMA3,
                scaling: Scaling::None,
            }),
            rope_dim,
            pairs: match architecture {
                Architecture::Llama => Pairs::Neighbours,
                _ => Pairs::Halves,
            },
            tied: None,
            context,
            stops: stops.into_iter().flatten().flat_map(keys::ids).collect(),
        }
        .checked()
    }
}

fn rope(keys: &Keys, architecture: Architecture) -> Result<Rope, Fault> {
    let theta = match (keys.number("rope.freq_base")?, architecture) {
        (Some(theta), _) => theta,
        (None, Architecture::Gemma3) => {
            return Err(keys.invalid("it has no gemma3.rope.freq_base".to_owned()));
        }
        // What the format says of a file without the key.
        (None, _) => 10_000.0,
    };
    let factor = keys.number("rope.scaling.factor")?;
    let scaling = match (keys.text("rope.scaling.type")?, factor) {
        (None, None) | (Some("none"), _) => Scaling::None,
        (Some("linear"), Some(factor)) => Scaling::Linear { factor },
        (None, Some(_)) => return Err(keys.unknown("rope.scaling.factor")),
        (Some(_), _) => return Err(keys.unknown("rope.scaling.type")),
    };
    Ok(Rope { theta, scaling })
}

/// Returns how far each layer looks back.
fn windows(
    keys: &Keys,
    architecture: Architecture,
    layers: usize,
    context: usize,
) -> Result<Vec<Option<usize>>, Fault> {
    if layers > super::LAYERS_MAX {
        return Err(keys.invalid(format!("block_count is {layers}: {} can be", super::LAYERS_MAX)));
    }
    let window = keys.count("attention.sliding_window")?;
    let needed = || keys.invalid("it does not say attention.sliding_window".to_owned());
    match architecture {
        Architecture::Gemma3 => {
            let window = window.ok_or_else(needed)?;
            let with = |layer: usize| !(layer + 1).is_multiple_of(PATTERN_GEMMA3);
            Ok((0..layers).map(|layer| with(layer).then_some(window)).collect())
        }
        // The converter writes 0 for none. Files of before it wrote the key leave it open.
        Architecture::Phi3 => Ok(vec![
            Some(window.ok_or_else(needed)?).filter(|window| *window > 0);
            layers
        ]),
        Architecture::Llama | Architecture::Mistral | Architecture::Qwen2 | Architecture::Qwen3 => {
            match window {
                None | Some(0) => Ok(vec![None; layers]),
                Some(window) if window >= context => Ok(vec![None; layers]),
                Some(_) => Err(keys.unknown("attention.sliding_window")),
            }
        }
    }
}
