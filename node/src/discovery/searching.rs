//! Finding repos among what is known, offline: the search index, kept up with the catalog, and what is said of each hit.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{Alias, Hash, Kind, Publisher, RepoId, Summary, Upstream};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Discovery, alike::KnownNames};
use crate::{
    catalog::{KnownRow, NameKey, name_key},
    denials::Why,
    library::{Library, LibraryError, now},
    search::{Fact, Favoured, Index, Query, SearchError, State as Opened},
};

/// Rows that are read and put into the index at a time.
const ROWS: usize = 1_000;
/// How old the index may be, at most, where little came since: searches see the rest.
const FRESH: Duration = Duration::from_millis(300);
/// How long what the user trusts is remembered: who follows somebody sees it in the next search but a few.
const FAVOUR_KEPT: Duration = Duration::from_secs(2);
/// Hits of a page, unless somebody says.
const HITS: usize = 20;
/// Pages that are looked through for one, where most of what is found is denied.
pub(super) const ROUNDS_MAX: usize = 16;
/// Hits of a page, at most.
pub const HITS_MAX: usize = 1_000;

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchAsk {
    /// Words that all have to be there; the last one may be a beginning.
    pub words: String,
    /// Only models, datasets or spaces.
    pub kind: Option<Kind>,
    /// Only of this publisher, by any of its keys.
    pub publisher: Option<Publisher>,
    /// Only for this task: `text-generation`.
    pub task: Option<String>,
    /// Only under this licence: `apache-2.0`.
    pub license: Option<String>,
    /// Only for this library: `transformers`.
    pub library: Option<String>,
    /// Only in this language: `en`.
    pub language: Option<String>,
    /// Only with all of these tags.
    pub tags: Vec<String>,
    /// Only with all of these, each as the Hub labels repos: `license:mit`, `language:en`, `base_model:OWNER/NAME`, or a word alone, which is a tag, a
    /// library, a format, a language or a task.
    pub labels: Vec<String>,
    /// Only with files of this format: `gguf`.
    pub format: Option<String>,
    /// Only what was made from this: `OWNER/NAME`.
    pub base: Option<String>,
    /// Only with weights of this type: `BF16`.
    pub dtype: Option<String>,
    /// Only what has so many bytes at most.
    pub max_size: Option<u64>,
    /// What comes first.
    pub sort: SearchSort,
    /// The smallest, the oldest or A first.
    pub ascending: bool,
    /// Hits, at most [`HITS_MAX`]; 0: 20.
    pub limit: usize,
    /// The cursor of the page before.
    pub after: Option<String>,
    /// Whether others are asked who has the hits, for up to 5 seconds; only a running node can.
    pub sources: bool,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchSort {
    /// What followed publishers released, then what was reproduced, then what fits best.
    #[default]
    Relevance,
    /// What was released last.
    Modified,
    /// What was first seen last: by its first known release.
    Created,
    /// What is largest.
    Size,
    /// What has most parameters.
    Parameters,
    /// By name.
    Name,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchAnswer {
    /// The hits of this page.
    pub hits: Vec<Hit>,
    /// How many there are on all pages, with what is denied.
    pub total: u64,
    /// How many were left out before the end of this page because they are denied.
    pub denied: u64,
    /// What to ask for the next page with; `None`: there is none.
    pub next: Option<String>,
    /// Nothing had these words: one letter may differ.
    pub fuzzy: bool,
    /// How many releases are known at all.
    pub known: u64,
    /// Whether others were asked who has the hits.
    #[serde(default)]
    pub asked: bool,
}

/// A repo that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Its name.
    pub repo: RepoId,
    /// What its publisher is called here; `None`: it is not followed.
    pub alias: Option<Alias>,
    /// Whether we released it.
    pub ours: bool,
    /// What it is.
    pub kind: Kind,
    /// Its newest known revision.
    pub manifest: Hash,
    /// The number of its release.
    pub seq: u64,
    /// When that was signed, in Unix seconds.
    pub issued: u64,
    /// When the first release of it that was seen here was signed, likewise.
    #[serde(default)]
    pub created: u64,
    /// Whether it should have been replaced by now.
    pub stale: bool,
    /// Why the key that signed it was revoked; `None`: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// What it is a copy of.
    pub upstream: Option<Upstream>,
    /// What its card says.
    pub card: Option<Summary>,
    /// Whether all of it is here.
    pub here: bool,
    /// Nodes that are known to have it, this one among them; where nobody was asked, those that it was fetched from.
    pub sources: u64,
    /// Keys that the user follows and that reproduced it.
    pub reproduced: u64,
    /// Keys that the user follows and that found something else.
    pub disagree: u64,
    /// A repo of somebody who is followed, for which this one could be taken.
    pub looks_like: Option<String>,
    /// Why it is denied here, if it is; no search finds it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Why>,
}

/// Why nothing could be looked for.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The cursor is none that came with a page.
    #[error("cursor {0:?} is none that came with a page")]
    Cursor(String),
    /// The index.
    #[error("the search index")]
    Index(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is known.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl From<SearchError> for FindError {
    fn from(error: SearchError) -> FindError {
        FindError::Index(Box::new(error))
    }
}

/// Whom the user trusts, as of a moment.
#[derive(Default)]
pub(super) struct Trust {
    since: Option<Instant>,
    followed: HashMap<Publisher, Alias>,
    reproduced: Vec<NameKey>,
    favoured: Arc<Favoured>,
    /// The repos of those who are followed.
    known: KnownNames,
}

/// Opens the index, and puts everything into one that is new, a minute for a million. Returns with it the largest number that is in it. Blocking.
pub(super) fn open(library: &Library) -> Result<(Index, u64), LibraryError> {
    let folder = library.data().join("search");
    let of_index = |error: SearchError| LibraryError::Search(Box::new(error));
    let opened = Index::open(&folder).map_err(of_index)?;
    let index = opened.index;
    let upto = match opened.state {
        Opened::Good { upto } => Ok(upto),
        Opened::Missing | Opened::Other | Opened::Damaged { .. } => fill(library, &index),
    };
    let upto = upto.map_err(|error| match error {
        FindError::Library(error) => error,
        error => LibraryError::Search(Box::new(error)),
    })?;
    Ok((index, upto))
}

/// Puts everything in, and returns the largest number.
fn fill(library: &Library, index: &Index) -> Result<u64, FindError> {
    let (mut after, mut upto, mut count) = (None, 0, 0u64);
    loop {
        let page = library
            .catalog()
            .knowns(after, ROWS)
            .map_err(LibraryError::from)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        let rows: Vec<KnownRow> = page.into_iter().map(|(_, row)| row).collect();
        upto = rows.iter().map(|row| row.arrived).fold(upto, u64::max);
        count += rows.len() as u64;
        index.add(&rows)?;
    }
    let upto = upto.max(1);
    index.commit(upto)?;
    if count > 0 {
        info!(releases = count, "the search index was filled");
    }
    Ok(upto)
}

/// Puts rows in as they are now, and has searches see them.
fn put(library: &Library, index: &Index, keys: &[NameKey], upto: u64) -> Result<(), FindError> {
    if keys.is_empty() {
        return Ok(());
    }
    for keys in keys.chunks(ROWS) {
        let mut rows = Vec::new();
        for key in keys {
            rows.extend(library.catalog().known(*key).map_err(LibraryError::from)?);
        }
        index.put(&rows)?;
    }
    Ok(index.commit(upto)?)
}

impl Discovery {
    /// Has searches see what was taken in. Blocking, for tens of milliseconds.
    pub(crate) fn catch_up(&self) {
        let closed = self.indexing();
        if *closed {
            return;
        }
        let (keys, upto) = {
            let mut state = self.state();
            let upto = state.behind.unwrap_or(state.arrived.saturating_sub(1));
            state.indexed = Instant::now();
            (std::mem::take(&mut state.unindexed), upto)
        };
        if let Err(error) = put(&self.0.library, &self.0.index, &keys, upto) {
            warn!(
                error = &error as &dyn std::error::Error,
                "the search index is filled anew"
            );
            let anew = self.0.index.clear().map_err(FindError::from);
            if let Err(error) = anew.and_then(|()| fill(&self.0.library, &self.0.index).map(drop)) {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the search index cannot be filled"
                );
            }
        }
    }

    /// The names of a publisher, as far as searches see them. Blocking.
    pub(super) fn names_of(&self, publisher: Publisher) -> Result<Vec<NameKey>, LibraryError> {
        let mut query = Query {
            facts: vec![Fact::Publisher(publisher)],
            sort: crate::search::Sort::Name,
            ascending: true,
            limit: HITS_MAX,
            ..Query::default()
        };
        let mut names = Vec::new();
        loop {
            let page = self.0.index.search(&query, &Arc::default());
            let page = page.map_err(|error| LibraryError::Search(Box::new(error)))?;
            names.extend(page.hits);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(names),
            }
        }
    }

    /// The same where it is worth it before a search: what came is not much, and was not put in a moment ago. Else the node does it soon.
    fn freshen(&self) {
        let worth = {
            let state = self.state();
            (1..=ROWS).contains(&state.unindexed.len()) && state.indexed.elapsed() >= FRESH
        };
        // Whoever writes it now may be at it for long.
        let is_free = worth && self.0.indexing.try_lock().is_ok();
        if is_free {
            self.catch_up();
        }
    }

    /// How many names of a publisher searches see. Blocking.
    pub(super) fn names_found(&self, publisher: Publisher) -> Result<u32, LibraryError> {
        let query = Query {
            facts: vec![Fact::Publisher(publisher)],
            sort: crate::search::Sort::Name,
            limit: 1,
            ..Query::default()
        };
        let page = self.0.index.search(&query, &Arc::default());
        let page = page.map_err(|error| LibraryError::Search(Box::new(error)))?;
        Ok(u32::try_from(page.total).unwrap_or(u32::MAX))
    }

    /// Looks for repos; what is denied is left out. Blocking.
    pub fn search(&self, ask: &SearchAsk) -> Result<SearchAnswer, FindError> {
        self.freshen();
        let after = ask.after.as_ref().map(|after| {
            let wrong = |_| FindError::Cursor(after.clone());
            after.parse().map_err(wrong)
        });
        let mut facts = Vec::new();
        facts.extend(ask.kind.map(Fact::Kind));
        facts.extend(ask.task.clone().map(Fact::Task));
        facts.extend(ask.license.clone().map(Fact::License));
        facts.extend(ask.library.clone().map(Fact::Library));
        facts.extend(ask.language.clone().map(Fact::Language));
        facts.extend(ask.tags.iter().cloned().map(Fact::Tag));
        facts.extend(ask.format.clone().map(Fact::Format));
        facts.extend(ask.base.clone().map(Fact::Base));
        facts.extend(ask.dtype.clone().map(Fact::Dtype));
        let mut any: Vec<Vec<Fact>> = ask.labels.iter().map(|label| meanings(label)).collect();
        any.extend(ask.publisher.map(|publisher| self.keys_of(publisher)));
        let mut query = Query {
            text: ask.words.clone(),
            facts,
            any,
            bytes: (None, ask.max_size),
            sort: ask.sort.into(),
            ascending: ask.ascending,
            limit: if ask.limit == 0 {
                HITS
            } else {
                ask.limit.min(HITS_MAX)
            },
            after: after.transpose()?,
            now: now(),
            ..Query::default()
        };
        let favoured = self.trust()?;
        let (mut hits, mut denied, limit) = (Vec::new(), 0, query.limit);
        let mut rounds = 0;
        let page = loop {
            let page = self.0.index.search(&query, &favoured)?;
            for key in &page.hits {
                // What is gone since the index was written is passed over.
                let Some(row) = self.0.library.catalog().known(*key).map_err(LibraryError::from)? else {
                    continue;
                };
                let repo = row.release.repo();
                if self.withholds(&row) {
                    denied += 1;
                // Else it is the same name under the key that its publisher had before.
                } else if self.0.library.newest(&repo) == repo {
                    hits.push(self.hit(row)?);
                }
            }
            (query.limit, rounds) = (limit - hits.len(), rounds + 1);
            // What comes after it takes the place of what is denied.
            match page.next {
                Some(next) if query.limit > 0 && rounds < ROUNDS_MAX => query.after = Some(next),
                _ => break page,
            }
        };
        Ok(SearchAnswer {
            hits,
            total: page.total,
            denied,
            next: page.next.map(|next| next.to_string()),
            fuzzy: page.fuzzy,
            known: self.len() as u64,
            asked: false,
        })
    }

    /// Whoever signs as this publisher, or did.
    fn keys_of(&self, publisher: Publisher) -> Vec<Fact> {
        let standing = self.0.library.standing_of(publisher);
        let keys = standing.steps.iter().map(|step| step.key);
        let others = keys.filter(|key| *key != publisher);
        [publisher]
            .into_iter()
            .chain(others)
            .map(Fact::Publisher)
            .collect()
    }

    /// What is said of a hit.
    pub(super) fn hit(&self, row: KnownRow) -> Result<Hit, LibraryError> {
        let library = &self.0.library;
        let release = row.release;
        let repo = release.repo();
        let denied = library.denials().check(Some(&repo), Some(release.manifest)).err();
        let here = library.catalog().manifest(release.manifest)?;
        let here = here.is_some_and(|row| row.complete);
        let standing = library.standing(release.manifest).unwrap_or_default();
        let sources = library.catalog().providers(release.manifest)?.len() as u64;
        let alias = library.alias_of(repo.publisher);
        let ours = library.is_ours(repo.publisher);
        let looks_like = match alias.is_none() && !ours {
            true => self
                .0
                .trust
                .lock()
                .expect("nothing panics while it holds this")
                .known
                .like(&repo.name),
            false => None,
        };
        Ok(Hit {
            alias,
            ours,
            kind: release.kind,
            manifest: release.manifest,
            seq: release.seq,
            issued: release.issued,
            created: row.created,
            stale: release.expires < now(),
            revoked: library.revocation_of(repo.publisher),
            upstream: release.upstream,
            card: row.card,
            here,
            sources: sources + u64::from(here),
            reproduced: standing.reproduced,
            disagree: standing.disagree,
            looks_like,
            denied: denied.map(|why| *why),
            repo,
        })
    }

    /// Has the next search look anew at whom the user trusts.
    pub(super) fn forget_trust(&self) {
        self.0
            .trust
            .lock()
            .expect("nothing panics while it holds this")
            .since = None;
    }

    /// Whom the user trusts, no older than a moment.
    fn trust(&self) -> Result<Arc<Favoured>, LibraryError> {
        let mut trust = self.0.trust.lock().expect("nothing panics while it holds this");
        if trust.since.is_some_and(|since| since.elapsed() < FAVOUR_KEPT) {
            return Ok(trust.favoured.clone());
        }
        let library = &self.0.library;
        let following = library.following().into_iter();
        let followed: HashMap<Publisher, Alias> = following
            .map(|follow| (follow.publisher, follow.alias))
            .chain([(library.publisher(), own_alias())])
            // Nobody who has a revoked key is to come first.
            .filter(|(publisher, _)| library.revocation_of(*publisher).is_none())
            .collect();
        trust.known = KnownNames::of(library);
        let mut reproduced = Vec::new();
        for manifest in library.attestations().manifests() {
            if library
                .standing(manifest)
                .is_ok_and(|standing| standing.reproduced > 0)
                && let Some(row) = library.catalog().manifest(manifest)?
            {
                reproduced.extend(row.names.iter().map(name_key));
            }
        }
        reproduced.sort_unstable();
        reproduced.dedup();
        if trust.since.is_none() || trust.followed != followed || trust.reproduced != reproduced {
            let favoured = Favoured::new(followed.keys().copied(), reproduced.iter().copied());
            trust.favoured = Arc::new(favoured);
            trust.followed = followed;
            trust.reproduced = reproduced;
        }
        trust.since = Some(Instant::now());
        Ok(trust.favoured.clone())
    }
}

/// What a label of the Hub's says of a release: one of these.
fn meanings(label: &str) -> Vec<Fact> {
    let tag = Fact::Tag(label.to_owned());
    let words: [fn(String) -> Fact; 4] = [Fact::Library, Fact::Format, Fact::Language, Fact::Task];
    match label.split_once(':') {
        Some(("license", value)) => vec![tag, Fact::License(value.to_owned())],
        Some(("language", value)) => vec![tag, Fact::Language(value.to_owned())],
        Some(("base_model", value)) => vec![tag, Fact::Base(value.to_owned())],
        // `dataset:` and others are parts of tags.
        Some(_) => vec![tag],
        None => [tag]
            .into_iter()
            .chain(words.map(|fact| fact(label.to_owned())))
            .collect(),
    }
}

fn own_alias() -> Alias {
    Alias::new("local").expect("a short word is an alias")
}

impl From<SearchSort> for crate::search::Sort {
    fn from(sort: SearchSort) -> crate::search::Sort {
        use crate::search::Sort;
        match sort {
            SearchSort::Relevance => Sort::Relevance,
            SearchSort::Modified => Sort::Modified,
            SearchSort::Created => Sort::Created,
            SearchSort::Size => Sort::Bytes,
            SearchSort::Parameters => Sort::Parameters,
            SearchSort::Name => Sort::Name,
        }
    }
}
