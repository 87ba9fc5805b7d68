//! Probes: what a publisher declares that a model makes of some inputs. A small file beside the model, so that its hash is signed with the
//! rest; read within bounds, for it is a stranger's. Token ids stand beside each text: a tokenizer that differs is then told from weights that do.

use data_encoding::BASE64;
use protocol::Hash;
use serde::{Deserialize, Serialize};

use super::compare;

/// Where the probes of a repo are.
pub const PATH: &str = "probes.json";

/// Largest file of probes, in bytes: 64 embeddings of 16,384 elements.
pub(super) const LEN_MAX: u64 = 8 << 20;

/// Most probes: a minute's work for a small model.
const PROBES_MAX: usize = 64;

/// Most tokens of one probe: what a model computes at once in little memory.
const IDS_MAX: usize = 2048;

/// Most tokens of all probes together.
const ALL_IDS_MAX: usize = 16_384;

/// Longest text of a probe, in bytes.
const TEXT_LEN_MAX: usize = 16 << 10;

/// Most elements of an embedding.
const VALUES_MAX: usize = 16_384;

/// Most tokens of a declared continuation.
const CONTINUED_MAX: usize = 256;

/// Most logits that are declared for a position.
const TOP_MAX: usize = 64;

/// What of the schema this build reads.
const SCHEMA: &str = "probes/1";

/// How what is declared was computed, where it can be compared.
const RUNTIME: &str = "f32";

/// Why probes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbesError {
    /// They are written in another way than this build reads: nobody's fault.
    #[error("{PATH}: {0}")]
    Unsupported(String),
    /// They break a rule.
    #[error("{PATH}: {0}")]
    Wrong(String),
}

/// What a publisher declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    schema: String,
    runtime: String,
    /// The content id of the weights: [`weights_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<Hash>,
    /// The hash of the tokenizer's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tokenizer: Option<Hash>,
    /// With what they were made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_with: Option<String>,
    pub(super) probes: Vec<Probe>,
}

/// One input, and what is declared to come of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Probe {
    Embed(Embed),
    Logits(Logits),
    Greedy(Greedy),
    Nll(Nll),
}

/// An embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Embed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    pub(super) ids: Vec<u32>,
    #[serde(with = "floats")]
    pub(super) expect: Vec<f32>,
    #[serde(default = "embed")]
    pub(super) tol_abs: f64,
}

/// The likeliest tokens behind the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Logits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    pub(super) ids: Vec<u32>,
    pub(super) top: Vec<(u32, f32)>,
    pub(super) lse: f64,
    #[serde(default = "logits")]
    pub(super) tol_abs: f64,
}

/// A continuation by the likeliest token each time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Greedy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    pub(super) ids: Vec<u32>,
    pub(super) n: usize,
    pub(super) tokens: Vec<u32>,
    pub(super) margins: Vec<f64>,
    #[serde(default = "tie")]
    pub(super) tie: f64,
}

/// How likely a text is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nll {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text_hash: Option<Hash>,
    pub(super) ids: Vec<u32>,
    pub(super) sum_nll: f64,
    pub(super) n: usize,
    #[serde(default = "nll")]
    pub(super) tol_per_token: f64,
}

fn embed() -> f64 {
    compare::EMBED
}

fn logits() -> f64 {
    compare::LOGITS
}

fn nll() -> f64 {
    compare::NLL
}

/// Below this margin two tokens are equally likely, if nothing else is declared.
fn tie() -> f64 {
    2e-3
}

impl Probes {
    /// Makes a file of probes; `made_with` says by what.
    pub(super) fn new(
        model: Option<Hash>,
        tokenizer: Option<Hash>,
        made_with: &str,
        probes: Vec<Probe>,
    ) -> Result<Probes, ProbesError> {
        let probes = Probes {
            schema: SCHEMA.to_owned(),
            runtime: RUNTIME.to_owned(),
            model,
            tokenizer,
            made_with: Some(made_with.to_owned()),
            probes,
        };
        probes.check()?;
        Ok(probes)
    }

    /// Reads a file of probes.
    ///
    /// # Errors
    /// Every variant of [`ProbesError`].
    pub fn decode(bytes: &[u8]) -> Result<Probes, ProbesError> {
        #[derive(Deserialize)]
        struct Version {
            schema: String,
            #[serde(default)]
            runtime: Option<String>,
        }

        if bytes.len() as u64 > LEN_MAX {
            return wrong(format!("it has {} bytes, more than {LEN_MAX}", bytes.len()));
        }
        let malformed = |error: serde_json::Error| ProbesError::Wrong(error.to_string());
        let Version { schema, runtime } = serde_json::from_slice(bytes).map_err(malformed)?;
        if schema != SCHEMA {
            return Err(ProbesError::Unsupported(format!(
                "its schema is {}, and this build reads {SCHEMA}",
                shown(&schema)
            )));
        }
        if let Some(runtime) = runtime.filter(|runtime| runtime != RUNTIME) {
            return Err(ProbesError::Unsupported(format!(
                "it declares what {} computes, and this build compares {RUNTIME}",
                shown(&runtime)
            )));
        }
        let probes: Probes = serde_json::from_slice(bytes).map_err(malformed)?;
        probes.check()?;
        Ok(probes)
    }

    /// Checks that they are about these weights, and this tokenizer, as far as they say so.
    pub(super) fn fits(&self, weights: &[Hash], tokenizer: Option<Hash>) -> Result<(), ProbesError> {
        if self.model.is_some() && self.model != weights_id(weights) {
            return wrong("it is about other weights".to_owned());
        }
        match self.tokenizer {
            Some(_) if self.tokenizer != tokenizer => wrong("it is about another tokenizer".to_owned()),
            _ => Ok(()),
        }
    }

    /// Writes the file: one probe a line, for people who compare two of them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let empty = Probes {
            probes: Vec::new(),
            ..self.clone()
        };
        let head = serde_json::to_string(&empty).expect("texts are JSON");
        let head = head.trim_end_matches("]}");
        let line = |probe| serde_json::to_string(probe).expect("texts and finite numbers are JSON");
        let lines: Vec<String> = self.probes.iter().map(line).collect();
        format!("{head}\n{}\n]}}\n", lines.join(",\n")).into_bytes()
    }

    fn check(&self) -> Result<(), ProbesError> {
        if self.probes.is_empty() || self.probes.len() > PROBES_MAX {
            return wrong(format!(
                "it has {} probes, not 1 to {PROBES_MAX}",
                self.probes.len()
            ));
        }
        let mut all = 0;
        for (at, probe) in self.probes.iter().enumerate() {
            let rule = probe.check();
            rule.map_err(|rule| ProbesError::Wrong(format!("probe {} has {rule}", at + 1)))?;
            all += probe.tokens();
        }
        match all <= ALL_IDS_MAX {
            true => Ok(()),
            false => wrong(format!("its probes have {all} tokens, more than {ALL_IDS_MAX}")),
        }
    }
}

impl Probe {
    /// Its text, if it is there, and the tokens that it is declared to be.
    pub(super) fn text(&self) -> (Option<&str>, &[u32]) {
        match self {
            Probe::Embed(Embed { text, ids, .. })
            | Probe::Logits(Logits { text, ids, .. })
            | Probe::Greedy(Greedy { text, ids, .. })
            | Probe::Nll(Nll { text, ids, .. }) => (text.as_deref(), ids),
        }
    }

    fn tokens(&self) -> usize {
        let (_, ids) = self.text();
        match self {
            Probe::Greedy(greedy) => ids.len() + greedy.tokens.len(),
            Probe::Embed(_) | Probe::Logits(_) | Probe::Nll(_) => ids.len(),
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let rule = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        // Written so that NaN breaks the rule.
        let tolerance = |found: f64, most: f64| {
            rule(
                found > 0.0 && found <= most,
                "a tolerance that is none, or a wider one than is allowed",
            )
        };
        let (text, ids) = self.text();
        rule((1..=IDS_MAX).contains(&ids.len()), "no ids, or too many")?;
        rule(
            text.is_none_or(|text| text.len() <= TEXT_LEN_MAX),
            "a text that is too long",
        )?;
        match self {
            Probe::Embed(embed) => {
                let values = &embed.expect;
                rule(
                    (1..=VALUES_MAX).contains(&values.len()),
                    "an embedding without elements, or with too many",
                )?;
                rule(
                    values.iter().all(|value| value.is_finite()),
                    "an embedding with what is no number",
                )?;
                tolerance(embed.tol_abs, compare::EMBED)
            }
            Probe::Logits(logits) => {
                rule(
                    (1..=TOP_MAX).contains(&logits.top.len()),
                    "no logits, or too many",
                )?;
                let finite = logits.top.iter().all(|(_, logit)| logit.is_finite());
                rule(finite && logits.lse.is_finite(), "a logit that is no number")?;
                tolerance(logits.tol_abs, compare::LOGITS)
            }
            Probe::Greedy(greedy) => {
                let count = greedy.tokens.len();
                rule(
                    (1..=CONTINUED_MAX).contains(&count),
                    "a continuation without tokens, or with too many",
                )?;
                rule(
                    greedy.n == count && greedy.margins.len() == count,
                    "another n than tokens or margins",
                )?;
                let margin = |margin: &f64| *margin >= 0.0 && margin.is_finite();
                rule(greedy.margins.iter().all(margin), "a margin that is none")?;
                rule(
                    greedy.tie >= 0.0 && greedy.tie <= compare::TIE,
                    "a tie that is none, or a wider one than is allowed",
                )
            }
            Probe::Nll(nll) => {
                rule(
                    nll.ids.len() >= 2 && nll.n == nll.ids.len() - 1,
                    "another n than tokens behind the first",
                )?;
                let hash = match (&nll.text, &nll.text_hash) {
                    (Some(text), Some(hash)) => Hash::of(text.as_bytes()) == *hash,
                    _ => true,
                };
                rule(hash, "a text that its hash is not of")?;
                rule(
                    nll.sum_nll.is_finite() && nll.sum_nll >= 0.0,
                    "a likelihood that is none",
                )?;
                tolerance(nll.tol_per_token, compare::NLL)
            }
        }
    }
}

/// The content id of a model's weights: the hash of its file, or for several, in the order of their paths, BLAKE3 over
/// `"shoal weights 1"` and their hashes.
pub(super) fn weights_id(files: &[Hash]) -> Option<Hash> {
    match files {
        [] => None,
        [one] => Some(*one),
        several => {
            let mut bytes = b"shoal weights 1".to_vec();
            for file in several {
                bytes.extend_from_slice(file.as_bytes());
            }
            Some(Hash::of(&bytes))
        }
    }
}

fn wrong<T>(what: String) -> Result<T, ProbesError> {
    Err(ProbesError::Wrong(what))
}

/// A stranger's word, short and without what a terminal would obey.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(40).collect();
    format!("{text:?}")
}

/// 32 bits floats, little-endian, in base64.
mod floats {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::BASE64;

    pub(super) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        serializer.serialize_str(&BASE64.encode(&bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(D::Error::custom)?;
        let (values, rest) = bytes.as_chunks::<4>();
        match rest.is_empty() {
            true => Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect()),
            false => Err(D::Error::custom("floats have four bytes each")),
        }
    }
}

#[cfg(test)]
mod tests;
