//! What clients prove themselves with stays between them and the node: it is neither logged, however much is, nor told to peers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::json;
use testnet::nodes::{ShoalProcess, UpOptions};

use crate::acts::tool;
use crate::program::{self, Shoal, field, toy};

/// Longest that a node may take to stop.
const STOP: Duration = Duration::from_secs(20);

/// A token of the Hub's, as many users have one in their environment.
const FOREIGN: &str = "hf_SECRETsecretSECRETsecretSECRET";

/// Starts a node that logs all it can, and returns where.
fn up(shoal: &Shoal, peers: &[String]) -> (ShoalProcess, PathBuf) {
    let log = shoal.folder("log").join("stderr");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>\"$LOG_TO\""]);
    command.arg(program::path()).env("LOG_TO", &log);
    let options = UpOptions {
        peers: peers.to_vec(),
        envs: vec![("SHOAL_LOG".into(), "trace".into())],
        ..UpOptions::default()
    };
    let node = ShoalProcess::start(command, shoal.data(), options).unwrap();
    (node, log)
}

#[test]
fn no_token_is_in_any_log() {
    let folder = toy();
    let (holder, reader) = (Shoal::new(), Shoal::new());
    let published = holder.publish(&folder.path().join("toy-model"), &[]);
    let repo = format!("blake3/{}", field(&published, "manifest"));
    let (mut holding, holder_log) = up(&holder, &[]);
    let (mut reading, reader_log) = up(&reader, &holding.ready().listen);
    let said = reader.json(&["id", "--token"]);
    let own = field(&said, "token");

    let tool = tool();
    let at = |path: &str| format!("{}{path}", reading.ready().http);
    let bearer = |token: &str| format!("Bearer {token}");
    for token in [FOREIGN, own] {
        for path in [
            format!("/api/models/{repo}"),
            format!("/api/models/{repo}/tree/main"),
            format!("/{repo}/resolve/main/config.json"),
            format!("/{repo}/resolve/main/model.safetensors"),
            "/api/whoami-v2".to_owned(),
        ] {
            let asked = tool.get(at(&path)).header("Authorization", bearer(token));
            assert_eq!(asked.call().unwrap().status(), 200, "{path}");
        }
    }
    let content = BASE64.encode(b"hello");
    let commit = format!(
        "{}\n{}\n",
        json!({ "key": "header", "value": { "summary": "a commit" } }),
        json!({ "key": "file", "value": { "path": "a.txt", "content": content, "encoding": "base64" } }),
    );
    for (token, status) in [(FOREIGN, 401), (own, 200)] {
        let commits = tool.post(at("/api/models/local/uploaded/commit/main"));
        let sent = commits.header("Authorization", bearer(token)).send(&commit);
        assert_eq!(sent.unwrap().status(), status);
    }
    for node in [&mut reading, &mut holding] {
        node.terminate().unwrap();
        assert!(node.wait(STOP).unwrap().success());
    }
    for log in [holder_log, reader_log] {
        let log = fs::read(log).unwrap();
        let has = |word: &str| log.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(has("TRACE"), "{} bytes of a log that is none", log.len());
        for token in [FOREIGN, own] {
            assert!(!has(token), "{token} was logged");
        }
    }
}
