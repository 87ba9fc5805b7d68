//! From what a client calls a repo and a revision to a manifest: by what is here, or by asking peers where the user allows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use protocol::{FileEntry, Hash, Kind, Manifest, RepoId, RepoName, RepoRef, SignedRelease, Upstream};
use tokio::time::timeout;

use super::Hub;
use super::problem::Problem;
use super::route::{Address, At, MAIN};
use crate::catalog::Provider;
use crate::config::OnDemand;
use crate::fetch::FetchError;
use crate::library::LibraryError;
use crate::resolve::ResolveError;
use crate::store::StoreError;

/// How long a repo that nobody here knows is looked for. What clients wait for has no time-out of theirs.
const SEARCH: Duration = Duration::from_secs(8);
/// How long the manifest of a known revision is looked for.
const MANIFEST_SEARCH: Duration = Duration::from_secs(30);
/// Longest name of a revision that is looked at, in bytes.
const REV_LEN_MAX: usize = 256;

/// Manifests with one start of an id that are looked at: 20 bytes of a hash, which hardly two share.
const OLDER_MAX: usize = 4;

/// The owner that stands for whoever runs this node: all that clients know of who they are.
pub(super) const LOCAL: &str = "local";

/// A revision of a repo, found.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    /// What the client calls the repo.
    pub(super) repo: Address,
    /// Whose repo it is of; `None` for what was asked for by its hash.
    pub(super) published_as: Option<RepoId>,
    /// What it is.
    pub(super) manifest: Arc<Manifest>,
    /// Who says so; `None` for what was asked for by its hash, or is too old for its release to be kept.
    pub(super) release: Option<SignedRelease>,
    /// What clients call it: 40 hex digits.
    pub(super) commit: String,
}

impl Revision {
    /// A file of it, which there must be.
    pub(super) fn file(&self, path: &str) -> Result<&FileEntry, Problem> {
        let file = self.manifest.file(path);
        file.ok_or_else(|| Problem::no_entry(&self.commit, path))
    }

    /// When it was published, in Unix seconds; 0 where nobody says.
    pub(super) fn issued(&self) -> u64 {
        self.release
            .as_ref()
            .map_or(0, |release| release.release().issued)
    }
}

/// What an id means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A repo of a publisher.
    Repo(RepoId),
    /// Exactly this manifest.
    Content(Hash),
}

impl Hub {
    /// Finds a revision. Asks peers, for a bounded time, where it is not known here and the user allows it.
    pub(super) async fn revision(&self, at: &At) -> Result<Revision, Problem> {
        if at.rev.len() > REV_LEN_MAX {
            return Err(Problem::no_revision(&at.repo.id, "of so long a name"));
        }
        let repo = match self.meaning(&at.repo).await? {
            Meaning::Content(hash) => {
                let named = is_main(&at.rev) || is_prefix(&at.rev, hash);
                if !named {
                    return Err(Problem::no_revision(&at.repo.id, &at.rev));
                }
                let asks = self.node().config().on_demand != OnDemand::Never;
                let manifest = self.manifest(hash, &at.repo.id, asks).await?;
                return Ok(Revision {
                    repo: at.repo.clone(),
                    published_as: None,
                    commit: manifest.commit_id(),
                    manifest,
                    release: None,
                });
            }
            Meaning::Repo(repo) => repo,
        };
        let current = self.release(&repo, &at.repo).await?;
        let release = match is_main(&at.rev) {
            true => Some(current),
            false => {
                let history = self.history(&repo).await?;
                let named = |release: &&SignedRelease| is_named(&at.rev, release);
                let mut known = [current].into_iter().chain(history);
                known.find(|release| named(&release))
            }
        };
        let hash = match &release {
            Some(release) => release.release().manifest,
            None => self
                .older(&repo, &at.rev)?
                .ok_or_else(|| Problem::no_revision(&at.repo.id, &at.rev))?,
        };
        self.node().library().denials().check(Some(&repo), Some(hash))?;
        let asks = self.0.config_allows(&repo);
        let manifest = self.manifest(hash, &at.repo.id, asks).await?;
        Ok(Revision {
            repo: at.repo.clone(),
            published_as: Some(repo),
            commit: manifest.commit_id(),
            manifest,
            release,
        })
    }

    /// A revision of a repo that is too old for its release to be kept, by its id: the catalog knows what each manifest was.
    fn older(&self, repo: &RepoId, rev: &str) -> Result<Option<Hash>, Problem> {
        let Ok(start) = HEXLOWER.decode(rev.as_bytes()) else {
            return Ok(None);
        };
        let catalog = self.node().library().catalog();
        let mut rows = catalog.manifests_from(&start, OLDER_MAX)?.into_iter();
        let found = rows.find(|(hash, row)| is_prefix(rev, *hash) && row.names.contains(repo));
        Ok(found.map(|(hash, _)| hash))
    }

    /// The releases of a repo that are here, the newest first; none for what is asked for by its hash.
    pub(super) async fn releases(&self, repo: &Address) -> Result<Vec<SignedRelease>, Problem> {
        match self.meaning(repo).await? {
            Meaning::Content(_) => Ok(Vec::new()),
            Meaning::Repo(id) => {
                let current = self.release(&id, repo).await?;
                let mut history = self.history(&id).await?;
                if !history.contains(&current) {
                    history.push(current);
                }
                history.sort_by_key(|release| std::cmp::Reverse(release.release().seq));
                Ok(history)
            }
        }
    }

    /// Finds out what an id means: a publisher's repo, a hash, or the upstream name of a copy that somebody we follow made. What is denied
    /// means nothing here.
    pub(super) async fn meaning(&self, repo: &Address) -> Result<Meaning, Problem> {
        let meaning = self.any_meaning(repo).await?;
        let denials = self.node().library().denials();
        match &meaning {
            Meaning::Repo(repo) => denials.check(Some(repo), None)?,
            Meaning::Content(hash) => denials.check(None, Some(*hash))?,
        }
        Ok(meaning)
    }

    async fn any_meaning(&self, repo: &Address) -> Result<Meaning, Problem> {
        if let Some(name) = own_name(&repo.id) {
            let publisher = self.node().library().publisher();
            return Ok(Meaning::Repo(RepoId { publisher, name }));
        }
        match repo.id.parse() {
            Ok(RepoRef::Content(hash)) => return Ok(Meaning::Content(hash)),
            Ok(named) => match self.node().library().repo_of(&named) {
                Ok(Some(id)) => return Ok(Meaning::Repo(id)),
                Ok(None) | Err(LibraryError::UnknownAlias(_)) => {}
                Err(error) => return Err(error.into()),
            },
            // Upstream names have rules of their own.
            Err(_) => {}
        }
        let mut copies = self.copies().await?;
        if !copies.contains_key(repo) && self.look_for_copies(repo).await {
            self.0.copies.invalidate(&()).await;
            copies = self.copies().await?;
        }
        let copies = copies.get(repo).map(Vec::as_slice).unwrap_or_default();
        let denials = self.node().library().denials();
        let open = |(copy, manifest): &&(RepoId, Hash)| denials.check(Some(copy), Some(*manifest)).is_ok();
        let allowed: Vec<(RepoId, Hash)> = copies.iter().filter(open).cloned().collect();
        if let ([], Some((copy, manifest))) = (allowed.as_slice(), copies.first()) {
            denials.check(Some(copy), Some(*manifest))?;
        }
        match allowed.as_slice() {
            [] => Err(Problem::no_repo(unknown(repo))),
            [(copy, _)] => Ok(Meaning::Repo(copy.clone())),
            [(copy, manifest), others @ ..] if others.iter().all(|(_, other)| other == manifest) => {
                Ok(Meaning::Repo(copy.clone()))
            }
            several => {
                let names: Vec<String> = several.iter().map(|(copy, _)| copy.to_string()).collect();
                Err(Problem::no_repo(format!(
                    "copies of {} differ: ask for one of {}",
                    repo.id,
                    names.join(", ")
                )))
            }
        }
    }

    /// The copies of other hubs' repos that we or those we follow published.
    async fn copies(&self) -> Result<Arc<Copies>, Problem> {
        let library = self.node().library().clone();
        let read = async move {
            let read = move || -> Result<_, LibraryError> {
                // Of a publisher that went on as another key, what the last one released.
                let trusted = |repo: &RepoId| {
                    let known = library.is_ours(repo.publisher) || library.alias_of(repo.publisher).is_some();
                    known && library.newest(repo) == *repo
                };
                let mut copies = Copies::new();
                for release in library.names().all()?.filter_map(Result::ok) {
                    let release = release.release();
                    if let Some(upstream) = release.upstream.as_ref().filter(|_| trusted(&release.repo())) {
                        let address = Address {
                            kind: release.kind,
                            id: upstream.repo.clone(),
                        };
                        let copy = (release.repo(), release.manifest);
                        copies.entry(address).or_default().push(copy);
                    }
                }
                Ok(copies)
            };
            tokio::task::spawn_blocking(read)
                .await
                .map_err(|_| StoreError::Closed)?
        };
        let read = self.0.copies.try_get_with((), async { read.await.map(Arc::new) });
        read.await
            .map_err(|error: Arc<LibraryError>| Problem::ours(&*error))
    }

    /// Looks in the DHT for copies that those we follow made of a repo, at most once a minute; tells whether there may be some now.
    async fn look_for_copies(&self, repo: &Address) -> bool {
        let node = self.node();
        if node.config().on_demand == OnDemand::Never || !Upstream::can_be_repo(&repo.id) {
            return false;
        }
        let followed = node.library().following();
        let key = (repo.clone(), followed.len());
        let search = async {
            if followed.is_empty() || node.swarm().peers().await.is_empty() {
                return Err(());
            }
            let publishers = followed.iter().map(|follow| follow.publisher).collect();
            let find = node.find_copies(publishers, repo.kind, &repo.id);
            let _ = timeout(SEARCH, find).await;
            Ok(())
        };
        let searched = self.0.copy_searches.try_get_with(key, search);
        searched.await.is_ok()
    }

    /// The newest release of a repo: the one that is here, or one that peers have, if the user allows asking.
    async fn release(&self, repo: &RepoId, asked: &Address) -> Result<SignedRelease, Problem> {
        let known = self
            .node()
            .library()
            .names()
            .get(repo)
            .map_err(LibraryError::from)?;
        let release = match known {
            Some(known) => {
                self.look_for_newer(repo);
                let followed = self.node().unforked(known);
                followed.map_err(|error| match error {
                    ResolveError::Forked { .. } => Problem::no_repo(error.to_string()),
                    error => Problem::ours(&error),
                })?
            }
            None => {
                self.allows(repo, asked)?;
                let found = self.0.searches.get_with(repo.clone(), self.search(repo)).await;
                found.ok_or_else(|| {
                    Problem::no_repo(format!(
                        "no peer that was reached within {} s knows {}",
                        SEARCH.as_secs(),
                        asked.id
                    ))
                })?
            }
        };
        let kind = release.release().kind;
        if kind != asked.kind {
            return Err(Problem::no_repo(format!("{} is a {kind}", asked.id)));
        }
        Ok(release)
    }

    async fn search(&self, repo: &RepoId) -> Option<SignedRelease> {
        match timeout(SEARCH, self.node().resolve(repo, &[])).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(ResolveError::NotFound(_))) | Err(_) => None,
            Ok(Err(error)) => {
                tracing::warn!(%repo, %error, "a repo is not resolved");
                None
            }
        }
    }

    /// Asks peers in the background, at most once a minute, whether there is a newer release than ours. While too many are looked
    /// for it is left to the next one who asks.
    fn look_for_newer(&self, repo: &RepoId) {
        if !self.0.config_allows(repo) || self.0.searches.contains_key(repo) {
            return;
        }
        if let Ok(look) = self.0.looks.clone().try_acquire_owned() {
            let (hub, repo) = (self.clone(), repo.clone());
            self.node().task(async move {
                let _look = look;
                let search = hub.search(&repo);
                hub.0.searches.get_with(repo.clone(), search).await;
            });
        }
    }

    /// The releases of a repo that are kept.
    pub(super) async fn history(&self, repo: &RepoId) -> Result<Vec<SignedRelease>, Problem> {
        let (library, repo) = (self.node().library().clone(), repo.clone());
        let read = tokio::task::spawn_blocking(move || library.names().history(&repo)).await?;
        Ok(read.map_err(LibraryError::from)?)
    }

    /// A manifest, from the store or from peers.
    ///
    /// - `id`: what the client called the repo.
    /// - `asks`: whether the user allows that peers are asked for it.
    async fn manifest(&self, hash: Hash, id: &str, asks: bool) -> Result<Arc<Manifest>, Problem> {
        let read = async {
            match self.node().library().store().manifest(hash).await {
                Ok(manifest) => return Ok(Arc::new(manifest)),
                Err(StoreError::Missing(_)) if asks => {}
                Err(error) => return Err(error.into()),
            }
            // Goes on when the client goes away: it asks again, and a large manifest must not begin anew each time.
            let node = self.node().clone();
            let bring = async move { node.bring_manifest(hash, MANIFEST_SEARCH).await };
            let brought = tokio::spawn(bring).await.map_err(|_| StoreError::Closed)?;
            brought.map(Arc::new)
        };
        let read = self.0.manifests.try_get_with(hash, read).await;
        read.map_err(|error: Arc<FetchError>| match &*error {
            FetchError::Store(StoreError::Missing(_)) if !asks => Problem::no_repo(format!(
                "{id} is known, but not here, and on_demand in config.toml does not allow to ask for it: shoal fetch gets it"
            )),
            FetchError::NoProvider { .. } | FetchError::Store(StoreError::Missing(_)) => {
                Problem::no_repo(format!("{id} is known, but not here: {}", self.who_had(hash)))
            }
            error => Problem::ours(error),
        })
    }

    /// Whether the user allows that a repo is looked for because a client asks for it.
    fn allows(&self, repo: &RepoId, asked: &Address) -> Result<(), Problem> {
        if self.0.config_allows(repo) {
            return Ok(());
        }
        let why = match self.node().config().on_demand {
            OnDemand::Never => "and on_demand = \"never\" in config.toml: shoal fetch gets it".to_owned(),
            _ => format!(
                "and its publisher is not followed: shoal follow {} --as NAME, or on_demand = \"any\" in config.toml",
                repo.publisher
            ),
        };
        Err(Problem::no_repo(format!("{} is not here, {why}", asked.id)))
    }

    /// Who had a manifest, in plain words.
    pub(super) fn who_had(&self, hash: Hash) -> String {
        let rows = self
            .node()
            .library()
            .catalog()
            .providers(hash)
            .unwrap_or_default();
        last_seen(&rows, crate::library::now())
    }
}

/// Who had something, in plain words; `now` is in Unix seconds.
fn last_seen(peers: &[Provider], now: u64) -> String {
    let Some(last) = peers.iter().map(|peer| peer.last_seen).max() else {
        return "no peer that has it was ever reached".to_owned();
    };
    let ago = now.saturating_sub(last);
    let ago = match ago {
        0..=119 => format!("{ago} s"),
        120..=7_199 => format!("{} min", ago / 60),
        7_200..=172_799 => format!("{} h", ago / 3_600),
        _ => format!("{} days", ago / 86_400),
    };
    match peers.len() {
        1 => format!("1 peer had it, last seen {ago} ago; it does not answer now"),
        peers => format!("{peers} peers had it, last seen {ago} ago; none answers now"),
    }
}

/// The repos that are copies of one of another hub, with their manifests.
pub(super) type Copies = HashMap<Address, Vec<(RepoId, Hash)>>;

/// The name of a repo of whoever runs this node.
fn own_name(id: &str) -> Option<RepoName> {
    let (owner, name) = id.split_once('/')?;
    name.parse().ok().filter(|_| owner == LOCAL)
}

/// Whether a revision is the newest one, by any of its names.
pub(super) fn is_main(rev: &str) -> bool {
    matches!(rev, MAIN | "HEAD" | "refs/heads/main")
}

/// The tag of a release.
pub(super) fn tag(release: &SignedRelease) -> String {
    format!("v{}", release.release().seq)
}

fn is_named(rev: &str, release: &SignedRelease) -> bool {
    let name = rev.strip_prefix("refs/tags/").unwrap_or(rev);
    is_prefix(rev, release.release().manifest) || name == tag(release)
}

fn is_prefix(rev: &str, hash: Hash) -> bool {
    matches!(rev.len(), 40 | 64) && hash.to_string().starts_with(rev)
}

fn unknown(repo: &Address) -> String {
    let what = match repo.kind {
        Kind::Model => "model",
        Kind::Dataset => "dataset",
        Kind::Space => "space",
    };
    format!(
        "no publisher you follow has a {what} {}: shoal follow PUBLISHER --as ALIAS says who is meant",
        repo.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::http::guard::Guard;
    use crate::node::Node;

    #[test]
    fn who_had_something_is_said_in_plain_words() {
        const NOW: u64 = 10_000_000;
        let said = |ago: &[u64]| {
            let peer = |ago: &u64| Provider {
                peer: Vec::new(),
                addresses: Vec::new(),
                last_seen: NOW.saturating_sub(*ago),
            };
            let peers: Vec<Provider> = ago.iter().map(peer).collect();
            last_seen(&peers, NOW)
        };
        assert_eq!(said(&[]), "no peer that has it was ever reached");
        for (ago, words) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
            (172_799, "47 h"),
            (172_800, "2 days"),
            (9_000_000, "104 days"),
        ] {
            let one = format!("1 peer had it, last seen {words} ago; it does not answer now");
            assert_eq!(said(&[ago]), one);
            let two = format!("2 peers had it, last seen {words} ago; none answers now");
            assert_eq!(said(&[ago, 9_500_000]), two);
            assert_eq!(said(&[9_500_000, ago]), two);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn thousand_repos_are_not_looked_for_all_at_once() {
        let data = tempfile::tempdir().unwrap();
        let mut config = Config::loopback(data.path());
        config.on_demand = OnDemand::Any;
        let node = Node::start(config).await.unwrap();
        let guard = Guard::new(([127, 0, 0, 1], 80).into(), "token", Vec::new());
        let hub = Hub::new(node.clone(), guard);
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        for index in 0..1_000 {
            let name = format!("repo{index}").parse().unwrap();
            let publisher = node.library().publisher();
            hub.look_for_newer(&RepoId { publisher, name });
        }
        let begun = tasks().saturating_sub(before);
        assert!((1..100).contains(&begun), "{begun} searches");
        node.shutdown().await;
    }
}
