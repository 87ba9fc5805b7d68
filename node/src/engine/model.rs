//! A model, whatever its files are: found among them, checked, loaded, and asked.

mod find;
#[cfg(test)]
mod listed;
#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, time::Instant};

use protocol::Hash;
use serde_json::Value;

use self::find::Found;
pub(crate) use super::files::scan;
use super::{
    chat::{self, Chat, Sources},
    config::Settings,
    decoder::Decoder,
    encoder::{self, Encoder, Family, Pooling},
    files::{Files, Header, Progress},
    generate::{self, Limits},
    sample::Sampler,
    tokens::{Beside, Stream, Tokens},
    weights::Tensors,
    wire::{Fault, Generate, Generated, Input, Loaded, Prompt, Row, Said, Task, Weights},
};
use crate::check::{Dtype, TensorInfo, shards};

/// Longest file of JSON that is read for what it says, in bytes: the largest known `tokenizer_config.json` has 2 MB.
const JSON_LEN_MAX: usize = 16 << 20;
/// The tokenizer's file.
const TOKENIZER: &str = "tokenizer.json";

/// A model in memory.
#[derive(Debug)]
pub(crate) struct Model {
    kind: Kind,
    /// What it is called where it says what it can't do.
    architecture: String,
    /// Without a tokenizer that can be trusted a model still takes tokens.
    tokens: Result<Tokens, Fault>,
    chat: Option<Chat>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a process has one of them")]
enum Kind {
    Encoder(Encoder),
    Decoder(Decoder),
}

/// What is known of a model before its tensors are read.
#[expect(clippy::large_enum_variant, reason = "a process has one of them")]
enum Plan {
    Encoder(Family, Value, Pooling),
    Decoder(Settings),
}

impl Model {
    /// Loads the model among these files. Every byte that is used was hashed; a model is not given before all of them were.
    ///
    /// Encoders are kept as 32 bits floats, whatever `weights` asks for: with less their results are no numbers.
    ///
    /// # Errors
    /// Why it is not loaded.
    pub(crate) fn load(
        mut files: Files,
        weights: Weights,
        said: &mut dyn FnMut(Said),
    ) -> Result<(Model, Loaded), Fault> {
        let started = Instant::now();
        let mut progress = Progress::new(said);
        let (model, parameters, weights) = match Found::among(&files)? {
            Found::Safetensors { index } => safetensors(&mut files, index, weights, &mut progress)?,
            Found::Gguf(path) => gguf(&mut files, &path, weights, &mut progress)?,
        };
        let (task, context) = match &model.kind {
            Kind::Encoder(encoder) => (Task::Embed, encoder.context()),
            Kind::Decoder(decoder) => (Task::Generate, decoder.settings().context),
        };
        let loaded = Loaded {
            architecture: model.architecture.clone(),
            task,
            parameters,
            context,
            chat: model.chat.is_some(),
            weights,
            seconds: started.elapsed().as_secs_f64(),
            open: Vec::new(),
        };
        Ok((model, loaded))
    }

    /// The tokens of a text; `special` adds what the tokenizer puts around it.
    ///
    /// # Errors
    /// Why there is no tokenizer; [`Fault::Ask`] where the text is too long.
    pub(crate) fn tokens(&self, text: &str, special: bool) -> Result<Vec<u32>, Fault> {
        self.tokenizer()?.encode(text, special)
    }

    /// The embedding of a text, and the tokens it was made of.
    ///
    /// # Errors
    /// [`Fault::Ask`]: the model makes none, or the text is too long for it. [`Fault::NotANumber`]: it is not finite.
    pub(crate) fn embed(&self, input: &Input) -> Result<(Vec<f32>, Vec<u32>), Fault> {
        let Kind::Encoder(encoder) = &self.kind else {
            return Err(Fault::Ask(format!(
                "{} goes on with texts; it makes no embeddings",
                self.architecture
            )));
        };
        let ids = self.ids(input)?;
        Ok((encoder.embed(&ids)?, ids))
    }

    /// Goes on with a text, and says its pieces as they come.
    ///
    /// # Errors
    /// [`Fault::Ask`]: the model goes on with none, or cannot with this. [`Fault::NotANumber`]: what it computes is not finite.
    pub(crate) fn generate(
        &mut self,
        ask: &Generate,
        said: &mut dyn FnMut(Said),
    ) -> Result<Generated, Fault> {
        let prompt = match &ask.prompt {
            Prompt::Plain(input) => self.ids(input)?,
            Prompt::Chat(messages) => match &self.chat {
                // A template writes all special tokens out.
                Some(chat) => self.tokens(&chat.render(messages)?, false)?,
                None => self.tokens(&chat::plain(messages), true)?,
            },
        };
        let mut sampler = Sampler::new(ask.temperature, ask.top_p, ask.seed)?;
        let tokens = self.tokens.as_ref().map_err(Clone::clone)?;
        let Kind::Decoder(decoder) = &mut self.kind else {
            return Err(no_decoder(&self.architecture));
        };
        let ends: Vec<u32> = tokens.eos().iter().copied().collect();
        let limits = Limits {
            max_tokens: ask.max_tokens,
            stop_ids: &ends,
            stop: &ask.stop,
        };
        let mut stream = Stream::default();
        let text = |id: Option<u32>| match id {
            Some(id) => stream.push(tokens, id),
            None => stream.finish(tokens),
        };
        let sink = |text: &str, ids: &[u32]| {
            said(Said::Text {
                text: text.to_owned(),
                ids: ids.to_vec(),
            });
            ControlFlow::Continue(())
        };
        generate::generate(decoder, &mut sampler, &prompt, &limits, text, sink)
    }

    /// What a causal model expects behind each of these tokens, and the BLAKE3 of all logits.
    ///
    /// # Errors
    /// As [`Model::generate`].
    pub(crate) fn logits(&mut self, ids: &[u32], top: usize) -> Result<(Vec<Row>, Hash), Fault> {
        match &mut self.kind {
            Kind::Decoder(decoder) => Ok(decoder.rows(ids, top)?.end()),
            Kind::Encoder(_) => Err(no_decoder(&self.architecture)),
        }
    }

    fn ids(&self, input: &Input) -> Result<Vec<u32>, Fault> {
        match input {
            Input::Text(text) => self.tokens(text, true),
            Input::Ids(ids) => Ok(ids.clone()),
        }
    }

    fn tokenizer(&self) -> Result<&Tokens, Fault> {
        self.tokens.as_ref().map_err(Clone::clone)
    }
}

fn no_decoder(architecture: &str) -> Fault {
    Fault::Ask(format!(
        "{architecture} makes embeddings; it does not go on with texts"
    ))
}

/// Loads a model that transformers saved: a config, and weights in one file or in as many as the index says.
fn safetensors(
    files: &mut Files,
    index: bool,
    weights: Weights,
    progress: &mut Progress,
) -> Result<(Model, u64, Weights), Fault> {
    let beside = Beside {
        config: json(files, find::CONFIG)?.unwrap_or_default(),
        tokenizer_config: json(files, "tokenizer_config.json")?.unwrap_or_default(),
        generation_config: json(files, "generation_config.json")?.unwrap_or_default(),
    };
    let config = &beside.config;
    let name = config["architectures"][0].as_str().unwrap_or("");
    let encoder = encoder::ARCHITECTURES.iter().find(|(known, _)| *known == name);
    let plan = match encoder {
        Some((_, family)) => {
            let pooling = Pooling::read(&mut |path| json(files, path))?;
            Plan::Encoder(*family, config.clone(), pooling)
        }
        None => {
            let config = config.as_object().ok_or_else(|| Fault::Invalid {
                path: find::CONFIG.into(),
                what: "it is no object".into(),
            })?;
            let generation = beside.generation_config.as_object();
            Plan::Decoder(Settings::from_config(config, generation, find::CONFIG).map_err(with_encoders)?)
        }
    };
    let weights = match plan {
        Plan::Encoder(..) => Weights::F32,
        Plan::Decoder(_) => weights,
    };
    let index = match index {
        true => Some(read_index(files)?),
        false => None,
    };
    let tokens = tokenizer(files, &beside)?;
    let chat = template(files, &beside, None, &tokens)?;
    let paths: Vec<String> = match &index {
        Some(index) => index.files().map(str::to_owned).collect(),
        None => vec![find::WEIGHTS.into()],
    };
    let (mut tensors, mut parameters) = (Tensors::default(), 0);
    for path in &paths {
        let mut look = |header: &Header| match &index {
            Some(index) => index
                .agree(path, header.tensors())
                .map_err(|error| Fault::Invalid {
                    path: path.clone(),
                    what: error.to_string(),
                }),
            None => Ok(()),
        };
        let header = files.load(path, weights, &mut tensors, progress, &mut look)?;
        parameters += count(header.tensors());
    }
    let kind = match plan {
        Plan::Encoder(family, config, pooling) => {
            let encoder = Encoder::load(family, &config, pooling, &mut tensors)?;
            if let Some(left) = tensors.left().next() {
                return Err(Fault::Unsupported {
                    path: paths.join(", "),
                    what: format!("tensor {left} has no place in a {name}"),
                });
            }
            Kind::Encoder(encoder)
        }
        Plan::Decoder(settings) => Kind::Decoder(Decoder::load(settings, &mut tensors)?),
    };
    let model = Model {
        kind,
        architecture: name.to_owned(),
        tokens,
        chat,
    };
    Ok((model, parameters, weights))
}

/// Loads a model in one GGUF file. A `tokenizer.json` beside it is believed before what the file says of its vocabulary.
fn gguf(
    files: &mut Files,
    path: &str,
    weights: Weights,
    progress: &mut Progress,
) -> Result<(Model, u64, Weights), Fault> {
    let beside = Beside {
        config: Value::Null,
        tokenizer_config: json(files, "tokenizer_config.json")?.unwrap_or_default(),
        generation_config: json(files, "generation_config.json")?.unwrap_or_default(),
    };
    let own = tokenizer(files, &beside)?;
    let (mut tensors, mut settings) = (Tensors::default(), None);
    let mut look = |header: &Header| {
        let Header::Gguf(header) = header else {
            return Ok(());
        };
        settings = Some(Settings::from_gguf(header, path)?);
        Ok(())
    };
    let header = files.load(path, weights, &mut tensors, progress, &mut look)?;
    let (Header::Gguf(found), Some(settings)) = (&header, settings) else {
        return Err(Fault::Invalid {
            path: path.to_owned(),
            what: "it is no GGUF file".into(),
        });
    };
    let tokens = match own {
        Err(Fault::Absent { .. }) => trusted(Tokens::from_gguf(path, found))?,
        own => own,
    };
    let chat = template(
        files,
        &beside,
        found.text("tokenizer.chat_template").map(|text| (path, text)),
        &tokens,
    )?;
    let parameters = count(header.tensors());
    let model = Model {
        architecture: settings.name.clone(),
        kind: Kind::Decoder(Decoder::load(settings, &mut tensors)?),
        tokens,
        chat,
    };
    Ok((model, parameters, weights))
}

/// Reads a small file of JSON; `None` where there is none.
fn json(files: &mut Files, path: &str) -> Result<Option<Value>, Fault> {
    let invalid = |what: String| Fault::Invalid {
        path: path.to_owned(),
        what,
    };
    let Some(bytes) = files.small(path)? else {
        return Ok(None);
    };
    if bytes.len() > JSON_LEN_MAX {
        return Err(invalid(format!(
            "{} bytes; at most {JSON_LEN_MAX} of such a file are read",
            bytes.len()
        )));
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| invalid(error.to_string()))
}

fn read_index(files: &mut Files) -> Result<shards::Index, Fault> {
    let bytes = files.small(find::INDEX)?.unwrap_or_default();
    let has = |name: &str| files.paths().any(|path| path == name);
    shards::read(&bytes, has).map_err(|error| Fault::Invalid {
        path: find::INDEX.into(),
        what: error.to_string(),
    })
}

/// Reads `tokenizer.json`; the inner error says why there is no tokenizer, of a model that is sound without.
fn tokenizer(files: &mut Files, beside: &Beside) -> Result<Result<Tokens, Fault>, Fault> {
    match files.small(TOKENIZER)? {
        Some(bytes) => trusted(Tokens::from_json(TOKENIZER, &bytes, beside)),
        None => Ok(Err(Fault::Absent {
            what: TOKENIZER.into(),
        })),
    }
}

/// A tokenizer that this build does not know leaves the model without one; one that is broken is an error.
fn trusted(tokens: Result<Tokens, Fault>) -> Result<Result<Tokens, Fault>, Fault> {
    match tokens {
        Err(unknown @ Fault::Unsupported { .. }) => Ok(Err(unknown)),
        Err(other) => Err(other),
        tokens => Ok(tokens),
    }
}

fn template(
    files: &mut Files,
    beside: &Beside,
    gguf: Option<(&str, &str)>,
    tokens: &Result<Tokens, Fault>,
) -> Result<Option<Chat>, Fault> {
    let path = "chat_template.jinja";
    let file = match files.small(path)? {
        Some(bytes) => Some(String::from_utf8(bytes).map_err(|error| Fault::Invalid {
            path: path.into(),
            what: error.to_string(),
        })?),
        None => None,
    };
    let sources = Sources {
        file: file.as_deref(),
        tokenizer_config: beside.tokenizer_config.as_object(),
        gguf,
    };
    let specials = tokens.as_ref().map(Tokens::specials).unwrap_or_default();
    Chat::find(sources, &specials)
}

/// Adds the encoders to what could be run.
fn with_encoders(fault: Fault) -> Fault {
    match fault {
        Fault::Architecture {
            found,
            path,
            mut supported,
        } => {
            supported.extend(encoder::ARCHITECTURES.iter().map(|(name, _)| (*name).to_owned()));
            Fault::Architecture {
                found,
                path,
                supported,
            }
        }
        other => other,
    }
}

/// Counts parameters: what is not whole numbers.
fn count(tensors: &[TensorInfo]) -> u64 {
    let whole = |dtype: Dtype| dtype < Dtype::F8E4M3;
    let learned = tensors.iter().filter(|tensor| !whole(tensor.dtype));
    learned.map(TensorInfo::elements).sum()
}
