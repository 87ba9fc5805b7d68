//! What a repo is: one answer for a revision, and the fields that lists give of each repo.

use axum::http::request::Parts;
use axum::response::Response;
use protocol::{FileEntry, Hash, Kind, Manifest};
use serde_json::{Value, json};

use super::Hub;
use super::card::{self, Labels, Object};
use super::digests::{blob_id, is_lfs, lfs_oid, pointer};
use super::facts::{Heads, time};
use super::problem::Problem;
use super::query::{self, Query};
use super::revisions::Revision;
use super::route::At;
use crate::library::now;

/// Hex digits of `_id`: as many as the Hub's have.
const OBJECT_ID_LEN: usize = 24;

/// What is said of a repo wherever it is named.
pub(super) struct Said<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// What the client calls it.
    pub(super) id: &'a str,
    /// Its revision.
    pub(super) commit: &'a str,
    /// When that was published, in Unix seconds, if anybody says so.
    pub(super) issued: Option<u64>,
    /// When its first revision was.
    pub(super) created: Option<u64>,
    /// How it is found.
    pub(super) labels: &'a Labels,
}

impl Said<'_> {
    /// The fields, as clients read them.
    pub(super) fn fields(&self) -> Object {
        let mut fields = Object::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        let author = self.id.split_once('/').map_or(self.id, |(owner, _)| owner);
        set("_id", json!(object_id(self.kind, self.id)));
        set("id", json!(self.id));
        if self.kind == Kind::Model {
            set("modelId", json!(self.id));
        }
        set("author", json!(author));
        set("sha", json!(self.commit));
        if let Some(issued) = self.issued {
            set("lastModified", time(issued));
        }
        if let Some(created) = self.created {
            set("createdAt", time(created));
        }
        for name in ["private", "gated", "disabled"] {
            set(name, json!(false));
        }
        // Nobody counts in a swarm.
        for name in ["downloads", "likes", "trendingScore"] {
            set(name, json!(0));
        }
        set("tags", json!(self.labels.tags));
        if let Some(tag) = &self.labels.pipeline_tag {
            set("pipeline_tag", json!(tag));
        }
        if let Some(library) = &self.labels.library_name {
            set("library_name", json!(library));
        }
        fields
    }
}

impl Hub {
    /// Says what a revision of a repo is.
    pub(super) async fn info(&self, at: &At, head: &Parts) -> Result<Response, Problem> {
        let query = Query::of(head);
        let revision = self.revision(at).await?;
        let manifest = &revision.manifest;
        let heads = self.heads_of(&revision).await;
        let labels = heads.labels(at.repo.kind, manifest);
        let said = Said {
            kind: at.repo.kind,
            id: &at.repo.id,
            commit: &revision.commit,
            issued: revision.release.as_ref().map(|_| revision.issued()),
            created: self.created(&revision)?,
            labels: &labels,
        };
        let mut fields = said.fields();
        add_heads(&mut fields, &heads, true, true);
        if at.repo.kind == Kind::Space
            && let Some(sdk) = card::text(&heads.card, "sdk")
        {
            fields.insert("sdk".to_owned(), json!(sdk));
        }
        if let Some(trust) = self.trust(&revision) {
            fields.insert("shoal".to_owned(), trust);
        }
        fields.insert("siblings".to_owned(), siblings(manifest, query.flag("blobs")));
        fields.insert("usedStorage".to_owned(), json!(manifest.total_len()));
        Ok(query::json(only(fields, &query)))
    }

    /// What somebody who uses the revision should know of who released it; `None`: nothing.
    fn trust(&self, revision: &Revision) -> Option<Value> {
        let release = revision.release.as_ref()?.release();
        let stale = release.expires < now();
        let revoked = self.node().library().revocation_of(release.publisher);
        (stale || revoked.is_some()).then(|| json!({ "stale": stale, "revoked": revoked }))
    }

    /// When the first revision that is known of a repo was published.
    fn created(&self, revision: &Revision) -> Result<Option<u64>, Problem> {
        let Some(release) = revision.release.as_ref().map(|release| release.release()) else {
            return Ok(None);
        };
        let known = self.node().discovery().known(&release.repo())?;
        let first = known.map_or(release.issued, |row| row.created);
        Ok(Some(first.min(release.issued)))
    }
}

/// Adds what a revision says of itself, where it says something.
pub(super) fn add_heads(fields: &mut Object, heads: &Heads, card: bool, config: bool) {
    for (name, wanted, object) in [("cardData", card, &heads.card), ("config", config, &heads.config)] {
        if wanted && !object.is_empty() {
            fields.insert(name.to_owned(), json!(**object));
        }
    }
}

/// The files of a revision.
pub(super) fn siblings(manifest: &Manifest, blobs: bool) -> Value {
    let sibling = |file: &FileEntry| {
        let mut fields = json!({ "rfilename": file.path.as_str() });
        if blobs {
            fields["size"] = json!(file.size);
            fields["blobId"] = json!(blob_id(file));
            if let Some(lfs) = lfs(file, "sha256") {
                fields["lfs"] = lfs;
            }
        }
        fields
    };
    manifest.files().iter().map(sibling).collect()
}

/// What is said of a large file, its hash under this name; nothing of one that is kept in git.
pub(super) fn lfs(file: &FileEntry, hash: &str) -> Option<Value> {
    let described = || json!({ hash: lfs_oid(file), "size": file.size, "pointerSize": pointer(file).len() });
    is_lfs(file).then(described)
}

/// Leaves only the fields that `expand` names, and the ids; all of them where it names none.
pub(super) fn only(mut fields: Object, query: &Query) -> Object {
    let wanted: Vec<&str> = query.all("expand").filter(|name| !name.is_empty()).collect();
    if !wanted.is_empty() {
        fields.retain(|name, _| matches!(name.as_str(), "_id" | "id") || wanted.contains(&name.as_str()));
    }
    fields
}

/// An id that is the same for ever, in the form of the Hub's.
fn object_id(kind: Kind, id: &str) -> String {
    let hash = Hash::of(format!("{kind} {id}").as_bytes()).to_string();
    hash.chars().take(OBJECT_ID_LEN).collect()
}
