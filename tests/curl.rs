//! `curl`, as people and scripts use it, against the doors of a node that has nothing yet of what it asks for.

use std::fs;
use std::process::Output;

use data_encoding::HEXLOWER;
use protocol::Kind;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testnet::{fixture, skip};

use crate::clients::{LARGEST, Stage, model};
use crate::program::{self, field, text};
use crate::relay::Relay;

/// What curl says of itself at the end: status, bytes received, bytes sent.
const SAY: &str = "\n%{http_code} %{size_download} %{size_upload}";

/// Runs curl, and returns how it ended and the last line of what it wrote.
async fn curl(stage: &Stage, arguments: &[&str]) -> (Output, String) {
    let always = ["--silent", "--show-error", "--noproxy", "*", "--write-out", SAY];
    let mut command = stage.command("curl".as_ref(), None, &[]);
    command.args(always).args(arguments);
    let output = Stage::end_of(command).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said.lines().last().unwrap_or_default().to_owned())
}

fn has_curl() -> bool {
    let has = program::works("curl", &["--version"]);
    if !has {
        skip("curl is not installed");
    }
    has
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_ranges_and_goes_on_with_what_was_cut_short() {
    if !has_curl() {
        return;
    }
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let whole = fs::read(folder.path().join(LARGEST)).unwrap();
    let path = format!("/alice/model/resolve/main/{LARGEST}");
    let url = stage.endpoint() + &path;
    let to = stage.net.scratch().join("part");
    let part = async |range: &str| {
        let (output, said) = curl(&stage, &["-r", range, "-o", text(&to), &url]).await;
        assert!(output.status.success(), "{range}: {output:?}");
        (fs::read(&to).unwrap(), said)
    };
    assert_eq!(part("0-0").await, (whole[..1].to_vec(), "206 1 0".to_owned()));
    let last = whole[whole.len() - 10..].to_vec();
    assert_eq!(part("-10").await, (last, "206 10 0".to_owned()));

    let relay = Relay::before(stage.door.address(), LARGEST, 15_000_000).await;
    let (to, url) = (stage.net.scratch().join("whole"), relay.url() + &path);
    let resume = async || curl(&stage, &["-C", "-", "-o", text(&to), &url]).await;
    let (output, _) = resume().await;
    assert_eq!(output.status.code(), Some(18), "a part of the file: {output:?}");
    let had = fs::metadata(&to).unwrap().len();
    assert!(0 < had && had < whole.len() as u64, "{had}");
    let (output, said) = resume().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said, format!("206 {} 0", whole.len() as u64 - had));
    assert!(fs::read(&to).unwrap() == whole, "other bytes");
    // Once more: nothing is left to be had, and nothing is spoiled.
    let (output, said) = resume().await;
    assert!(
        output.status.success() && said.starts_with("416 "),
        "{said} {output:?}"
    );
    assert!(fs::read(&to).unwrap() == whole, "other bytes");
    let ranges: Vec<_> = relay.asked().into_iter().map(|asked| asked.range).collect();
    let from = |start| Some(format!("bytes={start}-"));
    assert_eq!(ranges, [None, from(had), from(whole.len() as u64)]);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_told_to_go_on_before_it_sends_a_body() {
    if !has_curl() {
        return;
    }
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let bearer = format!("Authorization: Bearer {}", stage.token());
    let (content, to) = (
        fixture::bytes(1, "sent", 5_000_001),
        stage.net.scratch().join("back"),
    );
    let sent = stage.net.scratch().join("sent");
    fs::write(&sent, &content).unwrap();
    let oid = HEXLOWER.encode(&Sha256::digest(&content));
    let size = content.len();
    let ask = async |arguments: &[&str]| -> Value {
        let to = ["-H", bearer.as_str(), "-o", text(&to)];
        let (output, said) = curl(&stage, &[arguments, &to].concat()).await;
        assert!(
            output.status.success() && said.starts_with("200 "),
            "{said} {output:?}"
        );
        serde_json::from_slice(&fs::read(to[3]).unwrap()).unwrap_or_default()
    };

    let batch = json!({
        "operation": "upload", "transfers": ["basic"], "objects": [{ "oid": oid, "size": size }],
    });
    let at = stage.endpoint() + "/local/sent.git/info/lfs/objects/batch";
    let batch = ask(&[
        "-H",
        "Content-Type: application/json",
        "-d",
        &batch.to_string(),
        &at,
    ])
    .await;
    let actions = &batch["objects"][0]["actions"];

    // A client that waits for more than a minute: a body that comes, comes because curl was told to send it.
    let waits = ["-v", "-H", "Expect: 100-continue", "--expect100-timeout", "100"];
    let put = [
        &waits[..],
        &["-T", text(&sent), field(&actions["upload"], "href")],
    ]
    .concat();
    let (output, said) = curl(&stage, &put).await;
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("< HTTP/1.1 100 Continue"), "{said} {talk}");
    assert!(
        said.starts_with("200 ") && said.ends_with(&format!(" {size}")),
        "{said} {talk}"
    );

    let lines = [
        json!({ "key": "header", "value": { "summary": "by curl" } }),
        json!({ "key": "lfsFile", "value": { "path": "sent.bin", "algo": "sha256", "oid": oid, "size": size } }),
    ];
    let commit = stage.net.scratch().join("commit");
    fs::write(&commit, lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let body = format!("@{}", text(&commit));
    let at = stage.endpoint() + "/api/models/local/sent/commit/main";
    let kind = [
        "-H",
        "Content-Type: application/x-ndjson",
        "--data-binary",
        &body,
        &at,
    ];
    let send = [&waits[..], &kind].concat();
    // Without the token it hears so, and not that it should go on for nothing.
    let (_, said) = curl(&stage, &send).await;
    assert!(said.starts_with("401 "), "{said}");
    assert_eq!(ask(&send).await["success"], true);
    let at = stage.endpoint() + "/local/sent/resolve/main/sent.bin";
    ask(&[&at]).await;
    assert!(fs::read(&to).unwrap() == content, "other bytes came back");
    stage.end().await;
}
