//! Where peers may be found: the addresses we heard and the ones that worked. Pure; it dials nobody.
//!
//! Bounded in peers and in addresses per peer; the peers that answered most recently are the ones that are kept and saved.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{address, records::ADDRESSES_MAX};

/// Peers whose addresses we remember while running: a day of lookups in a large network, 4 MiB at worst.
const PEERS_MAX: usize = 4_096;
/// Peers that are saved: far more than enough to find the network again after a week.
pub(super) const SAVED_MAX: usize = 256;
/// Largest saved book we read, in bytes: 256 peers with 16 addresses of 256 bytes.
pub(super) const SAVED_LEN_MAX: usize = 2 * 1024 * 1024;

#[derive(Debug, Default)]
struct Entry {
    /// Most recently useful first, without the peer's id at the end.
    addresses: Vec<Multiaddr>,
    /// When it last answered us, Unix time in seconds; 0: never yet.
    answered: u64,
    /// Counts up with every mention: the least recently mentioned of those that never answered go first.
    mentioned: u64,
}

/// Addresses by peer.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<PeerId, Entry>,
    mentions: u64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    peer: Vec<u8>,
    addresses: Vec<Vec<u8>>,
    answered: u64,
}

impl Book {
    /// Notes addresses somebody told us for `peer`. The caller has judged that they are plausible.
    pub(super) fn heard(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>) {
        let addresses: Vec<_> = addresses
            .into_iter()
            .take(ADDRESSES_MAX)
            .filter_map(|found| clean(&found, peer))
            .collect();
        if addresses.is_empty() {
            return;
        }
        let entry = self.entry(peer);
        for found in addresses {
            if !entry.addresses.contains(&found) {
                // A full list gives up its last: the one that has been of no use for longest.
                entry.addresses.truncate(ADDRESSES_MAX - 1);
                entry.addresses.push(found);
            }
        }
    }

    /// Notes that `peer` answered at `address`, at Unix time `now` in seconds.
    pub(super) fn answered(&mut self, peer: PeerId, found: &Multiaddr, now: u64) {
        let Some(found) = clean(found, peer) else {
            return;
        };
        let entry = self.entry(peer);
        entry.answered = now;
        entry.addresses.retain(|known| *known != found);
        entry.addresses.truncate(ADDRESSES_MAX - 1);
        entry.addresses.insert(0, found);
    }

    /// Notes that `found` did not lead to `peer`: it goes to the end of the list, behind what may still work.
    pub(super) fn failed(&mut self, peer: &PeerId, found: &Multiaddr) {
        let (Some(entry), Some(found)) = (self.entries.get_mut(peer), clean(found, *peer)) else {
            return;
        };
        if let Some(place) = entry.addresses.iter().position(|known| *known == found) {
            let found = entry.addresses.remove(place);
            entry.addresses.push(found);
        }
    }

    /// Forgets `peer`.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.entries.remove(peer);
    }

    /// Where `peer` may be found, best first.
    pub(super) fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        self.entries.get(peer).map_or(&[], |entry| &entry.addresses)
    }

    /// The peers that answered once, the most recent first, at most `max`.
    pub(super) fn recent(&self, max: usize) -> Vec<PeerId> {
        let mut peers: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.answered > 0)
            .collect();
        peers.sort_unstable_by_key(|(peer, entry)| (std::cmp::Reverse(entry.answered), **peer));
        peers.into_iter().take(max).map(|(peer, _)| *peer).collect()
    }

    /// The peers worth remembering, as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let saved = self.recent(SAVED_MAX).into_iter().filter_map(|peer| {
            let entry = self.entries.get(&peer)?;
            let addresses = entry.addresses.iter().map(Multiaddr::to_vec).collect();
            Some(Saved {
                peer: peer.to_bytes(),
                addresses,
                answered: entry.answered,
            })
        });
        postcard::to_stdvec(&saved.collect::<Vec<_>>())
            .expect("plain structs of integers and bytes always encode")
    }

    /// Takes in what [`Book::encode`] once wrote; `None` if these are not such bytes.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let saved: Vec<Saved> = postcard::from_bytes(bytes).ok()?;
        for Saved {
            peer,
            addresses,
            answered,
        } in saved.into_iter().take(SAVED_MAX)
        {
            let Ok(peer) = PeerId::from_bytes(&peer) else {
                continue;
            };
            self.heard(
                peer,
                addresses
                    .into_iter()
                    .filter_map(|bytes| Multiaddr::try_from(bytes).ok()),
            );
            if let Some(entry) = self.entries.get_mut(&peer) {
                entry.answered = answered;
            }
        }
        Some(())
    }

    fn entry(&mut self, peer: PeerId) -> &mut Entry {
        if self.entries.len() >= PEERS_MAX && !self.entries.contains_key(&peer) {
            self.evict();
        }
        self.mentions += 1;
        let entry = self.entries.entry(peer).or_default();
        entry.mentioned = self.mentions;
        entry
    }

    /// Drops an eighth of the peers at once, so that a flood of names costs one sort in 512.
    fn evict(&mut self) {
        let mut order: Vec<_> = self
            .entries
            .iter()
            .map(|(peer, entry)| (entry.answered, entry.mentioned, *peer))
            .collect();
        order.sort_unstable();
        for (_, _, peer) in order.into_iter().take(PEERS_MAX / 8) {
            self.entries.remove(&peer);
        }
    }
}

/// `found` without the id at its end; `None` if it cannot be dialled or leads to somebody else.
fn clean(found: &Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    address::scope(found)?;
    let mut found = found.clone();
    match address::peer(&found) {
        Some(named) if named == peer => {
            found.pop();
        }
        Some(_) => return None,
        None => {}
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn what_answered_comes_first_and_what_failed_last() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.heard(peer, [at(1), at(2), at(3)]);
        book.answered(peer, &at(2), 7);
        book.failed(&peer, &at(1));
        assert_eq!(book.addresses(&peer), [at(2), at(3), at(1)]);
        assert_eq!(book.recent(9), [peer]);
    }

    #[test]
    fn ids_are_cut_off_and_foreign_ids_refused() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        book.heard(
            peer,
            [
                at(1).with_p2p(peer).unwrap(),
                at(2).with_p2p(PeerId::random()).unwrap(),
            ],
        );
        assert_eq!(book.addresses(&peer), [at(1)]);
    }

    #[test]
    fn peers_and_addresses_are_bounded_and_those_that_answered_stay() {
        let (mut book, good) = (Book::default(), PeerId::random());
        book.answered(good, &at(9), 1);
        for _ in 0..3 * PEERS_MAX {
            book.heard(PeerId::random(), [at(1)]);
        }
        assert!(book.entries.len() <= PEERS_MAX);
        (10..100).for_each(|port| book.heard(good, [at(port)]));
        assert_eq!(book.addresses(&good).len(), ADDRESSES_MAX);
        assert_eq!(book.addresses(&good)[0], at(9));
    }

    #[test]
    fn the_peers_that_answered_survive_a_restart() {
        let (mut book, good) = (Book::default(), PeerId::random());
        book.answered(good, &at(1), 42);
        book.heard(PeerId::random(), [at(2)]);
        let mut restored = Book::default();
        restored.restore(&book.encode()).unwrap();
        assert_eq!(restored.recent(9), [good]);
        assert_eq!(restored.addresses(&good), [at(1)]);
        assert_eq!(restored.entries.len(), 1);
        assert!(Book::default().restore(b"\xff\xff\xff\xff\xff").is_none());
    }
}
