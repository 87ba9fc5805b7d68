//! What this node keeps for others, and how much a stranger may make it keep.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use serde::Deserialize;

use crate::catalog::NameKey;

/// Releases of publishers that nobody here follows, at most: all repos of the Hub today.
pub(super) const RELEASES_MAX: usize = 3_000_000;
/// Names that are known of one publisher that is not followed: the Hub's largest owners have a few ten thousand.
pub(super) const NAMES_PER_PUBLISHER_MAX: u32 = 20_000;
/// How long what one peer brought counts against it.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// A peer may fill this part of what is free in an hour, and a few thousand in any case: one stranger does not decide what is known here.
const SHARE: usize = 16;
/// Releases that every peer may bring in an hour.
const RELEASES_MIN: usize = 5_000;
/// In such a time a name of a stranger may be released anew [`RENEWALS_MAX`] times: who signs more often has the rest known later, or never. Else one
/// key could keep everybody busy.
const RENEWALS_TIME: Duration = Duration::from_secs(10 * 60);
/// See [`RENEWALS_TIME`].
const RENEWALS_MAX: u8 = 4;
/// How often a full list is swept, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Names whose renewals are counted; what is beyond is not.
const RENEWED_MAX: usize = 65_536;
/// Peers whose releases are counted.
const PEERS_MAX: usize = 4_096;

/// Whose releases this node keeps and tells others of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relay {
    /// Everybody's, up to a number.
    #[default]
    All,
    /// Those of publishers that the user follows, and ours.
    Followed,
}

/// What peers may still bring.
#[derive(Default)]
pub(super) struct Budget {
    peers: HashMap<PeerId, (Instant, usize)>,
    renewed: HashMap<NameKey, (Instant, u8)>,
    /// When what is over was last swept out of a full list.
    swept: Option<Instant>,
}

impl Budget {
    /// How many releases of strangers a peer may bring now, where so many are known.
    pub(super) fn left(&mut self, peer: PeerId, known: usize, now: Instant) -> usize {
        let free = RELEASES_MAX.saturating_sub(known);
        let share = (free / SHARE).max(RELEASES_MIN);
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            self.peers
                .retain(|_, (since, brought)| *brought > 0 && now.duration_since(*since) < HOUR);
            if self.peers.len() >= PEERS_MAX {
                return 0;
            }
        }
        let (since, brought) = self.peers.entry(peer).or_insert((now, 0));
        if now.duration_since(*since) >= HOUR {
            (*since, *brought) = (now, 0);
        }
        share.saturating_sub(*brought)
    }

    /// Notes what a peer brought.
    pub(super) fn brought(&mut self, peer: PeerId, releases: usize) {
        if let Some((_, brought)) = self.peers.get_mut(&peer) {
            *brought = brought.saturating_add(releases);
        }
    }

    /// Whether one more release of a name would be taken now, if it is a stranger's.
    pub(super) fn may_renew(&self, name: NameKey, now: Instant) -> bool {
        let renewed = self.renewed.get(&name);
        renewed
            .is_none_or(|(since, count)| *count < RENEWALS_MAX || now.duration_since(*since) >= RENEWALS_TIME)
    }

    /// Whether one more release of a stranger's known name is taken now, which then counts.
    pub(super) fn renews(&mut self, name: NameKey, now: Instant) -> bool {
        let is_over = |since: &Instant| now.duration_since(*since) >= RENEWALS_TIME;
        if !self.renewed.contains_key(&name) && self.renewed.len() >= RENEWED_MAX {
            if self
                .swept
                .is_none_or(|swept| now.duration_since(swept) >= SWEEP_EVERY)
            {
                self.renewed.retain(|_, (since, _)| !is_over(since));
                self.swept = Some(now);
            }
            // What each peer may bring bounds it all the same, and nobody's flood keeps others' names from being renewed.
            if self.renewed.len() >= RENEWED_MAX {
                return true;
            }
        }
        let (since, count) = self.renewed.entry(name).or_insert((now, 0));
        if is_over(since) {
            (*since, *count) = (now, 0);
        }
        if *count == RENEWALS_MAX {
            return false;
        }
        *count += 1;
        true
    }
}

/// How many names of strangers there is room for, where so many are known.
pub(super) fn room(known: usize) -> usize {
    RELEASES_MAX.saturating_sub(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_fills_a_part_of_what_is_free_and_may_go_on_an_hour_later() {
        let (mut budget, peer, now) = (Budget::default(), PeerId::random(), Instant::now());
        assert_eq!(budget.left(peer, 0, now), RELEASES_MAX / SHARE);
        budget.brought(peer, RELEASES_MAX / SHARE);
        assert_eq!(budget.left(peer, 0, now), 0);
        assert_eq!(budget.left(PeerId::random(), 0, now), RELEASES_MAX / SHARE);
        assert_eq!(budget.left(peer, 0, now + HOUR), RELEASES_MAX / SHARE);
    }

    #[test]
    fn a_few_may_always_come_and_names_only_where_there_is_room() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for known in [RELEASES_MAX, RELEASES_MAX - 10, RELEASES_MAX - 40_000] {
            assert_eq!(budget.left(PeerId::random(), known, now), RELEASES_MIN);
        }
        assert_eq!([RELEASES_MAX, RELEASES_MAX - 10].map(room), [0, 10]);
    }

    #[test]
    fn name_is_renewed_a_few_times_and_again_later() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let renewed = |budget: &mut Budget, name: u8, now| {
            let tries = (0..RENEWALS_MAX * 2).filter(|_| budget.renews([name; 16], now));
            tries.count()
        };
        assert_eq!(renewed(&mut budget, 1, now), usize::from(RENEWALS_MAX));
        assert_eq!(renewed(&mut budget, 1, now), 0);
        assert!(!budget.may_renew([1; 16], now) && budget.may_renew([1; 16], now + RENEWALS_TIME));
        assert_eq!(renewed(&mut budget, 2, now), usize::from(RENEWALS_MAX));
        assert_eq!(
            renewed(&mut budget, 1, now + RENEWALS_TIME),
            usize::from(RENEWALS_MAX)
        );
        for name in 0..RENEWED_MAX as u32 {
            let mut key = [3; 16];
            key[..4].copy_from_slice(&name.to_be_bytes());
            budget.renews(key, now);
        }
        assert_eq!(
            renewed(&mut budget, 4, now),
            usize::from(RENEWALS_MAX) * 2,
            "not counted"
        );
        assert_eq!(budget.renewed.len(), RENEWED_MAX);
        assert_eq!(
            renewed(&mut budget, 4, now + RENEWALS_TIME),
            usize::from(RENEWALS_MAX)
        );
    }

    #[test]
    fn many_peers_cannot_make_the_counting_grow() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for _ in 0..PEERS_MAX {
            let peer = PeerId::random();
            assert!(budget.left(peer, 0, now) > 0);
            budget.brought(peer, 1);
        }
        assert_eq!(budget.left(PeerId::random(), 0, now), 0);
        // Who brought nothing makes room for others.
        let mut idle = Budget::default();
        for _ in 0..2 * PEERS_MAX {
            assert!(idle.left(PeerId::random(), 0, now) > 0);
        }
        assert!(idle.peers.len() <= PEERS_MAX);
        assert!(budget.left(PeerId::random(), 0, now + HOUR) > 0);
    }
}
