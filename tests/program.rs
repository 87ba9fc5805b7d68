//! The real program in a test: `shoal` as a user starts it, on a data folder of its own, with no word to any other machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testnet::fixture;
use testnet::nodes::{self, Said, ShoalProcess, UpOptions};

/// The program.
pub(crate) fn path() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_shoal-tested"))
}

/// The program and a data folder.
pub(crate) struct Shoal {
    data: PathBuf,
    _folder: Option<TempDir>,
}

impl Shoal {
    /// On a new data folder, removed at the end.
    pub(crate) fn new() -> Shoal {
        let folder = tempfile::tempdir().unwrap();
        let Shoal { data, .. } = Shoal::on(&folder.path().join("data"));
        Shoal {
            data,
            _folder: Some(folder),
        }
    }

    /// On a data folder of the test's.
    pub(crate) fn on(data: &Path) -> Shoal {
        fs::create_dir_all(data).unwrap();
        let config = data.join("config.toml");
        if !config.exists() {
            let loopback = "listen = [\"/ip4/127.0.0.1/udp/0/quic-v1\", \"/ip4/127.0.0.1/tcp/0\"]\n";
            fs::write(&config, format!("{loopback}mdns = false\nupnp = false\n")).unwrap();
        }
        Shoal {
            data: data.to_owned(),
            _folder: None,
        }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A new folder beside the data folder, removed with it.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.data.with_file_name("beside").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The command, to be started in another way than [`Shoal::run`]'s.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(path());
        command
            .arg("--data")
            .arg(&self.data)
            .args(args)
            .env_remove("SHOAL_LOG");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        nodes::shoal(path(), &self.data, args).unwrap()
    }

    /// Runs a command that must do what it is asked, and returns the last line that it printed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let said = self.run(&[args, &["--json"]].concat());
        assert!(said.status.success(), "shoal {args:?}: {said:?}");
        last_json(&said.stdout).unwrap_or_else(|| panic!("shoal {args:?} prints JSON: {said:?}"))
    }

    /// Runs a command that must end with this code, and returns what it says.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.status.code(), Some(code), "shoal {args:?}: {said:?}");
        said
    }

    /// Publishes a folder and returns what was printed.
    pub(crate) fn publish(&self, folder: &Path, flags: &[&str]) -> Value {
        self.json(&[&["publish", text(folder)], flags].concat())
    }

    /// Starts a node and waits until it is ready.
    pub(crate) fn up(&self) -> ShoalProcess {
        ShoalProcess::up(path(), &self.data, UpOptions::default()).unwrap()
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The last line of what was printed, if it is a whole line of JSON.
pub(crate) fn last_json(stdout: &str) -> Option<Value> {
    let line = stdout.trim_end_matches('\n').lines().last()?;
    serde_json::from_str(line).ok()
}

/// A text field of something printed.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("a text {name:?} in {value}"))
}

/// The fields of something printed.
pub(crate) fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("an object: {value}"))
        .keys()
        .map(String::as_str)
        .collect()
}

/// A new folder with a small model in its `toy-model`.
pub(crate) fn toy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fixture::toy_model(&folder.path().join("toy-model"), 1).unwrap();
    folder
}

/// Whether a program of this machine can be called.
pub(crate) fn works(program: impl AsRef<OsStr>, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|output| output.status.success())
}
