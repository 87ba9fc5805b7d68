//! The tags that follow from what a repo says of itself in its card and its configuration, or in what travels with its release.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use protocol::{Kind, Manifest, Summary};
use serde_json::{Value, json};

use super::body;
use super::problem::Problem;
use super::query;
pub(super) use crate::card::{Object, of_readme, text};
use crate::card::{TEXT_LEN_MAX, read, texts};

/// Tags that are made of one card.
const TAGS_MAX: usize = 256;

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
        texts(card, "language").for_each(|language| labels.add_language(kind, language));
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

    /// Makes labels of what travels with a release.
    pub(super) fn of_summary(kind: Kind, card: &Summary) -> Labels {
        let mut labels = Labels {
            pipeline_tag: card.task.clone(),
            // Of a space it is what it runs with.
            library_name: card.library.clone().filter(|_| kind != Kind::Space),
            tags: Vec::new(),
        };
        let words = card.library.iter().chain(&card.formats).chain(&card.tags);
        words.for_each(|word| labels.add(word));
        let languages = card.languages.iter();
        languages.for_each(|language| labels.add_language(kind, language));
        for (values, prefix) in [
            (card.base_model.as_slice(), "base_model"),
            (card.license.as_slice(), "license"),
        ] {
            values
                .iter()
                .for_each(|value| labels.add(&format!("{prefix}:{value}")));
        }
        card.task.iter().for_each(|task| labels.add(task));
        labels
    }

    fn add_language(&mut self, kind: Kind, language: &str) {
        match kind {
            Kind::Model => self.add(language),
            Kind::Dataset | Kind::Space => self.add(&format!("language:{language}")),
        }
    }

    fn add(&mut self, tag: &str) {
        let fits = self.tags.len() < TAGS_MAX && (1..=TEXT_LEN_MAX).contains(&tag.len());
        if fits && !self.tags.iter().any(|known| known == tag) {
            self.tags.push(tag.to_owned());
        }
    }
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
