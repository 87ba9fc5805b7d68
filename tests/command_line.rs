//! The command line: what scripts may rely on, and what people read.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use testnet::fixture;
use testnet::nodes::{ShoalProcess, UpOptions};

use crate::program::{self, Shoal, field, keys, last_json, text, toy, works};

/// Checks that `value` has these fields.
fn has(value: &Value, wanted: &[&str]) {
    let missing: Vec<_> = wanted.iter().filter(|key| !keys(value).contains(**key)).collect();
    assert!(missing.is_empty(), "{missing:?} is not in {value}");
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.trim().is_empty());
    // A description that goes on in the next line is indented deeper.
    let named = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn help_of_every_command_shows_an_example() {
    let shoal = Shoal::new();
    let help = shoal.run(&["--help"]);
    assert!(help.status.success() && help.stderr.is_empty(), "{help:?}");
    let names = commands(&help.stdout);
    let wanted = [
        "up",
        "publish",
        "fetch",
        "ls",
        "show",
        "peers",
        "status",
        "jobs",
        "limit",
        "verify",
        "proof",
        "follow",
        "id",
        "ticket",
        "pin",
        "forget",
        "demo",
        "completions",
    ];
    for name in wanted {
        assert!(
            names.iter().any(|listed| listed == name),
            "{name} is not in {names:?}"
        );
    }
    for name in &names {
        let help = shoal.run(&[name, "--help"]).stdout;
        let below = commands(&help);
        let helps = if below.is_empty() {
            vec![help]
        } else {
            below
                .iter()
                .map(|sub| shoal.run(&[name, sub, "--help"]).stdout)
                .collect()
        };
        for help in helps {
            let example = help
                .split("Example")
                .nth(1)
                .unwrap_or_else(|| panic!("{name} has no example:\n{help}"));
            assert!(
                example.contains(&format!("shoal {name}")),
                "the example of {name} shows another command:\n{help}"
            );
        }
    }
}

#[test]
fn senseless_command_lines_are_misuse() {
    let shoal = Shoal::new();
    let table: [&[&str]; 14] = [
        &[],
        &["unheard-of"],
        &["publish"],
        &["publish", "x", "--kind", "song"],
        &["publish", "x", "--name", "a/b"],
        &["fetch"],
        &["fetch", "no-slash"],
        &["fetch", "shoal:nonsense"],
        &["follow", "short", "--as", "x"],
        &["follow", "ybndrfg8ejkmcpqxot1uwisza345h769ybndrfg8ejkmcpqxot1u"],
        &["up", "--http", "0.0.0.0:80"],
        &["ls", "-q", "-v"],
        &["limit", "--up", "0"],
        &["jobs", "pause"],
    ];
    for args in table {
        let said = shoal.fails(2, args);
        assert!(
            said.stdout.is_empty() && !said.stderr.is_empty(),
            "{args:?}: {said:?}"
        );
    }
}

#[test]
fn json_has_the_shapes_that_scripts_rely_on() {
    let folder = toy();
    let shoal = Shoal::new();
    let node = shoal.up();
    let published = shoal.publish(&folder.path().join("toy-model"), &[]);
    assert_eq!(
        keys(&published),
        BTreeSet::from(["repo", "manifest", "ticket", "files", "bytes"])
    );
    assert_eq!(published["files"], 4);
    let repo = field(&published, "repo");
    assert!(
        repo.starts_with(&node.ready().publisher) && repo.ends_with("/toy-model"),
        "{repo}"
    );

    let other = Shoal::new();
    let out = folder.path().join("out");
    let fetched = other.json(&["fetch", field(&published, "ticket"), "--to", text(&out)]);
    assert_eq!(
        keys(&fetched),
        BTreeSet::from(["repo", "manifest", "bytes", "fetched_bytes", "seconds", "to"])
    );
    assert_eq!(
        (&fetched["manifest"], &fetched["bytes"]),
        (&published["manifest"], &published["bytes"])
    );
    assert_eq!(
        (field(&fetched, "to"), field(&fetched, "repo")),
        (text(&out), repo)
    );
    fixture::assert_same(&folder.path().join("toy-model"), &out);

    let verified = other.json(&["verify", repo]);
    assert_eq!(keys(&verified), BTreeSet::from(["ok", "files", "bad"]));
    fixture::file(&out.join("extra"), 1, "extra", 1).unwrap();
    let proof = folder.path().join("toy.proof");
    assert!(
        other
            .run(&["proof", repo, "--out", text(&proof)])
            .status
            .success()
    );
    let said = other.fails(3, &["verify", text(&out), "--proof", text(&proof), "--json"]);
    let verified = last_json(&said.stdout).unwrap();
    assert_eq!(
        keys(&verified["bad"][0]),
        BTreeSet::from(["path", "reason", "offset"])
    );

    has(
        &shoal.json(&["ls"])[0],
        &[
            "repo", "alias", "kind", "manifest", "seq", "files", "bytes", "complete", "pinned", "ours",
        ],
    );
    has(
        &shoal.json(&["show", repo]),
        &["view", "issued", "expires", "entries"],
    );
    has(
        &shoal.json(&["show", repo])["entries"][0],
        &["path", "size", "blake3", "sha256", "sha1", "place"],
    );
    has(&shoal.json(&["id"]), &["peer_id", "publisher"]);
    has(
        &shoal.json(&["id", "--token"]),
        &["peer_id", "publisher", "token"],
    );
    has(&shoal.json(&["ticket", repo]), &["ticket"]);
    has(
        &shoal.json(&["status"]),
        &[
            "peer_id",
            "publisher",
            "listen",
            "http",
            "data",
            "repos",
            "connected",
            "up_bytes",
            "damaged",
            "limits",
            "quota",
            "used",
            "up_bytes_s",
            "down_bytes_s",
            "serving",
        ],
    );
    let limits = shoal.json(&["limit", "--up", "2097152"]);
    assert_eq!(
        keys(&limits),
        BTreeSet::from(["up", "down", "peer_up", "peer_down"])
    );
    assert_eq!(
        (&limits, &limits["up"]),
        (&shoal.json(&["limit"]), &Value::from(2_097_152))
    );
    assert_eq!(
        shoal.json(&["jobs", "pause", "all"])["jobs"],
        Value::Array(Vec::new())
    );
    let said = shoal.fails(1, &["jobs", "cancel", "4711"]);
    assert!(
        said.stderr.contains("4711") && said.stderr.contains("hint: shoal jobs"),
        "{said:?}"
    );
    assert!(shoal.json(&["peers"]).is_array() && shoal.json(&["jobs"]).is_array());
    assert_eq!(shoal.json(&["following"]), Value::Array(Vec::new()));
    shoal.json(&["follow", &node.ready().publisher, "--as", "me"]);
    has(&shoal.json(&["following"])[0], &["alias", "publisher"]);
    shoal.json(&["pin", repo]);
    has(&shoal.json(&["collect"]), &["blobs", "bytes"]);
    has(&shoal.json(&["forget", repo]), &["manifest", "blobs", "bytes"]);
}

#[test]
fn unknown_names_fail_with_the_next_step() {
    let shoal = Shoal::new();
    for command in ["fetch", "show", "verify", "ticket", "forget"] {
        let said = shoal.fails(1, &[command, "nobody/model"]);
        assert!(said.stdout.is_empty(), "{said:?}");
        assert!(
            said.stderr.contains("error: ") && said.stderr.contains("nobody"),
            "{said:?}"
        );
    }
    let said = shoal.fails(1, &["fetch", "nobody/model"]);
    let hint = said.stderr.lines().find(|line| line.starts_with("hint: "));
    assert!(hint.is_some_and(|hint| hint.contains("shoal follow")), "{said:?}");
    let said = shoal.fails(1, &["publish", "/does/not/exist"]);
    assert!(said.stderr.contains("/does/not/exist"), "{said:?}");
    for command in ["peers", "status", "jobs"] {
        let said = shoal.fails(1, &[command]);
        assert!(
            said.stderr.contains("hint: ") && said.stderr.contains("shoal up"),
            "{said:?}"
        );
    }
}

#[test]
fn what_was_asked_for_goes_to_stdout_and_the_rest_to_stderr() {
    let folder = toy();
    let shoal = Shoal::new();
    let said = shoal.run(&["publish", text(&folder.path().join("toy-model"))]);
    assert!(
        said.stdout.contains("/toy-model") && said.stdout.contains("shoal:"),
        "{said:?}"
    );
    assert!(
        said.stderr.contains("no daemon") && !said.stdout.contains("no daemon"),
        "{said:?}"
    );
    let quiet = shoal.run(&["-q", "ls"]);
    assert!(
        quiet.stderr.is_empty() && quiet.stdout.contains("/toy-model"),
        "{quiet:?}"
    );
    assert!(
        !said.stdout.contains('\u{1b}') && !said.stderr.contains('\u{1b}'),
        "colour where nobody watches: {said:?}"
    );
}

#[test]
fn fetch_without_a_daemon_finds_a_name_by_one_peer() {
    let folder = toy();
    let (a, b, c) = (Shoal::new(), Shoal::new(), Shoal::new());
    let middle = b.up();
    let peers = vec![middle.ready().listen[0].clone()];
    let _node = ShoalProcess::up(
        program::path(),
        a.data(),
        UpOptions {
            peers,
            ..UpOptions::default()
        },
    )
    .unwrap();
    let published = a.publish(&folder.path().join("toy-model"), &[]);
    let repo = field(&published, "repo");
    c.json(&["follow", repo.split('/').next().unwrap(), "--as", "friend"]);
    let out = folder.path().join("out");
    let fetched = c.json(&[
        "fetch",
        "friend/toy-model",
        "--to",
        text(&out),
        "--peer",
        &middle.ready().listen[0],
    ]);
    assert_eq!(
        (field(&fetched, "repo"), &fetched["manifest"]),
        (repo, &published["manifest"])
    );
    fixture::assert_same(&folder.path().join("toy-model"), &out);
    // Afterwards, with nobody there: what is here needs no network, and a name that is not here ends in time.
    drop((middle, _node));
    assert_eq!(c.json(&["verify", "friend/toy-model"])["ok"], true);
    assert_eq!(c.json(&["fetch", "friend/toy-model"])["fetched_bytes"], 0);
}

#[test]
fn completions_are_those_of_the_shells() {
    let shoal = Shoal::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = shoal.run(&["completions", shell]);
        assert!(
            said.status.success() && said.stdout.contains("publish"),
            "{shell}: {said:?}"
        );
        if works(shell, &["--version"]) {
            let file = shoal.data().join(shell);
            fs::write(&file, &said.stdout).unwrap();
            let checked = Command::new(shell).arg("-n").arg(&file).output().unwrap();
            assert!(
                checked.status.success(),
                "{shell}: {}",
                String::from_utf8_lossy(&checked.stderr)
            );
        }
    }
    shoal.fails(2, &["completions", "abacus"]);
}

#[test]
fn demo_holds_for_its_own_model_and_for_a_folder() {
    let folder = toy();
    let shoal = Shoal::new();
    let own = shoal.run(&["demo"]);
    assert!(own.status.success(), "{own:?}");
    let given = shoal.run(&["demo", text(&folder.path().join("toy-model"))]);
    assert!(given.status.success(), "{given:?}");
    shoal.fails(1, &["demo", "/does/not/exist"]);
}

#[test]
fn card_of_a_repo_is_shown_as_a_terminal_can() {
    let (shoal, folder) = (Shoal::new(), tempfile::tempdir().unwrap());
    let lines: String = (0..40).map(|line| format!("- point {line}\n")).collect();
    let card = format!(
        "---\nlicense: mit\n---\n# A *card*\n\n<b>\u{1b}[2J</b>[here](https://example.org/a)\n\n{lines}"
    );
    fs::write(folder.path().join("README.md"), card).unwrap();
    let published = shoal.json(&["publish", text(folder.path()), "--name", "carded"]);
    let repo = &*format!("blake3/{}", field(&published, "manifest"));
    let shown = shoal.run(&["show", repo]);
    assert!(
        shown.stdout.contains("licence") && shown.stdout.contains("A card\n======"),
        "{shown:?}"
    );
    assert!(
        !shown.stdout.contains("point 39") && !shown.stdout.contains('\u{1b}'),
        "{shown:?}"
    );
    assert!(shown.stderr.contains("--card"), "{shown:?}");
    let whole = shoal.run(&["show", repo, "--card"]).stdout;
    assert!(
        whole.starts_with("A card\n") && whole.ends_with("- point 39\n"),
        "{whole}"
    );
    assert!(whole.contains("here (https://example.org/a)"), "{whole}");
    fs::remove_file(folder.path().join("README.md")).unwrap();
    fs::write(folder.path().join("x"), "x").unwrap();
    let published = shoal.json(&["publish", text(folder.path()), "--name", "bare"]);
    let repo = &*format!("blake3/{}", field(&published, "manifest"));
    let none = shoal.run(&["show", repo, "--card"]);
    assert!(
        !none.status.success() && none.stderr.contains("no card"),
        "{none:?}"
    );
}
