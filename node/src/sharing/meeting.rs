//! How sessions begin and end: who comes to us, whom we go to.

use super::{
    Sharing,
    gathering::Gathering,
    session::{Ended, JOIN_LEN, Session, frame_max, read_first, write},
};
use crate::swarm::OpenError;
use futures::AsyncWriteExt;
use libp2p::{PeerId, Stream, StreamProtocol};
use protocol::{Hash, SwarmTell, wire};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// A peer that is being met.
struct Meeting(Arc<Gathering>, PeerId);

impl Drop for Meeting {
    fn drop(&mut self) {
        self.0.met(&self.1);
    }
}

impl Sharing {
    /// Takes a stream that a peer opened.
    pub(super) fn accept(&self, peer: PeerId, stream: Stream) {
        let Some(counted) = self.count(peer) else {
            debug!(%peer, "too many sessions; the stream is closed");
            return;
        };
        let sharing = self.clone();
        self.spawn(async move {
            let (Ok(ended) | Err(ended)) = sharing.welcome(peer, stream).await;
            drop(counted);
            sharing.judge(peer, &ended).await;
        });
    }

    /// Meets a peer that a fetch named, wherever it is known to be.
    pub(super) fn meet(&self, gathering: &Arc<Gathering>, peer: PeerId) {
        self.go(gathering, peer, |sharing| &sharing.0.meets);
    }

    /// Meets a peer that another member named, where that is plausible.
    pub(super) fn meet_hinted(&self, gathering: &Arc<Gathering>, peer: PeerId) {
        self.go(gathering, peer, |sharing| &sharing.0.hinted);
    }

    fn go(
        &self,
        gathering: &Arc<Gathering>,
        peer: PeerId,
        turn: impl FnOnce(&Sharing) -> &Semaphore + Send + 'static,
    ) {
        if !gathering.meet(peer) {
            return;
        }
        let (sharing, gathering) = (self.clone(), Arc::clone(gathering));
        self.spawn(async move {
            let meeting = Meeting(Arc::clone(&gathering), peer);
            let Ok(turn) = turn(&sharing).acquire().await else {
                return;
            };
            let Some(counted) = sharing.count(peer).filter(|_| gathering.is_fetching()) else {
                debug!(%peer, "too many sessions, or the fetch is over; a peer is not met");
                return;
            };
            let met = sharing.approach(&gathering, peer).await;
            drop(turn);
            let ended = match met {
                Ok((stream, first)) => {
                    let seat = sharing.seat(&gathering, peer, sharing.swarm().peer_id());
                    drop(meeting);
                    match seat {
                        Some(session) => session.attend(stream, Some(first)).await,
                        None => Ended::Closed,
                    }
                }
                Err(ended) => ended,
            };
            drop(counted);
            sharing.judge(peer, &ended).await;
        });
    }

    /// Opens a stream, joins, and reads what the peer says first.
    async fn approach(&self, gathering: &Gathering, peer: PeerId) -> Result<(Stream, SwarmTell), Ended> {
        let count = gathering.map.count();
        let mut stream = self.open(peer).await?;
        let first = self
            .join(&mut stream, gathering.manifest, frame_max(count))
            .await?;
        let first = first.ok_or(Ended::Left)?;
        first.check(count)?;
        Ok((stream, first))
    }

    pub(super) async fn open(&self, peer: PeerId) -> Result<Stream, OpenError> {
        let protocol = StreamProtocol::new(wire::SWARM_PROTOCOL);
        self.swarm().open_stream(peer, protocol).await
    }

    /// Asks to take part, and returns what the peer says first, unless it takes no part.
    pub(super) async fn join(
        &self,
        stream: &mut Stream,
        manifest: Hash,
        max: usize,
    ) -> Result<Option<SwarmTell>, Ended> {
        write(stream, &SwarmTell::Join { manifest }).await?;
        match read_first(stream, max).await? {
            Some(SwarmTell::Nothing) => Ok(None),
            Some(first @ (SwarmTell::Everything | SwarmTell::Bits { .. })) => Ok(Some(first)),
            Some(_) => Err(Ended::Place("an answer that is none")),
            None => Err(Ended::Left),
        }
    }

    /// Answers a peer that opened a stream, until its session is over.
    async fn welcome(&self, peer: PeerId, mut stream: Stream) -> Result<Ended, Ended> {
        let manifest = match read_first(&mut stream, JOIN_LEN).await? {
            Some(SwarmTell::Join { manifest }) => manifest,
            Some(_) => return Err(Ended::Place("something before the join")),
            None => return Err(Ended::Left),
        };
        let gathering = self.gathering(manifest).await;
        match gathering.and_then(|gathering| self.seat(&gathering, peer, peer)) {
            Some(session) => Ok(session.attend(stream, None).await),
            None => {
                write(&mut stream, &SwarmTell::Nothing).await?;
                stream.close().await?;
                Ok(Ended::Closed)
            }
        }
    }

    fn seat(&self, gathering: &Arc<Gathering>, peer: PeerId, opener: PeerId) -> Option<Session> {
        let number = self.number();
        let seated = gathering.seat(peer, opener, number)?;
        self.note(gathering, peer);
        Some(Session {
            sharing: self.clone(),
            gathering: Arc::clone(gathering),
            peer,
            number,
            seated,
        })
    }

    /// Sends a peer away that said what no honest one says.
    pub(super) async fn judge(&self, peer: PeerId, ended: &Ended) {
        if ended.is_fault() {
            warn!(%peer, why = %ended, "a peer broke the format of the swarm protocol; it is banned");
            self.swarm().ban(peer).await;
        }
    }
}
