//! The heads of files come first: what can run code is left out of a fetch unless it is asked for, a broken model ends it, and
//! `show` says what a model is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::config::OnDemand;
use node::fetch::{FetchError, FetchRequest, FetchWhat, Fetched};
use node::node::{Limits, Node};
use node::publish::PublishRequest;
use protocol::{Kind, RepoRef};
use serde_json::{Value, json};
use testnet::nodes::{Testnet, within};
use testnet::{fixture, skip};

use crate::acts::{fetch, open_doors, publish, request, unseen};
use crate::gateway::get;
use crate::openai::{MINILM, SMOLLM2};
use crate::program::{Shoal, text};

const A: usize = 1;
const B: usize = 2;

/// Longest that a fetch of these tests may take.
const FETCH: Duration = Duration::from_secs(60);

/// A pickle of so many bytes: `{}` behind a long string of bytes that is thrown away.
fn pickle(len: usize) -> Vec<u8> {
    let mut pickle = b"\x80\x04B".to_vec();
    pickle.extend((len as u32 - 10).to_le_bytes());
    pickle.extend((0..len - 10).map(|at| (at * at % 251) as u8));
    pickle.extend(b"0}.");
    pickle
}

/// A stored archive with a pickle at its end, where only its list of files tells.
fn archive(len: usize) -> Vec<u8> {
    let name = b"x/data.pkl";
    let mut central = b"PK\x01\x02".to_vec();
    central.resize(46, 0);
    central[28] = name.len() as u8;
    central.extend(name);
    let mut archive = b"PK\x03\x04".to_vec();
    archive.resize(26, 0);
    archive.extend([6, 0, 0, 0]);
    archive.extend(b"x/data");
    archive.extend(fixture::bytes(
        1,
        "archive",
        len - archive.len() - central.len() - 22,
    ));
    let at = archive.len() as u32;
    archive.extend(&central);
    archive.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    archive.extend((central.len() as u32).to_le_bytes());
    archive.extend(at.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

/// A tar of which only the first file is seen.
fn tar(len: usize) -> Vec<u8> {
    let mut tar = b"000001.jpg".to_vec();
    tar.resize(257, 0);
    tar.extend(b"ustar\x0000");
    tar.resize(512, 0);
    tar.resize(len, 7);
    tar
}

/// A model with weights, and with four files that can run code.
fn model(folder: &Path) {
    fixture::folder(
        folder,
        1,
        &[
            ("model.safetensors", 3 << 20),
            ("data.bin", 5 << 20),
            ("few.bin", 5_000),
            ("config.json", 500),
        ],
    )
    .unwrap();
    fs::write(folder.join("pytorch_model.bin"), pickle(24 << 20)).unwrap();
    fs::write(folder.join("archive.pt"), archive(20 << 20)).unwrap();
    fs::write(folder.join("small.pkl"), pickle(3_000)).unwrap();
    fs::write(folder.join("middling.weights"), pickle(300_000)).unwrap();
    fs::write(folder.join("modeling.py"), "import os\n").unwrap();
}

const CODE: [&str; 4] = ["archive.pt", "middling.weights", "pytorch_model.bin", "small.pkl"];
const PLAIN: [&str; 5] = [
    "config.json",
    "data.bin",
    "few.bin",
    "model.safetensors",
    "modeling.py",
];

fn left_out(fetched: &Fetched) -> Vec<&str> {
    fetched.left_out.iter().map(|out| out.path.as_str()).collect()
}

fn of(repo: &protocol::RepoId, to: &Path) -> FetchRequest {
    FetchRequest {
        to: Some(to.to_owned()),
        ..FetchRequest::new(FetchWhat::Repo(RepoRef::Id(repo.clone())))
    }
}

async fn bring(node: &Node, request: FetchRequest) -> Result<Fetched, FetchError> {
    within(FETCH, "a fetch", node.fetch(request, &unseen()))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_run_code_is_left_out_until_it_is_allowed() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    model(&folder);
    let (published, _) = publish(net.node(A), &folder, "model").await;
    // Slower than the verdict: what of a file comes before it is little.
    net.node(B).set_limits(Limits {
        down: Some(4 << 20),
        ..Limits::default()
    });
    let out = net.scratch().join("out");
    let fetched = bring(net.node(B), of(&published.repo, &out)).await.unwrap();
    assert_eq!(left_out(&fetched), CODE);
    assert_eq!(fixture::files(&out).unwrap(), PLAIN);
    assert_eq!(fetched.files, PLAIN.len() as u64);
    assert!(
        fetched
            .left_out
            .iter()
            .all(|out| out.what.starts_with("can run code")),
        "{fetched:?}"
    );
    assert!(fetched.fetched_bytes < 30 << 20, "{fetched:?}");
    assert!(!net.node(B).library().list().unwrap()[0].complete);

    // By its exact path a file is asked for by name; by a pattern it is not.
    let mut named = of(&published.repo, &out);
    named.include = vec!["small.pkl".into(), "archive.pt".into(), "middling.*".into()];
    let fetched = bring(net.node(B), named).await.unwrap();
    assert_eq!(left_out(&fetched), ["middling.weights"]);
    assert_eq!(fixture::files(&out).unwrap().len(), PLAIN.len() + 2);

    let mut allowed = of(&published.repo, &out);
    allowed.allow_code = true;
    let fetched = bring(net.node(B), allowed).await.unwrap();
    assert_eq!(left_out(&fetched), [""; 0]);
    fixture::assert_same(&folder, &out);
    assert!(net.node(B).library().list().unwrap()[0].complete);

    // What is here is not handed out for that.
    let again = net.scratch().join("again");
    let fetched = fetch(net.node(B), &published.repo, Some(&again)).await;
    assert_eq!((left_out(&fetched), fetched.fetched_bytes), (CODE.to_vec(), 0));
    assert_eq!(fixture::files(&again).unwrap(), PLAIN);
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_differ_in_what_is_left_out() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("repo");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.pkl"), pickle(3 << 20)).unwrap();
    fs::write(
        folder.join("b.h5"),
        [b"\x89HDF\r\n\x1a\n", vec![7; 2 << 20].as_slice()].concat(),
    )
    .unwrap();
    fs::write(folder.join("c.safetensors"), vec![b'x'; 2 << 20]).unwrap();
    fs::write(folder.join("d-0001.tar"), tar(2 << 20)).unwrap();
    for (kind, name, wanted) in [
        (
            Kind::Dataset,
            "data",
            &["b.h5", "c.safetensors", "d-0001.tar"] as &[_],
        ),
        (
            Kind::Space,
            "space",
            &["a.pkl", "b.h5", "c.safetensors", "d-0001.tar"],
        ),
    ] {
        let ask = PublishRequest {
            kind,
            ..request(&folder, name)
        };
        let (published, _) = net.node(A).publish(ask, &unseen()).await.unwrap();
        // The next kind begins with nothing here.
        let out = net.scratch().join(name);
        let fetched = fetch(net.node(B), &published.repo, Some(&out)).await;
        assert_eq!(fixture::files(&out).unwrap(), wanted, "{kind}: {fetched:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_bytes_behind_the_heads_tell_is_left_out_too() {
    const CALL: &[u8] = b"cprint\nprint\n(S'called'\ntR.";
    let mut net = Testnet::start(4).await.unwrap();
    let folder = net.scratch().join("model");
    let plain = ["few.bin", "one-line.txt", "small-line.txt"];
    fixture::folder(&folder, 1, &[("few.bin", 5_000)]).unwrap();
    let line = vec![b'x'; 5 << 20];
    let behind = vec![b'x'; 16 << 20];
    let short = &line[..100_000];
    let text = [b"Very", &line[..], b"\n"].concat();
    for (name, file) in [
        ("assets.tar", tar(20 << 20)),
        (
            "line.weights",
            [b"S'", &line[..], b"'\n0", CALL, &behind].concat(),
        ),
        (
            "thing.weights",
            [b"X\0\0\x50\0", &line[..], b"0", CALL, &behind].concat(),
        ),
        ("short.weights", [b"S'", short, b"'\n0", CALL].concat()),
        ("one-line.txt", text),
        ("small-line.txt", [b"Very", short].concat()),
    ] {
        fs::write(folder.join(name), file).unwrap();
    }
    let (published, _) = publish(net.node(A), &folder, "model").await;
    // Slower than the verdict, as above.
    net.node(B).set_limits(Limits {
        down: Some(8 << 20),
        ..Limits::default()
    });
    let out = net.scratch().join("out");
    let fetched = bring(net.node(B), of(&published.repo, &out)).await.unwrap();
    let wanted = ["assets.tar", "line.weights", "short.weights", "thing.weights"];
    assert_eq!(left_out(&fetched), wanted);
    assert_eq!(fixture::files(&out).unwrap(), plain);
    assert!(fetched.fetched_bytes < 40 << 20, "{fetched:?}");

    // Who has as much of it as tells that, says the same of it to others.
    net.stop(A).await;
    let last = net.scratch().join("last");
    let fetched = fetch(net.node(3), &published.repo, Some(&last)).await;
    assert_eq!(left_out(&fetched), wanted);
    assert_eq!(fixture::files(&last).unwrap(), plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_model_ends_a_fetch_unless_it_is_asked_for_by_name() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(
        &folder,
        1,
        &[("sub/model.safetensors", 40 << 20), ("config.json", 500)],
    )
    .unwrap();
    // One byte more than its header says.
    fs::write(folder.join("sub/model.safetensors"), {
        let mut bytes = fixture::bytes(1, "sub/model.safetensors", 40 << 20);
        bytes.push(0);
        bytes
    })
    .unwrap();
    let (published, _) = publish(net.node(A), &folder, "model").await;
    net.node(B).set_limits(Limits {
        down: Some(8 << 20),
        ..Limits::default()
    });
    let out = net.scratch().join("out");
    let error = bring(net.node(B), of(&published.repo, &out)).await.unwrap_err();
    let FetchError::Broken { path, source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(path, "sub/model.safetensors");
    assert!(
        source
            .to_string()
            .contains("1 bytes at 41943040 belong to no tensor"),
        "{source}"
    );
    let came = net.node(B).status().await.unwrap().down_bytes;
    assert!(came < 12 << 20, "{came} bytes came of a broken model");
    assert!(!out.exists());

    let mut named = of(&published.repo, &out);
    named.include = vec!["sub/model.safetensors".into()];
    net.node(B).set_limits(Limits::default());
    let fetched = bring(net.node(B), named).await.unwrap();
    assert_eq!((fetched.files, fetched.bytes), (1, (40 << 20) + 1));
    // What was asked for by name serves others, and one who wants the rest alone is not stopped.
    let mut rest = of(&published.repo, &out);
    rest.exclude = vec!["sub/**".into()];
    assert_eq!(bring(net.node(B), rest).await.unwrap().files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_this_build_does_not_read_are_fetched_and_said() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fs::create_dir_all(&folder).unwrap();
    let mut gguf = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    gguf.extend(b"\x01\0\0\0\0\0\0\0a\x01\0\0\0\0\x01\0\0\0\0\0\0\x17\0\0\0\0\0\0\0\0\0\0\0");
    gguf.resize(2 << 20, 1);
    fs::write(folder.join("m.gguf"), gguf).unwrap();
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let out = net.scratch().join("out");
    let fetched = fetch(net.node(B), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    assert_eq!(fetched.problems.len(), 1);
    assert!(fetched.problems[0].what.contains("IQ4_XS"), "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_starts_again_leaves_out_the_same() {
    let mut net = Testnet::start(4).await.unwrap();
    let folder = net.scratch().join("model");
    model(&folder);
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let slow = Limits {
        up: Some(1 << 20),
        ..Limits::default()
    };
    net.node(A).set_limits(slow);
    let out = net.scratch().join("out");
    let (node, request) = (net.node(B).clone(), of(&published.repo, &out));
    let fetching = tokio::spawn(async move { node.fetch(request, &unseen()).await });
    let begun = async || net.node(B).jobs().iter().any(|job| job.shards > 2).then_some(());
    net.until("some of it to come", begun).await.unwrap();
    fetching.abort();
    assert!(fetching.await.unwrap_err().is_cancelled());
    net.restart(B).await.unwrap();
    // Slower than the verdict, as above.
    net.node(A).set_limits(Limits {
        up: Some(4 << 20),
        ..Limits::default()
    });
    net.meet().await.unwrap();
    assert_eq!(net.node(B).resume_jobs().await, 1);
    let done = async || net.node(B).jobs().is_empty().then_some(());
    net.until("the fetch to end", done).await.unwrap();
    let handed_out = async || (fixture::files(&out).ok()?.len() == PLAIN.len()).then_some(());
    net.until("the files to be handed out", handed_out).await.unwrap();
    assert_eq!(fixture::files(&out).unwrap(), PLAIN);
    let shown = net
        .node(B)
        .library()
        .show(&RepoRef::Id(published.repo.clone()))
        .await
        .unwrap();
    for entry in shown.entries {
        let long = ["archive.pt", "pytorch_model.bin"].contains(&entry.path.as_str());
        assert_eq!(entry.place == "partial", long, "{entry:?}");
    }

    // What it has it gives on, after another start too; who asks nobody else leaves out the same.
    net.stop(A).await;
    let last = net.scratch().join("last");
    let fetched = fetch(net.node(3), &published.repo, Some(&last)).await;
    assert_eq!(left_out(&fetched), CODE);
    net.stop(3).await;
    net.restart(B).await.unwrap();
    let announced = async || (net.node(B).status().await.ok()?.announced > 0).then_some(());
    net.until("a repo without all its files to be announced", announced)
        .await
        .unwrap();
    let again = net.scratch().join("again");
    let fetched = fetch(net.node(0), &published.repo, Some(&again)).await;
    assert_eq!(left_out(&fetched), CODE);
    assert_eq!(fixture::files(&again).unwrap(), PLAIN);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_fetch_that_wants_code_does_not_get_it() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    model(&folder);
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let (all, some) = (net.scratch().join("all"), net.scratch().join("some"));
    let mut allowed = of(&published.repo, &all);
    allowed.allow_code = true;
    let (one, other, b) = (unseen(), unseen(), net.node(B));
    let both = async {
        tokio::join!(
            b.fetch(allowed, &one),
            b.fetch(of(&published.repo, &some), &other)
        )
    };
    let (allowed, cautious) = within(FETCH, "two fetches", both).await.unwrap();
    assert_eq!(left_out(&allowed.unwrap()), [""; 0]);
    fixture::assert_same(&folder, &all);
    assert_eq!(left_out(&cautious.unwrap()), CODE);
    assert_eq!(fixture::files(&some).unwrap(), PLAIN);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_of_the_gateway_asks_for_a_file_by_name_and_only_where_it_may() {
    let net = Testnet::start_with(4, |index, config| {
        config.on_demand = match index {
            B => OnDemand::Never,
            _ => OnDemand::Any,
        }
    })
    .await
    .unwrap();
    let folder = net.scratch().join("model");
    model(&folder);
    let (published, _) = publish(net.node(A), &folder, "model").await;
    net.node(A).set_limits(Limits {
        up: Some(2 << 20),
        ..Limits::default()
    });
    let (node, request) = (
        net.node(B).clone(),
        FetchWhat::Repo(published.repo.clone().into()),
    );
    let fetching = tokio::spawn(async move { node.fetch(FetchRequest::new(request), &unseen()).await });
    let some = async || net.node(B).jobs().iter().any(|job| job.shards > 0).then_some(());
    net.until("a first shard", some).await.unwrap();
    let at = |path: &str| format!("/blake3/{}/resolve/main/{path}", published.manifest);
    // What a fetch under way may leave out it does not bring for a client either.
    let never = open_doors(net.node(B)).await;
    let refused = get(&never, &at("pytorch_model.bin"), &[]).await;
    assert_eq!(refused.status, 404, "{}", refused.header("x-error-message"));
    assert!(!fetching.is_finished(), "the fetch was over before anybody asked");
    let config = get(&never, &at("config.json"), &[]).await;
    assert!(config.body == fs::read(folder.join("config.json")).unwrap());
    net.node(A).set_limits(Limits::default());
    let fetched = within(FETCH, "a fetch", fetching).await.unwrap().unwrap();
    assert_eq!(left_out(&fetched.unwrap()), CODE);
    let any = open_doors(net.node(3)).await;
    let asked = get(&any, &at("pytorch_model.bin"), &[]).await;
    assert!(asked.body == fs::read(folder.join("pytorch_model.bin")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn model_without_its_pickle_is_listed_to_be_run() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("toy");
    fixture::toy_model(&folder, 1).unwrap();
    fs::write(folder.join("pytorch_model.bin"), pickle(3 << 20)).unwrap();
    let (published, _) = publish(net.node(A), &folder, "toy").await;
    let fetched = fetch(net.node(B), &published.repo, None).await;
    assert_eq!(left_out(&fetched), ["pytorch_model.bin"]);
    let door = open_doors(net.node(B)).await;
    let listed = get(&door, "/v1/models", &[]).await;
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    assert_eq!(listed["data"][0]["id"], published.repo.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_of_a_file_asks_for_it_by_name() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    model(&folder);
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let fetched = fetch(net.node(B), &published.repo, None).await;
    assert!(left_out(&fetched).contains(&"pytorch_model.bin"));
    let manifest = net.node(B).library().manifest(published.manifest).await.unwrap();
    let file = manifest.file("pytorch_model.bin").unwrap().clone();
    let (len, mut reader) = (file.size, net.node(B).open(published.manifest, file));
    let end = within(FETCH, "the end of a file", reader.read(len - 3..len))
        .await
        .unwrap();
    assert_eq!(&end.unwrap()[..], b"0}.");
}

/// What the program says of a real model, if the variable names its folder.
fn shown_of(variable: &str) -> Option<(Value, String)> {
    let Some(folder) = std::env::var_os(variable).map(PathBuf::from) else {
        skip(format!("{variable} names no folder"));
        return None;
    };
    let shoal = Shoal::new();
    let published = shoal.json(&["publish", text(&folder), "--name", "real"]);
    let repo = format!("blake3/{}", published["manifest"].as_str().unwrap());
    Some((shoal.json(&["show", &repo]), shoal.run(&["show", &repo]).stdout))
}

#[test]
fn minilm_shows_its_tensors_parameters_and_architecture() {
    let Some((shown, said)) = shown_of(MINILM) else {
        return;
    };
    let facts = &shown["facts"];
    assert_eq!(facts["formats"], json!(["safetensors"]));
    assert_eq!(facts["architecture"], "BertModel");
    assert_eq!(facts["parameters"]["F32"], 22_713_216);
    assert_eq!((&facts["context"], &facts["layers"]), (&json!(512), &json!(6)));
    assert_eq!((&facts["width"], &facts["vocab"]), (&json!(384), &json!(30_522)));
    let tensors = facts["weights"][0]["tensors"].as_array().unwrap();
    let named = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).unwrap();
    assert_eq!(
        named("embeddings.word_embeddings.weight")["shape"],
        json!([30_522, 384])
    );
    assert_eq!((&facts["problems"], &facts["code"]), (&json!([]), &json!([])));
    for line in [
        "BertModel, 6 layers, 384 wide, 30522 tokens",
        "22.7 M (22.7 M F32, 512 I64)",
        "512 tokens",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn smollm2_shows_its_packed_tensors_parameters_and_context() {
    let Some((shown, said)) = shown_of(SMOLLM2) else {
        return;
    };
    let facts = &shown["facts"];
    assert_eq!(facts["formats"], json!(["gguf"]));
    assert_eq!(
        (&facts["architecture"], &facts["context"]),
        (&json!("llama"), &json!(8_192))
    );
    let counts = facts["parameters"].as_object().unwrap().values();
    let all: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(all, 134_515_008);
    assert!(said.contains("134.5 M"), "{said}");
}

#[test]
fn program_says_what_was_left_out_and_what_a_model_is() {
    let folder = tempfile::tempdir().unwrap();
    let (toy, shoal) = (folder.path().join("toy"), Shoal::new());
    fixture::toy_model(&toy, 1).unwrap();
    fs::write(toy.join("small.pkl"), pickle(3_000)).unwrap();
    fs::write(toy.join("broken.gguf"), b"GGUF\x03\0\0\0").unwrap();
    let published = shoal.json(&["publish", text(&toy), "--name", "toy"]);
    // By its hash, since nobody else is there to be asked for the name.
    let repo = &*format!("blake3/{}", published["manifest"].as_str().unwrap());
    let shown = shoal.json(&["show", repo]);
    let facts = &shown["facts"];
    let paths = |of: &Value| -> Vec<String> {
        let of = of.as_array().unwrap().iter();
        of.map(|one| one["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(facts["formats"], json!(["safetensors"]));
    assert_eq!(paths(&facts["code"]), ["small.pkl"]);
    assert_eq!(paths(&facts["problems"]), ["broken.gguf"]);
    assert!(facts["parameters"]["F32"].as_u64().unwrap() > 10_000);
    assert!(!facts["weights"][0]["tensors"].as_array().unwrap().is_empty());
    let said = shoal.run(&["show", repo]);
    for word in [
        "safetensors",
        "parameters",
        "F32",
        "can run code when it is loaded",
        "broken.gguf",
        "architecture",
    ] {
        assert!(said.stdout.contains(word), "{word}: {said:?}");
    }

    let out = folder.path().join("out");
    let fetched = shoal.json(&["fetch", repo, "--to", text(&out)]);
    assert_eq!(paths(&fetched["left_out"]), ["small.pkl"]);
    assert!(!out.join("small.pkl").exists() && out.join("broken.gguf").exists());
    let said = shoal.run(&["fetch", repo, "--to", text(&out)]);
    assert!(
        said.stdout.contains("left out") && said.stdout.contains("small.pkl"),
        "{said:?}"
    );
    assert!(said.stderr.contains("--allow-code"), "{said:?}");
    let fetched = shoal.json(&["fetch", repo, "--to", text(&out), "--allow-code"]);
    assert!(fetched.get("left_out").is_none(), "{fetched}");
    assert!(out.join("small.pkl").exists());
}
