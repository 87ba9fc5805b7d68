//! Moderating: a running node ends what it does with what was denied, goes on with what is allowed again, and keeps the lists fresh that its user
//! follows.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use protocol::{
    Hash, RepoId, RepoRef, denylist::DENYLIST_FILE, limits::DENYLIST_LEN_MAX, release::provider_key,
};
use rand::Rng;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    denials::{ListView, chain},
    discovery::News,
    fetch::FetchError,
    library::LibraryError,
    node::{Node, WeakNode},
    resolve::ResolveError,
    store::{StoreError, blocking},
};

/// Pause between two looks at the file, the clock and the catalog: what was edited is in force well within five seconds.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// How often a list is looked for, on average: a quarter less or more each time, so that its followers do not come together.
const REFRESH: Duration = Duration::from_secs(60 * 60);
/// The same after it could not be had.
const REFRESH_SOON: Duration = Duration::from_secs(5 * 60);
/// How long the manifest and the file of a list are waited for.
const LIST_WAIT: Duration = Duration::from_secs(30);
/// How long a subscription waits for the list, before it is left to come by itself.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(15);

/// Why a list that is followed could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Its name leads nowhere.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Its manifest or its file cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It has no list, or one that is too long.
    #[error("{manifest} has no {DENYLIST_FILE} of at most {DENYLIST_LEN_MAX} bytes")]
    NoList {
        /// The manifest of its newest release.
        manifest: Hash,
    },
    /// Something of ours fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// What a node keeps in mind between two looks.
#[derive(Default)]
pub(crate) struct Moderator {
    manifests: BTreeSet<Hash>,
    repos: BTreeSet<RepoId>,
    /// When each list was last looked for, and by how much the pause after that differs from the usual one.
    asked: HashMap<RepoId, (Instant, f64)>,
    /// What went wrong at the last look: it is said once.
    trouble: Option<String>,
}

impl Moderator {
    /// Looks whether what is denied has changed.
    pub(crate) async fn look(&mut self, node: &Node) {
        let renewed = node.library().renew_denials().await;
        let trouble = renewed.err().map(|error| chain(&error));
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            warn!(trouble, "what is denied cannot be worked out");
        }
        self.trouble = trouble;
    }

    /// Ends what is done with what is denied now, and goes on with what is not any more.
    pub(crate) async fn enforce(&mut self, node: &Node) {
        let library = node.library().clone();
        let withheld = tokio::task::spawn_blocking(move || library.withheld()).await;
        let (manifests, repos) = match withheld {
            Ok(Ok(withheld)) => withheld,
            Ok(Err(error)) => {
                warn!(%error, "what is denied cannot be listed");
                return;
            }
            Err(_) => return,
        };
        for manifest in manifests.difference(&self.manifests) {
            node.withdraw(*manifest).await;
        }
        for repo in repos.difference(&self.repos) {
            node.withdraw_release(repo).await;
        }
        node.end_denied_jobs().await;
        for manifest in self.manifests.difference(&manifests) {
            node.announce_if_here(*manifest).await;
        }
        for repo in self.repos.difference(&repos) {
            let manifest = node.library().resolve_local(&RepoRef::Id(repo.clone()));
            if let Ok(manifest) = manifest {
                node.announce_if_here(manifest).await;
            }
        }
        if (&manifests, &repos) != (&self.manifests, &self.repos) {
            info!(
                manifests = manifests.len(),
                repos = repos.len(),
                "denied of what is here"
            );
        }
        (self.manifests, self.repos) = (manifests, repos);
    }

    /// Begins to look for the lists whose time has come.
    pub(crate) fn refresh(&mut self, node: &Node, now: Instant) {
        let denials = node.library().denials();
        let lists: BTreeSet<RepoId> = denials.lists().into_iter().map(|list| list.repo).collect();
        self.asked.retain(|repo, _| lists.contains(repo));
        for repo in lists {
            let pause = match denials.is_troubled(&repo) {
                true => REFRESH_SOON,
                false => REFRESH,
            };
            if let Some((asked, factor)) = self.asked.get(&repo)
                && now.saturating_duration_since(*asked) < pause.mul_f64(*factor)
            {
                continue;
            }
            let factor = rand::rng().random_range(0.75..1.25);
            self.asked.insert(repo.clone(), (now, factor));
            let worker = node.clone();
            node.task(async move {
                // What went wrong stands with the list.
                let _ = worker.refresh_list(&repo).await;
            });
        }
    }
}

/// Gets the next release of a list as soon as a peer tells of it; ends with the node.
pub(crate) async fn keep_lists(node: WeakNode, mut news: broadcast::Receiver<Arc<News>>) {
    loop {
        let heard = match news.recv().await {
            Ok(heard) => heard,
            // What was missed is found when the list is looked for next.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Some(node) = node.upgrade() else { return };
        let lists = node.discovery().lists_among(&heard.ids);
        join_all(
            lists
                .iter()
                .map(|list| node.put_in_force(list, node.bring_heard(list))),
        )
        .await;
    }
}

impl Node {
    /// Follows a list, and waits a while for it. It is `None` where the user took it back meanwhile.
    ///
    /// # Errors
    /// As [`Library::subscribe`].
    pub async fn subscribe(&self, repo: &RepoRef) -> Result<Option<ListView>, LibraryError> {
        let mut changes = self.library().denials().changes();
        let (repo, _) = self.library().subscribe(repo).await?;
        self.library().denials().look_again();
        let view = || self.library().list_view(&repo);
        let known = async {
            while view().is_some_and(|list| list.seq.is_none() && list.trouble.is_none()) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // One that takes longer comes by itself.
        let _ = timeout(SUBSCRIBE_WAIT, known).await;
        Ok(view())
    }

    /// Looks for newer releases of all lists that are followed, and puts them in force.
    pub async fn refresh_lists(&self) {
        let lists = self.library().denials().lists();
        join_all(lists.iter().map(|list| self.refresh_list(&list.repo))).await;
    }

    /// Looks for a newer release of a list, and puts it in force. What goes wrong is also noted with the list.
    ///
    /// # Errors
    /// Every variant of [`RefreshError`]. The former release stays in force.
    pub async fn refresh_list(&self, repo: &RepoId) -> Result<(), RefreshError> {
        self.put_in_force(repo, self.bring_list(repo)).await
    }

    async fn put_in_force(
        &self,
        repo: &RepoId,
        bringing: impl Future<Output = Result<(), RefreshError>>,
    ) -> Result<(), RefreshError> {
        let brought = bringing.await;
        // What of it is here says what is wrong with it.
        let renewed = self.library().renew_denials().await;
        let refreshed = brought.and(renewed.map_err(RefreshError::from));
        let trouble = refreshed.as_ref().err().map(|error| chain(error));
        if let Some(trouble) = &trouble {
            info!(list = %repo, trouble, "a denylist could not be had");
        }
        self.library().denials().note_fetch(repo, trouble);
        refreshed
    }

    async fn bring_list(&self, repo: &RepoId) -> Result<(), RefreshError> {
        let release = self.resolve(repo, &[]).await?;
        self.bring_release(repo, release.release().manifest).await
    }

    /// Gets the list of the release that was accepted last, of which a peer told just now.
    async fn bring_heard(&self, repo: &RepoId) -> Result<(), RefreshError> {
        let known = self.library().names().get(repo).map_err(LibraryError::from)?;
        let known = known.ok_or_else(|| ResolveError::NotFound(repo.clone().into()))?;
        let manifest = self.unforked(known)?.release().manifest;
        self.bring_release(repo, manifest).await
    }

    async fn bring_release(&self, repo: &RepoId, manifest: Hash) -> Result<(), RefreshError> {
        let content = match self.library().manifest(manifest).await {
            Ok(content) => content,
            Err(_) => self.bring_manifest(manifest, LIST_WAIT).await?,
        };
        let file = content.file(DENYLIST_FILE);
        let file = file.filter(|file| file.size <= DENYLIST_LEN_MAX as u64);
        let file = file.ok_or(RefreshError::NoList { manifest })?;
        let missing = self.library().missing_of([file]).await;
        let missing = missing.map_err(LibraryError::from)?;
        let listed = self.library().catalog().manifest(manifest);
        let listed = listed.map_err(LibraryError::from)?.is_some();
        if !(missing.is_empty() && listed) {
            // The list alone: whatever else lies beside it may be of any size.
            self.fetch_one_of(repo, manifest, DENYLIST_FILE, LIST_WAIT)
                .await?;
        }
        Ok(())
    }

    /// Tells nobody any more about a manifest, and ends what is under way with it.
    async fn withdraw(&self, manifest: Hash) {
        self.fetches().cancel_of(manifest);
        self.engines().forget(manifest);
        self.sharing().drop_crowd(manifest);
        self.swarm().stop_providing(provider_key(manifest)).await;
    }

    /// Tells nobody any more of the release of a repo.
    async fn withdraw_release(&self, repo: &RepoId) {
        let (library, repo) = (self.library().clone(), repo.clone());
        let release = blocking(move || Ok(library.names().get(&repo).ok().flatten())).await;
        if let Ok(Some(release)) = release {
            let release = release.release();
            self.swarm().withdraw_record(release.key()).await;
            if let Some(copy) = release.copy_key() {
                self.swarm().withdraw_record(copy).await;
            }
        }
    }

    /// Gives up the fetches of what is denied: by the manifest, or by a file that is denied by itself.
    async fn end_denied_jobs(&self) {
        for job in self.jobs() {
            let Some(manifest) = job.manifest else { continue };
            if self.holds_denied(manifest).await {
                self.fetches().cancel_of(manifest);
                self.sharing().drop_crowd(manifest);
            }
        }
    }

    async fn holds_denied(&self, manifest: Hash) -> bool {
        let denials = self.library().denials();
        if denials.is_empty() {
            return false;
        }
        if denials.manifest(manifest).is_some() {
            return true;
        }
        let Ok(content) = self.library().manifest(manifest).await else {
            return false;
        };
        let fetches = self.fetches();
        content
            .files()
            .iter()
            .any(|file| denials.file(file.blake3).is_some() && fetches.asks_for(manifest, file))
    }

    /// Refuses a manifest with a file that is wanted and denied by itself; one that is not here is not refused.
    pub(crate) async fn refuse_denied_file(
        &self,
        manifest: Hash,
        wants: impl Fn(&protocol::FileEntry) -> bool,
    ) -> Result<(), FetchError> {
        let denials = self.library().denials();
        if denials.is_empty() {
            return Ok(());
        }
        let content = match self.library().store().manifest(manifest).await {
            Ok(content) => content,
            Err(StoreError::Missing(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for file in content.files().iter().filter(|file| wants(file)) {
            if let Some(why) = denials.file(file.blake3) {
                return Err(FetchError::DeniedFile {
                    path: file.path.as_str().to_owned(),
                    manifest,
                    why: Box::new(why),
                });
            }
        }
        Ok(())
    }
}
