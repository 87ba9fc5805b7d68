//! Why a model could not be validated, and what an engine's errors say of a model.

use std::error::Error;

use super::{probes::ProbesError, report::Line};
use crate::{
    attest::AttestError,
    engine::{session::EngineError, wire::Fault},
    library::LibraryError,
    run::RunError,
};

/// Why a model could not be validated. That it failed is no error.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The repo is not known here, or the data folder fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// There is no model, or it is not here.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Bytes that are here are not what they should be: that says nothing of the model.
    #[error("the files on this disk are damaged: {what}")]
    Damaged {
        /// Which, and how.
        what: String,
    },
    /// Nothing could be said of the model.
    #[error("nothing could be validated: {why}")]
    Nothing {
        /// Why.
        why: String,
    },
    /// What was found could not be kept.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// Probes could not be made.
    #[error(transparent)]
    Probes(#[from] ProbesError),
    /// The engine, while probes were made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The file of probes cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// Where to.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// What an engine's error says of the model that it was given: that it is wrong, or nothing.
pub(super) fn line(error: EngineError) -> Result<Line, ValidateError> {
    Ok(match &error {
        EngineError::Fault(Fault::Bytes { .. }) => {
            let what = error.to_string();
            return Err(ValidateError::Damaged { what });
        }
        EngineError::Cancelled => return Err(error.into()),
        EngineError::Fault(Fault::NotANumber(_) | Fault::Invalid { .. } | Fault::Absent { .. })
        | EngineError::Panicked { .. }
        | EngineError::Forbidden
        | EngineError::Nonsense { .. } => Line::failed(error.to_string()),
        // What this build or this machine cannot do, others may.
        EngineError::Fault(Fault::Architecture { .. } | Fault::Unsupported { .. } | Fault::Ask(_))
        | EngineError::Start { .. }
        | EngineError::Memory { .. }
        | EngineError::Cpu { .. }
        | EngineError::Wall { .. }
        | EngineError::Crashed { .. }
        | EngineError::Ended { .. } => Line::not_done(error.to_string()),
    })
}

/// An error and what it comes from, in one line.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Verdict;
    use std::time::Duration;

    #[test]
    fn what_this_machine_cannot_do_is_not_failed() {
        let fault = |fault| EngineError::Fault(fault);
        let path = || "config.json".to_owned();
        let table = [
            (fault(Fault::NotANumber("NaN".to_owned())), Verdict::Failed),
            (
                EngineError::Panicked {
                    said: "index out of bounds".to_owned(),
                },
                Verdict::Failed,
            ),
            (EngineError::Forbidden, Verdict::Failed),
            (EngineError::Memory { limit: Some(1 << 30) }, Verdict::NotDone),
            (
                EngineError::Wall {
                    limit: Duration::from_secs(1),
                },
                Verdict::NotDone,
            ),
            (
                fault(Fault::Unsupported {
                    path: path(),
                    what: "rope_type".to_owned(),
                }),
                Verdict::NotDone,
            ),
            (
                fault(Fault::Architecture {
                    found: "GPTNeoX".to_owned(),
                    path: path(),
                    supported: vec!["bert".to_owned()],
                }),
                Verdict::NotDone,
            ),
        ];
        for (error, verdict) in table {
            let said = error.to_string();
            let line = line(error).unwrap();
            assert_eq!((line.verdict, line.text), (verdict, said));
        }
        let damaged = fault(Fault::Bytes {
            path: path(),
            what: "other bytes".to_owned(),
        });
        assert!(matches!(line(damaged), Err(ValidateError::Damaged { .. })));
    }
}
