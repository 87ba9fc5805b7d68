//! What an import tells of what it did.

use protocol::{Hash, Kind, RepoId};
use serde::{Deserialize, Serialize};

/// What became of a cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// Its repos.
    pub repos: Vec<ImportedRepo>,
    /// What else lies there and was left out.
    pub left_out: Vec<String>,
}

/// What became of one repo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportedRepo {
    /// What the upstream calls it: `OWNER/NAME`, or `NAME`.
    pub upstream: String,
    /// What it is.
    pub kind: Kind,
    /// Our repo; `None` where it was only stored, or has no name that fits.
    pub repo: Option<RepoId>,
    /// Its revisions, in the order in which they were published.
    pub revisions: Vec<ImportedRevision>,
    /// Why there is none.
    pub problem: Option<String>,
    /// What was left out.
    pub left_out: Vec<String>,
}

/// What became of one revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportedRevision {
    /// The upstream's commit.
    pub commit: String,
    /// What became of it.
    pub fate: Fate,
    /// Its manifest.
    pub manifest: Option<Hash>,
    /// The number of its release.
    pub seq: Option<u64>,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files whose bytes were held against the name of their blob.
    pub verified: u64,
    /// Bytes that had to be read.
    pub read_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Files that the upstream's revision has and that are not here; `None`: nobody wrote that down.
    pub missing: Option<u64>,
    /// Whether it has a release that calls it a copy of the upstream's revision. A part of one does not: whoever asks it for the rest
    /// would learn that there is no such file.
    #[serde(default)]
    pub copy: bool,
    /// What is wrong: each damaged file, why it failed, or why it has no release.
    pub problems: Vec<String>,
    /// What was left out.
    pub left_out: Vec<String>,
}

/// What became of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It has a new release.
    Published,
    /// It had its release already.
    Unchanged,
    /// It is kept, without a release.
    Stored,
    /// It would be taken: nothing was done.
    Planned,
    /// A file is not what its name promises: nothing of the revision was taken.
    Damaged,
    /// It could not be taken.
    Failed,
}
