//! Parity with the originals: what transformers computes, recorded by `testdata/record_encoders.py`.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::{ARCHITECTURES, Encoder, Pooling};
use crate::engine::{
    samples::{self, Recorded, drawn},
    weights::{Tensors, Weight},
    wire::Fault,
};

const RECORDED: [(&str, &str); 9] = [
    ("bert", include_str!("../../../testdata/parity/bert.json")),
    (
        "bert-masked-lm",
        include_str!("../../../testdata/parity/bert-masked-lm.json"),
    ),
    ("roberta", include_str!("../../../testdata/parity/roberta.json")),
    (
        "xlm-roberta",
        include_str!("../../../testdata/parity/xlm-roberta.json"),
    ),
    (
        "distilbert",
        include_str!("../../../testdata/parity/distilbert.json"),
    ),
    (
        "xlm-roberta-masked-lm",
        include_str!("../../../testdata/parity/xlm-roberta-masked-lm.json"),
    ),
    (
        "distilbert-masked-lm",
        include_str!("../../../testdata/parity/distilbert-masked-lm.json"),
    ),
    (
        "modernbert",
        include_str!("../../../testdata/parity/modernbert.json"),
    ),
    (
        "modernbert-masked-lm",
        include_str!("../../../testdata/parity/modernbert-masked-lm.json"),
    ),
];

/// Most that a number may be off: they are around 1, and sums of 32 bits floats in another order differ by 1e-6.
const OFF_MAX: f32 = 1e-5;

fn recorded(name: &str) -> Recorded {
    let (_, json) = RECORDED.iter().find(|(known, _)| *known == name).unwrap();
    serde_json::from_str(json).unwrap()
}

fn tensors(recorded: &Recorded) -> Tensors {
    let mut tensors = Tensors::default();
    let path: Arc<str> = "model.safetensors".into();
    for (name, shape) in &recorded.tensors {
        let values = drawn(name, shape.iter().product());
        let tensor = Tensor::from_vec(values, shape.clone(), &Device::Cpu).unwrap();
        tensors.insert(name.clone(), Weight::Plain(tensor), path.clone());
    }
    tensors
}

fn mean() -> Pooling {
    Pooling::read(&mut |_| Ok(None)).unwrap()
}

fn load(config: &Value, tensors: &mut Tensors) -> Result<Encoder, Fault> {
    let name = config["architectures"][0].as_str().unwrap();
    let (_, family) = ARCHITECTURES.iter().find(|(known, _)| *known == name).unwrap();
    Encoder::load(*family, config, mean(), tensors)
}

fn off(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    samples::off(found.iter().flatten(), expected.iter().flatten())
}

#[test]
fn every_listed_encoder_computes_what_the_original_does() {
    let mut seen: Vec<String> = Vec::new();
    for (name, _) in RECORDED {
        let recorded = recorded(name);
        let mut tensors = tensors(&recorded);
        let encoder = load(&recorded.config, &mut tensors).unwrap();
        assert_eq!(tensors.left().next(), None, "{name}");
        let off = off(&encoder.hidden(&recorded.ids).unwrap(), &recorded.hidden);
        assert!(off <= OFF_MAX, "{name} is off by {off}");
        seen.push(recorded.config["architectures"][0].as_str().unwrap().to_owned());
    }
    for (name, _) in ARCHITECTURES {
        assert!(
            seen.iter().any(|seen| seen == name),
            "{name} is listed without a test"
        );
    }
}

#[test]
fn rotary_bases_are_read_where_either_transformers_writes_them() {
    let recorded = recorded("modernbert");
    let mut config = recorded.config.clone();
    let fields = config.as_object_mut().unwrap();
    fields.remove("rope_parameters");
    fields.remove("layer_types");
    assert!(load(&config, &mut tensors(&recorded)).is_err(), "no base at all");
    config["global_rope_theta"] = 160_000.0.into();
    config["local_rope_theta"] = 10_000.0.into();
    let encoder = load(&config, &mut tensors(&recorded)).unwrap();
    assert!(off(&encoder.hidden(&recorded.ids).unwrap(), &recorded.hidden) <= OFF_MAX);
    // And they matter: another base is seen.
    config["global_rope_theta"] = 100.0.into();
    let encoder = load(&config, &mut tensors(&recorded)).unwrap();
    assert!(off(&encoder.hidden(&recorded.ids).unwrap(), &recorded.hidden) > 10.0 * OFF_MAX);
}

#[test]
fn what_changes_the_computation_and_is_not_known_is_refused() {
    for (name, key, value) in [
        ("bert", "hidden_act", Value::from("gelu_new")),
        ("bert", "hidden_act", Value::Null),
        ("bert", "position_embedding_type", "relative_key".into()),
        ("bert", "is_decoder", true.into()),
        ("bert", "quantization_config", serde_json::json!({"bits": 4})),
        ("distilbert", "activation", "relu".into()),
        ("modernbert", "attention_bias", true.into()),
        ("modernbert", "norm_bias", true.into()),
        ("modernbert", "layer_types", vec!["full_attention"; 4].into()),
        (
            "modernbert",
            "rope_parameters",
            serde_json::json!({"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}),
        ),
    ] {
        let recorded = recorded(name);
        let mut config = recorded.config.clone();
        config[key] = value;
        let found = load(&config, &mut tensors(&recorded));
        assert!(
            matches!(found, Err(Fault::Unsupported { .. })),
            "{name} {key}: {found:?}"
        );
    }
    for (key, value) in [
        ("hidden_size", Value::Null),
        ("num_attention_heads", 0.into()),
        ("layer_norm_eps", "1".into()),
        ("vocab_size", u64::MAX.into()),
    ] {
        let recorded = recorded("bert");
        let mut config = recorded.config.clone();
        config[key] = value;
        let found = load(&config, &mut tensors(&recorded));
        assert!(matches!(found, Err(Fault::Invalid { .. })), "{key}: {found:?}");
    }
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let recorded = recorded("bert");
    let mut config = recorded.config.clone();
    config["intermediate_size"] = 65.into();
    let Err(Fault::Invalid { path, what }) = load(&config, &mut tensors(&recorded)) else {
        panic!("a shape that does not fit");
    };
    assert_eq!(path, "model.safetensors");
    assert!(
        what.contains("encoder.layer.0.intermediate.dense.weight"),
        "{what}"
    );
}

#[test]
fn a_norm_may_have_its_first_names() {
    let mut recorded = recorded("bert");
    let mut renamed = tensors(&recorded);
    for (name, shape) in std::mem::take(&mut recorded.tensors) {
        let new = match name.contains("LayerNorm") {
            true => name.replace("weight", "gamma").replace("bias", "beta"),
            false => continue,
        };
        let tensor = renamed.tensor(&name, &shape).unwrap();
        renamed.insert(new, Weight::Plain(tensor), "model.safetensors".into());
    }
    let encoder = load(&recorded.config, &mut renamed).unwrap();
    assert!(off(&encoder.hidden(&recorded.ids).unwrap(), &recorded.hidden) <= OFF_MAX);
}

#[test]
fn attention_in_several_steps_is_the_same() {
    let random = |name: &str| Tensor::from_vec(drawn(name, 2 * 10 * 4), (2, 10, 4), &Device::Cpu).unwrap();
    let (q, k, v) = (
        (random("q") * 30.0).unwrap(),
        (random("k") * 30.0).unwrap(),
        random("v"),
    );
    for window in [None, Some(3)] {
        let whole = super::attend(&q, &k, &v, window).unwrap().flatten_to(1).unwrap();
        for rows in [1, 3, 10] {
            let steps = super::attend_in_steps(&q, &k, &v, window, rows).unwrap();
            let steps = steps.flatten_to(1).unwrap().to_vec2().unwrap();
            assert!(
                off(&steps, &whole.to_vec2().unwrap()) <= 1e-6,
                "{window:?} {rows}"
            );
        }
    }
}

#[test]
fn numbers_that_are_none_do_not_become_an_embedding() {
    let recorded = recorded("bert");
    let mut tensors = tensors(&recorded);
    let name = "encoder.layer.1.output.dense.weight";
    let mut values = drawn(name, 32 * 64);
    let _ = tensors.tensor(name, &[32, 64]).unwrap();
    values[77] = f32::NAN;
    let tensor = Tensor::from_vec(values, (32, 64), &Device::Cpu).unwrap();
    tensors.insert(name.into(), Weight::Plain(tensor), "model.safetensors".into());
    let encoder = load(&recorded.config, &mut tensors).unwrap();
    let found = encoder.embed(&recorded.ids);
    assert!(matches!(found, Err(Fault::NotANumber(_))), "{found:?}");
}

#[test]
fn what_cannot_be_embedded_is_said() {
    let recorded = recorded("roberta");
    let encoder = load(&recorded.config, &mut tensors(&recorded)).unwrap();
    // 40 positions, of which those up to the padding token's are never used.
    assert_eq!(encoder.context(), 38);
    assert_eq!(encoder.embed(&[5; 38]).unwrap().len(), 32);
    for ids in [&[][..], &[5; 39], &[128]] {
        assert!(matches!(encoder.embed(ids), Err(Fault::Ask(_))), "{ids:?}");
    }
}

fn pooled(files: &[(&str, Value)]) -> Result<Pooling, Fault> {
    Pooling::read(&mut |path| {
        Ok(files
            .iter()
            .find(|(known, _)| *known == path)
            .map(|(_, value)| value.clone()))
    })
}

fn modules(names: &[&str]) -> (&'static str, Value) {
    let step = |(at, name): (usize, &&str)| {
        let path = match at {
            0 => String::new(),
            at => format!("{at}_{name}"),
        };
        serde_json::json!({"idx": at, "name": at.to_string(), "path": path, "type": format!("sentence_transformers.models.{name}")})
    };
    ("modules.json", names.iter().enumerate().map(step).collect())
}

#[test]
fn rows_are_pooled_as_the_files_ask() {
    let rows = vec![vec![1.0, -8.0], vec![5.0, 2.0]];
    let by = |kind: &str, steps: &[&str]| {
        let config = serde_json::json!({"word_embedding_dimension": 2, format!("pooling_mode_{kind}"): true, "pooling_mode_lasttoken": false});
        pooled(&[modules(steps), ("1_Pooling/config.json", config)])?.pool(&rows)
    };
    let plain = ["Transformer", "Pooling"];
    assert_eq!(by("cls_token", &plain).unwrap(), [1.0, -8.0]);
    assert_eq!(by("mean_tokens", &plain).unwrap(), [3.0, -3.0]);
    assert_eq!(by("max_tokens", &plain).unwrap(), [5.0, 2.0]);
    let half = 0.5_f32.sqrt();
    assert_eq!(
        by("mean_tokens", &["Transformer", "Pooling", "Normalize"]).unwrap(),
        [half, -half]
    );
    assert_eq!(mean().pool(&rows).unwrap(), [3.0, -3.0]);
    for (kind, steps) in [
        ("lasttoken", &plain[..]),
        ("mean_sqrt_len_tokens", &plain),
        ("mean_tokens", &["Transformer"]),
        ("mean_tokens", &["Transformer", "Pooling", "Dense"]),
        (
            "mean_tokens",
            &["Transformer", "Pooling", "Normalize", "Normalize"],
        ),
    ] {
        let found = by(kind, steps);
        assert!(
            matches!(found, Err(Fault::Unsupported { .. })),
            "{kind} {steps:?}: {found:?}"
        );
    }
}

#[test]
fn a_vector_of_zeros_has_no_direction() {
    let config = serde_json::json!({"pooling_mode": "mean"});
    let pooling = pooled(&[
        modules(&["Transformer", "Pooling", "Normalize"]),
        ("1_Pooling/config.json", config),
    ])
    .unwrap();
    assert!(matches!(pooling.pool(&[vec![0.0; 4]]), Err(Fault::NotANumber(_))));
}

#[test]
fn what_is_said_of_texts_counts() {
    let config = || {
        (
            "1_Pooling/config.json",
            serde_json::json!({"pooling_mode_mean_tokens": true, "word_embedding_dimension": 32}),
        )
    };
    let steps = || modules(&["Transformer", "Pooling"]);
    let short = (
        "sentence_bert_config.json",
        serde_json::json!({"max_seq_length": 9, "do_lower_case": false}),
    );
    let recorded = recorded("bert");
    let pooling = pooled(&[steps(), config(), short]).unwrap();
    let encoder = Encoder::load(
        super::Family::Bert,
        &recorded.config,
        pooling,
        &mut tensors(&recorded),
    )
    .unwrap();
    assert_eq!(encoder.context(), 9);
    for (path, value) in [
        (
            "sentence_bert_config.json",
            serde_json::json!({"do_lower_case": true}),
        ),
        (
            "config_sentence_transformers.json",
            serde_json::json!({"default_prompt_name": "query"}),
        ),
    ] {
        let found = pooled(&[steps(), config(), (path, value)]);
        assert!(
            matches!(found, Err(Fault::Unsupported { .. })),
            "{path}: {found:?}"
        );
    }
    let narrow = pooled(&[
        steps(),
        (
            "1_Pooling/config.json",
            serde_json::json!({"pooling_mode_mean_tokens": true, "word_embedding_dimension": 33}),
        ),
    ])
    .unwrap();
    let found = Encoder::load(
        super::Family::Bert,
        &recorded.config,
        narrow,
        &mut tensors(&recorded),
    );
    assert!(matches!(found, Err(Fault::Invalid { .. })), "{found:?}");
}
