//! Which files of a folder are published, and under which paths. Nothing is read here.

use super::PublishError;
use crate::catalog::Stamp;
use protocol::{RepoName, RepoPath};
use std::path::{Path, PathBuf};

/// A file to publish.
pub(crate) struct Found {
    /// Where it lies, absolute.
    pub(crate) path: PathBuf,
    /// Its path in the repo.
    pub(crate) name: RepoPath,
    /// What it looks like.
    pub(crate) stamp: Stamp,
}

/// Makes a repo name of a path's last part: what does not fit becomes a dash.
pub(super) fn name_of(path: &Path) -> Result<RepoName, PublishError> {
    let unfit = || PublishError::Name {
        path: path.to_owned(),
    };
    let full = path.canonicalize().map_err(|source| PublishError::Read {
        path: path.to_owned(),
        source,
    })?;
    let last = full
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(unfit)?;
    fit(last).ok_or_else(unfit)
}

/// Makes a repo name of a text: what does not fit becomes a dash. `None`: nothing is left of it.
pub(crate) fn fit(text: &str) -> Option<RepoName> {
    let mut name = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
            c
        } else {
            '-'
        };
        if !(matches!(c, '-' | '.') && name.ends_with(c)) {
            name.push(c);
        }
    }
    name.truncate(protocol::limits::REPO_NAME_LEN_MAX);
    let name = name.trim_matches(['-', '.']);
    RepoName::new(name.strip_suffix(".git").unwrap_or(name)).ok()
}

/// Lists the files of a folder, or the one file, with what is left out.
pub(super) fn find(root: &Path) -> Result<(Vec<Found>, Vec<String>), PublishError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| PublishError::Read { path, source }
    };
    let full = root.canonicalize().map_err(read(root))?;
    let metadata = full.metadata().map_err(read(root))?;
    let mut left_out = Vec::new();
    if metadata.is_file() {
        let name = full.file_name().unwrap_or_default();
        let file = found(&full, Path::new(name), Stamp::of(&metadata))?;
        return Ok((vec![file], left_out));
    }
    if !metadata.is_dir() {
        return Err(PublishError::Special {
            path: root.to_owned(),
        });
    }
    let mut files = Vec::new();
    let mut walk = walkdir::WalkDir::new(&full).min_depth(1).into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(&full).to_owned();
            PublishError::Read {
                path,
                source: error.into(),
            }
        })?;
        let name = entry
            .path()
            .strip_prefix(&full)
            .expect("the walk stays below its root");
        if is_dropping(entry.file_name().to_str().unwrap_or("")) {
            left_out.push(format!(
                "{}: made by a tool, not part of the content",
                name.display()
            ));
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        let target = if entry.path_is_symlink() {
            match entry.path().canonicalize() {
                Ok(target) if target.starts_with(&full) && target.is_file() => target,
                _ => {
                    left_out.push(format!(
                        "{}: a symbolic link to no file of this folder",
                        name.display()
                    ));
                    continue;
                }
            }
        } else {
            entry.path().to_owned()
        };
        let metadata = target.metadata().map_err(read(&target))?;
        if metadata.is_file() {
            files.push(found(&target, name, Stamp::of(&metadata))?);
        } else if !metadata.is_dir() {
            left_out.push(format!("{}: neither a file nor a folder", name.display()));
        }
    }
    Ok((files, left_out))
}

/// A file to publish, its name checked.
pub(crate) fn found(path: &Path, name: &Path, stamp: Stamp) -> Result<Found, PublishError> {
    let mut text = String::new();
    for part in name.components() {
        let part = part.as_os_str().to_str().ok_or_else(|| PublishError::NotUtf8 {
            path: path.to_owned(),
        })?;
        if !text.is_empty() {
            text.push('/');
        }
        text.push_str(part);
    }
    let name = RepoPath::new(&text).map_err(|source| PublishError::Path {
        path: path.to_owned(),
        source,
    })?;
    Ok(Found {
        path: path.to_owned(),
        name,
        stamp,
    })
}

/// Tells whether a file or folder of this name is no content: version control, caches and what editors leave.
pub(crate) fn is_dropping(name: &str) -> bool {
    matches!(
        name,
        ".git"
            | ".cache"
            | ".hg"
            | ".svn"
            | ".DS_Store"
            | "Thumbs.db"
            | "desktop.ini"
            | ".ipynb_checkpoints"
            | "__pycache__"
    ) || name.ends_with('~')
        || name.starts_with(".#")
        || (name.starts_with('.') && (name.ends_with(".swp") || name.ends_with(".swo")))
}
