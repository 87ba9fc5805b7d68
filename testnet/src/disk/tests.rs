use std::fs::{self, File};
use std::io::{ErrorKind, Write};

use super::*;

/// The disk, or `None` after saying that the test is skipped.
fn available<T>(made: Result<T, DiskError>) -> Option<T> {
    match made {
        Ok(disk) => Some(disk),
        Err(error @ DiskError::Unavailable { .. }) => {
            crate::skip(error);
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .contains(path.to_str().unwrap())
}

#[test]
fn power_cut_keeps_what_was_synced_and_loses_what_was_not() {
    // With a long commit time, nothing reaches the disk by itself while the test runs.
    let options = PowerCutOptions {
        bytes: 256 << 20,
        room_bytes: 1 << 30,
        commit: Some(Duration::from_secs(300)),
    };
    let Some(disk) = available(PowerCut::create(options)) else {
        return;
    };
    let write = |name: &str, sync: bool| {
        let mut file = File::create(disk.live().join(name)).unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        if sync {
            file.sync_all().unwrap();
            File::open(disk.live()).unwrap().sync_all().unwrap();
        }
    };
    write("synced", true);
    write("not synced", false);
    let cut = disk.cut().unwrap();
    assert_eq!(fs::read(cut.path().join("synced")).unwrap(), [7; 100_000]);
    // The positive control: a cut that kept this would prove nothing about the one above.
    let unsynced = fs::read(cut.path().join("not synced"));
    assert_ne!(unsynced.unwrap_or_default(), [7; 100_000]);

    // The live disk goes on, and a second cut sees it as it is then, whatever became of the first.
    fs::write(cut.path().join("synced"), b"changed after the cut").unwrap();
    write("not synced", true);
    let second = disk.cut().unwrap();
    for name in ["synced", "not synced"] {
        assert_eq!(fs::read(second.path().join(name)).unwrap(), [7; 100_000]);
    }
}

#[test]
fn dropping_a_power_cut_leaves_no_mount_and_no_image() {
    let options = PowerCutOptions {
        bytes: 64 << 20,
        room_bytes: 512 << 20,
        commit: None,
    };
    let Some(disk) = available(PowerCut::create(options)) else {
        return;
    };
    let folder = disk.live().parent().unwrap().to_owned();
    let cut = disk.cut().unwrap();
    let cut_path = cut.path().to_owned();
    assert!(is_mounted(&cut_path));
    drop(cut);
    assert!(!is_mounted(&cut_path) && is_mounted(&folder));
    drop(disk);
    assert!(!is_mounted(&folder));
    assert!(!folder.exists());
}

#[test]
fn small_ext4_fills_up_and_takes_writes_again_when_something_is_removed() {
    let Some(disk) = available(SmallDisk::ext4(8 << 20)) else {
        return;
    };
    let full = fs::write(disk.path().join("big"), vec![1; 16 << 20]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    fs::remove_file(disk.path().join("big")).unwrap();
    fs::write(disk.path().join("small"), vec![1; 1 << 20]).unwrap();
}

#[test]
fn small_tmpfs_runs_out_of_bytes_and_of_inodes() {
    let Some(disk) = available(SmallDisk::tmpfs(1 << 20, 10)) else {
        return;
    };
    let full = fs::write(disk.path().join("big"), vec![1; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    // A disk of its own: the inode of a file just removed may be counted for a moment.
    let Some(disk) = available(SmallDisk::tmpfs(1 << 20, 10)) else {
        return;
    };
    let made = (0..20)
        .take_while(|i| File::create(disk.path().join(i.to_string())).is_ok())
        .count();
    assert_eq!(made, 9, "ten inodes are the root and nine files");
}

#[test]
fn read_only_disk_refuses_writes_until_it_is_not() {
    let Some(disk) = available(SmallDisk::ext4(8 << 20)) else {
        return;
    };
    disk.set_read_only(true).unwrap();
    let refused = fs::write(disk.path().join("file"), b"x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    disk.set_read_only(false).unwrap();
    fs::write(disk.path().join("file"), b"x").unwrap();
}

#[test]
fn disk_in_use_when_dropped_goes_once_the_file_is_closed() {
    let Some(disk) = available(SmallDisk::ext4(8 << 20)) else {
        return;
    };
    let path = disk.path().to_owned();
    let mut file = File::create(path.join("open")).unwrap();
    drop(disk);
    assert!(!is_mounted(&path));
    file.write_all(b"still there for whoever holds it").unwrap();
}
