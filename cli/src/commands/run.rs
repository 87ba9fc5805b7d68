//! `shoal run REPO [PROMPT]`: an embedding or a text from a model that is here; without a prompt, a small chat.

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, Read, Write};

use node::engine::session::Engine;
use node::engine::wire::{End, Generated, Loaded, Message, Task, Weights};
use node::http::messages::RunAsk;
use node::library::Library;
use node::progress::Progress;
use node::run::{Answer, RunOptions, Talk, talk};

use serde::Serialize;

use crate::args::Run;
use crate::client::Client;
use crate::context::Context;
use crate::failure::Failure;
use crate::meter::Meter;
use crate::output;
use crate::session::Session;

/// Longest prompt that is read from stdin, in bytes: far more than any model looks back on.
const PROMPT_LEN_MAX: u64 = 16 * 1024 * 1024;

/// What ends a chat, besides the end of stdin.
const BYE: &str = "/bye";

/// A loaded model, wherever it is.
enum Model<'a> {
    /// In the node that runs, which keeps it for a while.
    There(&'a Client, RunAsk),
    /// In an engine of this process.
    Here(Engine, Loaded),
}

/// What `run --json` prints of an embedding. Scripts rely on it.
#[derive(Serialize)]
struct Embedded<'a> {
    repo: String,
    model: &'a str,
    embedding: Vec<f32>,
    tokens: usize,
}

/// What `run --json` prints of a text. Scripts rely on it.
#[derive(Serialize)]
struct Written<'a> {
    repo: String,
    model: &'a str,
    text: String,
    finish: &'static str,
    prompt_tokens: usize,
    tokens: usize,
    seconds: f64,
}

pub(crate) async fn run(run: Run, context: &mut Context<'_>) -> Result<(), Failure> {
    let prompt = match run.prompt.as_deref() {
        Some("-") => Some(read_prompt(context)?),
        Some(text) => Some(text.to_owned()),
        None if context.io.asks && !context.json => None,
        None => {
            return Err(Failure::new("there is no prompt")
                .hint("give one: shoal run REPO PROMPT; with - as the PROMPT, stdin is read"));
        }
    };
    let session = Session::open(context).await?;
    let outcome = with(&session, &run, prompt, context).await;
    session.close().await;
    outcome
}

async fn with(
    session: &Session,
    run: &Run,
    prompt: Option<String>,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let (mut model, loaded) = match session {
        Session::Daemon(client) => load_there(client, run, context)?,
        Session::Alone(library) => load_here(library, run, context).await?,
    };
    for open in &loaded.open {
        context.note(format_args!(
            "warning: the process of the model is not quite shut in; not on this system: {}",
            output::printable(open)
        ));
    }
    match prompt {
        Some(prompt) => once(&mut model, &loaded, run, prompt, context).await,
        None if loaded.task == Task::Embed => Err(Failure::new(format!(
            "{} makes embeddings, and does not chat",
            run.repo
        ))
        .hint(format!("give it a text: shoal run {} TEXT", run.repo))),
        None => chat(&mut model, run, context).await,
    }
}

fn load_there<'a>(
    client: &'a Client,
    run: &Run,
    context: &mut Context<'_>,
) -> Result<(Model<'a>, Loaded), Failure> {
    let ask = RunAsk {
        repo: run.repo.clone(),
        file: run.file.clone(),
        memory: run.memory,
        weights: weights(run),
        talk: said(run, Vec::new()),
    };
    let mut meter = Meter::new(context);
    let (_, loaded) = client.run(&ask, |snapshot| meter.show(snapshot, context), |_| Ok(()))?;
    Ok((Model::There(client, ask), loaded))
}

async fn load_here<'a>(
    library: &Library,
    run: &Run,
    context: &mut Context<'_>,
) -> Result<(Model<'a>, Loaded), Failure> {
    let ready = library.ready(&run.repo, run.file.as_deref()).await?;
    let options = RunOptions {
        memory: run.memory,
        weights: weights(run),
        ..RunOptions::default()
    };
    let (progress, snapshots) = Progress::channel();
    let work = library.load(&ready, &options, &progress);
    let (engine, loaded) = Meter::new(context).watch(snapshots, work, context).await?;
    Ok((Model::Here(engine, loaded.clone()), loaded))
}

impl Model<'_> {
    /// Says something to it; `heard` hears text as it comes.
    async fn say(
        &mut self,
        what: Talk,
        mut heard: impl FnMut(&str) -> std::io::Result<()> + Send,
    ) -> Result<Answer, Failure> {
        match self {
            Model::There(client, ask) => {
                let ask = RunAsk {
                    talk: what,
                    ..ask.clone()
                };
                Ok(client.run(&ask, |_| (), heard)?.0)
            }
            Model::Here(engine, loaded) => {
                let mut broken = Ok(());
                let hear = |text: String| {
                    if broken.is_ok() {
                        broken = heard(&text);
                    }
                };
                let answer = talk(engine, loaded, what, hear).await?;
                broken?;
                Ok(answer)
            }
        }
    }
}

/// One prompt, one answer.
async fn once(
    model: &mut Model<'_>,
    loaded: &Loaded,
    run: &Run,
    prompt: String,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let talk = said(run, vec![message("user", prompt)]);
    let repo = run.repo.to_string();
    if context.json {
        let mut text = String::new();
        let hear = |piece: &str| {
            text.push_str(piece);
            Ok(())
        };
        return match model.say(talk, hear).await? {
            Answer::Nothing => Ok(()),
            Answer::Embedding { values, tokens } => Ok(context.print_json(&Embedded {
                repo,
                model: &loaded.architecture,
                embedding: values,
                tokens,
            })?),
            Answer::Generated(generated) => Ok(context.print_json(&Written {
                repo,
                model: &loaded.architecture,
                text,
                finish: finish(&generated),
                prompt_tokens: generated.prompt_tokens,
                tokens: generated.tokens,
                seconds: generated.prompt_s + generated.tokens_s,
            })?),
        };
    }
    let stdout = &mut context.io.stdout;
    match model.say(talk, |piece| show(stdout, piece)).await? {
        Answer::Nothing => Ok(()),
        Answer::Embedding { values, .. } => Ok(context.print(serde_json::to_string(&values)?)?),
        Answer::Generated(generated) => {
            context.print("")?;
            speed(&generated, context);
            Ok(())
        }
    }
}

/// Lines from a person, answers to them, and all that was said before with each.
async fn chat(model: &mut Model<'_>, run: &Run, context: &mut Context<'_>) -> Result<(), Failure> {
    context.note(format_args!("say something; {BYE} or Ctrl-D ends"));
    let mut messages = Vec::new();
    loop {
        write!(context.io.stderr, ">>> ").and_then(|()| context.io.stderr.flush())?;
        let mut line = String::new();
        let read = (&mut context.io.stdin)
            .take(PROMPT_LEN_MAX)
            .read_line(&mut line)?;
        let line = line.trim();
        if read == 0 || line == BYE {
            return Ok(());
        }
        if line.is_empty() {
            continue;
        }
        messages.push(message("user", line.to_owned()));
        let mut text = String::new();
        let stdout = &mut context.io.stdout;
        let hear = |piece: &str| {
            text.push_str(piece);
            show(stdout, piece)
        };
        let answer = model.say(said(run, messages.clone()), hear).await?;
        context.print("")?;
        if let Answer::Generated(generated) = answer {
            speed(&generated, context);
        }
        messages.push(message("assistant", text));
    }
}

/// Shows a piece of a model's text at once. What could steer a terminal is shown as what it is: no letter.
fn show(stdout: &mut Box<dyn Write + Send>, piece: &str) -> std::io::Result<()> {
    let harmless = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let text: String = piece.chars().map(harmless).collect();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

fn speed(generated: &Generated, context: &mut Context<'_>) {
    let Generated { tokens, tokens_s, .. } = generated;
    if context.io.is_terminal && *tokens > 0 && *tokens_s > 0.0 {
        let each_s = *tokens as f64 / tokens_s;
        let count = output::count(*tokens as u64, "token");
        context.note(format_args!("({count}, {each_s:.1} a second)"));
    }
}

fn finish(generated: &Generated) -> &'static str {
    match generated.end {
        End::Stop => "stop",
        End::Length => "length",
    }
}

fn said(run: &Run, messages: Vec<Message>) -> Talk {
    Talk {
        messages,
        raw: run.raw,
        max_tokens: Some(run.max_tokens.get()),
        temperature: run.temperature,
        top_p: run.top_p,
        seed: run.seed.unwrap_or_else(|| RandomState::new().hash_one(0)),
    }
}

/// How the weights are to be kept, if the user says so.
fn weights(run: &Run) -> Option<Weights> {
    run.packed.then_some(Weights::Stored)
}

fn message(role: &str, content: String) -> Message {
    Message {
        role: role.to_owned(),
        content,
    }
}

fn read_prompt(context: &mut Context<'_>) -> Result<String, Failure> {
    let mut text = String::new();
    (&mut context.io.stdin)
        .take(PROMPT_LEN_MAX)
        .read_to_string(&mut text)?;
    // What ends the last line is not part of what is said.
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_has_the_shape_that_scripts_rely_on() {
        let embedded = Embedded {
            repo: "meta/llama".to_owned(),
            model: "BertModel",
            embedding: vec![0.5, -1.0],
            tokens: 3,
        };
        let wanted =
            json!({"repo": "meta/llama", "model": "BertModel", "embedding": [0.5, -1.0], "tokens": 3});
        assert_eq!(serde_json::to_value(embedded).unwrap(), wanted);
        let written = Written {
            repo: "meta/llama".to_owned(),
            model: "llama",
            text: "hello".to_owned(),
            finish: "stop",
            prompt_tokens: 4,
            tokens: 1,
            seconds: 0.5,
        };
        let wanted = json!({"repo": "meta/llama", "model": "llama", "text": "hello", "finish": "stop",
            "prompt_tokens": 4, "tokens": 1, "seconds": 0.5});
        assert_eq!(serde_json::to_value(written).unwrap(), wanted);
    }
}
