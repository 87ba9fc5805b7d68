//! What this node keeps away from: what the user denies, in `denied.toml`, and what the lists deny that the user subscribed to.
//!
//! A denial is of a repo, a publisher, one manifest or one blob. What is denied is neither announced nor served nor fetched nor told on nor shown to programs;
//! nothing is deleted. The checks ([`Denials::repo`], [`Denials::manifest`], [`Denials::blob`], [`Denials::publisher`], [`Denials::check`]) look at
//! sets in memory that are swapped whole, and at the clock: a denial ends by itself.
//!
//! - The user's own `allow` of a thing goes before every list, and before a denial of what the thing belongs to.
//! - What is the user's own is not withheld by somebody else's list; nor is another list that the user subscribed to. Both are shown.
//! - A manifest is denied with a repo or a publisher if every name that it is known under is: who is denied cannot take the files of others along.
//!   A blob is denied with a manifest unless one that is here and not denied has it too.
//!
//! Which manifests and blobs these are is worked out by [`Library`](crate::library::Library), which knows what is here.

mod file;
mod lists;
mod rules;
mod views;
mod what;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use protocol::{Denial, Denied, Hash, Publisher, RepoId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tracing::warn;

pub use file::{DENIED_LEN_MAX, DENIED_MAX, DenialsError, Exception, LISTS_MAX, Subscription};
pub(crate) use lists::{List, ListTrouble};
pub(crate) use rules::{BLOBS_MAX, Base, Blobs, MANIFESTS_MAX, Reach, Rules};
pub use views::{DenialState, DenialView, DeniedView, ExceptionView, ListView};
pub use what::{What, WhatError};

use file::File;
pub(crate) use file::chain;
use lists::Lists;
use rules::Key;

/// What is said where the user gave no reason.
pub const NO_REASON: &str = "no reason given";

/// Why something is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{} is denied: {reason} ({})", What::from(what), self.who())]
pub struct Why {
    /// What is denied: the thing itself, or what it belongs to.
    #[serde(with = "what::as_text")]
    pub what: Denied,
    /// The reason, on one line.
    pub reason: String,
    /// Whose list says so; `None`: the user does.
    pub by: Option<RepoId>,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// Until when, in Unix seconds; `None`: until it is allowed.
    pub expires: Option<u64>,
}

impl Why {
    fn new(denial: &Denial, by: Option<&RepoId>) -> Why {
        Why {
            what: denial.what.clone(),
            reason: denial.reason.clone(),
            by: by.cloned(),
            since: denial.since,
            expires: denial.expires,
        }
    }

    /// Who says so, for people.
    pub fn who(&self) -> String {
        match &self.by {
            None => "by you".to_owned(),
            Some(list) => format!("by the list {list}"),
        }
    }

    /// What reverses it, for people.
    pub fn remedy(&self) -> String {
        format!("shoal allow {} lifts it", What::from(&self.what))
    }

    fn in_force(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What [`Denials::allow`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// What was allowed.
    #[serde(with = "what::as_text")]
    pub what: Denied,
    /// Whether a denial of the user's own was taken back.
    pub lifted: bool,
    /// What would deny it still, and goes unheeded by an exception that was written down.
    pub despite: Option<Why>,
}

/// All denials of a node. A handle: clone it freely. Checks do not touch the disk; what changes something does, and blocks.
#[derive(Debug, Clone)]
pub struct Denials(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    held: Mutex<Held>,
    rules: RwLock<Arc<Rules>>,
    /// Counts the changes of what is denied.
    changes: watch::Sender<u64>,
    /// Somebody thinks that what is known has changed.
    look: Notify,
    /// The turn of whoever works out what is denied.
    turn: tokio::sync::Mutex<Turn>,
}

#[derive(Debug)]
struct Held {
    file: File,
    /// Whose repos no list withholds.
    own: BTreeSet<Publisher>,
    /// Why the file as it is now cannot be read; the former one is in force then.
    wrong: Option<String>,
    lists: Lists,
    /// What follows from the file and the lists alone; `None`: it has to be made anew.
    base: Option<Arc<Base>>,
}

/// What the sets were last made of.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The state of the catalog.
    pub(crate) version: Option<(u64, u64)>,
    /// When something ends, in Unix seconds.
    pub(crate) next: Option<u64>,
    /// The manifests that were looked into for blobs.
    pub(crate) looked_into: Option<Hash>,
}

impl Denials {
    /// Reads `data/denied.toml`; a missing one is empty. `own` is whose repos no list withholds.
    ///
    /// # Errors
    /// [`DenialsError::Malformed`], [`DenialsError::TooLong`] and [`DenialsError::Io`]: a node that cannot read it would serve what it should not.
    pub fn open(data: &Path, own: BTreeSet<Publisher>) -> Result<Denials, DenialsError> {
        let path = data.join("denied.toml");
        let file = File::load(&path)?;
        let denials = Denials(Arc::new(Inner {
            path,
            held: Mutex::new(Held {
                file,
                own,
                wrong: None,
                lists: Lists::default(),
                base: None,
            }),
            rules: RwLock::default(),
            changes: watch::Sender::new(0),
            look: Notify::new(),
            turn: tokio::sync::Mutex::default(),
        }));
        let base = denials.base();
        denials.put(Rules::new(base));
        Ok(denials)
    }

    /// Why a repo is denied: itself, or its publisher.
    pub fn repo(&self, repo: &RepoId) -> Option<Why> {
        self.rules().repo(repo, now())
    }

    /// Why a publisher is denied.
    pub fn publisher(&self, publisher: Publisher) -> Option<Why> {
        self.rules().publisher(publisher, now())
    }

    /// Why a manifest is denied: itself, or with all repos that it is known under.
    pub fn manifest(&self, manifest: Hash) -> Option<Why> {
        self.rules().manifest(manifest, now())
    }

    /// Why a blob is not served: itself, or with all manifests that have it, or because it is the encoding of a denied manifest.
    pub fn blob(&self, blob: Hash) -> Option<Why> {
        self.rules().blob(blob, now())
    }

    /// Why a blob is denied by itself, whatever it belongs to.
    pub fn file(&self, blob: Hash) -> Option<Why> {
        self.rules().explicit(Key::Blob(blob), now())
    }

    /// Refuses a revision: by its repo, where it has one, or by its manifest, where it is known.
    ///
    /// # Errors
    /// Why it is denied.
    pub fn check(&self, repo: Option<&RepoId>, manifest: Option<Hash>) -> Result<(), Box<Why>> {
        let rules = self.rules();
        if rules.is_empty() {
            return Ok(());
        }
        let now = now();
        let why = repo.and_then(|repo| rules.repo(repo, now));
        let why = why.or_else(|| manifest.and_then(|manifest| rules.manifest(manifest, now)));
        why.map_or(Ok(()), |why| Err(Box::new(why)))
    }

    /// Whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        self.rules().is_empty()
    }

    /// Tells when what is denied has changed: the number counts up.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Denies something from now on; durable on return. A denial of the same thing is replaced, an exception for it goes. `false`: it was denied
    /// like this already. The file is read again first, so that what was edited by hand is kept.
    ///
    /// # Errors
    /// Every variant of [`DenialsError`]. Nothing is changed then.
    pub fn deny(&self, denial: Denial) -> Result<bool, DenialsError> {
        file::check(&denial).map_err(|why| DenialsError::Unfit { why })?;
        self.change(|file| {
            let same = |old: &Denial| old.what == denial.what;
            let known = file.deny.iter().find(|old| same(old));
            let since = known.map_or(denial.since, |old| old.since);
            let denial = Denial { since, ..denial };
            if known == Some(&denial) {
                return Ok((false, false));
            }
            file.deny.retain(|old| old.what != denial.what);
            file.allow.retain(|allowed| allowed.what != denial.what);
            if file.deny.len() >= DENIED_MAX {
                return Err(DenialsError::TooMany {
                    what: "denials",
                    max: DENIED_MAX,
                });
            }
            file.deny.push(denial);
            Ok((true, true))
        })
    }

    /// Takes a denial back; durable on return. What denies the thing still, a list or a denial of what it belongs to, goes unheeded from now on.
    ///
    /// # Errors
    /// Every variant of [`DenialsError`] but `Unfit`. Nothing is changed then.
    pub fn allow(&self, what: &Denied, now: u64) -> Result<Allowed, DenialsError> {
        let rules = self.rules();
        self.change(|file| {
            let before = file.deny.len();
            file.deny.retain(|denial| denial.what != *what);
            let lifted = file.deny.len() < before;
            let despite = rules.despite(what, now);
            let excepted = file.allow.iter().any(|allowed| allowed.what == *what);
            if despite.is_some() && !excepted {
                if file.allow.len() >= DENIED_MAX {
                    return Err(DenialsError::TooMany {
                        what: "exceptions",
                        max: DENIED_MAX,
                    });
                }
                let (what, since) = (what.clone(), now);
                file.allow.push(Exception { what, since });
            }
            let changed = lifted || (despite.is_some() && !excepted);
            let what = what.clone();
            Ok((
                Allowed {
                    what,
                    lifted,
                    despite,
                },
                changed,
            ))
        })
    }

    /// Follows a list from now on; durable on return. `false`: it was followed already.
    ///
    /// # Errors
    /// Every variant of [`DenialsError`] but `Unfit`. Nothing is changed then.
    pub fn subscribe(&self, repo: &RepoId, now: u64) -> Result<bool, DenialsError> {
        self.change(|file| {
            if file.lists.iter().any(|list| list.repo == *repo) {
                return Ok((false, false));
            }
            if file.lists.len() >= LISTS_MAX {
                return Err(DenialsError::TooMany {
                    what: "lists",
                    max: LISTS_MAX,
                });
            }
            file.lists.push(Subscription {
                repo: repo.clone(),
                since: now,
            });
            Ok((true, true))
        })
    }

    /// Follows a list no more; durable on return. `false`: it was not followed.
    ///
    /// # Errors
    /// Every variant of [`DenialsError`] but `Unfit` and `TooMany`. Nothing is changed then.
    pub fn unsubscribe(&self, repo: &RepoId) -> Result<bool, DenialsError> {
        self.change(|file| {
            let before = file.lists.len();
            file.lists.retain(|list| list.repo != *repo);
            let gone = file.lists.len() < before;
            Ok((gone, gone))
        })
    }

    /// The lists that the user follows.
    pub fn lists(&self) -> Vec<Subscription> {
        self.held().file.lists.clone()
    }

    /// Says whose repos no list withholds from now on.
    pub(crate) fn set_own(&self, own: BTreeSet<Publisher>) {
        let mut held = self.held();
        held.own = own;
        held.base = None;
        drop(held);
        self.look_again();
    }

    /// Somebody thinks that what is known has changed: it is looked at soon.
    pub(crate) fn look_again(&self) {
        self.0.look.notify_one();
    }

    /// Returns after [`Denials::look_again`].
    pub(crate) async fn asked_to_look(&self) {
        self.0.look.notified().await;
    }

    /// The turn of whoever works out what is denied.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, Turn> {
        self.0.turn.lock().await
    }

    /// Reads the file again if somebody edited it; `true`: it says something else now. One that cannot be read is said, and the former one stays.
    pub(crate) fn reread(&self) -> bool {
        let mut held = self.held();
        let stamp = file::stamp(&self.0.path);
        if stamp == held.file.stamp {
            return false;
        }
        match File::load(&self.0.path) {
            Ok(file) => {
                let changed = !file.says_the_same(&held.file);
                held.replace(file);
                changed
            }
            Err(error) => {
                let wrong = chain(&error);
                if held.wrong.as_ref() != Some(&wrong) {
                    warn!(
                        error = wrong,
                        "denied.toml is not obeyed as it is now; what it said before is"
                    );
                }
                // It is read again when it changes again.
                held.file.stamp = stamp;
                held.wrong = Some(wrong);
                false
            }
        }
    }

    /// Makes a new list known, or what is wrong with it; `true`: another one is in force than before.
    pub(crate) fn put_list(&self, repo: &RepoId, list: Option<List>, trouble: Option<ListTrouble>) -> bool {
        let mut held = self.held();
        let changed = held.lists.put(repo, list, trouble);
        if changed {
            held.base = None;
        }
        changed
    }

    /// The number of the release of a list that is in force, if there is one, and whether all is well with it.
    pub(crate) fn list_in_force(&self, repo: &RepoId) -> Option<(u64, bool)> {
        self.held().lists.in_force(repo)
    }

    /// Notes why a list could not be fetched, or that it could.
    pub(crate) fn note_fetch(&self, repo: &RepoId, trouble: Option<String>) {
        self.held().lists.note_fetch(repo, trouble);
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// Whether there is a list that was not looked for yet.
    pub(crate) fn lists_wait(&self) -> bool {
        let held = self.held();
        let unknown = |list: &Subscription| held.lists.get(&list.repo).is_none();
        held.file.lists.iter().any(unknown)
    }

    /// Whether a list could not be had when it was last looked for.
    pub(crate) fn is_troubled(&self, repo: &RepoId) -> bool {
        let held = self.held();
        let state = held.lists.get(repo);
        state.is_some_and(|state| state.trouble().is_some())
    }

    /// What follows from the file and the lists alone.
    pub(crate) fn base(&self) -> Arc<Base> {
        let mut held = self.held();
        if let Some(base) = &held.base {
            return base.clone();
        }
        let subscribed: BTreeSet<RepoId> = held.file.lists.iter().map(|list| list.repo.clone()).collect();
        held.lists.keep_only(&subscribed);
        let user = held.file.deny.clone();
        let base = Arc::new(Base::new(
            user,
            held.lists.in_order(),
            held.file.allow.iter().map(|allowed| &allowed.what),
            &held.own,
            &subscribed,
        ));
        held.base = Some(base.clone());
        base
    }

    /// The rules that the checks go by now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        let rules = self.0.rules.read();
        rules.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts new rules in force.
    pub(crate) fn put(&self, rules: Rules) {
        let mut place = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(rules);
        drop(place);
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// Everything that is denied or excepted, and the lists. Lists' own entries are only named where `all` are asked for.
    pub(crate) fn view(&self, all: bool, now: u64) -> DeniedView {
        let rules = self.rules();
        let held = self.held();
        views::view(&held.file, &held.lists, held.wrong.clone(), &rules, all, now)
    }

    /// Changes the file as it is on disk now. `change` says what came out, and whether there is something to write.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut File) -> Result<(T, bool), DenialsError>,
    ) -> Result<T, DenialsError> {
        let mut held = self.held();
        let mut file = File::load(&self.0.path)?;
        let (outcome, changed) = change(&mut file)?;
        if changed {
            file.store(&self.0.path)?;
        }
        held.replace(file);
        Ok(outcome)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn replace(&mut self, file: File) {
        self.file = file;
        self.wrong = None;
        self.base = None;
    }
}

/// The time in seconds since 1970: denials end by it.
fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
