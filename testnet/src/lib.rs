//! What the tests and measurements of Shoal stand on: nodes to order, peers that lie, files that matter, and a network to
//! shape and cut.
//!
//! | word | here |
//! |---|---|
//! | nodes | [`nodes::Testnet`]: full nodes in one process; [`nodes::ShoalProcess`]: the program as a child |
//! | hostile | [`hostile::Hostile`]: a provider that misbehaves in one chosen way |
//! | fixture | [`fixture`]: seeded files, folders, models, releases; comparing folders |
//! | netns, link | [`netns::Net`]: hosts in network namespaces; [`link::Links`]: what their links do to packets |
//! | disk | [`disk`]: power cuts, small and read-only disks |
//! | report | [`report`]: tables of measurements |
//!
//! Nothing of it is part of a node. Waiting is always for something, with a deadline; ports are always the system's choice.

pub mod disk;
pub mod fixture;
pub mod hostile;
pub mod link;
pub mod netns;
pub mod nodes;
pub mod report;
mod skip;

pub use skip::skip;
