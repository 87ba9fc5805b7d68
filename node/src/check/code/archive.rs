//! Archives: their lists of files, by the records themselves. What the records' flags say is not believed, because the loaders do not
//! agree in what they believe of them: a name counts wherever it stands. Records may lie over each other, so nothing is kept of them,
//! and no more is looked at of each than tells what it is.

mod tar;

use super::{CodeKind, HEAD_LEN, find, has_numpy_objects, pickle};

/// What was found of an archive.
pub(super) struct Archive {
    /// What of it can run code.
    pub(super) code: Option<CodeKind>,
}

/// Ends of names in an archive which are pickles, or hold some.
const PICKLES: [&str; 9] = [
    "bin", "ckpt", "dill", "joblib", "pickle", "pkl", "pt", "pt2", "pth",
];
/// Ends of names in an archive which Keras reads, such as `model.weights.h5` of its own archives.
const KERAS: [&str; 3] = ["h5", "hdf5", "keras"];
/// Longest name in an archive that is believed to be one, in bytes.
const NAME_LEN_MAX: usize = 4_096;
/// Bytes of a name, its last ones, that tell what is in the file: more than the longest of the ends above has.
const NAME_END_LEN: usize = 32;
/// Bytes of what lies in an archive that are looked through for pickles: four times those there are, if records lie over each other.
const LOOKED_MAX: usize = 4 * HEAD_LEN as usize;

/// Looks for an archive. `None`: it is none.
pub(super) fn detect(head: &[u8], tail: &[u8]) -> Option<Archive> {
    let closed: [&[u8]; 2] = [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"];
    if closed.iter().any(|beginning| head.starts_with(beginning)) {
        let code = Some(CodeKind::Archive);
        return Some(Archive { code });
    }
    let told = |archive: &Archive| archive.code.is_some_and(|code| code != CodeKind::Archive);
    match (tar::detect(head), zip(head, tail)) {
        // A file may be both.
        (Some(tar), Some(zip)) if tar.code.is_some() && !told(&zip) => Some(tar),
        (tar, zip) => zip.or(tar),
    }
}

/// What the names in an archive tell.
#[derive(Default)]
struct Names {
    /// One of them is a pickle's: the oldest files of PyTorch are archives with one called `pickle`.
    pickle: bool,
    /// One of them is of a file that Keras reads.
    keras: bool,
}

impl Names {
    fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Names {
        let mut all = Names::default();
        names.for_each(|name| all.add(name));
        all
    }

    fn add(&mut self, name: &[u8]) {
        let from = name.len().saturating_sub(NAME_END_LEN);
        let file = name.get(from..).unwrap_or_default();
        let file = file.rsplit(|byte| *byte == b'/').next().unwrap_or(file);
        let ending = file.rsplit(|byte| *byte == b'.').next().unwrap_or(file);
        let is = |known: &&str| ending.eq_ignore_ascii_case(known.as_bytes());
        self.pickle |= PICKLES.iter().any(is);
        self.keras |= KERAS.iter().any(is);
    }
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
    let names = Names::of(local.chain(central));
    let held = match names.pickle {
        true => Some(true),
        false => holds_pickle(head),
    };
    let code = match () {
        () if held == Some(true) => Some(CodeKind::ArchivedPickle),
        () if names.keras => Some(CodeKind::Keras),
        () if has_numpy_objects(head) || has_numpy_objects(tail) => Some(CodeKind::NumpyObjects),
        // A list that is not seen to its end may have anything on it, and so may records without end.
        () if held.is_none() || !directory.unwrap_or(false) => Some(CodeKind::Archive),
        () => None,
    };
    Some(Archive { code })
}

/// Whether a file that lies in the archive as it is, is a pickle under some other name. `None`: there is too much to look through.
fn holds_pickle(head: &[u8]) -> Option<bool> {
    let mut looked = 0;
    for at in find(head, b"PK\x03\x04") {
        let begin = number(head, at + 26)
            .zip(number(head, at + 28))
            .map(|(name, extra)| at + 30 + usize::from(name) + usize::from(extra));
        let data = begin.and_then(|begin| head.get(begin..)).unwrap_or_default();
        if pickle::is_one_counted(data, &mut looked) {
            return Some(true);
        }
        if looked > LOOKED_MAX {
            return None;
        }
    }
    Some(false)
}

/// The name in a record at `at`, whose length and bytes lie so far behind it.
fn name(bytes: &[u8], at: usize, len: usize, begin: usize) -> Option<&[u8]> {
    let len = usize::from(number(bytes, at + len)?);
    let name = bytes.get(at + begin..)?.get(..len)?;
    (1..=NAME_LEN_MAX).contains(&len).then_some(name)
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
