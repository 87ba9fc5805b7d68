//! A full disk: said in so many words, nothing lost, and all is well again when there is room.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node::StoreError;
use node::catalog::CatalogError;
use node::fetch::{FetchRequest, FetchWhat};
use node::library::Library;
use node::names::NamesError;
use node::progress::{Phase, Progress};
use node::publish::PublishRequest;
use protocol::RepoRef;
use rustix::fs::{FallocateFlags, fallocate};
use testnet::disk::{DiskError, SmallDisk};
use testnet::nodes::Testnet;
use testnet::{fixture, skip};

use crate::acts::{assert_verifies, fetch, files, publish, request, try_fetch, unseen};

const MIB: u64 = 1024 * 1024;

/// A disk with room for the reserve, some repos, and the space that a fetch leaves free.
const DISK: u64 = 320 * MIB;

/// How long a node on a full disk may take to start, and one that has room again to work.
const SOON: Duration = Duration::from_secs(10);

/// A small disk; `None`, said loudly, where there is none to be had.
fn small(made: Result<SmallDisk, DiskError>) -> Option<SmallDisk> {
    match made {
        Ok(disk) => Some(disk),
        Err(error @ DiskError::Unavailable { .. }) => {
            skip(error);
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// A file that takes room away. Removing it gives the room back.
struct Ballast(PathBuf);

impl Ballast {
    /// Takes `len` bytes.
    fn take(disk: &Path, len: u64) -> Ballast {
        let path = disk.join("ballast");
        let file = File::create(&path).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, len).unwrap();
        Ballast(path)
    }

    /// Takes all that is left, to the last byte.
    fn take_all(disk: &Path) -> Ballast {
        let path = disk.join("ballast");
        let mut file = File::create(&path).unwrap();
        let mut at = 0;
        let mut step = 64 * MIB;
        while step >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), at, step) {
                Ok(()) => at += step,
                Err(_) => step /= 2,
            }
        }
        let _ = std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0));
        while file.write_all(&[1; 512]).is_ok() {}
        file.sync_all().unwrap();
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether an error, or a cause of it, says by its type that there is no room.
fn says_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let store = error.downcast_ref::<StoreError>();
        let names = error.downcast_ref::<NamesError>();
        let catalog = error.downcast_ref::<CatalogError>();
        if store.is_some_and(|error| matches!(error, StoreError::Full { .. } | StoreError::NoRoom { .. }))
            || names.is_some_and(|error| matches!(error, NamesError::StorageFull { .. }))
            || catalog.is_some_and(|error| matches!(error, CatalogError::StorageFull { .. }))
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn copied(folder: &Path, name: &str) -> PublishRequest {
    PublishRequest {
        copy: true,
        ..request(folder, name)
    }
}

/// Folders on the usual disk to publish from: what fits, and what does not.
fn sources() -> (tempfile::TempDir, PathBuf, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let [first, huge, later] = ["first", "huge", "later"].map(|name| folder.path().join(name));
    fixture::folder(
        &first,
        1,
        &[("large.bin", 12 * MIB), ("row.bin", 9_000), ("config.json", 200)],
    )
    .unwrap();
    fixture::folder(
        &huge,
        2,
        &[("one.bin", 150 * MIB), ("two.bin", 170 * MIB), ("row.bin", 9_000)],
    )
    .unwrap();
    fixture::folder(&later, 3, &[("large.bin", 6 * MIB), ("row.bin", 8_000)]).unwrap();
    (folder, first, huge, later)
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_that_does_not_fit_is_refused_and_what_was_there_stays() {
    let Some(disk) = small(SmallDisk::ext4(DISK)) else {
        return;
    };
    let (_kept, first, huge, later) = sources();
    let data = disk.path().join("data");
    let library = Library::open(&data).await.unwrap();
    let published = library.publish(copied(&first, "first"), &unseen()).await.unwrap();
    let refused = library
        .publish(copied(&huge, "huge"), &unseen())
        .await
        .unwrap_err();
    assert!(says_full(&refused), "{refused:?}");
    // The disk that is full is named, not the one that is read from.
    assert!(
        format!("{refused:?}").contains(disk.path().to_str().unwrap()),
        "{refused:?}"
    );
    assert_verifies(&library, &published.repo).await;
    assert_eq!(library.list().unwrap().len(), 1, "what was refused is not listed");

    // What the refused one took is given back without a restart.
    let begun = Instant::now();
    let next = library.publish(copied(&later, "later"), &unseen()).await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_verifies(&library, &next.repo).await;
    library.close().await;
    let library = Library::open(&data).await.unwrap();
    for repo in [&published.repo, &next.repo] {
        assert_verifies(&library, repo).await;
    }
    library.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_on_a_disk_without_a_free_byte_fails_cleanly_and_works_when_there_is_room() {
    let Some(disk) = small(SmallDisk::ext4(DISK)) else {
        return;
    };
    let (_kept, first, _, later) = sources();
    let library = Library::open(&disk.path().join("data")).await.unwrap();
    let published = library.publish(copied(&first, "first"), &unseen()).await.unwrap();
    let ballast = Ballast::take_all(disk.path());
    // By reference, too, something has to be written: the tree, the manifest, the release.
    for request in [copied(&later, "later"), request(&later, "later")] {
        let refused = library.publish(request, &unseen()).await.unwrap_err();
        assert!(says_full(&refused), "{refused:?}");
    }
    assert_verifies(&library, &published.repo).await;
    assert_eq!(library.list().unwrap().len(), 1);
    drop(ballast);
    let begun = Instant::now();
    let next = library.publish(copied(&later, "later"), &unseen()).await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(next.seq, 1);
    assert_verifies(&library, &next.repo).await;
    library.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_starts_on_a_full_disk_and_forgetting_makes_room() {
    let Some(disk) = small(SmallDisk::ext4(DISK)) else {
        return;
    };
    let (_kept, first, _, later) = sources();
    let data = disk.path().join("data");
    let library = Library::open(&data).await.unwrap();
    let [old, kept] = ["old", "kept"].map(|name| (name, if name == "old" { &first } else { &later }));
    let old = library.publish(copied(old.1, old.0), &unseen()).await.unwrap();
    let kept = library.publish(copied(kept.1, kept.0), &unseen()).await.unwrap();
    library.close().await;
    let _ballast = Ballast::take_all(disk.path());

    let begun = Instant::now();
    let library = Library::open(&data).await.unwrap();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    for repo in [&old.repo, &kept.repo] {
        assert_verifies(&library, repo).await;
    }
    let forgotten = library.forget(&RepoRef::Id(old.repo.clone())).await.unwrap();
    assert!(forgotten.bytes >= 12 * MIB, "{forgotten:?}");
    assert_verifies(&library, &kept.repo).await;
    // What was freed is room for something else: a single shard, so that the check of free space is not what decides.
    let folder = tempfile::tempdir().unwrap();
    fixture::folder(folder.path(), 5, &[("shard.bin", MIB / 2)]).unwrap();
    let next = library
        .publish(request(folder.path(), "next"), &unseen())
        .await
        .unwrap();
    assert_verifies(&library, &next.repo).await;
    library.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_on_a_disk_without_inodes_fails_cleanly() {
    let Some(disk) = small(SmallDisk::tmpfs(DISK, 160)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (few, many) = (folder.path().join("few"), folder.path().join("many"));
    fixture::many(&few, 1, 10, 20_000).unwrap();
    fixture::many(&many, 2, 400, 20_000).unwrap();
    let library = Library::open(&disk.path().join("data")).await.unwrap();
    let published = library.publish(copied(&few, "few"), &unseen()).await.unwrap();
    let refused = library
        .publish(copied(&many, "many"), &unseen())
        .await
        .unwrap_err();
    assert!(says_full(&refused), "{refused:?}");
    assert_verifies(&library, &published.repo).await;
    fixture::many(&few, 3, 8, 20_000).unwrap();
    let again = library.publish(copied(&few, "again"), &unseen()).await.unwrap();
    assert_verifies(&library, &again.repo).await;
    library.close().await;
}

/// A net whose last node has its data folder on a small disk; A has published something to fetch.
async fn net_on(disk: &SmallDisk) -> Testnet {
    let data = disk.path().join("data");
    Testnet::start_with(3, move |index, config| {
        if index == 2 {
            config.data.clone_from(&data);
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_that_does_not_fit_is_refused_before_a_byte_and_done_when_there_is_room() {
    let Some(disk) = small(SmallDisk::ext4(DISK)) else {
        return;
    };
    let net = net_on(&disk).await;
    let (first, second) = (net.scratch().join("first"), net.scratch().join("second"));
    fixture::folder(&first, 1, &[("large.bin", 10 * MIB), ("row.bin", 100)]).unwrap();
    fixture::folder(&second, 2, &[("large.bin", 90 * MIB), ("row.bin", 100)]).unwrap();
    let (one, _) = publish(net.node(1), &first, "first").await;
    let (two, _) = publish(net.node(1), &second, "second").await;
    let node = net.node(2);
    fetch(node, &one.repo, None).await;
    let before = node.status().await.unwrap().down_bytes;
    let ballast = Ballast::take(disk.path(), 140 * MIB);
    let refused = try_fetch(node, &two.repo, None).await.unwrap_err();
    assert!(says_full(&refused), "{refused:?}");
    assert_eq!(
        node.status().await.unwrap().down_bytes,
        before,
        "bytes were fetched that had no room"
    );
    assert_verifies(node.library(), &one.repo).await;
    drop(ballast);
    fetch(node, &two.repo, None).await;
    assert_verifies(node.library(), &two.repo).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_that_fills_up_during_a_fetch_costs_only_the_rest_of_it() {
    let Some(disk) = small(SmallDisk::ext4(DISK)) else {
        return;
    };
    let net = net_on(&disk).await;
    let (first, second) = (net.scratch().join("first"), net.scratch().join("second"));
    fixture::folder(&first, 1, &[("large.bin", 10 * MIB), ("row.bin", 100)]).unwrap();
    fixture::folder(&second, 2, &[("large.bin", 120 * MIB), ("row.bin", 100)]).unwrap();
    let (one, _) = publish(net.node(1), &first, "first").await;
    let (two, _) = publish(net.node(1), &second, "second").await;
    let node = net.node(2);
    fetch(node, &one.repo, None).await;

    let (progress, mut snapshots) = Progress::channel();
    let place = disk.path().to_owned();
    let filling = tokio::spawn(async move {
        let under_way =
            |snapshot: &node::progress::Snapshot| snapshot.phase == Phase::Fetching && snapshot.bytes > 0;
        snapshots.wait_for(under_way).await.ok()?;
        tokio::task::spawn_blocking(move || Ballast::take_all(&place))
            .await
            .ok()
    });
    let request = FetchRequest::new(FetchWhat::Repo(RepoRef::Id(two.repo.clone())));
    let stopped = node.fetch(request, &progress).await.unwrap_err();
    assert!(says_full(&stopped), "{stopped:?}");
    let ballast = filling.await.unwrap().unwrap();
    assert_verifies(node.library(), &one.repo).await;
    assert!(
        node.library()
            .list()
            .unwrap()
            .iter()
            .all(|view| view.complete == (view.repo.as_ref() == Some(&one.repo)))
    );
    assert!(
        files(&disk.path().join("data/files"))
            .iter()
            .any(|path| path.extension().is_some_and(|end| end == "part"))
    );

    drop(ballast);
    let begun = Instant::now();
    let rest = fetch(node, &two.repo, None).await;
    eprintln!(
        "{} of {} bytes were left to fetch, in {:?}",
        rest.fetched_bytes,
        two.bytes,
        begun.elapsed()
    );
    assert_verifies(node.library(), &two.repo).await;
    node.shutdown().await;
}
