//! What changes something over the Hub's API: new repos, and new revisions of ours. Nobody may without the upload token.
//!
//! | file | does |
//! |---|---|
//! | this one | who may, whose repos; `create`, `preupload`, and what an empty repo answers |
//! | `commit` | reads a commit, and has a revision made of it |
//! | `lfs` | large files: where they go, and taking them |
//! | `staging` | what came and is in no revision yet |
//! | `lines` | lines of JSON, within bounds |
//!
//! How a file is sent says nothing of how it is kept. Files of up to [`REGULAR_LEN_MAX`] are asked for within the commit, because
//! clients with the `xet` protocol send the others in no other way; above, by git's protocol for large files. The exception is
//! `datasets`, which has let go of a file's bytes when it commits, unless the file is one that the Hub keeps in git.

mod commit;
mod lfs;
mod lines;
mod staging;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::http::{StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use moka::future::Cache;
use protocol::manifest::kept_in_git;
use protocol::{FileEntry, GitId, Hash, Kind, Manifest, RepoId, RepoName, RepoPath, RepoRef};
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use commit::commit;
pub(super) use lfs::{at_door, batch};

use super::body;
use super::problem::Problem;
use super::query::base_url;
use super::revisions::{LOCAL, is_main};
use super::route::{Address, At, Call};
use super::token::UploadToken;
use super::{Hub, Inner};
use crate::library::LibraryError;
use crate::publish::NO_COMMIT;
use crate::store::{StageError, StoreError};
use staging::Staging;

/// Largest file that is asked for within a commit, in bytes: clients hold it in memory several times over.
const REGULAR_LEN_MAX: u64 = 64 * 1024 * 1024;
/// Longest body that asks for a new repo, in bytes.
const CREATE_LEN_MAX: usize = 64 * 1024;
/// Files of one question how to send them: what clients ask for at once.
const PREUPLOAD_FILES_MAX: usize = 256;
/// Longest such question, in bytes: each file with its path and a sample of 512 bytes, and a `.gitignore`.
const PREUPLOAD_LEN_MAX: usize = 4 * 1024 * 1024;
/// Repos that were created and have no revision, at once.
const CREATED_MAX: u64 = 1_000;
/// How long an empty repo is remembered.
const CREATED_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Git ids that are remembered of files that the Hub would not keep in git.
const GIT_IDS_MAX: u64 = 100_000;
/// Pause between two looks at what is too old.
const SWEEP_PAUSE: Duration = Duration::from_secs(5 * 60);

/// What uploads work with.
pub(super) struct Uploads {
    staging: Staging,
    /// Repos that were created and have no revision yet.
    created: Cache<RepoId, Kind>,
    git_ids: Cache<Hash, GitId>,
}

impl Uploads {
    pub(super) fn new() -> Uploads {
        Uploads {
            staging: Staging::default(),
            created: Cache::builder()
                .max_capacity(CREATED_MAX)
                .time_to_live(CREATED_LIFE)
                .build(),
            git_ids: Cache::new(GIT_IDS_MAX),
        }
    }
}

impl Hub {
    fn uploads(&self) -> &Uploads {
        &self.0.uploads
    }

    /// Lets go what was uploaded and never committed, as long as the doors are open.
    pub(super) fn keep_sweeping(&self) {
        let inner: std::sync::Weak<Inner> = Arc::downgrade(&self.0);
        self.node().task(async move {
            loop {
                tokio::time::sleep(SWEEP_PAUSE).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.uploads.staging.sweep(Instant::now());
            }
        });
    }
}

/// Lets pass who has the upload token. The file is read anew each time: a token that was taken away opens nothing any more.
pub(super) async fn may_write(hub: &Hub, head: &Parts) -> Result<(), Problem> {
    let mut values = head.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    let offered = value
        .filter(|_| values.next().is_none())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.to_owned());
    let data = hub.node().library().data().to_owned();
    let token = tokio::task::spawn_blocking(move || UploadToken::load_or_create(&data)).await??;
    match offered {
        Some(offered) if token.is(&offered) => Ok(()),
        offered => {
            let what = match offered {
                Some(_) => "the token is not the upload token of this node",
                None => "this needs the upload token of this node",
            };
            let message = format!("{what}: shoal id --token prints it, and HF_TOKEN is where it goes");
            Err(Problem::refused(StatusCode::UNAUTHORIZED, message))
        }
    }
}

/// What an address means to whoever wants to write there: a repo of ours, or nothing.
fn own_repo(hub: &Hub, repo: &Address) -> Result<RepoId, Problem> {
    let library = hub.node().library();
    let (owner, name) = repo.id.split_once('/').unwrap_or((LOCAL, &repo.id));
    let name: RepoName = name
        .parse()
        .map_err(|wrong| Problem::bad(format!("{} cannot be the name of a repo: {wrong}", repo.id)))?;
    let publisher = library.publisher();
    let ours = owner == LOCAL || {
        let named = repo.id.parse::<RepoRef>().ok();
        let named = named.and_then(|named| library.repo_of(&named).ok().flatten());
        named.is_some_and(|named| named.publisher == publisher)
    };
    if !ours {
        let message = format!(
            "{owner} is not you: this node publishes as {publisher}, which is called {LOCAL} here; upload to {LOCAL}/{name}"
        );
        return Err(Problem::refused(StatusCode::FORBIDDEN, message));
    }
    Ok(RepoId { publisher, name })
}

/// There is one branch.
fn only_main(at: &At) -> Result<(), Problem> {
    match is_main(&at.rev) {
        true => Ok(()),
        false => {
            let rev: String = at.rev.chars().take(100).collect();
            let message = format!("a repo has one branch here: upload to main, not to {rev}");
            Err(Problem::refused(StatusCode::FORBIDDEN, message))
        }
    }
}

/// The repo of ours that an address means, and its newest revision, if that is here.
async fn current(hub: &Hub, address: &Address) -> Result<(RepoId, Option<Manifest>), Problem> {
    let repo = own_repo(hub, address)?;
    let library = hub.node().library();
    let Some(release) = library.names().get(&repo).map_err(LibraryError::from)? else {
        return Ok((repo, None));
    };
    of_kind(address, release.release().kind)?;
    match library.store().manifest(release.release().manifest).await {
        Ok(manifest) => Ok((repo, Some(manifest))),
        Err(StoreError::Missing(_)) => Ok((repo, None)),
        Err(error) => Err(error.into()),
    }
}

/// Those of some files whose bytes are here: what is only listed has to be sent, and so mends what was lost.
async fn here<'a>(hub: &Hub, listed: Vec<&'a FileEntry>) -> Result<Vec<&'a FileEntry>, Problem> {
    let library = hub.node().library();
    let missing = library.missing_of(listed.iter().copied()).await?;
    let missing: HashSet<Hash> = missing.into_iter().map(|(hash, _)| hash).collect();
    let here = listed.into_iter().filter(|file| !missing.contains(&file.blake3));
    Ok(here.collect())
}

/// One name is one kind of repo.
fn of_kind(address: &Address, kind: Kind) -> Result<(), Problem> {
    match kind == address.kind {
        true => Ok(()),
        false => {
            let message = format!(
                "{} is a {kind}, not a {}: take another name",
                address.id, address.kind
            );
            Err(Problem::bad(message))
        }
    }
}

/// A repo as part of an address.
fn repo_path(repo: &Address) -> String {
    let kind = match repo.kind {
        Kind::Model => "",
        Kind::Dataset => "datasets/",
        Kind::Space => "spaces/",
    };
    match repo.id.contains('/') {
        true => format!("{kind}{}", repo.id),
        false => format!("{kind}{LOCAL}/{}", repo.id),
    }
}

/// A full disk and a spent quota are told without a warning in the log: nothing of ours is broken.
fn of_store(error: StoreError) -> Problem {
    match error {
        StoreError::NoRoom { .. } | StoreError::OverQuota { .. } | StoreError::Full { .. } => {
            let message = format!("{error}: free some with shoal forget REPO, or allow more");
            Problem::refused(StatusCode::UNPROCESSABLE_ENTITY, message)
        }
        error => error.into(),
    }
}

fn stage_problem(error: StageError) -> Problem {
    match error {
        StageError::Read(error) => Problem::bad(format!("the body broke off: {error}")),
        StageError::Store(error) => of_store(error),
    }
}

#[derive(Deserialize)]
struct Create {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    private: Option<bool>,
    visibility: Option<String>,
}

/// Makes room for a repo: it is there once it has a revision, and until then it is remembered.
pub(super) async fn create(hub: &Hub, head: &Parts, body: Body) -> Result<Response, Problem> {
    let (_, body) = body::after(body, may_write(hub, head)).await?;
    let asked: Create = body::json(head, body, CREATE_LEN_MAX).await?;
    let public = asked.visibility.is_none_or(|visibility| visibility == "public");
    if asked.private == Some(true) || !public {
        let message = "what this node publishes is public: it has no private repos";
        return Err(Problem::refused(StatusCode::FORBIDDEN, message));
    }
    let id = match asked.organization.filter(|owner| !owner.is_empty()) {
        Some(owner) => format!("{owner}/{}", asked.name),
        None if asked.name.contains('/') => asked.name,
        None => format!("{LOCAL}/{}", asked.name),
    };
    let kind = asked.kind.unwrap_or(Kind::Model);
    let address = Address { kind, id };
    let (repo, newest) = current(hub, &address).await?;
    let created = hub.uploads().created.get(&repo).await;
    created.map_or(Ok(()), |created| of_kind(&address, created))?;
    let status = match newest.is_some() || created.is_some() {
        true => StatusCode::CONFLICT,
        false => {
            hub.uploads().created.insert(repo, kind).await;
            StatusCode::OK
        }
    };
    let url = format!("{}/{}", base_url(head)?, repo_path(&address));
    let mut answer = json!({ "url": url, "name": address.id, "id": address.id });
    if status == StatusCode::CONFLICT {
        answer["error"] = format!("{} is there already", address.id).into();
    }
    Ok((status, Json(answer)).into_response())
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    path: String,
    size: u64,
}

/// Says how files are to be sent, and what is there at their paths.
pub(super) async fn preupload(hub: &Hub, at: &At, head: &Parts, body: Body) -> Result<Response, Problem> {
    let checks = async {
        may_write(hub, head).await?;
        only_main(at)?;
        current(hub, &at.repo).await
    };
    let ((_, current), body) = body::after(body, checks).await?;
    let asked: Preupload = body::json(head, body, PREUPLOAD_LEN_MAX).await?;
    if asked.files.len() > PREUPLOAD_FILES_MAX {
        let message = format!("ask for at most {PREUPLOAD_FILES_MAX} files at once");
        return Err(Problem::refused(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let lets_go = lets_go_of_bytes(head);
    let mut paths = Vec::new();
    for Asked { path, size } in asked.files {
        let checked = RepoPath::new(&path).map_err(|wrong| {
            let path: String = path.chars().take(200).collect();
            Problem::bad(format!("{path:?} cannot be the path of a file: {wrong}"))
        })?;
        paths.push((checked, size));
    }
    // A file of another size is another one: its id would be of no use.
    let same = |(path, size): &(RepoPath, u64)| {
        let file = current.as_ref().and_then(|current| current.file(path.as_str()));
        file.filter(|file| file.size == *size)
    };
    let here = here(hub, paths.iter().filter_map(same).collect()).await?;
    let mut files = Vec::new();
    for (path, size) in paths {
        let regular = is_regular(&path, size, lets_go);
        let mut answer = json!({
            "path": path,
            "uploadMode": if regular { "regular" } else { "lfs" },
            "shouldIgnore": false,
        });
        if let Some(file) = here.iter().find(|file| file.path == path) {
            let id = match (regular, file.sha1) {
                (true, Some(sha1)) => Some(sha1.to_string()),
                (true, None) => hub.git_id(file.blake3).await.map(|id| id.to_string()),
                (false, _) => file.sha256.map(|sha256| sha256.to_string()),
            };
            if let Some(id) = id {
                answer["oid"] = id.into();
            }
        }
        files.push(answer);
    }
    Ok(Json(json!({ "files": files })).into_response())
}

/// Whether the client lets go of a file's bytes as soon as it heard how to send it, and sends none of them with the commit.
fn lets_go_of_bytes(head: &Parts) -> bool {
    let agent = head.headers.get(header::USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"datasets/"))
}

/// Whether a file is asked for within the commit.
fn is_regular(path: &RepoPath, size: u64, lets_go: bool) -> bool {
    match lets_go {
        true => kept_in_git(path, size),
        false => size <= REGULAR_LEN_MAX,
    }
}

impl Hub {
    /// What git calls a blob that is here; without it, a client sends the file once more than it has to.
    async fn git_id(&self, hash: Hash) -> Option<GitId> {
        let store = self.node().library().store().clone();
        let read = async { store.git_id(hash).await };
        self.uploads().git_ids.try_get_with(hash, read).await.ok()
    }
}

/// What a client that would send by the `xet` protocol is told: in the status line too, for of an answer that refuses, hf_xet shows
/// its user nothing else.
pub(super) fn no_xet() -> Response {
    const WORDS: &str = "this node takes no xet uploads: set HF_HUB_DISABLE_XET=1";
    let mut response = Problem::bad(WORDS).into_response();
    let words = ReasonPhrase::from_static(WORDS.as_bytes());
    response.extensions_mut().insert(words);
    response
}

/// Answers what is asked about a repo that was created and has no revision, or none that was not let go: it is there, and has
/// no files.
pub(super) async fn empty(hub: &Hub, call: &Call) -> Option<Result<Response, Problem>> {
    let (address, rev) = match call {
        Call::Info { at } | Call::Tree { at, .. } | Call::PathsInfo { at } | Call::File { at, .. } => {
            (&at.repo, Some(&at.rev))
        }
        Call::Commits { at } => (&at.repo, Some(&at.rev)),
        Call::Refs { repo } => (repo, None),
        _ => return None,
    };
    let repo = own_repo(hub, address).ok()?;
    if hub.uploads().created.get(&repo).await != Some(address.kind) {
        return None;
    }
    if !matches!(current(hub, address).await, Ok((_, None))) {
        return None;
    }
    if rev.is_some_and(|rev| !is_main(rev) && rev != NO_COMMIT) {
        return Some(Err(Problem::no_revision(&address.id, rev?)));
    }
    let answer: Value = match call {
        Call::Info { .. } => json!({
            "_id": address.id, "id": address.id, "modelId": address.id, "author": LOCAL, "sha": NO_COMMIT,
            "private": false, "gated": false, "disabled": false, "downloads": 0, "likes": 0,
            "tags": [], "siblings": [],
        }),
        Call::Tree { path, .. } | Call::File { path, .. } if !path.is_empty() => {
            return Some(Err(Problem::no_entry(NO_COMMIT, path)));
        }
        Call::Refs { .. } => json!({
            "branches": [{ "name": "main", "ref": "refs/heads/main", "targetCommit": NO_COMMIT }],
            "converts": [], "tags": [], "pullRequests": [],
        }),
        _ => json!([]),
    };
    Some(Ok(Json(answer).into_response()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_with_the_commit_where_they_are_small_and_the_client_still_has_them() {
        let table = [
            ("README.md", 1_000, true, true),
            ("data/train.parquet", 0, true, true),
            ("data/train.parquet", 1, true, false),
            ("data/train.parquet", REGULAR_LEN_MAX, true, false),
            ("data/train.parquet", REGULAR_LEN_MAX + 1, false, false),
        ];
        for (path, size, kept, let_go) in table {
            let path = RepoPath::new(path).unwrap();
            assert_eq!(is_regular(&path, size, false), kept, "{path} {size}");
            assert_eq!(is_regular(&path, size, true), let_go, "{path} {size}");
        }
    }

    #[test]
    fn address_of_a_repo_is_that_of_its_kind_and_always_has_an_owner() {
        let table = [
            (Kind::Model, "a/b", "a/b"),
            (Kind::Model, "b", "local/b"),
            (Kind::Dataset, "a/b", "datasets/a/b"),
            (Kind::Space, "b", "spaces/local/b"),
        ];
        for (kind, id, path) in table {
            let id = id.to_owned();
            assert_eq!(repo_path(&Address { kind, id }), path);
        }
    }
}
