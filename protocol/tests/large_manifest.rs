//! Checking a manifest costs time and memory in proportion to its files.

use std::time::{Duration, Instant};

use crate::fixture::{entry, path};
use protocol::limits::{FILES_MAX, MANIFEST_LEN_MAX};
use protocol::{FileEntry, GitId, Hash, Manifest, ManifestError, RepoPath, Sha256};

/// As many files as a manifest may list, with every digest and paths of `path`.
fn full(path: impl Fn(usize) -> RepoPath) -> Vec<FileEntry> {
    (0..FILES_MAX)
        .map(|number| {
            let digest = *Hash::of(&number.to_le_bytes()).as_bytes();
            FileEntry {
                path: path(number),
                size: 1 + u64::try_from(number).unwrap(),
                blake3: Hash::from_bytes(digest),
                sha256: Some(Sha256::from_bytes(digest)),
                sha1: Some(GitId::from_bytes(*digest.first_chunk().unwrap())),
            }
        })
        .collect()
}

/// What the rule allows, in a build with optimisation. Without it the measure is of the compiler, and only a check that is not linear fails.
fn allowed() -> Duration {
    let optimised = Duration::from_secs(1);
    if cfg!(debug_assertions) {
        30 * optimised
    } else {
        optimised
    }
}

fn decodes_in_time(manifest: &Manifest) {
    let bytes = manifest.encode();
    let start = Instant::now();
    let decoded = Manifest::decode(&bytes).unwrap();
    let took = start.elapsed();
    assert_eq!(&decoded, manifest);
    assert!(took <= allowed(), "{} bytes took {took:?}", bytes.len());
}

#[test]
fn hundred_thousand_files_are_checked_within_a_second() {
    let manifest = Manifest::new(full(|number| {
        path(&format!(
            "data/train/{:03}/example-{number:06}.json",
            number / 1000
        ))
    }))
    .unwrap();
    decodes_in_time(&manifest);
}

#[test]
fn hundred_thousand_deep_paths_outside_ascii_are_checked_within_a_second() {
    let folder = ["é"; 15].join("/");
    let paths = |number| path(&format!("{folder}/日本語-ﬁchier-größe-{number:06}"));
    decodes_in_time(&Manifest::new(full(paths)).unwrap());
}

#[test]
fn manifest_may_list_the_largest_number_of_files_and_no_more() {
    let mut files = full(|number| path(&format!("{number:06}")));
    assert!(Manifest::new(files.clone()).is_ok());
    files.push(entry("one more", 1));
    let error = Manifest::new(files).unwrap_err();
    assert!(matches!(error, ManifestError::TooManyFiles { count, .. } if count == FILES_MAX + 1));
}

#[test]
fn files_within_their_number_can_still_be_too_much_for_a_manifest() {
    let folder = ["d".repeat(200), "e".repeat(200), "f".repeat(200)].join("/");
    let files = full(|number| path(&format!("{folder}/{number:06}")));
    let error = Manifest::new(files).unwrap_err();
    assert!(matches!(error, ManifestError::TooLong { len, max } if len > max && max == MANIFEST_LEN_MAX));
}
