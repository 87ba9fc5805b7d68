//! The verbs of Shoal: a node, and everything it does.
//!
//! Possessions ([`catalog`], [`search`], [`names`], [`keys`], the store, [`swarm`]) keep things; verbs (publish, fetch, serve, verify, …) use
//! them; doors ([`http`]) use [`Node`]. [`Library`] is all of it that works without a network.

pub mod attest;
pub mod card;
pub mod catalog;
pub mod check;
pub mod config;
pub mod denials;
pub mod discovery;
pub mod doctor;
pub mod durable;
pub mod engine;
pub mod fetch;
mod frame;
pub mod http;
pub mod identity;
pub mod import;
pub mod keys;
pub mod library;
pub mod limits;
mod meter;
pub mod mirror;
pub mod moderate;
pub mod names;
pub mod node;
pub mod progress;
pub mod publish;
pub mod resolve;
pub mod run;
mod runs;
pub mod search;
mod serve;
mod sharing;
mod store;
pub mod swarm;
mod throttle;
pub mod validate;
pub mod verify;

pub use config::Config;
pub use library::Library;
pub use node::Node;
pub use serve::PeerUp;
pub use store::StoreError;
pub use throttle::Limits;
