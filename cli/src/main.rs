//! The program: gives [`cli::run`] the process's arguments, streams and surroundings.

use std::io::{BufReader, IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;

use cli::Io;

fn main() -> ExitCode {
    // This program is also what models run in, in a process of their own.
    if let Some(code) = node::engine::child::run(std::env::args_os()) {
        return code;
    }
    let mut io = Io {
        stdin: Box::new(BufReader::new(stdin())),
        asks: stdin().is_terminal(),
        stdout: Box::new(stdout()),
        stderr: Box::new(stderr()),
        is_terminal: stderr().is_terminal(),
        data: directories::ProjectDirs::from("", "", "shoal").map(|folders| folders.data_dir().to_owned()),
        env: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        temp: std::env::temp_dir(),
        log: std::env::var("SHOAL_LOG").ok(),
    };
    cli::run(std::env::args_os(), &mut io)
}
