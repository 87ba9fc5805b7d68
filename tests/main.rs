//! What Shoal promises, tried on whole nodes and on the real program. One file for each promise; the names of the tests are the claims.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets an error has failed, and this says where"
)]
#![allow(
    clippy::print_stderr,
    reason = "seeds, and how far the power was from taking something, are for whoever reads a failure"
)]

mod acts;
mod architecture;
mod attest;
mod clients;
mod command_line;
mod curl;
mod daemon;
mod data_folder;
mod denials;
mod discovery;
mod doctor;
mod engine;
mod false_digests;
mod full_disk;
mod gateway;
mod gateway_api;
mod gateway_guard;
mod gateway_logs;
mod gateway_spaces;
mod gateway_upload;
mod gateway_wait;
mod headers_first;
mod hostile;
mod hub_cache;
mod import;
mod memory;
mod mirror;
mod moving_files;
mod names;
mod openai;
mod power;
mod program;
mod publish_fetch;
mod real_model;
mod relay;
mod restart;
mod rot;
mod running;
mod swarm;
mod trust;
mod validate;
mod verify;
