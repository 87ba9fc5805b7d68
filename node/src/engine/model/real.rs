//! Real models, where a folder with them is named: all-MiniLM-L6-v2 (`SHOAL_MINILM_DIR`) and SmolLM2 (`SHOAL_SMOLLM2_DIR`).

use std::{fs, path::Path};

use serde_json::Value;

use super::Model;
use crate::engine::{
    files::{Files, scan},
    samples::{folder, inline, off, on_disk},
    wire::{Fault, Generate, Given, Input, Loaded, Prompt, Said, Task, Weights},
};

/// Most that an embedding may be off what torch computes; 2e-7 was measured.
const OFF_MAX: f32 = 1e-5;

const MINILM: [&str; 8] = [
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

fn minilm(folder: &Path) -> Vec<Given> {
    MINILM
        .iter()
        .map(|path| on_disk(path, folder.join(path)))
        .collect()
}

fn smollm2(folder: &Path) -> Given {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = files
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "gguf"))
        .unwrap();
    on_disk("model.gguf", path)
}

fn load(files: Vec<Given>) -> Result<(Model, Loaded), Fault> {
    Model::load(Files::open(files).unwrap(), Weights::F32, &mut |_| ())
}

/// The recorded texts with their tokens and embeddings.
fn recorded() -> Vec<(String, Vec<u32>, Vec<f32>)> {
    let recorded: Value = serde_json::from_str(include_str!("../../../testdata/minilm.json")).unwrap();
    let row = |row: &Value| {
        let bytes = data_encoding::BASE64
            .decode(row["values"].as_str().unwrap().as_bytes())
            .unwrap();
        let values = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        let ids = serde_json::from_value(row["ids"].clone()).unwrap();
        (row["text"].as_str().unwrap().to_owned(), ids, values.collect())
    };
    recorded["rows"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn minilm_embeds_as_torch_does() {
    let Some(folder) = folder("SHOAL_MINILM_DIR") else {
        return;
    };
    let (model, loaded) = load(minilm(&folder)).unwrap();
    assert_eq!(
        (loaded.architecture.as_str(), loaded.task, loaded.context),
        ("BertModel", Task::Embed, 256)
    );
    assert_eq!(loaded.parameters, 22_713_216);
    for (text, expected, values) in recorded() {
        let (found, ids) = model.embed(&Input::Text(text.clone())).unwrap();
        assert_eq!(ids, expected, "{text}");
        let off = off(&found, &values);
        assert!(off <= OFF_MAX, "{text:?} is off by {off}");
        assert_eq!(
            model.embed(&Input::Ids(ids)).unwrap().0,
            found,
            "the same again, to the last bit"
        );
    }
    let long = "word ".repeat(300);
    let found = model.embed(&Input::Text(long));
    assert!(
        matches!(&found, Err(Fault::Ask(what)) if what.contains("256")),
        "{found:?}"
    );
}

#[test]
fn minilm_stored_in_halves_computes_numbers() {
    let Some(folder) = folder("SHOAL_MINILM_DIR") else {
        return;
    };
    let whole = fs::read(folder.join("model.safetensors")).unwrap();
    let whole = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let halves: Vec<(String, Vec<usize>, Vec<u8>)> = whole
        .iter()
        .filter(|(_, tensor)| tensor.dtype() == safetensors::Dtype::F32)
        .map(|(name, tensor)| {
            let floats = tensor
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes));
            let halves = floats
                .flat_map(|float| half::f16::from_f32(float).to_le_bytes())
                .collect();
            (name.to_owned(), tensor.shape().to_vec(), halves)
        })
        .collect();
    let views = halves.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F16, shape.clone(), bytes);
        (name, view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    let mut files = minilm(&folder);
    files.retain(|file| file.path != "model.safetensors");
    files.push(inline("model.safetensors", &bytes));
    let (model, loaded) = load(files).unwrap();
    assert_eq!(loaded.weights, Weights::F32);
    for (text, _, values) in recorded() {
        let off = off(&model.embed(&Input::Text(text.clone())).unwrap().0, &values);
        assert!(off <= 2e-3, "{text:?} is off by {off}");
    }
}

#[test]
fn smollm2_takes_texts_apart_as_its_own_tokenizer_does() {
    let Some(folder) = folder("SHOAL_SMOLLM2_DIR") else {
        return;
    };
    let (mut model, loaded) = load(vec![smollm2(&folder)]).unwrap();
    assert_eq!(
        (loaded.architecture.as_str(), loaded.task),
        ("llama", Task::Generate)
    );
    assert_eq!(
        (loaded.context, loaded.chat, loaded.parameters),
        (8192, true, 134_515_008)
    );
    let recorded: Value =
        serde_json::from_str(include_str!("../../../testdata/smollm2_tokens.json")).unwrap();
    let texts = recorded["texts"].as_array().unwrap();
    for (text, ids) in texts.iter().zip(recorded["ids"].as_array().unwrap()) {
        let ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
        assert_eq!(model.tokens(text.as_str().unwrap(), true).unwrap(), ids, "{text}");
    }

    // And goes on with them as torch does, up to where the text ends.
    let recorded: Value = serde_json::from_str(include_str!("../../../testdata/smollm2.json")).unwrap();
    let prompt = &recorded["prompts"][0];
    let ask = Generate {
        prompt: Prompt::Plain(Input::Text(prompt["text"].as_str().unwrap().into())),
        max_tokens: 32,
        temperature: 0.0,
        top_p: None,
        seed: 0,
        stop: Vec::new(),
    };
    let (mut text, mut ids) = (String::new(), Vec::new());
    let generated = model.generate(&ask, &mut |said| {
        if let Said::Text { text: more, ids: new } = said {
            text.push_str(&more);
            ids.extend(new);
        }
    });
    let says = prompt["says"].as_str().unwrap();
    assert_eq!(text, says.split("<|im_end|>").next().unwrap());
    assert_eq!(generated.unwrap().tokens, ids.len());
}

#[test]
fn every_number_of_real_models_is_looked_at() {
    let (Some(minilm), Some(smollm2_in)) = (folder("SHOAL_MINILM_DIR"), folder("SHOAL_SMOLLM2_DIR")) else {
        return;
    };
    let files = vec![
        on_disk("model.safetensors", minilm.join("model.safetensors")),
        smollm2(&smollm2_in),
    ];
    let size: u64 = files.iter().map(|file| file.size).sum();
    let mut read = 0;
    let numbers = scan(Files::open(files).unwrap(), &mut |said| match said {
        Said::Read { bytes } => {
            assert!(bytes > read && bytes <= size);
            read = bytes;
        }
        other => panic!("{other:?}"),
    });
    assert!(read > size / 2, "{read} of {size}");
    let numbers = numbers.unwrap();
    let of = |path: &str| numbers.iter().filter(|numbers| numbers.path == path).count();
    assert_eq!((of("model.safetensors"), of("model.gguf")), (104, 272));
    for tensor in &numbers {
        assert_eq!((tensor.nan, tensor.infinite), (0, 0), "{tensor:?}");
        assert_eq!(tensor.zero, tensor.max_abs == 0.0, "{tensor:?}");
    }
    // A bias that training left where it began: all zeros are no proof of damage.
    let zero = numbers.iter().filter(|numbers| numbers.zero);
    assert_eq!(
        zero.map(|numbers| numbers.tensor.as_str()).collect::<Vec<_>>(),
        ["pooler.dense.bias"]
    );
}
