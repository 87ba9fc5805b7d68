//! Clients of the Hub's API are told what a repo is, what lies in it, what there is, and who they are, as the Hub would tell them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use node::http::control::Door;
use node::identity::Revoke;
use node::keys::{self, KeyKind};
use node::names::Names;
use node::node::Node;
use node::publish::PublishRequest;
use protocol::release::copy_key;
use protocol::{FileEntry, Hash, Kind, Publisher, Reason, Release, RepoPath, SignedRelease, Upstream};
use serde_json::{Value, json};
use testnet::fixture;
use testnet::nodes::Testnet;
use ureq::Agent;
use ureq::http::{HeaderMap, Response};

use crate::acts::{fetch, open_doors, request, tool, unseen};

/// A node and its doors.
struct Gateway {
    net: Testnet,
    door: Door,
    agent: Agent,
}

/// What was answered.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The JSON of an answer that went well.
    fn good(&self) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, 200, "{body}");
        self.json()
    }

    /// That the answer is an error with this status and code, which says why.
    fn fails(&self, status: u16, code: Option<&str>) {
        assert_eq!((self.status, self.header("x-error-code")), (status, code));
        assert!(!self.header("x-error-message").unwrap().is_empty());
        assert!(self.json()["error"].is_string());
    }
}

impl Gateway {
    async fn start() -> Gateway {
        Gateway::over(Testnet::start(1).await.unwrap(), 0).await
    }

    async fn over(net: Testnet, node: usize) -> Gateway {
        Gateway {
            door: open_doors(net.node(node)).await,
            net,
            agent: tool(),
        }
    }

    fn node(&self) -> &Node {
        self.net.node(0)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.door.address())
    }

    /// Asks from a thread that may block.
    async fn ask(
        &self,
        ask: impl FnOnce(Agent) -> Result<Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> Answer {
        let agent = self.agent.clone();
        let asked = move || {
            let (head, mut body) = ask(agent).unwrap().into_parts();
            Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.read_to_vec().unwrap(),
            }
        };
        tokio::task::spawn_blocking(asked).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        let url = self.url(path);
        self.ask(move |agent| agent.get(url).call()).await
    }

    async fn post(&self, path: &str, kind: &'static str, body: impl Into<String>) -> Answer {
        let (url, body) = (self.url(path), body.into());
        self.ask(move |agent| agent.post(url).content_type(kind).send(body))
            .await
    }

    /// Every entry of a list, page by page.
    async fn pages(&self, path: &str) -> (Vec<Value>, usize) {
        let (mut entries, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
        while let Some(path) = next {
            let answer = self.get(&path).await;
            entries.extend(answer.good().as_array().unwrap().iter().cloned());
            pages += 1;
            next = answer.header("link").map(|link| {
                let link = link
                    .strip_prefix('<')
                    .unwrap()
                    .strip_suffix(">; rel=\"next\"")
                    .unwrap();
                link.strip_prefix(&self.url("")).unwrap().to_owned()
            });
        }
        (entries, pages)
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        let (entries, _) = self.pages(path).await;
        let id = |entry: &Value| entry["id"].as_str().unwrap().to_owned();
        entries.iter().map(id).collect()
    }

    /// Publishes files, and returns the commit.
    async fn publish(&self, name: &str, kind: Kind, files: &[(&str, &str)]) -> String {
        let folder = write(&self.net.scratch().join(name), files);
        let request = PublishRequest {
            kind,
            copy: true,
            ..request(&folder, name)
        };
        let (published, _) = self.node().publish(request, &unseen()).await.unwrap();
        published.manifest.to_string()[..40].to_owned()
    }

    /// Follows the node's own publisher as `me`.
    fn follow(&self) {
        let library = self.node().library();
        let alias = "me".parse().unwrap();
        library.follow(library.publisher(), &alias).unwrap();
    }
}

fn write(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder.to_owned()
}

fn entry(path: &str, content: &str) -> FileEntry {
    fixture::entry(RepoPath::new(path).unwrap(), content.as_bytes())
}

fn names(values: &Value, key: &str) -> Vec<String> {
    let name = |value: &Value| value[key].as_str().unwrap().to_owned();
    values.as_array().unwrap().iter().map(name).collect()
}

const CARD: &str = "---\nlicense: mit\nlanguage: [en, no]\ntags: [toy]\npipeline_tag: text-generation\n\
                    library_name: transformers\ndatasets: [some/data]\n---\n# A model\n";
const CONFIG: &str = "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":3}";
const WEIGHTS: &str = "weights";

const MODEL: [(&str, &str); 6] = [
    ("README.md", CARD),
    ("config.json", CONFIG),
    ("model.safetensors", WEIGHTS),
    ("deep/er/a b.json", "{}"),
    ("deep/er/x.bin", "x"),
    ("empty.txt", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn info_says_when_the_key_that_signed_a_release_was_revoked() {
    let gateway = Gateway::start().await;
    gateway.publish("model", Kind::Model, &MODEL).await;
    gateway.follow();
    let path = "/api/models/me/model";
    assert_eq!(gateway.get(path).await.good().get("shoal"), None);
    let revoke = Revoke {
        key: None,
        reason: Reason::Compromised,
        recovery: None,
    };
    gateway.node().revoke(revoke).await.unwrap();
    assert_eq!(
        gateway.get(path).await.good()["shoal"],
        json!({ "stale": false, "revoked": "compromised" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_repo_is_is_told_field_by_field() {
    let gateway = Gateway::start().await;
    let first = gateway.publish("model", Kind::Model, &MODEL[..5]).await;
    let commit = gateway.publish("model", Kind::Model, &MODEL).await;
    gateway.follow();
    let info = gateway.get("/api/models/me/model").await.good();
    let expected = json!({
        "id": "me/model", "modelId": "me/model", "author": "me", "sha": commit,
        "private": false, "gated": false, "disabled": false,
        "downloads": 0, "likes": 0, "trendingScore": 0,
        "pipeline_tag": "text-generation", "library_name": "transformers",
        "tags": [
            "transformers", "safetensors", "llama", "toy", "en", "no", "dataset:some/data", "license:mit",
            "text-generation",
        ],
        "cardData": {
            "license": "mit", "language": ["en", "no"], "tags": ["toy"], "pipeline_tag": "text-generation",
            "library_name": "transformers", "datasets": ["some/data"],
        },
        "config": { "model_type": "llama", "architectures": ["LlamaForCausalLM"] },
        "usedStorage": MODEL.iter().map(|(_, content)| content.len()).sum::<usize>(),
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&info[name], value, "{name}");
    }
    assert_eq!(info["_id"].as_str().unwrap().len(), 24);
    for time in ["lastModified", "createdAt"] {
        let time = info[time].as_str().unwrap();
        assert!(
            time.len() == 24 && time.starts_with("20") && time.ends_with(".000Z"),
            "{time}"
        );
    }
    let mut paths: Vec<&str> = MODEL.iter().map(|(path, _)| *path).collect();
    paths.sort_unstable();
    assert_eq!(names(&info["siblings"], "rfilename"), paths);
    assert!(
        info["siblings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|sibling| sibling.as_object().unwrap().len() == 1)
    );

    let publisher = gateway.node().library().publisher();
    for (id, rev, sha) in [
        ("me/model".to_owned(), "main", &commit),
        (format!("{publisher}/model"), "HEAD", &commit),
        ("me/model".to_owned(), "refs%2Fheads%2Fmain", &commit),
        ("me/model".to_owned(), "v1", &first),
        ("me/model".to_owned(), first.as_str(), &first),
    ] {
        let info = gateway
            .get(&format!("/api/models/{id}/revision/{rev}"))
            .await
            .good();
        assert_eq!(info["sha"].as_str(), Some(sha.as_str()), "{rev}");
        assert_eq!(info["id"].as_str(), Some(id.as_str()));
    }
    for (path, code) in [
        ("/api/datasets/me/model", "RepoNotFound"),
        ("/api/models/me/other", "RepoNotFound"),
        ("/api/models/nobody/model", "RepoNotFound"),
        ("/api/models/me/model/revision/v9", "RevisionNotFound"),
    ] {
        gateway.get(path).await.fails(404, Some(code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_and_single_fields_are_given_where_they_are_asked_for() {
    let gateway = Gateway::start().await;
    gateway.publish("model", Kind::Model, &MODEL).await;
    gateway.follow();
    for query in ["blobs=true", "blobs=True", "securityStatus=true&blobs=1"] {
        let info = gateway.get(&format!("/api/models/me/model?{query}")).await.good();
        let siblings = info["siblings"].as_array().unwrap();
        for (path, content) in MODEL {
            let entry = entry(path, content);
            let sibling = siblings
                .iter()
                .find(|sibling| sibling["rfilename"] == path)
                .unwrap();
            assert_eq!(sibling["size"], entry.size, "{path}");
            match entry.sha1 {
                Some(sha1) => {
                    assert_eq!(sibling["blobId"], sha1.to_string(), "{path}");
                    assert!(sibling.get("lfs").is_none(), "{path}");
                }
                None => {
                    let sha256 = entry.sha256.unwrap().to_string();
                    let pointer = format!(
                        "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n",
                        entry.size
                    );
                    let lfs = json!({ "sha256": sha256, "size": entry.size, "pointerSize": pointer.len() });
                    assert_eq!(sibling["lfs"], lfs, "{path}");
                    let git = fixture::entry(RepoPath::new("p").unwrap(), pointer.as_bytes());
                    assert_eq!(sibling["blobId"], git.sha1.unwrap().to_string(), "{path}");
                }
            }
        }
    }
    for query in ["expand=sha&expand=likes", "expand[]=sha&expand%5B%5D=likes"] {
        let info = gateway
            .get(&format!("/api/models/me/model/revision/HEAD?{query}"))
            .await
            .good();
        let fields: Vec<&String> = info.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["_id", "id", "likes", "sha"], "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_listed_and_paths_looked_up() {
    let gateway = Gateway::start().await;
    let commit = gateway.publish("model", Kind::Model, &MODEL).await;
    gateway.follow();
    let tree = "/api/models/me/model/tree/main";
    let table: [(&str, &[&str]); 6] = [
        (
            "",
            &[
                "README.md",
                "config.json",
                "deep",
                "empty.txt",
                "model.safetensors",
            ],
        ),
        (
            "?recursive=false&expand=false",
            &[
                "README.md",
                "config.json",
                "deep",
                "empty.txt",
                "model.safetensors",
            ],
        ),
        (
            "?recursive=True",
            &[
                "README.md",
                "config.json",
                "deep",
                "deep/er",
                "deep/er/a b.json",
                "deep/er/x.bin",
                "empty.txt",
                "model.safetensors",
            ],
        ),
        ("/deep", &["deep/er"]),
        ("/deep%2Fer", &["deep/er/a b.json", "deep/er/x.bin"]),
        ("/deep/er?recursive=true", &["deep/er/a b.json", "deep/er/x.bin"]),
    ];
    for (rest, paths) in table {
        let answer = gateway.get(&format!("{tree}{rest}")).await;
        assert_eq!(names(&answer.good(), "path"), paths, "{rest}");
        assert_eq!(answer.header("link"), None, "{rest}");
    }
    for missing in ["no%2Fsuch%2Ffolder", "config.json", "dee"] {
        let answer = gateway.get(&format!("{tree}/{missing}?recursive=true")).await;
        answer.fails(404, Some("EntryNotFound"));
        assert_eq!(answer.header("x-repo-commit"), Some(commit.as_str()));
    }

    let all = gateway
        .get(&format!("{tree}?recursive=true&expand=true"))
        .await
        .good();
    let of = |path: &str| {
        all.as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["path"] == path)
            .unwrap()
            .clone()
    };
    let weights = entry("model.safetensors", WEIGHTS);
    let oid = weights.sha256.unwrap().to_string();
    assert_eq!(of("model.safetensors")["lfs"]["oid"], oid);
    assert_eq!(of("model.safetensors")["lfs"]["size"], 7);
    let config = of("config.json");
    assert_eq!(
        config["oid"],
        entry("config.json", CONFIG).sha1.unwrap().to_string()
    );
    assert_eq!((&config["type"], config.get("lfs")), (&json!("file"), None));
    assert_eq!(
        (&of("deep")["type"], &of("deep")["size"]),
        (&json!("directory"), &json!(0))
    );
    assert_eq!(of("deep")["oid"].as_str().unwrap().len(), 40);
    assert_eq!(config["lastCommit"]["id"], commit);
    assert_eq!(config["lastCommit"]["title"], "Release 1");
    assert!(config["lastCommit"]["date"].is_string());

    let (entries, pages) = gateway
        .pages(&format!("{tree}?recursive=true&expand=true&limit=3"))
        .await;
    assert_eq!(
        (Value::from(entries), pages),
        (all.clone(), 3),
        "pages are parts of the whole"
    );

    let info = "/api/models/me/model/paths-info/main";
    let form = "paths=deep%2Fer%2Fx.bin&paths=missing&paths=deep&paths=deep&expand=False";
    let found = gateway
        .post(info, "application/x-www-form-urlencoded", form)
        .await
        .good();
    assert_eq!(names(&found, "path"), ["deep/er/x.bin", "deep"]);
    assert!(found[0].get("lastCommit").is_none() && found[0]["lfs"]["oid"].is_string());
    let asked = json!({ "paths": ["config.json", "no"], "expand": true }).to_string();
    let found = gateway.post(info, "application/json", asked).await.good();
    assert_eq!(found, json!([config]));
    for body in ["", "{", "{}", "{\"paths\":5}"] {
        gateway
            .post(info, "application/json", body)
            .await
            .fails(400, Some("BadRequest"));
    }
    let long = format!("paths={}", "x".repeat(1024 * 1024));
    gateway
        .post(info, "application/x-www-form-urlencoded", long)
        .await
        .fails(413, Some("PayloadTooLarge"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tree_of_ten_thousand_entries_is_one_page() {
    const PAGE: usize = 10_000;
    let gateway = Gateway::start().await;
    let folder = gateway.net.scratch().join("wide");
    // With two folders and what is in them it is one less than a page.
    let mut paths: Vec<String> = (0..PAGE - 4).map(|index| format!("{index:05}.txt")).collect();
    paths.push("deep/er/x.txt".to_owned());
    let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "x")).collect();
    write(&folder, &files);
    gateway.follow();
    for (release, entries) in [(1, PAGE - 1), (2, PAGE), (3, PAGE + 1)] {
        if release > 1 {
            write(&folder, &[(&format!("more-{release}.txt"), "x")]);
        }
        let library = gateway.node().library();
        library
            .publish(request(&folder, "wide"), &unseen())
            .await
            .unwrap();
        let path = format!("/api/models/me/wide/tree/v{release}?recursive=true");
        let answer = gateway.get(&path).await;
        assert_eq!(answer.good().as_array().unwrap().len(), entries.min(PAGE));
        assert_eq!(answer.header("link").is_some(), entries > PAGE, "{entries}");
        let (all, pages) = gateway.pages(&path).await;
        assert_eq!((all.len(), pages), (entries, entries.div_ceil(PAGE)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_tags_and_revisions_are_listed() {
    let gateway = Gateway::start().await;
    let commits = [
        gateway.publish("model", Kind::Model, &MODEL[..3]).await,
        gateway.publish("model", Kind::Model, &MODEL[..4]).await,
        gateway.publish("model", Kind::Model, &MODEL).await,
    ];
    gateway.follow();
    let refs = gateway
        .get("/api/models/me/model/refs?include_prs=1")
        .await
        .good();
    let tag = |number: usize| json!({ "name": format!("v{number}"), "ref": format!("refs/tags/v{number}"), "targetCommit": commits[number - 1] });
    let main = json!({ "name": "main", "ref": "refs/heads/main", "targetCommit": commits[2] });
    let expected = json!({
        "branches": [main], "converts": [], "tags": [tag(3), tag(2), tag(1)], "pullRequests": [],
    });
    assert_eq!(refs, expected);

    let answer = gateway.get("/api/models/me/model/commits/main?limit=100").await;
    let listed = answer.good();
    assert_eq!(names(&listed, "id"), [&*commits[2], &*commits[1], &*commits[0]]);
    assert_eq!(answer.header("x-total-count"), Some("3"));
    assert_eq!(listed[0]["title"], "Release 3");
    assert_eq!(listed[0]["authors"], json!([{ "user": "me" }]));
    let (pages, count) = gateway.pages("/api/models/me/model/commits/main?limit=2").await;
    assert_eq!((Value::from(pages), count), (listed, 2));
    let old = gateway.get("/api/models/me/model/commits/v2").await.good();
    assert_eq!(names(&old, "id"), [&*commits[1], &*commits[0]]);

    // As llama.cpp asks: the branch's commit, then all of its tree at once.
    let commit = refs["branches"][0]["targetCommit"].as_str().unwrap();
    let tree = gateway
        .get(&format!("/api/models/me/model/tree/{commit}?recursive=true"))
        .await
        .good();
    assert_eq!(tree.as_array().unwrap().len(), MODEL.len() + 2);

    // What is asked for by its hash has a branch and one revision.
    let library = gateway.node().library();
    let hash = library.resolve_local(&"me/model".parse().unwrap()).unwrap();
    let refs = gateway
        .get(&format!("/api/models/blake3/{hash}/refs"))
        .await
        .good();
    assert_eq!(refs, json!({ "branches": [main], "converts": [], "tags": [] }));
    let listed = gateway
        .get(&format!("/api/models/blake3/{hash}/commits/main"))
        .await
        .good();
    assert_eq!(names(&listed, "id"), [commit]);
    let info = gateway.get(&format!("/api/models/blake3/{hash}")).await.good();
    assert_eq!((&info["sha"], info.get("lastModified")), (&json!(commit), None));
}

/// Has a node know releases of somebody else when it starts again: `(name, kind, number, seconds ago)`.
async fn hear_of(net: &mut Testnet, releases: &[(&str, Kind, u64, u64)]) -> Publisher {
    net.stop(0).await;
    let key = keys::load_or_create(&net.scratch().join("key"), KeyKind::Publisher).unwrap();
    let publisher = Publisher::from(key.verifying_key());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let names = Names::open(&net.data(0)).unwrap();
    for (name, kind, seq, ago) in releases {
        let release = Release {
            publisher,
            name: name.parse().unwrap(),
            kind: *kind,
            manifest: Hash::of(format!("{name} {seq}").as_bytes()),
            seq: *seq,
            prev: None,
            issued: now - ago,
            expires: now + 1_000_000,
            upstream: None,
            card: None,
        };
        names
            .accept(&SignedRelease::sign(release, &key).unwrap(), now)
            .unwrap();
    }
    drop(names);
    net.start_again(0).await.unwrap();
    publisher
}

#[tokio::test(flavor = "multi_thread")]
async fn repos_are_searched_filtered_sorted_and_paged() {
    let other = [
        ("old", Kind::Model, 1, 2_000),
        ("grown", Kind::Model, 1, 3_000),
        ("grown", Kind::Model, 2, 1_000),
        ("other-data", Kind::Dataset, 1, 10),
    ];
    let mut net = Testnet::start(1).await.unwrap();
    let publisher = hear_of(&mut net, &other).await;
    let gateway = Gateway::over(net, 0).await;
    let card = |head: &str| format!("---\n{head}\n---\n");
    gateway.publish("alpha-llama", Kind::Model, &MODEL).await;
    let beta = card("license: apache-2.0\nlanguage: de\npipeline_tag: fill-mask");
    gateway
        .publish("Beta", Kind::Model, &[("README.md", &beta), ("m.onnx", "o")])
        .await;
    let data = card("license: mit\nlanguage: en\ntask_categories: [qa]");
    gateway
        .publish("data", Kind::Dataset, &[("README.md", &data), ("x.parquet", "p")])
        .await;
    gateway.publish("app", Kind::Space, &[("app.py", "a")]).await;
    gateway.follow();
    let (old, grown, other_data) = (
        format!("{publisher}/old"),
        format!("{publisher}/grown"),
        format!("{publisher}/other-data"),
    );
    let (old, grown, other_data) = (old.as_str(), grown.as_str(), other_data.as_str());
    let (alpha, beta) = ("me/alpha-llama", "me/Beta");
    let by_author = format!("models?author={publisher}");
    let table: &[(&str, &[&str])] = &[
        ("datasets", &["me/data", other_data]),
        ("spaces", &["me/app"]),
        ("models?search=LLAMA", &[alpha]),
        ("models?search=bet", &[beta]),
        ("models?search=toy+alpha", &[alpha]),
        ("models?search=alpha&search=llama", &[alpha]),
        ("models?search=nothing", &[]),
        ("models?search=data", &[alpha]),
        (&by_author, &[grown, old]),
        ("models?author=ME&search=llama", &[alpha]),
        ("models?author=local&search=beta", &[beta]),
        ("models?author=me&search=old", &[]),
        ("models?author=nobody", &[]),
        ("models?filter=license:mit", &[alpha]),
        ("models?filter=license:mit&filter=fill-mask", &[]),
        ("models?filter=license:mit,toy", &[alpha]),
        ("models?filter=language:de&filter=onnx", &[beta]),
        ("models?language=de&license=Apache-2.0", &[beta]),
        ("models?license=license:mit&tags=toy", &[alpha]),
        ("models?filter=no", &[alpha]),
        ("models?filter=dataset:some/data", &[alpha]),
        (
            "datasets?filter=task_categories:qa&filter=language:en",
            &["me/data"],
        ),
        ("models?pipeline_tag=fill-mask", &[beta]),
        ("models?library=transformers", &[alpha]),
        ("models?gated=true", &[]),
        ("models?author=me&sort=id", &[alpha, beta]),
        ("models?author=me&sort=id&direction=-1", &[beta, alpha]),
        ("models?sort=lastModified&direction=-1&limit=2&author=nobody", &[]),
    ];
    for (query, ids) in table {
        assert_eq!(gateway.ids(&format!("/api/{query}")).await, *ids, "{query}");
    }
    let newest = gateway
        .ids("/api/models?sort=downloads&inference=warm&apps=x")
        .await;
    assert_eq!(newest.len(), 4);
    assert_eq!(newest[2..], [grown, old], "the newest come first");
    assert_eq!(gateway.ids("/api/models?sort=createdAt").await[2..], [old, grown]);
    assert_eq!(
        gateway.ids("/api/models?sort=lastModified&direction=1").await[..2],
        [old, grown]
    );

    for query in ["", "?sort=id&full=true", "?sort=createdAt&direction=1"] {
        let (all, _) = gateway.pages(&format!("/api/models{query}")).await;
        let join = if query.is_empty() { '?' } else { '&' };
        let (paged, pages) = gateway.pages(&format!("/api/models{query}{join}limit=1")).await;
        assert_eq!((paged, pages), (all, 4), "{query}: pages are parts of the whole");
    }
    let filters = format!("filter={}", ["x"; 17].join(","));
    for wrong in ["limit=x", "cursor=x", "cursor=x:y", &filters] {
        gateway
            .get(&format!("/api/models?{wrong}"))
            .await
            .fails(400, Some("BadRequest"));
    }

    let short = gateway.get("/api/models?search=alpha").await.good();
    assert!(short[0].get("siblings").is_none() && short[0].get("cardData").is_none());
    assert_eq!(short[0]["pipeline_tag"], "text-generation");
    let full = gateway
        .get("/api/models?search=alpha&full=true&config=true")
        .await
        .good();
    let info = gateway.get("/api/models/me/alpha-llama").await.good();
    for (name, value) in full[0].as_object().unwrap() {
        // Those of a list are in another order, and come with the release.
        if name != "tags" {
            assert_eq!(value, &info[name], "{name}: a list says what the repo says");
        }
    }
    let tags = [
        "transformers",
        "toy",
        "LlamaForCausalLM",
        "dataset:some/data",
        "en",
        "no",
        "license:mit",
        "text-generation",
    ];
    assert_eq!(full[0]["tags"], json!(tags));
    for name in [
        "siblings",
        "sha",
        "lastModified",
        "createdAt",
        "author",
        "cardData",
        "config",
        "tags",
    ] {
        assert!(full[0].get(name).is_some(), "{name}");
    }
    let some = gateway
        .get("/api/models?search=alpha&expand=sha&expand=cardData")
        .await
        .good();
    let fields: Vec<&String> = some[0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["_id", "cardData", "id", "sha"]);

    // What was published just now is listed.
    gateway
        .publish("gamma", Kind::Model, &[("README.md", "---\nlicense: mit\n---\n")])
        .await;
    assert_eq!(
        gateway.ids("/api/models?search=gamma&filter=license:mit").await,
        ["me/gamma"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_another_node_published_is_listed_filtered_and_found() {
    let net = Testnet::start(2).await.unwrap();
    let space =
        "---\nlicense: mit\nsdk: gradio\n---\n# App\n\nAn app that shows what swims in the deep sea.\n";
    let data = "---\nlicense: cc0-1.0\nlanguage: en\ntask_categories: [qa]\n---\n# Data\n";
    for (name, kind, files) in [
        ("sea-llama", Kind::Model, &MODEL[..]),
        (
            "sea-data",
            Kind::Dataset,
            &[("README.md", data), ("x.parquet", "p")][..],
        ),
        (
            "sea-app",
            Kind::Space,
            &[("README.md", space), ("app.py", "a")][..],
        ),
    ] {
        let folder = write(&net.scratch().join(name), files);
        let ask = PublishRequest {
            kind,
            ..request(&folder, name)
        };
        net.node(1).publish(ask, &unseen()).await.unwrap();
    }
    let publisher = net.node(1).library().publisher();
    let gateway = Gateway::over(net, 0).await;
    let listed = async || {
        let mut ids = Vec::new();
        for kind in ["models", "datasets", "spaces"] {
            ids.extend(gateway.ids(&format!("/api/{kind}?search=sea")).await);
        }
        (ids.len() == 3).then_some(ids)
    };
    let names = ["sea-llama", "sea-data", "sea-app"];
    let ids = gateway.net.until("all to be listed", listed).await.unwrap();
    assert_eq!(ids, names.map(|name| format!("{publisher}/{name}")));

    let library = gateway.node().library();
    library.follow(publisher, &"them".parse().unwrap()).unwrap();
    let [model, data, app] = names.map(|name| format!("them/{name}"));
    for (query, id) in [
        ("models?search=sea+lla&author=them", &model),
        ("models?filter=license:mit&filter=transformers", &model),
        ("models?pipeline_tag=text-generation&sort=createdAt", &model),
        (
            "datasets?author=them&filter=task_categories:qa,language:en",
            &data,
        ),
        ("datasets?filter=parquet&license=cc0-1.0", &data),
        ("spaces?search=swims", &app),
        ("spaces?filter=gradio&sort=lastModified", &app),
    ] {
        assert_eq!(
            gateway.ids(&format!("/api/{query}")).await,
            [id.as_str()],
            "{query}"
        );
    }
    let listed = gateway
        .get("/api/models?author=them&full=true&config=true")
        .await
        .good();
    let said = &listed[0];
    let expected = json!({
        "id": model, "modelId": model, "author": "them", "private": false, "gated": false, "disabled": false,
        "downloads": 0, "likes": 0, "trendingScore": 0,
        "pipeline_tag": "text-generation", "library_name": "transformers",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&said[name], value, "{name}");
    }
    assert_eq!(said["sha"].as_str().map(str::len), Some(40));
    assert_eq!(said["createdAt"], said["lastModified"]);
    for name in ["siblings", "cardData", "config"] {
        assert!(said.get(name).is_none(), "{name}: its files are not here");
    }
    let spaces = gateway.get("/api/spaces").await.good();
    assert_eq!(spaces[0]["sdk"], "gradio");

    // What is denied is not listed.
    let denied = node::denials::What::Publisher(publisher);
    library.deny(&denied, None, None).await.unwrap();
    for kind in ["models", "datasets", "spaces"] {
        assert_eq!(
            gateway.get(&format!("/api/{kind}")).await.good(),
            json!([]),
            "{kind}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_learn_who_they_are_and_whether_a_card_reads() {
    let gateway = Gateway::start().await;
    gateway.publish("model", Kind::Model, &MODEL).await;
    gateway.follow();
    gateway
        .get("/api/whoami-v2")
        .await
        .fails(401, Some("Unauthorized"));
    let url = gateway.url("/api/whoami-v2");
    let answer = gateway
        .ask(move |agent| agent.get(url).header("authorization", "Bearer hf_x").call())
        .await;
    let user = answer.good();
    assert_eq!(
        (&user["type"], &user["name"], &user["orgs"]),
        (&json!("user"), &json!("local"), &json!([]))
    );
    assert_eq!(user["auth"]["accessToken"]["role"], "write");

    for path in ["auth-check", "auth-check/write"] {
        gateway.get(&format!("/api/models/me/model/{path}")).await.good();
        let missing = gateway.get(&format!("/api/models/me/missing/{path}")).await;
        missing.fails(404, Some("RepoNotFound"));
    }

    let validate = async |content: &str| {
        let asked = json!({ "content": content, "repoType": "model" }).to_string();
        gateway
            .post("/api/validate-yaml", "application/json", asked)
            .await
    };
    assert_eq!(
        validate(CARD).await.good(),
        json!({ "errors": [], "warnings": [] })
    );
    let bare = validate("# Title").await.good();
    assert_eq!(
        (
            bare["errors"].as_array().unwrap().len(),
            bare["warnings"].as_array().unwrap().len()
        ),
        (0, 1)
    );
    let wrong = validate("---\nlicense: [mit\n---\n").await;
    assert_eq!(wrong.status, 400);
    assert!(!wrong.json()["errors"][0]["message"].as_str().unwrap().is_empty());

    for path in [
        "/api/agent-harnesses",
        "/api/telemetry/x",
        "/api/models/me/model/discussions",
        "/api/resolve-cache/x",
    ] {
        gateway.get(path).await.fails(404, Some("NotFound"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_pulls_a_model_by_its_tag() {
    let gateway = Gateway::start().await;
    let files = [
        ("m-Q8_0.gguf", "eight"),
        ("m-Q4_K_M.gguf", "four"),
        ("mmproj-m-f16.gguf", "eye"),
        ("template", "{{ .Prompt }}"),
        ("params", "{}"),
        ("LICENSE", "MIT"),
        ("README.md", CARD),
    ];
    let commit = gateway.publish("model", Kind::Model, &files).await;
    gateway.follow();
    let digest = |path: &str| {
        let (_, content) = files.iter().find(|(name, _)| *name == path).unwrap();
        format!("sha256:{}", entry(path, content).sha256.unwrap())
    };
    for (tag, file) in [
        ("latest", "m-Q4_K_M.gguf"),
        ("q8_0", "m-Q8_0.gguf"),
        ("Q4_K_M", "m-Q4_K_M.gguf"),
    ] {
        let answer = gateway.get(&format!("/v2/me/model/manifests/{tag}")).await;
        let manifest = answer.good();
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(manifest["schemaVersion"], 2);
        let layers = names(&manifest["layers"], "mediaType");
        let kinds = ["model", "projector", "template", "params", "license"];
        assert_eq!(
            layers,
            kinds.map(|kind| format!("application/vnd.ollama.image.{kind}"))
        );
        assert_eq!(manifest["layers"][0]["digest"], digest(file), "{tag}");
        assert_eq!(manifest["ggufFile"]["rfilename"], file);
        assert_eq!(manifest["mmprojFile"]["rfilename"], "mmproj-m-f16.gguf");

        let mut blobs = vec![manifest["config"].clone()];
        blobs.extend(manifest["layers"].as_array().unwrap().iter().cloned());
        for blob in blobs {
            let (size, digest) = (blob["size"].as_u64().unwrap(), blob["digest"].as_str().unwrap());
            let path = format!("/v2/me/model/blobs/{digest}");
            let url = gateway.url(&path);
            let head = gateway.ask(move |agent| agent.head(url).call()).await;
            assert_eq!((head.status, head.body.len()), (200, 0));
            assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
            let answer = gateway.get(&path).await;
            assert_eq!(answer.body.len() as u64, size);
            let sent = fixture::entry(RepoPath::new("x.bin").unwrap(), &answer.body);
            assert_eq!(
                format!("sha256:{}", sent.sha256.unwrap()),
                digest,
                "the bytes are what the digest names"
            );
            let location = answer.header("location").unwrap();
            match blob == manifest["config"] {
                true => assert_eq!(location, path),
                false => assert!(
                    location.starts_with(&format!("/me/model/resolve/{commit}/")),
                    "{location}"
                ),
            }
        }
    }
    gateway
        .get("/v2/me/model/manifests/Q2_K")
        .await
        .fails(404, Some("NotFound"));
    gateway
        .get("/v2/me/missing/manifests/latest")
        .await
        .fails(404, Some("RepoNotFound"));
    let other = format!("/v2/me/model/blobs/sha256:{}", "0".repeat(64));
    gateway.get(&other).await.fails(404, Some("NotFound"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_followed_publisher_has_is_described_before_it_is_fetched() {
    let net = Testnet::start(2).await.unwrap();
    let folder = write(&net.scratch().join("model"), &MODEL);
    let publishing = net.node(1).publish(request(&folder, "model"), &unseen()).await;
    let publisher = publishing.unwrap().0.repo.publisher;
    net.node(0)
        .library()
        .follow(publisher, &"them".parse().unwrap())
        .unwrap();
    let gateway = Gateway::over(net, 0).await;
    let found = gateway.net.until("the repo to be described", async || {
        let answer = gateway.get("/api/models/them/model").await;
        (answer.status == 200).then(|| answer.json())
    });
    let info = found.await.unwrap();
    assert_eq!(info["siblings"].as_array().unwrap().len(), MODEL.len());
    let weights = format!("/api/models/them/model/tree/{}", info["sha"].as_str().unwrap());
    assert_eq!(gateway.get(&weights).await.good().as_array().unwrap().len(), 5);
    fetch(gateway.node(), "them/model", None).await;
    let info = gateway.get("/api/models/them/model").await.good();
    assert_eq!(
        info["cardData"]["license"], "mit",
        "the card is read once it is here"
    );
    // What the DHT told of comes without its card, which is asked for.
    let listed = gateway.net.until("the card to be here", async || {
        let ids = gateway.ids("/api/models?filter=license:mit").await;
        (ids == ["them/model"]).then_some(())
    });
    listed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_followed_publishers_are_had_by_their_upstreams_names() {
    let net = Testnet::start(3).await.unwrap();
    let copies = [
        (1, "one", "gpt2", "the first's"),
        (1, "two", "acme/tiny", "the first's"),
        (2, "other", "acme/tiny", "the second's"),
    ];
    let mut publishers = [None; 3];
    for (node, name, upstream, text) in copies {
        let folder = net.scratch().join(format!("{node}-{name}"));
        let upstream = Upstream {
            commit: "5".repeat(40),
            hub: "hub.example".to_owned(),
            repo: upstream.to_owned(),
        };
        let ask = PublishRequest {
            upstream: Some(upstream.clone()),
            ..request(&write(&folder, &[("README.md", text)]), name)
        };
        let (published, _) = net.node(node).publish(ask, &unseen()).await.unwrap();
        let publisher = published.repo.publisher;
        publishers[node] = Some(publisher);
        // It is announced in the background.
        let key = copy_key(publisher, Kind::Model, &upstream.repo);
        let lies_there = async || {
            let found = net.node(0).swarm().get_records(key).await.ok()?;
            (!found.is_empty()).then_some(())
        };
        net.until("the copy to be announced", lies_there).await.unwrap();
    }
    let gateway = Gateway::over(net, 0).await;
    let (bare, named) = (
        "/gpt2/resolve/main/README.md",
        "/acme/tiny/resolve/main/README.md",
    );
    gateway.get(bare).await.fails(404, Some("RepoNotFound"));
    let follow = |node: usize, alias: &str| {
        let publisher = publishers[node].unwrap();
        let library = gateway.node().library();
        library.follow(publisher, &alias.parse().unwrap()).unwrap();
    };
    // Nothing was ever asked by its own name.
    follow(1, "them");
    for path in [bare, named] {
        let answer = gateway.get(path).await;
        assert_eq!((answer.status, &*answer.body), (200, b"the first's".as_slice()));
    }
    follow(2, "others");
    let answer = gateway.get(named).await;
    assert_eq!((answer.status, &*answer.body), (200, b"the first's".as_slice()));
    // Once both are known, who asks has to say which one is meant.
    let other = gateway.get("/others/other/resolve/main/README.md").await;
    assert_eq!(&*other.body, b"the second's");
    let differs = gateway.net.until("both copies to be seen", async || {
        let answer = gateway.get(named).await;
        (answer.status == 404).then_some(answer)
    });
    let differs = differs.await.unwrap();
    let why = differs.header("x-error-message").unwrap();
    assert!(
        why.contains("differ") && why.contains("/two") && why.contains("/other"),
        "{why}"
    );
}

/// Repos in a catalog that a busy node may have.
const MANY: usize = 1_000;
/// Questions of each kind that are timed.
const ASKED: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_repos_make_no_answer_slow() {
    let mut net = Testnet::start(1).await.unwrap();
    let folder = net.scratch().join("many");
    for index in 0..MANY {
        let card = format!("---\nlicense: mit\ntags: [t{}]\n---\n# {index}\n", index % 10);
        let folder = write(
            &folder.join(index.to_string()),
            &[("README.md", &card), ("config.json", CONFIG)],
        );
        let name = format!("repo-{index:04}");
        let published = net
            .node(0)
            .library()
            .publish(request(&folder, &name), &unseen())
            .await;
        published.unwrap();
    }
    // What was published without the swarm is known when the node starts.
    net.restart(0).await.unwrap();
    let gateway = Gateway::over(net, 0).await;
    gateway.follow();
    let begun = Instant::now();
    let listed = gateway.get("/api/models?limit=30&filter=t3").await.good();
    eprintln!("the first list took {:?}", begun.elapsed());
    assert_eq!(listed.as_array().unwrap().len(), 30);
    let (all, _) = gateway.pages("/api/models?filter=t3").await;
    assert_eq!(all.len(), MANY / 10);
    for (what, path) in [
        ("info", "/api/models/me/repo-NNNN"),
        ("tree", "/api/models/me/repo-NNNN/tree/main?recursive=true"),
        ("list", "/api/models?limit=30&search=NNNN"),
        ("page", "/api/models?limit=30"),
    ] {
        let mut times = Vec::new();
        for index in 0..ASKED {
            let number = format!("{:04}", index * (MANY / ASKED));
            let path = path.replace("NNNN", &number);
            let begun = Instant::now();
            gateway.get(&path).await.good();
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let (middle, p99) = (times[ASKED / 2], times[ASKED * 99 / 100]);
        eprintln!("{what}: half within {middle:?}, 99 of 100 within {p99:?}");
        assert!(p99 < Duration::from_secs(1), "{what}: {p99:?}");
    }
}
