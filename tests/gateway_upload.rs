//! Uploads over the Hub's API: what a client sends becomes a signed revision that other nodes fetch, or nothing at all.

use std::fs;

use data_encoding::{BASE64, HEXLOWER};
use node::http::UploadToken;
use node::http::control::Door;
use node::library::Shown;
use protocol::release::provider_key;
use protocol::{RepoId, RepoRef};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testnet::fixture;
use testnet::nodes::Testnet;
use tokio::task::block_in_place;
use ureq::Agent;
use ureq::http::Request;

use crate::acts::{assert_verifies, fetch, files, open_doors, publish, tool};
use crate::gateway::{drain, send};

/// A node with its doors open, and a client with its token.
struct Gateway {
    net: Testnet,
    door: Door,
    agent: Agent,
    token: String,
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    said: Value,
    etag: Option<String>,
    message: Option<String>,
}

impl Answer {
    fn of(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.said
    }

    /// Refused with words that name these.
    fn refused(self, status: u16, words: &[&str]) {
        let message = self.message.clone().unwrap_or_default();
        assert_eq!(self.status, status, "{self:?}");
        for word in words {
            assert!(message.contains(word), "{word}: {self:?}");
        }
    }
}

impl Gateway {
    async fn open(nodes: usize) -> Gateway {
        let net = Testnet::start(nodes).await.unwrap();
        let door = open_doors(net.node(0)).await;
        let token = UploadToken::load_or_create(&net.data(0)).unwrap();
        Gateway {
            net,
            door,
            agent: tool(),
            token: token.text().to_owned(),
        }
    }

    fn url(&self, path: &str) -> String {
        match path.starts_with("http://") {
            true => path.to_owned(),
            false => format!("http://{}{path}", self.door.address()),
        }
    }

    fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(method).uri(self.url(path));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body).unwrap();
        let mut answer = block_in_place(|| self.agent.run(request)).unwrap();
        let header = |name: &str| {
            let value = answer.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (etag, message) = (header("etag"), header("x-error-message"));
        let text = block_in_place(|| answer.body_mut().read_to_string()).unwrap();
        Answer {
            status: answer.status().as_u16(),
            said: serde_json::from_str(&text).unwrap_or(Value::Null),
            etag,
            message,
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None, Vec::new())
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, Some(&self.token), body.to_string().into())
    }

    fn commit(&self, repo: &str, lines: &[Value]) -> Answer {
        let path = format!("/api/models/{repo}/commit/main");
        self.ask("POST", &path, Some(&self.token), ndjson(lines))
    }

    fn batch(&self, repo: &str, ask: Value) -> Answer {
        self.post(&format!("/{repo}.git/info/lfs/objects/batch"), ask)
    }

    /// Asks where an object goes.
    fn upload(&self, repo: &str, transfer: &str, bytes: &[u8]) -> Value {
        let ask = json!({
            "operation": "upload", "transfers": [transfer], "hash_algo": "sha256",
            "objects": [{ "oid": sha256(bytes), "size": bytes.len() }],
        });
        let said = self.batch(repo, ask).of(200);
        assert_eq!(said["transfer"], transfer);
        said["objects"][0].clone()
    }

    fn put(&self, url: &Value, bytes: &[u8]) -> Answer {
        self.ask("PUT", url.as_str().unwrap(), None, bytes.to_vec())
    }

    fn repo(&self, name: &str) -> RepoId {
        RepoId {
            publisher: self.net.node(0).library().publisher(),
            name: name.parse().unwrap(),
        }
    }

    async fn show(&self, name: &str) -> Shown {
        let repo = RepoRef::Id(self.repo(name));
        self.net.node(0).library().show(&repo).await.unwrap()
    }

    /// The paths of the newest revision.
    async fn paths(&self, name: &str) -> Vec<String> {
        let entries = self.show(name).await.entries;
        entries.into_iter().map(|entry| entry.path).collect()
    }

    /// Files in the store's folder that are not what they will be.
    fn staged(&self) -> usize {
        let all = files(&self.net.data(0).join("files"));
        let unfinished = all.iter().filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(".unfinished-")
        });
        unfinished.count()
    }
}

fn ndjson(lines: &[Value]) -> Vec<u8> {
    lines
        .iter()
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .into()
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

fn header() -> Value {
    json!({ "key": "header", "value": { "summary": "a commit", "description": "" } })
}

fn on_top_of(parent: &Value) -> Value {
    json!({ "key": "header", "value": { "summary": "a commit", "parentCommit": parent } })
}

/// The line of a small file, its content before its path as Python writes it.
fn file(path: &str, bytes: &[u8]) -> Value {
    json!({ "key": "file", "value": { "content": BASE64.encode(bytes), "path": path, "encoding": "base64" } })
}

fn large(path: &str, bytes: &[u8]) -> Value {
    let value = json!({ "path": path, "algo": "sha256", "oid": sha256(bytes), "size": bytes.len() });
    json!({ "key": "lfsFile", "value": value })
}

fn deleted(key: &str, path: &str) -> Value {
    json!({ "key": key, "value": { "path": path } })
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    fixture::bytes(seed, "upload", len)
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_committed_as_they_come_and_another_node_fetches_them() {
    let gateway = Gateway::open(2).await;
    let create = json!({ "name": "model", "type": "model" });
    let created = gateway.post("/api/repos/create", create.clone()).of(200);
    assert_eq!(created["url"], gateway.url("/local/model"));
    let again = gateway.post("/api/repos/create", create).of(409);
    assert_eq!(again["url"], created["url"]);

    // Sizes that are kept in each of the three ways.
    let contents = [
        ("README.md", bytes(1, 700)),
        ("empty.txt", Vec::new()),
        ("sub/tokenizer.json", bytes(2, 300_000)),
        (
            "model.safetensors",
            fixture::bytes(3, "model.safetensors", (3 << 20) + 17),
        ),
    ];
    let asked: Vec<Value> = contents
        .iter()
        .map(|(path, bytes)| json!({ "path": path, "size": bytes.len(), "sample": "" }))
        .collect();
    let preupload = "/api/models/local/model/preupload/main";
    let said = gateway.post(preupload, json!({ "files": asked })).of(200);
    for (answer, (path, _)) in said["files"].as_array().unwrap().iter().zip(&contents) {
        let wanted = json!({ "path": path, "uploadMode": "regular", "shouldIgnore": false });
        assert_eq!(answer, &wanted);
    }
    let mut lines = vec![header()];
    lines.extend(contents.iter().map(|(path, bytes)| file(path, bytes)));
    let said = gateway.commit("local/model", &lines).of(200);
    let commit = said["commitOid"].as_str().unwrap().to_owned();
    assert_eq!(said["success"], true);
    assert_eq!(
        said["commitUrl"],
        gateway.url(&format!("/local/model/commit/{commit}"))
    );
    let shown = gateway.show("model").await;
    assert!(shown.view.manifest.to_string().starts_with(&commit));
    assert!(shown.view.complete && shown.view.pinned && shown.view.ours);
    for entry in &shown.entries {
        let (_, bytes) = contents.iter().find(|(path, _)| *path == entry.path).unwrap();
        assert_eq!(entry.sha256.unwrap().to_string(), sha256(bytes), "{}", entry.path);
        assert_eq!(entry.sha1.is_some(), entry.path != "model.safetensors");
    }
    assert_eq!(gateway.staged(), 0);
    assert_verifies(gateway.net.node(0).library(), &gateway.repo("model")).await;

    let [here, there] = ["here", "there"].map(|name| gateway.net.scratch().join(name));
    for (path, bytes) in &contents {
        let path = here.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fetch(gateway.net.node(1), &gateway.repo("model"), Some(&there)).await;
    fixture::assert_same(&here, &there);

    // Now that they are there, a client can tell which have changed, whatever git would say of them.
    let said = gateway.post(preupload, json!({ "files": asked })).of(200);
    for (answer, (path, bytes)) in said["files"].as_array().unwrap().iter().zip(&contents) {
        let mut git = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
        git.update(bytes);
        assert_eq!(answer["oid"], HEXLOWER.encode(&git.finalize()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn same_content_makes_no_release_and_other_content_makes_the_next() {
    let gateway = Gateway::open(1).await;
    let lines = [header(), file("a.txt", b"one"), file("b/c.txt", b"two")];
    let first = gateway.commit("local/model", &lines).of(200);
    let again = gateway.commit("model", &lines).of(200);
    assert_eq!(first["commitOid"], again["commitOid"]);
    assert_eq!(gateway.show("model").await.view.seq, Some(1));

    let lines = [on_top_of(&first["commitOid"]), file("a.txt", b"other")];
    let second = gateway.commit("local/model", &lines).of(200);
    assert_ne!(first["commitOid"], second["commitOid"]);
    assert_eq!(gateway.show("model").await.view.seq, Some(2));
    assert_eq!(gateway.paths("model").await, ["a.txt", "b/c.txt"]);
    // What was published from a folder is changed in the same way.
    let folder = gateway.net.scratch().join("folder");
    fixture::folder(&folder, 1, &[("weights.bin", 2 << 20), ("config.json", 20)]).unwrap();
    publish(gateway.net.node(0), &folder, "from-folder").await;
    let lines = [header(), deleted("deletedFile", "config.json"), file("new", b"x")];
    gateway.commit("local/from-folder", &lines).of(200);
    assert_eq!(gateway.paths("from-folder").await, ["new", "weights.bin"]);
    assert_verifies(gateway.net.node(0).library(), &gateway.repo("from-folder")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_are_deleted_but_not_the_last_one() {
    let gateway = Gateway::open(1).await;
    let lines = [
        header(),
        file("a.txt", b"1"),
        file("b/c.txt", b"2"),
        file("b/d/e.txt", b"3"),
        file("bc.txt", b"4"),
    ];
    let first = gateway.commit("local/model", &lines).of(200);
    gateway
        .commit("local/model", &[header(), deleted("deletedFolder", "b/")])
        .of(200);
    assert_eq!(gateway.paths("model").await, ["a.txt", "bc.txt"]);
    gateway
        .commit("local/model", &[header(), deleted("deletedFile", "a.txt")])
        .of(200);
    assert_eq!(gateway.paths("model").await, ["bc.txt"]);
    let last = [header(), deleted("deletedFile", "bc.txt")];
    gateway
        .commit("local/model", &last)
        .refused(400, &["shoal forget"]);
    for (key, path) in [
        ("deletedFile", "a.txt"),
        ("deletedFile", "b"),
        ("deletedFolder", "b"),
    ] {
        let gone = gateway.commit("local/model", &[header(), deleted(key, path)]);
        gone.refused(404, &[path]);
    }
    assert_eq!(gateway.paths("model").await, ["bc.txt"]);
    // A commit that was made for an older revision is not done.
    let lines = [on_top_of(&first["commitOid"]), file("f", b"5")];
    gateway
        .commit("local/model", &lines)
        .refused(412, &[first["commitOid"].as_str().unwrap()]);
    let short = &first["commitOid"].as_str().unwrap()[..7];
    gateway
        .commit("local/model", &[on_top_of(&short.into()), file("f", b"5")])
        .refused(412, &[short]);
    assert_eq!(gateway.paths("model").await, ["bc.txt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_file_comes_by_itself_is_checked_and_then_committed() {
    let gateway = Gateway::open(2).await;
    let content = fixture::bytes(1, "model.safetensors", (2 << 20) + 5);
    let object = gateway.upload("local/model", "basic", &content);
    let actions = &object["actions"];
    let href = &actions["upload"]["href"];
    let verify = actions["verify"]["href"].as_str().unwrap();
    let asked = json!({ "oid": sha256(&content), "size": content.len() });
    gateway
        .post(verify, asked.clone())
        .refused(404, &["did not come"]);

    // What is not what was announced is not kept.
    let mut other = content.clone();
    other[1_500_000] ^= 1;
    gateway.put(href, &other).refused(400, &[&sha256(&other)]);
    gateway.put(href, &content[1..]).refused(400, &[]);
    gateway
        .put(href, &[content.as_slice(), b"x"].concat())
        .refused(413, &[]);
    gateway.post(verify, asked.clone()).refused(404, &[]);
    assert_eq!(gateway.staged(), 0);
    let lines = [header(), large("model.safetensors", &content)];
    gateway
        .commit("local/model", &lines)
        .refused(400, &["was not uploaded", "model.safetensors"]);

    gateway.put(href, &content).of(200);
    gateway.post(verify, asked).of(200);
    assert!(
        gateway
            .upload("local/model", "basic", &content)
            .get("actions")
            .is_none()
    );
    gateway.commit("local/model", &lines).of(200);
    assert_eq!(gateway.staged(), 0);
    // A copy of it is committed by its name alone, in the same commit as a small one that was sent as a large one.
    let small = bytes(2, 900);
    let object = gateway.upload("local/model", "basic", &small);
    gateway.put(&object["actions"]["upload"]["href"], &small).of(200);
    let lines = [
        header(),
        large("copy/model.safetensors", &content),
        large("config.json", &small),
    ];
    gateway.commit("local/model", &lines).of(200);
    let shown = gateway.show("model").await;
    let paths: Vec<&str> = shown.entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(
        paths,
        ["config.json", "copy/model.safetensors", "model.safetensors"]
    );
    assert!(shown.entries[0].sha1.is_some());

    let out = gateway.net.scratch().join("out");
    fetch(gateway.net.node(1), &gateway.repo("model"), Some(&out)).await;
    assert_eq!(fs::read(out.join("copy/model.safetensors")).unwrap(), content);
    assert_eq!(fs::read(out.join("config.json")).unwrap(), small);

    // Anybody may ask where it is had.
    let ask = json!({
        "operation": "download",
        "objects": [
            { "oid": sha256(&small), "size": small.len() },
            { "oid": sha256(b"unknown"), "size": 7 },
        ],
    });
    let path = "/local/model.git/info/lfs/objects/batch";
    let said = gateway.ask("POST", path, None, ask.to_string().into()).of(200);
    let commit = shown.view.manifest.to_string();
    assert_eq!(
        said["objects"][0]["actions"]["download"]["href"],
        gateway.url(&format!("/local/model/resolve/{}/config.json", &commit[..40]))
    );
    assert_eq!(said["objects"][1]["error"]["code"], 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_file_comes_in_parts_in_any_order() {
    let gateway = Gateway::open(1).await;
    let content = bytes(1, 12 << 20);
    let object = gateway.upload("local/model", "multipart", &content);
    let upload = &object["actions"]["upload"];
    let header_of = upload["header"].as_object().unwrap();
    let len: usize = header_of["chunk_size"].as_str().unwrap().parse().unwrap();
    let parts: Vec<&[u8]> = content.chunks(len).collect();
    assert_eq!((parts.len(), header_of.len()), (3, 4));
    let mut listed = Vec::new();
    for number in [3, 1, 2] {
        let href = &header_of[&format!("{number:05}")];
        let part = parts[number - 1];
        gateway.put(href, &part[1..]).refused(400, &["are wanted"]);
        let answer = gateway.put(href, part);
        assert_eq!(answer.status, 200, "{answer:?}");
        let etag = answer.etag.unwrap();
        listed.push(json!({ "partNumber": number, "etag": etag }));
        if number != 2 {
            let early = json!({ "oid": sha256(&content), "parts": listed });
            gateway
                .post(upload["href"].as_str().unwrap(), early)
                .refused(400, &["part"]);
        }
    }
    let past = format!("{}/4", upload["href"].as_str().unwrap());
    gateway.put(&past.into(), b"x").refused(404, &[]);
    let done = json!({ "oid": sha256(&content), "parts": listed });
    let complete = upload["href"].as_str().unwrap();
    gateway.post(complete, done.clone()).of(200);
    gateway.post(complete, done).of(200);
    gateway
        .commit("local/model", &[header(), large("model.gguf", &content)])
        .of(200);
    assert_eq!(gateway.staged(), 0);
    assert_verifies(gateway.net.node(0).library(), &gateway.repo("model")).await;
    let entry = &gateway.show("model").await.entries[0];
    assert_eq!(entry.sha256.unwrap().to_string(), sha256(&content));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_commits_for_one_revision_one_is_done() {
    let gateway = Gateway::open(1).await;
    let first = gateway
        .commit("local/model", &[header(), file("a", b"0")])
        .of(200);
    let commit = |path: &str, header: Value| {
        let lines = [header, file(path, &bytes(7, 2 << 20))];
        gateway.commit("local/model", &lines).status
    };
    let parent = on_top_of(&first["commitOid"]);
    let mut statuses = std::thread::scope(|scope| {
        let tries = ["b", "c"].map(|path| {
            let parent = parent.clone();
            scope.spawn(move || commit(path, parent))
        });
        tries.map(|asked| asked.join().unwrap())
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    assert_eq!(gateway.paths("model").await.len(), 2);
    // Who does not say for which revision gets both.
    let statuses = std::thread::scope(|scope| {
        let tries = ["d", "e"].map(|path| scope.spawn(move || commit(path, header())));
        tries.map(|asked| asked.join().unwrap())
    });
    assert_eq!(statuses, [200, 200]);
    let shown = gateway.show("model").await;
    assert_eq!((shown.entries.len(), shown.view.seq), (4, Some(4)));
    let forks = gateway.net.data(0).join("releases");
    assert!(
        !files(&forks)
            .iter()
            .any(|path| path.to_string_lossy().contains("fork"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_without_the_token_or_for_somebody_else() {
    let gateway = Gateway::open(2).await;
    let lines = ndjson(&[header(), file("a", b"1")]);
    let commit = "/api/models/local/model/commit/main";
    let wrong = format!("hf_{}", "a".repeat(40));
    for token in [None, Some(wrong.as_str()), Some("")] {
        let answer = gateway.ask("POST", commit, token, lines.clone());
        answer.refused(401, &["shoal id --token", "HF_TOKEN"]);
    }
    let other = gateway.net.node(1).library().publisher();
    for owner in [other.to_string(), "somebody".to_owned()] {
        let path = format!("/api/models/{owner}/model/commit/main");
        let answer = gateway.ask("POST", &path, Some(&gateway.token), lines.clone());
        answer.refused(403, &["local/model"]);
        let create = json!({ "name": "model", "organization": owner });
        gateway.post("/api/repos/create", create).refused(403, &["local"]);
    }
    for path in [
        "/api/models/local/model/commit/main?create_pr=1",
        "/api/models/local/model/commit/main?hot_reload=True",
        "/api/models/local/model/commit/refs%2Fpr%2F1",
        "/api/models/local/model/commit/dev",
    ] {
        let answer = gateway.ask("POST", path, Some(&gateway.token), lines.clone());
        answer.refused(403, &[]);
    }
    for private in [
        json!({ "name": "model", "private": true }),
        json!({ "name": "model", "visibility": "private" }),
    ] {
        gateway
            .post("/api/repos/create", private)
            .refused(403, &["public"]);
    }
    for path in ["../a", "a//b", "/a", "a\\b", "con", "a/./b", ""] {
        let answer = gateway.commit("local/model", &[header(), file(path, b"1")]);
        answer.refused(400, &["path"]);
    }
    for lines in [
        "{".to_owned(),
        "{\"key\":\"else\",\"value\":{}}".to_owned(),
        "{\"key\":\"file\",\"value\":{\"path\":\"a\",\"content\":\"!\",\"encoding\":\"base64\"}}".to_owned(),
        "{\"key\":\"file\",\"value\":{\"path\":\"a\",\"content\":\"a\",\"encoding\":\"utf-8\"}}".to_owned(),
        format!(
            "{{\"key\":\"deletedFile\",\"value\":{{\"path\":\"{}\"}}}}",
            "A".repeat(100_000)
        ),
    ] {
        let answer = gateway.ask("POST", commit, Some(&gateway.token), lines.into());
        answer.refused(400, &[]);
    }
    let xet = "/api/models/local/model/xet-write-token/main";
    gateway.get(xet).refused(400, &["HF_HUB_DISABLE_XET=1"]);
    // Of a refusal, hf_xet shows the status line alone.
    let (head, _) = block_in_place(|| drain(send(gateway.door.address(), xet)));
    assert!(
        head.starts_with("http/1.1 400 this node takes no xet uploads: set hf_hub_disable_xet=1\r\n"),
        "{head}"
    );
    let path = gateway.net.data(0).join("releases");
    assert!(files(&path).is_empty(), "something was published");

    // One name is one kind of repo.
    gateway
        .commit("local/model", &[header(), file("a", b"1")])
        .of(200);
    let answer = gateway.ask(
        "POST",
        "/api/datasets/local/model/commit/main",
        Some(&gateway.token),
        lines,
    );
    answer.refused(400, &["model", "dataset"]);
    let own = gateway.net.node(0).library().publisher();
    let said = gateway
        .commit(&format!("{own}/model"), &[header(), file("b", b"1")])
        .of(200);
    let url = said["commitUrl"].as_str().unwrap();
    assert!(url.contains(&format!("/{own}/model/commit/")), "{url}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repo_that_was_created_and_is_empty_is_there() {
    let gateway = Gateway::open(1).await;
    let create = json!({ "name": "data", "organization": "local", "type": "dataset" });
    let said = gateway.post("/api/repos/create", create).of(200);
    assert_eq!(said["url"], gateway.url("/datasets/local/data"));
    let info = gateway.get("/api/datasets/local/data").of(200);
    assert_eq!(
        (&info["id"], &info["siblings"]),
        (&json!("local/data"), &json!([]))
    );
    assert_eq!(
        gateway.get("/api/datasets/local/data/tree/main").of(200),
        json!([])
    );
    gateway
        .get("/datasets/local/data/resolve/main/README.md")
        .refused(404, &["README.md"]);
    let refs = gateway.get("/api/datasets/local/data/refs").of(200);
    assert_eq!(refs["branches"][0]["targetCommit"], info["sha"]);
    // A commit on top of nothing.
    let lines = ndjson(&[on_top_of(&info["sha"]), file("train.csv", b"a,b\n")]);
    let path = "/api/datasets/local/data/commit/main";
    let said = gateway.ask("POST", path, Some(&gateway.token), lines).of(200);
    let url = said["commitUrl"].as_str().unwrap();
    assert!(
        url.starts_with(&gateway.url("/datasets/local/data/commit/")),
        "{url}"
    );
    assert_eq!(gateway.paths("data").await, ["train.csv"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_uploaded_and_never_committed_is_gone_after_a_restart_and_the_token_is_not() {
    let mut gateway = Gateway::open(1).await;
    let content = bytes(1, 2 << 20);
    let object = gateway.upload("local/model", "basic", &content);
    gateway
        .put(&object["actions"]["upload"]["href"], &content)
        .of(200);
    let litter = gateway.staged();
    assert!(litter > 0);
    // As a crash leaves it: with a file of a body that was coming.
    fs::write(gateway.net.data(0).join("files/.unfinished-crash"), b"half").unwrap();
    let Gateway { net, door, .. } = &mut gateway;
    net.restart(0).await.unwrap();
    let reopened = open_doors(net.node(0)).await;
    std::mem::replace(door, reopened).close().await;
    assert!(!gateway.net.data(0).join("files/.unfinished-crash").exists());
    let token = UploadToken::load_or_create(&gateway.net.data(0)).unwrap();
    assert_eq!(token.text(), gateway.token);
    assert!(
        gateway
            .upload("local/model", "basic", &content)
            .get("actions")
            .is_some()
    );
    gateway
        .commit("local/model", &[header(), large("a.bin", &content)])
        .refused(400, &["was not uploaded"]);
    gateway
        .commit("local/model", &[header(), file("a", b"1")])
        .of(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn repo_that_was_let_go_here_takes_uploads_again() {
    let gateway = Gateway::open(1).await;
    let first = gateway
        .commit("local/model", &[header(), file("a", b"1")])
        .of(200);
    let repo = RepoRef::Id(gateway.repo("model"));
    gateway.net.node(0).forget(&repo).await.unwrap();
    // Whoever asks for room for it has it, and finds it empty.
    let create = json!({ "name": "model" });
    gateway.post("/api/repos/create", create).of(200);
    let info = gateway.get("/api/models/local/model").of(200);
    assert_eq!(info["siblings"], json!([]));
    let said = gateway
        .commit("local/model", &[on_top_of(&info["sha"]), file("b", b"2")])
        .of(200);
    assert_ne!(said["commitOid"], first["commitOid"]);
    assert_eq!(gateway.paths("model").await, ["b"]);
    assert_eq!(gateway.show("model").await.view.seq, Some(2));

    gateway.net.node(0).forget(&repo).await.unwrap();
    gateway
        .commit("local/model", &[header(), file("b", b"2")])
        .of(200);
    let view = gateway.show("model").await.view;
    assert_eq!(
        (view.seq, view.complete, view.pinned),
        (Some(2), true, true),
        "the same content again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn repo_that_was_let_go_here_goes_on_from_what_a_peer_has() {
    let gateway = Gateway::open(2).await;
    gateway
        .commit("local/model", &[header(), file("a", b"1")])
        .of(200);
    fetch(gateway.net.node(1), &gateway.repo("model"), None).await;
    let repo = RepoRef::Id(gateway.repo("model"));
    // Who fetched it announces it in the background.
    let (node, peer) = (gateway.net.node(0), gateway.net.node(1).library().peer_id());
    let key = provider_key(node.library().resolve_local(&repo).unwrap());
    let announced = async || {
        let mut providers = node.swarm().providers(key, 8).await.ok()?;
        while let Some(provider) = providers.recv().await {
            if provider == peer {
                return Some(());
            }
        }
        None
    };
    gateway.net.until("announced", announced).await.unwrap();
    node.forget(&repo).await.unwrap();
    gateway
        .commit("local/model", &[header(), file("b", b"2")])
        .of(200);
    assert_eq!(gateway.paths("model").await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_sent_again_mend_what_is_not_here_any_more() {
    let gateway = Gateway::open(1).await;
    let contents = ["lost.bin", "flipped.bin"].map(|path| (path, bytes(path.len() as u64, 3 << 20)));
    let mut lines = vec![header()];
    lines.extend(contents.iter().map(|(path, bytes)| file(path, bytes)));
    let first = gateway.commit("local/model", &lines).of(200);
    for entry in gateway.show("model").await.entries {
        let name = entry.blake3.to_string();
        let path = gateway.net.data(0).join("files").join(&name[..2]).join(&name);
        let mut content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        if entry.path == "flipped.bin" {
            content[1_000_000] ^= 1;
            fs::write(&path, content).unwrap();
        }
    }
    let library = gateway.net.node(0).library();
    assert!(!crate::acts::verify(library, &gateway.repo("model")).await.ok);

    let asked: Vec<Value> = contents
        .iter()
        .map(|(path, bytes)| json!({ "path": path, "size": bytes.len() }))
        .collect();
    let said = gateway.post(
        "/api/models/local/model/preupload/main",
        json!({ "files": asked }),
    );
    for answer in said.of(200)["files"].as_array().unwrap() {
        assert!(
            answer.get("oid").is_none(),
            "who has it already need not send it: {answer}"
        );
    }
    // One in each of the two ways.
    let [(lost, by_itself), (flipped, in_line)] = &contents;
    let object = gateway.upload("local/model", "basic", by_itself);
    gateway
        .put(&object["actions"]["upload"]["href"], by_itself)
        .of(200);
    let lines = [header(), large(lost, by_itself), file(flipped, in_line)];
    let again = gateway.commit("local/model", &lines).of(200);
    assert_eq!(again["commitOid"], first["commitOid"]);
    let view = gateway.show("model").await.view;
    assert_eq!((view.seq, view.complete), (Some(1), true));
    assert_verifies(library, &gateway.repo("model")).await;
    assert_eq!(gateway.staged(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn oldest_of_many_revisions_is_still_had_by_its_id() {
    let gateway = Gateway::open(1).await;
    let mut commits = Vec::new();
    for number in 0..20 {
        let lines = [header(), file("n.json", format!("{number}").as_bytes())];
        let said = gateway.commit("local/model", &lines).of(200);
        commits.push(said["commitOid"].as_str().unwrap().to_owned());
    }
    for lost in [false, true] {
        if lost {
            let library = gateway.net.node(0).library();
            library.rebuild_catalog().await.unwrap();
        }
        for (number, commit) in commits.iter().enumerate() {
            let path = format!("/local/model/resolve/{commit}/n.json");
            assert_eq!(gateway.get(&path).of(200), number);
            let path = format!("/api/models/local/model/revision/{commit}");
            assert_eq!(gateway.get(&path).of(200)["sha"], *commit);
        }
    }
    // It is a revision of this repo, and of no other.
    gateway
        .commit("local/other", &[header(), file("a", b"1")])
        .of(200);
    let path = format!("/local/other/resolve/{}/n.json", commits[0]);
    gateway.get(&path).refused(404, &["has no revision"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_much_hears_why_it_is_refused() {
    let gateway = Gateway::open(1).await;
    let much = bytes(1, 24 << 20);
    let object = gateway.upload("local/model", "basic", &much);
    let parts = gateway.upload("local/model", "multipart", &much);
    let quota = gateway.net.node(0).library();
    quota.set_quota(Some(1));
    let href = &object["actions"]["upload"]["href"];
    gateway.put(href, &much).refused(422, &["quota", "shoal forget"]);
    let header_of = &parts["actions"]["upload"]["header"];
    gateway.put(&header_of["00001"], &much).refused(422, &["quota"]);
    let nowhere = format!("/lfs-upload/{}", "0".repeat(64));
    for path in [&nowhere, &format!("{}/x", href.as_str().unwrap())] {
        gateway.put(&path.as_str().into(), &much).refused(404, &[]);
    }
    // A small file takes room as well.
    let lines = [header(), file("a", b"1")];
    gateway
        .commit("local/model", &lines)
        .refused(422, &["quota", "shoal forget"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_here_is_told_without_where_the_data_lies() {
    let gateway = Gateway::open(1).await;
    let content = bytes(1, 3 << 20);
    let name = protocol::Hash::of(&content).to_string();
    let data = gateway.net.data(0);
    fs::write(data.join("files").join(&name[..2]), b"in the way of a folder").unwrap();
    let answer = gateway.commit("local/model", &[header(), file("a", &content)]);
    let shown = format!("{answer:?}");
    answer.refused(422, &["DATA/files/"]);
    assert!(!shown.contains(data.to_str().unwrap()), "{shown}");
}
