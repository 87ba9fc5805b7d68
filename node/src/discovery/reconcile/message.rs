//! The bytes of the messages: numbers, bounds, and the ops of asks and tells.
//!
//! Ranges follow each other from the newest down. A range ends where the one before began, so only its lower bound is written.

use super::{
    super::set::{ID_LEN, Item},
    ReconcileError,
    fingerprint::{FINGERPRINT_LEN, Fingerprint, Mark, NONCE_LEN, Nonce},
};
use protocol::limits::RELEASE_NUMBER_MAX;

/// The version of these messages: the first byte of a greeting.
pub(super) const VERSION: u8 = 1;

/// Most bytes of a message: it fits into a frame of 1 MiB with room to spare.
pub(crate) const MESSAGE_LEN_MAX: usize = 512 * 1024;

/// Most items that are listed by their marks: fewer bytes than to split further.
pub(super) const LISTED_MAX: usize = 16;

/// Most parts of a split.
pub(super) const PARTS_MAX: usize = 16;

/// Most items told in full for a fingerprint: one takes no more bytes than to be asked for it.
pub(super) const FEW_MAX: usize = 1;

/// Most bytes of a bound or an item: a number, how many bytes follow, and those.
pub(super) const BOUND_LEN_MAX: usize = VARINT_LEN_MAX + 1 + ID_LEN;

/// Most bytes of one question.
pub(super) const QUESTION_LEN_MAX: usize = 2 * BOUND_LEN_MAX + 1 + LISTED_MAX * 8;

/// Most bytes of one answer, or of one that goes on no further than its first item.
pub(super) const ANSWER_LEN_MAX: usize = 1 + PARTS_MAX * (BOUND_LEN_MAX + FINGERPRINT_LEN);

/// Bytes of the longest number.
pub(super) const VARINT_LEN_MAX: usize = 10;

/// What a question asks about its range: the low two bits of the byte after its time.
pub(super) mod question {
    /// Nothing.
    pub(in super::super) const SKIP: u8 = 0;
    /// Do you have the same here?
    pub(in super::super) const FINGERPRINT: u8 = 1;
    /// What else do you have here, and which of these?
    pub(in super::super) const LIST: u8 = 2;
}

/// What an answer tells: the low two bits of its first byte.
pub(super) mod answer {
    /// The same, for 1 to 64 questions; the other six bits are one less.
    pub(in super::super) const SAME: u8 = 0;
    /// The parts of the range, as many as the other six bits say; none: it is not the same, and too little to split.
    pub(in super::super) const SPLIT: u8 = 1;
    /// All items of the range, as many as the other six bits say.
    pub(in super::super) const FEW: u8 = 2;
    /// Which of the listed are here, and what else is. The other six bits are 1 if the rest of the range is to be asked again.
    pub(in super::super) const DIFFERENCE: u8 = 3;
    /// Most questions that one byte answers with [`SAME`].
    pub(in super::super) const SAME_MAX: usize = 64;
}

/// Where the newest range ends: after every item.
pub(super) fn end() -> Edge {
    Edge {
        issued: RELEASE_NUMBER_MAX + 1,
        id: [0; ID_LEN],
    }
}

/// The lower bound of everything issued at `since` or later.
pub(super) fn start(since: u64) -> Edge {
    Edge {
        issued: since,
        id: [0; ID_LEN],
    }
}

/// Where a range begins or ends: before the first item that is not less. As a bound it may lie past all items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) issued: u64,
    pub(super) id: [u8; ID_LEN],
}

impl Edge {
    /// The shortest bound between two items that follow each other.
    pub(super) fn between(below: &Item, above: &Item) -> Edge {
        if below.issued() != above.issued() {
            return start(above.issued());
        }
        let shared = below.id().iter().zip(above.id()).take_while(|(a, b)| a == b);
        let kept = (shared.count() + 1).min(ID_LEN);
        let mut edge = start(above.issued());
        edge.id[..kept].copy_from_slice(&above.id()[..kept]);
        edge
    }
}

impl From<Item> for Edge {
    fn from(item: Item) -> Edge {
        Edge {
            issued: item.issued(),
            id: *item.id(),
        }
    }
}

/// Writes a message.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    /// The issue time that the next bound counts down from.
    pub(super) at: u64,
}

impl Writer {
    pub(super) fn new() -> Writer {
        Writer {
            bytes: Vec::new(),
            at: end().issued,
        }
    }

    /// Whether `len` more bytes may be written.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.bytes.len() + len <= MESSAGE_LEN_MAX
    }

    pub(super) fn varint(&mut self, number: u64) {
        let mut rest = number;
        while rest >= 0x80 {
            self.bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    fn time(&mut self, issued: u64) {
        self.varint(self.at.saturating_sub(issued));
        self.at = issued;
    }

    /// Writes a bound, and the kind of question that its range is for; without its last bytes that are 0.
    pub(super) fn edge(&mut self, edge: &Edge, kind: u8) {
        let len = ID_LEN - edge.id.iter().rev().take_while(|byte| **byte == 0).count();
        self.time(edge.issued);
        self.bytes.push((len as u8) << 2 | kind);
        self.bytes.extend_from_slice(&edge.id[..len]);
    }

    pub(super) fn item(&mut self, item: &Item) {
        self.time(item.issued());
        self.bytes.extend_from_slice(item.id());
    }

    pub(super) fn mark(&mut self, mark: Mark) {
        self.bytes.extend_from_slice(&mark.to_le_bytes());
    }
}

/// Reads a message. Each read checks lengths before anything else.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The issue time that the next bound counts down from.
    pub(super) at: u64,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// [`ReconcileError::TooLong`].
    pub(super) fn new(message: &'a [u8]) -> Result<Reader<'a>, ReconcileError> {
        let len = message.len();
        if len > MESSAGE_LEN_MAX {
            return Err(ReconcileError::TooLong { len });
        }
        Ok(Reader {
            rest: message,
            at: end().issued,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], ReconcileError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(ReconcileError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReconcileError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ReconcileError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ReconcileError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn nonce(&mut self) -> Result<Nonce, ReconcileError> {
        self.array::<NONCE_LEN>()
    }

    pub(super) fn fingerprint(&mut self) -> Result<Fingerprint, ReconcileError> {
        self.array::<FINGERPRINT_LEN>()
    }

    pub(super) fn mark(&mut self) -> Result<Mark, ReconcileError> {
        self.array().map(Mark::from_le_bytes)
    }

    /// Reads a number in its shortest form, of at most 64 bits.
    pub(super) fn varint(&mut self) -> Result<u64, ReconcileError> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(ReconcileError::Number);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(ReconcileError::Number)
                } else {
                    Ok(number)
                };
            }
        }
        Err(ReconcileError::Number)
    }

    fn time(&mut self) -> Result<u64, ReconcileError> {
        let down = self.varint()?;
        self.at = self.at.checked_sub(down).ok_or(ReconcileError::Order)?;
        Ok(self.at)
    }

    /// Reads a bound less than `above`, and the two bits beside it.
    pub(super) fn edge(&mut self, above: &Edge) -> Result<(Edge, u8), ReconcileError> {
        let mut edge = start(self.time()?);
        let byte = self.byte()?;
        let (len, kind) = (usize::from(byte >> 2), byte & 3);
        if len > ID_LEN {
            return Err(ReconcileError::Bound);
        }
        edge.id[..len].copy_from_slice(self.take(len)?);
        if len > 0 && edge.id[len - 1] == 0 {
            return Err(ReconcileError::Bound);
        }
        if edge >= *above {
            return Err(ReconcileError::Order);
        }
        Ok((edge, kind))
    }

    /// Reads an item at or above `low` and below `above`.
    pub(super) fn item(&mut self, low: &Edge, above: &Edge) -> Result<Item, ReconcileError> {
        let issued = self.time()?;
        let item = Item::new(issued, self.array()?).map_err(|_| ReconcileError::Order)?;
        if Edge::from(item) >= *above {
            return Err(ReconcileError::Order);
        }
        if Edge::from(item) < *low {
            return Err(ReconcileError::Outside);
        }
        Ok(item)
    }
}
