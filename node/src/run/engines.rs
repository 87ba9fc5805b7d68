//! Loaded models, kept for who asks next: so many at most, each for a while after it was last used. Who wants one waits for its
//! turn, in order; one model is not loaded twice.

use std::{
    collections::{HashMap, VecDeque},
    ops::{Deref, DerefMut},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use protocol::{Hash, RepoRef};
use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{RunError, RunOptions};
use crate::{
    engine::{
        session::Engine,
        wire::{Loaded, Weights},
    },
    library::Library,
    progress::Progress,
};

/// How engines are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnginesConfig {
    /// Models in memory at once, at most; at least 1.
    pub kept: usize,
    /// How long one is kept after it was last used.
    pub idle: Duration,
    /// Most memory that one may take, in bytes; `None`: what is free when it is loaded.
    pub memory: Option<u64>,
    /// The program that runs them; `None`: this one.
    pub program: Option<PathBuf>,
}

impl Default for EnginesConfig {
    fn default() -> EnginesConfig {
        EnginesConfig {
            kept: 1,
            idle: Duration::from_secs(5 * 60),
            memory: None,
            program: None,
        }
    }
}

/// Requests that wait for an engine, or have one, at most. Each may hold a body of a megabyte and a connection.
const WAITING_MAX: usize = 64;

/// How long engines that are ended for want of memory may take to give it back.
const FREED_WAIT: Duration = Duration::from_secs(5);

/// The engines of a node. A cheap handle.
#[derive(Clone)]
pub struct Engines(Arc<Inner>);

struct Inner {
    config: EnginesConfig,
    /// Who waits, or has one.
    waiting: Arc<Semaphore>,
    /// Who has one.
    turns: Arc<Semaphore>,
    /// One model is loaded by one at a time.
    models: Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>,
    /// Nobody has these, the one that was used last at the end.
    idle: Mutex<VecDeque<Idle>>,
}

/// What makes two engines the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    manifest: Hash,
    file: Option<String>,
    memory: Option<u64>,
    stored: bool,
}

struct Idle {
    key: Key,
    engine: Engine,
    loaded: Loaded,
    since: Instant,
}

/// An engine with a model, which is one's own until this is dropped.
pub struct Held {
    engine: Option<Engine>,
    loaded: Loaded,
    key: Key,
    engines: Engines,
    /// After the engine is back: fields are dropped in their order.
    _turn: OwnedSemaphorePermit,
    _model: OwnedMutexGuard<()>,
    _waiting: OwnedSemaphorePermit,
}

impl Engines {
    /// No engine yet.
    pub fn new(config: EnginesConfig) -> Engines {
        Engines(Arc::new(Inner {
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            turns: Arc::new(Semaphore::new(config.kept.max(1))),
            models: Mutex::default(),
            idle: Mutex::default(),
            config,
        }))
    }

    /// Waits for a turn, and returns an engine with the model of a repo: one that is kept, or one that is started. How weights are
    /// kept and which program is run is said in the options, or else in the config.
    ///
    /// # Errors
    /// Every variant of [`RunError`].
    pub async fn get(
        &self,
        library: &Library,
        what: &RepoRef,
        mut options: RunOptions,
        progress: &Progress,
    ) -> Result<Held, RunError> {
        library.refuse_denied(what)?;
        let busy = |_| RunError::Busy { waiting: WAITING_MAX };
        let waiting = self.0.waiting.clone().try_acquire_owned().map_err(busy)?;
        options.memory = options.memory.or(self.0.config.memory);
        options.program = options.program.or_else(|| self.0.config.program.clone());
        let key = Key {
            manifest: library.resolve_local(what)?,
            file: options.file.clone(),
            memory: options.memory,
            stored: options.weights == Some(Weights::Stored),
        };
        let model = self.model(&key).lock_owned().await;
        let turn = self.0.turns.clone().acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let held = |engine, loaded| Held {
            engine: Some(engine),
            loaded,
            key: key.clone(),
            engines: self.clone(),
            _turn: turn,
            _model: model,
            _waiting: waiting,
        };
        if let Some(Idle { engine, loaded, .. }) = self.take(&key) {
            return Ok(held(engine, loaded));
        }
        let ready = library.ready(what, options.file.as_deref()).await?;
        self.make_room();
        let loaded = match library.load(&ready, &options, progress).await {
            Err(RunError::Memory { .. }) if self.end_idle().await => {
                library.load(&ready, &options, progress).await
            }
            outcome => outcome,
        };
        let (engine, loaded) = loaded?;
        Ok(held(engine, loaded))
    }

    /// Ends all that nobody has.
    pub fn clear(&self) {
        self.idle().clear();
    }

    /// Ends those with a model of this manifest that nobody has.
    pub(crate) fn forget(&self, manifest: Hash) {
        self.idle().retain(|one| one.key.manifest != manifest);
    }

    /// The turn of who works with one model.
    fn model(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut models = self.0.models.lock().expect("nothing panics while it holds this");
        models.retain(|_, model| model.strong_count() > 0);
        let known = models.get(key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let model = Arc::default();
            models.insert(key.clone(), Arc::downgrade(&model));
            model
        })
    }

    /// Takes the engine that has this model, if it still lives.
    fn take(&self, key: &Key) -> Option<Idle> {
        let mut idle = self.idle();
        idle.retain(|one| one.engine.is_alive());
        let at = idle.iter().position(|one| one.key == *key)?;
        idle.remove(at)
    }

    /// Ends those that are used least, so that there is room for one more: who asks has a turn already.
    fn make_room(&self) {
        let mut idle = self.idle();
        let held = self.0.config.kept.max(1) - self.0.turns.available_permits();
        let may_stay = self.0.config.kept.max(1).saturating_sub(held);
        let over = idle.len().saturating_sub(may_stay);
        idle.drain(..over);
    }

    /// Ends all that nobody has, and waits until their memory is free; `false`: there are none.
    async fn end_idle(&self) -> bool {
        let ended = std::mem::take(&mut *self.idle());
        let any = !ended.is_empty();
        let all = async {
            for one in ended {
                one.engine.end().await;
            }
        };
        // Those that take longer are being killed.
        let _ = tokio::time::timeout(FREED_WAIT, all).await;
        any
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.0.idle.lock().expect("nothing panics while it holds this")
    }

    /// Keeps an engine that is not used any more, for a while.
    fn keep(&self, key: Key, engine: Engine, loaded: Loaded) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        self.idle().push_back(Idle {
            key,
            engine,
            loaded,
            since: Instant::now(),
        });
        let (inner, after) = (Arc::downgrade(&self.0), self.0.config.idle);
        runtime.spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(inner) = inner.upgrade() {
                Engines(inner).end_unused();
            }
        });
    }

    fn end_unused(&self) {
        let after = self.0.config.idle;
        self.idle().retain(|one| one.since.elapsed() < after);
    }
}

impl Held {
    /// What the model is.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }
}

impl Deref for Held {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        self.engine.as_ref().expect("it is there until the end")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("it is there until the end")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take().filter(Engine::is_alive) {
            self.engines.keep(self.key.clone(), engine, self.loaded.clone());
        }
    }
}
