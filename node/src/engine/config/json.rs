//! Settings from a `config.json`, in the words of transformers 4 or 5. What a key's absence means is what transformers 5.23 takes for
//! that architecture; keys that an architecture does not have there are ignored here as they are there.

use serde_json::{Map, Value};

use super::{
    super::wire::Fault, Activation, Architecture, Biases, Form, Pairs, Rope, Scaling, Settings, architecture,
    keys, keys::Keys,
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

/// What transformers takes for rope's base where no key says it.
const THETA: f64 = 10_000.0;
/// The same for gemma3's layers without a window.
const THETA_GEMMA3: f64 = 1_000_000.0;
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
        let (rope, rope_window, rope_dim) = ropes(&keys, architecture, context, head_dim)?;
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

/// Returns rope, that of layers with a window where it is another, and how many numbers of a head are turned.
fn ropes(
    keys: &Keys,
    architecture: Architecture,
    context: usize,
    head_dim: usize,
) -> Result<(Rope, Option<Rope>, usize), Fault> {
    let parameters = keys.object("rope_parameters")?;
    let scaling = keys.object("rope_scaling")?;
    if architecture == Architecture::Gemma3 {
        let of = |name: &str| -> Result<Option<&Map<String, Value>>, Fault> {
            match parameters {
                Some(parameters) => Keys::new(parameters, "", "")
                    .object(name)
                    .map_err(|_| keys.unknown("rope_parameters")),
                None => Ok(None),
            }
        };
        let kinds = ["full_attention", "sliding_attention"];
        if parameters.is_some_and(|parameters| parameters.keys().any(|key| !kinds.contains(&key.as_str()))) {
            return Err(keys.unknown("rope_parameters"));
        }
        let full = Scaled {
            keys,
            parameters: of(kinds[0])?,
            scaling,
            theta_key: "rope_theta",
            theta: THETA_GEMMA3,
            context,
        };
        let sliding = Scaled {
            parameters: of(kinds[1])?,
            scaling: None,
            theta_key: "rope_local_base_freq",
            theta: THETA,
            ..full
        };
        let ((full, full_part), (sliding, sliding_part)) = (full.rope()?, sliding.rope()?);
        if full_part.or(sliding_part).is_some_and(|part| part != 1.0) {
            return Err(keys.unknown("rope_parameters"));
        }
        return Ok((full, Some(sliding), head_dim));
    }
    let scaled = Scaled {
        keys,
        parameters,
        scaling,
        theta_key: "rope_theta",
        theta: THETA,
        context,
    };
    let (rope, part) = scaled.rope()?;
    let part = match (part, keys.number("partial_rotary_factor")?) {
        (Some(one), Some(other)) if one != other => return Err(keys.unknown("partial_rotary_factor")),
        (one, other) => one.or(other).unwrap_or(1.0),
    };
    match architecture {
        Architecture::Phi3 if part > 0.0 && part <= 1.0 => {
            Ok((rope, None, (head_dim as f64 * part) as usize))
        }
        _ if part == 1.0 => Ok((rope, None, head_dim)),
        _ if keys.get("partial_rotary_factor").is_some() => Err(keys.unknown("partial_rotary_factor")),
        _ => Err(keys.unknown("rope_parameters")),
    }
}

/// Where the words of one rope are.
#[derive(Clone, Copy)]
struct Scaled<'a> {
    keys: &'a Keys<'a>,
    /// In the words of transformers 5.
    parameters: Option<&'a Map<String, Value>>,
    /// In those of transformers 4.
    scaling: Option<&'a Map<String, Value>>,
    theta_key: &'a str,
    theta: f64,
    context: usize,
}

impl Scaled<'_> {
    /// Returns the rope, and which part of a head is turned where that is said beside it.
    fn rope(self) -> Result<(Rope, Option<f64>), Fault> {
        let keys = self.keys;
        let mut said = Map::new();
        let outer = keys
            .get(self.theta_key)
            .map(|theta| ("rope_theta".to_owned(), theta.clone()));
        let inner = [self.parameters, self.scaling].into_iter().flatten().flatten();
        for (key, value) in inner
            .map(|(key, value)| (key.clone(), value.clone()))
            .chain(outer)
        {
            let key = if key == "type" {
                "rope_type".to_owned()
            } else {
                key
            };
            if value.is_null() {
                continue;
            }
            match said.get(&key) {
                Some(before)
                    if before.as_f64() != value.as_f64()
                        || (before.as_f64().is_none() && *before != value) =>
                {
                    return Err(keys.invalid(format!("{key} of rope is one thing here, and another there")));
                }
                _ => said.insert(key, value),
            };
        }
        let holder = if self.parameters.is_some() {
            "rope_parameters"
        } else {
            "rope_scaling"
        };
        let rope = Keys::new(&said, "", "");
        let bad = |_| keys.unknown(holder);
        let number = |key: &str| {
            rope.number(key)
                .map_err(bad)?
                .ok_or_else(|| keys.invalid(format!("{holder} has no {key}")))
        };
        let (scaling, known): (_, &[&str]) = match rope.text("rope_type").map_err(bad)?.unwrap_or("default") {
            "default" => (Scaling::None, &[]),
            "linear" => (
                Scaling::Linear {
                    factor: number("factor")?,
                },
                &["factor"],
            ),
            "llama3" => {
                let original = rope.number("original_max_position_embeddings").map_err(bad)?;
                let scaling = Scaling::Llama3 {
                    factor: number("factor")?,
                    low: number("low_freq_factor")?,
                    high: number("high_freq_factor")?,
                    original: original.unwrap_or(self.context as f64),
                };
                (
                    scaling,
                    &[
                        "factor",
                        "low_freq_factor",
                        "high_freq_factor",
                        "original_max_position_embeddings",
                    ],
                )
            }
            other => {
                return Err(keys.unsupported(format!(
                    "{holder} of type {other:?}: default, linear and llama3 are known"
                )));
            }
        };
        let known = |key: &str| {
            ["rope_type", "rope_theta", "partial_rotary_factor"].contains(&key) || known.contains(&key)
        };
        if let Some(key) = said.keys().find(|key| !known(key)) {
            return Err(keys.unsupported(format!(
                "{key} in {holder} is not known to this build, and changes what the model computes"
            )));
        }
        let theta = rope.number("rope_theta").map_err(bad)?.unwrap_or(self.theta);
        Ok((
            Rope { theta, scaling },
            rope.number("partial_rotary_factor").map_err(bad)?,
        ))
    }
}
