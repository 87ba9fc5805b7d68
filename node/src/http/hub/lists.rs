//! The repos of a kind that this node knows, searched, filtered, sorted and in pages.
//!
//! An index of them is kept. It is made again when the catalog changed, and reads only the cards of what is new.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::request::Parts;
use axum::response::Response;
use futures::StreamExt;
use futures::stream;
use protocol::{Alias, Hash, Kind, Manifest, Publisher, RepoId, manifest::commit_id};
use serde_json::Value;

use super::Hub;
use super::card::{Labels, Object};
use super::info::{Said, add_heads, only, siblings};
use super::problem::Problem;
use super::query::{self, Query};
use crate::catalog::RepoRow;
use crate::library::{Library, LibraryError};
use crate::store::StoreError;

/// Repos in one answer.
const PAGE_MAX: usize = 1_000;
/// Files listed in one answer, of all its repos together: a page ends early where they are more.
const PAGE_FILES_MAX: usize = 50_000;
/// Rows read from the catalog at a time.
const ROWS: usize = 1_000;
/// Cards that are read at once.
const READERS: usize = 16;
/// How long an answer waits for cards to be read. Those left over are read for the next ones.
const READING: Duration = Duration::from_secs(2);

/// What is known of all repos.
#[derive(Default)]
pub(super) struct Index {
    /// Of which state of the catalog; `None` where not every card was read.
    version: Option<(u64, u64)>,
    repos: HashMap<RepoId, Arc<Known>>,
}

/// What is known of a repo.
struct Known {
    repo: RepoId,
    state: State,
    kind: Kind,
    issued: u64,
    created: u64,
    /// `None`: its card was not looked for yet.
    labels: Option<Labels>,
}

/// What a card was read of: while it is the same, the card is not read again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    release: Hash,
    manifest: Hash,
    /// Whether all files are here; `None` where the manifest is not.
    complete: Option<bool>,
}

impl Hub {
    /// Lists the repos of a kind.
    pub(super) async fn list(&self, kind: Kind, head: &Parts) -> Result<Response, Problem> {
        let query = Query::of(head);
        let wanted = Wanted::read(&query)?;
        let index = self.index().await?;
        let library = self.node().library();
        let near = library.near().into_iter();
        let aliases: HashMap<Publisher, Alias> = near
            .filter_map(|key| Some((key, library.alias_of(key)?)))
            .collect();
        let denials = library.denials();
        let is_open = |known: &Known| {
            let state = Some(known.state.manifest);
            denials.check(Some(&known.repo), state).is_ok()
        };
        let known = index.repos.values();
        let known = known.filter(|known| known.kind == kind && is_open(known));
        // Not the same name again under the key that its publisher had before.
        let known = known.filter(|known| library.newest(&known.repo) == known.repo);
        let mut found: Vec<(Place, &Known)> = known
            .map(|known| (wanted.place(shown_id(&known.repo, &aliases), known), &**known))
            .filter(|(place, known)| wanted.fits(&place.id, known))
            .collect();
        found.sort_unstable_by(|(a, _), (b, _)| wanted.order(a, b));
        let begin = match &wanted.after {
            Some(after) => found.partition_point(|(place, _)| wanted.order(place, after).is_le()),
            None => 0,
        };
        let rest = &found[begin..];
        let mut listed: Vec<Value> = Vec::new();
        let mut files = 0;
        for (place, known) in rest.iter().take(wanted.limit) {
            let (fields, count) = self.entry(&place.id, known, &wanted).await;
            files += count;
            if files > PAGE_FILES_MAX && !listed.is_empty() {
                break;
            }
            listed.push(only(fields, &query).into());
        }
        let last = listed.len().checked_sub(1).and_then(|last| rest.get(last));
        let next = last.filter(|_| listed.len() < rest.len());
        let next = next.map(|(place, _)| query.with("cursor", &place.to_string()));
        Ok(query::page(head, head.uri.path(), next, query::json(listed)))
    }

    /// A repo as a list gives it, and how many files are named in it.
    async fn entry(&self, id: &str, known: &Known, wanted: &Wanted) -> (Object, usize) {
        let none = Labels::default();
        let said = Said {
            kind: known.kind,
            id,
            commit: &commit_id(known.state.manifest),
            issued: Some(known.issued),
            created: Some(known.created),
            labels: known.labels.as_ref().unwrap_or(&none),
        };
        let mut fields = said.fields();
        if !(wanted.siblings || wanted.card || wanted.config) {
            return (fields, 0);
        }
        let Some(manifest) = self.listed_manifest(known).await else {
            return (fields, 0);
        };
        if wanted.card || wanted.config {
            let heads = self.heads(&manifest).await;
            add_heads(&mut fields, &heads, wanted.card, wanted.config);
        }
        if !wanted.siblings {
            return (fields, 0);
        }
        fields.insert("siblings".to_owned(), siblings(&manifest, false));
        (fields, manifest.files().len())
    }

    async fn listed_manifest(&self, known: &Known) -> Option<Arc<Manifest>> {
        known.state.complete?;
        self.manifest_here(known.state.manifest).await
    }

    /// The index of the catalog as it is now.
    async fn index(&self) -> Result<Arc<Index>, Problem> {
        let mut held = self.0.facts.index.lock().await;
        let library = self.node().library().clone();
        let version = library.catalog().version();
        if held.version == Some(version) {
            return Ok(held.clone());
        }
        let rows = tokio::task::spawn_blocking(move || rows(&library)).await;
        let rows = rows.map_err(|_| StoreError::Closed)??;
        let (old, until) = (held.clone(), Instant::now() + READING);
        let known = stream::iter(rows).map(|(repo, row, state)| {
            let old = old.repos.get(&repo).cloned();
            async move {
                match old.filter(|old| old.state == state && old.labels.is_some()) {
                    Some(old) => old,
                    None => Arc::new(self.known(repo, &row, state, until).await),
                }
            }
        });
        let known: Vec<Arc<Known>> = known.buffered(READERS).collect().await;
        let whole = known.iter().all(|known| known.labels.is_some());
        let repos = known.into_iter().map(|known| (known.repo.clone(), known));
        *held = Arc::new(Index {
            version: whole.then_some(version),
            repos: repos.collect(),
        });
        Ok(held.clone())
    }

    async fn known(&self, repo: RepoId, row: &RepoRow, state: State, until: Instant) -> Known {
        let mut known = Known {
            repo,
            state,
            kind: row.kind,
            issued: row.issued,
            created: row.issued,
            labels: None,
        };
        if Instant::now() > until {
            return known;
        }
        if row.seq > 1
            && let Ok(history) = self.history(&known.repo).await
        {
            let issued = history.iter().map(|release| release.release().issued);
            known.created = issued.min().unwrap_or(row.issued).min(row.issued);
        }
        known.labels = Some(match self.listed_manifest(&known).await {
            Some(manifest) => self.heads(&manifest).await.labels(known.kind, &manifest),
            None => Labels::default(),
        });
        known
    }
}

/// All repos in the catalog. Blocking.
fn rows(library: &Library) -> Result<Vec<(RepoId, RepoRow, State)>, LibraryError> {
    let catalog = library.catalog();
    let mut rows = Vec::new();
    let mut after: Option<RepoId> = None;
    loop {
        let page = catalog.repos(after.as_ref(), ROWS)?;
        let Some((last, _)) = page.last() else {
            return Ok(rows);
        };
        after = Some(last.clone());
        for (repo, row) in page {
            let state = State {
                release: row.release_hash,
                manifest: row.manifest,
                complete: catalog.manifest(row.manifest)?.map(|row| row.complete),
            };
            rows.push((repo, row, state));
        }
    }
}

/// What a user here calls a repo.
fn shown_id(repo: &RepoId, aliases: &HashMap<Publisher, Alias>) -> String {
    match aliases.get(&repo.publisher) {
        Some(alias) => format!("{alias}/{}", repo.name),
        None => repo.to_string(),
    }
}

/// What a list sorts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Modified,
    Created,
    Name,
}

/// Which repos are wanted, and what of them.
#[derive(Debug)]
struct Wanted {
    words: Vec<String>,
    author: Option<String>,
    tags: Vec<String>,
    pipeline: Option<String>,
    gated: bool,
    sort: Sort,
    ascending: bool,
    limit: usize,
    after: Option<Place>,
    card: bool,
    config: bool,
    siblings: bool,
}

impl Wanted {
    fn read(query: &Query) -> Result<Wanted, Problem> {
        let lower = |text: &str| text.to_lowercase();
        let words = query.all("search").flat_map(str::split_whitespace);
        let tags = query.all("filter").chain(query.all("library"));
        let tags = tags.flat_map(|tags| tags.split(',')).map(str::trim);
        let sort = match query.first("sort").unwrap_or_default() {
            "createdAt" | "created_at" => Sort::Created,
            "id" => Sort::Name,
            // Of everything else there is the same of all: the newest come first.
            _ => Sort::Modified,
        };
        let ascending = match query.first("direction") {
            Some("-1") => false,
            Some("1") => true,
            _ => sort == Sort::Name,
        };
        let limit = query.number("limit")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let after = query.first("cursor").map(|text| {
            Place::read(text)
                .ok_or_else(|| Problem::bad("the cursor is none that was given: list from the start"))
        });
        let full = query.flag("full");
        let expand: Vec<&str> = query.all("expand").collect();
        Ok(Wanted {
            words: words.map(lower).collect(),
            author: query.first("author").map(lower),
            tags: tags.filter(|tag| !tag.is_empty()).map(lower).collect(),
            pipeline: query.first("pipeline_tag").map(lower),
            gated: query.flag("gated"),
            sort,
            ascending,
            limit,
            after: after.transpose()?,
            card: full || query.flag("cardData") || expand.contains(&"cardData"),
            config: query.flag("config") || expand.contains(&"config"),
            siblings: full && expand.is_empty() || expand.contains(&"siblings"),
        })
    }

    fn fits(&self, id: &str, known: &Known) -> bool {
        let id = id.to_lowercase();
        let owner = id.split_once('/').map_or(id.as_str(), |(owner, _)| owner);
        let author = |author: &String| owner == author || known.repo.publisher.to_string() == *author;
        let none = Labels::default();
        let labels = known.labels.as_ref().unwrap_or(&none);
        let is_for = |task: &String| {
            labels
                .pipeline_tag
                .as_ref()
                .is_some_and(|tag| tag.to_lowercase() == *task)
        };
        !self.gated
            && self.words.iter().all(|word| id.contains(word))
            && self.author.as_ref().is_none_or(author)
            && self.pipeline.as_ref().is_none_or(is_for)
            && self.tags.iter().all(|tag| labels.has(tag))
    }

    /// Where a repo stands in the list.
    fn place(&self, id: String, known: &Known) -> Place {
        let number = match self.sort {
            Sort::Modified => known.issued,
            Sort::Created => known.created,
            Sort::Name => 0,
        };
        Place { number, id }
    }

    /// Which of two places comes first. Equal times go by their ids, so that every page goes on where the last one ended.
    fn order(&self, a: &Place, b: &Place) -> Ordering {
        let turned = |order: Ordering| match self.ascending {
            true => order,
            false => order.reverse(),
        };
        match self.sort {
            Sort::Name => turned(a.id.cmp(&b.id)),
            Sort::Modified | Sort::Created => turned(a.number.cmp(&b.number)).then(a.id.cmp(&b.id)),
        }
    }
}

/// A place in a list. Text: `NUMBER:ID`, which is the cursor of what comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    number: u64,
    id: String,
}

impl Place {
    fn read(text: &str) -> Option<Place> {
        let (number, id) = text.split_once(':')?;
        Some(Place {
            number: number.parse().ok()?,
            id: id.to_owned(),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.id)
    }
}
