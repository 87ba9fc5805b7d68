//! What this node keeps for others, and how much a stranger may make it keep.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use serde::Deserialize;

/// Releases of publishers that nobody here follows, at most: all repos of the Hub today.
pub(super) const RELEASES_MAX: usize = 3_000_000;
/// Names that are known of one publisher that is not followed: the Hub's largest owners have a few ten thousand.
pub(super) const NAMES_PER_PUBLISHER_MAX: u32 = 20_000;
/// How long what one peer brought counts against it.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// A peer may fill this part of what is free in an hour, and a few thousand in any case: one stranger does not decide what is known here.
const SHARE: usize = 16;
/// New names that every peer may bring in an hour.
const NAMES_MIN: usize = 5_000;
/// Peers whose new names are counted.
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
}

impl Budget {
    /// How many new names of strangers a peer may bring now, where so many releases are known.
    pub(super) fn left(&mut self, peer: PeerId, known: usize, now: Instant) -> usize {
        let free = RELEASES_MAX.saturating_sub(known);
        let share = (free / SHARE).max(NAMES_MIN).min(free);
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            self.peers
                .retain(|_, (since, _)| now.duration_since(*since) < HOUR);
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
    pub(super) fn brought(&mut self, peer: PeerId, names: usize) {
        if let Some((_, brought)) = self.peers.get_mut(&peer) {
            *brought = brought.saturating_add(names);
        }
    }
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
    fn full_is_full_for_everybody() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        assert_eq!(budget.left(PeerId::random(), RELEASES_MAX, now), 0);
        assert_eq!(budget.left(PeerId::random(), RELEASES_MAX - 10, now), 10);
        assert_eq!(
            budget.left(PeerId::random(), RELEASES_MAX - 40_000, now),
            NAMES_MIN
        );
    }

    #[test]
    fn many_peers_cannot_make_the_counting_grow() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        for _ in 0..PEERS_MAX {
            assert!(budget.left(PeerId::random(), 0, now) > 0);
        }
        assert_eq!(budget.left(PeerId::random(), 0, now), 0);
        assert!(budget.left(PeerId::random(), 0, now + HOUR) > 0);
    }
}
