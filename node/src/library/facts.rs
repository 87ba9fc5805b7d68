//! What the files of a repo say of it, read from what is here of them. Every byte was verified.

use super::{Library, LibraryError};
use crate::{
    card::{self, Card},
    check::facts::{self, Facts},
    store::{Blob, StoreError, blocking},
};
use protocol::{Hash, Manifest};
use std::{
    collections::{HashMap, HashSet},
    io,
    ops::Range,
};
use tokio::runtime::Handle;

/// The file with the card.
const CARD: &str = "README.md";
/// Longest card that is read, in bytes.
const CARD_LEN_MAX: u64 = 1024 * 1024;

impl Library {
    /// Looks at the files of a manifest: formats, architecture, tensors, what is wrong, and what can run code. Of a file that is not
    /// all here as much is read as is; what cannot be had is named.
    ///
    /// - `without`: blobs that are not looked at, as if nothing of them were here.
    pub(crate) async fn facts(
        &self,
        manifest: &Manifest,
        without: HashSet<Hash>,
    ) -> Result<Facts, LibraryError> {
        let (library, manifest, handle) = (self.clone(), manifest.clone(), Handle::current());
        let look = move || {
            let hashes: HashMap<&str, Hash> = manifest
                .files()
                .iter()
                .map(|file| (file.path.as_str(), file.blake3))
                .collect();
            let files = manifest
                .files()
                .iter()
                .map(|file| (file.path.as_str(), file.size));
            // A file is read range by range: it is opened once.
            let mut open: Option<(Hash, Blob)> = None;
            Ok(facts::of(files, |path, range| {
                let hash = hashes.get(path).filter(|hash| !without.contains(hash));
                let hash = *hash.ok_or(io::ErrorKind::NotFound)?;
                library
                    .read_open(hash, &mut open, range, &handle)
                    .map_err(|error| match error {
                        StoreError::Missing(_) => io::ErrorKind::NotFound.into(),
                        error => io::Error::other(error),
                    })
            }))
        };
        Ok(blocking(look).await?)
    }

    /// Reads a range of a blob, and keeps the blob open for the next one. Blocking.
    pub(crate) fn read_open(
        &self,
        hash: Hash,
        open: &mut Option<(Hash, Blob)>,
        range: Range<u64>,
        handle: &Handle,
    ) -> Result<Vec<u8>, StoreError> {
        let store = &self.0.store;
        let blob = match open.take() {
            Some((known, blob)) if known == hash => blob,
            _ => handle.block_on(store.blob(hash))?,
        };
        let bytes = store.read_range(hash, &blob, range)?;
        *open = Some((hash, blob));
        Ok(bytes.into())
    }

    /// Reads the card of a manifest, and the text behind its head; `None` where it has none, or it is not here.
    pub(super) async fn card(
        &self,
        manifest: &Manifest,
    ) -> Result<(Option<Card>, Option<String>), LibraryError> {
        let file = manifest.file(CARD).filter(|file| file.size <= CARD_LEN_MAX);
        let Some(file) = file else {
            return Ok((None, None));
        };
        match self.0.store.read(file.blake3, CARD_LEN_MAX).await {
            Ok(readme) => {
                let read = move || Ok((Card::of_readme(&readme), card::body(&readme)));
                Ok(blocking(read).await?)
            }
            Err(StoreError::Missing(_) | StoreError::Damaged { .. } | StoreError::Changed { .. }) => {
                Ok((None, None))
            }
            Err(error) => Err(error.into()),
        }
    }
}
