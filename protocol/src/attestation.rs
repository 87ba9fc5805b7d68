//! The attestation: the signed statement "key K validated manifest M, and this came out". A [`SignedAttestation`] always carries
//! the signature of the key it names.
//!
//! The key is a *publisher* key, of whoever ran the validation: a statement counts by who makes it, users follow publishers and nobody
//! else, and a node's own key (its peer id) names a machine that a user has no reason to know. Nothing else that a publisher signs is an
//! attestation, and no attestation is anything else: what is signed begins with a line of its own, and names the manifest, so that a signature fits
//! neither another model, nor another key, nor another kind of statement.
//!
//! It says what was computed, not how good a model is. The numbers in it can be computed again by anybody who has the files: with the same
//! nonce the same challenge comes out.

mod bundle;
mod error;
mod finite;
mod written;

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey};
use serde::{Deserialize, Serialize};

pub use bundle::{BundleError, decode_bundle, encode_bundle};
pub use error::{AttestationError, VerdictError};
pub use finite::Finite;

use crate::hash::Hash;
use crate::json;
use crate::limits::{
    ATTESTATION_FEATURES_LEN_MAX, ATTESTATION_LEN_MAX, ATTESTATION_RUNTIME_LEN_MAX, CHALLENGE_NUMBERS_MAX,
    CHALLENGES_MAX, RELEASE_NUMBER_MAX, VERSION,
};
use crate::repo::Publisher;
use written::Written;

/// What is signed is this, then the JSON: a signature made for anything else does not fit.
const DOMAIN: &[u8] = b"shoal attestation 1\n";

/// Bytes of an Ed25519 signature.
const SIGNATURE_LEN: usize = 64;

/// Bytes of the nonce of a challenge.
pub const NONCE_LEN: usize = 16;

/// What a validation came to on one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that was looked at is as it should be.
    Passed,
    /// Something is not.
    Failed,
    /// It was not looked at, or could not be: no statement about the model.
    NotDone,
}

/// What somebody found when they validated a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Who says it, and signs.
    pub by: Publisher,
    /// The revision: the hash of its manifest.
    pub manifest: Hash,
    /// The files are what their formats ask for, and fit together.
    pub structure: Verdict,
    /// The weights are numbers.
    pub numbers: Verdict,
    /// The model does what its publisher declares. `Passed` always comes with a challenge, so that anybody can repeat it.
    pub behaviour: Verdict,
    /// The hash of the declared probes, if there are any.
    pub probes: Option<Hash>,
    /// How far the results were from those that the probes declare.
    pub differences: Differences,
    /// What came out of challenges: the attester's own, and those of others that were repeated. At most [`CHALLENGES_MAX`].
    pub challenges: Vec<Challenge>,
    /// Bits for each byte of the fixed text.
    pub bits_per_byte: Option<Finite>,
    /// What computed it, and how: `candle 0.11.1 f32`. Printable ASCII.
    pub runtime: String,
    /// The processor and what of it was used: `x86_64 avx2 fma`. Printable ASCII.
    pub features: String,
    /// When it was signed, in Unix seconds by the attester's clock.
    pub issued: u64,
}

/// The largest differences to what probes declare; `None` where there is no probe of that kind. None is below 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Differences {
    /// Between elements of embeddings.
    pub embed: Option<Finite>,
    /// Between logits.
    pub logits: Option<Finite>,
    /// Between mean negative log-likelihoods of tokens, in nats.
    pub nll: Option<Finite>,
}

/// What a model made of prompts that follow from its manifest and a nonce, so that no publisher knew them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// What the prompts follow from, beside the manifest.
    pub nonce: [u8; NONCE_LEN],
    /// The hash of all results, to the last bit. Equal ones prove an equal computation; others say nothing.
    pub digest: Hash,
    /// The results in short, to be compared within a tolerance: 1 to [`CHALLENGE_NUMBERS_MAX`], always as many for one model.
    pub numbers: Vec<Finite>,
}

/// An attestation and the signature that makes it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAttestation {
    attestation: Attestation,
    encoding: Vec<u8>,
}

impl SignedAttestation {
    /// Checks an attestation and signs it.
    ///
    /// # Errors
    /// [`AttestationError::OtherKey`], [`AttestationError::Rule`], [`AttestationError::Issued`] and [`AttestationError::TooLong`].
    pub fn sign(attestation: Attestation, key: &SigningKey) -> Result<SignedAttestation, AttestationError> {
        if key.verifying_key().as_bytes() != attestation.by.as_bytes() {
            let by = attestation.by;
            return Err(AttestationError::OtherKey { by });
        }
        attestation.check()?;
        let json = json::encode(&Written::of(&attestation));
        let signature = key.sign(&signed_bytes(&json));
        let mut encoding = signature.to_bytes().to_vec();
        encoding.extend_from_slice(&json);
        check_len(encoding.len())?;
        Ok(SignedAttestation {
            attestation,
            encoding,
        })
    }

    /// Reads a signed attestation: length, version and key, then the signature, then everything else.
    ///
    /// # Errors
    /// Every [`AttestationError`] but [`AttestationError::OtherKey`]. What has no true signature is not read further.
    pub fn decode(bytes: &[u8]) -> Result<SignedAttestation, AttestationError> {
        check_len(bytes.len())?;
        let (signature, json) = bytes
            .split_first_chunk::<SIGNATURE_LEN>()
            .ok_or(AttestationError::TooShort { len: bytes.len() })?;
        let by = signer(json)?;
        by.verifying_key()
            .verify_strict(&signed_bytes(json), &Signature::from_bytes(signature))
            .map_err(|_| AttestationError::Signature)?;
        let written: Written<'_> = json::decode(json)?;
        let attestation = written.read(by)?;
        attestation.check()?;
        Ok(SignedAttestation {
            attestation,
            encoding: bytes.to_vec(),
        })
    }

    /// The encoding: 64 bytes of signature, then the canonical JSON; at most [`ATTESTATION_LEN_MAX`] bytes.
    pub fn encode(&self) -> &[u8] {
        &self.encoding
    }

    /// What was signed.
    pub fn attestation(&self) -> &Attestation {
        &self.attestation
    }
}

impl Attestation {
    /// The result of the challenge with this nonce.
    pub fn challenge(&self, nonce: &[u8; NONCE_LEN]) -> Option<&Challenge> {
        self.challenges.iter().find(|challenge| challenge.nonce == *nonce)
    }

    fn check(&self) -> Result<(), AttestationError> {
        let max = RELEASE_NUMBER_MAX;
        if self.issued > max {
            let found = self.issued;
            return Err(AttestationError::Issued { found, max });
        }
        let levels = [self.structure, self.numbers, self.behaviour];
        rule(
            levels.iter().any(|level| *level != Verdict::NotDone),
            "no level that was looked at",
        )?;
        self.check_behaviour()?;
        check_text(&self.runtime, ATTESTATION_RUNTIME_LEN_MAX, "a wrong runtime")?;
        check_text(&self.features, ATTESTATION_FEATURES_LEN_MAX, "wrong features")
    }

    fn check_behaviour(&self) -> Result<(), AttestationError> {
        let Differences { embed, logits, nll } = self.differences;
        let differences = [embed, logits, nll];
        let some = differences.iter().any(Option::is_some);
        let none = !some && self.challenges.is_empty() && self.bits_per_byte.is_none();
        rule(
            self.behaviour != Verdict::NotDone || none,
            "results of a level that was not looked at",
        )?;
        rule(
            self.behaviour != Verdict::Passed || !self.challenges.is_empty(),
            "a behaviour that nobody can repeat: it passed, and there is no challenge",
        )?;
        rule(
            !some || self.probes.is_some(),
            "differences to probes that it does not name",
        )?;
        let below_zero = |number: &Option<Finite>| number.is_some_and(|number| number.get() < 0.0);
        rule(!differences.iter().any(below_zero), "a difference below 0")?;
        rule(!below_zero(&self.bits_per_byte), "bits below 0")?;
        rule(self.challenges.len() <= CHALLENGES_MAX, "too many challenges")?;
        for (at, challenge) in self.challenges.iter().enumerate() {
            let numbers = challenge.numbers.len();
            rule(
                (1..=CHALLENGE_NUMBERS_MAX).contains(&numbers),
                "a challenge with too many or no numbers",
            )?;
            let before = self.challenges.iter().take(at);
            let twice = before
                .map(|other| other.nonce)
                .any(|nonce| nonce == challenge.nonce);
            rule(!twice, "the same nonce twice")?;
        }
        Ok(())
    }
}

/// Finds the key that must have signed `json`: all that is read before the signature is checked.
fn signer(json: &[u8]) -> Result<Publisher, AttestationError> {
    #[derive(Deserialize)]
    struct Signer<'a> {
        #[serde(borrow)]
        by: std::borrow::Cow<'a, str>,
        shoal: u64,
    }

    let Signer { by, shoal } = json::peek(json)?;
    if shoal != VERSION {
        return Err(AttestationError::Version { found: shoal });
    }
    Ok(by.parse()?)
}

fn signed_bytes(json: &[u8]) -> Vec<u8> {
    [DOMAIN, json].concat()
}

fn check_len(len: usize) -> Result<(), AttestationError> {
    let max = ATTESTATION_LEN_MAX;
    if len > max {
        return Err(AttestationError::TooLong { len, max });
    }
    Ok(())
}

fn check_text(text: &str, max: usize, what: &'static str) -> Result<(), AttestationError> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    rule(printable && (1..=max).contains(&text.len()), what)
}

fn rule(holds: bool, what: &'static str) -> Result<(), AttestationError> {
    holds.then_some(()).ok_or(AttestationError::Rule { what })
}

impl Verdict {
    /// The word for it: `passed`, `failed` or `not_done`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::NotDone => "not_done",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verdict {
    type Err = VerdictError;

    fn from_str(text: &str) -> Result<Verdict, VerdictError> {
        let all = [Verdict::Passed, Verdict::Failed, Verdict::NotDone];
        all.into_iter()
            .find(|verdict| verdict.as_str() == text)
            .ok_or(VerdictError)
    }
}
