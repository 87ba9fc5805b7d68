use super::*;

const GIB: u64 = 1024 * 1024 * 1024;

/// A machine on which all is well.
fn well() -> Facts {
    let http = Some("127.0.0.1:7070".parse().unwrap());
    Facts {
        env: BTreeMap::from([("HF_ENDPOINT".to_owned(), "http://127.0.0.1:7070".to_owned())]),
        data: DataFacts {
            folder: "/d".into(),
            exists: true,
            rights: Vec::new(),
            free: Some(100 * GIB),
        },
        now: YEAR_MIN + 1_000_000,
        usual: http,
        usual_taken: false,
        node: Some(Running {
            http,
            listen: vec!["/ip4/192.0.2.7/udp/4001/quic-v1".to_owned()],
            external: vec!["/ip4/203.0.113.7/udp/4001/quic-v1".to_owned()],
            connected: 3,
            ..Running::default()
        }),
    }
}

fn node(facts: &mut Facts) -> &mut Running {
    facts.node.as_mut().unwrap()
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let findings = examine(&well());
    assert!(
        findings.iter().all(|finding| finding.level == Level::Ok),
        "{findings:?}"
    );
    assert!(findings.iter().all(|finding| finding.next.is_none()));
    assert!(findings.len() >= 8, "{findings:?}");
}

type Change = Box<dyn Fn(&mut Facts)>;

fn env(name: &'static str, value: &'static str) -> Change {
    Box::new(move |facts| {
        facts.env.insert(name.to_owned(), value.to_owned());
    })
}

fn envs(values: &'static [(&'static str, &'static str)]) -> Change {
    Box::new(move |facts| {
        let pairs = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        facts.env.extend(pairs);
    })
}

fn with(change: impl Fn(&mut Facts) + 'static) -> Change {
    Box::new(change)
}

/// What is changed, which check it concerns, how bad it is, and a part of what is said or of the next step.
fn cases() -> Vec<(Change, &'static str, Level, &'static str)> {
    use Level::{Ok, Problem, Warning};
    vec![
        (with(|facts| facts.node = None), "node", Problem, "shoal up"),
        (
            with(|facts| (facts.node, facts.usual_taken) = (None, true)),
            "node",
            Problem,
            "another program listens at 127.0.0.1:7070",
        ),
        (with(|facts| node(facts).http = None), "node", Problem, "no tools"),
        (
            with(|facts| facts.env.clear()),
            "HF_ENDPOINT",
            Warning,
            "export HF_ENDPOINT=http://127.0.0.1:7070",
        ),
        (env("HF_ENDPOINT", " "), "HF_ENDPOINT", Warning, "not set"),
        (
            env("HF_ENDPOINT", "http://127.0.0.1:7070/"),
            "HF_ENDPOINT",
            Ok,
            "is the node",
        ),
        (
            env("HF_ENDPOINT", "HTTP://LocalHost:7070"),
            "HF_ENDPOINT",
            Ok,
            "is the node",
        ),
        (
            env("HF_ENDPOINT", "http://127.0.0.1:7070/hf"),
            "HF_ENDPOINT",
            Problem,
            "path",
        ),
        (
            env("HF_ENDPOINT", "https://127.0.0.1:7070"),
            "HF_ENDPOINT",
            Problem,
            "plain http",
        ),
        (
            env("HF_ENDPOINT", "http://127.0.0.1:7071"),
            "HF_ENDPOINT",
            Problem,
            "another address",
        ),
        (
            env("HF_ENDPOINT", "https://huggingface.co"),
            "HF_ENDPOINT",
            Problem,
            "another address",
        ),
        (
            env("HF_ENDPOINT", "127.0.0.1:7070"),
            "HF_ENDPOINT",
            Problem,
            "no address",
        ),
        (env("HF_ENDPOINT", "://"), "HF_ENDPOINT", Problem, "no address"),
        (
            env("HF_ENDPOINT", "http://u:secret@x"),
            "HF_ENDPOINT",
            Problem,
            "http://…@x",
        ),
        (
            env("MODEL_ENDPOINT", "http://127.0.0.1:7070/"),
            "MODEL_ENDPOINT",
            Ok,
            "is the node",
        ),
        (
            env("MODEL_ENDPOINT", "https://hf.example"),
            "MODEL_ENDPOINT",
            Warning,
            "llama.cpp",
        ),
        (
            env("HF_HUB_OFFLINE", "1"),
            "offline",
            Problem,
            "unset HF_HUB_OFFLINE",
        ),
        (env("HF_HUB_OFFLINE", "0"), "offline", Ok, "nobody"),
        (
            env("TRANSFORMERS_OFFLINE", "yes"),
            "offline",
            Problem,
            "unset TRANSFORMERS_OFFLINE",
        ),
        (env("HUGGINGFACE_CO_STAGING", "True"), "staging", Problem, "unset"),
        (
            env("HTTP_PROXY", "http://p:1"),
            "proxy",
            Problem,
            "export NO_PROXY=127.0.0.1,localhost",
        ),
        (env("all_proxy", "socks5://p:1"), "proxy", Problem, "all_proxy"),
        (env("HTTPS_PROXY", "http://p:1"), "proxy", Ok, "none"),
        (
            envs(&[("HTTP_PROXY", "p"), ("NO_PROXY", "x, 127.0.0.1")]),
            "proxy",
            Ok,
            "passes",
        ),
        (
            envs(&[("HTTP_PROXY", "p"), ("no_proxy", "*")]),
            "proxy",
            Ok,
            "passes",
        ),
        (
            envs(&[("HTTP_PROXY", "p"), ("NO_PROXY", "localhost")]),
            "proxy",
            Problem,
            "NO_PROXY=\"localhost,127.0.0.1,localhost\"",
        ),
        (
            envs(&[
                ("HTTP_PROXY", "p"),
                ("NO_PROXY", "localhost"),
                ("HF_ENDPOINT", "http://localhost:7070"),
            ]),
            "proxy",
            Ok,
            "passes",
        ),
        (
            env("HF_HUB_ENABLE_HF_TRANSFER", "1"),
            "hf_transfer",
            Warning,
            "resume",
        ),
        (with(|facts| facts.now = 1), "clock", Problem, "set the clock"),
        (
            with(|facts| facts.now = YEAR_MAX),
            "clock",
            Problem,
            "set the clock",
        ),
        (
            with(|facts| node(facts).future = vec![("p/x".to_owned(), u64::MAX)]),
            "clock",
            Warning,
            "p/x",
        ),
        (
            with(|facts| node(facts).future = (0..7).map(|at| (format!("p/{at}"), u64::MAX)).collect()),
            "clock",
            Warning,
            "p/4 and 2 more",
        ),
        (
            with(|facts| facts.data.free = Some(FREE_FLOOR - 1)),
            "disk",
            Problem,
            "nothing can be fetched",
        ),
        (
            with(|facts| facts.data.free = Some(FREE_LOW - 1)),
            "disk",
            Warning,
            "5.0 GiB",
        ),
        (with(|facts| facts.data.free = None), "disk", Warning, "df"),
        (
            with(|facts| (node(facts).quota, node(facts).used) = (Some(GIB), GIB)),
            "quota",
            Problem,
            "--quota",
        ),
        (
            with(|facts| (node(facts).quota, node(facts).used) = (Some(100 * GIB), 95 * GIB)),
            "quota",
            Warning,
            "95.0 GiB of 100.0 GiB",
        ),
        (
            with(|facts| (node(facts).quota, node(facts).used) = (Some(100 * GIB), GIB)),
            "quota",
            Ok,
            "1.0 GiB",
        ),
        (
            with(|facts| node(facts).connected = 0),
            "peers",
            Warning,
            "--peer",
        ),
        (
            with(|facts| node(facts).listen.clear()),
            "reachability",
            Problem,
            "--listen",
        ),
        (
            with(|facts| node(facts).external.clear()),
            "reachability",
            Warning,
            "router",
        ),
        (
            with(|facts| {
                node(facts).external.clear();
                node(facts).listen = vec!["/ip4/127.0.0.1/tcp/1".to_owned()];
            }),
            "reachability",
            Warning,
            "loopback only",
        ),
        (
            with(|facts| {
                node(facts).external = vec![
                    "/ip4/127.0.0.1/tcp/1".to_owned(),
                    "/ip4/192.168.1.2/tcp/1".to_owned(),
                    "/ip6/fe80::1/tcp/1".to_owned(),
                ]
            }),
            "reachability",
            Warning,
            "router",
        ),
        (
            with(|facts| node(facts).external = vec!["/dns4/example.org/tcp/1".to_owned()]),
            "reachability",
            Ok,
            "example.org",
        ),
        (
            with(|facts| node(facts).damaged = 2),
            "content",
            Warning,
            "shoal status",
        ),
        (
            with(|facts| facts.data.rights = vec![("k may be read".to_owned(), "chmod 600 k".to_owned())]),
            "data folder",
            Problem,
            "chmod 600 k",
        ),
        (
            with(|facts| facts.data.exists = false),
            "data folder",
            Ok,
            "shoal up makes it",
        ),
    ]
}

#[test]
fn each_trap_is_found_with_its_level_and_the_next_step() {
    for (number, (change, check, level, part)) in cases().into_iter().enumerate() {
        let mut facts = well();
        change(&mut facts);
        let findings = examine(&facts);
        let all = || format!("case {number}, {check}: {findings:?}");
        let told = findings
            .iter()
            .filter(|finding| finding.check == check)
            .max_by_key(|finding| finding.level)
            .unwrap_or_else(|| panic!("{}", all()));
        assert_eq!(told.level, level, "{}", all());
        let text = format!("{} {}", told.says, told.next.as_deref().unwrap_or_default());
        assert!(text.contains(part), "{part}: {}", all());
        assert_eq!(told.next.is_some(), level != Level::Ok, "{}", all());
    }
}

#[test]
fn settings_name_the_address_that_the_node_has() {
    let settings = settings("127.0.0.1:4711".parse().unwrap());
    let sets: Vec<&str> = settings.iter().map(|setting| setting.set.as_str()).collect();
    for wanted in [
        "export HF_ENDPOINT=http://127.0.0.1:4711",
        "export HF_HUB_DISABLE_XET=1 DISABLE_SAFETENSORS_CONVERSION=1",
        "export MODEL_ENDPOINT=http://127.0.0.1:4711",
        "ollama pull http://127.0.0.1:4711/owner/name --insecure",
        "hubUrl: \"http://127.0.0.1:4711\"",
        "env.remoteHost = \"http://127.0.0.1:4711/\"",
        "ApiBuilder::from_env()",
        "export NO_PROXY=127.0.0.1,localhost",
        "export HF_TOKEN=\"$(shoal id --token)\"",
    ] {
        assert!(sets.contains(&wanted), "{wanted}: {sets:?}");
    }
}

#[test]
fn rights_that_others_have_are_seen() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o700);
    let key = folder.path().join("publisher.key");
    std::fs::write(&key, b"x").unwrap();
    mode(&key, 0o600);
    let seen = look_around(folder.path());
    assert!(
        seen.exists && seen.rights.is_empty() && seen.free.is_some(),
        "{seen:?}"
    );
    mode(&key, 0o640);
    mode(folder.path(), 0o777);
    let seen = look_around(folder.path());
    assert_eq!(seen.rights.len(), 2, "{seen:?}");
    let seen = look_around(&folder.path().join("not/there"));
    assert!(!seen.exists && seen.free.is_some(), "{seen:?}");
}
