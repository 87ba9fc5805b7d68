//! The side that answers.

use super::{
    super::set::Snapshot,
    PLACE_WORK, ROUNDS_MAX, ReconcileError, Work,
    fingerprint::{Fingerprint, Mark, Nonce, SessionKey},
    message::{
        ANSWER_LEN_MAX, BOUND_LEN_MAX, Edge, FEW_MAX, LISTED_MAX, Reader, VARINT_LEN_MAX, VERSION, Writer,
        answer, end, question,
    },
    parts::{parts, rank, whole},
};
use std::ops::Range;

/// What one session needs here: the snapshot, the key, and how much was done.
pub(crate) struct Answerer {
    set: Snapshot,
    nonce: Nonce,
    /// `None` until the greeting.
    key: Option<SessionKey>,
    rounds: u32,
    work: Work,
    ended: bool,
}

impl Answerer {
    /// Begins a session. `nonce` is drawn at random after the snapshot was taken, and never used again.
    pub(crate) fn new(set: Snapshot, nonce: Nonce) -> Answerer {
        let work = Work::new(&set);
        Answerer {
            set,
            nonce,
            key: None,
            rounds: 0,
            work,
            ended: false,
        }
    }

    /// Answers a message, by one of at most `MESSAGE_LEN_MAX` bytes.
    ///
    /// # Errors
    /// Every [`ReconcileError`] about a message, and [`ReconcileError::Rounds`] and [`ReconcileError::Work`] for who asks too much. The session
    /// is over then: further messages get [`ReconcileError::Ended`].
    pub(crate) fn take(&mut self, message: &[u8]) -> Result<Vec<u8>, ReconcileError> {
        if self.ended {
            return Err(ReconcileError::Ended);
        }
        let reply = self.reply(message);
        self.ended = reply.is_err();
        reply
    }

    fn reply(&mut self, message: &[u8]) -> Result<Vec<u8>, ReconcileError> {
        let Some(key) = &self.key else {
            return self.greet(message);
        };
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(ReconcileError::Rounds);
        }
        // All of it is read before anything is computed: who sends nonsense costs no more than to read it.
        let mut questions = Questions::new(message)?;
        while questions.next()?.is_some() {}
        questions = Questions::new(message)?;
        let mut tell = Tell {
            set: &self.set,
            key,
            writer: Writer::new(),
            same: 0,
        };
        let mut above: Option<(Edge, usize)> = None;
        while let Some(question) = questions.next()? {
            if !tell.writer.has_room(ANSWER_LEN_MAX + 1) {
                break;
            }
            self.work.spend(PLACE_WORK)?;
            let end = match above {
                Some((edge, rank)) if edge == question.high => rank,
                _ => rank(&self.set, &question.high),
            };
            let range = rank(&self.set, &question.low)..end;
            above = Some((question.low, range.start));
            match question.asks {
                Asks::Fingerprint(print) => {
                    self.work.spend(range.len() as u64)?;
                    tell.compare(&question.low, &question.high, range, print);
                }
                Asks::List(marks, count) => {
                    let (settled, all) = tell.differ(&question.high, range, &marks[..count]);
                    self.work.spend(settled as u64)?;
                    if !all {
                        break;
                    }
                }
            }
        }
        tell.flush();
        Ok(tell.writer.bytes)
    }

    fn greet(&mut self, message: &[u8]) -> Result<Vec<u8>, ReconcileError> {
        let mut reader = Reader::new(message)?;
        let version = reader.byte()?;
        if version != VERSION {
            return Err(ReconcileError::Version(version));
        }
        let opener = reader.nonce()?;
        if !reader.is_empty() {
            return Err(ReconcileError::Long);
        }
        self.key = Some(SessionKey::new(&opener, &self.nonce));
        let mut writer = Writer::new();
        writer.bytes.push(VERSION);
        writer.bytes.extend_from_slice(&self.nonce);
        writer.varint(self.set.floor());
        Ok(writer.bytes)
    }
}

/// One range asked about.
pub(super) struct Question {
    pub(super) low: Edge,
    pub(super) high: Edge,
    pub(super) asks: Asks,
}

/// What is asked about a range.
pub(super) enum Asks {
    Fingerprint(Fingerprint),
    /// Marks, and how many of them count.
    List([Mark; LISTED_MAX], usize),
}

/// Reads the questions of an ask one by one: nothing is kept of them.
pub(super) struct Questions<'a> {
    reader: Reader<'a>,
    high: Edge,
    /// Whether the range before was skipped; `None` at the beginning.
    skipped: Option<bool>,
}

impl<'a> Questions<'a> {
    pub(super) fn new(message: &'a [u8]) -> Result<Questions<'a>, ReconcileError> {
        Ok(Questions {
            reader: Reader::new(message)?,
            high: end(),
            skipped: None,
        })
    }

    /// The next question; `None` at the end, which may not come first or after a skipped range.
    pub(super) fn next(&mut self) -> Result<Option<Question>, ReconcileError> {
        loop {
            if self.reader.is_empty() {
                return if self.skipped == Some(false) {
                    Ok(None)
                } else {
                    Err(ReconcileError::Silent)
                };
            }
            let high = self.high;
            let (low, kind) = self.reader.edge(&high)?;
            self.high = low;
            let asks = match kind {
                question::SKIP if self.skipped == Some(true) => return Err(ReconcileError::Kind(kind)),
                question::SKIP => {
                    self.skipped = Some(true);
                    continue;
                }
                question::FINGERPRINT => Asks::Fingerprint(self.reader.fingerprint()?),
                question::LIST => {
                    let count = usize::from(self.reader.byte()?);
                    let mut marks = [0; LISTED_MAX];
                    for mark in marks.get_mut(..count).ok_or(ReconcileError::Number)? {
                        *mark = self.reader.mark()?;
                    }
                    Asks::List(marks, count)
                }
                kind => return Err(ReconcileError::Kind(kind)),
            };
            self.skipped = Some(false);
            return Ok(Some(Question { low, high, asks }));
        }
    }
}

/// An answer being written.
struct Tell<'a> {
    set: &'a Snapshot,
    key: &'a SessionKey,
    writer: Writer,
    /// Questions to answer with "the same" that are not written yet: at most `SAME_MAX`.
    same: usize,
}

impl Tell<'_> {
    fn compare(&mut self, low: &Edge, high: &Edge, range: Range<usize>, theirs: Fingerprint) {
        let parts = parts(self.key, self.set, *low, range.clone());
        if self.key.fingerprint(whole(&parts)) == theirs {
            self.same += 1;
            if self.same == answer::SAME_MAX {
                self.flush();
            }
            return;
        }
        self.flush();
        self.writer.at = high.issued;
        if range.len() <= FEW_MAX {
            self.head(answer::FEW, range.len());
            for item in self.set.range(range).rev() {
                self.writer.item(&item);
            }
        } else if range.len() <= LISTED_MAX {
            self.head(answer::SPLIT, 0);
        } else {
            self.head(answer::SPLIT, parts.len());
            for (at, part) in parts.iter().enumerate() {
                if at + 1 < parts.len() {
                    self.writer.edge(&part.low, 0);
                }
                let print = self.key.fingerprint(part.fold);
                self.writer.bytes.extend_from_slice(&print);
            }
        }
    }

    /// Tells which of the marks are those of items in the range, and what else is there, as far as there is room; returns how many items
    /// that settled, and whether it was all.
    fn differ(&mut self, high: &Edge, range: Range<usize>, marks: &[Mark]) -> (usize, bool) {
        self.flush();
        let mut bits = [0u8; LISTED_MAX.div_ceil(8)];
        let mut count = 0;
        // What is written after the items are known, at its longest.
        let mut room = Writer {
            bytes: Vec::new(),
            at: high.issued,
        };
        let head_len = 1 + bits.len() + VARINT_LEN_MAX;
        let mut all = true;
        let mut settled = 0;
        for item in self.set.range(range).rev() {
            let mark = self.key.mark(&item);
            match marks.iter().position(|listed| *listed == mark) {
                Some(at) => bits[at / 8] |= 1 << (at % 8),
                None => {
                    if !self.writer.has_room(head_len + room.bytes.len() + BOUND_LEN_MAX) {
                        all = false;
                        break;
                    }
                    room.item(&item);
                    count += 1;
                }
            }
            settled += 1;
        }
        self.head(answer::DIFFERENCE, usize::from(!all));
        self.writer
            .bytes
            .extend_from_slice(&bits[..marks.len().div_ceil(8)]);
        self.writer.varint(count);
        self.writer.bytes.extend_from_slice(&room.bytes);
        (settled, all)
    }

    /// Writes the first byte of an answer.
    fn head(&mut self, kind: u8, count: usize) {
        self.writer.bytes.push((count as u8) << 2 | kind);
    }

    /// Writes that some ranges are the same.
    fn flush(&mut self) {
        if let Some(more) = self.same.checked_sub(1) {
            self.head(answer::SAME, more);
            self.same = 0;
        }
    }
}
