//! Models for the engine's tests: recorded ones whose weights are drawn by their names, and real ones from folders.

use std::{collections::BTreeMap, env, fs, io::Write as _, path::PathBuf};

use protocol::Hash;
use serde_json::Value;

use super::wire::{Bytes, Given};

/// A model whose weights are drawn by their names, and what the original computes with them.
#[derive(serde::Deserialize)]
pub(crate) struct Recorded {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Vec<usize>>,
    pub(crate) ids: Vec<u32>,
    /// The last hidden states: a row for each token.
    pub(crate) hidden: Vec<Vec<f32>>,
}

/// splitmix64 from the FNV-1a of the name, as in `testdata/record_encoders.py`.
pub(crate) fn drawn(name: &str, elements: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, |state: u64, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let norm = name.to_lowercase().contains("norm") && name.ends_with("weight");
    (0..elements)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            let u = ((z ^ z >> 31) >> 40) as f64 / 16_777_216.0;
            let value = match norm {
                true => 1.0 + (u - 0.5) * 0.2,
                false => (u - 0.5) * 2.0 * 0.08,
            };
            value as f32
        })
        .collect()
}

/// The largest difference of two lists of numbers; NaN if any of them is none.
pub(crate) fn off<'a>(
    found: impl IntoIterator<Item = &'a f32>,
    expected: impl IntoIterator<Item = &'a f32>,
) -> f32 {
    let (found, expected): (Vec<_>, Vec<_>) = (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    let pairs = found.into_iter().zip(expected);
    pairs
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, off| match off > most || off.is_nan() {
            true => off,
            false => most,
        })
}

/// A file that is given with its bytes.
pub(crate) fn inline(path: &str, bytes: &[u8]) -> Given {
    Given {
        path: path.to_owned(),
        size: bytes.len() as u64,
        blake3: Hash::of(bytes),
        bytes: Bytes::Inline(data_encoding::BASE64.encode(bytes)),
    }
}

/// A file that is given by where it is.
pub(crate) fn on_disk(path: &str, at: PathBuf) -> Given {
    let bytes = fs::read(&at).unwrap();
    Given {
        path: path.to_owned(),
        size: bytes.len() as u64,
        blake3: Hash::of(&bytes),
        bytes: Bytes::At(at),
    }
}

/// The folder of a real model; `None`, said loudly, where the variable does not name one.
pub(crate) fn folder(variable: &str) -> Option<PathBuf> {
    let folder = env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        let thread = std::thread::current();
        let line = format!(
            "SKIPPED {}: {variable} is not set\n",
            thread.name().unwrap_or("a test")
        );
        // Past the harness, which swallows what tests say that do not fail.
        let _ = std::io::stderr().write_all(line.as_bytes());
        if let Some(path) = env::var_os("SHOAL_SKIPPED") {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }
    }
    folder
}
