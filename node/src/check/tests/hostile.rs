//! A table of files that are wrong, by families, each refused for what is wrong with it.

mod gguf;
mod safetensors;

use std::{
    collections::HashSet,
    io::{self, Read},
};

use proptest::prelude::{ProptestConfig, any, proptest};

use self::{
    gguf::of_gguf,
    safetensors::{of_safetensors, tensors},
};
use super::samples::{Gguf, entry, string};
use crate::check::{self, CheckError, Wrong};

/// What a refusal is called in the table.
fn called(error: &CheckError) -> &'static str {
    match error {
        CheckError::Read(_) => "read",
        CheckError::Short { .. } => "short",
        CheckError::Bound { .. } => "bound",
        CheckError::Format(_) => "format",
        CheckError::Version { .. } => "version",
        CheckError::Json(_) => "json",
        CheckError::Twice { .. } => "twice",
        CheckError::Dtype { .. } => "dtype",
        CheckError::Value { .. } => "value",
        CheckError::Left { .. } => "left",
        CheckError::Tensor { wrong, .. } => match wrong {
            Wrong::Rank(_) => "rank",
            Wrong::Empty => "empty",
            Wrong::Overflow => "overflow",
            Wrong::Blocks { .. } => "blocks",
            Wrong::Order => "order",
            Wrong::Length { .. } => "length",
            Wrong::Alignment { .. } => "alignment",
            Wrong::Overlap(_) => "overlap",
            Wrong::Outside { .. } => "outside",
            Wrong::Absent(_) => "absent",
            Wrong::Unlisted { .. } => "unlisted",
        },
    }
}

/// One line of the table.
struct Line {
    name: String,
    file: Vec<u8>,
    /// How long the file is said to be, and is beyond `file` nothing but zeros.
    len: u64,
    refused: &'static str,
}

fn line(name: impl Into<String>, file: Vec<u8>, refused: &'static str) -> Line {
    Line {
        name: name.into(),
        len: file.len() as u64,
        file,
        refused,
    }
}

/// Counts what is read of a file that goes on with zeros.
struct Counted<'a> {
    file: &'a [u8],
    read: &'a mut u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.file.chain(io::repeat(0)).read(room)?;
        self.file = self.file.get(read..).unwrap_or_default();
        *self.read += read as u64;
        Ok(read)
    }
}

/// Holds a table against a reader, which reads no more of a file than `most` bytes.
fn hold(table: &[Line], most: u64, read: impl Fn(Counted<'_>, u64) -> Option<CheckError>) {
    for Line {
        name,
        file,
        len,
        refused,
    } in table
    {
        let mut count = 0;
        let source = Counted {
            file,
            read: &mut count,
        };
        let error = read(source, *len).unwrap_or_else(|| panic!("{name}: accepted"));
        assert_eq!(called(&error), *refused, "{name}: {error}");
        assert!(error.to_string().len() < 2_000, "{name}: {error}");
        assert!(count <= most, "{name}: {count} bytes were read");
    }
}

#[test]
fn table_has_at_least_300_lines() {
    let (safetensors, gguf) = (of_safetensors().len(), of_gguf().len());
    assert!(safetensors >= 200 && gguf >= 200, "{safetensors} and {gguf}");
}

#[test]
fn no_line_of_the_table_is_there_twice() {
    for table in [of_safetensors(), of_gguf()] {
        let (mut names, mut files) = (HashSet::new(), HashSet::new());
        for line in &table {
            assert!(names.insert(&line.name), "{}", line.name);
            assert!(
                files.insert((&line.file, line.len)),
                "{} is another's file",
                line.name
            );
        }
    }
}

#[test]
fn hostile_safetensors_are_refused_for_what_is_wrong_with_them() {
    let most = check::safetensors::HEADER_LEN_MAX + 8;
    hold(&of_safetensors(), most, |source, len| {
        check::safetensors::read(source, len).err()
    });
}

#[test]
fn hostile_ggufs_are_refused_for_what_is_wrong_with_them() {
    hold(&of_gguf(), (256 << 20) + (64 << 10), |source, len| {
        check::gguf::read(source, len).err()
    });
}

#[test]
fn files_that_this_build_does_not_read_are_not_called_broken() {
    let broken = |file: Vec<u8>| {
        let len = file.len() as u64;
        let safetensors = check::safetensors::read(file.as_slice(), len).err();
        let gguf = check::gguf::read(file.as_slice(), len).err();
        match file.starts_with(b"GGUF") {
            true => gguf.is_some_and(|error| error.is_broken()),
            false => safetensors.is_some_and(|error| error.is_broken()),
        }
    };
    assert!(!broken(tensors(&[entry("a", "F4", "[2]", "[0,1]")], 1)));
    assert!(!broken(
        Gguf::new().with_tensors(&[(b"a", &[256], 23, 0)]).bytes()
    ));
    assert!(!broken(
        Gguf {
            version: 4,
            ..Gguf::new()
        }
        .bytes()
    ));
    assert!(broken(Gguf::new().with_tensors(&[(b"a", &[4], 0, 1)]).bytes()));
    assert!(broken(tensors(&[entry("a", "U8", "[2]", "[0,1]")], 1)));
}

#[test]
fn source_that_ends_early_is_no_fault_of_the_file() {
    let file = Gguf::new().bytes();
    let tensors = tensors(&[entry("a", "U8", "[1]", "[0,1]")], 1);
    for (file, header) in [(&file, 200), (&tensors, tensors.len() - 1)] {
        for cut in 0..header {
            let (half, len) = (&file[..cut], file.len() as u64);
            let error = match file.starts_with(b"GGUF") {
                true => check::gguf::read(half, len).err(),
                false => check::safetensors::read(half, len).err(),
            };
            assert!(matches!(error, Some(CheckError::Read(_))), "{cut}: {error:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, more: u32, longer: bool) {
        let len = bytes.len() as u64 + if longer { u64::from(more) } else { 0 };
        let _ = check::safetensors::read(bytes.as_slice(), len);
        let _ = check::gguf::read(bytes.as_slice(), len);
        let _ = check::shards::read(&bytes, |_| true);
        let _ = check::config::read(&bytes);
        let _ = check::tokenizer::read(bytes.as_slice(), len);
        let _ = check::code::detect("a", &bytes, &bytes);
    }

    #[test]
    fn bytes_behind_a_right_beginning_never_panic(bytes: Vec<u8>, which in 0..4_usize, numbers: [u8; 16]) {
        let beginning: &[u8] = [b"GGUF\x03\0\0\0".as_slice(), b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"", b"PK\x03\x04", b"\x80\x04\x95"][which];
        let file = [beginning, &numbers, &bytes].concat();
        let _ = check::safetensors::read(file.as_slice(), file.len() as u64);
        let _ = check::gguf::read(file.as_slice(), file.len() as u64);
        let _ = check::code::detect("a", &file, &file);
    }

    #[test]
    fn small_counts_before_anything_never_panic(tensors in 0..4_u64, keys in 0..4_u64, bytes: Vec<u8>, kinds in proptest::collection::vec(0..14_u32, 8), lens in proptest::collection::vec(0..9_u64, 8), value in any::<u64>()) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(tensors.to_le_bytes());
        file.extend(keys.to_le_bytes());
        for (kind, len) in kinds.iter().zip(&lens) {
            file.extend(string(&vec![b'k'; *len as usize]));
            file.extend(kind.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file.extend(&bytes);
        let _ = check::gguf::read(file.as_slice(), file.len() as u64);
    }
}
