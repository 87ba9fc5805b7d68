//! The verbs of Shoal: a node, and everything it does.
//!
//! Possessions ([`catalog`], [`names`], [`keys`], the store, [`swarm`]) keep things; verbs (publish, fetch, serve, verify, …) use
//! them; doors ([`http`]) use [`Node`]. [`Library`] is all of it that works without a network.

pub mod catalog;
pub mod config;
pub mod durable;
pub mod fetch;
mod frame;
pub mod http;
pub mod keys;
pub mod library;
pub mod limits;
pub mod names;
pub mod node;
pub mod progress;
pub mod publish;
pub mod resolve;
mod serve;
mod store;
pub mod swarm;
pub mod verify;

pub use config::Config;
pub use library::Library;
pub use node::Node;
pub use store::StoreError;
