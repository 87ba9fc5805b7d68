//! Large files: the batch that says where each goes or is had from, and the doors where they come in. What came is hashed on the
//! way and kept only if it is what the batch said.
//!
//! | request | says |
//! |---|---|
//! | POST `REPO.git/info/lfs/objects/batch` | for each object: nothing if it is here, or where it goes |
//! | PUT `/lfs-upload/SECRET` | all of it |
//! | PUT `/lfs-upload/SECRET/N`, then POST `/lfs-upload/SECRET` | part N of it, then that all came |
//! | POST `/lfs-upload/SECRET/verify` | whether it came |
//!
//! Parts are for clients that take nothing else: what comes in one piece is hashed while it comes.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::http::{Method, StatusCode, header, request::Parts as Head};
use axum::response::{IntoResponse, Response};
use protocol::{FileEntry, Sha256, limits::BLOB_LEN_MAX};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Hub;
use super::super::body::{self, BodyReader};
use super::super::problem::Problem;
use super::super::query::{base_url, encode};
use super::super::route::{Address, At, LFS_ROOT, MAIN};
use super::staging::{Crowded, Door, Parts};
use super::{may_write, of_store, repo_path, stage_problem};
use crate::limits::PIECE_LEN;
use crate::store::{Room, Staged, blocking};

/// Objects of one batch: ten times what clients send.
const OBJECTS_MAX: usize = 1_000;
/// Longest body of a batch, in bytes: its objects at 200 bytes each, and room.
const BATCH_LEN_MAX: usize = 1024 * 1024;
/// Shortest part, in bytes; the last one may be shorter.
const PART_LEN_MIN: u64 = 5 * 1024 * 1024;
/// Most parts of an object: each has an address in the answer.
const PARTS_MAX: u64 = 1_000;
/// Longest list of parts, in bytes: 100 for each.
const PARTS_LEN_MAX: usize = 256 * 1024;
/// Longest body of a question whether an object came, in bytes.
const VERIFY_LEN_MAX: usize = 4 * 1024;
/// How long a door is open, as clients are told, in seconds.
const EXPIRES: u64 = 60 * 60;

/// What clients of git's large files expect and send.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

#[derive(Deserialize)]
struct Batch {
    operation: Operation,
    transfers: Option<Vec<String>>,
    objects: Vec<Object>,
    hash_algo: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Download,
    Upload,
}

#[derive(Deserialize)]
struct Object {
    oid: Sha256,
    size: u64,
}

#[derive(Deserialize)]
struct Completed {
    oid: Sha256,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    part_number: u64,
    etag: String,
}

/// Answers a batch.
pub(in super::super) async fn batch(
    hub: &Hub,
    repo: &Address,
    head: &Head,
    body: Body,
) -> Result<Response, Problem> {
    // Who may not write is told before anything is read; what is asked for is known only behind it.
    let may_write = may_write(hub, head).await;
    let batch: Batch = body::json(head, body, BATCH_LEN_MAX).await?;
    if batch.operation == Operation::Upload {
        may_write?;
    }
    if batch.objects.len() > OBJECTS_MAX {
        let message = format!(
            "{} objects in one batch are more than {OBJECTS_MAX}",
            batch.objects.len()
        );
        return Err(Problem::refused(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    if batch.hash_algo.is_some_and(|algo| algo != "sha256") {
        return Err(Problem::bad("objects are named by their sha256 here"));
    }
    let takes = |wanted| {
        let transfers = batch.transfers.as_deref();
        transfers.is_none_or(|transfers| transfers.iter().any(|transfer| transfer == wanted))
    };
    let (transfer, in_parts) = match (takes("basic"), takes("multipart")) {
        (true, _) => ("basic", false),
        (false, true) if batch.operation == Operation::Upload => ("multipart", true),
        _ => {
            return Err(Problem::bad(
                "this node transfers large files by the transfer basic, which the client does not offer",
            ));
        }
    };
    let objects = match batch.operation {
        Operation::Download => downloads(hub, repo, head, &batch.objects).await?,
        Operation::Upload => uploads(hub, repo, head, &batch.objects, in_parts).await?,
    };
    let answer = Json(json!({ "transfer": transfer, "objects": objects, "hash_algo": "sha256" }));
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], answer).into_response())
}

async fn downloads(
    hub: &Hub,
    repo: &Address,
    head: &Head,
    objects: &[Object],
) -> Result<Vec<Value>, Problem> {
    let at = At {
        repo: repo.clone(),
        rev: MAIN.to_owned(),
    };
    let revision = hub.revision(&at).await?;
    let root = format!(
        "{}/{}/resolve/{}",
        base_url(head)?,
        repo_path(repo),
        revision.commit
    );
    let answer = |object: &Object| {
        let (oid, size) = (object.oid.to_string(), object.size);
        let found = find(revision.manifest.files(), object.oid).filter(|file| file.size == size);
        match found {
            Some(file) => {
                let href = format!("{root}/{}", encode(file.path.as_str()));
                json!({ "oid": oid, "size": size, "authenticated": true, "actions": { "download": { "href": href } } })
            }
            None => json!({
                "oid": oid, "size": size,
                "error": { "code": 404, "message": "the newest revision has no such object" }
            }),
        }
    };
    Ok(objects.iter().map(answer).collect())
}

fn find(files: &[FileEntry], oid: Sha256) -> Option<&FileEntry> {
    files.iter().find(|file| file.sha256 == Some(oid))
}

async fn uploads(
    hub: &Hub,
    repo: &Address,
    head: &Head,
    objects: &[Object],
    in_parts: bool,
) -> Result<Vec<Value>, Problem> {
    let (_, current) = super::current(hub, repo).await?;
    let asked: HashSet<Sha256> = objects.iter().map(|object| object.oid).collect();
    let files = current.as_ref().map(|manifest| manifest.files());
    let listed = files.unwrap_or_default().iter();
    let listed = listed.filter(|file| file.sha256.is_some_and(|oid| asked.contains(&oid)));
    let here = super::here(hub, listed.collect()).await?;
    let here: HashSet<Sha256> = here.into_iter().filter_map(|file| file.sha256).collect();
    let staging = &hub.uploads().staging;
    let root = format!("{}/{LFS_ROOT}", base_url(head)?);
    let mut wanted = Vec::new();
    for object in objects {
        if object.size > BLOB_LEN_MAX {
            let message = format!("{} has more than {BLOB_LEN_MAX} bytes", object.oid);
            return Err(Problem::refused(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let known = here.contains(&object.oid) || staging.object(object.oid, Instant::now()).is_some();
        wanted.push(!known);
    }
    let pairs = || objects.iter().zip(&wanted);
    let bytes = pairs()
        .filter(|(_, wanted)| **wanted)
        .fold(0_u64, |sum, (object, _)| sum.saturating_add(object.size));
    let store = hub.node().library().store();
    // It is set aside when it comes; what has no room now is not worth beginning.
    drop(store.room(bytes).await.map_err(of_store)?);
    let mut answers = Vec::new();
    for (object, wanted) in pairs() {
        let mut answer = json!({ "oid": object.oid.to_string(), "size": object.size, "authenticated": true });
        if *wanted {
            let part_len = PART_LEN_MIN.max(object.size.div_ceil(PARTS_MAX));
            let parts = in_parts.then(|| Arc::new(Parts::of(object.size, part_len)));
            let door = Door {
                oid: object.oid,
                size: object.size,
                parts: parts.clone(),
            };
            let opened = staging.open(door, Instant::now())?;
            let href = format!("{root}/{}", opened.map_err(crowded)?);
            let mut upload = json!({ "href": href, "expires_in": EXPIRES });
            if let Some(parts) = parts {
                let numbered = (1..=parts.count).map(|number| {
                    let href = format!("{href}/{number}");
                    (format!("{number:05}"), Value::String(href))
                });
                let mut header: Map<String, Value> = numbered.collect();
                header.insert("chunk_size".to_owned(), Value::String(parts.len.to_string()));
                upload["header"] = header.into();
            }
            let verify = json!({ "href": format!("{href}/verify"), "expires_in": EXPIRES });
            answer["actions"] = json!({ "upload": upload, "verify": verify });
        }
        answers.push(answer);
    }
    Ok(answers)
}

fn crowded(_: Crowded) -> Problem {
    let message = "too much was announced and not committed: commit it, or try again in an hour";
    Problem::refused(StatusCode::TOO_MANY_REQUESTS, message)
}

/// Answers at a door. The secret in the address is all that is asked for.
pub(in super::super) async fn at_door(
    hub: &Hub,
    rest: &[String],
    head: &Head,
    body: Body,
) -> Result<Response, Problem> {
    let (at, body) = body::after(body, async { find_door(hub, rest, &head.method) }).await?;
    match at {
        AtDoor::Whole(door) => whole(hub, door, head, body).await,
        AtDoor::Part(door, parts, number) => part(hub, door, parts, number, head, body).await,
        AtDoor::Complete(door, parts) => complete(hub, door, parts, head, body).await,
        AtDoor::Verify(door) => verify(hub, door, head, body).await,
    }
}

/// What is wanted at a door.
enum AtDoor {
    Whole(Door),
    Part(Door, Arc<Parts>, u64),
    Complete(Door, Arc<Parts>),
    Verify(Door),
}

fn find_door(hub: &Hub, rest: &[String], method: &Method) -> Result<AtDoor, Problem> {
    let (secret, rest) = rest.split_first().ok_or_else(Problem::nothing_here)?;
    let found = hub.uploads().staging.door(secret, Instant::now());
    let closed = || {
        let message = "this address for an upload is not known, or an hour old: begin the upload anew";
        Problem::refused(StatusCode::NOT_FOUND, message)
    };
    let door = found.ok_or_else(closed)?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (method, rest.as_slice(), door.parts.clone()) {
        (&Method::PUT, [], None) => Ok(AtDoor::Whole(door)),
        (&Method::PUT, [number], Some(parts)) => {
            let number = number.parse().map_err(|_| Problem::nothing_here())?;
            Ok(AtDoor::Part(door, parts, number))
        }
        (&Method::POST, [], Some(parts)) => Ok(AtDoor::Complete(door, parts)),
        (&Method::POST, ["verify"], _) => Ok(AtDoor::Verify(door)),
        _ => Err(Problem::nothing_here()),
    }
}

/// Takes an object in one piece.
async fn whole(hub: &Hub, door: Door, head: &Head, body: Body) -> Result<Response, Problem> {
    let store = hub.node().library().store().clone();
    let size = door.size;
    let (room, body) = body::after(body, async { store.room(size).await.map_err(of_store) }).await?;
    let room = Mutex::new(room);
    let staged = body::through(head, body, size, move |from| {
        let written = |bytes| {
            room.lock()
                .expect("nothing panics while it holds this")
                .taken(bytes)
        };
        store.stage(from, size, &written).map_err(stage_problem)
    })
    .await?;
    keep(hub, &door, staged).await?;
    Ok(StatusCode::OK.into_response())
}

/// Keeps an object if it is the one that was announced.
async fn keep(hub: &Hub, door: &Door, staged: Staged) -> Result<(), Problem> {
    let Door { oid, size, .. } = door;
    if staged.digests.len != *size {
        return Err(Problem::bad(format!(
            "{oid} was announced with {size} bytes, and another number came"
        )));
    }
    if staged.digests.sha256 != *oid {
        return Err(Problem::bad(format!(
            "the bytes that came have the SHA-256 {}, not {oid}: they were changed on the way, or while they were read",
            staged.digests.sha256
        )));
    }
    let mut staged = [staged];
    let store = hub.node().library().store();
    store.put_staged(&mut staged).await?;
    let [staged] = staged;
    let staging = &hub.uploads().staging;
    staging.put(staged, Instant::now()).map_err(crowded)
}

/// Takes one part of an object.
async fn part(
    hub: &Hub,
    door: Door,
    parts: Arc<Parts>,
    number: u64,
    head: &Head,
    body: Body,
) -> Result<Response, Problem> {
    let store = hub.node().library().store().clone();
    let checks = async {
        let len = parts.part_len(number, door.size);
        let len = len.ok_or_else(Problem::nothing_here)?;
        Ok((len, store.room(len).await.map_err(of_store)?))
    };
    let ((len, mut room), body) = body::after(body, checks).await?;
    let tag = body::through(head, body, len, move |from| {
        let file = {
            let mut came = parts.came.lock().expect("nothing panics while it holds this");
            match &came.file {
                Some((file, _)) => file.clone(),
                None => {
                    let (file, path) = store.unfinished()?;
                    let file = Arc::new(file);
                    came.file = Some((file.clone(), path));
                    file
                }
            }
        };
        let tag = write_part(from, &file, (number - 1) * parts.len, len, &mut room)?;
        let mut came = parts.came.lock().expect("nothing panics while it holds this");
        came.tags.insert(number, tag.clone());
        Ok(tag)
    })
    .await?;
    Ok([(header::ETAG, format!("\"{tag}\""))].into_response())
}

fn write_part(
    from: &mut BodyReader,
    file: &std::fs::File,
    start: u64,
    len: u64,
    room: &mut Room,
) -> Result<String, Problem> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_LEN];
    let mut written = 0;
    loop {
        let read = crate::store::digest::read_full(from, &mut piece)
            .map_err(|_| Problem::bad("the body broke off"))?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
        file.write_all_at(&piece[..read], start + written)?;
        written += read as u64;
        room.taken(read as u64);
    }
    if written != len {
        return Err(Problem::bad(format!(
            "the part has {written} bytes, and {len} are wanted"
        )));
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Hears that all parts came, and puts them together.
async fn complete(
    hub: &Hub,
    door: Door,
    parts: Arc<Parts>,
    head: &Head,
    body: Body,
) -> Result<Response, Problem> {
    let completed: Completed = body::json(head, body, PARTS_LEN_MAX).await?;
    if completed.oid != door.oid {
        return Err(Problem::bad(format!(
            "this address is for {}, not {}",
            door.oid, completed.oid
        )));
    }
    if hub.uploads().staging.object(door.oid, Instant::now()).is_some() {
        // Asked again: the answer to the first time was lost.
        return Ok(StatusCode::OK.into_response());
    }
    let (file, path) = {
        let mut came = parts.came.lock().expect("nothing panics while it holds this");
        let listed = |number: &u64| {
            let part = completed.parts.iter().find(|part| part.part_number == *number);
            let etag = part.map(|part| part.etag.trim_matches('"'));
            etag.is_some_and(|etag| came.tags.get(number).is_some_and(|tag| tag == etag))
        };
        if let Some(missing) = (1..=parts.count).find(|number| !listed(number)) {
            return Err(Problem::bad(format!(
                "part {missing} of {} did not come, or is not listed with its ETag",
                parts.count
            )));
        }
        let (file, path) = came
            .file
            .take()
            .ok_or_else(|| Problem::bad("an object without bytes has no parts"))?;
        if Arc::strong_count(&file) > 1 {
            // Who still writes could change what was hashed.
            came.file = Some((file, path));
            return Err(Problem::bad("a part is still on its way"));
        }
        came.tags.clear();
        (file, path)
    };
    drop(file);
    let (store, size) = (hub.node().library().store().clone(), door.size);
    let staged = blocking(move || store.stage_parts(path, size)).await?;
    keep(hub, &door, staged).await?;
    Ok(StatusCode::OK.into_response())
}

/// Tells whether an object came.
async fn verify(hub: &Hub, door: Door, head: &Head, body: Body) -> Result<Response, Problem> {
    let asked: Object = body::json(head, body, VERIFY_LEN_MAX).await?;
    let staged = hub.uploads().staging.object(door.oid, Instant::now());
    match staged {
        Some(staged) if asked.oid == door.oid && asked.size == staged.digests.len => {
            Ok(StatusCode::OK.into_response())
        }
        _ => Err(Problem::refused(
            StatusCode::NOT_FOUND,
            format!("{} with {} bytes did not come", asked.oid, asked.size),
        )),
    }
}
