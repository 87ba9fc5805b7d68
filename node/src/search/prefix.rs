//! Words that begin with a text: what a reader who is still typing looks for.
//!
//! tantivy has this for phrases only, and its automata take every word that fits. Here the most frequent ones are taken, so that two letters cost little more
//! than a word. There are two scores: what has the text as a word comes before what has a longer one.

use tantivy::postings::Postings;
use tantivy::query::{BitSetDocSet, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError};

/// Most words of a segment that are looked at: two letters have a few thousand.
const LOOKED_AT_MAX: usize = 20_000;

/// Most words of a segment that are taken, the most frequent ones.
const TAKEN_MAX: usize = 256;

/// What a beginning counts, and the word itself where it is there once: about as much as a rare word.
const BEGUN_SCORE: Score = 0.5;
const WHOLE_SCORE: Score = 8.0;

/// How soon more of a word count no more: as in BM25.
const SATURATION: Score = 1.2;

/// Finds what has a word that begins with a text, or is it. Meant for texts that are a word of few documents, or of none.
#[derive(Debug, Clone)]
pub(super) struct PrefixQuery {
    field: Field,
    prefix: String,
}

impl PrefixQuery {
    pub(super) fn new(field: Field, prefix: String) -> PrefixQuery {
        PrefixQuery { field, prefix }
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
        let mut whole = Vec::new();
        while found.len() < LOOKED_AT_MAX && stream.advance() {
            if !stream.key().starts_with(self.prefix.as_bytes()) {
                break;
            }
            if stream.key() == self.prefix.as_bytes() {
                let mut postings =
                    index.read_postings_from_terminfo(stream.value(), IndexRecordOption::WithFreqs)?;
                while postings.doc() != TERMINATED {
                    whole.push((postings.doc(), postings.term_freq()));
                    postings.advance();
                }
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
        // The most frequent words need not be among those with this one.
        for (document, _) in &whole {
            documents.insert(*document);
        }
        Ok(Box::new(PrefixScorer {
            documents: BitSetDocSet::from(documents),
            whole,
            next_whole: 0,
            boost,
        }))
    }

    fn explain(&self, reader: &SegmentReader, document: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(reader, 1.0)?;
        if scorer.doc() <= document && scorer.seek(document) == document {
            return Ok(Explanation::new("begins with it", scorer.score()));
        }
        let what = format!("document {document} does not match");
        Err(TantivyError::InvalidArgument(what))
    }
}

/// The documents of a segment, and in order those that have the word whole, with how often.
struct PrefixScorer {
    documents: BitSetDocSet,
    whole: Vec<(DocId, u32)>,
    next_whole: usize,
    boost: Score,
}

impl DocSet for PrefixScorer {
    fn advance(&mut self) -> DocId {
        self.documents.advance()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.documents.seek(target)
    }

    fn doc(&self) -> DocId {
        self.documents.doc()
    }

    fn size_hint(&self) -> u32 {
        self.documents.size_hint()
    }
}

impl Scorer for PrefixScorer {
    fn score(&mut self) -> Score {
        let document = self.doc();
        while self
            .whole
            .get(self.next_whole)
            .is_some_and(|(whole, _)| *whole < document)
        {
            self.next_whole += 1;
        }
        match self.whole.get(self.next_whole) {
            Some((whole, times)) if *whole == document => {
                let times = *times as Score;
                self.boost * WHOLE_SCORE * times * (1.0 + SATURATION) / (times + SATURATION)
            }
            _ => self.boost * BEGUN_SCORE,
        }
    }
}
