//! The namespaces of a net, by name, through `ip` of iproute2. Names say which process made them, so that those of a killed process can
//! be told from those in use.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{self, Command, Stdio};

use super::{NetError, io_error};

/// What the names of our namespaces start with; then come the process id, the net and the host.
const PREFIX: &str = "shoal";

/// Named namespaces, removed on drop.
#[derive(Debug)]
pub(super) struct Namespaces {
    names: Vec<String>,
}

impl Namespaces {
    /// Makes `hosts` namespaces for net number `net` of this process.
    pub(super) fn add(net: u32, hosts: usize) -> Result<Self, NetError> {
        let process = process::id();
        // Before anything exists, so that what did come to be is removed when one fails.
        let namespaces = Self {
            names: (0..hosts)
                .map(|host| format!("{PREFIX}-{process}-{net}-{host}"))
                .collect(),
        };
        let lines: String = namespaces
            .names
            .iter()
            .map(|name| format!("netns add {name}\n"))
            .collect();
        match batch(None, &lines) {
            Err(NetError::Ip { said, .. }) if said.contains("not permitted") => {
                Err(NetError::Unavailable { why: said })
            }
            other => other.map(|()| namespaces),
        }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        delete(self.names.iter().filter(|name| path_of(name).exists()));
    }
}

/// Removes the namespaces whose process is no more.
pub(super) fn sweep() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left: Vec<String> = names
        .filter(|name| maker(name).is_some_and(|process| !Path::new("/proc").join(process).exists()))
        .collect();
    delete(left.iter());
}

/// The process id in a name of ours.
fn maker(name: &str) -> Option<&str> {
    let (process, _) = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split_once('-')?;
    process.parse::<u32>().is_ok().then_some(process)
}

/// Where `ip` keeps the namespace of this name.
pub(super) fn path_of(name: &str) -> std::path::PathBuf {
    Path::new("/run/netns").join(name)
}

/// Best effort: what cannot be removed now is swept by a later net.
fn delete<'a>(names: impl Iterator<Item = &'a String>) {
    let lines: String = names.map(|name| format!("netns del {name}\n")).collect();
    if !lines.is_empty() {
        let _ = run(&["-force", "-batch", "-"], &lines);
    }
}

/// Whether `ip` can be run at all.
pub(super) fn check_installed() -> Result<(), NetError> {
    match run(&["-Version"], "") {
        Err(NetError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(NetError::Unavailable {
                why: "there is no `ip` (package iproute2)".into(),
            })
        }
        other => other,
    }
}

/// Runs the commands in `lines` in one process, within `namespace` or here, up to the first that fails.
pub(super) fn batch(namespace: Option<&str>, lines: &str) -> Result<(), NetError> {
    match namespace {
        Some(name) => run(&["-n", name, "-batch", "-"], lines),
        None => run(&["-batch", "-"], lines),
    }
}

fn run(arguments: &[&str], input: &str) -> Result<(), NetError> {
    let failed = || io_error(format!("ip {}", arguments.join(" ")));
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that fails early closes its end: what it says on stderr is worth more than our broken pipe.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(failed())?;
    if output.status.success() {
        return Ok(());
    }
    Err(NetError::Ip {
        command: arguments.join(" "),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
