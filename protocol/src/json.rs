//! Canonical JSON: keys sorted, no whitespace, UTF-8, integers; one value has one encoding.
//!
//! A type that is encoded here declares its fields in the order of their names. The decoder refuses whatever does not encode to
//! the same bytes again, so that bytes, content and hash mean the same.

use std::io;

use serde::{Deserialize, Serialize};

use crate::limits::VERSION;

/// Why bytes are not the canonical JSON of the wanted record.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The record is written in another version of the format, as a rule a newer one.
    #[error(
        "written in version {found} of the format, and this program knows version 1: a newer one may read it"
    )]
    Version {
        /// The version that the record names.
        found: u64,
    },
    /// A field that this version does not have.
    #[error("unknown field {name:?}")]
    UnknownField {
        /// The field, cut after 64 characters.
        name: String,
    },
    /// A field stands twice in one object.
    #[error("field {name:?} stands twice")]
    DuplicateField {
        /// The field.
        name: String,
    },
    /// A field that has to be there is not.
    #[error("missing field {name:?}")]
    MissingField {
        /// The field.
        name: String,
    },
    /// A value of the wrong type, or no JSON at all.
    #[error("not the expected JSON: line {line}, column {column}")]
    Syntax {
        /// Line of the first wrong byte, from 1.
        line: usize,
        /// Column of the first wrong byte, in bytes, from 1.
        column: usize,
    },
    /// The record means something, but there is one other way to write it that everybody has to use.
    #[error("not in canonical form")]
    NotCanonical,
}

/// Encodes a record. Its fields stand in the order in which the type declares them: sorted by name.
pub(crate) fn encode(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(record, &mut bytes).expect("records of strings and integers are JSON");
    bytes
}

/// Encodes a record into a writer, piece by piece.
///
/// # Errors
/// Those of the writer.
pub(crate) fn write(record: &impl Serialize, writer: impl io::Write) -> io::Result<()> {
    serde_json::to_writer(writer, record).map_err(io::Error::from)
}

/// Reads the few fields of `T` and lets the rest be; checks neither the version nor the form.
pub(crate) fn peek<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, JsonError> {
    serde_json::from_slice(bytes).map_err(|error| classify(&error))
}

/// Reads a record whole: version first, then the fields, then the form.
///
/// The length of `bytes` is the caller's to bound. Nesting is bounded by the shape of `T`; what is skipped is skipped without recursion.
pub(crate) fn decode<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Result<T, JsonError> {
    #[derive(Deserialize)]
    struct Version {
        shoal: u64,
    }

    let Version { shoal: found } = peek(bytes)?;
    if found != VERSION {
        return Err(JsonError::Version { found });
    }
    let record: T = peek(bytes)?;
    let mut rest = Expected(bytes);
    if write(&record, &mut rest).is_err() || !rest.0.is_empty() {
        return Err(JsonError::NotCanonical);
    }
    Ok(record)
}

/// A writer that takes exactly these bytes: a second encoding is compared without being kept.
struct Expected<'a>(&'a [u8]);

impl io::Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Finds out what was wrong from the words of serde's error: it keeps no other trace. Only the diagnosis hangs on this.
pub(crate) fn classify(error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    let name = |rest: &str| {
        let name = rest.split('`').next().unwrap_or_default();
        name.chars().take(64).collect()
    };
    if let Some(rest) = text.strip_prefix("unknown field `") {
        return JsonError::UnknownField { name: name(rest) };
    }
    if let Some(rest) = text.strip_prefix("duplicate field `") {
        return JsonError::DuplicateField { name: name(rest) };
    }
    if let Some(rest) = text.strip_prefix("missing field `") {
        return JsonError::MissingField { name: name(rest) };
    }
    JsonError::Syntax {
        line: error.line(),
        column: error.column(),
    }
}
