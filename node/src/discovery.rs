//! What is known of others' releases, and how two nodes come to know the same: decisions only, no files, clock or network.

pub(crate) mod reconcile;
pub(crate) mod set;
