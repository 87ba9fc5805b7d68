//! What is wanted and not here yet, and what of it comes next: the rarest first, and what failed after a pause. Pure: it is told the time, and
//! does nothing itself.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::{Hash, RepoId};

/// Repos of which it is known how rare they are, before the rarest of them is chosen: each costs a walk through the DHT.
pub(crate) const POOL: usize = 64;
/// Lookups at once.
pub(crate) const LOOKS_MAX: usize = 4;
/// How long what a lookup found is believed.
const LOOK_LASTS: Duration = Duration::from_secs(30 * 60);
/// Pause after a first failure; each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(15);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// One revision that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Under which name.
    pub(crate) repo: RepoId,
    /// The revision.
    pub(crate) manifest: Hash,
    /// The number of its release.
    pub(crate) seq: u64,
    /// When that was signed, in Unix seconds by the publisher's clock.
    pub(crate) issued: u64,
}

/// What is being done about one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Looking,
    Bringing,
}

#[derive(Debug)]
struct Row {
    wanted: Wanted,
    doing: Doing,
    /// How many have it, as far as they were counted, and when that was found.
    providers: Option<(usize, Instant)>,
    /// Not before this.
    due: Instant,
    failures: u32,
    /// Whether something else has to change before it may come.
    refused: bool,
}

impl Row {
    fn counted(&self, now: Instant) -> Option<usize> {
        let (count, at) = self.providers?;
        (now.saturating_duration_since(at) < LOOK_LASTS).then_some(count)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.doing == Doing::Nothing && self.due <= now
    }
}

/// What is wanted.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    rows: BTreeMap<RepoId, Row>,
}

impl Queue {
    /// Wants these and nothing else from now on; what is known of those that were wanted before stays. Returns the names of those that are
    /// being brought and not wanted any more: their work is to end, and they may be begun anew.
    pub(crate) fn want(&mut self, all: Vec<Wanted>, now: Instant) -> Vec<RepoId> {
        let mut before = std::mem::take(&mut self.rows);
        let mut ended = Vec::new();
        for wanted in all {
            let row = before.remove(&wanted.repo);
            let row = match row {
                Some(row) if row.wanted.manifest == wanted.manifest => Row { wanted, ..row },
                other => {
                    ended.extend(other.filter(|row| row.doing != Doing::Nothing));
                    Row {
                        wanted,
                        doing: Doing::Nothing,
                        providers: None,
                        due: now,
                        failures: 0,
                        refused: false,
                    }
                }
            };
            self.rows.insert(row.wanted.repo.clone(), row);
        }
        let gone = before.into_values().filter(|row| row.doing != Doing::Nothing);
        ended.extend(gone);
        ended.into_iter().map(|row| row.wanted.repo).collect()
    }

    /// The next one to look up in the DHT, the newest first. `None`: enough are being looked up, or are known.
    pub(crate) fn look(&mut self, now: Instant) -> Option<Wanted> {
        let looking = self.looking();
        let known = self.rows.values().filter(|row| row.is_due(now));
        let known = known.filter(|row| row.counted(now).is_some()).count();
        if looking >= LOOKS_MAX || known + looking >= POOL {
            return None;
        }
        let unknown = self.rows.values_mut();
        let unknown = unknown.filter(|row| row.is_due(now) && row.counted(now).is_none());
        let row = unknown.max_by(|one, other| {
            let newness = |row: &Row| row.wanted.issued;
            let by_name = || other.wanted.repo.cmp(&one.wanted.repo);
            newness(one).cmp(&newness(other)).then_with(by_name)
        })?;
        row.doing = Doing::Looking;
        Some(row.wanted.clone())
    }

    /// A lookup has ended: so many nodes say that they have it.
    pub(crate) fn looked(&mut self, wanted: &Wanted, providers: usize, now: Instant) {
        if let Some(row) = self.row(wanted) {
            row.doing = Doing::Nothing;
            row.providers = Some((providers, now));
        }
    }

    /// The next one to bring: the rarest that anybody has, among those of one rareness the newest. What nobody says to have comes last: somebody
    /// may have it all the same. `None`: nothing is due, or it is not known yet which is the rarest.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Wanted> {
        if self.looking() > 0 {
            return None;
        }
        let due = self.rows.values_mut().filter(|row| row.is_due(now));
        let counted = due.filter_map(|row| Some((row.counted(now)?, row)));
        let (_, row) = counted.min_by(|(count, row), (other_count, other)| {
            let order = |count: &usize, row: &Row| (*count == 0, *count, Reverse(row.wanted.issued));
            let by_name = || row.wanted.repo.cmp(&other.wanted.repo);
            order(count, row)
                .cmp(&order(other_count, other))
                .then_with(by_name)
        })?;
        row.doing = Doing::Bringing;
        Some(row.wanted.clone())
    }

    /// Whether exactly this revision is wanted.
    pub(crate) fn wants(&self, wanted: &Wanted) -> bool {
        let row = self.rows.get(&wanted.repo);
        row.is_some_and(|row| row.wanted.manifest == wanted.manifest)
    }

    /// It is here, or not wanted any more.
    pub(crate) fn done(&mut self, wanted: &Wanted) {
        if self.row(wanted).is_some() {
            self.rows.remove(&wanted.repo);
        }
    }

    /// It did not come: it is tried again after a pause that grows. `spread` is from 0 to 1 and drawn anew each time, so that not all mirrors
    /// come back at once.
    pub(crate) fn failed(&mut self, wanted: &Wanted, spread: f64, now: Instant) {
        if let Some(row) = self.row(wanted) {
            let pause = PAUSE_FIRST
                .saturating_mul(1 << row.failures.min(16))
                .min(PAUSE_MAX);
            row.failures = row.failures.saturating_add(1);
            row.put_off(pause, spread, now);
        }
    }

    /// The work on a name ended without a word.
    pub(crate) fn broke(&mut self, repo: &RepoId, spread: f64, now: Instant) {
        if let Some(row) = self.rows.get_mut(repo) {
            row.put_off(PAUSE_MAX, spread, now);
        }
    }

    /// It does not fit, or is not as it should be: it is tried again after the longest pause, or when something changed.
    pub(crate) fn refused(&mut self, wanted: &Wanted, spread: f64, now: Instant) {
        if let Some(row) = self.row(wanted) {
            row.put_off(PAUSE_MAX, spread, now);
            row.refused = true;
        }
    }

    /// There is more room, or the terms are others: what was refused is tried again.
    pub(crate) fn reconsider(&mut self, now: Instant) {
        for row in self.rows.values_mut().filter(|row| row.refused) {
            row.due = row.due.min(now);
            row.refused = false;
        }
    }

    /// When the next one is due after `now`. `None`: none is.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let idle = self.rows.values().filter(|row| row.doing == Doing::Nothing);
        idle.map(|row| row.due).filter(|due| *due > now).min()
    }

    fn looking(&self) -> usize {
        let rows = self.rows.values();
        rows.filter(|row| row.doing == Doing::Looking).count()
    }

    /// The row of exactly this revision.
    fn row(&mut self, wanted: &Wanted) -> Option<&mut Row> {
        let row = self.rows.get_mut(&wanted.repo)?;
        (row.wanted.manifest == wanted.manifest).then_some(row)
    }
}

impl Row {
    fn put_off(&mut self, pause: Duration, spread: f64, now: Instant) {
        self.doing = Doing::Nothing;
        self.providers = None;
        self.due = now + pause.mul_f64(1.0 + 0.3 * spread.clamp(0.0, 1.0));
    }
}

#[cfg(test)]
mod tests;
