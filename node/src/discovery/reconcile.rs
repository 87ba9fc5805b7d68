//! Finding out what of two sets the other lacks, in bytes that grow with the difference and not with the sets.
//!
//! The *opener* asks about ranges of the ordered items, newest first: by a fingerprint of what it has there, or, where that is little,
//! by a mark for each item. The *answerer* says: the same; not the same, and these are my parts; these are mine that you lack, and those of
//! yours I lack. The opener goes on with the parts that differ. It alone remembers what is still open; the answerer keeps only its snapshot,
//! the key, and how much it did. An answer may end early: what was not answered is asked again, so nothing is lost
//! where a message is full, and what is newest is known first.
//!
//! Messages are bytes for somebody else to send, in turns: [`Opener::new`] makes the first, each [`Answerer::take`] answers one, each
//! [`Opener::take`] tells what it found and makes the next. Whatever the other side sends, neither panics, holds more than is said
//! here, or goes on for ever. The bytes are described in the protocol's README under "Reconciliation".

mod answerer;
mod fingerprint;
mod message;
mod opener;
mod parts;
#[cfg(test)]
mod tests;

pub(crate) use answerer::Answerer;
pub(crate) use message::MESSAGE_LEN_MAX;
pub(crate) use opener::{Next, Opener};

use super::set::Snapshot;

/// Most asks of a session: ten times what 10,000 differences in 2.4 million items take, and enough to tell who has none of a million.
pub(crate) const ROUNDS_MAX: u32 = 64;

/// How often a side goes over its whole set in a session, at most: 0.6 s of one core for 2.4 million items. 200,000 differences all over
/// such a set are found within that.
const PASSES_MAX: u64 = 16;

/// Items gone over that everybody gets, however small the set is: 60 ms of one core.
const WORK_MIN: u64 = 4_000_000;

/// What finding the place of a range costs, in items gone over.
const PLACE_WORK: u64 = 32;

/// Why a session ends before its time. But for [`ReconcileError::Work`] and [`ReconcileError::Ended`] it is the other side's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// It speaks another version.
    #[error("the peer reconciles in version {0}, not in version 1")]
    Version(u8),
    /// The message is longer than [`MESSAGE_LEN_MAX`].
    #[error("the message has {len} bytes, more than {MESSAGE_LEN_MAX}")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
    /// The message ends within something.
    #[error("the message ends too early")]
    Short,
    /// Something follows where nothing may.
    #[error("the message goes on past its end")]
    Long,
    /// A number is not in its shortest form, or too large for its place.
    #[error("the message has a number that is not in its shortest form or too large")]
    Number,
    /// A bound is longer than an id, or ends with 0.
    #[error("the message has a bound that is not in its shortest form")]
    Bound,
    /// A range or item does not come before the one above it.
    #[error("the message has ranges or items that do not descend")]
    Order,
    /// A bound or item is not in the range that it is about.
    #[error("the message has something outside the range asked about")]
    Outside,
    /// A byte says something that has no meaning there.
    #[error("the message has an unknown kind {0:#04x}")]
    Kind(u8),
    /// An ask without a question, or a tell without an answer.
    #[error("the message says nothing")]
    Silent,
    /// A tell answers what was not asked.
    #[error("the answer is not to the question")]
    Unasked,
    /// An item is told as missing here that was listed, or is here.
    #[error("the message tells of an item that it was told of")]
    Known,
    /// More than [`ROUNDS_MAX`] asks.
    #[error("more than {ROUNDS_MAX} asks in one session; open another one")]
    Rounds,
    /// What is asked takes more than [`PASSES_MAX`] passes over the set.
    #[error("the session takes more than {PASSES_MAX} passes over the set; open another one")]
    Work,
    /// It has ended, well or not.
    #[error("the session has ended")]
    Ended,
}

/// What a side may still do in a session, in items gone over.
struct Work(u64);

impl Work {
    fn new(set: &Snapshot) -> Work {
        Work((set.len() as u64).saturating_mul(PASSES_MAX).max(WORK_MIN))
    }

    /// # Errors
    /// [`ReconcileError::Work`]: it is more than is left.
    fn spend(&mut self, items: u64) -> Result<(), ReconcileError> {
        self.0 = self.0.checked_sub(items).ok_or(ReconcileError::Work)?;
        Ok(())
    }
}
