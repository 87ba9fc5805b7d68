//! What is said about publishers' keys: heard from peers, kept where it counts, and passed on where it was new.
//!
//! A statement vouches for itself, so it does not matter who tells of it. It reaches us by four ways: told by a peer when it is new; asked for when two nodes
//! sync or a name is resolved; and from those who say in the DHT that they have some.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use libp2p::PeerId;
use protocol::{Alias, Publisher, RepoId, SignedStatement, Statement, limits::KEY_STEPS_MAX};
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use tracing::{debug, info};

use super::{
    Discovery, News,
    meeting::{Asking, SyncError},
    searching::{FindError, HITS_MAX, SearchAsk},
    short,
};
use crate::{
    identity::{IdentityError, Moved, Revoke, RevokedKey},
    library::LibraryError,
    node::Node,
    store::blocking,
};

/// Publishers whose keys a peer is asked about in one sync: chosen anew each time.
const KEYS_ASKED: usize = 64;
/// Keys of one publisher that a peer is asked about: as many as it can have had, before and after we heard.
const STEPS_ASKED: usize = 2 * KEY_STEPS_MAX;

/// What following somebody came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowAnswer {
    /// What it is called.
    pub alias: Alias,
    /// Who it is by now.
    pub publisher: Publisher,
    /// What the user may mistake it for, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Discovery {
    /// Takes in statements about keys that a peer told at once, and passes on what is new. Blocking.
    ///
    /// Those count that concern the user or anybody of whom a release is known, and what is about `asked`: else strangers could have us pass on anything.
    pub(crate) fn heard(
        &self,
        told: Vec<SignedStatement>,
        from: PeerId,
        asked: Option<Publisher>,
    ) -> Result<(), LibraryError> {
        let library = self.library();
        let before: HashSet<Publisher> = library.near().into_iter().collect();
        let mut wanted: HashSet<Publisher> = before.iter().copied().chain(asked).collect();
        let mut left = told;
        let mut known = Vec::new();
        loop {
            let mut rest = Vec::new();
            let before = known.len();
            for said in left {
                let about = said.statement().about();
                if wanted.contains(&about) || self.knows(about)? {
                    match said.statement() {
                        Statement::Rotate { to, .. } | Statement::Recover { to, .. } => {
                            wanted.insert(*to);
                        }
                        Statement::Introduce { .. } | Statement::Revoke { .. } => {}
                    }
                    known.push(said);
                } else {
                    rest.push(said);
                }
            }
            left = rest;
            if known.len() == before {
                break;
            }
        }
        let new = library.heard(&known)?;
        if new.is_empty() {
            return Ok(());
        }
        self.pass_on(new, Some(from));
        self.forget_trust();
        // As whom somebody went on is followed from now on, with what is known of their releases.
        for key in library.near() {
            if !before.contains(&key) {
                info!(publisher = %key, "a publisher that is followed goes on as another key");
                let adopted = self.adopt_known(key);
                if let Err(error) = adopted {
                    debug!(publisher = %key, error = &error as &dyn std::error::Error, "what is known is not followed");
                }
            }
        }
        Ok(())
    }

    /// Whether any release of a publisher is known.
    fn knows(&self, publisher: Publisher) -> Result<bool, LibraryError> {
        let counted = self.state().names_of.get(&short(publisher)).copied();
        Ok(counted.is_some_and(|names| names > 0) || self.names_found(publisher)? > 0)
    }

    /// Tells peers what we say about our own keys, or heard.
    pub(super) fn pass_on(&self, statements: Vec<SignedStatement>, from: Option<PeerId>) {
        let ids = Vec::new();
        let news = News {
            ids,
            statements,
            from,
        };
        // Nobody may listen.
        let _ = self.0.news.send(Arc::new(news));
    }

    /// What is said about the keys of the publisher to whom one belongs.
    pub(super) fn said_of(&self, key: Publisher) -> Vec<SignedStatement> {
        let standing = self.library().standing_of(key);
        let keys = standing.steps.iter().map(|step| step.key);
        keys.flat_map(|key| self.library().statements().about(key))
            .collect()
    }

    /// Calls a publisher by an alias, and says for whom it could be taken. Blocking.
    ///
    /// # Errors
    /// The file of aliases, or what is known.
    pub fn follow(&self, publisher: Publisher, alias: &Alias) -> Result<FollowAnswer, FindError> {
        let ask = SearchAsk {
            publisher: Some(publisher),
            limit: HITS_MAX,
            ..SearchAsk::default()
        };
        let hits = self.search(&ask)?.hits.into_iter();
        let names: Vec<String> = hits.map(|hit| hit.repo.name.to_string()).collect();
        let library = self.library();
        let warnings = library.look_alikes(publisher, alias, &names);
        library.follow(publisher, alias)?;
        self.forget_trust();
        Ok(FollowAnswer {
            alias: alias.clone(),
            publisher: library.standing_of(publisher).current(),
            warnings,
        })
    }
}

impl Asking {
    /// Asks what a peer knows about a publisher: about its key, and those as which it went on.
    pub(super) async fn learn(
        &mut self,
        discovery: &Discovery,
        peer: PeerId,
        publisher: Publisher,
    ) -> Result<(), SyncError> {
        let mut asked = HashSet::new();
        while asked.len() < STEPS_ASKED {
            let standing = discovery.library().standing_of(publisher);
            let mut keys = standing.steps.iter().map(|step| step.key).chain([publisher]);
            let Some(key) = keys.find(|key| !asked.contains(key)) else {
                break;
            };
            asked.insert(key);
            let told = self.keys(key).await?;
            if !told.is_empty() {
                let discovery = discovery.clone();
                blocking(move || Ok(discovery.heard(told, peer, Some(key)))).await??;
            }
        }
        Ok(())
    }

    /// Asks about the keys of those whom the user follows, and tells what we say of ours.
    pub(super) async fn learn_all(&mut self, discovery: &Discovery, peer: PeerId) -> Result<(), SyncError> {
        let own = discovery.library().publisher();
        self.hear(&discovery.said_of(own)).await?;
        let followed: Vec<Publisher> = discovery
            .library()
            .following()
            .iter()
            .map(|follow| follow.publisher)
            .collect();
        let some: Vec<Publisher> = followed
            .choose_multiple(&mut rand::rng(), KEYS_ASKED)
            .copied()
            .collect();
        for publisher in some.into_iter().chain([own]) {
            self.learn(discovery, peer, publisher).await?;
        }
        Ok(())
    }
}

impl Node {
    /// Asks a peer what it knows about a publisher's keys.
    pub(crate) async fn learn_from(&self, peer: PeerId, publisher: Publisher) -> Result<(), SyncError> {
        let mut asking = Asking::open(self, peer).await?;
        asking.learn(self.discovery(), peer, publisher).await
    }

    /// Goes on as a new key, and tells the swarm.
    ///
    /// # Errors
    /// As [`Library::rotate`](crate::Library::rotate).
    pub async fn rotate(&self, recovery: Option<PathBuf>) -> Result<Moved, IdentityError> {
        let library = self.library().clone();
        let moved = blocking(move || Ok(library.rotate(recovery.as_deref()))).await;
        let moved = moved.map_err(LibraryError::from)??;
        self.tell_moved(&moved);
        Ok(moved)
    }

    /// Goes on as another key by the recovery key, and tells the swarm. What is known of the old key is asked for first.
    ///
    /// # Errors
    /// As [`Library::recover`](crate::Library::recover).
    pub async fn recover(&self, from: Option<Publisher>, recovery: PathBuf) -> Result<Moved, IdentityError> {
        if let Some(from) = from
            && self.library().standing_of(from).recovery.is_none()
        {
            for peer in self.swarm().peers().await {
                if let Err(error) = self.learn_from(peer.peer, from).await {
                    debug!(peer = %peer.peer, error = &error as &dyn std::error::Error, "a peer told nothing of a key");
                }
            }
            self.look_for(from).await;
        }
        let library = self.library().clone();
        let moved = blocking(move || Ok(library.recover(from, &recovery))).await;
        let moved = moved.map_err(LibraryError::from)??;
        self.tell_moved(&moved);
        Ok(moved)
    }

    /// Revokes a key, and tells the swarm.
    ///
    /// # Errors
    /// As [`Library::revoke`](crate::Library::revoke).
    pub async fn revoke(&self, ask: Revoke) -> Result<RevokedKey, IdentityError> {
        let library = self.library().clone();
        let revoked = blocking(move || Ok(library.revoke(&ask))).await;
        let revoked = revoked.map_err(LibraryError::from)??;
        let said = self.discovery().said_of(revoked.key);
        self.discovery().pass_on(said, None);
        Ok(revoked)
    }

    /// Tells of a change of ours: of the statements first, then of the names under the new key.
    fn tell_moved(&self, moved: &Moved) {
        let mut said = self.discovery().said_of(moved.from);
        for statement in self.discovery().said_of(moved.to) {
            if !said.contains(&statement) {
                said.push(statement);
            }
        }
        self.discovery().pass_on(said, None);
        let names = moved.names.iter().filter_map(|name| name.parse().ok());
        let repos: Vec<RepoId> = names
            .map(|name| RepoId {
                publisher: moved.to,
                name,
            })
            .collect();
        let node = self.clone();
        self.task(async move {
            for repo in repos {
                let release = node.library().names().get(&repo).ok().flatten();
                if let Some(release) = release {
                    node.tell(release.release().manifest, Some(release)).await;
                }
            }
        });
    }
}
