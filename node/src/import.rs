//! Importing: what lies in a cache of the Hub's clients is published as what it is, a copy of an upstream's revision, without a
//! second copy on the disk. Where a blob's name tells its digest, the bytes are held against it first.

mod cache;
mod report;

pub use report::{Fate, Imported, ImportedRepo, ImportedRevision};

use crate::{
    library::{Library, LibraryError},
    limits::RELEASE_DAYS,
    node::Node,
    progress::{Phase, Progress},
    publish::{After, Found, PublishError, Saying, fit},
    store::{StoreError, digest},
};
use cache::{CachedRepo, Claim, LeftOut, Snapshot, Walked};
use protocol::{FileEntry, Hash, Release, RepoId, RepoName, Upstream};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fs::File,
    io,
    path::PathBuf,
    time::Instant,
};

/// The hub that a cache is of.
const HUB: &str = "huggingface.co";

/// What to import, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// A cache, or the folder of one repo in it.
    pub path: PathBuf,
    /// The repo's name, if there is only one; by default the upstream's, made fit.
    #[serde(default)]
    pub name: Option<RepoName>,
    /// Every revision that is here, not only the one that `refs/main` names.
    #[serde(default)]
    pub all_revisions: bool,
    /// Keep and pin only, without releases under our key.
    #[serde(default)]
    pub store: bool,
    /// Copy the bytes instead of serving them from where they lie.
    #[serde(default)]
    pub copy: bool,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl ImportRequest {
    /// Asks to publish the newest revision of every repo in a cache, by reference.
    pub fn new(path: impl Into<PathBuf>) -> ImportRequest {
        ImportRequest {
            path: path.into(),
            name: None,
            all_revisions: false,
            store: false,
            copy: false,
            dry_run: false,
        }
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder is not there or may not be read.
    #[error("{path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No repo of a cache is there.
    #[error("{path} is neither a Hub cache nor a repo of one", path = path.display())]
    NoCache {
        /// The folder.
        path: PathBuf,
    },
    /// One name was given for several repos.
    #[error("{path} holds {repos} repos, and one name was given", path = path.display())]
    OneName {
        /// The folder.
        path: PathBuf,
        /// How many.
        repos: usize,
    },
    /// Something of ours fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl Node {
    /// Imports a cache, and tells the swarm of each revision as it is done.
    pub async fn import(&self, request: ImportRequest, progress: &Progress) -> Result<Imported, ImportError> {
        let node = self.clone();
        let taken = move |manifest| node.announce(manifest);
        self.library().import_telling(request, progress, &taken).await
    }
}

impl Library {
    /// Imports a cache. What is wrong with one repo does not keep the others from being imported: the answer says it.
    pub async fn import(&self, request: ImportRequest, progress: &Progress) -> Result<Imported, ImportError> {
        self.import_telling(request, progress, &|_| {}).await
    }

    async fn import_telling(
        &self,
        request: ImportRequest,
        progress: &Progress,
        taken: &(dyn Fn(Hash) + Send + Sync),
    ) -> Result<Imported, ImportError> {
        progress.phase(Phase::Reading, 0, 0);
        let (library, asked) = (self.clone(), request.clone());
        let (repos, names, left_out) = blocking(move || {
            let mut left_out = LeftOut::default();
            let repos = cache::repos(&asked.path, &mut left_out)?;
            if asked.name.is_some() && repos.len() > 1 {
                return Err(ImportError::OneName {
                    path: asked.path,
                    repos: repos.len(),
                });
            }
            let names = match asked.name {
                Some(name) => vec![Some(name)],
                None => names_of(&repos, &library.own_releases()?),
            };
            Ok((repos, names, left_out))
        })
        .await?;
        let mut imported = Imported {
            repos: Vec::new(),
            left_out: left_out.into_notes(),
        };
        for (cached, name) in repos.into_iter().zip(names) {
            let repo = self.import_repo(&cached, name, &request, progress, taken).await?;
            imported.repos.push(repo);
        }
        Ok(imported)
    }

    /// The releases under our key that we follow.
    fn own_releases(&self) -> Result<Vec<Release>, LibraryError> {
        let ours = self.publisher();
        let all = self.names().all()?.filter_map(Result::ok);
        Ok(all
            .map(|signed| signed.release().clone())
            .filter(|release| release.publisher == ours)
            .collect())
    }

    async fn import_repo(
        &self,
        cached: &CachedRepo,
        name: Option<RepoName>,
        request: &ImportRequest,
        progress: &Progress,
        taken: &(dyn Fn(Hash) + Send + Sync),
    ) -> Result<ImportedRepo, ImportError> {
        let (looked_at, all) = (cached.clone(), request.all_revisions);
        let (snapshots, left_out) = blocking(move || {
            let mut left_out = LeftOut::default();
            let snapshots = cache::revisions(&looked_at, all, &mut left_out);
            Ok((snapshots, left_out.into_notes()))
        })
        .await?;
        let mut repo = ImportedRepo {
            upstream: cached.id(),
            kind: cached.kind,
            repo: None,
            revisions: Vec::new(),
            problem: None,
            left_out,
        };
        if !request.store {
            match name {
                Some(name) => {
                    repo.repo = Some(RepoId {
                        publisher: self.publisher(),
                        name,
                    });
                }
                None => {
                    repo.problem =
                        Some("its name is taken, or fits no repo; --name gives it another".to_owned());
                    return Ok(repo);
                }
            }
        }
        let snapshots = match snapshots {
            Ok(snapshots) if snapshots.is_empty() => Err("it has no snapshots".to_owned()),
            snapshots => snapshots,
        };
        let snapshots = match snapshots {
            Ok(snapshots) => snapshots,
            Err(why) => {
                repo.problem = Some(why);
                return Ok(repo);
            }
        };
        let count = snapshots.len();
        for (at, snapshot) in snapshots.into_iter().enumerate() {
            let begun = Instant::now();
            let mut revision = ImportedRevision::new(&snapshot);
            let taking = Taking {
                cached,
                snapshot,
                name: repo.repo.as_ref().map(|repo| repo.name.clone()),
                last: at + 1 == count,
                request,
            };
            match self.import_revision(taking, &mut revision, progress).await {
                Ok(()) => {}
                // A disk that is full or a database that fails does not get better with the next repo.
                Err(PublishError::Library(error)) => return Err(error.into()),
                Err(error) => {
                    revision.fate = Fate::Failed;
                    revision.problems.push(chain(&error));
                }
            }
            revision.seconds = begun.elapsed().as_secs_f64();
            if let Some(manifest) = revision.manifest {
                taken(manifest);
            }
            repo.revisions.push(revision);
        }
        Ok(repo)
    }

    /// Takes one revision, and writes down what became of it.
    async fn import_revision(
        &self,
        taking: Taking<'_>,
        revision: &mut ImportedRevision,
        progress: &Progress,
    ) -> Result<(), PublishError> {
        let Taking {
            cached,
            snapshot,
            name,
            last,
            request,
        } = taking;
        let (walked, left_out) = {
            let (cached, snapshot) = (cached.clone(), snapshot.clone());
            let mut left_out = LeftOut::default();
            let walk = move || {
                let walked = cache::walk(&cached, &snapshot, &mut left_out);
                (walked, left_out.into_notes())
            };
            tokio::task::spawn_blocking(walk)
                .await
                .map_err(|_| StoreError::Closed)?
        };
        revision.left_out = left_out;
        let Walked {
            found,
            claims,
            missing,
        } = walked?;
        revision.files = found.len() as u64;
        revision.bytes = found.iter().map(|file| file.stamp.len).sum();
        revision.missing = missing;
        if found.is_empty() {
            revision.fate = Fate::Failed;
            revision.problems.push("it has no files here".to_owned());
            return Ok(());
        }
        if request.dry_run {
            revision.fate = Fate::Planned;
            return Ok(());
        }
        progress.phase(Phase::Reading, revision.bytes, revision.files);
        progress.note(Some(cached.id()));
        let places: Vec<PathBuf> = found.iter().map(|file: &Found| file.path.clone()).collect();
        let _writing = self.store().writing().await;
        let taken = self.take_in(found, request.copy, progress).await?;
        let entries = taken.entries.clone();
        let (verified, damaged) = tokio::task::spawn_blocking(move || judge(&entries, &places, &claims))
            .await
            .map_err(|_| StoreError::Closed)?;
        revision.verified = verified;
        if !damaged.is_empty() {
            revision.fate = Fate::Damaged;
            revision.problems = damaged;
            return Ok(());
        }
        let settled = self.settle(&snapshot.folder, taken, progress).await?;
        let hash = settled.manifest.hash();
        revision.manifest = Some(hash);
        revision.read_bytes = settled.read;
        // Where nobody wrote down which files there are, what is here counts as all of them.
        let whole = missing.is_none_or(|missing| missing == 0);
        let given = request.name.is_some();
        if name.is_some() && !whole && !given {
            let why =
                "it is kept and had by its hash: fetch the rest of it, or release what is here with --name";
            revision.problems.push(why.to_owned());
        }
        let Some(name) = name.filter(|_| whole || given) else {
            self.record_published(&settled.manifest, None, true, settled.digests)
                .await?;
            revision.fate = Fate::Stored;
            return Ok(());
        };
        let repo = RepoId {
            publisher: self.publisher(),
            name: name.clone(),
        };
        let listed = self.catalog().manifest(hash).map_err(LibraryError::from)?;
        if !last && listed.is_some_and(|row| row.names.contains(&repo)) {
            // An older revision that was released before: a second release would only put it on top again.
            revision.fate = Fate::Unchanged;
            revision.copy = whole;
            return Ok(());
        }
        let saying = Saying {
            name: name.clone(),
            kind: cached.kind,
            manifest: &settled.manifest,
            upstream: whole.then(|| Upstream {
                commit: snapshot.commit,
                hub: HUB.to_owned(),
                repo: cached.id(),
            }),
            valid_days: RELEASE_DAYS,
        };
        let before = self.names().get(&repo)?;
        let release = self.release(saying, After::Any).await?;
        self.record_published(&settled.manifest, Some(&release), true, settled.digests)
            .await?;
        revision.seq = Some(release.release().seq);
        revision.copy = whole;
        revision.fate = match before == Some(release) {
            true => Fate::Unchanged,
            false => Fate::Published,
        };
        Ok(())
    }
}

impl ImportedRevision {
    fn new(snapshot: &Snapshot) -> ImportedRevision {
        ImportedRevision {
            commit: snapshot.commit.clone(),
            fate: Fate::Failed,
            manifest: None,
            seq: None,
            files: 0,
            bytes: 0,
            verified: 0,
            read_bytes: 0,
            seconds: 0.0,
            missing: None,
            copy: false,
            problems: Vec::new(),
            left_out: Vec::new(),
        }
    }
}

/// A revision on its way.
struct Taking<'a> {
    cached: &'a CachedRepo,
    snapshot: Snapshot,
    /// Under which name; `None`: it is only stored.
    name: Option<RepoName>,
    /// Whether it is the one that the name stands for afterwards.
    last: bool,
    request: &'a ImportRequest,
}

/// Chooses a name for each repo: the one under which it was published before, else the upstream's name made fit, with the
/// owner where two would have the same, and with the kind where that is not enough. `None`: all of these are taken.
fn names_of(repos: &[CachedRepo], ours: &[Release]) -> Vec<Option<RepoName>> {
    let mut taken: HashSet<RepoName> = ours.iter().map(|release| release.name.clone()).collect();
    let mut plain: HashMap<RepoName, usize> = HashMap::new();
    for name in repos.iter().filter_map(|repo| fit(&repo.name)) {
        *plain.entry(name).or_default() += 1;
    }
    let before = |repo: &CachedRepo| {
        let same = ours.iter().filter(|release| {
            release.kind == repo.kind
                && release
                    .upstream
                    .as_ref()
                    .is_some_and(|upstream| upstream.hub == HUB && upstream.repo == repo.id())
        });
        let wanted = fit(&repo.name);
        same.map(|release| release.name.clone())
            .min_by_key(|name| (Some(name) != wanted.as_ref(), name.clone()))
    };
    let choose = |repo: &CachedRepo| {
        if let Some(name) = before(repo) {
            return Some(name);
        }
        let alone = fit(&repo.name).filter(|name| plain.get(name) == Some(&1) || repo.owner.is_none());
        let owned = match &repo.owner {
            Some(owner) => format!("{owner}-{}", repo.name),
            None => repo.name.clone(),
        };
        let kind = repo.kind;
        let names = [alone, fit(&owned), fit(&format!("{owned}-{kind}"))];
        let name = names.into_iter().flatten().find(|name| !taken.contains(name))?;
        taken.insert(name.clone());
        Some(name)
    };
    repos.iter().map(choose).collect()
}

/// Holds files against the names of their blobs. Returns how many could be, and what is wrong with the others. Blocking.
///
/// - `places`: where the files lie, in the order of `entries`.
fn judge(
    entries: &[FileEntry],
    places: &[PathBuf],
    claims: &HashMap<protocol::RepoPath, (String, Claim)>,
) -> (u64, Vec<String>) {
    let (mut verified, mut damaged) = (0, Vec::new());
    for (entry, place) in entries.iter().zip(places) {
        let Some((blob, claim)) = claims.get(&entry.path) else {
            continue;
        };
        let (what, holds) = match claim {
            Claim::Sha256(claimed) => ("SHA-256", Ok(entry.sha256 == Some(*claimed))),
            Claim::Git(claimed) => {
                let id = match entry.sha1 {
                    Some(id) => Ok(id),
                    // The upstream keeps it in git, where we would not.
                    None => File::open(place).and_then(|mut file| digest::git_id(&mut file, entry.size)),
                };
                ("git id", id.map(|id| id == *claimed))
            }
        };
        match holds {
            Ok(true) => verified += 1,
            Ok(false) => damaged.push(format!(
                "{}: its bytes do not have the {what} that blobs/{blob} is named by",
                entry.path
            )),
            Err(error) => damaged.push(format!("{}: blobs/{blob} cannot be read: {error}", entry.path)),
        }
    }
    (verified, damaged)
}

/// What went wrong and what that came from, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| LibraryError::Store(StoreError::Closed))?
}

#[cfg(test)]
mod tests;
