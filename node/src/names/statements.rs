//! What was said about publishers' keys, and where each publisher stands by it: behind a ratchet of its own, for a revocation once seen is never unseen.
//!
//! ```text
//! releases/PUBLISHER/@keys          the statements about this key that are kept, and in which order we saw them
//!                    @keys-copy     the same: a flipped bit does not bring a revoked key back
//! ```
//! Of keys that concern the user (ours, those of whom they follow, and what those went on to) it is durable before it counts. What is said of strangers is
//! kept for others to hear of, in memory only, and bounded.
//!
//! Which statements are worth keeping, and what they mean, is `protocol::key`'s to say; the order in which this node saw them is said here.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::key::{Standing, keep};
use protocol::limits::KEY_STEPS_MAX;
use protocol::{Publisher, Seen, SignedStatement};
use tracing::warn;

use super::NamesError;

mod files;
#[cfg(test)]
mod tests;

use files::{Files, Read};

/// Keys of strangers about which statements are kept, at most: a few KiB each.
const STRANGERS_MAX: usize = 4_096;

/// What was said about keys. A handle: clone it freely. Looking up does not touch the disk.
#[derive(Debug, Clone)]
pub struct Statements(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    about: HashMap<Publisher, About>,
    /// The number of what is seen next.
    order: u64,
    /// Whom the user follows, ourselves first, as they were when the user got to know them.
    roots: Vec<Publisher>,
    /// Made from all that, when somebody asks.
    standings: HashMap<Publisher, Arc<Standing>>,
    /// For each key that concerns the user, from which root its publisher came to it.
    homes: Option<Arc<HashMap<Publisher, Publisher>>>,
}

/// What is kept about one key.
#[derive(Debug, Default)]
struct About {
    seen: Vec<Seen>,
    on_disk: bool,
    /// Neither file can be read: what was said is unknown.
    damaged: bool,
}

impl Statements {
    /// Reads what is kept in `data/releases`. Blocking, as all that writes.
    ///
    /// # Errors
    /// [`NamesError::Io`]. Files that are damaged on both sides are an error of those who ask about their key.
    pub fn open(data: &Path) -> Result<Statements, NamesError> {
        let files = Files::new(data);
        let mut state = State::default();
        for key in files.keys()? {
            let about = match files.read(key)? {
                Read::Nothing => continue,
                Read::Seen(seen) => About {
                    seen,
                    on_disk: true,
                    damaged: false,
                },
                Read::Damaged => {
                    warn!(publisher = %key, "what was said about a key cannot be read");
                    About {
                        damaged: true,
                        ..About::default()
                    }
                }
            };
            let last = about.seen.iter().map(|seen| seen.order).max();
            state.order = state.order.max(last.map_or(0, |last| last.saturating_add(1)));
            state.about.insert(key, about);
        }
        let state = Mutex::new(state);
        Ok(Statements(Arc::new(Inner { files, state })))
    }

    /// Says whom the user follows, ourselves first. What is known of their keys is durable on return.
    ///
    /// # Errors
    /// [`NamesError::Io`] and [`NamesError::StorageFull`].
    pub fn concern(&self, roots: Vec<Publisher>) -> Result<(), NamesError> {
        let mut state = self.lock();
        state.roots = roots;
        state.forget_what_follows();
        for key in state.homes().keys() {
            if let Some(about) = state.about.get_mut(key)
                && !about.on_disk
                && !about.damaged
            {
                self.0.files.write(*key, &about.seen)?;
                about.on_disk = true;
            }
        }
        Ok(())
    }

    /// Where the publisher stands to whom a key belongs: from the key as which the user got to know them, or from this one, if it is a stranger's.
    pub fn standing(&self, key: Publisher) -> Arc<Standing> {
        let mut state = self.lock();
        let home = state.homes().get(&key).copied();
        state.standing(home.unwrap_or(key))
    }

    /// From which key on the publisher of this one concerns the user: their own first key, or one that they follow. `None`: a stranger's key.
    pub fn home(&self, key: Publisher) -> Option<Publisher> {
        self.lock().homes().get(&key).copied()
    }

    /// Every key that concerns the user.
    pub fn near(&self) -> Vec<Publisher> {
        self.lock().homes().keys().copied().collect()
    }

    /// What is kept about a key, for others to hear.
    pub fn about(&self, key: Publisher) -> Vec<SignedStatement> {
        let state = self.lock();
        let seen = state.about.get(&key).map(|about| about.seen.as_slice());
        let seen = seen.unwrap_or_default().iter();
        seen.map(|seen| seen.statement.clone()).collect()
    }

    /// Whether it is known what was said about a key and those from which its publisher came to it.
    ///
    /// # Errors
    /// [`NamesError::KeysDamaged`]: nothing new of that publisher can be followed.
    pub fn check(&self, key: Publisher) -> Result<(), NamesError> {
        let standing = self.standing(key);
        let state = self.lock();
        let mut keys = standing.steps.iter().map(|step| step.key).chain([key]);
        let damaged = |key: &Publisher| state.about.get(key).is_some_and(|about| about.damaged);
        match keys.find(damaged) {
            Some(publisher) => Err(NamesError::KeysDamaged {
                publisher,
                path: self.0.files.file(publisher),
            }),
            None => Ok(()),
        }
    }

    /// Takes in what was said at once, each signature verified before; returns what is kept of it and was not known. Durable on return where it concerns the
    /// user.
    ///
    /// # Errors
    /// [`NamesError::Io`] and [`NamesError::StorageFull`]: what was kept until then holds.
    pub fn take(&self, told: &[SignedStatement]) -> Result<Vec<SignedStatement>, NamesError> {
        let mut state = self.lock();
        let order = state.order;
        let mut left: BTreeMap<Publisher, Vec<Seen>> = BTreeMap::new();
        for statement in told {
            let about = left.entry(statement.statement().about()).or_default();
            about.push(Seen {
                statement: statement.clone(),
                order,
            });
        }
        let mut new = Vec::new();
        // What a publisher went on to is known only when what is said of the key before was taken in.
        while let Some(key) = {
            let homes = state.homes();
            let near = left.keys().find(|key| homes.contains_key(key));
            near.or(left.keys().next()).copied()
        } {
            let offered = left.remove(&key).unwrap_or_default();
            new.extend(self.take_about(&mut state, key, offered)?);
        }
        if !new.is_empty() {
            state.order = order.saturating_add(1);
        }
        Ok(new)
    }

    fn take_about(
        &self,
        state: &mut State,
        key: Publisher,
        offered: Vec<Seen>,
    ) -> Result<Vec<SignedStatement>, NamesError> {
        let home = state.homes().get(&key).copied();
        let inherited = home.and_then(|home| state.standing(home).recovery);
        let before = state.about.get(&key);
        if before.is_some_and(|about| about.damaged) {
            return Ok(Vec::new());
        }
        let seen = before.map(|about| about.seen.as_slice()).unwrap_or_default();
        let kept = keep(key, &[seen, &offered].concat(), inherited);
        if kept == seen {
            return Ok(Vec::new());
        }
        let is_new = |kept: &&Seen| seen.iter().all(|seen| seen.statement != kept.statement);
        let new: Vec<_> = kept
            .iter()
            .filter(is_new)
            .map(|seen| seen.statement.clone())
            .collect();
        let on_disk = home.is_some() || before.is_some_and(|about| about.on_disk);
        if on_disk {
            self.0.files.write(key, &kept)?;
        } else if before.is_none() {
            state.make_room();
        }
        let about = About {
            seen: kept,
            on_disk,
            damaged: false,
        };
        state.about.insert(key, about);
        state.forget_what_follows();
        Ok(new)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_what_follows(&mut self) {
        self.standings.clear();
        self.homes = None;
    }

    /// Where a publisher stands, from this key on.
    fn standing(&mut self, key: Publisher) -> Arc<Standing> {
        if let Some(standing) = self.standings.get(&key) {
            return standing.clone();
        }
        let mut seen: Vec<Seen> = Vec::new();
        let mut next = Some(key);
        let mut standing = Standing::of(key, &[]);
        // Each key that it went on to brings what is said about that one.
        for _ in 0..=KEY_STEPS_MAX + 1 {
            let Some(about) = next.and_then(|key| self.about.get(&key)) else {
                break;
            };
            let known = standing.steps.len();
            seen.extend(about.seen.iter().cloned());
            standing = Standing::of(key, &seen);
            next = (standing.steps.len() > known).then(|| standing.current());
        }
        let standing = Arc::new(standing);
        // What strangers make us look up is bounded as well.
        if self.standings.len() >= STRANGERS_MAX {
            self.standings.clear();
        }
        self.standings.insert(key, standing.clone());
        standing
    }

    fn homes(&mut self) -> Arc<HashMap<Publisher, Publisher>> {
        if let Some(homes) = &self.homes {
            return homes.clone();
        }
        let roots = self.roots.clone();
        let mut homes: HashMap<Publisher, Publisher> = roots.iter().map(|root| (*root, *root)).collect();
        for root in roots {
            for step in &self.standing(root).steps {
                homes.entry(step.key).or_insert(root);
            }
        }
        let homes = Arc::new(homes);
        self.homes = Some(homes.clone());
        homes
    }

    /// Forgets the stranger of whom nothing new was heard for longest, if there are too many.
    fn make_room(&mut self) {
        let strangers = self.about.iter().filter(|(_, about)| !about.on_disk);
        let last = |about: &About| about.seen.iter().map(|seen| seen.order).max();
        let oldest = strangers.clone().min_by_key(|(_, about)| last(about));
        let oldest = oldest.map(|(key, _)| *key);
        if strangers.count() >= STRANGERS_MAX
            && let Some(oldest) = oldest
        {
            self.about.remove(&oldest);
        }
    }
}
