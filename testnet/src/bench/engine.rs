//! Models in the process that runs them: how soon they are loaded, how fast they answer, and how much memory they take.

use super::{meter::peak_of, say};
use anyhow::{Context, Result};
use clap::Args;
use node::{
    check::facts::Format,
    engine::{
        session::{Engine, EngineConfig},
        wire::{Bytes, Generate, Given, Input, Prompt, Task, Weights},
    },
    library::Library,
    progress::Progress,
    publish::PublishRequest,
    run::Ready,
};
use protocol::{Hash, RepoRef};
use std::{
    fs,
    hint::black_box,
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};
use testnet::report::{Cell, Spread, Table};
use tokio::runtime::Runtime;

/// What an encoder is given.
const SENTENCES: [&str; 8] = [
    "A cat sits on the mat.",
    "Who fetched this model, and from whom?",
    "Every piece is verified before it is kept.",
    "Der Zug nach München fährt um 8:15 Uhr ab.",
    "Water boils at 100 degrees Celsius at sea level.",
    "fn main() { println!(\"hello\"); }",
    "x",
    "The longer a sentence is, the longer it takes to embed it, though not by much, for most of them are short.",
];

/// What any other model goes on from.
const BEGINNING: &str = "Once upon a time, there was a small fish that wanted to see";

/// Tokens that it goes on for.
const TOKENS: usize = 64;

/// Memory beyond the weights that is allowed, in bytes, and what they may take of it themselves.
const BEYOND: f64 = 150.0 * 1024.0 * 1024.0;
const ROOM: f64 = 1.2;

#[derive(Args)]
pub(crate) struct Models {
    /// Folders of models.
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// How often each thing is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// One round with a model.
struct Round {
    load: f64,
    answer: f64,
    peak: u64,
    parameters: u64,
    task: Task,
}

impl Models {
    pub(super) fn run(&self) -> Result<Vec<Table>> {
        let columns = [
            "model",
            "load, s",
            "8 sentences, s",
            "tokens/s",
            "peak, MiB",
            "of its bound",
            "scan, GB/s",
            "without start",
            "without hashing",
        ];
        let mut table = Table::new("Models, in 32-bit floats", &columns);
        for folder in &self.folders {
            table.row(Runtime::new()?.block_on(self.measure(folder))?);
        }
        table.note(format!(
            "The bound: {ROOM} times the weights as 32-bit floats, and {} MiB. Scan: every number of the files, of cached data, \
             which are read and hashed meanwhile, on one core; then the best round but for what an empty file takes, and but for \
             what reading and hashing alone take.",
            BEYOND / 1024.0 / 1024.0
        ));
        Ok(vec![table])
    }

    async fn measure(&self, folder: &Path) -> Result<[Cell; 9]> {
        let data = tempfile::tempdir()?;
        let library = Library::open(data.path()).await?;
        let request =
            PublishRequest::new(fs::canonicalize(folder).with_context(|| folder.display().to_string())?);
        let published = library.publish(request, &Progress::default()).await?;
        let ready = library.ready(&RepoRef::Id(published.repo), None).await?;
        let of_weights = |file: &&Given| Format::of(&file.path).is_some();
        let weights: Vec<Given> = ready.files.iter().filter(of_weights).cloned().collect();
        let (mut rounds, mut scans) = (Vec::new(), Vec::new());
        let (mut empty, mut hashing) = (f64::INFINITY, f64::INFINITY);
        for round in 1..=self.rounds {
            say(format_args!("{}, round {round}", folder.display()));
            scans.push(scan(weights.clone()).await?);
            empty = empty.min(scan(vec![nothing()]).await?);
            hashing = hashing.min(hash(&weights)?);
            rounds.push(load_and_ask(&ready).await?);
        }
        library.close().await;
        let name = folder.file_name().unwrap_or(folder.as_os_str());
        let spread = |of: fn(&Round) -> f64| Spread::of(rounds.iter().map(of));
        let peak = rounds.iter().map(|round| round.peak).max().unwrap_or(0);
        let parameters = rounds.first().map_or(0, |round| round.parameters);
        let bound = parameters as f64 * 4.0 * ROOM + BEYOND;
        let gigabytes = weights.iter().map(|file| file.size).sum::<u64>() as f64 / 1e9;
        let scan = scans.iter().copied().fold(f64::INFINITY, f64::min);
        let answer = spread(|round| round.answer);
        let embeds = rounds.iter().any(|round| round.task == Task::Embed);
        let [sentences, tokens] = match embeds {
            true => [Cell::spread(answer, 3), Cell::none()],
            false => [Cell::none(), Cell::spread(answer, 1)],
        };
        Ok([
            Cell::text(name.to_string_lossy()),
            Cell::spread(spread(|round| round.load), 3),
            sentences,
            tokens,
            Cell::mib(peak),
            Cell::number(peak as f64 / bound, 2),
            Cell::spread(Spread::of(scans.iter().map(|seconds| gigabytes / seconds)), 2),
            Cell::number(gigabytes / (scan - empty), 2),
            Cell::number(gigabytes / (scan - empty - hashing), 2),
        ])
    }
}

/// Looks at every number, on one core; returns the seconds that it takes.
async fn scan(files: Vec<Given>) -> Result<f64> {
    let mut engine = Engine::start(&EngineConfig::default()).await?;
    let begun = Instant::now();
    engine.scan(files, |_| ()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    engine.end().await;
    Ok(seconds)
}

/// A file of weights without any.
fn nothing() -> Given {
    let bytes = b"\x02\0\0\0\0\0\0\0{}";
    Given {
        path: "nothing.safetensors".to_owned(),
        size: bytes.len() as u64,
        blake3: Hash::of(bytes),
        bytes: Bytes::Inline(data_encoding::BASE64.encode(bytes)),
    }
}

/// Reads and hashes the files as the engine does, on one core; returns the seconds that it takes.
fn hash(files: &[Given]) -> Result<f64> {
    let mut piece = vec![0; 1 << 20];
    let begun = Instant::now();
    for file in files {
        if let Bytes::At(path) = &file.bytes {
            let (mut source, mut hasher) = (fs::File::open(path)?, blake3::Hasher::new());
            while let len @ 1.. = source.read(&mut piece)? {
                hasher.update(&piece[..len]);
            }
            black_box(hasher.finalize());
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Loads the model and asks it: an encoder takes so many seconds, any other makes so many tokens a second.
async fn load_and_ask(ready: &Ready) -> Result<Round> {
    let begun = Instant::now();
    let mut engine = Engine::start(&EngineConfig::default()).await?;
    let loaded = engine.load(ready.files.clone(), Weights::F32, |_| ()).await?;
    let load = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let answer = match loaded.task {
        Task::Embed => {
            for sentence in SENTENCES {
                engine.embed(Input::Text(sentence.to_owned())).await?;
            }
            begun.elapsed().as_secs_f64()
        }
        Task::Generate => {
            let what = Generate {
                prompt: Prompt::Plain(Input::Text(BEGINNING.to_owned())),
                max_tokens: TOKENS,
                temperature: 0.0,
                top_p: None,
                seed: 0,
                stop: Vec::new(),
            };
            let generated = engine.generate(what, |_, _| ()).await?;
            generated.tokens as f64 / generated.tokens_s
        }
    };
    let peak = peak_of(&engine.id().to_string())?;
    engine.end().await;
    Ok(Round {
        load,
        answer,
        peak,
        parameters: loaded.parameters,
        task: loaded.task,
    })
}
