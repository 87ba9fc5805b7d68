//! Verification: anywhere, offline, and to the megabyte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use protocol::{Proof, SHARD_LEN, shard};
use serde_json::Value;
use tempfile::TempDir;
use testnet::{fixture, skip};

use crate::program::{self, Shoal, field, last_json, text};

/// Shards of 1 MiB in the large file, the last one short.
const LARGE: u64 = 5 * SHARD_LEN + 4_567;

/// A published folder, its proof, and a copy that a test may spoil.
struct Proven {
    folder: TempDir,
    repo: String,
    shoal: Shoal,
}

impl Proven {
    fn new() -> Proven {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        let files = [
            ("large.bin", LARGE),
            ("one-shard.bin", SHARD_LEN),
            ("sub/small.txt", 100),
            ("empty", 0),
        ];
        fixture::folder(&model, 1, &files).unwrap();
        let shoal = Shoal::new();
        let repo = field(&shoal.publish(&model, &[]), "repo").to_owned();
        let said = shoal.run(&["proof", &repo, "--out", text(&folder.path().join("model.proof"))]);
        assert!(said.status.success(), "{said:?}");
        Proven { folder, repo, shoal }
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn proof(&self) -> PathBuf {
        self.folder.path().join("model.proof")
    }

    /// Runs `shoal verify` on the folder where there is no data folder.
    fn verify(&self) -> (i32, Value) {
        self.verify_by(Command::new(program::path()))
    }

    fn verify_by(&self, mut command: Command) -> (i32, Value) {
        let nowhere = self.folder.path().join("no/data/folder");
        command.args([
            "verify",
            text(&self.model()),
            "--proof",
            text(&self.proof()),
            "--json",
            "--data",
        ]);
        let output = command.arg(&nowhere).output().unwrap();
        assert!(!nowhere.exists(), "verifying made a data folder");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let code = output.status.code().unwrap();
        let report = last_json(&stdout);
        let report =
            report.unwrap_or_else(|| panic!("code {code}: {}", String::from_utf8_lossy(&output.stderr)));
        (code, report)
    }

    /// Spoils the folder, and returns what a verification finds bad then: path, reason and offset.
    fn bad(&self, spoil: impl FnOnce(&Path)) -> Vec<(String, String, Option<u64>)> {
        spoil(&self.model());
        let (code, report) = self.verify();
        assert_eq!((code, &report["ok"]), (3, &Value::Bool(false)), "{report}");
        let bad = report["bad"].as_array().unwrap().iter();
        bad.map(|bad| {
            (
                field(bad, "path").to_owned(),
                field(bad, "reason").to_owned(),
                bad["offset"].as_u64(),
            )
        })
        .collect()
    }
}

fn bad(path: &str, reason: &str, offset: impl Into<Option<u64>>) -> (String, String, Option<u64>) {
    (path.to_owned(), reason.to_owned(), offset.into())
}

#[test]
fn untouched_folder_verifies_and_names_its_publisher() {
    let proven = Proven::new();
    let (code, report) = proven.verify();
    assert_eq!(
        (code, &report["ok"], &report["files"]),
        (0, &Value::Bool(true), &Value::from(4)),
        "{report}"
    );
    assert_eq!(report["bad"], Value::Array(Vec::new()));
    let said = proven
        .shoal
        .run(&["verify", text(&proven.model()), "--proof", text(&proven.proof())]);
    assert!(said.stdout.contains(&proven.repo), "{said:?}");
}

#[test]
fn every_bad_shard_is_named_by_its_offset_and_no_good_one() {
    let found = Proven::new().bad(|model| {
        // The first and last byte of shards, and the last byte of all.
        for offset in [0, 2 * SHARD_LEN - 1, 3 * SHARD_LEN, LARGE - 1] {
            fixture::flip(&model.join("large.bin"), offset).unwrap();
        }
        fixture::flip(&model.join("sub/small.txt"), 99).unwrap();
    });
    let large =
        [0, SHARD_LEN, 3 * SHARD_LEN, 5 * SHARD_LEN].map(|offset| bad("large.bin", "changed", offset));
    assert_eq!(
        found,
        [&large[..], &[bad("sub/small.txt", "changed", 0)]].concat()
    );
}

#[test]
fn missing_and_extra_files_are_named() {
    let found = Proven::new().bad(|model| {
        fs::remove_file(model.join("one-shard.bin")).unwrap();
        fs::remove_file(model.join("empty")).unwrap();
        fs::write(model.join("sub/unasked.bin"), b"x").unwrap();
    });
    let wanted = [
        bad("empty", "missing", None),
        bad("one-shard.bin", "missing", None),
        bad("sub/unasked.bin", "extra", None),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn truncated_file_is_told_with_what_is_lost() {
    let found = Proven::new().bad(|model| {
        let file = fs::File::options()
            .write(true)
            .open(model.join("large.bin"))
            .unwrap();
        file.set_len(3 * SHARD_LEN + 1).unwrap();
    });
    let lost = [3, 4, 5].map(|index| bad("large.bin", "changed", index * SHARD_LEN));
    assert_eq!(
        found,
        [&[bad("large.bin", "wrong_size", None)], &lost[..]].concat()
    );
}

#[test]
fn file_that_grew_is_told_although_all_its_old_bytes_are_right() {
    let found = Proven::new().bad(|model| {
        let grown = fixture::bytes(1, "large.bin", LARGE as usize);
        assert_eq!(
            grown,
            fs::read(model.join("large.bin")).unwrap(),
            "the fixture is as it was"
        );
        fs::write(model.join("large.bin"), [&grown[..], b"more"].concat()).unwrap();
    });
    assert_eq!(found.first(), Some(&bad("large.bin", "wrong_size", None)));
}

#[test]
fn folder_in_the_place_of_a_file_is_no_file() {
    let found = Proven::new().bad(|model| {
        fs::remove_file(model.join("one-shard.bin")).unwrap();
        fs::create_dir(model.join("one-shard.bin")).unwrap();
    });
    assert_eq!(found, [bad("one-shard.bin", "missing", None)]);
}

#[test]
fn verification_needs_neither_network_nor_data_folder() {
    if !program::works("unshare", &["-n", "true"]) {
        return skip("unshare -n takes no network away here");
    }
    let proven = Proven::new();
    let mut command = Command::new("unshare");
    command.arg("-n").arg(program::path());
    let (code, report) = proven.verify_by(command);
    assert_eq!(code, 0, "{report}");
}

#[test]
fn no_edited_byte_of_a_proof_is_believed() {
    let proven = Proven::new();
    let whole = fs::read(proven.proof()).unwrap();
    let proof = Proof::decode(&whole).unwrap();
    // Everywhere: the head, the manifest, the signature, the release and the chaining values.
    for at in (0..whole.len())
        .step_by(whole.len() / 97 + 1)
        .chain([whole.len() - 1])
    {
        let mut edited = whole.clone();
        edited[at] ^= 1;
        assert!(
            Proof::decode(&edited).is_err(),
            "byte {at} of {} can be changed",
            whole.len()
        );
    }
    for len in [0, 1, whole.len() / 2, whole.len() - 1] {
        assert!(
            Proof::decode(&whole[..len]).is_err(),
            "{len} of {} bytes are a proof",
            whole.len()
        );
    }
    let counts: Vec<u32> = proof
        .manifest()
        .files()
        .iter()
        .map(|file| shard::shard_count(file.size))
        .collect();
    assert_eq!(
        proof.shards().iter().map(Vec::len).max(),
        counts.iter().map(|count| *count as usize).max()
    );
}

#[test]
fn proof_with_a_wrong_signature_is_a_failed_verification() {
    let proven = Proven::new();
    let mut bytes = fs::read(proven.proof()).unwrap();
    let release = Proof::decode(&bytes).unwrap().release().unwrap().encode();
    let at = bytes
        .windows(release.len())
        .position(|window| window == release)
        .unwrap();
    bytes[at + 10] ^= 1;
    fs::write(proven.proof(), bytes).unwrap();
    let said = proven.shoal.fails(
        3,
        &["verify", text(&proven.model()), "--proof", text(&proven.proof())],
    );
    assert!(said.stderr.contains("signature"), "{said:?}");
}

#[test]
fn repo_in_the_store_is_verified_where_its_bytes_lie() {
    let proven = Proven::new();
    let report = proven.shoal.json(&["verify", &proven.repo]);
    assert_eq!(report["ok"], Value::Bool(true));
    fixture::keep_times(&proven.model().join("large.bin"), || {
        fixture::flip(&proven.model().join("large.bin"), 4 * SHARD_LEN + 1)
    })
    .unwrap();
    let said = proven.shoal.fails(3, &["verify", &proven.repo, "--json"]);
    let report = last_json(&said.stdout).unwrap();
    assert_eq!(report["bad"][0]["path"], "large.bin");
    assert_eq!(report["bad"][0]["offset"], 4 * SHARD_LEN);
    assert_eq!(report["bad"].as_array().unwrap().len(), 1, "{report}");
    let said = proven.shoal.fails(3, &["verify", &proven.repo]);
    let told = format!("{}{}", said.stdout, said.stderr);
    assert!(
        told.contains("large.bin") && told.contains(&(4 * SHARD_LEN).to_string()),
        "{said:?}"
    );
}
