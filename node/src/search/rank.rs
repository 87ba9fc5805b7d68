//! The best of what matches: one walk over all hits, that counts them and keeps the first ones behind a cursor.
//!
//! A hit has a *rank*, a number of which the larger comes first, and its key for where ranks are the same. By names a rank means something only within
//! a segment, so the names go with the best of each.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{Column, StrColumn, TermOrdHit};
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader, TantivyError};

use super::favour::{Favoured, Tiers};
use super::query::{Cursor, Sort, Within};
use super::schema::{BYTES, CREATED, Fields, ISSUED, KEY_HIGH, KEY_LOW, NAME, PARAMETERS, known_number};

/// What a release issued this moment is worth more than an old one, as a part of its score.
const RECENCY_WEIGHT: f32 = 0.25;

/// The age at which half of that is left, in seconds: a year.
const RECENCY_AGE: f32 = 365.0 * 24.0 * 60.0 * 60.0;

/// Bits of a rank below the tier.
const TIER_SHIFT: u32 = 62;

/// The largest number below the tier.
const BELOW_TIER: u64 = (1 << TIER_SHIFT) - 1;

/// How hits are compared, and which are wanted.
#[derive(Debug, Clone)]
pub(super) struct Ranking {
    pub(super) fields: Fields,
    pub(super) bytes: Within,
    pub(super) parameters: Within,
    pub(super) favoured: Arc<Favoured>,
    pub(super) sort: Sort,
    pub(super) ascending: bool,
    /// Hits have a score.
    pub(super) scored: bool,
    pub(super) now: u64,
    pub(super) limit: usize,
    pub(super) after: Option<Cursor>,
}

/// A hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) rank: u64,
    pub(super) key: u128,
    pub(super) name: Option<String>,
}

/// How many hits there are, and the first of them in order.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) total: u64,
    pub(super) best: Vec<Hit>,
    /// There are more behind the best.
    pub(super) more: bool,
}

impl Ranking {
    fn compare(&self, a: &Hit, b: &Hit) -> Ordering {
        let names = match self.ascending {
            true => a.name.cmp(&b.name),
            false => b.name.cmp(&a.name),
        };
        let ranks = match self.sort {
            Sort::Name => names,
            _ => b.rank.cmp(&a.rank),
        };
        ranks.then(a.key.cmp(&b.key))
    }

    /// The rank and key of the cursor in a segment with these names: what comes behind them is wanted.
    fn bound(&self, names: Option<&StrColumn>) -> tantivy::Result<Option<(u64, u128)>> {
        let Some(after) = &self.after else { return Ok(None) };
        let (Some(names), Some(name)) = (names, &after.name) else {
            return Ok(Some((after.rank, after.key)));
        };
        let by_order = |order| self.by_number(known_number(Some(order)));
        match names.dictionary().term_ord_or_next(name)? {
            TermOrdHit::Exact(order) => Ok(Some((by_order(order), after.key))),
            // The name is not here: everything behind it is wanted whatever its key.
            TermOrdHit::Next(next) if self.ascending => {
                Ok(next.checked_sub(1).map(|before| (by_order(before), u128::MAX)))
            }
            TermOrdHit::Next(next) => Ok(Some((by_order(next), u128::MAX))),
        }
    }

    /// The rank by a [`known_number`]; what has none comes last either way.
    fn by_number(&self, number: u64) -> u64 {
        match number {
            0 => 0,
            number if self.ascending => !number,
            number => number,
        }
    }
}

impl Collector for Ranking {
    type Fruit = Found;
    type Child = SegmentRanking;

    fn for_segment(&self, _: SegmentOrdinal, reader: &SegmentReader) -> tantivy::Result<SegmentRanking> {
        let columns = reader.fast_fields();
        let names = match self.sort {
            Sort::Name => columns.str(NAME)?,
            _ => None,
        };
        let column = match self.sort {
            Sort::Relevance | Sort::Modified => Some(columns.u64(ISSUED)?),
            Sort::Created => Some(columns.u64(CREATED)?),
            Sort::Bytes => Some(columns.u64(BYTES)?),
            Sort::Parameters => Some(columns.u64(PARAMETERS)?),
            Sort::Name => names.as_ref().map(|names| names.ords().clone()),
        };
        let missing = || TantivyError::SchemaError("the index has no such column".to_owned());
        let tiers = match self.sort {
            Sort::Relevance => self.favoured.tiers(&self.fields, reader)?,
            _ => Tiers::default(),
        };
        let mut ranges = Vec::new();
        for (name, within) in [(BYTES, self.bytes), (PARAMETERS, self.parameters)] {
            if within != (None, None) {
                let range = known_number(Some(within.0.unwrap_or(0)))
                    ..=known_number(Some(within.1.unwrap_or(u64::MAX)));
                ranges.push((columns.u64(name)?, range));
            }
        }
        Ok(SegmentRanking {
            ranges,
            documents: Vec::new(),
            numbers: Vec::new(),
            bound: self.bound(names.as_ref())?,
            ranking: self.clone(),
            column: column.ok_or_else(missing)?,
            names,
            key: (columns.u64(KEY_HIGH)?, columns.u64(KEY_LOW)?),
            tiers,
            next_tier: 0,
            total: 0,
            behind: 0,
            best: BinaryHeap::new(),
        })
    }

    fn requires_scoring(&self) -> bool {
        self.scored && self.sort == Sort::Relevance
    }

    fn merge_fruits(&self, segments: Vec<tantivy::Result<Found>>) -> tantivy::Result<Found> {
        let mut all = Found::default();
        for segment in segments {
            let segment = segment?;
            all.total += segment.total;
            all.more |= segment.more;
            all.best.extend(segment.best);
        }
        all.best.sort_unstable_by(|a, b| self.compare(a, b));
        all.more |= all.best.len() > self.limit;
        all.best.truncate(self.limit);
        Ok(all)
    }
}

/// The walk over the hits of one segment, which come in the order of their numbers.
pub(super) struct SegmentRanking {
    ranking: Ranking,
    column: Column<u64>,
    /// What has a number outside of these, or none, is no hit.
    ranges: Vec<(Column<u64>, RangeInclusive<u64>)>,
    /// A block of hits, and their numbers.
    documents: Vec<DocId>,
    numbers: Vec<Option<u64>>,
    names: Option<StrColumn>,
    key: (Column<u64>, Column<u64>),
    tiers: Tiers,
    /// The first of the tiers that is not behind us.
    next_tier: usize,
    bound: Option<(u64, u128)>,
    total: u64,
    /// Of these, how many come behind the cursor.
    behind: u64,
    /// The worst of the best on top.
    best: BinaryHeap<(Reverse<u64>, u128)>,
}

impl SegmentRanking {
    fn tier(&mut self, document: DocId) -> u64 {
        while let Some(&(next, tier)) = self.tiers.get(self.next_tier) {
            if next >= document {
                return if next == document { u64::from(tier) } else { 0 };
            }
            self.next_tier += 1;
        }
        0
    }

    /// The rank of a hit with a score. `None`: it is before the cursor or behind the best whatever its age, and is counted.
    fn by_score(&mut self, document: DocId, score: Score) -> Option<u64> {
        let score = score.max(0.0);
        let tier = self.tier(document);
        // The bits of positive numbers are in their order.
        let rank = |worth: f32| tier << TIER_SHIFT | u64::from(worth.to_bits());
        if self.is_behind(rank(score * (1.0 + RECENCY_WEIGHT))) {
            self.behind += 1;
            return None;
        }
        if self.bound.is_some_and(|(bound, _)| rank(score) > bound) {
            return None;
        }
        let issued = self.column.first(document).unwrap_or(0);
        let age = self.ranking.now.saturating_sub(issued) as f32;
        let recency = RECENCY_AGE / (RECENCY_AGE + age);
        Some(rank(score * (1.0 + RECENCY_WEIGHT * recency)))
    }

    /// The rank of a hit by its number in the column.
    fn by_column(&mut self, document: DocId, number: Option<u64>) -> u64 {
        let number = number.unwrap_or(0);
        match self.ranking.sort {
            Sort::Relevance => self.tier(document) << TIER_SHIFT | number.min(BELOW_TIER),
            Sort::Bytes | Sort::Parameters => self.ranking.by_number(number),
            // Every document has these.
            Sort::Modified | Sort::Created | Sort::Name => self.ranking.by_number(known_number(Some(number))),
        }
    }

    /// Whether a hit of this rank comes after so many better ones that it is on no page before the next.
    fn is_behind(&self, rank: u64) -> bool {
        let full = self.best.len() >= self.ranking.limit;
        let worst = self.best.peek().filter(|_| full);
        worst.is_some_and(|(Reverse(worst), _)| rank < *worst)
    }

    fn is_hit(&self, document: DocId) -> bool {
        let within = |(column, range): &(Column<u64>, RangeInclusive<u64>)| {
            column
                .first(document)
                .is_some_and(|number| range.contains(&number))
        };
        self.ranges.iter().all(within)
    }

    fn key(&self, document: DocId) -> u128 {
        let high = self.key.0.first(document).unwrap_or(0);
        let low = self.key.1.first(document).unwrap_or(0);
        u128::from(high) << 64 | u128::from(low)
    }

    fn take(&mut self, document: DocId, rank: u64) {
        if self.is_behind(rank) {
            self.behind += 1;
            return;
        }
        if self.bound.is_some_and(|(bound, _)| rank > bound) {
            return;
        }
        let key = self.key(document);
        if self
            .bound
            .is_some_and(|bound| (Reverse(rank), key) <= (Reverse(bound.0), bound.1))
        {
            return;
        }
        self.behind += 1;
        if self.best.len() < self.ranking.limit {
            self.best.push((Reverse(rank), key));
        } else if let Some(mut worst) = self.best.peek_mut()
            && (Reverse(rank), key) < *worst
        {
            *worst = (Reverse(rank), key);
        }
    }

    fn name(&self, rank: u64) -> tantivy::Result<Option<String>> {
        let Some(names) = &self.names else { return Ok(None) };
        let number = if self.ranking.ascending { !rank } else { rank };
        let order = number.saturating_sub(1);
        let mut name = String::new();
        names.ord_to_str(order, &mut name)?;
        Ok(Some(name))
    }
}

impl SegmentCollector for SegmentRanking {
    type Fruit = tantivy::Result<Found>;

    fn collect(&mut self, document: DocId, score: Score) {
        if !self.is_hit(document) {
            return;
        }
        self.total += 1;
        let rank = if self.ranking.requires_scoring() {
            self.by_score(document, score)
        } else {
            let number = self.column.first(document);
            Some(self.by_column(document, number))
        };
        if let Some(rank) = rank {
            self.take(document, rank);
        }
    }

    fn collect_block(&mut self, documents: &[DocId]) {
        let mut hits = std::mem::take(&mut self.documents);
        let mut numbers = std::mem::take(&mut self.numbers);
        hits.clear();
        hits.extend_from_slice(documents);
        for (column, range) in &self.ranges {
            read(column, &hits, &mut numbers);
            let mut at = 0;
            hits.retain(|_| {
                at += 1;
                numbers
                    .get(at - 1)
                    .copied()
                    .flatten()
                    .is_some_and(|number| range.contains(&number))
            });
        }
        read(&self.column, &hits, &mut numbers);
        self.total += hits.len() as u64;
        for (&document, &number) in hits.iter().zip(&numbers) {
            let rank = self.by_column(document, number);
            self.take(document, rank);
        }
        self.documents = hits;
        self.numbers = numbers;
    }

    fn harvest(self) -> tantivy::Result<Found> {
        let best: tantivy::Result<Vec<Hit>> = self
            .best
            .iter()
            .map(|&(Reverse(rank), key)| {
                let name = self.name(rank)?;
                Ok(Hit { rank, key, name })
            })
            .collect();
        let best = best?;
        Ok(Found {
            total: self.total,
            more: self.behind > best.len() as u64,
            best,
        })
    }
}

/// Reads the numbers of some documents at once.
fn read(column: &Column<u64>, documents: &[DocId], numbers: &mut Vec<Option<u64>>) {
    numbers.clear();
    numbers.resize(documents.len(), None);
    column.first_vals(documents, numbers);
}
