//! The release: the signed record "repo R is manifest M, number N". A [`SignedRelease`] always carries its publisher's signature.
//!
//! Which of two releases to follow is [`ratchet`]'s to say; where they lie in the DHT is said by [`key_of`].

mod error;
mod id;
pub mod ratchet;
mod upstream;

use std::borrow::Cow;

use ed25519_dalek::{Signature, Signer, SigningKey};
use serde::{Deserialize, Serialize};

pub use error::ReleaseError;
pub use id::{ReleaseId, id_of};
pub use upstream::Upstream;

use crate::hash::Hash;
use crate::json;
use crate::limits::{RELEASE_LEN_MAX, RELEASE_LIFE_MAX, RELEASE_NUMBER_MAX, VERSION};
use crate::repo::{Kind, Publisher, RepoId, RepoName};

/// What is signed is this, then the JSON: a signature made for anything else does not fit.
const DOMAIN: &[u8] = b"shoal release 1\n";

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// What a publisher says about a repo at one point of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Who says it, and signs.
    pub publisher: Publisher,
    /// The repo's name under that publisher.
    pub name: RepoName,
    /// What the repo is.
    pub kind: Kind,
    /// The revision: the hash of its manifest.
    pub manifest: Hash,
    /// The number of this release, from 1; it only grows.
    pub seq: u64,
    /// The manifest of the release before, if there was one.
    pub prev: Option<Hash>,
    /// When it was signed, in Unix seconds by the publisher's clock.
    pub issued: u64,
    /// When it should have been replaced, in Unix seconds. Later it is stale, and still true.
    pub expires: u64,
    /// What it is a copy of.
    pub upstream: Option<Upstream>,
    /// The blob with the summary of its card.
    pub card: Option<Hash>,
}

/// A release and the signature that makes it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRelease {
    release: Release,
    encoding: Vec<u8>,
}

/// The record as it is written. Fields in the order of their names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    card: Option<Cow<'a, str>>,
    expires: u64,
    issued: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    manifest: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    prev: Option<Cow<'a, str>>,
    #[serde(borrow)]
    publisher: Cow<'a, str>,
    seq: u64,
    shoal: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Upstream>,
}

impl SignedRelease {
    /// Checks a release and signs it.
    ///
    /// # Errors
    /// [`ReleaseError::OtherKey`], [`ReleaseError::Number`], [`ReleaseError::Upstream`] and [`ReleaseError::TooLong`].
    pub fn sign(release: Release, key: &SigningKey) -> Result<SignedRelease, ReleaseError> {
        if key.verifying_key().as_bytes() != release.publisher.as_bytes() {
            let publisher = release.publisher;
            return Err(ReleaseError::OtherKey { publisher });
        }
        release.check()?;
        let json = release.to_json();
        let signature = key.sign(&signed_bytes(&json));
        let encoding = [signature.to_bytes().as_slice(), &json].concat();
        check_len(encoding.len())?;
        Ok(SignedRelease { release, encoding })
    }

    /// Reads a signed release: length, version and publisher, then the signature, then everything else.
    ///
    /// # Errors
    /// Every [`ReleaseError`] but [`ReleaseError::OtherKey`]. What has no true signature is not read further.
    pub fn decode(bytes: &[u8]) -> Result<SignedRelease, ReleaseError> {
        check_len(bytes.len())?;
        let (signature, json) = bytes
            .split_first_chunk::<SIGNATURE_LEN>()
            .ok_or(ReleaseError::TooShort { len: bytes.len() })?;
        let publisher = signer(json)?;
        publisher
            .verifying_key()
            .verify_strict(&signed_bytes(json), &Signature::from_bytes(signature))
            .map_err(|_| ReleaseError::Signature)?;
        let written: Written<'_> = json::decode(json)?;
        let release = written.read(publisher)?;
        release.check()?;
        Ok(SignedRelease {
            release,
            encoding: bytes.to_vec(),
        })
    }

    /// The encoding: 64 bytes of signature, then the canonical JSON; at most [`RELEASE_LEN_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encoding.clone()
    }

    /// The signature: what a store keeps beside the release, to make the encoding of it again.
    pub fn signature(&self) -> [u8; SIGNATURE_LEN] {
        let first = self.encoding.first_chunk::<SIGNATURE_LEN>();
        *first.expect("an encoding begins with its signature")
    }

    /// What was signed.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The hash of the encoding.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.encoding)
    }
}

impl Release {
    /// The repo that the release is about.
    pub fn repo(&self) -> RepoId {
        RepoId {
            publisher: self.publisher,
            name: self.name.clone(),
        }
    }

    /// The DHT key under which it lies.
    pub fn key(&self) -> [u8; 32] {
        key_of(self.publisher, &self.name)
    }

    /// The DHT key under which it lies too, if it is a copy.
    pub fn copy_key(&self) -> Option<[u8; 32]> {
        let upstream = self.upstream.as_ref()?;
        Some(copy_key(self.publisher, self.kind, &upstream.repo))
    }

    /// The encoding of a signed release, made of its parts. It verifies nothing: it is for who verified this signature of this release before,
    /// and for [`SignedRelease::decode`] else.
    pub fn encode_with(&self, signature: &[u8; SIGNATURE_LEN]) -> Vec<u8> {
        let mut encoding = signature.to_vec();
        encoding.extend_from_slice(&self.to_json());
        encoding
    }

    /// Whether this is a DHT key under which it lies.
    pub fn lies_under(&self, key: &[u8; 32]) -> bool {
        self.key() == *key || self.copy_key().as_ref() == Some(key)
    }

    fn check(&self) -> Result<(), ReleaseError> {
        check_number("seq", self.seq, 1, RELEASE_NUMBER_MAX)?;
        check_number("issued", self.issued, 0, RELEASE_NUMBER_MAX)?;
        let earliest = self.issued.saturating_add(1);
        let latest = self.issued.saturating_add(RELEASE_LIFE_MAX);
        check_number("expires", self.expires, earliest, latest)?;
        self.upstream.as_ref().map_or(Ok(()), Upstream::check)
    }

    fn to_json(&self) -> Vec<u8> {
        json::encode(&Written {
            card: self.card.map(|hash| hash.to_string().into()),
            expires: self.expires,
            issued: self.issued,
            kind: self.kind.as_str().into(),
            manifest: self.manifest.to_string().into(),
            name: self.name.as_str().into(),
            prev: self.prev.map(|hash| hash.to_string().into()),
            publisher: self.publisher.to_string().into(),
            seq: self.seq,
            shoal: VERSION,
            upstream: self.upstream.clone(),
        })
    }
}

impl Written<'_> {
    fn read(&self, publisher: Publisher) -> Result<Release, ReleaseError> {
        let hash = |field, text: &str| {
            let bad_hex = |source| ReleaseError::BadHex { field, source };
            text.parse::<Hash>().map_err(bad_hex)
        };
        let optional =
            |field, text: &Option<Cow<'_, str>>| text.as_deref().map(|text| hash(field, text)).transpose();
        Ok(Release {
            publisher,
            name: self.name.parse()?,
            kind: self.kind.parse()?,
            manifest: hash("manifest", &self.manifest)?,
            seq: self.seq,
            prev: optional("prev", &self.prev)?,
            issued: self.issued,
            expires: self.expires,
            upstream: self.upstream.clone(),
            card: optional("card", &self.card)?,
        })
    }
}

/// Finds the key that must have signed `json`: all that is read before the signature is checked.
fn signer(json: &[u8]) -> Result<Publisher, ReleaseError> {
    #[derive(Deserialize)]
    struct Signer<'a> {
        #[serde(borrow)]
        publisher: Cow<'a, str>,
        shoal: u64,
    }

    let Signer { publisher, shoal } = json::peek(json)?;
    if shoal != VERSION {
        return Err(ReleaseError::Version { found: shoal });
    }
    Ok(publisher.parse()?)
}

fn signed_bytes(json: &[u8]) -> Vec<u8> {
    [DOMAIN, json].concat()
}

fn check_len(len: usize) -> Result<(), ReleaseError> {
    let max = RELEASE_LEN_MAX;
    if len > max {
        return Err(ReleaseError::TooLong { len, max });
    }
    Ok(())
}

fn check_number(field: &'static str, found: u64, min: u64, max: u64) -> Result<(), ReleaseError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(ReleaseError::Number {
        field,
        found,
        min,
        max,
    })
}

/// The DHT key under which a repo's releases lie. It does not tell the name: who knows only the key cannot read it back.
pub fn key_of(publisher: Publisher, name: &RepoName) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"shoal name 1");
    hasher.update(publisher.as_bytes());
    hasher.update(name.as_str().as_bytes());
    *hasher.finalize().as_bytes()
}

/// The DHT key under which a publisher's release lies that is a copy of a repo of another hub, called `upstream` there.
pub fn copy_key(publisher: Publisher, kind: Kind, upstream: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"shoal copy 1");
    hasher.update(publisher.as_bytes());
    hasher.update(kind.as_str().as_bytes());
    hasher.update(b"/");
    hasher.update(upstream.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The DHT key under which nodes announce themselves that tell of a publisher's releases: its own, and those that mirror it.
pub fn teller_key(publisher: Publisher) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"shoal teller 1");
    hasher.update(publisher.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The DHT key under which the providers of a manifest announce themselves. It does not tell the manifest.
pub fn provider_key(manifest: Hash) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"shoal provider 1");
    hasher.update(manifest.as_bytes());
    *hasher.finalize().as_bytes()
}
