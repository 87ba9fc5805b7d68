//! Releases as peers tell them, for the tests of this room.

use ed25519_dalek::SigningKey;
use libp2p::PeerId;
use protocol::{Hash, Kind, Known, Release, RepoName, SignedRelease};
use tempfile::TempDir;

use super::{Discovery, Relay};
use crate::library::{Library, now};

/// What is known by a library in a folder of its own: nothing yet.
pub(super) async fn discovery(relay: Relay) -> (Discovery, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let library = Library::open(data.path()).await.unwrap();
    (Discovery::open(library, relay).unwrap().0, data)
}

/// A release that was signed a while ago and is still valid; each seed is a publisher.
pub(super) fn release(seed: u8, name: &str, seq: u64) -> Release {
    Release {
        publisher: SigningKey::from_bytes(&[seed; 32]).verifying_key().into(),
        name: RepoName::new(name).unwrap(),
        kind: Kind::Dataset,
        manifest: Hash::of(&[seed, seq as u8]),
        seq,
        prev: None,
        issued: now() - 1_000 + seq,
        expires: now() + 1_000,
        upstream: None,
        card: None,
    }
}

/// The same, signed.
pub(super) fn signed(seed: u8, name: &str, seq: u64) -> SignedRelease {
    sign(seed, release(seed, name, seq))
}

/// A release signed by the publisher of this seed.
pub(super) fn sign(seed: u8, release: Release) -> SignedRelease {
    SignedRelease::sign(release, &SigningKey::from_bytes(&[seed; 32])).unwrap()
}

/// A release as it is told, without a card.
pub(super) fn told(release: &SignedRelease) -> Known {
    Known {
        release: release.encode(),
        card: None,
    }
}

/// The same with a signature that is not right.
pub(super) fn forged(release: &SignedRelease) -> Known {
    let mut forged = told(release);
    *forged.release.last_mut().unwrap() ^= 1;
    forged
}

/// Somebody who tells.
pub(super) fn peer() -> Option<PeerId> {
    Some(PeerId::random())
}
