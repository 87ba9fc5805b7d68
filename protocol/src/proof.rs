//! The proof: one file that makes a folder verifiable with no network and no node, and that tells *where* a file is wrong.
//!
//! A value of [`Proof`] is sound: the chaining values hash up to the files' roots, and the release, if there is one, names the manifest.

use crate::hash::Hash;
use crate::limits::{MANIFEST_LEN_MAX, PROOF_LEN_MAX, RELEASE_LEN_MAX, VERSION};
use crate::manifest::{FileEntry, Manifest, ManifestError};
use crate::path::RepoPath;
use crate::release::{ReleaseError, SignedRelease};
use crate::shard::{ChainingValue, root_of_shards, shard_count};

/// How every proof starts. It names the version.
const MAGIC: &[u8] = b"shoal proof 1\n";

/// Bytes of one chaining value.
const VALUE_LEN: usize = 32;

/// A manifest, the release that names it, and the chaining value of every shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    manifest: Manifest,
    release: Option<SignedRelease>,
    shards: Vec<Vec<ChainingValue>>,
}

/// Why parts or bytes are not a proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The proof is longer than [`PROOF_LEN_MAX`].
    #[error("proof has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the proof.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The bytes do not start like a proof.
    #[error("not a proof: it does not start with \"shoal proof\"")]
    Magic,
    /// The proof is written in another version of the format.
    #[error("proof is written in version {found} of the format, and this program knows version 1")]
    Version {
        /// The version that the proof names.
        found: u64,
    },
    /// The proof ends too early.
    #[error("proof is cut short in its {part}")]
    Truncated {
        /// `length`, `manifest`, `release` or `shards`.
        part: &'static str,
    },
    /// A length in the proof is over its bound.
    #[error("proof gives its {part} a length of {len} bytes, more than {max}")]
    PartTooLong {
        /// `manifest` or `release`.
        part: &'static str,
        /// The length given.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// Bytes follow the last chaining value.
    #[error("proof goes on for {len} bytes behind its end")]
    Trailing {
        /// How many.
        len: usize,
    },
    /// The manifest is not one.
    #[error("proof has a wrong manifest")]
    Manifest(#[from] ManifestError),
    /// The release is not one.
    #[error("proof has a wrong release")]
    Release(#[from] ReleaseError),
    /// The release names another manifest than the proof's.
    #[error("proof has the manifest {found}, and its release names {named}")]
    OtherManifest {
        /// The manifest that the release names.
        named: Hash,
        /// The manifest in the proof.
        found: Hash,
    },
    /// There are not as many lists of chaining values as files.
    #[error("proof has chaining values for {found} files, and its manifest lists {wanted}")]
    FileCount {
        /// Files in the manifest.
        wanted: usize,
        /// Lists given.
        found: usize,
    },
    /// A file has not as many chaining values as shards, or it has some and needs none.
    #[error("proof has {found} chaining values for {path:?}, not {wanted}")]
    ShardCount {
        /// The file.
        path: RepoPath,
        /// Values that it needs.
        wanted: usize,
        /// Values that it has.
        found: usize,
    },
    /// A file's chaining values do not hash up to its root.
    #[error("proof has chaining values for {path:?} that do not give its hash")]
    Root {
        /// The file.
        path: RepoPath,
    },
}

impl Proof {
    /// Checks the parts of a proof against each other.
    ///
    /// - `shards`: for every file of the manifest, in its order, the chaining values of its shards; none for a file of at most one shard.
    ///
    /// # Errors
    /// [`ProofError::OtherManifest`], [`ProofError::FileCount`], [`ProofError::ShardCount`], [`ProofError::Root`] and [`ProofError::TooLong`].
    pub fn new(
        manifest: Manifest,
        release: Option<SignedRelease>,
        shards: Vec<Vec<ChainingValue>>,
    ) -> Result<Proof, ProofError> {
        check_release(&manifest, release.as_ref())?;
        let (wanted, found) = (manifest.files().len(), shards.len());
        if wanted != found {
            return Err(ProofError::FileCount { wanted, found });
        }
        for (file, values) in manifest.files().iter().zip(&shards) {
            check_values(file, values)?;
        }
        let proof = Proof {
            manifest,
            release,
            shards,
        };
        check_len(proof.encode().len())?;
        Ok(proof)
    }

    /// Reads a proof and checks all of it.
    ///
    /// # Errors
    /// Every [`ProofError`] but [`ProofError::FileCount`]. Lengths are checked before anything is allocated.
    pub fn decode(bytes: &[u8]) -> Result<Proof, ProofError> {
        check_len(bytes.len())?;
        let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| match version_of(bytes) {
            Some(found) => ProofError::Version { found },
            None => ProofError::Magic,
        })?;
        let manifest = Manifest::decode(take_part(&mut rest, "manifest", MANIFEST_LEN_MAX)?)?;
        let release = take_part(&mut rest, "release", RELEASE_LEN_MAX)?;
        let release = match release {
            [] => None,
            signed => Some(SignedRelease::decode(signed)?),
        };
        check_release(&manifest, release.as_ref())?;
        let mut shards = Vec::with_capacity(manifest.files().len());
        for file in manifest.files() {
            let count = value_count(file);
            let values = take(&mut rest, count.saturating_mul(VALUE_LEN), "shards")?;
            let (values, _) = values.as_chunks::<VALUE_LEN>();
            let values: Vec<_> = values.iter().copied().map(ChainingValue).collect();
            check_values(file, &values)?;
            shards.push(values);
        }
        if !rest.is_empty() {
            return Err(ProofError::Trailing { len: rest.len() });
        }
        Ok(Proof {
            manifest,
            release,
            shards,
        })
    }

    /// The one encoding of the proof, at most [`PROOF_LEN_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let release = self.release.as_ref().map(SignedRelease::encode);
        for part in [self.manifest.encode(), release.unwrap_or_default()] {
            let len = u32::try_from(part.len()).expect("a part is at most 32 MiB");
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&part);
        }
        for value in self.shards.iter().flatten() {
            bytes.extend_from_slice(value.as_bytes());
        }
        bytes
    }

    /// The files that the proof is about.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Who vouches for the manifest, if anybody does.
    pub fn release(&self) -> Option<&SignedRelease> {
        self.release.as_ref()
    }

    /// For every file of the manifest, in its order, the chaining values of its shards; none for a file of at most one shard.
    pub fn shards(&self) -> &[Vec<ChainingValue>] {
        &self.shards
    }
}

/// The version in the first line of what may be a proof of another version.
fn version_of(bytes: &[u8]) -> Option<u64> {
    let line = bytes
        .strip_prefix(b"shoal proof ")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let number = str::from_utf8(line).ok()?.parse().ok()?;
    (number != VERSION).then_some(number)
}

/// How many chaining values a file needs: none if its one shard is the root.
fn value_count(file: &FileEntry) -> usize {
    match shard_count(file.size) {
        0 | 1 => 0,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    }
}

fn check_len(len: usize) -> Result<(), ProofError> {
    let max = PROOF_LEN_MAX;
    if len > max {
        return Err(ProofError::TooLong { len, max });
    }
    Ok(())
}

fn check_release(manifest: &Manifest, release: Option<&SignedRelease>) -> Result<(), ProofError> {
    let found = manifest.hash();
    match release.map(|signed| signed.release().manifest) {
        Some(named) if named != found => Err(ProofError::OtherManifest { named, found }),
        Some(_) | None => Ok(()),
    }
}

fn check_values(file: &FileEntry, values: &[ChainingValue]) -> Result<(), ProofError> {
    let (wanted, found) = (value_count(file), values.len());
    if wanted != found {
        let path = file.path.clone();
        return Err(ProofError::ShardCount { path, wanted, found });
    }
    if wanted > 0 && root_of_shards(file.size, values) != Some(file.blake3) {
        let path = file.path.clone();
        return Err(ProofError::Root { path });
    }
    Ok(())
}

/// Takes a part with its length before it off the front of `rest`.
fn take_part<'a>(rest: &mut &'a [u8], part: &'static str, max: usize) -> Result<&'a [u8], ProofError> {
    let truncated = ProofError::Truncated { part: "length" };
    let (len, behind) = rest.split_first_chunk::<4>().ok_or(truncated)?;
    *rest = behind;
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
    if len > max {
        return Err(ProofError::PartTooLong { part, len, max });
    }
    take(rest, len, part)
}

fn take<'a>(rest: &mut &'a [u8], len: usize, part: &'static str) -> Result<&'a [u8], ProofError> {
    let (taken, behind) = rest.split_at_checked(len).ok_or(ProofError::Truncated { part })?;
    *rest = behind;
    Ok(taken)
}
