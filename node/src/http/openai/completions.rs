//! `/v1/chat/completions` and `/v1/completions`: one answer, whole or as a stream of events. A client that goes away ends its generation.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine;
use super::problem::Problem;
use super::prompts::{Inputs, Said, Stops, messages};
use super::read::Parameters;
use crate::engine::wire::{End, Generate, Generated, Prompt, Task};
use crate::http::streaming::{self, Pieces};
use crate::library::now;
use crate::node::Node;
use crate::run::Held;

/// Tokens of a plain completion if nothing is said, as in OpenAI's API.
const PLAIN_TOKENS: usize = 16;

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Which of the two is answered: they differ in shape alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chat,
    Plain,
}

/// What is to be said of every part of an answer.
#[derive(Clone, Debug)]
struct Frame {
    shape: Shape,
    id: String,
    created: u64,
    model: String,
}

/// How an answer is to be given.
struct Manner {
    model: String,
    max_tokens: Option<usize>,
    temperature: f64,
    top_p: Option<f64>,
    seed: u64,
    stop: Vec<String>,
    /// As events; and whether the last one says what was used.
    stream: Option<bool>,
}

pub(super) async fn chat(State(node): State<Node>, mut parameters: Parameters) -> Result<Response, Problem> {
    let said: Vec<Said> = parameters.need("messages")?;
    let newer: Option<usize> = parameters.take("max_completion_tokens")?;
    let mut manner = manner(&mut parameters)?;
    manner.max_tokens = newer.or(manner.max_tokens);
    parameters.end()?;
    answer(&node, Shape::Chat, Prompt::Chat(messages(said)?), manner).await
}

pub(super) async fn plain(State(node): State<Node>, mut parameters: Parameters) -> Result<Response, Problem> {
    let prompts = parameters.need::<Inputs>("prompt")?.each();
    let mut manner = manner(&mut parameters)?;
    manner.max_tokens = manner.max_tokens.or(Some(PLAIN_TOKENS));
    parameters.end()?;
    let Ok([prompt]) = <[_; 1]>::try_from(prompts) else {
        return Err(Problem::parameter(
            "prompt",
            "this node answers one prompt at a time",
        ));
    };
    answer(&node, Shape::Plain, Prompt::Plain(prompt), manner).await
}

fn manner(parameters: &mut Parameters) -> Result<Manner, Problem> {
    let seed: Option<i64> = parameters.take("seed")?;
    let stop = parameters.take::<Stops>("stop")?.map(Stops::all);
    let stream: Option<bool> = parameters.take("stream")?;
    let options: Option<StreamOptions> = parameters.take("stream_options")?;
    let usage = options.unwrap_or_default().include_usage;
    let top_p = parameters.number("top_p", 0.0, 1.0)?;
    let max_tokens: Option<usize> = parameters.take("max_tokens")?;
    Ok(Manner {
        model: parameters.need("model")?,
        max_tokens,
        temperature: parameters.number("temperature", 0.0, 2.0)?.unwrap_or(1.0),
        top_p: top_p.filter(|top_p| *top_p < 1.0),
        // Which number it is means nothing: the same one draws the same tokens.
        seed: seed.map_or_else(rand::random, i64::cast_unsigned),
        stop: stop.transpose()?.unwrap_or_default(),
        stream: stream.unwrap_or_default().then_some(usage),
    })
}

async fn answer(node: &Node, shape: Shape, prompt: Prompt, manner: Manner) -> Result<Response, Problem> {
    let mut engine = engine(node, &manner.model).await?;
    if engine.loaded().task != Task::Generate {
        let message = format!("{} makes embeddings, and generates no text", manner.model);
        return Err(Problem::parameter("model", message));
    }
    let what = Generate {
        prompt,
        max_tokens: manner.max_tokens.unwrap_or(engine.loaded().context),
        temperature: manner.temperature,
        top_p: manner.top_p,
        seed: manner.seed,
        stop: manner.stop,
    };
    let frame = Frame::new(shape, manner.model);
    if let Some(usage) = manner.stream {
        let body = streaming::body(move |pieces| events(engine, what, frame, usage, pieces));
        return Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response());
    }
    let mut text = String::new();
    let generated = engine.generate(what, |piece, _| text.push_str(&piece)).await;
    let generated = generated.map_err(|error| Problem::of_engine(&error))?;
    Ok(Json(frame.whole(&text, &generated)).into_response())
}

/// Says an answer as it comes.
async fn events(mut engine: Held, what: Generate, frame: Frame, usage: bool, pieces: Pieces) {
    let event = |value: &Value| pieces.put(format!("data: {value}\n\n"));
    if frame.shape == Shape::Chat {
        event(&frame.part(json!({"role": "assistant", "content": ""}), None));
    }
    let heard = |text: String, _| event(&frame.part(frame.delta(text), None));
    match engine.generate(what, heard).await {
        Ok(generated) => {
            event(&frame.part(frame.delta(String::new()), Some(generated.end)));
            if usage {
                event(&frame.used(&generated));
            }
            pieces.put("data: [DONE]\n\n");
        }
        Err(error) => event(&Problem::of_engine(&error).value()),
    }
}

impl Frame {
    fn new(shape: Shape, model: String) -> Frame {
        let number: [u8; 12] = rand::random();
        let kind = match shape {
            Shape::Chat => "chatcmpl",
            Shape::Plain => "cmpl",
        };
        Frame {
            shape,
            id: format!("{kind}-{}", HEXLOWER.encode(&number)),
            created: now(),
            model,
        }
    }

    fn around(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    /// What a piece of text is in an event.
    fn delta(&self, text: String) -> Value {
        match self.shape {
            Shape::Chat if text.is_empty() => json!({}),
            Shape::Chat => json!({"content": text}),
            Shape::Plain => Value::from(text),
        }
    }

    /// A part of a streamed answer.
    fn part(&self, delta: Value, end: Option<End>) -> Value {
        let finish = end.map(finish);
        let (object, field) = match self.shape {
            Shape::Chat => ("chat.completion.chunk", "delta"),
            Shape::Plain => ("text_completion", "text"),
        };
        let choice = json!({"index": 0, field: delta, "logprobs": null, "finish_reason": finish});
        self.around(object, json!([choice]))
    }

    /// The last part of a streamed answer, for who asked for it.
    fn used(&self, generated: &Generated) -> Value {
        let object = match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Plain => "text_completion",
        };
        let mut part = self.around(object, json!([]));
        part["usage"] = usage(generated);
        part
    }

    /// An answer in one piece.
    fn whole(&self, text: &str, generated: &Generated) -> Value {
        let finish = finish(generated.end);
        let (object, choice) = match self.shape {
            Shape::Chat => {
                let message = json!({"role": "assistant", "content": text, "refusal": null});
                let choice =
                    json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish});
                ("chat.completion", choice)
            }
            Shape::Plain => {
                let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish});
                ("text_completion", choice)
            }
        };
        let mut whole = self.around(object, json!([choice]));
        whole["usage"] = usage(generated);
        whole
    }
}

fn finish(end: End) -> &'static str {
    match end {
        End::Stop => "stop",
        End::Length => "length",
    }
}

fn usage(generated: &Generated) -> Value {
    let Generated {
        prompt_tokens,
        tokens,
        ..
    } = generated;
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": prompt_tokens + tokens,
    })
}
