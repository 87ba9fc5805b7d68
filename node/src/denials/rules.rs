//! What is denied, as sets that are looked up: what follows from the file and the lists alone ([`Base`]), and what of it is known here ([`Rules`]).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use protocol::{Denial, Denied, Hash, Publisher, RepoId};

use super::{List, Why};

/// Most manifests that are denied with their repos: at most 500 bytes each, with their reasons, make 100 MB. Those over it are denied by their repos' names alone.
pub(crate) const MANIFESTS_MAX: usize = 200_000;

/// Most blobs that are denied with their manifests: 36 bytes each make 36 MB. Of those over it only the manifests are not served.
pub(crate) const BLOBS_MAX: usize = 1_000_000;

/// Something that may be denied, to look it up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key<'a> {
    Repo(&'a RepoId),
    Manifest(Hash),
    Blob(Hash),
    Publisher(Publisher),
}

impl<'a> From<&'a Denied> for Key<'a> {
    fn from(denied: &'a Denied) -> Key<'a> {
        match denied {
            Denied::Repo(repo) => Key::Repo(repo),
            Denied::Manifest(hash) => Key::Manifest(*hash),
            Denied::Blob(hash) => Key::Blob(*hash),
            Denied::Publisher(publisher) => Key::Publisher(*publisher),
        }
    }
}

/// Something for each of some things.
#[derive(Debug)]
struct Table<T> {
    repos: HashMap<RepoId, T>,
    manifests: HashMap<Hash, T>,
    blobs: HashMap<Hash, T>,
    publishers: HashMap<Publisher, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            repos: HashMap::new(),
            manifests: HashMap::new(),
            blobs: HashMap::new(),
            publishers: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    fn get(&self, key: Key<'_>) -> Option<&T> {
        match key {
            Key::Repo(repo) => self.repos.get(repo),
            Key::Manifest(hash) => self.manifests.get(&hash),
            Key::Blob(hash) => self.blobs.get(&hash),
            Key::Publisher(publisher) => self.publishers.get(&publisher),
        }
    }

    fn put(&mut self, what: &Denied, value: T) {
        match what {
            Denied::Repo(repo) => drop(self.repos.insert(repo.clone(), value)),
            Denied::Manifest(hash) => drop(self.manifests.insert(*hash, value)),
            Denied::Blob(hash) => drop(self.blobs.insert(*hash, value)),
            Denied::Publisher(publisher) => drop(self.publishers.insert(*publisher, value)),
        }
    }

    fn is_empty(&self) -> bool {
        self.repos.is_empty()
            && self.manifests.is_empty()
            && self.blobs.is_empty()
            && self.publishers.is_empty()
    }
}

/// What follows from the file and the lists alone.
#[derive(Debug, Default)]
pub(crate) struct Base {
    user: Vec<Denial>,
    lists: Vec<Arc<List>>,
    /// Places in `user`.
    of_user: Table<usize>,
    /// Places in `lists`: of each thing the entry that lasts longest.
    of_lists: Table<(usize, usize)>,
    excepted: Table<()>,
    /// Repos that no list withholds: the lists themselves.
    subscribed: BTreeSet<RepoId>,
    /// Whose repos no list withholds.
    own: BTreeSet<Publisher>,
}

impl Base {
    /// Sorts what the user and the lists say.
    pub(super) fn new<'a>(
        user: Vec<Denial>,
        lists: Vec<Arc<List>>,
        excepted: impl Iterator<Item = &'a Denied>,
        own: &BTreeSet<Publisher>,
        subscribed: &BTreeSet<RepoId>,
    ) -> Base {
        let mut base = Base {
            own: own.clone(),
            subscribed: subscribed.clone(),
            ..Base::default()
        };
        for (place, denial) in user.iter().enumerate() {
            base.of_user.put(&denial.what, place);
        }
        for (number, list) in lists.iter().enumerate() {
            for (place, denial) in list.entries.iter().enumerate() {
                let known = base.of_lists.get(Key::from(&denial.what));
                let known = known.map(|(number, place)| &lists[*number].entries[*place]);
                if known.is_none_or(|known| end(known) < end(denial)) {
                    base.of_lists.put(&denial.what, (number, place));
                }
            }
        }
        excepted.for_each(|what| base.excepted.put(what, ()));
        Base { user, lists, ..base }
    }

    /// Whether nothing is denied.
    pub(crate) fn is_empty(&self) -> bool {
        self.of_user.is_empty() && self.of_lists.is_empty()
    }

    /// When the next denial ends after `now`.
    pub(crate) fn next(&self, now: u64) -> Option<u64> {
        let listed = self.lists.iter().flat_map(|list| &list.entries);
        let ends = self.user.iter().chain(listed).filter_map(|denial| denial.expires);
        ends.filter(|end| *end > now).min()
    }

    /// The manifests that lists deny by themselves.
    pub(crate) fn listed_manifests(&self) -> impl Iterator<Item = Hash> {
        self.of_lists.manifests.keys().copied()
    }

    /// Whether lists deny blobs by themselves, and this one.
    pub(crate) fn lists_blob(&self, blob: Hash) -> bool {
        self.of_lists.blobs.contains_key(&blob)
    }

    /// Whether lists deny any blob by itself.
    pub(crate) fn lists_blobs(&self) -> bool {
        !self.of_lists.blobs.is_empty()
    }

    /// Whether the user wrote down an exception for a thing.
    pub(super) fn excepts(&self, key: Key<'_>) -> bool {
        self.excepted.get(key).is_some()
    }

    /// Whether no list withholds a repo.
    fn spares_repo(&self, repo: &RepoId) -> bool {
        self.own.contains(&repo.publisher) || self.subscribed.contains(repo)
    }

    fn of_user(&self, key: Key<'_>, now: u64) -> Option<Why> {
        let denial = &self.user[*self.of_user.get(key)?];
        denial.in_force(now).then(|| Why::new(denial, None))
    }

    fn of_lists(&self, key: Key<'_>, now: u64) -> Option<Why> {
        let (number, place) = *self.of_lists.get(key)?;
        let list = &self.lists[number];
        let denial = &list.entries[place];
        denial.in_force(now).then(|| Why::new(denial, Some(&list.repo)))
    }
}

/// When a denial ends: never is the last.
fn end(denial: &Denial) -> u64 {
    denial.expires.unwrap_or(u64::MAX)
}

/// The manifests that are denied with their repos.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Each with what denies it: of several the one that ends first, for then one of its names is free.
    pub(crate) manifests: HashMap<Hash, Why>,
    /// The user's own, that lists deny.
    pub(crate) spared: HashSet<Hash>,
}

/// The blobs that are denied with their manifests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Blobs {
    /// In order, each with a place in `whys`.
    sorted: Vec<(Hash, u32)>,
    whys: Vec<Why>,
    /// Those in the user's own manifests, that lists deny.
    spared: HashSet<Hash>,
}

impl Blobs {
    /// Sorts what was found: blobs with places in `whys`, and the user's own that lists deny.
    pub(crate) fn new(found: HashMap<Hash, u32>, whys: Vec<Why>, spared: HashSet<Hash>) -> Blobs {
        let mut sorted: Vec<(Hash, u32)> = found.into_iter().collect();
        sorted.sort_unstable();
        Blobs { sorted, whys, spared }
    }

    fn get(&self, blob: Hash) -> Option<&Why> {
        let at = self.sorted.binary_search_by_key(&blob, |(hash, _)| *hash).ok()?;
        self.whys.get(self.sorted[at].1 as usize)
    }
}

/// What the checks go by.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    base: Arc<Base>,
    reach: Arc<Reach>,
    blobs: Arc<Blobs>,
}

impl Rules {
    /// What is denied by itself.
    pub(super) fn new(base: Arc<Base>) -> Rules {
        Rules {
            base,
            ..Rules::default()
        }
    }

    /// The same with what is denied with it.
    pub(crate) fn with(base: Arc<Base>, reach: Arc<Reach>, blobs: Arc<Blobs>) -> Rules {
        Rules { base, reach, blobs }
    }

    /// What follows from the file and the lists alone.
    pub(crate) fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// The manifests that are denied with their repos.
    pub(crate) fn reach(&self) -> &Arc<Reach> {
        &self.reach
    }

    /// The blobs that are denied with their manifests.
    pub(crate) fn blobs(&self) -> &Arc<Blobs> {
        &self.blobs
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.base.is_empty()
    }

    /// Why a repo is denied at `now`: itself, or its publisher.
    pub(crate) fn repo(&self, repo: &RepoId, now: u64) -> Option<Why> {
        let key = Key::Repo(repo);
        if self.base.excepts(key) {
            return None;
        }
        let user = self.base.of_user(key, now);
        user.or_else(|| self.repo_despite(repo, now))
    }

    /// Why a publisher is denied at `now`.
    pub(crate) fn publisher(&self, publisher: Publisher, now: u64) -> Option<Why> {
        self.explicit(Key::Publisher(publisher), now)
    }

    /// Why a manifest is denied at `now`.
    pub(crate) fn manifest(&self, manifest: Hash, now: u64) -> Option<Why> {
        let key = Key::Manifest(manifest);
        if self.base.excepts(key) {
            return None;
        }
        let explicit = self.explicit(key, now);
        explicit.or_else(|| self.reaches(manifest, now))
    }

    /// Why a blob is not served at `now`.
    pub(crate) fn blob(&self, blob: Hash, now: u64) -> Option<Why> {
        let key = Key::Blob(blob);
        if self.base.excepts(key) {
            return None;
        }
        let explicit = self.explicit(key, now);
        explicit.or_else(|| self.blob_despite(blob, now))
    }

    /// Why a thing is denied by itself.
    pub(crate) fn explicit(&self, key: Key<'_>, now: u64) -> Option<Why> {
        if self.base.excepts(key) {
            return None;
        }
        let user = self.base.of_user(key, now);
        user.or_else(|| self.listed(key, now))
    }

    /// Why a thing is denied at `now`, without what the user says of this very thing.
    pub(super) fn despite(&self, what: &Denied, now: u64) -> Option<Why> {
        let key = Key::from(what);
        if self.base.excepts(key) {
            return None;
        }
        match what {
            Denied::Repo(repo) => self.repo_despite(repo, now),
            Denied::Publisher(_) => self.listed(key, now),
            Denied::Manifest(hash) => self.listed(key, now).or_else(|| self.reaches(*hash, now)),
            Denied::Blob(hash) => self.listed(key, now).or_else(|| self.blob_despite(*hash, now)),
        }
    }

    /// Whether a list's denial of a thing goes unheeded because it is the user's own, or a list that is followed.
    pub(super) fn spares(&self, key: Key<'_>) -> bool {
        match key {
            Key::Repo(repo) => self.base.spares_repo(repo),
            Key::Publisher(publisher) => self.base.own.contains(&publisher),
            Key::Manifest(hash) => self.reach.spared.contains(&hash),
            Key::Blob(hash) => self.blobs.spared.contains(&hash),
        }
    }

    /// Why lists deny a thing by itself.
    fn listed(&self, key: Key<'_>, now: u64) -> Option<Why> {
        let listed = self.base.of_lists(key, now)?;
        (!self.spares(key)).then_some(listed)
    }

    fn repo_despite(&self, repo: &RepoId, now: u64) -> Option<Why> {
        let why = self.listed(Key::Repo(repo), now);
        let why = why.or_else(|| self.publisher(repo.publisher, now))?;
        (why.by.is_none() || !self.base.spares_repo(repo)).then_some(why)
    }

    fn reaches(&self, manifest: Hash, now: u64) -> Option<Why> {
        let why = self.reach.manifests.get(&manifest)?;
        why.in_force(now).then(|| why.clone())
    }

    fn blob_despite(&self, blob: Hash, now: u64) -> Option<Why> {
        let with = self.blobs.get(blob).filter(|why| why.in_force(now));
        with.cloned().or_else(|| self.manifest(blob, now))
    }
}
