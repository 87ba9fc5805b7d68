//! The running node as a program: how it starts and stops, and the work that other commands leave to it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;
use testnet::fixture;
use testnet::nodes::{ShoalProcess, UpOptions};

use crate::program::{self, Shoal, field, keys, text, toy};

/// Longest that a node may take to stop when it is asked to.
const STOP: Duration = Duration::from_secs(10);

#[test]
fn ready_line_tells_all_that_a_script_needs() {
    let shoal = Shoal::new();
    let mut command = shoal.command(&["up", "--json", "--http", "127.0.0.1:0", "--no-mdns", "--no-upnp"]);
    command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
    let node = testnet::nodes::Process::spawn(command).unwrap();
    let ready: Value = serde_json::from_str(&node.next_line(Duration::from_secs(30)).unwrap()).unwrap();
    assert_eq!(
        keys(&ready),
        BTreeSet::from(["event", "peer_id", "publisher", "listen", "http", "data"])
    );
    assert_eq!(field(&ready, "event"), "ready");
    let peer = field(&ready, "peer_id");
    let listen: Vec<&str> = ready["listen"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address.as_str().unwrap())
        .collect();
    assert_eq!(listen.len(), 1, "only where it was told to: {listen:?}");
    assert!(
        listen[0].starts_with("/ip4/127.0.0.1/tcp/") && listen[0].ends_with(&format!("/p2p/{peer}")),
        "{listen:?}"
    );
    let http: SocketAddr = field(&ready, "http")
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    assert!(http.ip().is_loopback() && http.port() != 0);
    assert_eq!(field(&ready, "data"), text(&shoal.data().canonicalize().unwrap()));
}

#[test]
fn node_stops_cleanly_on_sigterm_and_frees_its_ports() {
    let shoal = Shoal::new();
    let mut node = shoal.up();
    assert!(shoal.data().join("control.json").exists());
    let http: SocketAddr = node
        .ready()
        .http
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    let tcp = node
        .ready()
        .listen
        .iter()
        .find(|address| address.contains("/tcp/"))
        .unwrap();
    let tcp: u16 = tcp.split('/').nth(4).unwrap().parse().unwrap();
    node.terminate().unwrap();
    let status = node.wait(STOP).unwrap();
    assert_eq!(status.code(), Some(0), "{}", node.stderr());
    assert!(!shoal.data().join("control.json").exists());
    TcpListener::bind(http).unwrap();
    // On the same port again, at once.
    let listen = vec![format!("/ip4/127.0.0.1/tcp/{tcp}")];
    let again = ShoalProcess::up(
        program::path(),
        shoal.data(),
        UpOptions {
            listen,
            ..UpOptions::default()
        },
    )
    .unwrap();
    assert!(again.ready().listen[0].contains(&format!("/tcp/{tcp}/")));
    assert_eq!(again.ready().peer_id, node.ready().peer_id);
}

#[test]
fn contact_left_by_a_killed_node_misleads_nobody() {
    let folder = toy();
    let shoal = Shoal::new();
    let mut node = shoal.up();
    node.kill_nine().unwrap();
    assert!(
        shoal.data().join("control.json").exists(),
        "a killed node cannot clean up"
    );
    let published = shoal.publish(&folder.path().join("toy-model"), &[]);
    assert_eq!(published["files"], 4);
    // A contact whose port somebody else has now, too.
    let other = Shoal::new();
    let stranger = other.up();
    let stolen = fs::read_to_string(other.data().join("control.json")).unwrap();
    let mut stolen: Value = serde_json::from_str(&stolen).unwrap();
    stolen["token"] = Value::from("0".repeat(64));
    fs::write(shoal.data().join("control.json"), stolen.to_string()).unwrap();
    assert_eq!(
        shoal.json(&["ls"]).as_array().unwrap().len(),
        1,
        "the list is the stranger's"
    );
    drop(stranger);
    for garbage in [
        "",
        "{",
        "{\"address\":\"192.0.2.1:80\",\"token\":\"x\",\"pid\":1}",
    ] {
        fs::write(shoal.data().join("control.json"), garbage).unwrap();
        assert_eq!(shoal.json(&["ls"]).as_array().unwrap().len(), 1);
    }
}

#[test]
fn running_node_does_the_work_of_every_command() {
    let folder = toy();
    let (a, c) = (Shoal::new(), Shoal::new());
    let (node_a, _node_c) = (a.up(), c.up());
    let published = a.publish(&folder.path().join("toy-model"), &["--kind", "dataset"]);
    let out = folder.path().join("out");
    // C knows nobody but whom it is told of.
    let peer = &node_a.ready().listen[0];
    let fetched = c.json(&[
        "fetch",
        field(&published, "repo"),
        "--to",
        text(&out),
        "--peer",
        peer,
    ]);
    assert_eq!(fetched["manifest"], published["manifest"]);
    fixture::assert_same(&folder.path().join("toy-model"), &out);
    assert_eq!(c.json(&["peers"]).as_array().unwrap().len(), 1);
    assert_eq!(c.json(&["ls"])[0]["kind"], "dataset");
    assert!(c.json(&["status"])["down_bytes"].as_u64().unwrap() > 0);
    let said = c.run(&["ls"]);
    assert!(!said.stderr.contains("no daemon"), "{said:?}");
    // The ticket of a running node names where it is; with it a third gets the same.
    let d = Shoal::new();
    let ticket = field(&c.json(&["ticket", field(&published, "repo")]), "ticket").to_owned();
    drop(node_a);
    let fetched = d.json(&["fetch", &ticket]);
    assert_eq!(fetched["manifest"], published["manifest"]);
}
