//! Which of a repo's files are the model.

use crate::engine::{files::Files, wire::Fault};

/// What transformers says of a model.
pub(super) const CONFIG: &str = "config.json";
/// Weights that transformers saved, in one file.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// Where which tensor is, if they are in several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The files of a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A config, and weights in one file, or in those of an index.
    Safetensors {
        /// Whether there is an index.
        index: bool,
    },
    /// All in this one file.
    Gguf(String),
}

impl Found {
    /// Finds it: as transformers saves it, if the files are there; otherwise in the only GGUF file. One file of weights comes before
    /// an index, as it does for transformers.
    ///
    /// # Errors
    /// [`Fault::Absent`]: there is neither. [`Fault::Ask`]: there are several GGUF files, and each is a model.
    pub(super) fn among(files: &Files) -> Result<Found, Fault> {
        let has = |path: &str| files.paths().any(|known| known == path);
        let (whole, index) = (has(WEIGHTS), has(INDEX));
        if has(CONFIG) && (whole || index) {
            return Ok(Found::Safetensors { index: !whole });
        }
        let mut gguf: Vec<&str> = files.paths().filter(|path| path.ends_with(".gguf")).collect();
        gguf.sort_unstable();
        match gguf[..] {
            [one] => Ok(Found::Gguf(one.to_owned())),
            [] => Err(Fault::Absent {
                what: match whole || index {
                    true => CONFIG.to_owned(),
                    false => format!("model ({WEIGHTS} with {CONFIG}, or a GGUF file)"),
                },
            }),
            _ => Err(Fault::Ask(format!(
                "each of these is a model: {}; choose one",
                gguf.join(", ")
            ))),
        }
    }
}
