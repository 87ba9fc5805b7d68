//! What can become of an engine, as its node sees it: whatever a model does to the child ends up here.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use rustix::process::Signal;

use crate::engine::{child, doors::Bounds, wire::Fault};

/// Why an engine does not answer. After all but [`EngineError::Fault`] of a loaded model it has ended.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The child could not be started.
    #[error("the engine cannot be started ({program})", program = program.display())]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The model's files, or the model, cannot do what was asked.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It needed more memory than it was given, or than the system has.
    #[error("the engine ran out of memory{}", limit.map_or_else(String::new, |limit| format!(": it may take {:.1} GiB", gib(limit))))]
    Memory {
        /// How much it may take, in bytes.
        limit: Option<u64>,
    },
    /// It used up its processor time.
    #[error("the engine used up its {limit_s} s of processor time")]
    Cpu {
        /// How much it may use, in seconds.
        limit_s: u64,
    },
    /// It took too long for one ask.
    #[error("the engine did not answer within {limit:?}")]
    Wall {
        /// How long it may take.
        limit: Duration,
    },
    /// It did what it may not: a system call that computing does not need.
    #[error("the engine tried what it may not do, and was stopped")]
    Forbidden,
    /// It found a state that cannot be: a fault of ours, or a file that we should have refused.
    #[error("the engine broke off: {said}")]
    Panicked {
        /// What it said of it.
        said: String,
    },
    /// A signal ended it.
    #[error("the engine was ended by signal {signal}{}", colon(said))]
    Crashed {
        /// The signal's number.
        signal: i32,
        /// The last of what it wrote to stderr.
        said: String,
    },
    /// It ended by itself before it had answered.
    #[error("the engine ended early, with code {code}{}", colon(said))]
    Ended {
        /// Its exit code.
        code: i32,
        /// The last of what it wrote to stderr.
        said: String,
    },
    /// It said what makes no sense.
    #[error("the engine answered with {what}")]
    Nonsense {
        /// What it said.
        what: String,
    },
    /// Whoever asked it before went away in the middle of the answer, which ended it.
    #[error("the engine was stopped")]
    Cancelled,
}

/// How a child ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) status: ExitStatus,
    /// The last of what it wrote to stderr.
    pub(super) said: String,
}

impl EngineError {
    /// What an end means, for a child with these bounds that was not killed by us.
    pub(super) fn of(end: End, bounds: Bounds) -> EngineError {
        use std::os::unix::process::ExitStatusExt;

        let End { status, said } = end;
        let Some(signal) = status.signal() else {
            let code = status.code().unwrap_or_default();
            return match code {
                child::PANICKED => EngineError::Panicked { said },
                _ => EngineError::Ended { code, said },
            };
        };
        let is = |known: Signal| signal == known.as_raw();
        // What the runtime says when an allocation fails, before it aborts.
        let out_of_memory = is(Signal::ABORT) && said.contains("memory allocation of");
        match bounds {
            // Only a system short of memory kills out of the blue.
            Bounds { memory, .. } if out_of_memory || is(Signal::KILL) => {
                EngineError::Memory { limit: memory }
            }
            Bounds {
                cpu_s: Some(limit_s), ..
            } if is(Signal::XCPU) => EngineError::Cpu { limit_s },
            _ if is(Signal::SYS) => EngineError::Forbidden,
            _ => EngineError::Crashed { signal, said },
        }
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn colon(said: &str) -> String {
    match said {
        "" => String::new(),
        said => format!(": {said}"),
    }
}
