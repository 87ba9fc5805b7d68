//! What a node has, without the network: keys, names, catalog and store of one data folder, and the verbs that need no
//! peer. One process holds a data folder at a time.

mod denials;
mod facts;
mod mirroring;
mod opening;
mod publishers;
mod views;

pub use publishers::FollowView;
pub use views::{Collected, EntryView, Forgotten, ForkView, Rebuilt, RepoView, Shown};

use crate::{
    attest::Attestations,
    catalog::{Batch, Catalog, CatalogError, ManifestRow, OpenState, RepoRow, Reserve, ReserveError},
    denials::{Denials, DenialsError, Why},
    fetch::Unfinished,
    identity::Identity,
    keys::KeyError,
    mirror::{Inventory, InventoryError},
    names::{Following, FollowingError, Names, NamesError, Statements},
    store::{Store, StoreError, blocking},
};
use ed25519_dalek::SigningKey;
use fd_lock::RwLockWriteGuard;
use libp2p::PeerId;
use opening::Opened;
use protocol::{Alias, FileEntry, Hash, Manifest, RepoId, RepoRef, SignedRelease};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};
use tracing::{info, warn};

/// An open data folder. A cheap handle; the folder is free again when the last one is closed or dropped.
#[derive(Clone)]
pub struct Library(Arc<Inner>);

struct Inner {
    data: PathBuf,
    store: Store,
    catalog: Catalog,
    names: Names,
    following: Following,
    inventory: Inventory,
    denials: Denials,
    attestations: Attestations,
    node_key: SigningKey,
    identity: Identity,
    statements: Statements,
    reserve: Mutex<Reserve>,
    lock: Mutex<Option<RwLockWriteGuard<'static, File>>>,
    signing: Mutex<()>,
    revising: tokio::sync::Mutex<()>,
}

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{folder} is in use by {holder}", folder = folder.display(), holder = pid.map_or("another process".into(), |pid| format!("process {pid}")))]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Whose it is, where that process said so.
        pid: Option<u32>,
    },
    /// The folder cannot be made, read or written.
    #[error("the data folder {folder}", folder = folder.display())]
    Folder {
        /// The data folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key cannot be used.
    #[error("a key")]
    Key(#[from] KeyError),
    /// The reserve cannot be kept.
    #[error("the reserve file")]
    Reserve(#[from] ReserveError),
    /// Names or aliases do not read.
    #[error("the names")]
    Names(#[from] NamesError),
    /// Aliases do not read.
    #[error("the aliases")]
    Following(#[from] FollowingError),
    /// What is denied does not read.
    #[error("what is denied")]
    Denials(#[from] DenialsError),
    /// Attestations cannot be kept.
    #[error("the attestations")]
    Attestations(#[from] crate::attest::KeepError),
    /// The store or the catalog cannot be opened.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// Why a library could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Nothing here bears that name.
    #[error("{0} is not here")]
    Unknown(RepoRef),
    /// No publisher is followed under that alias.
    #[error("nobody is followed as {0}")]
    UnknownAlias(Alias),
    /// The name's publisher signed two releases with one number.
    #[error("the name")]
    Names(#[from] NamesError),
    /// Aliases cannot be kept.
    #[error("the aliases")]
    Following(#[from] FollowingError),
    /// What is mirrored cannot be written down.
    #[error("the mirror's list")]
    Mirror(#[from] InventoryError),
    /// It is denied here.
    #[error(transparent)]
    Denied(#[from] Box<Why>),
    /// What is denied cannot be kept.
    #[error("what is denied")]
    Denials(#[from] DenialsError),
    /// The catalog fails.
    #[error("the catalog")]
    Catalog(#[from] CatalogError),
    /// The store fails.
    #[error("the store")]
    Store(#[from] StoreError),
    /// The search index fails.
    #[error("the search index")]
    Search(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A ticket cannot be made.
    #[error("the ticket")]
    Ticket(#[from] protocol::TicketError),
}

impl Library {
    /// Opens a data folder, and makes it where it is not there.
    pub async fn open(data: &Path) -> Result<Library, OpenError> {
        let folder = data.to_owned();
        let opened = tokio::task::spawn_blocking(move || Opened::open(&folder)).await;
        let opened = opened.map_err(|_| LibraryError::Store(StoreError::Closed))??;
        let store = Store::open(&opened.data, opened.catalog.clone())
            .await
            .map_err(LibraryError::from)?;
        let library = Library(Arc::new(Inner {
            data: opened.data,
            store,
            catalog: opened.catalog,
            names: opened.names,
            following: opened.following,
            inventory: opened.inventory,
            denials: opened.denials,
            attestations: opened.attestations,
            node_key: opened.node_key,
            identity: opened.identity,
            statements: opened.statements,
            reserve: Mutex::new(opened.reserve),
            lock: Mutex::new(Some(opened.lock)),
            signing: Mutex::default(),
            revising: tokio::sync::Mutex::default(),
        }));
        library.concern()?;
        if opened.state != OpenState::Good {
            let rebuilt = library.fill_catalog().await?;
            if opened.state != OpenState::Missing || rebuilt != Rebuilt::default() {
                info!(state = ?opened.state, ?rebuilt, "the catalog was rebuilt from the store");
            }
        } else {
            library.adopt_pins(&mut BTreeMap::new()).await?;
        }
        library.renew_rules().await?;
        Ok(library)
    }

    /// Closes the store and the catalog; the folder is free when it returns.
    pub async fn close(&self) {
        self.0.store.close().await;
        if let Err(error) = self.0.catalog.seal() {
            warn!(%error, "closing the catalog");
        }
        self.0
            .lock
            .lock()
            .expect("nothing panics while it holds this")
            .take();
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.0.data
    }

    /// Who we are to other nodes.
    pub fn peer_id(&self) -> PeerId {
        self.keypair().public().to_peer_id()
    }

    pub(crate) fn keypair(&self) -> libp2p::identity::Keypair {
        libp2p::identity::Keypair::ed25519_from_bytes(self.0.node_key.to_bytes()).expect("32 bytes are a key")
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(crate) fn statements(&self) -> &Statements {
        &self.0.statements
    }

    /// The turn of whoever signs the next release of a name.
    pub(crate) fn signing(&self) -> MutexGuard<'_, ()> {
        self.0.signing.lock().expect("nothing panics while it holds this")
    }

    /// The turn of whoever makes a new revision of an old one.
    pub(crate) async fn revising(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.revising.lock().await
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Bounds what our own bytes may take of the disk: what would go over it is refused before it is begun. `None`: no bound.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.0.store.set_quota(bytes);
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn attestations(&self) -> &Attestations {
        &self.0.attestations
    }

    /// Re-makes the reserve file when there is room again, or gives it up. Call it now and then.
    pub(crate) fn tend_reserve(&self) {
        if let Err(error) = self
            .0
            .reserve
            .lock()
            .expect("nothing panics while it holds this")
            .tend()
        {
            warn!(%error, "the reserve file");
        }
    }

    /// Returns the repo that a reference names, by the key as which its publisher goes on; `None` for one that names content.
    pub fn repo_of(&self, what: &RepoRef) -> Result<Option<RepoId>, LibraryError> {
        Ok(match what {
            RepoRef::Id(repo) => Some(self.newest(repo)),
            RepoRef::Aliased { alias, name } => {
                let publisher = self.0.following.by_alias(alias);
                let publisher = publisher.ok_or_else(|| LibraryError::UnknownAlias(alias.clone()))?;
                Some(self.newest(&RepoId {
                    publisher,
                    name: name.clone(),
                }))
            }
            RepoRef::Content(_) => None,
        })
    }

    /// Lists every pinned manifest that the catalog does not: after a rebuild all, after a crash perhaps one.
    async fn adopt_pins(&self, names: &mut BTreeMap<Hash, Vec<RepoId>>) -> Result<u64, LibraryError> {
        let mut adopted = 0;
        for hash in self.0.store.pinned().await? {
            if self.0.catalog.manifest(hash)?.is_some() {
                continue;
            }
            let manifest = match self.0.store.manifest(hash).await {
                Ok(manifest) => manifest,
                Err(error) => {
                    warn!(manifest = %hash.short(), %error, "a pinned manifest does not read");
                    continue;
                }
            };
            let complete = self.missing(&manifest).await?.is_empty();
            let known = names.remove(&hash).unwrap_or_default();
            self.0.catalog.write_soon(|batch| {
                enlist(batch, &manifest, None, complete)?;
                known
                    .iter()
                    .try_for_each(|repo| enlist(batch, &manifest, Some(repo), complete))
            })?;
            adopted += 1;
        }
        Ok(adopted)
    }

    /// Returns the newest release we hold of what a reference names.
    pub fn release_of(&self, what: &RepoRef) -> Result<Option<SignedRelease>, LibraryError> {
        let Some(repo) = self.repo_of(what)? else {
            return Ok(None);
        };
        Ok(self.0.names.get(&repo)?)
    }

    /// Returns the manifest that a reference names, from what we hold.
    pub fn resolve_local(&self, what: &RepoRef) -> Result<Hash, LibraryError> {
        if let RepoRef::Content(hash) = what {
            return Ok(*hash);
        }
        let release = self
            .release_of(what)?
            .ok_or_else(|| LibraryError::Unknown(what.clone()))?;
        Ok(release.release().manifest)
    }

    /// Reads a manifest that a reference resolved to.
    pub(crate) async fn known_manifest(&self, what: &RepoRef, hash: Hash) -> Result<Manifest, LibraryError> {
        self.0.store.manifest(hash).await.map_err(|error| match error {
            StoreError::Missing(_) => LibraryError::Unknown(what.clone()),
            error => error.into(),
        })
    }

    /// Keeps a manifest from collection.
    pub async fn pin(&self, what: &RepoRef) -> Result<Hash, LibraryError> {
        let hash = self.resolve_local(what)?;
        self.known_manifest(what, hash).await?;
        self.claim(hash).await?;
        self.0.store.pin(hash).await?;
        self.set_pinned(hash, true)?;
        Ok(hash)
    }

    /// Lets a manifest go and removes what nothing else needs.
    ///
    /// The files a user published by reference stay where they are; only our own bytes go. The release stays: it is the
    /// ratchet that keeps an older one from coming back.
    pub async fn forget(&self, what: &RepoRef) -> Result<Forgotten, LibraryError> {
        let manifest = self.resolve_local(what)?;
        let data = self.0.data.clone();
        let begun = blocking(move || Unfinished::forget(&data, manifest)).await?;
        let known = begun
            || self.0.catalog.manifest(manifest)?.is_some()
            || self.0.store.held().contains(&manifest)
            || self.0.store.pinned().await?.contains(&manifest)
            || self
                .inventory()
                .staying()
                .is_ok_and(|kept| kept.contains(&manifest));
        if !known {
            return Err(LibraryError::Unknown(what.clone()));
        }
        self.note_let_go(manifest).await?;
        self.unkeep(manifest).await?;
        let Collected { blobs, bytes } = self.collect().await?;
        Ok(Forgotten {
            manifest,
            blobs,
            bytes,
        })
    }

    /// Removes bytes that neither a manifest we keep needs nor a fetch that is to go on, the mirror's among them.
    pub async fn collect(&self) -> Result<Collected, LibraryError> {
        let data = self.0.data.clone();
        let begun = blocking(move || Unfinished::all(&data)).await?;
        let begun = begun.iter().map(|unfinished| unfinished.manifest);
        let mirrored = self.inventory().staying().unwrap_or_else(|error| {
            warn!(%error, "what the mirror has not got whole is not kept");
            Vec::new()
        });
        let begun = begun.chain(mirrored).collect();
        let swept = self.0.store.collect(begun).await?;
        Ok(Collected {
            blobs: swept.blobs,
            bytes: swept.bytes,
        })
    }

    /// Offers a release to the ratchet, and lists it once it is the newest.
    pub(crate) fn accept(&self, release: &SignedRelease, now: u64) -> Result<(), LibraryError> {
        self.admit(release)?;
        self.0.names.accept(release, now)?;
        let (repo, ours) = (
            release.release().repo(),
            self.is_ours(release.release().publisher),
        );
        self.0.catalog.write(|batch| {
            batch.put_repo(&repo, &RepoRow::of(release, ours));
            Ok(())
        })?;
        Ok(())
    }

    pub(crate) fn set_complete(&self, hash: Hash, complete: bool) -> Result<(), StoreError> {
        self.0.catalog.write(|batch| {
            if let Some(row) = batch.manifest(hash)? {
                batch.put_manifest(hash, &ManifestRow { complete, ..row });
            }
            Ok(())
        })?;
        Ok(())
    }

    fn set_pinned(&self, hash: Hash, pinned: bool) -> Result<(), LibraryError> {
        self.0.catalog.write(|batch| {
            if let Some(row) = batch.manifest(hash)? {
                batch.put_manifest(hash, &ManifestRow { pinned, ..row });
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Throws the catalog away and makes it again from the store, the folder records and the releases.
    pub async fn rebuild_catalog(&self) -> Result<Rebuilt, LibraryError> {
        self.0.catalog.clear_for_rebuild()?;
        self.fill_catalog().await
    }

    async fn fill_catalog(&self) -> Result<Rebuilt, LibraryError> {
        let mut rebuilt = Rebuilt::default();
        self.0.store.each_source(|_, _, source| {
            rebuilt.places += source.files.len() as u64;
            self.0.catalog.write_soon(|batch| {
                for file in &source.files {
                    batch.put_place(file.blake3, &file.place())?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
        let mut names: BTreeMap<Hash, Vec<RepoId>> = BTreeMap::new();
        for release in self.0.names.all()? {
            match release {
                Ok(release) => {
                    let repo = release.release().repo();
                    // What was released before is a revision of the repo too.
                    let before = self.0.names.history(&repo)?;
                    let manifests = before.iter().chain([&release]).map(|it| it.release().manifest);
                    for manifest in manifests.collect::<BTreeSet<_>>() {
                        names.entry(manifest).or_default().push(repo.clone());
                    }
                    let ours = self.is_ours(repo.publisher);
                    self.0.catalog.write_soon(|batch| {
                        batch.put_repo(&repo, &RepoRow::of(&release, ours));
                        Ok(())
                    })?;
                    rebuilt.repos += 1;
                }
                Err(damaged) => {
                    warn!(path = %damaged.path.display(), why = %damaged.why, "a release does not read")
                }
            }
        }
        rebuilt.manifests = self.adopt_pins(&mut names).await?;
        self.0.catalog.rebuilt()?;
        Ok(rebuilt)
    }

    /// Tells whether we hold all of a manifest and know of no damage in it.
    pub(crate) fn is_complete(&self, manifest: Hash) -> bool {
        self.0
            .catalog
            .manifest(manifest)
            .ok()
            .flatten()
            .is_some_and(|row| row.complete)
    }

    /// Returns a manifest that is here.
    pub async fn manifest(&self, hash: Hash) -> Result<Manifest, LibraryError> {
        Ok(self.0.store.manifest(hash).await?)
    }

    /// Returns the distinct blobs of a manifest that are not here whole, by what the file system says: `(hash, length)`.
    pub(crate) async fn missing(&self, manifest: &Manifest) -> Result<Vec<(Hash, u64)>, StoreError> {
        self.missing_of(manifest.files()).await
    }

    /// The same of some files.
    pub(crate) async fn missing_of(
        &self,
        files: impl IntoIterator<Item = &FileEntry>,
    ) -> Result<Vec<(Hash, u64)>, StoreError> {
        let files = files.into_iter();
        let mut blobs: Vec<(Hash, u64)> = files.map(|file| (file.blake3, file.size)).collect();
        let mut seen = HashSet::new();
        blobs.retain(|(hash, size)| *size > 0 && seen.insert(*hash));
        let small: Vec<Hash> = blobs
            .iter()
            .filter(|(_, size)| is_small(*size))
            .map(|(hash, _)| *hash)
            .collect();
        let small = self.0.store.has_small(&small).await?;
        let damaged = self.0.store.damaged();
        let mut missing = Vec::new();
        for (hash, size) in blobs {
            let here = if is_small(size) {
                small.contains(&hash)
            } else {
                self.0.store.seems_whole(hash, size)?
            };
            if !here || damaged.contains_key(&hash) {
                missing.push((hash, size));
            }
        }
        Ok(missing)
    }
}

fn is_small(size: u64) -> bool {
    size <= crate::limits::SMALL_LEN
}

/// Lists a manifest that is pinned, under one more name where there is one.
pub(crate) fn enlist(
    batch: &mut Batch<'_>,
    manifest: &Manifest,
    repo: Option<&RepoId>,
    complete: bool,
) -> Result<(), CatalogError> {
    let row = batch.manifest(manifest.hash())?;
    let added = row.as_ref().map_or_else(now, |row| row.added);
    let mut names = row.map(|row| row.names).unwrap_or_default();
    if let Some(repo) = repo
        && !names.contains(repo)
    {
        names.push(repo.clone());
    }
    let (files, bytes) = (manifest.files().len() as u32, manifest.total_len());
    let row = ManifestRow {
        files,
        bytes,
        pinned: true,
        complete,
        added,
        names,
    };
    batch.put_manifest(manifest.hash(), &row);
    Ok(())
}

/// Returns the time in seconds since 1970. Used for what people read and for expiry, never to order anything.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
