//! What peers tell that is odd or false, and what becomes of it.

use std::time::Instant;

use protocol::{Alias, Hash, Release, RepoId, limits::SEQ_JUMP_MAX};

use super::*;
use crate::discovery::{
    Hit, SearchAsk,
    samples::{discovery, forged, peer, release, sign, signed, told},
};

/// What was taken in: how many are new, passed over, and false.
fn counts(taken: &Taken) -> (usize, usize, usize) {
    (taken.new.len(), taken.passed, taken.false_ones)
}

fn take(discovery: &Discovery, told: &[Known], from: Option<PeerId>) -> (usize, usize, usize) {
    counts(&discovery.take(told, from).unwrap())
}

/// The number of the release that is known of a name.
fn known(discovery: &Discovery, repo: &RepoId) -> Option<u64> {
    discovery.known(repo).unwrap().map(|row| row.release.seq)
}

fn follow(discovery: &Discovery, release: &SignedRelease) {
    let alias = Alias::new("friend").unwrap();
    let publisher = release.release().publisher;
    discovery.library().follow(publisher, &alias).unwrap();
}

fn found(discovery: &Discovery, words: &str) -> Vec<Hit> {
    discovery.catch_up();
    let ask = SearchAsk {
        words: words.to_owned(),
        ..SearchAsk::default()
    };
    discovery.search(&ask).unwrap().hits
}

/// Lets a peer bring so many more names of strangers.
fn leave(discovery: &Discovery, peer: PeerId, names: usize) {
    let mut state = discovery.state();
    let known = usize::try_from(state.names).unwrap();
    let left = state.budget.left(peer, known, Instant::now());
    state.budget.brought(peer, left - names);
}

#[tokio::test]
async fn expired_release_of_a_stranger_is_known_and_shown_as_stale() {
    let (discovery, _data) = discovery(Relay::All).await;
    let old = Release {
        issued: now() - 2_000,
        expires: now() - 1_000,
        ..release(1, "herring", 1)
    };
    assert_eq!(
        take(
            &discovery,
            &[told(&sign(1, old)), told(&signed(2, "sprat", 1))],
            peer()
        ),
        (2, 0, 0)
    );
    assert!(found(&discovery, "herring")[0].stale);
    assert!(!found(&discovery, "sprat")[0].stale);
    // Its publisher goes on.
    assert_eq!(
        take(&discovery, &[told(&signed(1, "herring", 2))], peer()),
        (1, 0, 0)
    );
    let hits = found(&discovery, "herring");
    assert_eq!((hits.len(), hits[0].seq, hits[0].stale), (1, 2, false));
}

#[tokio::test]
async fn false_releases_are_counted_and_the_good_ones_among_them_are_kept() {
    let (discovery, _data) = discovery(Relay::All).await;
    let good: Vec<SignedRelease> = (0..5)
        .map(|number| signed(1, &format!("good-{number}"), 1))
        .collect();
    let bad = signed(2, "bad", 1);
    let cut = |len: usize| Known {
        release: told(&bad).release[..len].to_vec(),
        card: None,
    };
    let foreign_card = Known {
        card: Some(Summary::default().encode().unwrap()),
        ..told(&bad)
    };
    let nonsense_card = Known {
        card: Some(vec![0xff; 10]),
        ..told(&bad)
    };
    let nonsense = Known {
        release: vec![0xff; 600],
        card: None,
    };
    let lies = [
        forged(&bad),
        cut(0),
        cut(100),
        foreign_card,
        nonsense_card,
        nonsense,
    ];
    // A lie before, between and after what is good.
    let mut all: Vec<Known> = lies.to_vec();
    for (number, good) in good.iter().enumerate() {
        all.insert(number * 2 + 1, told(good));
    }
    let taken = discovery.take(&all, peer()).unwrap();
    assert_eq!(counts(&taken), (good.len(), 0, lies.len()));
    assert_eq!(known(&discovery, &bad.release().repo()), None);
    assert!(
        good.iter()
            .all(|good| known(&discovery, &good.release().repo()) == Some(1))
    );
    // Somebody honest tells the same.
    assert_eq!(take(&discovery, &[told(&bad)], peer()), (1, 0, 0));
}

#[tokio::test]
async fn what_is_from_the_future_or_jumps_too_far_is_passed_over() {
    let (discovery, _data) = discovery(Relay::All).await;
    let future = Release {
        issued: now() + 1_000_000,
        expires: now() + 2_000_000,
        ..release(1, "future", 1)
    };
    let far = Release {
        seq: SEQ_JUMP_MAX + 1,
        issued: now(),
        ..release(1, "far", 1)
    };
    assert_eq!(
        take(&discovery, &[told(&sign(1, future)), told(&sign(1, far))], peer()),
        (0, 2, 0)
    );
    assert!(discovery.is_empty());
}

#[tokio::test]
async fn a_peer_brings_no_more_names_of_strangers_than_its_share() {
    let (discovery, _data) = discovery(Relay::All).await;
    let (greedy, other) = (PeerId::random(), PeerId::random());
    let (followed, before) = (signed(1, "followed", 1), signed(2, "before", 1));
    follow(&discovery, &followed);
    assert_eq!(take(&discovery, &[told(&before)], Some(other)), (1, 0, 0));
    leave(&discovery, greedy, 2);
    let names: Vec<Known> = (0..5)
        .map(|number| told(&signed(3, &format!("name-{number}"), 1)))
        .collect();
    assert_eq!(take(&discovery, &names[..3], Some(greedy)), (2, 1, 0));
    assert_eq!(take(&discovery, &names[3..4], Some(greedy)), (0, 1, 0));
    // What is followed comes all the same, and not the next release of a stranger's name.
    let next = signed(2, "before", 2);
    assert_eq!(
        take(&discovery, &[told(&followed), told(&next)], Some(greedy)),
        (1, 1, 0)
    );
    // Nobody else pays for it.
    assert_eq!(take(&discovery, &names, Some(other)), (3, 2, 0));
    assert_eq!(take(&discovery, &[told(&next)], Some(other)), (1, 0, 0));
}

#[tokio::test]
async fn stranger_who_signs_without_end_is_heard_a_few_times_and_whom_the_user_follows_always() {
    let (discovery, _data) = discovery(Relay::All).await;
    let followed = signed(1, "model", 1);
    follow(&discovery, &followed);
    let taken = |seed: u8| {
        let releases = (1..=20).map(|seq| told(&signed(seed, "model", seq)));
        // Each by another peer.
        let new = releases.map(|told| take(&discovery, &[told], peer()).0);
        new.sum::<usize>()
    };
    assert_eq!(taken(1), 20);
    let of_stranger = taken(2);
    assert!((2..=6).contains(&of_stranger), "{of_stranger} releases");
    assert_eq!(taken(2), 0);
}

#[tokio::test]
async fn a_publisher_has_so_many_names_and_no_more_unless_it_is_followed() {
    let (discovery, _data) = discovery(Relay::All).await;
    let (last, one_more) = (signed(1, "last", 1), signed(1, "one-more", 1));
    let publisher = last.release().publisher;
    discovery
        .state()
        .names_of
        .insert(short(publisher), NAMES_PER_PUBLISHER_MAX - 1);
    assert_eq!(
        take(&discovery, &[told(&last), told(&one_more)], peer()),
        (1, 1, 0)
    );
    assert_eq!(known(&discovery, &last.release().repo()), Some(1));
    // What it has goes on, and others are not touched by it.
    let (next, other) = (signed(1, "last", 2), signed(2, "other", 1));
    assert_eq!(
        take(&discovery, &[told(&next), told(&other), told(&one_more)], peer()),
        (2, 1, 0)
    );
    follow(&discovery, &last);
    assert_eq!(take(&discovery, &[told(&one_more)], peer()), (1, 0, 0));
}

#[tokio::test]
async fn names_of_one_batch_count_together() {
    let (discovery, _data) = discovery(Relay::All).await;
    let names: Vec<Known> = (0..4)
        .map(|number| told(&signed(1, &format!("name-{number}"), 1)))
        .collect();
    let publisher = signed(1, "name-0", 1).release().publisher;
    discovery
        .state()
        .names_of
        .insert(short(publisher), NAMES_PER_PUBLISHER_MAX - 2);
    assert_eq!(take(&discovery, &names, peer()), (2, 2, 0));
}

#[tokio::test]
async fn who_keeps_only_what_is_followed_drops_strangers() {
    let (discovery, _data) = discovery(Relay::Followed).await;
    let (followed, stranger) = (signed(1, "followed", 1), signed(2, "stranger", 1));
    follow(&discovery, &followed);
    let all = [told(&stranger), told(&followed), forged(&stranger)];
    assert_eq!(take(&discovery, &all, peer()), (1, 1, 1));
    assert_eq!(discovery.len(), 1);
    assert_eq!(known(&discovery, &stranger.release().repo()), None);
    assert_eq!(known(&discovery, &followed.release().repo()), Some(1));
}

#[tokio::test]
async fn fork_of_what_is_known_is_not_followed_and_evidence_where_it_matters() {
    let (discovery, _data) = discovery(Relay::All).await;
    let (near, far) = (signed(1, "model", 1), signed(2, "model", 1));
    follow(&discovery, &near);
    assert_eq!(take(&discovery, &[told(&near), told(&far)], peer()), (2, 0, 0));
    let fork = |seed: u8| {
        sign(
            seed,
            Release {
                manifest: Hash::of(b"another"),
                ..release(seed, "model", 1)
            },
        )
    };
    assert_eq!(
        take(&discovery, &[told(&fork(1)), told(&fork(2))], peer()),
        (0, 2, 0)
    );
    let names = discovery.library().names();
    for release in [&near, &far] {
        let row = discovery.known(&release.release().repo()).unwrap().unwrap();
        assert_eq!(
            row.release.manifest,
            release.release().manifest,
            "the first stays"
        );
    }
    let forks = |release: &SignedRelease| names.forks(&release.release().repo()).unwrap();
    assert_eq!(forks(&near), [fork(1)]);
    assert_eq!(forks(&far), [], "a stranger's fork is kept by nobody");
    // Both leave it behind with a higher number; an old one is not believed again.
    let next = [told(&signed(1, "model", 2)), told(&signed(2, "model", 2))];
    assert_eq!(take(&discovery, &next, peer()), (2, 0, 0));
    let again = [told(&near), told(&far), told(&fork(1)), told(&fork(2))];
    assert_eq!(take(&discovery, &again, peer()), (0, 4, 0));
    assert_eq!(known(&discovery, &far.release().repo()), Some(2));
}

#[tokio::test]
async fn the_same_twice_in_one_batch_is_new_once() {
    let (discovery, _data) = discovery(Relay::All).await;
    let (first, second) = (signed(1, "model", 1), signed(1, "model", 2));
    let all = [told(&second), told(&first), told(&second)];
    assert_eq!(take(&discovery, &all, peer()), (1, 2, 0));
    assert_eq!(
        (discovery.len(), known(&discovery, &first.release().repo())),
        (1, Some(2))
    );
}
