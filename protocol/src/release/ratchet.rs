//! The ratchet: which release of a repo a node follows. It only moves forward, and it never chooses between two sides of a fork.
//!
//! A pure function of what the node follows, what it is offered and the time. The caller stores an accepted release durably *before* it acts on it,
//! and keeps both sides of a fork as evidence.

use crate::limits::{CLOCK_SKEW_MAX, SEQ_JUMP_MAX};
use crate::release::{Release, SignedRelease};

/// What to do with an offered release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is newer: store it, then follow it.
    Accept,
    /// It says what the node already follows.
    Same,
    /// It has a lower number than what the node follows: replayed, or late.
    Older {
        /// The number that the node follows.
        have: u64,
        /// The number of the offered release.
        offered: u64,
    },
    /// It has the number that the node follows, and says something else: the publisher signed both. Keep both as evidence, tell the user, and
    /// stay. A release with a higher number can still be accepted.
    Fork,
    /// Its number is more than 2^32 past what the node follows (or past 0): a stolen key using up the numbers.
    JumpTooLarge,
    /// It was issued more than ten minutes after `now`: a wrong clock, there or here.
    NotYetIssued,
    /// It is about another repo than what the node follows: the caller mixed up two records.
    OtherRepo,
}

/// Decides about a release.
///
/// - `current`: what the node follows, if anything. Its signature, like that of `offered`, was checked when it was decoded.
/// - `now`: Unix seconds. Only a release from the future depends on it; the order of releases never does, and an expired one is stale, not refused.
pub fn decide(current: Option<&SignedRelease>, offered: &SignedRelease, now: u64) -> Decision {
    judge(current.map(SignedRelease::release), offered.release(), now)
}

/// Decides about what a release says, for who keeps the signatures apart: both must have been verified.
pub fn judge(current: Option<&Release>, new: &Release, now: u64) -> Decision {
    let mut have = 0;
    if let Some(old) = current {
        if old.publisher != new.publisher || old.name != new.name {
            return Decision::OtherRepo;
        }
        if old == new {
            return Decision::Same;
        }
        if old.seq == new.seq {
            return Decision::Fork;
        }
        if old.seq > new.seq {
            return Decision::Older {
                have: old.seq,
                offered: new.seq,
            };
        }
        have = old.seq;
    }
    if new.seq.saturating_sub(have) > SEQ_JUMP_MAX {
        return Decision::JumpTooLarge;
    }
    if new.issued > now.saturating_add(CLOCK_SKEW_MAX) {
        return Decision::NotYetIssued;
    }
    Decision::Accept
}
