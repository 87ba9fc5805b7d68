//! The denylist: the file `denylist.json` in a repo of moderation. Who follows such a repo keeps away from what the list names.
//!
//! That the repo's releases are signed, numbered and ratcheted makes the list all that too; the file itself has no signature. What a list says
//! and we cannot do is refused as a whole, so that no list looks obeyed that is not.

mod denied;
mod error;
mod read;

use serde::Serialize;

pub use denied::{Denied, DeniedError};
pub use error::DenylistError;

use crate::json;
use crate::limits::{DENIAL_REASON_LEN_MAX, DENIALS_MAX, DENYLIST_LEN_MAX, RELEASE_NUMBER_MAX, VERSION};
use crate::text;

/// The path of the list in its repo.
pub const DENYLIST_FILE: &str = "denylist.json";

/// What somebody thinks should be neither announced nor served nor shown. Checked when made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denylist {
    entries: Vec<Denial>,
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What is denied.
    pub what: Denied,
    /// Why, in words for people: 1 to [`DENIAL_REASON_LEN_MAX`] bytes on one line.
    pub reason: String,
    /// When the list's keeper decided it, in Unix seconds: for people. The entry counts as soon as it is read.
    pub since: u64,
    /// When it ends, in Unix seconds; never, if there is none.
    pub expires: Option<u64>,
}

/// The list as it is written.
#[derive(Serialize)]
struct Written<'a> {
    deny: Vec<WrittenDenial<'a>>,
    shoal: u64,
}

/// An entry as it is written. Fields in the order of their names.
#[derive(Serialize)]
struct WrittenDenial<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    reason: &'a str,
    since: u64,
    what: String,
}

impl Denylist {
    /// Checks the entries of a list.
    ///
    /// # Errors
    /// [`DenylistError::TooMany`], [`DenylistError::ReasonLength`], [`DenylistError::Reason`] and [`DenylistError::Time`].
    pub fn new(entries: Vec<Denial>) -> Result<Denylist, DenylistError> {
        if entries.len() > DENIALS_MAX {
            return Err(DenylistError::TooMany { max: DENIALS_MAX });
        }
        for (denial, number) in entries.iter().zip(1..) {
            denial.check(number)?;
        }
        Ok(Denylist { entries })
    }

    /// Reads a list: any JSON of the right content, written by hand or by a program.
    ///
    /// # Errors
    /// Every variant of [`DenylistError`]: the first that holds, with the number of its entry.
    pub fn decode(bytes: &[u8]) -> Result<Denylist, DenylistError> {
        check_len(bytes.len())?;
        read::entries(bytes).and_then(Denylist::new)
    }

    /// Encodes the list as canonical JSON.
    ///
    /// # Errors
    /// [`DenylistError::TooLong`]: its entries are too long together.
    pub fn encode(&self) -> Result<Vec<u8>, DenylistError> {
        let deny = self.entries.iter().map(WrittenDenial::of).collect();
        let bytes = json::encode(&Written { deny, shoal: VERSION });
        check_len(bytes.len())?;
        Ok(bytes)
    }

    /// The entries, in the list's order. The same thing may be denied more than once: it is denied as long as one entry is in force.
    pub fn entries(&self) -> &[Denial] {
        &self.entries
    }
}

impl Denial {
    /// Whether it counts at `now`, in Unix seconds.
    pub fn in_force(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn check(&self, number: usize) -> Result<(), DenylistError> {
        let (len, max) = (self.reason.len(), DENIAL_REASON_LEN_MAX);
        if len == 0 || len > max {
            return Err(DenylistError::ReasonLength { number, len, max });
        }
        let wrong = |source| DenylistError::Reason { number, source };
        text::check(&self.reason).map_err(wrong)?;
        let time = |field, found: u64, min: u64| match (min..=RELEASE_NUMBER_MAX).contains(&found) {
            true => Ok(()),
            false => Err(DenylistError::Time { number, field, found }),
        };
        time("since", self.since, 0)?;
        let after = self.since.saturating_add(1);
        self.expires
            .map_or(Ok(()), |expires| time("expires", expires, after))
    }
}

impl WrittenDenial<'_> {
    fn of(denial: &Denial) -> WrittenDenial<'_> {
        WrittenDenial {
            expires: denial.expires,
            reason: &denial.reason,
            since: denial.since,
            what: denial.what.to_string(),
        }
    }
}

fn check_len(len: usize) -> Result<(), DenylistError> {
    let max = DENYLIST_LEN_MAX;
    if len > max {
        return Err(DenylistError::TooLong { len, max });
    }
    Ok(())
}
