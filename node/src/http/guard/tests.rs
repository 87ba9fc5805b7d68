//! The table of who may come in: method × Host × Origin × Sec-Fetch-Site × token × content type, every combination.

use super::*;

const PORT: u16 = 7070;

fn token() -> String {
    "0123456789abcdef".repeat(4)
}

fn guard() -> Guard {
    Guard::new(([127, 0, 0, 1], PORT).into(), &token(), Vec::new())
}

fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(axum::body::Body::empty()).unwrap().into_parts().0
}

const HOSTS: [(Option<&str>, bool); 14] = [
    (Some("127.0.0.1:7070"), true),
    (Some("[::1]:7070"), true),
    (Some("localhost:7070"), true),
    (Some("LocalHost:7070"), true),
    (None, false),
    (Some(""), false),
    (Some("127.0.0.1"), false),
    (Some("127.0.0.1:7071"), false),
    (Some("localhost.evil.example:7070"), false),
    (Some("evil.example:7070"), false),
    (Some("127.0.0.1:7070@evil.example"), false),
    (Some("2130706433:7070"), false),
    (Some("0.0.0.0:7070"), false),
    (Some("localhost.:7070"), false),
];

const ORIGINS: [(Option<&str>, bool); 9] = [
    (None, true),
    (Some("http://127.0.0.1:7070"), true),
    (Some("http://localhost:7070"), true),
    (Some("http://localhost:3000"), false),
    (Some("https://localhost:7070"), false),
    (Some("http://evil.example"), false),
    (Some("null"), false),
    (Some("chrome-extension://abcdef"), false),
    (Some("http://localhost:7070.evil.example"), false),
];

const SITES: [(Option<&str>, bool); 6] = [
    (None, true),
    (Some("same-origin"), true),
    (Some("none"), true),
    (Some("same-site"), false),
    (Some("cross-site"), false),
    (Some("anything"), false),
];

const TYPES: [(Option<&str>, bool); 6] = [
    (Some("application/json"), true),
    (Some("Application/JSON; charset=utf-8"), true),
    (None, false),
    (Some("text/plain"), false),
    (Some("application/x-www-form-urlencoded"), false),
    (Some("text/plain; application/json"), false),
];

fn tokens() -> Vec<(Option<String>, bool)> {
    let right = token();
    vec![
        (Some(format!("Bearer {right}")), true),
        (Some(format!("bearer {right}")), true),
        (None, false),
        (Some("Bearer".to_owned()), false),
        (Some("Bearer ".to_owned()), false),
        (Some(right.clone()), false),
        (Some(format!("Basic {right}")), false),
        (Some(format!("Bearer {}", right.to_uppercase())), false),
        (Some(format!("Bearer {}", &right[1..])), false),
        (Some(format!("Bearer {right}0")), false),
        (Some(format!("Bearer  {right}")), false),
    ]
}

#[test]
fn every_combination_is_judged_by_the_first_wall_it_meets() {
    let guard = guard();
    let mut judged = 0;
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let reads = matches!(method, "GET" | "HEAD");
        for (host, host_good) in HOSTS {
            for (origin, origin_good) in ORIGINS {
                for (site, site_good) in SITES {
                    for (token, token_good) in tokens() {
                        for (kind, kind_good) in TYPES {
                            let named = [
                                ("host", host),
                                ("origin", origin),
                                ("sec-fetch-site", site),
                                ("authorization", token.as_deref()),
                                ("content-type", kind),
                            ];
                            let headers: Vec<_> = named
                                .into_iter()
                                .filter_map(|(name, value)| Some((name, value?)))
                                .collect();
                            let wanted = if !host_good {
                                Err(Refusal::Misdirected)
                            } else if !(origin_good && site_good) {
                                Err(Refusal::Foreign)
                            } else if !token_good {
                                Err(Refusal::NoToken)
                            } else if !(reads || kind_good) {
                                Err(Refusal::NotJson)
                            } else {
                                Ok(())
                            };
                            let found = guard.judge(&head(method, "/api/shoal/v1/status", &headers));
                            assert_eq!(found, wanted, "{method} {headers:?}");
                            judged += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(judged > 300, "{judged}");
}

#[test]
fn header_that_comes_twice_is_refused_whatever_it_says() {
    let bearer = format!("Bearer {}", token());
    let good = [
        ("host", "127.0.0.1:7070"),
        ("origin", "http://127.0.0.1:7070"),
        ("sec-fetch-site", "same-origin"),
        ("authorization", &bearer),
    ];
    assert_eq!(guard().judge(&head("GET", "/", &good)), Ok(()));
    let refusals = [
        Refusal::Misdirected,
        Refusal::Foreign,
        Refusal::Foreign,
        Refusal::NoToken,
    ];
    for (header, refusal) in good.iter().zip(refusals) {
        let twice: Vec<_> = good.iter().chain([header]).copied().collect();
        assert_eq!(
            guard().judge(&head("GET", "/", &twice)),
            Err(refusal),
            "{}",
            header.0
        );
    }
}

#[test]
fn host_in_the_request_line_counts_too() {
    let bearer = format!("Bearer {}", token());
    let headers = [("host", "127.0.0.1:7070"), ("authorization", bearer.as_str())];
    assert_eq!(
        guard().judge(&head("GET", "http://127.0.0.1:7070/", &headers)),
        Ok(())
    );
    assert_eq!(
        guard().judge(&head("GET", "http://evil.example/", &headers)),
        Err(Refusal::Misdirected)
    );
}

#[test]
fn service_that_is_not_here_is_not_found_and_no_way_in() {
    let bearer = format!("Bearer {}", token());
    let asked = |host: &str| {
        let headers = [("host", host), ("authorization", bearer.as_str())];
        let head = head("GET", "/info?dataset=a/b", &headers);
        assert_eq!(guard().admit(&head).err(), guard().judge(&head).err(), "{host}");
        guard().judge(&head)
    };
    for host in ["datasets-server.localhost:7070", "Datasets-Server.LOCALHOST:7070"] {
        assert_eq!(asked(host), Err(Refusal::Absent), "{host}");
    }
    for host in [
        "datasets-server.localhost",
        "datasets-server.localhost:7071",
        "datasets-server.evil.example:7070",
        "other.localhost:7070",
    ] {
        assert_eq!(asked(host), Err(Refusal::Misdirected), "{host}");
    }
}

#[test]
fn port_80_may_be_left_out() {
    let guard = Guard::new(([127, 0, 0, 1], 80).into(), &token(), Vec::new());
    let bearer = format!("Bearer {}", token());
    for host in ["localhost", "localhost:80", "127.0.0.1"] {
        let headers = [("host", host), ("authorization", bearer.as_str())];
        assert_eq!(guard.judge(&head("GET", "/", &headers)), Ok(()), "{host}");
    }
}
