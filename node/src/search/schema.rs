//! The fields of the index, and how a known release becomes a document. No text is stored: the catalog has it.

use protocol::{Kind, Publisher};
use tantivy::schema::{
    BytesOptions, FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::{TantivyDocument, Term};

use super::query::Fact;
use super::words;
use crate::catalog::{KnownRow, NameKey};

/// The version of what is in a document and of how texts are cut. Another one: the index is filled anew.
pub(super) const VERSION: u32 = 2;

/// How often a word of the name counts.
const NAME_WEIGHT: usize = 3;

/// How often a word counts that says what it is or of what it was made.
const TOPIC_WEIGHT: usize = 2;

/// Longest value of a fact that is indexed, in bytes: longer than any that a card may have.
const FACT_LEN_MAX: usize = 200;

/// The fields by their handles. The names serve the fast ones, which are opened by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The key of the name, 16 bytes: what is replaced and removed by.
    pub(super) key: Field,
    /// Words, of all texts together.
    pub(super) words: Field,
    /// Facts to filter by, as the bytes of [`Fact::term`].
    pub(super) facts: Field,
    key_high: Field,
    key_low: Field,
    issued: Field,
    created: Field,
    bytes: Field,
    parameters: Field,
    name: Field,
}

/// Names of the fast fields.
pub(super) const KEY_HIGH: &str = "key_high";
pub(super) const KEY_LOW: &str = "key_low";
pub(super) const ISSUED: &str = "issued";
pub(super) const CREATED: &str = "created";
pub(super) const BYTES: &str = "bytes";
pub(super) const PARAMETERS: &str = "parameters";
pub(super) const NAME: &str = "name";

impl Fields {
    /// The schema and its fields.
    pub(super) fn build() -> (Schema, Fields) {
        let mut schema = Schema::builder();
        let words = TextFieldIndexing::default()
            .set_tokenizer("whitespace")
            .set_index_option(IndexRecordOption::WithFreqs);
        let fields = Fields {
            key: schema.add_bytes_field("key", BytesOptions::default().set_indexed()),
            words: schema.add_text_field("words", TextOptions::default().set_indexing_options(words)),
            facts: schema.add_bytes_field("facts", INDEXED),
            key_high: schema.add_u64_field(KEY_HIGH, FAST),
            key_low: schema.add_u64_field(KEY_LOW, FAST),
            issued: schema.add_u64_field(ISSUED, FAST),
            created: schema.add_u64_field(CREATED, FAST),
            bytes: schema.add_u64_field(BYTES, FAST),
            parameters: schema.add_u64_field(PARAMETERS, FAST),
            name: schema.add_text_field(NAME, TextOptions::default().set_fast("raw")),
        };
        (schema.build(), fields)
    }

    /// The term of a key.
    pub(super) fn key_term(&self, key: &NameKey) -> Term {
        Term::from_field_bytes(self.key, key)
    }

    /// The term of a fact.
    pub(super) fn fact_term(&self, fact: &Fact) -> Term {
        Term::from_field_bytes(self.facts, &fact.term())
    }

    /// The document of a known release.
    pub(super) fn document(&self, row: &KnownRow) -> TantivyDocument {
        let release = &row.release;
        let (high, low) = halves(&row.key());
        let mut document = TantivyDocument::new();
        document.add_bytes(self.key, &row.key());
        document.add_u64(self.key_high, high);
        document.add_u64(self.key_low, low);
        document.add_u64(self.issued, release.issued);
        document.add_u64(self.created, row.created);
        document.add_text(self.name, release.name.as_str().to_ascii_lowercase());
        let card = row.card.as_ref();
        document.add_u64(self.bytes, known_number(card.and_then(|card| card.bytes)));
        document.add_u64(
            self.parameters,
            known_number(card.and_then(|card| card.parameters)),
        );
        document.add_text(self.words, words_of(row));
        facts_of(row, |fact| {
            let term = fact.term();
            if term.len() <= FACT_LEN_MAX {
                document.add_bytes(self.facts, &term);
            }
        });
        document
    }
}

/// A key as two numbers.
pub(super) fn halves(key: &NameKey) -> (u64, u64) {
    let whole = u128::from_be_bytes(*key);
    ((whole >> 64) as u64, whole as u64)
}

/// A number that may be unknown, as one that always is there, which makes a column several times faster: 0, or one more than it is.
pub(super) fn known_number(number: Option<u64>) -> u64 {
    number.map_or(0, |number| number.saturating_add(1))
}

/// All words of a release, parted by spaces, those that count more as often as they count.
fn words_of(row: &KnownRow) -> String {
    let mut all = Vec::new();
    let mut add = |text: &str, times: usize| {
        let words = words::of_text(text);
        for _ in 0..times {
            all.extend_from_slice(&words);
        }
    };
    add(row.release.name.as_str(), NAME_WEIGHT);
    if let Some(upstream) = &row.release.upstream {
        add(&upstream.repo, 1);
    }
    if let Some(card) = &row.card {
        let topics = card.base_model.iter().chain(&card.task).chain(&card.library);
        topics.for_each(|text| add(text, TOPIC_WEIGHT));
        let rest = card.tags.iter().chain(&card.description).chain(&card.formats);
        rest.for_each(|text| add(text, 1));
    }
    all.join(" ")
}

fn facts_of(row: &KnownRow, mut add: impl FnMut(Fact)) {
    add(Fact::Kind(row.release.kind));
    add(Fact::Publisher(row.release.publisher));
    let Some(card) = &row.card else { return };
    let each = |texts: &[String], fact: fn(String) -> Fact, add: &mut dyn FnMut(Fact)| {
        texts.iter().for_each(|text| add(fact(text.clone())));
    };
    each(card.task.as_slice(), Fact::Task, &mut add);
    each(card.license.as_slice(), Fact::License, &mut add);
    each(card.library.as_slice(), Fact::Library, &mut add);
    each(card.dtype.as_slice(), Fact::Dtype, &mut add);
    each(&card.languages, Fact::Language, &mut add);
    each(&card.tags, Fact::Tag, &mut add);
    each(&card.formats, Fact::Format, &mut add);
    each(&card.base_model, Fact::Base, &mut add);
}

impl Fact {
    /// The fact as bytes: what kind of fact, then the value in lower case. Of a publisher the first 16 bytes.
    pub(super) fn term(&self) -> Vec<u8> {
        let text = |mark: u8, text: &str| [&[mark], text.to_lowercase().as_bytes()].concat();
        match self {
            Fact::Kind(kind) => text(b'k', Kind::as_str(*kind)),
            Fact::Publisher(publisher) => publisher_term(publisher),
            Fact::Task(value) => text(b't', value),
            Fact::License(value) => text(b'l', value),
            Fact::Library(value) => text(b'y', value),
            Fact::Language(value) => text(b'n', value),
            Fact::Tag(value) => text(b'g', value),
            Fact::Format(value) => text(b'f', value),
            Fact::Base(value) => text(b'b', value),
            Fact::Dtype(value) => text(b'd', value),
        }
    }
}

fn publisher_term(publisher: &Publisher) -> Vec<u8> {
    let (first, _) = publisher.as_bytes().split_at(16);
    [b"p", first].concat()
}
