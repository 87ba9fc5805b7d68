//! The lists that the user follows, as far as they are here: what each of them denies, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::{Denial, RepoId};

/// A list that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    /// Its repo.
    pub(crate) repo: RepoId,
    /// The number of its release.
    pub(crate) seq: u64,
    /// When that was signed, in Unix seconds.
    pub(crate) issued: u64,
    /// What it denies.
    pub(crate) entries: Vec<Denial>,
}

/// Why the newest release of a list is not in force.
pub(crate) type ListTrouble = String;

#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<RepoId, State>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) list: Option<Arc<List>>,
    /// What is wrong with its newest release.
    trouble: Option<ListTrouble>,
    /// Why it could not be fetched when that was last tried.
    fetch: Option<String>,
}

impl State {
    /// What to say of it.
    pub(super) fn trouble(&self) -> Option<String> {
        let both: Vec<&str> = self
            .trouble
            .iter()
            .chain(&self.fetch)
            .map(String::as_str)
            .collect();
        (!both.is_empty()).then(|| both.join("; "))
    }
}

impl Lists {
    /// Puts a list in force, unless it is older than the one that is; `None` keeps that. `true`: another one is in force now.
    pub(super) fn put(&mut self, repo: &RepoId, list: Option<List>, trouble: Option<ListTrouble>) -> bool {
        let state = self.0.entry(repo.clone()).or_default();
        state.trouble = trouble;
        let Some(list) = list else { return false };
        let newer = match &state.list {
            Some(known) => list.seq >= known.seq && **known != list,
            None => true,
        };
        if newer {
            state.list = Some(Arc::new(list));
        }
        newer
    }

    pub(super) fn note_fetch(&mut self, repo: &RepoId, trouble: Option<String>) {
        self.0.entry(repo.clone()).or_default().fetch = trouble;
    }

    /// The number of the release that is in force, and whether all is well with it.
    pub(super) fn in_force(&self, repo: &RepoId) -> Option<(u64, bool)> {
        let state = self.0.get(repo)?;
        let list = state.list.as_ref()?;
        Some((list.seq, state.trouble.is_none()))
    }

    /// Forgets the lists that are not followed any more.
    pub(super) fn keep_only(&mut self, followed: &BTreeSet<RepoId>) {
        self.0.retain(|repo, _| followed.contains(repo));
    }

    pub(super) fn get(&self, repo: &RepoId) -> Option<&State> {
        self.0.get(repo)
    }

    /// Those that are here.
    pub(super) fn in_order(&self) -> Vec<Arc<List>> {
        self.0.values().filter_map(|state| state.list.clone()).collect()
    }
}
