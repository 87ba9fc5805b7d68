//! Summaries of cards: another release's, written otherwise, out of bounds, or with what nobody sees.

use super::{Refused, check};
use crate::fixture::{golden_release, golden_summary, plain_release};
use protocol::limits::CARD_LEN_MAX;
use protocol::{CardError, JsonError, Summary, TextError};

fn card(bytes: &[u8]) -> Refused {
    Refused::Card(Summary::decode(bytes).unwrap_err())
}

/// The golden summary of which a part was replaced.
fn card_with(old: &str, new: &str) -> Refused {
    let json = String::from_utf8(golden_summary().encode().unwrap()).unwrap();
    let changed = json.replacen(old, new, 1);
    assert_ne!(changed, json, "nothing was replaced");
    card(changed.as_bytes())
}

#[test]
fn hostile_summaries_are_refused() {
    let bytes = golden_summary().encode().unwrap();
    let beside = |release: &protocol::Release, bytes: &[u8]| {
        Refused::Card(Summary::decode_of(release, bytes).unwrap_err())
    };
    let mut named = golden_release();
    named.card = Some(golden_summary().hash().unwrap());
    let tag = |text: &str| card_with("\"gold\"", &format!("\"{text}\""));
    use Refused::Card as C;
    check(
        vec![
            row!(
                "summary: another than the release names",
                beside(&golden_release(), &bytes),
                C(CardError::OtherCard { wanted: Some(_), .. })
            ),
            row!(
                "summary: of a release that names none",
                beside(&plain_release(1, 1, 1), &bytes),
                C(CardError::OtherCard { wanted: None, .. })
            ),
            row!(
                "summary: one byte changed on the way",
                beside(&named, &[&bytes[..bytes.len() - 1], b" "].concat()),
                C(CardError::OtherCard { .. })
            ),
            row!(
                "summary: empty",
                card(b""),
                C(CardError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "summary: too long",
                card(&vec![b' '; CARD_LEN_MAX + 1]),
                C(CardError::TooLong { .. })
            ),
            row!(
                "summary: cut",
                card(&bytes[..bytes.len() - 1]),
                C(CardError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "summary: a byte behind it",
                card(&[&bytes[..], b"}"].concat()),
                C(CardError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "summary: a line break behind it",
                card(&[&bytes[..], b"\n"].concat()),
                C(CardError::NotCanonical)
            ),
            row!(
                "summary: an empty list",
                card(b"{\"shoal\":1,\"tags\":[]}"),
                C(CardError::NotCanonical)
            ),
            row!(
                "summary: null for nothing",
                card(b"{\"license\":null,\"shoal\":1}"),
                C(CardError::NotCanonical)
            ),
            row!(
                "summary: a field twice",
                card_with("\"license\":", "\"license\":\"mit\",\"license\":"),
                C(CardError::Json(JsonError::DuplicateField { .. }))
            ),
            row!(
                "summary: an unknown field, deep",
                card_with(
                    "\"license\":",
                    &format!("\"html\":{},\"license\":", "[".repeat(500))
                ),
                C(CardError::Json(_))
            ),
            row!(
                "summary: another version",
                card_with("\"shoal\":1", "\"shoal\":3"),
                C(CardError::Version { found: 3 })
            ),
            row!(
                "summary: no version",
                card(b"{}"),
                C(CardError::Json(JsonError::MissingField { .. }))
            ),
            row!(
                "summary: NaN",
                card_with("1048576", "NaN"),
                C(CardError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "summary: less than nothing",
                card_with("1048576", "-1"),
                C(CardError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "summary: a number past 2^53",
                card_with("1048576", "9007199254740993"),
                C(CardError::Number {
                    field: "parameters",
                    ..
                })
            ),
            row!(
                "summary: a direction mark",
                tag("a\u{2067}b"),
                C(CardError::Text {
                    field: "tags",
                    source: TextError::Bidi { .. }
                })
            ),
            row!(
                "summary: no width",
                tag("go\u{200d}ld"),
                C(CardError::Text {
                    field: "tags",
                    source: TextError::Invisible { .. }
                })
            ),
            row!(
                "summary: an escape of the terminal",
                tag("\\u001b[2J"),
                C(CardError::Text {
                    field: "tags",
                    source: TextError::Control { .. }
                })
            ),
            row!(
                "summary: not in normal form",
                tag("o\u{308}"),
                C(CardError::Text {
                    field: "tags",
                    source: TextError::NotNfc
                })
            ),
            row!(
                "summary: half a character",
                tag("\\ud800"),
                C(CardError::Json(JsonError::Syntax { .. }))
            ),
            row!(
                "summary: a licence in look-alike letters",
                card_with("apache-2.0", "ap\u{430}che-2.0"),
                C(CardError::Word { field: "license", .. })
            ),
            row!(
                "summary: a tag twice",
                card_with("\"arxiv:1706.03762\"", "\"gold\""),
                C(CardError::Twice { field: "tags" })
            ),
            row!(
                "summary: an empty tag",
                tag(""),
                C(CardError::Length {
                    field: "tags",
                    len: 0,
                    ..
                })
            ),
            row!(
                "summary: more base models than there may be",
                card_with("\"some-org/Golden-Base\"", "\"a\",\"b\",\"c\",\"d\",\"e\""),
                C(CardError::Count {
                    field: "base_model",
                    ..
                })
            ),
            row!(
                "summary: a link for a base model",
                card_with("some-org/Golden-Base", "//evil.example"),
                C(CardError::Base)
            ),
        ],
        27,
    );
}
