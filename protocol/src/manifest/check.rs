//! The rules of a manifest that look at more than one field: each in time linear in the files, but for sorting them.

use super::{FileEntry, ManifestError};
use crate::hash::{GitId, Hash, Sha256};
use crate::limits::{BLOB_LEN_MAX, FILES_MAX, MANIFEST_LEN_MAX, TOTAL_LEN_MAX};
use crate::path::RepoPath;

pub(super) fn check_len(len: usize) -> Result<(), ManifestError> {
    let max = MANIFEST_LEN_MAX;
    if len > max {
        return Err(ManifestError::TooLong { len, max });
    }
    Ok(())
}

pub(super) fn check_count(count: usize) -> Result<(), ManifestError> {
    let max = FILES_MAX;
    match count {
        0 => Err(ManifestError::EmptyManifest),
        _ if count > max => Err(ManifestError::TooManyFiles { count, max }),
        _ => Ok(()),
    }
}

pub(super) fn check_sorted(files: &[FileEntry]) -> Result<(), ManifestError> {
    for pair in files.windows(2) {
        if let [first, second] = pair
            && first.path > second.path
        {
            return Err(ManifestError::Unsorted {
                after: first.path.clone(),
                before: second.path.clone(),
            });
        }
    }
    Ok(())
}

/// Checks sorted files against each other, and returns the sum of their sizes.
pub(super) fn check(files: &[FileEntry]) -> Result<u64, ManifestError> {
    for pair in files.windows(2) {
        if let [first, second] = pair
            && first.path == second.path
        {
            let path = first.path.clone();
            return Err(ManifestError::DuplicatePath { path });
        }
    }
    check_places(files)?;
    let mut total: u64 = 0;
    for file in files {
        check_file(file)?;
        total = total
            .checked_add(file.size)
            .filter(|total| *total <= TOTAL_LEN_MAX)
            .ok_or(ManifestError::TotalTooLarge { max: TOTAL_LEN_MAX })?;
    }
    check_blobs(files)?;
    Ok(total)
}

/// Finds paths that some platform takes for one place. With `/` before all other bytes, a folder's files stand right behind its name.
fn check_places(files: &[FileEntry]) -> Result<(), ManifestError> {
    let mut places: Vec<(Vec<u8>, &RepoPath)> = files
        .iter()
        .map(|file| {
            let mut key = file.path.fold().into_bytes();
            for byte in &mut key {
                if *byte == b'/' {
                    *byte = 0;
                }
            }
            (key, &file.path)
        })
        .collect();
    places.sort_unstable();
    for pair in places.windows(2) {
        let [(first_key, first), (second_key, second)] = pair else {
            continue;
        };
        match second_key.strip_prefix(first_key.as_slice()) {
            Some([]) => {
                return Err(ManifestError::Collides {
                    a: (*first).clone(),
                    b: (*second).clone(),
                });
            }
            Some([0, ..]) => {
                return Err(ManifestError::FileIsFolder {
                    file: (*first).clone(),
                    inside: (*second).clone(),
                });
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn check_file(file: &FileEntry) -> Result<(), ManifestError> {
    if file.size > BLOB_LEN_MAX {
        return Err(ManifestError::SizeTooLarge {
            path: file.path.clone(),
            size: file.size,
            max: BLOB_LEN_MAX,
        });
    }
    let empty = file.size == 0;
    let unfit = |field| ManifestError::EmptyFile {
        path: file.path.clone(),
        field,
    };
    if (file.blake3 == Hash::EMPTY) != empty {
        return Err(unfit("blake3"));
    }
    if file.sha256.is_some_and(|it| (it == Sha256::EMPTY) != empty) {
        return Err(unfit("sha256"));
    }
    if file.sha1.is_some_and(|it| (it == GitId::EMPTY) != empty) {
        return Err(unfit("sha1"));
    }
    Ok(())
}

/// Finds blobs of which two files tell different things.
fn check_blobs(files: &[FileEntry]) -> Result<(), ManifestError> {
    let mut by_blob: Vec<&FileEntry> = files.iter().collect();
    by_blob.sort_by_key(|file| file.blake3);
    for same in by_blob.chunk_by(|a, b| a.blake3 == b.blake3) {
        check_blob(same)?;
    }
    Ok(())
}

/// Checks what the files that are one blob tell of it. Each may lack a digest that another has.
fn check_blob(files: &[&FileEntry]) -> Result<(), ManifestError> {
    let [first, rest @ ..] = files else {
        return Ok(());
    };
    let (mut with_sha256, mut with_sha1) = (*first, *first);
    for file in rest.iter().copied() {
        let conflict = |other: &FileEntry, field| ManifestError::DigestConflict {
            a: other.path.clone(),
            b: file.path.clone(),
            field,
        };
        if first.size != file.size {
            return Err(ManifestError::SizeConflict {
                a: first.path.clone(),
                b: file.path.clone(),
            });
        }
        match (with_sha256.sha256, file.sha256) {
            (Some(a), Some(b)) if a != b => return Err(conflict(with_sha256, "sha256")),
            (None, Some(_)) => with_sha256 = file,
            (Some(_), _) | (None, None) => {}
        }
        match (with_sha1.sha1, file.sha1) {
            (Some(a), Some(b)) if a != b => return Err(conflict(with_sha1, "sha1")),
            (None, Some(_)) => with_sha1 = file,
            (Some(_), _) | (None, None) => {}
        }
    }
    Ok(())
}
