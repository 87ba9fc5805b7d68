//! Words that begin with a text: what a reader who is still typing looks for.
//!
//! tantivy has this for phrases only, and its automata take every word that fits. Here the most frequent ones are taken, so that two letters cost no more
//! than a word.

use tantivy::query::{
    BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, DocSet, Score, SegmentReader, TantivyError};

/// Most words of a segment that are looked at: two letters have a few thousand.
const LOOKED_AT_MAX: usize = 20_000;

/// Most words of a segment that are taken, the most frequent ones.
const TAKEN_MAX: usize = 512;

/// Finds what has a word that begins with a text. All hits have one score.
#[derive(Debug, Clone)]
pub(super) struct PrefixQuery {
    field: Field,
    prefix: String,
    score: Score,
}

impl PrefixQuery {
    pub(super) fn new(field: Field, prefix: String, score: Score) -> PrefixQuery {
        PrefixQuery { field, prefix, score }
    }
}

impl Query for PrefixQuery {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for PrefixQuery {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let index = reader.inverted_index(self.field)?;
        let mut stream = index.terms().range().ge(self.prefix.as_bytes()).into_stream()?;
        let mut found = Vec::new();
        while found.len() < LOOKED_AT_MAX && stream.advance() {
            if !stream.key().starts_with(self.prefix.as_bytes()) {
                break;
            }
            found.push(stream.value().clone());
        }
        if found.is_empty() {
            return Ok(Box::new(EmptyScorer));
        }
        if found.len() > TAKEN_MAX {
            found.select_nth_unstable_by_key(TAKEN_MAX, |word| std::cmp::Reverse(word.doc_freq));
            found.truncate(TAKEN_MAX);
        }
        let mut documents = BitSet::with_max_value(reader.max_doc());
        for word in &found {
            let mut postings = index.read_block_postings_from_terminfo(word, IndexRecordOption::Basic)?;
            while !postings.docs().is_empty() {
                for document in postings.docs() {
                    documents.insert(*document);
                }
                postings.advance();
            }
        }
        let documents = BitSetDocSet::from(documents);
        Ok(Box::new(ConstScorer::new(documents, boost * self.score)))
    }

    fn explain(&self, reader: &SegmentReader, document: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(reader, 1.0)?;
        if scorer.doc() <= document && scorer.seek(document) == document {
            return Ok(Explanation::new("begins with it", self.score));
        }
        let what = format!("document {document} does not match");
        Err(TantivyError::InvalidArgument(what))
    }
}
