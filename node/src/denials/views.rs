//! What is denied, for people and programs.

use protocol::{Denial, RepoId};
use serde::{Deserialize, Serialize};

use super::file::{Exception, File};
use super::lists::Lists;
use super::rules::{Key, Rules};
use super::what::What;

/// What becomes of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialState {
    /// It counts.
    InForce,
    /// Its time is over.
    Ended,
    /// The user allowed the thing all the same.
    Allowed,
    /// It is of what is the user's own, or of a list that is followed: somebody else's list does not withhold that.
    Spared,
}

/// One denial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialView {
    /// What is denied, as `shoal allow` takes it.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Whose list says so; `None`: the user does.
    pub by: Option<RepoId>,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// Until when, in Unix seconds; `None`: until it is allowed.
    pub expires: Option<u64>,
    /// What becomes of it.
    pub state: DenialState,
}

/// What is allowed, whatever denies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionView {
    /// What, as `shoal deny` takes it.
    pub what: String,
    /// Since when, in Unix seconds.
    pub since: u64,
}

/// One list that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListView {
    /// Its repo.
    pub repo: RepoId,
    /// Since when it is followed, in Unix seconds.
    pub since: u64,
    /// The number of the release that is in force; `None`: none is here yet.
    pub seq: Option<u64>,
    /// When that was signed, in Unix seconds.
    pub issued: Option<u64>,
    /// How many entries it has.
    pub entries: u64,
    /// How many of them count.
    pub in_force: u64,
    /// How many of them go unheeded because they are of what is the user's own.
    pub spared: u64,
    /// Why its newest release is not in force, or could not be had.
    pub trouble: Option<String>,
}

/// Everything that is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedView {
    /// The user's own denials; those of lists that are spared; and, where all were asked for, every entry of the lists.
    pub denials: Vec<DenialView>,
    /// What is allowed, whatever denies it.
    pub allowed: Vec<ExceptionView>,
    /// The lists that are followed.
    pub lists: Vec<ListView>,
    /// Why `denied.toml` as it is now is not obeyed; what it said before is.
    pub wrong: Option<String>,
}

pub(super) fn view(
    file: &File,
    lists: &Lists,
    wrong: Option<String>,
    rules: &Rules,
    all: bool,
    now: u64,
) -> DeniedView {
    let state = |denial: &Denial, listed: bool| {
        let key = Key::from(&denial.what);
        if !denial.in_force(now) {
            DenialState::Ended
        } else if rules.base().excepts(key) {
            DenialState::Allowed
        } else if listed && rules.spares(key) {
            DenialState::Spared
        } else {
            DenialState::InForce
        }
    };
    let shown = |denial: &Denial, by: Option<&RepoId>, state| DenialView {
        what: What::from(&denial.what).to_string(),
        reason: denial.reason.clone(),
        by: by.cloned(),
        since: denial.since,
        expires: denial.expires,
        state,
    };
    let own = file
        .deny
        .iter()
        .map(|denial| shown(denial, None, state(denial, false)));
    let mut view = DeniedView {
        denials: own.collect(),
        allowed: file.allow.iter().map(exception).collect(),
        lists: Vec::new(),
        wrong,
    };
    for followed in &file.lists {
        let held = lists.get(&followed.repo);
        let list = held.and_then(|held| held.list.as_ref());
        let mut listed = ListView {
            repo: followed.repo.clone(),
            since: followed.since,
            seq: list.map(|list| list.seq),
            issued: list.map(|list| list.issued),
            entries: 0,
            in_force: 0,
            spared: 0,
            trouble: held.and_then(|held| held.trouble()),
        };
        for denial in list.map(|list| list.entries.as_slice()).unwrap_or_default() {
            let state = state(denial, true);
            listed.entries += 1;
            listed.in_force += u64::from(state == DenialState::InForce);
            listed.spared += u64::from(state == DenialState::Spared);
            if all || state == DenialState::Spared {
                view.denials.push(shown(denial, Some(&followed.repo), state));
            }
        }
        view.lists.push(listed);
    }
    view
}

fn exception(Exception { what, since }: &Exception) -> ExceptionView {
    ExceptionView {
        what: What::from(what).to_string(),
        since: *since,
    }
}
