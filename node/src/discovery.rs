//! What this node knows of the releases of others: taken in from whoever tells of them, once their signatures were verified, kept in the catalog, and
//! told to whoever asks. Nobody is in charge: two nodes that meet find out what one of them lacks, and what is new is passed on.
//!
//! - [`taking`]: what of a message enters, and what becomes of it.
//! - [`meeting`]: the side that asks: a sync with each peer now and then, and what peers say is new.
//! - [`answers`]: the side that is asked.
//! - [`searching`], [`lineage`] and [`alike`]: what is looked up in it, [`sources`]: and who has it.
//! - [`keys`] and [`following`]: as whom publishers go on, and what is new of those whom the user follows.
//! - [`relay`]: how much is kept for others.
//! - [`withholding`]: what is denied.
//! - [`set`] and [`reconcile`]: finding out what differs, without files, clock or network; [`held`]: the set of a running node.
//!
//! What is known here is a cache, like all of the catalog: it is synced again if it is lost. What the user acts on (ours, followed, fetched) is in release
//! files as well, behind a ratchet that outlives everything ([`crate::names`]).

mod alike;
mod answers;
pub(crate) mod following;
mod held;
mod keys;
mod lineage;
pub(crate) mod meeting;
pub(crate) mod reconcile;
mod relay;
#[cfg(test)]
mod samples;
mod searching;
pub(crate) mod set;
mod sources;
mod taking;
mod withholding;

pub(crate) use answers::{Session, SessionError};
pub use keys::FollowAnswer;
pub use lineage::{Base, Lineage};
pub use relay::Relay;
pub use searching::{FindError, HITS_MAX, Hit, SearchAnswer, SearchAsk, SearchSort};
pub use taking::Taken;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use libp2p::PeerId;
use protocol::{Hash, Known, Publisher, ReleaseId, RepoId, SignedRelease, SignedStatement, release::id_of};
use tokio::sync::{broadcast, mpsc, watch};
use tracing::warn;

use crate::{
    catalog::{KnownRow, NameKey, name_key},
    library::{Library, LibraryError},
    search::Index,
    store::blocking,
};
use held::Held;
use relay::Budget;
use set::{Item, KnownSet, Snapshot};
use withholding::Refused;

/// What so many peers say is new may wait until it is asked for. What is said meanwhile is found by the next sync.
const HEARD_MAX: usize = 256;
/// News that may wait for who listens: beyond it they are found by the next sync.
const NEWS_MAX: usize = 1_024;

/// What is known of the releases of others. A cheap handle.
#[derive(Clone)]
pub struct Discovery(Arc<Inner>);

struct Inner {
    library: Library,
    relay: Relay,
    index: Index,
    /// Held by who writes the index; whether it is closed.
    indexing: Mutex<bool>,
    trust: Mutex<searching::Trust>,
    /// Locked while rows change: a set that was read and the rows say the same outside of it.
    state: Mutex<State>,
    /// Whether the set is read.
    is_read: watch::Sender<bool>,
    news: broadcast::Sender<Arc<News>>,
    /// What peers say is new, for who asks them for it.
    heard: mpsc::Sender<(PeerId, Vec<ReleaseId>)>,
}

/// What peers say is new.
pub(crate) type Heard = mpsc::Receiver<(PeerId, Vec<ReleaseId>)>;

struct State {
    set: Held,
    /// How many releases are known.
    names: u64,
    budget: Budget,
    /// The number of the next row that comes.
    arrived: u64,
    /// Names whose rows came since the index was written.
    unindexed: Vec<NameKey>,
    /// When it was written.
    indexed: Instant,
    /// The largest number in the index, where it lacks rows with larger ones that are not among those: they are found by going through all.
    behind: Option<u64>,
    /// How many names are known of a publisher, by a hash of its key: of those about whom it was asked.
    names_of: HashMap<u64, u32>,
    /// Names that were not taken in because they are denied.
    refused: Refused,
    /// The peers with which a sync runs, and what they said meanwhile that we lack.
    syncing: HashMap<PeerId, Vec<ReleaseId>>,
    /// What somebody is asked for who said that it is new, and who else said so meanwhile.
    asked: HashMap<ReleaseId, Vec<PeerId>>,
}

/// What was taken in just now.
#[derive(Debug)]
pub(crate) struct News {
    /// Which.
    pub(crate) ids: Vec<ReleaseId>,
    /// Statements about keys that were new, or belong to those releases.
    pub(crate) statements: Vec<SignedStatement>,
    /// Who told of them; `None`: we released them.
    pub(crate) from: Option<PeerId>,
}

impl Discovery {
    /// Opens the search index; nothing is compared before [`Discovery::read_set`], and what a crash kept from the index is not found. Blocking, for long
    /// only where the index must be filled.
    pub(crate) fn open(library: Library, relay: Relay) -> Result<(Discovery, Heard), LibraryError> {
        let tally = library.catalog().tally()?;
        let (index, upto) = searching::open(&library)?;
        let (heard, hearing) = mpsc::channel(HEARD_MAX);
        let discovery = Discovery(Arc::new(Inner {
            index,
            library,
            relay,
            indexing: Mutex::default(),
            trust: Mutex::default(),
            heard,
            state: Mutex::new(State {
                set: Held::default(),
                names: tally.names,
                budget: Budget::default(),
                // The index may have outlived what it was made of: what comes is newer than all that is in it.
                arrived: tally.arrived.max(upto).saturating_add(1),
                unindexed: Vec::new(),
                indexed: Instant::now(),
                behind: (upto < tally.arrived).then_some(upto),
                names_of: HashMap::new(),
                refused: Refused::default(),
                syncing: HashMap::new(),
                asked: HashMap::new(),
            }),
            is_read: watch::Sender::new(false),
            news: broadcast::channel(NEWS_MAX).0,
        }));
        discovery.adopt()?;
        discovery.catch_up();
        Ok((discovery, hearing))
    }

    /// The same for a process that asks nobody.
    ///
    /// # Errors
    /// The catalog, the files of releases, or the search index.
    pub async fn alone(library: Library) -> Result<Discovery, LibraryError> {
        let opened = blocking(move || Ok(Discovery::open(library, Relay::All))).await?;
        let discovery = opened?.0;
        if discovery.state().behind.is_some() {
            discovery.walk().await?;
        }
        Ok(discovery)
    }

    /// Takes in the releases that lie in files: after the catalog was lost, and those of an older build.
    fn adopt(&self) -> Result<(), LibraryError> {
        let mut found = Vec::new();
        for release in self.0.library.names().all()? {
            match release {
                Ok(release) => found.extend(self.told_of(&release)?),
                Err(error) => warn!(%error, "a release is not known to the catalog"),
            }
        }
        for some in found.chunks(taking::TAKEN_MAX) {
            self.take(some, None)?;
        }
        Ok(())
    }

    /// A release as it is told, with the summary of its card where that lies beside it. `None`: it is known already.
    fn told_of(&self, release: &SignedRelease) -> Result<Option<Known>, LibraryError> {
        let here = self.known(&release.release().repo())?;
        if here.is_some_and(|known| known.id() == id_of(release)) {
            return Ok(None);
        }
        Ok(Some(Known {
            release: release.encode(),
            card: self.0.library.names().card(release).ok().flatten(),
        }))
    }

    /// Takes in a release of ours, or one that was accepted by its name: what everybody may know from now on. Blocking.
    pub(crate) fn released(&self, release: &SignedRelease) -> Result<(), LibraryError> {
        if let Some(known) = self.told_of(release)? {
            self.take(&[known], None)?;
        }
        // A node does that a little later, for many at once.
        if matches!(self.state().set, Held::No) {
            self.catch_up();
        }
        Ok(())
    }

    /// What is known of a repo.
    pub(crate) fn known(&self, repo: &RepoId) -> Result<Option<KnownRow>, LibraryError> {
        Ok(self.0.library.catalog().known(name_key(repo))?)
    }

    /// Hears of what is taken in from now on.
    pub(crate) fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.0.news.subscribe()
    }

    /// How many releases are known.
    pub fn len(&self) -> usize {
        usize::try_from(self.state().names).unwrap_or(usize::MAX)
    }

    /// Whether no release is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the search index once more, and then no more: the data folder is free for another. Blocking.
    pub(crate) fn close(&self) {
        self.catch_up();
        // Who waits for it need not any more.
        self.0.is_read.send_replace(true);
        *self.indexing() = true;
        self.0.index.close();
    }

    fn indexing(&self) -> MutexGuard<'_, bool> {
        self.0
            .indexing
            .lock()
            .expect("nothing panics while it holds this")
    }

    pub(crate) fn library(&self) -> &Library {
        &self.0.library
    }

    /// What is known now; only of these publishers, if there are any. Blocking.
    fn snapshot_of(&self, publishers: &[Publisher]) -> Result<Snapshot, LibraryError> {
        if publishers.is_empty() {
            return Ok(self.state().set.snapshot());
        }
        let mut items = Vec::new();
        for publisher in publishers {
            for name in self.names_of(*publisher)? {
                if let Some(row) = self.0.library.catalog().known(name)? {
                    items.extend(Item::new(row.release.issued, *row.id().as_bytes()).ok());
                }
            }
        }
        Ok(KnownSet::build(items).unwrap_or_default().snapshot())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it holds this")
    }
}

/// A short name of a publisher, for counting: who makes two the same shares a count with itself.
fn short(publisher: Publisher) -> u64 {
    let hash = Hash::of(publisher.as_bytes());
    hash.as_bytes()
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first))
}
