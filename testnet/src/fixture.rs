//! Files to publish, made from a seed: the same bytes on every machine, and nothing that compresses. And what is made of
//! them without a node: manifests, releases, comparisons. It is a second opinion: it shares no code with the verbs.

mod compare;
mod model;
pub mod releases;

pub use compare::{Difference, What, assert_same, compare};
pub use model::{safetensors, toy_model};

use ed25519_dalek::SigningKey;
use node::keys::{self, KeyKind};
use protocol::{
    Attestation, Challenge, Differences, FileEntry, Finite, GROUP_LEN, GitId, Hash, Kind, Manifest,
    Publisher, Release, RepoPath, SHARD_LEN, Sha256, SignedAttestation, SignedRelease, Verdict,
    manifest::kept_in_git,
};
use sha1::{Digest, Sha1};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Bytes made, or read, in one go.
const PIECE_LEN: usize = 1024 * 1024;

/// Bytes of the header of made-up weights.
const HEAD_LEN: u64 = 128;

/// Files in one sub folder of [`many`].
const FILES_A_FOLDER: usize = 100;

/// Seconds of a year of 365 days: how long a [`release`] is valid.
const YEAR: u64 = 365 * 24 * 60 * 60;

/// Returns the sizes at which something changes, in bytes, each with a file name that tells which it is.
pub fn telling_sizes() -> [(&'static str, u64); 13] {
    [
        ("empty.bin", 0),
        ("one-byte.bin", 1),
        ("group-under.bin", GROUP_LEN - 1),
        ("group.bin", GROUP_LEN),
        ("group-over.bin", GROUP_LEN + 1),
        ("shard-under.bin", SHARD_LEN - 1),
        ("shard.bin", SHARD_LEN),
        ("shard-over.bin", SHARD_LEN + 1),
        ("two-shards-under.bin", 2 * SHARD_LEN - 1),
        ("two-shards.bin", 2 * SHARD_LEN),
        ("two-shards-over.bin", 2 * SHARD_LEN + 1),
        ("deep/two-shards-and-a-bit.bin", 2 * SHARD_LEN + 12_345),
        ("deep/er/five-shards-and-a-group.bin", 5 * SHARD_LEN + GROUP_LEN),
    ]
}

/// Returns the stream of bytes that belongs to a seed and a name.
fn stream(seed: u64, name: &str) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_derive_key("shoal testnet fixture 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.finalize_xof()
}

/// The header of one tensor, which is all of a file of `len` bytes, for names of safetensors files; else nothing.
fn head(name: &str, len: u64) -> Vec<u8> {
    let tensor = len
        .checked_sub(HEAD_LEN)
        .filter(|_| name.ends_with(".safetensors"));
    let Some(tensor) = tensor else { return Vec::new() };
    let entry = format!(r#"{{"t":{{"dtype":"U8","shape":[{tensor}],"data_offsets":[0,{tensor}]}}}}"#);
    let width = HEAD_LEN as usize - 8;
    [
        &(width as u64).to_le_bytes(),
        format!("{entry:<width$}").as_bytes(),
    ]
    .concat()
}

/// Returns the first `len` bytes that belong to a seed and a name. No two names have the same bytes, and none compress. Weights are
/// sound: they begin with a header.
pub fn bytes(seed: u64, name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream(seed, name).fill(&mut bytes);
    let head = head(name, len as u64);
    bytes[..head.len()].copy_from_slice(&head);
    bytes
}

/// Writes the first `len` bytes that belong to a seed and a name into a file, and makes its folder.
pub fn file(path: &Path, seed: u64, name: &str, len: u64) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut stream = stream(seed, name);
    let mut file = File::create(path)?;
    let mut piece = vec![0; PIECE_LEN.min(usize::try_from(len).unwrap_or(PIECE_LEN))];
    let mut left = len;
    while left > 0 {
        let next = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        stream.fill(&mut piece[..next]);
        file.write_all(&piece[..next])?;
        left -= next as u64;
    }
    file.write_all_at(&head(name, len), 0)
}

/// Makes a folder with these files; each is `(path in the folder, length in bytes)`.
pub fn folder(dir: &Path, seed: u64, files: &[(&str, u64)]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    files
        .iter()
        .try_for_each(|(name, len)| file(&dir.join(name), seed, name, *len))
}

/// Makes a folder with `count` files of `len` bytes each, a hundred in a sub folder: `0012/001234.bin`.
pub fn many(dir: &Path, seed: u64, count: usize, len: u64) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    (0..count).try_for_each(|index| {
        let name = format!("{:04}/{index:06}.bin", index / FILES_A_FOLDER);
        file(&dir.join(&name), seed, &name, len)
    })
}

/// Changes one byte of a file in place, as a rotten disk would: the length stays.
///
/// # Errors
/// What the system says; there is no byte at `offset`.
pub fn flip(path: &Path, offset: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ 0xff], offset)
}

/// Does something to a file and then gives it back the time of modification that it had.
pub fn keep_times(path: &Path, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let modified = path.metadata()?.modified()?;
    change()?;
    OpenOptions::new().write(true).open(path)?.set_modified(modified)
}

/// Returns the paths of all files below a folder, relative to it, sorted, with `/` between their parts.
pub fn files(dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_dir() {
            continue;
        }
        let path = entry.path().strip_prefix(dir).map_err(io::Error::other)?;
        found.push(
            path.to_str()
                .ok_or_else(|| io::Error::other("a name that is not UTF-8"))?
                .to_owned(),
        );
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a folder and returns the manifest that publishing it has to make, with every digest. Each file is read at once
/// into memory.
///
/// # Errors
/// What the system says, and, as [`io::ErrorKind::InvalidData`], a folder that makes no manifest.
pub fn manifest(dir: &Path) -> io::Result<Manifest> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut entries = Vec::new();
    for name in files(dir)? {
        let bytes = fs::read(dir.join(&name))?;
        let path = RepoPath::new(&name).map_err(|error| invalid(error.to_string()))?;
        entries.push(entry(path, &bytes));
    }
    Manifest::new(entries).map_err(|error| invalid(error.to_string()))
}

/// Returns what a manifest says of a file with these bytes.
pub fn entry(path: RepoPath, bytes: &[u8]) -> FileEntry {
    let size = bytes.len() as u64;
    let git = || {
        let mut digest = Sha1::new();
        digest.update(format!("blob {size}\0"));
        digest.update(bytes);
        GitId::from_bytes(digest.finalize().into())
    };
    FileEntry {
        size,
        blake3: Hash::of(bytes),
        sha256: Some(Sha256::from_bytes(sha2::Sha256::digest(bytes).into())),
        sha1: kept_in_git(&path, size).then(git),
        path,
    }
}

/// Returns the key with which the node of a data folder signs its releases.
///
/// # Errors
/// Why the key cannot be read; that there is none.
pub fn publisher_key(data: &Path) -> io::Result<SigningKey> {
    let key = keys::load(&data.join("publisher.key"), KeyKind::Publisher).map_err(io::Error::other)?;
    key.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Signs a release as a node would: issued now, valid for a year, a model, without what is optional.
///
/// # Panics
/// If `name` is no repo's name or `seq` no release's number.
pub fn release(key: &SigningKey, name: &str, manifest: Hash, seq: u64) -> SignedRelease {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let release = Release {
        publisher: Publisher::from(key.verifying_key()),
        name: name.parse().expect("the test gives a repo's name"),
        kind: Kind::Model,
        manifest,
        seq,
        prev: None,
        issued: now,
        expires: now + YEAR,
        upstream: None,
        card: None,
    };
    SignedRelease::sign(release, key).expect("the test gives a release's number")
}

/// Returns a key of nobody's.
pub fn stranger(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

/// Signs an attestation that a model passed on all levels, now; its one challenge came to `result` everywhere.
///
/// # Panics
/// If `result` is no number.
pub fn attestation(key: &SigningKey, manifest: Hash, result: f64) -> SignedAttestation {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let number = Finite::new(result).expect("the test gives a number");
    let attestation = Attestation {
        by: Publisher::from(key.verifying_key()),
        manifest,
        structure: Verdict::Passed,
        numbers: Verdict::Passed,
        behaviour: Verdict::Passed,
        probes: None,
        differences: Differences::default(),
        challenges: vec![Challenge {
            nonce: [1; 16],
            digest: Hash::of(&result.to_le_bytes()),
            numbers: vec![number; 32],
        }],
        bits_per_byte: None,
        runtime: "a test".to_owned(),
        features: "none".to_owned(),
        issued: now,
    };
    SignedAttestation::sign(attestation, key).expect("it follows the rules")
}

#[cfg(test)]
mod tests;
