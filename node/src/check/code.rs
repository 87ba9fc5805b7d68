//! Files that can run code when a library loads them, told by what is in them and not by what they are called.
//!
//! What is not labelled here is not thereby harmless: it is only none of what is known to run code.

mod archive;
mod pickle;

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

use super::facts::Format;

/// Bytes from the beginning of a file that tell what it is.
pub const HEAD_LEN: u64 = 64 << 10;
/// Bytes from its end: the list of files in an archive is there, about 100 bytes for each.
pub const TAIL_LEN: u64 = 256 << 10;

/// Bytes from the end of a file of that name to look at: none of weights, whose loaders go by what they begin with.
pub fn tail_len(path: &str) -> u64 {
    match Format::of(path) {
        Some(_) => 0,
        None => TAIL_LEN,
    }
}

/// What of a file can run code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeKind {
    /// Python's pickle: a program for a small machine that may call anything.
    Pickle,
    /// An archive with a pickle in it, such as PyTorch writes.
    ArchivedPickle,
    /// A file with compressed bytes and a pickle's name, such as joblib writes.
    CompressedPickle,
    /// A NumPy array of pickled objects.
    NumpyObjects,
    /// HDF5: Keras keeps functions in such files, and calls them.
    Hdf5,
    /// A Keras archive: its layers may be functions.
    Keras,
    /// An archive that cannot be looked into: loaders unpack it.
    Archive,
    /// A program or a library for a processor.
    Native,
    /// Python.
    Python,
}

impl CodeKind {
    /// Whether loading the file as a model is enough to run what is in it. `false`: somebody has to start it.
    pub fn runs_when_loaded(self) -> bool {
        match self {
            CodeKind::Pickle
            | CodeKind::ArchivedPickle
            | CodeKind::CompressedPickle
            | CodeKind::NumpyObjects
            | CodeKind::Hdf5
            | CodeKind::Keras
            | CodeKind::Archive
            | CodeKind::Native => true,
            CodeKind::Python => false,
        }
    }
}

impl fmt::Display for CodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CodeKind::Pickle => "can run code when it is loaded: a Python pickle",
            CodeKind::ArchivedPickle => {
                "can run code when it is loaded: an archive with a Python pickle in it"
            }
            CodeKind::CompressedPickle => "can run code when it is loaded: a compressed Python pickle",
            CodeKind::NumpyObjects => "can run code when it is loaded: a NumPy array of pickled objects",
            CodeKind::Hdf5 => "can run code when it is loaded: HDF5, in which Keras keeps functions",
            CodeKind::Keras => {
                "can run code when it is loaded: a Keras archive, which may have functions in it"
            }
            CodeKind::Archive => "can run code when it is loaded: an archive that cannot be looked into",
            CodeKind::Native => "can run code when it is loaded: a program or library for a processor",
            CodeKind::Python => "contains code: Python",
        })
    }
}

/// Ends of names of Python files.
const PYTHON: [&str; 4] = ["py", "pyc", "pyi", "pyw"];

/// Ends of names under which compressed pickles are kept.
const PICKLED: [&str; 14] = [
    "bin", "ckpt", "dat", "dill", "gz", "joblib", "model", "pickle", "pkl", "pt", "pth", "sav", "xz", "z",
];

/// The end of a path's name behind its last dot, in lower case; the whole name where it has none.
pub(super) fn ending(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase()
}

/// Whether a file is Python by its name.
pub fn is_python(path: &str) -> bool {
    PYTHON.contains(&ending(path).as_str())
}

/// Tells what of a file of `len` bytes can run code, by its first [`HEAD_LEN`] and last [`tail_len`] bytes, and by more of it where
/// these leave it open whether it is a pickle.
///
/// - `read`: the bytes of a range that lies within the file, all of them.
pub fn look<B: AsRef<[u8]>, E>(
    path: &str,
    len: u64,
    mut read: impl FnMut(Range<u64>) -> Result<B, E>,
) -> Result<Option<CodeKind>, E> {
    let head = read(0..len.min(HEAD_LEN))?;
    let head = head.as_ref();
    let end = match tail_len(path) {
        tail if tail > 0 && len > HEAD_LEN => Some(read(len.saturating_sub(tail)..len)?),
        _ => None,
    };
    let tail = match &end {
        Some(end) => end.as_ref(),
        None if len <= HEAD_LEN => head,
        None => &[],
    };
    if !is_python(path) && pickle::goes_on(head, len, read)? {
        return Ok(Some(CodeKind::Pickle));
    }
    Ok(detect(path, head, tail))
}

/// Tells what of a file can run code, by its first [`HEAD_LEN`] and last [`tail_len`] bytes; all of it twice where it is shorter.
pub(super) fn detect(path: &str, head: &[u8], tail: &[u8]) -> Option<CodeKind> {
    if is_python(path) && !head.is_empty() {
        return Some(CodeKind::Python);
    }
    if pickle::is_one(head) {
        return Some(CodeKind::Pickle);
    }
    if let Some(archive) = archive::detect(head, tail) {
        return archive.code;
    }
    if is_hdf5(head) {
        return Some(CodeKind::Hdf5);
    }
    if has_numpy_objects(head) {
        return Some(CodeKind::NumpyObjects);
    }
    if PICKLED.contains(&ending(path).as_str()) && is_compressed(head) {
        return Some(CodeKind::CompressedPickle);
    }
    if is_native(head) {
        return Some(CodeKind::Native);
    }
    is_script(head).then_some(CodeKind::Python)
}

/// Whether HDF5 begins here, or behind a block that it lets others write before it.
fn is_hdf5(head: &[u8]) -> bool {
    const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
    let begins = |at: usize| head.get(at..).is_some_and(|rest| rest.starts_with(SIGNATURE));
    begins(0)
        || (9..usize::BITS)
            .map(|power| 1 << power)
            .take_while(|at| *at < head.len())
            .any(begins)
}

/// Whether there is an array of objects here: in a `.npy` file at the beginning, in an archive of them anywhere.
fn has_numpy_objects(bytes: &[u8]) -> bool {
    const MAGIC: &[u8] = b"\x93NUMPY";
    /// The longest header that is looked through, in bytes: of one plain type they have about 100.
    const HEADER_LEN_MAX: usize = 4_096;
    let objects = |at: usize| {
        let header = bytes.get(at + MAGIC.len()..).unwrap_or_default();
        let header = header.get(..HEADER_LEN_MAX).unwrap_or(header);
        // Where another begins, that one is looked at by itself: nothing is looked at twice.
        let end = find(header, MAGIC).next().unwrap_or(header.len());
        let header = header.get(..end).unwrap_or(header);
        let header = header.split(|byte| *byte == b'}').next().unwrap_or_default();
        header
            .split(|byte| matches!(byte, b'\'' | b'"'))
            .any(is_object_type)
    };
    find(bytes, MAGIC).any(objects)
}

/// Whether a NumPy type is that of Python's objects: `|O`, `O8`, `object`.
fn is_object_type(name: &[u8]) -> bool {
    let name = match name {
        [b'|' | b'<' | b'>' | b'=', rest @ ..] => rest,
        name => name,
    };
    match name {
        [b'O', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        name => name.starts_with(b"object"),
    }
}

/// Whether it begins as something does that joblib, or Python's own modules, compress with.
fn is_compressed(head: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 10] = [
        b"\x78\x01",
        b"\x78\x5e",
        b"\x78\x9c",
        b"\x78\xda",
        b"\x1f\x8b\x08",
        b"BZh",
        b"\xfd7zXZ\0",
        b"\x5d\0\0",
        b"\x04\x22\x4d\x18",
        // What joblib wrote before it had a choice.
        b"ZF0x",
    ];
    BEGINNINGS.iter().any(|beginning| head.starts_with(beginning))
}

/// Whether it is a program or a library: ELF, Mach-O or PE.
fn is_native(head: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 6] = [
        b"\x7fELF",
        b"\xfe\xed\xfa\xce",
        b"\xfe\xed\xfa\xcf",
        b"\xce\xfa\xed\xfe",
        b"\xcf\xfa\xed\xfe",
        // One that runs everywhere: such as models come in with their program.
        b"MZqFpD",
    ];
    if BEGINNINGS.iter().any(|beginning| head.starts_with(beginning)) {
        return true;
    }
    let at = head.get(0x3c..0x40).and_then(|at| at.try_into().ok());
    let at = at.map(u32::from_le_bytes).and_then(|at| usize::try_from(at).ok());
    let portable = at.and_then(|at| head.get(at..));
    head.starts_with(b"MZ") && portable.is_some_and(|portable| portable.starts_with(b"PE\0\0"))
}

/// Whether its first line has Python run it.
fn is_script(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.starts_with(b"#!") && find(line, b"python").next().is_some()
}

/// Where a word is in some bytes.
fn find<'a>(bytes: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes
        .windows(word.len())
        .enumerate()
        .filter_map(move |(at, window)| (window == word).then_some(at))
}
