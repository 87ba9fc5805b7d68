//! Clients of the Hub wait while a source is looked for, and while the one they read from is gone, each as long as it can.

use std::io::{Cursor, Read};
use std::time::{Duration, Instant};

use node::names::Names;
use testnet::nodes::{Testnet, within};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use ureq::http::Method;

use crate::acts::open_doors;
use crate::gateway::{
    A, ANSWER, C, Model, PYTHON_0, PYTHON_1, PYTHON_2, begin, drain, end, fetch_small, follow, get, head,
    send, up,
};

/// How long Python's clients wait for the head of an answer about a file.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn clients_wait_for_a_source_as_each_of_them_can() {
    let mut net = Testnet::start(4).await.unwrap();
    let files = [("config.json", 500), ("model.bin", 3 << 20)];
    let model = Model::publish(&net, A, "model", &files).await;
    follow(net.node(C), net.node(A), "meta");
    fetch_small(net.node(C), &model).await;
    net.stop(A).await;
    let door = open_doors(net.node(C)).await;
    let address = model.at("main", "model.bin");
    let asks = [
        (Method::HEAD, PYTHON_0, 503, "4"),
        (Method::HEAD, PYTHON_2, 503, "30"),
        (Method::GET, PYTHON_0, 503, "4"),
        (Method::GET, PYTHON_1, 429, "4"),
        (Method::GET, PYTHON_2, 429, "30"),
    ];
    let (at, path) = (door.address(), address.clone());
    let held = spawn_blocking(move || drain(send(at, &path)));
    let asks = asks.map(|(method, agent, status, again)| {
        let asking = begin(&door, method, &address, &[agent]);
        (asking, Instant::now(), status, again)
    });
    for (asking, begun, status, again) in asks {
        let answer = end(asking).await;
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        assert_eq!(answer.code(), (status, "NoPeers"));
        assert_eq!(answer.header("retry-after"), again);
        let message = answer.header("x-error-message");
        assert!(
            message.contains("not here yet: 1 peer had it, last seen "),
            "{message}"
        );
        assert!(message.ends_with(" s ago; it does not answer now"), "{message}");
    }
    assert!(!held.is_finished(), "who knows no later is kept waiting");
    net.start_again(A).await.unwrap();
    let (said, body) = within(ANSWER, "the source", held).await.unwrap().unwrap();
    assert!(
        said.starts_with("http/1.1 200") && said.contains("content-length: 3145728"),
        "{said}"
    );
    assert!(body == model.bytes("model.bin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn repo_that_nobody_knows_is_not_looked_for_for_ever() {
    let net = Testnet::start(4).await.unwrap();
    follow(net.node(C), net.node(A), "meta");
    let door = open_doors(net.node(C)).await;
    let begun = Instant::now();
    let answer = head(&door, "/meta/nothing/resolve/main/config.json", &[PYTHON_2]).await;
    assert_eq!(answer.code(), (404, "RepoNotFound"), "{answer:?}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    // It is remembered.
    let begun = Instant::now();
    let answer = get(&door, "/meta/nothing/resolve/main/other.json", &[]).await;
    assert_eq!(answer.code(), (404, "RepoNotFound"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_repo_is_is_told_to_the_same_request_once_its_source_is_back() {
    let mut net = Testnet::start(4).await.unwrap();
    let model = Model::publish(&net, A, "model", &[("config.json", 500)]).await;
    follow(net.node(C), net.node(A), "meta");
    // C has heard of the release, and of nothing that is in it.
    let heard = Names::open(&net.data(A)).unwrap().get(&model.published.repo);
    let heard = heard.unwrap().unwrap();
    let names = Names::open(&net.data(C)).unwrap();
    names.accept(&heard, heard.release().issued).unwrap();
    net.stop(A).await;
    let door = open_doors(net.node(C)).await;
    let begun = Instant::now();
    let mut asking = begin(&door, Method::GET, "/api/models/meta/model", &[PYTHON_2]);
    let file = head(&door, "/meta/model/resolve/main/config.json", &[PYTHON_2]).await;
    assert_eq!(file.code(), (503, "NoPeers"), "a file's head is not held so long");
    let longer = PATIENCE + Duration::from_secs(1);
    let held = timeout(longer.saturating_sub(begun.elapsed()), &mut asking).await;
    assert!(
        held.is_err(),
        "it was answered before anybody could know: {held:?}"
    );
    net.start_again(A).await.unwrap();
    let answer = end(asking).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let info: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(info["sha"], model.commit());
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_stalls_goes_on_when_its_source_is_back() {
    let mut net = Testnet::start(4).await.unwrap();
    let len: u64 = 8 << 20;
    let model = Model::publish(&net, A, "model", &[("model.bin", len), ("config.json", 500)]).await;
    net.node(A).set_limits(up(1 << 20));
    follow(net.node(C), net.node(A), "meta");
    let door = open_doors(net.node(C)).await;
    let (address, path) = (door.address(), model.at("main", "model.bin"));
    let reading = spawn_blocking(move || {
        let mut stream = send(address, &path);
        let mut start = vec![0; 1 << 20];
        stream.read_exact(&mut start).unwrap();
        (start, stream)
    });
    let (start, stream) = within(ANSWER, "the first MiB", reading).await.unwrap().unwrap();
    net.stop(A).await;
    let missing = net.node(C).jobs().iter().any(|job| job.shards < job.shards_total);
    assert!(missing, "all of it came before its source went");
    let rest = spawn_blocking(move || drain(Cursor::new(start).chain(stream)));
    net.start_again(A).await.unwrap();
    let (said, body) = within(ANSWER, "the rest", rest).await.unwrap().unwrap();
    assert!(
        said.starts_with("http/1.1 200") && said.contains(&format!("content-length: {len}")),
        "{said}"
    );
    assert!(body == model.bytes("model.bin"), "{} bytes", body.len());
}
