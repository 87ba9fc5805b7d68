//! The doors of the child process: what it does to itself before it looks at any byte of a model. In this order: what was
//! inherited is closed, it goes when its parent goes, the files it was given are opened and its threads started; then memory,
//! processor time and descriptors are bounded, and only system calls that computing needs are left.
//!
//! What a system does not offer is never passed over: it is listed in [`Doors::missing`].

#[cfg(target_os = "linux")]
mod syscalls;

use std::process::abort;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::wire::Doors;

/// Address space beyond what the data of a process may take, in bytes: the program, its libraries, and room that allocators
/// and the stacks of threads reserve without using it.
const ADDRESSES_BEYOND: u64 = 16 << 30;

/// What a child may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Most bytes of memory; `None`: what the system has.
    pub memory: Option<u64>,
    /// Most seconds of processor time, of all its threads together.
    pub cpu_s: Option<u64>,
}

/// A process that has entered, and whose doors are still open: it may open the files it was given, and nothing else.
#[derive(Debug)]
#[must_use = "the doors stay open until they are closed"]
pub struct Doorway {
    bounds: Bounds,
    missing: Vec<String>,
}

impl Doorway {
    /// Lets go of all that a process inherits, but for stdin, stdout and stderr. To be called first in `main`, before anything
    /// is opened: descriptors that somebody holds would be closed under them.
    pub fn enter(bounds: Bounds) -> Doorway {
        let mut doorway = Doorway {
            bounds,
            missing: Vec::new(),
        };
        doorway.let_go();
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        doorway.note("core dumps are off", setrlimit(Resource::Core, none));
        doorway
    }

    /// Closes all doors; threads must be running by now. Aborts where a bound that was asked for cannot be set: a child without it
    /// must not go on.
    pub fn close(mut self) -> Doors {
        let Bounds { memory, cpu_s } = self.bounds;
        let exactly = |amount| Rlimit {
            current: Some(amount),
            maximum: Some(amount),
        };
        if let Some(memory) = memory {
            let addresses = memory.saturating_add(ADDRESSES_BEYOND);
            // Of a system that does not count private memory as data, at least the addresses are bounded.
            let data = setrlimit(Resource::Data, exactly(memory));
            if data.and(setrlimit(Resource::As, exactly(addresses))).is_err() {
                abort();
            }
        }
        if let Some(seconds) = cpu_s {
            // The first tells the process by a signal that says what it was; the second is for who does not hear it.
            let limit = Rlimit {
                current: Some(seconds),
                maximum: Some(seconds.saturating_add(1)),
            };
            if setrlimit(Resource::Cpu, limit).is_err() {
                abort();
            }
        }
        self.note("files cannot grow", setrlimit(Resource::Fsize, exactly(0)));
        self.note(
            "no more descriptors are given out",
            setrlimit(Resource::Nofile, exactly(0)),
        );
        let syscalls = self.filter();
        Doors {
            syscalls,
            memory,
            cpu_s,
            missing: self.missing,
        }
    }

    fn note<E: std::fmt::Display>(&mut self, what: &str, outcome: Result<(), E>) {
        if let Err(error) = outcome {
            self.missing.push(format!("{what}: {error}"));
        }
    }

    #[cfg(target_os = "linux")]
    fn let_go(&mut self) {
        use rustix::process::{
            DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
        };

        self.note("inherited descriptors are closed", syscalls::close_inherited());
        let goes = set_parent_process_death_signal(Some(Signal::KILL));
        self.note("it goes when its parent goes", goes);
        self.note(
            "other processes cannot look into it",
            set_dumpable_behavior(DumpableBehavior::NotDumpable),
        );
        self.note("it cannot gain rights", rustix::thread::set_no_new_privs(true));
    }

    #[cfg(not(target_os = "linux"))]
    fn let_go(&mut self) {
        self.missing
            .push("inherited descriptors are closed: only on Linux".to_owned());
    }

    #[cfg(target_os = "linux")]
    fn filter(&mut self) -> bool {
        let filtered = syscalls::filter();
        let done = filtered.is_ok();
        self.note("system calls are filtered", filtered);
        done
    }

    #[cfg(not(target_os = "linux"))]
    fn filter(&mut self) -> bool {
        self.missing
            .push("system calls are filtered: only on Linux".to_owned());
        false
    }
}

/// Starts every thread that computing will use: no more can be started once the doors are closed.
pub fn start_threads() {
    rayon::broadcast(|_| ());
    candle_core::utils::with_threadpool(|| rayon::broadcast(|_| ()));
    // What adds and multiplies long tensors element by element has threads of its own.
    candle_core::utils::barrier_pool();
    // It is found out once, by reading what the system says of its processors.
    let _ = candle_core::utils::get_num_threads();
}
