//! Peers that lie: an honest one beside them is enough, and a lie is told once.

use std::time::{Duration, Instant};

use node::node::Limits;
use node::swarm::SwarmEvent;
use protocol::{SHARD_LEN, Ticket};
use testnet::fixture;
use testnet::hostile::{Behaviour, Hostile, HostileOptions};
use testnet::nodes::{Testnet, within};

use crate::acts::{assert_verifies, fetch, publish, try_fetch};

const A: usize = 1;
const C: usize = 2;

/// Longest fetch beside a liar that has to be found out by its slowness: the stall of 10 s, twice, and some.
const PATIENCE: Duration = Duration::from_secs(45);

/// What has to be true of every liar: the fetch beside an honest provider is whole, and what the liar gave does not count.
async fn honest_provider_is_enough_beside(behaviour: Behaviour) {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    // More than what is asked of one peer at a time, so that both are asked.
    fixture::folder(
        &folder,
        1,
        &[
            ("large.bin", 72 << 20),
            ("second.bin", 9 << 20),
            ("config.json", 500),
        ],
    )
    .unwrap();
    let (published, honest) = publish(net.node(A), &folder, "model").await;
    let liar = Hostile::start(&folder, behaviour, net.meeting_point())
        .await
        .unwrap();
    let addresses = [liar.ticket().addresses(), honest.addresses()].concat();
    let both = Ticket::new(published.manifest, addresses, None).unwrap();
    let out = net.scratch().join("out");
    let begun = Instant::now();
    let fetched = fetch(net.node(C), &both, Some(&out)).await;
    let took = begun.elapsed();
    fixture::assert_same(&folder, &out);
    assert!(
        liar.asked().blobs > 0,
        "{behaviour:?}: the liar was never asked, so this shows nothing"
    );
    assert!(took < PATIENCE, "{behaviour:?} held the fetch up for {took:?}");
    let honest = net.node(A).library().peer_id().to_string();
    let by_honest = fetched
        .peers
        .iter()
        .find(|share| share.peer == honest)
        .map_or(0, |share| share.bytes);
    match behaviour {
        // These give right bytes before they fail: they count, and few of them are fetched twice.
        Behaviour::WrongBytes
        | Behaviour::TooMany
        | Behaviour::StallsHalf
        | Behaviour::OneBytePerSecond
        | Behaviour::LiesInBits
        | Behaviour::FloodsGot => {
            assert!(by_honest > 0, "{fetched:?}");
        }
        _ => assert!(by_honest >= published.bytes, "{behaviour:?}: {fetched:?}"),
    }
    let twice = fetched.fetched_bytes - published.bytes;
    assert!(
        twice <= published.bytes / 20 + SHARD_LEN,
        "{behaviour:?}: {twice} bytes were fetched twice"
    );
    liar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_of_wrong_bytes_costs_nothing_but_its_share() {
    honest_provider_is_enough_beside(Behaviour::WrongBytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_of_a_wrong_size_is_found_out() {
    honest_provider_is_enough_beside(Behaviour::WrongSize).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_sends_too_much_is_found_out() {
    honest_provider_is_enough_beside(Behaviour::TooMany).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_sends_nothing_is_passed_over() {
    honest_provider_is_enough_beside(Behaviour::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_resets_its_streams_is_passed_over() {
    honest_provider_is_enough_beside(Behaviour::Resets).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_of_garbage_is_found_out() {
    honest_provider_is_enough_beside(Behaviour::Garbage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_stalls_half_way_is_passed_over() {
    honest_provider_is_enough_beside(Behaviour::StallsHalf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_of_one_byte_a_second_is_passed_over() {
    honest_provider_is_enough_beside(Behaviour::OneBytePerSecond).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_claims_shards_and_closes_on_them_is_passed_over() {
    honest_provider_is_enough_beside(Behaviour::LiesInBits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_floods_us_with_news_holds_nothing_up() {
    honest_provider_is_enough_beside(Behaviour::FloodsGot).await;
}

/// What has to be true of a peer that breaks the protocol of the swarm: it is banned, and the fetch goes on without it.
async fn breaker_of_the_protocol_is_banned(behaviour: Behaviour) {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(&folder, 1, &[("large.bin", 20 << 20), ("config.json", 500)]).unwrap();
    let (published, honest) = publish(net.node(A), &folder, "model").await;
    net.node(A).set_limits(Limits {
        up: Some(6 << 20),
        ..Limits::default()
    });
    let liar = Hostile::start(&folder, behaviour, net.meeting_point())
        .await
        .unwrap();
    let mut events = net.node(C).swarm().subscribe();
    let addresses = [liar.ticket().addresses(), honest.addresses()].concat();
    let both = Ticket::new(published.manifest, addresses, None).unwrap();
    let out = net.scratch().join("out");
    fetch(net.node(C), &both, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    let banned = async {
        loop {
            if let Ok(SwarmEvent::Banned(peer)) = events.recv().await
                && peer == liar.peer_id()
            {
                break;
            }
        }
    };
    within(PATIENCE, "the ban", banned).await.unwrap();
    liar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_whose_frames_are_garbage_is_banned() {
    breaker_of_the_protocol_is_banned(Behaviour::GarbageFrames).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_whose_frame_claims_to_be_huge_is_banned() {
    breaker_of_the_protocol_is_banned(Behaviour::OversizePrefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_claims_shards_that_do_not_exist_is_banned() {
    breaker_of_the_protocol_is_banned(Behaviour::OutOfRange).await;
}

/// Fetches from one honest provider beside hostile ones of all kinds; returns how many bytes came twice.
async fn among_liars(liars: usize) -> (u64, u64) {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(&folder, 1, &[("large.bin", 32 << 20), ("config.json", 500)]).unwrap();
    let (published, honest) = publish(net.node(A), &folder, "model").await;
    let mut hostile = Vec::new();
    for behaviour in Behaviour::LIES.into_iter().take(liars) {
        let liar = Hostile::start(&folder, behaviour, net.meeting_point()).await;
        hostile.push(liar.unwrap());
    }
    let firsts = hostile
        .iter()
        .filter_map(|liar| liar.ticket().addresses().first().cloned());
    let addresses = honest.addresses().iter().take(1).cloned().chain(firsts).collect();
    let all = Ticket::new(published.manifest, addresses, None).unwrap();
    let out = net.scratch().join("out");
    let fetched = fetch(net.node(C), &all, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    for liar in hostile {
        liar.stop().await;
    }
    (fetched.fetched_bytes - published.bytes, published.bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_liars_cost_little() {
    let (twice, bytes) = among_liars(3).await;
    assert!(
        twice <= bytes / 20 + 3 * SHARD_LEN,
        "{twice} bytes were fetched twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_honest_provider_among_eleven_liars_is_enough() {
    let (twice, bytes) = among_liars(11).await;
    assert!(
        twice <= bytes / 20 + 11 * SHARD_LEN,
        "{twice} bytes were fetched twice"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn liar_is_not_asked_again() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(&folder, 1, &[("large.bin", 72 << 20)]).unwrap();
    let (published, honest) = publish(net.node(A), &folder, "model").await;
    let liar = Hostile::start(&folder, Behaviour::WrongBytes, net.meeting_point())
        .await
        .unwrap();
    let addresses = [liar.ticket().addresses(), honest.addresses()].concat();
    let both = Ticket::new(published.manifest, addresses, None).unwrap();
    fetch(net.node(C), &both, None).await;
    let asked = liar.asked().blobs;
    assert!(asked > 0, "the liar was never asked, so this shows nothing");
    // Let go of it all, and fetch it again: the liar, though it would be honest now, is known.
    liar.set(Behaviour::Honest);
    let content = format!("blake3/{}", published.manifest).parse().unwrap();
    net.node(C).library().forget(&content).await.unwrap();
    let again = fetch(net.node(C), &both, None).await;
    assert!(again.fetched_bytes >= published.bytes, "{again:?}");
    assert_eq!(liar.asked().blobs, asked, "the liar was asked again");
    liar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifest_of_a_liar_is_not_believed() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(&folder, 1, &[("model.bin", 2_000_000), ("config.json", 500)]).unwrap();
    let (published, honest) = publish(net.node(A), &folder, "model").await;
    for behaviour in [
        Behaviour::WrongBytes,
        Behaviour::WrongSize,
        Behaviour::Garbage,
        Behaviour::Resets,
    ] {
        let options = HostileOptions {
            peers: net.meeting_point(),
            manifest_too: true,
            ..HostileOptions::new(&folder, behaviour)
        };
        let liar = Hostile::start_with(options).await.unwrap();
        let addresses = [liar.ticket().addresses(), honest.addresses()].concat();
        let both = Ticket::new(published.manifest, addresses, None).unwrap();
        let out = net.scratch().join(format!("{behaviour:?}"));
        fetch(net.node(C), &both, Some(&out)).await;
        fixture::assert_same(&folder, &out);
        let content = format!("blake3/{}", published.manifest).parse().unwrap();
        net.node(C).library().forget(&content).await.unwrap();
        liar.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn liar_alone_gives_nothing_and_what_it_gave_is_not_kept() {
    let mut net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::folder(&folder, 1, &[("large.bin", 4 << 20), ("small.txt", 4_000)]).unwrap();
    let liar = Hostile::start(&folder, Behaviour::WrongBytes, net.meeting_point())
        .await
        .unwrap();
    let out = net.scratch().join("out");
    try_fetch(net.node(C), &liar.ticket(), Some(&out))
        .await
        .unwrap_err();
    assert!(
        !out.exists() || fixture::files(&out).unwrap().is_empty(),
        "unverified files were handed out"
    );
    let liar_gave = net.node(C).library().list().unwrap();
    assert!(liar_gave.iter().all(|view| !view.complete), "{liar_gave:?}");
    liar.stop().await;
    // When an honest one comes, the rest is fetched and all of it is right.
    let (published, _) = publish(net.node(A), &folder, "model").await;
    fetch(net.node(C), &published.repo, Some(&out)).await;
    fixture::assert_same(&folder, &out);
    assert_verifies(net.node(C).library(), &published.repo).await;
    net.stop(C).await;
}
