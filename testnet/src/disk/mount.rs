//! Folders with disk images and mount points, cleaned up whatever happens.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use tempfile::TempDir;

use super::DiskError;

/// What the names of our folders start with; then comes the process id.
const PREFIX: &str = "shoal-disk-";

/// A folder for the images and mount points of one fixture, deleted on drop.
#[derive(Debug)]
pub(super) struct Workplace {
    folder: TempDir,
}

impl Workplace {
    pub(super) fn create() -> Result<Self, DiskError> {
        sweep();
        let prefix = format!("{PREFIX}{}-", process::id());
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir()
            .map_err(io_error("a folder for disk images".into()))?;
        Ok(Self { folder })
    }

    /// Makes an empty image, and returns its path.
    pub(super) fn image(&self, name: &str, bytes: u64) -> Result<PathBuf, DiskError> {
        let path = self.folder.path().join(name);
        make_image(&path, bytes)?;
        Ok(path)
    }

    /// Mounts `source` on the new folder `name`.
    pub(super) fn mount(&self, name: &str, options: &[&str], source: &Path) -> Result<Mount, DiskError> {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).map_err(io_error(path.display().to_string()))?;
        run("mount", options, &[source, &path])?;
        Ok(Mount { path })
    }
}

/// A mounted file system, unmounted on drop.
#[derive(Debug)]
pub(super) struct Mount {
    path: PathBuf,
}

impl Mount {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.path);
        let _ = fs::remove_dir(&self.path);
    }
}

/// Makes a sparse file.
pub(super) fn make_image(path: &Path, bytes: u64) -> Result<(), DiskError> {
    File::create_new(path)
        .and_then(|file| file.set_len(bytes))
        .map_err(io_error(path.display().to_string()))
}

/// Unmounts at once, or, when a program still has a file open there, as soon as it closes it.
fn unmount(path: &Path) {
    if run("umount", &[], &[path]).is_err() {
        let _ = run("umount", &["--lazy"], &[path]);
    }
}

/// Unmounts and deletes what processes left that are no more. Best effort.
fn sweep() {
    let left = |path: &Path| {
        let folder = path
            .strip_prefix(std::env::temp_dir())
            .ok()?
            .components()
            .next()?;
        let (process, _) = folder
            .as_os_str()
            .to_str()?
            .strip_prefix(PREFIX)?
            .split_once('-')?;
        process.parse::<u32>().ok()?;
        (!Path::new("/proc").join(process).exists()).then_some(())
    };
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // Backwards: what was mounted last may be within what was mounted before.
    for path in mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(1))
        .map(Path::new)
        .filter(|path| left(path).is_some())
    {
        unmount(path);
    }
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for path in entries
        .map(|entry| entry.path())
        .filter(|path| left(path).is_some())
    {
        let _ = fs::remove_dir_all(path);
    }
}

/// Whether we are root and every one of `programs` is there.
pub(super) fn check_available(programs: &[&str]) -> Result<(), DiskError> {
    if !rustix::process::geteuid().is_root() {
        return Err(DiskError::Unavailable {
            why: "only root may mount".into(),
        });
    }
    for program in programs {
        if let Err(source) = Command::new(program).arg("-V").output() {
            return match source.kind() {
                io::ErrorKind::NotFound => Err(DiskError::Unavailable {
                    why: format!("there is no `{program}`"),
                }),
                _ => Err(io_error((*program).to_owned())(source)),
            };
        }
    }
    Ok(())
}

/// What `mount` says where there is no mounting, no loop device, or no such file system.
const REFUSALS: [&str; 4] = [
    "permission denied",
    "not permitted",
    "failed to setup loop device",
    "unknown filesystem type",
];

/// Runs a program that must succeed.
pub(super) fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<(), DiskError> {
    let mut command = Command::new(program);
    command.args(options).args(paths);
    let output = command.output().map_err(io_error(program.to_owned()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if program == "mount" && REFUSALS.iter().any(|refusal| said.contains(refusal)) {
        return Err(DiskError::Unavailable { why: said });
    }
    Err(DiskError::Command {
        command: format!("{command:?}"),
        said,
    })
}

fn io_error(what: String) -> impl FnOnce(io::Error) -> DiskError {
    |source| DiskError::Io { what, source }
}
