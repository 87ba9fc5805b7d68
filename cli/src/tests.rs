//! The whole program, run against streams in memory. Nothing here opens a data folder or a socket.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::*;

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    fn read(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the program; returns its exit code and what it wrote to stdout and stderr.
fn shoal(folder: &Path, line: &[&str]) -> (ExitCode, String, String) {
    let (stdout, stderr) = (Text::default(), Text::default());
    let mut io = Io {
        stdin: Box::new(io::empty()),
        asks: false,
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(stderr.clone()),
        is_terminal: false,
        data: Some(folder.join("data")),
        env: BTreeMap::new(),
        temp: folder.to_owned(),
        log: None,
    };
    let code = run(
        std::iter::once("shoal")
            .chain(line.iter().copied())
            .map(OsString::from),
        &mut io,
    );
    (code, stdout.read(), stderr.read())
}

#[test]
fn help_is_data_and_misuse_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = shoal(folder.path(), &["--help"]);
    assert_eq!((code, stderr.as_str()), (ExitCode::SUCCESS, ""));
    assert!(stdout.contains("shoal fetch"));
    let (code, stdout, stderr) = shoal(folder.path(), &["fetch"]);
    assert_eq!((code, stdout.as_str()), (ExitCode::from(2), ""));
    assert!(
        stderr.contains("error: ") && stderr.contains("shoal fetch"),
        "{stderr}"
    );
}

#[test]
fn completions_name_the_commands_and_touch_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, stdout, _) = shoal(folder.path(), &["completions", shell]);
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(stdout.contains("unfollow"), "{shell}");
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn only_a_running_node_has_peers_jobs_and_limits() {
    let folder = tempfile::tempdir().unwrap();
    let lines: [&[&str]; 6] = [
        &["peers"],
        &["status"],
        &["jobs"],
        &["jobs", "pause", "all"],
        &["limit"],
        &["limit", "--up", "2M"],
    ];
    for line in lines {
        let (code, stdout, stderr) = shoal(folder.path(), line);
        assert_eq!((code, stdout.as_str()), (ExitCode::from(1), ""));
        assert!(
            stderr.starts_with("error: no node runs on ") && stderr.contains("\nhint: start one: shoal up\n"),
            "{stderr}"
        );
    }
    assert!(!folder.path().join("data").exists());
}

#[test]
fn proof_that_is_none_fails_the_verification_and_says_so_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("x.proof");
    std::fs::write(&proof, "nonsense").unwrap();
    let (dir, file) = (folder.path().to_str().unwrap(), proof.to_str().unwrap());
    let (code, stdout, stderr) = shoal(folder.path(), &["verify", dir, "--proof", file, "--json"]);
    assert_eq!(code, ExitCode::from(3));
    let wanted = format!(
        "{{\"ok\":false,\"files\":0,\"bad\":[{{\"path\":\"{file}\",\"reason\":\"wrong_proof\",\"offset\":null}}]}}\n"
    );
    assert_eq!(stdout, wanted);
    assert!(stderr.contains("proves nothing"), "{stderr}");
    let (code, ..) = shoal(folder.path(), &["verify", dir, "--proof", "missing"]);
    assert_eq!(code, ExitCode::from(1));
    assert!(!folder.path().join("data").exists());
}

#[test]
fn folder_without_a_proof_gets_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) = shoal(folder.path(), &["verify", folder.path().to_str().unwrap()]);
    assert_eq!(code, ExitCode::from(1));
    assert!(stderr.contains("hint: name its proof file"), "{stderr}");
}
