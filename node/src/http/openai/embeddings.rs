//! `/v1/embeddings`.

use axum::Json;
use axum::extract::State;
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine;
use super::problem::Problem;
use super::prompts::Inputs;
use super::read::Parameters;
use crate::engine::wire::Task;
use crate::node::Node;

/// Inputs of one request, at most, as in OpenAI's API.
const INPUTS_MAX: usize = 2_048;

/// How numbers are written.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Float,
    /// 32 bits floats, little-endian.
    Base64,
}

pub(super) async fn embeddings(
    State(node): State<Node>,
    mut parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    let model: String = parameters.need("model")?;
    let inputs = parameters.need::<Inputs>("input")?.each();
    let format: Format = parameters.take("encoding_format")?.unwrap_or_default();
    let dimensions: Option<usize> = parameters.take("dimensions")?;
    parameters.end()?;
    if inputs.is_empty() || inputs.len() > INPUTS_MAX {
        let message = format!(
            "\"input\" has {} texts, and must have 1 to {INPUTS_MAX}",
            inputs.len()
        );
        return Err(Problem::parameter("input", message));
    }
    let mut engine = engine(&node, &model).await?;
    if engine.loaded().task != Task::Embed {
        return Err(Problem::parameter(
            "model",
            format!("{model} generates text, and makes no embeddings"),
        ));
    }
    let (mut all, mut tokens) = (Vec::new(), 0);
    for (index, input) in inputs.into_iter().enumerate() {
        let embedded = engine.embed(input).await;
        let (values, ids) = embedded.map_err(|error| Problem::of_engine(&error))?;
        if let Some(dimensions) = dimensions.filter(|dimensions| *dimensions != values.len()) {
            let message = format!(
                "the embeddings of {model} have {} values, not {dimensions}",
                values.len()
            );
            return Err(Problem::parameter("dimensions", message));
        }
        tokens += ids.len();
        all.push(json!({"object": "embedding", "index": index, "embedding": written(&values, format)}));
    }
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(Json(
        json!({"object": "list", "data": all, "model": model, "usage": usage}),
    ))
}

fn written(values: &[f32], format: Format) -> Value {
    match format {
        Format::Float => values.iter().map(|value| Value::from(*value)).collect(),
        Format::Base64 => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Value::from(BASE64.encode(&bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_asked_for() {
        assert_eq!(written(&[1.0, -0.5], Format::Float), json!([1.0, -0.5]));
        assert_eq!(written(&[1.0, -0.5], Format::Base64), json!("AACAPwAAAL8="));
    }
}
