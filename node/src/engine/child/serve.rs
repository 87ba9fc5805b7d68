//! The engine at work. It knows its stdin, its stdout, and the files it is given; it answers one ask after the other, and ends when
//! its stdin does.

use std::process::ExitCode;

use super::lines::{Asks, UNHEARD, Unheard, Voice};
use crate::engine::{
    doors::{Doorway, start_threads},
    files::Files,
    model::{self, Model},
    wire::{Ask, Fault, Given, Said},
};

/// Answers asks until there are none. Models recurse little, but regular expressions of tokenizers do: the stack is that of `main`.
pub(super) fn serve(doorway: Doorway) -> ExitCode {
    let voice = Voice;
    let asks = Asks::listen();
    match answer(doorway, &asks, &voice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Unheard) => ExitCode::from(UNHEARD),
    }
}

fn answer(doorway: Doorway, asks: &Asks, voice: &Voice) -> Result<(), Unheard> {
    match asks.next()? {
        Ask::Load { files, weights } => {
            let Some(opened) = close(doorway, files, voice)? else {
                return Ok(());
            };
            let mut model = match Model::load(opened, weights, &mut |said| voice.murmur(&said)) {
                Ok((model, loaded)) => {
                    voice.say(&Said::Loaded(loaded))?;
                    model
                }
                Err(fault) => return voice.say(&Said::Failed(fault)),
            };
            loop {
                let said = act(&mut model, asks.next()?, voice).unwrap_or_else(Said::Failed);
                voice.say(&said)?;
            }
        }
        Ask::Scan { files } => {
            let Some(opened) = close(doorway, files, voice)? else {
                return Ok(());
            };
            let scanned = model::scan(opened, &mut |said| voice.murmur(&said));
            voice.say(&scanned.map_or_else(Said::Failed, Said::Scanned))
        }
        _ => voice.say(&Said::Failed(Fault::Ask("no model is loaded".to_owned()))),
    }
}

/// Opens the files, and closes every door; `None`: they cannot be opened, and the node knows.
fn close(doorway: Doorway, files: Vec<Given>, voice: &Voice) -> Result<Option<Files>, Unheard> {
    let opened = Files::open(files);
    start_threads();
    voice.say(&Said::Closed(doorway.close()))?;
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(fault) => voice.say(&Said::Failed(fault)).map(|()| None),
    }
}

fn act(model: &mut Model, ask: Ask, voice: &Voice) -> Result<Said, Fault> {
    Ok(match ask {
        Ask::Tokens { text, special } => Said::Tokens(model.tokens(&text, special)?),
        Ask::Embed { input } => {
            let (values, ids) = model.embed(&input)?;
            Said::Embedding { values, ids }
        }
        Ask::Generate(what) => Said::Generated(model.generate(&what, &mut |said| voice.murmur(&said))?),
        Ask::Logits { ids, top } => {
            let (rows, digest) = model.logits(&ids, top)?;
            Said::Logits { rows, digest }
        }
        Ask::Load { .. } | Ask::Scan { .. } => {
            return Err(Fault::Ask("a model is loaded already".to_owned()));
        }
    })
}
