//! Files that change while they are published: said by name, and nothing is published.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use node::library::Library;
use node::progress::{Phase, Progress};
use node::publish::PublishRequest;
use testnet::fixture;

use crate::acts::{assert_verifies, request, unseen};

const MIB: u64 = 1024 * 1024;

/// Long enough that somebody can write to it while it is read.
const LARGE: u64 = 96 * MIB;

/// Changes a file for the `round`th time.
type Change = fn(&Path, u64);

const CHANGES: [(&str, Change); 4] = [
    ("overwritten", |path, round| {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&round.to_le_bytes(), round * MIB % LARGE)
            .unwrap();
    }),
    ("growing", |path, _| {
        File::options()
            .append(true)
            .open(path)
            .unwrap()
            .write_all(b"more")
            .unwrap()
    }),
    ("cut short", |path, round| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(LARGE / 2 - round.min(MIB))
            .unwrap()
    }),
    ("replaced", |path, round| {
        let other = path.with_extension("other");
        fs::write(&other, round.to_le_bytes()).unwrap();
        fs::rename(other, path).unwrap();
    }),
];

/// Publishes a folder while one of its files changes and changes, and sees that it is refused.
async fn is_refused_while(library: &Library, folder: &Path, copy: bool, what: &str, change: Change) {
    fixture::folder(folder, 1, &[("large.bin", LARGE), ("config.json", 300)]).unwrap();
    let (progress, mut snapshots) = Progress::channel();
    let over = Arc::new(AtomicBool::new(false));
    let (path, changing) = (folder.join("large.bin"), over.clone());
    let changes = tokio::spawn(async move {
        snapshots
            .wait_for(|snapshot| snapshot.phase == Phase::Reading && snapshot.bytes > 0)
            .await
            .unwrap();
        let work = move || {
            (0..)
                .take_while(|_| !changing.load(Ordering::Relaxed))
                .for_each(|round| change(&path, round))
        };
        tokio::task::spawn_blocking(work).await.unwrap();
    });
    let published = library
        .publish(
            PublishRequest {
                copy,
                ..request(folder, "model")
            },
            &progress,
        )
        .await;
    over.store(true, Ordering::Relaxed);
    changes.await.unwrap();
    let refused = published
        .err()
        .unwrap_or_else(|| panic!("a file that was {what} was published, copy: {copy}"));
    assert!(
        format!("{refused:?}").contains("large.bin"),
        "{what}: {refused:?}"
    );
    assert_eq!(library.list().unwrap(), [], "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_changes_while_it_is_published_is_named_and_nothing_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(&folder.path().join("data")).await.unwrap();
    let model = folder.path().join("model");
    for (what, change) in CHANGES {
        for copy in [false, true] {
            is_refused_while(&library, &model, copy, what, change).await;
        }
    }
    // When all is quiet it is published, as number one.
    fixture::folder(&model, 1, &[("large.bin", LARGE), ("config.json", 300)]).unwrap();
    let published = library
        .publish(request(&model, "model"), &unseen())
        .await
        .unwrap();
    assert_eq!(
        (published.seq, published.manifest),
        (1, fixture::manifest(&model).unwrap().hash())
    );
    assert_verifies(&library, &published.repo).await;
}
