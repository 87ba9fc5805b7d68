//! The doctor tells how tools are pointed at the node, and finds what keeps them from it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testnet::nodes::Process;

use crate::program::{Shoal, field, keys, last_json};

/// Longest that the doctor may look around.
const LOOK: Duration = Duration::from_secs(60);

/// Variables that the doctor looks at, and that whoever runs the tests may have set.
const VARIABLES: [&str; 14] = [
    "HF_ENDPOINT",
    "MODEL_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HUGGINGFACE_CO_STAGING",
    "HF_HUB_ENABLE_HF_TRANSFER",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "NO_PROXY",
    "no_proxy",
];

/// Runs the doctor with just these variables; returns the exit code and what it says.
fn doctor(shoal: &Shoal, variables: &[(&str, &str)]) -> (Option<i32>, Value) {
    let mut command: Command = shoal.command(&["doctor", "--json"]);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let mut process = Process::spawn(command).unwrap();
    let status = process.wait(LOOK).unwrap();
    let line = process.next_line(LOOK).unwrap();
    (status.code(), last_json(&line).unwrap())
}

fn check<'a>(said: &'a Value, name: &str) -> &'a Value {
    let checks = said["checks"].as_array().unwrap();
    let found = checks.iter().find(|finding| finding["check"] == name);
    found.unwrap_or_else(|| panic!("{name} in {said}"))
}

#[test]
fn settings_are_those_of_the_running_node_and_all_is_well_with_them() {
    let shoal = Shoal::new();
    let node = shoal.up();
    let http = &node.ready().http;
    let (code, said) = doctor(&shoal, &[("HF_ENDPOINT", http)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(keys(&said), ["checks", "http", "ok", "settings"].into());
    assert_eq!(
        (&said["ok"], field(&said, "http")),
        (&Value::Bool(true), http.as_str())
    );
    let sets: Vec<&str> = said["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| field(setting, "set"))
        .collect();
    for wanted in [
        format!("export HF_ENDPOINT={http}"),
        format!("ollama pull {http}/owner/name --insecure"),
        format!("env.remoteHost = \"{http}/\""),
    ] {
        assert!(sets.contains(&wanted.as_str()), "{wanted}: {sets:?}");
    }
    assert_eq!(check(&said, "HF_ENDPOINT")["level"], "ok");
    // Nobody is there to connect to, and it listens on loopback: it works, and is said.
    assert_eq!(check(&said, "peers")["level"], "warning");
    assert_eq!(check(&said, "reachability")["level"], "warning");
}

#[test]
fn traps_of_the_environment_are_problems_with_a_next_step() {
    let shoal = Shoal::new();
    let node = shoal.up();
    let http = node.ready().http.clone();
    let path = format!("{http}/hf");
    let table: [(&[(&str, &str)], &str); 5] = [
        (&[("HF_ENDPOINT", &http), ("HF_HUB_OFFLINE", "1")], "offline"),
        (
            &[("HF_ENDPOINT", &http), ("HUGGINGFACE_CO_STAGING", "1")],
            "staging",
        ),
        (
            &[("HF_ENDPOINT", &http), ("HTTP_PROXY", "http://192.0.2.1:3128")],
            "proxy",
        ),
        (&[("HF_ENDPOINT", &path)], "HF_ENDPOINT"),
        (&[("HF_ENDPOINT", "https://huggingface.co")], "HF_ENDPOINT"),
    ];
    for (variables, name) in table {
        let (code, said) = doctor(&shoal, variables);
        assert_eq!(
            (code, &said["ok"]),
            (Some(1), &Value::Bool(false)),
            "{variables:?}: {said}"
        );
        let finding = check(&said, name);
        assert_eq!(finding["level"], "problem", "{finding}");
        assert!(finding["next"].is_string(), "{finding}");
    }
    // The same for people.
    let said = shoal
        .command(&["doctor"])
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("next: unset HF_HUB_OFFLINE"), "{text}");
}

#[test]
fn node_that_does_not_run_and_a_port_that_is_taken_are_problems() {
    let shoal = Shoal::new();
    // A program that is no node, where this node would be; at an address that nothing else here is given once it is free.
    let stranger = TcpListener::bind("127.83.1.9:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let config = shoal.data().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("http = \"{address}\"\n{text}")).unwrap();
    let (code, said) = doctor(&shoal, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said["http"], Value::Null);
    let says = field(check(&said, "node"), "says");
    assert!(
        says.contains("another program") && says.contains(&address.to_string()),
        "{says}"
    );
    drop(stranger);
    let (code, said) = doctor(&shoal, &[]);
    let node = check(&said, "node");
    assert_eq!((code, field(node, "level")), (Some(1), "problem"));
    assert!(!field(node, "says").contains("another program"), "{node}");
    assert!(
        !shoal.data().join("publisher.key").exists(),
        "the doctor makes nothing"
    );
}

#[test]
fn key_that_others_may_read_is_a_problem() {
    let shoal = Shoal::new();
    let node = shoal.up();
    let key = shoal.data().join("publisher.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = doctor(&shoal, &[("HF_ENDPOINT", &node.ready().http)]);
    let finding = check(&said, "data folder");
    assert_eq!((code, field(finding, "level")), (Some(1), "problem"), "{said}");
    assert!(field(finding, "next").contains("chmod 600"), "{finding}");
}
