//! Releases that travel with the summaries of their cards.

use serde::{Deserialize, Serialize};

use super::bounded;
use crate::card::{CardError, Summary};
use crate::limits::{CARD_LEN_MAX, FRAME_LEN_MAX, IDS_MAX, RELEASE_LEN_MAX};
use crate::release::{ReleaseError, SignedRelease};

/// Most bytes of a message around its entries: the number of its variant and the count of the entries.
const AROUND_LEN: usize = 1 + 2;

/// Most bytes around the release and the card of one entry: two lengths of up to two bytes, and whether there is a card.
const AROUND_ONE_LEN: usize = 2 + 1 + 2;

/// A release and the summary of its card, as they travel: for their receiver to verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The encoding of a signed release: at most [`RELEASE_LEN_MAX`] bytes.
    #[serde(deserialize_with = "bounded::at_most::<RELEASE_LEN_MAX, _, _>")]
    pub release: Vec<u8>,
    /// The encoding of the summary that the release names: at most [`CARD_LEN_MAX`] bytes. None, if it names none or the teller does not have it.
    #[serde(deserialize_with = "bounded::option_at_most::<CARD_LEN_MAX, _>")]
    pub card: Option<Vec<u8>>,
}

/// Why what a peer told is no known release.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// The release is none.
    #[error("told release is none")]
    Release(#[from] ReleaseError),
    /// The summary is none, or another than the release names.
    #[error("summary told with a release is not its own")]
    Card(#[from] CardError),
}

impl Known {
    /// Takes as many entries, from the first on, as fit into one frame and one message; the rest is left out.
    pub fn fitting(all: impl IntoIterator<Item = Known>) -> Vec<Known> {
        let mut room = FRAME_LEN_MAX.saturating_sub(AROUND_LEN);
        let fits = |known: &Known| match room.checked_sub(known.len_max()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        all.into_iter().take(IDS_MAX).take_while(fits).collect()
    }

    /// Verifies the release, and that the summary is the one that it names.
    ///
    /// # Errors
    /// Both variants of [`KnownError`]: whoever told it is at fault. That there is no summary although the release names one is no error.
    pub fn verify(&self) -> Result<(SignedRelease, Option<Summary>), KnownError> {
        let signed = SignedRelease::decode(&self.release)?;
        let summary = match &self.card {
            Some(card) => Some(Summary::decode_of(signed.release(), card)?),
            None => None,
        };
        Ok((signed, summary))
    }

    /// Bytes that the entry takes in a message, or a few more.
    fn len_max(&self) -> usize {
        let card = self.card.as_ref().map_or(0, Vec::len);
        self.release
            .len()
            .saturating_add(card)
            .saturating_add(AROUND_ONE_LEN)
    }
}
