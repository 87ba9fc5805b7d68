//! What is handed out to the cache of the Hub's clients takes no room a second time, where the disk can share it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use testnet::disk::{DiskError, SmallDisk};
use testnet::{fixture, skip};

use crate::acts::files;
use crate::program::{self, Shoal, field, text};

/// Too long for the database of small blobs, so that a file in the data folder holds each: of one shard, and of several.
const FILES: [(&str, u64); 2] = [("model.safetensors", 24 << 20), ("deep/vocab.bin", 300_000)];

/// Bytes that folders, links and the catalog may take.
const BESIDE: u64 = 4 << 20;

/// What became of a fetch into a cache, of files that the node already had.
struct HandedOut {
    /// The files that the snapshot's links lead to.
    blobs: Vec<PathBuf>,
    data: PathBuf,
    /// Bytes of the disk that it took.
    took: u64,
}

/// Bytes of a disk that are in use, all that was written included.
fn used(folder: &Path) -> u64 {
    rustix::fs::syncfs(fs::File::open(folder).unwrap()).unwrap();
    let disk = rustix::fs::statvfs(folder).unwrap();
    (disk.f_blocks - disk.f_bfree) * disk.f_frsize
}

/// Fetches from another node, and then hands out, all in one folder.
fn hand_out(folder: &Path) -> HandedOut {
    let (a, b) = (
        Shoal::on(&folder.join("a/data")),
        Shoal::on(&folder.join("b/data")),
    );
    let model = folder.join("model");
    fixture::folder(&model, 1, &FILES).unwrap();
    let node = a.up();
    let published = a.publish(&model, &[]);
    let fetch = [
        "fetch",
        field(&published, "repo"),
        "--peer",
        &node.ready().listen[0],
    ];
    b.json(&fetch);
    let before = used(folder);
    let cache = b.folder("hub");
    let fetched = b.json(&[&fetch[..], &["--hf-cache", text(&cache)]].concat());
    assert_eq!(fetched["fetched_bytes"], 0, "{fetched}");
    let took = used(folder).saturating_sub(before);
    let snapshot = PathBuf::from(field(&fetched, "hf_cache"));
    fixture::assert_same(&model, &snapshot);
    let blobs = FILES.map(|(path, _)| snapshot.join(path).canonicalize().unwrap());
    HandedOut {
        blobs: blobs.into(),
        data: b.data().to_owned(),
        took,
    }
}

#[test]
fn blob_in_a_cache_is_the_very_file_that_the_node_serves() {
    let folder = tempfile::tempdir().unwrap();
    let handed = hand_out(folder.path());
    let again = folder.path().join("again");
    if program::works("cp", &["--reflink=always", text(&handed.blobs[0]), text(&again)]) {
        return skip("this disk makes reflinks, which are two files: another test is about those");
    }
    let of = |path: &PathBuf| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.dev(), metadata.ino())
    };
    let held: BTreeSet<_> = files(&handed.data).iter().map(of).collect();
    for blob in &handed.blobs {
        assert!(held.contains(&of(blob)), "{blob:?} is a copy");
    }
}

#[test]
fn blob_in_a_cache_takes_no_room_of_a_disk_that_makes_reflinks() {
    let disk = match SmallDisk::xfs(512 << 20) {
        Ok(disk) => disk,
        Err(error @ DiskError::Unavailable { .. }) => return skip(error),
        Err(error) => panic!("{error}"),
    };
    let handed = hand_out(disk.path());
    assert!(handed.took < BESIDE, "{} bytes", handed.took);
    // Two files, so that an edit of one stays out of the other.
    for blob in &handed.blobs {
        assert_eq!(fs::metadata(blob).unwrap().nlink(), 1, "{blob:?}");
    }
}
