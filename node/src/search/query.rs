//! What is asked, and what comes back. Questions come from strangers: they are cut into words by us, and no sign in them means anything.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use protocol::{Kind, Publisher};
use serde::{Deserialize, Serialize};
use tantivy::Term;
use tantivy::query::{AllQuery, BooleanQuery, ConstScoreQuery, FuzzyTermQuery, Occur, TermQuery};
use tantivy::schema::IndexRecordOption;

use super::prefix::PrefixQuery;
use super::schema::Fields;
use super::words::{self, Asked};
use crate::catalog::NameKey;

/// Longest text of a question, in bytes; what is behind it is not read.
pub const TEXT_LEN_MAX: usize = 512;

/// Most words of a question; those behind are not looked for.
pub const WORDS_MAX: usize = 8;

/// Most facts of a question; with more it finds nothing that it should, so it is refused.
pub const FACTS_MAX: usize = 32;

/// Most hits of a page.
pub const PAGE_MAX: usize = 1_000;

/// Longest cursor, in characters: one that is sorted by the longest name has 190.
const CURSOR_LEN_MAX: usize = 256;

/// Fewest letters of a word that is completed while it is typed: with one, everything would be found.
const PREFIX_LEN_MIN: usize = 2;

/// Releases that a word is in from which on it is not completed: it is one that people use, and what else begins so would come behind it.
const PREFIX_BELOW: u64 = 1_000;

/// Fewest letters of a word in which a slip is forgiven.
const FUZZY_LEN_MIN: usize = 4;

/// What a word counts beyond its parts where they stand together.
const WHOLE_BOOST: f32 = 0.5;

/// Something that is so or not so of a release. Values are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// It is a model, a dataset or a space.
    Kind(Kind),
    /// It is this publisher's.
    Publisher(Publisher),
    /// Its task: `text-generation`.
    Task(String),
    /// Its licence: `apache-2.0`.
    License(String),
    /// The library that reads it: `transformers`.
    Library(String),
    /// One of its languages: `en`.
    Language(String),
    /// One of its tags.
    Tag(String),
    /// One of its formats: `gguf`.
    Format(String),
    /// One of the models it was made of: `meta-llama/Llama-3.1-8B`.
    Base(String),
    /// The type of its numbers: `bf16`.
    Dtype(String),
}

/// What hits are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Sort {
    /// Followed publishers first, then what was reproduced, then how well the words fit and how new it is; without words, the newest first.
    #[default]
    Relevance,
    /// When it was issued.
    Modified,
    /// When the first release of its name that is known was issued.
    Created,
    /// The size of all files together. Unknown ones come last.
    Bytes,
    /// How many numbers it has. Unknown ones come last.
    Parameters,
    /// The name, without regard to case.
    Name,
}

/// The least and the largest that a number may be, where it matters.
pub type Within = (Option<u64>, Option<u64>);

/// A question. The default asks for everything.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words that all have to be there, in any order. The last one may be the beginning of a frequent word, unless it is one itself. At most [`TEXT_LEN_MAX`] bytes and [`WORDS_MAX`] words are read.
    pub text: String,
    /// What has to be so, at most [`FACTS_MAX`] together with `any`.
    pub facts: Vec<Fact>,
    /// Of each of these some fact has to be so.
    pub any: Vec<Vec<Fact>>,
    /// Least and largest size of all files, in bytes. One without a known size is outside.
    pub bytes: Within,
    /// Least and largest number of parameters. One without is outside.
    pub parameters: Within,
    /// What it is sorted by.
    pub sort: Sort,
    /// From the smallest, the oldest, or A; else from the largest, the newest, or Z. [`Sort::Relevance`] knows one direction.
    pub ascending: bool,
    /// How many hits, 1 to [`PAGE_MAX`].
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// Now, in Unix seconds: what is newer is worth a little more.
    pub now: u64,
}

/// One page of hits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys of the names found, in order.
    pub hits: Vec<NameKey>,
    /// How many there are on all pages.
    pub total: u64,
    /// Where the next page begins. `None`: this is the last.
    pub next: Option<Cursor>,
    /// Nothing had these words, so that words were found that differ from them by one letter.
    pub fuzzy: bool,
}

/// A place between two hits. Its text form is for a URL; it means something only with the same question. While the index stands still, pages
/// follow each other without gaps and repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub(super) rank: u64,
    pub(super) key: u128,
    /// Of [`Sort::Name`], in place of the rank.
    pub(super) name: Option<String>,
    pub(super) now: u64,
    pub(super) fuzzy: bool,
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cursor is not one that came with a page")]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = postcard::to_allocvec(self).map_err(|_| fmt::Error)?;
        f.write_str(&BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        if text.len() > CURSOR_LEN_MAX {
            return Err(CursorError);
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| CursorError)?;
        match postcard::take_from_bytes(&bytes) {
            Ok((cursor, [])) => Ok(cursor),
            Ok(_) | Err(_) => Err(CursorError),
        }
    }
}

type Clause = (Occur, Box<dyn tantivy::query::Query>);

/// A question in tantivy's terms.
pub(super) struct Compiled {
    pub(super) query: Box<dyn tantivy::query::Query>,
    /// It has words, by which hits have a score.
    pub(super) scored: bool,
}

impl Query {
    /// The question in tantivy's terms; `fuzzy` where a letter may differ. `count` tells in how many releases a word is.
    ///
    /// # Errors
    /// Those of `count`.
    pub(super) fn compile(
        &self,
        fields: &Fields,
        fuzzy: bool,
        count: impl Fn(&Term) -> tantivy::Result<u64>,
    ) -> tantivy::Result<Compiled> {
        let text = cut(&self.text);
        let asked = words::of_question(text, WORDS_MAX);
        let typing = words::ends_in_word(text) && asked.len() < WORDS_MAX;
        let mut clauses: Vec<Clause> = Vec::new();
        for (at, word) in asked.iter().enumerate() {
            if fuzzy {
                clauses.extend(fuzzy_clauses(fields, word));
                continue;
            }
            let could_go_on = typing && at + 1 == asked.len() && word.could_go_on();
            let goes_on = could_go_on && {
                let term = Term::from_field_text(fields.words, &word.whole);
                count(&term)? < PREFIX_BELOW
            };
            clauses.extend(word_clauses(fields, word, goes_on));
        }
        let scored = !clauses.is_empty();
        let is_so = |fact: &Fact| TermQuery::new(fields.fact_term(fact), IndexRecordOption::Basic);
        clauses.extend(self.facts.iter().map(|fact| filter(is_so(fact))));
        for facts in &self.any {
            let each = facts
                .iter()
                .map(|fact| -> Clause { (Occur::Should, Box::new(is_so(fact))) });
            clauses.push(filter(BooleanQuery::new(each.collect())));
        }
        let query: Box<dyn tantivy::query::Query> = match clauses.pop() {
            None => Box::new(AllQuery),
            // Alone it needs nobody to join it with others.
            Some((Occur::Must, only)) if clauses.is_empty() => only,
            Some(last) => {
                clauses.push(last);
                Box::new(BooleanQuery::new(clauses))
            }
        };
        Ok(Compiled { query, scored })
    }

    /// Whether a slip in one of the words could be forgiven.
    pub(super) fn could_be_fuzzy(&self) -> bool {
        let asked = words::of_question(cut(&self.text), WORDS_MAX);
        asked
            .iter()
            .any(|word| word.whole.chars().count() >= FUZZY_LEN_MIN)
    }
}

impl Asked {
    /// Whether it may be the beginning of a longer word.
    fn could_go_on(&self) -> bool {
        self.parts.len() == 1 && self.whole.chars().count() >= PREFIX_LEN_MIN
    }
}

/// The beginning of a text that is read.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_LEN_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn word_term(fields: &Fields, word: &str) -> TermQuery {
    TermQuery::new(
        Term::from_field_text(fields.words, word),
        IndexRecordOption::WithFreqs,
    )
}

fn word_clauses(fields: &Fields, word: &Asked, goes_on: bool) -> Vec<Clause> {
    let must = |word: &str| -> Clause { (Occur::Must, Box::new(word_term(fields, word))) };
    if word.parts.len() > 1 {
        let mut clauses: Vec<Clause> = word.parts.iter().map(|part| must(part)).collect();
        let whole = Box::new(word_term(fields, &word.whole));
        let whole = tantivy::query::BoostQuery::new(whole, WHOLE_BOOST);
        clauses.push((Occur::Should, Box::new(whole)));
        return clauses;
    }
    if !goes_on {
        return vec![must(&word.whole)];
    }
    let begun = PrefixQuery::new(fields.words, word.whole.clone());
    vec![(Occur::Must, Box::new(begun))]
}

fn fuzzy_clauses(fields: &Fields, word: &Asked) -> Vec<Clause> {
    let near = |word: &str| -> Clause {
        if word.chars().count() < FUZZY_LEN_MIN {
            return (Occur::Must, Box::new(word_term(fields, word)));
        }
        let term = Term::from_field_text(fields.words, word);
        (Occur::Must, Box::new(FuzzyTermQuery::new(term, 1, true)))
    };
    word.parts.iter().map(|part| near(part)).collect()
}

/// A clause that has to hold and counts nothing.
fn filter(query: impl tantivy::query::Query) -> Clause {
    let query = ConstScoreQuery::new(Box::new(query), 0.0);
    (Occur::Must, Box::new(query))
}
