//! Which statements about one key count, and which are worth keeping: a bounded number, such that no flood pushes out what matters.
//!
//! Only a publisher's key and its recovery key can say anything about it that counts, and of what they say, two different things of a kind prove
//! all that a third one could. What anybody else signs takes a few places, as long as it is not known who may speak.

use std::collections::BTreeMap;

use super::{SignedStatement, Statement};
use crate::hash::Hash;
use crate::limits::KEY_STATEMENTS_PENDING_MAX;
use crate::repo::Publisher;

/// Two statements of a kind that differ: the first that counts, and the evidence that there is another.
const DIFFERENT_MAX: usize = 2;

/// A statement, and when this node first saw it in relation to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The statement.
    pub statement: SignedStatement,
    /// The node's own count: lower is earlier. What came in one answer has one number: no order is known within it. Never taken from
    /// somebody else.
    pub order: u64,
}

/// Chooses which statements about `key` to keep, at most [`KEY_STATEMENTS_MAX`](crate::limits::KEY_STATEMENTS_MAX): of those kept so far and those offered, in any order.
///
/// - `inherited`: the recovery key of the publisher that went on as `key`, if it is known to be such: [`Standing::recovery`](super::Standing::recovery).
/// - What is about other keys is left out. What is kept has the least `order` with which anything of the same meaning was seen.
/// - [`Standing::of`](super::Standing::of) says the same of what is kept as of everything, as far as statements of the recovery key did not come before its
///   introduction among more than [`KEY_STATEMENTS_PENDING_MAX`] of others; offered again after it, they are kept.
pub fn keep(key: Publisher, seen: &[Seen], inherited: Option<Publisher>) -> Vec<Seen> {
    let heard = Heard::of(key, seen);
    let own = heard.introduced();
    let mut kept: Vec<Seen> = Vec::new();
    kept.extend(heard.introductions().into_iter().take(DIFFERENT_MAX).cloned());
    kept.extend(heard.rotations().into_iter().take(DIFFERENT_MAX).cloned());
    kept.extend(heard.revocations.get(&key).cloned());
    let mut speakers: Vec<Publisher> = own.into_iter().chain(inherited).collect();
    speakers.dedup();
    speakers.retain(|speaker| *speaker != key);
    for speaker in &speakers {
        kept.extend(heard.revocations.get(speaker).cloned());
        kept.extend(
            heard
                .recoveries(*speaker)
                .into_iter()
                .take(DIFFERENT_MAX)
                .cloned(),
        );
    }
    if own.is_none() {
        let stranger = |by: &Publisher| *by != key && !speakers.contains(by);
        let revocations = heard.revocations.iter().filter(|(by, _)| stranger(by));
        kept.extend(first(revocations.map(|(_, seen)| seen)));
        let recoveries = heard.recoveries.iter().filter(|((by, _), _)| stranger(by));
        kept.extend(first(recoveries.map(|(_, seen)| seen)));
    }
    kept
}

fn first<'a>(pending: impl Iterator<Item = &'a Seen>) -> Vec<Seen> {
    let mut pending: Vec<&Seen> = pending.collect();
    pending.sort_by_key(|seen| (seen.order, seen.statement.hash()));
    pending
        .into_iter()
        .take(KEY_STATEMENTS_PENDING_MAX)
        .cloned()
        .collect()
}

/// What was heard about one key: of statements with the same meaning one, with the least time, and the least order of them all.
pub(super) struct Heard {
    key: Publisher,
    /// By recovery key.
    introductions: BTreeMap<Publisher, Seen>,
    /// By new key.
    rotations: BTreeMap<Publisher, Seen>,
    /// By who signs and new key.
    recoveries: BTreeMap<(Publisher, Publisher), Seen>,
    /// By who signs.
    pub(super) revocations: BTreeMap<Publisher, Seen>,
}

impl Heard {
    pub(super) fn of(key: Publisher, seen: &[Seen]) -> Heard {
        let mut heard = Heard {
            key,
            introductions: BTreeMap::new(),
            rotations: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            revocations: BTreeMap::new(),
        };
        for one in seen {
            let statement = one.statement.statement();
            if statement.about() != key {
                continue;
            }
            match statement {
                Statement::Introduce { recovery, .. } => merge(&mut heard.introductions, *recovery, one),
                Statement::Rotate { to, .. } => merge(&mut heard.rotations, *to, one),
                Statement::Recover { recovery, to, .. } => {
                    merge(&mut heard.recoveries, (*recovery, *to), one);
                }
                Statement::Revoke { by, .. } => merge(&mut heard.revocations, *by, one),
            }
        }
        heard
    }

    /// The introductions that count, the first one first: not those that were seen after the key had revoked itself.
    pub(super) fn introductions(&self) -> Vec<&Seen> {
        let end = self
            .revocations
            .get(&self.key)
            .map_or(u64::MAX, |seen| seen.order);
        let counting = self.introductions.iter().filter(|(_, seen)| seen.order <= end);
        in_order(counting)
    }

    /// The recovery key that was introduced first. None if there is none, or if two came at once: whoever has only the key could have made either.
    pub(super) fn introduced(&self) -> Option<Publisher> {
        let introductions = self.introductions();
        let first = introductions.first()?;
        let at_once = |second: &&Seen| second.order == first.order;
        if introductions.get(1).is_some_and(at_once) {
            return None;
        }
        match first.statement.statement() {
            Statement::Introduce { recovery, .. } => Some(*recovery),
            Statement::Rotate { .. } | Statement::Recover { .. } | Statement::Revoke { .. } => None,
        }
    }

    /// The rotations to different keys, the first one first.
    pub(super) fn rotations(&self) -> Vec<&Seen> {
        in_order(self.rotations.iter())
    }

    /// The recoveries to different keys by one recovery key, in the order of the new keys' bytes.
    pub(super) fn recoveries(&self, recovery: Publisher) -> Vec<&Seen> {
        let by = |((by, _), _): &(&(Publisher, Publisher), &Seen)| *by == recovery;
        let recoveries = self.recoveries.iter().filter(by);
        recoveries.map(|(_, seen)| seen).collect()
    }
}

fn in_order<'a>(seen: impl Iterator<Item = (&'a Publisher, &'a Seen)>) -> Vec<&'a Seen> {
    let mut sorted: Vec<(&Publisher, &Seen)> = seen.collect();
    sorted.sort_by_key(|(other, seen)| (seen.order, **other));
    sorted.into_iter().map(|(_, seen)| seen).collect()
}

fn merge<K: Ord>(heard: &mut BTreeMap<K, Seen>, meaning: K, new: &Seen) {
    let rank = |seen: &Seen| -> (u64, Hash) { (seen.statement.statement().issued(), seen.statement.hash()) };
    match heard.get_mut(&meaning) {
        None => {
            heard.insert(meaning, new.clone());
        }
        Some(old) => {
            let order = old.order.min(new.order);
            if rank(new) < rank(old) {
                *old = new.clone();
            }
            old.order = order;
        }
    }
}
