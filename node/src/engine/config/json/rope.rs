//! Rope's words in a `config.json`: `rope_parameters` of transformers 5, or `rope_scaling`, `rope_theta` and others of 4, or both of them
//! where they say the same.

use serde_json::{Map, Value};

use super::super::{super::wire::Fault, Architecture, Rope, Scaling, keys::Keys};

/// What transformers takes for rope's base where no key says it.
const THETA: f64 = 10_000.0;
/// The same for gemma3's layers without a window.
const THETA_GEMMA3: f64 = 1_000_000.0;

/// Returns rope, that of layers with a window where it is another, and how many numbers of a head are turned.
pub(super) fn ropes(
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
