//! The list itself, and what may become of an entry. Pure: it is written by the one above it.

use protocol::{Hash, RepoId};
use serde::{Deserialize, Serialize};

/// Most revisions that the mirror keeps: the list is written anew at each change, and so many are 6 MiB.
pub(crate) const KEPT_MAX: usize = 20_000;

/// Most manifests of which it is remembered that the user let them go; beyond that the first ones are forgotten, and may be fetched again.
pub(crate) const LET_GO_MAX: usize = 4_096;

/// One revision that the mirror keeps for one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// The name.
    pub(crate) repo: RepoId,
    /// The revision.
    pub(crate) manifest: Hash,
    /// The number of its release.
    pub(crate) seq: u64,
    /// When that was signed, in Unix seconds by the publisher's clock.
    pub(crate) issued: u64,
    /// What it takes alone, in bytes.
    pub(crate) bytes: u64,
    /// Whether the user kept some of it before: then it counts, and is never dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) shared: bool,
    /// Whether it is being dropped: its bytes are going, or gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) going: bool,
}

/// What a drop comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropping {
    /// It is not the mirror's any more.
    NotOurs,
    /// Something else keeps its bytes: only the entry went.
    EntryOnly,
    /// Its bytes are to go, and then the entry: [`List::gone`].
    Bytes,
}

/// There are [`KEPT_MAX`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What the mirror keeps, and what the user would not have kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    pub(crate) kept: Vec<Kept>,
    pub(crate) let_go: Vec<Hash>,
}

impl Kept {
    fn is_same(&self, other: &Kept) -> bool {
        self.manifest == other.manifest && self.repo == other.repo
    }
}

impl List {
    /// Adds an entry, or puts it into the place of the one of the same revision and name.
    pub(crate) fn add(&mut self, kept: Kept) -> Result<(), Full> {
        let full = self.kept.len() >= KEPT_MAX;
        match self.kept.iter_mut().find(|one| one.is_same(&kept)) {
            Some(one) => *one = kept,
            None if full => return Err(Full),
            None => self.kept.push(kept),
        }
        Ok(())
    }

    /// The user wants a manifest: it is on neither list any more. `false`: it was on neither.
    pub(crate) fn claim(&mut self, manifest: Hash) -> bool {
        let before = (self.kept.len(), self.let_go.len());
        self.kept.retain(|kept| kept.manifest != manifest);
        self.let_go.retain(|let_go| *let_go != manifest);
        before != (self.kept.len(), self.let_go.len())
    }

    /// The user lets a manifest go.
    pub(crate) fn let_go(&mut self, manifest: Hash) {
        self.kept.retain(|kept| kept.manifest != manifest);
        if !self.let_go.contains(&manifest) {
            self.let_go.push(manifest);
            let surplus = self.let_go.len().saturating_sub(LET_GO_MAX);
            self.let_go.drain(..surplus);
        }
    }

    /// Begins to drop an entry, unless it is not on the list or shared with the user.
    pub(crate) fn begin_drop(&mut self, dropped: &Kept) -> Dropping {
        let Some(at) = self.kept.iter().position(|one| one.is_same(dropped)) else {
            return Dropping::NotOurs;
        };
        if self.kept[at].shared {
            return Dropping::NotOurs;
        }
        let mut others = self.kept.iter().enumerate().filter(|(other, _)| *other != at);
        if others.any(|(_, other)| other.manifest == dropped.manifest) {
            self.kept.remove(at);
            return Dropping::EntryOnly;
        }
        self.kept[at].going = true;
        Dropping::Bytes
    }

    /// The bytes of all that was being dropped are gone.
    pub(crate) fn gone(&mut self) {
        self.kept.retain(|kept| !kept.going);
    }
}
