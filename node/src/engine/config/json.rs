//! Settings from a `config.json`, in the words of transformers 4 or 5. What a key's absence means is what transformers 5.23 takes for
//! that architecture; keys that an architecture does not have there are ignored here as they are there.

mod rope;

use serde_json::{Map, Value};

use super::{
    super::wire::Fault, Activation, Architecture, Biases, Form, Pairs, Settings, architecture, keys,
    keys::Keys,
};

/// What transformers takes for an architecture where its config leaves a key out.
struct Defaults {
    /// Key heads; `None`: as many as heads.
    kv_heads: Option<usize>,
    /// Width of a head; `None`: the width shared among the heads.
    head_dim: Option<usize>,
    norm_eps: f64,
    tied: bool,
    context: usize,
    stops: &'static [u32],
}

impl Architecture {
    fn defaults(self) -> Defaults {
        let llama = Defaults {
            kv_heads: None,
            head_dim: None,
            norm_eps: 1e-6,
            tied: false,
            context: 2048,
            stops: &[2],
        };
        match self {
            Architecture::Llama => llama,
            Architecture::Mistral => Defaults {
                kv_heads: Some(8),
                context: 131_072,
                ..llama
            },
            Architecture::Qwen2 => Defaults {
                kv_heads: Some(32),
                context: 32_768,
                stops: &[],
                ..llama
            },
            Architecture::Qwen3 => Defaults {
                kv_heads: Some(32),
                head_dim: Some(128),
                context: 32_768,
                stops: &[],
                ..llama
            },
            Architecture::Gemma3 => Defaults {
                kv_heads: Some(4),
                head_dim: Some(256),
                tied: true,
                context: 131_072,
                stops: &[1],
                ..llama
            },
            Architecture::Phi3 => Defaults {
                norm_eps: 1e-5,
                context: 4096,
                stops: &[32_000],
                ..llama
            },
        }
    }
}

/// How far mistral's and gemma3's layers look back where the config leaves it out, in tokens.
const WINDOW: usize = 4096;

impl Settings {
    /// Reads a `config.json`, and the tokens that end a text from `generation`, a `generation_config.json`, where there is one.
    ///
    /// # Errors
    /// [`Fault::Architecture`]: none that this build runs. [`Fault::Unsupported`]: a key that changes what is computed has a value
    /// that is not known here. [`Fault::Invalid`]: a value is not of its type, is out of bounds, or contradicts another.
    pub(crate) fn from_config(
        config: &Map<String, Value>,
        generation: Option<&Map<String, Value>>,
        path: &str,
    ) -> Result<Settings, Fault> {
        let lifted = lifted(config, path)?;
        let keys = Keys::new(&lifted, "", path);
        let model_type = keys.text("model_type")?;
        let named = keys
            .get("architectures")
            .and_then(|names| names.get(0))
            .and_then(Value::as_str);
        let name = named.or(model_type).unwrap_or_default();
        let by_type = super::SUPPORTED.iter().find(|(_, form, known, _)| {
            *form == Form::Safetensors && named.is_none() && Some(*known) == model_type
        });
        let (architecture, of_type) = match by_type {
            Some((_, _, of_type, architecture)) => (*architecture, *of_type),
            None => architecture(name, Form::Safetensors, path)?,
        };
        if model_type.is_some_and(|found| found != of_type) {
            return Err(keys.unknown("model_type"));
        }
        refuse(&keys, architecture)?;

        let defaults = architecture.defaults();
        let hidden = keys.count_needed("hidden_size")?;
        let heads = keys.count_needed("num_attention_heads")?;
        let shared = hidden.checked_div(heads).unwrap_or_default();
        let head_dim = keys.count("head_dim")?.or(defaults.head_dim).unwrap_or(shared);
        let context = keys.count("max_position_embeddings")?.unwrap_or(defaults.context);
        let windows = windows(&keys, architecture, keys.count_needed("num_hidden_layers")?)?;
        let (rope, rope_window, rope_dim) = rope::ropes(&keys, architecture, context, head_dim)?;
        let gemma = architecture == Architecture::Gemma3;
        let scale = match gemma {
            true => keys.number("query_pre_attn_scalar")?.unwrap_or(256.0),
            false => head_dim as f64,
        };
        let stops = generation
            .and_then(|generation| generation.get("eos_token_id"))
            .filter(|ids| !ids.is_null());
        let stops = stops.or_else(|| keys.raw("eos_token_id"));
        Settings {
            name: name.to_owned(),
            architecture,
            form: Form::Safetensors,
            path: path.to_owned(),
            vocab: keys.count_needed("vocab_size")?,
            hidden,
            intermediate: keys.count_needed("intermediate_size")?,
            heads,
            kv_heads: keys
                .count("num_key_value_heads")?
                .or(defaults.kv_heads)
                .unwrap_or(heads),
            head_dim,
            windows,
            norm_eps: keys.number("rms_norm_eps")?.unwrap_or(defaults.norm_eps),
            norm_from_one: gemma,
            norm_behind: gemma,
            qk_norm: matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3),
            attention_scale: scale.powf(-0.5),
            embedding_scale: gemma.then(|| (hidden as f64).sqrt()),
            activation: activation(&keys, architecture)?,
            fused: architecture == Architecture::Phi3,
            biases: biases(&keys, architecture)?,
            rope,
            rope_window,
            rope_dim,
            pairs: Pairs::Halves,
            tied: Some(keys.flag("tie_word_embeddings")?.unwrap_or(defaults.tied)),
            context,
            stops: stops.map_or_else(|| defaults.stops.to_vec(), keys::ids),
        }
        .checked()
    }
}

/// Lifts what `text_config` holds beside all else: models that also see have their text part's keys there.
fn lifted(config: &Map<String, Value>, path: &str) -> Result<Map<String, Value>, Fault> {
    let mut lifted = config.clone();
    let Some(Value::Object(text)) = lifted.remove("text_config") else {
        return Ok(lifted);
    };
    for (key, value) in text {
        match lifted.get(&key) {
            None | Some(Value::Null) => {
                lifted.insert(key, value);
            }
            Some(outer) if value.is_null() || *outer == value => {}
            // What the whole is called, and how it was saved, says nothing of its text part.
            Some(_)
                if [
                    "architectures",
                    "model_type",
                    "dtype",
                    "torch_dtype",
                    "transformers_version",
                ]
                .contains(&key.as_str()) => {}
            Some(_) => {
                return Err(Fault::Invalid {
                    path: path.to_owned(),
                    what: format!("{key} is one thing in text_config, and another outside of it"),
                });
            }
        }
    }
    Ok(lifted)
}

/// Refuses keys that change what is computed, wherever they have an effect that is not known here.
fn refuse(keys: &Keys, architecture: Architecture) -> Result<(), Fault> {
    // Weights that are no plain numbers; attention to what comes later; caps on scores and logits.
    for key in [
        "quantization_config",
        "compression_config",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    ] {
        if keys.get(key).is_some() {
            return Err(keys.unknown(key));
        }
    }
    for key in ["use_bidirectional_attention", "is_decoder_only_bidirectional"] {
        if keys.flag(key)?.unwrap_or(false) {
            return Err(keys.unknown(key));
        }
    }
    // Experts are another architecture, under whatever name.
    for key in ["num_experts", "num_local_experts", "n_routed_experts"] {
        if keys.count(key)?.unwrap_or(0) > 0 {
            return Err(keys.unknown(key));
        }
    }
    if architecture == Architecture::Llama && keys.get("sliding_window").is_some() {
        return Err(keys.unknown("sliding_window"));
    }
    Ok(())
}

fn activation(keys: &Keys, architecture: Architecture) -> Result<Activation, Fault> {
    let key = match architecture {
        Architecture::Gemma3 => "hidden_activation",
        _ => "hidden_act",
    };
    match (keys.text(key)?, architecture) {
        (None, Architecture::Gemma3) | (Some("gelu_pytorch_tanh"), _) => Ok(Activation::GeluTanh),
        (None | Some("silu" | "swish"), _) => Ok(Activation::Silu),
        (Some(_), _) => Err(keys.unknown(key)),
    }
}

fn biases(keys: &Keys, architecture: Architecture) -> Result<Biases, Fault> {
    let attention = keys.flag("attention_bias")?.unwrap_or(false);
    let feed_forward = keys.flag("mlp_bias")?.unwrap_or(false);
    match architecture {
        Architecture::Llama => Ok(Biases {
            qkv: attention,
            output: attention,
            feed_forward,
        }),
        _ if feed_forward => Err(keys.unknown("mlp_bias")),
        // There it is so whatever the config says.
        Architecture::Qwen2 => Ok(Biases {
            qkv: true,
            ..Biases::default()
        }),
        _ if attention => Err(keys.unknown("attention_bias")),
        _ => Ok(Biases::default()),
    }
}

/// Returns how far each layer looks back.
fn windows(keys: &Keys, architecture: Architecture, layers: usize) -> Result<Vec<Option<usize>>, Fault> {
    if layers > super::LAYERS_MAX {
        return Err(keys.invalid(format!(
            "num_hidden_layers is {layers}: {} can be",
            super::LAYERS_MAX
        )));
    }
    let said = keys.count("sliding_window")?;
    let left_out = keys.raw("sliding_window").is_none();
    let (window, of_layer): (Option<usize>, Box<dyn Fn(usize) -> bool>) = match architecture {
        Architecture::Llama => (None, Box::new(|_| false)),
        Architecture::Mistral => (if left_out { Some(WINDOW) } else { said }, Box::new(|_| true)),
        Architecture::Phi3 => (said, Box::new(|_| true)),
        Architecture::Qwen2 | Architecture::Qwen3 => {
            let window = if left_out { Some(WINDOW) } else { said };
            let first = keys.count("max_window_layers")?.unwrap_or(28);
            match keys.flag("use_sliding_window")?.unwrap_or(false) {
                true => (window, Box::new(move |layer| layer >= first)),
                false => (None, Box::new(|_| false)),
            }
        }
        Architecture::Gemma3 => {
            let every = keys.count("sliding_window_pattern")?.unwrap_or(6);
            if keys
                .count("_sliding_window_pattern")?
                .is_some_and(|other| other != every)
                && keys.get("layer_types").is_none()
            {
                return Err(keys.unknown("_sliding_window_pattern"));
            }
            if every == 0 {
                return Err(keys.unknown("sliding_window_pattern"));
            }
            (
                if left_out { Some(WINDOW) } else { said },
                Box::new(move |layer| !(layer + 1).is_multiple_of(every)),
            )
        }
    };
    let by_rule: Vec<Option<usize>> = (0..layers)
        .map(|layer| window.filter(|_| of_layer(layer)))
        .collect();
    let Some(types) = keys.get("layer_types") else {
        return Ok(by_rule);
    };
    let types = types
        .as_array()
        .filter(|types| types.len() == layers)
        .ok_or_else(|| keys.unknown("layer_types"))?;
    let by_type = types.iter().map(|layer| match layer.as_str() {
        Some("full_attention") => Ok(None),
        Some("sliding_attention") if window.is_some() => Ok(window),
        _ => Err(keys.unknown("layer_types")),
    });
    let by_type = by_type.collect::<Result<Vec<_>, _>>()?;
    // Only these look at the types; for the others a type that the rule does not give is no known model.
    let looks = matches!(
        architecture,
        Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Gemma3
    );
    match looks || by_type == by_rule {
        true => Ok(by_type),
        false => Err(keys.unknown("layer_types")),
    }
}
