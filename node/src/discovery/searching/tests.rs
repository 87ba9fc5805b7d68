//! What is known of a repo is found by what the Hub calls it, and keeps the time of its first release.

use ed25519_dalek::SigningKey;
use libp2p::PeerId;
use protocol::{Alias, Known, Release, RepoName, SignedRelease};
use tempfile::TempDir;

use super::*;
use crate::discovery::{Relay, samples};

async fn discovery() -> (Discovery, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let library = Library::open(data.path()).await.unwrap();
    (Discovery::open(library, Relay::All).unwrap().0, data)
}

/// A release, issued `ago` seconds ago, with its card.
fn told(name: &str, seq: u64, ago: u64, card: &Summary) -> Known {
    let key = SigningKey::from_bytes(&[1; 32]);
    let release = Release {
        publisher: key.verifying_key().into(),
        name: RepoName::new(name).unwrap(),
        kind: Kind::Model,
        manifest: Hash::of(name.as_bytes()),
        seq,
        prev: None,
        issued: now() - ago,
        expires: now() + 1_000,
        upstream: None,
        card: card.hash().ok(),
    };
    Known {
        release: SignedRelease::sign(release, &key).unwrap().encode(),
        card: card.encode().ok(),
    }
}

fn take(discovery: &Discovery, known: &[Known]) {
    let taken = discovery.take(known, Some(PeerId::random())).unwrap();
    assert_eq!(taken.new.len(), known.len());
    discovery.catch_up();
}

fn names(discovery: &Discovery, ask: SearchAsk) -> Vec<String> {
    let hits = discovery.search(&ask).unwrap().hits;
    hits.iter().map(|hit| hit.repo.name.to_string()).collect()
}

#[tokio::test]
async fn labels_of_the_hub_find_what_a_card_says_by_whatever_name() {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (discovery, _data) = discovery().await;
    let talker = Summary {
        base_model: texts(&["meta-llama/Llama-3.1-8B"]),
        formats: texts(&["gguf"]),
        languages: texts(&["de"]),
        library: Some("transformers".to_owned()),
        license: Some("mit".to_owned()),
        tags: texts(&["Chat", "dataset:some/data", "license:odd"]),
        task: Some("text-generation".to_owned()),
        ..Summary::default()
    };
    // Each says something else by a word of the first.
    let other = Summary {
        description: Some("mit gguf de chat transformers".to_owned()),
        license: Some("de".to_owned()),
        ..Summary::default()
    };
    take(
        &discovery,
        &[told("talker", 1, 9, &talker), told("other", 1, 9, &other)],
    );
    for label in [
        "gguf",
        "DE",
        "language:de",
        "transformers",
        "license:mit",
        "license:odd",
        "chat",
        "dataset:some/data",
        "base_model:meta-llama/llama-3.1-8b",
        "text-generation",
    ] {
        let labels = vec![label.to_owned(), "chat".to_owned()];
        for labels in [labels[..1].to_vec(), labels] {
            let ask = SearchAsk {
                labels,
                ..SearchAsk::default()
            };
            assert_eq!(names(&discovery, ask), ["talker"], "{label}");
        }
    }
    for label in ["mit", "license:gguf", "language:en", "task:de", "", ":", "gguf:"] {
        let ask = SearchAsk {
            labels: vec![label.to_owned()],
            ..SearchAsk::default()
        };
        assert!(names(&discovery, ask).is_empty(), "{label}");
    }
}

#[tokio::test]
async fn first_release_that_was_seen_says_when_a_repo_was_created() {
    let (discovery, _data) = discovery().await;
    let card = Summary::default();
    let first = told("grown", 1, 900, &card);
    take(&discovery, &[first.clone(), told("between", 1, 500, &card)]);
    take(&discovery, &[told("grown", 2, 100, &card)]);
    let by = |discovery: &Discovery, sort| {
        let ask = SearchAsk {
            sort,
            ..SearchAsk::default()
        };
        names(discovery, ask)
    };
    let issued = first.verify().unwrap().0.release().issued;
    let check = |discovery: &Discovery| {
        assert_eq!(by(discovery, SearchSort::Modified), ["grown", "between"]);
        assert_eq!(by(discovery, SearchSort::Created), ["between", "grown"]);
        let hits = discovery.search(&SearchAsk::default()).unwrap().hits;
        let grown = hits.iter().find(|hit| hit.repo.name.as_str() == "grown");
        assert_eq!(grown.unwrap().created, issued);
    };
    check(&discovery);
    // An index that is lost is made of rows that say the same.
    discovery.0.index.clear().unwrap();
    fill(discovery.library(), &discovery.0.index).unwrap();
    check(&discovery);
}

#[tokio::test]
async fn what_came_after_the_index_was_written_is_found_when_it_is_opened_again() {
    let (mut discovery, _data) = discovery().await;
    let library = discovery.library().clone();
    let opened = async || Discovery::alone(library.clone()).await.unwrap();
    let card = Summary::default();
    take(&discovery, &[told("herring", 1, 9, &card)]);
    // As when the process ends before it is written.
    let unseen = |discovery: &Discovery, name: &str| {
        let taken = discovery.take(&[told(name, 1, 9, &card)], Some(PeerId::random()));
        assert_eq!(taken.unwrap().new.len(), 1);
        discovery.0.index.close();
    };
    unseen(&discovery, "sprat");
    discovery = opened().await;
    let all = |discovery: &Discovery| {
        let ask = SearchAsk {
            sort: SearchSort::Name,
            ascending: true,
            ..SearchAsk::default()
        };
        names(discovery, ask)
    };
    assert_eq!(all(&discovery), ["herring", "sprat"]);
    // Also where the index had more than the catalog now has.
    discovery.0.index.commit(1_000).unwrap();
    discovery.0.index.close();
    discovery = opened().await;
    unseen(&discovery, "eel");
    discovery = opened().await;
    assert_eq!(all(&discovery), ["eel", "herring", "sprat"]);
}

#[tokio::test]
async fn hit_that_could_be_taken_for_a_repo_of_somebody_followed_says_so() {
    let (discovery, _data) = discovery().await;
    let names = ["modern-bert", "modem-bert", "modern-bert", "whale"];
    let releases: Vec<SignedRelease> = (1..)
        .zip(names)
        .map(|(seed, name)| samples::signed(seed, name, 1))
        .collect();
    let alias = Alias::new("friend").unwrap();
    let library = discovery.library();
    library.follow(releases[0].release().publisher, &alias).unwrap();
    let known: Vec<Known> = releases.iter().map(samples::told).collect();
    take(&discovery, &known);
    let hits = discovery.search(&SearchAsk::default()).unwrap().hits;
    let like = releases.iter().map(|release| {
        let hit = hits.iter().find(|hit| hit.repo == release.release().repo());
        hit.unwrap().looks_like.as_deref()
    });
    let friend = Some("friend/modern-bert");
    assert_eq!(like.collect::<Vec<_>>(), [None, friend, friend, None]);
}

#[tokio::test]
async fn the_very_first_that_came_is_found_after_a_crash() {
    let (discovery, _data) = discovery().await;
    let told = told("herring", 1, 9, &Summary::default());
    discovery.take(&[told], Some(PeerId::random())).unwrap();
    discovery.0.index.close();
    let again = Discovery::alone(discovery.library().clone()).await.unwrap();
    assert_eq!(names(&again, SearchAsk::default()), ["herring"]);
}
