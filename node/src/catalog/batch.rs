//! A batch: the changes of one write, collected and then applied together.
//!
//! It reads through: what it has put is what it gets. Keys are sorted, which is what makes sled fast and its memory bounded.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::{Hash, RepoId};

use super::engine::{Change, Engine, Tree};
use super::known::{self, KNOWN_ROW_LEN_MAX, KnownRow, NameKey, Tally};
use super::record::{
    self, Digest, Digests, Known, ManifestRow, Manifests, NAMES_MAX, Place, PlaceKind, Places, Provider,
    Providers, RepoRow, Repos, Sums, SumsOf, Table,
};
use super::{CatalogError, decode};

/// Most changes in one batch: the place and the digest of each file of the largest manifest, and half as much again.
pub const BATCH_CHANGES_MAX: usize = 300_000;

/// Most changes in one transaction: a batch up to this is applied whole or not at all.
pub const TRANSACTION_CHANGES_MAX: usize = 1_024;

/// Changes over any of the tables, as given to the closure of [`super::Catalog::write`].
pub struct Batch<'a> {
    engine: &'a Engine,
    folder: &'a Path,
    changes: BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>>,
    /// How much is known with these changes; `None`: they put in nothing known.
    tally: Option<Tally>,
    len: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(engine: &'a Engine, folder: &'a Path) -> Batch<'a> {
        Batch {
            engine,
            folder,
            changes: BTreeMap::new(),
            tally: None,
            len: 0,
        }
    }

    /// The row of a repo, as this batch would leave it.
    ///
    /// # Errors
    /// As [`super::Catalog::repo`].
    pub fn repo(&self, id: &RepoId) -> Result<Option<RepoRow>, CatalogError> {
        self.get::<Repos>(id)
    }

    /// The row of a manifest, as this batch would leave it.
    ///
    /// # Errors
    /// As [`super::Catalog::manifest`].
    pub fn manifest(&self, hash: Hash) -> Result<Option<ManifestRow>, CatalogError> {
        self.get::<Manifests>(&hash)
    }

    /// Where a blob lies, as this batch would leave it.
    ///
    /// # Errors
    /// As [`super::Catalog::place`].
    pub fn place(&self, blob: Hash) -> Result<Option<Place>, CatalogError> {
        self.get::<Places>(&blob)
    }

    /// The digests of a file, as this batch would leave them.
    ///
    /// # Errors
    /// As [`super::Catalog::digest`].
    pub fn digest(&self, path: &Path) -> Result<Option<Digest>, CatalogError> {
        self.get::<Digests>(path)
    }

    /// The remembered providers of a manifest, as this batch would leave them.
    ///
    /// # Errors
    /// As [`super::Catalog::providers`].
    pub fn providers(&self, manifest: Hash) -> Result<Vec<Provider>, CatalogError> {
        Ok(self.get::<Providers>(&manifest)?.unwrap_or_default())
    }

    /// What is known of a name, as this batch would leave it.
    ///
    /// # Errors
    /// As [`super::Catalog::known`].
    pub fn known(&self, key: NameKey) -> Result<Option<KnownRow>, CatalogError> {
        self.get::<Known>(&key)
    }

    /// Puts the row of a repo.
    pub fn put_repo(&mut self, id: &RepoId, row: &RepoRow) {
        self.put::<Repos>(id, row);
    }

    /// Removes the row of a repo, if it is there.
    pub fn remove_repo(&mut self, id: &RepoId) {
        self.remove::<Repos>(id);
    }

    /// Puts the row of a manifest. Of more than [`NAMES_MAX`] names the last ones are kept.
    pub fn put_manifest(&mut self, hash: Hash, row: &ManifestRow) {
        let surplus = row.names.len().saturating_sub(NAMES_MAX);
        if surplus == 0 {
            return self.put::<Manifests>(&hash, row);
        }
        let mut row = row.clone();
        row.names.drain(..surplus);
        self.put::<Manifests>(&hash, &row);
    }

    /// Removes the row of a manifest, if it is there.
    pub fn remove_manifest(&mut self, hash: Hash) {
        self.remove::<Manifests>(&hash);
    }

    /// Puts where a blob lies.
    ///
    /// # Errors
    /// [`CatalogError::Unfit`]: the path of a reference is not absolute, or longer than [`record::STORED_PATH_LEN_MAX`].
    pub fn put_place(&mut self, blob: Hash, place: &Place) -> Result<(), CatalogError> {
        if let PlaceKind::Reference { path, .. } = &place.kind {
            check_path(path)?;
        }
        self.put::<Places>(&blob, place);
        Ok(())
    }

    /// Removes where a blob lies, if it is there.
    pub fn remove_place(&mut self, blob: Hash) {
        self.remove::<Places>(&blob);
    }

    /// Puts the digests of a file.
    ///
    /// # Errors
    /// [`CatalogError::Unfit`]: the path is not absolute, or longer than [`record::STORED_PATH_LEN_MAX`].
    pub fn put_digest(&mut self, path: &Path, digest: &Digest) -> Result<(), CatalogError> {
        check_path(path)?;
        self.put::<Digests>(path, digest);
        Ok(())
    }

    /// Removes the digests of a file, if they are there.
    pub fn remove_digest(&mut self, path: &Path) {
        self.remove::<Digests>(path);
    }

    /// Puts the other digests of a blob. A git id that is known already stays.
    ///
    /// # Errors
    /// As [`super::Catalog::sums`].
    pub fn put_sums(&mut self, blob: Hash, sums: Sums) -> Result<(), CatalogError> {
        let known = self.get::<SumsOf>(&blob)?.and_then(|known| known.sha1);
        let sha1 = sums.sha1.or(known);
        self.put::<SumsOf>(&blob, &Sums { sha1, ..sums });
        Ok(())
    }

    /// Puts the remembered providers of a manifest, brought within their bounds: one row a peer, the latest seen first, at most
    /// [`record::PROVIDERS_MAX`] and 6 KiB; the oldest are dropped.
    pub fn put_providers(&mut self, manifest: Hash, providers: Vec<Provider>) {
        self.put::<Providers>(&manifest, &record::bounded_providers(providers));
    }

    /// Adds a provider to those remembered, in place of what was known of that peer if it is seen later.
    ///
    /// # Errors
    /// As [`super::Catalog::providers`].
    pub fn add_provider(&mut self, manifest: Hash, provider: Provider) -> Result<(), CatalogError> {
        let mut providers = vec![provider];
        providers.extend(self.providers(manifest)?);
        self.put_providers(manifest, providers);
        Ok(())
    }

    /// Forgets the providers of a manifest.
    pub fn remove_providers(&mut self, manifest: Hash) {
        self.remove::<Providers>(&manifest);
    }

    /// Puts what is known of a name, in place of what was: which of two releases to keep is the caller's to say.
    ///
    /// # Errors
    /// [`CatalogError::Unfit`]: the row takes more than [`KNOWN_ROW_LEN_MAX`] bytes, which none of a release that was read does. As
    /// [`super::Catalog::tally`].
    pub fn put_known(&mut self, row: &KnownRow) -> Result<(), CatalogError> {
        let key = row.key();
        let value = Known::encode(&key, row);
        if value.len() > KNOWN_ROW_LEN_MAX {
            let what = format!("a known release of {} bytes", value.len());
            return Err(CatalogError::Unfit { what });
        }
        let fault = |fault| CatalogError::of(self.folder, fault);
        let mut tally = match self.tally {
            Some(tally) => tally,
            None => known::tally(self.engine).map_err(fault)?,
        };
        let at = (Tree::Known, Known::key(&key));
        if !self.changes.contains_key(&at) && self.engine.get(at.0, &at.1).map_err(fault)?.is_none() {
            tally.names += 1;
        }
        tally.arrived = tally.arrived.max(row.arrived);
        self.tally = Some(tally);
        self.change(at.0, at.1, Some(value));
        Ok(())
    }

    /// Bytes of the keys and values collected.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The changes cut into transactions: one if they fit, else first what no longer names anything, then what is named before what names it.
    ///
    /// # Errors
    /// [`CatalogError::Unfit`]: there are more than [`BATCH_CHANGES_MAX`].
    pub(super) fn into_transactions(self) -> Result<Vec<Vec<Change>>, CatalogError> {
        if self.changes.len() > BATCH_CHANGES_MAX {
            let what = format!("{} changes in one batch", self.changes.len());
            return Err(CatalogError::Unfit { what });
        }
        let tally = self.tally.as_ref().map(known::tallied);
        let changes = self.changes.into_iter();
        let mut changes: Vec<Change> = changes
            .map(|((tree, key), value)| Change { tree, key, value })
            .chain(tally)
            .collect();
        let names = |change: &Change| matches!(change.tree, Tree::Manifests | Tree::Repos);
        // Stable: within either half the changes stay sorted by tree and key.
        changes.sort_by_key(|change| !(names(change) && change.value.is_none()));
        let mut transactions = Vec::new();
        while changes.len() > TRANSACTION_CHANGES_MAX {
            let rest = changes.split_off(TRANSACTION_CHANGES_MAX);
            transactions.push(std::mem::replace(&mut changes, rest));
        }
        if !changes.is_empty() {
            transactions.push(changes);
        }
        Ok(transactions)
    }

    fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Row>, CatalogError> {
        let at = (T::TREE, T::key(key));
        let read = match self.changes.get(&at) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get(T::TREE, &at.1),
        };
        let value = read.map_err(|fault| CatalogError::of(self.folder, fault))?;
        value
            .map(|value| decode::<T>(&at.1, &value).map(|(_, row)| row))
            .transpose()
    }

    fn put<T: Table>(&mut self, key: &T::Key, row: &T::Row) {
        self.change(T::TREE, T::key(key), Some(T::encode(key, row)));
    }

    fn remove<T: Table>(&mut self, key: &T::Key) {
        self.change(T::TREE, T::key(key), None);
    }

    fn change(&mut self, tree: Tree, key: Vec<u8>, value: Option<Vec<u8>>) {
        let len = key.len() + value.as_ref().map_or(0, Vec::len);
        self.len = self.len.saturating_add(len as u64);
        self.changes.insert((tree, key), value);
    }
}

fn check_path(path: &Path) -> Result<(), CatalogError> {
    if record::is_storable(path) {
        return Ok(());
    }
    let what = format!("the path {}", path.display());
    Err(CatalogError::Unfit { what })
}
