//! The release of what was kept: signed behind the last one, and listed.

use super::{PublishError, run};
use crate::{
    catalog::{Digest, RepoRow},
    identity::IdentityError,
    library::{Library, LibraryError, enlist, now},
    limits::RELEASE_DAYS,
    names::Accepted,
};
use ed25519_dalek::SigningKey;
use protocol::{Hash, Kind, Manifest, Release, RepoId, RepoName, SignedRelease, Upstream};
use std::path::PathBuf;

/// What the next release of a name says.
pub(crate) struct Saying<'a> {
    pub(crate) name: RepoName,
    pub(crate) kind: Kind,
    pub(crate) manifest: &'a Manifest,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) valid_days: u32,
}

/// Which release the next one may follow.
pub(crate) enum After {
    /// Whichever is the last.
    Any,
    /// The one of this manifest; `None`: there is none yet.
    Exactly(Option<Hash>),
}

impl Library {
    /// Refuses to publish under a name of ours that the user denies: nobody would hear of it.
    pub(super) fn refuse_denied_name(&self, name: &RepoName) -> Result<(), LibraryError> {
        let (publisher, name) = (self.publisher(), name.clone());
        Ok(self.denials().check(Some(&RepoId { publisher, name }), None)?)
    }

    /// Signs the next release of the name, or finds that the last one says the same.
    pub(crate) async fn release(
        &self,
        saying: Saying<'_>,
        after: After,
    ) -> Result<SignedRelease, PublishError> {
        let Saying {
            name,
            kind,
            manifest,
            upstream,
            valid_days,
        } = saying;
        self.refuse_denied_name(&name)?;
        let card = self.summary(kind, manifest).await?.encode()?;
        let (library, manifest) = (self.clone(), manifest.hash());
        run(move || {
            // Two that sign the same number would be a fork.
            let _one_at_a_time = library.signing();
            let key = library.publisher_key()?;
            let repo = RepoId {
                publisher: key.verifying_key().into(),
                name: name.clone(),
            };
            let last = library.names().get(&repo)?;
            if let After::Exactly(manifest) = after
                && last.as_ref().map(|last| last.release().manifest) != manifest
            {
                return Err(PublishError::Overtaken { repo });
            }
            let now = now();
            if let Some(last) = &last {
                let release = last.release();
                let half_life = release.issued + (release.expires - release.issued) / 2;
                if release.manifest == manifest
                    && release.kind == kind
                    && release.upstream == upstream
                    && release.card == Some(Hash::of(&card))
                    && now < half_life
                {
                    return Ok(last.clone());
                }
            }
            let release = Release {
                publisher: repo.publisher,
                name,
                kind,
                manifest,
                seq: last.as_ref().map_or(0, |last| last.release().seq) + 1,
                prev: last.as_ref().map(|last| last.release().manifest),
                issued: now,
                expires: now + u64::from(valid_days) * 24 * 60 * 60,
                upstream,
                card: Some(Hash::of(&card)),
            };
            library.ensure_recovery()?;
            library.names().keep_card(&repo, &card)?;
            let signed = SignedRelease::sign(release, &key)?;
            match library.names().accept(&signed, now)? {
                Accepted::New | Accepted::Same => Ok(signed),
            }
        })
        .await
    }

    /// Releases under a newer key of ours what an older one released. `false`: what that names is not here.
    pub(crate) fn release_again(&self, old: &RepoId, key: &SigningKey) -> Result<bool, IdentityError> {
        let repo = RepoId {
            publisher: key.verifying_key().into(),
            name: old.name.clone(),
        };
        let Some(last) = self.names().get(old)? else {
            return Ok(false);
        };
        let listed = self.catalog().manifest(last.release().manifest);
        let Some(listed) = listed.map_err(LibraryError::from)? else {
            return Ok(false);
        };
        if self.names().has(&repo) {
            return Ok(true);
        }
        let card = self.names().card(&last)?;
        let now = now();
        let release = Release {
            publisher: repo.publisher,
            seq: 1,
            prev: None,
            issued: now,
            expires: now + u64::from(RELEASE_DAYS) * 24 * 60 * 60,
            card: card.as_ref().and(last.release().card),
            ..last.release().clone()
        };
        if let Some(card) = &card {
            self.names().keep_card(&repo, card)?;
        }
        let signed = SignedRelease::sign(release, key)?;
        self.names().accept(&signed, now)?;
        let written = self.catalog().write(|batch| {
            let mut row = listed;
            if !row.names.contains(&repo) {
                row.names.push(repo.clone());
            }
            batch.put_manifest(signed.release().manifest, &row);
            batch.put_repo(&repo, &RepoRow::of(&signed, true));
            Ok(())
        });
        written.map_err(LibraryError::from)?;
        Ok(true)
    }

    /// Lists what was settled: under its name, where a release gives it one.
    pub(crate) async fn record_published(
        &self,
        manifest: &Manifest,
        release: Option<&SignedRelease>,
        complete: bool,
        digests: Vec<(PathBuf, Digest)>,
    ) -> Result<(), PublishError> {
        let library = self.clone();
        let (release, manifest) = (release.cloned(), manifest.clone());
        run(move || {
            let catalog = library.catalog();
            let noted = catalog.write_soon(|batch| {
                digests
                    .iter()
                    .try_for_each(|(path, digest)| batch.put_digest(path, digest))
            });
            noted.map_err(LibraryError::from)?;
            let listed = catalog.write(|batch| {
                let Some(release) = &release else {
                    return enlist(batch, &manifest, None, complete);
                };
                let repo = release.release().repo();
                enlist(batch, &manifest, Some(&repo), complete)?;
                batch.put_repo(&repo, &RepoRow::of(release, true));
                Ok(())
            });
            Ok(listed.map_err(LibraryError::from)?)
        })
        .await
    }
}
