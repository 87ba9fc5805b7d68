//! The engine: models run in a child process of the node, which is this same program started again with nothing but its stdin
//! and stdout. What a model's files do to it happens there.

pub mod child;
pub mod doors;
pub(crate) mod files;
pub(crate) mod model;
pub mod session;
pub(crate) mod weights;
pub mod wire;
