//! The data folder: one process at a time, private, and understandable when it cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use node::library::{Library, OpenError};
use rustix::process::geteuid;
use tempfile::TempDir;
use testnet::fixture;

use crate::program::{self, Shoal, field, text};

/// Nobody: a user with no rights of its own.
const NOBODY: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
async fn second_process_on_a_data_folder_is_told_who_has_it() {
    let shoal = Shoal::new();
    let daemon = tokio::task::block_in_place(|| shoal.up());
    let pid = daemon.id().to_string();
    let refused = tokio::task::block_in_place(|| shoal.fails(1, &["up", "--http", "127.0.0.1:0"]));
    assert!(
        refused.stderr.contains(&pid) && refused.stderr.contains("hint: "),
        "{refused:?}"
    );
    assert!(refused.stderr.contains(text(shoal.data())), "{refused:?}");
    // As a library too.
    match Library::open(shoal.data()).await {
        Err(OpenError::InUse { pid: Some(pid), .. }) => assert_eq!(pid, daemon.id()),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two processes have opened one data folder"),
    }
}

#[test]
fn folder_is_free_as_soon_as_its_process_is_gone_however_it_went() {
    let shoal = Shoal::new();
    let mut daemon = shoal.up();
    daemon.kill_nine().unwrap();
    shoal.json(&["ls"]);
    let again = shoal.up();
    assert_ne!(again.id(), daemon.id());
}

/// The program where everybody may run it, whatever the mode of the folder it was built in.
fn program_for_everybody(folder: &TempDir) -> PathBuf {
    let place = folder.path().join("shoal");
    if fs::hard_link(program::path(), &place).is_err() {
        fs::copy(program::path(), &place).unwrap();
    }
    for path in [folder.path(), &place] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    place
}

/// Runs the program as somebody who has no rights in `data`.
fn run_without_rights(data: &Path, args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program_for_everybody(&folder));
    command.args(args).arg("--data").arg(data).current_dir("/");
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn folder_without_permission_is_named_with_the_next_step() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let shut = place.path().join("shut");
    fs::create_dir(&shut).unwrap();
    for mode in [0o000, 0o500] {
        fs::set_permissions(&shut, fs::Permissions::from_mode(mode)).unwrap();
        for command in ["ls", "id"] {
            let (code, stderr) = run_without_rights(&shut, &[command]);
            assert_eq!(code, Some(1), "{stderr}");
            assert!(
                stderr.contains(text(&shut)) && stderr.contains("hint: "),
                "{stderr}"
            );
            assert!(!stderr.contains("panicked"), "{stderr}");
        }
    }
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(
        fs::read_dir(&shut).unwrap().count(),
        0,
        "something was written all the same"
    );
}

#[test]
fn folder_that_is_a_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, b"not a folder").unwrap();
    let said = testnet::nodes::shoal(program::path(), &file, &["ls"]).unwrap();
    assert_eq!(said.code(), 1, "{said:?}");
    assert!(said.stderr.contains(text(&file)), "{said:?}");
    assert_eq!(fs::read(&file).unwrap(), b"not a folder");
}

#[test]
fn keys_are_private_and_stay_the_same() {
    let shoal = Shoal::new();
    let first = shoal.json(&["id"]);
    for key in ["node.key", "publisher.key"] {
        let mode = fs::metadata(shoal.data().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    assert_eq!(shoal.json(&["id"]), first);
    // A key that others could read is not used.
    fs::set_permissions(
        shoal.data().join("publisher.key"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let said = shoal.fails(1, &["id"]);
    assert!(said.stderr.contains("publisher.key"), "{said:?}");
}

#[test]
fn wrong_configuration_is_named_by_its_line() {
    let shoal = Shoal::new();
    let config = shoal.data().join("config.toml");
    let right = fs::read_to_string(&config).unwrap();
    for (wrong, named) in [
        ("mdnss = true", "mdnss"),
        ("listen = 7", "listen"),
        ("[peers", "config.toml"),
    ] {
        fs::write(&config, format!("{right}{wrong}\n")).unwrap();
        let said = shoal.run(&["up", "--http", "127.0.0.1:0"]);
        assert_eq!(said.code(), 1, "{said:?}");
        assert!(
            said.stderr.contains(named) && said.stderr.contains("config.toml"),
            "{said:?}"
        );
    }
}

/// Does something bad to the folder of the catalog.
type Spoil = fn(&Path);

#[tokio::test(flavor = "multi_thread")]
async fn catalog_that_is_gone_or_spoiled_is_made_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (folder.path().join("data"), folder.path().join("model"));
    fixture::folder(&model, 1, &[("large.bin", 2_000_000), ("small.txt", 20)]).unwrap();
    let library = Library::open(&data).await.unwrap();
    let published = library
        .publish(crate::acts::request(&model, "model"), &crate::acts::unseen())
        .await
        .unwrap();
    let mut before = library.list().unwrap();
    library.close().await;
    let spoil: [(&str, Spoil); 3] = [
        ("removed", |catalog| fs::remove_dir_all(catalog).unwrap()),
        ("emptied", |catalog| {
            fs::remove_dir_all(catalog).unwrap();
            fs::create_dir(catalog).unwrap();
        }),
        ("overwritten", |catalog| {
            for path in crate::acts::files(catalog) {
                let len = fs::metadata(&path).unwrap().len() as usize;
                fs::write(&path, fixture::bytes(9, "garbage", len)).unwrap();
            }
        }),
    ];
    for (what, spoil) in spoil {
        spoil(&data.join("catalog"));
        let library = Library::open(&data)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let after = library.list().unwrap();
        assert_eq!(after, before, "{what}");
        crate::acts::assert_verifies(&library, &published.repo).await;
        before = after;
        library.close().await;
    }
}

#[test]
fn catalog_is_rebuilt_when_asked() {
    let shoal = Shoal::new();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fixture::toy_model(&model, 1).unwrap();
    let repo = field(&shoal.publish(&model, &[]), "repo").to_owned();
    let before = shoal.json(&["ls"]);
    let rebuilt = shoal.json(&["catalog", "rebuild"]);
    assert_eq!(
        (rebuilt["repos"].as_u64(), rebuilt["manifests"].as_u64()),
        (Some(1), Some(1)),
        "{rebuilt}"
    );
    assert_eq!(shoal.json(&["ls"]), before);
    assert_eq!(shoal.json(&["verify", &repo])["ok"], true);
}
