//! What a client says to a model: messages, texts, tokens.

use serde::Deserialize;

use super::problem::Problem;
use crate::engine::wire::{Input, Message};

/// A message of a chat.
#[derive(Debug, Deserialize)]
pub(super) struct Said {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<serde_json::Value>,
}

/// Text, whole or in parts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Whole(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

/// One input or several, as texts or as tokens.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    ManyIds(Vec<Vec<u32>>),
}

impl Inputs {
    /// Each of them.
    pub(super) fn each(self) -> Vec<Input> {
        match self {
            Inputs::Text(text) => vec![Input::Text(text)],
            Inputs::Texts(texts) => texts.into_iter().map(Input::Text).collect(),
            Inputs::Ids(ids) => vec![Input::Ids(ids)],
            Inputs::ManyIds(many) => many.into_iter().map(Input::Ids).collect(),
        }
    }
}

/// Texts at which a generation ends: one or a few.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Stops {
    One(String),
    Few(Vec<String>),
}

/// Most texts at which a generation ends, as in OpenAI's API.
const STOPS_MAX: usize = 4;

impl Stops {
    pub(super) fn all(self) -> Result<Vec<String>, Problem> {
        let all = match self {
            Stops::One(stop) => vec![stop],
            Stops::Few(few) => few,
        };
        match all.len() <= STOPS_MAX && all.iter().all(|stop| !stop.is_empty()) {
            true => Ok(all),
            false => Err(Problem::parameter(
                "stop",
                format!("\"stop\" is at most {STOPS_MAX} texts, none of them empty"),
            )),
        }
    }
}

/// Reads the messages of a chat.
pub(super) fn messages(said: Vec<Said>) -> Result<Vec<Message>, Problem> {
    let wrong = |why: String| Problem::parameter("messages", why);
    if said.is_empty() {
        return Err(wrong("\"messages\" is empty".to_owned()));
    }
    said.into_iter()
        .map(|said| message(said).map_err(wrong))
        .collect()
}

fn message(said: Said) -> Result<Message, String> {
    let Said {
        role,
        content,
        tool_calls,
    } = said;
    if tool_calls.is_some_and(|calls| !calls.is_null()) {
        return Err("this node does not do tool calls".to_owned());
    }
    let role = match role.as_str() {
        "system" | "user" | "assistant" => role,
        // What newer clients call it.
        "developer" => "system".to_owned(),
        other => return Err(format!("this node does not know the role {other:?}")),
    };
    let content = match content {
        None => String::new(),
        Some(Content::Whole(text)) => text,
        Some(Content::Parts(parts)) => {
            let texts = parts
                .into_iter()
                .map(|part| match (part.kind.as_str(), part.text) {
                    ("text", Some(text)) => Ok(text),
                    (other, _) => Err(format!("this node reads text, and not {other:?}")),
                });
            texts.collect::<Result<String, _>>()?
        }
    };
    Ok(Message { role, content })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Vec<Message>, Problem> {
        messages(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn text_is_read_whole_and_in_parts() {
        let read = read(json!([
            {"role": "developer", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "x"},
            {"role": "assistant", "content": null},
        ]));
        let read: Vec<_> = read
            .unwrap()
            .into_iter()
            .map(|said| (said.role, said.content))
            .collect();
        let wanted = [("system", "be short"), ("user", "ab"), ("assistant", "")];
        assert_eq!(
            read,
            wanted.map(|(role, content)| (role.to_owned(), content.to_owned()))
        );
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for wrong in [
            json!([]),
            json!([{"role": "tool", "content": "x"}]),
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            json!([{"role": "assistant", "content": null, "tool_calls": [{}]}]),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn inputs_are_texts_or_tokens_one_or_many() {
        let count = |value: Value| {
            serde_json::from_value::<Inputs>(value)
                .map(|inputs| inputs.each().len())
                .ok()
        };
        assert_eq!(count(json!("a")), Some(1));
        assert_eq!(count(json!(["a", "b"])), Some(2));
        assert_eq!(count(json!([1, 2, 3])), Some(1));
        assert_eq!(count(json!([[1, 2], [3]])), Some(2));
        for wrong in [
            json!(1),
            json!([1, "a"]),
            json!([-1]),
            json!({"a": 1}),
            json!([[4_294_967_296_u64]]),
        ] {
            assert_eq!(count(wrong.clone()), None, "{wrong}");
        }
    }
}
