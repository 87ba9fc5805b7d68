//! Tests that this machine cannot run: said loudly and counted, never passed in silence.

use std::env;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::thread;

/// Says on stderr that the calling test is skipped, and why. Call it, then return.
///
/// The same line is appended to the file that `SHOAL_SKIPPED` names, if it is set, so that a run over many tests can count them.
pub fn skip(reason: impl Display) {
    // The name of a test's thread is the name of the test.
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // One line, whatever the reason quotes: lines are what is counted.
    let reason = reason
        .to_string()
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("; ");
    let line = format!("SKIPPED {test}: {reason}\n");
    // Past the harness, which would swallow what `eprint!` says in a test that does not fail. Nobody listening is no failure either.
    let _ = io::stderr().write_all(line.as_bytes());
    // Read here, not in a main: the test harness has the main.
    if let Some(path) = env::var_os("SHOAL_SKIPPED") {
        // One write of one line: tests in other processes append to the same file.
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("SHOAL_SKIPPED is {}: {error}", path.display()));
    }
}
