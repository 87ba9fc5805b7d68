//! Reading a request's parameters: each is taken once, and what is left in the end was never looked at. What would change the answer is
//! then refused; what only concerns whoever runs a service is not.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::BODY_LEN_MAX;
use super::problem::Problem;

/// Bytes of a body that is too long that are read all the same, and how long the next of them may take.
const DROPPED_LEN_MAX: usize = 64 * 1024 * 1024;
const DROPPED_STALL: Duration = Duration::from_secs(1);

/// What changes nothing of an answer.
const IGNORED: [&str; 9] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "stream_options",
];

/// Parameters that ask for nothing if they have one of these values.
const NEUTRAL: [(&str, &[&str]); 16] = [
    ("n", &["1"]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("suffix", &["\"\""]),
    ("logprobs", &["false"]),
    ("top_logprobs", &["0"]),
    ("logit_bias", &["{}"]),
    ("presence_penalty", &["0", "0.0"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("functions", &["[]"]),
    ("function_call", &["\"none\"", "\"auto\""]),
    ("modalities", &["[\"text\"]"]),
    ("response_format", &["{\"type\":\"text\"}"]),
    ("audio", &[]),
];

/// The parameters of a request that were not taken yet.
#[derive(Debug)]
pub(super) struct Parameters(Map<String, Value>);

impl Parameters {
    /// Takes a parameter; `None` where it is not there, or `null`.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let read = serde_json::from_value(value).map(Some);
                read.map_err(|wrong| Problem::parameter(name, format!("{name:?} is wrong: {wrong}")))
            }
        }
    }

    /// Takes a parameter that must be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Problem> {
        let missing = || Problem::parameter(name, format!("{name:?} is missing"));
        self.take(name)?.ok_or_else(missing)
    }

    /// Takes a number that lies within a range.
    pub(super) fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, Problem> {
        let number: Option<f64> = self.take(name)?;
        match number {
            Some(number) if !(least..=most).contains(&number) => {
                let message = format!("{name:?} is {number}, and must be {least} to {most}");
                Err(Problem::parameter(name, message))
            }
            number => Ok(number),
        }
    }

    /// Refuses what is left and would change the answer.
    pub(super) fn end(self) -> Result<(), Problem> {
        for (name, value) in self.0 {
            let ignored = IGNORED.contains(&name.as_str()) || value.is_null();
            let said = value.to_string();
            let known = NEUTRAL.iter().find(|(known, _)| *known == name);
            let neutral = known.is_some_and(|(_, neutral)| neutral.contains(&said.as_str()));
            if ignored || neutral {
                continue;
            }
            let message = match known {
                Some(_) => format!("this node does not do {name:?}: leave it out"),
                None => format!("{name:?} is not known: leave it out"),
            };
            return Err(Problem::parameter(&name, message));
        }
        Ok(())
    }
}

/// Reads a body of at most [`BODY_LEN_MAX`]. A longer one is read on for a while and dropped: a client that is still sending would not hear why it
/// is refused.
async fn whole(body: Body) -> Result<Vec<u8>, Problem> {
    let mut pieces = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::bad("the body broke off"))?;
        if whole.len() + piece.len() > BODY_LEN_MAX {
            let mut dropped = 0;
            while let Ok(Some(Ok(piece))) = timeout(DROPPED_STALL, pieces.next()).await {
                dropped += piece.len();
                if dropped > DROPPED_LEN_MAX {
                    break;
                }
            }
            return Err(Problem::too_long(BODY_LEN_MAX));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Parameters, Problem> {
        let body = whole(request.into_body()).await?;
        let read = serde_json::from_slice(&body).map(Parameters);
        read.map_err(|wrong| Problem::bad(format!("the body is no JSON object: {wrong}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(value: Value) -> Parameters {
        serde_json::from_value(value).map(Parameters).unwrap()
    }

    #[test]
    fn what_would_change_the_answer_is_refused_and_named() {
        let refused = [
            json!({"n": 2}),
            json!({"tools": [{"type": "function"}]}),
            json!({"tool_choice": "required"}),
            json!({"logprobs": true}),
            json!({"logprobs": 1}),
            json!({"response_format": {"type": "json_schema"}}),
            json!({"presence_penalty": 0.5}),
            json!({"logit_bias": {"50256": -100}}),
            json!({"modalities": ["text", "audio"]}),
            json!({"audio": {"voice": "x"}}),
            json!({"echo": true}),
            json!({"top_k": 40}),
            json!({"repetition_penalty": 1.1}),
        ];
        for value in refused {
            let name = value.as_object().unwrap().keys().next().unwrap().clone();
            let problem = parameters(value).end().unwrap_err().value();
            assert_eq!(problem["error"]["param"], name.as_str(), "{problem}");
            assert!(problem["error"]["message"].as_str().unwrap().contains(&name));
        }
    }

    #[test]
    fn what_changes_nothing_is_passed_over() {
        let neutral = json!({
            "n": 1, "best_of": 1, "echo": false, "suffix": null, "logprobs": false, "logit_bias": {}, "tools": [],
            "tool_choice": "auto", "presence_penalty": 0, "frequency_penalty": 0.0, "user": "me", "metadata": {"a": "b"},
            "response_format": {"type": "text"}, "modalities": ["text"], "top_k": null, "audio": null,
        });
        parameters(neutral).end().unwrap();
    }

    #[test]
    fn numbers_out_of_their_range_are_refused() {
        for value in [json!(-0.1), json!(2.1), json!("1"), json!([1])] {
            let mut parameters = parameters(json!({"temperature": value}));
            assert!(parameters.number("temperature", 0.0, 2.0).is_err(), "{value}");
        }
        let mut good = parameters(json!({"temperature": 2, "top_p": null}));
        assert_eq!(good.number("temperature", 0.0, 2.0).unwrap(), Some(2.0));
        assert_eq!(good.number("top_p", 0.0, 1.0).unwrap(), None);
        good.end().unwrap();
    }
}
