//! The files of statements: which are whose, and what can be read of them.
//!
//! ```text
//! "shoal heard 1\n"
//! for each statement: order (u64), length (u16), that many bytes; little-endian
//! 32 bytes: BLAKE3 of all before
//! ```
//! Signatures vouch for the statements, but for nobody's order: hence the hash.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use protocol::limits::{KEY_STATEMENT_LEN_MAX, KEY_STATEMENTS_MAX};
use protocol::{Hash, Publisher, Seen, SignedStatement};

use super::super::releases::io_error;
use crate::durable;
use crate::names::NamesError;

const HEADING: &[u8] = b"shoal heard 1\n";
const FILE: &str = "@keys";
const COPY: &str = "@keys-copy";
/// Bytes before each statement: its order and its length.
const BEFORE_LEN: usize = 8 + 2;
const HASH_LEN: usize = 32;
/// Longest file, in bytes.
const FILE_LEN_MAX: usize =
    HEADING.len() + KEY_STATEMENTS_MAX * (BEFORE_LEN + KEY_STATEMENT_LEN_MAX) + HASH_LEN;

/// The folder, and the names in it.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

/// What the files of a key say.
pub(super) enum Read {
    /// There are none.
    Nothing,
    /// These statements.
    Seen(Vec<Seen>),
    /// There are some, and none can be read.
    Damaged,
}

impl Files {
    pub(super) fn new(data: &Path) -> Files {
        Files {
            folder: data.join("releases"),
        }
    }

    pub(super) fn file(&self, key: Publisher) -> PathBuf {
        self.folder.join(key.to_string()).join(FILE)
    }

    fn copy(&self, key: Publisher) -> PathBuf {
        self.file(key).with_file_name(COPY)
    }

    /// The publishers that have a folder.
    pub(super) fn keys(&self) -> Result<Vec<Publisher>, NamesError> {
        let mut keys = Vec::new();
        let read = || -> io::Result<Vec<String>> {
            let entries = match fs::read_dir(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
            Ok(names
                .collect::<io::Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        };
        for name in read().map_err(|source| io_error(&self.folder, source))? {
            keys.extend(name.parse::<Publisher>().ok());
        }
        Ok(keys)
    }

    /// Reads what is kept about a key: from its file, or where that is missing or damaged from the copy.
    pub(super) fn read(&self, key: Publisher) -> Result<Read, NamesError> {
        let mut any = false;
        for path in [self.file(key), self.copy(key)] {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(|source| io_error(&path, source))?,
            };
            any = true;
            let mut bytes = Vec::new();
            let bound = FILE_LEN_MAX as u64 + 1;
            if file.take(bound).read_to_end(&mut bytes).is_ok()
                && let Some(seen) = decode(key, &bytes)
            {
                return Ok(Read::Seen(seen));
            }
            tracing::warn!(path = %path.display(), "a file of key statements is damaged");
        }
        Ok(if any { Read::Damaged } else { Read::Nothing })
    }

    /// Writes what is kept about a key: durable on return.
    pub(super) fn write(&self, key: Publisher, seen: &[Seen]) -> Result<(), NamesError> {
        let (path, bytes) = (self.file(key), encode(seen));
        let folder = durable::folder_of(&path);
        durable::create_folders(folder)
            .and_then(|()| durable::replace(&self.copy(key), &bytes))
            .and_then(|()| durable::replace(&path, &bytes))
            .and_then(|()| durable::sync_folder(folder))
            .map_err(|source| io_error(&path, source))
    }
}

fn encode(seen: &[Seen]) -> Vec<u8> {
    let mut bytes = HEADING.to_vec();
    for seen in seen.iter().take(KEY_STATEMENTS_MAX) {
        let statement = seen.statement.encode();
        bytes.extend_from_slice(&seen.order.to_le_bytes());
        bytes.extend_from_slice(&(statement.len() as u16).to_le_bytes());
        bytes.extend_from_slice(statement);
    }
    let hash = Hash::of(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// `None`: these are no statements about `key`, or not as they were written.
fn decode(key: Publisher, bytes: &[u8]) -> Option<Vec<Seen>> {
    let (written, hash) = bytes.split_last_chunk::<HASH_LEN>()?;
    if bytes.len() > FILE_LEN_MAX || Hash::of(written).as_bytes() != hash {
        return None;
    }
    let mut rest = written.strip_prefix(HEADING)?;
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (order, behind) = rest.split_first_chunk()?;
        let (len, behind) = behind.split_first_chunk()?;
        let (statement, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let statement = SignedStatement::decode(statement).ok()?;
        if statement.statement().about() != key {
            return None;
        }
        seen.push(Seen {
            statement,
            order: u64::from_le_bytes(*order),
        });
        rest = behind;
    }
    Some(seen)
}
