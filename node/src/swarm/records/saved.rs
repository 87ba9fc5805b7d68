//! Records as bytes: what a restarted node still knows for others. Our own announcements are not in it; whoever wanted them asks again.

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{Key, Kind, Net, PROVIDER_LIFE_S, Records, Row, VALUE_LEN_MAX, VALUE_LIFE_S};

/// Largest snapshot we read, in bytes: all caps reached, with every source at 16 addresses of 64 bytes.
pub(crate) const SNAPSHOT_LEN_MAX: usize = 512 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Saved {
    sources: Vec<SavedSource>,
    providers: Vec<SavedProvider>,
    values: Vec<SavedValue>,
}

#[derive(Serialize, Deserialize)]
struct SavedSource {
    peer: Vec<u8>,
    net: Option<Net>,
    addresses: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct SavedProvider {
    key: Key,
    /// A place in `sources`.
    source: u32,
    until: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedValue {
    key: Key,
    /// A place in `sources`; `None`: it was ours.
    source: Option<u32>,
    until: u64,
    life: u64,
    bytes: Vec<u8>,
}

impl Records {
    /// What we keep for others, as bytes; it then counts as saved.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        self.dirty = false;
        let mut places = std::collections::HashMap::new();
        let mut sources = Vec::new();
        for (id, source) in self.sources.iter() {
            places.insert(id, sources.len() as u32);
            sources.push(SavedSource {
                peer: source.peer.to_bytes(),
                net: source.net,
                addresses: source.addresses.iter().map(Multiaddr::to_vec).collect(),
            });
        }
        let providers = self.providers.rows().iter().filter_map(|row| {
            let source = *places.get(&row.source?)?;
            Some(SavedProvider {
                key: row.key,
                source,
                until: row.until,
            })
        });
        let values = self.values.rows().iter().map(|row| SavedValue {
            key: row.key,
            source: row.source.and_then(|source| places.get(&source).copied()),
            until: row.until,
            life: row.life,
            bytes: row.what.to_vec(),
        });
        let saved = Saved {
            providers: providers.collect(),
            values: values.collect(),
            sources,
        };
        postcard::to_stdvec(&saved).expect("plain structs of integers and bytes always encode")
    }

    /// Takes in what [`Records::encode`] once wrote, under today's limits; what is over or makes no sense is left out.
    /// `None`: these are not such bytes, and nothing was taken in.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let saved: Saved = postcard::from_bytes(bytes).ok()?;
        let sources: Vec<_> = saved.sources.into_iter().map(SavedSource::check).collect();
        for SavedProvider { key, source, until } in saved.providers {
            let Some(Some((peer, net, addresses))) = sources.get(source as usize) else {
                continue;
            };
            if until > self.now && self.offer_provider(&key, *peer, addresses.clone(), *net).is_ok() {
                self.set_provider_until(&key, peer, until);
            }
        }
        for value in saved.values {
            let fits = value.bytes.len() <= VALUE_LEN_MAX && self.values.len() < self.limits.values;
            if value.until > self.now && fits && self.values.places(&value.key).is_empty() {
                let source = value
                    .source
                    .and_then(|place| sources.get(place as usize)?.as_ref());
                self.restore_value(value, source);
            }
        }
        self.dirty = false;
        Some(())
    }

    fn set_provider_until(&mut self, key: &Key, peer: &PeerId, until: u64) {
        if let Some(row) = self
            .provider_place(key, peer)
            .and_then(|place| self.providers.row_mut(place))
        {
            row.until = until.min(self.now.saturating_add(PROVIDER_LIFE_S));
        }
    }

    /// The signature was checked before it was written and the file is checked as a whole; whoever gets the bytes checks again.
    fn restore_value(&mut self, value: SavedValue, source: Option<&(PeerId, Option<Net>, Vec<Multiaddr>)>) {
        // What was ours is anybody's until it is put again: it is counted to our own id.
        let (peer, net) = source.map_or((self.local, None), |(peer, net, _)| (*peer, *net));
        let source = Some(self.sources.add(peer, net, Kind::Value));
        let SavedValue {
            key,
            until,
            life,
            bytes,
            ..
        } = value;
        // A clock that went back must not make a record immortal.
        let until = until.min(self.now.saturating_add(VALUE_LIFE_S));
        self.values.push(Row {
            key,
            source,
            until,
            life,
            what: bytes.into(),
        });
    }
}

impl SavedSource {
    fn check(self) -> Option<(PeerId, Option<Net>, Vec<Multiaddr>)> {
        let peer = PeerId::from_bytes(&self.peer).ok()?;
        let addresses = self
            .addresses
            .into_iter()
            .filter_map(|bytes| Multiaddr::try_from(bytes).ok());
        Some((peer, self.net, addresses.take(super::ADDRESSES_MAX).collect()))
    }
}
