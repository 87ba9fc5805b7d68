//! Attestations: what we and others found when models were validated. They are kept as files ([`Attestations`]), told to peers that
//! ask, taken from peers and files after their signatures were verified, and counted by the keys that the user follows ([`Standing`]).
//!
//! Whoever makes keys can make attestations, as many as they like. So those of keys that are not followed are kept in small number, go first where
//! room is short, and never count for a model.

mod exchange;
mod files;
pub(crate) mod standing;

use std::collections::HashSet;

use protocol::{
    Alias, AttestationError, Hash, Publisher, RepoRef, SignedAttestation, Verdict,
    attestation::{BundleError, decode_bundle, encode_bundle},
    limits::{ATTESTATIONS_TOLD_MAX, BUNDLED_MAX},
};
use serde::{Deserialize, Serialize};

pub use files::{Attestations, KeepError, Kept};
pub use standing::Standing;

use crate::library::{Library, LibraryError, now};

/// Why attestations could not be kept, read or signed.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// One cannot be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A file of them does not read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What was found breaks a rule of the format.
    #[error("the attestation")]
    Attestation(#[from] AttestationError),
    /// Our key signs nothing that anybody values.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// There are none.
    #[error("nobody attested {0}, as far as this node knows")]
    Nothing(RepoRef),
    /// The library fails.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// Whose attestations we value, and how much.
#[derive(Clone, Debug)]
pub(crate) struct Valued {
    /// The user's own key.
    pub(crate) own: Publisher,
    /// Those that the user follows.
    pub(crate) followed: HashSet<Publisher>,
}

/// How much the attestations of a key are worth to us, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// Nothing: a key like any other.
    Other,
    /// The user follows it.
    Followed,
    /// It is ours.
    Own,
}

impl Valued {
    pub(crate) fn worth(&self, key: Publisher) -> Worth {
        if key == self.own {
            Worth::Own
        } else if self.followed.contains(&key) {
            Worth::Followed
        } else {
            Worth::Other
        }
    }
}

/// What became of a file of attestations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Those that are kept now, and were not before.
    pub new: u64,
    /// Those that tell nothing new.
    pub known: u64,
    /// Those of models that are not here.
    pub unknown: u64,
    /// Those for which there is no room, or whose time is yet to come.
    pub refused: u64,
}

/// An attestation, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationView {
    /// The revision.
    pub manifest: Hash,
    /// Who made it.
    pub by: Publisher,
    /// What the user calls them.
    pub alias: Option<Alias>,
    /// Whether it is ours.
    pub own: bool,
    /// What it says of the structure, the numbers and the behaviour.
    pub levels: [Verdict; 3],
    /// What computed it.
    pub runtime: String,
    /// When it was signed, in Unix seconds by the clock of who made it.
    pub issued: u64,
}

impl Library {
    /// Whose attestations we value.
    pub(crate) fn valued(&self) -> Valued {
        // Of a publisher that went on as another key only the last one counts: one voice each.
        let followed = self.following().into_iter().map(|follow| follow.publisher);
        let revoked = |key: &Publisher| self.revocation_of(*key).is_some();
        Valued {
            own: self.publisher(),
            followed: followed.filter(|key| !revoked(key)).collect(),
        }
    }

    /// Keeps an attestation of a model that is known here; durable on `New`. Blocking.
    ///
    /// # Errors
    /// [`AttestError::Keep`], [`AttestError::Library`].
    pub fn attested(&self, attestation: &SignedAttestation) -> Result<Kept, AttestError> {
        let manifest = attestation.attestation().manifest;
        if !self.knows(manifest)? {
            return Err(KeepError::UnknownManifest(manifest).into());
        }
        Ok(self.attestations().keep(attestation, &self.valued(), now())?)
    }

    fn knows(&self, manifest: Hash) -> Result<bool, LibraryError> {
        Ok(self.catalog().manifest(manifest)?.is_some())
    }

    /// The attestations of a model that we have, those first that are worth most. Blocking.
    pub(crate) fn attestations_of(&self, manifest: Hash) -> Result<Vec<SignedAttestation>, AttestError> {
        Ok(self.attestations().of(manifest, &self.valued())?)
    }

    /// What a peer is told that asks for the attestations of a model. Blocking.
    pub(crate) fn told(&self, manifest: Hash) -> Vec<Vec<u8>> {
        let attestations = self.attestations_of(manifest).unwrap_or_default();
        let told = attestations.iter().take(ATTESTATIONS_TOLD_MAX);
        told.map(|attestation| attestation.encode().to_vec()).collect()
    }

    /// How a model stands with those whom the user follows. Blocking.
    ///
    /// # Errors
    /// [`AttestError::Keep`].
    pub fn standing(&self, manifest: Hash) -> Result<Standing, AttestError> {
        let valued = self.valued();
        let all = self.attestations().of(manifest, &valued)?;
        let all: Vec<_> = all.iter().map(SignedAttestation::attestation).collect();
        Ok(Standing::of(&all, &valued))
    }

    /// Lists attestations: of one model, or all. Blocking.
    ///
    /// # Errors
    /// Those of [`AttestError`] but `Nothing` and `Bundle`.
    pub fn attestation_views(&self, what: Option<&RepoRef>) -> Result<Vec<AttestationView>, AttestError> {
        let view = |signed: &SignedAttestation| {
            let attestation = signed.attestation();
            let by = attestation.by;
            AttestationView {
                manifest: attestation.manifest,
                by,
                alias: self.alias_of(by),
                own: self.is_ours(by),
                levels: [attestation.structure, attestation.numbers, attestation.behaviour],
                runtime: attestation.runtime.clone(),
                issued: attestation.issued,
            }
        };
        Ok(self.chosen(what)?.iter().map(view).collect())
    }

    /// Makes a file of the attestations of a model. Blocking.
    ///
    /// # Errors
    /// Every [`AttestError`] but `Bundle`.
    pub fn export_attestations(&self, what: &RepoRef) -> Result<Vec<u8>, AttestError> {
        let mut chosen = self.chosen(Some(what))?;
        chosen.truncate(BUNDLED_MAX);
        match chosen.is_empty() {
            true => Err(AttestError::Nothing(what.clone())),
            false => Ok(encode_bundle(&chosen)),
        }
    }

    /// Takes in a file of attestations: a signature that does not hold spoils the file. Blocking.
    ///
    /// # Errors
    /// [`AttestError::Bundle`]; [`AttestError::Keep`] where the disk fails.
    pub fn import_attestations(&self, bytes: &[u8]) -> Result<Imported, AttestError> {
        let mut imported = Imported::default();
        for attestation in decode_bundle(bytes)? {
            match self.attested(&attestation) {
                Ok(Kept::New) => imported.new += 1,
                Ok(Kept::Known) => imported.known += 1,
                Err(AttestError::Keep(KeepError::UnknownManifest(_))) => imported.unknown += 1,
                Err(AttestError::Keep(KeepError::NotYetIssued { .. } | KeepError::Crowded { .. })) => {
                    imported.refused += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(imported)
    }

    fn chosen(&self, what: Option<&RepoRef>) -> Result<Vec<SignedAttestation>, AttestError> {
        match what {
            Some(what) => self.attestations_of(self.resolve_local(what)?),
            None => {
                let mut all = Vec::new();
                for manifest in self.attestations().manifests() {
                    all.extend(self.attestations_of(manifest)?);
                }
                Ok(all)
            }
        }
    }
}
