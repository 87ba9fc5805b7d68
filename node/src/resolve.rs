//! Resolving: a name becomes a manifest. What is on disk, what connected peers hold and what the DHT holds are asked together;
//! every release passes the ratchet on disk before anybody acts on it.

use crate::{
    denials::Why,
    frame,
    library::{LibraryError, now},
    names::NamesError,
    node::Node,
    swarm::{Swarm, SwarmEvent},
};
use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{PeerId, StreamProtocol};
use protocol::{
    CatalogAsk, CatalogTell, Kind, Publisher, RepoId, RepoRef, SignedRelease,
    release::{copy_key, id_of, key_of},
    wire,
};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing::{debug, warn};

/// Peers asked for a release.
const PEERS_ASKED: usize = 16;
/// Publishers whose copies of a repo are looked for at once: each is a walk through the DHT.
const PUBLISHERS_ASKED: usize = 64;
/// How long the connected peers and the DHT are asked together.
const WAIT: Duration = Duration::from_secs(20);
/// How long a name that nothing is known of is looked for, while peers come.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long somebody to ask is waited for when a release is on disk already.
const PATIENCE_KNOWN: Duration = Duration::from_secs(2);
/// Pause between two rounds, unless somebody new comes.
const SEARCH_AGAIN: Duration = Duration::from_millis(500);

/// Why a name does not lead to a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither disk nor peers nor the DHT know the name.
    #[error("no release of {0} was found")]
    NotFound(RepoRef),
    /// The publisher signed two releases with one number: neither is followed.
    #[error("{repo} is forked: its publisher signed two releases with number {seq}; neither is followed")]
    Forked {
        /// The name.
        repo: RepoId,
        /// The number.
        seq: u64,
    },
    /// The repo or its publisher is denied here.
    #[error(transparent)]
    Denied(#[from] Box<Why>),
    /// The key of its publisher was revoked, and no other took its place.
    #[error("{repo} is of a key that was revoked ({reason}): nothing is fetched by its names")]
    Revoked {
        /// The name.
        repo: RepoId,
        /// Why: `compromised`, `lost`, `retired` or `superseded`.
        reason: String,
    },
    /// The names on disk fail.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl From<NamesError> for ResolveError {
    fn from(error: NamesError) -> ResolveError {
        LibraryError::Names(error).into()
    }
}

impl Node {
    /// Finds the newest release of a name: on disk, at connected peers (`first` before the others) and in the DHT.
    pub(crate) async fn resolve(
        &self,
        repo: &RepoId,
        first: &[PeerId],
    ) -> Result<SignedRelease, ResolveError> {
        let library = self.library();
        library.denials().check(Some(repo), None)?;
        let known = library.names().get(&library.newest(repo))?.is_some();
        // A node that has just started may have nobody to ask yet. With a release on disk it need not wait long for somebody.
        let patience = if known { PATIENCE_KNOWN } else { PATIENCE };
        let begun = Instant::now();
        loop {
            let mut events = self.swarm().subscribe();
            // As which key its publisher goes on is found out on the way.
            let wanted = library.current(repo);
            let asked = timeout(WAIT, self.search(&wanted, first)).await.unwrap_or(true);
            let revoked = library.revocation_of(library.current(repo).publisher).is_some();
            let found = revoked || library.names().has(&library.current(repo));
            if (found && asked) || begun.elapsed() >= patience {
                break;
            }
            // Somebody new to ask, or a while, whichever comes first.
            let _ = timeout(SEARCH_AGAIN, async {
                while !matches!(
                    events.recv().await,
                    Ok(SwarmEvent::Connected { .. } | SwarmEvent::RoutingUpdated(_)) | Err(_)
                ) {}
            })
            .await;
        }
        let repo = &library.newest(repo);
        if let Some(reason) = library.revocation_of(repo.publisher) {
            let repo = repo.clone();
            return Err(ResolveError::Revoked { repo, reason });
        }
        let current = library.names().get(repo)?;
        let current = current.ok_or_else(|| ResolveError::NotFound(repo.clone().into()))?;
        self.unforked(current)
    }

    /// Looks in the DHT for the copies that publishers made of a repo of another hub. What is found passes the ratchet on disk under
    /// its own name.
    pub(crate) async fn find_copies(&self, of: Vec<Publisher>, kind: Kind, upstream: &str) {
        let looks: FuturesUnordered<_> = of
            .into_iter()
            .take(PUBLISHERS_ASKED)
            .map(|publisher| self.find_copy(copy_key(publisher, kind, upstream)))
            .collect();
        looks.collect::<()>().await;
    }

    async fn find_copy(&self, key: [u8; 32]) {
        for release in self.swarm().get_records(key).await.unwrap_or_default() {
            self.take(&release.release().repo(), release).await;
        }
    }

    /// Lets a release pass unless its publisher signed another one with its number, or a later one.
    pub(crate) fn unforked(&self, release: SignedRelease) -> Result<SignedRelease, ResolveError> {
        let (repo, seq) = (release.release().repo(), release.release().seq);
        let forks = self.library().names().forks(&repo)?;
        match forks.iter().any(|fork| fork.release().seq >= seq) {
            true => Err(ResolveError::Forked { repo, seq }),
            false => Ok(release),
        }
    }

    /// Asks everybody once; tells whether there was anybody to ask.
    async fn search(&self, repo: &RepoId, first: &[PeerId]) -> bool {
        let mut peers = first.to_vec();
        for peer in self.swarm().peers().await {
            if peers.len() < PEERS_ASKED && !peers.contains(&peer.peer) {
                peers.push(peer.peer);
            }
        }
        let anybody = !peers.is_empty();
        let mut asked: FuturesUnordered<_> = peers
            .into_iter()
            .map(async |peer| (peer, ask(self.swarm(), peer, repo).await))
            .collect();
        let from_peers = async {
            while let Some((peer, release)) = asked.next().await {
                // Who signed it may have been revoked.
                if let Err(error) = self.learn_from(peer, repo.publisher).await {
                    debug!(%peer, error = &error as &dyn std::error::Error, "a peer told nothing of a key");
                }
                if let Some(release) = release {
                    self.take(repo, release).await;
                }
            }
        };
        let from_dht = async {
            match self.swarm().get_records(key_of(repo.publisher, &repo.name)).await {
                Ok(releases) => {
                    for release in releases {
                        self.take(repo, release).await;
                    }
                }
                Err(error) => debug!(%repo, %error, "the DHT was not asked"),
            }
        };
        tokio::join!(from_peers, from_dht);
        anybody
    }

    /// Offers a release to the ratchet on disk.
    async fn take(&self, repo: &RepoId, release: SignedRelease) {
        if release.release().repo() != *repo || self.library().denials().repo(repo).is_some() {
            return;
        }
        let id = id_of(&release);
        let library = self.library().clone();
        let discovery = self.discovery().clone();
        let taken = tokio::task::spawn_blocking(move || {
            library.accept(&release, now())?;
            discovery.released(&release)
        })
        .await;
        match taken {
            Ok(Ok(())) => {
                let node = self.clone();
                self.task(async move { node.complete(id).await });
            }
            Err(_) => {}
            Ok(Err(LibraryError::Names(
                error @ (NamesError::Older { .. }
                | NamesError::NotYetIssued { .. }
                | NamesError::Revoked { .. }
                | NamesError::Replaced { .. }),
            ))) => {
                debug!(%repo, %error, "a release is not followed");
            }
            Ok(Err(error)) => warn!(%repo, %error, "a release is not followed"),
        }
    }
}

/// Asks one peer for a release.
async fn ask(swarm: &Swarm, peer: PeerId, repo: &RepoId) -> Option<SignedRelease> {
    let protocol = StreamProtocol::new(wire::CATALOG_PROTOCOL);
    let mut stream = swarm.open_stream(peer, protocol).await.ok()?;
    let ask = CatalogAsk::Release {
        publisher: repo.publisher,
        name: repo.name.clone(),
    };
    frame::write(&mut stream, &ask).await.ok()?;
    match frame::read(&mut stream).await.ok()? {
        CatalogTell::Release(Some(release)) => SignedRelease::decode(&release).ok(),
        CatalogTell::Release(None)
        | CatalogTell::Version(_)
        | CatalogTell::Attestations(_)
        | CatalogTell::Reconcile(_)
        | CatalogTell::Known(_)
        | CatalogTell::Have
        | CatalogTell::Keys(_) => None,
    }
}
