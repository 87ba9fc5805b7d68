//! The open doors of a real node, knocked at with bytes on a socket.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::config::Config;
use crate::node::Limits;

const DEADLINE: Duration = Duration::from_secs(20);

const READS: [&str; 9] = [
    "status",
    "peers",
    "jobs",
    "repos",
    "following",
    "mirrors",
    "denied",
    "show?repo=a/b",
    "ticket?repo=a/b",
];

const CHANGES: [&str; 19] = [
    "publish",
    "fetch",
    "verify",
    "proof",
    "pin",
    "forget",
    "collect",
    "follow",
    "unfollow",
    "mirror",
    "deny",
    "allow",
    "denylists/subscribe",
    "denylists/unsubscribe",
    "jobs/pause",
    "jobs/resume",
    "jobs/cancel",
    "catalog/rebuild",
    "shutdown",
];

/// Read with GET, changed with POST.
const LIMITS: &str = "limits";

struct Open {
    node: Node,
    door: Door,
    data: TempDir,
}

impl Open {
    async fn start() -> Open {
        let data = tempfile::tempdir().unwrap();
        let node = Node::start(Config::loopback(data.path())).await.unwrap();
        let door = serve(node.clone(), ([127, 0, 0, 1], 0).into()).await.unwrap();
        Open { node, door, data }
    }

    async fn stop(self) {
        self.door.close().await;
        self.node.shutdown().await;
    }

    fn token(&self) -> String {
        Contact::read(self.data.path()).unwrap().token
    }

    /// Sends a request with exactly these headers; returns the status and the body as it came.
    async fn knock(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut request = format!(
            "{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(self.door.address()).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            // Who is refused may find the line closed before all of the body is sent.
            let _ = stream.write_all(body).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        let answer = timeout(DEADLINE, exchange).await.unwrap();
        let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        (
            status.unwrap_or_else(|| panic!("{line}: {answer:?}")),
            body.unwrap_or_default(),
        )
    }

    /// Sends a request as the user's own program would.
    async fn ask(&self, line: &str, body: &str) -> (u16, String) {
        let (host, bearer) = (
            self.door.address().to_string(),
            format!("Bearer {}", self.token()),
        );
        let headers = [
            ("Host", host.as_str()),
            ("Authorization", &bearer),
            ("Content-Type", "application/json"),
        ];
        self.knock(line, &headers, body.as_bytes()).await
    }
}

fn route(method: &str, path: &str) -> String {
    format!("{method} {ROOT}/{path}")
}

#[tokio::test]
async fn nobody_is_answered_at_any_route_by_any_method_without_passing_all_walls() {
    let open = Open::start().await;
    let (host, bearer) = (
        open.door.address().to_string(),
        format!("Bearer {}", open.token()),
    );
    let (host, bearer) = (("Host", host.as_str()), ("Authorization", bearer.as_str()));
    let json = ("Content-Type", "application/json");
    let strangers: [(u16, &[(&str, &str)]); 6] = [
        (401, &[host, json]),
        (401, &[host, json, ("Authorization", "Bearer 0000")]),
        (421, &[("Host", "evil.example"), bearer, json]),
        (421, &[("Host", "127.0.0.1"), bearer, json]),
        (403, &[host, bearer, json, ("Origin", "http://evil.example")]),
        (403, &[host, bearer, json, ("Sec-Fetch-Site", "cross-site")]),
    ];
    let mut knocks = 0;
    for path in READS.into_iter().chain(CHANGES).chain([LIMITS, "nowhere"]) {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            for (wanted, headers) in strangers {
                let (status, body) = open.knock(&route(method, path), headers, b"{}").await;
                assert_eq!(status, wanted, "{method} {path} {headers:?}: {body}");
                knocks += 1;
            }
        }
    }
    assert!(knocks >= 300, "{knocks}");
    let stopping = timeout(Duration::ZERO, open.door.asked_to_stop()).await;
    assert!(stopping.is_err(), "a stranger stopped the node");
    open.stop().await;
}

#[tokio::test]
async fn every_route_but_one_has_one_method_and_no_get_changes_anything() {
    let open = Open::start().await;
    for path in READS {
        assert_ne!(open.ask(&route("GET", path), "").await.0, 405, "{path}");
        assert_eq!(open.ask(&route("POST", path), "{}").await.0, 405, "{path}");
    }
    for path in CHANGES {
        assert_eq!(open.ask(&route("GET", path), "").await.0, 405, "{path}");
    }
    let before = open.node.limits();
    for (method, body, wanted) in [("GET", "", 200), ("POST", "{}", 200), ("PUT", "{}", 405)] {
        assert_eq!(open.ask(&route(method, LIMITS), body).await.0, wanted, "{method}");
        assert_eq!(open.node.limits(), before, "{method}");
    }
    assert_eq!(open.ask(&route("GET", "nowhere"), "").await.0, 404);
    open.stop().await;
}

#[tokio::test]
async fn bodies_that_are_wrong_long_or_no_json_are_refused_with_words() {
    let open = Open::start().await;
    let long = " ".repeat(BODY_LEN_MAX + 1);
    let table = [
        ("collect", "", 400),
        ("collect", "x", 400),
        ("collect", "[]x", 400),
        ("collect", r#"{"force":true}"#, 400),
        ("pin", "{}", 400),
        ("pin", r#"{"repo":"no-slash"}"#, 400),
        ("pin", r#"{"repo":"nobody/x"}"#, 422),
        ("follow", r#"{"publisher":"x","alias":"y"}"#, 400),
        ("publish", r#"{"path":"relative","kind":"model"}"#, 400),
        ("publish", r#"{"path":"/x","kind":"picture"}"#, 400),
        ("fetch", r#"{"what":"a/b","to":"relative"}"#, 400),
        ("fetch", r#"{"what":"a/b","wait_s":-1}"#, 400),
        ("limits", r#"{"up":0}"#, 400),
        ("limits", r#"{"sideways":1}"#, 400),
        ("jobs/pause", "{}", 400),
        ("jobs/resume", r#"{"id":null}"#, 400),
        ("jobs/cancel", r#"{"id":"some"}"#, 400),
        ("collect", long.as_str(), 413),
    ];
    for (path, body, wanted) in table {
        let (status, answer) = open.ask(&route("POST", path), body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!(status, wanted, "{path} {shown}: {answer}");
        if wanted != 413 {
            let answer: ErrorAnswer =
                serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{shown}: {error}: {answer}"));
            assert!(!answer.error.is_empty());
        }
    }
    assert_eq!(open.ask(&route("GET", "show?repo=x"), "").await.0, 400);
    assert_eq!(open.ask(&route("GET", "show"), "").await.0, 400);
    open.stop().await;
}

#[tokio::test]
async fn limits_are_changed_one_by_one_and_read_back() {
    let open = Open::start().await;
    let none = Limits::default();
    let table = [
        (
            r#"{"up":2048,"peer_down":1}"#,
            Limits {
                up: Some(2048),
                peer_down: Some(1),
                ..none
            },
        ),
        (
            r#"{"down":4096}"#,
            Limits {
                up: Some(2048),
                down: Some(4096),
                peer_down: Some(1),
                ..none
            },
        ),
        (
            r#"{"up":null,"down":1}"#,
            Limits {
                down: Some(1),
                peer_down: Some(1),
                ..none
            },
        ),
    ];
    for (body, wanted) in table {
        for line in [route("POST", LIMITS), route("GET", LIMITS)] {
            let (status, answer) = open.ask(&line, body).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(
                serde_json::from_str::<Limits>(&answer).unwrap(),
                wanted,
                "{line} {body}"
            );
        }
        assert_eq!(open.node.limits(), wanted);
    }
    let (_, status) = open.ask(&route("GET", "status"), "").await;
    assert_eq!(
        serde_json::from_str::<Status>(&status).unwrap().limits,
        open.node.limits()
    );
    open.stop().await;
}

#[tokio::test]
async fn job_that_is_none_is_refused_with_the_next_step_and_all_of_none_is_done() {
    let open = Open::start().await;
    for verb in ["jobs/pause", "jobs/resume", "jobs/cancel"] {
        let (status, answer) = open.ask(&route("POST", verb), r#"{"id":4711}"#).await;
        assert_eq!(status, 422, "{verb}: {answer}");
        let answer: ErrorAnswer = serde_json::from_str(&answer).unwrap();
        assert!(answer.error[0].contains("4711"), "{answer:?}");
        assert!(
            answer
                .hint
                .as_ref()
                .is_some_and(|hint| hint.contains("shoal jobs")),
            "{answer:?}"
        );
        let (status, answer) = open.ask(&route("POST", verb), r#"{"id":"all"}"#).await;
        assert_eq!((status, answer.as_str()), (200, r#"{"jobs":[]}"#), "{verb}");
    }
    open.stop().await;
}

#[tokio::test]
async fn long_verb_answers_with_lines_and_its_end() {
    let open = Open::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "a").unwrap();
    let ask = json!({"path": folder.path(), "kind": "model", "name": "x"}).to_string();
    let (status, answer) = open.ask(&route("POST", "publish"), &ask).await;
    assert_eq!(status, 200, "{answer}");
    // The body is chunked: the lengths of the chunks stand between the lines.
    let lines: Vec<Value> = answer
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(before.iter().all(|line| line["event"] == "progress"), "{answer}");
    assert_eq!(
        (&last["event"], &last["result"]["published"]["files"]),
        (&json!("done"), &json!(1))
    );
    let ask = json!({"path": folder.path().join("missing"), "kind": "model"}).to_string();
    let (status, answer) = open.ask(&route("POST", "publish"), &ask).await;
    assert_eq!(status, 200);
    assert!(
        answer.contains(r#"{"event":"failed","error":[""#) && answer.contains("missing"),
        "{answer}"
    );
    open.stop().await;
}

#[tokio::test]
async fn verb_goes_on_when_who_asked_for_it_is_gone() {
    let open = Open::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "a").unwrap();
    let ask = json!({"path": folder.path(), "kind": "model", "name": "gone"}).to_string();
    let (host, bearer) = (open.door.address(), open.token());
    let head = format!(
        "{} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ask}",
        route("POST", "publish"),
        ask.len()
    );
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The first byte of the answer: the verb has begun.
    stream.read_u8().await.unwrap();
    drop(stream);
    let published = async {
        while open.node.library().list().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, published).await.unwrap();
    open.stop().await;
}

#[tokio::test]
async fn shutdown_is_asked_for_and_the_contact_goes_with_the_doors() {
    let open = Open::start().await;
    let data = open.data.path().to_owned();
    assert_eq!(open.ask(&route("POST", "shutdown"), "{}").await.0, 200);
    timeout(DEADLINE, open.door.asked_to_stop()).await.unwrap();
    let address = open.door.address();
    let Open {
        node,
        door,
        data: _kept,
    } = open;
    door.close().await;
    assert!(Contact::read(&data).is_none());
    assert!(TcpStream::connect(address).await.is_err());
    node.shutdown().await;
}

#[tokio::test]
async fn doors_open_on_loopback_only() {
    let open = Open::start().await;
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = serve(open.node.clone(), address.parse().unwrap()).await;
        assert!(matches!(refused, Err(HttpError::NotLoopback { .. })), "{address}");
    }
    let taken = serve(open.node.clone(), open.door.address()).await;
    assert!(matches!(taken, Err(HttpError::Bind { .. })));
    open.stop().await;
}
