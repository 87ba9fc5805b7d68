//! What a repo says of itself in the YAML at the head of its `README.md`, and the tags that follow from it.
//!
//! Strangers write these: the text, its depth and what its aliases may unfold to are bounded before anything is made of it.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use protocol::{Kind, Manifest};
use serde_json::{Map, Value, json};

use super::body;
use super::problem::Problem;
use super::query;

/// A card, or another object that was read.
pub(super) type Object = Map<String, Value>;

/// Longest head of a card that is read, in bytes: results of benchmarks fill a few hundred thousand.
const HEAD_LEN_MAX: usize = 512 * 1024;
/// Deepest nesting in it: results of benchmarks have 8.
const DEPTH_MAX: usize = 32;
/// Aliases in it, and what they may repeat: cards have none, and a bomb is made of nothing else.
const ALIASES_MAX: usize = 16;
const REPEATED_MAX: usize = 64;
/// Tags that are made of one card.
const TAGS_MAX: usize = 256;
/// Longest tag, in bytes.
const TAG_LEN_MAX: usize = 128;

/// The text between the lines of three dashes that a card begins with.
fn head(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let text = text.strip_prefix("---")?;
    let (rest, text) = text.split_once('\n')?;
    if !rest.trim().is_empty() {
        return None;
    }
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return text.get(..end);
        }
        end += line.len();
    }
    None
}

/// Reads a card's head. `None`: it has none.
///
/// # Errors
/// What is wrong with it, for who wrote it.
fn read(text: &str) -> Option<Result<Object, String>> {
    let head = head(text)?;
    if head.len() > HEAD_LEN_MAX {
        return Some(Err(format!("the head is longer than {HEAD_LEN_MAX} bytes")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_aliases: ALIASES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPEATED_MAX,
            max_replay_stack_depth: ALIASES_MAX,
            max_alias_expansions_per_anchor: ALIASES_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    Some(match serde_saphyr::from_str_with_options(head, options) {
        Ok(Value::Object(card)) => Ok(card),
        Ok(Value::Null) => Ok(Object::new()),
        Ok(_) => Err("the head is not a list of keys and values".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

/// Reads the card in a `README.md`; one that does not read says nothing.
pub(super) fn of_readme(readme: &[u8]) -> Object {
    let text = String::from_utf8_lossy(readme);
    read(&text).and_then(Result::ok).unwrap_or_default()
}

/// Reads what a list shows of a model's `config.json`.
pub(super) fn of_config(config: &[u8]) -> Object {
    let Ok(Value::Object(mut config)) = serde_json::from_slice(config) else {
        return Object::new();
    };
    let texts = |value: &Value| match value {
        Value::Array(values) => values.iter().all(Value::is_string),
        value => value.is_string(),
    };
    config.retain(|key, value| match key.as_str() {
        "architectures" => value.is_array() && texts(value),
        "model_type" => value.is_string(),
        _ => false,
    });
    config
}

/// How a repo is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// Everything it can be filtered by.
    pub(super) tags: Vec<String>,
    /// What it is for.
    pub(super) pipeline_tag: Option<String>,
    /// What it is used with.
    pub(super) library_name: Option<String>,
}

impl Labels {
    /// Makes labels of a card, a configuration and the names of the files.
    pub(super) fn new(kind: Kind, card: &Object, config: &Object, manifest: &Manifest) -> Labels {
        let mut labels = Labels {
            pipeline_tag: text(card, "pipeline_tag"),
            library_name: text(card, "library_name"),
            tags: Vec::new(),
        };
        let (library, pipeline) = (labels.library_name.clone(), labels.pipeline_tag.clone());
        library.into_iter().for_each(|library| labels.add(&library));
        for format in ["safetensors", "gguf", "onnx"] {
            let ends = |path: &str| path.rsplit_once('.').is_some_and(|(_, end)| end == format);
            if kind == Kind::Model && manifest.files().iter().any(|file| ends(file.path.as_str())) {
                labels.add(format);
            }
        }
        texts(config, "model_type").for_each(|model_type| labels.add(model_type));
        texts(card, "tags").for_each(|tag| labels.add(tag));
        for language in texts(card, "language") {
            match kind {
                Kind::Model => labels.add(language),
                Kind::Dataset | Kind::Space => labels.add(&format!("language:{language}")),
            }
        }
        let prefixed = [
            ("datasets", "dataset"),
            ("base_model", "base_model"),
            ("license", "license"),
            ("task_categories", "task_categories"),
            ("task_ids", "task_ids"),
            ("size_categories", "size_categories"),
        ];
        for (key, prefix) in prefixed {
            texts(card, key).for_each(|value| labels.add(&format!("{prefix}:{value}")));
        }
        pipeline.into_iter().for_each(|pipeline| labels.add(&pipeline));
        labels
    }

    fn add(&mut self, tag: &str) {
        let fits = self.tags.len() < TAGS_MAX && (1..=TAG_LEN_MAX).contains(&tag.len());
        if fits && !self.tags.iter().any(|known| known == tag) {
            self.tags.push(tag.to_owned());
        }
    }

    /// Whether a filter of a list lets this pass.
    pub(super) fn has(&self, wanted: &str) -> bool {
        let has = |wanted: &str| self.tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted));
        has(wanted) || wanted.strip_prefix("language:").is_some_and(has) || has(&format!("language:{wanted}"))
    }
}

/// A text of an object.
pub(super) fn text(object: &Object, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?;
    (1..=TAG_LEN_MAX).contains(&text.len()).then(|| text.to_owned())
}

/// A text of an object, or several.
fn texts<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = &'a str> {
    let (one, several) = match object.get(key) {
        Some(Value::String(one)) => (Some(one.as_str()), None),
        Some(Value::Array(several)) => (None, Some(several)),
        _ => (None, None),
    };
    let several = several.into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(several)
}

/// Tells a client whether the head of a card reads, before it is published.
pub(super) fn validate(body: &[u8]) -> Result<Response, Problem> {
    let asked = body::of_json::<Value>(body)?;
    let content = asked.get("content").and_then(Value::as_str);
    let content = content.ok_or_else(|| Problem::bad("content is missing: send the text of README.md"))?;
    Ok(match read(content) {
        Some(Ok(_)) => query::json(json!({ "errors": [], "warnings": [] })),
        None => {
            let warning = "the card has no YAML at its head: license, language and tags are not known";
            query::json(json!({ "errors": [], "warnings": [{ "message": warning }] }))
        }
        Some(Err(wrong)) => {
            let error = format!("the YAML at the head of README.md: {wrong}");
            let answer = json!({ "error": error, "errors": [{ "message": error }], "warnings": [] });
            (StatusCode::BAD_REQUEST, query::json(answer)).into_response()
        }
    })
}

#[cfg(test)]
mod tests;
