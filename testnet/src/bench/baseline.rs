//! What the machine can do without Shoal: hashing a file, and copying one over TCP.

use anyhow::{Context, Result};
use protocol::{Hash, SHARD_LEN, shard};
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    time::Instant,
};

/// Bytes read, hashed, sent and written in one go.
const PIECE_LEN: usize = 1024 * 1024;

/// BLAKE3 of a file on all cores: each reads pieces of 1 MiB of its own, without mapping the file.
pub(super) fn blake3(path: &Path) -> Result<Hash> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let value = |buffer: &mut Vec<u8>, index| {
        let range = shard::shard_range(len, index).context("a shard of the file")?;
        buffer.resize(usize::try_from(range.end - range.start)?, 0);
        file.read_exact_at(buffer, range.start)?;
        Ok(shard::chaining_value(range.start, buffer))
    };
    if len <= SHARD_LEN {
        return Ok(Hash::of(&std::fs::read(path)?));
    }
    let shards = (0..shard::shard_count(len)).into_par_iter();
    let values = shards.map_init(Vec::new, value).collect::<Result<Vec<_>>>()?;
    shard::root_of_shards(len, &values).context("a value for each shard")
}

/// SHA-256 of a file on one core.
pub(super) fn sha256(path: &Path) -> Result<protocol::Sha256> {
    let mut digest = Sha256::new();
    each_piece(&mut File::open(path)?, |piece| {
        digest.update(piece);
        Ok(())
    })?;
    Ok(protocol::Sha256::from_bytes(digest.finalize().into()))
}

/// Waits for somebody, and sends a file.
pub(super) fn send(listener: &TcpListener, path: &Path) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    each_piece(&mut File::open(path)?, |piece| Ok(stream.write_all(piece)?))
}

/// Receives a file, hashes it, and writes it.
pub(super) fn receive(address: &str, path: &Path) -> Result<Hash> {
    let mut stream = TcpStream::connect(address)?;
    let mut file = File::create(path)?;
    let mut hasher = blake3::Hasher::new();
    each_piece(&mut stream, |piece| {
        hasher.update(piece);
        Ok(file.write_all(piece)?)
    })?;
    Ok(hasher.finalize().into())
}

/// Runs the program `b3sum` on a file and returns how many seconds it took; `None` if it is not installed.
pub(super) fn b3sum(path: &Path) -> Result<Option<f64>> {
    let begun = Instant::now();
    match Command::new("b3sum").arg("--no-names").arg(path).output() {
        Ok(output) if output.status.success() => Ok(Some(begun.elapsed().as_secs_f64())),
        Ok(output) => anyhow::bail!("b3sum: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn each_piece(from: &mut impl Read, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            len => take(&piece[..len])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testnet::fixture;

    #[test]
    fn baselines_hash_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (name, len) in fixture::telling_sizes() {
            fixture::file(&path, 1, name, len).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(blake3(&path).unwrap(), Hash::of(&bytes), "{name}");
            assert_eq!(
                sha256(&path).unwrap().as_bytes()[..],
                Sha256::digest(&bytes)[..],
                "{name}"
            );
        }
    }

    #[test]
    fn the_raw_copy_is_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fixture::file(&from, 1, "from", 3_000_000).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = std::thread::scope(|scope| {
            scope.spawn(|| send(&listener, &from).unwrap());
            receive(&address, &to).unwrap()
        });
        assert_eq!(received, Hash::of(&std::fs::read(&from).unwrap()));
        assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    }
}
