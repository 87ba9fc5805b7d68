//! Why files are not a manifest.

use crate::hash::HashError;
use crate::json::JsonError;
use crate::path::{PathError, RepoPath};

/// Why files are not a manifest: one variant a rule.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The encoding is longer than [`MANIFEST_LEN_MAX`](crate::limits::MANIFEST_LEN_MAX).
    #[error("manifest has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the encoding.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The manifest is written in another version of the format.
    #[error("manifest is written in version {found} of the format, and this program knows version 1")]
    Version {
        /// The version that the manifest names.
        found: u64,
    },
    /// The bytes mean a manifest, but are not the one way to write it.
    #[error("manifest is not in canonical form")]
    NotCanonical,
    /// The bytes are not the JSON of a manifest.
    #[error("manifest is not what it should be")]
    Json(#[source] JsonError),
    /// There are no files.
    #[error("manifest lists no files")]
    EmptyManifest,
    /// There are more than [`FILES_MAX`](crate::limits::FILES_MAX) files.
    #[error("manifest lists {count} files, more than {max}")]
    TooManyFiles {
        /// Files listed.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// A path breaks a rule.
    #[error("manifest lists a file at {path:?}")]
    Path {
        /// The path, cut after 200 characters.
        path: String,
        /// The rule.
        #[source]
        source: PathError,
    },
    /// A digest is not lower-case hex of the right length.
    #[error("manifest gives a wrong {field} for {path:?}")]
    BadHex {
        /// `blake3`, `sha256` or `sha1`.
        field: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: HashError,
    },
    /// The files are not sorted by the bytes of their paths.
    #[error("manifest lists {after:?} before {before:?}")]
    Unsorted {
        /// The path that stands first, and should not.
        after: RepoPath,
        /// The path that stands behind it.
        before: RepoPath,
    },
    /// A path is listed twice.
    #[error("manifest lists {path:?} twice")]
    DuplicatePath {
        /// The path.
        path: RepoPath,
    },
    /// Two paths are one file where names are compared without case or by looks.
    #[error("manifest lists {a:?} and {b:?}, which are one file on some platforms")]
    Collides {
        /// The first path.
        a: RepoPath,
        /// The second path.
        b: RepoPath,
    },
    /// A file is also a folder with files in it.
    #[error("manifest lists {file:?} as a file and, with {inside:?}, as a folder")]
    FileIsFolder {
        /// The file.
        file: RepoPath,
        /// A file that would lie in it.
        inside: RepoPath,
    },
    /// A file is larger than [`BLOB_LEN_MAX`](crate::limits::BLOB_LEN_MAX).
    #[error("manifest gives {path:?} a size of {size} bytes, more than {max}")]
    SizeTooLarge {
        /// The file.
        path: RepoPath,
        /// Its size in bytes.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// All files together are larger than [`TOTAL_LEN_MAX`](crate::limits::TOTAL_LEN_MAX).
    #[error("manifest lists more than {max} bytes of files")]
    TotalTooLarge {
        /// The bound.
        max: u64,
    },
    /// An empty file has another digest than the empty string, or a file with bytes has the digest of the empty string.
    #[error("manifest gives {path:?} a size and a {field} that do not fit")]
    EmptyFile {
        /// The file.
        path: RepoPath,
        /// `blake3`, `sha256` or `sha1`.
        field: &'static str,
    },
    /// One blob is listed with two sizes.
    #[error("manifest gives {a:?} and {b:?} the same blake3 and different sizes")]
    SizeConflict {
        /// The first path.
        a: RepoPath,
        /// The second path.
        b: RepoPath,
    },
    /// One blob is listed with two values of another digest.
    #[error("manifest gives {a:?} and {b:?} the same blake3 and different {field}")]
    DigestConflict {
        /// The first path.
        a: RepoPath,
        /// The second path.
        b: RepoPath,
        /// `sha256` or `sha1`.
        field: &'static str,
    },
}
