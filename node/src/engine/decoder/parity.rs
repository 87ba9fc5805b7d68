//! Tiny models whose logits transformers computed too (`testdata/record_decoders.py`): one of each architecture and form, and of each
//! way to vary one. Weights are made from the tensors' names, on both sides.

mod files;

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::{
    super::{
        config::{Form, SUPPORTED, Settings},
        weights::{Tensors, Weight},
        wire::Fault,
    },
    Decoder,
};

/// Largest difference of a logit from torch's. The largest seen is 4e-7; a rope base that is lost moves them by 1e-3 and more.
const TOLERANCE: f64 = 3e-6;

const RECORDED: &[&str] = &[
    include_str!("../../../testdata/parity/llama.json"),
    include_str!("../../../testdata/parity/llama-llama3.json"),
    include_str!("../../../testdata/parity/llama-biases.json"),
    include_str!("../../../testdata/parity/mistral.json"),
    include_str!("../../../testdata/parity/qwen2.json"),
    include_str!("../../../testdata/parity/qwen2-window.json"),
    include_str!("../../../testdata/parity/qwen3.json"),
    include_str!("../../../testdata/parity/gemma3.json"),
    include_str!("../../../testdata/parity/gemma3-pattern.json"),
    include_str!("../../../testdata/parity/phi3.json"),
];

fn recorded() -> impl Iterator<Item = Value> {
    RECORDED
        .iter()
        .map(|recorded| serde_json::from_str(recorded).unwrap())
}

fn one(name: &str) -> Value {
    recorded().find(|recorded| recorded["name"] == name).unwrap()
}

fn ids(recorded: &Value) -> Vec<u32> {
    serde_json::from_value(recorded["ids"].clone()).unwrap()
}

fn settings(recorded: &Value, key: &str) -> Settings {
    Settings::from_config(recorded[key].as_object().unwrap(), None, "config.json").unwrap()
}

/// The numbers of a tensor, as the script makes them.
fn numbers(name: &str, count: usize, gemma: bool) -> Vec<f32> {
    let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let mut state = name.bytes().fold(0xCBF2_9CE4_8422_2325, hash);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let (scale, from) = match name.contains("norm") {
        true => (0.2, if gemma { 0.0 } else { 1.0 }),
        false => (0.16, 0.0),
    };
    (0..count).map(|_| (next() * scale + from) as f32).collect()
}

/// Names and shapes of a model's tensors as transformers saves them, of its settings alone: the decoder's own names are not asked.
fn shapes(settings: &Settings) -> BTreeMap<String, Vec<usize>> {
    let (hidden, wide, dim) = (settings.hidden, settings.intermediate, settings.head_dim);
    let (q, kv) = (settings.heads * dim, settings.kv_heads * dim);
    let mut shapes = BTreeMap::from([
        (
            "model.embed_tokens.weight".to_owned(),
            vec![settings.vocab, hidden],
        ),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ]);
    if settings.tied == Some(false) {
        shapes.insert("lm_head.weight".to_owned(), vec![settings.vocab, hidden]);
    }
    for layer in 0..settings.windows.len() {
        let mut add = |name: &str, shape: &[usize]| {
            shapes.insert(format!("model.layers.{layer}.{name}"), shape.to_vec())
        };
        add("input_layernorm.weight", &[hidden]);
        add("post_attention_layernorm.weight", &[hidden]);
        add("self_attn.o_proj.weight", &[hidden, q]);
        add("mlp.down_proj.weight", &[hidden, wide]);
        match settings.name.as_str() {
            "Phi3ForCausalLM" => {
                add("self_attn.qkv_proj.weight", &[q + 2 * kv, hidden]);
                add("mlp.gate_up_proj.weight", &[2 * wide, hidden]);
            }
            _ => {
                for (name, out) in [("q", q), ("k", kv), ("v", kv)] {
                    add(&format!("self_attn.{name}_proj.weight"), &[out, hidden]);
                    if settings.biases.qkv {
                        add(&format!("self_attn.{name}_proj.bias"), &[out]);
                    }
                }
                add("mlp.gate_proj.weight", &[wide, hidden]);
                add("mlp.up_proj.weight", &[wide, hidden]);
            }
        }
        if settings.biases.output {
            add("self_attn.o_proj.bias", &[hidden]);
            add("mlp.gate_proj.bias", &[wide]);
            add("mlp.up_proj.bias", &[wide]);
            add("mlp.down_proj.bias", &[hidden]);
        }
        if ["Qwen3ForCausalLM", "Gemma3ForCausalLM"].contains(&settings.name.as_str()) {
            add("self_attn.q_norm.weight", &[dim]);
            add("self_attn.k_norm.weight", &[dim]);
        }
        if settings.name == "Gemma3ForCausalLM" {
            add("pre_feedforward_layernorm.weight", &[hidden]);
            add("post_feedforward_layernorm.weight", &[hidden]);
        }
    }
    shapes
}

fn tensors(settings: &Settings) -> Tensors {
    let mut tensors = Tensors::default();
    for (name, shape) in shapes(settings) {
        let values = numbers(&name, shape.iter().product(), settings.norm_from_one);
        insert(&mut tensors, name, values, &shape);
    }
    tensors
}

fn insert(tensors: &mut Tensors, name: String, values: Vec<f32>, shape: &[usize]) {
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    tensors.insert(name, Weight::Plain(tensor), Arc::from("model.safetensors"));
}

/// Shapes and numbers of tensors, by their names.
type Numbers = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The same tensors as llama.cpp's converter writes them: its names, llama's rows of q and k in pairs, gemma's norms with their 1, and
/// llama3's scaling as a tensor.
fn numbers_in_gguf(recorded: &Value, settings: &Settings) -> Numbers {
    let names: BTreeMap<String, String> = serde_json::from_value(recorded["gguf"]["names"].clone()).unwrap();
    let mut tensors = BTreeMap::new();
    for (name, shape) in shapes(settings) {
        let mut values = numbers(&name, shape.iter().product(), settings.norm_from_one);
        if settings.norm_from_one && name.contains("norm") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        if settings.name == "LlamaForCausalLM" && (name.contains("q_proj") || name.contains("k_proj")) {
            let (half, width) = (settings.head_dim / 2, settings.hidden);
            let row = |row: usize| {
                let (head, at) = (row / settings.head_dim, row % settings.head_dim);
                head * settings.head_dim + at % 2 * half + at / 2
            };
            values = (0..shape[0])
                .flat_map(|to| values[row(to) * width..][..width].to_vec())
                .collect();
        }
        tensors.insert(names[&name].clone(), (shape, values));
    }
    if recorded["name"] == "llama-llama3" {
        let factors = rope_factors(recorded);
        tensors.insert(
            super::names::ROPE_FACTORS.to_owned(),
            (vec![factors.len()], factors),
        );
    }
    tensors
}

/// Compares logits with the recorded ones; returns the largest difference.
fn compare(recorded: &Value, logits: &[Vec<f32>]) -> f64 {
    let rows = recorded["rows"].as_array().unwrap();
    let raw: Vec<usize> = serde_json::from_value(recorded["raw"].clone()).unwrap();
    assert_eq!(rows.len(), logits.len());
    let mut worst = 0.0;
    let mut differ = |found: f64, expected: f64| {
        let by = (found - expected).abs();
        // Not a number is the worst of all.
        if by.is_nan() || by > worst {
            worst = if by.is_nan() { f64::INFINITY } else { by };
        }
    };
    for (row, logits) in rows.iter().zip(logits) {
        for (token, expected) in raw.iter().zip(row["raw"].as_array().unwrap()) {
            differ(f64::from(logits[*token]), expected.as_f64().unwrap());
        }
        for top in row["top"].as_array().unwrap() {
            differ(
                f64::from(logits[top[0].as_u64().unwrap() as usize]),
                top[1].as_f64().unwrap(),
            );
        }
        let lse = logits
            .iter()
            .map(|logit| f64::from(*logit).exp())
            .sum::<f64>()
            .ln();
        differ(lse, row["lse"].as_f64().unwrap());
    }
    worst
}

fn logits(decoder: &mut Decoder, ids: &[u32]) -> Vec<Vec<f32>> {
    decoder.reset();
    decoder.forward(ids).unwrap().to_vec2().unwrap()
}

#[test]
fn logits_are_those_that_transformers_computes() {
    let mut tested = Vec::new();
    for recorded in recorded() {
        let name = recorded["name"].as_str().unwrap();
        let settings = settings(&recorded, "config");
        tested.push((settings.name.clone(), Form::Safetensors));
        let mut decoder = Decoder::load(settings.clone(), &mut tensors(&settings)).unwrap();
        let worst = compare(&recorded, &logits(&mut decoder, &ids(&recorded)));
        println!("{name}: {worst:.1e}");
        assert!(worst <= TOLERANCE, "{name}: {worst}");

        let Some(metadata) = recorded["gguf"]["metadata"].as_object() else {
            continue;
        };
        let in_gguf = Settings::from_metadata(metadata, None, "model.gguf").unwrap();
        tested.push((in_gguf.name.clone(), Form::Gguf));
        let mut tensors = Tensors::default();
        for (name, (shape, values)) in numbers_in_gguf(&recorded, &settings) {
            insert(&mut tensors, name, values, &shape);
        }
        let mut decoder = Decoder::load(in_gguf, &mut tensors).unwrap();
        let worst = compare(&recorded, &logits(&mut decoder, &ids(&recorded)));
        println!("{name} in gguf: {worst:.1e}");
        assert!(worst <= TOLERANCE, "{name} in gguf: {worst}");
    }
    for (name, form, ..) in SUPPORTED {
        assert!(
            tested.contains(&((*name).to_owned(), *form)),
            "{name} in {form:?} is listed without a test"
        );
    }
}

/// llama3's scaling as factors, computed as llama.cpp's converter does.
fn rope_factors(recorded: &Value) -> Vec<f32> {
    let rope = &recorded["config"]["rope_parameters"];
    let number = |key: &str| rope[key].as_f64().unwrap();
    let (factor, low, high) = (
        number("factor"),
        number("low_freq_factor"),
        number("high_freq_factor"),
    );
    let (theta, original) = (number("rope_theta"), number("original_max_position_embeddings"));
    let of = |i: usize| {
        let wave = 2.0 * std::f64::consts::PI * theta.powf(i as f64 / 16.0);
        let smooth = (original / wave - low) / (high - low);
        match wave {
            wave if wave < original / high => 1.0,
            wave if wave > original / low => factor,
            _ => 1.0 / ((1.0 - smooth) / factor + smooth),
        }
    };
    (0..16).step_by(2).map(|i| of(i) as f32).collect()
}

#[test]
fn a_config_in_older_words_gives_the_same_settings() {
    let mut seen = 0;
    for recorded in recorded() {
        if recorded["config_before"].is_object() {
            seen += 1;
            assert_eq!(
                settings(&recorded, "config"),
                settings(&recorded, "config_before"),
                "{}",
                recorded["name"]
            );
        }
    }
    assert_eq!(seen, RECORDED.len());
}

/// Without the lift of `rope_parameters`, a model computes fluent wrong text, and nothing fails.
#[test]
fn a_rope_base_that_is_lost_is_seen_in_the_logits() {
    let recorded = one("llama");
    let mut settings = settings(&recorded, "config");
    assert_eq!(settings.rope.theta, 100_000.0);
    settings.rope.theta = 10_000.0;
    let mut decoder = Decoder::load(settings.clone(), &mut tensors(&settings)).unwrap();
    let worst = compare(&recorded, &logits(&mut decoder, &ids(&recorded)));
    assert!(worst > 100.0 * TOLERANCE, "{worst}");
}

#[test]
fn tokens_one_by_one_give_the_logits_of_all_at_once() {
    for recorded in recorded() {
        let settings = settings(&recorded, "config");
        let mut decoder = Decoder::load(settings.clone(), &mut tensors(&settings)).unwrap();
        let ids = ids(&recorded);
        let whole = logits(&mut decoder, &ids);
        decoder.reset();
        let one_by_one: Vec<Vec<f32>> = ids.iter().map(|id| decoder.last(&[*id]).unwrap()).collect();
        assert_eq!(decoder.position(), ids.len());
        // And in pieces that are cut anywhere, windows and all.
        decoder.reset();
        let (first, rest) = ids.split_at(5);
        let (second, third) = rest.split_at(11);
        let pieces: Vec<Vec<f32>> = [first, second, third]
            .into_iter()
            .flat_map(|ids| decoder.forward(ids).unwrap().to_vec2::<f32>().unwrap())
            .collect();
        for other in [one_by_one, pieces] {
            let differ = whole
                .iter()
                .flatten()
                .zip(other.iter().flatten())
                .map(|(a, b)| (a - b).abs());
            assert!(
                differ.clone().all(|by| by <= 2e-6),
                "{}: {:?}",
                recorded["name"],
                differ.reduce(f32::max)
            );
        }
    }
}

#[test]
fn the_same_calls_give_the_same_bits() {
    let recorded = one("qwen3");
    let settings = settings(&recorded, "config");
    let mut decoder = Decoder::load(settings.clone(), &mut tensors(&settings)).unwrap();
    let digest = decoder.rows(&ids(&recorded), 3).unwrap().end();
    assert_eq!(digest, decoder.rows(&ids(&recorded), 3).unwrap().end());
    let other = Decoder::load(settings.clone(), &mut tensors(&settings))
        .unwrap()
        .rows(&ids(&recorded), 3)
        .unwrap()
        .end();
    assert_eq!(digest, other);
    assert_eq!(digest.0.len(), ids(&recorded).len());
}

#[test]
fn a_prompt_longer_than_a_chunk_is_read_as_one() {
    let recorded = one("gemma3-pattern");
    let mut config = recorded["config"].clone();
    config["max_position_embeddings"] = 2000.into();
    let settings = Settings::from_config(config.as_object().unwrap(), None, "config.json").unwrap();
    let mut decoder = Decoder::load(settings.clone(), &mut tensors(&settings)).unwrap();
    let long: Vec<u32> = (0..700).map(|i| i * 37 % 101).collect();
    let whole = logits(&mut decoder, &long);
    decoder.reset();
    decoder.last(&long[..333]).unwrap();
    let last = decoder.last(&long[333..]).unwrap();
    assert!(whole[699].iter().zip(&last).all(|(a, b)| (a - b).abs() <= 2e-6));
    assert!(matches!(decoder.forward(&vec![1; 1301]), Err(Fault::Ask(_))));
    assert!(decoder.forward(&[1; 1300]).is_ok());
}

#[test]
fn what_is_not_asked_for_properly_is_refused() {
    let recorded = one("llama");
    let settings = settings(&recorded, "config");
    let mut decoder = Decoder::load(settings.clone(), &mut tensors(&settings)).unwrap();
    for ids in [&[][..], &[101], &[0, u32::MAX], &[1; 65]] {
        assert!(matches!(decoder.forward(ids), Err(Fault::Ask(_))), "{ids:?}");
        assert!(matches!(decoder.last(ids), Err(Fault::Ask(_))), "{ids:?}");
    }
}

#[test]
fn a_tensor_too_few_or_too_many_or_of_another_shape_is_refused() {
    let recorded = one("qwen2");
    let settings = settings(&recorded, "config");
    let with = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = tensors(&settings);
        change(&mut tensors);
        Decoder::load(settings.clone(), &mut tensors).map(drop)
    };
    assert_eq!(with(&|_| {}), Ok(()));
    assert_eq!(
        with(&|tensors| insert(
            tensors,
            "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(),
            vec![1.0],
            &[1]
        )),
        Ok(())
    );
    let found = with(&|tensors| {
        insert(
            tensors,
            "model.layers.2.input_layernorm.weight".to_owned(),
            vec![0.0; 48],
            &[48],
        )
    });
    assert!(matches!(found, Err(Fault::Unsupported { .. })), "{found:?}");
    let found = with(&|tensors| insert(tensors, "model.norm.weight".to_owned(), vec![0.0; 47], &[47]));
    assert!(matches!(found, Err(Fault::Invalid { .. })), "{found:?}");
    let found = with(&|tensors| drop(tensors.tensor("model.norm.weight", &[48])));
    assert!(matches!(found, Err(Fault::Absent { .. })), "{found:?}");
    // Embeddings that are the output too may be saved twice, but not be two.
    let embeddings = numbers("model.embed_tokens.weight", 101 * 48, false);
    let head = |values: Vec<f32>| {
        with(&|tensors| insert(tensors, "lm_head.weight".to_owned(), values.clone(), &[101, 48]))
    };
    assert_eq!(head(embeddings.clone()), Ok(()));
    let mut other = embeddings;
    other[4847] += 1e-6;
    assert!(matches!(head(other), Err(Fault::Unsupported { .. })));
}

/// Halves in memory are widened as they are used: the same numbers as widened at once.
#[test]
fn halves_compute_what_they_do_as_floats() {
    let recorded = one("llama");
    let settings = settings(&recorded, "config");
    let of = |widen: bool| {
        let mut all = Tensors::default();
        for (name, shape) in shapes(&settings) {
            let values = numbers(&name, shape.iter().product(), false);
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu)
                .unwrap()
                .to_dtype(candle_core::DType::BF16)
                .unwrap();
            let tensor = if widen {
                tensor.to_dtype(candle_core::DType::F32).unwrap()
            } else {
                tensor
            };
            all.insert(name, Weight::Plain(tensor), Arc::from("x"));
        }
        let mut decoder = Decoder::load(settings.clone(), &mut all).unwrap();
        (decoder.last(&[3]).unwrap(), logits(&mut decoder, &ids(&recorded)))
    };
    let (halves, floats) = (of(false), of(true));
    assert_eq!(halves.0, floats.0);
    let differ = halves
        .1
        .iter()
        .flatten()
        .zip(floats.1.iter().flatten())
        .map(|(a, b)| (a - b).abs());
    assert!(
        differ.clone().all(|by| by <= 2e-6),
        "{:?}",
        differ.reduce(f32::max)
    );
}
