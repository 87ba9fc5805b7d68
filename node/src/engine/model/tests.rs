//! Models as whole repos, made of recorded ones.

use std::collections::BTreeMap;

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::Model;
use crate::engine::{
    files::{Files, scan},
    samples::{Recorded, drawn, inline, off, on_disk},
    wire::{Bytes, Fault, Generate, Given, Input, Loaded, Message, Prompt, Said, Task, Weights},
};

fn bert() -> Recorded {
    serde_json::from_str(include_str!("../../../testdata/parity/bert.json")).unwrap()
}

/// The tensors of a recorded model, as they would be in a file.
fn tensors(recorded: &Recorded) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let one = |(name, shape): (&String, &Vec<usize>)| {
        let values = drawn(name, shape.iter().product());
        (name.clone(), (shape.clone(), values))
    };
    recorded.tensors.iter().map(one).collect()
}

fn file(tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>, dtype: Dtype) -> Vec<u8> {
    let bytes = |value: &f32| match dtype {
        Dtype::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    };
    let all: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(bytes).collect()))
        .collect();
    let views = all
        .iter()
        .map(|(name, shape, bytes)| (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn load(files: Vec<Given>) -> Result<(Model, Loaded), Fault> {
    Model::load(Files::open(files)?, Weights::F32, &mut |_| ())
}

/// Loads a recorded model, after what `change` does to its config and tensors.
fn changed(
    change: impl FnOnce(&mut Value, &mut BTreeMap<String, (Vec<usize>, Vec<f32>)>),
) -> Result<(Model, Loaded), Fault> {
    let recorded = bert();
    let (mut config, mut tensors) = (recorded.config.clone(), tensors(&recorded));
    change(&mut config, &mut tensors);
    load(vec![
        inline("config.json", config.to_string().as_bytes()),
        inline("model.safetensors", &file(&tensors, Dtype::F32)),
    ])
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let column = |at: usize| rows.iter().map(|row| f64::from(row[at])).sum::<f64>();
    (0..rows[0].len())
        .map(|at| (column(at) / rows.len() as f64) as f32)
        .collect()
}

#[test]
fn a_repo_of_an_encoder_makes_the_embeddings_of_the_original() {
    let recorded = bert();
    let (model, loaded) = changed(|_, _| ()).unwrap();
    assert_eq!(
        (loaded.architecture.as_str(), loaded.task),
        ("BertModel", Task::Embed)
    );
    assert_eq!(
        (loaded.context, loaded.chat, loaded.weights),
        (40, false, Weights::F32)
    );
    let parameters: usize = recorded
        .tensors
        .values()
        .map(|shape| shape.iter().product::<usize>())
        .sum();
    assert_eq!(loaded.parameters, parameters as u64);
    let (values, ids) = model.embed(&Input::Ids(recorded.ids.clone())).unwrap();
    assert_eq!(ids, recorded.ids);
    assert!(off(&values, &mean(&recorded.hidden)) <= 1e-5);
}

#[test]
fn halves_are_computed_in_full_whatever_is_asked() {
    let recorded = bert();
    for (dtype, near) in [(Dtype::F16, 3e-3), (Dtype::BF16, 3e-2)] {
        let files = vec![
            inline("config.json", recorded.config.to_string().as_bytes()),
            inline("model.safetensors", &file(&tensors(&recorded), dtype)),
        ];
        let files = Files::open(files).unwrap();
        let (model, loaded) = Model::load(files, Weights::Stored, &mut |_| ()).unwrap();
        assert_eq!(loaded.weights, Weights::F32);
        let (values, _) = model.embed(&Input::Ids(recorded.ids.clone())).unwrap();
        let off = off(&values, &mean(&recorded.hidden));
        assert!(off <= near && off > 1e-6, "{dtype:?} {off}");
    }
}

#[test]
fn bytes_that_do_not_hash_to_their_name_are_no_model() {
    let recorded = bert();
    let config = recorded.config.to_string();
    let weights = file(&tensors(&recorded), Dtype::F32);
    // In a tensor, in the header, and in the config: what is wrong is always said to be the bytes.
    for (path, at) in [
        ("model.safetensors", weights.len() - 5),
        ("model.safetensors", 20),
        ("config.json", 3),
    ] {
        let good = [
            ("config.json", config.as_bytes()),
            ("model.safetensors", &weights),
        ];
        let given = good.map(|(known, bytes)| {
            let mut bytes = bytes.to_vec();
            let mut given = inline(known, &bytes);
            if known == path {
                bytes[at] ^= 1;
                given.bytes = inline(known, &bytes).bytes;
            }
            given
        });
        match load(given.to_vec()) {
            Err(Fault::Bytes { path: found, .. }) => assert_eq!(found, path),
            other => panic!("{path} {at}: {other:?}"),
        }
    }
}

#[test]
fn files_that_cannot_be_had_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("config.json");
    std::fs::write(&at, "{}").unwrap();
    let good = on_disk("config.json", at);
    let absent = Given {
        bytes: Bytes::At(folder.path().join("nothing")),
        ..good.clone()
    };
    let longer = Given {
        size: 3,
        ..good.clone()
    };
    let garbled = Given {
        bytes: Bytes::Inline("*".into()),
        ..good.clone()
    };
    for bad in [absent, longer, garbled] {
        let found = Files::open(vec![bad]);
        assert!(matches!(found, Err(Fault::Bytes { .. })), "{found:?}");
    }
    let found = Files::open(vec![good.clone(), good.clone()]);
    assert!(matches!(found, Err(Fault::Ask(_))), "{found:?}");
    let mut files = Files::open(vec![good]).unwrap();
    assert_eq!(files.small("config.json").unwrap().unwrap(), b"{}");
    assert_eq!(
        files.small("config.json").unwrap().unwrap(),
        b"{}",
        "twice is as good"
    );
    assert_eq!(files.small("other.json").unwrap(), None);
}

#[test]
fn shards_are_one_model_and_must_agree_with_their_index() {
    let recorded = bert();
    let (mut front, mut back) = (tensors(&recorded), BTreeMap::new());
    for name in recorded.tensors.keys().filter(|name| name.contains("layer.1")) {
        back.insert(name.clone(), front.remove(name).unwrap());
    }
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let mut map = serde_json::Map::new();
    map.extend(front.keys().map(|name| (name.clone(), names[0].into())));
    map.extend(back.keys().map(|name| (name.clone(), names[1].into())));
    let repo = |map: &serde_json::Map<String, Value>, shards: usize| {
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        let mut files = vec![
            inline("config.json", recorded.config.to_string().as_bytes()),
            inline("model.safetensors.index.json", index.to_string().as_bytes()),
        ];
        let shard = [file(&front, Dtype::F32), file(&back, Dtype::F32)];
        files.extend(
            names
                .iter()
                .zip(&shard)
                .take(shards)
                .map(|(name, bytes)| inline(name, bytes)),
        );
        load(files)
    };
    let (model, _) = repo(&map, 2).unwrap();
    let (values, _) = model.embed(&Input::Ids(recorded.ids.clone())).unwrap();
    assert!(off(&values, &mean(&recorded.hidden)) <= 1e-5);

    let absent = repo(&map, 1);
    assert!(
        matches!(&absent, Err(Fault::Invalid { path, .. }) if path == "model.safetensors.index.json"),
        "{absent:?}"
    );
    let name = back.keys().next().unwrap();
    let mut moved = map.clone();
    moved[name] = names[0].into();
    let mut forgotten = map.clone();
    forgotten.remove(name);
    for map in [moved, forgotten] {
        let found = repo(&map, 2);
        assert!(
            matches!(&found, Err(Fault::Invalid { path, .. }) if names.contains(&path.as_str())),
            "{found:?}"
        );
    }
}

#[test]
fn tensors_must_be_those_that_the_config_asks_for() {
    let word = "embeddings.word_embeddings.weight";
    let shape = changed(|_, tensors| tensors.get_mut(word).unwrap().0 = vec![32, 128]);
    assert!(
        matches!(&shape, Err(Fault::Invalid { what, .. }) if what.contains(word)),
        "{shape:?}"
    );
    let absent = changed(|_, tensors| drop(tensors.remove(word)));
    assert!(
        matches!(&absent, Err(Fault::Absent { what }) if what.contains(word)),
        "{absent:?}"
    );
    let extra = "encoder.layer.2.output.dense.bias";
    let left = changed(|_, tensors| drop(tensors.insert(extra.into(), (vec![32], vec![0.0; 32]))));
    assert!(
        matches!(&left, Err(Fault::Unsupported { what, .. }) if what.contains(extra)),
        "{left:?}"
    );
    let harmless = changed(|_, tensors| {
        tensors.insert("embeddings.position_ids".into(), (vec![1, 40], vec![0.0; 40]));
        tensors.insert("cls.predictions.bias".into(), (vec![128], vec![0.0; 128]));
    });
    assert!(harmless.is_ok(), "{harmless:?}");
}

#[test]
fn an_unknown_architecture_says_what_is_known() {
    let found = changed(|config, _| config["architectures"] = json!(["GPTNeoXForCausalLM"]));
    let Err(Fault::Architecture {
        found,
        path,
        supported,
    }) = found
    else {
        panic!("{found:?}");
    };
    assert_eq!(
        (found.as_str(), path.as_str()),
        ("GPTNeoXForCausalLM", "config.json")
    );
    for known in ["LlamaForCausalLM", "BertModel", "ModernBertModel"] {
        assert!(supported.iter().any(|name| name == known), "{known}");
    }
}

#[test]
fn a_model_says_what_it_cannot_do() {
    let (mut model, _) = changed(|_, _| ()).unwrap();
    let text = model.embed(&Input::Text("a text".into()));
    assert!(
        matches!(&text, Err(Fault::Absent { what }) if what == "tokenizer.json"),
        "{text:?}"
    );
    assert!(matches!(model.tokens("a text", true), Err(Fault::Absent { .. })));
    let logits = model.logits(&[1, 2], 1);
    assert!(
        matches!(&logits, Err(Fault::Ask(what)) if what.contains("BertModel")),
        "{logits:?}"
    );
}

#[test]
fn numbers_that_are_none_are_found_by_a_scan_and_by_an_embedding() {
    let name = "encoder.layer.1.output.dense.weight";
    let recorded = bert();
    let mut spoiled = tensors(&recorded);
    spoiled.get_mut(name).unwrap().1[7] = f32::NAN;
    let files = || {
        let weights = inline("model.safetensors", &file(&spoiled, Dtype::F32));
        vec![
            inline("config.json", recorded.config.to_string().as_bytes()),
            weights,
        ]
    };
    let (model, _) = load(files()).unwrap();
    let found = model.embed(&Input::Ids(recorded.ids.clone()));
    assert!(matches!(found, Err(Fault::NotANumber(_))), "{found:?}");

    let numbers = scan(Files::open(files()).unwrap(), &mut |_| ()).unwrap();
    assert_eq!(numbers.len(), recorded.tensors.len());
    for tensor in numbers {
        let spoiled = tensor.tensor == name;
        assert_eq!(
            (tensor.nan, tensor.infinite),
            (u64::from(spoiled), 0),
            "{tensor:?}"
        );
        let values = drawn(&tensor.tensor, tensor.elements as usize);
        let most = values.iter().enumerate().filter(|(at, _)| !spoiled || *at != 7);
        let most = most.fold(0_f32, |most, (_, value)| most.max(value.abs()));
        assert_eq!(tensor.max_abs, f64::from(most), "{tensor:?}");
        assert!(!tensor.zero && !tensor.equal);
    }
}

#[test]
fn what_is_no_model_is_said() {
    let absent = load(vec![inline("README.md", b"hello")]);
    assert!(matches!(absent, Err(Fault::Absent { .. })), "{absent:?}");
    let no_config = load(vec![inline(
        "model.safetensors",
        &file(&tensors(&bert()), Dtype::F32),
    )]);
    assert!(
        matches!(&no_config, Err(Fault::Absent { what }) if what == "config.json"),
        "{no_config:?}"
    );
    let two = load(vec![inline("b.gguf", b"1"), inline("a.gguf", b"2")]);
    assert!(
        matches!(&two, Err(Fault::Ask(what)) if what.contains("a.gguf, b.gguf")),
        "{two:?}"
    );
    for (path, bytes) in [("a.gguf", &b"GGUF"[..]), ("a.gguf", b"pickle"), ("a.gguf", b"")] {
        let found = load(vec![inline(path, bytes)]);
        assert!(
            matches!(found, Err(Fault::Invalid { .. })),
            "{bytes:?}: {found:?}"
        );
    }
    let config = changed(|config, _| *config = json!(["BertModel"]));
    assert!(
        matches!(&config, Err(Fault::Invalid { path, .. }) if path == "config.json"),
        "{config:?}"
    );
}

/// The decoder that `testdata/record_decoders.py` records, with a tokenizer of its own: token 7 is written `w7`.
fn llama() -> (Value, Vec<Given>) {
    let recorded: Value = serde_json::from_str(include_str!("../../../testdata/parity/llama.json")).unwrap();
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![101, 48]),
        ("model.norm.weight".to_owned(), vec![48]),
        ("lm_head.weight".to_owned(), vec![101, 48]),
    ];
    for layer in 0..2 {
        for (name, shape) in [
            ("self_attn.q_proj", vec![48, 48]),
            ("self_attn.k_proj", vec![24, 48]),
            ("self_attn.v_proj", vec![24, 48]),
            ("self_attn.o_proj", vec![48, 48]),
            ("mlp.gate_proj", vec![80, 48]),
            ("mlp.up_proj", vec![80, 48]),
            ("mlp.down_proj", vec![48, 80]),
            ("input_layernorm", vec![48]),
            ("post_attention_layernorm", vec![48]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let drawn = |(name, shape): (String, Vec<usize>)| {
        let values = drawn(&name, shape.iter().product());
        (name, (shape, values))
    };
    let tensors = shapes.into_iter().map(drawn).collect();
    let words: serde_json::Map<String, Value> = (0..101).map(|id| (format!("w{id}"), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "w0"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    });
    let template = "{% for m in messages %}{{ m.content }} {% endfor %}w3";
    let files = vec![
        inline("config.json", recorded["config"].to_string().as_bytes()),
        inline("tokenizer.json", tokenizer.to_string().as_bytes()),
        inline("chat_template.jinja", template.as_bytes()),
        inline("model.safetensors", &file(&tensors, Dtype::F32)),
    ];
    (recorded, files)
}

#[test]
fn a_repo_of_a_decoder_expects_what_the_original_does() {
    let (recorded, files) = llama();
    let (mut model, loaded) = load(files).unwrap();
    assert_eq!(
        (loaded.architecture.as_str(), loaded.task),
        ("LlamaForCausalLM", Task::Generate)
    );
    assert_eq!((loaded.context, loaded.chat), (64, true));
    let ids: Vec<u32> = serde_json::from_value(recorded["ids"].clone()).unwrap();
    let (rows, _) = model.logits(&ids, 3).unwrap();
    let expected = recorded["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        let off = (f64::from(row.lse) - expected["lse"].as_f64().unwrap()).abs();
        assert!(off <= 1e-5, "{row:?} {expected}");
    }
    let embedding = model.embed(&Input::Ids(ids));
    assert!(
        matches!(&embedding, Err(Fault::Ask(what)) if what.contains("LlamaForCausalLM")),
        "{embedding:?}"
    );
}

#[test]
fn a_decoder_goes_on_from_text_tokens_and_chats_alike() {
    let (_, files) = llama();
    let (mut model, _) = load(files).unwrap();
    // All of the text: the tokenizer's file asks to cut it off at two, and to fill it up.
    assert_eq!(model.tokens("w7 w9 w3", true).unwrap(), [7, 9, 3]);
    let mut run = |prompt: Prompt| {
        let ask = Generate {
            prompt,
            max_tokens: 6,
            temperature: 0.0,
            top_p: None,
            seed: 0,
            stop: Vec::new(),
        };
        let (mut text, mut ids) = (String::new(), Vec::new());
        let generated = model
            .generate(&ask, &mut |said| match said {
                Said::Text { text: more, ids: new } => {
                    text.push_str(&more);
                    ids.extend(new);
                }
                other => panic!("{other:?}"),
            })
            .unwrap();
        assert_eq!((generated.prompt_tokens, generated.tokens), (3, ids.len()));
        (text, ids)
    };
    let (text, ids) = run(Prompt::Plain(Input::Text("w7 w9 w3".into())));
    let words: Vec<String> = ids.iter().map(|id| format!("w{id}")).collect();
    assert_eq!(text.trim(), words.join(" "));
    assert!(!ids.is_empty());
    assert_eq!(run(Prompt::Plain(Input::Ids(vec![7, 9, 3]))).1, ids);
    let say = |content: &str| Message {
        role: "user".into(),
        content: content.into(),
    };
    assert_eq!(run(Prompt::Chat(vec![say("w7"), say("w9")])).1, ids);
}
