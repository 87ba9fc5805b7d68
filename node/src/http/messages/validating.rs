//! What is said over the control API about what models do, and who found what.

use data_encoding::{BASE64, DecodeError};
use protocol::RepoRef;
use serde::{Deserialize, Serialize};

use super::as_text;
use crate::validate::{Level, ValidateRequest};

/// The body of `validate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidateAsk {
    /// Which repo.
    #[serde(with = "as_text")]
    pub repo: RepoRef,
    /// Which file is the model, in a repo that has several.
    #[serde(default)]
    pub file: Option<String>,
    /// How far to go.
    #[serde(default)]
    pub level: Level,
    /// Most memory that the engine may take, in bytes; `None`: what is free.
    #[serde(default)]
    pub memory: Option<u64>,
}

impl From<ValidateAsk> for ValidateRequest {
    fn from(ask: ValidateAsk) -> ValidateRequest {
        ValidateRequest {
            file: ask.file,
            level: ask.level,
            memory: ask.memory,
            ..ValidateRequest::new(ask.repo)
        }
    }
}

/// The body of `probe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeAsk {
    /// Which repo.
    #[serde(with = "as_text")]
    pub repo: RepoRef,
    /// Which file is the model, in a repo that has several.
    #[serde(default)]
    pub file: Option<String>,
    /// Most memory that the engine may take, in bytes; `None`: what is free.
    #[serde(default)]
    pub memory: Option<u64>,
}

/// The query of `attestations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SomeRepoAsk {
    /// `PUBLISHER/NAME`, `ALIAS/NAME` or `blake3/HASH`; all, if there is none.
    #[serde(default)]
    pub repo: Option<String>,
}

/// The body of `attestations/import`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestationsAsk {
    /// The bytes of a file of attestations, in base64.
    attestations: String,
}

impl AttestationsAsk {
    /// Takes the bytes of a file.
    pub fn of(bytes: &[u8]) -> AttestationsAsk {
        AttestationsAsk {
            attestations: BASE64.encode(bytes),
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// They are not in base64.
    pub fn bytes(&self) -> Result<Vec<u8>, DecodeError> {
        BASE64.decode(self.attestations.as_bytes())
    }
}
