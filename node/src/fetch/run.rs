//! The running fetch: what is missing is cut into work, the plan's decisions become tasks, and what these bring becomes facts
//! for the plan.

use super::{
    FetchError, Got,
    plan::{Action, Fault, FetchPlan},
    providers::Providers,
    transfer,
};
use crate::{
    library::Library,
    limits::{MANY_BLOBS, MANY_LEN, PROVIDER_WAIT, REQUEST_LEN, SMALL_LEN, WHOLE_LEN},
    node::Node,
    progress::Progress,
    store::{Fresh, Part, StoreError},
};
use libp2p::PeerId;
use protocol::{Hash, SHARD_LEN};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

/// How often what came is counted, for the plan and for the display.
const COUNT_PAUSE: Duration = Duration::from_millis(100);

/// A piece of work for a provider.
pub(super) enum Work {
    /// Adjacent shards of one blob.
    Shards(Arc<Part>, Range<u32>),
    /// Blobs of at most one shard.
    Whole(Vec<(Hash, u64)>),
}

/// A request under way, and the verified bytes it has brought.
struct Under {
    peer: PeerId,
    handle: AbortHandle,
    bytes: Arc<AtomicU64>,
    counted: u64,
}

/// Opens the growing files, and cuts what is missing into work: small blobs first, then runs of shards.
///
/// Also returns files an interrupted fetch left whole, and the bytes that are here already.
pub(super) fn begin(
    library: &Library,
    missing: Vec<(Hash, u64)>,
) -> Result<(Vec<Work>, Vec<Fresh>, u64), StoreError> {
    let store = library.store();
    let (mut work, mut left, mut have) = (Vec::new(), Vec::new(), 0);
    let (mut many, mut many_len) = (Vec::new(), 0);
    let mut big = Vec::new();
    for (hash, len) in missing {
        if store.demote(hash, len)? {
            have += len;
            continue;
        }
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
pub(super) struct Run<'a> {
    node: &'a Node,
    manifest: Hash,
    plan: FetchPlan<PeerId>,
    work: Vec<Work>,
    tasks: JoinSet<(u64, Outcome)>,
    under: HashMap<u64, Under>,
    progress: &'a Progress,
    missing: u64,
    /// When a verified byte came last: providers that promise and give nothing do not keep a fetch waiting.
    fruitful: Instant,
}

/// How a request ended, with what it brought.
struct Outcome {
    whole: transfer::Whole,
    result: Result<(), transfer::TransferError>,
}

impl<'a> Run<'a> {
    /// Prepares to bring `missing` bytes of a manifest.
    pub(super) fn new(
        node: &'a Node,
        manifest: Hash,
        work: Vec<Work>,
        missing: u64,
        progress: &'a Progress,
    ) -> Run<'a> {
        Run {
            node,
            manifest,
            plan: FetchPlan::new(work.len()),
            work,
            tasks: JoinSet::new(),
            under: HashMap::new(),
            progress,
            missing,
            fruitful: Instant::now(),
        }
    }

    /// Returns the growing files that are complete now.
    pub(super) fn complete(&self) -> impl Iterator<Item = &Arc<Part>> {
        self.work.iter().filter_map(|work| match work {
            Work::Shards(part, _) => part.is_complete().then_some(part),
            Work::Whole(_) => None,
        })
    }

    /// Brings all the work; what came before an error is kept.
    pub(super) async fn all(&mut self, providers: &mut Providers, got: &mut Got) -> Result<(), FetchError> {
        let mut alone = false;
        loop {
            match self.decide() {
                Action::Done => return Ok(()),
                Action::FindProviders => {
                    let waited = self.fruitful.elapsed();
                    if waited >= PROVIDER_WAIT {
                        let (manifest, missing) = (self.manifest, self.missing);
                        return Err(FetchError::NoProvider {
                            manifest,
                            waited,
                            missing,
                        });
                    }
                    alone = true;
                    self.progress
                        .note(Some("no provider answers; looking for one".into()));
                }
                _ if std::mem::take(&mut alone) => self.progress.note(None),
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
                    if alone {
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
                self.fruitful = Instant::now();
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
