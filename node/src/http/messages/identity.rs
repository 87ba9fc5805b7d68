//! What is said to change who the node publishes as.

use std::path::PathBuf;

use protocol::Publisher;
use serde::{Deserialize, Serialize};

/// The body of `id/rotate`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateAsk {
    /// The file of the recovery key, to bind it to the new key too; absolute.
    #[serde(default)]
    pub recovery: Option<PathBuf>,
}

/// The body of `id/recover`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverAsk {
    /// The file of the recovery key; absolute.
    pub recovery: PathBuf,
    /// The key to go on from; `None`: the last one of this node's own.
    #[serde(default)]
    pub publisher: Option<Publisher>,
}

/// The body of `id/revoke`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeAsk {
    /// The key; `None`: the one that this node publishes with.
    #[serde(default)]
    pub key: Option<Publisher>,
    /// `compromised`, `lost`, `retired` or `superseded`.
    pub reason: String,
    /// The file of the recovery key; absolute.
    #[serde(default)]
    pub recovery: Option<PathBuf>,
}
