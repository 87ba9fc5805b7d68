//! Running: a repo's model is loaded into an engine, a child process, from the files that are here. Which files those are is
//! [`Picked`]'s to say; how much memory they need, `needs`'s; and [`Engines`] keeps what was loaded for who comes next.

mod engines;
mod error;
mod folder;
mod needs;
mod pick;
mod talk;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
};

use data_encoding::BASE64;
use protocol::{FileEntry, Hash, Manifest, RepoRef};
use tokio::task::spawn_blocking;

pub use engines::{Engines, EnginesConfig, Held};
pub use error::RunError;
pub(crate) use folder::ready_in;
pub use needs::{Room, available};
pub use pick::Picked;
pub use talk::{Answer, Talk, talk};

use crate::{
    check::{TensorInfo, gguf, safetensors},
    engine::{
        session::{Engine, EngineConfig},
        wire::{Bytes, Given, Loaded, Weights},
    },
    library::{Library, LibraryError},
    progress::{Phase, Progress},
    store::{Blob, Lies, StoreError},
};

/// How a model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Which file is the model, in a repo that has several.
    pub file: Option<String>,
    /// Most memory that the engine may take, in bytes; `None`: what is free.
    pub memory: Option<u64>,
    /// How weights are kept; `None`: as 32 bits floats where there is room for them.
    pub weights: Option<Weights>,
    /// The program that runs engines; `None`: this one.
    pub program: Option<PathBuf>,
}

/// A model that is here, and can be loaded.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What it is called.
    pub what: RepoRef,
    /// The manifest that it is of.
    pub manifest: Hash,
    /// Its files.
    pub files: Vec<Given>,
    /// Its tensors, as its files' headers say.
    tensors: Vec<TensorInfo>,
}

impl Ready {
    /// The bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Its tensors, as its files' headers say.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }
}

impl Library {
    /// Finds the model that a repo holds: its files, all of which must be here.
    ///
    /// # Errors
    /// Those of [`RunError`] that need no engine.
    pub async fn ready(&self, what: &RepoRef, file: Option<&str>) -> Result<Ready, RunError> {
        self.refuse_denied(what)?;
        let manifest = self.resolve_local(what)?;
        let content = self.known_manifest(what, manifest).await?;
        let picked = Picked::of(&content, file)?;
        self.must_be_here(what, &content, &picked).await?;
        let mut files = Vec::new();
        for file in picked.files() {
            files.push(self.given(file).await?);
        }
        let weights: Vec<FileEntry> = picked.weights.into_iter().cloned().collect();
        let mut tensors = Vec::new();
        for file in weights {
            let blob = self.store().blob(file.blake3).await.map_err(LibraryError::from)?;
            let read = spawn_blocking(move || header(&file, blob)).await;
            // Whoever reads stops with the store.
            tensors.append(&mut read.map_err(|_| LibraryError::from(StoreError::Closed))??);
        }
        Ok(Ready {
            what: what.clone(),
            manifest,
            files,
            tensors,
        })
    }

    /// Loads a model.
    ///
    /// # Errors
    /// [`RunError::Memory`], [`RunError::Engine`].
    pub async fn load(
        &self,
        ready: &Ready,
        options: &RunOptions,
        progress: &Progress,
    ) -> Result<(Engine, Loaded), RunError> {
        load(ready, options, progress).await
    }

    /// All files that the engine needs are here whole, by what the file system says: it hashes them itself.
    async fn must_be_here(
        &self,
        what: &RepoRef,
        manifest: &Manifest,
        picked: &Picked<'_>,
    ) -> Result<(), RunError> {
        let missing = self.missing(manifest).await.map_err(LibraryError::from)?;
        let missing: HashSet<Hash> = missing.into_iter().map(|(hash, _)| hash).collect();
        let absent = picked.files().filter(|file| missing.contains(&file.blake3));
        let absent: Vec<String> = absent.map(|file| file.path.as_str().to_owned()).collect();
        match absent.is_empty() {
            true => Ok(()),
            false => Err(RunError::Missing {
                what: what.clone(),
                files: absent,
            }),
        }
    }

    /// Where the engine finds a file.
    pub(crate) async fn given(&self, file: &FileEntry) -> Result<Given, RunError> {
        let lies = self.store().lies(file.blake3).map_err(LibraryError::from)?;
        let bytes = match lies {
            Some(Lies::Owned(path) | Lies::Reference(path, _)) => Bytes::At(path),
            None => match self.store().blob(file.blake3).await {
                Ok(Blob::Memory(bytes)) => Bytes::Inline(BASE64.encode(&bytes)),
                Ok(Blob::File(_, path)) => Bytes::At(path),
                Ok(Blob::Growing(_)) => {
                    return Err(LibraryError::from(StoreError::Missing(file.blake3)).into());
                }
                Err(error) => return Err(LibraryError::from(error).into()),
            },
        };
        Ok(Given {
            path: file.path.as_str().to_owned(),
            size: file.size,
            blake3: file.blake3,
            bytes,
        })
    }
}

/// Loads a model into an engine of its own.
pub(crate) async fn load(
    ready: &Ready,
    options: &RunOptions,
    progress: &Progress,
) -> Result<(Engine, Loaded), RunError> {
    let room = match options.memory {
        Some(bytes) => Room::Given(bytes),
        None => available(),
    };
    let plan = needs::plan(&ready.tensors, options.weights, room)?;
    let config = EngineConfig {
        program: options.program.clone(),
        memory: plan.limit,
        ..EngineConfig::default()
    };
    progress.phase(Phase::Loading, ready.bytes(), 0);
    let mut engine = Engine::start(&config).await?;
    let mut seen = 0;
    let read = |bytes: u64| {
        progress.add(bytes.saturating_sub(seen), 0);
        seen = seen.max(bytes);
    };
    let loaded = engine.load(ready.files.clone(), plan.weights, read).await?;
    Ok((engine, loaded))
}

/// Reads the tensors of a file of weights from its header. Blocking. What it says decides how much memory is set aside, and no more:
/// the engine reads it again, and believes it only once the bytes are the right ones.
fn header(file: &FileEntry, blob: Blob) -> Result<Vec<TensorInfo>, RunError> {
    match blob {
        Blob::Memory(bytes) => header_in(file, Ok(bytes.as_ref())),
        Blob::File(_, at) => header_in(file, File::open(at)),
        Blob::Growing(_) => Err(LibraryError::from(StoreError::Missing(file.blake3)).into()),
    }
}

/// Reads the header of a file that was opened.
fn header_in(file: &FileEntry, opened: io::Result<impl Read>) -> Result<Vec<TensorInfo>, RunError> {
    let path = file.path.as_str();
    let wrong = |source| RunError::Header {
        path: path.to_owned(),
        source,
    };
    let mut source = BufReader::new(opened.map_err(|error| wrong(error.into()))?);
    let tensors = match path.ends_with(".gguf") {
        true => gguf::read(&mut source, file.size).map(|header| header.tensors),
        false => safetensors::read(&mut source, file.size).map(|header| header.tensors),
    };
    tensors.map_err(wrong)
}
