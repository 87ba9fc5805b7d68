//! Reading: one row by its key, or a page of rows in the order of their keys. All of it blocks, mostly for microseconds.
//!
//! A page is a snapshot of nothing: rows that come or go between two pages are seen or not. To go through all rows, give the last key of a page to
//! the next call; an empty page is the end.

use std::path::{Path, PathBuf};

use protocol::{Hash, Publisher, RepoId};

use super::engine::{Engine, Tree};
use super::known::{self, KnownItem, KnownRow, NameKey, Tally};
use super::record::{
    self, Digest, Digests, Known, ManifestRow, Manifests, Place, Places, Provider, Providers, RepoRow, Repos,
    Rows, Sums, SumsOf, Table, Unreadable,
};
use super::{Catalog, CatalogError, Inner, decode, lock, read_lock, unreadable};

/// Most rows of a page: a few megabytes at the most likely sizes.
pub const PAGE_ROWS_MAX: usize = 10_000;

impl Catalog {
    /// What changes with every write: while it is the same, so is everything that was read. It means something only while the catalog is open.
    pub fn version(&self) -> (u64, u64) {
        let progress = lock(&self.0.progress);
        (progress.epoch, progress.applied)
    }

    /// The row of a repo.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] where it can't be read; then rebuild. [`CatalogError::Closed`] and [`CatalogError::Io`]. So it is for all reads.
    pub fn repo(&self, id: &RepoId) -> Result<Option<RepoRow>, CatalogError> {
        self.0.get::<Repos>(id)
    }

    /// Repos in the order of publisher and name, those after `after`; at most `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn repos(
        &self,
        after: Option<&RepoId>,
        limit: usize,
    ) -> Result<Vec<(RepoId, RepoRow)>, CatalogError> {
        self.0.page::<Repos>(&[], after, limit)
    }

    /// Repos of one publisher in the order of their names, those after `after`; at most `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn repos_of(
        &self,
        publisher: Publisher,
        after: Option<&RepoId>,
        limit: usize,
    ) -> Result<Vec<(RepoId, RepoRow)>, CatalogError> {
        self.0.page::<Repos>(publisher.as_bytes(), after, limit)
    }

    /// The row of a manifest.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn manifest(&self, hash: Hash) -> Result<Option<ManifestRow>, CatalogError> {
        self.0.get::<Manifests>(&hash)
    }

    /// Manifests in the order of their hashes, those after `after`; at most `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn manifests(
        &self,
        after: Option<Hash>,
        limit: usize,
    ) -> Result<Vec<(Hash, ManifestRow)>, CatalogError> {
        self.0.page::<Manifests>(&[], after.as_ref(), limit)
    }

    /// Manifests whose hashes begin with these bytes, in order; at most `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn manifests_from(
        &self,
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<(Hash, ManifestRow)>, CatalogError> {
        self.0.page::<Manifests>(start, None, limit)
    }

    /// Where a blob lies, if it is one too big for the store's database.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn place(&self, blob: Hash) -> Result<Option<Place>, CatalogError> {
        self.0.get::<Places>(&blob)
    }

    /// Places in the order of the blobs' hashes, those after `after`; at most `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn places(&self, after: Option<Hash>, limit: usize) -> Result<Vec<(Hash, Place)>, CatalogError> {
        self.0.page::<Places>(&[], after.as_ref(), limit)
    }

    /// The digests of a file, as they were when it was last read. They hold only while its stamp is the same.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn digest(&self, path: &Path) -> Result<Option<Digest>, CatalogError> {
        self.0.get::<Digests>(path)
    }

    /// Digests in the order of the paths' bytes (of those over 255 bytes, of the first 224), those after `after`; at most `limit` and
    /// [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn digests(
        &self,
        after: Option<&Path>,
        limit: usize,
    ) -> Result<Vec<(PathBuf, Digest)>, CatalogError> {
        self.0.page::<Digests>(&[], after, limit)
    }

    /// Digests of files at any depth below `folder`, in the order of [`Catalog::digests`]. Where the folder's path is longer than 223 bytes, some
    /// of other folders with the same beginning can be among them: look at the paths.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn digests_below(
        &self,
        folder: &Path,
        after: Option<&Path>,
        limit: usize,
    ) -> Result<Vec<(PathBuf, Digest)>, CatalogError> {
        self.0.page::<Digests>(&record::below(folder), after, limit)
    }

    /// The other digests of a blob, if they were hashed here.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn sums(&self, blob: Hash) -> Result<Option<Sums>, CatalogError> {
        self.0.get::<SumsOf>(&blob)
    }

    /// The remembered providers of a manifest, the one seen last first; at most [`super::PROVIDERS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn providers(&self, manifest: Hash) -> Result<Vec<Provider>, CatalogError> {
        Ok(self.0.get::<Providers>(&manifest)?.unwrap_or_default())
    }

    /// Manifests with remembered providers, in the order of their hashes, those after `after`; at most `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn provided(
        &self,
        after: Option<Hash>,
        limit: usize,
    ) -> Result<Vec<(Hash, Vec<Provider>)>, CatalogError> {
        self.0.page::<Providers>(&[], after.as_ref(), limit)
    }

    /// What is known of a name.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn known(&self, key: NameKey) -> Result<Option<KnownRow>, CatalogError> {
        self.0.get::<Known>(&key)
    }

    /// How much is known. Costs a walk over all that is known where an earlier build wrote it, and no more once something was put in.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn tally(&self) -> Result<Tally, CatalogError> {
        self.0
            .reading(|engine| known::tally(engine).map_err(|fault| CatalogError::of(&self.0.folder, fault)))
    }

    /// What is known, in the order of the keys, that after `after`; at most `limit` and [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn knowns(
        &self,
        after: Option<NameKey>,
        limit: usize,
    ) -> Result<Vec<(NameKey, KnownRow)>, CatalogError> {
        self.0.page::<Known>(&[], after.as_ref(), limit)
    }

    /// The same, but of each only what stands first in its row: several times faster, for walks over millions.
    ///
    /// # Errors
    /// As [`Catalog::repo`].
    pub fn known_items(&self, after: Option<NameKey>, limit: usize) -> Result<Vec<KnownItem>, CatalogError> {
        let after = after.map(Vec::from);
        let decode = |key: &[u8], value: &[u8]| known::decode_item(key, value);
        self.0.page_of(Tree::Known, &[], after.as_deref(), limit, decode)
    }
}

impl Inner {
    fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Row>, CatalogError> {
        self.reading(|engine| {
            let key = T::key(key);
            let value = engine.get(T::TREE, &key);
            let value = value.map_err(|fault| CatalogError::of(&self.folder, fault))?;
            value
                .map(|value| decode::<T>(&key, &value).map(|(_, row)| row))
                .transpose()
        })
    }

    fn page<T: Table>(
        &self,
        prefix: &[u8],
        after: Option<&T::Key>,
        limit: usize,
    ) -> Result<Rows<T>, CatalogError> {
        let after = after.map(T::key);
        self.page_of(T::TREE, prefix, after.as_deref(), limit, T::decode)
    }

    fn page_of<R>(
        &self,
        tree: Tree,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        read: impl Fn(&[u8], &[u8]) -> Result<R, Unreadable>,
    ) -> Result<Vec<R>, CatalogError> {
        self.reading(|engine| {
            let pairs = engine.page(tree, prefix, after, limit.min(PAGE_ROWS_MAX));
            let pairs = pairs.map_err(|fault| CatalogError::of(&self.folder, fault))?;
            pairs
                .iter()
                .map(|(key, value)| read(key, value).map_err(|Unreadable| unreadable(tree)))
                .collect()
        })
    }

    fn reading<R>(&self, read: impl FnOnce(&Engine) -> Result<R, CatalogError>) -> Result<R, CatalogError> {
        let live = read_lock(&self.engine);
        let Some(live) = live.as_ref() else {
            let trouble = lock(&self.progress).trouble.clone();
            return Err(trouble.map_or(CatalogError::Closed, |trouble| self.refusal(trouble)));
        };
        read(&live.engine).inspect_err(|error| self.note(error))
    }
}
