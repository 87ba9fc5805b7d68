//! Who gave us the records we keep for others: each peer once, with its addresses and how many records are its doing.
//!
//! A record names its source by a [`SourceId`] of four bytes. Invariant: a source is listed exactly as long as records name it,
//! and the counts per peer and per network are the numbers of those records.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};

use super::{Net, Refusal};

/// A place in the list; given out again once its peer has no record left.
pub(super) type SourceId = u32;

/// What kind of record is counted; each kind has its own quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Provider,
    Value,
}

/// How many records of one kind one peer and one network may have here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    pub(super) per_peer: u32,
    pub(super) per_net: u32,
}

/// A peer that gave us records.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) peer: PeerId,
    /// Where it may be found, as it last said.
    pub(super) addresses: Vec<Multiaddr>,
    /// The network it last spoke from; `None` has no quota of its own.
    pub(super) net: Option<Net>,
    counts: [u32; 2],
}

impl Source {
    fn total(&self) -> u32 {
        self.counts.iter().sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Sources {
    slots: Vec<Option<Source>>,
    free: Vec<SourceId>,
    by_peer: HashMap<PeerId, SourceId>,
    by_net: HashMap<Net, [u32; 2]>,
}

impl Sources {
    pub(super) fn get(&self, id: SourceId) -> Option<&Source> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(super) fn find(&self, peer: &PeerId) -> Option<SourceId> {
        self.by_peer.get(peer).copied()
    }

    /// How many records of `kind` the source has.
    pub(super) fn count(&self, id: SourceId, kind: Kind) -> u32 {
        self.get(id).map_or(0, |source| source.counts[kind as usize])
    }

    /// Whether `peer`, speaking from `net`, may add one more record of `kind`.
    pub(super) fn check(
        &self,
        peer: &PeerId,
        net: Option<Net>,
        kind: Kind,
        quota: Quota,
    ) -> Result<(), Refusal> {
        if self
            .find(peer)
            .is_some_and(|id| self.count(id, kind) >= quota.per_peer)
        {
            return Err(Refusal::PeerQuota);
        }
        let of_net = net
            .and_then(|net| self.by_net.get(&net))
            .map_or(0, |counts| counts[kind as usize]);
        if of_net >= quota.per_net {
            return Err(Refusal::NetQuota);
        }
        Ok(())
    }

    /// Counts one record of `kind` to `peer`, which now speaks from `net`. All its records move there with it.
    pub(super) fn add(&mut self, peer: PeerId, net: Option<Net>, kind: Kind) -> SourceId {
        let id = self.find(&peer).unwrap_or_else(|| self.insert(peer, net));
        self.recount_net(id, net);
        self.change(id, kind, 1);
        id
    }

    /// Remembers where a listed source may be found.
    pub(super) fn set_addresses(&mut self, id: SourceId, addresses: Vec<Multiaddr>) {
        if let Some(Some(source)) = self.slots.get_mut(id as usize) {
            source.addresses = addresses;
        }
    }

    /// Takes one record of `kind` off the source, and the source off the list with its last one.
    pub(super) fn remove(&mut self, id: SourceId, kind: Kind) {
        self.change(id, kind, -1);
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return;
        };
        if slot.as_ref().is_some_and(|source| source.total() == 0)
            && let Some(source) = slot.take()
        {
            self.by_peer.remove(&source.peer);
            self.free.push(id);
        }
    }

    /// Every source that is listed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    fn insert(&mut self, peer: PeerId, net: Option<Net>) -> SourceId {
        let source = Source {
            peer,
            addresses: Vec::new(),
            net,
            counts: [0; 2],
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1)
                .expect("records are bounded far below 2^32, and so are their sources")
        });
        self.slots[id as usize] = Some(source);
        self.by_peer.insert(peer, id);
        id
    }

    fn change(&mut self, id: SourceId, kind: Kind, by: i32) {
        let Some(Some(source)) = self.slots.get_mut(id as usize) else {
            return;
        };
        let count = &mut source.counts[kind as usize];
        *count = count.saturating_add_signed(by);
        if let Some(net) = source.net {
            let counts = self.by_net.entry(net).or_default();
            counts[kind as usize] = counts[kind as usize].saturating_add_signed(by);
            if *counts == [0; 2] {
                self.by_net.remove(&net);
            }
        }
    }

    fn recount_net(&mut self, id: SourceId, net: Option<Net>) {
        let Some(Some(source)) = self.slots.get_mut(id as usize) else {
            return;
        };
        let old = std::mem::replace(&mut source.net, net);
        if old == net {
            return;
        }
        let moved = source.counts;
        if let Some(old) = old
            && let Some(counts) = self.by_net.get_mut(&old)
        {
            for (count, moved) in counts.iter_mut().zip(moved) {
                *count = count.saturating_sub(moved);
            }
            if *counts == [0; 2] {
                self.by_net.remove(&old);
            }
        }
        if let Some(net) = net
            && moved != [0; 2]
        {
            for (count, moved) in self.by_net.entry(net).or_default().iter_mut().zip(moved) {
                *count += moved;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        per_peer: 2,
        per_net: 3,
    };

    fn net(last: u8) -> Option<Net> {
        Net::of([8, 8, last, 1].into())
    }

    #[test]
    fn quotas_hold_per_peer_and_per_net() {
        let (mut sources, a, b) = (Sources::default(), PeerId::random(), PeerId::random());
        for _ in 0..2 {
            sources.check(&a, net(1), Kind::Provider, QUOTA).unwrap();
            sources.add(a, net(1), Kind::Provider);
        }
        assert_eq!(
            sources.check(&a, net(1), Kind::Provider, QUOTA),
            Err(Refusal::PeerQuota)
        );
        assert_eq!(sources.check(&a, net(1), Kind::Value, QUOTA), Ok(()));
        sources.add(b, net(1), Kind::Provider);
        assert_eq!(
            sources.check(&b, net(1), Kind::Provider, QUOTA),
            Err(Refusal::NetQuota)
        );
        assert_eq!(sources.check(&b, net(2), Kind::Provider, QUOTA), Ok(()));
        assert_eq!(sources.check(&b, None, Kind::Provider, QUOTA), Ok(()));
    }

    #[test]
    fn a_peer_that_moves_takes_its_counts_along() {
        let (mut sources, a) = (Sources::default(), PeerId::random());
        sources.add(a, net(1), Kind::Provider);
        let id = sources.add(a, net(2), Kind::Value);
        assert_eq!(sources.by_net.len(), 1);
        sources.remove(id, Kind::Provider);
        sources.remove(id, Kind::Value);
        assert!(sources.by_net.is_empty() && sources.by_peer.is_empty());
        assert_eq!(sources.iter().count(), 0);
        assert_eq!(
            sources.add(PeerId::random(), None, Kind::Value),
            id,
            "the place is given out again"
        );
    }
}
