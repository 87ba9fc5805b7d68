//! The task of the mirror: what is wanted is looked at when something is heard of, and now and then; what comes next is brought, a few at once.
//! One decision is made at a time, so that two never take the same room.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{Hash, RepoId, release::provider_key};
use rand::Rng;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Blobs, Kept, Lack, blobs_of,
    fit::{Fit, Needed, Shelved, fit, may_go, oldest_first},
    inventory::Dropping,
    queue::{Queue, Wanted},
    views::say,
};
use crate::{
    discovery::News,
    fetch::{FetchError, Fetched, Unfinished},
    library::{Library, LibraryError},
    names::Mirror,
    node::{Node, WeakNode},
    store::{Held, StoreError, blocking},
};

/// Repos that are brought at once.
const BRINGS_MAX: usize = 2;
/// From one look at what is wanted to the next, at most.
const SURVEY_AGAIN: Duration = Duration::from_secs(5 * 60);
/// News are gathered for so long before what is wanted is looked at.
const GATHER: Duration = Duration::from_millis(200);
/// How long a lookup in the DHT may take.
const LOOK_WAIT: Duration = Duration::from_secs(5);
/// Providers are counted up to here: what so many have is not rare.
const PROVIDERS_COUNTED: usize = 8;
/// How long somebody is waited for who has the manifest.
const MANIFEST_WAIT: Duration = Duration::from_secs(30);
/// How long a fetch waits while nothing comes, before another repo gets its turn.
const FETCH_WAIT: Duration = Duration::from_secs(60);
/// Bytes of manifests of what did not fit, after which they are collected at once. Otherwise when nothing is being brought.
const LITTER_MAX: u64 = 64 * 1024 * 1024;

/// What there is to react to.
enum Event {
    /// Others released something.
    News(Arc<News>),
    /// So much was released, or changed by the user, that all is looked at.
    Changed,
    /// It is time to look.
    Due,
    /// Some work has ended.
    Ended(Box<Result<(Id, Done), JoinError>>),
    /// Nobody tells news any more: the node is going.
    Over,
}

/// How some work ended.
enum Done {
    /// So many say that they have it.
    Looked(Wanted, usize),
    /// Its manifest is here, and stays for as long as it is held; or not. Whether it had to be asked for.
    Manifest(Wanted, Result<(Arc<Blobs>, Held, bool), FetchError>),
    /// It was fetched, or not.
    Fetched(Wanted, Result<Fetched, FetchError>),
}

/// What a decision came to.
enum Placed {
    /// It is on the list, and may be fetched.
    Listed,
    /// It does not fit.
    TooLarge { need: u64, free: u64 },
    /// Somebody else is fetching it.
    Busy,
    /// It is not wanted any more.
    Unwanted,
}

/// What is to be mirrored, and what of it is not here.
#[derive(Default)]
struct Survey {
    mirrors: Vec<(protocol::Publisher, Mirror)>,
    wanted: Vec<Wanted>,
    /// The newest revisions of all names that are mirrored.
    newest: HashSet<Hash>,
    /// Revisions on the list that a newer one took the place of before they were whole: nobody will complete them.
    useless: Vec<Kept>,
    /// Entries on the list.
    kept: HashSet<Hash>,
    /// Whether some were being dropped when the node stopped.
    going: bool,
}

#[derive(Default)]
struct Mirroring {
    queue: Queue,
    works: JoinSet<Done>,
    /// What is being worked on, so that it can be ended.
    under_way: HashMap<RepoId, (Id, AbortHandle)>,
    /// Repos whose manifests or files are being brought.
    bringing: HashSet<Id>,
    survey: Survey,
    /// What the entries of the list take.
    contents: HashMap<Hash, Arc<Blobs>>,
    /// Bytes of manifests that came, and did not fit.
    litter: u64,
}

/// Keeps what is to be mirrored fetched; ends with the node.
pub(crate) async fn keep_mirroring(node: WeakNode, mut news: broadcast::Receiver<Arc<News>>) {
    let mut mirroring = Mirroring::default();
    let mut begun_at = Instant::now();
    let mut survey_at = begun_at;
    let Some((board, mut denials)) = node.upgrade().map(|node| {
        let denials = node.library().denials().changes();
        (node.mirror_board().clone(), denials)
    }) else {
        return;
    };
    loop {
        let due = mirroring.queue.next_due(begun_at);
        let wake_at = due.map_or(survey_at, |due| due.min(survey_at));
        let event = tokio::select! {
            biased;
            Some(ended) = mirroring.works.join_next_with_id() => Event::Ended(Box::new(ended)),
            () = board.changed() => Event::Changed,
            Ok(()) = denials.changed() => Event::Changed,
            heard = news.recv() => match heard {
                Ok(news) => Event::News(news),
                Err(RecvError::Lagged(_)) => Event::Changed,
                Err(RecvError::Closed) => Event::Over,
            },
            () = sleep_until(wake_at.into()) => Event::Due,
        };
        let Some(node) = node.upgrade() else { return };
        match event {
            Event::News(news) => {
                if mirroring.concerns(&node, news).await {
                    survey_at = survey_at.min(Instant::now() + GATHER);
                }
            }
            Event::Changed => survey_at = Instant::now(),
            Event::Due => {}
            Event::Ended(ended) => mirroring.ended(&node, *ended).await,
            Event::Over => return,
        }
        if survey_at <= Instant::now() {
            mirroring.look_around(&node).await;
            survey_at = Instant::now() + SURVEY_AGAIN;
        }
        begun_at = Instant::now();
        mirroring.begin(&node, begun_at);
        mirroring.sweep(&node).await;
    }
}

impl Mirroring {
    /// Whether news are of somebody who is mirrored.
    async fn concerns(&self, node: &Node, news: Arc<News>) -> bool {
        if self.survey.mirrors.is_empty() {
            return false;
        }
        let library = node.library().clone();
        let of: Vec<_> = self
            .survey
            .mirrors
            .iter()
            .map(|(publisher, _)| *publisher)
            .collect();
        let look = blocking(move || {
            let known = |id: &protocol::ReleaseId| library.catalog().known(id.name_half()).ok().flatten();
            let mut rows = news.ids.iter().filter_map(known);
            // Who was looked at last may have gone on as another key.
            let of: HashSet<_> = of.into_iter().map(|key| library.today(key)).collect();
            Ok(rows.any(|row| of.contains(&library.today(row.release.publisher))))
        });
        look.await.unwrap_or(true)
    }

    /// Looks at what is wanted, and ends what is not any more.
    async fn look_around(&mut self, node: &Node) {
        let (library, discovery) = (node.library().clone(), node.discovery().clone());
        let before: Vec<_> = self
            .survey
            .mirrors
            .iter()
            .map(|(publisher, _)| *publisher)
            .collect();
        let look = blocking(move || {
            for (publisher, _) in library.mirrors() {
                // What is known of somebody who is mirrored from now on may not be followed yet.
                if !before.contains(&publisher)
                    && let Err(error) = discovery.adopt_known(publisher)
                {
                    warn!(%publisher, error = &error as &dyn std::error::Error, "what is known is not mirrored");
                }
            }
            Ok(survey(&library))
        });
        let survey = match look.await.map_err(LibraryError::from).and_then(|survey| survey) {
            Ok(survey) => survey,
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "what is to be mirrored cannot be told"
                );
                Survey::default()
            }
        };
        let now = Instant::now();
        // By the user: what we dropped was taken off here too.
        let gone = self.survey.kept.difference(&survey.kept).next().is_some();
        let changed = survey.mirrors != self.survey.mirrors;
        for repo in self.queue.want(survey.wanted.clone(), now) {
            if let Some((id, work)) = self.under_way.remove(&repo) {
                work.abort();
                self.bringing.remove(&id);
            }
        }
        if gone || changed {
            self.queue.reconsider(now);
        }
        self.contents.retain(|manifest, _| survey.kept.contains(manifest));
        let wanted: HashSet<&RepoId> = survey.wanted.iter().map(|wanted| &wanted.repo).collect();
        node.mirror_board().keep_only(|repo| wanted.contains(repo));
        self.survey = survey;
        let useless = std::mem::take(&mut self.survey.useless);
        if (!useless.is_empty() || self.survey.going)
            && let Err(error) = drop_kept(node, &useless).await
        {
            warn!(
                error = &error as &dyn std::error::Error,
                "what is of no use any more is not dropped"
            );
        }
    }

    /// Begins what there is room for.
    fn begin(&mut self, node: &Node, now: Instant) {
        while let Some(wanted) = self.queue.look(now) {
            let looking = look(node.clone(), wanted.clone());
            self.work(&wanted, looking);
        }
        while self.bringing.len() < BRINGS_MAX
            && let Some(wanted) = self.queue.next(now)
        {
            node.mirror_board().say(&wanted, Lack::Fetching);
            let bringing = bring(node.clone(), wanted.clone());
            let id = self.work(&wanted, bringing);
            self.bringing.insert(id);
        }
    }

    fn work(&mut self, wanted: &Wanted, work: impl Future<Output = Done> + Send + 'static) -> Id {
        let handle = self.works.spawn(work);
        let id = handle.id();
        self.under_way.insert(wanted.repo.clone(), (id, handle));
        id
    }

    async fn ended(&mut self, node: &Node, ended: Result<(Id, Done), JoinError>) {
        let (id, done) = match ended {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => (error.id(), None),
        };
        self.bringing.remove(&id);
        let of = self.under_way.extract_if(|_, (other, _)| *other == id).next();
        match done {
            // It was ended by us, and is not known any more; or it broke, and must not stop the rest.
            None => {
                if let Some((repo, _)) = of {
                    self.queue.broke(&repo, spread(), Instant::now());
                }
            }
            // It had ended when it was to be ended.
            Some(Done::Manifest(wanted, _)) if !self.queue.wants(&wanted) => {}
            Some(Done::Looked(wanted, providers)) => {
                self.queue.looked(&wanted, providers, Instant::now());
            }
            Some(Done::Manifest(wanted, Ok((blobs, held, came)))) => {
                self.manifest_is_here(node, wanted, blobs, held, came).await;
            }
            Some(Done::Manifest(wanted, Err(error)) | Done::Fetched(wanted, Err(error))) => {
                self.did_not_come(node, &wanted, &error).await;
            }
            Some(Done::Fetched(wanted, Ok(_))) => {
                if node.library().is_complete(wanted.manifest) {
                    info!(repo = %wanted.repo, seq = wanted.seq, "mirrored");
                    node.mirror_board().clear(&wanted.repo);
                    self.queue.done(&wanted);
                } else {
                    self.queue.failed(&wanted, spread(), Instant::now());
                }
            }
        }
    }

    /// Decides about a repo whose manifest is here, and begins to fetch it.
    async fn manifest_is_here(
        &mut self,
        node: &Node,
        wanted: Wanted,
        blobs: Arc<Blobs>,
        held: Held,
        came: bool,
    ) {
        let placed = self.place(node, &wanted, &blobs).await;
        let now = Instant::now();
        let board = node.mirror_board();
        if came && !matches!(placed, Ok(Placed::Listed)) {
            let manifest = blobs.iter().find(|(hash, _)| *hash == wanted.manifest);
            self.litter = self.litter.saturating_add(manifest.map_or(0, |(_, len)| *len));
        }
        match placed {
            Ok(Placed::Listed) => {
                self.survey.kept.insert(wanted.manifest);
                self.contents.insert(wanted.manifest, blobs);
                let id = self.work(&wanted, fetch(node.clone(), wanted.clone(), held));
                self.bringing.insert(id);
            }
            Ok(Placed::TooLarge { need, free }) => {
                debug!(repo = %wanted.repo, need, free, "it does not fit into the quota of its publisher");
                board.say(&wanted, Lack::TooLarge { need, free });
                self.queue.refused(&wanted, spread(), now);
            }
            Ok(Placed::Busy) => {
                board.say(&wanted, Lack::Waiting);
                self.queue.failed(&wanted, spread(), now);
            }
            Ok(Placed::Unwanted) => self.queue.done(&wanted),
            Err(error) => {
                warn!(repo = %wanted.repo, error = &error as &dyn std::error::Error, "it is not mirrored");
                board.say(&wanted, Lack::Failed { why: say(&error) });
                self.queue.failed(&wanted, spread(), now);
            }
        }
    }

    /// Finds room for a repo, makes it, and writes down that the repo is the mirror's.
    async fn place(
        &mut self,
        node: &Node,
        wanted: &Wanted,
        blobs: &Arc<Blobs>,
    ) -> Result<Placed, LibraryError> {
        let library = node.library();
        let inventory = library.inventory().clone();
        let Some(mirror) = library.mirror_of(wanted.repo.publisher) else {
            return Ok(Placed::Unwanted);
        };
        if inventory.was_let_go(wanted.manifest) || library.is_complete(wanted.manifest) {
            return Ok(Placed::Unwanted);
        }
        let busy = being_fetched(node).await?;
        if busy.contains(&wanted.manifest) {
            return Ok(Placed::Busy);
        }
        let all = inventory.all()?;
        let is_this = |kept: &Kept| kept.repo == wanted.repo && kept.manifest == wanted.manifest;
        let this = all.iter().find(|kept| is_this(kept));
        let publisher = library.today(wanted.repo.publisher);
        let of_ours = |kept: &&Kept| library.today(kept.repo.publisher) == publisher && !is_this(kept);
        let mut kept: Vec<&Kept> = all.iter().filter(of_ours).collect();
        oldest_first(&mut kept);
        let mut contents = Vec::new();
        for kept in &kept {
            contents.push(self.taken_by(library, kept).await);
        }
        let newest = newest_of(library, &kept);
        let needed = Needed {
            newest: self.survey.newest.clone(),
            busy,
        };
        let shelved: Vec<Shelved<'_>> = kept
            .iter()
            .zip(&contents)
            .map(|(kept, blobs)| Shelved {
                blobs,
                droppable: may_go(kept, newest.get(&kept.repo).copied(), &needed),
            })
            .collect();
        let drop = match fit(mirror.quota, &shelved, blobs) {
            Fit::Fits { drop } => drop,
            Fit::No { need, free } => return Ok(Placed::TooLarge { need, free }),
        };
        let dropped: Vec<Kept> = drop.into_iter().map(|at| kept[at].clone()).collect();
        if !dropped.is_empty() {
            drop_kept(node, &dropped).await?;
            for kept in &dropped {
                self.survey.kept.remove(&kept.manifest);
            }
        }
        let shared = match this {
            Some(this) => this.shared,
            None => {
                let ours = all
                    .iter()
                    .any(|kept| kept.manifest == wanted.manifest && !kept.shared);
                !ours && library.store().pinned().await?.contains(&wanted.manifest)
            }
        };
        let listed = Kept {
            repo: wanted.repo.clone(),
            manifest: wanted.manifest,
            seq: wanted.seq,
            issued: wanted.issued,
            bytes: super::fit::union([&**blobs]),
            shared,
            going: false,
        };
        blocking(move || Ok(inventory.add(listed))).await??;
        Ok(Placed::Listed)
    }

    /// What an entry takes.
    async fn taken_by(&mut self, library: &Library, kept: &Kept) -> Arc<Blobs> {
        if let Some(blobs) = self.contents.get(&kept.manifest) {
            return blobs.clone();
        }
        let blobs = library.taken_by(kept).await;
        self.contents.insert(kept.manifest, blobs.clone());
        blobs
    }

    /// Shows why something did not come, and gives up its place where nothing of it is here.
    async fn did_not_come(&mut self, node: &Node, wanted: &Wanted, error: &FetchError) {
        debug!(repo = %wanted.repo, error = error as &dyn std::error::Error, "it is not mirrored yet");
        let for_good = matches!(
            error,
            FetchError::Manifest { .. } | FetchError::TooLarge { .. } | FetchError::Broken { .. }
        );
        if for_good || nothing_is_here(node.library(), wanted.manifest).await {
            let listed = node.library().inventory().all().unwrap_or_default();
            let this = listed
                .into_iter()
                .filter(|kept| kept.repo == wanted.repo && kept.manifest == wanted.manifest);
            let this: Vec<Kept> = this.collect();
            self.survey.kept.remove(&wanted.manifest);
            if let Err(error) = drop_kept(node, &this).await {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "what did not come is not dropped"
                );
            }
        }
        node.mirror_board().say(wanted, Lack::Failed { why: say(error) });
        let now = Instant::now();
        match for_good {
            true => self.queue.refused(wanted, spread(), now),
            false => self.queue.failed(wanted, spread(), now),
        }
    }

    /// Collects the manifests of what did not fit.
    async fn sweep(&mut self, node: &Node) {
        if self.litter > LITTER_MAX || (self.litter > 0 && self.bringing.is_empty()) {
            self.litter = 0;
            if let Err(error) = node.library().collect().await {
                warn!(%error, "manifests of what does not fit are not collected");
            }
        }
    }
}

/// Looks at what is wanted. Blocking: reads the release of every repo that is mirrored.
fn survey(library: &Library) -> Result<Survey, LibraryError> {
    library.settle_mirrors()?;
    let inventory = library.inventory();
    let kept = inventory.all()?;
    let mut survey = Survey {
        mirrors: library.mirrors(),
        kept: kept.iter().map(|kept| kept.manifest).collect(),
        going: kept.iter().any(|kept| kept.going),
        ..Survey::default()
    };
    let mut newest = HashMap::new();
    for (publisher, mirror) in &survey.mirrors {
        let matcher = mirror.names.matcher();
        for repo in library.repos_of(*publisher)? {
            // What does not read is neither wanted nor superseded.
            let Ok(Some(release)) = library.names().get(&repo) else {
                continue;
            };
            let release = release.release();
            survey.newest.insert(release.manifest);
            newest.insert(repo.clone(), release.manifest);
            if matcher.is_match(&repo.name)
                && !library.is_complete(release.manifest)
                && !inventory.was_let_go(release.manifest)
                && !library.is_forked(&repo, release.seq)?
                && library
                    .denials()
                    .check(Some(&repo), Some(release.manifest))
                    .is_ok()
            {
                survey.wanted.push(Wanted {
                    manifest: release.manifest,
                    seq: release.seq,
                    issued: release.issued,
                    repo,
                });
            }
        }
    }
    survey.useless = kept
        .into_iter()
        .filter(|kept| {
            let superseded = newest
                .get(&library.newest(&kept.repo))
                .is_some_and(|newest| *newest != kept.manifest);
            superseded
                && !kept.shared
                && !survey.newest.contains(&kept.manifest)
                && !library.is_complete(kept.manifest)
        })
        .collect();
    Ok(survey)
}

/// The newest revision of each name that is on the list; those that do not read are left out.
fn newest_of(library: &Library, kept: &[&Kept]) -> HashMap<RepoId, Hash> {
    let newest = |kept: &&Kept| {
        let release = library.names().get(&library.newest(&kept.repo)).ok().flatten()?;
        Some((kept.repo.clone(), release.release().manifest))
    };
    kept.iter().filter_map(newest).collect()
}

/// Drops revisions, and what was being dropped before: first their bytes, then their entries.
async fn drop_kept(node: &Node, dropped: &[Kept]) -> Result<(), LibraryError> {
    let library = node.library();
    let inventory = library.inventory();
    for kept in dropped {
        let _turn = inventory.turn().await;
        let (of, kept) = (inventory.clone(), kept.clone());
        let (repo, seq) = (kept.repo.clone(), kept.seq);
        let dropping = blocking(move || Ok(of.begin_drop(&kept))).await??;
        debug!(%repo, seq, ?dropping, "a mirrored revision is dropped");
        if dropping != Dropping::Bytes {
            continue;
        }
        info!(%repo, seq, "a mirrored revision makes room");
    }
    let going: Vec<Kept> = inventory.all()?.into_iter().filter(|kept| kept.going).collect();
    if going.is_empty() {
        return Ok(());
    }
    for kept in &going {
        {
            let _turn = inventory.turn().await;
            // The user may have claimed it meanwhile.
            if !inventory.all()?.contains(kept) {
                continue;
            }
            library.unkeep(kept.manifest).await?;
        }
        node.sharing().drop_crowd(kept.manifest);
        node.swarm().stop_providing(provider_key(kept.manifest)).await;
    }
    library.collect().await?;
    let inventory = inventory.clone();
    blocking(move || Ok(inventory.gone())).await??;
    Ok(())
}

/// The manifests that are being fetched, or are to be: by the user, by clients, or by us.
async fn being_fetched(node: &Node) -> Result<HashSet<Hash>, LibraryError> {
    let data = node.library().data().to_owned();
    let unfinished = blocking(move || Unfinished::all(&data)).await?;
    let jobs = node.jobs().into_iter().filter_map(|job| job.manifest);
    let unfinished = unfinished.into_iter().map(|unfinished| unfinished.manifest);
    Ok(jobs.chain(unfinished).collect())
}

/// Whether neither a whole file nor a part of one is here, and nobody ever had the repo here.
async fn nothing_is_here(library: &Library, manifest: Hash) -> bool {
    if !matches!(library.catalog().manifest(manifest), Ok(None)) {
        return false;
    }
    let content = match library.manifest(manifest).await {
        Ok(content) => content,
        Err(error) => return matches!(error, LibraryError::Store(StoreError::Missing(_))),
    };
    let blobs: HashSet<Hash> = content
        .files()
        .iter()
        .filter(|file| file.size > 0)
        .map(|file| file.blake3)
        .collect();
    let begun = blobs.iter().any(|blob| library.store().is_begun(*blob));
    let missing = library.missing(&content).await;
    !begun && missing.is_ok_and(|missing| missing.len() == blobs.len())
}

/// Counts who says to have it.
async fn look(node: Node, wanted: Wanted) -> Done {
    let mut count = 0;
    let counting = async {
        let key = provider_key(wanted.manifest);
        let Ok(mut providers) = node.swarm().providers(key, PROVIDERS_COUNTED).await else {
            return;
        };
        while count < PROVIDERS_COUNTED && providers.recv().await.is_some() {
            count += 1;
        }
    };
    // Who was counted until then counts.
    let _ = timeout(LOOK_WAIT, counting).await;
    Done::Looked(wanted, count)
}

/// Gets the manifest of a repo, and keeps it from collection.
async fn bring(node: Node, wanted: Wanted) -> Done {
    let store = node.library().store();
    let held = store.hold(wanted.manifest);
    let (manifest, came) = match store.manifest(wanted.manifest).await {
        Ok(manifest) => (Ok(manifest), false),
        Err(_) => (node.bring_manifest(wanted.manifest, MANIFEST_WAIT).await, true),
    };
    Done::Manifest(wanted, manifest.map(|manifest| (blobs_of(&manifest), held, came)))
}

async fn fetch(node: Node, wanted: Wanted, held: Held) -> Done {
    let repo = wanted.repo.clone();
    let fetched = node.fetch_whole(repo, wanted.manifest, FETCH_WAIT).await;
    drop(held);
    Done::Fetched(wanted, fetched)
}

fn spread() -> f64 {
    rand::rng().random()
}
