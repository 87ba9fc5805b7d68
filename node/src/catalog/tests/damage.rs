//! What was lost or damaged is noticed, whatever happened to the files between two opens.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;

#[test]
fn new_catalog_is_missing_and_unfinished_rebuild_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    assert_eq!(state(&path), OpenState::Missing);
    assert_eq!(state(&path), OpenState::Stale);
    let catalog = built(&path);
    put_repo(&catalog, 1);
    catalog.clear_for_rebuild().unwrap();
    assert_eq!(catalog.repos(None, 10).unwrap(), []);
    put_repo(&catalog, 2);
    catalog.seal().unwrap();
    assert_eq!(state(&path), OpenState::Stale);
    let catalog = built(&path);
    assert_eq!(catalog.repos(None, 10).unwrap(), []);
    put_repo(&catalog, 3);
    drop(catalog);
    assert_eq!(state(&path), OpenState::Good);
}

#[test]
fn emptied_database_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    let catalog = built(&path);
    put_repo(&catalog, 1);
    catalog.seal().unwrap();
    fs::remove_dir_all(path.join("sled")).unwrap();
    assert_eq!(state(&path), OpenState::Stale);

    // As after the power cuts in which sled lost everything: it opens without an error, and is empty.
    built(&path).seal().unwrap();
    fs::remove_dir_all(path.join("sled")).unwrap();
    drop(sled::open(path.join("sled")).unwrap());
    assert_eq!(state(&path), OpenState::Stale);
}

#[test]
fn older_copy_of_the_database_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    let catalog = built(&path);
    put_repo(&catalog, 1);
    catalog.seal().unwrap();
    let copy = folder.path().join("copy");
    copy_folder(&path.join("sled"), &copy);
    let catalog = built(&path);
    put_repo(&catalog, 2);
    catalog.seal().unwrap();
    fs::remove_dir_all(path.join("sled")).unwrap();
    copy_folder(&copy, &path.join("sled"));
    assert_eq!(state(&path), OpenState::Stale);
}

#[test]
fn database_from_before_a_rebuild_or_from_elsewhere_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let catalog = built(&one);
    for seq in 1..9 {
        put_repo(&catalog, seq);
    }
    catalog.seal().unwrap();
    built(&two).seal().unwrap();
    fs::remove_dir_all(two.join("sled")).unwrap();
    copy_folder(&one.join("sled"), &two.join("sled"));
    assert_eq!(state(&two), OpenState::Stale);
}

#[test]
fn database_without_its_generation_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    built(&path).seal().unwrap();
    fs::remove_file(path.join("generation")).unwrap();
    assert_eq!(state(&path), OpenState::Stale);
    built(&path).seal().unwrap();
    fs::write(path.join("generation"), b"rubbish").unwrap();
    assert_eq!(state(&path), OpenState::Stale);
}

/// Writes enough that sled's file has a middle, and closes.
fn many_places(path: &Path) {
    let catalog = built(path);
    let written = catalog.write(|batch| (0..8_000).try_for_each(|n| batch.put_place(hash(n), &place(n))));
    written.unwrap();
    catalog.seal().unwrap();
}

fn overwrite(file: &Path, from: f64, to: f64) {
    let len = fs::metadata(file).unwrap().len();
    let start = (len as f64 * from) as u64;
    let bytes = vec![0x5a; (len as f64 * (to - from)) as usize];
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&bytes, start).unwrap();
}

#[test]
fn overwritten_database_is_moved_aside_and_two_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    for round in 1..=3 {
        many_places(&path);
        // Opened once more, sled has a snapshot, and no longer reads its whole log.
        assert_eq!(state(&path), OpenState::Good);
        overwrite(&path.join("sled/db"), 0.3, 0.7);
        let found = state(&path);
        assert!(
            matches!(found, OpenState::Damaged { .. }),
            "{found:?} in round {round}"
        );
    }
    let mut aside: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    aside.sort();
    assert_eq!(aside, ["catalog", "catalog.damaged-2", "catalog.damaged-3"]);
}

#[test]
fn no_overwritten_part_of_the_database_is_believed_or_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    many_places(&path);
    let copy = folder.path().join("copy");
    copy_folder(&path, &copy);
    for part in 0..12 {
        for name in ["db", "conf"] {
            fs::remove_dir_all(&path).unwrap();
            copy_folder(&copy, &path);
            let from = f64::from(part) / 12.0;
            overwrite(&path.join("sled").join(name), from, from + 0.02);
            let Opened { catalog, state } = Catalog::open(&path).unwrap();
            if state == OpenState::Good {
                // The damage hit bytes that sled no longer needs.
                let places = catalog.places(None, PAGE_ROWS_MAX).unwrap();
                assert_eq!(places.len(), 8_000, "part {part} of {name}");
            }
            catalog.seal().unwrap();
        }
    }
}

#[test]
fn unreadable_row_is_damage_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    let catalog = built(&path);
    put_repo(&catalog, 1);
    let key = <record::Repos as Table>::key(&repo(1, "r1"));
    let change = engine::Change {
        tree: engine::Tree::Repos,
        key,
        value: Some(vec![9, 9, 9]),
    };
    let live = read_lock(&catalog.0.engine);
    live.as_ref().unwrap().engine.apply(&[change]).unwrap();
    drop(live);
    let read = catalog.repo(&repo(1, "r1"));
    assert!(matches!(read, Err(CatalogError::Damaged { .. })));
    let write = catalog.write(|batch| batch.put_place(hash(1), &place(1)));
    assert!(matches!(write, Err(CatalogError::Damaged { .. })));

    // A crash here, and the next start knows.
    let copy = folder.path().join("copy");
    copy_folder(&path, &copy);
    assert!(matches!(state(&copy), OpenState::Damaged { .. }));

    catalog.clear_for_rebuild().unwrap();
    put_repo(&catalog, 2);
    catalog.rebuilt().unwrap();
    catalog.seal().unwrap();
    assert_eq!(state(&path), OpenState::Good);
    assert!(folder.path().join("catalog.damaged-1").is_dir());
}

#[test]
fn full_disk_is_over_once_the_database_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    put_repo(&catalog, 1);
    let place_one = |batch: &mut Batch<'_>| batch.put_place(hash(1), &place(1));
    let (_, pending) = catalog.0.apply(place_one).unwrap();
    lock(&catalog.0.progress).trouble = Some(commit::Trouble::Full);
    let waited = catalog.0.make_durable(pending);
    assert!(matches!(waited, Err(CatalogError::StorageFull { .. })));
    assert_eq!(catalog.repos(None, 10).unwrap().len(), 1);
    // The next write opens the database anew; what was pending before is not acknowledged by it.
    put_repo(&catalog, 2);
    assert!(matches!(catalog.0.make_durable(pending), Err(CatalogError::Lost)));
    assert_eq!(catalog.repos(None, 10).unwrap().len(), 2);
    catalog.seal().unwrap();
    assert_eq!(state(&folder.path().join("catalog")), OpenState::Good);
}

#[test]
fn rebuild_that_lost_rows_to_a_full_disk_must_begin_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    let catalog = Catalog::open(&path).unwrap().catalog;
    let place_one = |batch: &mut Batch<'_>| batch.put_place(hash(1), &place(1));
    catalog.write_soon(place_one).unwrap();
    {
        let mut progress = lock(&catalog.0.progress);
        progress.trouble = Some(commit::Trouble::Full);
        progress.applied += 1;
    }
    let finished = catalog.rebuilt();
    assert!(matches!(finished, Err(CatalogError::Damaged { .. })));
    catalog.clear_for_rebuild().unwrap();
    catalog.write_soon(place_one).unwrap();
    catalog.rebuilt().unwrap();
    catalog.seal().unwrap();
    assert_eq!(state(&path), OpenState::Good);
}
