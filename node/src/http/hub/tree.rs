//! The files and folders of a revision. A folder's id is the one that git gives the tree: every file in it is plain, and a large one is
//! its pointer. Nothing is listed but of a whole manifest, since clients remember a listing for ever.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use protocol::{FileEntry, GitId, Manifest};
use serde_json::{Value, json};

use super::super::guard::is_json;
use super::Hub;
use super::body;
use super::digests::{blob_id, git_id};
use super::facts::time;
use super::info::lfs;
use super::problem::Problem;
use super::query::{self, Query};
use super::revisions::Revision;
use super::route::At;
use crate::store::blocking;

/// Entries in one answer: some clients read one and no more, so it is ten times what the Hub gives.
const PAGE_MAX: usize = 10_000;

/// A folder of a manifest: the one whose path is the first `len` bytes of the path of file `first`, which is its first file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folder {
    first: usize,
    len: usize,
    id: GitId,
}

/// The folders of a manifest, each before those within it; the root is not among them.
pub(super) type Folders = Vec<Folder>;

/// Something in a folder.
#[derive(Clone, Copy)]
enum Entry<'a> {
    File(&'a FileEntry),
    Folder(&'a str, GitId),
}

/// Finds the folders of a manifest and their ids. A manifest's order is git's own, so that one pass is enough.
fn folders(manifest: &Manifest) -> Folders {
    let files = manifest.files();
    let mut folders: Folders = Vec::new();
    // Those that are open, each with what lies in it so far, as git writes it.
    let mut open: Vec<(usize, Vec<u8>)> = Vec::new();
    let close = |folders: &mut Folders, open: &mut Vec<(usize, Vec<u8>)>| {
        let Some((at, content)) = open.pop() else { return };
        let id = git_id("tree", &content);
        folders[at].id = id;
        if let Some((_, parent)) = open.last_mut() {
            let path = path_of(files, folders[at]);
            put(parent, "40000", name_of(path), id);
        }
    };
    for (first, file) in files.iter().enumerate() {
        let path = file.path.as_str();
        while let Some((at, _)) = open.last()
            && !is_below(path, path_of(files, folders[*at]))
        {
            close(&mut folders, &mut open);
        }
        let known = open.last().map_or(0, |(at, _)| folders[*at].len + 1);
        for (slash, _) in path.match_indices('/').filter(|(slash, _)| *slash >= known) {
            open.push((folders.len(), Vec::new()));
            folders.push(Folder {
                first,
                len: slash,
                id: GitId::EMPTY,
            });
        }
        if let Some((_, content)) = open.last_mut() {
            put(content, "100644", name_of(path), blob_id(file));
        }
    }
    while !open.is_empty() {
        close(&mut folders, &mut open);
    }
    folders
}

fn put(tree: &mut Vec<u8>, mode: &str, name: &str, id: GitId) {
    tree.extend_from_slice(format!("{mode} {name}\0").as_bytes());
    tree.extend_from_slice(id.as_bytes());
}

fn path_of(files: &[FileEntry], folder: Folder) -> &str {
    &files[folder.first].path.as_str()[..folder.len]
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Whether a path lies at any depth below a folder; everything lies below the root, `""`.
fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty()
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// What lies below a folder, in the manifest's order, each folder before what is in it. `None`: there is no such folder.
fn below<'a>(
    manifest: &'a Manifest,
    folders: &[Folder],
    folder: &str,
    recursive: bool,
) -> Option<Vec<Entry<'a>>> {
    let files = manifest.files();
    let prefix = match folder {
        "" => String::new(),
        folder => format!("{folder}/"),
    };
    let first = files.partition_point(|file| file.path.as_str() < prefix.as_str());
    let count = files[first..].partition_point(|file| file.path.as_str().starts_with(&prefix));
    if count == 0 {
        return None;
    }
    let within = |path: &str| recursive || !path[prefix.len()..].contains('/');
    let mut entries = Vec::new();
    let mut next = folders.partition_point(|known| known.first < first);
    for (at, file) in files.iter().enumerate().skip(first).take(count) {
        while let Some(known) = folders.get(next).filter(|known| known.first == at) {
            let path = path_of(files, *known);
            if path.len() > folder.len() && within(path) {
                entries.push(Entry::Folder(path, known.id));
            }
            next += 1;
        }
        if within(file.path.as_str()) {
            entries.push(Entry::File(file));
        }
    }
    Some(entries)
}

/// What lies at a path.
fn at<'a>(manifest: &'a Manifest, folders: &[Folder], path: &str) -> Option<Entry<'a>> {
    if let Some(file) = manifest.file(path) {
        return Some(Entry::File(file));
    }
    let files = manifest.files();
    let prefix = format!("{path}/");
    let first = files.partition_point(|file| file.path.as_str() < prefix.as_str());
    let key = (first, path.len());
    let found = folders.binary_search_by_key(&key, |folder| (folder.first, folder.len));
    let folder = folders[found.ok()?];
    let found = path_of(files, folder);
    (found == path).then_some(Entry::Folder(found, folder.id))
}

/// An entry as clients read it; with the revision as its last commit, which is what they name their copies by.
fn shown(entry: Entry<'_>, last: Option<&Value>) -> Value {
    let mut fields = match entry {
        Entry::File(file) => {
            let mut fields = json!({
                "type": "file", "oid": blob_id(file), "size": file.size, "path": file.path.as_str(),
            });
            if let Some(lfs) = lfs(file, "oid") {
                fields["lfs"] = lfs;
            }
            fields
        }
        Entry::Folder(path, id) => json!({ "type": "directory", "oid": id, "size": 0, "path": path }),
    };
    if let Some(last) = last {
        fields["lastCommit"] = last.clone();
    }
    fields
}

/// A revision as the last commit of what is in it.
fn last_commit(revision: &Revision) -> Value {
    json!({ "id": revision.commit, "title": revision.title(), "date": time(revision.issued()) })
}

impl Hub {
    /// Lists a folder.
    pub(super) async fn tree(&self, wanted: &At, path: &str, head: &Parts) -> Result<Response, Problem> {
        let query = Query::of(head);
        let limit = query.number("limit")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let skipped: usize = query.number("cursor")?.unwrap_or(0);
        let revision = self.revision(wanted).await?;
        let manifest = &revision.manifest;
        let path = path.trim_matches('/');
        let folders = self.folders(manifest).await?;
        let entries = below(manifest, &folders, path, query.flag("recursive"));
        let entries = entries.ok_or_else(|| Problem::no_entry(&revision.commit, path))?;
        let last = query.flag("expand").then(|| last_commit(&revision));
        let listed: Vec<Value> = entries
            .iter()
            .skip(skipped)
            .take(limit)
            .map(|entry| shown(*entry, last.as_ref()))
            .collect();
        // The pages that follow are of this revision, whatever a branch becomes meanwhile.
        let end = skipped.saturating_add(limit);
        let next = (end < entries.len()).then(|| query.with("cursor", &end.to_string()));
        let (repo, commit) = (&revision.repo, &revision.commit);
        let address = format!("/api/{}s/{}/tree/{commit}/{path}", repo.kind, repo.id);
        let address = query::encode(address.trim_end_matches('/'));
        Ok(query::page(head, &address, next, query::json(listed)))
    }

    /// Says what lies at some paths; what is not there is left out.
    pub(super) async fn paths_info(
        &self,
        wanted: &At,
        head: &Parts,
        body: Body,
    ) -> Result<Response, Problem> {
        let body = body::whole(head, body, query::BODY_LEN_MAX).await?;
        let (paths, expand) = match is_json(&head.headers) {
            true => {
                let asked: Value = body::of_json(&body)?;
                let paths = match asked.get("paths") {
                    Some(Value::String(path)) => vec![path.clone()],
                    Some(Value::Array(paths)) => {
                        paths.iter().filter_map(Value::as_str).map(String::from).collect()
                    }
                    _ => return Err(Problem::bad("paths is missing: send a list of paths")),
                };
                (paths, asked.get("expand") == Some(&Value::Bool(true)))
            }
            false => {
                let form = Query::read(&body);
                let paths: Vec<String> = form.all("paths").map(String::from).collect();
                (paths, form.flag("expand"))
            }
        };
        let revision = self.revision(wanted).await?;
        let folders = self.folders(&revision.manifest).await?;
        let last = expand.then(|| last_commit(&revision));
        let mut seen = HashSet::new();
        let found = paths
            .iter()
            .map(|path| path.trim_matches('/'))
            .filter(|path| seen.insert(*path))
            .filter_map(|path| at(&revision.manifest, &folders, path));
        let found: Vec<Value> = found.map(|entry| shown(entry, last.as_ref())).collect();
        Ok(query::json(found))
    }

    async fn folders(&self, manifest: &Arc<Manifest>) -> Result<Arc<Folders>, Problem> {
        let known = &self.0.facts.folders;
        if let Some(known) = known.get(&manifest.hash()).await {
            return Ok(known);
        }
        let manifest = manifest.clone();
        let hash = manifest.hash();
        let found = Arc::new(blocking(move || Ok(folders(&manifest))).await?);
        known.insert(hash, found.clone()).await;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Hash, RepoPath};

    use super::*;

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| FileEntry {
            path: RepoPath::new(path).unwrap(),
            size: 0,
            blake3: Hash::of(b""),
            sha256: None,
            sha1: Some(GitId::EMPTY),
        };
        Manifest::new(paths.iter().map(file).collect()).unwrap()
    }

    fn listed(manifest: &Manifest, folder: &str, recursive: bool) -> Option<Vec<String>> {
        let folders = folders(manifest);
        let entries = below(manifest, &folders, folder, recursive)?;
        let path = |entry: &Entry<'_>| match entry {
            Entry::File(file) => file.path.as_str().to_owned(),
            Entry::Folder(path, _) => format!("{path}/"),
        };
        Some(entries.iter().map(path).collect())
    }

    const PATHS: [&str; 7] = ["a-b", "a/b/c/x", "a/b/y", "a/z", "a.txt", "ab/x", "b"];

    #[test]
    fn folders_are_listed_before_what_is_in_them() {
        let manifest = manifest(&PATHS);
        let table: [(&str, bool, &[&str]); 5] = [
            ("", false, &["a-b", "a.txt", "a/", "ab/", "b"]),
            (
                "",
                true,
                &[
                    "a-b", "a.txt", "a/", "a/b/", "a/b/c/", "a/b/c/x", "a/b/y", "a/z", "ab/", "ab/x", "b",
                ],
            ),
            ("a", false, &["a/b/", "a/z"]),
            ("a/b", true, &["a/b/c/", "a/b/c/x", "a/b/y"]),
            ("a/b/c", true, &["a/b/c/x"]),
        ];
        for (folder, recursive, expected) in table {
            assert_eq!(
                listed(&manifest, folder, recursive).unwrap(),
                expected,
                "{folder} {recursive}"
            );
        }
        for folder in ["c", "a/b/y", "b", "a/", "a/b/c/d"] {
            assert_eq!(listed(&manifest, folder, true), None, "{folder}");
        }
    }

    #[test]
    fn what_lies_at_a_path_is_found_and_nothing_else() {
        let manifest = manifest(&PATHS);
        let folders = folders(&manifest);
        for path in ["a-b", "a/b/c/x", "a", "a/b", "a/b/c", "ab"] {
            assert!(at(&manifest, &folders, path).is_some(), "{path}");
        }
        for path in ["", "a/", "a/b/c/d", "aa", "z", "a/b/x"] {
            assert!(at(&manifest, &folders, path).is_none(), "{path}");
        }
    }

    #[test]
    fn folders_have_the_ids_that_git_gives_them() {
        // In an empty repository: mkdir -p d/e; touch d/a-b d/a.txt d/e/x d/ea; git add .; git ls-tree -r -t HEAD after a commit.
        let manifest = manifest(&["d/a-b", "d/a.txt", "d/e/x", "d/ea"]);
        let folders = folders(&manifest);
        let ids: Vec<String> = folders.iter().map(|folder| folder.id.to_string()).collect();
        assert_eq!(ids, GIT_TREES);
    }

    const GIT_TREES: [&str; 2] = [
        "153499d85d93b4edfab7009bf12adb0159f75851",
        "5805b676e247eb9a8046ad0c4d249cd2fb2513df",
    ];
}
