//! Several key statements in one record: what the DHT holds of a key, and what is carried by hand.

use super::{KeyError, SignedStatement};
use crate::limits::{KEY_BUNDLE_LEN_MAX, KEY_STATEMENT_LEN_MAX, KEY_STATEMENTS_MAX};

/// A record of key statements begins with this line.
const HEADING: &[u8] = b"shoal keys 1\n";

/// Why bytes are not a record of key statements.
#[derive(Debug, thiserror::Error)]
pub enum KeyBundleError {
    /// It does not begin as one of this version.
    #[error("not a record of key statements of version 1")]
    Heading,
    /// It is longer than [`KEY_BUNDLE_LEN_MAX`].
    #[error("record of key statements has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the record.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// It has more statements than [`KEY_STATEMENTS_MAX`].
    #[error("record has more than {max} key statements")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// It ends within a statement, or within the length of one.
    #[error("record of key statements ends within number {number}")]
    Cut {
        /// Which, from 1.
        number: usize,
    },
    /// One of them is none.
    #[error("key statement number {number} in the record")]
    Statement {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
}

/// Writes statements one behind the other; what goes over [`KEY_STATEMENTS_MAX`] is left out.
pub fn encode_bundle(statements: &[SignedStatement]) -> Vec<u8> {
    let mut bytes = HEADING.to_vec();
    for statement in statements.iter().take(KEY_STATEMENTS_MAX) {
        let encoding = statement.encode();
        let len = u16::try_from(encoding.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(encoding);
    }
    bytes
}

/// Reads a record of key statements, and verifies each. One that is wrong spoils the record.
///
/// # Errors
/// Every variant of [`KeyBundleError`].
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<SignedStatement>, KeyBundleError> {
    let (len, max) = (bytes.len(), KEY_BUNDLE_LEN_MAX);
    if len > max {
        return Err(KeyBundleError::TooLong { len, max });
    }
    let mut rest = bytes.strip_prefix(HEADING).ok_or(KeyBundleError::Heading)?;
    let mut statements = Vec::new();
    while !rest.is_empty() {
        let number = statements.len().saturating_add(1);
        if number > KEY_STATEMENTS_MAX {
            let max = KEY_STATEMENTS_MAX;
            return Err(KeyBundleError::TooMany { max });
        }
        let cut = || KeyBundleError::Cut { number };
        let (len, behind) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let wrong = |source| KeyBundleError::Statement { number, source };
        if len > KEY_STATEMENT_LEN_MAX {
            let max = KEY_STATEMENT_LEN_MAX;
            return Err(wrong(KeyError::TooLong { len, max }));
        }
        let (one, behind) = behind.split_at_checked(len).ok_or_else(cut)?;
        statements.push(SignedStatement::decode(one).map_err(wrong)?);
        rest = behind;
    }
    Ok(statements)
}
