//! What is denied here is neither taken in nor told, and not asked for again and again.
//!
//! What was taken in before it was denied stays in the catalog, so that it is back as soon as it is allowed. The set that syncs compare has it too: its id
//! tells nobody anything, and without it each sync would find the same difference again. Whoever asks for it by that id gets nothing.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use protocol::{Publisher, Release, ReleaseId, RepoId};

use super::Discovery;
use crate::{
    catalog::{KnownRow, NameKey, name_key},
    denials::Denials,
    library::LibraryError,
};

/// Names of releases that were not taken in and are remembered: 250 bytes each at most make 12 MB. Those of further ones are asked for by each sync.
const REFUSED_MAX: usize = 50_000;

/// Names of releases that were not taken in because they are denied.
#[derive(Default)]
pub(super) struct Refused(HashMap<NameKey, RepoId>);

impl Refused {
    fn note(&mut self, repo: RepoId) {
        if self.0.len() < REFUSED_MAX {
            self.0.insert(name_key(&repo), repo);
        }
    }

    fn holds(&self, name: NameKey, denials: &Denials) -> bool {
        let repo = self.0.get(&name);
        repo.is_some_and(|repo| denials.repo(repo).is_some())
    }

    /// Forgets what is not denied any more; `true`: there was some.
    fn lift(&mut self, denials: &Denials) -> bool {
        let before = self.0.len();
        self.0.retain(|_, repo| denials.repo(repo).is_some());
        self.0.len() < before
    }
}

/// Whose releases the user acts on: they pass the ratchet on disk, and are kept whatever else is.
pub(super) struct Near {
    /// Those whom the user follows, and we.
    publishers: HashSet<Publisher>,
    /// The denylists that the user follows.
    lists: HashSet<RepoId>,
}

impl Near {
    pub(super) fn has(&self, release: &Release) -> bool {
        self.publishers.contains(&release.publisher)
            || (!self.lists.is_empty() && self.lists.contains(&release.repo()))
    }

    /// All whose releases are to be asked for where nobody else's are.
    pub(super) fn publishers(&self) -> HashSet<Publisher> {
        let of_lists = self.lists.iter().map(|list| list.publisher);
        self.publishers.iter().copied().chain(of_lists).collect()
    }
}

impl Discovery {
    /// Whose releases the user acts on.
    pub(super) fn near(&self) -> Near {
        let library = self.library();
        let lists = library.denials().lists().into_iter();
        Near {
            publishers: library.near().into_iter().collect(),
            lists: lists.map(|list| list.repo).collect(),
        }
    }

    /// Tells whether a release is not taken in here, and remembers that.
    pub(super) fn refuses(&self, release: &Release) -> bool {
        let denials = self.library().denials();
        if denials.is_empty() {
            return false;
        }
        let repo = release.repo();
        let denied = denials.repo(&repo).is_some();
        if denied {
            self.state().refused.note(repo);
        }
        denied
    }

    /// Tells whether a known release is not told on: by its name, or by its manifest.
    pub(super) fn withholds(&self, row: &KnownRow) -> bool {
        let (denials, release) = (self.library().denials(), &row.release);
        !denials.is_empty()
            && denials
                .check(Some(&release.repo()), Some(release.manifest))
                .is_err()
    }

    /// Tells whether a release is worth asking for: its name is not denied, and what is known of it is less. Blocking.
    pub(super) fn asks_for(
        &self,
        name: NameKey,
        is_less: impl FnOnce(&KnownRow) -> bool,
    ) -> Result<bool, LibraryError> {
        let denials = self.library().denials();
        let Some(known) = self.library().catalog().known(name)? else {
            return Ok(!self.state().refused.holds(name, denials));
        };
        Ok(is_less(&known) && !self.refuses(&known.release))
    }

    /// How many names are remembered of which releases were offered and not taken in because they are denied.
    pub fn refused(&self) -> usize {
        self.state().refused.0.len()
    }

    /// Tells whether releases that were not taken in are not denied any more: the next syncs bring them.
    pub(super) fn lifted(&self) -> bool {
        self.state().refused.lift(self.library().denials())
    }

    /// Which of the lists that the user follows these releases are of.
    pub(crate) fn lists_among(&self, ids: &[ReleaseId]) -> Vec<RepoId> {
        let lists = self.library().denials().lists().into_iter().map(|list| list.repo);
        lists
            .filter(|list| {
                let name = name_key(list);
                ids.iter().any(|id| id.name_half() == name)
            })
            .collect()
    }
}
