//! A dense table of records that several may share a key, with random choice in constant time.
//!
//! It knows nothing of what a record means. Invariant: `index` lists exactly the places in `rows`, under their keys.

use std::collections::HashMap;

use rand::Rng;

use super::{Key, sources::SourceId};

/// One record: who gave it, until when it holds, and what it says.
#[derive(Debug)]
pub(super) struct Row<T> {
    pub(super) key: Key,
    /// `None`: we did. Such a row is never chosen as a victim.
    pub(super) source: Option<SourceId>,
    /// When it is forgotten unless it is said again, Unix time in seconds.
    pub(super) until: u64,
    /// When it is over in any case, Unix time in seconds.
    pub(super) life: u64,
    pub(super) what: T,
}

#[derive(Debug)]
pub(super) struct Table<T> {
    rows: Vec<Row<T>>,
    index: HashMap<Key, Vec<u32>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn rows(&self) -> &[Row<T>] {
        &self.rows
    }

    /// The places of the rows under `key`.
    pub(super) fn places(&self, key: &Key) -> &[u32] {
        self.index.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn row(&self, place: u32) -> Option<&Row<T>> {
        self.rows.get(place as usize)
    }

    pub(super) fn row_mut(&mut self, place: u32) -> Option<&mut Row<T>> {
        self.rows.get_mut(place as usize)
    }

    pub(super) fn push(&mut self, row: Row<T>) {
        let place = u32::try_from(self.rows.len()).expect("the caller's cap is far below 2^32 rows");
        self.index.entry(row.key).or_default().push(place);
        self.rows.push(row);
    }

    /// Takes the row at `place` out; the last row moves there.
    pub(super) fn remove(&mut self, place: u32) -> Option<Row<T>> {
        let row = self.rows.get(place as usize)?;
        let key = row.key;
        if let Some(places) = self.index.get_mut(&key) {
            places.retain(|listed| *listed != place);
            if places.is_empty() {
                self.index.remove(&key);
            }
        }
        let row = self.rows.swap_remove(place as usize);
        if let Some(moved) = self.rows.get(place as usize) {
            let last = self.rows.len() as u32;
            if let Some(listed) = self
                .index
                .get_mut(&moved.key)
                .and_then(|places| places.iter_mut().find(|p| **p == last))
            {
                *listed = place;
            }
        }
        Some(row)
    }

    /// A place among all rows whose source weighs most in a random sample: a flood is its own first victim.
    /// `None` if the sample held nothing but rows of ours.
    pub(super) fn victim(&self, rng: &mut impl Rng, weight: impl Fn(SourceId) -> u32) -> Option<u32> {
        const SAMPLE: usize = 16;
        if self.rows.is_empty() {
            return None;
        }
        (0..SAMPLE)
            .filter_map(|_| {
                let place = rng.random_range(0..self.rows.len());
                Some((weight(self.rows[place].source?), place as u32))
            })
            .max_by_key(|(weight, _)| *weight)
            .map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn index_and_rows_agree_after_random_pushes_and_removals() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut table = Table::default();
        for step in 0..5_000_u64 {
            if rng.random_bool(0.6) || table.len() == 0 {
                table.push(Row {
                    key: [rng.random_range(0..20); 32],
                    source: None,
                    until: step,
                    life: step,
                    what: (),
                });
            } else {
                table.remove(rng.random_range(0..table.len() as u32)).unwrap();
            }
        }
        let listed: usize = table.index.values().map(Vec::len).sum();
        assert_eq!(listed, table.len());
        for (key, places) in &table.index {
            assert!(places.iter().all(|place| table.row(*place).unwrap().key == *key));
        }
        assert!(table.remove(table.len() as u32).is_none());
    }

    #[test]
    fn the_heaviest_source_is_the_likeliest_victim_and_ours_never() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut table = Table::default();
        for n in 0..100_u8 {
            let source = match n {
                0..50 => None,
                50..55 => Some(1),
                _ => Some(2),
            };
            table.push(Row {
                key: [n; 32],
                source,
                until: 0,
                life: 0,
                what: (),
            });
        }
        let weight = |source| if source == 2 { 45 } else { 5 };
        for _ in 0..50 {
            let place = table.victim(&mut rng, weight).unwrap();
            assert_eq!(table.row(place).unwrap().source, Some(2));
        }
    }
}
