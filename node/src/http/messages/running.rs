//! What is said of running models.

use protocol::RepoRef;
use serde::{Deserialize, Serialize};

use super::{ErrorAnswer, as_text};
use crate::engine::wire::{Loaded, Weights};
use crate::progress::Snapshot;
use crate::run::{Answer, Talk};

/// The body of `run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAsk {
    /// Whose model.
    #[serde(with = "as_text")]
    pub repo: RepoRef,
    /// Which file is the model, in a repo that has several.
    #[serde(default)]
    pub file: Option<String>,
    /// Most memory that it may take, in bytes. `None`: what the node gives an engine.
    #[serde(default)]
    pub memory: Option<u64>,
    /// How weights are kept. `None`: as 32 bits floats where there is room for them.
    #[serde(default)]
    pub weights: Option<Weights>,
    /// What is said to it.
    pub talk: Talk,
}

/// One line of the answer of `run`. The last is `Done` or `Failed`; an answer that ends without it was cut. Who goes away ends the work.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunLine {
    /// How far loading is; at most five a second.
    Progress(Snapshot),
    /// The model is loaded.
    Loaded {
        /// What it is.
        model: Loaded,
    },
    /// A piece of the generated text.
    Text {
        /// The text.
        text: String,
    },
    /// It is done.
    Done {
        /// What came out.
        answer: Answer,
    },
    /// It was not to be done.
    Failed(ErrorAnswer),
}
