//! Key statements: signed by too few or too many, moved to other keys, written otherwise.

use super::{Refused, check, forge};
use crate::fixture::{introduce, publisher, recover, revoke, rotate, stated};
use protocol::limits::KEY_STATEMENT_LEN_MAX;
use protocol::{JsonError, KeyError, SignedStatement, Statement};

fn statement(bytes: &[u8]) -> Refused {
    Refused::Key(SignedStatement::decode(bytes).unwrap_err())
}

/// A revocation of which a part was replaced, signed anew.
fn revocation_with(old: &str, new: &str) -> Refused {
    let signed = stated(revoke(1, 1));
    let json = String::from_utf8(signed.encode()[65..].to_vec()).unwrap();
    let changed = json.replacen(old, new, 1);
    assert_ne!(changed, json, "nothing was replaced");
    statement(&[vec![1], forge("shoal key statement 1\n", &changed, 1)].concat())
}

#[test]
fn hostile_key_statements_are_refused() {
    let bytes = stated(rotate(1, 2)).encode().to_vec();
    let json = str::from_utf8(&bytes[129..]).unwrap();
    let moved = |statement_: Statement, from: String, to: String| {
        let bytes = stated(statement_).encode().to_vec();
        let text = String::from_utf8_lossy(&bytes[129..]).replace(&from, &to);
        statement(&[&bytes[..129], text.as_bytes()].concat())
    };
    let text = |number| publisher(number).to_string();
    let one_key = forge("shoal key statement 1\n", json, 1);
    let one_key_twice = [&[2], &one_key[..64], &one_key[..64], json.as_bytes()].concat();
    let as_release = forge("shoal release 1\n", json, 1);
    let as_release = [&[2], &as_release[..64], &bytes[65..]].concat();
    use Refused::Key as K;
    check(
        vec![
            row!("statement: signed by the old key twice", statement(&one_key_twice), K(KeyError::Signature { signer }) if *signer == publisher(2)),
            row!(
                "statement: signed by the old key alone",
                statement(&[&[1], &one_key[..]].concat()),
                K(KeyError::Count { found: 1 })
            ),
            row!(
                "statement: three signatures",
                statement(&[&[3], &bytes[1..]].concat()),
                K(KeyError::Count { found: 3 })
            ),
            row!(
                "statement: a signature more than its kind asks for",
                statement(
                    &[
                        &[2],
                        &stated(revoke(1, 1)).encode()[1..65],
                        stated(revoke(1, 1)).encode().get(1..).unwrap()
                    ]
                    .concat()
                ),
                K(KeyError::Count { found: 2 })
            ),
            row!("statement: signed as a release", statement(&as_release), K(KeyError::Signature { signer }) if *signer == publisher(1)),
            row!(
                "statement: replayed for another successor",
                moved(rotate(1, 2), text(2), text(3)),
                K(KeyError::Signature { .. })
            ),
            row!(
                "statement: replayed for another publisher",
                moved(rotate(1, 2), text(1), text(3)),
                K(KeyError::Signature { .. })
            ),
            row!(
                "statement: a recovery moved to another publisher",
                moved(recover(1, 2, 3), text(1), text(4)),
                K(KeyError::Signature { .. })
            ),
            row!(
                "statement: an introduction as a rotation",
                moved(introduce(1, 2), "\"key\"".to_owned(), "\"from\"".to_owned()),
                K(KeyError::Field { field: "key" })
            ),
            row!(
                "statement: empty",
                statement(b""),
                K(KeyError::TooShort { len: 0 })
            ),
            row!(
                "statement: cut within the second signature",
                statement(&bytes[..100]),
                K(KeyError::TooShort { len: 100 })
            ),
            row!(
                "statement: cut within the JSON",
                statement(&bytes[..bytes.len() - 1]),
                K(KeyError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "statement: a byte behind it",
                statement(&[&bytes[..], b" "].concat()),
                K(KeyError::Signature { .. })
            ),
            row!(
                "statement: too long",
                statement(&[1; KEY_STATEMENT_LEN_MAX + 1]),
                K(KeyError::TooLong { .. })
            ),
            row!(
                "statement: a field twice",
                revocation_with("\"key\":", "\"key\":\"x\",\"key\":"),
                K(KeyError::Json(JsonError::DuplicateField { .. }))
            ),
            row!(
                "statement: a field of another kind",
                revocation_with("\"shoal\":1", "\"shoal\":1,\"to\":\"x\""),
                K(KeyError::Field { field: "to" })
            ),
            row!(
                "statement: a space",
                revocation_with("\"key\":", "\"key\" :"),
                K(KeyError::NotCanonical)
            ),
            row!(
                "statement: another version",
                revocation_with("\"shoal\":1", "\"shoal\":9"),
                K(KeyError::Version { found: 9 })
            ),
            row!(
                "statement: says something else",
                revocation_with("\"revoke\"", "\"delegate\""),
                K(KeyError::Say { .. })
            ),
            row!(
                "statement: a reason in words",
                revocation_with("\"compromised\"", "\"b\u{202e}ad\""),
                K(KeyError::Reason(_))
            ),
            row!(
                "statement: a weak key",
                revocation_with(
                    &format!("\"key\":\"{}\"", publisher(1)),
                    &format!("\"key\":\"{}\"", "y".repeat(52))
                ),
                K(KeyError::Key { field: "key", .. })
            ),
            row!(
                "statement: a float for a time",
                revocation_with("1800000000", "1.8e9"),
                K(KeyError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "statement: a time past 2^53",
                revocation_with("1800000000", "18000000000000000"),
                K(KeyError::Issued { .. })
            ),
        ],
        23,
    );
}
