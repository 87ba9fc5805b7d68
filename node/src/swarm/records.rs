//! What this node keeps of the DHT for others, and what it puts there itself: our `RecordStore`.
//!
//! Provider records and signed releases, each checked before it is written, counted against its giver, and forgotten in time.
//! It does no I/O, reads no clock ([`Records::advance`] is told) and draws its random choices from one generator.
//! Invariant: what we announce ourselves is never refused, counted or pushed out by what strangers send.

mod saved;
mod sources;
mod store;
mod table;

use std::collections::HashSet;

use libp2p::{Multiaddr, PeerId};
use protocol::{
    SignedRelease,
    ratchet::{self, Decision},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

pub(super) use self::saved::SNAPSHOT_LEN_MAX;
use self::{
    sources::{Kind, Quota, Sources},
    table::{Row, Table},
};
use super::address::Net;

/// A place in the DHT: a BLAKE3 hash.
pub(super) type Key = [u8; 32];

/// Bounds of what is kept for others. Ours come on top.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Provider records in all: 2^18 at about 120 bytes are 30 MiB.
    providers: usize,
    /// Providers of one key. Three times what one answer carries: askers get different ones.
    providers_per_key: usize,
    /// Providers of one key from one network, so that one landlord cannot be all providers of a key.
    providers_per_key_and_net: usize,
    /// Provider records by giver. A seeder of 10,000 models announces all of them to every node of a small network.
    providers_by: Quota,
    /// Releases in all: 2^15 at up to 4 KiB are 128 MiB at worst, about 20 MiB of usual ones.
    values: usize,
    /// Releases by giver: an eighth of all for one network, less for one peer.
    values_by: Quota,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            providers: 1 << 18,
            providers_per_key: 64,
            providers_per_key_and_net: 8,
            providers_by: Quota {
                per_peer: 1 << 14,
                per_net: 1 << 15,
            },
            values: 1 << 15,
            values_by: Quota {
                per_peer: 1 << 11,
                per_net: 1 << 12,
            },
        }
    }
}

/// Largest release we keep, in bytes. A usual one is 600, one with every optional field at its longest under 2,000.
pub(super) const VALUE_LEN_MAX: usize = 4 * 1024;
/// Addresses kept per peer: a host with IPv4, IPv6, two transports and two relays has about 12.
pub(super) const ADDRESSES_MAX: usize = 16;
/// Keys we announce ourselves. Beyond it the DHT is the wrong tool: 2^18 keys every 12 h are 6 lookups a second.
pub(super) const OWN_MAX: usize = 1 << 18;
/// How long a provider record holds, in seconds: two announcements of 12 h may not both be lost.
const PROVIDER_LIFE_S: u64 = 24 * 60 * 60;
/// How long a release stays without being put again, in seconds.
const VALUE_LIFE_S: u64 = 48 * 60 * 60;

/// Why a record was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is not 32 bytes long. The sender's fault.
    #[error("key is not a hash")]
    Key,
    /// More than 4 KiB. The sender's fault.
    #[error("release is too long")]
    TooLong,
    /// The bytes are no release that its publisher signed. The sender's fault.
    #[error("not a signed release")]
    NotARelease,
    /// A valid release under a key that is not its own. The sender's fault.
    #[error("release stored under another release's key")]
    WrongKey,
    /// Its time is over.
    #[error("release has expired")]
    Expired,
    /// It was issued in the future, or jumps too far ahead in sequence.
    #[error("release is implausibly new")]
    TooNew,
    /// We hold one with a higher sequence number.
    #[error("a newer release is known")]
    Older,
    /// We hold another one with the same sequence number: its publisher signed both. The first stays.
    #[error("another release with the same sequence number is known")]
    Fork,
    /// This peer has used up its share.
    #[error("the peer has too many records here")]
    PeerQuota,
    /// This network has used up its share.
    #[error("the network has too many records here")]
    NetQuota,
    /// There is no room, and nothing but records of ours to push out.
    #[error("no room for another record")]
    Full,
}

/// What became of a record that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It was new.
    Stored,
    /// It was known; its time starts again.
    Refreshed,
}

/// Our part of the DHT.
pub(super) struct Records {
    local: PeerId,
    limits: Limits,
    /// Unix time in seconds, as last told.
    now: u64,
    rng: StdRng,
    /// The keys that we provide.
    provided: HashSet<Key>,
    providers: Table<()>,
    values: Table<Box<[u8]>>,
    /// How many of `values` are ours.
    own_values: usize,
    sources: Sources,
    dirty: bool,
}

impl Records {
    pub(super) fn new(local: PeerId, now: u64) -> Self {
        Self::with_limits(local, now, Limits::default(), StdRng::from_os_rng())
    }

    fn with_limits(local: PeerId, now: u64, limits: Limits, rng: StdRng) -> Self {
        Self {
            local,
            limits,
            now,
            rng,
            provided: HashSet::new(),
            providers: Table::default(),
            values: Table::default(),
            own_values: 0,
            sources: Sources::default(),
            dirty: false,
        }
    }

    /// Moves the clock to `now`, Unix time in seconds. It may go back: nothing is ordered by it.
    pub(super) fn advance(&mut self, now: u64) {
        self.now = now;
    }

    /// Forgets what is over. A full pass: call it every few minutes.
    pub(super) fn sweep(&mut self) {
        for place in (0..self.providers.len() as u32).rev() {
            if self.providers.row(place).is_some_and(|row| row.until <= self.now) {
                self.drop_provider(place);
            }
        }
        for place in (0..self.values.len() as u32).rev() {
            if self.values.row(place).is_some_and(|row| row.until <= self.now) {
                self.drop_value(place);
            }
        }
    }

    /// Numbers of provider records and releases kept, ours included.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.providers.len() + self.provided.len(), self.values.len())
    }

    /// Whether something changed since the last call of [`Records::encode`].
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Where a peer said it may be found when it announced something here.
    pub(super) fn addresses_of(&self, peer: &PeerId) -> &[Multiaddr] {
        self.sources
            .find(peer)
            .and_then(|id| self.sources.get(id))
            .map_or(&[], |source| &source.addresses)
    }

    /// Keeps "`peer` provides `key`", said by that peer itself from `net` (`None`: loopback or private, no quota).
    pub(super) fn offer_provider(
        &mut self,
        key: &[u8],
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        net: Option<Net>,
    ) -> Result<Kept, Refusal> {
        let key = Key::try_from(key).map_err(|_| Refusal::Key)?;
        addresses.truncate(ADDRESSES_MAX);
        let until = self.now.saturating_add(PROVIDER_LIFE_S);
        if let Some(place) = self.provider_place(&key, &peer) {
            if let Some(row) = self.providers.row_mut(place) {
                row.until = until;
                if let Some(source) = row.source {
                    self.sources.set_addresses(source, addresses);
                }
            }
            self.dirty = true;
            return Ok(Kept::Refreshed);
        }
        self.sources
            .check(&peer, net, Kind::Provider, self.limits.providers_by)?;
        self.make_room_under(&key, net);
        if self.providers.len() >= self.limits.providers {
            let sources = &self.sources;
            let victim = self
                .providers
                .victim(&mut self.rng, |id| sources.count(id, Kind::Provider));
            self.drop_provider(victim.ok_or(Refusal::Full)?);
        }
        let source = self.sources.add(peer, net, Kind::Provider);
        self.sources.set_addresses(source, addresses);
        self.providers.push(Row {
            key,
            source: Some(source),
            until,
            life: until,
            what: (),
        });
        self.dirty = true;
        Ok(Kept::Stored)
    }

    /// Keeps a release that `peer` put here from `net`: only under its own key, only if it moves its name forward.
    pub(super) fn offer_value(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        peer: PeerId,
        net: Option<Net>,
    ) -> Result<Kept, Refusal> {
        self.put_value(key, bytes, Some((peer, net)))
    }

    /// Keeps a release that we put ourselves, under the same checks but outside all quotas.
    pub(super) fn put_own_value(&mut self, key: &[u8], bytes: &[u8]) -> Result<Kept, Refusal> {
        self.put_value(key, bytes, None)
    }

    /// The release kept under `key`, as it was signed.
    pub(super) fn value(&self, key: &Key) -> Option<&[u8]> {
        let row = self.values.row(*self.values.places(key).first()?)?;
        (row.until > self.now).then_some(&*row.what)
    }

    fn put_value(
        &mut self,
        key: &[u8],
        bytes: &[u8],
        giver: Option<(PeerId, Option<Net>)>,
    ) -> Result<Kept, Refusal> {
        let key = Key::try_from(key).map_err(|_| Refusal::Key)?;
        if bytes.len() > VALUE_LEN_MAX {
            return Err(Refusal::TooLong);
        }
        let place = self.values.places(&key).first().copied();
        let known = place.and_then(|place| self.values.row(place));
        if let (Some(place), Some(row)) = (place, known)
            && *row.what == *bytes
            && row.life > self.now
        {
            // The same bytes were checked when they came first: a flood of repetitions costs no signature check.
            return Ok(self.keep_value(place, bytes, row.life, giver.is_none(), Kept::Refreshed));
        }
        let life = self.judge(&key, bytes, known.map(|row| &*row.what))?;
        // A newer release of a name we know stands where the older one stood, and counts as it did.
        if let Some(place) = place {
            return Ok(self.keep_value(place, bytes, life, giver.is_none(), Kept::Stored));
        }
        let source = match giver {
            Some((peer, net)) => {
                self.sources
                    .check(&peer, net, Kind::Value, self.limits.values_by)?;
                if self.values.len() - self.own_values >= self.limits.values {
                    let sources = &self.sources;
                    let victim = self
                        .values
                        .victim(&mut self.rng, |id| sources.count(id, Kind::Value));
                    self.drop_value(victim.ok_or(Refusal::Full)?);
                }
                Some(self.sources.add(peer, net, Kind::Value))
            }
            None if self.own_values >= OWN_MAX => return Err(Refusal::Full),
            None => {
                self.own_values += 1;
                None
            }
        };
        let until = self.value_until(life);
        self.values.push(Row {
            key,
            source,
            until,
            life,
            what: bytes.into(),
        });
        self.dirty = true;
        Ok(Kept::Stored)
    }

    /// Checks a release by itself and against the one we have. Returns until when it is valid, Unix time in seconds.
    fn judge(&self, key: &Key, bytes: &[u8], known: Option<&[u8]>) -> Result<u64, Refusal> {
        let offered = SignedRelease::decode(bytes).map_err(|_| Refusal::NotARelease)?;
        let content = offered.release();
        if !content.lies_under(key) {
            return Err(Refusal::WrongKey);
        }
        if content.expires <= self.now {
            return Err(Refusal::Expired);
        }
        let current = known.and_then(|bytes| SignedRelease::decode(bytes).ok());
        match ratchet::decide(current.as_ref(), &offered, self.now) {
            Decision::Accept | Decision::Same => Ok(content.expires),
            Decision::Older { .. } => Err(Refusal::Older),
            Decision::Fork => Err(Refusal::Fork),
            Decision::JumpTooLarge | Decision::NotYetIssued => Err(Refusal::TooNew),
            // Two copies of one repo, of one publisher: the one that was published last.
            Decision::OtherRepo => {
                match current.is_some_and(|current| current.release().issued < content.issued) {
                    true => Ok(content.expires),
                    false => Err(Refusal::Older),
                }
            }
        }
    }

    /// Writes a release that passed its checks where one stands already. Ours stays ours, whoever brought the newer one.
    fn keep_value(&mut self, place: u32, bytes: &[u8], life: u64, ours: bool, kept: Kept) -> Kept {
        let until = self.value_until(life);
        if let Some(row) = self.values.row_mut(place) {
            row.until = until;
            row.life = life;
            if kept == Kept::Stored {
                row.what = bytes.into();
            }
            if ours && let Some(source) = row.source.take() {
                self.sources.remove(source, Kind::Value);
                self.own_values += 1;
            }
        }
        self.dirty = true;
        kept
    }

    fn value_until(&self, life: u64) -> u64 {
        life.min(self.now.saturating_add(VALUE_LIFE_S))
    }

    /// Within a full key a newcomer takes a random one's place: whoever came first has no right to stay.
    fn make_room_under(&mut self, key: &Key, net: Option<Net>) {
        let places = self.providers.places(key);
        let of_net: Vec<u32> = match net {
            Some(_) => places
                .iter()
                .copied()
                .filter(|place| self.net_at(*place) == net)
                .collect(),
            None => Vec::new(),
        };
        let candidates = if of_net.len() >= self.limits.providers_per_key_and_net {
            &of_net
        } else if places.len() >= self.limits.providers_per_key {
            places
        } else {
            return;
        };
        let place = candidates[self.rng.random_range(0..candidates.len())];
        self.drop_provider(place);
    }

    fn net_at(&self, place: u32) -> Option<Net> {
        self.sources.get(self.providers.row(place)?.source?)?.net
    }

    fn provider_place(&self, key: &Key, peer: &PeerId) -> Option<u32> {
        let source = Some(self.sources.find(peer)?);
        let places = self.providers.places(key);
        places
            .iter()
            .copied()
            .find(|place| self.providers.row(*place).is_some_and(|row| row.source == source))
    }

    fn drop_provider(&mut self, place: u32) {
        if let Some(source) = self.providers.remove(place).and_then(|row| row.source) {
            self.sources.remove(source, Kind::Provider);
        }
        self.dirty = true;
    }

    fn drop_value(&mut self, place: u32) {
        match self.values.remove(place) {
            Some(Row {
                source: Some(source), ..
            }) => self.sources.remove(source, Kind::Value),
            Some(Row { source: None, .. }) => self.own_values -= 1,
            None => {}
        }
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests;
