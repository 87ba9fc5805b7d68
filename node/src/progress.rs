//! How far a verb has come: the latest [`Snapshot`], for whoever looks. A verb writes, a door reads; nothing waits for
//! anybody, and an update allocates nothing.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// What a verb is doing at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing has been done yet.
    #[default]
    Starting,
    /// Files are read and hashed.
    Reading,
    /// Bytes are made durable.
    Storing,
    /// A name is turned into a manifest hash.
    Resolving,
    /// Providers are looked for.
    Finding,
    /// Bytes arrive from peers.
    Fetching,
    /// Stored bytes are verified.
    Checking,
    /// Files are handed out to a folder.
    HandingOut,
    /// The swarm is told.
    Announcing,
    /// A model is looked at, and asked.
    Validating,
    /// A model is read into memory.
    Loading,
}

/// How far a verb is, at one moment. Sizes in bytes; a total of 0 is not known yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub bytes: u64,
    /// Bytes to do in this phase.
    pub bytes_total: u64,
    /// Files done in this phase.
    pub files: u64,
    /// Files to do in this phase.
    pub files_total: u64,
    /// Peers at work for us.
    pub peers: u32,
    /// A word for the user, such as why nothing moves.
    pub note: Option<String>,
}

/// The writing end. The default one reports to nobody.
#[derive(Clone, Debug, Default)]
pub struct Progress(Option<watch::Sender<Snapshot>>);

impl Progress {
    /// Returns a progress and the end at which its latest snapshot is seen.
    pub fn channel() -> (Progress, watch::Receiver<Snapshot>) {
        let (sender, receiver) = watch::channel(Snapshot::default());
        (Progress(Some(sender)), receiver)
    }

    /// Starts a phase; its counts begin at 0.
    pub fn phase(&self, phase: Phase, bytes_total: u64, files_total: u64) {
        self.change(|now| {
            *now = Snapshot {
                phase,
                bytes_total,
                files_total,
                ..Snapshot::default()
            }
        });
    }

    /// Adds `bytes` and `files` to what is done.
    pub fn add(&self, bytes: u64, files: u64) {
        self.change(|now| {
            now.bytes = now.bytes.saturating_add(bytes);
            now.files = now.files.saturating_add(files);
        });
    }

    /// Takes `bytes` and `files` off what is to do.
    pub fn less(&self, bytes: u64, files: u64) {
        self.change(|now| {
            now.bytes_total = now.bytes_total.saturating_sub(bytes);
            now.files_total = now.files_total.saturating_sub(files);
        });
    }

    /// States how many peers are at work.
    pub fn peers(&self, peers: usize) {
        self.change(|now| now.peers = u32::try_from(peers).unwrap_or(u32::MAX));
    }

    /// States why nothing moves, or that it moves again.
    pub fn note(&self, note: Option<String>) {
        self.change(|now| now.note = note);
    }

    /// Returns how far it is; the beginning, where nobody looks.
    pub fn snapshot(&self) -> Snapshot {
        self.0
            .as_ref()
            .map(|sender| sender.borrow().clone())
            .unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        if let Some(sender) = &self.0 {
            sender.send_modify(change);
        }
    }
}

/// Writes a number with a comma at every third digit: `4,096`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_set_apart() {
        let all = [0, 11, 999, 4_096, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "11", "999", "4,096", "1,234,567"]);
    }
}
