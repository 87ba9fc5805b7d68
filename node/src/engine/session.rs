//! The node's side of an engine: starts the child, asks it, and makes a typed error of whatever becomes of it. The child is killed
//! when it takes too long, says what makes no sense, or when nobody waits for its answer any more; and in any case when the
//! [`Engine`] is dropped.

mod error;
mod process;

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, timeout_at};

pub use error::EngineError;
use process::Process;

use super::{
    doors::Bounds,
    wire::{Ask, Doors, Generate, Generated, Given, Input, Loaded, Numbers, Row, Said, Weights},
};

/// Longest that loading or scanning may take, and that any other ask may: on a slow disk and processor, with the largest models.
pub const WALL: Duration = Duration::from_secs(2 * 60 * 60);

/// Processor time that an engine may use in its life: days of one processor. It ends what loops for ever unseen.
pub const CPU: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// How an engine is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The program, which runs the engine if its first argument is [`super::child::ARGUMENT`]. `None`: this one.
    pub program: Option<PathBuf>,
    /// Most bytes of memory it may take; `None`: what the system has.
    pub memory: Option<u64>,
    /// Most processor time it may use in its life, in whole seconds.
    pub cpu: Option<Duration>,
    /// Longest that it may take for one ask.
    pub wall: Duration,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            program: None,
            memory: None,
            cpu: Some(CPU),
            wall: WALL,
        }
    }
}

/// A child process with a model, or one that can be given a model. Dropping it ends it.
#[derive(Debug)]
pub struct Engine {
    process: Process,
    wall: Duration,
    doors: Option<Doors>,
    /// Whether an answer is still to come.
    asked: bool,
}

impl Engine {
    /// Starts the child.
    ///
    /// # Errors
    /// [`EngineError::Start`].
    pub async fn start(config: &EngineConfig) -> Result<Engine, EngineError> {
        let bounds = Bounds {
            memory: config.memory,
            // Less than a second would be none.
            cpu_s: config.cpu.map(|cpu| cpu.as_secs().max(1)),
        };
        Ok(Engine {
            process: Process::start(config.program.clone(), bounds).await?,
            wall: config.wall,
            doors: None,
            asked: false,
        })
    }

    /// Which doors the child has closed; `None` before it was given a model.
    pub fn doors(&self) -> Option<&Doors> {
        self.doors.as_ref()
    }

    /// Whether it can still be asked.
    pub fn is_alive(&self) -> bool {
        !self.asked && !self.process.has_ended()
    }

    /// Ends it, and returns when it is gone and its memory is free.
    pub async fn end(mut self) {
        self.process.kill();
        self.process.end().await;
    }

    /// Loads a model; `read` hears how many bytes of it have been read.
    ///
    /// # Errors
    /// Every variant of [`EngineError`]. The engine is of no use then.
    pub async fn load(
        &mut self,
        files: Vec<Given>,
        weights: Weights,
        read: impl FnMut(u64) + Send,
    ) -> Result<Loaded, EngineError> {
        let loaded = self.first(Ask::Load { files, weights }, read, |said| match said {
            Said::Loaded(loaded) => Ok(loaded),
            other => Err(other),
        });
        let mut loaded = loaded.await?;
        loaded.open = self.open();
        Ok(loaded)
    }

    /// The number of its process, for who watches what it takes.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The doors of the child that this system cannot close, in words.
    pub fn open(&self) -> Vec<String> {
        self.doors
            .iter()
            .flat_map(|doors| doors.missing.clone())
            .collect()
    }

    /// Looks at all numbers of a model; `read` hears how many bytes have been looked at.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn scan(
        &mut self,
        files: Vec<Given>,
        read: impl FnMut(u64) + Send,
    ) -> Result<Vec<Numbers>, EngineError> {
        self.first(Ask::Scan { files }, read, |said| match said {
            Said::Scanned(numbers) => Ok(numbers),
            other => Err(other),
        })
        .await
    }

    /// Returns the tokens of a text.
    ///
    /// # Errors
    /// Every variant of [`EngineError`]; after a [`EngineError::Fault`] the engine can be asked again.
    pub async fn tokens(&mut self, text: &str, special: bool) -> Result<Vec<u32>, EngineError> {
        let text = text.to_owned();
        self.ask(Ask::Tokens { text, special }, |said| match said {
            Said::Tokens(ids) => Step::Done(ids),
            other => Step::Other(other),
        })
        .await
    }

    /// Returns the embedding of a text, and the tokens it was made of.
    ///
    /// # Errors
    /// As [`Engine::tokens`].
    pub async fn embed(&mut self, input: Input) -> Result<(Vec<f32>, Vec<u32>), EngineError> {
        self.ask(Ask::Embed { input }, |said| match said {
            Said::Embedding { values, ids } if values.iter().all(|value| value.is_finite()) => {
                Step::Done((values, ids))
            }
            other => Step::Other(other),
        })
        .await
    }

    /// Returns what the model expects at each position of some tokens, and the digest of all logits.
    ///
    /// # Errors
    /// As [`Engine::tokens`].
    pub async fn logits(
        &mut self,
        ids: Vec<u32>,
        top: usize,
    ) -> Result<(Vec<Row>, protocol::Hash), EngineError> {
        let wanted = ids.len();
        self.ask(Ask::Logits { ids, top }, |said| match said {
            Said::Logits { rows, digest } if rows.len() == wanted => Step::Done((rows, digest)),
            other => Step::Other(other),
        })
        .await
    }

    /// Generates; `heard` hears each piece of text and its tokens as it comes.
    ///
    /// # Errors
    /// As [`Engine::tokens`].
    pub async fn generate(
        &mut self,
        what: Generate,
        mut heard: impl FnMut(String, Vec<u32>) + Send,
    ) -> Result<Generated, EngineError> {
        let mut left = what.max_tokens;
        self.ask(Ask::Generate(what), |said| match said {
            Said::Text { text, ids } if ids.len() <= left => {
                left -= ids.len();
                heard(text, ids);
                Step::More
            }
            Said::Generated(generated) => Step::Done(generated),
            other => Step::Other(other),
        })
        .await
    }

    /// The first ask, which closes the doors on the way.
    async fn first<T>(
        &mut self,
        ask: Ask,
        mut read: impl FnMut(u64) + Send,
        mut last: impl FnMut(Said) -> Result<T, Said> + Send,
    ) -> Result<T, EngineError> {
        let mut closed = None;
        let answer = self.ask(ask, |said| match said {
            Said::Closed(doors) if closed.is_none() => {
                closed = Some(doors);
                Step::More
            }
            Said::Read { bytes } if closed.is_some() => {
                read(bytes);
                Step::More
            }
            said if closed.is_some() => last(said).map_or_else(Step::Other, Step::Done),
            said => Step::Other(said),
        });
        let answer = answer.await;
        self.doors = closed;
        if let Some(open) = self.doors.as_ref().filter(|doors| !doors.missing.is_empty()) {
            tracing::warn!(missing = ?open.missing, "a model runs in a process that is not quite shut in");
        }
        answer
    }

    /// Asks, and hears answers until `step` has what it wants.
    async fn ask<T>(&mut self, ask: Ask, step: impl FnMut(Said) -> Step<T> + Send) -> Result<T, EngineError> {
        if self.asked {
            // Whoever asked before went away in the middle of the answer.
            self.process.kill();
            return Err(EngineError::Cancelled);
        }
        self.asked = true;
        let deadline = Instant::now() + self.wall;
        let mut asking = Asking {
            process: &mut self.process,
            over: false,
        };
        let answer = timeout_at(deadline, asking.hear(&ask, step)).await;
        asking.over = true;
        drop(asking);
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Trouble::Fault(fault))) => Err(EngineError::Fault(fault)),
            Ok(Err(Trouble::Nonsense(what))) => {
                self.process.kill();
                self.process.end().await;
                return Err(EngineError::Nonsense { what });
            }
            Ok(Err(Trouble::Ended)) => return Err(self.process.why_ended().await),
            Err(_) => {
                self.process.kill();
                self.process.end().await;
                return Err(EngineError::Wall { limit: self.wall });
            }
        };
        self.asked = false;
        answer
    }
}

/// What an answer means to who waits for it.
enum Step<T> {
    /// It is the last one.
    Done(T),
    /// There is more to come.
    More,
    /// It is none that was waited for.
    Other(Said),
}

/// Why an answer does not come.
enum Trouble {
    Fault(super::wire::Fault),
    Nonsense(String),
    Ended,
}

/// An ask under way: who goes away in the middle of it ends the child.
struct Asking<'a> {
    process: &'a mut Process,
    over: bool,
}

impl Asking<'_> {
    async fn hear<T>(
        &mut self,
        ask: &Ask,
        mut step: impl FnMut(Said) -> Step<T> + Send,
    ) -> Result<T, Trouble> {
        // A child that ended does not listen: why is asked later.
        let heard = self.process.say(ask).await;
        heard.map_err(|process::Ended| Trouble::Ended)?;
        loop {
            let said = match self.process.hear().await {
                Ok(Some(said)) => said,
                Ok(None) => return Err(Trouble::Ended),
                Err(what) => return Err(Trouble::Nonsense(what)),
            };
            match step(said) {
                Step::Done(answer) => return Ok(answer),
                Step::More => {}
                Step::Other(Said::Failed(fault)) => return Err(Trouble::Fault(fault)),
                Step::Other(other) => return Err(Trouble::Nonsense(kind(&other).to_owned())),
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.process.kill();
        }
    }
}

/// What kind of answer came at the wrong time, or with the wrong content.
fn kind(said: &Said) -> &'static str {
    match said {
        Said::Closed(_) => "an answer about its doors that nobody waited for",
        Said::Read { .. } => "progress that nobody waited for",
        Said::Loaded(_) => "a loaded model that nobody waited for",
        Said::Scanned(_) => "a scan that nobody waited for",
        Said::Tokens(_) => "tokens that nobody waited for",
        Said::Embedding { .. } => "an embedding that nobody waited for, or one that is no numbers",
        Said::Text { .. } => "more text than was asked for",
        Said::Generated(_) => "the end of a text that nobody waited for",
        Said::Logits { .. } => "logits for other positions than were asked for",
        Said::Failed(_) => "a failure that nobody waited for",
    }
}
