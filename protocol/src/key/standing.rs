//! Where a publisher stands: as which key it goes on, who can recover it, and what was revoked. A pure function of what a node saw and in which order.
//!
//! It never chooses between two sides of a fork, and nothing that a revoked key signs moves anybody. What comes of the priority, for each key: a
//! revocation ends it; a recovery by its recovery key goes on elsewhere, whatever was rotated; else a rotation does, if it is the only
//! one and was seen before the revocation.

use super::keep::{Heard, Seen};
use super::{Reason, SignedStatement, Statement};
use crate::limits::KEY_STEPS_MAX;
use crate::repo::Publisher;

/// Where a publisher stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The keys that it went through: first the one that was asked about, last the one as which it continues. At most [`KEY_STEPS_MAX`] more than one,
    /// no key twice.
    pub steps: Vec<Step>,
    /// The recovery key: that of the first of these keys that introduced one. It stays when the publisher goes on as another key.
    pub recovery: Option<Publisher>,
    /// What its keys signed against themselves: shown to the user, kept as evidence. None of the sides is followed, but for the first introduction.
    pub forks: Vec<Fork>,
    /// Why it does not go on further, although a statement says so.
    pub cut: Option<Cut>,
}

/// One key of a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The key.
    pub key: Publisher,
    /// How the publisher came to it; none for the first.
    pub by: Option<Passage>,
    /// Whether it was revoked.
    pub revoked: Option<Revoked>,
}

/// How a publisher came from one key to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The old key said so.
    Rotated,
    /// The recovery key said so.
    Recovered,
}

/// A revocation that counts. Releases that the key signed stay verifiable, as signed before or after it: no time in them can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// When it was signed, in Unix seconds, as its signer says.
    pub since: u64,
    /// Who revoked it: the key itself, or the recovery key.
    pub by: Publisher,
    /// Why.
    pub reason: Reason,
}

/// Two different statements of one kind about one key, both signed by who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The key.
    pub key: Publisher,
    /// What they are.
    pub kind: ForkKind,
    /// Two of them.
    pub statements: [SignedStatement; 2],
}

/// What a key's statements differ about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkKind {
    /// Two recovery keys. The one that was seen first stays; of two that came at once neither counts.
    Introductions,
    /// Two rotations to different keys: neither is followed. A recovery settles it.
    Rotations,
    /// Two recoveries to different keys: neither is followed, nor any rotation.
    Recoveries,
}

/// Why a publisher does not go on, although a statement says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The next key is one that it had before.
    Cycle {
        /// That key.
        to: Publisher,
    },
    /// It went on [`KEY_STEPS_MAX`] times already. Nothing is followed then.
    TooLong,
}

impl Standing {
    /// Says where `publisher` stands, by the statements that a node saw: about this key and those that it went on to, and perhaps others.
    ///
    /// The order of the slice plays no part; [`Seen::order`] does, in two places: the first introduction wins, and a rotation counts only if it
    /// was seen before a revocation of its key. How many there are is the caller's to bound, by [`keep`](super::keep).
    pub fn of(publisher: Publisher, seen: &[Seen]) -> Standing {
        let mut standing = Standing {
            steps: Vec::new(),
            recovery: None,
            forks: Vec::new(),
            cut: None,
        };
        let mut next = Some((publisher, None));
        while let Some((key, by)) = next {
            let heard = Heard::of(key, seen);
            standing.introduce(key, &heard);
            let revocations = standing.revocations(key, &heard);
            let revoked = revocations.first().and_then(|seen| Revoked::of(seen));
            standing.steps.push(Step { key, by, revoked });
            let revoked_at = revocations.iter().map(|seen| seen.order).min();
            next = standing.next(key, &heard, revoked_at);
        }
        standing
    }

    /// The key as which the publisher continues.
    pub fn current(&self) -> Publisher {
        let last = self.steps.last().expect("the first step is the publisher itself");
        last.key
    }

    /// The revocation of the key as which the publisher continues: then it has no key that signs anything.
    pub fn revoked(&self) -> Option<&Revoked> {
        self.steps.last()?.revoked.as_ref()
    }

    /// What is known of one of its keys.
    pub fn step(&self, key: Publisher) -> Option<&Step> {
        self.steps.iter().find(|step| step.key == key)
    }

    /// Whether who follows the publisher accepts new releases of `key`: it is the one as which the publisher continues, and not revoked.
    pub fn follows(&self, key: Publisher) -> bool {
        key == self.current() && self.revoked().is_none() && self.cut != Some(Cut::TooLong)
    }

    fn introduce(&mut self, key: Publisher, heard: &Heard) {
        self.fork(key, ForkKind::Introductions, &heard.introductions());
        self.recovery = self.recovery.or_else(|| heard.introduced());
    }

    /// The revocations that count: that of the recovery key before that of the key itself, which a thief has too.
    fn revocations<'a>(&self, key: Publisher, heard: &'a Heard) -> Vec<&'a Seen> {
        let signers = [self.recovery, Some(key)];
        let by = |signer: Option<Publisher>| heard.revocations.get(&signer?);
        signers.into_iter().filter_map(by).collect()
    }

    fn next(
        &mut self,
        key: Publisher,
        heard: &Heard,
        revoked_at: Option<u64>,
    ) -> Option<(Publisher, Option<Passage>)> {
        let recoveries = self.recovery.map(|by| heard.recoveries(by)).unwrap_or_default();
        let (passage, kind, ways) = match recoveries.is_empty() {
            false => (Passage::Recovered, ForkKind::Recoveries, recoveries),
            true => {
                let mut rotations = heard.rotations();
                rotations.retain(|seen| revoked_at.is_none_or(|at| seen.order < at));
                (Passage::Rotated, ForkKind::Rotations, rotations)
            }
        };
        if self.fork(key, kind, &ways) {
            return None;
        }
        let to = match ways.first()?.statement.statement() {
            Statement::Rotate { to, .. } | Statement::Recover { to, .. } => *to,
            Statement::Introduce { .. } | Statement::Revoke { .. } => return None,
        };
        if self.step(to).is_some() {
            self.cut = Some(Cut::Cycle { to });
            return None;
        }
        if self.steps.len() > KEY_STEPS_MAX {
            self.cut = Some(Cut::TooLong);
            return None;
        }
        Some((to, Some(passage)))
    }

    /// Keeps the first two of several statements as evidence; whether there are several.
    fn fork(&mut self, key: Publisher, kind: ForkKind, ways: &[&Seen]) -> bool {
        let [first, second, ..] = ways else {
            return false;
        };
        let statements = [first.statement.clone(), second.statement.clone()];
        self.forks.push(Fork {
            key,
            kind,
            statements,
        });
        true
    }
}

impl Revoked {
    fn of(seen: &Seen) -> Option<Revoked> {
        match seen.statement.statement() {
            Statement::Revoke {
                by, reason, issued, ..
            } => Some(Revoked {
                since: *issued,
                by: *by,
                reason: *reason,
            }),
            Statement::Introduce { .. } | Statement::Rotate { .. } | Statement::Recover { .. } => None,
        }
    }
}
