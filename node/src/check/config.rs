//! `config.json`: what a model says it is, and how large. Nothing in it switches anything here; what makes loaders run the repo's own
//! code is named.

use serde_json::{Map, Value};

use super::{CheckError, error::shortened, json};

/// Longest `config.json`, in bytes: those with a label for each of many classes have a few hundred thousand.
pub const CONFIG_LEN_MAX: u64 = 4 << 20;
/// Most values and keys in it.
const NODES_MAX: u64 = 200_000;
/// Keys that make loaders run code, or something other than what was asked for.
const CODE_KEYS: [&str; 5] = [
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "_attn_implementation_internal",
    "_experts_implementation_internal",
];
/// Names for how far a model looks back, the usual one first.
const CONTEXT_KEYS: [&str; 8] = [
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "model_max_length",
    "max_target_positions",
];
/// Names for the width of a model.
const WIDTH_KEYS: [&str; 5] = ["hidden_size", "n_embd", "d_model", "dim", "embedding_size"];
/// Names for the number of its layers.
const LAYERS_KEYS: [&str; 5] = [
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
];
/// Names for the number of its tokens.
const VOCAB_KEYS: [&str; 2] = ["vocab_size", "n_vocab"];
/// Where a model of several keeps what is said of its texts.
const INNER: [&str; 3] = ["text_config", "llm_config", "language_config"];

/// What a `config.json` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The first of its architectures; where it names none, the type of model.
    pub architecture: Option<String>,
    /// The type of model.
    pub model_type: Option<String>,
    /// Tokens that it looks back on.
    pub context: Option<u64>,
    /// Numbers that a token is.
    pub width: Option<u64>,
    /// Layers.
    pub layers: Option<u64>,
    /// Tokens that it knows.
    pub vocab: Option<u64>,
    /// The keys in it, wherever they are, that make loaders run the repo's own code.
    pub code: Vec<&'static str>,
}

/// Reads a `config.json`.
///
/// # Errors
/// It does not read as an object, a key stands for two things, or there is more of it than is read here.
pub fn read(bytes: &[u8]) -> Result<Config, CheckError> {
    Ok(of(&tree(bytes)?))
}

/// Reads a `config.json` with all that is in it, for who needs more than [`Config`] has. At most 200,000 values, 32 deep, no key twice.
///
/// # Errors
/// As [`read`].
pub fn tree(bytes: &[u8]) -> Result<Map<String, Value>, CheckError> {
    CheckError::bound("bytes of a configuration", bytes.len() as u64, CONFIG_LEN_MAX)?;
    match json::value(bytes, NODES_MAX)? {
        Value::Object(object) => Ok(object),
        _ => Err(CheckError::Json("it is no object".to_owned())),
    }
}

fn of(object: &Map<String, Value>) -> Config {
    let text = |value: &Value| value.as_str().map(shortened).filter(|text| !text.is_empty());
    let model_type = object.get("model_type").and_then(text);
    let architecture = object.get("architectures").and_then(Value::as_array);
    let architecture = architecture.and_then(|all| all.first()).and_then(text);
    let inner = INNER.iter().find_map(|key| object.get(*key)?.as_object());
    let number = |keys: &[&str]| {
        let of = |object: &Map<String, Value>| keys.iter().find_map(|key| object.get(*key)?.as_u64());
        of(object).or_else(|| inner.and_then(of))
    };
    Config {
        architecture: architecture.or_else(|| model_type.clone()),
        model_type,
        context: number(&CONTEXT_KEYS),
        width: number(&WIDTH_KEYS),
        layers: number(&LAYERS_KEYS),
        vocab: number(&VOCAB_KEYS),
        code: CODE_KEYS
            .into_iter()
            .filter(|key| object.iter().any(|entry| switches(key, entry)))
            .collect(),
    }
}

/// Whether an entry, or one within it, has this key and says something by it. The depth is bounded.
fn switches(wanted: &str, (key, value): (&String, &Value)) -> bool {
    let says = !matches!(value, Value::Null | Value::Bool(false));
    (key == wanted && says)
        || match value {
            Value::Object(object) => object.iter().any(|entry| switches(wanted, entry)),
            Value::Array(values) => values
                .iter()
                .filter_map(Value::as_object)
                .any(|object| object.iter().any(|entry| switches(wanted, entry))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_architecture_counts_and_then_the_type() {
        let of = |text: &str| read(text.as_bytes()).unwrap().architecture;
        assert_eq!(
            of(r#"{"architectures":["A","B"],"model_type":"c"}"#).as_deref(),
            Some("A")
        );
        assert_eq!(
            of(r#"{"architectures":[],"model_type":"c"}"#).as_deref(),
            Some("c")
        );
        assert_eq!(of(r#"{"architectures":null}"#), None);
    }

    #[test]
    fn sizes_are_found_under_each_of_their_names() {
        let config = read(br#"{"n_positions":1024,"n_embd":768,"n_layer":12,"vocab_size":50257}"#).unwrap();
        assert_eq!(
            (config.context, config.width, config.layers, config.vocab),
            (Some(1024), Some(768), Some(12), Some(50_257))
        );
        let inner = read(br#"{"text_config":{"max_position_embeddings":4096},"max_position_embeddings":-1}"#)
            .unwrap();
        assert_eq!(inner.context, Some(4096));
    }

    #[test]
    fn keys_that_run_code_are_named_wherever_they_are() {
        let code = |text: &str| read(text.as_bytes()).unwrap().code;
        assert_eq!(code(r#"{"auto_map":{"AutoModel":"x.Y"}}"#), ["auto_map"]);
        assert_eq!(code(r#"{"text_config":{"auto_map":{}}}"#), ["auto_map"]);
        assert_eq!(
            code(r#"{"a":[{"trust_remote_code":true}]}"#),
            ["trust_remote_code"]
        );
        assert_eq!(code(r#"{"trust_remote_code":false}"#), Vec::<&str>::new());
        assert_eq!(
            code(r#"{"_attn_implementation_internal":"me/kernel"}"#),
            ["_attn_implementation_internal"]
        );
    }

    #[test]
    fn configurations_without_bounds_are_refused() {
        let bound = |result| matches!(result, Err(CheckError::Bound { .. }));
        assert!(bound(read(
            format!("{}{}", "{\"a\":".repeat(40), "}".repeat(40)).as_bytes()
        )));
        assert!(bound(read(
            format!("{{\"a\":[{}0]}}", "0,".repeat(300_000)).as_bytes()
        )));
        assert!(bound(read(&vec![b' '; CONFIG_LEN_MAX as usize + 1])));
        let twice = read(br#"{"a":1,"b":{"c":1,"c":2}}"#);
        assert!(matches!(twice, Err(CheckError::Twice { name, .. }) if name == "c"));
        for text in ["", "[]", "{", "{} {}", "{\"a\":}", "\u{feff}{}", "{\"a\":NaN}"] {
            assert!(
                matches!(read(text.as_bytes()), Err(CheckError::Json(_))),
                "{text:?}"
            );
        }
    }
}
