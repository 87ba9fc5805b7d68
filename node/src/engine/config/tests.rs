use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// A config that is understood, with changes: `null` takes a key out.
fn config(changes: Value) -> Map<String, Value> {
    let base = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "max_position_embeddings": 512, "rope_theta": 5000.0, "tie_word_embeddings": false, "eos_token_id": 7,
        "initializer_range": 0.02, "torch_dtype": "bfloat16", "use_cache": true, "whatever": {"a": 1},
    });
    changed(base, changes)
}

fn gguf(changes: Value) -> Map<String, Value> {
    let base = json!({
        "general.architecture": "llama", "general.name": "x", "llama.block_count": 3, "llama.context_length": 512,
        "llama.embedding_length": 64, "llama.feed_forward_length": 128, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 5000.0,
        "llama.vocab_size": 100, "tokenizer.ggml.eos_token_id": 7,
    });
    changed(base, changes)
}

fn changed(base: Value, changes: Value) -> Map<String, Value> {
    let Value::Object(mut base) = base else {
        unreachable!()
    };
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::String(removed) if removed == "absent" => base.remove(key),
            value => base.insert(key.clone(), value.clone()),
        };
    }
    base
}

fn read(changes: Value) -> Result<Settings, Fault> {
    Settings::from_config(&config(changes), None, "config.json")
}

fn read_gguf(changes: Value) -> Result<Settings, Fault> {
    Settings::from_metadata(&gguf(changes), None, "model.gguf")
}

/// Models.md's trap 2: transformers 5 has no `rope_theta` at the top, and a default of 10,000 would be taken in silence.
#[test]
fn rope_parameters_without_rope_theta_give_the_same_settings() {
    let before = read(json!({})).unwrap();
    assert_eq!(
        before.rope,
        Rope {
            theta: 5000.0,
            scaling: Scaling::None
        }
    );
    let lifted =
        json!({"rope_theta": "absent", "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}});
    assert_eq!(read(lifted).unwrap(), before);
    let both = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5000}});
    assert_eq!(read(both).unwrap(), before);
    assert!(matches!(
        read(json!({"rope_parameters": {"rope_theta": 10000.0}})),
        Err(Fault::Invalid { .. })
    ));
    assert_eq!(
        read(json!({"rope_theta": "absent"})).unwrap().rope.theta,
        10_000.0
    );
}

#[test]
fn both_forms_of_a_model_are_the_same_settings_but_for_their_names() {
    let here = read(json!({})).unwrap();
    let there = read_gguf(json!({})).unwrap();
    let same = Settings {
        name: there.name.clone(),
        form: Form::Gguf,
        path: there.path.clone(),
        pairs: Pairs::Neighbours,
        tied: None,
        ..here
    };
    assert_eq!(there, same);
}

#[test]
fn a_text_config_is_lifted() {
    let inner =
        json!({"model_type": "llama_text", "hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 100});
    let lifted = json!({"text_config": inner, "hidden_size": "absent", "num_hidden_layers": "absent", "vocab_size": null});
    assert_eq!(read(lifted).unwrap(), read(json!({})).unwrap());
    assert!(matches!(
        read(json!({"text_config": {"hidden_size": 32}})),
        Err(Fault::Invalid { .. })
    ));
}

#[test]
fn what_a_config_leaves_out_is_what_transformers_takes_for_that_architecture() {
    let out = json!({"rms_norm_eps": "absent", "rope_theta": "absent", "tie_word_embeddings": "absent", "num_key_value_heads": "absent",
        "eos_token_id": "absent", "max_position_embeddings": "absent", "hidden_act": "absent", "num_attention_heads": 64, "hidden_size": 512});
    let of = |name: &str, model_type: &str| {
        let mut config = config(out.clone());
        config.insert("architectures".to_owned(), json!([name]));
        config.insert("model_type".to_owned(), json!(model_type));
        let found = Settings::from_config(&config, None, "config.json").unwrap();
        let stops: Vec<u32> = found.stops.clone();
        (
            found.kv_heads,
            found.head_dim,
            found.norm_eps,
            found.tied,
            found.rope.theta,
            found.windows[0],
            found.context,
            stops,
        )
    };
    assert_eq!(
        of("LlamaForCausalLM", "llama"),
        (64, 8, 1e-6, Some(false), 1e4, None, 2048, vec![2])
    );
    assert_eq!(
        of("MistralForCausalLM", "mistral"),
        (8, 8, 1e-6, Some(false), 1e4, Some(4096), 131_072, vec![2])
    );
    assert_eq!(
        of("Qwen2ForCausalLM", "qwen2"),
        (32, 8, 1e-6, Some(false), 1e4, None, 32_768, vec![])
    );
    assert_eq!(
        of("Qwen3ForCausalLM", "qwen3"),
        (32, 128, 1e-6, Some(false), 1e4, None, 32_768, vec![])
    );
    assert_eq!(
        of("Gemma3ForCausalLM", "gemma3_text"),
        (4, 256, 1e-6, Some(true), 1e6, Some(4096), 131_072, vec![1])
    );
    assert_eq!(
        of("Phi3ForCausalLM", "phi3"),
        (64, 8, 1e-5, Some(false), 1e4, None, 4096, vec![32_000])
    );
}

#[test]
fn the_tokens_that_end_a_text_are_those_of_the_generation_config_first() {
    let generation = json!({"eos_token_id": [7, 9]});
    let found = Settings::from_config(&config(json!({})), generation.as_object(), "config.json").unwrap();
    assert_eq!(found.stops, [7, 9]);
    assert_eq!(read(json!({})).unwrap().stops, [7]);
    assert_eq!(
        read_gguf(json!({"tokenizer.ggml.eot_token_id": 8}))
            .unwrap()
            .stops,
        [7, 8]
    );
}

#[test]
fn an_architecture_that_is_not_listed_says_which_are() {
    let Err(Fault::Architecture { found, supported, .. }) =
        read(json!({"architectures": ["GPTNeoXForCausalLM"]}))
    else {
        panic!()
    };
    assert_eq!(found, "GPTNeoXForCausalLM");
    assert!(supported.contains(&"LlamaForCausalLM".to_owned()) && !supported.contains(&"llama".to_owned()));
    let Err(Fault::Architecture { supported, .. }) = read_gguf(json!({"general.architecture": "mamba"}))
    else {
        panic!()
    };
    assert!(supported.contains(&"llama".to_owned()) && !supported.contains(&"LlamaForCausalLM".to_owned()));
    // Without the list of names, the model's type says it.
    assert_eq!(
        read(json!({"architectures": "absent"})).unwrap().architecture,
        Architecture::Llama
    );
}

/// Keys that change what is computed: each is refused by its name and value.
#[test]
fn what_changes_the_numbers_and_is_not_known_is_refused_by_key_and_value() {
    let mistral = |key: &str, value: Value| json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral", key: value});
    let qwen3 = |key: &str, value: Value| json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", key: value});
    let gemma3 = |key: &str, value: Value| json!({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "rope_theta": "absent", key: value});
    let phi3 = |key: &str, value: Value| json!({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", key: value});
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128});
    let cases = [
        (json!({"rope_scaling": yarn}), "yarn"),
        (
            json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            "dynamic",
        ),
        (
            json!({"rope_parameters": {"rope_type": "longrope", "rope_theta": 5000.0}}),
            "longrope",
        ),
        (
            json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "attention_factor": 1.1}}),
            "attention_factor",
        ),
        (
            json!({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}}),
            "mrope_section",
        ),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}),
            "full_attention",
        ),
        (json!({"rope_scaling": {"rope_type": 3}}), "rope_scaling"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor 0.5"),
        (
            json!({"quantization_config": {"bits": 4}}),
            "quantization_config {\"bits\":4}",
        ),
        (json!({"hidden_act": "relu"}), "hidden_act \"relu\""),
        (json!({"sliding_window": 128}), "sliding_window 128"),
        (json!({"num_local_experts": 8}), "num_local_experts 8"),
        (
            json!({"layer_types": ["full_attention", "full_attention", "linear_attention"]}),
            "layer_types",
        ),
        (json!({"model_type": "mistral"}), "model_type \"mistral\""),
        (mistral("attention_bias", json!(true)), "attention_bias true"),
        (mistral("mlp_bias", json!(true)), "mlp_bias true"),
        (
            mistral(
                "layer_types",
                json!(["full_attention", "full_attention", "full_attention"]),
            ),
            "layer_types",
        ),
        (qwen3("attention_bias", json!(true)), "attention_bias true"),
        (
            gemma3("final_logit_softcapping", json!(30.0)),
            "final_logit_softcapping 30.0",
        ),
        (
            gemma3("attn_logit_softcapping", json!(50.0)),
            "attn_logit_softcapping 50.0",
        ),
        (
            gemma3("use_bidirectional_attention", json!(true)),
            "use_bidirectional_attention true",
        ),
        (
            gemma3("hidden_activation", json!("gelu")),
            "hidden_activation \"gelu\"",
        ),
        (
            gemma3("rope_parameters", json!({"rope_theta": 5.0})),
            "rope_parameters",
        ),
        (gemma3("layer_types", json!(["full_attention"])), "layer_types"),
        (
            phi3("partial_rotary_factor", json!(1.5)),
            "partial_rotary_factor 1.5",
        ),
        (
            phi3(
                "rope_scaling",
                json!({"type": "su", "short_factor": [1.0], "long_factor": [1.0]}),
            ),
            "su",
        ),
    ];
    for (changes, words) in cases {
        match read(changes.clone()) {
            Err(Fault::Unsupported { path, what }) => {
                assert!(path == "config.json" && what.contains(words), "{changes}: {what}")
            }
            found => panic!("{changes}: {found:?}"),
        }
    }
    let cases = [
        (
            json!({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 2.0}),
            "rope.scaling.type \"yarn\"",
        ),
        (
            json!({"llama.rope.scaling.factor": 2.0}),
            "rope.scaling.factor 2.0",
        ),
        (json!({"llama.expert_count": 8}), "llama.expert_count 8"),
        (json!({"llama.rope.dimension_count": 8}), "rope.dimension_count 8"),
        (json!({"llama.attention.value_length": 8}), "value_length 8"),
        (
            json!({"llama.attention.sliding_window": 100}),
            "sliding_window 100",
        ),
        (json!({"llama.attention.causal": false}), "causal false"),
        (json!({"llama.logit_scale": 0.5}), "logit_scale 0.5"),
    ];
    for (changes, words) in cases {
        match read_gguf(changes.clone()) {
            Err(Fault::Unsupported { path, what }) => {
                assert!(path == "model.gguf" && what.contains(words), "{changes}: {what}")
            }
            found => panic!("{changes}: {found:?}"),
        }
    }
}

#[test]
fn values_that_no_model_can_have_are_invalid() {
    for changes in [
        json!({"hidden_size": "absent"}),
        json!({"hidden_size": "64"}),
        json!({"hidden_size": -64}),
        json!({"vocab_size": 0}),
        json!({"num_attention_heads": 0}),
        json!({"num_hidden_layers": 0}),
        json!({"num_hidden_layers": 1u64 << 40}),
        json!({"num_key_value_heads": 3}),
        json!({"head_dim": 15}),
        json!({"head_dim": 1u64 << 20, "num_attention_heads": 1024}),
        json!({"intermediate_size": u64::MAX}),
        json!({"rms_norm_eps": 0.0}),
        json!({"rms_norm_eps": -1e-5}),
        json!({"rope_theta": 0.0}),
        json!({"rope_theta": -10000.0}),
        json!({"rope_theta": [1.0]}),
        json!({"rope_scaling": {"rope_type": "linear"}}),
        json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}),
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0}}),
        json!({"tie_word_embeddings": "yes"}),
        json!({"max_position_embeddings": 0}),
        json!({"hidden_act": ["silu"]}),
    ] {
        let found = read(changes.clone());
        assert!(
            matches!(found, Err(Fault::Invalid { .. } | Fault::Unsupported { .. })),
            "{changes}: {found:?}"
        );
    }
    for changes in [
        json!({"llama.block_count": "absent"}),
        json!({"llama.feed_forward_length": [1, 2]}),
        json!({"llama.attention.layer_norm_rms_epsilon": "absent"}),
        json!({"llama.attention.head_count": 0}),
        json!({"llama.vocab_size": "absent"}),
        json!({"llama.block_count": u64::MAX}),
        json!({"llama.attention.key_length": 0}),
        json!({"llama.rope.freq_base": null, "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 0.0}),
    ] {
        let found = read_gguf(changes.clone());
        assert!(
            matches!(found, Err(Fault::Invalid { .. })),
            "{changes}: {found:?}"
        );
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..200).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                prop::sample::select(vec![
                    "rope_type",
                    "type",
                    "rope_theta",
                    "factor",
                    "full_attention",
                    "sliding_attention"
                ]),
                inner,
                0..3,
            )
            .prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    /// Whatever a key holds: settings within bounds, or a fault.
    #[test]
    fn no_value_makes_it_panic(
        architecture in 0usize..SUPPORTED.len(), which in prop::collection::vec((any::<prop::sample::Index>(), value()), 1..5),
    ) {
        let (name, form, model_type, _) = SUPPORTED[architecture];
        let mut keys = match form {
            Form::Safetensors => config(json!({"architectures": [name], "model_type": model_type, "sliding_window": 64,
                "layer_types": null, "rope_parameters": null, "rope_scaling": null, "head_dim": 16, "partial_rotary_factor": null,
                "query_pre_attn_scalar": 16, "max_window_layers": 1, "use_sliding_window": true, "sliding_window_pattern": 2,
                "text_config": null})),
            Form::Gguf => {
                let of = |key: String| key.replace("llama.", &format!("{name}."));
                gguf(json!({"general.architecture": name, "llama.attention.sliding_window": 64, "llama.attention.key_length": 16}))
                    .into_iter().map(|(key, value)| (of(key), value)).collect()
            }
        };
        for (index, value) in which {
            let key = keys.keys().nth(index.index(keys.len())).cloned().unwrap();
            keys.insert(key, value);
        }
        let found = match form {
            Form::Safetensors => Settings::from_config(&keys, None, "x"),
            Form::Gguf => Settings::from_metadata(&keys, Some(100), "x"),
        };
        if let Ok(found) = found {
            prop_assert!(found.heads.is_multiple_of(found.kv_heads));
            prop_assert!(found.rope_dim <= found.head_dim && found.rope_dim.is_multiple_of(2));
            prop_assert!(found.windows.len() <= LAYERS_MAX && !found.windows.contains(&Some(0)));
            prop_assert!(found.norm_eps > 0.0 && found.rope.theta > 0.0);
        }
    }
}
