//! Folder records: which folder a manifest was published from by reference, and what its files looked like. They are the
//! truth behind the catalog's references, and small: one file a published folder, in `sources/`.

use super::{Store, StoreError};
use crate::{
    catalog::{Place, PlaceKind, Stamp},
    durable,
};
use protocol::Hash;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};
use tracing::warn;

/// One file that is seeded from where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceFile {
    /// Where, absolute.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) blake3: Hash,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Modification time in nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
    /// Inode number.
    pub(crate) inode: u64,
}

impl SourceFile {
    /// Returns the reference for the catalog.
    pub(crate) fn place(&self) -> Place {
        let stamp = Stamp {
            len: self.len,
            mtime_ns: self.mtime_ns,
            inode: self.inode,
        };
        Place {
            len: self.len,
            kind: PlaceKind::Reference {
                path: self.path.clone(),
                stamp,
            },
        }
    }
}

/// The record of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Files published by reference, those above the size of a row.
    pub(crate) files: Vec<SourceFile>,
}

impl Store {
    fn source_path(&self, manifest: Hash) -> PathBuf {
        self.0.folder.join("sources").join(format!("{manifest}.json"))
    }

    /// Keeps a folder record, durable when it returns. Blocking.
    pub(crate) fn put_source(&self, manifest: Hash, source: &Source) -> Result<(), StoreError> {
        let path = self.source_path(manifest);
        let bytes = serde_json::to_vec(source).map_err(|error| StoreError::Malformed {
            path: path.clone(),
            why: format!("a path that is not UTF-8 cannot be recorded: {error}"),
        })?;
        durable::write_atomic(&path, &bytes).map_err(StoreError::io(&path))
    }

    /// Visits every folder record; one that does not read is reported and passed over. Blocking.
    pub(crate) fn each_source(
        &self,
        mut visit: impl FnMut(Hash, &Path, Source) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let folder = self.0.folder.join("sources");
        for entry in fs::read_dir(&folder).map_err(StoreError::io(&folder))? {
            let path = entry.map_err(StoreError::io(&folder))?.path();
            let hash = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| Hash::from_str(stem).ok());
            let Some(hash) = hash else { continue };
            let bytes = fs::read(&path).map_err(StoreError::io(&path))?;
            match serde_json::from_slice(&bytes) {
                Ok(source) => visit(hash, &path, source)?,
                Err(error) => warn!(path = %path.display(), %error, "a folder record does not read"),
            }
        }
        Ok(())
    }

    /// Removes the records of manifests that are not live.
    pub(super) fn drop_sources(&self, live: &HashSet<Hash>) -> Result<(), StoreError> {
        self.each_source(|manifest, path, _| {
            if !live.contains(&manifest) {
                durable::remove(path).map_err(StoreError::io(path))?;
            }
            Ok(())
        })
    }
}
