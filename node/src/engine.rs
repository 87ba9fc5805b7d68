//! The engine: models run in a child process of the node, which is this same program started again with nothing but its stdin
//! and stdout. What a model's files do to it happens there.

pub(crate) mod chat;
pub mod child;
pub(crate) mod config;
pub(crate) mod decoder;
pub mod doors;
pub(crate) mod encoder;
pub(crate) mod files;
mod floats;
pub(crate) mod generate;
pub(crate) mod model;
pub(crate) mod numbers;
pub(crate) mod sample;
#[cfg(test)]
mod samples;
pub mod session;
pub(crate) mod tokens;
pub(crate) mod weights;
pub mod wire;
