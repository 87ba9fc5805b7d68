//! The repos of a kind that this node knows of, whoever published them: searched, filtered, sorted and in pages.
//!
//! They are found in the index that searches ask, and each is described by what came with its release. Only what a client wants of its files is read from
//! them, where they are here.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::response::Response;
use protocol::{Kind, Manifest, Publisher, manifest::commit_id};
use serde_json::{Value, json};

use super::Hub;
use super::card::{Labels, Object};
use super::info::{Said, add_heads, only, siblings};
use super::problem::Problem;
use super::query::{self, Query};
use super::revisions::LOCAL;
use crate::discovery::{Discovery, FindError, HITS_MAX, Hit, SearchAnswer, SearchAsk, SearchSort};
use crate::library::{Library, LibraryError};
use crate::store::blocking;

/// Files listed in one answer, of all its repos together: a page ends early where they are more.
const PAGE_FILES_MAX: u64 = 50_000;
/// Filters of one question. Clients give a handful.
const FILTERS_MAX: usize = 16;

impl Hub {
    /// Lists the repos of a kind.
    pub(super) async fn list(&self, kind: Kind, head: &Parts) -> Result<Response, Problem> {
        let query = Query::of(head);
        let wanted = Wanted::read(&query);
        let found = match ask_of(kind, &query, self.node().library())? {
            Some(ask) => {
                let discovery = self.node().discovery().clone();
                let found = blocking(move || Ok(find(&discovery, ask, wanted.siblings))).await?;
                found.map_err(|error| match error {
                    FindError::Cursor(_) => {
                        Problem::bad("the cursor is none that was given: list from the start")
                    }
                    error => Problem::ours(&error),
                })?
            }
            None => SearchAnswer::default(),
        };
        let mut listed: Vec<Value> = Vec::new();
        for hit in &found.hits {
            let mut fields = entry(hit);
            if wanted.any()
                && let Some(manifest) = self.manifest_here(hit.manifest).await
            {
                self.add(&mut fields, &manifest, wanted).await;
            }
            listed.push(only(fields, &query).into());
        }
        let next = found.next.map(|next| query.with("cursor", &next));
        Ok(query::page(head, head.uri.path(), next, query::json(listed)))
    }

    /// Adds what is wanted of the files.
    async fn add(&self, fields: &mut Object, manifest: &Arc<Manifest>, wanted: Wanted) {
        if wanted.card || wanted.config {
            let heads = self.heads(manifest).await;
            add_heads(fields, &heads, wanted.card, wanted.config);
        }
        if wanted.siblings {
            fields.insert("siblings".to_owned(), siblings(manifest, false));
        }
    }
}

/// Finds a page, with what was published just now. Blocking.
///
/// - `siblings`: their files are listed too.
fn find(discovery: &Discovery, mut ask: SearchAsk, siblings: bool) -> Result<SearchAnswer, FindError> {
    discovery.catch_up();
    let found = discovery.search(&ask)?;
    if siblings {
        ask.limit = fitting(discovery, &found.hits)?;
        if ask.limit < found.hits.len() {
            return discovery.search(&ask);
        }
    }
    Ok(found)
}

/// How many of these fit a page with all their files: one at least.
fn fitting(discovery: &Discovery, hits: &[Hit]) -> Result<usize, LibraryError> {
    let mut files = 0;
    for (at, hit) in hits.iter().enumerate() {
        let row = discovery.library().catalog().manifest(hit.manifest)?;
        files += row.map_or(0, |row| u64::from(row.files));
        if files > PAGE_FILES_MAX {
            return Ok(at.max(1));
        }
    }
    Ok(hits.len())
}

/// What a list gives of a repo of which nothing else than its release may be here.
fn entry(hit: &Hit) -> Object {
    let id = match &hit.alias {
        Some(alias) => format!("{alias}/{}", hit.repo.name),
        None => hit.repo.to_string(),
    };
    let labels = hit.card.as_ref().map(|card| Labels::of_summary(hit.kind, card));
    let said = Said {
        kind: hit.kind,
        id: &id,
        commit: &commit_id(hit.manifest),
        issued: Some(hit.issued),
        created: Some(hit.created),
        labels: &labels.unwrap_or_default(),
    };
    let mut fields = said.fields();
    let library = hit.card.as_ref().and_then(|card| card.library.as_ref());
    if let (Kind::Space, Some(sdk)) = (hit.kind, library) {
        fields.insert("sdk".to_owned(), json!(sdk));
    }
    fields
}

/// What of a repo's files is wanted.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    card: bool,
    config: bool,
    siblings: bool,
}

impl Wanted {
    fn read(query: &Query) -> Wanted {
        let full = query.flag("full");
        let expand: Vec<&str> = query.all("expand").collect();
        Wanted {
            card: full || query.flag("cardData") || expand.contains(&"cardData"),
            config: query.flag("config") || expand.contains(&"config"),
            siblings: full && expand.is_empty() || expand.contains(&"siblings"),
        }
    }

    fn any(self) -> bool {
        self.card || self.config || self.siblings
    }
}

/// Which repos are wanted. `None`: such as nobody has.
fn ask_of(kind: Kind, query: &Query, library: &Library) -> Result<Option<SearchAsk>, Problem> {
    let sort = match query.first("sort").unwrap_or_default() {
        "lastModified" | "last_modified" => SearchSort::Modified,
        "createdAt" | "created_at" => SearchSort::Created,
        "num_parameters" => SearchSort::Parameters,
        "mainSize" => SearchSort::Size,
        "id" => SearchSort::Name,
        // Nobody counts in a swarm: what the user trusts comes first, and then what fits best or is newest.
        _ => SearchSort::Relevance,
    };
    let words: Vec<&str> = query.all("search").collect();
    let author = query.first("author");
    let ask = SearchAsk {
        words: words.join(" "),
        kind: Some(kind),
        publisher: author.and_then(|author| publisher(library, author)),
        task: query.first("pipeline_tag").map(str::to_owned),
        labels: labels(query)?,
        sort,
        ascending: match query.first("direction") {
            Some("-1") => false,
            Some("1") => true,
            _ => sort == SearchSort::Name,
        },
        limit: query.number("limit")?.unwrap_or(HITS_MAX).clamp(1, HITS_MAX),
        after: query.first("cursor").map(str::to_owned),
        ..SearchAsk::default()
    };
    let nobodys = query.flag("gated") || author.is_some() && ask.publisher.is_none();
    Ok((!nobodys).then_some(ask))
}

/// What repos are to be labelled with, all of it.
fn labels(query: &Query) -> Result<Vec<String>, Problem> {
    let mut labels = Vec::new();
    for (name, prefix) in [
        ("filter", ""),
        ("tags", ""),
        ("library", ""),
        ("language", "language:"),
        ("license", "license:"),
    ] {
        let values = query.all(name).flat_map(|values| values.split(','));
        let values = values.map(str::trim).filter(|value| !value.is_empty());
        labels.extend(values.map(|value| match value.starts_with(prefix) {
            true => value.to_lowercase(),
            false => format!("{prefix}{}", value.to_lowercase()),
        }));
    }
    if labels.len() > FILTERS_MAX {
        let found = labels.len();
        return Err(Problem::bad(format!(
            "{found} filters: a list takes {FILTERS_MAX} at most"
        )));
    }
    Ok(labels)
}

/// Who is called so: by an alias, a key, or as whoever runs this node.
fn publisher(library: &Library, author: &str) -> Option<Publisher> {
    if author == LOCAL {
        return Some(library.publisher());
    }
    let mut following = library.following().into_iter();
    let named = following.find(|follow| follow.alias.as_str().eq_ignore_ascii_case(author));
    named
        .map(|follow| follow.publisher)
        .or_else(|| author.parse().ok())
}
