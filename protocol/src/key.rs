//! Key statements: how a publisher goes on when its key is to be replaced, was lost or was stolen. A [`SignedStatement`] always carries
//! every signature that its kind asks for.
//!
//! A signature proves who says something, not that they may: anybody can sign "recover publisher P with my key". What a statement means for those who
//! follow a publisher is [`standing`]'s to say.

mod bundle;
mod error;
mod keep;
pub mod standing;
mod written;

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey};

pub use bundle::{KeyBundleError, decode_bundle, encode_bundle};
pub use error::{KeyError, ReasonError};
pub use keep::{Seen, keep};
pub use standing::{Cut, Fork, ForkKind, Passage, Revoked, Standing, Step};

use crate::hash::Hash;
use crate::json;
use crate::limits::{KEY_STATEMENT_LEN_MAX, RELEASE_NUMBER_MAX};
use crate::repo::Publisher;
use written::{Say, Written, claimed};

/// What is signed is this, then the JSON: a signature made for anything else does not fit.
const DOMAIN: &[u8] = b"shoal key statement 1\n";

/// Bytes of an Ed25519 signature.
const SIGNATURE_LEN: usize = 64;

/// What is said about a key. Every statement says when it was signed, by its signer's clock: for people, never for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// The publisher has a recovery key, which lies offline. Signed by both.
    Introduce {
        /// The publisher.
        key: Publisher,
        /// Its recovery key.
        recovery: Publisher,
        /// When it was signed, in Unix seconds.
        issued: u64,
    },
    /// The publisher goes on under another key. Signed by both.
    Rotate {
        /// The old key.
        from: Publisher,
        /// The new one.
        to: Publisher,
        /// When it was signed, in Unix seconds.
        issued: u64,
    },
    /// The publisher goes on under another key, says its recovery key. Signed by the recovery key and the new one.
    Recover {
        /// The old key: lost or stolen.
        from: Publisher,
        /// The new one.
        to: Publisher,
        /// The recovery key of the old one.
        recovery: Publisher,
        /// When it was signed, in Unix seconds.
        issued: u64,
    },
    /// The key signs nothing any more that anybody should follow. Signed by the key itself or its recovery key.
    Revoke {
        /// The key.
        key: Publisher,
        /// Who signs: the key itself, or its recovery key.
        by: Publisher,
        /// Why.
        reason: Reason,
        /// When it was signed, in Unix seconds.
        issued: u64,
    },
}

/// Why a key was revoked. Text: `compromised`, `lost`, `retired`, `superseded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Somebody else has it, or may have.
    Compromised,
    /// Nobody has it any more.
    Lost,
    /// The publisher publishes no more.
    Retired,
    /// Another key took its place.
    Superseded,
}

/// A statement and the signatures that make it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedStatement {
    statement: Statement,
    encoding: Vec<u8>,
}

impl SignedStatement {
    /// Checks a statement and signs it with the keys that its kind asks for; `keys` may hold others too, in any order.
    ///
    /// # Errors
    /// [`KeyError::NoKey`], [`KeyError::SameKey`] and [`KeyError::Issued`].
    pub fn sign(statement: Statement, keys: &[&SigningKey]) -> Result<SignedStatement, KeyError> {
        statement.check()?;
        let json = json::encode(&Written::of(&statement));
        let signed = signed_bytes(&json);
        let (first, second) = statement.signers();
        let mut encoding = vec![if second.is_some() { 2 } else { 1 }];
        for signer in [Some(first), second].into_iter().flatten() {
            let fits = |key: &&&SigningKey| key.verifying_key().as_bytes() == signer.as_bytes();
            let key = keys.iter().find(fits).ok_or(KeyError::NoKey { wanted: signer })?;
            encoding.extend_from_slice(&key.sign(&signed).to_bytes());
        }
        encoding.extend_from_slice(&json);
        check_len(encoding.len())?;
        Ok(SignedStatement { statement, encoding })
    }

    /// Reads a signed statement: length, version, kind and keys, then every signature, then everything else.
    ///
    /// # Errors
    /// Every [`KeyError`] but [`KeyError::NoKey`]. What lacks one true signature is not read further.
    pub fn decode(bytes: &[u8]) -> Result<SignedStatement, KeyError> {
        check_len(bytes.len())?;
        let too_short = || KeyError::TooShort { len: bytes.len() };
        let (count, rest) = bytes.split_first().ok_or_else(too_short)?;
        let (first_signature, rest) = rest.split_first_chunk::<SIGNATURE_LEN>().ok_or_else(too_short)?;
        let (second_signature, json) = match count {
            1 => (None, rest),
            2 => {
                let (second, json) = rest.split_first_chunk::<SIGNATURE_LEN>().ok_or_else(too_short)?;
                (Some(second), json)
            }
            _ => return Err(KeyError::Count { found: *count }),
        };
        let (first, second) = claimed(json)?;
        if second.is_some() != second_signature.is_some() {
            return Err(KeyError::Count { found: *count });
        }
        let signed = signed_bytes(json);
        verify(first, first_signature, &signed)?;
        if let Some((signer, signature)) = second.zip(second_signature) {
            verify(signer, signature, &signed)?;
        }
        let written: Written<'_> = json::decode(json)?;
        let statement = written.read()?;
        statement.check()?;
        Ok(SignedStatement {
            statement,
            encoding: bytes.to_vec(),
        })
    }

    /// The encoding: the number of signatures, the signatures, then the canonical JSON; at most [`KEY_STATEMENT_LEN_MAX`] bytes.
    pub fn encode(&self) -> &[u8] {
        &self.encoding
    }

    /// What was signed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The hash of the encoding.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.encoding)
    }
}

impl Statement {
    /// The key that it is about, under which it lies in the DHT: the publisher as it was before.
    pub fn about(&self) -> Publisher {
        match self {
            Statement::Introduce { key, .. } | Statement::Revoke { key, .. } => *key,
            Statement::Rotate { from, .. } | Statement::Recover { from, .. } => *from,
        }
    }

    /// When it was signed, in Unix seconds, as its signers say.
    pub fn issued(&self) -> u64 {
        match self {
            Statement::Introduce { issued, .. }
            | Statement::Rotate { issued, .. }
            | Statement::Recover { issued, .. }
            | Statement::Revoke { issued, .. } => *issued,
        }
    }

    /// Who has to sign it, in the order of the signatures.
    pub fn signers(&self) -> (Publisher, Option<Publisher>) {
        match self {
            Statement::Introduce { key, recovery, .. } => (*key, Some(*recovery)),
            Statement::Rotate { from, to, .. } => (*from, Some(*to)),
            Statement::Recover { recovery, to, .. } => (*recovery, Some(*to)),
            Statement::Revoke { by, .. } => (*by, None),
        }
    }

    fn say(&self) -> Say {
        match self {
            Statement::Introduce { .. } => Say::Introduce,
            Statement::Rotate { .. } => Say::Rotate,
            Statement::Recover { .. } => Say::Recover,
            Statement::Revoke { .. } => Say::Revoke,
        }
    }

    fn check(&self) -> Result<(), KeyError> {
        let same = match self {
            Statement::Introduce { key, recovery, .. } => key == recovery,
            Statement::Rotate { from, to, .. } => from == to,
            Statement::Recover {
                from, to, recovery, ..
            } => from == to || from == recovery || to == recovery,
            Statement::Revoke { .. } => false,
        };
        if same {
            return Err(KeyError::SameKey);
        }
        let (found, max) = (self.issued(), RELEASE_NUMBER_MAX);
        if found > max {
            return Err(KeyError::Issued { found, max });
        }
        Ok(())
    }
}

fn verify(signer: Publisher, signature: &[u8; SIGNATURE_LEN], signed: &[u8]) -> Result<(), KeyError> {
    let key = signer.verifying_key();
    key.verify_strict(signed, &Signature::from_bytes(signature))
        .map_err(|_| KeyError::Signature { signer })
}

fn signed_bytes(json: &[u8]) -> Vec<u8> {
    [DOMAIN, json].concat()
}

fn check_len(len: usize) -> Result<(), KeyError> {
    let max = KEY_STATEMENT_LEN_MAX;
    if len > max {
        return Err(KeyError::TooLong { len, max });
    }
    Ok(())
}

/// The DHT key under which the statements about a publisher's key lie.
pub fn key_of_keys(publisher: Publisher) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"shoal key 1");
    hasher.update(publisher.as_bytes());
    *hasher.finalize().as_bytes()
}

impl Reason {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Compromised => "compromised",
            Reason::Lost => "lost",
            Reason::Retired => "retired",
            Reason::Superseded => "superseded",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Reason, ReasonError> {
        let all = [
            Reason::Compromised,
            Reason::Lost,
            Reason::Retired,
            Reason::Superseded,
        ];
        all.into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or_else(|| ReasonError {
                found: text.chars().take(32).collect(),
            })
    }
}
