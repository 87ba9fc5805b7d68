//! Tokens against those of the originals, recorded by `testdata/record_tokens.py`.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Beside, Stream, Tokens};
use crate::{
    check::gguf::{self, Header},
    engine::wire::Fault,
};

/// A small vocabulary, and which tokens texts are however they are split.
#[derive(serde::Deserialize)]
struct Recorded {
    tokens: Vec<String>,
    special: Vec<String>,
    merges: Vec<String>,
    texts: Vec<String>,
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../../../testdata/tokens.json")).unwrap()
}

/// A GGUF header that names the recorded vocabulary.
fn header(recorded: &Recorded, pre: &str) -> Header {
    let types = recorded
        .tokens
        .iter()
        .map(|token| match recorded.special.contains(token) {
            true => 3,
            false => 1,
        });
    let id = |token: &str| {
        let at = recorded.tokens.iter().position(|known| known == token).unwrap();
        gguf::Value::Unsigned(at as u64)
    };
    let metadata = [
        ("model", gguf::Value::Text("gpt2".into())),
        ("pre", gguf::Value::Text(pre.into())),
        ("tokens", gguf::Value::Texts(recorded.tokens.clone())),
        ("merges", gguf::Value::Texts(recorded.merges.clone())),
        ("token_type", gguf::Value::Integers(types.collect())),
        ("bos_token_id", id("<|im_start|>")),
        ("eos_token_id", id("<|endoftext|>")),
    ];
    Header {
        version: 3,
        metadata: metadata
            .into_iter()
            .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
            .collect(),
        tensors: Vec::new(),
        data: 0,
    }
}

fn without(header: &Header, key: &str) -> Header {
    let mut header = header.clone();
    header.metadata.remove(&format!("tokenizer.ggml.{key}"));
    header
}

fn with(header: &Header, key: &str, value: gguf::Value) -> Header {
    let mut header = header.clone();
    header.metadata.insert(format!("tokenizer.ggml.{key}"), value);
    header
}

#[test]
fn every_way_to_split_that_is_listed_gives_the_tokens_of_the_original() {
    let recorded = recorded();
    let known: Vec<&str> = super::gguf::PRES.iter().map(|pre| pre.name).collect();
    assert_eq!(known.len(), recorded.ids.len());
    for (pre, ids) in &recorded.ids {
        let tokens = Tokens::from_gguf("m.gguf", &header(&recorded, pre)).unwrap();
        for (text, ids) in recorded.texts.iter().zip(ids) {
            assert_eq!(&tokens.encode(text, false).unwrap(), ids, "{pre} {text:?}");
            // All bytes come back, but for what was composed.
            if pre != "qwen2" {
                let specials = recorded
                    .special
                    .iter()
                    .fold(text.clone(), |text, special| text.replace(special, ""));
                assert_eq!(tokens.decode(ids).unwrap(), specials, "{pre}");
            }
        }
    }
}

#[test]
fn a_way_to_split_that_is_not_known_is_refused_and_not_guessed() {
    let recorded = recorded();
    let good = header(&recorded, "smollm");
    for bad in [
        header(&recorded, "default"),
        header(&recorded, "deepseek-llm"),
        without(&good, "pre"),
        without(&good, "model"),
        with(&good, "model", gguf::Value::Text("llama".into())),
    ] {
        let found = Tokens::from_gguf("m.gguf", &bad);
        assert!(matches!(&found, Err(Fault::Unsupported { .. })), "{found:?}");
    }
}

#[test]
fn a_vocabulary_that_does_not_hold_together_is_invalid() {
    let recorded = recorded();
    let good = header(&recorded, "smollm");
    let mut twice = recorded.tokens.clone();
    twice.push(twice[40].clone());
    let merges = |merge: &str| gguf::Value::Texts(vec![merge.into()]);
    for bad in [
        without(&good, "tokens"),
        without(&good, "merges"),
        with(&good, "tokens", gguf::Value::Texts(twice)),
        with(&good, "merges", merges("nothing like")),
        with(&good, "merges", merges("ab")),
        with(
            &without(&good, "bos_token_id"),
            "add_bos_token",
            gguf::Value::Bool(true),
        ),
    ] {
        let found = Tokens::from_gguf("m.gguf", &bad);
        assert!(matches!(&found, Err(Fault::Invalid { .. })), "{found:?}");
    }
}

#[test]
fn what_stands_around_a_text_is_what_the_file_says() {
    let recorded = recorded();
    let id = |token: &str| recorded.tokens.iter().position(|known| known == token).unwrap() as u32;
    let (bos, eos) = (id("<|im_start|>"), id("<|endoftext|>"));
    let around = |header: &Header| {
        let tokens = Tokens::from_gguf("m.gguf", header).unwrap();
        assert_eq!(tokens.encode("a", false).unwrap(), [id("a")]);
        tokens.encode("a", true).unwrap()
    };
    let (smol, llama) = (header(&recorded, "smollm"), header(&recorded, "llama-bpe"));
    assert_eq!(around(&smol), [id("a")]);
    assert_eq!(around(&llama), [bos, id("a")]);
    assert_eq!(
        around(&with(&llama, "add_bos_token", gguf::Value::Bool(false))),
        [id("a")]
    );
    let both = with(
        &with(&smol, "add_bos_token", gguf::Value::Bool(true)),
        "add_eos_token",
        gguf::Value::Bool(true),
    );
    assert_eq!(around(&both), [bos, id("a"), eos]);
}

#[test]
fn a_text_ends_where_any_of_the_files_says_and_where_a_turn_does() {
    let recorded = recorded();
    let id = |token: &str| recorded.tokens.iter().position(|known| known == token).unwrap() as u32;
    let tokens = Tokens::from_gguf("m.gguf", &header(&recorded, "smollm")).unwrap();
    assert_eq!(
        tokens.eos().iter().copied().collect::<Vec<_>>(),
        [id("<|endoftext|>"), id("<|im_end|>")]
    );
    assert_eq!(tokens.specials()["eos_token"], "<|endoftext|>");
    assert_eq!(tokens.specials()["bos_token"], "<|im_start|>");
    // As text it ends nothing.
    let mut plain = header(&recorded, "smollm");
    plain.metadata.remove("tokenizer.ggml.token_type");
    let tokens = Tokens::from_gguf("m.gguf", &plain).unwrap();
    assert_eq!(
        tokens.eos().iter().copied().collect::<Vec<_>>(),
        [id("<|endoftext|>")]
    );

    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": null,
        "added_tokens": [
            {"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
            {"id": 4, "content": "<|im_end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2}, "unk_token": "a"},
    });
    let beside = Beside {
        tokenizer_config: json!({"eos_token": {"content": "b"}, "bos_token": "<s>"}),
        generation_config: json!({"eos_token_id": [2, 9]}),
        config: json!({"eos_token_id": 7}),
    };
    let tokens = Tokens::from_json("tokenizer.json", file.to_string().as_bytes(), &beside).unwrap();
    assert_eq!(tokens.eos().iter().copied().collect::<Vec<_>>(), [1, 2, 4, 7, 9]);
    assert_eq!(tokens.specials()["bos_token"], "<s>");
    assert_eq!(tokens.specials()["eos_token"], "b");
}

#[test]
fn what_is_no_tokenizer_is_said() {
    for bytes in [
        &b"{}"[..],
        b"",
        b"[1]",
        br#"{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#,
    ] {
        let found = Tokens::from_json("tokenizer.json", bytes, &Beside::default());
        assert!(
            matches!(&found, Err(Fault::Invalid { path, .. }) if path == "tokenizer.json"),
            "{found:?}"
        );
    }
    let tokens = Tokens::from_gguf("m.gguf", &header(&recorded(), "smollm")).unwrap();
    let long = "a".repeat(super::TEXT_LEN_MAX + 1);
    assert!(matches!(tokens.encode(&long, false), Err(Fault::Ask(_))));
}

#[test]
fn a_stream_gives_whole_characters_and_loses_none() {
    let recorded = recorded();
    let tokens = Tokens::from_gguf("m.gguf", &header(&recorded, "smollm")).unwrap();
    let mut split = 0;
    for text in &recorded.texts {
        let (mut stream, mut all) = (Stream::default(), String::new());
        let ids = tokens.encode(text, false).unwrap();
        for id in &ids {
            let piece = stream.push(&tokens, *id).unwrap();
            assert!(
                !piece.contains(char::REPLACEMENT_CHARACTER),
                "{piece:?} of {text:?}"
            );
            split += usize::from(piece.is_empty());
            all.push_str(&piece);
        }
        all.push_str(&stream.finish(&tokens).unwrap());
        assert_eq!(all, tokens.decode(&ids).unwrap());
    }
    assert!(
        split > 10,
        "characters of several tokens were among them: {split}"
    );
}

#[test]
fn bytes_that_never_become_a_character_do_not_hold_a_stream_up() {
    let recorded = recorded();
    let tokens = Tokens::from_gguf("m.gguf", &header(&recorded, "smollm")).unwrap();
    // The first byte of a character of four, over and over.
    let id = recorded.tokens.iter().position(|token| token == "ð").unwrap() as u32;
    let mut stream = Stream::default();
    let pieces: Vec<String> = (0..100).map(|_| stream.push(&tokens, id).unwrap()).collect();
    assert!(pieces.iter().take(8).any(|piece| !piece.is_empty()), "{pieces:?}");
    assert!(stream.ids.len() <= 16, "{}", stream.ids.len());
    let all: String = pieces.concat() + &stream.finish(&tokens).unwrap();
    assert_eq!(all.chars().count(), 100);
    // Cut off within a character: what there is comes as it is.
    let mut stream = Stream::default();
    assert_eq!(stream.push(&tokens, id).unwrap(), "");
    assert_eq!(stream.finish(&tokens).unwrap(), "\u{fffd}");
    assert_eq!(Stream::default().finish(&tokens).unwrap(), "");
}
