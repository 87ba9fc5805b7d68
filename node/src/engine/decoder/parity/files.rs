//! The same models in GGUF files on disk: as long and bit by bit as gguf-py writes them, read as any file of a stranger is.

use std::fs;

use serde_json::Value;
use sha1::{Digest as _, Sha1};

use super::{Numbers, TOLERANCE, compare, ids, numbers_in_gguf, recorded, settings};
use crate::{
    check::gguf,
    engine::{
        files::Files,
        model::Model,
        samples::on_disk,
        wire::{Task, Weights},
    },
};

/// Where tensors begin.
const ALIGNMENT: usize = 32;

/// Those of which there is a file.
fn in_files() -> impl Iterator<Item = Value> {
    recorded().filter(|recorded| recorded["gguf"].is_object())
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A value as its type is written.
fn value(kind: u64, value: &Value) -> Vec<u8> {
    match kind {
        4 => (value.as_u64().unwrap() as u32).to_le_bytes().to_vec(),
        6 => (value.as_f64().unwrap() as f32).to_le_bytes().to_vec(),
        8 => string(value.as_str().unwrap()),
        other => panic!("type {other}"),
    }
}

/// Writes a file: keys and tensors in the order that is recorded.
fn written(recorded: &Value, numbers: &Numbers) -> Vec<u8> {
    let gguf = &recorded["gguf"];
    let keys = gguf["keys"].as_array().unwrap();
    let tensors = gguf["tensors"].as_array().unwrap();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((keys.len() as u64).to_le_bytes());
    for key in keys {
        let (key, kind) = (key[0].as_str().unwrap(), key[1].as_u64().unwrap());
        file.extend(string(key));
        file.extend((kind as u32).to_le_bytes());
        file.extend(value(kind, &gguf["metadata"][key]));
    }
    let mut data: Vec<u8> = Vec::new();
    for name in tensors {
        let name = name.as_str().unwrap();
        let (shape, values) = &numbers[name];
        file.extend(string(name));
        file.extend((shape.len() as u32).to_le_bytes());
        for len in shape.iter().rev() {
            file.extend((*len as u64).to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend(data);
    file
}

/// Puts a file on disk, loads it as a model, and returns how far its logits are from the recorded ones.
fn off(recorded: &Value, file: &[u8], weights: Weights) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, file).unwrap();
    let files = Files::open(vec![on_disk("model.gguf", path)]).unwrap();
    let (mut model, loaded) = Model::load(files, weights, &mut |_| ()).unwrap();
    let architecture = recorded["gguf"]["metadata"]["general.architecture"]
        .as_str()
        .unwrap();
    assert_eq!(
        (loaded.architecture.as_str(), loaded.task),
        (architecture, Task::Generate)
    );
    let vocabulary = recorded["config"]["vocab_size"].as_u64().unwrap() as usize;
    let (rows, _) = model.logits(&ids(recorded), vocabulary).unwrap();
    let logits = rows.into_iter().map(|row| {
        let mut logits = vec![f32::NAN; vocabulary];
        row.top
            .iter()
            .for_each(|(token, logit)| logits[*token as usize] = *logit);
        logits
    });
    compare(recorded, &logits.collect::<Vec<_>>())
}

#[test]
fn files_are_bit_by_bit_those_that_gguf_py_writes() {
    for recorded in in_files() {
        let name = recorded["name"].as_str().unwrap();
        let file = written(
            &recorded,
            &numbers_in_gguf(&recorded, &settings(&recorded, "config")),
        );
        let sha1 = data_encoding::HEXLOWER.encode(&Sha1::digest(&file));
        assert_eq!(sha1, recorded["gguf"]["sha1"].as_str().unwrap(), "{name}");
        let header = gguf::read(file.as_slice(), file.len() as u64).unwrap();
        let found = header.tensors.iter().map(|tensor| tensor.name.as_str());
        let tensors = recorded["gguf"]["tensors"].as_array().unwrap().iter();
        assert!(found.eq(tensors.map(|name| name.as_str().unwrap())), "{name}");
    }
}

#[test]
fn models_in_files_compute_what_transformers_does() {
    let mut seen = Vec::new();
    for recorded in in_files() {
        let name = recorded["name"].as_str().unwrap().to_owned();
        let file = written(
            &recorded,
            &numbers_in_gguf(&recorded, &settings(&recorded, "config")),
        );
        for weights in [Weights::F32, Weights::Stored] {
            let worst = off(&recorded, &file, weights);
            println!("{name}, {weights:?}: {worst:.1e}");
            assert!(worst <= TOLERANCE, "{name}, {weights:?}: {worst}");
        }
        seen.push(name);
    }
    for name in ["llama", "llama-llama3", "qwen2", "qwen3", "gemma3", "phi3"] {
        assert!(seen.iter().any(|seen| seen == name), "{name}");
    }
}

/// What each architecture's tensors are written like matters: laid out as another's, the model is another.
#[test]
fn tensors_laid_out_otherwise_are_seen_in_the_logits() {
    for recorded in in_files() {
        let name = recorded["name"].as_str().unwrap();
        let mut numbers = numbers_in_gguf(&recorded, &settings(&recorded, "config"));
        let rows = |numbers: &mut Numbers, tensor: &str, from: &dyn Fn(usize) -> usize| {
            let (shape, values) = numbers.get_mut(tensor).unwrap();
            let width = shape[1];
            *values = (0..shape[0])
                .flat_map(|row| values[from(row) * width..][..width].to_vec())
                .collect();
        };
        match name {
            // Rows of q and k in halves, and not in pairs.
            "llama" | "llama-llama3" => {
                let dim = if name == "llama" { 12 } else { 16 };
                rows(&mut numbers, "blk.0.attn_q.weight", &|row| {
                    let (head, at) = (row / dim, row % dim);
                    head * dim + at % (dim / 2) * 2 + at / (dim / 2)
                });
            }
            // In pairs, as only llama has them.
            "qwen2" | "qwen3" => {
                let dim = if name == "qwen2" { 12 } else { 16 };
                rows(&mut numbers, "blk.0.attn_q.weight", &|row| {
                    let (head, at) = (row / dim, row % dim);
                    head * dim + at % 2 * (dim / 2) + at / 2
                });
            }
            // Without the 1.
            "gemma3" => {
                let (_, values) = numbers.get_mut("blk.0.attn_norm.weight").unwrap();
                values.iter_mut().for_each(|value| *value -= 1.0);
            }
            // Gate and up the other way round.
            "phi3" => rows(&mut numbers, "blk.0.ffn_up.weight", &|row| (row + 80) % 160),
            other => panic!("{other}"),
        }
        let worst = off(&recorded, &written(&recorded, &numbers), Weights::F32);
        assert!(worst > 100.0 * TOLERANCE, "{name}: {worst}");
    }
}
