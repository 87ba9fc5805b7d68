//! The card of a repo: what it says of itself in the YAML at the head of its `README.md`.
//!
//! Strangers write these: the text, its depth and what its aliases may unfold to are bounded before anything is made of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A card, or another object that was read.
pub(crate) type Object = Map<String, Value>;

/// Longest head of a card that is read, in bytes: results of benchmarks fill a few hundred thousand.
pub(crate) const HEAD_LEN_MAX: usize = 512 * 1024;
/// Longest text of a card that is shown, in bytes: a book for whoever scrolls.
const BODY_LEN_MAX: usize = 256 * 1024;
/// Deepest nesting in it: results of benchmarks have 8.
const DEPTH_MAX: usize = 32;
/// Aliases in it, and what they may repeat: cards have none, and a bomb is made of nothing else.
const ALIASES_MAX: usize = 16;
const REPEATED_MAX: usize = 64;
/// Longest text of a card that is shown or made a tag of, in bytes.
pub(crate) const TEXT_LEN_MAX: usize = 128;
/// Texts of one list of a card that are shown.
const TEXTS_MAX: usize = 32;

/// The text between the lines of three dashes that a card begins with, and what follows them.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let text = text.strip_prefix("---")?;
    let (rest, text) = text.split_once('\n')?;
    if !rest.trim().is_empty() {
        return None;
    }
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some((text.get(..end)?, text.get(end + line.len()..)?));
        }
        end += line.len();
    }
    None
}

/// The text of a `README.md` behind its head, at most [`BODY_LEN_MAX`] bytes of it; `None` where there is none.
pub(crate) fn body(readme: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(readme);
    let body = split(&text).map_or(&*text, |(_, body)| body).trim();
    let body = &body[..body.floor_char_boundary(BODY_LEN_MAX)];
    (!body.is_empty()).then(|| body.to_owned())
}

/// Reads a card's head. `None`: it has none.
///
/// # Errors
/// What is wrong with it, for who wrote it.
pub(crate) fn read(text: &str) -> Option<Result<Object, String>> {
    let (head, _) = split(text)?;
    if head.len() > HEAD_LEN_MAX {
        return Some(Err(format!("the head is longer than {HEAD_LEN_MAX} bytes")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_aliases: ALIASES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPEATED_MAX,
            max_replay_stack_depth: ALIASES_MAX,
            max_alias_expansions_per_anchor: ALIASES_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    Some(match serde_saphyr::from_str_with_options(head, options) {
        Ok(Value::Object(card)) => Ok(card),
        Ok(Value::Null) => Ok(Object::new()),
        Ok(_) => Err("the head is not a list of keys and values".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

/// Reads the card in a `README.md`; one that does not read says nothing.
pub(crate) fn of_readme(readme: &[u8]) -> Object {
    let text = String::from_utf8_lossy(readme);
    read(&text).and_then(Result::ok).unwrap_or_default()
}

/// A text of an object.
pub(crate) fn text(object: &Object, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?;
    (1..=TEXT_LEN_MAX).contains(&text.len()).then(|| text.to_owned())
}

/// A text of an object, or several.
pub(crate) fn texts<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = &'a str> {
    let (one, several) = match object.get(key) {
        Some(Value::String(one)) => (Some(one.as_str()), None),
        Some(Value::Array(several)) => (None, Some(several)),
        _ => (None, None),
    };
    let several = several.into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(several)
}

/// What of a card is worth showing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The licence, by its short name, or its own name where that is `other`.
    pub license: Option<String>,
    /// What it is for.
    pub pipeline_tag: Option<String>,
    /// What it is used with.
    pub library_name: Option<String>,
    /// What it was made from.
    pub base_model: Vec<String>,
    /// Its languages.
    pub language: Vec<String>,
    /// What it was trained on.
    pub datasets: Vec<String>,
    /// What else it says of itself.
    pub tags: Vec<String>,
}

impl Card {
    /// Takes what is worth showing from a `README.md`; `None` where it says nothing.
    pub(crate) fn of_readme(readme: &[u8]) -> Option<Card> {
        let card = of_readme(readme);
        let all = |key| {
            let fit = texts(&card, key).filter(|text| (1..=TEXT_LEN_MAX).contains(&text.len()));
            fit.take(TEXTS_MAX).map(str::to_owned).collect::<Vec<_>>()
        };
        let license = all("license").into_iter().next();
        let named = license
            .as_deref()
            .is_none_or(|license| license == "other")
            .then(|| text(&card, "license_name"));
        let shown = Card {
            license: named.flatten().or(license),
            pipeline_tag: text(&card, "pipeline_tag"),
            library_name: text(&card, "library_name"),
            base_model: all("base_model"),
            language: all("language"),
            datasets: all("datasets"),
            tags: all("tags"),
        };
        (shown != Card::default()).then_some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_showing_is_taken_in_any_of_its_forms() {
        let card = Card::of_readme(
            b"---\nlicense: other\nlicense_name: gemma\nlanguage: [en, de]\nbase_model: a/b\ntags: x\n---\n# Text",
        )
        .unwrap();
        assert_eq!(card.license.as_deref(), Some("gemma"));
        assert_eq!(card.language, ["en", "de"]);
        assert_eq!(
            (card.base_model, card.tags),
            (vec!["a/b".to_owned()], vec!["x".to_owned()])
        );
        let plain = Card::of_readme(b"---\nlicense: apache-2.0\nlicense_name: x\n---\n").unwrap();
        assert_eq!(plain.license.as_deref(), Some("apache-2.0"));
    }

    #[test]
    fn text_of_a_card_is_what_follows_its_head() {
        let of = |readme: &str| body(readme.as_bytes());
        assert_eq!(of("---\na: b\n---\n\n# Text\n").as_deref(), Some("# Text"));
        assert_eq!(of("# Text").as_deref(), Some("# Text"));
        assert_eq!(of("---\na: b\n---\n"), None);
        assert_eq!(of("---\nnever ended").as_deref(), Some("---\nnever ended"));
        assert_eq!(
            of(&"\u{e4}".repeat(BODY_LEN_MAX)).map(|text| text.len()),
            Some(BODY_LEN_MAX)
        );
    }

    #[test]
    fn cards_that_say_nothing_or_too_much_are_none() {
        let long = format!("---\nlicense: {}\n---\n", "x".repeat(TEXT_LEN_MAX + 1));
        for readme in [
            "",
            "# Text",
            "---\nlicense: [\n---\n",
            "---\nother: 1\n---\n",
            &long,
        ] {
            assert_eq!(Card::of_readme(readme.as_bytes()), None, "{readme}");
        }
    }
}
