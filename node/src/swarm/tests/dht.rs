//! What nodes tell each other about who has what.

use super::*;

pub(super) fn signed(seq: u64) -> ([u8; 32], SignedRelease) {
    let secret = SigningKey::from_bytes(&[9; 32]);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let release = Release {
        publisher: Publisher::from_bytes(*secret.verifying_key().as_bytes()).unwrap(),
        name: "model".parse().unwrap(),
        kind: Kind::Model,
        manifest: Hash::of(&seq.to_be_bytes()),
        seq,
        prev: None,
        issued: now,
        expires: now + 30 * 24 * 60 * 60,
        upstream: None,
        card: None,
    };
    (
        release::key_of(release.publisher, &release.name),
        SignedRelease::sign(release, &secret).unwrap(),
    )
}

#[tokio::test]
async fn a_node_finds_providers_and_releases_that_only_a_third_one_knows() {
    let (b, _) = start(config(&[TCP])).await;
    let known = || vec![b.listeners()[0].clone()];
    let (a, _serving) = echo(SwarmConfig {
        peers: known(),
        ..config(&[TCP])
    })
    .await;
    let key = *blake3::hash(b"key").as_bytes();
    let (name, release) = signed(3);
    until("A in B's table", &b, || async {
        b.counts().await.routing == 1 && a.counts().await.routing == 1
    })
    .await;
    assert!(within("announce", a.start_providing(key)).await.unwrap());
    assert!(within("put", a.put_record(release.clone())).await.unwrap());

    let (c, _) = start(SwarmConfig {
        peers: known(),
        ..config(&[TCP])
    })
    .await;
    until("B in C's table", &c, || async { c.counts().await.routing >= 1 }).await;
    let mut providers = c.providers(key, 10).await.unwrap();
    assert_eq!(within("provider", providers.recv()).await, Some(a.peer_id()));
    assert_eq!(within("end", providers.recv()).await, None);
    let found = within("release", c.get_records(name)).await.unwrap();
    assert_eq!(
        found.iter().map(SignedRelease::encode).collect::<Vec<_>>(),
        [release.encode()]
    );

    let stream = within("open", c.open_stream(a.peer_id(), StreamProtocol::new(ECHO)))
        .await
        .unwrap();
    assert_eq!(within("echo", say(stream, b"found you")).await, b"found you");

    let nothing = within("nothing", c.get_records([1; 32])).await.unwrap();
    assert!(nothing.is_empty());
    assert_eq!(
        a.put_record(signed(2).1).await,
        Err(PutError::Refused(Refusal::Older))
    );
}

#[tokio::test]
async fn what_reached_nobody_is_announced_when_a_node_turns_up() {
    let (a, _) = start(config(&[TCP])).await;
    let key = *blake3::hash(b"key").as_bytes();
    assert!(!within("alone", a.start_providing(key)).await.unwrap());
    assert!(!within("alone", a.put_record(signed(1).1)).await.unwrap());
    let (b, _) = start(SwarmConfig {
        peers: a.listeners(),
        ..config(&[TCP])
    })
    .await;
    until("records at B", &b, || async {
        let counts = b.counts().await;
        (counts.provider_records, counts.releases) == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn a_banned_peer_is_cut_off_both_ways() {
    let (a, _serving) = echo(config(&[TCP])).await;
    let (b, _also) = echo(config(&[TCP])).await;
    within("connect", a.connect(b.peer_id(), b.listeners()))
        .await
        .unwrap();
    let mut stream = a
        .open_stream(b.peer_id(), StreamProtocol::new(ECHO))
        .await
        .unwrap();
    stream.write_all(b"x").await.unwrap();
    a.ban(b.peer_id()).await;
    until("gone", &b, || async { b.peers().await.is_empty() }).await;
    assert!(a.peers().await.is_empty());
    let result = a.open_stream(b.peer_id(), StreamProtocol::new(ECHO)).await;
    assert!(matches!(result, Err(OpenError::Refused { .. })), "{result:?}");
    // B still completes the handshake before A hangs up, so look at A.
    let _ = within("B dials", b.connect(a.peer_id(), a.listeners())).await;
    until("still gone", &b, || async { b.peers().await.is_empty() }).await;
    assert!(a.peers().await.is_empty());
}

#[tokio::test]
async fn identify_tells_who_takes_part() {
    let (a, _) = start(config(&[TCP])).await;
    let (b, _) = start(SwarmConfig {
        dht: DhtRole::Client,
        agent: "other/1\n\u{202e}".to_owned(),
        ..config(&[TCP])
    })
    .await;
    assert_eq!(b.dial(a.listeners()[0].clone()).await, Ok(a.peer_id()));
    until("identified", &b, || async {
        b.peers()
            .await
            .iter()
            .any(|peer| peer.dht && peer.agent.is_some())
    })
    .await;
    until("identified", &a, || async {
        a.peers().await.iter().any(|peer| peer.agent.is_some())
    })
    .await;
    let seen = a.peers().await.remove(0);
    assert_eq!((seen.dht, seen.agent.as_deref()), (false, Some("other/1")));
    assert_eq!(a.counts().await.routing, 0, "a client is in nobody's table");
    assert_eq!(
        HashSet::<Multiaddr>::from_iter(a.external_addresses()),
        HashSet::from_iter(a.listeners())
    );
}

#[tokio::test]
async fn every_node_of_twenty_finds_what_any_other_provides() {
    const NODES: usize = 20;
    let (first, _) = start(config(&[TCP])).await;
    let mut nodes = vec![first];
    for _ in 1..NODES {
        let peers = vec![nodes[0].listeners()[0].clone()];
        nodes.push(
            start(SwarmConfig {
                peers,
                ..config(&[TCP])
            })
            .await
            .0,
        );
    }
    for node in &nodes {
        until("routing", node, || async {
            node.counts().await.routing >= NODES / 2
        })
        .await;
    }
    let key = |n: usize| *blake3::hash(&n.to_le_bytes()).as_bytes();
    let announcing = nodes
        .iter()
        .enumerate()
        .map(|(n, node)| node.start_providing(key(n)));
    let heard = within("announcements", join_all(announcing)).await;
    assert!(heard.into_iter().all(|heard| heard == Ok(true)));
    let searching = nodes.iter().enumerate().map(|(n, node)| {
        let (wanted, nodes) = ((n + 7) % NODES, &nodes);
        async move {
            let mut found = node.providers(key(wanted), 1).await.unwrap();
            found.recv().await == Some(nodes[wanted].peer_id())
        }
    });
    let found = within("searches", join_all(searching)).await;
    assert_eq!(found.into_iter().filter(|found| *found).count(), NODES);
}
