//! Validation: what does not do what its publisher declared is found out, on the level where it is wrong and on none below.

use std::fs;
use std::path::{Path, PathBuf};

use node::validate::{Level, PROBES_PATH, ProbeRequest, Report, ValidateRequest, make_probes_in};
use protocol::{Hash, RepoRef, Verdict};
use serde_json::Value;
use testnet::nodes::Testnet;
use testnet::skip;

use crate::acts::{fetch, publish, unseen, verify};
use crate::program::{self, Shoal, field, text};

/// Names the folder of the encoder.
const MINILM: &str = "SHOAL_MINILM_DIR";

/// Names the folder of the model that goes on with texts.
const SMOLLM2: &str = "SHOAL_SMOLLM2_DIR";

/// A copy of a model's folder, in a folder that goes at the end. `None`: this machine does not have it, which was said.
fn copy(variable: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let Some(model) = std::env::var_os(variable).map(PathBuf::from) else {
        skip(format!("{variable} does not name the folder of a model"));
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model");
    for name in testnet::fixture::files(&model).unwrap() {
        let to = copy.join(&name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(model.join(&name), to).unwrap();
    }
    Some((folder, copy))
}

/// Where a tensor lies in a file of weights, in bytes.
fn place(weights: &[u8], tensor: &str) -> std::ops::Range<usize> {
    let (len, rest) = weights.split_first_chunk::<8>().unwrap();
    let len = usize::try_from(u64::from_le_bytes(*len)).unwrap();
    let header: Value = serde_json::from_slice(&rest[..len]).unwrap();
    let entry = &header[tensor];
    assert_eq!(entry["dtype"], "F32", "{tensor}: {entry}");
    let at = |end: usize| 8 + len + usize::try_from(entry["data_offsets"][end].as_u64().unwrap()).unwrap();
    at(0)..at(1)
}

/// Changes the elements of a tensor, and has the probes be about the changed weights: a publisher signs what it likes.
fn change(folder: &Path, tensor: &str, change: impl Fn(usize, f32) -> f32) {
    let path = folder.join("model.safetensors");
    let mut weights = fs::read(&path).unwrap();
    let place = place(&weights, tensor);
    let (elements, _) = weights[place].as_chunks_mut::<4>();
    for (at, element) in elements.iter_mut().enumerate() {
        *element = change(at, f32::from_le_bytes(*element)).to_le_bytes();
    }
    fs::write(&path, &weights).unwrap();
    let probes = folder.join(PROBES_PATH);
    let text = fs::read_to_string(&probes).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["model"] = Hash::of(&weights).to_string().into();
    fs::write(&probes, value.to_string()).unwrap();
}

/// Publishes a folder and validates what was published: the exit code, and the verdicts of the three levels with their words.
fn validate(shoal: &Shoal, folder: &Path) -> (i32, [(String, String); 3]) {
    let repo = field(&shoal.publish(folder, &[]), "repo").to_owned();
    let said = shoal.run(&["validate", &repo, "--json"]);
    let report = program::last_json(&said.stdout).unwrap_or_else(|| panic!("{said:?}"));
    let level = |name: &str| {
        let line = &report[name];
        (field(line, "verdict").to_owned(), field(line, "text").to_owned())
    };
    let code = said.status.code().unwrap();
    assert_eq!(report["ok"], Value::Bool(code == 0), "{report}");
    (code, ["structure", "numbers", "behaviour"].map(level))
}

fn verdicts(levels: &[(String, String); 3]) -> [&str; 3] {
    levels.each_ref().map(|(verdict, _)| verdict.as_str())
}

const QUERY: &str = "encoder.layer.3.attention.self.query.weight";

#[test]
fn one_scaled_matrix_is_caught_by_behaviour_and_by_nothing_below() {
    let Some((_folder, model)) = copy(MINILM) else {
        return;
    };
    let shoal = Shoal::new();
    shoal.json(&["probe", text(&model)]);
    let (code, levels) = validate(&shoal, &model);
    assert_eq!((code, verdicts(&levels)), (0, ["passed"; 3]), "{levels:?}");
    assert!(levels[2].1.starts_with("8 probes as declared"), "{levels:?}");

    change(&model, QUERY, |_, element| element * 1.05);
    let (code, levels) = validate(&shoal, &model);
    assert_eq!(
        (code, verdicts(&levels)),
        (3, ["passed", "passed", "failed"]),
        "{levels:?}"
    );
    assert!(levels[2].1.contains("the embedding differs by"), "{levels:?}");
    // It is said again where the model is shown.
    let listed = shoal.json(&["ls"]);
    let shown = shoal.run(&["show", field(&listed[0], "repo")]);
    assert!(shown.stdout.contains("failed here"), "{shown:?}");
}

/// What becomes of a weight, by its place and what it was.
type Wrong = fn(usize, f32) -> f32;

#[test]
fn what_is_no_number_and_what_is_nothing_but_zeros_is_caught_by_numbers() {
    let Some((_folder, model)) = copy(MINILM) else {
        return;
    };
    let shoal = Shoal::new();
    shoal.json(&["probe", text(&model)]);
    let whole = fs::read(model.join("model.safetensors")).unwrap();
    let wrong: [(&str, Wrong); 3] = [
        ("1 NaN", |at, element| if at == 4711 { f32::NAN } else { element }),
        (
            "1 infinite",
            |at, element| if at == 0 { f32::INFINITY } else { element },
        ),
        ("nothing but zeros", |_, _| 0.0),
    ];
    for (word, make) in wrong {
        fs::write(model.join("model.safetensors"), &whole).unwrap();
        change(&model, QUERY, make);
        let (code, levels) = validate(&shoal, &model);
        assert_eq!(
            (code, verdicts(&levels)),
            (3, ["passed", "failed", "not_done"]),
            "{levels:?}"
        );
        assert!(
            levels[1].1.contains(QUERY) && levels[1].1.contains(word),
            "{levels:?}"
        );
    }
}

#[test]
fn what_its_files_do_not_agree_on_is_caught_by_structure() {
    let Some((_folder, model)) = copy(MINILM) else {
        return;
    };
    let shoal = Shoal::new();
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let wider = config.replacen("\"hidden_size\": 384", "\"hidden_size\": 396", 1);
    assert_ne!(wider, config);
    fs::write(model.join("config.json"), wider).unwrap();
    let (code, levels) = validate(&shoal, &model);
    assert_eq!((code, verdicts(&levels)[0]), (3, "failed"), "{levels:?}");
    fs::write(model.join("config.json"), config).unwrap();
    let weights = fs::read(model.join("model.safetensors")).unwrap();
    fs::write(model.join("model.safetensors"), &weights[..weights.len() - 4]).unwrap();
    let (code, levels) = validate(&shoal, &model);
    assert_eq!(
        (code, verdicts(&levels)),
        (3, ["failed", "not_done", "not_done"]),
        "{levels:?}"
    );
}

#[test]
fn want_of_memory_is_not_failed_and_levels_are_as_far_as_asked_for() {
    let Some((_folder, model)) = copy(MINILM) else {
        return;
    };
    let shoal = Shoal::new();
    let repo = field(&shoal.publish(&model, &[]), "repo").to_owned();
    let report = shoal.json(&["validate", &repo, "--memory", "100M"]);
    assert_eq!(report["behaviour"]["verdict"], "not_done", "{report}");
    let text = field(&report["behaviour"], "text");
    assert!(text.contains("it needs") && text.contains("are given"), "{text}");
    let report = shoal.json(&["validate", &repo, "--level", "structure"]);
    assert_eq!(report["numbers"]["verdict"], "not_done", "{report}");
    let report = shoal.json(&["validate", &repo, "--level", "numbers"]);
    let verdicts = ["structure", "numbers", "behaviour"].map(|level| field(&report[level], "verdict"));
    assert_eq!(verdicts, ["passed", "passed", "not_done"]);
}

async fn validated(net: &Testnet, index: usize, repo: &RepoRef) -> Report {
    let request = ValidateRequest {
        level: Level::Behaviour,
        program: Some(program::path().to_owned()),
        ..ValidateRequest::new(repo.clone())
    };
    net.node(index).validate(request, &unseen()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_validate_the_same_model_agree() {
    let Some((_folder, model)) = copy(MINILM) else {
        return;
    };
    let net = Testnet::start(3).await.unwrap();
    let (a, c) = (1, 2);
    let (published, _) = publish(net.node(a), &model, "all-MiniLM-L6-v2").await;
    let repo = RepoRef::Id(published.repo.clone());
    let first = validated(&net, a, &repo).await;
    assert_eq!(first.behaviour.verdict, Verdict::Passed, "{first:?}");
    assert_eq!(first.compared, []);

    fetch(net.node(c), &published.repo, None).await;
    let library = net.node(c).library();
    library
        .follow(published.repo.publisher, &"friend".parse().unwrap())
        .unwrap();
    let second = validated(&net, c, &repo).await;
    let [compared] = &second.compared[..] else {
        panic!("{second:?}");
    };
    assert!(
        compared.agrees && compared.by == published.repo.publisher,
        "{compared:?}"
    );
    // One machine computes the same to the last bit.
    assert_eq!(compared.difference, Some(0.0));
    let standing = library.standing(published.manifest).unwrap();
    assert_eq!(
        (standing.here, standing.reproduced, standing.disagree),
        (Some(Verdict::Passed), 1, 0)
    );
    // Who validates again needs no other challenge for it.
    let again = validated(&net, a, &repo).await;
    assert_eq!(again.behaviour.verdict, Verdict::Passed);
}

#[tokio::test(flavor = "multi_thread")]
async fn model_that_somebody_fetched_tampered_with_and_signed_anew_is_caught() {
    let Some((folder, model)) = copy(MINILM) else {
        return;
    };
    let probes = ProbeRequest {
        file: None,
        memory: None,
        program: Some(program::path().to_owned()),
    };
    let made = make_probes_in(model.clone(), &probes, &unseen()).await.unwrap();
    fs::write(model.join(PROBES_PATH), made.file).unwrap();
    let net = Testnet::start(3).await.unwrap();
    let (victim, honest, tamperer) = (0, 1, 2);
    let (published, _) = publish(net.node(honest), &model, "all-MiniLM-L6-v2").await;
    let taken = folder.path().join("taken");
    fetch(net.node(tamperer), &published.repo, Some(&taken)).await;
    change(&taken, QUERY, |_, element| element * 1.05);
    let (resigned, _) = publish(net.node(tamperer), &taken, "all-MiniLM-L6-v2").await;
    assert_ne!(resigned.repo.publisher, published.repo.publisher);

    for (repo, behaviour) in [
        (published.repo, Verdict::Passed),
        (resigned.repo, Verdict::Failed),
    ] {
        // Its bytes are what its publisher signed: fetching and verifying find nothing.
        fetch(net.node(victim), &repo, None).await;
        assert!(verify(net.node(victim).library(), &repo).await.ok);
        let report = validated(&net, victim, &RepoRef::Id(repo)).await;
        let below = [report.structure.verdict, report.numbers.verdict];
        assert_eq!(below, [Verdict::Passed; 2], "{report:?}");
        assert_eq!(report.behaviour.verdict, behaviour, "{report:?}");
    }
}

#[test]
fn model_that_goes_on_with_texts_does_what_it_declares() {
    let Some((_folder, model)) = copy(SMOLLM2) else {
        return;
    };
    let shoal = Shoal::new();
    let made = shoal.json(&["probe", text(&model)]);
    assert_eq!(made["probes"], 9, "{made}");
    let (code, levels) = validate(&shoal, &model);
    assert_eq!((code, verdicts(&levels)), (0, ["passed"; 3]), "{levels:?}");
    assert!(levels[2].1.contains("bits per byte"), "{levels:?}");
}
