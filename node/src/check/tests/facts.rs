//! Facts of repos that are made up here.

use std::{collections::BTreeMap, io, ops::Range};

use super::samples::{Gguf, array, entry, safetensors, string};
use crate::check::{
    Dtype,
    code::CodeKind,
    facts::{self, Facts, Format},
};

/// Looks at files that are here.
fn of(files: &[(&str, Vec<u8>)]) -> Facts {
    let files: BTreeMap<&str, &Vec<u8>> = files.iter().map(|(path, bytes)| (*path, bytes)).collect();
    let listed = files.iter().map(|(path, bytes)| (*path, bytes.len() as u64));
    facts::of(listed, |path, range| read(files[path], range))
}

fn read(bytes: &[u8], range: Range<u64>) -> io::Result<Vec<u8>> {
    Ok(bytes[range.start as usize..range.end as usize].to_vec())
}

fn one(name: &str) -> Vec<u8> {
    safetensors(&format!("{{{}}}", entry(name, "F16", "[2,3]", "[0,12]")), 12)
}

fn index(places: &[(&str, &str)]) -> Vec<u8> {
    let places: BTreeMap<_, _> = places.iter().copied().collect();
    serde_json::to_vec(&serde_json::json!({"metadata": {"total_size": 24}, "weight_map": places})).unwrap()
}

#[test]
fn model_in_one_file_is_described_by_its_header_and_configuration() {
    let config = br#"{"architectures":["BertModel"],"max_position_embeddings":512,"hidden_size":384,"num_hidden_layers":6,"vocab_size":30522}"#;
    let facts = of(&[
        ("config.json", config.to_vec()),
        ("model.safetensors", one("a")),
        ("copy/model.safetensors", one("a")),
        ("README.md", b"a card".to_vec()),
        (
            "tokenizer.json",
            br#"{"model":{"type":"WordPiece","vocab":{"a":0}}}"#.to_vec(),
        ),
    ]);
    assert_eq!(facts.architecture.as_deref(), Some("BertModel"));
    assert_eq!(
        (facts.context, facts.width, facts.layers, facts.vocab),
        (Some(512), Some(384), Some(6), Some(30_522))
    );
    assert_eq!(facts.formats, [Format::Safetensors]);
    // The copy is another model: it does not count twice.
    assert_eq!(facts.parameters, [(Dtype::F16, 6)].into());
    assert_eq!(facts.parameters(), 6);
    assert_eq!(facts.weights.len(), 2);
    assert_eq!(
        (facts.problems, facts.code, facts.absent),
        (vec![], vec![], vec![])
    );
}

#[test]
fn files_of_an_index_count_together_and_have_to_agree_with_it() {
    let (first, second) = ("m-1.safetensors", "m-2.safetensors");
    let files = |places: &[(&str, &str)]| {
        [
            ("model.safetensors.index.json", index(places)),
            (first, one("a")),
            (second, one("b")),
            ("other.safetensors", one("c")),
        ]
    };
    let facts = of(&files(&[("a", first), ("b", second)]));
    assert_eq!(facts.parameters(), 12);
    assert_eq!(facts.problems, []);
    for (places, words) in [
        (
            [("a", first), ("b", first)],
            r#"tensor "b" should be in m-1.safetensors, and is not"#,
        ),
        (
            [("a", second), ("b", second)],
            r#"tensor "a" should be in m-2.safetensors, and is not"#,
        ),
        (
            [("a", first), ("x", second)],
            r#"tensor "b" is in m-2.safetensors, and the index does not know it"#,
        ),
        (
            [("a", "m-3.safetensors"), ("b", second)],
            r#""m-3.safetensors" is in the index, and no file beside it"#,
        ),
        (
            [("a", "../m-1.safetensors"), ("b", second)],
            r#""../m-1.safetensors" is in the index, and no file beside it"#,
        ),
    ] {
        let facts = of(&files(&places));
        assert!(
            facts
                .problems
                .iter()
                .any(|problem| problem.what == words && problem.broken),
            "{:?}",
            facts.problems
        );
    }
}

#[test]
fn gguf_says_itself_what_it_is_and_its_parts_count_together() {
    let parts = |name: &str| {
        Gguf::new()
            .with_tensors(&[(name.as_bytes(), &[32, 2], 2, 0)])
            .bytes()
    };
    let facts = of(&[
        ("m-00001-of-00002.gguf", parts("a")),
        ("m-00002-of-00002.gguf", parts("b")),
        ("n.gguf", parts("a")),
    ]);
    assert_eq!(facts.architecture.as_deref(), Some("llama"));
    assert_eq!((facts.context, facts.vocab), (Some(2_048), Some(3)));
    assert_eq!(facts.formats, [Format::Gguf]);
    assert_eq!(facts.parameters, [(Dtype::Q4_0, 128)].into());
}

#[test]
fn what_is_wrong_and_what_can_run_code_is_said_by_file() {
    let unread = Gguf::new().with_tensors(&[(b"a", &[256], 23, 0)]).bytes();
    let facts = of(&[
        ("config.json", br#"{"auto_map":{"AutoModel":"m.M"}}"#.to_vec()),
        ("m.py", b"import os".to_vec()),
        ("model.gguf", unread),
        ("model.safetensors", b"{}".to_vec()),
        ("tokenizer.json", b"{".to_vec()),
        ("weights.dat", b"\x80\x02]q\x00.".to_vec()),
        ("notes.txt", b"\x80\x02]q\x00.".to_vec()),
        ("packed.safetensors", b"\x80\x02]q\x00.".to_vec()),
    ]);
    let problems: Vec<_> = facts
        .problems
        .iter()
        .map(|problem| (problem.path.as_str(), problem.broken))
        .collect();
    assert_eq!(
        problems,
        [
            ("model.gguf", false),
            ("model.safetensors", true),
            ("packed.safetensors", true),
            ("tokenizer.json", true)
        ]
    );
    assert!(
        facts.problems[0].what.contains("IQ4_XS"),
        "{}",
        facts.problems[0].what
    );
    let code: Vec<_> = facts
        .code
        .iter()
        .map(|code| (code.path.as_str(), code.kind))
        .collect();
    assert_eq!(
        code,
        [
            ("config.json", None),
            ("m.py", Some(CodeKind::Python)),
            ("notes.txt", Some(CodeKind::Pickle)),
            ("packed.safetensors", Some(CodeKind::Pickle)),
            ("weights.dat", Some(CodeKind::Pickle)),
        ]
    );
    assert!(facts.code[0].what.starts_with("contains code: auto_map"));
    assert!(facts.code[4].what.starts_with("can run code when it is loaded"));
}

#[test]
fn files_that_are_not_here_are_named_and_nothing_is_said_of_them() {
    let files = [
        ("model.safetensors", 1_000),
        ("pytorch_model.bin", 1_000),
        ("config.json", 10),
    ];
    let mut asked = Vec::new();
    let facts = facts::of(files, |path, _| {
        asked.push(path.to_owned());
        Err(io::ErrorKind::NotFound.into())
    });
    assert_eq!(
        facts.absent,
        ["config.json", "model.safetensors", "pytorch_model.bin"]
    );
    assert_eq!(asked, facts.absent);
    assert_eq!(facts.problems, []);
    let facts = facts::of(files, |_, _| Err(io::ErrorKind::PermissionDenied.into()));
    assert_eq!((facts.problems.len(), facts.absent.len()), (3, 0));
    assert!(facts.problems.iter().all(|problem| !problem.broken));
}

#[test]
fn little_is_read_of_large_files_and_of_many() {
    let gib = 1 << 30;
    let mut bytes = 0;
    let header = one("a");
    let facts = facts::of([("big.bin", gib), ("model.safetensors", gib)], |path, range| {
        bytes += range.end - range.start;
        assert!(range.end <= gib);
        let mut piece = vec![0; (range.end - range.start) as usize];
        if path.ends_with("safetensors") {
            piece[..header.len()].copy_from_slice(&header);
        }
        Ok(piece)
    });
    assert!(bytes < 1 << 20, "{bytes}");
    assert!(facts.problems[0].what.contains("belong to no tensor"));
    let names: Vec<String> = (0..30_000).map(|name| format!("{name}.bin")).collect();
    let mut reads = 0;
    let facts = facts::of(names.iter().map(|name| (name.as_str(), 10)), |_, _| {
        reads += 1;
        Ok(vec![0; 10])
    });
    assert_eq!((reads, facts.unlooked), (20_000, 10_000));
}

#[test]
fn source_that_gives_less_than_it_was_asked_for_is_a_problem_and_no_panic() {
    let files = [("a.gguf", 1_000), ("a.safetensors", 1_000), ("b.bin", 100_000)];
    let facts = facts::of(files, |_, _| Ok(Vec::new()));
    assert!(!facts.problems.is_empty());
    let strange = Gguf::new()
        .with_key(b"llama.block_count", 9, array(4, 0, &[]))
        .with_key(b"general.name", 8, string(b"x"));
    let facts = of(&[("a.gguf", strange.bytes())]);
    assert_eq!(facts.layers, None);
}

#[test]
fn facts_are_the_same_behind_json() {
    let facts = of(&[
        ("model.safetensors", one("a")),
        ("x.pkl", b"\x80\x02]q\x00.".to_vec()),
    ]);
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    assert!(text.contains(r#""parameters":{"F16":6}"#), "{text}");
}
