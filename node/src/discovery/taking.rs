//! Taking in what others tell: each release is verified, judged by the ratchet, and kept if it is wanted here.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use libp2p::PeerId;
use protocol::{Decision, Known, Publisher, ReleaseId, SignedRelease, Summary, ratchet, release::id_of};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};
use tracing::{debug, warn};

use super::{
    Discovery, News, Relay,
    relay::{NAMES_PER_PUBLISHER_MAX, room},
    set::Item,
    short,
};
use crate::{
    catalog::{Batch, CatalogError, KnownRow},
    library::{LibraryError, now},
    names::NamesError,
};

/// Releases that are taken in at once: one transaction of the catalog.
pub(super) const TAKEN_MAX: usize = 1_000;

/// Publishers of whom it is remembered how many names are known, at most: strangers make up as many publishers as they like.
const COUNTED_MAX: usize = 65_536;

/// What became of what was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Releases that are new here.
    pub new: Vec<ReleaseId>,
    /// Releases that were known, are older than what is known, or not wanted here, such as those that are denied.
    pub passed: usize,
    /// What no publisher signed, or is not what it says: whoever told of it is at fault.
    pub false_ones: usize,
}

/// A release that is wanted, and passed the ratchet on disk where the user acts on it.
struct Passing {
    release: SignedRelease,
    card: Option<Summary>,
    /// The user acts on it.
    near: bool,
    /// When the first release of its name that is here was signed.
    created: u64,
}

/// What is to become of a release that is wanted.
struct Kept {
    row: KnownRow,
    id: ReleaseId,
    old: Option<Item>,
}

impl Kept {
    /// The release as an item of the set.
    fn item(&self) -> Option<Item> {
        Item::new(self.row.release.issued, *self.id.as_bytes()).ok()
    }
}

impl Discovery {
    /// Takes in what a peer told; `None`: it is from here. At most [`TAKEN_MAX`] at once. Blocking: 50 microseconds each, on every core.
    ///
    /// # Errors
    /// The catalog, or the files of releases. What was taken in before holds.
    pub(crate) fn take(&self, told: &[Known], from: Option<PeerId>) -> Result<Taken, LibraryError> {
        let mut taken = Taken::default();
        let verified: Vec<_> = told.par_iter().map(Known::verify).collect();
        let mut wanted = Vec::new();
        for verified in verified {
            match verified {
                Ok((release, card)) => wanted.push((release, card)),
                Err(error) => {
                    debug!(?from, %error, "what a peer told is no release");
                    taken.false_ones += 1;
                }
            }
        }
        let near = self.near();
        let before = wanted.len();
        if self.0.relay == Relay::Followed {
            wanted.retain(|(release, _)| near.has(release.release()));
        }
        // What is from here was accepted before it was denied: it is told to nobody, and is back when it is allowed.
        if from.is_some() {
            wanted.retain(|(release, _)| !self.refuses(release.release()));
        }
        // What the user acts on passes the ratchet on disk first.
        let now = now();
        let mut passing = Vec::new();
        for (release, card) in wanted {
            let is_near = near.has(release.release());
            if !is_near
                && self
                    .0
                    .library
                    .revocation_of(release.release().publisher)
                    .is_some()
            {
                continue;
            }
            if !is_near || self.on_disk(&release, card.as_ref(), now)? {
                let created = match is_near || from.is_none() {
                    true => self.created(&release)?,
                    false => release.release().issued,
                };
                passing.push(Passing {
                    release,
                    card,
                    near: is_near,
                    created,
                });
            }
        }
        let kept = self.keep(passing, from, now)?;
        taken.passed = before - kept.len();
        self.adopt_late(&kept, &near.publishers());
        // With a release of ours goes what there is to know of our key.
        let ours = kept
            .iter()
            .map(|kept| kept.row.release.publisher)
            .find(|publisher| from.is_none() && self.0.library.is_ours(*publisher));
        let news = News {
            ids: kept.iter().map(|kept| kept.id).collect(),
            statements: ours.map(|ours| self.said_of(ours)).unwrap_or_default(),
            from,
        };
        taken.new.clone_from(&news.ids);
        if !news.ids.is_empty() {
            // Nobody may listen.
            let _ = self.0.news.send(Arc::new(news));
        }
        Ok(taken)
    }

    /// Makes what the user acts on of what is kept of somebody whom they began to follow meanwhile.
    fn adopt_late(&self, kept: &[Kept], near_before: &HashSet<Publisher>) {
        let publishers = kept.iter().map(|kept| kept.row.release.publisher);
        let mut strangers: HashSet<Publisher> = publishers.collect();
        strangers.retain(|publisher| !near_before.contains(publisher));
        if strangers.is_empty() {
            return;
        }
        let near = self.near().publishers();
        let late = strangers.into_iter().filter(|publisher| near.contains(publisher));
        for publisher in late {
            if let Err(error) = self.adopt_known(publisher) {
                let error = &error as &dyn std::error::Error;
                warn!(%publisher, error, "what is known is not followed");
            }
        }
    }

    /// Offers a release that the user acts on to the ratchet on disk. `false`: it is not followed, and need not be known.
    fn on_disk(
        &self,
        release: &SignedRelease,
        card: Option<&Summary>,
        now: u64,
    ) -> Result<bool, LibraryError> {
        let repo = release.release().repo();
        if let Some(card) = card.and_then(|card| card.encode().ok()) {
            self.0.library.names().keep_card(&repo, &card)?;
        }
        match self.0.library.accept(release, now) {
            Ok(()) => Ok(true),
            Err(LibraryError::Names(
                error @ (NamesError::Older { .. }
                | NamesError::NotYetIssued { .. }
                | NamesError::JumpTooLarge { .. }
                | NamesError::Revoked { .. }
                | NamesError::Replaced { .. }
                | NamesError::Fork { .. }),
            )) => {
                debug!(%repo, %error, "a release is not followed");
                Ok(false)
            }
            Err(LibraryError::Names(
                error @ (NamesError::Damaged { .. } | NamesError::KeysDamaged { .. }),
            )) => {
                warn!(%repo, %error, "a release is not followed");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// When the first release of a name was signed, as far as its files tell.
    fn created(&self, release: &SignedRelease) -> Result<u64, LibraryError> {
        let release = release.release();
        let history = self.0.library.names().history(&release.repo())?;
        let issued = history.iter().map(|before| before.release().issued);
        Ok(issued.fold(release.issued, u64::min))
    }

    /// Keeps what the ratchet lets pass, and returns it.
    fn keep(&self, passing: Vec<Passing>, from: Option<PeerId>, now: u64) -> Result<Vec<Kept>, LibraryError> {
        // Whoever is near may have as many as they like.
        let strangers = passing.iter().filter(|passing| !passing.near);
        self.count_names(
            strangers
                .map(|passing| passing.release.release().publisher)
                .collect(),
        );
        let mut state = self.state();
        let known = usize::try_from(state.names).unwrap_or(usize::MAX);
        let clock = Instant::now();
        let (mut left, mut room) = match from {
            Some(peer) => (state.budget.left(peer, known, clock), room(known)),
            None => (usize::MAX, usize::MAX),
        };
        let before = left;
        let mut arrived = state.arrived;
        // Names that come now, of each publisher: those of one batch count as those of many.
        let mut coming: HashMap<u64, u32> = HashMap::new();
        let kept = self.0.library.catalog().write_soon(|batch| {
            let mut kept = Vec::new();
            for passing in passing {
                let (publisher, near) = (short(passing.release.release().publisher), passing.near);
                let known = state.names_of.get(&publisher).copied().unwrap_or(0);
                let come = coming.entry(publisher).or_default();
                let full = !near && known.saturating_add(*come) >= NAMES_PER_PUBLISHER_MAX;
                let Some(one) = judge(batch, passing, full, arrived, now)? else {
                    continue;
                };
                let is_new = one.old.is_none();
                if !near {
                    let Some(less) = left.checked_sub(1) else { continue };
                    match (is_new, from) {
                        (true, _) => {
                            let Some(less) = room.checked_sub(1) else { continue };
                            room = less;
                        }
                        // A card that comes late is no renewal.
                        (false, Some(_)) if one.old != one.item() => {
                            if !state.budget.renews(one.id.name_half(), clock) {
                                continue;
                            }
                        }
                        (false, _) => {}
                    }
                    left = less;
                }
                *come = come.saturating_add(u32::from(is_new));
                batch.put_known(&one.row)?;
                arrived = arrived.saturating_add(1);
                kept.push(one);
            }
            Ok(kept)
        })?;
        if let Some(peer) = from {
            state.budget.brought(peer, before - left);
        }
        state.arrived = arrived;
        state.unindexed.extend(kept.iter().map(|one| one.id.name_half()));
        for one in &kept {
            let Some(item) = one.item() else { continue };
            state.names += u64::from(one.old.is_none());
            if let Err(error) = state.set.put(one.old, item) {
                warn!(%error, "a release is known and not told of");
            }
        }
        for (publisher, come) in coming.into_iter().filter(|(_, come)| *come > 0) {
            // Who was not asked about is counted when somebody does.
            if let Some(count) = state.names_of.get_mut(&publisher) {
                *count = count.saturating_add(come);
            }
        }
        Ok(kept)
    }

    /// Sees to it that `names_of` tells how many names are known of these publishers.
    fn count_names(&self, mut publishers: HashSet<Publisher>) {
        {
            let mut state = self.state();
            if state.names_of.len() >= COUNTED_MAX {
                state.names_of.clear();
            }
            publishers.retain(|publisher| !state.names_of.contains_key(&short(*publisher)));
        }
        // Not while it is locked: the index may lie on a cold disk.
        for publisher in publishers {
            let found = self.names_found(publisher).unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                warn!(%publisher, error, "the names of a publisher are not counted");
                0
            });
            self.state().names_of.entry(short(publisher)).or_insert(found);
        }
    }
}

/// Judges a release by what is known of its name; where its publisher is `full`, no new name comes. `None`: it stays as it is.
fn judge(
    batch: &Batch<'_>,
    passing: Passing,
    full: bool,
    arrived: u64,
    now: u64,
) -> Result<Option<Kept>, CatalogError> {
    let Passing {
        release,
        card,
        near,
        created,
    } = passing;
    let (id, said) = (id_of(&release), release.release());
    let known = batch.known(id.name_half())?;
    if known.is_none() && full {
        return Ok(None);
    }
    let old = known
        .as_ref()
        .and_then(|row| Item::new(row.release.issued, *row.id().as_bytes()).ok());
    // A card that came later than its release.
    let is_late = |row: &KnownRow| row.card.is_none() && card.is_some() && row.release == *said;
    let decision = match &known {
        Some(row) if is_late(row) => Decision::Accept,
        // What is near passed the ratchet on disk, which knows more.
        Some(row) if near && row.release != *said => Decision::Accept,
        known => ratchet::judge(known.as_ref().map(|row| &row.release), said, now),
    };
    Ok(match decision {
        Decision::Accept => {
            let before = known.map_or(created, |row| row.created);
            let row = KnownRow::of(&release, card, arrived);
            Some(Kept {
                row: KnownRow {
                    created: row.created.min(created).min(before),
                    ..row
                },
                id,
                old,
            })
        }
        Decision::Same
        | Decision::Fork
        | Decision::Older { .. }
        | Decision::JumpTooLarge
        | Decision::NotYetIssued
        | Decision::OtherRepo => None,
    })
}
