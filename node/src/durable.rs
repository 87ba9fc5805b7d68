//! What "on disk" means, for every room: a file is there after a power cut, whole or not at all.
//!
//! Everything here blocks: call it from a blocking pool. Nothing here knows what the bytes are. After a failed fsync the state of the
//! pages is unknown, so nobody retries one: the error goes up, and what was to be acknowledged is not.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Start of the name of every file that is not yet what it will be; [`sweep_unfinished`] removes them after a crash.
const UNFINISHED: &str = ".unfinished-";

/// Replaces `path` by a file with `bytes`, of mode 0600: after a crash at any moment it is the old file or the new one.
///
/// Durable on return: the file was fsynced before it got its name, and its folder after.
///
/// # Errors
/// Those of the file system. The old file is then still there; only an error of the folder's fsync can leave the new one in its place.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes)?;
    sync_folder(folder_of(path))
}

/// The first half of [`write_atomic`], for callers that write several files of one folder and then call [`sync_folder`] once.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Makes the content and length of a file durable. Its name is durable only after [`sync_folder`] of its folder.
///
/// # Errors
/// Those of the file system.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the names in a folder durable: files made, renamed and removed in it.
///
/// # Errors
/// Those of the file system. One that has no fsync for folders (some network file systems say `EINVAL`) counts as done: it gives no more.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

/// Makes a folder and those above it that are missing, durably. A folder that is there is left as it is.
///
/// # Errors
/// Those of the file system.
pub fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    if above != path {
        create_folders(above)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        outcome => outcome?,
    }
    sync_folder(above)
}

/// Removes a file durably; `false`: it was not there.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        outcome => {
            outcome?;
            sync_folder(folder_of(path))?;
            Ok(true)
        }
    }
}

/// Removes what a crash left of [`replace`] in a folder; returns how many files that were. Not while somebody writes there.
///
/// # Errors
/// Those of the file system. A missing folder has nothing in it.
pub fn sweep_unfinished(folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut swept = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Bytes that a program without privileges can still write on the file system of `path`, which must exist.
///
/// # Errors
/// Those of `statvfs`.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether an error says that there is no room: on the disk, or within the user's quota.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The folder that a path lies in; `.` for a bare name, the root for the root.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn written_file_replaces_the_old_one_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new and longer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new and longer");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn failed_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        assert!(write_atomic(&path, b"new").is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn sweep_removes_what_is_unfinished_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".unfinished-x1"), b"half").unwrap();
        fs::write(folder.path().join("kept"), b"whole").unwrap();
        assert_eq!(sweep_unfinished(folder.path()).unwrap(), 1);
        assert!(folder.path().join("kept").exists());
        assert_eq!(sweep_unfinished(&folder.path().join("none")).unwrap(), 0);
    }

    #[test]
    fn folders_are_made_with_those_above_them() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        create_folders(&deep).unwrap();
        create_folders(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(folder.path().join("file"), b"").unwrap();
        assert!(create_folders(&folder.path().join("file/below")).is_err());
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"").unwrap();
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }

    #[test]
    fn full_disk_and_spent_quota_are_told_from_other_errors() {
        assert!(is_full(&io::Error::from_raw_os_error(
            rustix::io::Errno::NOSPC.raw_os_error()
        )));
        assert!(is_full(&io::Error::from_raw_os_error(
            rustix::io::Errno::DQUOT.raw_os_error()
        )));
        assert!(!is_full(&io::Error::from_raw_os_error(
            rustix::io::Errno::IO.raw_os_error()
        )));
        let folder = tempfile::tempdir().unwrap();
        assert!(free_space(folder.path()).unwrap() > 0);
    }
}
