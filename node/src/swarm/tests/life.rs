//! Start, stop, and what is left in between.

use super::{dht::signed, *};

#[tokio::test]
async fn shutdown_frees_the_ports_and_a_second_start_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let (other, _) = start(config(&[TCP])).await;
    let key = Keypair::generate_ed25519();
    let keep = |listen: Vec<Multiaddr>, peers| SwarmConfig {
        key: key.clone(),
        listen,
        peers,
        folder: Some(folder.path().join("swarm")),
        ..config(&[])
    };
    let (first, _) = start(keep(
        vec![TCP.parse().unwrap(), QUIC.parse().unwrap()],
        other.listeners(),
    ))
    .await;
    until("routing", &other, || async {
        other.counts().await.routing == 1 && first.counts().await.routing == 1
    })
    .await;
    assert!(other.start_providing([3; 32]).await.unwrap());
    assert!(other.put_record(signed(1).1).await.unwrap());
    until("stored", &first, || async {
        first.counts().await.provider_records == 1
    })
    .await;
    let mut listened = first.listeners();
    listened.iter_mut().for_each(|address| drop(address.pop()));
    within("shutdown", first.shutdown()).await;
    within("shutdown again", first.shutdown()).await;
    assert!(matches!(
        first
            .open_stream(other.peer_id(), StreamProtocol::new(ECHO))
            .await,
        Err(OpenError::Closed)
    ));
    assert!(first.peers().await.is_empty());
    for address in &listened {
        assert_free(address);
    }

    let (second, _) = start(keep(listened, Vec::new())).await;
    let counts = second.counts().await;
    assert_eq!((counts.provider_records, counts.releases), (1, 1));
    until("dialled again", &second, || async {
        second
            .peers()
            .await
            .iter()
            .any(|peer| peer.peer == other.peer_id())
    })
    .await;
    within("shutdown", second.shutdown()).await;

    for name in ["records", "peers"] {
        std::fs::write(
            folder.path().join("swarm").join(name),
            b"shoal records 1\ngarbage",
        )
        .unwrap();
    }
    let (third, _) = start(keep(vec![TCP.parse().unwrap()], Vec::new())).await;
    assert_eq!(third.counts().await.provider_records, 0);
    within("shutdown", third.shutdown()).await;
}

/// Panics unless a plain socket can be bound there.
fn assert_free(address: &Multiaddr) {
    let ip = address::ip(address).unwrap();
    for part in address.iter() {
        match part {
            libp2p::multiaddr::Protocol::Tcp(port) => drop(std::net::TcpListener::bind((ip, port)).unwrap()),
            libp2p::multiaddr::Protocol::Udp(port) => drop(std::net::UdpSocket::bind((ip, port)).unwrap()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port())
        .parse()
        .unwrap();
    let result = within(
        "start",
        Swarm::start(SwarmConfig {
            listen: vec![address.clone()],
            ..config(&[])
        }),
    )
    .await;
    assert!(matches!(&result.err(), Some(SwarmError::Listen { address: named, .. }) if *named == address));
    let result = within("start", Swarm::start(config(&["/memory/7"]))).await;
    assert!(matches!(result.err(), Some(SwarmError::Listen { .. })));
}

#[tokio::test]
async fn the_last_handle_stops_the_swarm() {
    let (a, _) = start(config(&[TCP])).await;
    let (b, _) = start(config(&[])).await;
    b.connect(a.peer_id(), a.listeners()).await.unwrap();
    drop(a);
    until("gone", &b, || async { b.peers().await.is_empty() }).await;
}
