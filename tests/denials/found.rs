//! What is denied is not found by who denies it, nor told on to others.

use node::denials::What;
use node::discovery::{Hit, SearchAsk};
use node::node::Node;
use testnet::nodes::Testnet;

use super::{A, B, deny, model, soon};

fn search(node: &Node, words: &str) -> Vec<Hit> {
    let ask = SearchAsk {
        words: words.to_owned(),
        ..SearchAsk::default()
    };
    node.discovery().search(&ask).unwrap().hits
}

/// Waits until a node finds one repo by a word.
async fn found(net: &Testnet, node: usize, word: &str) {
    let what = format!("node {node} to find {word}");
    let looked = async || (search(net.node(node), word).len() == 1).then_some(());
    net.until(&what, looked).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_of_a_denied_publisher_are_neither_found_nor_told_on_nor_kept_until_they_are_allowed() {
    let mut net = Testnet::start(2).await.unwrap();
    let old = model(&net, A, "herring", 1_000).await;
    found(&net, B, "herring").await;
    let publisher = What::Publisher(old.repo.publisher);
    deny(net.node(B), &publisher).await;
    assert_eq!(search(net.node(B), "herring"), []);
    model(&net, A, "mackerel", 1_000).await;
    model(&net, B, "sardine", 1_000).await;

    // Who comes while the publisher is away hears of it from nobody.
    net.stop(A).await;
    let late = net.add().await.unwrap();
    found(&net, late, "sardine").await;
    assert_eq!(search(net.node(late), "herring"), []);

    net.node(B).library().allow(&publisher).await.unwrap();
    assert_eq!(search(net.node(B), "herring").len(), 1);
    net.restart(late).await.unwrap();
    found(&net, late, "herring").await;
    assert_eq!(search(net.node(B), "mackerel"), [], "what was not taken in");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_taken_in_comes_as_soon_as_it_is_allowed() {
    let net = Testnet::start(2).await.unwrap();
    let first = model(&net, A, "herring", 1_000).await;
    found(&net, B, "herring").await;
    let (b, publisher) = (net.node(B), What::Publisher(first.repo.publisher));
    deny(b, &publisher).await;
    model(&net, A, "mackerel", 1_000).await;
    let refused = async || (b.discovery().refused() == 1).then_some(());
    soon(b, "the release to be refused", refused).await;
    assert_eq!(search(b, "mackerel"), []);
    b.library().allow(&publisher).await.unwrap();
    let came = async || (search(b, "mackerel").len() == 1).then_some(());
    soon(b, "the release", came).await;
}
