//! Why a model does not run.

use protocol::RepoRef;

use crate::{check::CheckError, engine::session::EngineError, library::LibraryError};

/// Why a model does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The repo is not known here, or what is known of it cannot be read.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// There is nothing in the repo that could be run.
    #[error("no model that runs is in it: {what}")]
    NoModel {
        /// What was looked for, or what is there instead.
        what: String,
    },
    /// There are several models in the repo, and none was named.
    #[error("{} models are in it: {}", files.len(), files.join(", "))]
    Several {
        /// Their files.
        files: Vec<String>,
    },
    /// Files that the model needs are not here.
    #[error("{} of the model {not} here: {}", count(files), files.join(", "), not = if files.len() == 1 { "is not" } else { "are not" })]
    Missing {
        /// The repo.
        what: RepoRef,
        /// The files.
        files: Vec<String>,
    },
    /// A file's header is not what its format asks for.
    #[error("{path}")]
    Header {
        /// The file.
        path: String,
        /// What is wrong.
        source: CheckError,
    },
    /// A folder, or a file in it, cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model does not fit into the memory that there is.
    #[error("it needs {} GiB of memory, and {} are {}", gib(*need), gib(*room), if *given { "given" } else { "free" })]
    Memory {
        /// What it needs at least, in bytes.
        need: u64,
        /// What there is, in bytes.
        room: u64,
        /// Whether the user said how much there is.
        given: bool,
    },
    /// More wait for engines already than may.
    #[error("{waiting} wait for an engine already")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// The engine, or the model in it.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn count(files: &[String]) -> String {
    match files.len() {
        1 => "1 file".to_owned(),
        many => format!("{many} files"),
    }
}

/// With one digit behind the point, and never less than there is.
fn gib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 30);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_there_is_and_what_there_is_not() {
        let memory = RunError::Memory {
            need: 28 << 30,
            room: (3 << 30) / 2,
            given: false,
        };
        assert_eq!(
            memory.to_string(),
            "it needs 28.0 GiB of memory, and 1.5 are free"
        );
        let missing = |files: &[&str]| RunError::Missing {
            what: "meta/llama".parse().unwrap(),
            files: files.iter().map(|file| (*file).to_owned()).collect(),
        };
        assert_eq!(missing(&["a"]).to_string(), "1 file of the model is not here: a");
        assert_eq!(
            missing(&["a", "b"]).to_string(),
            "2 files of the model are not here: a, b"
        );
    }
}
