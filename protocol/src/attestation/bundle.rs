//! Several attestations in one file, for those who carry them by hand.

use super::{AttestationError, SignedAttestation};
use crate::limits::{ATTESTATION_LEN_MAX, BUNDLE_LEN_MAX, BUNDLED_MAX};

/// A file of attestations begins with this line.
const HEADING: &[u8] = b"shoal attestations 1\n";

/// Why bytes are not a file of attestations.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It does not begin as one of this version.
    #[error("not a file of attestations of version 1")]
    Heading,
    /// It is longer than [`BUNDLE_LEN_MAX`].
    #[error("file of attestations has {len} bytes, more than {max}")]
    TooLong {
        /// Bytes of the file.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// It has more attestations than [`BUNDLED_MAX`].
    #[error("file has more than {max} attestations")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// It ends within an attestation, or within the length of one.
    #[error("file of attestations ends within number {number}")]
    Cut {
        /// Which, from 1.
        number: usize,
    },
    /// One of them is none.
    #[error("attestation number {number} in the file")]
    Attestation {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        #[source]
        source: AttestationError,
    },
}

/// Writes attestations one behind the other; what goes over [`BUNDLED_MAX`] is left out.
pub fn encode_bundle(attestations: &[SignedAttestation]) -> Vec<u8> {
    let mut bytes = HEADING.to_vec();
    for attestation in attestations.iter().take(BUNDLED_MAX) {
        let encoding = attestation.encode();
        let len = u16::try_from(encoding.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(encoding);
    }
    bytes
}

/// Reads a file of attestations, and verifies each. One that is wrong spoils the file.
///
/// # Errors
/// Every variant of [`BundleError`].
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<SignedAttestation>, BundleError> {
    let (len, max) = (bytes.len(), BUNDLE_LEN_MAX);
    if len > max {
        return Err(BundleError::TooLong { len, max });
    }
    let mut rest = bytes.strip_prefix(HEADING).ok_or(BundleError::Heading)?;
    let mut attestations = Vec::new();
    while !rest.is_empty() {
        let number = attestations.len().saturating_add(1);
        if number > BUNDLED_MAX {
            return Err(BundleError::TooMany { max: BUNDLED_MAX });
        }
        let cut = || BundleError::Cut { number };
        let (len, behind) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let wrong = |source| BundleError::Attestation { number, source };
        if len > ATTESTATION_LEN_MAX {
            let max = ATTESTATION_LEN_MAX;
            return Err(wrong(AttestationError::TooLong { len, max }));
        }
        let (one, behind) = behind.split_at_checked(len).ok_or_else(cut)?;
        attestations.push(SignedAttestation::decode(one).map_err(wrong)?);
        rest = behind;
    }
    Ok(attestations)
}
