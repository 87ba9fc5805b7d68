//! The manifest: the files of one revision, and nothing about who published it or when.
//!
//! Two people who publish the same folder make the same bytes, and so the same hash. A value of [`Manifest`] has passed every check.

mod check;
mod error;
mod large;

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize, Serializer};

pub use error::ManifestError;
pub use large::kept_in_git;

use crate::hash::{GitId, Hash, Sha256};
use crate::json::{self, JsonError};
use crate::limits::VERSION;
use crate::path::RepoPath;
use check::{check, check_count, check_len, check_sorted};

/// The commit id that the Hub's clients see of a manifest with this hash: the first 40 hex digits.
pub fn commit_id(manifest: Hash) -> String {
    manifest.to_string().chars().take(40).collect()
}

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Where it lies in the folder.
    pub path: RepoPath,
    /// Its length in bytes.
    pub size: u64,
    /// The name of its blob.
    pub blake3: Hash,
    /// Its SHA-256: the publisher's claim until somebody hashed the bytes.
    pub sha256: Option<Sha256>,
    /// Its git blob id, for the files of which [`kept_in_git`] is true: a claim like `sha256`.
    pub sha1: Option<GitId>,
}

/// The files of one revision, sorted by the bytes of their paths, and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<FileEntry>,
    total_len: u64,
    hash: Hash,
}

/// The record as it is written, its fields in the order of their names. `F` is a list of [`WrittenFile`], there at once or made one by one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<F> {
    files: F,
    shoal: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile<'a> {
    #[serde(borrow)]
    blake3: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sha1: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sha256: Option<Cow<'a, str>>,
    size: u64,
}

impl Manifest {
    /// Sorts `files` by path and checks them.
    ///
    /// # Errors
    /// Every [`ManifestError`] but those of decoding. Takes time linear in the files, but for sorting them.
    pub fn new(mut files: Vec<FileEntry>) -> Result<Manifest, ManifestError> {
        check_count(files.len())?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let total_len = check(&files)?;
        let mut digest = Digest::default();
        write(&files, &mut digest).expect("a hash takes every byte");
        check_len(digest.len)?;
        Ok(Manifest {
            total_len,
            hash: digest.hasher.finalize().into(),
            files,
        })
    }

    /// Reads the encoding of a manifest.
    ///
    /// # Errors
    /// Every [`ManifestError`]. The length is checked before anything is read.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        check_len(bytes.len())?;
        let written: Written<Vec<WrittenFile<'_>>> = json::decode(bytes).map_err(|error| match error {
            JsonError::Version { found } => ManifestError::Version { found },
            JsonError::NotCanonical => ManifestError::NotCanonical,
            other => ManifestError::Json(other),
        })?;
        check_count(written.files.len())?;
        let files = written
            .files
            .into_iter()
            .map(WrittenFile::read)
            .collect::<Result<Vec<_>, _>>()?;
        check_sorted(&files)?;
        let total_len = check(&files)?;
        Ok(Manifest {
            total_len,
            hash: Hash::of(bytes),
            files,
        })
    }

    /// The one encoding: canonical JSON, at most [`MANIFEST_LEN_MAX`](crate::limits::MANIFEST_LEN_MAX) bytes. Its BLAKE3 is [`Manifest::hash`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&self.files, &mut bytes).expect("memory takes every byte");
        bytes
    }

    /// The files, sorted by the bytes of their paths. There is at least one.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// The sum of the files' sizes, in bytes. A blob that is listed twice counts twice.
    pub fn total_len(&self) -> u64 {
        self.total_len
    }

    /// The name of the revision: the hash of the encoding.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The commit id that the Hub's clients see.
    pub fn commit_id(&self) -> String {
        commit_id(self.hash)
    }

    /// Finds the file at exactly this path, by bisection.
    pub fn file(&self, path: &str) -> Option<&FileEntry> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path))
            .ok()?;
        self.files.get(at)
    }
}

impl WrittenFile<'_> {
    fn read(self) -> Result<FileEntry, ManifestError> {
        let path = RepoPath::new(&self.path).map_err(|source| ManifestError::Path {
            path: self.path.chars().take(200).collect(),
            source,
        })?;
        let bad_hex = |field| {
            let path = path.as_str().to_owned();
            move |source| ManifestError::BadHex { field, path, source }
        };
        let blake3 = self.blake3.parse().map_err(bad_hex("blake3"))?;
        let sha256 = self.sha256.as_deref().map(str::parse).transpose();
        let sha256 = sha256.map_err(bad_hex("sha256"))?;
        let sha1 = self.sha1.as_deref().map(str::parse).transpose();
        let sha1 = sha1.map_err(bad_hex("sha1"))?;
        Ok(FileEntry {
            path,
            size: self.size,
            blake3,
            sha256,
            sha1,
        })
    }
}

impl<'a> From<&'a FileEntry> for WrittenFile<'a> {
    fn from(file: &'a FileEntry) -> WrittenFile<'a> {
        WrittenFile {
            blake3: file.blake3.to_string().into(),
            path: file.path.as_str().into(),
            sha1: file.sha1.map(|id| id.to_string().into()),
            sha256: file.sha256.map(|digest| digest.to_string().into()),
            size: file.size,
        }
    }
}

/// Files on their way into an encoding: none is made before the one in front of it is written.
struct OneByOne<'a>(&'a [FileEntry]);

impl Serialize for OneByOne<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(WrittenFile::from))
    }
}

fn write(files: &[FileEntry], writer: impl io::Write) -> io::Result<()> {
    let record = Written {
        files: OneByOne(files),
        shoal: VERSION,
    };
    json::write(&record, writer)
}

/// Hashes and counts what is written to it.
#[derive(Default)]
struct Digest {
    hasher: blake3::Hasher,
    len: usize,
}

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.len = self.len.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
