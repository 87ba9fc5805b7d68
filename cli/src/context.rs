//! What a command works with: the streams, the data folder, and how much it says.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Display};
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::args::Global;
use crate::failure::Failure;

/// The program's surroundings, given from outside so that a test can stand in for the process.
pub struct Io {
    /// Where what is asked for may be read from.
    pub stdin: Box<dyn BufRead + Send>,
    /// Whether a person is at stdin.
    pub asks: bool,
    /// Where what was asked for goes.
    pub stdout: Box<dyn Write + Send>,
    /// Where everything else goes.
    pub stderr: Box<dyn Write + Send>,
    /// Whether a person watches stderr: then there are progress bars.
    pub is_terminal: bool,
    /// The data folder if none is named; `None`: the platform has no place for one.
    pub data: Option<PathBuf>,
    /// The variables of the environment, as far as they are text: for what concerns other programs.
    pub env: BTreeMap<String, String>,
    /// Where folders for a while are made.
    pub temp: PathBuf,
    /// What to log, as a filter of the `tracing` kind; it overrides `-v` and `-q`.
    pub log: Option<String>,
}

/// [`Io`] and the global flags.
pub(crate) struct Context<'a> {
    pub(crate) io: &'a mut Io,
    /// The data folder, absolute.
    pub(crate) data: PathBuf,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(global: Global, io: &'a mut Io) -> Result<Context<'a>, Failure> {
        let data = global.data.or_else(|| io.data.clone());
        let none = || Failure::new("this system names no folder for data").hint("name one with --data DIR");
        let data = std::path::absolute(data.ok_or_else(none)?)?;
        Ok(Context {
            io,
            data,
            json: global.json,
            quiet: global.quiet,
        })
    }

    /// Prints a line of what was asked for.
    pub(crate) fn print(&mut self, line: impl Display) -> io::Result<()> {
        writeln!(self.io.stdout, "{line}")
    }

    /// Prints what was asked for as one line of JSON.
    pub(crate) fn print_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        writeln!(self.io.stdout, "{text}")?;
        self.io.stdout.flush()
    }

    /// Says something beside what was asked for; with `-q`, nothing.
    pub(crate) fn note(&mut self, line: Arguments<'_>) {
        if !self.quiet {
            // If nobody hears it, the work still goes on.
            let _ = writeln!(self.io.stderr, "{line}");
        }
    }
}
