//! Whom the user trusts: publishers that are followed, and names whose newest release was reproduced. Both come first in what is found.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::Publisher;
use tantivy::index::SegmentId;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, SegmentReader, TERMINATED};

use super::query::Fact;
use super::schema::{Fields, KEY_HIGH, KEY_LOW, halves};
use crate::catalog::NameKey;

/// Documents of a segment that are looked through in the time of one look at its dictionary.
const DOCUMENTS_A_LOOK: u64 = 50;

/// The tier of a followed publisher's release.
pub(super) const FOLLOWED: u8 = 2;

/// The tier of a reproduced one.
pub(super) const REPRODUCED: u8 = 1;

/// Who and what comes first. Make a new one where it changes, and keep it else: what it looked up in the index it remembers.
#[derive(Debug, Default)]
pub struct Favoured {
    followed: HashSet<Publisher>,
    reproduced: HashSet<NameKey>,
    tiers: Mutex<HashMap<SegmentId, Tiers>>,
}

/// The favoured documents of a segment in their order, each with its tier.
pub(super) type Tiers = Arc<Vec<(DocId, u8)>>;

impl Favoured {
    /// Favours the releases of these publishers, then those of these names.
    pub fn new(
        followed: impl IntoIterator<Item = Publisher>,
        reproduced: impl IntoIterator<Item = NameKey>,
    ) -> Favoured {
        Favoured {
            followed: followed.into_iter().collect(),
            reproduced: reproduced.into_iter().collect(),
            tiers: Mutex::default(),
        }
    }

    /// The favoured documents of a segment.
    pub(super) fn tiers(&self, fields: &Fields, reader: &SegmentReader) -> tantivy::Result<Tiers> {
        let id = reader.segment_id();
        let lock = || self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tiers) = lock().get(&id) {
            return Ok(tiers.clone());
        }
        let tiers = Arc::new(self.find(fields, reader)?);
        lock().insert(id, tiers.clone());
        Ok(tiers)
    }

    /// Forgets segments that are no more.
    pub(super) fn keep(&self, segments: &[SegmentReader]) {
        let mut tiers = self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
        if tiers.len() > segments.len() {
            let there: HashSet<SegmentId> = segments.iter().map(SegmentReader::segment_id).collect();
            tiers.retain(|id, _| there.contains(id));
        }
    }

    fn find(&self, fields: &Fields, reader: &SegmentReader) -> tantivy::Result<Vec<(DocId, u8)>> {
        let mut found = Vec::new();
        let facts = reader.inverted_index(fields.facts)?;
        for publisher in &self.followed {
            let term = fields.fact_term(&Fact::Publisher(*publisher));
            let Some(mut postings) = facts.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            while postings.doc() != TERMINATED {
                found.push((postings.doc(), FOLLOWED));
                postings.advance();
            }
        }
        let looks = self.reproduced.len() as u64;
        if looks.saturating_mul(DOCUMENTS_A_LOOK) < u64::from(reader.max_doc()) {
            let keys = reader.inverted_index(fields.key)?;
            for key in &self.reproduced {
                let postings = keys.read_postings(&fields.key_term(key), IndexRecordOption::Basic)?;
                let Some(mut postings) = postings else { continue };
                while postings.doc() != TERMINATED {
                    found.push((postings.doc(), REPRODUCED));
                    postings.advance();
                }
            }
        } else if looks > 0 {
            let wanted: HashSet<(u64, u64)> = self.reproduced.iter().map(halves).collect();
            let high = reader.fast_fields().u64(KEY_HIGH)?;
            let low = reader.fast_fields().u64(KEY_LOW)?;
            found.extend((0..reader.max_doc()).filter_map(|document| {
                let key = (high.first(document)?, low.first(document)?);
                wanted.contains(&key).then_some((document, REPRODUCED))
            }));
        }
        // Of one that is both, the higher tier.
        found.sort_unstable_by_key(|(document, tier)| (*document, std::cmp::Reverse(*tier)));
        found.dedup_by_key(|(document, _)| *document);
        Ok(found)
    }
}
