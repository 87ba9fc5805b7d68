//! Nodes learn of each other's releases without anybody in charge: by syncs, and by what is passed on.

use std::fs;
use std::path::Path;

use node::discovery::{Hit, SearchAsk};
use node::node::Node;
use protocol::{Alias, RepoRef};
use testnet::fixture;
use testnet::nodes::Testnet;

use crate::acts::{fetch, publish};
use crate::program::{Shoal, text};

const A: usize = 1;
const B: usize = 2;
const C: usize = 3;

/// A small model with a card.
fn model(folder: &Path, seed: u64, card: &str) {
    fixture::folder(folder, seed, &[("config.json", 300), ("weights.bin", 40_000)]).unwrap();
    fs::write(folder.join("README.md"), card).unwrap();
}

fn search(node: &Node, words: &str) -> Vec<Hit> {
    let ask = SearchAsk {
        words: words.to_owned(),
        ..SearchAsk::default()
    };
    node.discovery().search(&ask).unwrap().hits
}

/// Waits until a node finds so many repos by these words.
async fn found(net: &Testnet, node: usize, words: &str, count: usize) -> Vec<Hit> {
    let what = format!("node {node} to find {count} by {words:?}");
    let looked = async || {
        let hits = search(net.node(node), words);
        (hits.len() == count).then_some(hits)
    };
    net.until(&what, looked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_that_know_one_bootstrap_peer_find_each_others_models_by_words_and_get_the_next_release()
{
    let net = Testnet::start(4).await.unwrap();
    let folder = |name: &str| net.scratch().join(name);
    model(
        &folder("llama"),
        1,
        "---\nlicense: mit\npipeline_tag: text-generation\ntags: [tiny]\n---\nA llama that speaks of the sea and of fish.\n",
    );
    model(
        &folder("bert"),
        2,
        "---\nlicense: apache-2.0\npipeline_tag: fill-mask\nlanguage: de\n---\nA mask that is filled in German words.\n",
    );
    let (first, _) = publish(net.node(A), &folder("llama"), "sea-llama-7b").await;
    publish(net.node(B), &folder("bert"), "tiny-bert").await;
    let hits = found(&net, C, "llama", 1).await;
    assert_eq!(hits[0].repo, first.repo);
    let card = hits[0].card.as_ref().unwrap();
    assert_eq!(
        (card.license.as_deref(), card.task.as_deref()),
        (Some("mit"), Some("text-generation"))
    );
    // By its description, by a tag, by the beginning of a word; and on every node.
    for words in ["fish sea", "tiny speaks", "sea-lla", "7b llama"] {
        assert_eq!(found(&net, B, words, 1).await[0].repo, first.repo, "{words}");
    }
    found(&net, A, "german", 1).await;
    let filtered = SearchAsk {
        task: Some("fill-mask".to_owned()),
        license: Some("Apache-2.0".to_owned()),
        language: Some("de".to_owned()),
        ..SearchAsk::default()
    };
    let filtered = net.node(C).discovery().search(&filtered).unwrap();
    assert_eq!(
        (filtered.total, filtered.hits[0].repo.name.as_str()),
        (1, "tiny-bert")
    );

    // A followed publisher's next release is here without being asked for.
    let alias = Alias::new("fisher").unwrap();
    net.node(C)
        .library()
        .follow(first.repo.publisher, &alias)
        .unwrap();
    fs::write(
        folder("llama").join("weights.bin"),
        fixture::bytes(9, "weights", 50_000),
    )
    .unwrap();
    let (second, _) = publish(net.node(A), &folder("llama"), "sea-llama-7b").await;
    assert_eq!(second.seq, 2);
    let named = RepoRef::Aliased {
        alias,
        name: first.repo.name.clone(),
    };
    let came = async || {
        let here = net.node(C).library().resolve_local(&named).ok()?;
        (here == second.manifest).then_some(())
    };
    net.until("the next release", came).await.unwrap();
    let newer = async || search(net.node(C), "llama").into_iter().find(|hit| hit.seq == 2);
    let hit = net.until("a search to show it", newer).await.unwrap();
    assert_eq!(hit.alias.as_ref().map(Alias::as_str), Some("fisher"));
    // What it finds it fetches.
    let out = folder("out");
    fetch(net.node(C), &first.repo, Some(&out)).await;
    fixture::assert_same(&folder("llama"), &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn search_counts_who_has_what_it_finds_where_it_is_asked_to() {
    let net = Testnet::start(4).await.unwrap();
    let folder = net.scratch().join("gull");
    model(&folder, 1, "---\nlicense: mit\n---\nGulls.\n");
    let (gull, _) = publish(net.node(A), &folder, "gull").await;
    let hit = found(&net, C, "gull", 1).await.remove(0);
    assert_eq!(hit.sources, 0, "nobody was asked");
    fetch(net.node(B), &gull.repo, None).await;
    let counted = async || {
        let ask = SearchAsk {
            words: "gull".to_owned(),
            sources: true,
            ..SearchAsk::default()
        };
        let answer = net.node(C).find(ask).await.unwrap();
        assert!(answer.asked);
        (answer.hits[0].sources == 2).then_some(())
    };
    net.until("both to be found", counted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_outlives_the_node_and_reaches_who_comes_later() {
    let mut net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    model(
        &folder,
        1,
        "---\nlicense: mit\n---\nIt counts herrings in pictures of the sea.\n",
    );
    let (published, _) = publish(net.node(A), &folder, "herring").await;
    found(&net, B, "herring", 1).await;
    // The publisher is gone; who heard of it tells.
    net.stop(A).await;
    net.restart(B).await.unwrap();
    assert_eq!(search(net.node(B), "herrings")[0].repo, published.repo);
    net.restart(A).await.unwrap();
    let own = search(net.node(A), "herring");
    assert!(own[0].ours && own[0].here, "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_relays_only_whom_it_follows_keeps_nobody_else() {
    let net = Testnet::start_with(4, |index, config| {
        if index == C {
            config.relay = node::discovery::Relay::Followed;
        }
    })
    .await
    .unwrap();
    let folder = net.scratch().join("model");
    model(
        &folder,
        1,
        "---\nlicense: mit\n---\nOne that is followed, and one that is not.\n",
    );
    let (followed, _) = publish(net.node(A), &folder, "followed").await;
    let alias = Alias::new("a").unwrap();
    net.node(C)
        .library()
        .follow(followed.repo.publisher, &alias)
        .unwrap();
    publish(net.node(B), &folder, "stranger").await;
    found(&net, A, "stranger", 1).await;
    publish(net.node(A), &folder, "another").await;
    found(&net, C, "another", 1).await;
    assert_eq!(search(net.node(C), "stranger"), []);
}

#[test]
fn search_needs_no_network_and_no_running_node() {
    let (shoal, scratch) = (Shoal::new(), tempfile::tempdir().unwrap());
    let folder = scratch.path().join("model");
    model(
        &folder,
        1,
        "---\nlicense: mit\npipeline_tag: text-generation\nbase_model: meta-llama/Llama-3.1-8B\nbase_model_relation: finetune\n---\nA fine tune for tests of searches.\n",
    );
    shoal.json(&["publish", text(&folder), "--name", "tuned-llama"]);
    model(
        &folder,
        2,
        "---\nlicense: mit\npipeline_tag: text-generation\nbase_model: meta-llama/Llama-3.1-8B\nbase_model_relation: quantized\n---\nThe same in fewer bits than it had.\n",
    );
    shoal.json(&["publish", text(&folder), "--name", "small-llama"]);
    let found = shoal.json(&["search", "llama", "tests"]);
    assert_eq!((&found["total"], &found["known"]), (&1.into(), &2.into()));
    assert_eq!(found["hits"][0]["card"]["license"], "mit");
    let said = shoal.run(&["search", "llama"]);
    assert!(
        said.stdout.contains("tuned-llama") && said.stdout.contains("small-llama"),
        "{said:?}"
    );
    assert!(
        said.stdout.contains("text-generation") && said.stdout.contains("ours"),
        "{said:?}"
    );
    let none = shoal.run(&["search", "giraffe"]);
    assert!(
        none.status.success() && none.stdout.is_empty() && none.stderr.contains("2 releases"),
        "{none:?}"
    );
    let base = shoal.json(&[
        "search",
        "--base",
        "meta-llama/llama-3.1-8b",
        "--limit",
        "1",
        "--sort",
        "name",
    ]);
    assert_eq!(
        (&base["total"], base["hits"].as_array().unwrap().len()),
        (&2.into(), 1)
    );
    let next = base["next"].as_str().unwrap();
    let rest = shoal.json(&[
        "search",
        "--base",
        "meta-llama/llama-3.1-8b",
        "--sort",
        "name",
        "--after",
        next,
    ]);
    assert_eq!(rest["hits"].as_array().unwrap().len(), 1);
    assert_ne!(rest["hits"][0]["repo"], base["hits"][0]["repo"]);
    let repo = found["hits"][0]["repo"].as_str().unwrap().to_owned();
    let relatives = shoal.json(&["similar", &repo]);
    assert_eq!(relatives["bases"][0]["name"], "meta-llama/Llama-3.1-8B");
    assert_eq!(relatives["siblings"].as_array().unwrap().len(), 1);
    let said = shoal.run(&["similar", &repo]).stdout;
    assert!(
        said.contains("finetune from meta-llama/Llama-3.1-8B") && said.contains("small-llama"),
        "{said}"
    );
    let wrong = shoal.run(&["search", "llama", "--after", "nonsense"]);
    assert!(
        !wrong.status.success() && wrong.stderr.contains("cursor"),
        "{wrong:?}"
    );
}

#[test]
fn publish_says_what_a_card_lacks_and_refuses_it_where_it_is_asked_to() {
    let (shoal, scratch) = (Shoal::new(), tempfile::tempdir().unwrap());
    let folder = scratch.path().join("model");
    model(&folder, 1, "---\nlicense: mit\n---\nIt has no task.\n");
    let refused = shoal.run(&["publish", text(&folder), "--require-card"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    for word in ["pipeline_tag", "base_model", "--require-card"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    let warned = shoal.run(&["publish", text(&folder)]);
    assert!(
        warned.status.success() && warned.stderr.contains("pipeline_tag, base_model"),
        "{warned:?}"
    );
    let card = "---\nlicense: mit\npipeline_tag: fill-mask\nbase_model: []\n---\nIt has all.\n";
    fs::write(folder.join("README.md"), card).unwrap();
    let whole = shoal.run(&["publish", text(&folder), "--require-card"]);
    assert!(
        whole.status.success() && !whole.stderr.contains("says nothing"),
        "{whole:?}"
    );
}
