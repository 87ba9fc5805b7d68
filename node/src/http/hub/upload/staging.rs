//! What was uploaded and is in no revision yet, and the doors for it: addresses that nobody can guess and that soon mean nothing.
//!
//! The bytes lie in the store's folder under names that the next start sweeps away; what is here is only what is known of them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use protocol::{Sha256, limits::SHARDS_MAX};
use rand::{TryRngCore, rngs::OsRng};
use tempfile::TempPath;

use crate::store::Staged;

/// How long a door is open.
const DOOR_LIFE: Duration = Duration::from_secs(60 * 60);
/// How long objects stay after the last one came, or was asked for: a client commits right behind them.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long an object stays in any case.
const OBJECT_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Doors that are open at once: ten of the largest batches.
const DOORS_MAX: usize = 10_000;
/// Objects at once: as many as the doors.
const OBJECTS_MAX: usize = 10_000;
/// Bytes of all objects and open doors: the largest revision that the swarm carries.
const STAGED_LEN_MAX: u64 = SHARDS_MAX as u64 * protocol::SHARD_LEN;

/// What was uploaded, and where more may come.
#[derive(Default)]
pub(super) struct Staging(Mutex<State>);

#[derive(Default)]
struct State {
    /// By the hash of their secrets: looking one up tells nothing of the others.
    doors: HashMap<blake3::Hash, (Door, Instant)>,
    objects: HashMap<Sha256, (Arc<Staged>, Instant)>,
    used: Option<Instant>,
}

/// Where one object may come in.
#[derive(Clone)]
pub(super) struct Door {
    /// Its SHA-256.
    pub(super) oid: Sha256,
    /// Its length in bytes.
    pub(super) size: u64,
    /// Its parts, where it comes in parts.
    pub(super) parts: Option<Arc<Parts>>,
}

/// An object that comes in parts.
pub(super) struct Parts {
    /// Length of each part but the last, in bytes.
    pub(super) len: u64,
    /// How many there are.
    pub(super) count: u64,
    /// What came.
    pub(super) came: Mutex<Came>,
}

/// The parts that came.
#[derive(Default)]
pub(super) struct Came {
    /// Where they lie, from the first one on.
    pub(super) file: Option<(Arc<File>, TempPath)>,
    /// What each was answered with, by its number from 1.
    pub(super) tags: HashMap<u64, String>,
}

/// There are too many doors or objects, or they are too large.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

impl Staging {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this")
    }

    /// Opens a door; returns its secret.
    pub(super) fn open(&self, door: Door, now: Instant) -> io::Result<Result<String, Crowded>> {
        let mut secret = [0; 32];
        OsRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
        let secret = blake3::Hash::from_bytes(secret).to_hex().to_string();
        let mut state = self.lock();
        let state = &mut *state;
        state.sweep(now);
        let objects = state.objects.values().map(|(staged, _)| staged.digests.len);
        let doors = state.doors.values().map(|(door, _)| door.size);
        let staged = objects.chain(doors).fold(door.size, u64::saturating_add);
        if state.doors.len() >= DOORS_MAX || staged > STAGED_LEN_MAX {
            return Ok(Err(Crowded));
        }
        state
            .doors
            .insert(blake3::hash(secret.as_bytes()), (door, now + DOOR_LIFE));
        Ok(Ok(secret))
    }

    /// Finds the door of a secret.
    pub(super) fn door(&self, secret: &str, now: Instant) -> Option<Door> {
        let mut state = self.lock();
        state.sweep(now);
        let found = state.doors.get(&blake3::hash(secret.as_bytes()));
        found.map(|(door, _)| door.clone())
    }

    /// Keeps an object that came, until a revision names it or its time is over.
    pub(super) fn put(&self, staged: Staged, now: Instant) -> Result<(), Crowded> {
        let mut state = self.lock();
        state.sweep(now);
        if state.objects.len() >= OBJECTS_MAX {
            return Err(Crowded);
        }
        state.used = Some(now);
        let oid = staged.digests.sha256;
        state.objects.insert(oid, (Arc::new(staged), now + OBJECT_LIFE));
        Ok(())
    }

    /// Finds an object that came.
    pub(super) fn object(&self, oid: Sha256, now: Instant) -> Option<Arc<Staged>> {
        let mut state = self.lock();
        state.sweep(now);
        let staged = state.objects.get(&oid)?.0.clone();
        if !staged.is_there() {
            state.objects.remove(&oid);
            return None;
        }
        state.used = Some(now);
        Some(staged)
    }

    /// Lets go what is too old.
    pub(super) fn sweep(&self, now: Instant) {
        self.lock().sweep(now);
    }
}

impl State {
    fn sweep(&mut self, now: Instant) {
        self.doors.retain(|_, (_, until)| now < *until);
        let idle = self.used.is_some_and(|used| now >= used + IDLE_MAX);
        self.objects.retain(|_, (_, until)| !idle && now < *until);
    }
}

impl Parts {
    /// The parts of an object: none is empty.
    pub(super) fn of(size: u64, len: u64) -> Parts {
        Parts {
            len,
            count: size.div_ceil(len),
            came: Mutex::default(),
        }
    }

    /// The length of a part, in bytes; `None`: there is none of that number, counted from 1.
    pub(super) fn part_len(&self, number: u64, size: u64) -> Option<u64> {
        let before = number.checked_sub(1)?;
        (before < self.count).then(|| self.len.min(size - before * self.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(size: u64) -> Door {
        Door {
            oid: Sha256::EMPTY,
            size,
            parts: None,
        }
    }

    #[test]
    fn doors_close_after_an_hour_and_open_to_their_secret_only() {
        let staging = Staging::default();
        let now = Instant::now();
        let secret = staging.open(door(1), now).unwrap().unwrap();
        let other = staging.open(door(2), now).unwrap().unwrap();
        assert_eq!(secret.len(), 64);
        assert_ne!(secret, other);
        assert_eq!(staging.door(&secret, now).unwrap().size, 1);
        assert_eq!(staging.door(&other, now).unwrap().size, 2);
        for wrong in ["", "x", &secret[1..]] {
            assert!(staging.door(wrong, now).is_none());
        }
        let late = now + DOOR_LIFE;
        assert!(staging.door(&secret, late - Duration::from_millis(1)).is_some());
        assert!(staging.door(&secret, late).is_none());
    }

    #[test]
    fn doors_are_bounded_in_number_and_size() {
        let staging = Staging::default();
        let now = Instant::now();
        assert_eq!(staging.open(door(STAGED_LEN_MAX + 1), now).unwrap(), Err(Crowded));
        for _ in 0..DOORS_MAX {
            staging.open(door(1), now).unwrap().unwrap();
        }
        assert_eq!(staging.open(door(1), now).unwrap(), Err(Crowded));
        assert!(staging.open(door(1), now + DOOR_LIFE).unwrap().is_ok());
    }

    #[test]
    fn parts_tile_the_object() {
        for (size, len) in [(1, 5), (5, 5), (6, 5), (12, 5)] {
            let parts = Parts::of(size, len);
            let lens: Vec<u64> = (1..=parts.count)
                .map(|number| parts.part_len(number, size).unwrap())
                .collect();
            assert_eq!(lens.iter().sum::<u64>(), size);
            assert!(lens.iter().all(|part| (1..=len).contains(part)));
            assert_eq!(parts.part_len(0, size), None);
            assert_eq!(parts.part_len(parts.count + 1, size), None);
        }
    }
}
