//! The release of what was kept: signed behind the last one, and listed.

use super::{PublishError, run};
use crate::{
    catalog::{Digest, RepoRow},
    library::{Library, LibraryError, enlist, now},
    names::Accepted,
};
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
            let repo = RepoId {
                publisher: library.publisher(),
                name: name.clone(),
            };
            // Two that sign the same number would be a fork.
            let _one_at_a_time = library.signing();
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
            library.names().keep_card(&repo, &card)?;
            let signed = SignedRelease::sign(release, library.publisher_key())?;
            match library.names().accept(&signed, now)? {
                Accepted::New | Accepted::Same => Ok(signed),
            }
        })
        .await
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
