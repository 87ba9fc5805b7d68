//! The catalog's promises: what went in comes out, in order and within bounds, and writers share the disk without losing anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use protocol::{GitId, Hash, Kind, Publisher, RepoId, RepoName, Sha256};

use super::*;

mod damage;
mod known;

fn hash(number: u64) -> Hash {
    Hash::of(&number.to_le_bytes())
}

fn publisher(seed: u8) -> Publisher {
    SigningKey::from_bytes(&[seed; 32]).verifying_key().into()
}

fn repo(seed: u8, name: &str) -> RepoId {
    RepoId {
        publisher: publisher(seed),
        name: RepoName::new(name).unwrap(),
    }
}

fn repo_row(seq: u64) -> RepoRow {
    RepoRow {
        kind: Kind::Dataset,
        seq,
        manifest: hash(seq),
        issued: 1_700_000_000,
        expires: 1_800_000_000,
        release_hash: hash(seq + 1),
        ours: true,
        fork: false,
    }
}

fn manifest_row(names: Vec<RepoId>) -> ManifestRow {
    ManifestRow {
        files: 3,
        bytes: u64::MAX,
        pinned: true,
        complete: false,
        added: 1_700_000_000,
        names,
    }
}

fn place(number: u64) -> Place {
    Place {
        len: number << 20,
        kind: PlaceKind::Reference {
            path: PathBuf::from(format!("/models/llama/model-{number:05}.safetensors")),
            stamp: Stamp {
                len: number << 20,
                mtime_ns: -5,
                inode: number,
            },
        },
    }
}

fn digest(number: u64) -> Digest {
    Digest {
        stamp: Stamp {
            len: number,
            mtime_ns: 1_700_000_000_123_456_789,
            inode: 4,
        },
        blake3: hash(number),
        sha256: Sha256::EMPTY,
        sha1: Some(GitId::EMPTY),
    }
}

fn provider(number: u64, last_seen: u64) -> Provider {
    Provider {
        peer: [&[0, 36, 8, 1, 18, 32][..], hash(number).as_bytes()].concat(),
        addresses: vec![format!("/ip4/10.0.0.{}/udp/4001/quic-v1", number % 250)],
        last_seen,
    }
}

/// A catalog that was built to its end.
fn built(folder: &Path) -> Catalog {
    let Opened { catalog, state } = Catalog::open(folder).unwrap();
    if state != OpenState::Good {
        catalog.rebuilt().unwrap();
    }
    catalog
}

fn state(folder: &Path) -> OpenState {
    let opened = Catalog::open(folder).unwrap();
    let state = opened.state;
    opened.catalog.seal().unwrap();
    state
}

fn put_repo(catalog: &Catalog, seq: u64) {
    let put = catalog.write(|batch| {
        batch.put_repo(&repo(1, &format!("r{seq}")), &repo_row(seq));
        Ok(())
    });
    put.unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn rows_of_every_table_come_back_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    let long = PathBuf::from(format!("/{}/x.bin", "d".repeat(2_000)));
    let odd = PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
        b"/caf\xe9/\xff",
    ));
    let reference = Place {
        len: 9,
        kind: PlaceKind::Reference {
            path: odd.clone(),
            stamp: digest(1).stamp,
        },
    };
    let owned = Place {
        len: 0,
        kind: PlaceKind::Owned,
    };
    let written = catalog.write(|batch| {
        batch.put_repo(&repo(1, "a"), &repo_row(7));
        batch.put_manifest(hash(1), &manifest_row(vec![repo(2, "b")]));
        batch.put_place(hash(2), &reference)?;
        batch.put_place(hash(3), &owned)?;
        for path in [&long, &odd] {
            batch.put_digest(path, &digest(4))?;
        }
        batch.put_providers(hash(5), vec![provider(1, 10), provider(2, 20)]);
        // What the batch holds is what it shows.
        assert_eq!(batch.repo(&repo(1, "a"))?, Some(repo_row(7)));
        assert_eq!(batch.place(hash(9))?, None);
        Ok(())
    });
    written.unwrap();
    for round in 0..2 {
        let catalog = if round == 0 {
            catalog.clone()
        } else {
            catalog.seal().unwrap();
            let opened = Catalog::open(&folder.path().join("catalog")).unwrap();
            assert_eq!(opened.state, OpenState::Good);
            opened.catalog
        };
        assert_eq!(catalog.repo(&repo(1, "a")).unwrap(), Some(repo_row(7)));
        assert_eq!(catalog.repo(&repo(2, "a")).unwrap(), None);
        let row = catalog.manifest(hash(1)).unwrap();
        assert_eq!(row, Some(manifest_row(vec![repo(2, "b")])));
        assert_eq!(catalog.place(hash(2)).unwrap(), Some(reference.clone()));
        assert_eq!(catalog.place(hash(3)).unwrap(), Some(owned.clone()));
        let paths: Vec<_> = catalog.digests(None, 10).unwrap();
        let paths: Vec<_> = paths.into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [odd.clone(), long.clone()]);
        assert_eq!(catalog.digest(&long).unwrap(), Some(digest(4)));
        let seen = catalog.providers(hash(5)).unwrap();
        assert_eq!(seen, [provider(2, 20), provider(1, 10)]);
    }
}

#[test]
fn rows_are_kept_within_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    let names: Vec<_> = (0..20).map(|n| repo(1, &format!("n{n}"))).collect();
    let mut crowd: Vec<_> = (0..60).map(|n| provider(n, n)).collect();
    crowd.push(provider(59, 1_000));
    crowd.push(Provider {
        peer: vec![1; PEER_LEN_MAX + 1],
        ..provider(0, 2_000)
    });
    crowd[40].addresses = vec!["x".repeat(ADDRESS_LEN_MAX + 1), "y".into()];
    let fat = |n| Provider {
        addresses: vec!["z".repeat(ADDRESS_LEN_MAX); 50],
        ..provider(n, n)
    };
    let written = catalog.write(|batch| {
        batch.put_manifest(hash(1), &manifest_row(names.clone()));
        batch.put_providers(hash(1), crowd.clone());
        batch.put_providers(hash(2), (0..40).map(fat).collect());
        batch.add_provider(hash(2), provider(7, 90))?;
        Ok(())
    });
    written.unwrap();
    let row = catalog.manifest(hash(1)).unwrap().unwrap();
    assert_eq!(row.names, names[4..]);
    let kept = catalog.providers(hash(1)).unwrap();
    assert_eq!(kept.len(), PROVIDERS_MAX);
    assert_eq!(kept[0], provider(59, 1_000));
    assert_eq!(kept[1], provider(58, 58));
    assert!(kept.iter().any(|kept| kept.addresses == ["y"]));
    let kept = catalog.providers(hash(2)).unwrap();
    assert_eq!(kept[0], provider(7, 90));
    assert!(kept.len() >= 2);
    assert_eq!(kept[1].addresses.len(), PROVIDER_ADDRESSES_MAX);

    let relative = catalog.write(|batch| batch.put_digest(Path::new("a/b"), &digest(1)));
    assert!(matches!(relative, Err(CatalogError::Unfit { .. })));
    let endless = PathBuf::from(format!("/{}", "a/".repeat(STORED_PATH_LEN_MAX)));
    let endless = catalog.write(|batch| batch.put_digest(&endless, &digest(1)));
    assert!(matches!(endless, Err(CatalogError::Unfit { .. })));
}

#[test]
fn pages_visit_every_row_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    let written = catalog.write(|batch| {
        for seed in [1, 2, 3] {
            for n in 0..25 {
                batch.put_repo(&repo(seed, &format!("n{n:02}")), &repo_row(n));
            }
        }
        for name in ["/a/b/1", "/a/b/2", "/a/b.c", "/a/bc/3", "/a/b/d/4"] {
            batch.put_digest(Path::new(name), &digest(1))?;
        }
        Ok(())
    });
    written.unwrap();
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = catalog.repos(after.as_ref(), 7).unwrap();
        assert!(page.len() <= 7);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|(id, _)| id));
    }
    assert_eq!(seen.len(), 75);
    assert!(seen.is_sorted());
    let of_two = catalog.repos_of(publisher(2), None, 100).unwrap();
    assert_eq!(of_two.len(), 25);
    assert!(of_two.iter().all(|(id, _)| id.publisher == publisher(2)));
    let rest = catalog.repos_of(publisher(2), Some(&of_two[23].0), 100);
    assert_eq!(rest.unwrap().len(), 1);
    let below = catalog.digests_below(Path::new("/a/b"), None, 100).unwrap();
    let below: Vec<_> = below.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(below, ["/a/b/1", "/a/b/2", "/a/b/d/4"]);
}

#[test]
fn failing_closure_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    let outcome: Result<(), _> = catalog.write(|batch| {
        batch.put_repo(&repo(1, "a"), &repo_row(1));
        Err(CatalogError::Closed)
    });
    assert!(matches!(outcome, Err(CatalogError::Closed)));
    assert_eq!(catalog.repo(&repo(1, "a")).unwrap(), None);
    let panicked = std::panic::catch_unwind(|| {
        catalog.write(|_| -> Result<(), CatalogError> { panic!("the caller's") })
    });
    assert!(panicked.is_err());
    put_repo(&catalog, 1);
}

#[test]
fn concurrent_writers_share_the_fsync_and_lose_nothing() {
    const THREADS: u64 = 16;
    const WRITES: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    let catalog = built(&path);
    let before = lock(&catalog.0.progress).rounds;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let catalog = catalog.clone();
            scope.spawn(move || {
                for write in 0..WRITES {
                    let number = thread * WRITES + write;
                    let added = catalog.write(|batch| {
                        batch.put_place(hash(number), &place(number))?;
                        // Read and written under one lock: nobody's count is lost.
                        let mut row = batch.manifest(hash(0))?.unwrap_or_else(|| manifest_row(vec![]));
                        row.added += 1;
                        batch.put_manifest(hash(0), &row);
                        Ok(())
                    });
                    added.unwrap();
                }
            });
        }
    });
    let rounds = lock(&catalog.0.progress).rounds - before;
    assert!(rounds < THREADS * WRITES, "{rounds} fsyncs");
    // No seal: the copy is what a crash at this moment leaves.
    let copy = folder.path().join("copy");
    copy_folder(&path, &copy);
    let Opened { catalog, state } = Catalog::open(&copy).unwrap();
    assert_eq!(state, OpenState::Good);
    let total = THREADS * WRITES;
    assert_eq!(catalog.places(None, 1_000).unwrap().len() as u64, total);
    let row = catalog.manifest(hash(0)).unwrap().unwrap();
    assert_eq!(row.added, 1_700_000_000 + total);
}

#[test]
fn twenty_thousand_places_are_written_in_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    let start = Instant::now();
    let written = catalog.write(|batch| (0..20_000).try_for_each(|n| batch.put_place(hash(n), &place(n))));
    written.unwrap();
    let took = start.elapsed();
    // Measured: 0.2 s, debug build. The rest is for a busy machine.
    assert!(took < Duration::from_secs(5), "took {took:?}");
    assert_eq!(catalog.place(hash(19_999)).unwrap(), Some(place(19_999)));
    let removed = catalog.write(|batch| {
        (0..20_000).for_each(|n| batch.remove_place(hash(n)));
        Ok(())
    });
    removed.unwrap();
    assert_eq!(catalog.places(None, 10).unwrap(), []);
}

#[test]
fn batch_over_its_bound_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    let written = catalog.write(|batch| {
        (0..=BATCH_CHANGES_MAX as u64).for_each(|n| batch.remove_place(hash(n)));
        Ok(())
    });
    assert!(matches!(written, Err(CatalogError::Unfit { .. })));
    put_repo(&catalog, 1);
}

#[test]
fn second_opener_is_told_and_sealed_catalog_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    let catalog = built(&path);
    let second = Catalog::open(&path).map(|opened| opened.state);
    assert!(matches!(second, Err(CatalogError::InUse { .. })));
    put_repo(&catalog, 1);
    catalog.seal().unwrap();
    catalog.seal().unwrap();
    assert!(matches!(catalog.repos(None, 1), Err(CatalogError::Closed)));
    assert!(matches!(catalog.rebuilt(), Err(CatalogError::Closed)));
    let cleared = catalog.clear_for_rebuild();
    assert!(matches!(cleared, Err(CatalogError::Closed)));
    assert_eq!(state(&path), OpenState::Good);
}

#[test]
fn write_overtaken_by_a_rebuild_is_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    let (_, written) = catalog
        .0
        .apply(|batch| batch.put_place(hash(1), &place(1)))
        .unwrap();
    catalog.clear_for_rebuild().unwrap();
    let outcome = catalog.0.make_durable(written);
    assert!(matches!(outcome, Err(CatalogError::Lost)));
}
