//! A stream whose end is known: nothing is taken from it that lies behind that, and nothing is made room for before.

use std::io::{self, BufRead, BufReader, Read};

use crate::check::CheckError;

/// Longest header, in bytes: as much as all its strings may have.
const HEADER_LEN_MAX: u64 = 256 << 20;

/// The bytes of a file, front to back.
pub(super) struct Source<R> {
    bytes: BufReader<R>,
    at: u64,
    len: u64,
}

impl<R: Read> Source<R> {
    /// Makes one of a file of `len` bytes.
    pub(super) fn new(bytes: R, len: u64) -> Source<R> {
        Source {
            bytes: BufReader::new(bytes),
            at: 0,
            len,
        }
    }

    /// How many bytes were taken.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Refuses what is longer than the rest of the file, or of what is read.
    pub(super) fn has(&self, what: &'static str, bytes: u64) -> Result<(), CheckError> {
        let end = self.at.saturating_add(bytes);
        if end > self.len {
            return Err(CheckError::Short { what, len: self.len });
        }
        CheckError::bound("bytes of a header", end, HEADER_LEN_MAX)
    }

    /// Takes as many bytes as there is room for.
    pub(super) fn fill(&mut self, what: &'static str, room: &mut [u8]) -> Result<(), CheckError> {
        self.has(what, room.len() as u64)?;
        self.bytes.read_exact(room)?;
        self.at += room.len() as u64;
        Ok(())
    }

    /// Takes that many bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CheckError> {
        let mut array = [0; N];
        self.fill(what, &mut array)?;
        Ok(array)
    }

    /// Takes a number of 4 bytes.
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, CheckError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Takes a number of 8 bytes.
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, CheckError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Takes a yes or no.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, CheckError> {
        match self.array("a value")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(super::wrong(key, "is neither 0 nor 1")),
        }
    }

    /// Takes the length of a string, which is not longer than what is left, nor than `most`.
    pub(super) fn len(&mut self, what: &'static str, most: u64) -> Result<u64, CheckError> {
        let len = self.u64(what)?;
        self.has(what, len)?;
        CheckError::bound("bytes of a string", len, most)?;
        Ok(len)
    }

    /// Takes the bytes of a string.
    fn string(&mut self, what: &'static str, most: u64) -> Result<Vec<u8>, CheckError> {
        let len = self.len(what, most)?;
        // A vocabulary has a hundred thousand strings, and nearly all of them lie whole in what is here.
        let here = usize::try_from(len)
            .ok()
            .and_then(|len| self.bytes.buffer().get(..len));
        let bytes = match here.map(<[u8]>::to_vec) {
            Some(bytes) => {
                self.bytes.consume(bytes.len());
                bytes
            }
            None => {
                // It grows with what comes: a source may have less than it should.
                let mut bytes = Vec::new();
                (&mut self.bytes).take(len).read_to_end(&mut bytes)?;
                bytes
            }
        };
        if bytes.len() as u64 != len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.at += len;
        Ok(bytes)
    }

    /// Takes a text; what is not UTF-8 in it becomes U+FFFD.
    pub(super) fn text(&mut self, what: &'static str, most: u64) -> Result<String, CheckError> {
        let bytes = self.string(what, most)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// Takes a name: UTF-8 without NUL, since readers differ in what they make of others, and two could become one.
    pub(super) fn name(&mut self, what: &'static str, most: u64) -> Result<String, CheckError> {
        let bytes = self.string(what, most)?;
        match String::from_utf8(bytes) {
            Ok(name) if !name.is_empty() && !name.contains('\0') => Ok(name),
            Ok(name) => Err(super::wrong(&name, "is no name: it is empty, or has a NUL")),
            Err(_) => Err(super::wrong(what, "is not UTF-8")),
        }
    }

    /// Goes over bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), CheckError> {
        self.has("a value", bytes)?;
        let gone = io::copy(&mut (&mut self.bytes).take(bytes), &mut io::sink())?;
        if gone != bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.at += bytes;
        Ok(())
    }
}
