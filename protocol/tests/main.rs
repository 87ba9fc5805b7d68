//! What the formats promise, one file a promise.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input has failed")]

mod attestations;
mod availability;
mod cards;
mod catalog;
mod denylists;
mod fixture;
mod git_or_large;
mod hostile_manifests;
mod hostile_records;
mod key_statements;
mod large_manifest;
mod lookalikes;
mod names;
mod paths;
mod proofs;
mod ratchet;
mod releases;
mod round_trip;
mod shard_map;
mod shards;
mod standing;
mod tampering;
mod tickets;
mod vectors;
