//! One read of a file gives everything that is known by hashing: BLAKE3 with its tree, SHA-256 and the git id.
//! SHA-256 and SHA-1 of a big file run on a second core, piece by piece behind the first; nothing is read twice.

use super::tree;
use crate::limits::PIECE_LEN;
use blake3::hazmat::ChainingValue;
use protocol::{GitId, Hash, Sha256};
use sha1::Digest as _;
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::mpsc,
};

/// Digests of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    /// BLAKE3.
    pub(crate) blake3: Hash,
    /// SHA-256.
    pub(crate) sha256: Sha256,
    /// The git blob id, where it was asked for.
    pub(crate) sha1: Option<GitId>,
    /// Bytes read. When it is not the length that was expected, the file changed meanwhile.
    pub(crate) len: u64,
}

/// Why a file was not read to its end.
#[derive(Debug)]
pub(crate) enum DigestError {
    /// It could not be read.
    Read(io::Error),
    /// Its outboard or its copy could not be written.
    Write(io::Error),
}

/// SHA-256 and SHA-1, fed in order.
pub(crate) struct Linear {
    sha256: sha2::Sha256,
    sha1: Option<sha1::Sha1>,
}

impl Linear {
    /// Begins with `len` bytes to come, whose git id is wanted if `git` says so.
    pub(crate) fn new(len: u64, git: bool) -> Linear {
        Linear {
            sha256: sha2::Sha256::new(),
            sha1: git.then(|| git_hasher("blob", len)),
        }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(piece);
        }
    }

    /// The digests of what was taken.
    pub(crate) fn finish(self) -> (Sha256, Option<GitId>) {
        let sha1 = self.sha1.map(|sha1| GitId::from_bytes(sha1.finalize().into()));
        (Sha256::from_bytes(self.sha256.finalize().into()), sha1)
    }
}

/// What hashes an object of git's: a `blob` or a `tree` of `len` bytes.
pub(crate) fn git_hasher(kind: &str, len: u64) -> sha1::Sha1 {
    sha1::Sha1::new_with_prefix(format!("{kind} {len}\0"))
}

/// Hashes bytes in memory.
pub(crate) fn of_bytes(bytes: &[u8], git: bool) -> Digests {
    let len = bytes.len() as u64;
    let mut linear = Linear::new(len, git);
    linear.update(bytes);
    let (sha256, sha1) = linear.finish();
    Digests {
        blake3: Hash::of(bytes),
        sha256,
        sha1,
        len,
    }
}

/// Computes the git blob id of `len` bytes. Blocking.
///
/// An error of the kind `UnexpectedEof`: there are fewer.
pub(crate) fn git_id(file: &mut impl Read, len: u64) -> io::Result<GitId> {
    let mut hasher = git_hasher("blob", len);
    pieces(file, len, |piece| hasher.update(piece))?;
    Ok(GitId::from_bytes(hasher.finalize().into()))
}

/// Computes the SHA-256 of `len` bytes. Blocking.
///
/// An error of the kind `UnexpectedEof`: there are fewer.
pub(crate) fn sha256(file: &mut impl Read, len: u64) -> io::Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    pieces(file, len, |piece| hasher.update(piece))?;
    Ok(Sha256::from_bytes(hasher.finalize().into()))
}

fn pieces(file: &mut impl Read, len: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut piece = vec![0; PIECE_LEN.min(usize::try_from(len).unwrap_or(PIECE_LEN))];
    let mut left = len;
    while left > 0 {
        let next = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        file.read_exact(&mut piece[..next])?;
        take(&piece[..next]);
        left -= next as u64;
    }
    Ok(())
}

/// Reads `file` once from its start, expecting `len` bytes, more than one shard, and writes its outboard.
///
/// - `git`: whether the git id is wanted.
/// - `copy`: a second file that is given the same bytes, for a publish by copy.
/// - `seen`: told the bytes of each piece as it is done.
///
/// Blocking. A file that is shorter or longer than `len` gives digests whose `len` tells so.
pub(crate) fn of_file(
    file: &mut impl Read,
    len: u64,
    git: bool,
    outboard: &File,
    copy: Option<&File>,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<Digests, DigestError> {
    let (full, to_linear) = mpsc::sync_channel::<Vec<u8>>(4);
    let (empty, pieces) = mpsc::channel::<Vec<u8>>();
    for _ in 0..4 {
        empty
            .send(vec![0; PIECE_LEN])
            .expect("the receiver lives in this function");
    }
    std::thread::scope(|scope| {
        let linear = scope.spawn(move || {
            let mut linear = Linear::new(len, git);
            for piece in to_linear {
                linear.update(&piece);
                let _ = empty.send(piece);
            }
            linear.finish()
        });
        let tree = hash_tree(file, len, outboard, copy, &pieces, full, seen);
        let (sha256, sha1) = linear.join().expect("hashing does not panic");
        let (blake3, read) = tree?;
        Ok(Digests {
            blake3,
            sha256,
            sha1,
            len: read,
        })
    })
}

/// Reads shard by shard, hashes each and hands it on to the linear digests.
fn hash_tree(
    file: &mut impl Read,
    len: u64,
    outboard: &File,
    copy: Option<&File>,
    pieces: &mpsc::Receiver<Vec<u8>>,
    linear: mpsc::SyncSender<Vec<u8>>,
    seen: &(dyn Fn(u64) + Sync),
) -> Result<(Hash, u64), DigestError> {
    let mut values: Vec<ChainingValue> = Vec::new();
    let mut pairs = Vec::new();
    let mut offset = 0;
    while offset < len {
        let mut piece = pieces
            .recv()
            .expect("pieces come back while the other thread lives");
        piece.resize(PIECE_LEN, 0);
        let got = read_full(file, &mut piece).map_err(DigestError::Read)?;
        piece.truncate(got);
        if got == 0 || offset + got as u64 > len {
            offset += got as u64;
            break;
        }
        values.push(tree::hash_shard(offset, &piece, &mut pairs));
        let at = tree::shard_offset(
            len,
            u32::try_from(offset / PIECE_LEN as u64).expect("blobs have at most 2^22 shards"),
        );
        outboard.write_all_at(&pairs, at).map_err(DigestError::Write)?;
        if let Some(copy) = copy {
            copy.write_all_at(&piece, offset).map_err(DigestError::Write)?;
        }
        offset += got as u64;
        seen(got as u64);
        linear
            .send(piece)
            .expect("the other thread takes pieces until this one ends");
        if got < PIECE_LEN {
            break;
        }
    }
    if offset != len || file.read(&mut [0]).map_err(DigestError::Read)? != 0 {
        let past = u64::from(offset == len);
        return Ok((Hash::EMPTY, offset + past));
    }
    let mut failed = None;
    let root = tree::merge_shards(len, &values, &mut |at, pair| {
        if let Err(error) = outboard.write_all_at(&pair, at) {
            failed.get_or_insert(error);
        }
    });
    failed.map_or(Ok((root, len)), |error| Err(DigestError::Write(error)))
}

/// Reads until `buffer` is full or the file ends.
pub(crate) fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
