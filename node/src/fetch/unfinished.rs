//! Fetches that have not ended, one small file each in `DATA/unfinished/`: a node that starts again goes on with them.

use super::{FetchRequest, FetchWhat, HubCache, Sought};
use crate::{
    durable,
    node::Node,
    progress::Progress,
    store::{StoreError, blocking},
};
use protocol::{Hash, RepoId, RepoRef};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::warn;

/// Largest such file, in bytes: a few hundred globs.
const LEN_MAX: u64 = 64 * 1024;

/// How long a fetch waits that waits for ever.
const FOR_EVER: Duration = Duration::MAX;

/// What a fetch needs to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unfinished {
    /// The manifest.
    pub(crate) manifest: Hash,
    /// Its name, where it was asked for by one.
    pub(crate) repo: Option<RepoId>,
    /// A folder to hand the files out to.
    pub(crate) to: Option<PathBuf>,
    /// Only files that match one of these globs.
    pub(crate) include: Vec<String>,
    /// No files that match one of these globs.
    pub(crate) exclude: Vec<String>,
    /// Whether files that can run code come too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_code: bool,
    /// Whether the user paused it.
    pub(crate) paused: bool,
    /// A cache of the Hub's clients to hand the files out to.
    #[serde(default)]
    pub(crate) hf_cache: Option<PathBuf>,
    /// What the repo is called there.
    #[serde(default)]
    pub(crate) hf_name: Option<String>,
    /// How long to wait for a provider while nothing comes; `None`: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wait: Option<Duration>,
}

impl Node {
    /// Goes on, in the background, with the fetches that had not ended when the node stopped; returns how many.
    pub async fn resume_jobs(&self) -> usize {
        let data = self.library().data().to_owned();
        let all = blocking(move || Unfinished::all(&data)).await;
        let all = all.unwrap_or_else(|error| {
            warn!(%error, "unfinished fetches cannot be listed");
            Vec::new()
        });
        let count = all.len();
        for unfinished in all {
            let node = self.clone();
            self.task(async move {
                let (manifest, repo) = (unfinished.manifest, unfinished.repo.clone());
                let sought = Sought {
                    manifest,
                    repo,
                    known: Vec::new(),
                    paused: unfinished.paused,
                };
                let request = unfinished.request();
                let fetched = node.fetch_sought(sought, request, &Progress::channel().0).await;
                if let Err(error) = fetched {
                    warn!(manifest = %manifest.short(), error = &error as &dyn std::error::Error, "an unfinished fetch ended");
                }
            });
        }
        count
    }
}

/// The file of a fetch that is under way. It stays when this is only dropped: the fetch did not end.
pub(crate) struct Kept(PathBuf);

impl Unfinished {
    /// What a request needs to go on.
    pub(super) fn new(sought: &Sought, request: &FetchRequest) -> Unfinished {
        Unfinished {
            manifest: sought.manifest,
            repo: sought.repo.clone(),
            to: request.to.clone(),
            include: request.include.clone(),
            exclude: request.exclude.clone(),
            allow_code: request.allow_code,
            paused: sought.paused,
            hf_cache: request.hf_cache.as_ref().map(|cache| cache.folder.clone()),
            hf_name: request
                .hf_cache
                .as_ref()
                .and_then(|cache| Some(cache.name.as_ref()?.to_string())),
            wait: request.wait.filter(|wait| *wait != FOR_EVER),
        }
    }

    /// The request to go on with: for the manifest it meant when it was made, whatever its name means now. Who did not say how
    /// long to wait is not there any more to try again, so it is waited for for ever, also for the manifest.
    fn request(&self) -> FetchRequest {
        let what = match &self.repo {
            Some(repo) => RepoRef::Id(repo.clone()),
            None => RepoRef::Content(self.manifest),
        };
        FetchRequest {
            to: self.to.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            allow_code: self.allow_code,
            wait: Some(self.wait.unwrap_or(FOR_EVER)),
            hf_cache: self.hf_cache.clone().map(|folder| HubCache {
                folder,
                name: self.hf_name.as_ref().and_then(|name| name.parse().ok()),
            }),
            ..FetchRequest::new(FetchWhat::Repo(what))
        }
    }

    /// Writes it down; durable when it returns. The same fetch twice has one file. Blocking.
    pub(crate) fn keep(&self, data: &Path) -> Result<Kept, StoreError> {
        let write = || {
            let path = self.path(data)?;
            durable::create_folders(&folder(data))?;
            durable::write_atomic(&path, &json(self)?)?;
            Ok(Kept(path))
        };
        write().map_err(StoreError::io(&folder(data)))
    }

    /// The file it has, paused or not.
    fn path(&self, data: &Path) -> io::Result<PathBuf> {
        let unpaused = Unfinished {
            paused: false,
            ..self.clone()
        };
        let same = Hash::of(&json(&unpaused)?);
        Ok(folder(data).join(format!("{}-{}.json", self.manifest, same.short())))
    }

    /// Goes on with no fetch of a manifest; `false` when there was none to go on with. Blocking.
    pub(crate) fn forget(data: &Path, manifest: Hash) -> Result<bool, StoreError> {
        let mut forgotten = false;
        for unfinished in Unfinished::all(data)? {
            if unfinished.manifest == manifest {
                let path = unfinished.path(data).map_err(StoreError::io(&folder(data)))?;
                Kept(path).end()?;
                forgotten = true;
            }
        }
        Ok(forgotten)
    }

    /// Writes down that the fetches of a manifest are paused, or not any more. Blocking.
    pub(crate) fn pause(data: &Path, manifest: Hash, paused: bool) -> Result<(), StoreError> {
        let all = Unfinished::all(data)?.into_iter();
        for unfinished in all.filter(|unfinished| unfinished.manifest == manifest) {
            Unfinished { paused, ..unfinished }.keep(data)?;
        }
        Ok(())
    }

    /// Reads them all; one that does not read is left where it is, and reported. Blocking.
    pub(crate) fn all(data: &Path) -> Result<Vec<Unfinished>, StoreError> {
        let folder = folder(data);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(StoreError::io(&folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(StoreError::io(&folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(unfinished) => all.push(unfinished),
                Err(error) => warn!(path = %path.display(), %error, "an unfinished fetch cannot be read"),
            }
        }
        Ok(all)
    }
}

impl Kept {
    /// The fetch has ended, well or not. Blocking.
    pub(crate) fn end(self) -> Result<(), StoreError> {
        durable::remove(&self.0)
            .map(drop)
            .map_err(StoreError::io(&self.0))
    }
}

fn folder(data: &Path) -> PathBuf {
    data.join("unfinished")
}

/// Refuses a folder whose name is not UTF-8.
fn json(unfinished: &Unfinished) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(unfinished)?)
}

fn read(path: &Path) -> io::Result<Unfinished> {
    if path.metadata()?.len() > LEN_MAX {
        return Err(io::Error::other("it is too long"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_fetches_are_found_again_until_they_end() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Unfinished::all(data.path()).unwrap(), []);
        let mut one = Unfinished {
            manifest: Hash::of(b"1"),
            repo: None,
            to: Some("/somewhere".into()),
            include: vec!["*.json".into()],
            exclude: Vec::new(),
            allow_code: true,
            paused: false,
            hf_cache: Some("/cache".into()),
            hf_name: Some("meta/llama".into()),
            wait: None,
        };
        let kept = one.keep(data.path()).unwrap();
        Unfinished::pause(data.path(), one.manifest, true).unwrap();
        one.paused = true;
        assert_eq!(Unfinished::all(data.path()).unwrap(), [one.clone()]);
        assert_eq!(one.request().include, one.include);
        assert!(one.request().allow_code);
        let cache = one.request().hf_cache.unwrap();
        assert_eq!(cache.name.unwrap().to_string(), "meta/llama");
        fs::write(folder(data.path()).join("x.json"), "{}").unwrap();
        assert_eq!(Unfinished::all(data.path()).unwrap().len(), 1);
        kept.end().unwrap();
        assert_eq!(Unfinished::all(data.path()).unwrap(), []);
    }
}
