//! The side that asks: what a peer knows and we do not, when it comes and now and then; and what peers say is new.
//!
//! A peer that speaks version 1 of the protocol is asked for nothing new. One that tells much that no publisher signed is asked no more for an hour.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use libp2p::{PeerId, Stream, StreamProtocol};
use protocol::{
    CatalogAsk, CatalogTell, Known, Publisher, ReleaseId, SignedStatement,
    limits::{IDS_MAX, KEY_STATEMENTS_MAX, SCOPE_MAX},
    wire::{self, CATALOG_VERSION},
};
use rand::{Rng, seq::SliceRandom};
use tokio::{
    sync::{
        Semaphore,
        broadcast::{self, error::RecvError},
    },
    task::JoinSet,
    time::{Instant as Moment, sleep_until, timeout},
};
use tracing::debug;

use super::{
    Discovery, Heard, News, Relay,
    reconcile::{Next, Opener, ReconcileError},
    relay::room,
    set::Item,
    taking::TAKEN_MAX,
};
use crate::{
    catalog::KnownRow,
    frame::{self, FrameError},
    library::LibraryError,
    node::{Node, WeakNode},
    store::{StoreError, blocking},
    swarm::{OpenError, SwarmEvent},
};

/// From the end of a sync with a peer to the next one, about, and at least.
const SYNC_AGAIN: Duration = Duration::from_secs(10 * 60);
/// From a sync with one peer to a sync with another, once there has been one with each, about: many peers need not be asked more often than a few.
const SYNC_EACH: Duration = Duration::from_secs(15);
/// How long a peer that came to us goes first: after its sync with us both know the same, most often, and ours costs next to nothing.
const SYNC_TURN: Duration = Duration::from_secs(3);
/// Syncs that we open at once.
const SYNCS_MAX: usize = 2;
/// How long one may take: a million releases over a slow line come in several.
const SYNC_WAIT: Duration = Duration::from_secs(10 * 60);
/// How long a peer is asked no more that told what no publisher signed.
const FALSE_PAUSE: Duration = Duration::from_secs(60 * 60);
/// From a sync that broke to the next one with that peer, about.
const BROKEN_PAUSE: Duration = Duration::from_secs(30);
/// What no publisher signed ends a sync when it is more than this: a few may come of a peer's disk, or of rules that it has and we do not yet.
const FALSE_MAX: usize = 16;
/// Peers that are told of what we released: each tells others.
const TOLD_OURS_MAX: usize = 32;
/// Peers that are told of what others released: with so many, one node in e¹⁰ (22,000) hears of it by its next sync only. More would tell most of
/// them what they know.
const TOLD_MAX: usize = 10;
/// News are gathered for so long before they are told.
const GATHER: Duration = Duration::from_millis(100);
/// News are gathered for so long before the index is written, unless a search wants them.
const INDEX_GATHER: Duration = Duration::from_secs(2);
/// Releases that a peer is told of when a sync shows that it lacks them: the newest. It finds the rest when it asks.
const LACKS_MAX: usize = 4 * IDS_MAX;
/// More than so many at once are no news, but what a sync showed.
const FEW: usize = 64;
/// Peers whose last sync is remembered.
const PEERS_MAX: usize = 4_096;
/// Peers that are asked for a card that did not come with its release.
const CARD_ASKED: usize = 8;
/// Peers that are asked for their news at once.
const HEARD_MAX: usize = 32;
/// How long one may take to tell [`FEW`]: somebody else has them as well.
const HEAR_WAIT: Duration = Duration::from_secs(3);
/// How long one may take to tell many.
const HEAR_LONGEST: Duration = Duration::from_secs(60);
/// News that may wait until their peers are asked, of all of them: 8 MB.
const WAITING_MAX: usize = 64 * LACKS_MAX;
/// Peers that are remembered to have what another one is asked for.
const OTHERS_MAX: usize = 4;

/// Why a sync ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("no stream")]
    Open(#[from] OpenError),
    #[error("a message")]
    Frame(#[from] FrameError),
    #[error("the peer breaks the rules of syncs")]
    Reconcile(#[from] ReconcileError),
    #[error("the peer told what no publisher signed")]
    False,
    #[error("the answer is none to what was asked")]
    Unasked,
    #[error("longer than {SYNC_WAIT:?}")]
    Timeout,
    #[error("the news took too long")]
    Slow,
    #[error(transparent)]
    Library(#[from] LibraryError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How much is let in.
#[derive(Clone, Copy)]
struct Allowed {
    releases: usize,
    /// How many of them may be of names that are not known.
    names: usize,
}

impl Allowed {
    const ALL: Allowed = Allowed {
        releases: usize::MAX,
        names: usize::MAX,
    };
}

/// Whether a release names a card that is not here.
fn lacks_card(known: &KnownRow) -> bool {
    known.card.is_none() && known.release.card.is_some()
}

/// One stream of asks to a peer.
pub(super) struct Asking {
    stream: Stream,
    /// Releases that came by it and that no publisher signed.
    false_ones: usize,
}

impl Asking {
    pub(super) async fn open(node: &Node, peer: PeerId) -> Result<Asking, SyncError> {
        let protocol = StreamProtocol::new(wire::CATALOG_PROTOCOL);
        let stream = node.swarm().open_stream(peer, protocol).await?;
        Ok(Asking {
            stream,
            false_ones: 0,
        })
    }

    async fn ask(&mut self, ask: &CatalogAsk) -> Result<CatalogTell, SyncError> {
        frame::send(&mut self.stream, ask).await?;
        Ok(frame::read(&mut self.stream).await?)
    }

    async fn version(&mut self) -> Result<u32, SyncError> {
        match self.ask(&CatalogAsk::Version).await? {
            CatalogTell::Version(version) => Ok(version),
            _ => Err(SyncError::Unasked),
        }
    }

    async fn reconcile(&mut self, of: &[Publisher], message: Vec<u8>) -> Result<Vec<u8>, SyncError> {
        let of = of.to_vec();
        match self.ask(&CatalogAsk::Reconcile { of, message }).await? {
            CatalogTell::Reconcile(answer) => Ok(answer),
            _ => Err(SyncError::Unasked),
        }
    }

    /// Says what we have; the peer gets what it wants of it.
    async fn have(&mut self, ids: &[ReleaseId]) -> Result<(), SyncError> {
        for ids in ids.chunks(IDS_MAX) {
            match self.ask(&CatalogAsk::Have(ids.to_vec())).await? {
                CatalogTell::Have => {}
                _ => return Err(SyncError::Unasked),
            }
        }
        Ok(())
    }

    /// Asks what the peer knows about a key.
    pub(super) async fn keys(&mut self, publisher: Publisher) -> Result<Vec<SignedStatement>, SyncError> {
        match self.ask(&CatalogAsk::Keys { publisher }).await? {
            CatalogTell::Keys(told) => told
                .iter()
                .map(|bytes| SignedStatement::decode(bytes).map_err(|_| SyncError::False))
                .collect(),
            _ => Err(SyncError::Unasked),
        }
    }

    /// Says what we heard about keys.
    pub(super) async fn hear(&mut self, statements: &[SignedStatement]) -> Result<(), SyncError> {
        for some in statements.chunks(KEY_STATEMENTS_MAX) {
            let told = some.iter().map(|said| said.encode().to_vec()).collect();
            match self.ask(&CatalogAsk::Heard(told)).await? {
                CatalogTell::Have => {}
                _ => return Err(SyncError::Unasked),
            }
        }
        Ok(())
    }

    /// Asks for releases, and takes in what comes; returns how many are new here.
    async fn get(
        &mut self,
        discovery: &Discovery,
        peer: PeerId,
        ids: Vec<ReleaseId>,
    ) -> Result<usize, SyncError> {
        let (mut new, mut ids) = (0, ids.as_slice());
        while !ids.is_empty() {
            let now = &ids[..ids.len().min(IDS_MAX)];
            let CatalogTell::Known(known) = self.ask(&CatalogAsk::Get(now.to_vec())).await? else {
                return Err(SyncError::Unasked);
            };
            // What a peer left out for want of room is asked for again; what it does not have any more is not.
            let came = last_of(&known, now);
            ids = &ids[came.unwrap_or(now.len())..];
            let discovery = discovery.clone();
            let taken = blocking(move || {
                let mut all = (0, 0);
                for some in known.chunks(TAKEN_MAX) {
                    match discovery.take(some, Some(peer)) {
                        Ok(taken) => all = (all.0 + taken.new.len(), all.1 + taken.false_ones),
                        Err(error) => return Ok(Err(error)),
                    }
                }
                Ok(Ok(all))
            });
            let (came, false_ones) = taken.await??;
            new += came;
            self.false_ones += false_ones;
            if self.false_ones > FALSE_MAX {
                return Err(SyncError::False);
            }
        }
        Ok(new)
    }
}

/// How many of the ids asked for were dealt with by an answer that was full. `None`: it had room for all.
fn last_of(known: &[Known], asked: &[ReleaseId]) -> Option<usize> {
    let last = known.last()?;
    let room = protocol::limits::FRAME_LEN_MAX / 2;
    let len: usize = known
        .iter()
        .map(|known| known.release.len() + known.card.as_ref().map_or(0, Vec::len))
        .sum();
    if len < room {
        return None;
    }
    let last = protocol::SignedRelease::decode(&last.release).ok()?;
    let last = protocol::release::id_of(&last);
    asked.iter().position(|id| *id == last).map(|at| at + 1)
}

impl Discovery {
    /// Which of these releases are worth asking for: not those of names of which we know a later one, nor what is denied, nor more than are let in.
    /// Blocking.
    fn worth(&self, items: &[Item], allowed: Allowed) -> Result<Vec<ReleaseId>, LibraryError> {
        let (mut worth, mut room, now) = (Vec::new(), allowed.names, Instant::now());
        for item in items {
            if worth.len() == allowed.releases {
                break;
            }
            let mut is_new = true;
            let asked = self.asks_for(item.name(), |known| {
                is_new = false;
                known.release.issued <= item.issued()
            })?;
            if asked && is_new {
                let Some(less) = room.checked_sub(1) else { continue };
                room = less;
            }
            if asked && self.state().budget.may_renew(item.name(), now) {
                worth.push(ReleaseId::from_bytes(*item.id()));
            }
        }
        Ok(worth)
    }

    /// What a peer may bring now of strangers.
    fn room_for(&self, peer: PeerId) -> Allowed {
        let mut state = self.state();
        let known = usize::try_from(state.names).unwrap_or(usize::MAX);
        Allowed {
            releases: state.budget.left(peer, known, Instant::now()),
            names: room(known),
        }
    }

    /// Which of these nobody is asked for at present: this peer is, from now on, until [`Discovery::end_asking`]. Of the others it is remembered that it
    /// has them as well.
    fn begin_asking(&self, peer: PeerId, ids: Vec<ReleaseId>) -> Vec<ReleaseId> {
        let mut state = self.state();
        let mut free = Vec::new();
        for id in ids {
            match state.asked.entry(id) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Vec::new());
                    free.push(id);
                }
                Entry::Occupied(mut asked) if asked.get().len() < OTHERS_MAX => asked.get_mut().push(peer),
                Entry::Occupied(_) => {}
            }
        }
        free
    }

    /// Who was asked for these has told or not: whoever else has them counts as having said so now, which comes to nothing if they are known.
    fn end_asking(&self, ids: &[ReleaseId]) {
        let mut state = self.state();
        let mut others: HashMap<PeerId, Vec<ReleaseId>> = HashMap::new();
        for id in ids {
            for other in state.asked.remove(id).unwrap_or_default() {
                others.entry(other).or_default().push(*id);
            }
        }
        for said in others {
            // Where too much is said at once, the next sync finds it.
            let _ = self.0.heard.try_send(said);
        }
    }

    /// Which of these ids are not known here with their cards, nor denied, nor one of too many of their name. Blocking.
    fn unknown(&self, ids: &[ReleaseId]) -> Result<Vec<ReleaseId>, LibraryError> {
        let mut unknown = Vec::new();
        for id in ids {
            if self.asks_for(id.name_half(), |known| known.id() != *id || lacks_card(known))?
                && self.state().budget.may_renew(id.name_half(), Instant::now())
            {
                unknown.push(*id);
            }
        }
        Ok(unknown)
    }
}

impl Node {
    /// Learns from a peer what it knows of releases and we do not, and tells it of the newest that it lacks; returns how many are new here. What is not
    /// kept here is not asked for: where only followed publishers are, those alone are compared.
    pub(crate) async fn sync_with(&self, peer: PeerId) -> Result<usize, SyncError> {
        let discovery = self.discovery().clone();
        discovery.state().syncing.insert(peer, Vec::new());
        let synced = timeout(SYNC_WAIT, async {
            let mut new = 0;
            if discovery.0.relay == Relay::All {
                new += self.sync(peer, &[]).await?;
                let allowed = discovery.room_for(peer);
                if allowed.releases > 0 && allowed.names > 0 {
                    return Ok(new);
                }
            }
            // Whom the user follows comes whatever else is full.
            let near: Vec<Publisher> = discovery.near().publishers().into_iter().collect();
            for some in near.chunks(SCOPE_MAX) {
                new += self.sync(peer, some).await?;
            }
            Ok(new)
        })
        .await
        .map_err(|_| SyncError::Timeout);
        let late = discovery.state().syncing.remove(&peer);
        // Most of it the sync brought.
        let late = late.unwrap_or_default();
        match synced? {
            Ok(new) if !late.is_empty() => Ok(new + self.hear(peer, late).await?),
            synced => synced,
        }
    }

    /// The same for one publisher's releases only.
    pub(super) async fn sync_about(&self, peer: PeerId, publisher: Publisher) -> Result<usize, SyncError> {
        timeout(SYNC_WAIT, self.sync(peer, &[publisher]))
            .await
            .map_err(|_| SyncError::Timeout)?
    }

    async fn sync(&self, peer: PeerId, of: &[Publisher]) -> Result<usize, SyncError> {
        let discovery = self.discovery().clone();
        if of.is_empty() {
            discovery.is_read().await;
        }
        let mut asking = Asking::open(self, peer).await?;
        if asking.version().await? < CATALOG_VERSION {
            return Ok(0);
        }
        // Before any release: who signs it may have been revoked, or have gone on as somebody whom we do not know yet.
        match of {
            [] => asking.learn_all(&discovery, peer).await?,
            some => {
                for publisher in some {
                    asking.learn(&discovery, peer, *publisher).await?;
                }
            }
        }
        let (ours, scope) = (discovery.clone(), of.to_vec());
        let snapshot = blocking(move || Ok(ours.snapshot_of(&scope))).await??;
        let (mut opener, mut message) = Opener::new(snapshot, rand::random());
        let (mut new, mut lacks) = (0, Vec::new());
        loop {
            let answer = asking.reconcile(of, message).await?;
            let taken = blocking(move || Ok((opener.take(&answer), opener))).await?;
            let (step, next) = taken;
            opener = next;
            let step = step?;
            let room = LACKS_MAX.saturating_sub(lacks.len());
            let more = step.have.iter().take(room);
            lacks.extend(more.map(|item| ReleaseId::from_bytes(*item.id())));
            let (worthy, need) = (discovery.clone(), step.need);
            let allowed = if of.is_empty() {
                discovery.room_for(peer)
            } else {
                Allowed::ALL
            };
            let worth = blocking(move || Ok(worthy.worth(&need, allowed))).await??;
            new += asking.get(&discovery, peer, worth).await?;
            match step.next {
                Next::Ask(next) => message = next,
                Next::Done | Next::Cut => break,
            }
        }
        asking.have(&lacks).await?;
        Ok(new)
    }

    /// Asks a peer for what it says is new.
    pub(crate) async fn hear(&self, peer: PeerId, ids: Vec<ReleaseId>) -> Result<usize, SyncError> {
        let discovery = self.discovery().clone();
        if ids.len() > FEW
            && let Some(late) = discovery.state().syncing.get_mut(&peer)
        {
            // It says what its sync with us showed, and ours brings that.
            let room = LACKS_MAX.saturating_sub(late.len());
            late.extend(ids.into_iter().take(room));
            return Ok(0);
        }
        let asked = discovery.clone();
        let unknown = blocking(move || Ok(asked.unknown(&ids))).await??;
        // Only a few: else one could keep much from being asked of anybody else.
        let is_claimed = unknown.len() <= FEW;
        let wanted = match is_claimed {
            true => discovery.begin_asking(peer, unknown),
            false => unknown,
        };
        if wanted.is_empty() {
            return Ok(0);
        }
        let had = async {
            let mut asking = Asking::open(self, peer).await?;
            asking.get(&discovery, peer, wanted.clone()).await
        };
        let parts = u32::try_from(wanted.len().div_ceil(FEW)).unwrap_or(u32::MAX);
        let wait = HEAR_WAIT.saturating_mul(parts).min(HEAR_LONGEST);
        let had = timeout(wait, had).await.unwrap_or(Err(SyncError::Slow));
        if is_claimed {
            discovery.end_asking(&wanted);
        }
        had
    }

    /// Gets the card of a release that came without it, as those do that the DHT has.
    pub(crate) async fn complete(&self, id: ReleaseId) {
        for peer in self.swarm().peers().await.iter().take(CARD_ASKED) {
            let library = self.library().clone();
            let lacks =
                blocking(move || {
                    let known = library.catalog().known(id.name_half());
                    Ok(known
                        .is_ok_and(|known| known.is_some_and(|known| known.id() == id && lacks_card(&known))))
                });
            if !lacks.await.unwrap_or(false) {
                return;
            }
            if let Err(error) = self.hear(peer.peer, vec![id]).await {
                debug!(peer = %peer.peer, error = &error as &dyn std::error::Error, "a card was not had");
            }
        }
    }

    /// Tells a peer what is new.
    async fn tell_news(
        &self,
        peer: PeerId,
        ids: Vec<ReleaseId>,
        statements: Vec<SignedStatement>,
    ) -> Result<(), SyncError> {
        // One that speaks version 1 does not understand it, and closes the stream.
        let mut asking = Asking::open(self, peer).await?;
        asking.hear(&statements).await?;
        asking.have(&ids).await
    }
}

/// Passes on what is new; ends with the node.
pub(crate) async fn spread(node: WeakNode, mut news: broadcast::Receiver<Arc<News>>) {
    loop {
        let first = match news.recv().await {
            Ok(first) => first,
            // What was missed is found by the next sync.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let until = Moment::now() + GATHER;
        let mut gathered: Vec<Arc<News>> = vec![first];
        while let Ok(Ok(more)) = tokio::time::timeout_at(until, news.recv()).await {
            gathered.push(more);
        }
        let Some(node) = node.upgrade() else { return };
        let mut peers: Vec<PeerId> = node.swarm().peers().await.iter().map(|peer| peer.peer).collect();
        peers.shuffle(&mut rand::rng());
        let ours = gathered.iter().any(|news| news.from.is_none());
        peers.truncate(if ours { TOLD_OURS_MAX } else { TOLD_MAX });
        for peer in peers {
            let (mut ids, mut statements) = (Vec::new(), Vec::new());
            for news in gathered.iter().filter(|news| news.from != Some(peer)) {
                ids.extend(news.ids.iter().copied());
                for statement in &news.statements {
                    if !statements.contains(statement) {
                        statements.push(statement.clone());
                    }
                }
            }
            if ids.is_empty() && statements.is_empty() {
                continue;
            }
            let node = node.clone();
            tokio::spawn(async move {
                if let Err(error) = node.tell_news(peer, ids, statements).await {
                    debug!(%peer, error = &error as &dyn std::error::Error, "a peer did not hear what is new");
                }
            });
        }
    }
}

/// Has searches see what is new; ends with the node.
pub(crate) async fn keep_indexed(node: WeakNode, mut news: broadcast::Receiver<Arc<News>>) {
    while !matches!(news.recv().await, Err(RecvError::Closed)) {
        // Writing the index costs much the same for one and for many.
        let until = Moment::now() + INDEX_GATHER;
        while let Ok(Ok(_) | Err(RecvError::Lagged(_))) = tokio::time::timeout_at(until, news.recv()).await {}
        let Some(node) = node.upgrade() else { return };
        let discovery = node.discovery().clone();
        let indexed = blocking(move || {
            discovery.catch_up();
            Ok(())
        });
        if let Err(error) = indexed.await {
            debug!(%error, "the search index waits");
        }
    }
}

/// Asks peers for what they say is new, each once at a time: what one says meanwhile is gathered, and who does not answer holds up nobody else. Ends with
/// the node.
pub(crate) async fn keep_hearing(node: WeakNode, mut heard: Heard, shunned: Arc<Shunned>) {
    let mut waiting: HashMap<PeerId, Vec<ReleaseId>> = HashMap::new();
    let (mut asked, mut asking) = (HashMap::new(), JoinSet::new());
    loop {
        tokio::select! {
            news = heard.recv() => {
                let Some((peer, ids)) = news else { return };
                if shunned.has(peer, Instant::now()) || waiting.len() >= PEERS_MAX {
                    continue;
                }
                // What is left out is found by the next sync.
                let room = WAITING_MAX.saturating_sub(waiting.values().map(Vec::len).sum());
                let waits = waiting.entry(peer).or_default();
                let room = LACKS_MAX.saturating_sub(waits.len()).min(room);
                waits.extend(ids.into_iter().take(room));
            }
            Some(ended) = asking.join_next_with_id() => {
                let task = ended.map_or_else(|error| error.id(), |(task, ())| task);
                asked.remove(&task);
            }
        }
        while asked.len() < HEARD_MAX {
            let next = waiting
                .keys()
                .find(|peer| !asked.values().any(|other| other == *peer));
            let Some(peer) = next.copied() else { break };
            let (Some(node), Some(ids)) = (node.upgrade(), waiting.remove(&peer)) else {
                return;
            };
            let shunned = shunned.clone();
            let task = asking.spawn(async move {
                let had = node.hear(peer, ids).await;
                let (now, pause) = (Instant::now(), Ended::of(&had).pause(0));
                let Err(error) = had else { return };
                debug!(%peer, error = &error as &dyn std::error::Error, "what a peer says is new was not had");
                // What went wrong here is nobody's fault.
                if !matches!(error, SyncError::Library(_) | SyncError::Store(_)) {
                    shunned.add(peer, now + pause, now);
                }
            });
            asked.insert(task.id(), peer);
        }
    }
}

/// Peers that are asked no more for a while, also when they go and come again.
#[derive(Default)]
pub(crate) struct Shunned(Mutex<HashMap<PeerId, Instant>>);

impl Shunned {
    fn add(&self, peer: PeerId, until: Instant, now: Instant) {
        let mut peers = self.peers();
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, until| *until > now);
        }
        if peers.len() < PEERS_MAX {
            let known = peers.entry(peer).or_insert(until);
            *known = until.max(*known);
        }
    }

    /// When a peer may be asked first.
    fn first(&self, peer: PeerId, now: Instant) -> Instant {
        self.peers().get(&peer).map_or(now, |until| now.max(*until))
    }

    fn has(&self, peer: PeerId, now: Instant) -> bool {
        self.first(peer, now) > now
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Instant>> {
        self.0.lock().expect("nothing panics while it holds this")
    }
}

/// How asking a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    /// The line broke, or something here.
    Broken,
    /// It told what no publisher signed, or not what it was asked.
    False,
}

impl Ended {
    fn of(asked: &Result<usize, SyncError>) -> Ended {
        match asked {
            Ok(_) | Err(SyncError::Timeout) => Ended::Well,
            Err(SyncError::False | SyncError::Reconcile(_) | SyncError::Unasked) => Ended::False,
            Err(
                SyncError::Slow
                | SyncError::Open(_)
                | SyncError::Frame(_)
                | SyncError::Library(_)
                | SyncError::Store(_),
            ) => Ended::Broken,
        }
    }

    /// How long to wait before the next sync with that peer, about, where there are so many.
    fn pause(self, peers: usize) -> Duration {
        let each = u32::try_from(peers).map_or(Duration::MAX, |peers| SYNC_EACH.saturating_mul(peers));
        match self {
            Ended::Well => each.max(SYNC_AGAIN),
            Ended::Broken => BROKEN_PAUSE,
            Ended::False => FALSE_PAUSE,
        }
    }
}

/// Syncs with peers when they come, now and then, and when something is allowed that was not taken in; ends with the node.
pub(crate) async fn keep_in_sync(
    node: WeakNode,
    mut events: broadcast::Receiver<SwarmEvent>,
    shunned: Arc<Shunned>,
) {
    let mut due: HashMap<PeerId, Instant> = HashMap::new();
    let running = Arc::new(Semaphore::new(SYNCS_MAX));
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel::<(PeerId, Ended, u64)>();
    let discovery = node.upgrade().map(|node| node.discovery().clone());
    let Some(discovery) = discovery else { return };
    let mut denials = discovery.library().denials().changes();
    discovery.is_read().await;
    drop(discovery);
    let mut missed = true;
    // Counts when something was allowed that was not taken in: a sync that began before may not have brought it.
    let mut lifts = 0u64;
    loop {
        if std::mem::take(&mut missed) {
            let Some(node) = node.upgrade() else { return };
            for peer in node.swarm().peers().await {
                let first = || shunned.first(peer.peer, Instant::now());
                due.entry(peer.peer).or_insert_with(first);
            }
        }
        let next = due
            .iter()
            .min_by_key(|(_, at)| **at)
            .map(|(peer, at)| (*peer, *at));
        let soon = next.map_or(Instant::now() + SYNC_AGAIN, |(_, at)| at);
        tokio::select! {
            event = events.recv() => match event {
                Ok(SwarmEvent::Connected { peer, dialled }) if due.len() < PEERS_MAX => {
                    let now = Instant::now();
                    let turn = if dialled { now } else { now + SYNC_TURN };
                    due.entry(peer).or_insert_with(|| shunned.first(peer, now).max(turn));
                }
                Ok(SwarmEvent::Disconnected(peer)) => drop(due.remove(&peer)),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => missed = true,
                Err(RecvError::Closed) => return,
            },
            Ok(()) = denials.changed() => {
                let Some(node) = node.upgrade() else { return };
                if node.discovery().lifted() {
                    lifts += 1;
                    due.iter_mut().for_each(|(peer, at)| *at = shunned.first(*peer, Instant::now()));
                }
            }
            Some((peer, how, begun)) = ends.recv() => {
                // Not all at once.
                let pause = how.pause(due.len());
                let again = Instant::now() + pause.mul_f64(rand::rng().random_range(0.7..1.3));
                if how == Ended::False {
                    shunned.add(peer, again, Instant::now());
                }
                if let Some(at) = due.get_mut(&peer) {
                    *at = if begun == lifts || how == Ended::False { again } else { Instant::now() };
                }
            }
            () = sleep_until(soon.into()), if running.available_permits() > 0 => {
                let Some((peer, _)) = next else { continue };
                let Ok(turn) = running.clone().acquire_owned().await else { return };
                // Until it has ended.
                due.insert(peer, Instant::now() + SYNC_WAIT + SYNC_AGAIN);
                let Some(node) = node.upgrade() else { return };
                let (ended, begun) = (ended.clone(), lifts);
                tokio::spawn(async move {
                    let synced = node.sync_with(peer).await;
                    drop((turn, node));
                    match &synced {
                        Ok(new) => debug!(%peer, new, "in sync"),
                        Err(error) => {
                            debug!(%peer, error = error as &dyn std::error::Error, "a sync ended early");
                        }
                    }
                    let _ = ended.send((peer, Ended::of(&synced), begun));
                });
            }
        }
    }
}
