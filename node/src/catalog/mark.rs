//! The generation file: how far the catalog had come, told by a file that is not sled's.
//!
//! Two slots of 64 bytes at 0 and 4096, written in turn and in place, so that it needs no room and a torn write leaves the other slot. The slot with the
//! higher `turn` counts. Nothing here knows what is counted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::durable;

const MAGIC: [u8; 8] = *b"shoalgen";
const SLOT_LEN: usize = 64;
const SLOT_STRIDE: usize = 4096;
const FILE_LEN: usize = 2 * SLOT_STRIDE;

/// What was durable when the slot was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// A random number, new with every database that is begun.
    pub(super) incarnation: u64,
    /// Transactions that are in that database, durably.
    pub(super) commits: u64,
    /// Something was found wrong with the database: it must not be believed.
    pub(super) suspect: bool,
}

/// The open file and what it says.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: File,
    turn: u64,
    mark: Option<Mark>,
}

impl MarkFile {
    /// Opens the file, or makes one that says nothing; the `bool` tells whether it was there.
    pub(super) fn open(path: &Path) -> io::Result<(MarkFile, bool)> {
        let was_there = path.try_exists()?;
        if !was_there {
            durable::write_atomic(path, &[0; FILE_LEN])?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).mode(0o600).open(path)?;
        let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
        let newest = slots.into_iter().flatten().max_by_key(|(turn, _)| *turn);
        let (turn, mark) = newest.map_or((0, None), |(turn, mark)| (turn, Some(mark)));
        Ok((MarkFile { file, turn, mark }, was_there))
    }

    /// What the newest whole slot says. `None`: there is none.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Writes a slot; durable on return.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        let turn = self.turn.saturating_add(1);
        let offset = (turn % 2) * SLOT_STRIDE as u64;
        self.file.write_all_at(&encode(turn, mark), offset)?;
        self.file.sync_data()?;
        self.turn = turn;
        self.mark = Some(mark);
        Ok(())
    }
}

fn read_slot(file: &File, index: u64) -> io::Result<Option<(u64, Mark)>> {
    let mut slot = [0; SLOT_LEN];
    match file.read_exact_at(&mut slot, index * SLOT_STRIDE as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        outcome => outcome.map(|()| decode(&slot)),
    }
}

fn encode(turn: u64, mark: Mark) -> [u8; SLOT_LEN] {
    let mut slot = [0; SLOT_LEN];
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&turn.to_le_bytes());
    slot[16..24].copy_from_slice(&mark.incarnation.to_le_bytes());
    slot[24..32].copy_from_slice(&mark.commits.to_le_bytes());
    slot[32] = u8::from(mark.suspect);
    let check = *blake3::hash(&slot[..48]).as_bytes();
    slot[48..].copy_from_slice(&check[..16]);
    slot
}

fn decode(slot: &[u8; SLOT_LEN]) -> Option<(u64, Mark)> {
    let check = *blake3::hash(&slot[..48]).as_bytes();
    if slot[..8] != MAGIC || slot[48..] != check[..16] {
        return None;
    }
    let number = |at: usize| {
        let bytes = slot[at..at + 8].try_into().expect("eight bytes of the slot");
        u64::from_le_bytes(bytes)
    };
    let mark = Mark {
        incarnation: number(16),
        commits: number(24),
        suspect: slot[32] != 0,
    };
    Some((number(8), mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(commits: u64) -> Mark {
        Mark {
            incarnation: 7,
            commits,
            suspect: false,
        }
    }

    #[test]
    fn last_mark_written_is_the_one_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation");
        let (mut file, was_there) = MarkFile::open(&path).unwrap();
        assert!(!was_there);
        assert_eq!(file.mark(), None);
        for commits in [3, 9, 4] {
            file.write(mark(commits)).unwrap();
            let (read, was_there) = MarkFile::open(&path).unwrap();
            assert!(was_there);
            assert_eq!(read.mark(), Some(mark(commits)));
        }
    }

    #[test]
    fn torn_slot_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation");
        let (mut file, _) = MarkFile::open(&path).unwrap();
        file.write(mark(1)).unwrap();
        file.write(mark(2)).unwrap();
        // The second write went to slot 0.
        file.file.write_all_at(&[0xff; 9], 20).unwrap();
        let (mut file, _) = MarkFile::open(&path).unwrap();
        assert_eq!(file.mark(), Some(mark(1)));
        file.write(mark(3)).unwrap();
        assert_eq!(MarkFile::open(&path).unwrap().0.mark(), Some(mark(3)));
    }

    #[test]
    fn emptied_and_foreign_files_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation");
        for bytes in [&b""[..], &[0xaa; 100], &[0x55; FILE_LEN + 1]] {
            std::fs::write(&path, bytes).unwrap();
            let (mut file, was_there) = MarkFile::open(&path).unwrap();
            assert!(was_there);
            assert_eq!(file.mark(), None);
            file.write(mark(5)).unwrap();
            assert_eq!(MarkFile::open(&path).unwrap().0.mark(), Some(mark(5)));
        }
    }
}
