//! The card of a repo: what it says of itself in the YAML at the head of its `README.md`.
//!
//! Strangers write these: the text, its depth and what its aliases may unfold to are bounded before anything is made of it.

use std::{fs::File, io::Read, path::Path};

use protocol::{Kind, Manifest, Summary};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::check::facts::Facts;

/// The file with the card.
pub(crate) const CARD: &str = "README.md";
/// Longest card that is read, in bytes.
pub(crate) const CARD_LEN_MAX: u64 = 1024 * 1024;
/// Bytes of a card in which its description is looked for.
const DESCRIBED_LEN: usize = 16 * 1024;
/// Shortest paragraph that describes something, in characters.
const DESCRIPTION_CHARS_MIN: usize = 20;

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

/// What travels with the release of a repo: what its card says, and what its files do.
pub(crate) fn summary(kind: Kind, readme: &[u8], facts: &Facts, manifest: &Manifest) -> Summary {
    let card = of_readme(readme);
    let all = |key| texts(&card, key).map(str::to_owned).collect::<Vec<_>>();
    let mut tags = all("tags");
    tags.extend(facts.architecture.clone());
    for (key, prefix) in [
        ("datasets", "dataset"),
        ("task_categories", "task_categories"),
        ("task_ids", "task_ids"),
        ("size_categories", "size_categories"),
    ] {
        tags.extend(texts(&card, key).map(|value| format!("{prefix}:{value}")));
    }
    let license = text(&card, "license");
    let named = || text(&card, "license_name");
    let most = facts.parameters.iter().max_by_key(|(_, count)| **count);
    let mut formats: Vec<String> = facts.formats.iter().map(ToString::to_string).collect();
    formats.extend(formats_of(kind, manifest).map(str::to_owned));
    let parameters = facts.parameters();
    Summary {
        base_model: all("base_model"),
        base_relation: text(&card, "base_model_relation"),
        bytes: Some(manifest.total_len()),
        description: body(readme).as_deref().and_then(description),
        dtype: most.map(|(dtype, _)| dtype.to_string()),
        formats,
        languages: all("language"),
        library: text(&card, "library_name").or_else(|| text(&card, "sdk")),
        license: match license.as_deref() {
            Some("other") | None => named().or(license),
            Some(_) => license,
        },
        parameters: (parameters > 0).then_some(parameters),
        tags,
        task: text(&card, "pipeline_tag").or_else(|| all("task_categories").into_iter().next()),
    }
    .fit()
}

/// Formats that are told by the names of the files.
fn formats_of(kind: Kind, manifest: &Manifest) -> impl Iterator<Item = &'static str> {
    let formats: &'static [&'static str] = match kind {
        Kind::Model => &["onnx"],
        Kind::Dataset => &["parquet", "arrow", "csv", "json", "jsonl", "webdataset"],
        Kind::Space => &[],
    };
    let ends = |format: &str| {
        let ending = if format == "webdataset" { "tar" } else { format };
        let ended = |path: &str| path.rsplit_once('.').is_some_and(|(_, end)| end == ending);
        manifest.files().iter().any(|file| ended(file.path.as_str()))
    };
    formats.iter().copied().filter(move |format| ends(format))
}

/// The first paragraph of a card that says something.
fn description(body: &str) -> Option<String> {
    let body = &body[..body.floor_char_boundary(DESCRIBED_LEN)];
    let (mut inside, mut words) = (false, String::new());
    for event in Parser::new(body) {
        match event {
            Event::Start(Tag::Paragraph) => inside = true,
            // What an image shows is not told by its name.
            Event::Start(Tag::Image { .. }) => inside = false,
            Event::End(TagEnd::Image) => inside = true,
            Event::End(TagEnd::Paragraph) => {
                if words.trim().chars().count() >= DESCRIPTION_CHARS_MIN {
                    return Some(words);
                }
                inside = false;
                words.clear();
            }
            Event::Text(text) | Event::Code(text) if inside => words.push_str(&text),
            Event::SoftBreak | Event::HardBreak if inside => words.push(' '),
            _ => {}
        }
    }
    None
}

/// What the card of a folder should say, and does not: by it repos are found. A key without a value, such as `base_model: []`, says that there is none.
pub(crate) fn unsaid_in(kind: Kind, folder: &Path) -> Vec<String> {
    let mut readme = Vec::new();
    // Who cannot read it here cannot publish it either, and is told so there.
    let read =
        File::open(folder.join(CARD)).and_then(|file| file.take(CARD_LEN_MAX).read_to_end(&mut readme));
    let card = read.map(|_| of_readme(&readme)).unwrap_or_default();
    let should: &[&str] = match kind {
        Kind::Model => &["license", "pipeline_tag", "base_model"],
        Kind::Dataset => &["license", "task_categories"],
        Kind::Space => &["license"],
    };
    let unsaid = should.iter().filter(|key| !card.contains_key(**key));
    unsaid.map(|key| (*key).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Dtype, facts::Format};
    use protocol::{FileEntry, Hash, RepoPath};

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| FileEntry {
            path: RepoPath::new(path).unwrap(),
            size: 10,
            blake3: Hash::of(path.as_bytes()),
            sha256: None,
            sha1: None,
        };
        Manifest::new(paths.iter().map(file).collect()).unwrap()
    }

    #[test]
    fn summary_of_a_model_is_of_its_card_and_its_files() {
        let readme = b"---\nlicense: other\nlicense_name: gemma\nlanguage: [en]\ntags: [chat, '\\e[2J']\nbase_model: a/b\nbase_model_relation: quantized\n\
            pipeline_tag: text-generation\nlibrary_name: transformers\ndatasets: c4\n---\n# Title\n\n![logo](a.png)\n\n<p>html</p>\n\n\
            This **model** answers [questions](https://example.org)\nand more.\n\nAnother paragraph.\n";
        let facts = Facts {
            formats: vec![Format::Safetensors],
            architecture: Some("LlamaForCausalLM".to_owned()),
            parameters: [(Dtype::F32, 5), (Dtype::BF16, 1_000)].into(),
            ..Facts::default()
        };
        let made = summary(
            Kind::Model,
            readme,
            &facts,
            &manifest(&["a.onnx", "m.safetensors"]),
        );
        assert_eq!(made.license.as_deref(), Some("gemma"));
        assert_eq!(made.task.as_deref(), Some("text-generation"));
        assert_eq!(
            (made.library.as_deref(), made.dtype.as_deref()),
            (Some("transformers"), Some("BF16"))
        );
        assert_eq!((made.parameters, made.bytes), (Some(1_005), Some(20)));
        assert_eq!(made.formats, ["safetensors", "onnx"]);
        assert_eq!(
            (made.base_model, made.base_relation.as_deref()),
            (vec!["a/b".to_owned()], Some("quantized"))
        );
        assert_eq!(
            made.description.as_deref(),
            Some("This model answers questions and more.")
        );
        assert!(made.tags.contains(&"chat".to_owned()) && made.tags.contains(&"dataset:c4".to_owned()));
        assert!(made.tags.contains(&"LlamaForCausalLM".to_owned()));
        assert!(
            made.tags.iter().all(|tag| !tag.contains('\u{1b}')),
            "{:?}",
            made.tags
        );
    }

    #[test]
    fn summary_of_anything_fits() {
        let long = format!(
            "---\ntags: [{}]\nlanguage: [{}]\n---\n{}",
            (0..500)
                .map(|tag| format!("tag-{tag}"))
                .collect::<Vec<_>>()
                .join(","),
            (0..500)
                .map(|tag| format!("l{tag}"))
                .collect::<Vec<_>>()
                .join(","),
            "many words ".repeat(1_000),
        );
        for readme in [
            long.as_str(),
            "",
            "---\n: [\n---",
            "\0\u{202e}",
            "---\nlicense: 5\nbase_model: {a: b}\n---\n",
        ] {
            let made = summary(
                Kind::Dataset,
                readme.as_bytes(),
                &Facts::default(),
                &manifest(&["a.parquet"]),
            );
            assert_eq!(made.formats, ["parquet"]);
            made.encode().unwrap();
        }
    }

    #[test]
    fn what_a_card_does_not_say_is_told_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let model = |readme: &str| {
            std::fs::write(folder.path().join(CARD), readme).unwrap();
            unsaid_in(Kind::Model, folder.path())
        };
        assert_eq!(model("# Text"), ["license", "pipeline_tag", "base_model"]);
        assert_eq!(
            model("---\nlicense: mit\nbase_model: []\n---\n"),
            ["pipeline_tag"]
        );
        assert_eq!(unsaid_in(Kind::Dataset, folder.path()), ["task_categories"]);
        assert_eq!(unsaid_in(Kind::Space, &folder.path().join("none")), ["license"]);
    }

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
