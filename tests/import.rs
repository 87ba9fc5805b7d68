//! What the Hub's tools have already fetched is published as what it is, and nothing that only pretends to be part of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha1::Digest;
use tempfile::TempDir;
use testnet::fixture;

use crate::acts::age;
use crate::program::{Shoal, field, last_json, text};

/// Longer than two shards, so that it is served from where it lies.
const BIG: usize = 2 * 1024 * 1024 + 12_345;

const MAIN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OLDER: &str = "0000000000000000000000000000000000000001";

/// A cache as the Hub's Python client lays it out.
pub(crate) struct HubCache {
    folder: TempDir,
}

impl HubCache {
    pub(crate) fn new() -> HubCache {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("hub/.locks/models--acme--tiny")).unwrap();
        fs::write(folder.path().join("hub/version.txt"), "1").unwrap();
        HubCache { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// Something beside the cache that is nobody's to publish.
    fn secret(&self) -> PathBuf {
        let path = self.folder.path().join("secret.txt");
        fs::write(&path, "not yours").unwrap();
        path
    }

    fn repo(&self, repo: &str) -> PathBuf {
        self.path().join(repo)
    }

    /// Puts a file into a revision; returns its blob.
    fn file(&self, repo: &str, commit: &str, path: &str, bytes: &[u8]) -> PathBuf {
        let name = match path.ends_with(".safetensors") {
            true => hex(&sha2::Sha256::digest(bytes)),
            false => git_id(bytes),
        };
        let blob = self.repo(repo).join("blobs").join(&name);
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, bytes).unwrap();
        self.link(repo, commit, path, &name);
        blob
    }

    fn link(&self, repo: &str, commit: &str, path: &str, blob: &str) {
        let link = self.repo(repo).join("snapshots").join(commit).join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(path.matches('/').count() + 2);
        symlink(format!("{up}blobs/{blob}"), link).unwrap();
    }

    fn main(&self, repo: &str, commit: &str) {
        let refs = self.repo(repo).join("refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.join("main"), commit).unwrap();
    }

    /// A repo of two revisions: `main` is the newer one.
    fn tiny(&self, repo: &str, seed: u64) {
        let config = |version| format!("{{\"seed\":{seed},\"version\":{version}}}").into_bytes();
        self.file(repo, OLDER, "config.json", &config(1));
        self.file(repo, MAIN, "config.json", &config(2));
        self.file(repo, MAIN, "deep/er/vocab.txt", b"a\nb\n");
        self.file(
            repo,
            MAIN,
            "model.safetensors",
            &fixture::bytes(seed, "model", BIG),
        );
        self.main(repo, MAIN);
        age(&self.repo(repo).join("blobs"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git_id(bytes: &[u8]) -> String {
    let hasher = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hex(&hasher.chain_update(bytes).finalize())
}

/// What became of one repo.
fn repo<'a>(imported: &'a Value, upstream: &str, kind: &str) -> &'a Value {
    let repos = imported["repos"].as_array().unwrap();
    let mut found = repos
        .iter()
        .filter(|repo| repo["upstream"] == upstream && repo["kind"] == kind);
    found
        .next()
        .unwrap_or_else(|| panic!("{kind} {upstream} in {imported}"))
}

fn paths(shown: &Value) -> BTreeSet<&str> {
    let entries = shown["entries"].as_array().unwrap();
    entries.iter().map(|entry| field(entry, "path")).collect()
}

/// The notes and problems below a value, one after the other.
fn words(value: &Value) -> String {
    value["left_out"].to_string() + &value["problems"].to_string() + &value["problem"].to_string()
}

#[test]
fn cache_is_published_with_its_upstreams_and_from_where_it_lies() {
    let cache = HubCache::new();
    cache.tiny("models--acme--tiny", 1);
    cache.tiny("models--gpt2", 2);
    let shoal = Shoal::new();
    let imported = shoal.json(&["import", text(&cache.path())]);
    let left_out = imported["left_out"].to_string();
    assert!(
        left_out.contains(".locks") && !left_out.contains("version.txt"),
        "{imported}"
    );
    let tiny = repo(&imported, "acme/tiny", "model");
    assert_eq!(tiny["revisions"].as_array().unwrap().len(), 1, "{tiny}");
    let revision = &tiny["revisions"][0];
    assert_eq!(
        (
            &revision["fate"],
            &revision["files"],
            &revision["verified"],
            &revision["seq"]
        ),
        (&json!("published"), &json!(3), &json!(3), &json!(1))
    );
    let name = field(tiny, "repo");
    assert!(name.ends_with("/tiny"), "{name}");
    let shown = shoal.json(&["show", name]);
    assert_eq!(
        shown["upstream"],
        json!({"commit": MAIN, "hub": "huggingface.co", "repo": "acme/tiny"})
    );
    assert_eq!(
        paths(&shown),
        BTreeSet::from(["config.json", "deep/er/vocab.txt", "model.safetensors"])
    );
    let entries = shown["entries"].as_array().unwrap();
    let model = entries
        .iter()
        .find(|entry| entry["path"] == "model.safetensors")
        .unwrap();
    let place = field(model, "place");
    assert!(
        place.starts_with("reference ") && place.contains("/blobs/"),
        "{place}"
    );
    assert_eq!(shoal.json(&["verify", name])["ok"], true);
    assert_eq!(
        shoal.json(&["show", field(repo(&imported, "gpt2", "model"), "repo")])["upstream"]["repo"],
        "gpt2"
    );
    // The same again: nothing is read, and nothing is signed.
    let again = shoal.json(&["import", text(&cache.path())]);
    let again = &repo(&again, "acme/tiny", "model")["revisions"][0];
    assert_eq!(
        (&again["fate"], &again["seq"], &again["read_bytes"]),
        (&json!("unchanged"), &json!(1), &json!(0)),
        "{again}"
    );
    // A file more of the same commit is another content, and so a new release.
    cache.file("models--acme--tiny", MAIN, "README.md", b"# tiny\n");
    let more = shoal.json(&["import", text(&cache.repo("models--acme--tiny"))]);
    let more = &repo(&more, "acme/tiny", "model")["revisions"][0];
    assert_eq!(
        (&more["fate"], &more["seq"]),
        (&json!("published"), &json!(2)),
        "{more}"
    );
}

#[test]
fn damaged_blob_is_named_and_its_revision_is_not_published() {
    let cache = HubCache::new();
    cache.tiny("models--acme--good", 1);
    cache.tiny("models--acme--rotten", 2);
    cache.tiny("models--acme--typo", 3);
    let blob = cache.file("models--acme--rotten", MAIN, "model-2.safetensors", b"weights");
    fixture::flip(&blob, 3).unwrap();
    let blob = cache.file("models--acme--typo", MAIN, "notes.txt", b"notes");
    fixture::flip(&blob, 0).unwrap();
    let shoal = Shoal::new();
    let said = shoal.fails(3, &["import", text(&cache.path()), "--json"]);
    let imported = last_json(&said.stdout).unwrap();
    for (name, path) in [("acme/rotten", "model-2.safetensors"), ("acme/typo", "notes.txt")] {
        let revision = &repo(&imported, name, "model")["revisions"][0];
        assert_eq!(
            (&revision["fate"], &revision["manifest"]),
            (&json!("damaged"), &Value::Null)
        );
        assert_eq!(revision["problems"].as_array().unwrap().len(), 1, "{revision}");
        assert!(words(revision).contains(path), "{revision}");
    }
    assert_eq!(
        repo(&imported, "acme/good", "model")["revisions"][0]["fate"],
        "published"
    );
    assert_eq!(shoal.json(&["ls"]).as_array().unwrap().len(), 1);
    let said = shoal.fails(3, &["import", text(&cache.path())]);
    assert!(
        said.stdout.contains("damaged") && said.stdout.contains("model-2.safetensors"),
        "{said:?}"
    );
}

#[test]
fn what_leads_out_of_the_repo_or_is_not_whole_is_left_out() {
    let cache = HubCache::new();
    let secret = cache.secret();
    let name = "models--acme--tiny";
    cache.tiny(name, 1);
    cache.tiny("models--acme--other", 2);
    let snapshot = cache.repo(name).join("snapshots").join(MAIN);
    let blobs = cache.repo(name).join("blobs");
    symlink(&secret, snapshot.join("absolute.txt")).unwrap();
    symlink("../../../../secret.txt", snapshot.join("relative.txt")).unwrap();
    symlink(
        "../../../models--acme--other/refs/main",
        snapshot.join("neighbour.txt"),
    )
    .unwrap();
    symlink("../../refs/main", snapshot.join("ref.txt")).unwrap();
    symlink(&secret, blobs.join("0".repeat(64))).unwrap();
    cache.link(name, MAIN, "by-blob.txt", &"0".repeat(64));
    symlink(cache.folder.path(), snapshot.join("folder")).unwrap();
    // Two of whose files something is missing.
    for (name, link, blob) in [
        ("models--acme--part", "gone.bin", "1".repeat(64)),
        (
            "models--acme--half",
            "half.bin",
            format!("{}.incomplete", "2".repeat(64)),
        ),
    ] {
        cache.tiny(name, 6);
        let blobs = cache.repo(name).join("blobs");
        fs::write(blobs.join(format!("{}.incomplete", "2".repeat(64))), b"half").unwrap();
        cache.link(name, MAIN, link, &blob);
    }
    fs::create_dir_all(cache.repo(name).join(".no_exist").join(MAIN)).unwrap();
    // Refs that name no commit, or one that is not here.
    cache.tiny("models--acme--climbs", 3);
    cache.main("models--acme--climbs", "../../models--acme--tiny/snapshots/x");
    cache.tiny("models--acme--links", 4);
    let main = cache.repo("models--acme--links").join("refs/main");
    fs::remove_file(&main).unwrap();
    symlink(&secret, &main).unwrap();
    cache.tiny("models--acme--absent", 5);
    cache.main("models--acme--absent", &"b".repeat(40));
    // A snapshot that is elsewhere, and a repo that is.
    cache.main("models--acme--away", MAIN);
    fs::create_dir_all(cache.repo("models--acme--away").join("snapshots")).unwrap();
    symlink(
        cache.folder.path(),
        cache.repo("models--acme--away").join("snapshots").join(MAIN),
    )
    .unwrap();
    symlink(cache.folder.path(), cache.repo("models--acme--linked")).unwrap();

    let shoal = Shoal::new();
    let said = shoal.fails(1, &["import", text(&cache.path()), "--json"]);
    let imported = last_json(&said.stdout).unwrap();
    let tiny = repo(&imported, "acme/tiny", "model");
    let shown = shoal.json(&["show", field(tiny, "repo")]);
    assert_eq!(
        paths(&shown),
        BTreeSet::from(["config.json", "deep/er/vocab.txt", "model.safetensors"])
    );
    let told = words(&tiny["revisions"][0]);
    for left_out in [
        "absolute.txt",
        "relative.txt",
        "neighbour.txt",
        "ref.txt",
        "by-blob.txt",
        "folder",
    ] {
        assert!(told.contains(left_out), "{left_out}: {told}");
    }
    let told = words(tiny);
    assert!(told.contains(".no_exist"), "{told}");
    // What is not whole is no copy of its upstream: clients would remember that what is missing does not exist.
    for (name, link, why) in [
        ("acme/part", "gone.bin", "its blob is not here"),
        ("acme/half", "half.bin", "its download did not end"),
    ] {
        let revision = &repo(&imported, name, "model")["revisions"][0];
        assert_eq!(
            (&revision["fate"], &revision["missing"]),
            (&json!("stored"), &json!(1))
        );
        assert_eq!(revision["copy"], false);
        let told = words(revision);
        assert!(told.contains(link) && told.contains(why), "{told}");
    }
    for (name, why) in [
        ("acme/climbs", "names no commit"),
        ("acme/links", "no refs/main"),
        ("acme/absent", "no snapshot here"),
        ("acme/away", "no snapshot here"),
    ] {
        let wrong = repo(&imported, name, "model");
        assert!(words(wrong).contains(why), "{wrong}");
        assert_eq!(wrong["revisions"], json!([]), "{wrong}");
    }
    assert!(words(&imported).contains("models--acme--linked"), "{imported}");
    // The two that are not whole are of one content.
    assert_eq!(shoal.json(&["ls"]).as_array().unwrap().len(), 3);
}

#[test]
fn all_revisions_end_with_main_and_are_released_once() {
    let cache = HubCache::new();
    cache.tiny("models--acme--tiny", 1);
    let shoal = Shoal::new();
    let import = || {
        let imported = shoal.json(&["import", text(&cache.path()), "--all-revisions"]);
        let tiny = repo(&imported, "acme/tiny", "model").clone();
        let commits: Vec<Value> = tiny["revisions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|revision| json!([revision["commit"], revision["fate"]]))
            .collect();
        (field(&tiny, "repo").to_owned(), commits)
    };
    let (name, commits) = import();
    assert_eq!(commits, [json!([OLDER, "published"]), json!([MAIN, "published"])]);
    let (_, commits) = import();
    assert_eq!(commits, [json!([OLDER, "unchanged"]), json!([MAIN, "unchanged"])]);
    let shown = shoal.json(&["show", &name]);
    assert_eq!(
        (&shown["upstream"]["commit"], &shown["view"]["seq"]),
        (&json!(MAIN), &json!(2))
    );
}

#[test]
fn two_of_one_name_keep_their_owners_and_a_name_can_be_given() {
    let cache = HubCache::new();
    cache.tiny("models--acme--tiny", 1);
    cache.tiny("datasets--acme--tiny", 2);
    let shoal = Shoal::new();
    let said = shoal.fails(1, &["import", text(&cache.path()), "--name", "mine"]);
    assert!(said.stderr.contains("hint: "), "{said:?}");
    let one = cache.repo("datasets--acme--tiny");
    let imported = shoal.json(&["import", text(&one), "--name", "mine"]);
    assert!(field(repo(&imported, "acme/tiny", "dataset"), "repo").ends_with("/mine"));
    // What has a name keeps it.
    let imported = shoal.json(&["import", text(&cache.path())]);
    assert!(field(repo(&imported, "acme/tiny", "dataset"), "repo").ends_with("/mine"));
    assert!(field(repo(&imported, "acme/tiny", "model"), "repo").ends_with("/acme-tiny"));
    let listed = shoal.json(&["ls"]);
    let kinds: BTreeSet<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|view| field(view, "kind"))
        .collect();
    assert_eq!(kinds, BTreeSet::from(["dataset", "model"]));
}

#[test]
fn store_signs_nothing_and_dry_run_does_nothing() {
    let cache = HubCache::new();
    cache.tiny("models--acme--tiny", 1);
    let shoal = Shoal::new();
    let planned = shoal.json(&["import", text(&cache.path()), "--dry-run"]);
    let planned = repo(&planned, "acme/tiny", "model");
    assert_eq!(
        (
            &planned["revisions"][0]["fate"],
            &planned["revisions"][0]["files"]
        ),
        (&json!("planned"), &json!(3))
    );
    assert_eq!(shoal.json(&["ls"]), json!([]));
    let stored = shoal.json(&["import", text(&cache.path()), "--store", "--copy"]);
    let stored = repo(&stored, "acme/tiny", "model");
    assert_eq!(
        (&stored["repo"], &stored["revisions"][0]["fate"]),
        (&Value::Null, &json!("stored"))
    );
    let listed = shoal.json(&["ls"]);
    assert_eq!(
        (&listed[0]["repo"], &listed[0]["pinned"], &listed[0]["complete"]),
        (&Value::Null, &json!(true), &json!(true))
    );
    // By copy: the cache may go.
    drop(cache);
    shoal.json(&["collect"]);
    let hash = format!("blake3/{}", field(&listed[0], "manifest"));
    assert_eq!(shoal.json(&["verify", &hash])["ok"], true);
    shoal.fails(1, &["import", "/does/not/exist"]);
    let nothing = tempfile::tempdir().unwrap();
    let said = shoal.fails(1, &["import", text(nothing.path())]);
    assert!(
        said.stderr.contains("neither") && said.stderr.contains("hint: "),
        "{said:?}"
    );
}

#[test]
fn newer_clients_shared_blobs_and_lists_of_files_are_understood() {
    let cache = HubCache::new();
    let name = "models--acme--tiny";
    cache.tiny(name, 1);
    // The bytes lie in a folder that repos share, named by something that is not their digest.
    let bytes = fixture::bytes(7, "shared", BIG);
    let blob = cache.file(name, MAIN, "shared.safetensors", &bytes);
    let shared = cache.path().join("blobs/cd").join("cd".repeat(32));
    fs::create_dir_all(shared.parent().unwrap()).unwrap();
    fs::rename(&blob, &shared).unwrap();
    symlink(Path::new("../../blobs/cd").join("cd".repeat(32)), &blob).unwrap();
    let tree = json!({"format_version": 1, "files": {
        "config.json": {"size": 1, "blob_id": "x"}, "deep/er/vocab.txt": {}, "model.safetensors": {},
        "shared.safetensors": {}, "never-fetched.bin": {"size": 5}}});
    let trees = cache.repo(name).join("trees");
    fs::create_dir_all(&trees).unwrap();
    fs::write(trees.join(format!("{MAIN}.json")), tree.to_string()).unwrap();
    let shoal = Shoal::new();
    let imported = shoal.json(&["import", text(&cache.path())]);
    let revision = &repo(&imported, "acme/tiny", "model")["revisions"][0];
    assert_eq!(
        (&revision["files"], &revision["verified"], &revision["missing"]),
        (&json!(4), &json!(4), &json!(1)),
        "{revision}"
    );
    // A part is not released as a copy: whoever asks it for the rest would be told that there is no such file.
    assert_eq!(
        (&revision["fate"], &revision["seq"], &revision["copy"]),
        (&json!("stored"), &Value::Null, &json!(false)),
        "{revision}"
    );
    let said = shoal.run(&["import", text(&cache.path())]);
    assert!(said.stdout.contains("1 of its files are not here"), "{said:?}");
    assert!(said.stdout.contains("--name"), "{said:?}");
    // Under a name of its own it may be released, as what it is.
    let named = shoal.json(&["import", text(&cache.repo(name)), "--name", "some-of-it"]);
    let revision = &repo(&named, "acme/tiny", "model")["revisions"][0];
    assert_eq!(
        (&revision["fate"], &revision["copy"]),
        (&json!("published"), &json!(false))
    );
    let shown = shoal.json(&["show", field(repo(&named, "acme/tiny", "model"), "repo")]);
    assert_eq!(shown["upstream"], Value::Null, "{shown}");
    // With the last file it is the copy.
    cache.file(name, MAIN, "never-fetched.bin", b"12345");
    age(&cache.repo(name).join("blobs"));
    let imported = shoal.json(&["import", text(&cache.path())]);
    let revision = &repo(&imported, "acme/tiny", "model")["revisions"][0];
    assert_eq!(
        (&revision["fate"], &revision["missing"], &revision["copy"]),
        (&json!("published"), &json!(0), &json!(true)),
        "{revision}"
    );
    let shown = shoal.json(&["show", field(repo(&imported, "acme/tiny", "model"), "repo")]);
    assert_eq!(shown["upstream"]["commit"], json!(MAIN), "{shown}");
    // The name that the repo gives the shared bytes is what they are held against.
    fixture::flip(&shared, 5).unwrap();
    let said = shoal.fails(3, &["import", text(&cache.path())]);
    assert!(said.stdout.contains("shared.safetensors"), "{said:?}");
}

#[test]
fn running_node_imports_serves_and_hands_out_to_a_cache_again() {
    let cache = HubCache::new();
    cache.tiny("datasets--acme--tiny", 1);
    let (a, b) = (Shoal::new(), Shoal::new());
    let node = a.up();
    let imported = a.json(&["import", text(&cache.path())]);
    let name = field(repo(&imported, "acme/tiny", "dataset"), "repo").to_owned();
    let publisher = name.split('/').next().unwrap();
    b.json(&["follow", publisher, "--as", "acme"]);
    let other = b.folder("other/hub");
    let fetch = [
        "fetch",
        "acme/tiny",
        "--peer",
        &node.ready().listen[0],
        "--hf-cache",
        text(&other),
    ];
    let fetched = b.json(&fetch);
    let manifest = field(&fetched, "manifest");
    let folder = other.canonicalize().unwrap().join("datasets--acme--tiny");
    let snapshot = folder.join("snapshots").join(&manifest[..40]);
    assert_eq!(field(&fetched, "hf_cache"), text(&snapshot));
    let from = cache.repo("datasets--acme--tiny").join("snapshots").join(MAIN);
    fixture::assert_same(&from, &snapshot);
    // To the letter what the client would have written, but for the commit, which is ours.
    assert_eq!(
        fs::read_to_string(folder.join("refs/main")).unwrap(),
        &manifest[..40]
    );
    for path in ["config.json", "deep/er/vocab.txt", "model.safetensors"] {
        assert_eq!(
            fs::read_link(snapshot.join(path)).unwrap(),
            fs::read_link(from.join(path)).unwrap(),
            "{path}"
        );
    }
    // Again: all of it is there. And what it makes can be imported, as the same content.
    assert_eq!(b.json(&fetch)["fetched_bytes"], 0);
    let back = b.json(&["import", text(&other), "--store"]);
    let back = &repo(&back, "acme/tiny", "dataset")["revisions"][0];
    assert_eq!(
        (&back["manifest"], &back["fate"]),
        (&fetched["manifest"], &json!("stored"))
    );
}

#[test]
fn what_is_in_the_way_in_a_cache_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fixture::toy_model(&model, 1).unwrap();
    let shoal = Shoal::new();
    let published = shoal.publish(&model, &[]);
    let name = field(&published, "repo");
    let outside = folder.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let cache = folder.path().join("hub");
    fs::create_dir_all(&cache).unwrap();
    symlink(
        &outside,
        cache.join(format!("models--{}", name.replace('/', "--"))),
    )
    .unwrap();
    let said = shoal.fails(1, &["fetch", name, "--hf-cache", text(&cache)]);
    assert!(said.stderr.contains("is in the way"), "{said:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Another cache, found as the clients find it; an edit there does not reach the published files.
    let mut command = shoal.command(&["fetch", name, "--json", "--hf-cache"]);
    command
        .env_remove("HF_HUB_CACHE")
        .env("HF_HOME", folder.path().join("home"));
    let output = command.output().unwrap();
    let fetched = last_json(&String::from_utf8_lossy(&output.stdout)).unwrap();
    let snapshot = PathBuf::from(field(&fetched, "hf_cache"));
    assert!(
        snapshot.starts_with(folder.path().canonicalize().unwrap().join("home/hub")),
        "{snapshot:?}"
    );
    fixture::assert_same(&model, &snapshot);
    for path in crate::acts::files(&snapshot) {
        fs::write(path, b"edited").unwrap();
    }
    assert_eq!(shoal.json(&["verify", name])["ok"], true);
}
