use protocol::{FileEntry, Hash, RepoPath};

use super::*;
use crate::card::HEAD_LEN_MAX;

fn card(yaml: &str) -> Object {
    of_readme(format!("---\n{yaml}\n---\n# Title\n").as_bytes())
}

fn manifest(paths: &[&str]) -> Manifest {
    let file = |path: &&str| FileEntry {
        path: RepoPath::new(path).unwrap(),
        size: 1,
        blake3: Hash::of(b"x"),
        sha256: None,
        sha1: None,
    };
    Manifest::new(paths.iter().map(file).collect()).unwrap()
}

#[test]
fn a_card_is_read_with_keys_of_any_kind_and_words_as_they_stand() {
    let card = card("license: mit\nlanguage: [no, en]\n1: one\ntrue: yes\ndate: 2024-01-02\nversion: 1.5");
    assert_eq!(card["license"], "mit");
    assert_eq!(card["language"], json!(["no", "en"]));
    assert_eq!(card["1"], "one");
    assert_eq!(card["true"], "yes");
    assert_eq!(card["date"], "2024-01-02");
    assert_eq!(card["version"], 1.5);
}

#[test]
fn what_is_no_card_says_nothing() {
    let texts = [
        "",
        "---",
        "---\n",
        "---\nlicense: mit",
        "# Title\n---\nlicense: mit\n---\n",
        "--- x\nlicense: mit\n---\n",
        "---\n- a list\n---\n",
        "---\nlicense: [\n---\n",
        "---\n---\n",
        "---\nlicense: mit\nlicense: [a: b\n---\n",
    ];
    for text in texts {
        assert!(of_readme(text.as_bytes()).is_empty(), "{text:?}");
    }
    assert!(of_readme(b"---\nlicense: \xff\n---\n").contains_key("license"));
    assert_eq!(
        of_readme(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n")["license"],
        "mit"
    );
}

#[test]
fn bombs_of_aliases_depth_and_length_are_refused() {
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (next, last) in ["b", "c", "d", "e", "f", "g"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f"])
    {
        let nine = vec![format!("*{last}"); 9].join(",");
        laughs.push_str(&format!("{next}: &{next} [{nine}]\n"));
    }
    assert!(card(&laughs).is_empty());
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(card(&deep).is_empty());
    let long = format!("a: {}", "x".repeat(HEAD_LEN_MAX));
    assert!(card(&long).is_empty());
    let repeated = format!("a: &a {}\nb: [{}]", "x".repeat(1_000), vec!["*a"; 500].join(","));
    assert!(card(&repeated).is_empty());
    assert_eq!(card("a: &a x\nb: *a")["b"], "x");
}

#[test]
fn labels_follow_from_the_card_the_configuration_and_the_files() {
    let card = card(
        "license: mit\nlanguage: en\ntags: [one, two, one, 3]\ndatasets: [d/x]\nbase_model: b/y\n\
         pipeline_tag: text-generation\nlibrary_name: transformers",
    );
    let config = of_config(br#"{"model_type":"llama","architectures":["L"],"vocab_size":3,"auto_map":{}}"#);
    assert_eq!(config.len(), 2);
    let labels = Labels::new(
        Kind::Model,
        &card,
        &config,
        &manifest(&["a/m.safetensors", "README.md"]),
    );
    let tags = [
        "transformers",
        "safetensors",
        "llama",
        "one",
        "two",
        "en",
        "dataset:d/x",
        "base_model:b/y",
        "license:mit",
        "text-generation",
    ];
    assert_eq!(labels.tags, tags);
    assert_eq!(labels.pipeline_tag.as_deref(), Some("text-generation"));
    let data = Labels::new(Kind::Dataset, &card, &Object::new(), &manifest(&["a.parquet"]));
    assert!(data.tags.contains(&"language:en".to_owned()) && !data.tags.contains(&"en".to_owned()));
}

#[test]
fn a_card_of_wrong_types_makes_no_label() {
    let card = card("license: 5\nlanguage: {a: b}\ntags: true\npipeline_tag: [x]\nlibrary_name: ''");
    let labels = Labels::new(Kind::Model, &card, &Object::new(), &manifest(&["a"]));
    assert_eq!(labels, Labels::default());
    let many: Vec<String> = (0..1_000).map(|tag| format!("t{tag}")).collect();
    let card = of_readme(format!("---\ntags: [{}]\n---\n", many.join(",")).as_bytes());
    let labels = Labels::new(Kind::Model, &card, &Object::new(), &manifest(&["a"]));
    assert_eq!(labels.tags.len(), TAGS_MAX);
}

#[test]
fn labels_of_what_travels_with_a_release_have_the_names_that_the_card_gives_them() {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let summary = Summary {
        base_model: texts(&["b/y"]),
        formats: texts(&["gguf"]),
        languages: texts(&["en"]),
        library: Some("transformers".to_owned()),
        license: Some("mit".to_owned()),
        tags: texts(&["one", "dataset:d/x"]),
        task: Some("text-generation".to_owned()),
        ..Summary::default()
    };
    let model = Labels::of_summary(Kind::Model, &summary);
    let tags = [
        "transformers",
        "gguf",
        "one",
        "dataset:d/x",
        "en",
        "base_model:b/y",
        "license:mit",
        "text-generation",
    ];
    assert_eq!(model.tags, tags);
    assert_eq!(
        (model.pipeline_tag.as_deref(), model.library_name.as_deref()),
        (Some("text-generation"), Some("transformers"))
    );
    let space = Labels::of_summary(Kind::Space, &summary);
    assert_eq!(
        (space.tags[4].as_str(), space.library_name),
        ("language:en", None)
    );
    assert_eq!(
        Labels::of_summary(Kind::Model, &Summary::default()),
        Labels::default()
    );
}
