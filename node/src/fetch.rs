//! Fetching: a name, a hash or a ticket becomes files. The manifest comes first; then whatever is missing is asked of
//! several providers at once, verified as it arrives and kept; at the end all of it is made durable, pinned and handed out.

mod handout;
mod plan;
mod providers;
mod run;
pub(crate) mod transfer;

pub use handout::{HandOutError, HandedOut};

use crate::{
    catalog::Provider,
    library::{LibraryError, enlist, now},
    limits::{FREE_FLOOR, PROVIDER_WAIT, STALL, STRIKES_MAX},
    node::Node,
    progress::{Phase, Progress},
    resolve::ResolveError,
    store::{Fresh, Kept, StoreError, blocking},
};
use globset::{Glob, GlobSet, GlobSetBuilder};
use libp2p::{Multiaddr, PeerId};
use plan::Fault;
use protocol::{FileEntry, Hash, Manifest, RepoId, RepoRef, Ticket, limits::MANIFEST_LEN_MAX};
use providers::Providers;
use run::{Run, begin};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};

/// Providers of a fetch that are asked first the next time.
const REMEMBERED: usize = 8;

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchWhat {
    /// A name or a manifest hash.
    Repo(RepoRef),
    /// A ticket.
    Ticket(Ticket),
}

/// What to fetch, which files of it, and where to put them.
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
}

impl FetchRequest {
    /// Asks for all files, into the store alone.
    pub fn new(what: FetchWhat) -> FetchRequest {
        FetchRequest {
            what,
            to: None,
            include: Vec::new(),
            exclude: Vec::new(),
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
    /// Who gave how much.
    pub peers: Vec<PeerShare>,
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

/// What has come so far.
#[derive(Default)]
struct Got {
    fresh: Vec<Fresh>,
    kept: Kept,
    shares: BTreeMap<PeerId, u64>,
    blobs: HashSet<Hash>,
}

impl Node {
    /// Fetches a repo. Two fetches of one manifest take turns; the second finds what the first brought.
    pub async fn fetch(&self, request: FetchRequest, progress: &Progress) -> Result<Fetched, FetchError> {
        let begun = Instant::now();
        let patterns = Patterns::new(&request)?;
        progress.phase(Phase::Resolving, 0, 0);
        let (hash, repo, known) = self.what(&request.what).await?;
        let _turn = self.turn(hash).await;
        let mut providers = Providers::start(self.clone(), hash, known);
        progress.phase(Phase::Finding, 0, 0);
        let manifest = self.fetch_manifest(hash, &mut providers).await?;
        let files: Vec<FileEntry> = manifest
            .files()
            .iter()
            .filter(|file| patterns.wants(file))
            .cloned()
            .collect();
        if files.is_empty() {
            return Err(FetchError::NothingMatches { manifest: hash });
        }
        let bytes = files.iter().map(|file| file.size).sum();
        let count = files.len() as u64;
        let mut shares = BTreeMap::new();
        let mut known = providers;
        let mut rotten = HashSet::new();
        let handed_out = loop {
            let got = self.fetch_files(&manifest, &files, known, progress).await?;
            progress.phase(Phase::Storing, 0, 0);
            for (peer, bytes) in &got.shares {
                *shares.entry(*peer).or_default() += bytes;
            }
            let sure = got.blobs.clone();
            self.keep(&manifest, repo.clone(), got).await?;
            let Some(to) = &request.to else {
                break HandedOut::default();
            };
            match handout::hand_out(self.library(), files.clone(), to, sure, progress).await {
                Ok(handed_out) => break handed_out,
                // What lay here turned out to be rotten: it was reported, so it is fetched again, and once is enough.
                Err(HandOutError::Store(
                    StoreError::Damaged { blob, .. } | StoreError::Changed { blob, .. },
                )) if rotten.insert(blob) => {}
                Err(error) => return Err(error.into()),
            }
            known = Providers::start(self.clone(), hash, shares.keys().copied().collect());
        };
        let fetched_bytes = shares.values().sum();
        let shares = shares
            .into_iter()
            .map(|(peer, bytes)| PeerShare {
                peer: peer.to_string(),
                bytes,
            })
            .collect();
        info!(manifest = %hash.short(), bytes, fetched_bytes, "fetched");
        Ok(Fetched {
            repo,
            manifest: hash,
            files: count,
            bytes,
            fetched_bytes,
            seconds: begun.elapsed().as_secs_f64(),
            to: request.to,
            handed_out,
            peers: shares,
        })
    }

    /// Turns what is wanted into a manifest hash, a name where there is one, and peers to begin with.
    async fn what(&self, what: &FetchWhat) -> Result<(Hash, Option<RepoId>, Vec<PeerId>), FetchError> {
        match what {
            FetchWhat::Repo(RepoRef::Content(hash)) => Ok((*hash, None, Vec::new())),
            FetchWhat::Repo(name) => {
                let repo = self.library().repo_of(name)?.expect("only content has no name");
                let release = self.resolve(&repo, &[]).await?;
                Ok((release.release().manifest, Some(repo), Vec::new()))
            }
            FetchWhat::Ticket(ticket) => {
                let addresses: Vec<Multiaddr> = ticket
                    .addresses()
                    .iter()
                    .filter_map(|address| address.parse().ok())
                    .collect();
                let dialled = addresses.into_iter().map(|address| self.swarm().dial(address));
                let peers: Vec<PeerId> = futures::future::join_all(dialled)
                    .await
                    .into_iter()
                    .flatten()
                    .collect();
                // The ticket names the manifest; the name is only believed with a release that says so too.
                let repo = match ticket.repo() {
                    Some(repo) if !peers.is_empty() => self
                        .resolve(repo, &peers)
                        .await
                        .ok()
                        .map(|release| release.release().clone()),
                    _ => None,
                };
                let repo = repo
                    .filter(|release| release.manifest == ticket.manifest())
                    .map(|release| release.repo());
                Ok((ticket.manifest(), repo, peers))
            }
        }
    }

    /// Returns the manifest from the store, or from the first provider that has it right.
    async fn fetch_manifest(&self, hash: Hash, providers: &mut Providers) -> Result<Manifest, FetchError> {
        let store = self.library().store();
        let writing = store.writing().await;
        match store.manifest(hash).await {
            Ok(manifest) => {
                store.begin_job(hash).await?;
                return Ok(manifest);
            }
            Err(StoreError::Missing(_)) => {}
            Err(error) => debug!(manifest = %hash.short(), %error, "a stored manifest is fetched again"),
        }
        drop(writing);
        let begun = Instant::now();
        let mut tried = HashMap::<PeerId, u32>::new();
        while let Ok(Some(peer)) =
            tokio::time::timeout(PROVIDER_WAIT.saturating_sub(begun.elapsed()), providers.next()).await
        {
            let tries = tried.entry(peer).or_default();
            *tries += 1;
            if *tries > STRIKES_MAX {
                continue;
            }
            let fetched = tokio::time::timeout(
                STALL * 3,
                transfer::blob(self.swarm(), peer, hash, MANIFEST_LEN_MAX as u64),
            )
            .await;
            match fetched {
                Ok(Ok(bytes)) => {
                    let manifest = Manifest::decode(&bytes).map_err(|source| FetchError::Manifest {
                        manifest: hash,
                        source,
                    })?;
                    // A collection must not run between the manifest and the mark that keeps it.
                    let _writing = store.writing().await;
                    let _kept = store.put_manifest(&manifest).await?;
                    store.begin_job(hash).await?;
                    providers.again(peer);
                    return Ok(manifest);
                }
                Ok(Err(error)) => {
                    if error.fault() == Some(Fault::Lied) {
                        warn!(%peer, manifest = %hash.short(), %error, "a provider lied; it is not asked again");
                        self.swarm().ban(peer).await;
                        *tries = STRIKES_MAX;
                    } else {
                        debug!(%peer, %error, "a provider did not give the manifest");
                    }
                }
                Err(_) => debug!(%peer, "a provider was too slow with the manifest"),
            }
        }
        Err(FetchError::NoProvider {
            manifest: hash,
            waited: begun.elapsed(),
            missing: 0,
        })
    }

    /// Brings every blob of `files` that is not here.
    async fn fetch_files(
        &self,
        manifest: &Manifest,
        files: &[FileEntry],
        mut providers: Providers,
        progress: &Progress,
    ) -> Result<Got, FetchError> {
        let wanted: HashSet<Hash> = files.iter().map(|file| file.blake3).collect();
        let mut missing = self.library().missing(manifest).await?;
        missing.retain(|(hash, _)| wanted.contains(hash));
        let mut got = Got::default();
        if missing.is_empty() {
            return Ok(got);
        }
        let total: u64 = missing.iter().map(|(_, len)| len).sum();
        // Room is looked for before anything is made: a manifest may claim any size.
        let store = self.library().store();
        let here: u64 = missing
            .iter()
            .map(|(hash, len)| store.begun_len(*hash).min(*len))
            .sum();
        self.check_room(total.saturating_sub(here))?;
        let library = self.library().clone();
        let begun = missing.clone();
        let (work, left, have) = blocking(move || begin(&library, begun)).await?;
        got.fresh = left;
        progress.phase(Phase::Fetching, total, missing.len() as u64);
        progress.add(have, 0);

        let mut run = Run::new(self, manifest.hash(), work, total.saturating_sub(have), progress);
        run.all(&mut providers, &mut got).await?;
        got.blobs.extend(missing.iter().map(|(hash, _)| *hash));
        for part in run.complete() {
            if !got.fresh.iter().any(|fresh| fresh.hash == part.blob.hash) {
                got.fresh.push(self.library().store().finished(part));
            }
        }
        Ok(got)
    }

    /// Refuses a fetch for which there is no room, before a byte is asked for.
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let folder = self.library().data();
        let free = crate::durable::free_space(folder).map_err(StoreError::io(folder))?;
        let need = bytes + bytes / 256 + FREE_FLOOR;
        if free < need {
            return Err(StoreError::NoRoom {
                folder: folder.to_owned(),
                need,
                free,
            });
        }
        Ok(())
    }

    /// Makes what came durable, pins it, and tells the swarm.
    async fn keep(&self, manifest: &Manifest, repo: Option<RepoId>, got: Got) -> Result<(), FetchError> {
        let (library, hash) = (self.library(), manifest.hash());
        let store = library.store();
        let _writing = store.writing().await;
        store.settle(got.fresh).await?;
        store.pin(hash).await?;
        drop(got.kept);
        got.blobs.iter().for_each(|blob| store.mended(*blob));
        let missing = library.missing(manifest).await?;
        if let Some((lost, _)) = missing.iter().find(|(blob, _)| got.blobs.contains(blob)) {
            return Err(StoreError::Missing(*lost).into());
        }
        let complete = missing.is_empty();
        let seen = |peer: &PeerId| Provider {
            peer: peer.to_bytes(),
            addresses: Vec::new(),
            last_seen: now(),
        };
        let providers: Vec<Provider> = got.shares.keys().take(REMEMBERED).map(seen).collect();
        let (catalog, manifest) = (library.catalog().clone(), manifest.clone());
        blocking(move || {
            catalog.write(|batch| {
                enlist(batch, &manifest, repo.as_ref(), complete)?;
                providers
                    .into_iter()
                    .try_for_each(|provider| batch.add_provider(hash, provider))
            })?;
            Ok(())
        })
        .await?;
        store.end_job(hash).await?;
        if complete {
            self.announce(hash);
        }
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
