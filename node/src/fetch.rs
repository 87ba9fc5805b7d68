//! Fetching: a name, a hash or a ticket becomes files. The manifest comes first; then whatever is missing is asked of
//! several providers at once, verified as it arrives and kept; at the end all of it is made durable, pinned and handed out.

mod handout;
mod plan;
mod providers;
pub(crate) mod transfer;

pub use handout::{HandOutError, HandedOut};

use crate::{
    catalog::{ManifestRow, Provider},
    library::{LibraryError, now},
    limits::{
        FREE_FLOOR, MANY_BLOBS, MANY_LEN, PROVIDER_WAIT, REQUEST_LEN, SMALL_LEN, STALL, STRIKES_MAX,
        WHOLE_LEN,
    },
    node::Node,
    progress::{Phase, Progress},
    resolve::ResolveError,
    store::{Fresh, Kept, Part, StoreError, blocking},
};
use globset::{Glob, GlobSet, GlobSetBuilder};
use libp2p::{Multiaddr, PeerId};
use plan::{Action, Fault, FetchPlan};
use protocol::{FileEntry, Hash, Manifest, RepoId, RepoRef, SHARD_LEN, Ticket, limits::MANIFEST_LEN_MAX};
use providers::Providers;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, info, warn};

/// How often what came is counted, for the plan and for the display.
const COUNT_PAUSE: Duration = Duration::from_millis(100);

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

/// A piece of work for a provider.
enum Work {
    /// Adjacent shards of one blob.
    Shards(Arc<Part>, Range<u32>),
    /// Blobs of at most one shard.
    Whole(Vec<(Hash, u64)>),
}

/// What has come so far.
#[derive(Default)]
struct Got {
    fresh: Vec<Fresh>,
    kept: Kept,
    shares: BTreeMap<PeerId, u64>,
    blobs: HashSet<Hash>,
}

/// A request under way, and the verified bytes it has brought.
struct Under {
    peer: PeerId,
    handle: AbortHandle,
    bytes: Arc<AtomicU64>,
    counted: u64,
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
        match self.library().store().manifest(hash).await {
            Ok(manifest) => return Ok(manifest),
            Err(StoreError::Missing(_)) => {}
            Err(error) => debug!(manifest = %hash.short(), %error, "a stored manifest is fetched again"),
        }
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
                    let _kept = self.library().store().put_manifest(&manifest).await?;
                    self.library().store().begin_job(hash).await?;
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
        let library = self.library().clone();
        let begun = missing.clone();
        let (work, left, have) = blocking(move || begin(&library, begun)).await?;
        got.fresh = left;
        self.check_room(total.saturating_sub(have))?;
        progress.phase(Phase::Fetching, total, missing.len() as u64);
        progress.add(have, 0);

        let mut run = Run {
            node: self,
            manifest: manifest.hash(),
            plan: FetchPlan::new(work.len()),
            work,
            tasks: JoinSet::new(),
            under: HashMap::new(),
            progress,
            missing: total - have,
        };
        run.all(&mut providers, &mut got).await?;
        got.blobs.extend(missing.iter().map(|(hash, _)| *hash));
        for work in &run.work {
            if let Work::Shards(part, _) = work
                && part.is_complete()
                && !got.fresh.iter().any(|fresh| fresh.hash == part.blob.hash)
            {
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
        store.settle(got.fresh).await?;
        store.pin(hash).await?;
        drop(got.kept);
        got.blobs.iter().for_each(|blob| store.mended(*blob));
        let complete = library.missing(manifest).await?.is_empty();
        let (files, bytes) = (manifest.files().len() as u32, manifest.total_len());
        let providers: Vec<Provider> = got
            .shares
            .keys()
            .take(8)
            .map(|peer| Provider {
                peer: peer.to_bytes(),
                addresses: Vec::new(),
                last_seen: now(),
            })
            .collect();
        let written = library.catalog().write(|batch| {
            let row = batch.manifest(hash)?;
            let mut names = row.as_ref().map(|row| row.names.clone()).unwrap_or_default();
            names.extend(
                repo.iter()
                    .filter(|repo| !names.contains(repo))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
            let added = row.map_or_else(now, |row| row.added);
            batch.put_manifest(
                hash,
                &ManifestRow {
                    files,
                    bytes,
                    pinned: true,
                    complete,
                    added,
                    names,
                },
            );
            for provider in &providers {
                batch.add_provider(hash, provider.clone())?;
            }
            Ok(())
        });
        written.map_err(LibraryError::from)?;
        store.end_job(hash).await?;
        if complete {
            self.announce(hash);
        }
        Ok(())
    }
}

/// Opens the growing files, and cuts what is missing into work: small blobs first, then runs of shards.
///
/// Also returns files an interrupted fetch left whole, and the bytes that are here already.
fn begin(
    library: &crate::library::Library,
    missing: Vec<(Hash, u64)>,
) -> Result<(Vec<Work>, Vec<Fresh>, u64), StoreError> {
    let store = library.store();
    let (mut work, mut left, mut have) = (Vec::new(), Vec::new(), 0);
    let (mut many, mut many_len) = (Vec::new(), 0);
    let mut big = Vec::new();
    for (hash, len) in missing {
        store.demote(hash, len)?;
        if len > WHOLE_LEN {
            big.push((hash, len));
            continue;
        }
        if len > SMALL_LEN
            && let Some(fresh) = store.left_whole(hash, len)?
        {
            left.push(fresh);
            have += len;
            continue;
        }
        many.push((hash, len));
        many_len += len;
        if many.len() >= MANY_BLOBS || many_len >= MANY_LEN {
            work.push(Work::Whole(std::mem::take(&mut many)));
            many_len = 0;
        }
    }
    if !many.is_empty() {
        work.push(Work::Whole(many));
    }
    for (hash, len) in big {
        let part = store.part(hash, len)?;
        let runs = missing_runs(&part.shards());
        let absent: u64 = runs.iter().map(|run| bytes_of(run, len)).sum();
        have += len - absent;
        if runs.is_empty() {
            left.push(store.finished(&part));
        }
        work.extend(runs.into_iter().map(|run| Work::Shards(part.clone(), run)));
    }
    Ok((work, left, have))
}

fn bytes_of(run: &Range<u32>, len: u64) -> u64 {
    (u64::from(run.end) * SHARD_LEN).min(len) - u64::from(run.start) * SHARD_LEN
}

/// Returns the runs of missing shards, none longer than a request.
fn missing_runs(shards: &[bool]) -> Vec<Range<u32>> {
    let longest = (REQUEST_LEN / SHARD_LEN) as u32;
    let mut runs: Vec<Range<u32>> = Vec::new();
    for (index, here) in (0u32..).zip(shards) {
        match runs.last_mut() {
            _ if *here => {}
            Some(run) if run.end == index && run.len() < longest as usize => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// The running fetch: the plan's decisions become tasks, and what they tell becomes facts for the plan.
struct Run<'a> {
    node: &'a Node,
    manifest: Hash,
    plan: FetchPlan<PeerId>,
    work: Vec<Work>,
    tasks: JoinSet<(u64, Outcome)>,
    under: HashMap<u64, Under>,
    progress: &'a Progress,
    missing: u64,
}

/// How a request ended, with what it brought.
struct Outcome {
    whole: transfer::Whole,
    result: Result<(), transfer::TransferError>,
}

impl Run<'_> {
    async fn all(&mut self, providers: &mut Providers, got: &mut Got) -> Result<(), FetchError> {
        let mut alone: Option<Instant> = None;
        loop {
            match self.decide() {
                Action::Done => return Ok(()),
                Action::FindProviders => {
                    let since = *alone.get_or_insert_with(Instant::now);
                    if since.elapsed() >= PROVIDER_WAIT {
                        let waited = since.elapsed();
                        return Err(FetchError::NoProvider {
                            manifest: self.manifest,
                            waited,
                            missing: self.missing,
                        });
                    }
                    self.progress
                        .note(Some("no provider answers; looking for one".into()));
                }
                _ if alone.take().is_some() => self.progress.note(None),
                _ => {}
            }
            self.progress.peers(self.plan.busy());
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok((request, outcome)) = ended {
                        self.ended(request, outcome, got).await?;
                    }
                }
                Some(peer) = providers.next() => {
                    self.plan.provider_found(peer);
                    if alone.is_some() {
                        self.plan.forgive();
                    }
                }
                () = tokio::time::sleep(COUNT_PAUSE) => self.count(got),
            }
        }
    }

    /// Counts what every request has brought since it was last looked at.
    fn count(&mut self, got: &mut Got) {
        for (request, under) in &mut self.under {
            let bytes = under.bytes.load(Ordering::Relaxed);
            let new = bytes - under.counted;
            if new > 0 {
                under.counted = bytes;
                self.plan.progressed(*request, Instant::now());
                self.progress.add(new, 0);
                self.missing = self.missing.saturating_sub(new);
                *got.shares.entry(under.peer).or_default() += new;
                self.node.received(new);
            }
        }
    }

    /// Carries out what the plan wants now; returns what it waits for.
    fn decide(&mut self) -> Action<PeerId> {
        loop {
            match self.plan.next(Instant::now()) {
                Action::Ask { request, peer, work } => self.ask(request, peer, work),
                Action::Stop(request) => {
                    if let Some(under) = self.under.get(&request) {
                        under.handle.abort();
                    }
                }
                other => return other,
            }
        }
    }

    fn ask(&mut self, request: u64, peer: PeerId, work: usize) {
        let (swarm, store) = (self.node.swarm().clone(), self.node.library().store().clone());
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = bytes.clone();
        let seen = move |new| {
            counter.fetch_add(new, Ordering::Relaxed);
        };
        let handle = match &self.work[work] {
            Work::Shards(part, run) => {
                let (part, run) = (part.clone(), run.clone());
                self.tasks.spawn(async move {
                    let rest = first_missing(&part, run);
                    let result = match rest {
                        Some(run) => transfer::shards(&swarm, peer, &part, run, &seen).await,
                        None => Ok(()),
                    };
                    (
                        request,
                        Outcome {
                            whole: transfer::Whole::default(),
                            result,
                        },
                    )
                })
            }
            Work::Whole(blobs) => {
                let blobs = blobs.clone();
                self.tasks.spawn(async move {
                    let (whole, result) = match transfer::whole(&swarm, peer, &store, &blobs, &seen).await {
                        Ok(whole) => (whole, Ok(())),
                        Err((whole, error)) => (whole, Err(error)),
                    };
                    (request, Outcome { whole, result })
                })
            }
        };
        self.under.insert(
            request,
            Under {
                peer,
                handle,
                bytes,
                counted: 0,
            },
        );
    }

    async fn ended(&mut self, request: u64, outcome: Outcome, got: &mut Got) -> Result<(), FetchError> {
        self.count(got);
        let Some(Under { peer, .. }) = self.under.remove(&request) else {
            return Ok(());
        };
        let Outcome { whole, result } = outcome;
        got.kept.append(whole.kept);
        for fresh in whole.fresh {
            if !got.fresh.iter().any(|had| had.hash == fresh.hash) {
                got.fresh.push(fresh);
            }
        }
        let brought: HashSet<Hash> = whole.got.into_iter().collect();
        match result {
            Ok(()) => self.plan.finished(request),
            Err(error) => {
                self.drop_brought(&brought);
                let Some(fault) = error.fault() else {
                    let transfer::TransferError::Store(error) = error else {
                        unreachable!("only the store is our fault")
                    };
                    return Err(error.into());
                };
                if fault == Fault::Lied {
                    warn!(%peer, manifest = %self.manifest.short(), %error, "a provider lied; it is not asked again");
                    self.node.swarm().ban(peer).await;
                } else {
                    debug!(%peer, %error, "a request broke");
                }
                self.plan.failed(request, fault);
            }
        }
        Ok(())
    }

    /// What a broken request brought is not asked for again.
    fn drop_brought(&mut self, brought: &HashSet<Hash>) {
        if brought.is_empty() {
            return;
        }
        for work in &mut self.work {
            if let Work::Whole(blobs) = work {
                blobs.retain(|(hash, _)| !brought.contains(hash));
            }
        }
    }
}

/// Returns the part of a run from its first missing shard on; `None` when all of it is here.
fn first_missing(part: &Part, run: Range<u32>) -> Option<Range<u32>> {
    let shards = part.shards();
    let here = |index: &u32| shards.get(*index as usize) == Some(&true);
    let start = run.clone().find(|index| !here(index))?;
    let end = run.rev().find(|index| !here(index))? + 1;
    Some(start..end)
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
