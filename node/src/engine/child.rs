//! The child's side: how a program is told that it is to be an engine, and [`run`], the whole of one.

mod lines;
mod serve;

use std::{ffi::OsString, process::ExitCode};

use super::doors::{Bounds, Doorway};

/// The first argument of a program that is to be an engine. No user types it.
pub const ARGUMENT: &str = "--run-as-engine";

/// Exit code of a program that panicked.
pub(crate) const PANICKED: i32 = 101;

/// Exit code of a command line that makes no sense.
const MISUSE: u8 = 2;

/// The arguments of a child with these bounds.
pub(crate) fn arguments(bounds: Bounds) -> [String; 3] {
    let text = |amount: Option<u64>| amount.map_or_else(|| "none".to_owned(), |amount| amount.to_string());
    [ARGUMENT.to_owned(), text(bounds.memory), text(bounds.cpu_s)]
}

/// Reads the arguments of a program, its own name first; `None`: it is not to be an engine. `Some(None)`: it is, but the bounds make
/// no sense.
fn asked(arguments: impl IntoIterator<Item = OsString>) -> Option<Option<Bounds>> {
    let mut arguments = arguments.into_iter().skip(1);
    arguments.next().filter(|first| first == ARGUMENT)?;
    let mut amount = || match arguments.next()?.to_str()? {
        "none" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let bounds = amount().and_then(|memory| {
        let cpu_s = amount()?;
        Some(Bounds { memory, cpu_s })
    });
    Some(bounds)
}

/// Enters as a child where the arguments say so: to be called first in `main`, before anything is opened.
///
/// `None`: the program is not to be an engine. `Some(Err(code))`: it is, and must end at once.
pub fn enter(arguments: impl IntoIterator<Item = OsString>) -> Option<Result<Doorway, ExitCode>> {
    let bounds = asked(arguments)?.ok_or(ExitCode::from(MISUSE));
    Some(bounds.map(Doorway::enter))
}

/// Is an engine, if the arguments say so: to be called first in `main`, before anything is opened.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    Some(match enter(arguments)? {
        Ok(doorway) => serve::serve(doorway),
        Err(code) => code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_reads_the_bounds_that_it_was_given() {
        let all = [
            (None, None),
            (Some(7), None),
            (None, Some(9)),
            (Some(u64::MAX), Some(1)),
        ];
        for (memory, cpu_s) in all {
            let bounds = Bounds { memory, cpu_s };
            let line = ["shoal".to_owned()].into_iter().chain(arguments(bounds));
            assert_eq!(asked(line.map(OsString::from)), Some(Some(bounds)));
        }
    }

    #[test]
    fn other_command_lines_are_no_engine_and_wrong_bounds_are_misuse() {
        let read = |line: &str| asked(line.split_whitespace().map(OsString::from));
        for other in ["", "shoal", "shoal run x", "shoal run --run-as-engine none none"] {
            assert_eq!(read(other), None, "{other}");
        }
        for wrong in ["", "none", "none x", "-1 none", "none 99999999999999999999"] {
            assert_eq!(read(&format!("shoal {ARGUMENT} {wrong}")), Some(None), "{wrong}");
        }
    }
}
