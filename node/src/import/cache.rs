//! The cache of the Hub's clients, as it lies on disk:
//!
//! ```text
//! models--OWNER--NAME/blobs/ETAG                       bytes, named by their SHA-256 or git blob id
//!                     snapshots/COMMIT/PATH            links to ../../blobs/ETAG
//!                     refs/main                        a commit id
//!                     trees/COMMIT.json                what the whole revision lists, where the client wrote it down
//! blobs/AB/ABCDEF…                                     newer clients: bytes that repos share; blobs/ETAG links to them
//! ```
//! Nothing here is trusted: a link is followed only where it leads from a snapshot into `blobs/` of its own repo, and from there at
//! most into the shared blobs of the same cache. No content is read but refs and trees.

use super::ImportError;
use crate::{
    catalog::Stamp,
    publish::{Found, PublishError, found, is_dropping},
};
use protocol::{GitId, Kind, RepoPath, Sha256};
use serde::{Deserialize, de::IgnoredAny};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::Read,
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

/// Most notes on what was left out that are kept of one folder: more tell nobody anything.
const LEFT_OUT_MAX: usize = 1_000;

/// Largest ref that is read, in bytes: a commit id has at most 64, and some editors end a file with a line break.
const REF_LEN_MAX: u64 = 128;

/// Largest list of a revision's files that is read, in bytes: 100,000 files at about 320 bytes.
const TREE_LEN_MAX: u64 = 32 * 1024 * 1024;

/// Most names that a repo of the Hub has, in bytes each.
const NAME_LEN_MAX: usize = 96;

/// What the client leaves beside the repos, and needs no word.
const SILENT: [&str; 5] = [
    "CACHEDIR.TAG",
    "version.txt",
    ".DS_Store",
    "blobs",
    "version_diffusers_cache.txt",
];

/// One repo of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CachedRepo {
    /// Its folder, without a link in it.
    pub(super) folder: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
    /// Whose it is; `None` for the Hub's oldest repos.
    pub(super) owner: Option<String>,
    /// Its name there.
    pub(super) name: String,
}

/// One revision of a cached repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The upstream's commit id.
    pub(super) commit: String,
    /// Its folder.
    pub(super) folder: PathBuf,
}

/// What the name of a blob says of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// 64 hex digits.
    Sha256(Sha256),
    /// 40 hex digits.
    Git(GitId),
}

/// What is to be taken of a revision.
#[derive(Default)]
pub(super) struct Walked {
    /// The files.
    pub(super) found: Vec<Found>,
    /// What their blobs' names say, by path: the name of the blob too.
    pub(super) claims: HashMap<RepoPath, (String, Claim)>,
    /// Files that the upstream's revision has and this folder has not; `None`: nobody wrote that down.
    pub(super) missing: Option<u64>,
}

/// What was left out, in words.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    notes: Vec<String>,
    more: usize,
}

impl LeftOut {
    pub(super) fn say(&mut self, note: impl Into<String>) {
        if self.notes.len() < LEFT_OUT_MAX {
            self.notes.push(note.into());
        } else {
            self.more += 1;
        }
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        let mut notes = self.notes;
        if self.more > 0 {
            notes.push(format!("{} more", self.more));
        }
        notes
    }
}

impl CachedRepo {
    /// Reads the name of a repo's folder: `models--OWNER--NAME`. `None`: it is no such name.
    fn named(name: &str, folder: PathBuf) -> Option<CachedRepo> {
        let (kind, id) = name.split_once("--")?;
        let kind = match kind {
            "models" => Kind::Model,
            "datasets" => Kind::Dataset,
            "spaces" => Kind::Space,
            _ => return None,
        };
        let (owner, name) = match id.split_once("--") {
            Some((owner, name)) => (Some(owner), name),
            None => (None, id),
        };
        let fine = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty()
                && part.len() <= NAME_LEN_MAX
                && part != "."
                && part != ".."
                && !part.contains("--")
                && part.bytes().all(allowed)
        };
        (fine(name) && owner.is_none_or(fine)).then(|| CachedRepo {
            folder,
            kind,
            owner: owner.map(str::to_owned),
            name: name.to_owned(),
        })
    }

    /// What the Hub calls it: `OWNER/NAME` or `NAME`.
    pub(super) fn id(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{owner}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Finds the repos of a cache, or the one repo that `path` is.
pub(super) fn repos(path: &Path, left_out: &mut LeftOut) -> Result<Vec<CachedRepo>, ImportError> {
    let read = |source| ImportError::Read {
        path: path.to_owned(),
        source,
    };
    let folder = path.canonicalize().map_err(read)?;
    // The name that the user typed, or the one behind a link.
    let names =
        [path, &folder].map(|path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
    let one = names
        .iter()
        .flatten()
        .find_map(|name| CachedRepo::named(name, folder.clone()));
    if let Some(one) = one {
        return Ok(vec![one]);
    }
    let mut repos = in_folder(&folder, left_out).map_err(read)?;
    let hub = folder.join("hub");
    if repos.is_empty() && hub.is_dir() {
        // The folder above the cache: what HF_HOME names.
        *left_out = LeftOut::default();
        repos = in_folder(&hub.canonicalize().map_err(read)?, left_out).map_err(read)?;
    }
    if repos.is_empty() {
        return Err(ImportError::NoCache {
            path: path.to_owned(),
        });
    }
    Ok(repos)
}

fn in_folder(folder: &Path, left_out: &mut LeftOut) -> std::io::Result<Vec<CachedRepo>> {
    let mut repos = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        match CachedRepo::named(&name, entry.path()) {
            Some(repo) if kind.is_dir() => repos.push(repo),
            Some(_) if kind.is_symlink() => {
                left_out.say(format!("{name}: a link to elsewhere; import it by its own path"));
            }
            Some(_) => left_out.say(format!("{name}: not a folder")),
            None if SILENT.contains(&name.as_ref()) => {}
            None if name == ".locks" => left_out.say(format!("{name}: the client's locks, no content")),
            None => left_out.say(format!("{name}: not the folder of a model, a dataset or a space")),
        }
    }
    repos.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(repos)
}

/// Finds the revisions of a repo: the one that `refs/main` names, or all of them with that one at the end.
pub(super) fn revisions(
    repo: &CachedRepo,
    all: bool,
    left_out: &mut LeftOut,
) -> Result<Vec<Snapshot>, String> {
    tell_rest(repo, left_out);
    let main = main(repo);
    let snapshots = repo.folder.join("snapshots");
    if !all {
        let commit = main?;
        let folder = snapshots.join(&commit);
        return match is_inside(&folder, &repo.folder) {
            true => Ok(vec![Snapshot { commit, folder }]),
            false => Err(format!("refs/main names {commit}, which has no snapshot here")),
        };
    }
    let main = main
        .map_err(|why| left_out.say(format!("{why}; the newest snapshot counts as main")))
        .ok();
    if !is_inside(&snapshots, &repo.folder) {
        return Err("it has no snapshots".to_owned());
    }
    let entries = fs::read_dir(&snapshots).map_err(|error| format!("snapshots: {error}"))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("snapshots: {error}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let folder = entry.path();
        if !is_commit(&name) {
            left_out.say(format!("snapshots/{name}: no commit id"));
        } else if !is_inside(&folder, &repo.folder) {
            left_out.say(format!("snapshots/{name}: no folder of this repo"));
        } else {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
            let is_main = main.as_ref() == Some(&name);
            found.push((is_main, modified, Snapshot { commit: name, folder }));
        }
    }
    found.sort_by(|a, b| (a.0, a.1, &a.2.commit).cmp(&(b.0, b.1, &b.2.commit)));
    Ok(found.into_iter().map(|(_, _, snapshot)| snapshot).collect())
}

/// Says what of a repo's folder is no content.
fn tell_rest(repo: &CachedRepo, left_out: &mut LeftOut) {
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .take(protocol::limits::FILES_MAX)
            .collect();
        names.sort();
        names
    };
    for name in names(&repo.folder) {
        match name.as_str() {
            "blobs" | "refs" | "snapshots" | "trees" | ".DS_Store" => {}
            ".no_exist" => left_out.say(".no_exist: what the upstream does not have, no content"),
            ".locks" => left_out.say(".locks: the client's locks, no content"),
            _ => left_out.say(format!("{name}: not part of the cache's layout")),
        }
    }
    if is_inside(&repo.folder.join("blobs"), &repo.folder) {
        for name in names(&repo.folder.join("blobs")) {
            if name.ends_with(".incomplete") {
                left_out.say(format!("blobs/{name}: a download that did not end"));
            }
        }
    }
}

/// The commit that `refs/main` names, or what is wrong with it.
fn main(repo: &CachedRepo) -> Result<String, String> {
    let path = repo.folder.join("refs/main");
    let plain = is_inside(&repo.folder.join("refs"), &repo.folder)
        && fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
    if !plain {
        return Err("it has no refs/main: --all-revisions takes what there is".to_owned());
    }
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(REF_LEN_MAX).read_to_string(&mut text))
        .map_err(|error| format!("refs/main: {error}"))?;
    let commit = text.trim();
    match is_commit(commit) {
        true => Ok(commit.to_owned()),
        false => Err(format!("refs/main names no commit, but {commit:?}")),
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(is_hex)
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Whether this is a folder that lies, links followed, below `root`.
fn is_inside(folder: &Path, root: &Path) -> bool {
    folder
        .canonicalize()
        .is_ok_and(|full| full.starts_with(root) && full.is_dir())
}

/// Lists the files of a revision. What cannot be taken is left out, with a word.
pub(super) fn walk(
    repo: &CachedRepo,
    snapshot: &Snapshot,
    left_out: &mut LeftOut,
) -> Result<Walked, PublishError> {
    let mut walked = Walked::default();
    let mut absent = 0;
    let mut walk = walkdir::WalkDir::new(&snapshot.folder)
        .min_depth(1)
        .sort_by_file_name()
        .into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| PublishError::Read {
            path: error.path().unwrap_or(&snapshot.folder).to_owned(),
            source: error.into(),
        })?;
        let name = entry
            .path()
            .strip_prefix(&snapshot.folder)
            .expect("the walk stays below its root");
        if is_dropping(entry.file_name().to_str().unwrap_or("")) {
            left_out.say(format!(
                "{}: made by a tool, not part of the content",
                name.display()
            ));
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        let (path, blob) = if entry.path_is_symlink() {
            match target(repo, entry.path()) {
                Ok((path, blob)) => (path, Some(blob)),
                Err(why) => {
                    absent += u64::from([ABSENT, UNENDED].contains(&why));
                    left_out.say(format!("{}: {why}", name.display()));
                    continue;
                }
            }
        } else {
            (entry.path().to_owned(), None)
        };
        let metadata = path.metadata().map_err(|source| PublishError::Read {
            path: path.clone(),
            source,
        })?;
        if metadata.is_file() {
            let file = found(&path, name, Stamp::of(&metadata))?;
            if let Some((blob, claim)) = blob.and_then(|blob| claim(&blob).map(|claim| (blob, claim))) {
                walked.claims.insert(file.name.clone(), (blob, claim));
            }
            walked.found.push(file);
            // One more than a manifest takes is enough to be refused.
            if walked.found.len() > protocol::limits::FILES_MAX {
                break;
            }
        } else if !metadata.is_dir() {
            left_out.say(format!("{}: neither a file nor a folder", name.display()));
        }
    }
    let missing = missing(repo, snapshot, &walked.found);
    walked.missing = missing.max((absent > 0).then_some(absent));
    Ok(walked)
}

/// Why a link is left out whose file belongs to the revision, and is not here.
const ABSENT: &str = "its blob is not here";
const UNENDED: &str = "its download did not end";

/// Follows a link of a snapshot to its blob: where the bytes lie, and what the blob is called.
fn target(repo: &CachedRepo, link: &Path) -> Result<(PathBuf, String), &'static str> {
    const LEAVES: &str = "a link that leads out of the repo's blobs";
    let to = fs::read_link(link).map_err(|_| "a link that cannot be read")?;
    let blob = resolved(link.parent().unwrap_or(&repo.folder).join(to)).ok_or(LEAVES)?;
    // By its last two names, since the cache may be reached by other ways than the one we came.
    let blobs = blob.parent().ok_or(LEAVES)?;
    if blobs.canonicalize().ok() != Some(repo.folder.join("blobs")) {
        return Err(match blobs.exists() {
            true => LEAVES,
            false => ABSENT,
        });
    }
    let name = blob.file_name().and_then(|name| name.to_str()).ok_or(LEAVES)?;
    if name.ends_with(".incomplete") {
        return Err(UNENDED);
    }
    let blob = repo.folder.join("blobs").join(name);
    let kind = fs::symlink_metadata(&blob).map_err(|_| ABSENT)?;
    let path = match kind.is_symlink() {
        false => blob,
        true => {
            let full = blob.canonicalize().map_err(|_| "its blob is not here")?;
            let fine = full.parent() == Some(&repo.folder.join("blobs")) || is_shared(repo, &full);
            fine.then_some(full)
                .ok_or("its blob is a link that leads out of the cache")?
        }
    };
    match path.is_file() {
        true => Ok((path, name.to_owned())),
        false => Err("its blob is no file"),
    }
}

/// Takes `..` out of a path by its text alone; `None` where it would climb over the root.
fn resolved(path: PathBuf) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => clean.pop().then_some(())?,
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    Some(clean)
}

/// Whether a file is one of the blobs that the repos of a cache share: `CACHE/blobs/AB/` and 64 hex digits that begin with AB.
fn is_shared(repo: &CachedRepo, path: &Path) -> bool {
    let shared = repo.folder.parent().map(|cache| cache.join("blobs"));
    let below = shared.and_then(|shared| path.strip_prefix(shared).ok().map(Path::to_owned));
    let parts: Option<Vec<String>> = below.and_then(|below| {
        let parts = below.components();
        parts
            .map(|part| part.as_os_str().to_str().map(str::to_owned))
            .collect()
    });
    matches!(parts.as_deref(), Some([prefix, hash])
        if hash.len() == 64 && hash.bytes().all(is_hex) && prefix.len() == 2 && hash.starts_with(prefix.as_str()))
}

fn claim(blob: &str) -> Option<Claim> {
    match blob.len() {
        64 => blob.parse().map(Claim::Sha256).ok(),
        40 => blob.parse().map(Claim::Git).ok(),
        _ => None,
    }
}

/// What newer clients write down of a whole revision.
#[derive(Deserialize)]
struct Tree {
    files: BTreeMap<String, IgnoredAny>,
}

/// Counts the files of the upstream's revision that are not here, where the client wrote down which there are.
fn missing(repo: &CachedRepo, snapshot: &Snapshot, found: &[Found]) -> Option<u64> {
    let path = repo
        .folder
        .join("trees")
        .join(format!("{}.json", snapshot.commit));
    if !is_inside(path.parent()?, &repo.folder) || !fs::symlink_metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    let file = File::open(&path).ok()?;
    file.take(TREE_LEN_MAX).read_to_end(&mut text).ok()?;
    let mut tree: Tree = serde_json::from_slice(&text).ok()?;
    for file in found {
        tree.files.remove(file.name.as_str());
    }
    u64::try_from(tree.files.len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_read_as_the_client_writes_them() {
        let read = |name| CachedRepo::named(name, PathBuf::new()).map(|repo| (repo.kind, repo.id()));
        let table = [
            ("models--gpt2", Some((Kind::Model, "gpt2"))),
            ("models--a-b--c.d_e", Some((Kind::Model, "a-b/c.d_e"))),
            ("datasets--o--n", Some((Kind::Dataset, "o/n"))),
            ("spaces--o--n", Some((Kind::Space, "o/n"))),
            ("kernels--o--n", None),
            ("models--", None),
            ("models--o--", None),
            ("models----n", None),
            ("models--o--n--x", None),
            ("models--..--n", None),
            ("models--o--..", None),
            ("models--o--n o", None),
            ("models-o-n", None),
            (".locks", None),
        ];
        for (name, wanted) in table {
            let wanted = wanted.map(|(kind, id)| (kind, id.to_owned()));
            assert_eq!(read(name), wanted, "{name}");
        }
        assert_eq!(read(&format!("models--o--{}", "n".repeat(97))), None);
    }

    #[test]
    fn commits_are_hex_digits_and_nothing_else() {
        for good in ["0123456789abcdef0123456789abcdef01234567", &"a".repeat(64)] {
            assert!(is_commit(good), "{good}");
        }
        for bad in [
            "",
            "main",
            "../../../etc/passwd",
            &"A".repeat(40),
            &"a".repeat(41),
        ] {
            assert!(!is_commit(bad), "{bad}");
        }
    }

    #[test]
    fn paths_are_cleaned_without_looking_at_the_disk() {
        let clean = |path: &str| resolved(PathBuf::from(path));
        assert_eq!(clean("/a/b/../c/./d"), Some(PathBuf::from("/a/c/d")));
        assert_eq!(clean("/a/../../b"), None);
    }

    #[test]
    fn notes_are_bounded() {
        let mut left_out = LeftOut::default();
        (0..LEFT_OUT_MAX + 7).for_each(|at| left_out.say(at.to_string()));
        let notes = left_out.into_notes();
        assert_eq!(
            (notes.len(), notes[LEFT_OUT_MAX].as_str()),
            (LEFT_OUT_MAX + 1, "7 more")
        );
    }
}
