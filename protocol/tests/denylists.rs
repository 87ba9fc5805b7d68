//! A denylist says only what can be done, in bounds; an error tells which entry it is in.

use crate::fixture::{NOW, golden_denylist, publisher};
use protocol::limits::{DENIALS_MAX, DENYLIST_LEN_MAX};
use protocol::{Denial, Denied, DeniedError, Denylist, DenylistError, Hash, JsonError, TextError};

/// A list of two sound entries and this one.
fn third(entry: &str) -> Result<Denylist, DenylistError> {
    let sound = format!(r#"{{"what": "blob:{}", "reason": "r", "since": 0}}"#, Hash::EMPTY);
    Denylist::decode(format!(r#"{{"shoal": 1, "deny": [{sound}, {sound}, {entry}]}}"#).as_bytes())
}

fn entry(what: &str, reason: &str, rest: &str) -> String {
    format!(r#"{{"what": "{what}", "reason": "{reason}", {rest}}}"#)
}

#[test]
fn list_may_be_written_by_hand() {
    let text = format!(
        "\n {{\n \"deny\" : [ {{ \"since\": 5, \"what\": \"publisher:{}\",\n \"reason\": \"sp\\u0061m\" }} ],\n \"shoal\": 1 }}\n",
        publisher(3)
    );
    let list = Denylist::decode(text.as_bytes()).unwrap();
    let wanted = Denial {
        what: Denied::Publisher(publisher(3)),
        reason: "spam".to_owned(),
        since: 5,
        expires: None,
    };
    assert_eq!(list.entries(), [wanted]);
    assert!(
        Denylist::decode(b"{\"deny\":[],\"shoal\":1}")
            .unwrap()
            .entries()
            .is_empty()
    );
}

#[test]
fn entry_ends_when_it_expires_and_not_before() {
    let list = golden_denylist();
    let in_force = |now| -> Vec<bool> { list.entries().iter().map(|entry| entry.in_force(now)).collect() };
    assert_eq!(in_force(0), [true, true, true, true]);
    assert_eq!(in_force(NOW), [true, true, true, true]);
    assert_eq!(in_force(NOW + 1), [true, true, true, false]);
    assert_eq!(in_force(NOW + 86_400), [true, false, true, false]);
    assert_eq!(in_force(u64::MAX), [true, false, true, false]);
}

#[test]
fn what_we_cannot_do_is_refused_with_the_entry_that_asks_for_it() {
    for (what, kind) in [
        ("ip:192.0.2.1", "ip"),
        ("word:bad", "word"),
        ("Repo:x", "Repo"),
        ("everything", "everything"),
        ("", ""),
    ] {
        let error = third(&entry(what, "r", "\"since\": 0")).unwrap_err();
        let right = matches!(
            &error,
            DenylistError::What { number: 3, source: DeniedError::Kind { found } } if found == kind
        );
        assert!(right, "{what}: {error:?}");
    }
    let wrong = |what: &str| match third(&entry(what, "r", "\"since\": 0")).unwrap_err() {
        DenylistError::What { number: 3, source } => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(wrong("repo:alias/name"), DeniedError::Repo(_)));
    assert!(matches!(wrong("repo:"), DeniedError::Repo(_)));
    assert!(matches!(wrong("manifest:00"), DeniedError::Hash(_)));
    assert!(matches!(
        wrong(&format!("blob:{}", "A".repeat(64))),
        DeniedError::Hash(_)
    ));
    assert!(matches!(wrong("publisher:me"), DeniedError::Publisher(_)));
    let more = entry("publisher:me", "r", "\"since\": 0, \"action\": \"delete\"");
    assert!(matches!(
        third(&more),
        Err(DenylistError::Entry { number: 3, source: JsonError::UnknownField { name } }) if name == "action"
    ));
    assert!(matches!(
        Denylist::decode(b"{\"allow\":[],\"deny\":[],\"shoal\":1}"),
        Err(DenylistError::Json(JsonError::UnknownField { name })) if name == "allow"
    ));
}

#[test]
fn reasons_and_times_have_bounds() {
    let what = format!("blob:{}", Hash::EMPTY);
    let reason = |text: &str| third(&entry(&what, text, "\"since\": 0"));
    assert!(reason(&"x".repeat(200)).is_ok());
    for text in [String::new(), "x".repeat(201), "é".repeat(101)] {
        assert!(matches!(
            reason(&text),
            Err(DenylistError::ReasonLength { number: 3, .. })
        ));
    }
    for (text, wanted) in [
        ("a\\nb", TextError::Control { found: '\n' }),
        ("a\\u202eb", TextError::Bidi { found: '\u{202e}' }),
        ("a\u{200b}", TextError::Invisible { found: '\u{200b}' }),
        ("e\u{301}", TextError::NotNfc),
    ] {
        let error = reason(text).unwrap_err();
        assert!(
            matches!(error, DenylistError::Reason { number: 3, source } if source == wanted),
            "{error:?}"
        );
    }
    let times = |text: &str| third(&entry(&what, "r", text));
    assert!(times("\"since\": 5, \"expires\": 6").is_ok());
    for (text, wanted) in [
        ("\"since\": 5, \"expires\": 5", "expires"),
        ("\"since\": 5, \"expires\": 0", "expires"),
        ("\"since\": 9007199254740993", "since"),
        ("\"since\": 5, \"expires\": 9007199254740993", "expires"),
    ] {
        let error = times(text).unwrap_err();
        assert!(
            matches!(error, DenylistError::Time { number: 3, field, .. } if field == wanted),
            "{text}: {error:?}"
        );
    }
    for text in [
        "\"since\": -1",
        "\"since\": 1.0",
        "\"since\": 1e3",
        "\"since\": NaN",
        "\"since\": \"1\"",
        "\"since\": null",
        "\"since\": 1, \"expires\": null",
        "\"since\": 18446744073709551616",
    ] {
        let error = times(text).unwrap_err();
        assert!(
            matches!(error, DenylistError::Entry { number: 3, .. }),
            "{text}: {error:?}"
        );
    }
}

#[test]
fn list_has_bounds() {
    let long = [b" ".repeat(DENYLIST_LEN_MAX), b"x".to_vec()].concat();
    assert!(matches!(
        Denylist::decode(&long),
        Err(DenylistError::TooLong { .. })
    ));
    let one = format!(r#"{{"what":"blob:{}","reason":"r","since":0}}"#, Hash::EMPTY);
    let list = |count| {
        format!(
            r#"{{"deny":[{}],"shoal":1}}"#,
            vec![one.as_str(); count].join(",")
        )
    };
    assert!(Denylist::decode(list(DENIALS_MAX).as_bytes()).is_ok());
    assert!(matches!(
        Denylist::decode(list(DENIALS_MAX + 1).as_bytes()),
        Err(DenylistError::TooMany { max: DENIALS_MAX })
    ));
    let denial = golden_denylist().entries()[2].clone();
    assert!(matches!(
        Denylist::new(vec![denial.clone(); DENIALS_MAX + 1]),
        Err(DenylistError::TooMany { .. })
    ));
    let long = Denial {
        reason: "x".repeat(200),
        ..denial
    };
    let list = Denylist::new(vec![long; DENIALS_MAX]).unwrap();
    assert!(matches!(list.encode(), Err(DenylistError::TooLong { .. })));
}

#[test]
fn every_prefix_of_a_list_is_refused() {
    let bytes = golden_denylist().encode().unwrap();
    for len in 0..bytes.len() {
        assert!(Denylist::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}
