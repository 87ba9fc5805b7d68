//! The attestation as it is written: canonical JSON, fields in the order of their names.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Attestation, AttestationError, Challenge, Differences, Finite, NONCE_LEN, Verdict};
use crate::hash::{Hash, HashError};
use crate::limits::VERSION;
use crate::repo::Publisher;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written<'a> {
    #[serde(borrow)]
    behaviour: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    bits_per_byte: Option<Cow<'a, str>>,
    #[serde(borrow)]
    by: Cow<'a, str>,
    #[serde(borrow)]
    challenges: Vec<WrittenChallenge<'a>>,
    #[serde(borrow)]
    differences: WrittenDifferences<'a>,
    #[serde(borrow)]
    features: Cow<'a, str>,
    issued: u64,
    #[serde(borrow)]
    manifest: Cow<'a, str>,
    #[serde(borrow)]
    numbers: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    probes: Option<Cow<'a, str>>,
    #[serde(borrow)]
    runtime: Cow<'a, str>,
    shoal: u64,
    #[serde(borrow)]
    structure: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenChallenge<'a> {
    #[serde(borrow)]
    digest: Cow<'a, str>,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    numbers: Vec<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDifferences<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    embed: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    logits: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    nll: Option<Cow<'a, str>>,
}

impl Written<'_> {
    pub(super) fn of(attestation: &Attestation) -> Written<'_> {
        let number = |number: Option<Finite>| number.map(|number| number.to_string().into());
        let Differences { embed, logits, nll } = attestation.differences;
        Written {
            behaviour: attestation.behaviour.as_str().into(),
            bits_per_byte: number(attestation.bits_per_byte),
            by: attestation.by.to_string().into(),
            challenges: attestation.challenges.iter().map(WrittenChallenge::of).collect(),
            differences: WrittenDifferences {
                embed: number(embed),
                logits: number(logits),
                nll: number(nll),
            },
            features: attestation.features.as_str().into(),
            issued: attestation.issued,
            manifest: attestation.manifest.to_string().into(),
            numbers: attestation.numbers.as_str().into(),
            probes: attestation.probes.map(|hash| hash.to_string().into()),
            runtime: attestation.runtime.as_str().into(),
            shoal: VERSION,
            structure: attestation.structure.as_str().into(),
        }
    }

    pub(super) fn read(&self, by: Publisher) -> Result<Attestation, AttestationError> {
        let number = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::parse::<Finite>).transpose();
        let probes = self.probes.as_deref();
        Ok(Attestation {
            by,
            manifest: hash("manifest", &self.manifest)?,
            structure: self.structure.parse::<Verdict>()?,
            numbers: self.numbers.parse()?,
            behaviour: self.behaviour.parse()?,
            probes: probes.map(|text| hash("probes", text)).transpose()?,
            differences: Differences {
                embed: number(&self.differences.embed)?,
                logits: number(&self.differences.logits)?,
                nll: number(&self.differences.nll)?,
            },
            challenges: self
                .challenges
                .iter()
                .map(WrittenChallenge::read)
                .collect::<Result<_, _>>()?,
            bits_per_byte: number(&self.bits_per_byte)?,
            runtime: self.runtime.clone().into_owned(),
            features: self.features.clone().into_owned(),
            issued: self.issued,
        })
    }
}

impl WrittenChallenge<'_> {
    fn of(challenge: &Challenge) -> WrittenChallenge<'static> {
        WrittenChallenge {
            digest: challenge.digest.to_string().into(),
            nonce: data_encoding::HEXLOWER.encode(&challenge.nonce).into(),
            numbers: challenge
                .numbers
                .iter()
                .map(|number| number.to_string().into())
                .collect(),
        }
    }

    fn read(&self) -> Result<Challenge, AttestationError> {
        Ok(Challenge {
            nonce: nonce(&self.nonce)?,
            digest: hash("digest", &self.digest)?,
            numbers: self
                .numbers
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?,
        })
    }
}

fn hash(field: &'static str, text: &str) -> Result<Hash, AttestationError> {
    let bad_hex = |source| AttestationError::BadHex { field, source };
    text.parse().map_err(bad_hex)
}

fn nonce(text: &str) -> Result<[u8; NONCE_LEN], AttestationError> {
    let bad_hex = |source| AttestationError::BadHex {
        field: "nonce",
        source,
    };
    let wanted = NONCE_LEN.saturating_mul(2);
    let found = text.len();
    if found != wanted {
        return Err(bad_hex(HashError::Length { wanted, found }));
    }
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes());
    let bytes = bytes.map_err(|error| bad_hex(HashError::Digit { at: error.position }))?;
    <[u8; NONCE_LEN]>::try_from(bytes).map_err(|_| bad_hex(HashError::Length { wanted, found }))
}
