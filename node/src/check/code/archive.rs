//! Archives: their lists of files, by the records themselves. What the records' flags say is not believed, because the loaders do not
//! agree in what they believe of them: a name counts wherever it stands.

use super::{CodeKind, ending, find, has_numpy_objects, pickle};

/// What was found of an archive.
pub(super) struct Archive {
    /// What of it can run code.
    pub(super) code: Option<CodeKind>,
}

/// Ends of names in an archive which are pickles, or hold some.
const PICKLES: [&str; 9] = [
    "bin", "ckpt", "dill", "joblib", "pickle", "pkl", "pt", "pt2", "pth",
];
/// Longest name in an archive that is believed to be one, in bytes.
const NAME_LEN_MAX: usize = 4_096;

/// Looks for an archive. `None`: it is none.
pub(super) fn detect(head: &[u8], tail: &[u8]) -> Option<Archive> {
    let closed: [&[u8]; 2] = [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"];
    if closed.iter().any(|beginning| head.starts_with(beginning)) {
        let code = Some(CodeKind::Archive);
        return Some(Archive { code });
    }
    if let Some(names) = tar(head) {
        let code = names.iter().any(|name| is_pickle(name));
        let code = code.then_some(CodeKind::ArchivedPickle);
        return Some(Archive { code });
    }
    zip(head, tail)
}

/// Whether a file of that name in an archive is a pickle: the oldest files of PyTorch are archives with one called `pickle`.
fn is_pickle(name: &str) -> bool {
    PICKLES.contains(&ending(name).as_str())
}

/// The names in as much as is seen of a tar.
fn tar(head: &[u8]) -> Option<Vec<String>> {
    const BLOCK: usize = 512;
    let is_one = |block: &[u8]| block.get(257..262) == Some(b"ustar");
    if !is_one(head) {
        return None;
    }
    let blocks = head.chunks_exact(BLOCK).filter(|block| is_one(block));
    let name = |block: &[u8]| {
        let name = block.get(..100).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    };
    Some(blocks.map(name).collect())
}

fn zip(head: &[u8], tail: &[u8]) -> Option<Archive> {
    let begins = [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"];
    let begins = begins.iter().any(|beginning| head.starts_with(*beginning));
    let directory = directory(tail);
    if !begins && directory.is_none() {
        return None;
    }
    let local = find(head, b"PK\x03\x04").filter_map(|at| name(head, at, 26, 30));
    let central = find(tail, b"PK\x01\x02").filter_map(|at| name(tail, at, 28, 46));
    let names: Vec<String> = local.chain(central).collect();
    let has = |wanted: &str| {
        let is = |name: &String| name.rsplit('/').next() == Some(wanted);
        names.iter().any(is)
    };
    let code = match () {
        () if names.iter().any(|name| is_pickle(name)) || holds_pickle(head) => {
            Some(CodeKind::ArchivedPickle)
        }
        () if has("config.json") && has("metadata.json") && has("model.weights.h5") => Some(CodeKind::Keras),
        () if names
            .iter()
            .any(|name| matches!(ending(name).as_str(), "h5" | "hdf5" | "keras")) =>
        {
            Some(CodeKind::Keras)
        }
        () if has_numpy_objects(head) || has_numpy_objects(tail) => Some(CodeKind::NumpyObjects),
        // A list that is not seen to its end may have anything on it.
        () if !directory.unwrap_or(false) => Some(CodeKind::Archive),
        () => None,
    };
    Some(Archive { code })
}

/// Whether a file that lies in the archive as it is, is a pickle under some other name.
fn holds_pickle(head: &[u8]) -> bool {
    find(head, b"PK\x03\x04").any(|at| {
        let begin = number(head, at + 26)
            .zip(number(head, at + 28))
            .map(|(name, extra)| at + 30 + usize::from(name) + usize::from(extra));
        let data = begin.and_then(|begin| head.get(begin..)).unwrap_or_default();
        pickle::is_one(data)
    })
}

/// The name in a record at `at`, whose length and bytes lie so far behind it.
fn name(bytes: &[u8], at: usize, len: usize, begin: usize) -> Option<String> {
    let len = usize::from(number(bytes, at + len)?);
    let name = bytes.get(at + begin..)?.get(..len)?;
    let name = (1..=NAME_LEN_MAX).contains(&len).then_some(name)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// A number of two bytes.
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*two))
}

/// Looks for the end of an archive's list of files. `None`: there is none. Else whether all of the list is in `tail`.
fn directory(tail: &[u8]) -> Option<bool> {
    const END: &[u8] = b"PK\x05\x06";
    const END_LEN: usize = 22;
    const LARGE_END: &[u8] = b"PK\x06\x06";
    let records = find(tail, b"PK\x01\x02").count() as u64;
    let end = find(tail, END).last()?;
    let fields = tail.get(end..)?.first_chunk::<END_LEN>()?;
    let (count, size) = (number(fields, 10)?, fields.get(12..)?.first_chunk()?);
    let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
    let large = find(tail.get(..end)?, LARGE_END).last();
    let first = match large {
        // The list ends where the larger end of it begins.
        Some(at) => find(tail.get(..at)?, b"PK\x01\x02").next(),
        None => end.checked_sub(size).filter(|at| {
            tail.get(*at..)
                .is_some_and(|rest| rest.starts_with(b"PK\x01\x02"))
        }),
    };
    let count = match large.and_then(|at| tail.get(at + 32..)?.first_chunk()) {
        Some(count) => u64::from_le_bytes(*count),
        None => u64::from(count),
    };
    match first {
        Some(_) => Some(records >= count),
        // An archive without files, or one whose list begins before what is seen of it.
        None if count == 0 || size > end => Some(count == 0 && size == 0),
        None => None,
    }
}
