//! The nouns of Shoal: what every node agrees on, byte for byte.
//!
//! | word | here |
//! |---|---|
//! | hash | [`Hash`](struct@Hash): 32 bytes of BLAKE3, written as 64 lower-case hex digits |
//! | blob | immutable bytes named by their hash; always a whole file |
//! | shard | an aligned range of [`SHARD_LEN`] bytes of one blob, the last one shorter: see [`shard`] |
//! | manifest | [`Manifest`]: the blob that lists the files of one revision; its hash names the revision |
//! | repo | [`RepoId`]: `publisher/name`, of a [`Kind`] |
//! | publisher | [`Publisher`]: the Ed25519 key that signs releases; a user knows it by an [`Alias`] |
//! | release | [`SignedRelease`]: "repo R is manifest M, number N" |
//! | summary | [`Summary`]: what a catalogue shows of a repo without fetching it; bound to a release by its hash |
//! | key statement | [`SignedStatement`]: a recovery key, another key, or the end of one; [`Standing`] is what follows from them |
//! | denylist | [`Denylist`]: what somebody thinks should be neither served nor shown |
//! | attestation | [`SignedAttestation`]: "key K validated manifest M, and this came out" |
//! | ratchet | [`ratchet::decide`]: which of two releases a node follows |
//! | ticket | [`Ticket`]: a pasteable string that is enough to fetch |
//! | proof | [`Proof`]: what makes an offline verification possible |
//! | frame | [`wire`]: one length-prefixed message on a stream |
//!
//! The crate is pure: no sockets, files, clock, tasks or randomness; the time comes in as an argument. Its decoders read
//! strangers' bytes, so nothing here indexes, truncates or overflows unchecked, and no input makes it panic. The formats are specified in this crate's
//! `README.md`, and frozen by the golden bytes in `vectors/`.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

pub mod attestation;
pub mod card;
pub mod denylist;
pub mod hash;
mod json;
pub mod key;
pub mod limits;
pub mod lookalike;
pub mod manifest;
pub mod path;
pub mod proof;
pub mod release;
pub mod repo;
pub mod shard;
mod text;
pub mod ticket;
pub mod wire;

pub use attestation::{
    Attestation, AttestationError, Challenge, Differences, Finite, SignedAttestation, Verdict,
};
pub use card::{CardError, Summary};
pub use denylist::{Denial, Denied, DeniedError, Denylist, DenylistError};
pub use hash::{GitId, Hash, HashError, Sha256};
pub use json::JsonError;
pub use key::{KeyError, Reason, Seen, SignedStatement, Standing, Statement};
pub use manifest::{FileEntry, Manifest, ManifestError};
pub use path::{PathError, RepoPath};
pub use proof::{Proof, ProofError};
pub use release::{Release, ReleaseError, ReleaseId, SignedRelease, Upstream, ratchet, ratchet::Decision};
pub use repo::{
    Alias, AliasError, Kind, KindError, Publisher, PublisherError, RepoId, RepoIdError, RepoName,
    RepoNameError, RepoRef, RepoRefError,
};
pub use shard::{ChainingValue, GROUP_LEN, NumberedBlob, SHARD_LEN, ShardMap, TooManyShards};
pub use text::TextError;
pub use ticket::{Ticket, TicketError};
pub use wire::{CatalogAsk, CatalogTell, Known, PeerHint, ShardRun, SwarmTell, WireError};
