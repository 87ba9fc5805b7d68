//! Fetching: a name, a hash or a ticket becomes files. Each manifest has one job, however many wait for it: it gets the
//! manifest, takes part in its swarm, asks peers for what is missing and serves what it has. At the end all of it is durable,
//! pinned and handed out.

mod begin;
mod caution;
mod handout;
mod hubcache;
mod jobs;
mod manifest;
mod plan;
mod providers;
mod read;
mod run;
pub(crate) mod transfer;
mod unfinished;
mod views;
mod wants;
mod withhold;

pub use caution::LeftOut;
pub use handout::{HandOutError, HandedOut};
pub use hubcache::HubCache;
pub(crate) use jobs::Jobs;
pub use read::Reader;
pub(crate) use unfinished::Unfinished;
pub use views::{JobState, JobView, NoSuchJob, PeerRate};

use crate::{
    catalog::Provider,
    check::{CheckError, facts::Problem},
    denials::Why,
    library::{LibraryError, enlist, now},
    limits::PROVIDER_WAIT,
    node::Node,
    progress::{Phase, Progress},
    resolve::ResolveError,
    store::{StoreError, blocking},
};
use globset::{Glob, GlobSet, GlobSetBuilder};
use jobs::Brought;
use libp2p::PeerId;
use protocol::{FileEntry, Hash, RepoId, RepoRef, Ticket, TooManyShards};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tracing::info;

/// Providers of a fetch that are asked first the next time.
const REMEMBERED: usize = 8;
/// How long after one peer of a ticket answered the next one is waited for.
const DIAL_MORE: Duration = Duration::from_millis(200);

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchWhat {
    /// A name or a manifest hash.
    Repo(RepoRef),
    /// A ticket.
    Ticket(Ticket),
}

/// What to fetch, which files of it, where to put them, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// What.
    pub what: FetchWhat,
    /// A folder to hand the files out to.
    pub to: Option<PathBuf>,
    /// Only files that match one of these globs; all when there is none.
    pub include: Vec<String>,
    /// No files that match one of these globs.
    pub exclude: Vec<String>,
    /// Whether files come too that can run code when they are loaded. Without it they are left out, unless `include` names them by
    /// their exact paths.
    pub allow_code: bool,
    /// How long to wait for a provider while nothing comes. `None`: 30 s for the manifest, and then for ever.
    pub wait: Option<Duration>,
    /// A cache of the Hub's clients to hand the files out to.
    pub hf_cache: Option<HubCache>,
}

impl FetchRequest {
    /// Asks for all files, into the store alone.
    pub fn new(what: FetchWhat) -> FetchRequest {
        FetchRequest {
            what,
            to: None,
            include: Vec::new(),
            exclude: Vec::new(),
            allow_code: false,
            wait: None,
            hf_cache: None,
        }
    }
}

impl std::fmt::Display for FetchWhat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FetchWhat::Repo(repo) => repo.fmt(f),
            FetchWhat::Ticket(ticket) => write!(f, "blake3/{}", ticket.manifest()),
        }
    }
}

/// What one peer gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerShare {
    /// Who.
    pub peer: String,
    /// Verified bytes.
    pub bytes: u64,
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    /// Its name, where it has one.
    pub repo: Option<RepoId>,
    /// The manifest.
    pub manifest: Hash,
    /// Files wanted.
    pub files: u64,
    /// Bytes of the files wanted.
    pub bytes: u64,
    /// Verified bytes that came from peers.
    pub fetched_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Where the files were handed out to.
    pub to: Option<PathBuf>,
    /// How.
    pub handed_out: HandedOut,
    /// The snapshot's folder in the cache of the Hub's clients to which they were handed out.
    #[serde(default)]
    pub hf_cache: Option<PathBuf>,
    /// Who gave how much.
    pub peers: Vec<PeerShare>,
    /// Files that were left out, because they can run code when they are loaded.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// Files of weights that this build does not read; they were fetched.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// Why a fetch stopped short.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The name leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Nobody who has it answered before the deadline.
    #[error("no provider for {manifest} after {waited:?}; {missing} bytes are missing")]
    NoProvider {
        /// The manifest.
        manifest: Hash,
        /// How long it was looked for.
        waited: Duration,
        /// Bytes still missing.
        missing: u64,
    },
    /// The manifest is one that we do not accept, whoever published it.
    #[error("the manifest {manifest} is refused")]
    Manifest {
        /// Its hash.
        manifest: Hash,
        /// The rule it breaks.
        source: protocol::ManifestError,
    },
    /// The manifest lists more than the swarm carries.
    #[error("{manifest} is too large")]
    TooLarge {
        /// The manifest.
        manifest: Hash,
        /// How large it is.
        source: TooManyShards,
    },
    /// A file of weights breaks the rules of its format, whoever published it.
    #[error("{path} of {manifest} is broken")]
    Broken {
        /// The manifest.
        manifest: Hash,
        /// The file's path in the repo.
        path: String,
        /// The rule it breaks.
        source: Arc<CheckError>,
    },
    /// It is denied here.
    #[error(transparent)]
    Denied(#[from] Box<Why>),
    /// A file of it is denied here, whatever it belongs to.
    #[error("{path} of {manifest}")]
    DeniedFile {
        /// The file's path in the repo.
        path: String,
        /// The manifest.
        manifest: Hash,
        /// Why.
        #[source]
        why: Box<Why>,
    },
    /// Somebody gave the fetch up.
    #[error("the fetch of {manifest} was cancelled")]
    Cancelled {
        /// The manifest.
        manifest: Hash,
    },
    /// The jobs that this fetch waited for failed, for others, one after the other.
    #[error("the fetch of {manifest} ended early")]
    Ended {
        /// The manifest.
        manifest: Hash,
    },
    /// A glob does not read.
    #[error("the pattern {pattern}")]
    Pattern {
        /// Which.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
    /// No file is left to fetch.
    #[error("no file of {manifest} matches the patterns")]
    NothingMatches {
        /// The manifest.
        manifest: Hash,
    },
    /// We could not keep the bytes. Ours to mend: no peer is blamed.
    #[error("the store")]
    Store(#[from] StoreError),
    /// Something of ours fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The files could not be handed out. They are in the store.
    #[error("handing out")]
    HandOut(#[from] HandOutError),
}

/// What a request turned out to mean.
struct Sought {
    manifest: Hash,
    repo: Option<RepoId>,
    /// Peers to begin with.
    known: Vec<PeerId>,
    /// Whether to ask nobody until the user says so.
    paused: bool,
}

impl Sought {
    /// A manifest without a name.
    fn content(manifest: Hash) -> Sought {
        Sought {
            manifest,
            repo: None,
            known: Vec::new(),
            paused: false,
        }
    }
}

impl Node {
    /// Fetches a repo. Two fetches of one manifest are one job.
    pub async fn fetch(&self, request: FetchRequest, progress: &Progress) -> Result<Fetched, FetchError> {
        // A pattern that does not read is found out before anything is done.
        Patterns::new(&request)?;
        progress.phase(Phase::Resolving, 0, 0);
        let (manifest, repo, known) = self.what(&request.what).await?;
        // What the user fetches is the user's, whoever has begun with it.
        self.library().claim(manifest).await?;
        progress.phase(Phase::Finding, 0, 0);
        let sought = Sought {
            manifest,
            repo,
            known,
            paused: false,
        };
        self.fetch_sought(sought, request, progress).await
    }

    /// Fetches what a request turned out to mean. It is written down meanwhile, for a node that starts again.
    async fn fetch_sought(
        &self,
        sought: Sought,
        request: FetchRequest,
        progress: &Progress,
    ) -> Result<Fetched, FetchError> {
        let unfinished = Unfinished::new(&sought, &request);
        let data = self.library().data().to_owned();
        let kept = blocking(move || unfinished.keep(&data)).await?;
        let fetched = self.fetch_known(sought, request, progress).await;
        blocking(move || kept.end()).await?;
        fetched
    }

    /// Fetches damaged files of a pinned manifest again, and none that nobody wanted before. Nobody waits for it, so it gives up
    /// soon, and is not written down: what is damaged is known at the next start too.
    pub(crate) async fn fetch_again(&self, manifest: Hash, damaged: &[&FileEntry]) -> Result<(), FetchError> {
        let mut request = FetchRequest::new(FetchWhat::Repo(RepoRef::Content(manifest)));
        let paths = damaged.iter().map(|file| file.path.as_str());
        request.include = paths.map(globset::escape).collect();
        request.wait = Some(PROVIDER_WAIT);
        let sought = Sought::content(manifest);
        let fetched = self.fetch_known(sought, request, &Progress::default()).await;
        fetched.map(drop)
    }

    /// Fetches all of a revision, also what can run code, which nothing here does. It is not written down: whoever wants it knows.
    ///
    /// - `wait`: how long to wait for a provider while nothing comes.
    pub(crate) async fn fetch_whole(
        &self,
        repo: RepoId,
        manifest: Hash,
        wait: Duration,
    ) -> Result<Fetched, FetchError> {
        let mut request = FetchRequest::new(FetchWhat::Repo(RepoRef::Id(repo.clone())));
        request.allow_code = true;
        request.wait = Some(wait);
        // The revision is known, and may not be the newest any more.
        let sought = Sought {
            repo: Some(repo),
            ..Sought::content(manifest)
        };
        self.fetch_known(sought, request, &Progress::default()).await
    }

    /// Fetches one file of a release that was accepted, and nothing else of it. It is not written down: whoever wants it asks again.
    pub(crate) async fn fetch_one_of(
        &self,
        repo: &RepoId,
        manifest: Hash,
        path: &str,
        wait: Duration,
    ) -> Result<(), FetchError> {
        let mut request = FetchRequest::new(FetchWhat::Repo(RepoRef::Id(repo.clone())));
        request.include = vec![globset::escape(path)];
        request.wait = Some(wait);
        let sought = Sought {
            repo: Some(repo.clone()),
            ..Sought::content(manifest)
        };
        let fetched = self.fetch_known(sought, request, &Progress::default()).await;
        fetched.map(drop)
    }

    /// Fetches it unless it is denied, and says so where it is denied on the way.
    async fn fetch_known(
        &self,
        sought: Sought,
        request: FetchRequest,
        progress: &Progress,
    ) -> Result<Fetched, FetchError> {
        let (repo, manifest) = (sought.repo.clone(), sought.manifest);
        let denials = self.library().denials();
        denials.check(repo.as_ref(), Some(manifest))?;
        let patterns = Patterns::new(&request)?;
        let fetched = self.fetch_allowed(sought, request, progress).await;
        if matches!(fetched, Err(FetchError::Cancelled { .. })) {
            denials.check(repo.as_ref(), Some(manifest))?;
            self.refuse_denied_file(manifest, |file| patterns.wants(file))
                .await?;
        }
        fetched
    }

    async fn fetch_allowed(
        &self,
        mut sought: Sought,
        request: FetchRequest,
        progress: &Progress,
    ) -> Result<Fetched, FetchError> {
        let begun = Instant::now();
        let mut shares = BTreeMap::new();
        let mut rotten = HashSet::new();
        let caution = Arc::new(self.caution(&sought, &request).await?);
        let (brought, hf_cache, handed_out) = loop {
            let fetches = self.fetches();
            let mut brought = fetches.bring(self, &sought, &request, &caution, progress).await?;
            progress.phase(Phase::Storing, 0, 0);
            for (peer, bytes) in &brought.shares {
                *shares.entry(*peer).or_default() += bytes;
            }
            self.keep(&brought, sought.repo.clone()).await?;
            self.withhold(&mut brought, &caution).await?;
            match self.hand_out(&sought, &request, &brought, progress).await {
                Ok((snapshot, handed_out)) => break (brought, snapshot, handed_out),
                // What lay here turned out to be rotten: it was reported, so it is fetched again, and once is enough.
                Err(HandOutError::Store(
                    StoreError::Damaged { blob, .. } | StoreError::Changed { blob, .. },
                )) if rotten.insert(blob) => {}
                Err(error) => return Err(error.into()),
            }
            sought.known = shares.keys().copied().collect();
        };
        let Brought {
            files,
            mut left_out,
            problems,
            ..
        } = brought;
        left_out.sort_by(|one, other| one.path.cmp(&other.path));
        let bytes = files.iter().map(|file| file.size).sum();
        let fetched_bytes = shares.values().sum();
        let share = |(peer, bytes): (PeerId, u64)| PeerShare {
            peer: peer.to_string(),
            bytes,
        };
        if fetched_bytes > 0 {
            self.ask_for_attestations(sought.manifest);
        }
        info!(manifest = %sought.manifest.short(), bytes, fetched_bytes, "fetched");
        Ok(Fetched {
            repo: sought.repo,
            manifest: sought.manifest,
            files: files.len() as u64,
            bytes,
            fetched_bytes,
            seconds: begun.elapsed().as_secs_f64(),
            to: request.to,
            handed_out,
            hf_cache,
            peers: shares.into_iter().map(share).collect(),
            left_out,
            problems,
        })
    }

    /// Turns what is wanted into a manifest hash, a name where there is one, and peers to begin with.
    async fn what(&self, what: &FetchWhat) -> Result<(Hash, Option<RepoId>, Vec<PeerId>), FetchError> {
        match what {
            FetchWhat::Repo(RepoRef::Content(hash)) => Ok((*hash, None, Vec::new())),
            FetchWhat::Repo(name) => {
                let repo = self.library().repo_of(name)?.expect("only content has no name");
                self.library().denials().check(Some(&repo), None)?;
                let release = self.resolve(&repo, &[]).await?;
                Ok((release.release().manifest, Some(repo), Vec::new()))
            }
            FetchWhat::Ticket(ticket) => {
                self.library()
                    .denials()
                    .check(ticket.repo(), Some(ticket.manifest()))?;
                let peers = self.dial_some(ticket).await;
                // The ticket names the manifest; the name is only believed with a release that says so too.
                let release = match ticket.repo() {
                    Some(repo) if !peers.is_empty() => self.resolve(repo, &peers).await.ok(),
                    _ => None,
                };
                let named = release.filter(|release| release.release().manifest == ticket.manifest());
                let repo = named.map(|release| release.release().repo());
                Ok((ticket.manifest(), repo, peers))
            }
        }
    }

    /// Dials all addresses of a ticket, and returns the first peers that answer. The others are not waited for: they are found
    /// among the connected ones when they come.
    async fn dial_some(&self, ticket: &Ticket) -> Vec<PeerId> {
        let (tell, mut answered) = mpsc::channel(ticket.addresses().len().max(1));
        for address in ticket.addresses().iter().filter_map(|text| text.parse().ok()) {
            let (node, tell) = (self.clone(), tell.clone());
            self.task(async move {
                if let Ok(peer) = node.swarm().dial(address).await {
                    // Nobody waits for those who come late.
                    let _ = tell.send(peer).await;
                }
            });
        }
        drop(tell);
        let mut peers = Vec::new();
        while let Some(peer) = answered.recv().await {
            peers.push(peer);
            if let Ok(Some(peer)) = tokio::time::timeout(DIAL_MORE, answered.recv()).await {
                peers.push(peer);
            } else {
                break;
            }
        }
        peers.sort();
        peers.dedup();
        peers
    }

    /// Pins what was brought, which makes its rows durable, lists it, and tells the swarm.
    async fn keep(&self, brought: &Brought, repo: Option<RepoId>) -> Result<(), FetchError> {
        let (library, manifest) = (self.library(), &brought.manifest);
        let (store, hash) = (library.store(), manifest.hash());
        let _writing = store.writing().await;
        store.pin(hash).await?;
        let missing = library.missing(manifest).await?;
        if let Some((lost, _)) = missing.iter().find(|(blob, _)| brought.blobs.contains(blob)) {
            return Err(StoreError::Missing(*lost).into());
        }
        let complete = missing.is_empty();
        let seen = |peer: &PeerId| Provider {
            peer: peer.to_bytes(),
            addresses: Vec::new(),
            last_seen: now(),
        };
        let providers: Vec<Provider> = brought.shares.keys().take(REMEMBERED).map(seen).collect();
        let (catalog, manifest) = (library.catalog().clone(), manifest.clone());
        blocking(move || {
            catalog.write(|batch| {
                enlist(batch, &manifest, repo.as_ref(), complete)?;
                let mut providers = providers.into_iter();
                providers.try_for_each(|provider| batch.add_provider(hash, provider))
            })?;
            Ok(())
        })
        .await?;
        self.announce(hash);
        Ok(())
    }
}

/// Which files are wanted.
struct Patterns {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Patterns {
    fn new(request: &FetchRequest) -> Result<Patterns, FetchError> {
        let set = |patterns: &[String]| {
            let mut set = GlobSetBuilder::new();
            for pattern in patterns {
                let bad = |source| FetchError::Pattern {
                    pattern: pattern.clone(),
                    source,
                };
                set.add(Glob::new(pattern).map_err(bad)?);
            }
            set.build().map_err(|source| FetchError::Pattern {
                pattern: patterns.join(" "),
                source,
            })
        };
        let include = (!request.include.is_empty())
            .then(|| set(&request.include))
            .transpose()?;
        Ok(Patterns {
            include,
            exclude: set(&request.exclude)?,
        })
    }

    fn wants(&self, file: &FileEntry) -> bool {
        let path = file.path.as_str();
        self.include.as_ref().is_none_or(|include| include.is_match(path)) && !self.exclude.is_match(path)
    }
}

#[cfg(test)]
mod tests;
