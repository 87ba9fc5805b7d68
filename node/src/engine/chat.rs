//! Chats as the text that a model was taught them in: its publisher's own template, rendered as transformers renders it with Jinja2.
//!
//! A template is a stranger's program. It has no files, no clock and no other template here; it gets so much fuel, so deep a
//! recursion and so long an output. What a single instruction does is not metered by that: a text that doubles itself again and
//! again, or a search in a list that is said to be endless, is bounded by the memory and time of the process that renders it, and
//! by nothing here. It is another reason why models run in a process of their own.

mod json;

use std::{collections::BTreeMap, io};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value, context, value::ValueKind};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::wire::{Fault, Message};

/// Longest template, in bytes: the longest known, with all their tools, are below 20,000.
pub(crate) const TEMPLATE_LEN_MAX: usize = 1 << 20;
/// Longest text that a template makes, in bytes: of it and of what is in the messages.
pub(crate) const RENDERED_LEN_MAX: usize = 1 << 20;
/// Instructions a template may run: a chat of a thousand messages takes about a tenth.
const FUEL: u64 = 200_000;
/// How deep macros may call each other.
const RECURSION_MAX: usize = 64;
/// What a template is called within its environment: no file.
const NAME: &str = "chat template";

/// A model's chat template.
#[derive(Debug)]
pub(crate) struct Chat {
    environment: Environment<'static>,
    specials: BTreeMap<String, String>,
    path: String,
}

/// The places where a template may be, and what is in them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sources<'a> {
    /// `chat_template.jinja`.
    pub(crate) file: Option<&'a str>,
    /// `tokenizer_config.json`.
    pub(crate) tokenizer_config: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// The path of a GGUF file, and its `tokenizer.chat_template`.
    pub(crate) gguf: Option<(&'a str, &'a str)>,
}

impl Chat {
    /// Takes the first template there is: a file's, the tokenizer's own or its one called `default`, a GGUF file's. `None`: there is none.
    ///
    /// `specials` are the texts of special tokens by what templates call them: `bos_token`, `eos_token` and others. Those that
    /// `tokenizer_config.json` has come before them.
    ///
    /// # Errors
    /// [`Fault::Invalid`]: it is no template, or too long.
    pub(crate) fn find(sources: Sources, specials: &BTreeMap<String, String>) -> Result<Option<Chat>, Fault> {
        const CONFIG: &str = "tokenizer_config.json";
        let in_config = sources
            .tokenizer_config
            .and_then(|config| match config.get("chat_template")? {
                serde_json::Value::String(template) => Some(template.as_str()),
                serde_json::Value::Array(named) => {
                    let default = named.iter().find(|one| one["name"] == "default")?;
                    default["template"].as_str()
                }
                _ => None,
            });
        let file = sources.file.map(|template| ("chat_template.jinja", template));
        let found = file
            .or(in_config.map(|template| (CONFIG, template)))
            .or(sources.gguf);
        let mut specials = specials.clone();
        for (key, value) in sources.tokenizer_config.into_iter().flatten() {
            // Some tools save the token's text, some all about the token.
            let text = value.as_str().or_else(|| value.get("content")?.as_str());
            if let Some(text) = text.filter(|_| key.ends_with("_token")) {
                specials.insert(key.clone(), text.to_owned());
            }
        }
        found
            .map(|(path, template)| Chat::new(path, template, specials))
            .transpose()
    }

    /// Compiles a template.
    fn new(path: &str, template: &str, specials: BTreeMap<String, String>) -> Result<Chat, Fault> {
        let invalid = |what: String| Fault::Invalid {
            path: path.to_owned(),
            what,
        };
        if template.len() > TEMPLATE_LEN_MAX {
            return Err(invalid(format!(
                "a chat template of {} bytes: {TEMPLATE_LEN_MAX} can be",
                template.len()
            )));
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_MAX);
        environment.set_debug(false);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_formatter(as_python_writes);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, text).with_source(Refused))
        });
        // No `strftime_now`: the same chat is the same text on any day. Templates ask whether it is there.
        environment
            .add_template_owned(NAME, template.to_owned())
            .map_err(|error| invalid(format!("chat template: {error}")))?;
        Ok(Chat {
            environment,
            specials,
            path: path.to_owned(),
        })
    }

    /// Renders a chat, up to where the model is to go on.
    ///
    /// # Errors
    /// [`Fault::Ask`]: the template refuses these messages, or they are too long. [`Fault::Invalid`]: it takes too much, or does what it cannot.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, Fault> {
        let len: usize = messages
            .iter()
            .map(|message| message.content.len() + message.role.len())
            .sum();
        if len > RENDERED_LEN_MAX {
            return Err(Fault::Ask(format!(
                "messages of {len} bytes: {RENDERED_LEN_MAX} can be"
            )));
        }
        let chat = context! {
            messages => messages,
            add_generation_prompt => true,
            // As transformers gives them where there are none.
            tools => Value::from(()),
            documents => Value::from(()),
            ..Value::from_serialize(&self.specials)
        };
        let mut out = Bounded(Vec::new());
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(chat, &mut out).map(drop));
        match rendered {
            Ok(()) => {
                String::from_utf8(out.0).map_err(|_| self.invalid("a text that is no UTF-8".to_owned()))
            }
            Err(error) if is_refusal(&error) => Err(Fault::Ask(format!(
                "the model's chat template refuses these messages: {}",
                error.detail().unwrap_or_default()
            ))),
            Err(error) if error.kind() == ErrorKind::WriteFailure => {
                Err(self.invalid(format!("it makes more than {RENDERED_LEN_MAX} bytes")))
            }
            Err(error) => Err(self.invalid(error.to_string())),
        }
    }

    fn invalid(&self, what: String) -> Fault {
        Fault::Invalid {
            path: self.path.clone(),
            what: format!("chat template: {what}"),
        }
    }
}

/// What a model without a template gets: what is said, a paragraph each.
pub(crate) fn plain(messages: &[Message]) -> String {
    let said: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
    said.join("\n\n")
}

/// Marks an error as one that the template raises itself.
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
struct Refused;

fn is_refusal(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<Refused>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Writes a value as Python prints it: `True`, `None`, `['a', 1]`. It stops at the first byte that is not taken any more.
fn as_python_writes(out: &mut Output, _: &State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => Ok(out.write_str(text)?),
        None => write_repr(out, value, 0),
    }
}

fn write_repr(out: &mut Output, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > RECURSION_MAX {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a value too deep to print",
        ));
    }
    let (open, close) = match value.kind() {
        ValueKind::Map => ("{", "}"),
        ValueKind::Seq | ValueKind::Iterable => ("[", "]"),
        ValueKind::None => return Ok(out.write_str("None")?),
        ValueKind::Bool => return Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::String if depth > 0 => return Ok(write!(out, "'{value}'")?),
        _ => return Ok(write!(out, "{value}")?),
    };
    out.write_str(open)?;
    for (i, element) in value.try_iter()?.enumerate() {
        out.write_str(if i > 0 { ", " } else { "" })?;
        write_repr(out, &element, depth + 1)?;
        if open == "{" {
            out.write_str(": ")?;
            write_repr(out, &value.get_item(&element)?, depth + 1)?;
        }
    }
    Ok(out.write_str(close)?)
}

/// Takes so many bytes and no more.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED_LEN_MAX {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
