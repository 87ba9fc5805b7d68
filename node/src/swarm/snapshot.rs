//! Small files that survive a crash: a first line that names the format, a BLAKE3 of the body, the body. Replaced as a whole.
//!
//! It knows nothing of what the body says. A damaged file is as good as none, and the caller is told.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

/// Why a snapshot was not read. Never a reason not to start.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("could not read the file")]
    Io(#[from] io::Error),
    #[error("file is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("file is of another format or version")]
    Format,
    #[error("file is damaged")]
    Damaged,
}

/// Reads the body of the snapshot at `path`; `None` if there is no file. At most `body_len_max` bytes are read.
pub(super) fn read(path: &Path, format: &str, body_len_max: usize) -> Result<Option<Vec<u8>>, ReadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let head_len = format.len() + 1 + blake3::OUT_LEN;
    let max = head_len + body_len_max;
    if file.metadata()?.len() > max as u64 {
        return Err(ReadError::TooLong { max });
    }
    let mut bytes = Vec::new();
    file.take(max as u64).read_to_end(&mut bytes)?;
    let rest = bytes
        .strip_prefix(format.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\n"))
        .ok_or(ReadError::Format)?;
    let (hash, body) = rest
        .split_first_chunk::<{ blake3::OUT_LEN }>()
        .ok_or(ReadError::Damaged)?;
    if blake3::hash(body) != *hash {
        return Err(ReadError::Damaged);
    }
    Ok(Some(bytes.split_off(head_len)))
}

/// Writes a snapshot: to a file beside it, to the disk, then in the old one's place. The folder is made if need be, but not the one it is in:
/// a node whose data was taken away does not bring it back.
pub(super) fn write(path: &Path, format: &str, body: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(format.as_bytes())?;
    file.write_all(b"\n")?;
    file.write_all(blake3::hash(body).as_bytes())?;
    file.write_all(body)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_every_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/file");
        assert!(read(&path, "shoal test 1", 100).unwrap().is_none());
        write(&path, "shoal test 1", b"body").unwrap();
        assert_eq!(read(&path, "shoal test 1", 100).unwrap().unwrap(), b"body");
        assert!(matches!(read(&path, "shoal test 2", 100), Err(ReadError::Format)));
        assert!(matches!(
            read(&path, "shoal test 1", 3),
            Err(ReadError::TooLong { .. })
        ));
        let good = fs::read(&path).unwrap();
        for cut in 0..good.len() {
            fs::write(&path, &good[..cut]).unwrap();
            assert!(read(&path, "shoal test 1", 100).is_err(), "cut at {cut}");
            let mut flipped = good.clone();
            flipped[cut] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(read(&path, "shoal test 1", 100).is_err(), "flipped at {cut}");
        }
    }

    #[test]
    fn a_new_snapshot_replaces_the_old_one_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, "f", b"one").unwrap();
        write(&path, "f", b"two").unwrap();
        assert_eq!(read(&path, "f", 100).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
