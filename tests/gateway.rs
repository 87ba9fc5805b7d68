//! Clients of the Hub read files from a node, by plain HTTP, as they would from the Hub.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::config::OnDemand;
use node::http::control::Door;
use node::names::{HISTORY_KEPT_MAX, Names};
use node::node::{Limits, Node};
use node::progress::Progress;
use node::publish::{PublishRequest, Published};
use node::{fetch::FetchRequest, fetch::FetchWhat};
use protocol::{Alias, FileEntry, Hash, Kind, RepoPath, RepoRef};
use testnet::fixture;
use testnet::nodes::{Testnet, within};
use tokio::task::{JoinHandle, spawn_blocking};
use ureq::http::{HeaderMap, Method, Request};

use crate::acts::{files, open_doors, publish, tool, unseen};

pub(crate) const A: usize = 1;
pub(crate) const B: usize = 2;
pub(crate) const C: usize = 3;

/// Longest that an answer may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(90);

pub(crate) const PYTHON_0: (&str, &str) = ("User-Agent", "unknown/None; hf_hub/0.36.2; python/3.12.3");
pub(crate) const PYTHON_1: (&str, &str) = ("User-Agent", "unknown/None; hf_hub/1.10.0; python/3.12.3");
pub(crate) const PYTHON_2: (&str, &str) = ("User-Agent", "unknown/None; hf_hub/2.4.0; python/3.12.3");

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.header("x-error-code"))
    }
}

/// Asks in the background.
pub(crate) fn begin(door: &Door, method: Method, path: &str, headers: &[(&str, &str)]) -> JoinHandle<Answer> {
    begin_with(door, method, path, headers, Vec::new())
}

fn begin_with(
    door: &Door,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> JoinHandle<Answer> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", door.address()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).unwrap();
    spawn_blocking(move || {
        let mut response = tool().run(request).unwrap();
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_vec();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: body.unwrap(),
        }
    })
}

pub(crate) async fn end(asking: JoinHandle<Answer>) -> Answer {
    within(ANSWER, "an answer", asking).await.unwrap().unwrap()
}

pub(crate) async fn get(door: &Door, path: &str, headers: &[(&str, &str)]) -> Answer {
    end(begin(door, Method::GET, path, headers)).await
}

pub(crate) async fn head(door: &Door, path: &str, headers: &[(&str, &str)]) -> Answer {
    end(begin(door, Method::HEAD, path, headers)).await
}

pub(crate) async fn post(door: &Door, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    end(begin_with(door, Method::POST, path, headers, body)).await
}

/// Sends a GET and returns the connection, unread.
pub(crate) fn send(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    stream
}

/// Reads an answer until the connection ends; returns its head and what came of the body.
pub(crate) fn drain(mut stream: impl Read) -> (String, Vec<u8>) {
    let mut all = Vec::new();
    // However it ends: what came is looked at.
    let _ = stream.read_to_end(&mut all);
    let split = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..split].to_vec()).unwrap().to_lowercase();
    (head, all[split + 4..].to_vec())
}

/// A published folder.
pub(crate) struct Model {
    folder: PathBuf,
    pub(crate) published: Published,
}

impl Model {
    pub(crate) async fn publish(net: &Testnet, node: usize, name: &str, files: &[(&str, u64)]) -> Model {
        let folder = net.scratch().join(name);
        fixture::folder(&folder, 1, files).unwrap();
        let (published, _) = publish(net.node(node), &folder, name).await;
        Model { folder, published }
    }

    fn id(&self) -> String {
        self.published.repo.to_string()
    }

    /// The address of a file.
    pub(crate) fn at(&self, rev: &str, path: &str) -> String {
        format!("/{}/resolve/{rev}/{path}", self.id())
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(path)).unwrap()
    }

    fn entry(&self, path: &str) -> FileEntry {
        let manifest = fixture::manifest(&self.folder).unwrap();
        manifest.file(path).unwrap().clone()
    }

    pub(crate) fn commit(&self) -> String {
        self.published.manifest.to_string()[..40].to_owned()
    }
}

pub(crate) fn follow(follower: &Node, followed: &Node, alias: &str) {
    let alias: Alias = alias.parse().unwrap();
    let publisher = followed.library().publisher();
    follower.library().follow(publisher, &alias).unwrap();
}

pub(crate) fn up(bytes: u64) -> Limits {
    Limits {
        up: Some(bytes),
        ..Limits::default()
    }
}

/// Has a node fetch the small file of a model, so that it knows the manifest and not the rest.
pub(crate) async fn fetch_small(node: &Node, model: &Model) {
    let mut request = FetchRequest::new(FetchWhat::Repo(RepoRef::Id(model.published.repo.clone())));
    request.include = vec!["*.json".into()];
    within(ANSWER, "a fetch", node.fetch(request, &unseen()))
        .await
        .unwrap()
        .unwrap();
}

const LARGE: u64 = (3 << 20) + 7;

const FILES: [(&str, u64); 5] = [
    ("config.json", 500),
    ("empty.txt", 0),
    ("model.safetensors", LARGE),
    ("page.html", 40),
    ("a b/ü.bin", 70_000),
];

#[tokio::test(flavor = "multi_thread")]
async fn head_and_get_tell_what_clients_need() {
    let net = Testnet::start(1).await.unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    for (path, _) in FILES {
        let entry = model.entry(path);
        let address = model.at("main", &path.replace(' ', "%20").replace('ü', "%C3%BC"));
        let id = match entry.sha1 {
            Some(sha1) => format!("\"{sha1}\""),
            None => format!("\"{}\"", entry.sha256.unwrap()),
        };
        let linked = match entry.sha1 {
            Some(_) => (String::new(), String::new()),
            None => (id.clone(), entry.size.to_string()),
        };
        let gzip = [
            ("Accept-Encoding", "gzip, deflate"),
            ("Authorization", "Bearer hf_x"),
        ];
        for answer in [
            head(&door, &address, &[]).await,
            get(&door, &address, &gzip).await,
        ] {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("x-repo-commit"), model.commit());
            assert_eq!(answer.header("etag"), id, "{path}");
            assert_eq!(answer.header("accept-ranges"), "bytes");
            assert_eq!(answer.header("content-length"), entry.size.to_string());
            assert_eq!(answer.header("x-linked-etag"), linked.0);
            assert_eq!(answer.header("x-linked-size"), linked.1);
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(
                answer
                    .header("content-disposition")
                    .starts_with("inline; filename*=UTF-8''")
            );
            for absent in [
                "content-encoding",
                "location",
                "x-xet-hash",
                "link",
                "transfer-encoding",
            ] {
                assert_eq!(answer.header(absent), "", "{absent}");
            }
        }
        assert!(
            get(&door, &address, &gzip).await.body == model.bytes(path),
            "{path}"
        );
    }
    let page = get(&door, &model.at("main", "page.html"), &[]).await;
    assert_eq!(page.header("content-type"), "text/plain; charset=utf-8");
    assert!(page.header("content-security-policy").contains("sandbox"));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_file_is_what_git_has_of_it() {
    let net = Testnet::start(1).await.unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    let raw = |path: &str| model.at("main", path).replacen("/resolve/", "/raw/", 1);
    let oid = model.entry("model.safetensors").sha256.unwrap();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {LARGE}\n");
    for (path, content) in [
        ("model.safetensors", pointer.into_bytes()),
        ("config.json", model.bytes("config.json")),
        ("empty.txt", Vec::new()),
    ] {
        let git = fixture::entry(RepoPath::new("small").unwrap(), &content);
        let answers = [
            head(&door, &raw(path), &[]).await,
            get(&door, &raw(path), &[]).await,
        ];
        for answer in &answers {
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert_eq!(
                answer.header("etag"),
                format!("\"{}\"", git.sha1.unwrap()),
                "{path}"
            );
            assert_eq!(answer.header("x-repo-commit"), model.commit());
            assert_eq!(answer.header("content-length"), content.len().to_string());
            // Of the pointer, and not of what it points to.
            for absent in ["x-linked-etag", "x-linked-size", "location"] {
                assert_eq!(answer.header(absent), "", "{path} {absent}");
            }
        }
        assert!(answers[0].body.is_empty() && answers[1].body == content, "{path}");
    }
    for answer in [
        head(&door, &raw("none"), &[]).await,
        get(&door, &raw("none"), &[]).await,
    ] {
        assert_eq!(answer.code(), (404, "EntryNotFound"));
        assert_eq!(answer.header("x-repo-commit"), model.commit());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_are_answered_as_clients_need_them() {
    let net = Testnet::start(1).await.unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    let (whole, address) = (
        model.bytes("model.safetensors"),
        model.at("main", "model.safetensors"),
    );
    let last = LARGE - 1;
    let table = [
        ("bytes=0-0", 0..1),
        ("bytes=5-1048580", 5..1_048_581),
        ("bytes=1048576-", 1 << 20..LARGE),
        ("bytes=3145700-99999999999", 3_145_700..LARGE),
        ("bytes=-10", LARGE - 10..LARGE),
        ("bytes=-99999999999", 0..LARGE),
    ];
    for (range, bytes) in table {
        let answer = get(&door, &address, &[("Range", range)]).await;
        assert_eq!(answer.status, 206, "{range}");
        let told = format!("bytes {}-{}/{LARGE}", bytes.start, bytes.end - 1);
        assert_eq!(answer.header("content-range"), told, "{range}");
        assert_eq!(
            answer.header("content-length"),
            (bytes.end - bytes.start).to_string()
        );
        assert_eq!(answer.header("x-linked-size"), LARGE.to_string());
        assert!(
            answer.body == whole[bytes.start as usize..bytes.end as usize],
            "{range}"
        );
    }
    for range in ["bytes=0-1,5-6", "bytes=7-3", "lines=1-2"] {
        let answer = get(&door, &address, &[("Range", range)]).await;
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (200, ""),
            "{range}"
        );
        assert!(answer.body == whole, "{range}");
    }
    for range in [
        format!("bytes={LARGE}-"),
        format!("bytes={}-{}", last + 1, last + 9),
        "bytes=-0".into(),
    ] {
        let answer = get(&door, &address, &[("Range", &range)]).await;
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes */{LARGE}"));
        assert_eq!(answer.header("x-repo-commit"), model.commit());
    }
    for range in ["bytes=0-0", "bytes=0-", "bytes=-1"] {
        let answer = get(&door, &model.at("main", "empty.txt"), &[("Range", range)]).await;
        assert_eq!(answer.status, 200, "{range}");
        assert_eq!(answer.header("content-range"), "bytes */0");
        assert_eq!(answer.header("content-length"), "0");
    }

    let tag = format!("\"{}\"", model.entry("model.safetensors").sha256.unwrap());
    for method in [Method::HEAD, Method::GET] {
        for same in [tag.as_str(), "*", &format!("\"x\", {tag}")] {
            let answer = end(begin(&door, method.clone(), &address, &[("If-None-Match", same)])).await;
            assert_eq!(answer.status, 304, "{method} {same}");
            assert_eq!(answer.header("etag"), tag);
            assert_eq!(answer.header("x-repo-commit"), model.commit());
            assert!(answer.body.is_empty());
        }
        let answer = end(begin(&door, method, &address, &[("If-None-Match", "\"x\"")])).await;
        assert_eq!(answer.status, 200);
    }
    let resumed = get(&door, &address, &[("Range", "bytes=9-"), ("If-Range", &tag)]).await;
    assert_eq!((resumed.status, resumed.body.len() as u64), (206, LARGE - 9));
    let other = get(&door, &address, &[("Range", "bytes=9-"), ("If-Range", "\"x\"")]).await;
    assert_eq!((other.status, other.body.len() as u64), (200, LARGE));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_said_so_that_clients_understand() {
    let net = Testnet::start(1).await.unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let data = net.scratch().join("data");
    fixture::folder(&data, 2, &[("rows.json", 30)]).unwrap();
    let request = PublishRequest {
        kind: Kind::Dataset,
        ..crate::acts::request(&data, "rows")
    };
    let (rows, _) = net.node(0).publish(request, &unseen()).await.unwrap();
    let door = open_doors(net.node(0)).await;
    let id = model.id();
    let hash = model.published.manifest;
    let table = [
        (model.at("main", "tokenizer.json"), 404, "EntryNotFound"),
        (model.at("main", "a%20b"), 404, "EntryNotFound"),
        (model.at("main", ""), 404, "EntryNotFound"),
        (model.at("main", "../config.json"), 404, "EntryNotFound"),
        (model.at("v9", "config.json"), 404, "RevisionNotFound"),
        (model.at(&"0".repeat(40), "config.json"), 404, "RevisionNotFound"),
        (
            model.at(&"x".repeat(3_000), "config.json"),
            404,
            "RevisionNotFound",
        ),
        (
            format!("/blake3/{hash}/resolve/v1/config.json"),
            404,
            "RevisionNotFound",
        ),
        (
            format!("/datasets/{id}/resolve/main/config.json"),
            404,
            "RepoNotFound",
        ),
        (
            format!("/{}/resolve/main/rows.json", rows.repo),
            404,
            "RepoNotFound",
        ),
        (
            format!("{id}-not/resolve/main/config.json").replacen("", "/", 1),
            404,
            "RepoNotFound",
        ),
        (
            "/nobody/nothing/resolve/main/config.json".into(),
            404,
            "RepoNotFound",
        ),
        ("/gpt2/resolve/main/config.json".into(), 404, "RepoNotFound"),
        (format!("/{id}/blob/main/config.json"), 404, "NotFound"),
    ];
    for (address, status, code) in table {
        for method in [Method::HEAD, Method::GET] {
            let answer = end(begin(&door, method, &address, &[])).await;
            assert_eq!(answer.code(), (status, code), "{address}");
            assert!(!answer.header("x-error-message").is_empty(), "{address}");
            let commit = match code {
                "EntryNotFound" => model.commit(),
                _ => String::new(),
            };
            assert_eq!(answer.header("x-repo-commit"), commit, "{address}");
        }
    }
    let address = format!("/datasets/{}/resolve/main/rows.json", rows.repo);
    assert_eq!(get(&door, &address, &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_a_revision_finds_it_also_when_there_is_a_newer_one() {
    let net = Testnet::start(1).await.unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    let (commit, hash) = (model.commit(), model.published.manifest.to_string());
    let first = model.bytes("config.json");
    let names = [
        "main",
        "HEAD",
        "refs%2Fheads%2Fmain",
        "v1",
        "refs%2Ftags%2Fv1",
        &commit,
        &hash,
    ];
    for name in names {
        let answer = get(&door, &model.at(name, "config.json"), &[]).await;
        assert_eq!(
            (answer.status, answer.header("x-repo-commit")),
            (200, commit.as_str()),
            "{name}"
        );
        assert!(answer.body == first);
    }
    let path = model.folder.join("config.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"{\"new\": true}").unwrap();
    let (second, _) = publish(net.node(0), &model.folder, "model").await;
    let newer = &second.manifest.to_string()[..40];
    assert_ne!(commit, newer);
    for (name, commit) in [
        ("main", newer),
        ("v2", newer),
        (newer, newer),
        ("v1", &*commit),
        (&*commit, &*commit),
    ] {
        let answer = get(&door, &model.at(name, "config.json"), &[]).await;
        assert_eq!(
            (answer.status, answer.header("x-repo-commit")),
            (200, commit),
            "{name}"
        );
        assert_eq!(answer.body == first, commit != newer, "{name}");
        let answer = head(&door, &model.at(name, "model.safetensors"), &[]).await;
        assert_eq!(
            (answer.status, answer.header("x-repo-commit")),
            (200, commit),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_peers_have_is_streamed_by_any_of_its_names() {
    let net = Testnet::start(4).await.unwrap();
    let files = [("config.json", 500), ("model.bin", 6 << 20)];
    let model = Model::publish(&net, A, "model", &files).await;
    for node in [B, C] {
        follow(net.node(node), net.node(A), "meta");
    }
    let wanted = model.bytes("model.bin");
    let names = [
        (0, format!("blake3/{}", model.published.manifest)),
        (B, model.id()),
        (C, "meta/model".into()),
    ];
    for (node, id) in names {
        let door = open_doors(net.node(node)).await;
        let address = format!("/{id}/resolve/main/model.bin");
        let described = head(&door, &address, &[PYTHON_2]).await;
        assert_eq!(described.status, 200, "{id}: {described:?}");
        assert_eq!(described.header("x-repo-commit"), model.commit());
        let part = get(&door, &address, &[("Range", "bytes=5000000-5000009")]).await;
        assert_eq!(
            (part.status, part.body.as_slice()),
            (206, &wanted[5_000_000..5_000_010]),
            "{id}"
        );
        let answer = get(&door, &address, &[]).await;
        assert_eq!(answer.status, 200, "{id}");
        assert!(answer.body == wanted, "{id}");
        let absent = get(&door, &format!("/{id}/resolve/main/none"), &[]).await;
        assert_eq!(absent.code(), (404, "EntryNotFound"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_pulls_in_parts_what_only_a_peer_has() {
    let net = Testnet::start(4).await.unwrap();
    let len: u64 = 6 << 20;
    let model = Model::publish(&net, A, "model", &[("m-Q4_K_M.gguf", len), ("LICENSE", 90)]).await;
    follow(net.node(C), net.node(A), "meta");
    let door = open_doors(net.node(C)).await;
    let ollama = ("User-Agent", "ollama/0.12.0 (amd64 linux) Go/go1.24.1");
    let image = get(&door, "/v2/meta/model/manifests/latest", &[ollama]).await;
    assert_eq!(image.status, 200, "{image:?}");
    let image: serde_json::Value = serde_json::from_slice(&image.body).unwrap();
    let oid = model.entry("m-Q4_K_M.gguf").sha256.unwrap();
    assert_eq!(image["layers"][0]["digest"], format!("sha256:{oid}"));
    let blob = format!("/v2/meta/model/blobs/sha256:{oid}");
    let described = head(&door, &blob, &[ollama]).await;
    assert_eq!(
        (described.status, described.header("content-length")),
        (200, len.to_string().as_str())
    );
    // It asks for the whole to learn where it is, reads nothing of that, and gets the parts there, the last one first.
    let (address, path) = (door.address(), blob.clone());
    let asked = spawn_blocking(move || {
        let mut start = [0; 4096];
        let read = send(address, &path).read(&mut start).unwrap();
        String::from_utf8_lossy(&start[..read]).into_owned()
    });
    let said = within(ANSWER, "where it is", asked).await.unwrap().unwrap();
    let location = said.lines().find_map(|line| line.strip_prefix("location: "));
    let location = location.unwrap_or_else(|| panic!("{said}")).to_owned();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let wanted = model.bytes("m-Q4_K_M.gguf");
    for from in [&location, &blob] {
        for (start, end) in [(5 << 20, len), (2 << 20, 5 << 20), (0, 2 << 20)] {
            let range = format!("bytes={start}-{}", end - 1);
            let part = get(&door, from, &[ollama, ("Range", &range)]).await;
            assert_eq!(part.status, 206, "{from} {range}: {:?}", part.headers);
            assert_eq!(
                part.header("content-range"),
                format!("bytes {start}-{}/{len}", end - 1)
            );
            assert!(
                part.body == wanted[start as usize..end as usize],
                "{from} {range}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_of_one_file_cause_one_fetch() {
    let net = Testnet::start(4).await.unwrap();
    let len = 8 << 20;
    let model = Model::publish(&net, A, "model", &[("model.bin", len), ("config.json", 500)]).await;
    net.node(A).set_limits(up(4 << 20));
    follow(net.node(C), net.node(A), "meta");
    let door = open_doors(net.node(C)).await;
    let address = model.at("main", "model.bin");
    let readers = [(); 2].map(|()| begin(&door, Method::GET, &address, &[]));
    let wanted = model.bytes("model.bin");
    for reader in readers {
        assert!(end(reader).await.body == wanted);
    }
    let received = net.node(C).status().await.unwrap().down_bytes;
    assert!(
        (len..len + len / 8).contains(&received),
        "{received} bytes came for {len}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_goes_on_when_its_client_goes_away() {
    let mut net = Testnet::start(4).await.unwrap();
    let len = 8 << 20;
    let model = Model::publish(&net, A, "model", &[("model.bin", len), ("config.json", 500)]).await;
    net.node(A).set_limits(up(4 << 20));
    follow(net.node(C), net.node(A), "meta");
    let door = open_doors(net.node(C)).await;
    let (address, path) = (door.address(), model.at("main", "model.bin"));
    let mut some = vec![0; 100_000];
    let (some, gone) = spawn_blocking(move || {
        let mut stream = send(address, &path);
        stream.read_exact(&mut some).unwrap();
        (some, Instant::now())
    })
    .await
    .unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));
    assert!(
        !net.node(C).jobs().is_empty(),
        "all of it came before the client was gone"
    );
    let here = async || net.node(C).jobs().is_empty().then_some(());
    net.until("the fetch to end", here).await.unwrap();
    assert!(gone.elapsed() < ANSWER);
    net.stop(A).await;
    let answer = get(&door, &model.at("main", "model.bin"), &[]).await;
    assert!(answer.body == model.bytes("model.bin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_asked_only_as_the_user_allows() {
    let policies = [OnDemand::Never, OnDemand::Followed, OnDemand::Any];
    let net = Testnet::start_with(5, move |index, config| {
        if let Some(policy) = index.checked_sub(B) {
            config.on_demand = policies[policy];
        }
    })
    .await
    .unwrap();
    let files = [("config.json", 500), ("model.bin", 2 << 20)];
    let model = Model::publish(&net, A, "model", &files).await;
    let address = model.at("main", "model.bin");
    let by_hash = format!("/blake3/{}/resolve/main/model.bin", model.published.manifest);
    let why = [(B, "on_demand = \"never\""), (C, "shoal follow")];
    for (node, why) in why {
        let door = open_doors(net.node(node)).await;
        let unknown = get(&door, &address, &[]).await;
        assert_eq!(unknown.code(), (404, "RepoNotFound"));
        assert!(unknown.header("x-error-message").contains(why), "{unknown:?}");
        if node == B {
            let unknown = get(&door, &by_hash, &[]).await;
            assert_eq!(unknown.code(), (404, "RepoNotFound"));
        }
        // A part of it is here: that is given, and the rest is not fetched.
        fetch_small(net.node(node), &model).await;
        let small = get(&door, &model.at("main", "config.json"), &[]).await;
        assert!(small.body == model.bytes("config.json"));
        for method in [Method::HEAD, Method::GET] {
            let refused = end(begin(&door, method, &address, &[])).await;
            assert_eq!(refused.code(), (404, "RepoNotFound"));
            let message = refused.header("x-error-message");
            assert!(
                message.contains("model.bin") && message.contains(why) || refused.body.is_empty(),
                "{message}"
            );
        }
        let received = net.node(node).status().await.unwrap().down_bytes;
        assert!(received < 1 << 20, "{received}");
    }
    // That its release is known from an earlier fetch is no reason to ask for a repo that was let go.
    let named = RepoRef::Id(model.published.repo.clone());
    net.node(C).forget(&named).await.unwrap();
    let door = open_doors(net.node(C)).await;
    let known = get(&door, &address, &[]).await;
    assert_eq!(known.code(), (404, "RepoNotFound"));
    assert!(
        known.header("x-error-message").contains("known, but not here"),
        "{known:?}"
    );
    assert_eq!(get(&door, &by_hash, &[]).await.status, 200);
    let door = open_doors(net.node(4)).await;
    assert!(get(&door, &address, &[]).await.body == model.bytes("model.bin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_commit_is_fetched_on_demand_only_if_its_publisher_is_followed() {
    let net = Testnet::start(4).await.unwrap();
    let files = [("config.json", 500), ("model.bin", 2 << 20)];
    let model = Model::publish(&net, A, "model", &files).await;
    fetch_small(net.node(C), &model).await;
    // So many newer ones that the release of what is here is not kept.
    let names = Names::open(&net.data(C)).unwrap();
    let key = fixture::publisher_key(&net.data(A)).unwrap();
    for seq in 2..=HISTORY_KEPT_MAX as u64 + 1 {
        let newer = fixture::release(&key, "model", Hash::of(&seq.to_le_bytes()), seq);
        let now = newer.release().issued;
        names.accept(&newer, now).unwrap();
    }
    let history = names.history(&model.published.repo).unwrap();
    assert!(history.iter().all(|release| release.release().seq > 1));

    let door = open_doors(net.node(C)).await;
    let (small, large) = (
        model.at(&model.commit(), "config.json"),
        model.at(&model.commit(), "model.bin"),
    );
    assert!(get(&door, &small, &[]).await.body == model.bytes("config.json"));
    for method in [Method::HEAD, Method::GET] {
        let refused = end(begin(&door, method, &large, &[])).await;
        assert_eq!(refused.code(), (404, "RepoNotFound"));
        let message = refused.header("x-error-message");
        assert!(message.contains("shoal follow"), "{message}");
    }
    let received = net.node(C).status().await.unwrap().down_bytes;
    assert!(received < 1 << 20, "{received}");
    follow(net.node(C), net.node(A), "meta");
    assert!(get(&door, &large, &[]).await.body == model.bytes("model.bin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_under_way_lets_clients_read_what_it_wants_and_nothing_else() {
    let net = Testnet::start_with(4, |index, config| {
        if index == C {
            config.on_demand = OnDemand::Never;
        }
    })
    .await
    .unwrap();
    let files = [("wanted.bin", 6 << 20), ("other.bin", 6 << 20)];
    let model = Model::publish(&net, A, "model", &files).await;
    net.node(A).set_limits(up(2 << 20));
    let manifest = RepoRef::Content(model.published.manifest);
    let mut request = FetchRequest::new(FetchWhat::Repo(manifest));
    request.include = vec!["wanted.bin".into()];
    let fetcher = net.node(C).clone();
    let fetching = tokio::spawn(async move { fetcher.fetch(request, &Progress::default()).await });
    let some = async || net.node(C).jobs().iter().any(|job| job.shards > 0).then_some(());
    net.until("a first shard", some).await.unwrap();
    let door = open_doors(net.node(C)).await;
    let at = |path: &str| format!("/blake3/{}/resolve/main/{path}", model.published.manifest);
    for method in [Method::HEAD, Method::GET] {
        let refused = end(begin(&door, method, &at("other.bin"), &[])).await;
        assert_eq!(refused.code(), (404, "RepoNotFound"));
    }
    assert!(!fetching.is_finished(), "the fetch was over before anybody asked");
    let wanted = get(&door, &at("wanted.bin"), &[]).await;
    assert!(wanted.body == model.bytes("wanted.bin"));
    let fetched = within(ANSWER, "the fetch", fetching)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(fetched.fetched_bytes, 6 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn card_of_a_publisher_that_is_not_followed_is_not_asked_for() {
    let net = Testnet::start(4).await.unwrap();
    let model = Model::publish(&net, A, "model", &[("config.json", 500)]).await;
    std::fs::write(model.folder.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
    let (published, _) = publish(net.node(A), &model.folder, "model").await;
    let model = Model { published, ..model };
    fetch_small(net.node(C), &model).await;
    let door = open_doors(net.node(C)).await;
    let address = format!("/api/models/{}", model.id());
    let answer = get(&door, &address, &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let said = String::from_utf8(answer.body).unwrap();
    assert!(said.contains("README.md") && !said.contains("\"mit\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_that_cannot_be_completed_is_broken_off() {
    let net = Testnet::start_with(1, |_, config| config.on_demand = OnDemand::Never)
        .await
        .unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    let (file, right) = (
        model.folder.join("model.safetensors"),
        model.bytes("model.safetensors"),
    );
    fixture::keep_times(&file, || fixture::flip(&file, (2 << 20) + 5)).unwrap();
    let (at, path) = (door.address(), model.at("main", "model.safetensors"));
    let (said, body) = within(ANSWER, "an end", spawn_blocking(move || drain(send(at, &path))))
        .await
        .unwrap()
        .unwrap();
    assert!(
        said.starts_with("http/1.1 200") && said.contains(&format!("content-length: {LARGE}")),
        "{said}"
    );
    assert!(body.len() as u64 <= 2 << 20, "{} bytes", body.len());
    assert!(body == right[..body.len()]);
    // Now that it is known, it is said at once.
    let answer = get(&door, &model.at("main", "model.safetensors"), &[]).await;
    assert_eq!(answer.code(), (404, "RepoNotFound"), "{:?}", answer.headers);
    let answer = get(&door, &model.at("main", "config.json"), &[]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn byte_that_rotted_is_fetched_again_while_the_file_is_sent() {
    let net = Testnet::start(3).await.unwrap();
    let model = Model::publish(&net, A, "model", &FILES).await;
    follow(net.node(B), net.node(A), "meta");
    let door = open_doors(net.node(B)).await;
    let address = model.at("main", "model.safetensors");
    let right = model.bytes("model.safetensors");
    assert!(get(&door, &address, &[]).await.body == right);
    let here = async || net.node(B).jobs().is_empty().then_some(());
    net.until("the fetch to end", here).await.unwrap();
    let blob = model.entry("model.safetensors").blake3.to_string();
    let kept = files(&net.data(B).join("files"));
    let file = kept.into_iter().find(|path| path.ends_with(&blob)).unwrap();
    let permissions = std::fs::metadata(&file).unwrap().permissions();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    fixture::keep_times(&file, || fixture::flip(&file, (2 << 20) + 5)).unwrap();
    std::fs::set_permissions(&file, permissions).unwrap();
    let answer = get(&door, &address, &[]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == right);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_and_names_are_refused() {
    let net = Testnet::start(1).await.unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    let address = model.at("main", "config.json");
    let table = [
        (("Host", "evil.example"), 421),
        (("Host", "127.0.0.1:1"), 421),
        (("Origin", "https://evil.example"), 403),
        (("Sec-Fetch-Site", "cross-site"), 403),
    ];
    for (header, status) in table {
        let answer = get(&door, &address, &[header]).await;
        assert_eq!(answer.status, status, "{header:?}");
        assert!(
            !answer
                .body
                .windows(8)
                .any(|part| part == &model.bytes("config.json")[..8])
        );
    }
    assert_eq!(end(begin(&door, Method::PUT, &address, &[])).await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_that_the_user_listed_may_read_files() {
    let page = "https://app.example";
    let net = Testnet::start_with(1, move |_, config| config.origins = vec![page.to_owned()])
        .await
        .unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    let address = model.at("main", "model.safetensors");
    let asked = [
        ("Origin", page),
        ("Sec-Fetch-Site", "cross-site"),
        ("Range", "bytes=0-0"),
    ];
    let answer = get(&door, &address, &asked).await;
    assert_eq!(answer.status, 206);
    assert_eq!(answer.header("access-control-allow-origin"), page);
    for name in [
        "ETag",
        "Content-Range",
        "X-Repo-Commit",
        "X-Linked-Size",
        "X-Linked-ETag",
    ] {
        assert!(
            answer.header("access-control-expose-headers").contains(name),
            "{name}"
        );
    }
    let preflight = end(begin(&door, Method::OPTIONS, &address, &asked[..2])).await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-headers").contains("Range"));
    let other = get(&door, &address, &[("Origin", "https://other.example")]).await;
    assert_eq!(
        (other.status, other.header("access-control-allow-origin")),
        (403, "")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_readers_at_once_are_all_served() {
    let net = Testnet::start(1).await.unwrap();
    let model = Model::publish(&net, 0, "model", &FILES).await;
    let door = open_doors(net.node(0)).await;
    let address = model.at("main", "model.safetensors");
    let wanted = blake3::hash(&model.bytes("model.safetensors"));
    // All are open before the first is read.
    let streams: Vec<TcpStream> = (0..64).map(|_| send(door.address(), &address)).collect();
    for stream in streams {
        let (said, body) = within(ANSWER, "an answer", spawn_blocking(move || drain(stream)))
            .await
            .unwrap()
            .unwrap();
        assert!(said.starts_with("http/1.1 200"), "{said}");
        assert_eq!(blake3::hash(&body), wanted);
    }
}
