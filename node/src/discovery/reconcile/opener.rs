//! The side that asks, and learns what differs.

use super::{
    super::set::{Item, Snapshot},
    PLACE_WORK, ROUNDS_MAX, ReconcileError, Work,
    fingerprint::{Fingerprint, Nonce, SessionKey},
    message::{
        Edge, FEW_MAX, LISTED_MAX, PARTS_MAX, QUESTION_LEN_MAX, Reader, VERSION, Writer, answer, end,
        question, start,
    },
    parts::{parts, ranks, whole},
};
use protocol::limits::RELEASE_NUMBER_MAX;
use std::ops::Range;

/// Ranges that wait to be asked about, at most: 15 MB. What is past that is the oldest, and left for another session.
const WAITING_MAX: usize = 128 * 1024;

/// What one session needs here: the snapshot, the key, and the ranges that are not settled yet.
pub(crate) struct Opener {
    set: Snapshot,
    nonce: Nonce,
    /// `None` until the answerer's greeting.
    key: Option<SessionKey>,
    /// To be asked about, the newest last.
    waiting: Vec<Open>,
    /// Asked about in the last message, the newest first.
    asked: Vec<Open>,
    rounds: u32,
    work: Work,
    /// Whether older ranges were given up, for want of room.
    gave_up: bool,
    ended: bool,
}

/// A range that is not settled.
struct Open {
    low: Edge,
    high: Edge,
    /// Our items in it.
    ranks: Range<usize>,
    /// Our fingerprint; `None`: they are to be listed.
    print: Option<Fingerprint>,
}

/// What a message told.
pub(crate) struct Step {
    /// What the answerer has and the opener lacks; the newest first.
    pub(crate) need: Vec<Item>,
    /// What the opener has and the answerer lacks.
    pub(crate) have: Have,
    /// What to do now.
    pub(crate) next: Next,
}

/// How a session goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this, and take the answer.
    Ask(Vec<u8>),
    /// Nothing: every difference was told.
    Done,
    /// Nothing: some of what is older was not compared. Get what was told; then another session finds the rest.
    Cut,
}

/// Items of a snapshot, kept as ranges: they may be millions.
pub(crate) struct Have {
    set: Snapshot,
    ranges: Vec<Range<usize>>,
}

impl Have {
    /// How many items there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether there are no items.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the items, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Item> {
        self.ranges
            .iter()
            .flat_map(|range| self.set.range(range.clone()).rev())
    }

    /// Adds ranks below all that are there.
    fn add(&mut self, ranks: Range<usize>) {
        match self.ranges.last_mut() {
            _ if ranks.is_empty() => {}
            Some(last) if last.start == ranks.end => last.start = ranks.start,
            _ => self.ranges.push(ranks),
        }
    }
}

impl Opener {
    /// Begins a session; returns it and the first message. `nonce` is drawn at random after the snapshot was taken, and never used again.
    pub(crate) fn new(set: Snapshot, nonce: Nonce) -> (Opener, Vec<u8>) {
        let first = [&[VERSION], nonce.as_slice()].concat();
        let opener = Opener {
            work: Work::new(&set),
            set,
            nonce,
            key: None,
            waiting: Vec::new(),
            asked: Vec::new(),
            rounds: 0,
            gave_up: false,
            ended: false,
        };
        (opener, first)
    }

    /// Takes the answer to the last message.
    ///
    /// # Errors
    /// Every [`ReconcileError`] about a message. The session is over then, as it is after [`Next::Done`] and [`Next::Cut`]: further messages get
    /// [`ReconcileError::Ended`]. What was told before holds.
    pub(crate) fn take(&mut self, message: &[u8]) -> Result<Step, ReconcileError> {
        if self.ended {
            return Err(ReconcileError::Ended);
        }
        let step = self.step(message);
        self.ended = !matches!(
            &step,
            Ok(Step {
                next: Next::Ask(_),
                ..
            })
        );
        step
    }

    fn step(&mut self, message: &[u8]) -> Result<Step, ReconcileError> {
        let have = Have {
            set: self.set.clone(),
            ranges: Vec::new(),
        };
        let mut found = Found {
            need: Vec::new(),
            have,
            open: Vec::new(),
        };
        match self.key.take() {
            None => self.key = Some(self.greeted(message, &mut found)?),
            Some(key) => {
                self.told(&key, message, &mut found)?;
                self.key = Some(key);
            }
        }
        self.waiting.extend(found.open.into_iter().rev());
        if let Some(over) = self
            .waiting
            .len()
            .checked_sub(WAITING_MAX)
            .filter(|over| *over > 0)
        {
            self.waiting.drain(..over);
            self.gave_up = true;
        }
        let next = if self.waiting.is_empty() {
            if self.gave_up { Next::Cut } else { Next::Done }
        } else if self.rounds == ROUNDS_MAX {
            Next::Cut
        } else {
            self.rounds += 1;
            Next::Ask(self.ask())
        };
        Ok(Step {
            need: found.need,
            have: found.have,
            next,
        })
    }

    fn greeted(&mut self, message: &[u8], found: &mut Found) -> Result<SessionKey, ReconcileError> {
        let mut reader = Reader::new(message)?;
        let version = reader.byte()?;
        if version != VERSION {
            return Err(ReconcileError::Version(version));
        }
        let answerer = reader.nonce()?;
        let floor = reader.varint()?;
        if floor > RELEASE_NUMBER_MAX {
            return Err(ReconcileError::Number);
        }
        if !reader.is_empty() {
            return Err(ReconcileError::Long);
        }
        let key = SessionKey::new(&self.nonce, &answerer);
        let (low, high) = (start(floor.max(self.set.floor())), end());
        let ranks = ranks(&self.set, &low, &high);
        if ranks.len() <= LISTED_MAX {
            found.open.push(Open {
                low,
                high,
                ranks,
                print: None,
            });
        } else {
            self.work.spend(ranks.len() as u64)?;
            found.split(&key, low, high, parts(&key, &self.set, low, ranks));
        }
        Ok(key)
    }

    /// Reads a tell against what was asked. What it leaves unanswered waits again, unchanged.
    fn told(&mut self, key: &SessionKey, message: &[u8], found: &mut Found) -> Result<(), ReconcileError> {
        let mut reader = Reader::new(message)?;
        let asked = std::mem::take(&mut self.asked);
        let mut asked = asked.into_iter();
        if reader.is_empty() {
            return Err(ReconcileError::Silent);
        }
        while !reader.is_empty() {
            let head = reader.byte()?;
            let (kind, count) = (head & 3, usize::from(head >> 2));
            let open = asked.next().ok_or(ReconcileError::Unasked)?;
            reader.at = open.high.issued;
            match (kind, &open.print) {
                (answer::SAME, Some(_)) => {
                    for _ in 0..count {
                        let open = asked.next().ok_or(ReconcileError::Unasked)?;
                        open.print.ok_or(ReconcileError::Unasked)?;
                    }
                }
                (answer::SPLIT, Some(_)) => self.split(key, &open, count, &mut reader, found)?,
                (answer::FEW, Some(_)) if count <= FEW_MAX => self.few(&open, count, &mut reader, found)?,
                (answer::DIFFERENCE, None) if count <= 1 => {
                    let rest = self.difference(&open, count == 1, &mut reader, found)?;
                    if let Some(rest) = rest {
                        if !reader.is_empty() {
                            return Err(ReconcileError::Long);
                        }
                        found.open.push(rest);
                    }
                }
                (answer::SPLIT | answer::FEW, None)
                | (answer::SAME, None)
                | (answer::DIFFERENCE, Some(_)) => {
                    return Err(ReconcileError::Unasked);
                }
                _ => return Err(ReconcileError::Kind(head)),
            }
        }
        self.waiting.extend(asked.rev());
        Ok(())
    }

    /// The range is not the same: its parts are compared, and where they differ, ours are asked about.
    fn split(
        &mut self,
        key: &SessionKey,
        open: &Open,
        count: usize,
        reader: &mut Reader<'_>,
        found: &mut Found,
    ) -> Result<(), ReconcileError> {
        if count == 1 || count > PARTS_MAX {
            return Err(ReconcileError::Number);
        }
        let mut high = open.high;
        for left in (0..count.max(1)).rev() {
            let low = if left == 0 {
                open.low
            } else {
                let (low, bits) = reader.edge(&high)?;
                if bits != 0 {
                    return Err(ReconcileError::Kind(bits));
                }
                if low <= open.low {
                    return Err(ReconcileError::Outside);
                }
                low
            };
            let theirs = if count == 0 {
                None
            } else {
                Some(reader.fingerprint()?)
            };
            let ranks = ranks(&self.set, &low, &high);
            self.work.spend(PLACE_WORK + ranks.len() as u64)?;
            let ours = parts(key, &self.set, low, ranks.clone());
            if theirs != Some(key.fingerprint(whole(&ours))) {
                if ranks.len() <= LISTED_MAX {
                    found.open.push(Open {
                        low,
                        high,
                        ranks,
                        print: None,
                    });
                } else {
                    found.split(key, low, high, ours);
                }
            }
            high = low;
        }
        Ok(())
    }

    /// All that the answerer has in the range.
    fn few(
        &mut self,
        open: &Open,
        count: usize,
        reader: &mut Reader<'_>,
        found: &mut Found,
    ) -> Result<(), ReconcileError> {
        let mut high = open.high;
        let mut end = open.ranks.end;
        for _ in 0..count {
            let item = reader.item(&open.low, &high)?;
            high = item.into();
            let rank = self.set.rank(item.issued(), item.id());
            if self.set.get(rank) == Some(item) {
                found.have.add(rank + 1..end);
                end = rank;
            } else {
                found.need.push(item);
            }
        }
        found.have.add(open.ranks.start..end);
        Ok(())
    }

    /// What the answerer has beside what was listed, and what it lacks of that. Returns what remains of the range when it was cut.
    fn difference(
        &mut self,
        open: &Open,
        cut: bool,
        reader: &mut Reader<'_>,
        found: &mut Found,
    ) -> Result<Option<Open>, ReconcileError> {
        let listed = open.ranks.len();
        let bits = reader.take(listed.div_ceil(8))?;
        let there = |at: usize| bits[at / 8] >> (at % 8) & 1 == 1;
        if (listed..bits.len() * 8).any(there) {
            return Err(ReconcileError::Number);
        }
        let count = reader.varint()?;
        let mut high = open.high;
        for _ in 0..count {
            let item = reader.item(&open.low, &high)?;
            if self.set.contains(&item) {
                return Err(ReconcileError::Known);
            }
            high = item.into();
            found.need.push(item);
        }
        if cut && count == 0 {
            return Err(ReconcileError::Silent);
        }
        let low = if cut { high } else { open.low };
        let settled = ranks(&self.set, &low, &open.high);
        for (at, rank) in settled.rev().enumerate() {
            if !there(at) {
                found.have.add(rank..rank + 1);
            }
        }
        Ok(cut.then(|| {
            let ranks = ranks(&self.set, &open.low, &high);
            Open {
                low: open.low,
                high,
                ranks,
                print: None,
            }
        }))
    }

    /// Bytes that the ranges take that are not settled.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        (self.waiting.capacity() + self.asked.capacity()) * size_of::<Open>()
    }

    /// Writes questions about what waits, the newest first, as many as a message holds.
    fn ask(&mut self) -> Vec<u8> {
        let mut writer = Writer::new();
        let mut below = end();
        while writer.has_room(QUESTION_LEN_MAX) {
            let Some(open) = self.waiting.pop() else {
                break;
            };
            if open.high != below {
                writer.edge(&open.high, question::SKIP);
            }
            below = open.low;
            match &open.print {
                Some(print) => {
                    writer.edge(&open.low, question::FINGERPRINT);
                    writer.bytes.extend_from_slice(print);
                }
                None => {
                    writer.edge(&open.low, question::LIST);
                    writer.bytes.push(open.ranks.len() as u8);
                    if let Some(key) = &self.key {
                        for item in self.set.range(open.ranks.clone()).rev() {
                            writer.mark(key.mark(&item));
                        }
                    }
                }
            }
            self.asked.push(open);
        }
        writer.bytes
    }
}

/// What a message told, so far.
struct Found {
    need: Vec<Item>,
    have: Have,
    /// Ranges to ask about next, the newest first.
    open: Vec<Open>,
}

impl Found {
    /// Opens parts of our own. A single item is listed: its mark is no longer than a fingerprint, and the answer is final.
    fn split(&mut self, key: &SessionKey, low: Edge, high: Edge, parts: Vec<super::parts::Part>) {
        debug_assert!(parts.last().is_some_and(|last| last.low == low));
        let mut high = high;
        for part in parts {
            let print = (part.ranks.len() > 1).then(|| key.fingerprint(part.fold));
            self.open.push(Open {
                low: part.low,
                high,
                ranks: part.ranks,
                print,
            });
            high = part.low;
        }
    }
}
