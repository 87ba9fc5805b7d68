//! Real nodes on loopback, port 0, in one process.

use std::{collections::HashSet, future::Future};

use ed25519_dalek::SigningKey;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future::join_all};
use protocol::{Hash, Kind, Publisher, Release, release};
use tokio::task::JoinHandle;

use super::*;

mod dht;
mod hostile;
mod life;

/// Longest wait for anything: generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const ECHO: &str = "/test/echo/1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

fn config(listen: &[&str]) -> SwarmConfig {
    SwarmConfig {
        listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
        protocols: vec![Protocol::direct(ECHO)],
        ..SwarmConfig::new(Keypair::generate_ed25519())
    }
}

async fn start(config: SwarmConfig) -> (Swarm, mpsc::Receiver<InboundStream>) {
    let (swarm, mut inbound) = within("start", Swarm::start(config)).await.unwrap();
    (swarm, inbound.remove(0).1)
}

/// A node that sends back what it gets.
async fn echo(config: SwarmConfig) -> (Swarm, JoinHandle<()>) {
    let (swarm, mut inbound) = start(config).await;
    let serving = tokio::spawn(async move {
        while let Some(InboundStream { mut stream, .. }) = inbound.recv().await {
            tokio::spawn(async move {
                let (reader, mut writer) = (&mut stream).split();
                futures::io::copy(reader, &mut writer).await.ok();
                writer.close().await.ok();
            });
        }
    });
    (swarm, serving)
}

/// Says something and returns the answer. Both at once: an echo of more than the windows hold would wait for ever.
async fn say(stream: Stream, words: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let writing = async {
        writer.write_all(words).await.unwrap();
        writer.close().await.unwrap();
    };
    futures::join!(writing, async { reader.read_to_end(&mut answer).await.unwrap() });
    answer
}

/// Waits until the node's events, past or future, contain what is wanted; `state` is asked first and after each event.
async fn until<F: Future<Output = bool>>(what: &str, swarm: &Swarm, mut state: impl FnMut() -> F) {
    let mut events = swarm.subscribe();
    within(what, async {
        while !state().await {
            // Identify answers are no event of ours: look again a little later.
            let _ = timeout(Duration::from_millis(20), events.recv()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_nodes_exchange_a_stream_over_tcp_and_over_quic() {
    for listen in [TCP, QUIC] {
        let (server, _serving) = echo(config(&[listen])).await;
        let (client, _) = start(config(&[listen])).await;
        within("connect", client.connect(server.peer_id(), server.listeners()))
            .await
            .unwrap();
        let stream = within(
            "open",
            client.open_stream(server.peer_id(), StreamProtocol::new(ECHO)),
        )
        .await
        .unwrap();
        let words = vec![7; 3 * 1024 * 1024];
        assert!(within("echo", say(stream, &words)).await == words, "{listen}");
        let peers = client.peers().await;
        assert_eq!(peers.len(), 1);
        assert!(peers[0].direct && peers[0].peer == server.peer_id());
    }
}

#[tokio::test]
async fn tcp_wins_where_both_are_offered_unless_told_otherwise() {
    for (prefer_tcp, part) in [(true, "/tcp/"), (false, "/quic-v1")] {
        let (server, _serving) = echo(config(&[QUIC, TCP])).await;
        let (client, _) = start(SwarmConfig {
            prefer_tcp,
            ..config(&[])
        })
        .await;
        within("connect", client.connect(server.peer_id(), server.listeners()))
            .await
            .unwrap();
        let peers = client.peers().await;
        assert!(
            peers[0].addresses[0].to_string().contains(part),
            "{:?}",
            peers[0].addresses
        );
    }
}

#[tokio::test]
async fn two_hundred_streams_at_once_are_all_answered_by_a_slow_server() {
    for listen in [TCP, QUIC] {
        let (server, mut inbound) = start(config(&[listen])).await;
        let serving = tokio::spawn(async move {
            for _ in 0..200 {
                let InboundStream { mut stream, .. } = inbound.recv().await.unwrap();
                // Work between two streams, on the thread that takes them.
                std::thread::sleep(Duration::from_micros(500));
                stream.write_all(b"yes").await.unwrap();
                stream.close().await.unwrap();
            }
        });
        let (client, _) = start(config(&[])).await;
        client
            .connect(server.peer_id(), server.listeners())
            .await
            .unwrap();
        let asking = (0..200).map(|_| async {
            let mut stream = client
                .open_stream(server.peer_id(), StreamProtocol::new(ECHO))
                .await
                .unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answer == b"yes"
        });
        let answered = within("200 streams", join_all(asking)).await;
        assert_eq!(answered.into_iter().filter(|yes| *yes).count(), 200, "{listen}");
        within("serving", serving).await.unwrap();
        assert_eq!(server.counts().await.streams_dropped, 0);
    }
}

#[tokio::test]
async fn streams_that_nobody_takes_are_dropped_and_counted() {
    let (server, _inbound) = start(config(&[TCP])).await;
    let (client, _) = start(config(&[])).await;
    client
        .connect(server.peer_id(), server.listeners())
        .await
        .unwrap();
    let mut held = Vec::new();
    // The first 256 fill the queue. Beyond what one connection may hold, another one is made.
    within("44 drops", async {
        while server.counts().await.streams_dropped < 44 {
            let opening = (0..100).map(|_| async {
                let opening = client.open_stream(server.peer_id(), StreamProtocol::new(ECHO));
                let mut stream = opening.await.unwrap();
                // Only what is said makes the stream known to the other side; which may drop it in the middle of a word.
                let _ = stream.write_all(b"here").await;
                let _ = stream.flush().await;
                stream
            });
            held.extend(join_all(opening).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_relayed_connection_carries_only_what_may_use_it() {
    const SMALL: &str = "/test/small/1";
    let (relay, _) = start(SwarmConfig {
        dht: DhtRole::Server,
        ..config(&[TCP])
    })
    .await;
    let circuit = format!("{}/p2p-circuit", relay.listeners()[0]);
    let both = || vec![Protocol::anywhere(SMALL), Protocol::direct(ECHO)];
    let (hidden, _serving) = echo(SwarmConfig {
        protocols: both(),
        ..config(&[&circuit])
    })
    .await;
    let (client, _) = start(SwarmConfig {
        protocols: both(),
        ..config(&[])
    })
    .await;
    let found = within("dial", client.dial(hidden.listeners()[0].clone())).await;
    assert_eq!(found, Ok(hidden.peer_id()), "{:?}", hidden.listeners());
    assert!(
        client
            .peers()
            .await
            .iter()
            .any(|peer| peer.peer == hidden.peer_id() && !peer.direct)
    );
    let stream = within(
        "small",
        client.open_stream(hidden.peer_id(), StreamProtocol::new(SMALL)),
    )
    .await
    .unwrap();
    assert_eq!(within("small", say(stream, b"small")).await, b"small");
    let result = within(
        "large",
        client.open_stream(hidden.peer_id(), StreamProtocol::new(ECHO)),
    )
    .await;
    assert!(matches!(result, Err(OpenError::RelayedOnly { .. })), "{result:?}");
}

#[tokio::test]
async fn dialling_the_same_node_again_and_again_is_no_error() {
    let (server, _) = start(config(&[TCP])).await;
    let (client, _) = start(config(&[])).await;
    for _ in 0..10 {
        assert_eq!(
            within("dial", client.dial(bare(&server))).await,
            Ok(server.peer_id())
        );
    }
}

#[tokio::test]
async fn an_unsupported_protocol_is_an_error_when_the_stream_is_read() {
    let (server, _serving) = echo(config(&[TCP])).await;
    let (client, _) = start(config(&[])).await;
    client
        .connect(server.peer_id(), server.listeners())
        .await
        .unwrap();
    let mut stream = within(
        "open",
        client.open_stream(server.peer_id(), StreamProtocol::new("/test/other/1")),
    )
    .await
    .unwrap();
    stream.write_all(b"anybody?").await.unwrap();
    let result = within("read", stream.read_to_end(&mut Vec::new())).await;
    assert!(result.is_err(), "{result:?}");
}

#[tokio::test]
async fn unknown_dead_and_false_peers_are_typed_errors() {
    let (client, _) = start(config(&[TCP])).await;
    let (server, _serving) = echo(config(&[TCP])).await;
    let stranger = PeerId::random();
    let result = within("unknown", client.open_stream(stranger, StreamProtocol::new(ECHO))).await;
    let Err(OpenError::Unreachable { source, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(*source, DialError::NoAddress { peer: stranger });

    let claimed = vec![address::with_peer(&bare(&server), stranger).unwrap()];
    let result = within("false", client.connect(stranger, claimed)).await;
    assert!(
        matches!(
            &result,
            Err(DialError::WrongPeer { .. } | DialError::Unreachable { .. })
        ),
        "{result:?}"
    );

    let (dead, dead_address) = (server.peer_id(), server.listeners());
    server.shutdown().await;
    let result = within("dead", client.connect(dead, dead_address)).await;
    assert!(
        matches!(&result, Err(DialError::Unreachable { .. })),
        "{result:?}"
    );
    let result = within("self", client.dial(client.listeners()[0].clone())).await;
    assert!(
        matches!(
            &result,
            Err(DialError::Ourselves { .. } | DialError::Unreachable { .. })
        ),
        "{result:?}"
    );
    let result = within("self", client.connect(client.peer_id(), Vec::new())).await;
    assert!(matches!(&result, Err(DialError::Ourselves { .. })), "{result:?}");
}

fn bare(swarm: &Swarm) -> Multiaddr {
    let mut address = swarm.listeners()[0].clone();
    address.pop();
    address
}

#[tokio::test]
async fn a_silent_peer_is_a_timeout_not_a_hang() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let (client, _) = start(config(&[])).await;
    let peer = PeerId::random();
    let before = Instant::now();
    let connecting = client.connect(peer, vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()]);
    let (connected, opened) = within(
        "silence",
        futures::future::join(connecting, async {
            client.open_stream(peer, StreamProtocol::new(ECHO)).await
        }),
    )
    .await;
    assert!(
        matches!(
            connected,
            Err(DialError::Unreachable { .. } | DialError::Timeout { .. })
        ),
        "{connected:?}"
    );
    assert!(
        matches!(
            opened,
            Err(OpenError::Unreachable { .. } | OpenError::Timeout { .. })
        ),
        "{opened:?}"
    );
    assert!(before.elapsed() < Duration::from_secs(15));
}
