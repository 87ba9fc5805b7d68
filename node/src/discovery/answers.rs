//! The side that is asked: one stream of asks, and a tell for each.

use libp2p::PeerId;
use protocol::{CatalogAsk, CatalogTell, Known, ReleaseId, RepoId, SignedStatement, wire::CATALOG_VERSION};
use tokio::time::timeout;
use tracing::debug;

use super::{
    Discovery,
    reconcile::{Answerer, ReconcileError},
};
use crate::{
    library::LibraryError,
    limits::ANSWER_WAIT,
    store::{StoreError, blocking},
};

/// Asks of one stream, at most: a sync takes 64 and a few thousand releases.
const ASKS_MAX: u32 = 4_096;

/// What one stream was asked so far.
pub(crate) struct Session {
    discovery: Discovery,
    peer: PeerId,
    answerer: Option<Answerer>,
    asks: u32,
}

/// Why a stream is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// It breaks the rules of syncs.
    #[error("a sync")]
    Reconcile(#[from] ReconcileError),
    /// It asks without end.
    #[error("more than {ASKS_MAX} asks in one stream")]
    TooMany,
    /// What is known here is not read yet.
    #[error("what is known is not read yet")]
    NotRead,
    /// It says of keys what nobody signed.
    #[error("a statement about a key")]
    Statement(#[source] protocol::KeyError),
    /// The catalog.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The files.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Session {
    /// Begins with a stream.
    pub(crate) fn new(discovery: Discovery, peer: PeerId) -> Session {
        Session {
            discovery,
            peer,
            answerer: None,
            asks: 0,
        }
    }

    /// Answers one ask.
    pub(crate) async fn answer(&mut self, ask: CatalogAsk) -> Result<CatalogTell, SessionError> {
        self.asks += 1;
        if self.asks > ASKS_MAX {
            return Err(SessionError::TooMany);
        }
        let library = self.discovery.library().clone();
        Ok(match ask {
            CatalogAsk::Release { publisher, name } => {
                let repo = RepoId { publisher, name };
                let release = blocking(move || {
                    let release = library.names().get(&repo).ok().flatten();
                    Ok(release.filter(|_| library.denials().repo(&repo).is_none()))
                });
                CatalogTell::Release(release.await?.map(|release| release.encode()))
            }
            CatalogAsk::Version => CatalogTell::Version(CATALOG_VERSION),
            CatalogAsk::Attestations { manifest } => {
                let told = blocking(move || {
                    let denied = library.denials().manifest(manifest).is_some();
                    Ok(if denied {
                        Vec::new()
                    } else {
                        library.told(manifest)
                    })
                });
                CatalogTell::Attestations(told.await?)
            }
            CatalogAsk::Reconcile { of, message } => {
                if of.is_empty() && timeout(ANSWER_WAIT, self.discovery.is_read()).await.is_err() {
                    return Err(SessionError::NotRead);
                }
                let (answerer, discovery) = (self.answerer.take(), self.discovery.clone());
                let answered = blocking(move || {
                    let mut answerer = match answerer {
                        Some(answerer) => answerer,
                        None => match discovery.snapshot_of(&of) {
                            Ok(snapshot) => Answerer::new(snapshot, rand::random()),
                            Err(error) => return Ok(Err(error)),
                        },
                    };
                    Ok(Ok((answerer.take(&message), answerer)))
                });
                let (answer, answerer) = answered.await??;
                self.answerer = Some(answerer);
                CatalogTell::Reconcile(answer?)
            }
            CatalogAsk::Get(ids) => {
                let discovery = self.discovery.clone();
                let known = blocking(move || Ok(discovery.told(&ids))).await?;
                CatalogTell::Known(known?)
            }
            CatalogAsk::Have(ids) => {
                debug!(peer = %self.peer, ids = ids.len(), "a peer has news");
                // Where too much is said at once, the next sync finds it.
                let _ = self.discovery.0.heard.try_send((self.peer, ids));
                CatalogTell::Have
            }
            CatalogAsk::Keys { publisher } => {
                let about = library.statements().about(publisher);
                CatalogTell::Keys(about.iter().map(|said| said.encode().to_vec()).collect())
            }
            CatalogAsk::Heard(told) => {
                let (discovery, peer) = (self.discovery.clone(), self.peer);
                let heard = blocking(move || {
                    let mut statements = Vec::new();
                    for bytes in &told {
                        match SignedStatement::decode(bytes) {
                            Ok(statement) => statements.push(statement),
                            Err(error) => return Ok(Err(SessionError::Statement(error))),
                        }
                    }
                    let heard = discovery.heard(statements, peer, None);
                    Ok(heard.map_err(SessionError::from))
                });
                heard.await??;
                CatalogTell::Have
            }
        })
    }
}

impl Discovery {
    /// What is known by these ids, as it is told: from the first on that does not fit a message, nothing. Blocking.
    pub(super) fn told(&self, ids: &[ReleaseId]) -> Result<Vec<Known>, LibraryError> {
        let mut known = Vec::new();
        for id in ids {
            let Some(row) = self.0.library.catalog().known(id.name_half())? else {
                continue;
            };
            // Another release of that name by now; or it is denied.
            if row.id() != *id || self.withholds(&row) {
                continue;
            }
            known.push(Known {
                release: row.encoding(),
                card: row.card.as_ref().and_then(|card| card.encode().ok()),
            });
        }
        Ok(Known::fitting(known))
    }
}
