//! Denylists: what cannot be done, cannot be read, or goes on without end.

use super::{Refused, check};
use crate::fixture::{NOW, golden_denylist};
use protocol::limits::DENYLIST_LEN_MAX;
use protocol::{DeniedError, Denylist, DenylistError, JsonError, TextError};

fn list(text: &str) -> Refused {
    Refused::List(Denylist::decode(text.as_bytes()).unwrap_err())
}

/// The golden denylist of which a part was replaced.
fn list_with(old: &str, new: &str) -> Refused {
    let json = String::from_utf8(golden_denylist().encode().unwrap()).unwrap();
    let changed = json.replacen(old, new, 1);
    assert_ne!(changed, json, "nothing was replaced");
    list(&changed)
}

#[test]
fn hostile_denylists_are_refused() {
    let deep = format!("{{\"deny\":{}", "[".repeat(100_000));
    let skipped = format!("{{\"x\":{}", "[".repeat(100_000));
    let numbers = format!("\"since\":{NOW}");
    use Refused::List as L;
    check(
        vec![
            row!(
                "denylist: empty",
                list(""),
                L(DenylistError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "denylist: too long",
                list(&" ".repeat(DENYLIST_LEN_MAX + 1)),
                L(DenylistError::TooLong { .. })
            ),
            row!(
                "denylist: not an object",
                list("[]"),
                L(DenylistError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "denylist: no entries",
                list("{\"shoal\":1}"),
                L(DenylistError::Json(JsonError::MissingField { .. }))
            ),
            row!(
                "denylist: entries twice",
                list("{\"deny\":[],\"deny\":[],\"shoal\":1}"),
                L(DenylistError::Json(JsonError::DuplicateField { .. }))
            ),
            row!(
                "denylist: two versions",
                list("{\"shoal\":1,\"deny\":[],\"shoal\":1}"),
                L(DenylistError::Json(JsonError::DuplicateField { .. }))
            ),
            row!(
                "denylist: another version",
                list("{\"deny\":[{\"action\":1}],\"shoal\":2}"),
                L(DenylistError::Version { found: 2 })
            ),
            row!(
                "denylist: something behind it",
                list("{\"deny\":[],\"shoal\":1}{}"),
                L(DenylistError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "denylist: deep nesting",
                list(&deep),
                L(DenylistError::Entry {
                    number: 1,
                    source: JsonError::Syntax { .. }
                })
            ),
            row!(
                "denylist: deep nesting in a field that is none",
                list(&skipped),
                L(DenylistError::Json(JsonError::UnknownField { .. }))
            ),
            row!(
                "denylist: an array for an entry",
                list_with(
                    "{\"reason\":\"malware\"",
                    "[1,\"r\",0,\"blob:x\"],{\"reason\":\"malware\""
                ),
                L(DenylistError::Entry {
                    number: 3,
                    source: JsonError::Syntax { .. }
                })
            ),
            row!(
                "denylist: NaN",
                list_with(&numbers, "\"since\":NaN"),
                L(DenylistError::Entry {
                    number: 1,
                    source: JsonError::Syntax { .. }
                })
            ),
            row!(
                "denylist: a kind that is none",
                list_with("blob:", "file:"),
                L(DenylistError::What {
                    number: 3,
                    source: DeniedError::Kind { .. }
                })
            ),
            row!(
                "denylist: an entry without a time",
                list_with(&format!("{numbers},"), ""),
                L(DenylistError::Entry {
                    number: 1,
                    source: JsonError::MissingField { .. }
                })
            ),
            row!(
                "denylist: a reason twice",
                list_with("\"reason\":\"spam\"", "\"reason\":\"spam\",\"reason\":\"\""),
                L(DenylistError::Entry {
                    number: 4,
                    source: JsonError::DuplicateField { .. }
                })
            ),
            row!(
                "denylist: a direction mark in a reason",
                list_with("malware", "mal\u{202e}ware"),
                L(DenylistError::Reason {
                    number: 3,
                    source: TextError::Bidi { .. }
                })
            ),
            row!(
                "denylist: a reason that is not in normal form",
                list_with("größe", "gro\u{308}ße"),
                L(DenylistError::Reason {
                    number: 2,
                    source: TextError::NotNfc
                })
            ),
            row!(
                "denylist: over before it began",
                list_with(&format!("\"expires\":{}", NOW + 1), &format!("\"expires\":{NOW}")),
                L(DenylistError::Time {
                    number: 4,
                    field: "expires",
                    ..
                })
            ),
        ],
        16,
    );
}
