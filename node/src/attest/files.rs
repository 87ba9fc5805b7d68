//! Attestations on disk: one file for each model and key.
//!
//! ```text
//! attestations/MANIFEST/KEY.attestation
//! ```
//! The files are the truth; what is in memory is only which there are. Of two of one key the one issued later stays. A file that does not read counts as
//! none, and the next one takes its place.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::{
    Hash, Publisher, SignedAttestation,
    limits::{ATTESTATION_LEN_MAX, CLOCK_SKEW_MAX},
};
use tracing::warn;

use super::{Valued, Worth};
use crate::durable;

/// Attestations of one model by keys that are not followed: they are shown as a number, and nothing more.
pub(crate) const OTHERS_MAX: usize = 16;

/// Attestations of one model by keys that are followed: more than anybody compares.
const FOLLOWED_MAX: usize = 512;

/// Models of which one key that is not followed may have attestations here.
const PER_OTHER_MAX: usize = 256;

/// Models of which one key that is followed may have attestations here.
const PER_FOLLOWED_MAX: usize = 8192;

/// Attestations in all: 64 MiB of the disk.
const ALL_MAX: usize = 16_384;

/// Models of which we remember when peers were last asked.
const ASKED_MAX: usize = 1024;

const ENDING: &str = ".attestation";

/// The attestations that we have. A handle: clone it freely.
#[derive(Clone, Debug)]
pub struct Attestations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    index: Mutex<Index>,
}

/// Which there are.
#[derive(Debug, Default)]
struct Index {
    models: BTreeMap<Hash, BTreeSet<Publisher>>,
    asked: HashMap<Hash, Instant>,
}

/// What became of an attestation that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept now, in place of an older one if there was one.
    New,
    /// It, or a later one of its key, is kept already.
    Known,
}

/// Why an attestation is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// We know nothing of its model.
    #[error("the attestation is about {0}, which is not here")]
    UnknownManifest(Hash),
    /// It was issued in the future: one of two clocks is wrong.
    #[error("the attestation of {by} was issued at {issued}, which is in the future")]
    NotYetIssued {
        /// Whose it is.
        by: Publisher,
        /// When it says it was issued, in Unix seconds.
        issued: u64,
    },
    /// There are as many as there may be.
    #[error("there are {max} attestations {of} already")]
    Crowded {
        /// As many as there may be.
        max: usize,
        /// Which.
        of: &'static str,
    },
    /// There is no room on the disk.
    #[error("no room for an attestation at {path}", path = path.display())]
    StorageFull {
        /// What was to be written.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path} cannot be used", path = path.display())]
    Io {
        /// What was to be read or written.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl Attestations {
    /// Takes charge of `data/attestations`, and removes what a crash left half-written there. Blocking.
    ///
    /// # Errors
    /// [`KeepError::Io`] and [`KeepError::StorageFull`].
    pub fn open(data: &Path) -> Result<Attestations, KeepError> {
        let folder = data.join("attestations");
        durable::create_folders(&folder).map_err(|source| io_error(&folder, source))?;
        let mut models: BTreeMap<Hash, BTreeSet<Publisher>> = BTreeMap::new();
        for name in list(&folder)? {
            let Ok(manifest) = name.parse() else { continue };
            let below = folder.join(&name);
            durable::sweep_unfinished(&below).map_err(|source| io_error(&below, source))?;
            let keys = list(&below)?;
            let keys: BTreeSet<Publisher> = keys
                .iter()
                .filter_map(|name| name.strip_suffix(ENDING)?.parse().ok())
                .collect();
            if !keys.is_empty() {
                models.insert(manifest, keys);
            }
        }
        let index = Index {
            models,
            asked: HashMap::new(),
        };
        Ok(Attestations(Arc::new(Inner {
            folder,
            index: Mutex::new(index),
        })))
    }

    /// Keeps an attestation, if it is newer than what its key said before and there is room for it; durable on [`Kept::New`]. `now` is
    /// in Unix seconds. Blocking.
    ///
    /// # Errors
    /// Every [`KeepError`] but `UnknownManifest`.
    pub(crate) fn keep(
        &self,
        offered: &SignedAttestation,
        valued: &Valued,
        now: u64,
    ) -> Result<Kept, KeepError> {
        let attestation = offered.attestation();
        let (manifest, by, issued) = (attestation.manifest, attestation.by, attestation.issued);
        if issued > now.saturating_add(CLOCK_SKEW_MAX) {
            return Err(KeepError::NotYetIssued { by, issued });
        }
        // Held while it is written: two of one key are not kept at once.
        let mut index = self.lock();
        if let Some(kept) = self.0.read(manifest, by)?
            && kept.attestation().issued >= issued
        {
            return Ok(Kept::Known);
        }
        let there = index.models.get(&manifest).is_some_and(|keys| keys.contains(&by));
        if !there {
            self.make_room(&mut index, manifest, by, valued)?;
        }
        let path = self.0.file(manifest, by);
        let written = durable::create_folders(durable::folder_of(&path))
            .and_then(|()| durable::write_atomic(&path, offered.encode()));
        written.map_err(|source| io_error(&path, source))?;
        index.models.entry(manifest).or_default().insert(by);
        Ok(Kept::New)
    }

    /// Refuses what goes over a bound, or lets one go that is worth less.
    fn make_room(
        &self,
        index: &mut Index,
        manifest: Hash,
        by: Publisher,
        valued: &Valued,
    ) -> Result<(), KeepError> {
        let worth = valued.worth(by);
        let (per_model, per_key) = match worth {
            Worth::Own => return Ok(()),
            Worth::Followed => (FOLLOWED_MAX, PER_FOLLOWED_MAX),
            Worth::Other => (OTHERS_MAX, PER_OTHER_MAX),
        };
        let alike = |key: &&Publisher| valued.worth(**key) == worth;
        let of_model = index
            .models
            .get(&manifest)
            .map_or(0, |keys| keys.iter().filter(alike).count());
        let crowded = |max, of| Err(KeepError::Crowded { max, of });
        if of_model >= per_model {
            return crowded(per_model, "of the model by such keys");
        }
        let of_key = index.models.values().filter(|keys| keys.contains(&by)).count();
        if of_key >= per_key {
            return crowded(per_key, "by the key");
        }
        let all: usize = index.models.values().map(BTreeSet::len).sum();
        if all < ALL_MAX {
            return Ok(());
        }
        let other = |(manifest, keys): (&Hash, &BTreeSet<Publisher>)| {
            let key = keys.iter().find(|key| valued.worth(**key) == Worth::Other)?;
            Some((*manifest, *key))
        };
        match index.models.iter().find_map(other) {
            Some((manifest, key)) if worth > Worth::Other => self.drop_one(index, manifest, key),
            _ => crowded(ALL_MAX, "in all"),
        }
    }

    fn drop_one(&self, index: &mut Index, manifest: Hash, key: Publisher) -> Result<(), KeepError> {
        let path = self.0.file(manifest, key);
        durable::remove(&path).map_err(|source| io_error(&path, source))?;
        if let Some(keys) = index.models.get_mut(&manifest) {
            keys.remove(&key);
            if keys.is_empty() {
                index.models.remove(&manifest);
            }
        }
        Ok(())
    }

    /// The attestations of a model: our own, those of keys that are followed, the others; of each the latest first. Those that do not read are
    /// left out. Blocking.
    ///
    /// # Errors
    /// [`KeepError::Io`].
    pub(crate) fn of(&self, manifest: Hash, valued: &Valued) -> Result<Vec<SignedAttestation>, KeepError> {
        let keys = self.lock().models.get(&manifest).cloned().unwrap_or_default();
        let mut all = Vec::new();
        for key in keys {
            all.extend(self.0.read(manifest, key)?);
        }
        all.sort_by_key(|signed| {
            let attestation = signed.attestation();
            Reverse((valued.worth(attestation.by), attestation.issued, attestation.by))
        });
        Ok(all)
    }

    /// The models of which there are any.
    pub(crate) fn manifests(&self) -> Vec<Hash> {
        self.lock().models.keys().copied().collect()
    }

    /// Tells whether peers should be asked about a model now, and notes that they are; not again within `pause`.
    pub(crate) fn ask_now(&self, manifest: Hash, pause: Duration, now: Instant) -> bool {
        let asked = &mut self.lock().asked;
        if asked
            .get(&manifest)
            .is_some_and(|at| now.saturating_duration_since(*at) < pause)
        {
            return false;
        }
        if asked.len() >= ASKED_MAX {
            asked.retain(|_, at| now.saturating_duration_since(*at) < pause);
        }
        if asked.len() < ASKED_MAX {
            asked.insert(manifest, now);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn file(&self, manifest: Hash, by: Publisher) -> PathBuf {
        self.folder
            .join(manifest.to_string())
            .join(format!("{by}{ENDING}"))
    }

    /// Reads one; `None`: it is not there, or is no attestation of that model by that key.
    fn read(&self, manifest: Hash, by: Publisher) -> Result<Option<SignedAttestation>, KeepError> {
        let path = self.file(manifest, by);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| io_error(&path, source))?,
        };
        let mut bytes = Vec::new();
        let read = file.take(ATTESTATION_LEN_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| io_error(&path, source))?;
        match SignedAttestation::decode(&bytes) {
            Ok(signed) if (signed.attestation().manifest, signed.attestation().by) == (manifest, by) => {
                Ok(Some(signed))
            }
            Ok(_) => {
                warn!(path = %path.display(), "an attestation is not about what its name says");
                Ok(None)
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "an attestation does not read");
                Ok(None)
            }
        }
    }
}

/// The UTF-8 names in a folder; none if it is no folder.
fn list(folder: &Path) -> Result<Vec<String>, KeepError> {
    let read = || -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Vec::new());
            }
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    };
    read().map_err(|source| io_error(folder, source))
}

fn io_error(path: &Path, source: io::Error) -> KeepError {
    let path = path.to_owned();
    match durable::is_full(&source) {
        true => KeepError::StorageFull { path },
        false => KeepError::Io { path, source },
    }
}

#[cfg(test)]
mod tests;
