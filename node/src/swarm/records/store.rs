//! The face that kad sees of our records.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    kad::{self, ProviderRecord, Record, store},
};
use rand::seq::index;

use super::{Kept, Key, Net, OWN_MAX, Records, table::Row};

/// Providers in one answer: kad sends no more than its replication factor.
const ANSWER_MAX: usize = 20;

/// What kad itself asks of its store. Strangers' records do not come this way: `StoreInserts::FilterBoth` hands them to the
/// actor, which calls [`Records::offer_provider`] and [`Records::offer_value`].
impl store::RecordStore for Records {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &kad::RecordKey) -> Option<Cow<'_, Record>> {
        let key = Key::try_from(key.as_ref()).ok()?;
        let row = self.values.row(*self.values.places(&key).first()?)?;
        (row.until > self.now).then(|| Cow::Owned(self.wire_record(row)))
    }

    fn put(&mut self, record: Record) -> store::Result<()> {
        match self.put_own_value(record.key.as_ref(), &record.value) {
            Ok(Kept::Stored | Kept::Refreshed) => Ok(()),
            Err(_) => Err(store::Error::MaxRecords),
        }
    }

    /// Kad drops a record it has seen expire. Ours expire by the wall clock, in [`Records::sweep`].
    fn remove(&mut self, key: &kad::RecordKey) {
        if let Ok(key) = Key::try_from(key.as_ref())
            && let Some(place) = self.values.places(&key).first().copied()
        {
            self.drop_value(place);
        }
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        let records: Vec<_> = self
            .values
            .rows()
            .iter()
            .map(|row| Cow::Owned(self.wire_record(row)))
            .collect();
        records.into_iter()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> store::Result<()> {
        let key = Key::try_from(record.key.as_ref()).map_err(|_| store::Error::MaxProvidedKeys)?;
        if record.provider != self.local {
            return self
                .offer_provider(&key, record.provider, record.addresses, Some(Net::RELAYED))
                .map(|_| ())
                .map_err(|_| store::Error::MaxProvidedKeys);
        }
        if self.provided.len() >= OWN_MAX && !self.provided.contains(&key) {
            return Err(store::Error::MaxProvidedKeys);
        }
        self.provided.insert(key);
        Ok(())
    }

    /// At most 20, and other ones each time where there are more, so that no provider stays hidden behind the first.
    fn providers(&self, key: &kad::RecordKey) -> Vec<ProviderRecord> {
        let Ok(hash) = Key::try_from(key.as_ref()) else {
            return Vec::new();
        };
        let record = |provider, addresses| ProviderRecord {
            key: key.clone(),
            provider,
            expires: None,
            addresses,
        };
        let ours = self
            .provided
            .contains(&hash)
            .then(|| record(self.local, Vec::new()));
        let places = self.providers.places(&hash);
        let rest = ANSWER_MAX - usize::from(ours.is_some());
        let chosen = index::sample(&mut rand::rng(), places.len(), places.len().min(rest));
        let others = chosen.into_iter().filter_map(|nth| {
            let row = self
                .providers
                .row(places[nth])
                .filter(|row| row.until > self.now)?;
            let source = self.sources.get(row.source?)?;
            Some(record(source.peer, source.addresses.clone()))
        });
        ours.into_iter().chain(others).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let record = |key: &Key| {
            Cow::Owned(ProviderRecord::new(
                kad::RecordKey::new(key),
                self.local,
                Vec::new(),
            ))
        };
        let records: Vec<_> = self.provided.iter().map(record).collect();
        records.into_iter()
    }

    fn remove_provider(&mut self, key: &kad::RecordKey, peer: &PeerId) {
        let Ok(key) = Key::try_from(key.as_ref()) else {
            return;
        };
        if *peer == self.local {
            self.provided.remove(&key);
        } else if let Some(place) = self.provider_place(&key, peer) {
            self.drop_provider(place);
        }
    }
}

impl Records {
    fn wire_record(&self, row: &Row<Box<[u8]>>) -> Record {
        Record {
            key: kad::RecordKey::new(&row.key),
            value: row.what.to_vec(),
            publisher: None,
            expires: Some(Instant::now() + Duration::from_secs(row.until.saturating_sub(self.now))),
        }
    }
}
