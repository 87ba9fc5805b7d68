//! The commit: lines of JSON that say what changes, small files with their content among them. Content is decoded and hashed as it
//! comes, and lies in the store's folder before the last line is read; memory stays flat however much it is.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use protocol::{RepoId, RepoPath, Sha256, limits::FILES_MAX};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempPath;
use tokio::runtime::Handle;

use super::super::Hub;
use super::super::body::{self, BodyReader};
use super::super::problem::Problem;
use super::super::query::{Query, base_url};
use super::super::route::At;
use super::lines::{self, Line, LineError};
use super::{may_write, of_store, only_main, own_repo, repo_path};
use crate::limits::{ROWS_LEN, WHOLE_LEN};
use crate::publish::{Change, Revise, ReviseError};
use crate::store::{Room, Staged, Store, StoreError};

/// Longest body of a commit, in bytes. Clients put 100 MB of small files into one; the Hub itself refuses more than about 1 GB.
const COMMIT_LEN_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Most lines: as many files as a revision may have go, and as many come.
const LINES_MAX: usize = 2 * FILES_MAX + 1;
/// Most bytes for which room is looked for at once.
const ROOM_STEP: u64 = 64 * 1024 * 1024;
/// Fewest digits of a parent's id, as clients shorten it.
const PARENT_LEN_MIN: usize = 7;

#[derive(Deserialize)]
#[serde(tag = "key", content = "value", rename_all = "camelCase")]
enum Said {
    Header(Header),
    File(Content),
    LfsFile(Pointer),
    DeletedFile(Path),
    DeletedFolder(Path),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(default)]
    summary: String,
    parent_commit: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    path: String,
    content: String,
    encoding: String,
}

#[derive(Deserialize)]
struct Pointer {
    path: String,
    #[serde(default)]
    algo: Option<String>,
    oid: Sha256,
}

#[derive(Deserialize)]
struct Path {
    path: String,
}

/// What the lines say, with the content of the small files staged.
#[derive(Default)]
struct Read {
    header: Header,
    changes: Vec<Draft>,
}

enum Draft {
    /// The file at this path has the content of this number.
    File(RepoPath, Arc<Staged>),
    /// The same, its content still to be put into the database with others.
    Small(RepoPath, usize),
    Large(RepoPath, Sha256),
    Delete(String),
    DeleteFolder(String),
}

/// Makes a revision of what a body says.
pub(in super::super) async fn commit(
    hub: &Hub,
    at: &At,
    head: &Parts,
    body: Body,
) -> Result<Response, Problem> {
    let (repo, body) = body::after(body, may_commit(hub, at, head)).await?;
    let store = hub.node().library().store().clone();
    let runtime = Handle::current();
    // Content is never longer than the body that brings it.
    let room_step = body::stated_len(head).map_or(ROOM_STEP, |len| len.min(ROOM_STEP));
    let read = body::through(head, body, COMMIT_LEN_MAX, move |from| {
        let mut reading = Reading {
            store,
            runtime,
            room_step,
            room: None,
            small: Vec::new(),
            small_len: 0,
            unput: 0,
        };
        reading.all(from)
    })
    .await?;
    let staging = &hub.uploads().staging;
    let change = |draft| match draft {
        Draft::File(path, content) => Change::Put { path, content },
        Draft::Small(..) => unreachable!("all small files are put at the end"),
        Draft::Large(path, sha256) => match staging.object(sha256, Instant::now()) {
            Some(content) => Change::Put { path, content },
            None => Change::Again { path, sha256 },
        },
        Draft::Delete(path) => Change::Delete { path },
        Draft::DeleteFolder(path) => Change::DeleteFolder { path },
    };
    let ask = Revise {
        name: repo.name.clone(),
        kind: at.repo.kind,
        parent: parent(read.header.parent_commit)?,
        changes: read.changes.into_iter().map(change).collect(),
    };
    // It goes on to its end even if the client does not wait for that.
    let node = hub.node().clone();
    let revised = tokio::spawn(async move { node.revise(ask).await }).await?;
    let revised = revised.map_err(of_revise)?;
    hub.uploads().created.invalidate(&repo).await;
    let url = format!(
        "{}/{}/commit/{}",
        base_url(head)?,
        repo_path(&at.repo),
        revised.commit
    );
    tracing::debug!(repo = %revised.repo, manifest = %revised.manifest.short(), "committed over the Hub's API");
    Ok(Json(json!({
        "success": true,
        "commitOid": revised.commit,
        "commitUrl": url,
        "commitMessage": read.header.summary,
        "hookOutput": "",
    }))
    .into_response())
}

/// What can be said before the body is read; returns the repo.
async fn may_commit(hub: &Hub, at: &At, head: &Parts) -> Result<RepoId, Problem> {
    may_write(hub, head).await?;
    let repo = own_repo(hub, &at.repo)?;
    only_main(at)?;
    let flags = [
        (
            "create_pr",
            "this node has no pull requests: commit to main, which is yours alone",
        ),
        ("hot_reload", "this node runs no space that could be reloaded"),
    ];
    match flags.into_iter().find(|(flag, _)| asks(head, flag)) {
        Some((_, message)) => Err(Problem::refused(StatusCode::FORBIDDEN, message)),
        None => Ok(repo),
    }
}

/// Whether the query sets a flag.
fn asks(head: &Parts, flag: &str) -> bool {
    let set = |value: &str| !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false");
    Query::of(head).all(flag).any(set)
}

fn parent(asked: Option<String>) -> Result<Option<String>, Problem> {
    let Some(parent) = asked.filter(|parent| !parent.is_empty()) else {
        return Ok(None);
    };
    let hex = parent
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if hex && (PARENT_LEN_MIN..=40).contains(&parent.len()) {
        return Ok(Some(parent));
    }
    Err(Problem::bad(
        "parentCommit is not the id of a commit: 7 to 40 hex digits",
    ))
}

fn of_revise(error: ReviseError) -> Problem {
    match &error {
        ReviseError::Stale { .. } => Problem::refused(StatusCode::PRECONDITION_FAILED, error.to_string()),
        ReviseError::Publish(crate::publish::PublishError::Overtaken { .. }) => {
            Problem::refused(StatusCode::PRECONDITION_FAILED, error.to_string())
        }
        ReviseError::NoFile { path, commit } => Problem::no_entry(commit, path),
        ReviseError::Manifest(source) => Problem::bad(format!("{error}: {source}")),
        ReviseError::OtherKind { .. } | ReviseError::NoContent { .. } | ReviseError::Empty => {
            Problem::bad(error.to_string())
        }
        ReviseError::Base { .. }
        | ReviseError::Publish(_)
        | ReviseError::Store(_)
        | ReviseError::Library(_) => Problem::ours(&error),
    }
}

/// Reads lines and stages what they bring. Blocks.
struct Reading {
    store: Store,
    runtime: Handle,
    /// Bytes for which room is looked for at once.
    room_step: u64,
    /// What is left of it.
    room: Option<Room>,
    /// Small files, in the order of their lines; those from `unput` on are in memory.
    small: Vec<Staged>,
    unput: usize,
    small_len: u64,
}

impl Reading {
    fn all(&mut self, from: &mut BodyReader) -> Result<Read, Problem> {
        let mut read = Read::default();
        let mut lines = 0;
        loop {
            let line = lines::next(from, || self.spool()).map_err(of_line)?;
            let Some(Line { text, long }) = line else { break };
            lines += 1;
            if lines > LINES_MAX {
                return Err(Problem::bad(format!("a commit has at most {LINES_MAX} lines")));
            }
            let said: Said = serde_json::from_slice(&text)
                .map_err(|wrong| Problem::bad(format!("line {lines} is wrong: {wrong}")))?;
            if long.is_some() && !matches!(&said, Said::File(file) if file.content.is_empty()) {
                return Err(Problem::bad(format!("line {lines} is too long")));
            }
            let draft = match said {
                Said::Header(header) => {
                    read.header = header;
                    continue;
                }
                Said::File(file) => {
                    let path = path(&file.path)?;
                    if file.encoding != "base64" {
                        return Err(Problem::bad(format!(
                            "the content of {path} is not sent as base64"
                        )));
                    }
                    let spool = match long {
                        Some(spool) => spool,
                        None => {
                            let wrong = |_| Problem::bad(format!("the content of {path} is not base64"));
                            let bytes = BASE64.decode(file.content.as_bytes()).map_err(wrong)?;
                            let mut spool = self.spool();
                            let kept = spool.write_all(&bytes);
                            kept.map_err(|error| of_line(error.into()))?;
                            spool
                        }
                    };
                    let (staged, left) = spool.stage().map_err(of_store)?;
                    self.room = left;
                    self.take(path, staged)?
                }
                Said::LfsFile(file) => {
                    if file.algo.is_some_and(|algo| algo != "sha256") {
                        return Err(Problem::bad("large files are named by their sha256 here"));
                    }
                    Draft::Large(path(&file.path)?, file.oid)
                }
                Said::DeletedFile(Path { path }) => Draft::Delete(path),
                Said::DeletedFolder(Path { path }) => {
                    Draft::DeleteFolder(path.trim_end_matches('/').to_owned())
                }
            };
            read.changes.push(draft);
        }
        self.put()?;
        let mut small: Vec<Option<Arc<Staged>>> = std::mem::take(&mut self.small)
            .into_iter()
            .map(|staged| Some(Arc::new(staged)))
            .collect();
        for draft in &mut read.changes {
            if let Draft::Small(path, index) = draft {
                let staged = small
                    .get_mut(*index)
                    .and_then(Option::take)
                    .expect("each small file has a place of its own");
                *draft = Draft::File(path.clone(), staged);
            }
        }
        Ok(read)
    }

    fn spool(&mut self) -> Spool {
        Spool {
            store: self.store.clone(),
            runtime: self.runtime.clone(),
            bytes: Vec::new(),
            file: None,
            len: 0,
            room_step: self.room_step,
            room: self.room.take(),
        }
    }

    /// Keeps a file's content: small ones in the database, some at a time.
    fn take(&mut self, path: RepoPath, staged: Staged) -> Result<Draft, Problem> {
        if staged.digests.len > crate::limits::SMALL_LEN {
            return Ok(Draft::File(path, Arc::new(staged)));
        }
        self.small_len += staged.digests.len;
        self.small.push(staged);
        if self.small_len >= ROWS_LEN {
            self.put()?;
        }
        Ok(Draft::Small(path, self.small.len() - 1))
    }

    fn put(&mut self) -> Result<(), Problem> {
        let batch = &mut self.small[self.unput..];
        let put = self.runtime.block_on(self.store.put_staged(batch));
        put.map_err(of_store)?;
        (self.unput, self.small_len) = (self.small.len(), 0);
        Ok(())
    }
}

fn path(text: &str) -> Result<RepoPath, Problem> {
    RepoPath::new(text).map_err(|wrong| {
        let shown: String = text.chars().take(200).collect();
        Problem::bad(format!("{shown:?} cannot be the path of a file: {wrong}"))
    })
}

fn of_line(error: LineError) -> Problem {
    match error {
        LineError::Wrong(why) => Problem::bad(format!("the commit does not read: {why}")),
        LineError::Io(error) => match error.downcast::<StoreError>() {
            Ok(error) => of_store(error),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Problem::bad("the body broke off"),
            Err(error) => Problem::ours(&error),
        },
    }
}

/// Takes the bytes of one content: in memory up to a shard, in a file beyond.
struct Spool {
    store: Store,
    runtime: Handle,
    bytes: Vec<u8>,
    file: Option<(File, TempPath)>,
    len: u64,
    room_step: u64,
    /// Room for what is to come, looked for a step at a time.
    room: Option<Room>,
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let more = bytes.len() as u64;
        if self.room.as_ref().map_or(0, Room::left) < more {
            self.room = None;
            let room = self.runtime.block_on(self.store.room(self.room_step.max(more)));
            self.room = Some(room.map_err(io::Error::other)?);
        }
        self.room.iter_mut().for_each(|room| room.taken(more));
        self.len += more;
        if self.file.is_none() {
            self.bytes.extend_from_slice(bytes);
            if self.len <= WHOLE_LEN {
                return Ok(bytes.len());
            }
            let (mut file, path) = self.store.unfinished().map_err(io::Error::other)?;
            file.write_all(&std::mem::take(&mut self.bytes))?;
            self.file = Some((file, path));
        } else if let Some((file, _)) = &mut self.file {
            file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spool {
    /// Hashes what came; returns also what is left of the room that was looked for.
    fn stage(self) -> Result<(Staged, Option<Room>), StoreError> {
        let staged = match self.file {
            None => self.store.stage_bytes(self.bytes)?,
            Some((_, path)) => self.store.stage_file(path, self.len)?,
        };
        Ok((staged, self.room))
    }
}
