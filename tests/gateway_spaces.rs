//! A Space is published and read over the Hub's API as a model is, under addresses of its own.

use data_encoding::BASE64;
use node::http::UploadToken;
use node::http::control::Door;
use protocol::{FileEntry, RepoPath};
use serde_json::{Value, json};
use testnet::fixture;
use testnet::nodes::Testnet;

use crate::acts::open_doors;
use crate::gateway::{Answer, get, head, post};

const CARD: &str = "---\nsdk: gradio\napp_file: app.py\nlicense: mit\ntags: [demo]\n---\n# An app\n";

const FILES: [(&str, &str); 4] = [
    ("README.md", CARD),
    ("app.py", "print('hello')\n"),
    ("assets/weights.safetensors", "weights"),
    ("empty.txt", ""),
];

/// A node with one Space, which came by its doors.
struct Stage {
    _net: Testnet,
    door: Door,
    commit: String,
}

fn good(answer: &Answer) -> Value {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn entry(path: &str, content: &str) -> FileEntry {
    fixture::entry(RepoPath::new(path).unwrap(), content.as_bytes())
}

fn all<'a>(values: &'a Value, key: &str) -> Vec<&'a str> {
    let text = |value: &'a Value| value[key].as_str().unwrap();
    values.as_array().unwrap().iter().map(text).collect()
}

impl Stage {
    /// Uploads the Space as clients do, and checks each answer.
    async fn upload() -> Stage {
        let net = Testnet::start(1).await.unwrap();
        let door = open_doors(net.node(0)).await;
        let token = UploadToken::load_or_create(&net.data(0)).unwrap();
        let bearer = format!("Bearer {}", token.text());
        let post = async |path: &str, body: String| {
            let headers = [("Authorization", bearer.as_str())];
            good(&post(&door, path, &headers, body.into()).await)
        };
        let url = |path: &str| format!("http://{}{path}", door.address());
        let create = json!({ "name": "app", "type": "space", "sdk": "gradio" }).to_string();
        let created = post("/api/repos/create", create).await;
        assert_eq!(created["url"], url("/spaces/local/app"));

        let asked = FILES.map(|(path, content)| json!({ "path": path, "size": content.len(), "sample": "" }));
        let asked = json!({ "files": asked }).to_string();
        let said = post("/api/spaces/local/app/preupload/main", asked.clone()).await;
        let regular =
            FILES.map(|(path, _)| json!({ "path": path, "uploadMode": "regular", "shouldIgnore": false }));
        assert_eq!(said["files"], json!(regular));

        let mut lines = json!({ "key": "header", "value": { "summary": "an app" } }).to_string();
        for (path, content) in FILES {
            let content = BASE64.encode(content.as_bytes());
            let value = json!({ "path": path, "content": content, "encoding": "base64" });
            lines += &format!("\n{}", json!({ "key": "file", "value": value }));
        }
        let said = post("/api/spaces/local/app/commit/main", lines).await;
        let commit = said["commitOid"].as_str().unwrap().to_owned();
        assert_eq!(said["success"], true);
        assert_eq!(
            said["commitUrl"],
            url(&format!("/spaces/local/app/commit/{commit}"))
        );
        // What is there is not sent again.
        let said = post("/api/spaces/local/app/preupload/main", asked).await;
        assert!(all(&said["files"], "oid").iter().all(|oid| oid.len() == 40));
        Stage {
            _net: net,
            door,
            commit,
        }
    }

    async fn get(&self, path: &str) -> Value {
        good(&get(&self.door, path, &[]).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_uploaded_and_its_files_are_resolved() {
    let stage = Stage::upload().await;
    for (path, content) in FILES {
        let entry = entry(path, content);
        let (id, linked) = match entry.sha1 {
            Some(sha1) => (format!("\"{sha1}\""), String::new()),
            None => (format!("\"{}\"", entry.sha256.unwrap()), entry.size.to_string()),
        };
        for rev in ["main", &stage.commit] {
            let at = format!("/spaces/local/app/resolve/{rev}/{path}");
            let answers = [
                head(&stage.door, &at, &[]).await,
                get(&stage.door, &at, &[]).await,
            ];
            for answer in &answers {
                assert_eq!(answer.status, 200, "{at}: {answer:?}");
                assert_eq!(answer.header("x-repo-commit"), stage.commit);
                assert_eq!(answer.header("etag"), id, "{at}");
                assert_eq!(answer.header("content-length"), entry.size.to_string());
                assert_eq!(answer.header("accept-ranges"), "bytes");
                assert_eq!(answer.header("x-linked-size"), linked, "{at}");
            }
            assert!(answers[1].body == content.as_bytes(), "{at}");
        }
    }
    let at = "/spaces/local/app/resolve/main/app.py";
    let part = get(&stage.door, at, &[("Range", "bytes=0-4")]).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"print"[..]));
    let absent = get(&stage.door, "/spaces/local/app/resolve/main/none", &[]).await;
    assert_eq!(absent.code(), (404, "EntryNotFound"));
    assert_eq!(absent.header("x-repo-commit"), stage.commit);
    // Kinds are name spaces of their own.
    for at in [
        "/local/app/resolve/main/app.py",
        "/datasets/local/app/resolve/main/app.py",
        "/api/models/local/app",
        "/api/datasets/local/app/tree/main",
    ] {
        let other = get(&stage.door, at, &[]).await;
        assert_eq!(other.code(), (404, "RepoNotFound"), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_described_field_by_field_and_listed() {
    let stage = Stage::upload().await;
    let paths = FILES.map(|(path, _)| path);
    let expected = json!({
        "id": "local/app", "author": "local", "sha": stage.commit, "sdk": "gradio",
        "private": false, "gated": false, "disabled": false, "downloads": 0, "likes": 0,
        "cardData": { "sdk": "gradio", "app_file": "app.py", "license": "mit", "tags": ["demo"] },
        "tags": ["demo", "license:mit"],
        "siblings": paths.map(|path| json!({ "rfilename": path })),
        "usedStorage": FILES.map(|(_, content)| content.len()).iter().sum::<usize>(),
    });
    for at in ["", "/revision/main", "/revision/HEAD", "/revision/v1"] {
        let info = stage.get(&format!("/api/spaces/local/app{at}")).await;
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&info[name], value, "{at} {name}");
        }
        assert_eq!(info.get("modelId"), None);
        assert_eq!(info["_id"].as_str().unwrap().len(), 24);
        assert!(info["lastModified"].as_str().unwrap().ends_with(".000Z"));
    }
    let blobs = stage.get("/api/spaces/local/app?blobs=true").await;
    let tree = stage
        .get("/api/spaces/local/app/tree/main?recursive=true&expand=true")
        .await;
    assert_eq!(
        all(&tree, "path"),
        [
            "README.md",
            "app.py",
            "assets",
            "assets/weights.safetensors",
            "empty.txt"
        ]
    );
    for (index, (path, content)) in FILES.into_iter().enumerate() {
        let entry = entry(path, content);
        let sibling = &blobs["siblings"][index];
        let listed = tree
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["path"] == path);
        let listed = listed.unwrap();
        assert_eq!(
            (&listed["size"], &sibling["size"]),
            (&json!(entry.size), &json!(entry.size))
        );
        assert_eq!(listed["oid"], sibling["blobId"], "{path}");
        assert_eq!(listed["lastCommit"]["id"], stage.commit);
        match entry.sha1 {
            Some(sha1) => assert_eq!(listed["oid"], sha1.to_string(), "{path}"),
            None => {
                let oid = entry.sha256.unwrap().to_string();
                assert_eq!(
                    (&listed["lfs"]["oid"], &sibling["lfs"]["sha256"]),
                    (&json!(oid), &json!(oid))
                );
            }
        }
    }
    let folder = stage.get("/api/spaces/local/app/tree/main/assets").await;
    assert_eq!(all(&folder, "path"), ["assets/weights.safetensors"]);
    let asked = json!({ "paths": ["app.py", "none"] }).to_string();
    let kind = [("Content-Type", "application/json")];
    let found = post(
        &stage.door,
        "/api/spaces/local/app/paths-info/main",
        &kind,
        asked.into(),
    )
    .await;
    assert_eq!(all(&good(&found), "path"), ["app.py"]);
    let refs = stage.get("/api/spaces/local/app/refs").await;
    assert_eq!(refs["branches"][0]["targetCommit"], stage.commit);
    let commits = stage.get("/api/spaces/local/app/commits/main").await;
    assert_eq!(all(&commits, "id"), [stage.commit.as_str()]);
    assert_eq!(stage.get("/api/spaces").await.as_array().unwrap().len(), 1);
    assert_eq!(stage.get("/api/models").await, json!([]));
}
