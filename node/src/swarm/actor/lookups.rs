//! What we ask of the DHT: searches for providers and releases, and our own announcements.
//!
//! Invariant: `running` names exactly the queries of ours that kad works on and whose answers somebody wants.

use std::collections::{HashMap, HashSet, VecDeque};

use libp2p::{
    Multiaddr, PeerId,
    core::Endpoint,
    kad::{
        self, GetProvidersOk, GetRecordOk, ProgressStep, QueryId, QueryResult, QueryStats, Quorum,
        store::RecordStore,
    },
    swarm::{ConnectionId, NetworkBehaviour},
};
use protocol::SignedRelease;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{Actor, BusyError, Now, PutError};
use crate::swarm::{
    address,
    announce::Item,
    records::{ADDRESSES_MAX, Key, Refusal, VALUE_LEN_MAX},
};

/// Searches that run at once; each keeps a dozen peers busy.
const SEARCHES_MAX: usize = 32;
/// Searches that wait for one of those places.
const WAITING_MAX: usize = 1_024;
/// Different releases that one search hands out: a publisher's forks and stragglers, or a liar with a key of his own.
const RECORDS_MAX: usize = 64;

/// A query that kad works on for us.
pub(super) enum Query {
    Announce(Item),
    Providers {
        found: HashSet<PeerId>,
        limit: usize,
        sender: mpsc::Sender<PeerId>,
    },
    Records {
        key: Key,
        found: Vec<SignedRelease>,
        reply: oneshot::Sender<Vec<SignedRelease>>,
    },
    Peer(PeerId),
}

enum Ask {
    Providers {
        key: Key,
        limit: usize,
        sender: mpsc::Sender<PeerId>,
    },
    Records {
        key: Key,
        found: oneshot::Sender<Vec<SignedRelease>>,
    },
}

#[derive(Default)]
pub(super) struct Lookups {
    pub(super) running: HashMap<QueryId, Query>,
    waiting: VecDeque<Ask>,
    searches: usize,
    /// Who waits for an announcement to be through.
    announcers: HashMap<Item, Vec<oneshot::Sender<Result<bool, PutError>>>>,
}

impl Lookups {
    pub(super) fn ask_providers(
        &mut self,
        key: Key,
        limit: usize,
        sender: mpsc::Sender<PeerId>,
    ) -> Result<(), BusyError> {
        self.ask(Ask::Providers { key, limit, sender })
    }

    pub(super) fn ask_records(
        &mut self,
        key: Key,
        found: oneshot::Sender<Vec<SignedRelease>>,
    ) -> Result<(), BusyError> {
        self.ask(Ask::Records { key, found })
    }

    fn ask(&mut self, ask: Ask) -> Result<(), BusyError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(BusyError::Busy);
        }
        self.waiting.push_back(ask);
        Ok(())
    }

    fn finish_search(&mut self) {
        self.searches = self.searches.saturating_sub(1);
    }
}

impl Actor {
    pub(super) fn start_providing(
        &mut self,
        key: Key,
        reply: oneshot::Sender<Result<bool, PutError>>,
        now: Now,
    ) {
        let local = *self.swarm.local_peer_id();
        let record = kad::ProviderRecord::new(kad::RecordKey::new(&key), local, Vec::new());
        match self.records().add_provider(record) {
            Ok(()) => self.announce_item(Item::Provider(key), reply, now),
            Err(_) => drop(reply.send(Err(PutError::Refused(Refusal::Full)))),
        }
    }

    pub(super) fn stop_providing(&mut self, key: Key) {
        self.swarm
            .behaviour_mut()
            .kad
            .stop_providing(&kad::RecordKey::new(&key));
        let item = Item::Provider(key);
        self.schedule.remove(item);
        self.announced(item, false);
    }

    pub(super) fn withdraw_record(&mut self, key: Key) {
        self.records().remove(&kad::RecordKey::new(&key));
        let item = Item::Value(key);
        self.schedule.remove(item);
        self.announced(item, false);
    }

    pub(super) fn put_record(
        &mut self,
        release: &SignedRelease,
        reply: oneshot::Sender<Result<bool, PutError>>,
        now: Now,
    ) {
        let content = release.release();
        let key = content.key();
        let records = self.records();
        records.advance(now.unix);
        if let Err(refusal) = records.put_own_value(&key, &release.encode()) {
            let _ = reply.send(Err(PutError::Refused(refusal)));
            return;
        }
        // A second copy of one repo that is older than the first stands nowhere but under its own name.
        let copy = content.copy_key();
        let copy = copy.filter(|copy| records.put_own_value(copy, &release.encode()).is_ok());
        if let Some(copy) = copy {
            self.schedule.add(Item::Value(copy), now.instant);
        }
        self.announce_item(Item::Value(key), reply, now);
    }

    fn announce_item(&mut self, item: Item, reply: oneshot::Sender<Result<bool, PutError>>, now: Now) {
        self.schedule.add(item, now.instant);
        self.lookups.announcers.entry(item).or_default().push(reply);
    }

    /// Starts the announcements that are due.
    pub(super) fn announce(&mut self, now: Now) {
        while let Some(item) = self.schedule.next(now.instant) {
            let kad = &mut self.swarm.behaviour_mut().kad;
            let query = match item {
                Item::Provider(key) => kad.start_providing(kad::RecordKey::new(&key)).ok(),
                Item::Value(key) => {
                    let bytes = kad.store_mut().value(&key).map(<[u8]>::to_vec);
                    let record = bytes.map(|bytes| kad::Record::new(kad::RecordKey::new(&key), bytes));
                    record.and_then(|record| kad.put_record(record, Quorum::All).ok())
                }
            };
            match query {
                Some(query) => drop(self.lookups.running.insert(query, Query::Announce(item))),
                None => {
                    // Its time is over, or a newer release of somebody else's stands there.
                    debug!(?item, "announced no more");
                    self.schedule.finished(item, false, 0, now.instant);
                    self.schedule.remove(item);
                    self.announced(item, false);
                }
            }
        }
    }

    fn announced(&mut self, item: Item, reached: bool) {
        for reply in self.lookups.announcers.remove(&item).unwrap_or_default() {
            let _ = reply.send(Ok(reached));
        }
    }

    /// Starts searches while there is room.
    pub(super) fn begin_lookups(&mut self) {
        while self.lookups.searches < SEARCHES_MAX {
            let Some(ask) = self.lookups.waiting.pop_front() else {
                return;
            };
            let kad = &mut self.swarm.behaviour_mut().kad;
            let (id, query) = match ask {
                Ask::Providers { sender, .. } if sender.is_closed() => continue,
                Ask::Providers { key, limit, sender } => {
                    let id = kad.get_providers(kad::RecordKey::new(&key));
                    (
                        id,
                        Query::Providers {
                            found: HashSet::new(),
                            limit,
                            sender,
                        },
                    )
                }
                Ask::Records { found, .. } if found.is_closed() => continue,
                Ask::Records { key, found: reply } => {
                    let id = kad.get_record(kad::RecordKey::new(&key));
                    (
                        id,
                        Query::Records {
                            key,
                            found: Vec::new(),
                            reply,
                        },
                    )
                }
            };
            self.lookups.searches += 1;
            self.lookups.running.insert(id, query);
        }
    }

    /// Kad has news about a query.
    pub(super) fn progressed(
        &mut self,
        id: QueryId,
        result: QueryResult,
        stats: &QueryStats,
        step: &ProgressStep,
        now: Now,
    ) {
        match result {
            QueryResult::StartProviding(result) => {
                let reached = result.is_ok() && stats.num_successes() > 0;
                self.finish_announcement(id, reached, stats.num_requests(), now);
            }
            QueryResult::PutRecord(result) => {
                let reached = match result {
                    Ok(_) => true,
                    Err(
                        kad::PutRecordError::QuorumFailed { success, .. }
                        | kad::PutRecordError::Timeout { success, .. },
                    ) => !success.is_empty(),
                };
                self.finish_announcement(id, reached, stats.num_requests(), now);
            }
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                self.found_providers(id, providers);
            }
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                self.found_record(id, &found.record.value)
            }
            QueryResult::GetClosestPeers(result) => {
                let peers = match result {
                    Ok(kad::GetClosestPeersOk { peers, .. }) => peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                if let Some(Query::Peer(peer)) = self.lookups.running.remove(&id) {
                    self.searched(peer, peers, now);
                }
            }
            _ => {}
        }
        if step.last {
            self.finish_query(id);
        }
    }

    fn finish_announcement(&mut self, id: QueryId, reached: bool, requests: u32, now: Now) {
        if let Some(Query::Announce(item)) = self.lookups.running.remove(&id) {
            self.schedule.finished(item, reached, requests, now.instant);
            self.announced(item, reached);
        }
    }

    fn finish_query(&mut self, id: QueryId) {
        match self.lookups.running.remove(&id) {
            // The channel closes with its sender.
            Some(Query::Providers { .. }) => self.lookups.finish_search(),
            Some(Query::Records { found, reply, .. }) => {
                self.lookups.finish_search();
                let _ = reply.send(found);
            }
            Some(Query::Announce(_) | Query::Peer(_)) | None => {}
        }
    }

    fn found_providers(&mut self, id: QueryId, providers: HashSet<PeerId>) {
        let local = *self.swarm.local_peer_id();
        for peer in providers {
            if peer == local || self.swarm.behaviour().guard.is_banned(&peer) {
                continue;
            }
            // Kad forgets the addresses that came with the answer when the query ends: take them down now.
            let addresses = self.known_to_kad(peer);
            self.heard(peer, addresses);
            let Some(Query::Providers { found, limit, sender }) = self.lookups.running.get_mut(&id) else {
                return;
            };
            if !found.insert(peer) {
                continue;
            }
            // The channel holds as many as the limit: it is full never, closed perhaps.
            if sender.try_send(peer).is_err() || found.len() >= *limit {
                self.lookups.running.remove(&id);
                self.lookups.finish_search();
                if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
                    query.finish();
                }
                return;
            }
        }
    }

    /// Where kad would dial `peer` now, from its routing table, its running queries and our own records.
    fn known_to_kad(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let nothing = ConnectionId::new_unchecked(0);
        let mut known = kad
            .handle_pending_outbound_connection(nothing, Some(peer), &[], Endpoint::Dialer)
            .unwrap_or_default();
        known.extend_from_slice(kad.store_mut().addresses_of(&peer));
        known.truncate(ADDRESSES_MAX);
        known
    }

    /// Notes addresses that somebody somewhere in the DHT told us for `peer`.
    pub(super) fn heard(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>) {
        let told_from = self.own_scope();
        let plausible = addresses
            .into_iter()
            .filter(|found| address::is_plausible(found, told_from));
        self.book.heard(peer, plausible.take(ADDRESSES_MAX));
    }

    fn found_record(&mut self, id: QueryId, bytes: &[u8]) {
        let Some(Query::Records { key, found, .. }) = self.lookups.running.get_mut(&id) else {
            return;
        };
        if bytes.len() > VALUE_LEN_MAX
            || found.len() >= RECORDS_MAX
            || found.iter().any(|known| known.encode() == bytes)
        {
            return;
        }
        let release = SignedRelease::decode(bytes).ok();
        found.extend(release.filter(|release| release.release().lies_under(key)));
    }
}
