//! What the mirror shows of itself: how much of each publisher is here, what is not, and why.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex, MutexGuard},
};

use protocol::{Alias, Hash, Publisher, RepoId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Kept, fit::union, queue::Wanted};
use crate::{
    library::{Library, LibraryError},
    names::Mirror,
    store::blocking,
};

/// Repos that are not here and are shown, of one publisher.
const LACKING_SHOWN_MAX: usize = 1_000;

/// Why a repo that is to be mirrored is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Lack {
    /// Its turn has not come; or no node runs.
    Waiting,
    /// It is on its way.
    Fetching,
    /// It does not fit into the quota of its publisher, whatever is dropped for it.
    TooLarge {
        /// Bytes that it adds.
        need: u64,
        /// Bytes that there are for it.
        free: u64,
    },
    /// It did not come, and is tried again later.
    Failed {
        /// Why.
        why: String,
    },
    /// Its publisher signed two releases with one number: neither is followed.
    Forked,
    /// The user let it go.
    LetGo,
    /// It is denied here.
    Denied {
        /// Why, and by whom.
        why: String,
    },
}

/// A repo that is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Which.
    pub repo: RepoId,
    /// Why.
    #[serde(flatten)]
    pub lack: Lack,
}

/// How the mirror of one publisher is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorView {
    /// Who.
    pub publisher: Publisher,
    /// What the user calls it.
    pub alias: Alias,
    /// What is to be mirrored.
    #[serde(flatten)]
    pub mirror: Mirror,
    /// Repos that are to be mirrored.
    pub known: u64,
    /// Those of them whose newest release is here whole, whoever fetched it.
    pub kept: u64,
    /// Older revisions that the mirror keeps for as long as there is room.
    pub older: u64,
    /// Bytes of what the mirror answers for, each blob once.
    pub bytes: u64,
    /// Repos that are not here, and why; at most 1,000.
    pub lacking: Vec<Lacking>,
    /// Why nothing is mirrored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where the task of the mirror says why something is not here, and is told that something changed. A cheap handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Pinboard>);

#[derive(Debug, Default)]
struct Pinboard {
    lacks: Mutex<HashMap<RepoId, (Hash, Lack)>>,
    changed: Notify,
}

impl Board {
    /// Has what is wanted looked at.
    pub(crate) fn change(&self) {
        self.0.changed.notify_one();
    }

    /// Returns when something changed.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    pub(super) fn say(&self, wanted: &Wanted, lack: Lack) {
        self.lacks().insert(wanted.repo.clone(), (wanted.manifest, lack));
    }

    pub(super) fn clear(&self, repo: &RepoId) {
        self.lacks().remove(repo);
    }

    pub(super) fn keep_only(&self, wanted: impl Fn(&RepoId) -> bool) {
        self.lacks().retain(|repo, _| wanted(repo));
    }

    fn of(&self, repo: &RepoId, manifest: Hash) -> Option<Lack> {
        let lacks = self.lacks();
        let (of, lack) = lacks.get(repo)?;
        (*of == manifest).then(|| lack.clone())
    }

    fn lacks(&self) -> MutexGuard<'_, HashMap<RepoId, (Hash, Lack)>> {
        self.0.lacks.lock().expect("nothing panics while it holds this")
    }
}

/// An error and what it comes from, in one line.
pub(super) fn say(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if said.last().is_none_or(|last| !last.ends_with(&text)) {
            said.push(text);
        }
        next = error.source();
    }
    said.join(": ")
}

impl Library {
    /// Tells how the mirrors are. Without the `board` of a running node what is not here only waits.
    pub(crate) async fn mirror_views_by(
        &self,
        board: Option<Board>,
    ) -> Result<Vec<MirrorView>, LibraryError> {
        let library = self.clone();
        let look = blocking(move || Ok(library.glance_at_mirrors(board.as_ref())));
        let (mut views, kept) = look.await??;
        for view in &mut views {
            let of_it = kept
                .iter()
                .filter(|kept| self.today(kept.repo.publisher) == view.publisher);
            let mut all = Vec::new();
            for kept in of_it {
                all.push(self.taken_by(kept).await);
            }
            view.bytes = union(all.iter().map(|blobs| &**blobs));
        }
        Ok(views)
    }

    /// The same where no node runs.
    ///
    /// # Errors
    /// The releases or the store cannot be read.
    pub async fn mirror_views(&self) -> Result<Vec<MirrorView>, LibraryError> {
        self.mirror_views_by(None).await
    }

    /// All but how much is taken; and what is on the list.
    fn glance_at_mirrors(&self, board: Option<&Board>) -> Result<(Vec<MirrorView>, Vec<Kept>), LibraryError> {
        let (kept, error) = match self.inventory().all() {
            Ok(kept) => (kept, None),
            Err(error) => (Vec::new(), Some(say(&error))),
        };
        let mut views = Vec::new();
        for follow in self.following() {
            let Some(mirror) = follow.mirror else { continue };
            let mut view = MirrorView {
                publisher: follow.publisher,
                alias: follow.alias,
                mirror,
                known: 0,
                kept: 0,
                older: 0,
                bytes: 0,
                lacking: Vec::new(),
                error: error.clone(),
            };
            let matcher = view.mirror.names.matcher();
            for repo in self.repos_of(view.publisher)? {
                if !matcher.is_match(&repo.name) {
                    continue;
                }
                let Ok(Some(release)) = self.names().get(&repo) else {
                    continue;
                };
                let release = release.release();
                view.known += 1;
                let older =
                    |kept: &&Kept| kept.manifest != release.manifest && self.newest(&kept.repo) == repo;
                view.older += kept.iter().filter(older).count() as u64;
                if self.is_complete(release.manifest) {
                    view.kept += 1;
                    continue;
                }
                let said = board.and_then(|board| board.of(&repo, release.manifest));
                let denied = self.denials().check(Some(&repo), Some(release.manifest));
                let lack = if let Err(why) = denied {
                    Lack::Denied { why: why.to_string() }
                } else if self.is_forked(&repo, release.seq)? {
                    Lack::Forked
                } else if self.inventory().was_let_go(release.manifest) {
                    Lack::LetGo
                } else {
                    said.unwrap_or(Lack::Waiting)
                };
                if view.lacking.len() < LACKING_SHOWN_MAX {
                    view.lacking.push(Lacking { repo, lack });
                }
            }
            views.push(view);
        }
        Ok((views, kept))
    }
}
