//! What the formats promise, one file a promise.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input has failed")]

mod attestations;
mod availability;
mod fixture;
mod git_or_large;
mod hostile_manifests;
mod large_manifest;
mod names;
mod paths;
mod proofs;
mod ratchet;
mod releases;
mod round_trip;
mod shard_map;
mod shards;
mod tampering;
mod tickets;
mod vectors;
