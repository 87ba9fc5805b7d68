//! Who may do what at the doors of a real node: every combination of method, address, Host, Origin and token, over the wire.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use node::http::UploadToken;
use node::http::contact::Contact;
use node::http::control::Door;
use serde_json::json;
use testnet::nodes::Testnet;
use tokio::task::block_in_place;

use crate::acts::open_doors;

/// Longest that any answer may take: nothing hangs.
const ANSWER: Duration = Duration::from_secs(20);

/// A page of this origin may read.
const LISTED: &str = "http://localhost:3000";

struct Gateway {
    net: Testnet,
    door: Door,
    token: String,
}

/// A request, as bytes.
#[derive(Clone, Default)]
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Vec<u8>,
}

impl<'a> Asked<'a> {
    /// By somebody who says this Host, Origin and Authorization, as far as there are any.
    fn by(method: &'a str, path: &'a str, said: [Option<String>; 3], body: Vec<u8>) -> Asked<'a> {
        let headers = ["host", "origin", "authorization"].into_iter().zip(said);
        Asked {
            method,
            path,
            headers: headers.filter_map(|(name, value)| Some((name, value?))).collect(),
            body,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let Asked {
            method,
            path,
            headers,
            body,
        } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        let stated = ["content-length", "transfer-encoding"];
        let states = headers.iter().any(|(name, _)| stated.contains(name));
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !states {
            text += &format!("content-length: {}\r\n", body.len());
        }
        let mut bytes = format!("{text}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Sends bytes as they are, and returns the status and the text of the answer.
fn send(address: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.set_write_timeout(Some(ANSWER)).unwrap();
    // Who is refused early may not read all of it.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            // The rest of a request that nobody reads makes the system cut the line behind the answer.
            Err(_) if !answer.is_empty() => break,
            Err(error) => panic!("no answer: {error}"),
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    let text = String::from_utf8_lossy(&answer).to_lowercase();
    let status = text.split(' ').nth(1).unwrap_or_default();
    (status.parse().unwrap_or_else(|_| panic!("{text:?}")), text)
}

impl Gateway {
    async fn open() -> Gateway {
        let net = Testnet::start_with(1, |_, config| config.origins = vec![LISTED.to_owned()])
            .await
            .unwrap();
        let door = open_doors(net.node(0)).await;
        let token = UploadToken::load_or_create(&net.data(0)).unwrap();
        Gateway {
            net,
            door,
            token: token.text().to_owned(),
        }
    }

    fn ask(&self, asked: &Asked<'_>) -> (u16, String) {
        block_in_place(|| send(self.door.address(), &asked.bytes()))
    }

    fn hosts(&self) -> Vec<(Option<String>, bool)> {
        let port = self.door.address().port();
        vec![
            (Some(format!("127.0.0.1:{port}")), true),
            (Some(format!("localhost:{port}")), true),
            (Some(format!("[::1]:{port}")), true),
            (Some(format!("evil.example:{port}")), false),
            (Some(format!("127.0.0.1:{}", port ^ 1)), false),
            (Some("127.0.0.1".to_owned()), false),
            (None, false),
        ]
    }

    /// Origins: whether it is the node's own page (or none), and whether it may read.
    fn origins(&self) -> Vec<(Option<String>, bool, bool)> {
        let port = self.door.address().port();
        vec![
            (None, true, true),
            (Some(format!("http://127.0.0.1:{port}")), true, true),
            (Some(LISTED.to_owned()), false, true),
            (Some("http://evil.example".to_owned()), false, false),
            (Some("null".to_owned()), false, false),
            (Some("https://localhost:3000".to_owned()), false, false),
        ]
    }

    fn tokens(&self) -> Vec<(Option<String>, bool)> {
        let control = Contact::read(&self.net.data(0)).unwrap().token;
        vec![
            (Some(format!("Bearer {}", self.token)), true),
            (None, false),
            (Some(format!("Bearer {}x", self.token)), false),
            (Some(format!("Basic {}", self.token)), false),
            (Some(format!("Bearer {control}")), false),
        ]
    }

    /// A request from this node's own client.
    fn good<'a>(&self, method: &'a str, path: &'a str, body: impl Into<Vec<u8>>) -> Asked<'a> {
        Asked {
            method,
            path,
            headers: vec![
                ("host", self.door.address().to_string()),
                ("authorization", format!("Bearer {}", self.token)),
            ],
            body: body.into(),
        }
    }
}

/// What changes something, with a body that is in order, and what it is answered with.
fn writes() -> Vec<(&'static str, &'static str, String, &'static [u16])> {
    let commit = format!(
        "{}\n{}\n",
        json!({ "key": "header", "value": { "summary": "x" } }),
        json!({ "key": "file", "value": { "path": "a", "content": "YQ==", "encoding": "base64" } }),
    );
    let batch = json!({ "operation": "upload", "objects": [{ "oid": "0".repeat(64), "size": 1 }] });
    let files = json!({ "files": [{ "path": "a", "size": 1, "sample": "" }] });
    vec![
        (
            "POST",
            "/api/repos/create",
            json!({ "name": "new" }).to_string(),
            &[200, 409],
        ),
        (
            "POST",
            "/api/models/local/m/preupload/main",
            files.to_string(),
            &[200],
        ),
        ("POST", "/api/models/local/m/commit/main", commit, &[200]),
        (
            "POST",
            "/local/m.git/info/lfs/objects/batch",
            batch.to_string(),
            &[200],
        ),
    ]
}

const READS: [(&str, &str); 7] = [
    ("GET", "/api/models"),
    ("GET", "/api/models/local/m"),
    ("GET", "/api/models/local/m/tree/main"),
    ("GET", "/api/models/local/none"),
    ("GET", "/local/m/resolve/main/a"),
    ("HEAD", "/local/m/resolve/main/a"),
    ("GET", "/api/no-such-thing"),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_something_is_a_client_of_this_node_with_its_token() {
    let gateway = Gateway::open().await;
    let mut asked = 0;
    for (method, path, body, done) in writes() {
        for (host, host_good) in gateway.hosts() {
            for (origin, origin_ours, _) in gateway.origins() {
                for (token, token_good) in gateway.tokens() {
                    let said = [host.clone(), origin.clone(), token];
                    let request = Asked::by(method, path, said, body.clone().into());
                    let wanted: &[u16] = match (host_good, origin_ours, token_good) {
                        // Without any Host, HTTP itself is not in order.
                        (false, _, _) => &[421, 400],
                        (true, false, _) => &[403],
                        (true, true, false) => &[401],
                        (true, true, true) => done,
                    };
                    let (status, text) = gateway.ask(&request);
                    let shown = String::from_utf8_lossy(&request.bytes()).into_owned();
                    assert!(wanted.contains(&status), "{shown}\n{wanted:?}\n{text}");
                    if status == 401 {
                        assert!(text.contains("shoal id --token"), "{text}");
                    }
                    assert!(!text.contains(&gateway.token.to_lowercase()), "{shown}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked >= 150, "{asked}");
    // All of those that were in order said the same.
    let repo = format!("{}/m", gateway.net.node(0).library().publisher());
    let shown = gateway.net.node(0).library().show(&repo.parse().unwrap()).await;
    assert_eq!(shown.unwrap().view.seq, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_needs_no_token_and_no_page_but_a_listed_one_may() {
    let gateway = Gateway::open().await;
    let (_, path, body, _) = writes().remove(2);
    assert_eq!(gateway.ask(&gateway.good("POST", path, body)).0, 200);
    let mut asked = 0;
    for (method, path) in READS {
        for (host, host_good) in gateway.hosts() {
            for (origin, _, may_read) in gateway.origins() {
                for (token, _) in gateway.tokens() {
                    let said = [host.clone(), origin.clone(), token];
                    let request = Asked::by(method, path, said, Vec::new());
                    let (status, text) = gateway.ask(&request);
                    let shown = String::from_utf8_lossy(&request.bytes()).into_owned();
                    match (host_good, may_read) {
                        (false, _) => assert!([400, 421].contains(&status), "{shown}\n{text}"),
                        (true, false) => assert_eq!(status, 403, "{shown}\n{text}"),
                        (true, true) => {
                            let passed = matches!(status, 200 | 404);
                            assert!(passed, "{shown}\n{text}");
                        }
                    }
                    let allowed = text.contains("access-control-allow-origin");
                    let listed = origin.as_deref() == Some(LISTED);
                    assert_eq!(allowed, host_good && listed, "{shown}\n{text}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked >= 150, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_of_the_hub_that_is_not_here_is_not_found() {
    let gateway = Gateway::open().await;
    let host = format!("datasets-server.localhost:{}", gateway.door.address().port());
    let bearer = format!("Bearer {}", gateway.token);
    let asks = [
        ("GET", "/info?dataset=local/m"),
        ("GET", "/api/models"),
        ("POST", "/api/repos/create"),
        ("GET", "/api/shoal/v1/status"),
    ];
    for (method, path) in asks {
        let said = [Some(host.clone()), None, Some(bearer.clone())];
        let asked = Asked::by(method, path, said, b"{\"name\":\"n\"}".to_vec());
        let (status, text) = gateway.ask(&asked);
        assert_eq!(status, 404, "{method} {path}: {text}");
        assert!(text.contains("application/json"), "{text}");
    }
    // Nothing came of it.
    let (status, _) = gateway.ask(&gateway.good("POST", "/api/repos/create", "{\"name\":\"n\"}"));
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_bodies_and_heads_out_of_bounds_are_refused_at_once() {
    let gateway = Gateway::open().await;
    let other_methods = [
        ("GET", "/api/repos/create", 405),
        ("DELETE", "/api/repos/create", 405),
        ("PUT", "/api/models/local/m/commit/main", 405),
        ("GET", "/api/models/local/m/commit/main", 405),
        ("PATCH", "/api/models/local/m/preupload/main", 405),
        ("DELETE", "/api/models/local/m", 405),
        ("POST", "/local/m/resolve/main/a", 405),
        ("DELETE", "/lfs-upload/x", 405),
        ("DELETE", "/api/repos/delete", 404),
        ("POST", "/api/repos/move", 404),
        ("PUT", "/lfs-upload/x", 404),
        ("PUT", "/lfs-upload/", 404),
        ("POST", "/lfs-upload/x/verify", 404),
        ("PUT", "/lfs-upload/../upload.token", 404),
        ("POST", "/api/models/local/%2e%2e/commit/main", 400),
        ("POST", "/api/models/local/a%2Fb/commit/main", 400),
        ("POST", "/api/models/local/m/commit/%ff", 404),
        ("POST", "/api/shoal/v1/collect", 401),
        ("GET", "/api/shoal/v1/status", 401),
    ];
    for (method, path, wanted) in other_methods {
        let (status, text) = gateway.ask(&gateway.good(method, path, ""));
        assert_eq!(status, wanted, "{method} {path}: {text}");
    }

    // A body that says how long it is, and is too long.
    let create = "/api/repos/create";
    let batch = "/local/m.git/info/lfs/objects/batch";
    for (path, len) in [
        (create, 1_u64 << 20),
        ("/api/models/local/m/preupload/main", 8 << 20),
        ("/api/models/local/m/commit/main", 3 << 30),
        (batch, 2 << 20),
        (create, 1 << 60),
    ] {
        let mut asked = gateway.good("POST", path, "");
        asked.headers.push(("content-length", len.to_string()));
        let (status, text) = gateway.ask(&asked);
        assert_eq!(status, 413, "{path} {len}: {text}");
    }
    // One that does not say, and is.
    let mut asked = gateway.good("POST", create, "");
    asked.headers.push(("transfer-encoding", "chunked".to_owned()));
    let chunk = format!("{:x}\r\n{}\r\n", 40_000, " ".repeat(40_000));
    asked.body = chunk.repeat(3).into_bytes();
    assert_eq!(gateway.ask(&asked).0, 413);
    // The first one without the token is told of that, not of the length.
    let mut asked = gateway.good("POST", create, "");
    asked.headers.remove(1);
    asked.headers.push(("content-length", (1 << 30).to_string()));
    assert_eq!(gateway.ask(&asked).0, 401);

    // Heads.
    let long = "x".repeat(20_000);
    let mut asked = gateway.good("GET", "/api/models", "");
    asked.headers.push(("x-long", long.clone()));
    assert_eq!(gateway.ask(&asked).0, 431);
    let path = format!("/api/models/{long}");
    let (status, text) = gateway.ask(&gateway.good("GET", &path, ""));
    assert!([414, 431].contains(&status), "{text}");
    for doubled in ["host", "origin", "authorization"] {
        let mut asked = gateway.good("POST", create, "{}");
        let origin = format!("http://{}", gateway.door.address());
        asked.headers.push(("origin", origin));
        let first = asked.headers.iter().find(|(name, _)| *name == doubled).cloned();
        asked.headers.push(first.unwrap());
        let (status, text) = gateway.ask(&asked);
        assert!([400, 401, 403, 421].contains(&status), "{doubled}: {text}");
    }
    // Still there.
    let (status, _) = gateway.ask(&gateway.good("POST", create, "{\"name\":\"n\"}"));
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn address_for_an_upload_needs_no_token_but_no_page_may_use_it() {
    let gateway = Gateway::open().await;
    let bytes = b"content of a large file";
    let ask = json!({
        "operation": "upload",
        "objects": [{ "oid": sha256(bytes), "size": bytes.len() }],
    });
    let batch = gateway.good("POST", "/local/m.git/info/lfs/objects/batch", ask.to_string());
    let (status, text) = gateway.ask(&batch);
    assert_eq!(status, 200, "{text}");
    let at = text.find("/lfs-upload/").unwrap();
    let path: String = text[at..].chars().take_while(|c| *c != '"').collect();
    for (host, host_good) in gateway.hosts() {
        for (origin, ours, _) in gateway.origins() {
            let headers = [("host", host.clone()), ("origin", origin)];
            let headers = headers
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let asked = Asked {
                method: "PUT",
                path: &path,
                headers,
                body: bytes.to_vec(),
            };
            let (status, text) = gateway.ask(&asked);
            let wanted: &[u16] = match (host_good, ours) {
                (false, _) => &[400, 421],
                (true, false) => &[403],
                (true, true) => &[200],
            };
            assert!(wanted.contains(&status), "{:?}: {text}", asked.headers);
        }
    }
    let guessed = format!("/lfs-upload/{}", "0".repeat(64));
    let mut asked = gateway.good("PUT", &guessed, *bytes);
    asked.headers.truncate(1);
    assert_eq!(gateway.ask(&asked).0, 404);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}
