//! What a repo was made from, what was made from it, and what else was made from the same, by what their cards say.

use protocol::{Hash, RepoId, RepoRef};
use serde::{Deserialize, Serialize};

use super::{
    Discovery,
    searching::{FindError, Hit, SearchAsk, SearchSort},
};
use crate::{catalog::KnownRow, library::LibraryError};

/// Repos of one relation that are shown.
const SHOWN_MAX: usize = 20;
/// Generations before a repo that are looked for: cards may go round in circles.
const GENERATIONS_MAX: usize = 8;

/// The relatives of a repo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// The repo.
    pub repo: Hit,
    /// What it was made from, and what that was, the nearest first.
    pub bases: Vec<Base>,
    /// What was made from it.
    pub made_from_it: Vec<Hit>,
    /// What else was made from what it was made from.
    pub siblings: Vec<Hit>,
}

/// Something that a repo was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// What the card calls it.
    pub name: String,
    /// How it was made from that, in the Hub's words: `finetune`, `quantized`.
    pub relation: Option<String>,
    /// How many generations before: 1 is what it was made from.
    pub generation: usize,
    /// The repo of that name, or the copy of it, that is known; of several the one that a search shows first.
    pub hit: Option<Hit>,
}

impl Discovery {
    /// The relatives of a repo that is known; `None`: it is not. Blocking.
    ///
    /// # Errors
    /// As [`Discovery::search`].
    pub fn lineage(&self, repo: &RepoId) -> Result<Option<Lineage>, FindError> {
        let Some(row) = self.known(repo)? else {
            return Ok(None);
        };
        let mut bases: Vec<Base> = Vec::new();
        let mut of = row.card.clone().map(|card| (card.base_model, card.base_relation));
        for generation in 1..=GENERATIONS_MAX {
            let Some((names, relation)) = of.take() else { break };
            let mut next = None;
            for name in names {
                if bases.iter().any(|base| base.name == name) {
                    continue;
                }
                let hit = self.called(&name)?;
                let card = hit.as_ref().and_then(|hit| hit.card.clone());
                next = next.or(card.map(|card| (card.base_model, card.base_relation)));
                let relation = relation.clone();
                bases.push(Base {
                    name,
                    relation,
                    generation,
                    hit,
                });
            }
            of = next;
        }
        let mut made_from_it: Vec<Hit> = Vec::new();
        for name in names_of(&row) {
            add(&mut made_from_it, self.made_from(&name)?, &[repo]);
        }
        let mut siblings = Vec::new();
        for base in bases.iter().filter(|base| base.generation == 1) {
            add(&mut siblings, self.made_from(&base.name)?, &[repo]);
        }
        Ok(Some(Lineage {
            repo: self.hit(row)?,
            bases,
            made_from_it,
            siblings,
        }))
    }

    /// The relatives of what a reference names. Blocking.
    ///
    /// # Errors
    /// [`LibraryError::Unknown`] where no release of it is known; and as [`Discovery::search`].
    pub fn relatives(&self, what: &RepoRef) -> Result<Lineage, FindError> {
        let repo = self.library().repo_of(what)?;
        let lineage = match &repo {
            Some(repo) => self.lineage(repo)?,
            None => None,
        };
        Ok(lineage.ok_or_else(|| LibraryError::Unknown(what.clone()))?)
    }

    /// What says that it was made from this.
    fn made_from(&self, name: &str) -> Result<Vec<Hit>, FindError> {
        let ask = SearchAsk {
            base: Some(name.to_owned()),
            limit: SHOWN_MAX,
            ..SearchAsk::default()
        };
        Ok(self.search(&ask)?.hits)
    }

    /// The repo that a card means by a name: one of ours or a stranger's by its full id, or a copy of what bears the name on another hub.
    fn called(&self, name: &str) -> Result<Option<Hit>, FindError> {
        if let Ok(id) = name.parse::<RepoId>()
            && let Some(row) = self.known(&id)?
        {
            return Ok(Some(self.hit(row)?));
        }
        let ask = SearchAsk {
            words: name.replace('/', " "),
            sort: SearchSort::Relevance,
            limit: SHOWN_MAX,
            ..SearchAsk::default()
        };
        let found = self.search(&ask)?.hits.into_iter();
        let mut copies = found.filter(|hit| {
            hit.upstream
                .as_ref()
                .is_some_and(|upstream| upstream.repo == name)
        });
        Ok(copies.next())
    }
}

/// What cards may call a repo.
fn names_of(row: &KnownRow) -> Vec<String> {
    let upstream = row
        .release
        .upstream
        .as_ref()
        .map(|upstream| upstream.repo.clone());
    [row.release.repo().to_string()]
        .into_iter()
        .chain(upstream)
        .collect()
}

/// Adds what is not there yet: neither the repo nor what has the same content as another.
fn add(to: &mut Vec<Hit>, more: Vec<Hit>, without: &[&RepoId]) {
    for hit in more {
        let same = |manifest: Hash| to.iter().any(|known| known.manifest == manifest);
        if to.len() < SHOWN_MAX && !without.contains(&&hit.repo) && !same(hit.manifest) {
            to.push(hit);
        }
    }
}
