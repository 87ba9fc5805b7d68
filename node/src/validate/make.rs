//! Making probes: what a publisher declares about a model, computed by the same engine, in 32 bits floats, that others compare with.

use std::path::PathBuf;

use protocol::{Hash, RepoRef};
use serde::{Deserialize, Serialize};

use super::{
    compare,
    error::ValidateError,
    host,
    probes::{Embed, Greedy, Logits, Nll, Probe, Probes, ProbesError, weights_id},
    text::TEXT,
};
use crate::{
    engine::{
        session::Engine,
        wire::{Generate, Input, Loaded, Prompt, Row, Task, Weights},
    },
    library::Library,
    progress::{Phase, Progress},
    run::{Ready, RunOptions, load, ready_in},
};

/// What embeddings are declared of: short and long, plain and not.
const SENTENCES: [&str; 8] = [
    "A cat sits on the mat.",
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "Water boils at 100 degrees Celsius at sea level.",
    "Der Zug nach München fährt um 8:15 Uhr ab.",
    "fn main() { println!(\"hello\"); }",
    "x",
    "In 1837 it occurred to me that something might perhaps be made out on this question by patiently accumulating and reflecting on all sorts of facts which could possibly have any bearing on it.",
];

/// What is gone on from.
const BEGINNINGS: [&str; 4] = [
    "The capital of France is",
    "Once upon a time, there was a",
    "def fibonacci(n):\n",
    "Water is made of hydrogen and",
];

/// Tokens of a declared continuation.
const CONTINUED: usize = 32;

/// Likeliest tokens that are declared for a position.
const TOP: usize = 8;

/// Margins below this are ties.
const TIE: f64 = 2e-3;

/// What to make probes of.
#[derive(Clone, Debug)]
pub struct ProbeRequest {
    /// Which file is the model, where there are several.
    pub file: Option<String>,
    /// Most memory that the engine may take, in bytes; `None`: what is free.
    pub memory: Option<u64>,
    /// The program that runs engines; `None`: this one.
    pub program: Option<PathBuf>,
}

/// Probes that were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The bytes of the file.
    pub file: String,
    /// How many they are.
    pub probes: u64,
    /// The architecture of the model.
    pub architecture: String,
}

impl Library {
    /// Makes probes of a model that is here.
    ///
    /// # Errors
    /// Every [`ValidateError`] but `Nothing`, `Attest` and `Write`.
    pub async fn make_probes(
        &self,
        what: &RepoRef,
        request: &ProbeRequest,
        progress: &Progress,
    ) -> Result<Made, ValidateError> {
        let ready = self.ready(what, request.file.as_deref()).await?;
        make(ready, request, progress).await
    }
}

/// Makes probes of a model in a folder, which need not have been published.
///
/// # Errors
/// As [`Library::make_probes`].
pub async fn make_probes_in(
    folder: PathBuf,
    request: &ProbeRequest,
    progress: &Progress,
) -> Result<Made, ValidateError> {
    let ready = ready_in(folder, request.file.clone(), progress).await?;
    make(ready, request, progress).await
}

async fn make(ready: Ready, request: &ProbeRequest, progress: &Progress) -> Result<Made, ValidateError> {
    let options = RunOptions {
        file: request.file.clone(),
        memory: request.memory,
        weights: Some(Weights::F32),
        program: request.program.clone(),
    };
    let (mut engine, loaded) = load(&ready, &options, progress).await?;
    progress.phase(Phase::Validating, 0, 0);
    let probes = match loaded.task {
        Task::Embed => embeddings(&mut engine, &loaded, progress).await?,
        Task::Generate => continuations(&mut engine, &loaded, progress).await?,
    };
    let tokenizer = ready.files.iter().find(|file| file.path == "tokenizer.json");
    let probes = Probes::new(
        weights_id(&host::weights(&ready)),
        tokenizer.map(|file| file.blake3),
        host::RUNTIME,
        probes,
    )?;
    let file = String::from_utf8(probes.encode()).expect("JSON is UTF-8");
    Ok(Made {
        file,
        probes: probes.probes.len() as u64,
        architecture: loaded.architecture,
    })
}

async fn embeddings(
    engine: &mut Engine,
    loaded: &Loaded,
    progress: &Progress,
) -> Result<Vec<Probe>, ValidateError> {
    let mut probes = Vec::new();
    for text in SENTENCES {
        told(progress, probes.len(), SENTENCES.len());
        let ids = engine.tokens(text, true).await?;
        if ids.len() > loaded.context {
            continue;
        }
        let (expect, _) = engine.embed(Input::Ids(ids.clone())).await?;
        probes.push(Probe::Embed(Embed {
            text: Some(text.to_owned()),
            ids,
            expect,
            tol_abs: compare::EMBED,
        }));
    }
    Ok(probes)
}

async fn continuations(
    engine: &mut Engine,
    loaded: &Loaded,
    progress: &Progress,
) -> Result<Vec<Probe>, ValidateError> {
    let mut probes = Vec::new();
    for (at, text) in BEGINNINGS.into_iter().enumerate() {
        told(progress, at, BEGINNINGS.len() + 1);
        let ids = engine.tokens(text, true).await?;
        if ids.is_empty() || ids.len() + CONTINUED > loaded.context {
            continue;
        }
        let mut tokens = Vec::new();
        let generate = Generate {
            prompt: Prompt::Plain(Input::Ids(ids.clone())),
            max_tokens: CONTINUED,
            temperature: 0.0,
            top_p: None,
            seed: 0,
            stop: Vec::new(),
        };
        engine.generate(generate, |_, ids| tokens.extend(ids)).await?;
        let all = [ids.as_slice(), &tokens].concat();
        let (rows, _) = engine.logits(all, TOP).await?;
        probes.extend(declare(text, ids, &tokens, &rows)?);
    }
    told(progress, BEGINNINGS.len(), BEGINNINGS.len() + 1);
    let ids = engine.tokens(TEXT, true).await?;
    if ids.len() >= 2 && ids.len() <= loaded.context {
        let (rows, _) = engine.logits(ids.clone(), 1).await?;
        let (sum_nll, n) = compare::nll(&rows).ok_or_else(no_number)?;
        probes.push(Probe::Nll(Nll {
            text: Some(TEXT.to_owned()),
            text_hash: Some(Hash::of(TEXT.as_bytes())),
            ids,
            sum_nll,
            n,
            tol_per_token: compare::NLL,
        }));
    }
    Ok(probes)
}

/// What is declared of one beginning: what is likeliest behind it, and how it goes on. `rows` are those of the beginning and the tokens
/// behind it; only as many tokens are declared as are the likeliest there.
fn declare(text: &str, ids: Vec<u32>, tokens: &[u32], rows: &[Row]) -> Result<Vec<Probe>, ProbesError> {
    let behind = ids.len().checked_sub(1).and_then(|last| rows.get(last..));
    let behind = behind.ok_or_else(no_number)?;
    let first = behind.first().ok_or_else(no_number)?;
    let mut probes = vec![Probe::Logits(Logits {
        text: Some(text.to_owned()),
        ids: ids.clone(),
        top: first.top.clone(),
        lse: f64::from(first.lse),
        tol_abs: compare::LOGITS,
    })];
    let likeliest = tokens.iter().zip(behind).map_while(|(token, row)| {
        let [(best, logit), (_, second), ..] = row.top[..] else {
            return None;
        };
        (best == *token).then(|| (best, f64::from(logit) - f64::from(second)))
    });
    let (tokens, margins): (Vec<u32>, Vec<f64>) = likeliest.unzip();
    if !tokens.is_empty() {
        probes.push(Probe::Greedy(Greedy {
            text: None,
            ids,
            n: tokens.len(),
            tokens,
            margins,
            tie: TIE,
        }));
    }
    Ok(probes)
}

fn no_number() -> ProbesError {
    ProbesError::Wrong("what the model computes is no number".to_owned())
}

fn told(progress: &Progress, done: usize, all: usize) {
    progress.note(Some(format!("{done} of {all} texts")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::compare::{Continued, continued};

    fn row(top: &[(u32, f32)], next: Option<f32>) -> Row {
        Row {
            top: top.to_vec(),
            lse: 9.5,
            next,
        }
    }

    #[test]
    fn what_is_declared_is_what_a_validation_finds() {
        let rows = [
            row(&[(1, 5.0), (2, 4.0)], Some(5.0)),
            row(&[(7, 5.0), (2, 4.5)], Some(5.0)),
            row(&[(8, 6.0), (2, 4.0)], Some(6.0)),
            row(&[(3, 6.0), (2, 4.0)], None),
        ];
        let probes = declare("text", vec![4, 5], &[7, 8], &rows).unwrap();
        let [Probe::Logits(logits), Probe::Greedy(greedy)] = &probes[..] else {
            panic!("{probes:?}");
        };
        assert_eq!(compare::logits(&rows[1], &logits.top, logits.lse), Some(0.0));
        assert_eq!(
            (greedy.tokens.as_slice(), greedy.margins.as_slice()),
            (&[7, 8][..], &[0.5, 2.0][..])
        );
        let judged = continued(&rows, &greedy.tokens, &greedy.margins, greedy.tie);
        assert_eq!(judged, Continued::Same { ties: 0 });
        assert!(Probes::new(None, None, "a test", probes).is_ok());
    }

    #[test]
    fn continuation_ends_where_a_token_is_not_the_likeliest() {
        let rows = [
            row(&[(7, 5.0), (2, 4.5)], Some(5.0)),
            row(&[(9, 6.0), (8, 4.0)], None),
        ];
        let probes = declare("text", vec![4], &[7, 8], &rows).unwrap();
        assert!(matches!(&probes[1], Probe::Greedy(greedy) if greedy.tokens == [7]));
        let alone = declare("text", vec![4], &[8], &rows).unwrap();
        assert_eq!(alone.len(), 1);
        assert!(declare("text", vec![4, 5, 6], &[8], &rows).is_err());
        assert!(
            declare("text", vec![4], &[8], &[row(&[(1, f32::NAN)], None)])
                .is_ok_and(|probes| { Probes::new(None, None, "a test", probes).is_err() })
        );
    }
}
