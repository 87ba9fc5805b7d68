//! What is denied, by what is here: names become manifests, and manifests blobs. And the lists that are followed are read here, out of their repos.

use super::{Library, LibraryError, now};
use crate::{
    denials::{
        Allowed, BLOBS_MAX, Base, Blobs, Denials, DenialsError, DeniedView, List, ListTrouble, ListView,
        MANIFESTS_MAX, NO_REASON, Reach, Rules, What, Why, chain,
    },
    store::StoreError,
};
use bytes::Bytes;
use protocol::{
    Denial, Denied, Denylist, Hash, RepoId, RepoRef, SignedRelease, denylist::DENYLIST_FILE,
    limits::DENYLIST_LEN_MAX,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use tokio::runtime::Handle;
use tracing::warn;

/// Rows read from the catalog at a time.
const PAGE: usize = 1_000;

/// The manifests that are here, by what the rules say of them.
#[derive(Default)]
struct Here {
    denied: Vec<(Hash, Why)>,
    others: Vec<Hash>,
    /// Those of the others that are the user's own.
    own: HashSet<Hash>,
}

impl Here {
    /// What tells that other manifests are to be looked into than before.
    fn key(&self) -> Hash {
        let mut bytes = Vec::new();
        for (hash, why) in &self.denied {
            bytes.extend(hash.as_bytes());
            bytes.extend(why.to_string().as_bytes());
            bytes.extend(why.expires.unwrap_or(u64::MAX).to_le_bytes());
        }
        for hash in &self.others {
            bytes.push(u8::from(self.own.contains(hash)));
            bytes.extend(hash.as_bytes());
        }
        Hash::of(&bytes)
    }
}

impl Library {
    /// What is denied here.
    pub fn denials(&self) -> &Denials {
        &self.0.denials
    }

    /// Returns the thing that a person names.
    ///
    /// # Errors
    /// [`LibraryError::UnknownAlias`].
    pub fn denied_of(&self, what: &What) -> Result<Denied, LibraryError> {
        Ok(match what {
            What::Repo(RepoRef::Content(hash)) => Denied::Manifest(*hash),
            What::Repo(name) => Denied::Repo(self.repo_of(name)?.expect("only content has no name")),
            What::Blob(hash) => Denied::Blob(*hash),
            What::Publisher(publisher) => Denied::Publisher(*publisher),
            What::Followed(alias) => {
                let publisher = self.0.following.by_alias(alias);
                Denied::Publisher(publisher.ok_or_else(|| LibraryError::UnknownAlias(alias.clone()))?)
            }
        })
    }

    /// Denies something, for so many seconds or until it is allowed. It is in force when this returns; a running node ends within seconds what it
    /// does with it.
    ///
    /// # Errors
    /// [`LibraryError::Denials`], [`LibraryError::UnknownAlias`]; nothing is denied then. Others: it is denied, but not all of what belongs to it.
    pub async fn deny(
        &self,
        what: &What,
        reason: Option<String>,
        seconds: Option<u64>,
    ) -> Result<Why, LibraryError> {
        let now = now();
        let denial = Denial {
            what: self.denied_of(what)?,
            reason: reason.unwrap_or_else(|| NO_REASON.to_owned()),
            since: now,
            expires: seconds.map(|seconds| now.saturating_add(seconds)),
        };
        let why = Why {
            what: denial.what.clone(),
            reason: denial.reason.clone(),
            by: None,
            since: now,
            expires: denial.expires,
        };
        let denials = self.denials().clone();
        self.change(move || denials.deny(denial)).await?;
        self.renew_denials().await?;
        Ok(why)
    }

    /// Allows something: the user's own denial of it is taken back, and what else denies it goes unheeded.
    ///
    /// # Errors
    /// As [`Library::deny`].
    pub async fn allow(&self, what: &What) -> Result<Allowed, LibraryError> {
        let (denied, denials) = (self.denied_of(what)?, self.denials().clone());
        // What the file says by now decides.
        self.renew_denials().await?;
        let allowed = self.change(move || denials.allow(&denied, now())).await?;
        self.renew_denials().await?;
        Ok(allowed)
    }

    /// Follows a list; in force as soon as it is here. `false`: it was followed already.
    ///
    /// # Errors
    /// [`LibraryError::Denials`], [`LibraryError::UnknownAlias`].
    pub async fn subscribe(&self, repo: &RepoRef) -> Result<(RepoId, bool), LibraryError> {
        let (id, denials) = (self.named(repo)?, self.denials().clone());
        let list = id.clone();
        let new = self.change(move || denials.subscribe(&list, now())).await?;
        self.renew_denials().await?;
        Ok((id, new))
    }

    /// Follows a list no more: what it denies is free at once. `false`: it was not followed.
    ///
    /// # Errors
    /// As [`Library::subscribe`].
    pub async fn unsubscribe(&self, repo: &RepoRef) -> Result<(RepoId, bool), LibraryError> {
        let (id, denials) = (self.named(repo)?, self.denials().clone());
        let list = id.clone();
        let gone = self.change(move || denials.unsubscribe(&list)).await?;
        self.renew_denials().await?;
        Ok((id, gone))
    }

    /// Everything that is denied or excepted, and the lists. The lists' own entries are only named where `all` are asked for.
    pub fn denied(&self, all: bool) -> DeniedView {
        self.denials().view(all, now())
    }

    /// How it stands with a list that is followed.
    pub fn list_view(&self, repo: &RepoId) -> Option<ListView> {
        let lists = self.denied(false).lists;
        lists.into_iter().find(|list| list.repo == *repo)
    }

    /// Refuses what is denied: by its name, or by the manifest that it means here.
    ///
    /// # Errors
    /// [`LibraryError::Denied`]. That there is no such thing is not said here.
    pub(crate) fn refuse_denied(&self, what: &RepoRef) -> Result<(), LibraryError> {
        if self.denials().is_empty() {
            return Ok(());
        }
        let repo = self.repo_of(what).ok().flatten();
        let manifest = self.resolve_local(what).ok();
        Ok(self.denials().check(repo.as_ref(), manifest)?)
    }

    /// Looks whether what is denied has changed, by the file, the lists, the clock and what is here, and puts that in force.
    ///
    /// # Errors
    /// The catalog or the store fails. What was in force stays, as far as it was not replaced yet.
    pub(crate) async fn renew_denials(&self) -> Result<(), LibraryError> {
        self.work_out(true).await
    }

    /// The same for names and manifests alone: for who serves nobody.
    pub(super) async fn renew_rules(&self) -> Result<(), LibraryError> {
        self.work_out(false).await
    }

    /// Works out what is denied, and puts it in force: manifests first, then blobs.
    async fn work_out(&self, blobs: bool) -> Result<(), LibraryError> {
        let denials = self.denials();
        let mut turn = denials.turn().await;
        let (reader, version) = (denials.clone(), self.0.catalog.version());
        let edited = self.background(move || Ok(reader.reread())).await?;
        let moved = turn.version != Some(version);
        if moved || edited || denials.lists_wait() {
            self.read_lists().await?;
        }
        let (base, old) = (denials.base(), denials.rules());
        let (now, anew) = (now(), !Arc::ptr_eq(&base, old.base()));
        let ended = turn.next.is_some_and(|next| next <= now);
        if !(anew || moved || ended || (blobs && turn.looked_into.is_none())) {
            return Ok(());
        }
        turn.next = base.next(now);
        if anew {
            turn.looked_into = None;
        }
        if base.is_empty() {
            turn.version = Some(version);
            if anew {
                denials.put(Rules::with(base, Arc::default(), Arc::default()));
            }
            return Ok(());
        }
        let first = Rules::with(base.clone(), old.reach().clone(), old.blobs().clone());
        let library = self.clone();
        let (reach, here) = self.background(move || library.reach(first, now)).await?;
        let reach = match reach == **old.reach() {
            true => old.reach().clone(),
            false => Arc::new(reach),
        };
        if anew || ended || !Arc::ptr_eq(&reach, old.reach()) {
            denials.put(Rules::with(base.clone(), reach.clone(), old.blobs().clone()));
        }
        turn.version = Some(version);
        if !blobs {
            return Ok(());
        }
        let key = here.key();
        if turn.looked_into != Some(key) {
            let (library, asked, handle) = (self.clone(), base.clone(), Handle::current());
            let found = self
                .background(move || Ok(library.blobs_of(&asked, here, &handle)))
                .await?;
            if found != **old.blobs() {
                denials.put(Rules::with(base, reach, Arc::new(found)));
            }
            turn.looked_into = Some(key);
        }
        Ok(())
    }

    /// Finds the manifests that are denied with their repos, and those that are here. Blocking.
    fn reach(&self, rules: Rules, now: u64) -> Result<(Reach, Here), LibraryError> {
        let catalog = &self.0.catalog;
        let mut reach = Reach::default();
        let mut free: HashSet<Hash> = HashSet::new();
        let mut ours: HashSet<Hash> = HashSet::new();
        let listed: HashSet<Hash> = rules.base().listed_manifests().collect();
        let mut over = false;
        let mut under = |manifest: Hash, why: Why| {
            if !reach.manifests.contains_key(&manifest) && reach.manifests.len() >= MANIFESTS_MAX {
                over = true;
                return;
            }
            let known = reach.manifests.entry(manifest).or_insert_with(|| why.clone());
            if ends(&why) < ends(known) {
                *known = why;
            }
        };
        let mut after: Option<RepoId> = None;
        loop {
            let page = catalog.repos(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (repo, row) in page {
                let Some(why) = rules.repo(&repo, now) else {
                    free.insert(row.manifest);
                    if self.is_ours(repo.publisher) && !listed.is_empty() {
                        ours.extend(self.once_named(&repo)?);
                        ours.insert(row.manifest);
                    }
                    continue;
                };
                under(row.manifest, why.clone());
                for manifest in self.once_named(&repo)? {
                    under(manifest, why.clone());
                }
            }
        }
        let mut here = Vec::new();
        let mut after = None;
        loop {
            let page = catalog.manifests(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (manifest, row) in page {
                here.push(manifest);
                for repo in &row.names {
                    match rules.repo(repo, now) {
                        Some(why) => under(manifest, why),
                        None => {
                            free.insert(manifest);
                        }
                    }
                    if self.is_ours(repo.publisher) {
                        ours.insert(manifest);
                    }
                }
            }
        }
        if over {
            warn!(
                "more than {MANIFESTS_MAX} manifests belong to what is denied: the others are denied by their names alone"
            );
        }
        reach.manifests.retain(|manifest, _| !free.contains(manifest));
        reach.spared = ours.intersection(&listed).copied().collect();
        let reach = Arc::new(reach);
        let rules = Rules::with(rules.base().clone(), reach.clone(), Arc::default());
        let mut found = Here::default();
        for manifest in here {
            match rules.manifest(manifest, now) {
                Some(why) => found.denied.push((manifest, why)),
                None => found.others.push(manifest),
            }
        }
        found.own = ours;
        drop(rules);
        Ok((Arc::into_inner(reach).unwrap_or_default(), found))
    }

    /// The manifests of the releases of a repo that are kept.
    fn once_named(&self, repo: &RepoId) -> Result<Vec<Hash>, LibraryError> {
        let history = self.0.names.history(repo)?;
        Ok(history.iter().map(|release| release.release().manifest).collect())
    }

    /// Finds the blobs that only denied manifests have. A manifest that does not read has none. Blocking.
    fn blobs_of(&self, base: &Base, here: Here, handle: &Handle) -> Blobs {
        let read = |manifest| handle.block_on(self.0.store.manifest(manifest));
        let mut found: HashMap<Hash, u32> = HashMap::new();
        let (mut whys, mut places) = (Vec::<Why>::new(), HashMap::<Denied, u32>::new());
        let mut over = false;
        for (manifest, why) in here.denied {
            let Ok(manifest) = read(manifest) else {
                continue;
            };
            let place = *places.entry(why.what.clone()).or_insert_with(|| {
                whys.push(why);
                (whys.len() - 1) as u32
            });
            for file in manifest.files() {
                let known = found.get(&file.blake3).copied();
                if known.is_none() && found.len() >= BLOBS_MAX {
                    over = true;
                    continue;
                }
                // Of several the one that lasts longest: it is denied as long as one of them is.
                if known.is_none_or(|known| ends(&whys[known as usize]) < ends(&whys[place as usize])) {
                    found.insert(file.blake3, place);
                }
            }
        }
        if over {
            warn!(
                "more than {BLOBS_MAX} blobs belong to what is denied: the others are withheld only where their manifests are asked for"
            );
        }
        let mut spared = HashSet::new();
        for manifest in here.others {
            let own = base.lists_blobs() && here.own.contains(&manifest);
            if found.is_empty() && !own {
                continue;
            }
            let Ok(manifest) = read(manifest) else {
                continue;
            };
            for file in manifest.files() {
                found.remove(&file.blake3);
                if own && base.lists_blob(file.blake3) {
                    spared.insert(file.blake3);
                }
            }
        }
        Blobs::new(found, whys, spared)
    }

    /// Reads the lists of which there is another release than the one in force.
    async fn read_lists(&self) -> Result<(), LibraryError> {
        for followed in self.denials().lists() {
            let (library, repo) = (self.clone(), followed.repo);
            let asked = repo.clone();
            let history = self
                .background(move || {
                    let mut history = library.0.names.history(&asked)?;
                    // Where its file is damaged, the newest stands only there.
                    if let Ok(Some(current)) = library.0.names.get(&asked)
                        && history.first() != Some(&current)
                    {
                        history.insert(0, current);
                    }
                    Ok(history)
                })
                .await?;
            let newest = history.first().map(|release| release.release().seq);
            if newest.is_some_and(|newest| self.denials().list_in_force(&repo) == Some((newest, true))) {
                continue;
            }
            let (mut list, mut trouble) = (None, None);
            for release in &history {
                match self.read_list(release).await {
                    Ok(read) => {
                        list = Some(read);
                        break;
                    }
                    // It comes: nothing is wrong with it.
                    Err(None) => {}
                    Err(Some(why)) => {
                        let seq = release.release().seq;
                        trouble.get_or_insert_with(|| format!("release {seq} is not obeyed: {why}"));
                    }
                }
            }
            if let Some(trouble) = &trouble {
                tracing::info!(list = %repo, trouble, "a denylist");
            }
            self.denials().put_list(&repo, list, trouble);
        }
        Ok(())
    }

    /// Reads the list that a release names, out of the store; an error is what is wrong with it, `None` where it is not here.
    async fn read_list(&self, release: &SignedRelease) -> Result<List, Option<ListTrouble>> {
        let said = |error: StoreError| match error {
            StoreError::Missing(_) => None,
            error => Some(error.to_string()),
        };
        let content = release.release();
        let manifest = self.0.store.manifest(content.manifest).await.map_err(said)?;
        let file = manifest.file(DENYLIST_FILE);
        let file = file.ok_or_else(|| Some(format!("it has no {DENYLIST_FILE}")))?;
        if file.size > DENYLIST_LEN_MAX as u64 {
            let size = file.size;
            return Err(Some(format!(
                "its {DENYLIST_FILE} has {size} bytes, more than {DENYLIST_LEN_MAX}"
            )));
        }
        // Of an empty file there is nothing in the store.
        let bytes = match file.size {
            0 => Bytes::new(),
            _ => self
                .0
                .store
                .read(file.blake3, DENYLIST_LEN_MAX as u64)
                .await
                .map_err(said)?,
        };
        let decode = move || Denylist::decode(&bytes).map_err(|error| chain(&error));
        let decoded = tokio::task::spawn_blocking(decode).await;
        let decoded = decoded.map_err(|_| Some(StoreError::Closed.to_string()))?;
        Ok(List {
            repo: content.repo(),
            seq: content.seq,
            issued: content.issued,
            entries: decoded.map_err(Some)?.entries().to_vec(),
        })
    }

    /// What of the library is denied: manifests, and the repos whose releases are kept. Blocking.
    pub(crate) fn withheld(&self) -> Result<(BTreeSet<Hash>, BTreeSet<RepoId>), LibraryError> {
        let (mut manifests, mut repos) = (BTreeSet::new(), BTreeSet::new());
        let denials = self.denials();
        if denials.is_empty() {
            return Ok((manifests, repos));
        }
        let mut after: Option<RepoId> = None;
        loop {
            let page = self.0.catalog.repos(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let denied = page.into_iter().filter(|(repo, _)| denials.repo(repo).is_some());
            repos.extend(denied.map(|(repo, _)| repo));
        }
        let mut after = None;
        loop {
            let page = self.0.catalog.manifests(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let denied = page
                .into_iter()
                .filter(|(hash, _)| denials.manifest(*hash).is_some());
            manifests.extend(denied.map(|(hash, _)| hash));
        }
        Ok((manifests, repos))
    }

    fn named(&self, repo: &RepoRef) -> Result<RepoId, LibraryError> {
        let named = self.repo_of(repo)?;
        let none = || DenialsError::NoName { what: repo.clone() };
        Ok(named.ok_or_else(none)?)
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce() -> Result<T, DenialsError> + Send + 'static,
    ) -> Result<T, LibraryError> {
        self.background(move || Ok(change()?)).await
    }

    /// Does disk work off the async threads.
    async fn background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LibraryError> + Send + 'static,
    ) -> Result<T, LibraryError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| LibraryError::Store(StoreError::Closed))?
    }
}

/// When a denial ends: never is the last.
fn ends(why: &Why) -> u64 {
    why.expires.unwrap_or(u64::MAX)
}
