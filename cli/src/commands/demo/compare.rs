//! Compares what was fetched with what was published, by reading both: nothing of shoal is trusted here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes compared in one go.
const PIECE: usize = 1024 * 1024;

/// What a comparison found.
pub(super) struct Compared {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The first file that differs.
    pub(super) difference: Option<String>,
}

/// Compares every file in `copy` with the one in `source`, which may be a single file.
///
/// What publishing leaves out (`.git`, `.cache`, links, …) may be missing in the
/// copy: how many files it must have is for the caller to check.
pub(super) fn folders(source: &Path, copy: &Path) -> io::Result<Compared> {
    let mut compared = Compared {
        files: 0,
        bytes: 0,
        difference: None,
    };
    let single = source.is_file();
    for path in files(copy)? {
        let original = if single {
            source.to_owned()
        } else {
            source.join(&path)
        };
        let (same, bytes) = same(&original, &copy.join(&path))?;
        compared.files += 1;
        compared.bytes += bytes;
        if !same && compared.difference.is_none() {
            compared.difference = Some(path.display().to_string());
        }
    }
    Ok(compared)
}

/// Changes one bit in the smallest file that has any bytes, if it is not longer than `len_max`. Returns its path in the folder.
///
/// The file is replaced, not written to: it may share its bytes with a node's own.
pub(super) fn spoil(folder: &Path, len_max: u64) -> io::Result<Option<PathBuf>> {
    let mut smallest: Option<(u64, PathBuf)> = None;
    for path in files(folder)? {
        let len = fs::metadata(folder.join(&path))?.len();
        if len > 0 && smallest.as_ref().is_none_or(|(least, _)| len < *least) {
            smallest = Some((len, path));
        }
    }
    let Some((_, path)) = smallest.filter(|(len, _)| *len <= len_max) else {
        return Ok(None);
    };
    let file = folder.join(&path);
    let mut bytes = fs::read(&file)?;
    if let Some(byte) = bytes.first_mut() {
        *byte ^= 1;
    }
    fs::remove_file(&file)?;
    fs::write(&file, bytes)?;
    Ok(Some(path))
}

/// All files below a folder, as paths in it.
fn files(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// Whether two files have the same bytes, and how many they have.
fn same(one: &Path, other: &Path) -> io::Result<(bool, u64)> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut bytes = 0;
    loop {
        let (read, also) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        bytes += also as u64;
        if left[..read] != right[..also] {
            return Ok((false, bytes));
        }
        if read == 0 {
            return Ok((true, bytes));
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn difference(source: &[(&str, &[u8])], copy: &[(&str, &[u8])]) -> Option<String> {
        folders(folder(source).path(), folder(copy).path())
            .unwrap()
            .difference
    }

    #[test]
    fn one_other_byte_is_a_difference_wherever_it_is() {
        let long = vec![7; 2 * PIECE + 5];
        assert_eq!(
            difference(&[("a/b", &long), ("c", b"")], &[("a/b", &long), ("c", b"")]),
            None
        );
        for at in [0, PIECE - 1, PIECE, 2 * PIECE + 4] {
            let mut other = long.clone();
            other[at] ^= 1;
            assert_eq!(
                difference(&[("a/b", &long)], &[("a/b", &other)]).as_deref(),
                Some("a/b"),
                "{at}"
            );
        }
        assert_eq!(
            difference(&[("a", &long)], &[("a", &long[1..])]).as_deref(),
            Some("a")
        );
        assert_eq!(
            difference(&[("a", &long[1..])], &[("a", &long)]).as_deref(),
            Some("a")
        );
        let none = folders(folder(&[("a", b"x")]).path(), folder(&[]).path()).unwrap();
        assert_eq!((none.files, none.difference), (0, None));
    }

    #[test]
    fn single_file_is_compared_with_what_is_in_the_copy() {
        let (source, copy) = (folder(&[("a", b"x")]), folder(&[("a", b"x")]));
        let compared = folders(&source.path().join("a"), copy.path()).unwrap();
        assert_eq!(
            (compared.files, compared.bytes, compared.difference),
            (1, 1, None)
        );
    }

    #[test]
    fn smallest_file_is_spoilt_and_its_other_names_are_not() {
        let folder = folder(&[("long", b"12345"), ("in/short", b"12"), ("empty", b"")]);
        let other = folder.path().join("other-name");
        fs::hard_link(folder.path().join("in/short"), &other).unwrap();
        fs::rename(&other, folder.path().with_extension("kept")).unwrap();
        let kept = folder.path().with_extension("kept");
        let spoilt = spoil(folder.path(), 2).unwrap();
        assert_eq!(spoilt.as_deref(), Some(Path::new("in/short")));
        assert_eq!(fs::read(folder.path().join("in/short")).unwrap(), b"02");
        assert_eq!(fs::read(&kept).unwrap(), b"12");
        fs::remove_file(kept).unwrap();
        assert_eq!(spoil(folder.path(), 1).unwrap(), None);
    }
}
