//! What a library shows of itself: lists, and a repo with its files.

use super::{Library, LibraryError, is_small, now, publishers::forks_of};
use crate::{
    attest::Standing,
    card::Card,
    catalog::{ManifestRow, RepoRow},
    check::facts::Facts,
    denials::Why,
    store::{Lies, blocking},
};
use protocol::{Alias, Hash, Kind, RepoId, RepoRef, SignedRelease, Upstream};
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, fmt};

/// Rows read from the catalog at a time.
const PAGE: usize = 1_000;

/// A repo, or a manifest without a name, as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepoView {
    /// Its name; `None` for a manifest that was fetched by its hash.
    pub repo: Option<RepoId>,
    /// What its publisher is called here.
    pub alias: Option<Alias>,
    /// What it is.
    pub kind: Option<Kind>,
    /// Its manifest.
    pub manifest: Hash,
    /// The number of its release.
    pub seq: Option<u64>,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whether all files are here.
    pub complete: bool,
    /// Whether it is kept from collection.
    pub pinned: bool,
    /// Whether we published it.
    pub ours: bool,
    /// Why it is denied here, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Why>,
    /// Whether it should have been replaced by now. It can be used all the same.
    #[serde(default)]
    pub stale: bool,
    /// Why the key that signed it was revoked; `None`: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
}

/// A release that its publisher signed beside the one that is followed, with the same number: evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkView {
    /// The number of both.
    pub seq: u64,
    /// What the one says that was accepted; `None`: it is not kept any more.
    pub accepted: Option<Hash>,
    /// What the other one says.
    pub other: Hash,
    /// When that says that it was signed, in seconds since 1970.
    pub issued: u64,
}

/// One file of a repo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntryView {
    /// Its path in the repo.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its BLAKE3.
    pub blake3: Hash,
    /// Its SHA-256.
    pub sha256: Option<protocol::Sha256>,
    /// Its git id.
    pub sha1: Option<protocol::GitId>,
    /// Where its bytes are: `store`, `partial`, `missing`, or `reference PATH`.
    pub place: String,
}

/// A repo with its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The repo.
    pub view: RepoView,
    /// When its release was signed, in seconds since 1970.
    pub issued: Option<u64>,
    /// Until when it is valid, in seconds since 1970.
    pub expires: Option<u64>,
    /// What it is a copy of.
    pub upstream: Option<Upstream>,
    /// What its publisher signed twice under one number.
    #[serde(default)]
    pub forks: Vec<ForkView>,
    /// What its publisher's keys signed against themselves, in words.
    #[serde(default)]
    pub key_forks: Vec<String>,
    /// How it stands with those whom the user follows.
    #[serde(default)]
    pub standing: Standing,
    /// Its files.
    pub entries: Vec<EntryView>,
    /// What its card says; `None` where it has none, or it is not here.
    #[serde(default)]
    pub card: Option<Card>,
    /// The text of its card, in Markdown, behind its head; at most 256 KiB of it.
    #[serde(default)]
    pub text: Option<String>,
    /// What its files say, as far as they are here.
    #[serde(default)]
    pub facts: Facts,
}

impl fmt::Display for ForkView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "release {} was signed for ", self.seq)?;
        match self.accepted {
            Some(accepted) => write!(f, "blake3/{accepted}")?,
            None => f.write_str("one that is not kept")?,
        }
        write!(f, " and for blake3/{}", self.other)
    }
}

/// What was let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The manifest.
    pub manifest: Hash,
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes freed.
    pub bytes: u64,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes freed.
    pub bytes: u64,
}

/// What a rebuild put into the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Names.
    pub repos: u64,
    /// Manifests.
    pub manifests: u64,
    /// References.
    pub places: u64,
}

impl Library {
    /// Lists names and unnamed manifests.
    pub fn list(&self) -> Result<Vec<RepoView>, LibraryError> {
        let mut views = Vec::new();
        let mut after: Option<RepoId> = None;
        loop {
            let page = self.0.catalog.repos(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (repo, row) in page {
                // The same name under the key that its publisher had before.
                if self.newest(&repo) != repo {
                    continue;
                }
                let manifest = self.0.catalog.manifest(row.manifest)?;
                views.push(self.view(Some((repo, row)), None, manifest));
            }
        }
        let named: HashSet<Hash> = views.iter().map(|view| view.manifest).collect();
        let mut after = None;
        loop {
            let page = self.0.catalog.manifests(after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (hash, row) in page {
                if !named.contains(&hash) {
                    views.push(self.view(None, Some(hash), Some(row)));
                }
            }
        }
        Ok(views)
    }

    fn view(
        &self,
        named: Option<(RepoId, RepoRow)>,
        hash: Option<Hash>,
        row: Option<ManifestRow>,
    ) -> RepoView {
        let (repo, repo_row) = named.unzip();
        let manifest = hash.or(repo_row.as_ref().map(|row| row.manifest));
        let denied = self.0.denials.check(repo.as_ref(), manifest).err();
        RepoView {
            denied: denied.map(|why| *why),
            alias: repo.as_ref().and_then(|repo| self.alias_of(repo.publisher)),
            stale: repo_row.as_ref().is_some_and(|row| row.expires < now()),
            revoked: repo.as_ref().and_then(|repo| self.revocation_of(repo.publisher)),
            kind: repo_row.as_ref().map(|row| row.kind),
            manifest: manifest.unwrap_or(Hash::EMPTY),
            seq: repo_row.as_ref().map(|row| row.seq),
            files: row.as_ref().map_or(0, |row| u64::from(row.files)),
            bytes: row.as_ref().map_or(0, |row| row.bytes),
            complete: row.as_ref().is_some_and(|row| row.complete),
            pinned: row.as_ref().is_some_and(|row| row.pinned),
            ours: repo_row.is_some_and(|row| row.ours),
            repo,
        }
    }

    /// What a repo's publisher signed twice under one number.
    pub(super) fn forks_of(&self, repo: &RepoId) -> Result<Vec<ForkView>, LibraryError> {
        let accepted = self.0.names.history(repo)?;
        let forks = self.0.names.forks(repo)?.into_iter();
        let view = |fork: SignedRelease| {
            let fork = fork.release();
            let beside = accepted.iter().find(|kept| kept.release().seq == fork.seq);
            ForkView {
                seq: fork.seq,
                accepted: beside.map(|kept| kept.release().manifest),
                other: fork.manifest,
                issued: fork.issued,
            }
        };
        Ok(forks.map(view).collect())
    }

    /// Describes a repo and its files: where they are, and what they say.
    pub async fn show(&self, what: &RepoRef) -> Result<Shown, LibraryError> {
        let release = self.release_of(what)?;
        let hash = self.resolve_local(what)?;
        let manifest = self.known_manifest(what, hash).await?;
        let row = self.0.catalog.manifest(hash)?;
        let named = release.as_ref().map(|release| {
            let repo = release.release().repo();
            let ours = self.is_ours(repo.publisher);
            (repo, RepoRow::of(release, ours))
        });
        let mut view = self.view(named, Some(hash), row);
        view.files = manifest.files().len() as u64;
        view.bytes = manifest.total_len();
        let small: Vec<Hash> = manifest
            .files()
            .iter()
            .filter(|file| is_small(file.size))
            .map(|file| file.blake3)
            .collect();
        let small = self.0.store.has_small(&small).await?;
        let mut entries = Vec::new();
        for file in manifest.files() {
            let place = if is_small(file.size) {
                if file.size == 0 || small.contains(&file.blake3) {
                    "store".into()
                } else {
                    "missing".into()
                }
            } else {
                match self.0.store.lies(file.blake3)? {
                    Some(Lies::Owned(_)) => "store".into(),
                    Some(Lies::Reference(path, _)) => format!("reference {}", path.display()),
                    None if self.0.store.is_begun(file.blake3) => "partial".into(),
                    None => "missing".into(),
                }
            };
            entries.push(EntryView {
                path: file.path.as_str().into(),
                size: file.size,
                blake3: file.blake3,
                sha256: file.sha256,
                sha1: file.sha1,
                place,
            });
        }
        let (card, text) = self.card(&manifest).await?;
        let facts = self.facts(&manifest, HashSet::new()).await?;
        let library = self.clone();
        // What others say of it is not worth failing for.
        let standing = blocking(move || Ok(library.standing(hash).unwrap_or_default())).await?;
        let release = release.as_ref().map(SignedRelease::release);
        let (mut forks, mut key_forks) = (Vec::new(), Vec::new());
        if let Some(repo) = &view.repo {
            forks = self.forks_of(repo)?;
            key_forks = forks_of(&self.standing_of(repo.publisher));
        }
        Ok(Shown {
            forks,
            key_forks,
            view,
            issued: release.map(|release| release.issued),
            expires: release.map(|release| release.expires),
            upstream: release.and_then(|release| release.upstream.clone()),
            standing,
            entries,
            card,
            text,
            facts,
        })
    }
}
