//! What a manifest says of a file besides its hash: its SHA-256 and its git id, by which clients of the Hub know it. It is its
//! publisher's word, and worth nothing until the bytes were hashed here.
//!
//! What was hashed is remembered in the catalog by the blob's hash, for no other bytes can have it; if it is lost it is hashed
//! again. A blob of at most one shard is not remembered: it is hashed whenever it is read, as its BLAKE3 is.

use super::{Blob, Store, StoreError, blocking, digest::Linear};
use crate::{catalog::Sums, limits::PIECE_LEN};
use protocol::FileEntry;
use tracing::debug;

/// Hashes all bytes of a file in order, on whatever way they are, for [`Store::conclude`].
pub(crate) fn begin(file: &FileEntry) -> Linear {
    Linear::new(file.size, file.sha1.is_some())
}

impl Store {
    /// Tells whether all that is said of a file is known to be so; `false`: its bytes have to be hashed first. Blocking, but not for
    /// long.
    ///
    /// - `blob`: the file, where it is at hand.
    /// - [`StoreError::FalseDigest`]: it is known not to be so.
    pub(crate) fn is_proven(&self, file: &FileEntry, blob: Option<&Blob>) -> Result<bool, StoreError> {
        if file.sha256.is_none() && file.sha1.is_none() {
            return Ok(true);
        }
        let known = match blob {
            Some(Blob::Memory(bytes)) => {
                let mut linear = begin(file);
                linear.update(bytes);
                Some(sums(linear))
            }
            _ => self.0.catalog.sums(file.blake3)?,
        };
        known.map_or(Ok(false), |known| judge(file, &known))
    }

    /// Holds what is said of a file against its bytes, all of which must be here: [`StoreError::Missing`] where they are not.
    ///
    /// One file at a time, and to its end even if nobody waits for it any more: who asks again finds it done.
    pub(crate) async fn prove(&self, file: &FileEntry) -> Result<(), StoreError> {
        let (store, file, hash) = (self.clone(), file.clone(), file.blake3);
        let blob = self.blob(hash).await?;
        let (len, actual) = (file.size, blob.len());
        if len != actual {
            let blob = hash;
            return Err(StoreError::WrongLen { blob, len, actual });
        }
        let looked = (store.clone(), file.clone(), blob.clone());
        if blocking(move || looked.0.is_proven(&looked.1, Some(&looked.2))).await? {
            return Ok(());
        }
        if matches!(&blob, Blob::Growing(part) if !part.is_complete()) {
            return Err(StoreError::Missing(hash));
        }
        let turn = self.0.proving.clone().lock_owned().await;
        blocking(move || {
            let _turn = turn;
            if store.is_proven(&file, Some(&blob))? {
                return Ok(());
            }
            let mut linear = begin(&file);
            for start in (0..len).step_by(PIECE_LEN) {
                let end = len.min(start + PIECE_LEN as u64);
                linear.update(&store.read_range(hash, &blob, start..end)?);
            }
            store.conclude(&file, linear)
        })
        .await
    }

    /// Remembers what all bytes of a file, fed to what [`begin`] gave, hashed to, and holds what is said of it against that. Blocking.
    pub(crate) fn conclude(&self, file: &FileEntry, linear: Linear) -> Result<(), StoreError> {
        let sums = sums(linear);
        let noted = self
            .0
            .catalog
            .write_soon(|batch| batch.put_sums(file.blake3, sums));
        if let Err(error) = noted {
            debug!(blob = %file.blake3.short(), %error, "its digests will be hashed again");
        }
        judge(file, &sums).map(drop)
    }
}

fn sums(linear: Linear) -> Sums {
    let (sha256, sha1) = linear.finish();
    Sums { sha256, sha1 }
}

/// Whether all that is said of a file is so; `false`: its git id was not hashed.
fn judge(file: &FileEntry, known: &Sums) -> Result<bool, StoreError> {
    let wrong = |what, claimed: &dyn ToString, actual: &dyn ToString| StoreError::FalseDigest {
        path: file.path.to_string(),
        what,
        claimed: claimed.to_string(),
        actual: actual.to_string(),
    };
    if let Some(claimed) = file.sha256.filter(|claimed| *claimed != known.sha256) {
        return Err(wrong("SHA-256", &claimed, &known.sha256));
    }
    match (file.sha1, known.sha1) {
        (Some(claimed), Some(actual)) if claimed != actual => Err(wrong("git id", &claimed, &actual)),
        (Some(_), None) => Ok(false),
        _ => Ok(true),
    }
}
