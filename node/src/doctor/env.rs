//! The variables of the environment that tools read, and what they do to them.

use super::{Facts, Finding, Level, Running};
use std::{collections::BTreeMap, net::SocketAddr};

/// Names of this machine that a proxy must leave alone.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "localhost"];

/// The setting that keeps proxies out of the way.
pub(super) fn no_proxy() -> String {
    format!("export NO_PROXY={}", LOOPBACK.join(","))
}

/// Looks at every variable that matters.
pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let env = &facts.env;
    let mut findings = vec![endpoint(facts)];
    findings.extend(model_endpoint(facts));
    findings.push(offline(env));
    if is_true(env, "HUGGINGFACE_CO_STAGING") {
        findings.push(Finding::problem(
            "staging",
            "HUGGINGFACE_CO_STAGING is set, and comes before HF_ENDPOINT: Python tools ask the Hub's test server",
            "unset HUGGINGFACE_CO_STAGING",
        ));
    }
    findings.push(proxies(facts));
    if is_true(env, "HF_HUB_ENABLE_HF_TRANSFER") {
        findings.push(Finding::warning(
            "hf_transfer",
            "HF_HUB_ENABLE_HF_TRANSFER is set: huggingface_hub before 1.0 then fetches by many connections and does not resume; newer ones ignore it",
            "unset HF_HUB_ENABLE_HF_TRANSFER",
        ));
    }
    findings
}

/// The address of the node, or the one that it would have.
fn address(facts: &Facts) -> Option<SocketAddr> {
    let running = facts.node.as_ref().and_then(|Running { http, .. }| *http);
    running.or(facts.usual)
}

fn endpoint(facts: &Facts) -> Finding {
    const CHECK: &str = "HF_ENDPOINT";
    let set = match address(facts) {
        Some(address) => format!("export HF_ENDPOINT=http://{address}"),
        None => "run a node first: shoal up".to_owned(),
    };
    let Some(value) = given(&facts.env, CHECK) else {
        return Finding::warning(CHECK, "it is not set here: tools ask huggingface.co", set);
    };
    let shown = printable(value);
    match names(value, facts) {
        Named::Node => Finding::ok(CHECK, format!("{shown} is the node")),
        Named::Path => Finding::problem(
            CHECK,
            format!("{shown} has a path, which not all tools understand, and the node has none"),
            set,
        ),
        Named::Tls => Finding::problem(
            CHECK,
            format!("{shown} asks for TLS, and the node speaks plain http"),
            set,
        ),
        Named::Nobody => Finding {
            level: Level::Problem,
            ..Finding::warning(CHECK, format!("{shown} is another address than the node's"), set)
        },
        Named::Unclear => Finding::problem(CHECK, format!("{shown} is no address"), set),
    }
}

/// llama.cpp takes this one first.
fn model_endpoint(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "MODEL_ENDPOINT";
    let value = given(&facts.env, CHECK)?;
    let shown = printable(value);
    Some(match (names(value, facts), address(facts)) {
        (Named::Node, _) => Finding::ok(CHECK, format!("{shown} is the node")),
        (_, Some(address)) => Finding::warning(
            CHECK,
            format!("{shown} is not the node, and comes before HF_ENDPOINT in llama.cpp"),
            format!("export MODEL_ENDPOINT=http://{address}"),
        ),
        (_, None) => return None,
    })
}

/// What an address in a variable names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Node,
    Path,
    Tls,
    Nobody,
    Unclear,
}

fn names(value: &str, facts: &Facts) -> Named {
    let Some((scheme, rest)) = value.split_once("://") else {
        return Named::Unclear;
    };
    let rest = rest.trim_end_matches('/');
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let Some(address) = address(facts) else {
        return Named::Nobody;
    };
    let authority = authority.to_ascii_lowercase();
    let port = address.port();
    let mut hosts = vec![address.to_string(), format!("localhost:{port}")];
    if address.ip().is_ipv4() {
        hosts.push(format!("127.0.0.1:{port}"));
    }
    if port == 80 {
        hosts.extend(LOOPBACK.map(str::to_owned));
    }
    match (
        hosts.contains(&authority),
        scheme.to_ascii_lowercase().as_str(),
        path,
    ) {
        (true, "http", None) => Named::Node,
        (true, "http", Some(_)) => Named::Path,
        (true, "https", _) => Named::Tls,
        (false, "http" | "https", _) if !authority.is_empty() => Named::Nobody,
        _ => Named::Unclear,
    }
}

fn offline(env: &BTreeMap<String, String>) -> Finding {
    const CHECK: &str = "offline";
    let names = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"];
    let set: Vec<&str> = names.into_iter().filter(|name| is_true(env, name)).collect();
    match set.as_slice() {
        [] => Finding::ok(CHECK, "no tool is told to ask nobody"),
        set => Finding::problem(
            CHECK,
            format!("{} keeps tools from asking even this machine", set.join(" and ")),
            format!("unset {}", set.join(" ")),
        ),
    }
}

fn proxies(facts: &Facts) -> Finding {
    const CHECK: &str = "proxy";
    let env = &facts.env;
    // The node speaks plain http: HTTPS_PROXY does not come into it.
    let names = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let set: Vec<&str> = names
        .into_iter()
        .filter(|name| given(env, name).is_some())
        .collect();
    if set.is_empty() {
        return Finding::ok(CHECK, "none for plain http");
    }
    let endpoint = given(env, "HF_ENDPOINT").unwrap_or_default().to_ascii_lowercase();
    let host = match endpoint.contains("://localhost") {
        true => "localhost",
        false => "127.0.0.1",
    };
    let port = address(facts).map(|address| address.port());
    // Tools that read both take the one in small letters.
    let except = given(env, "no_proxy")
        .or(given(env, "NO_PROXY"))
        .unwrap_or_default();
    let passes = except.split(',').map(str::trim).any(|entry| {
        let host = entry == "*" || entry == host;
        host || port.is_some_and(|port| entry == format!("127.0.0.1:{port}"))
    });
    match passes {
        true => Finding::ok(CHECK, format!("{} passes this machine by", set.join(" and "))),
        false => Finding::problem(
            CHECK,
            format!(
                "{} is set without NO_PROXY: Python tools send what is for this machine to the proxy",
                set.join(" and ")
            ),
            match except.is_empty() {
                true => no_proxy(),
                false => format!("export NO_PROXY=\"{},{}\"", printable(except), LOOPBACK.join(",")),
            },
        ),
    }
}

/// A variable that is set to something.
fn given<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name)
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

/// As the Python client reads switches.
fn is_true(env: &BTreeMap<String, String>, name: &str) -> bool {
    given(env, name)
        .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str()))
}

/// A value as it may be shown: without what a terminal obeys, and without a password in front of an `@`.
fn printable(value: &str) -> String {
    let hidden = match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &value[..scheme], &value[at..])
        }
        _ => value.to_owned(),
    };
    hidden
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
