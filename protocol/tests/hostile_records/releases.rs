//! Releases: signed wrongly, replayed, written otherwise, out of bounds, or against the ratchet.

use super::{Refused, check, forge};
use crate::fixture::{NOW, golden_signed, key, plain_release, publisher};
use protocol::limits::RELEASE_LEN_MAX;
use protocol::ratchet::{Decision, decide};
use protocol::{JsonError, ReleaseError, SignedRelease};

fn release(bytes: &[u8]) -> Refused {
    Refused::Release(SignedRelease::decode(bytes).unwrap_err())
}

/// A plain release of which a part was replaced, signed anew.
fn release_with(old: &str, new: &str) -> Refused {
    let bytes = SignedRelease::sign(plain_release(1, 5, 9), &key(1))
        .unwrap()
        .encode();
    let json = String::from_utf8(bytes[64..].to_vec()).unwrap();
    let changed = json.replacen(old, new, 1);
    assert_ne!(changed, json, "nothing was replaced");
    release(&forge("shoal release 1\n", &changed, 1))
}

#[test]
fn hostile_releases_are_refused() {
    let bytes = golden_signed().encode();
    let (signature, json) = bytes.split_at(64);
    let json = str::from_utf8(json).unwrap();
    let moved = |old: &str, new: &str| [signature, json.replace(old, new).as_bytes()].concat();
    let other_name = moved("\"golden-model\"", "\"golden-models\"");
    let other_key = moved(&publisher(7).to_string(), &publisher(8).to_string());
    let signed = |seq, content, issued| {
        let mut release = plain_release(1, seq, content);
        (release.issued, release.expires) = (issued, issued + 1);
        SignedRelease::sign(release, &key(1)).unwrap()
    };
    let current = signed(5, 1, NOW);
    let decided = |offered: &SignedRelease| Refused::Ratchet(decide(Some(&current), offered, NOW));
    let deep = format!("\"name\":{}1{}", "[".repeat(2000), "]".repeat(2000));
    use Refused::Release as R;
    check(
        vec![
            row!(
                "release: signed by another key",
                release(&forge("shoal release 1\n", json, 8)),
                R(ReleaseError::Signature)
            ),
            row!(
                "release: signed as an attestation",
                release(&forge("shoal attestation 1\n", json, 7)),
                R(ReleaseError::Signature)
            ),
            row!(
                "release: signed as a key statement",
                release(&forge("shoal key statement 1\n", json, 7)),
                R(ReleaseError::Signature)
            ),
            row!(
                "release: replayed under another name",
                release(&other_name),
                R(ReleaseError::Signature)
            ),
            row!(
                "release: replayed under another key",
                release(&other_key),
                R(ReleaseError::Signature)
            ),
            row!(
                "release: replayed as another kind",
                release(&moved("\"model\"", "\"dataset\"")),
                R(ReleaseError::Signature)
            ),
            row!(
                "release: two signatures",
                release(&[signature, &bytes].concat()),
                R(ReleaseError::Json(_))
            ),
            row!(
                "release: empty",
                release(b""),
                R(ReleaseError::TooShort { len: 0 })
            ),
            row!(
                "release: cut within the signature",
                release(&bytes[..63]),
                R(ReleaseError::TooShort { len: 63 })
            ),
            row!(
                "release: cut within the JSON",
                release(&bytes[..bytes.len() - 1]),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: a byte behind it",
                release(&[&bytes[..], b"\n"].concat()),
                R(ReleaseError::Signature)
            ),
            row!(
                "release: too long",
                release(&vec![b' '; RELEASE_LEN_MAX + 1]),
                R(ReleaseError::TooLong { .. })
            ),
            row!(
                "release: a space",
                release_with("\"seq\":", "\"seq\": "),
                R(ReleaseError::NotCanonical)
            ),
            row!(
                "release: fields in another order",
                release_with(
                    "{\"expires\":1800000001,\"issued\":1800000000",
                    "{\"issued\":1800000000,\"expires\":1800000001"
                ),
                R(ReleaseError::NotCanonical)
            ),
            row!(
                "release: an escape for a letter",
                release_with("\"name\":\"m\"", "\"name\":\"\\u006d\""),
                R(ReleaseError::NotCanonical)
            ),
            row!(
                "release: null for nothing",
                release_with("{\"expires\"", "{\"card\":null,\"expires\""),
                R(ReleaseError::NotCanonical)
            ),
            row!(
                "release: a key twice",
                release_with("\"seq\":5", "\"seq\":5,\"seq\":6"),
                R(ReleaseError::Json(JsonError::DuplicateField { .. }))
            ),
            row!(
                "release: the publisher twice",
                release_with("\"publisher\":", "\"publisher\":\"x\",\"publisher\":"),
                R(ReleaseError::Json(JsonError::DuplicateField { .. }))
            ),
            row!(
                "release: NaN",
                release_with("\"seq\":5", "\"seq\":NaN"),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: a float",
                release_with("\"seq\":5", "\"seq\":5.0"),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: an exponent past all numbers",
                release_with("\"seq\":5", "\"seq\":1e999"),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: minus nothing",
                release_with("\"seq\":5", "\"seq\":-0"),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: a number in a string",
                release_with("\"seq\":5", "\"seq\":\"5\""),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: number 0",
                release_with("\"seq\":5", "\"seq\":0"),
                R(ReleaseError::Number { field: "seq", .. })
            ),
            row!(
                "release: number past 2^53",
                release_with("\"seq\":5", "\"seq\":9007199254740993"),
                R(ReleaseError::Number { field: "seq", .. })
            ),
            row!(
                "release: over before it began",
                release_with("\"expires\":1800000001", "\"expires\":1799999999"),
                R(ReleaseError::Number { field: "expires", .. })
            ),
            row!(
                "release: valid for ever",
                release_with("\"expires\":1800000001", "\"expires\":9007199254740992"),
                R(ReleaseError::Number { field: "expires", .. })
            ),
            row!(
                "release: another version",
                release_with("\"shoal\":1", "\"shoal\":2"),
                R(ReleaseError::Version { found: 2 })
            ),
            row!(
                "release: deep nesting",
                release_with("\"name\":\"m\"", &deep),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: a direction mark in its name",
                release_with("\"name\":\"m\"", "\"name\":\"m\u{202e}\""),
                R(ReleaseError::Name(_))
            ),
            row!(
                "release: a character of no width in its name",
                release_with("\"name\":\"m\"", "\"name\":\"m\u{200b}\""),
                R(ReleaseError::Name(_))
            ),
            row!(
                "release: a path for a name",
                release_with("\"name\":\"m\"", "\"name\":\"../m\""),
                R(ReleaseError::Name(_))
            ),
            row!(
                "release: not UTF-8",
                release(&[signature, b"{\"publisher\":\"\xff\",\"shoal\":1}"].concat()),
                R(ReleaseError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "release: a jump of the number",
                decided(&signed(6 + (1 << 32), 2, NOW)),
                Refused::Ratchet(Decision::JumpTooLarge)
            ),
            row!(
                "release: a second one under the number",
                decided(&signed(5, 2, NOW)),
                Refused::Ratchet(Decision::Fork)
            ),
            row!(
                "release: an older one again",
                decided(&signed(4, 1, NOW)),
                Refused::Ratchet(Decision::Older { .. })
            ),
            row!(
                "release: from the future",
                decided(&signed(6, 1, NOW + 601)),
                Refused::Ratchet(Decision::NotYetIssued)
            ),
        ],
        37,
    );
}
