//! Peer exchange: members tell each other who else is there. What is told is hearsay, and checked as such: it only ever leads
//! to dials, few of them, to places of which whoever told us could know.

use crate::{limits::MEMBERS_MAX, swarm::Swarm};
use libp2p::{Multiaddr, PeerId};
use protocol::{
    PeerHint,
    limits::{ADDRESS_LEN_MAX, HINT_ADDRESSES_MAX, HINTS_MAX},
};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// Pause between two messages about newcomers to one member.
const PAUSE: Duration = Duration::from_secs(10);
/// Pause before we look again for the addresses of somebody who has only just come.
const SOON: Duration = Duration::from_secs(1);
/// Looks in vain for addresses before we wait for the next newcomer.
const LOOKS_MAX: u32 = 6;
/// Hinted peers that are considered, of one member in one session: as many as a crowd has.
const CONSIDERED_MAX: usize = MEMBERS_MAX;

/// Which of the others a member was told of.
pub(super) struct Telling {
    told: HashSet<PeerId>,
    wanted: bool,
    next: Instant,
    looks: u32,
}

impl Telling {
    /// It was told of nobody.
    pub(super) fn new(now: Instant) -> Telling {
        Telling {
            told: HashSet::new(),
            wanted: true,
            next: now,
            looks: 0,
        }
    }

    /// Somebody came.
    pub(super) fn look(&mut self) {
        (self.wanted, self.looks) = (true, 0);
    }

    /// Whether there may be somebody to tell of.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether it may be told now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.wanted && now >= self.next
    }

    /// When it may be told.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Returns what to tell `peer`, if anything, of these `members`: those who can be reached directly, where we know how.
    pub(super) async fn hints(
        &mut self,
        swarm: &Swarm,
        peer: PeerId,
        members: Vec<PeerId>,
    ) -> Option<Vec<PeerHint>> {
        self.told.retain(|told| members.contains(told));
        let new = members
            .into_iter()
            .filter(|other| *other != peer && !self.told.contains(other));
        let new: Vec<PeerId> = new.collect();
        let untold = new.len();
        let known = match untold {
            0 => Vec::new(),
            _ => swarm.addresses_for(peer, new).await,
        };
        let mut hints = Vec::new();
        for (other, addresses) in known.into_iter().take(HINTS_MAX) {
            self.told.insert(other);
            hints.push(hint(other, &addresses));
        }
        self.looks += 1;
        self.wanted = hints.len() < untold && self.looks < LOOKS_MAX;
        let pause = if hints.is_empty() { SOON } else { PAUSE };
        self.next = Instant::now() + pause;
        (!hints.is_empty()).then_some(hints)
    }
}

fn hint(peer: PeerId, addresses: &[Multiaddr]) -> PeerHint {
    let addresses = addresses.iter().map(Multiaddr::to_string);
    PeerHint {
        peer: peer.to_bytes(),
        addresses: addresses
            .filter(|address| address.len() <= ADDRESS_LEN_MAX)
            .take(HINT_ADDRESSES_MAX)
            .collect(),
    }
}

/// What one member may still make us look at.
#[derive(Default)]
pub(super) struct Budget {
    considered: usize,
}

impl Budget {
    /// Returns those of a message's hints that read, are not about `us`, and are not too many.
    pub(super) fn take(&mut self, hints: Vec<PeerHint>, us: PeerId) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let left = CONSIDERED_MAX.saturating_sub(self.considered);
        self.considered += hints.len().min(left);
        let considered = hints.into_iter().take(left);
        let read = considered.filter_map(|hint| {
            let peer = PeerId::from_bytes(&hint.peer).ok().filter(|peer| *peer != us)?;
            let addresses: Vec<Multiaddr> = hint
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect();
            (!addresses.is_empty()).then_some((peer, addresses))
        });
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_that_do_not_read_or_name_ourselves_or_are_too_many_are_left_out() {
        let (us, other) = (PeerId::random(), PeerId::random());
        let address: Multiaddr = "/ip4/8.8.8.8/tcp/1".parse().unwrap();
        let good = hint(other, std::slice::from_ref(&address));
        let mut garbage = good.clone();
        garbage.peer = vec![0xff; 30];
        let mut unread = good.clone();
        unread.addresses = vec!["/ip4/nowhere".to_owned()];
        let mut budget = Budget::default();
        let found = budget.take(
            vec![
                garbage,
                unread,
                hint(us, std::slice::from_ref(&address)),
                good.clone(),
            ],
            us,
        );
        assert_eq!(found, [(other, vec![address])]);
        let more: usize = (0..10)
            .map(|_| budget.take(vec![good.clone(); HINTS_MAX], us).len())
            .sum();
        assert_eq!(more, CONSIDERED_MAX - 4);
    }
}
