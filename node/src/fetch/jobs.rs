//! The fetches under way: one job a manifest, however many ask for it. A job lives as long as somebody waits for it.

use super::{
    FetchError, FetchRequest, Patterns, Sought,
    caution::{Caution, LeftOut},
    providers::Providers,
    run::{Ask, Run},
    views::{JobState, JobView, NoSuchJob},
    wants::Want,
};
use crate::{
    check::facts::Problem,
    limits::PROVIDER_WAIT,
    node::Node,
    progress::{Phase, Progress},
    store::Held,
};
use futures::future::join_all;
use libp2p::PeerId;
use protocol::{FileEntry, Hash, Manifest};
use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, Weak},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Jobs that may end under a waiting fetch before it gives up: each but the last failed for somebody else.
const TRIES: usize = 8;
/// Asks that wait for a job: more than anybody has while it looks at its files.
const ASKS_MAX: usize = 1_024;

/// The jobs of a node.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u64,
    rows: Vec<Row>,
}

struct Row {
    id: u64,
    manifest: Hash,
    asks: mpsc::Sender<Ask>,
    view: watch::Receiver<JobView>,
    /// What those want who have asked for files and not gone away, and what of it they would rather not have.
    wanted: Vec<(Weak<Patterns>, Arc<Caution>)>,
}

/// What a job brought for one of those who waited.
pub(super) struct Brought {
    /// The manifest.
    pub(super) manifest: Arc<Manifest>,
    /// The files that were wanted.
    pub(super) files: Vec<FileEntry>,
    /// The files of these that were left out.
    pub(super) left_out: Vec<LeftOut>,
    /// What of them this build does not read.
    pub(super) problems: Vec<Problem>,
    /// The blobs that were missing and are here.
    pub(super) blobs: HashSet<Hash>,
    /// Who gave how many verified bytes meanwhile.
    pub(super) shares: BTreeMap<PeerId, u64>,
    /// Keeps all of it from collection until it is pinned.
    pub(super) _held: Held,
}

impl Jobs {
    /// Has the wanted files of a manifest brought here, by the job there is or a new one.
    pub(super) async fn bring(
        &self,
        node: &Node,
        sought: &Sought,
        request: &FetchRequest,
        caution: &Arc<Caution>,
        progress: &Progress,
    ) -> Result<Brought, FetchError> {
        let manifest = sought.manifest;
        let patterns = Arc::new(Patterns::new(request)?);
        for _ in 0..TRIES {
            let (done, brought) = oneshot::channel();
            let want = Want {
                patterns: patterns.clone(),
                caution: caution.clone(),
                wait: request.wait,
                progress: progress.clone(),
                known: sought.known.clone(),
                paused: sought.paused,
                done,
            };
            self.want(node, manifest, request, want);
            // A job that fails tells one of those who wait; the others ask again, and learn it themselves.
            if let Ok(brought) = brought.await {
                return brought;
            }
        }
        Err(FetchError::Ended { manifest })
    }

    fn want(&self, node: &Node, manifest: Hash, request: &FetchRequest, want: Want) {
        let mut table = self.table();
        let wanted = (Arc::downgrade(&want.patterns), want.caution.clone());
        if let Some(row) = table.rows.iter_mut().find(|row| row.manifest == manifest) {
            row.wanted.retain(|(wanted, _)| wanted.strong_count() > 0);
            row.wanted.push(wanted);
            // A job with a thousand asks before it drops this one, and the fetch asks again.
            let _ = row.asks.try_send(Ask::Want(want));
            return;
        }
        table.last += 1;
        let id = table.last;
        let (asks, mut asked) = mpsc::channel(ASKS_MAX);
        let (view, watched) = watch::channel(JobView {
            id,
            what: request.what.to_string(),
            manifest: Some(manifest),
            ..JobView::default()
        });
        table.rows.push(Row {
            id,
            manifest,
            asks,
            view: watched,
            wanted: vec![wanted],
        });
        let worker = node.clone();
        node.task(async move {
            work(&worker, manifest, want, &mut asked, &view).await;
            // What was asked while it failed is dropped, and asked again.
            worker.fetches().table().rows.retain(|row| row.id != id);
        });
    }

    /// Takes a job off the list unless somebody asked meanwhile: nobody can ask one that is not listed.
    pub(super) fn end(&self, manifest: Hash, asked: &mpsc::Receiver<Ask>) -> bool {
        let mut table = self.table();
        let idle = asked.is_empty();
        if idle {
            table.rows.retain(|row| row.manifest != manifest);
        }
        idle
    }

    /// Lists them, oldest first.
    pub(crate) fn views(&self) -> Vec<JobView> {
        let table = self.table();
        table.rows.iter().map(|row| row.view.borrow().clone()).collect()
    }

    /// Tells whether somebody waits for this file of a manifest, and it is known not to be left out.
    pub(crate) fn wants(&self, manifest: Hash, file: &FileEntry) -> bool {
        let table = self.table();
        let rows = table.rows.iter().filter(|row| row.manifest == manifest);
        let mut wanted = rows.flat_map(|row| &row.wanted);
        wanted.any(|(wanted, caution)| {
            let wants = wanted.upgrade().is_some_and(|wanted| wanted.wants(file));
            wants && caution.lets_through(file)
        })
    }

    /// Tells whether somebody waits for this file of a manifest, or would if it were not left out.
    pub(crate) fn asks_for(&self, manifest: Hash, file: &FileEntry) -> bool {
        let table = self.table();
        let rows = table.rows.iter().filter(|row| row.manifest == manifest);
        let mut wanted = rows.flat_map(|row| &row.wanted);
        wanted.any(|(wanted, _)| wanted.upgrade().is_some_and(|wanted| wanted.wants(file)))
    }

    /// Pauses a job, or lets it go on; returns its manifest.
    pub(crate) fn pause(&self, id: u64, paused: bool) -> Result<Hash, NoSuchJob> {
        let job = |row: &Row| row.id == id;
        self.ask(job, Ask::Pause(paused)).ok_or(NoSuchJob(id))
    }

    /// Gives a job up. What came is kept until it is collected.
    pub(crate) fn cancel(&self, id: u64) -> Result<(), NoSuchJob> {
        let asked = self.ask(|row| row.id == id, Ask::Cancel);
        asked.map(drop).ok_or(NoSuchJob(id))
    }

    /// Gives the job of a manifest up, if there is one.
    pub(crate) fn cancel_of(&self, manifest: Hash) {
        // A job that is too busy to hear it fetches what was let go.
        self.ask(|row| row.manifest == manifest, Ask::Cancel);
    }

    /// Has a job fetch these bytes of a blob before the rest, and waits for them; `false` when there is no such job, or no more.
    pub(super) async fn read(&self, manifest: Hash, blob: Hash, bytes: Range<u64>) -> bool {
        let (done, here) = oneshot::channel();
        let read = Ask::Read { blob, bytes, done };
        self.ask(|row| row.manifest == manifest, read).is_some() && here.await.is_ok()
    }

    /// Asks a job something; returns its manifest. `None`: there is none, or it is too busy to hear it.
    fn ask(&self, job: impl Fn(&Row) -> bool, ask: Ask) -> Option<Hash> {
        let table = self.table();
        let row = table.rows.iter().find(|row| job(row))?;
        row.asks.try_send(ask).ok().map(|()| row.manifest)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nothing panics while it holds this")
    }
}

/// Finds the manifest, and then works until nobody waits any more.
async fn work(
    node: &Node,
    hash: Hash,
    first: Want,
    asked: &mut mpsc::Receiver<Ask>,
    view: &watch::Sender<JobView>,
) {
    let held = node.library().store().hold(hash);
    let mut providers = Providers::start(node.clone(), hash, first.known.clone());
    let mut early = Early {
        wants: vec![first],
        reads: Vec::new(),
    };
    let found = match node.stored_manifest(hash).await {
        None => match early.find(node, hash, &mut providers, asked, view).await {
            Some(found) => found,
            None => return,
        },
        Some(stored) => Ok(stored),
    };
    let begun = match found {
        Ok(manifest) => Run::begin(node, manifest, held, providers).await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(run) => run.work(early.asks(), asked, view).await,
        // The others ask again, and learn it themselves. Who has gone away does not need to know.
        Err(error) => drop(early.wants.swap_remove(0).done.send(Err(error))),
    }
}

/// What is asked of a job that has no manifest yet.
struct Early {
    wants: Vec<Want>,
    reads: Vec<Ask>,
}

impl Early {
    /// Finds the manifest, as patiently as the first fetch says. `None`: nobody waits for it any more.
    async fn find(
        &mut self,
        node: &Node,
        hash: Hash,
        providers: &mut Providers,
        asked: &mut mpsc::Receiver<Ask>,
        view: &watch::Sender<JobView>,
    ) -> Option<Result<Manifest, FetchError>> {
        loop {
            let paused = self.wants[0].paused;
            let state = match paused {
                true => JobState::Paused,
                false => JobState::Finding,
            };
            view.send_modify(|view| view.state = state);
            let wait = self.wants[0].wait.unwrap_or(PROVIDER_WAIT);
            let search = async {
                match paused {
                    true => std::future::pending().await,
                    false => node.fetch_manifest(hash, providers, wait).await,
                }
            };
            tokio::pin!(search);
            let paused = loop {
                self.wants
                    .iter()
                    .for_each(|want| want.progress.phase(Phase::Finding, 0, 0));
                let gone = join_all(self.wants.iter_mut().map(|want| want.done.closed()));
                tokio::select! {
                    found = &mut search => {
                        self.wants.retain(|want| !want.done.is_closed());
                        return (!self.wants.is_empty()).then_some(found);
                    }
                    _ = gone => return None,
                    Some(ask) = asked.recv() => match ask {
                        Ask::Want(want) => self.wants.push(want),
                        Ask::Read { .. } => self.reads.push(ask),
                        Ask::Pause(paused) => break paused,
                        Ask::Cancel => {
                            for want in self.wants.drain(..) {
                                let _ = want.done.send(Err(FetchError::Cancelled { manifest: hash }));
                            }
                            return None;
                        }
                    },
                }
            };
            self.wants.iter_mut().for_each(|want| want.paused = paused);
        }
    }

    /// What the running job is to hear first.
    fn asks(self) -> Vec<Ask> {
        let wants = self.wants.into_iter().map(Ask::Want);
        wants.chain(self.reads).collect()
    }
}
