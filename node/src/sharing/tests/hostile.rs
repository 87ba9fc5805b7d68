//! Peers that do not keep to the rules.

use super::*;

/// Opens a stream to a node from another one, and says these frames.
async fn say(from: &Node, to: &Node, words: &[u8]) -> Stream {
    from.swarm().dial(to.listeners()[0].clone()).await.unwrap();
    let protocol = StreamProtocol::new(wire::SWARM_PROTOCOL);
    let mut stream = from
        .swarm()
        .open_stream(to.swarm().peer_id(), protocol)
        .await
        .unwrap();
    stream.write_all(words).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

fn frames(tells: &[SwarmTell]) -> Vec<u8> {
    tells
        .iter()
        .flat_map(|tell| wire::encode_frame(tell).unwrap())
        .collect()
}

async fn read(stream: &mut Stream) -> SwarmTell {
    let mut prefix = [0; 4];
    within("a frame", stream.read_exact(&mut prefix)).await.unwrap();
    let mut body = vec![0; wire::frame_len(prefix).unwrap()];
    within("a body", stream.read_exact(&mut body)).await.unwrap();
    wire::decode_body(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_the_format_is_banned_and_nobody_else_is() {
    let source = source(12).await;
    let manifest = source.manifest;
    let join = SwarmTell::Join { manifest };
    let got = |first, count| SwarmTell::Got(vec![ShardRun { first, count }]);
    let with_join = |more: &[u8]| [frames(std::slice::from_ref(&join)), more.to_vec()].concat();
    let bits = |first, bits| SwarmTell::Bits { first, bits };
    let cases: [(&str, Vec<u8>); 10] = [
        ("garbage first", vec![8, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]),
        ("an oversize prefix first", vec![0xff; 4]),
        ("a frame before the join", frames(&[got(0, 1)])),
        ("garbage", with_join(&[3, 0, 0, 0, 77, 77, 77])),
        ("an oversize prefix", with_join(&[0, 0, 0x10, 0x10])),
        ("a frame that no check can pass", with_join(&[0, 0, 2, 0])),
        ("a shard out of range", with_join(&frames(&[got(11, 2)]))),
        ("bits out of range", with_join(&frames(&[bits(8, vec![0xff])]))),
        ("a second join", with_join(&frames(std::slice::from_ref(&join)))),
        (
            "nothing, later",
            with_join(&frames(&[got(0, 1), SwarmTell::Nothing])),
        ),
    ];
    let (honest, _data) = node().await;
    let (crowd, mut facts) = source.enter(&honest, &[]);
    meet(&crowd, source.node.swarm()).await;
    hear(&mut facts, Fact::Joined(source.node.swarm().peer_id())).await;
    for (what, words) in cases {
        let (liar, _data) = node().await;
        let mut events = source.node.swarm().subscribe();
        let _stream = say(&liar, &source.node, &words).await;
        let banned = async {
            loop {
                if let Ok(SwarmEvent::Banned(peer)) = events.recv().await {
                    return peer;
                }
            }
        };
        let banned = within(what, banned).await;
        assert_eq!(banned, liar.swarm().peer_id(), "{what}");
        liar.shutdown().await;
    }
    until("the liars to be gone", || {
        source.node.sharing().takes_part(manifest) == 1
    })
    .await;
    assert_eq!(crowd.members(), [source.node.swarm().peer_id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_answer_to_our_join_bans_who_gave_it() {
    let source = source(5).await;
    let (fetcher, _data) = node().await;
    // Another node whose streams we answer ourselves.
    let mut config = crate::swarm::SwarmConfig::new(libp2p::identity::Keypair::generate_ed25519());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config.protocols = vec![crate::swarm::Protocol::anywhere(wire::SWARM_PROTOCOL)];
    let (liar, mut inbound) = Swarm::start(config).await.unwrap();
    let mut events = fetcher.swarm().subscribe();
    let (crowd, _facts) = source.enter(&fetcher, &[]);
    meet(&crowd, &liar).await;
    let mut asked = within("a stream", inbound[0].1.recv()).await.unwrap();
    let manifest = source.manifest;
    assert_eq!(read(&mut asked.stream).await, SwarmTell::Join { manifest });
    let lie = SwarmTell::Bits {
        first: 0,
        bits: vec![0; 2],
    };
    asked.stream.write_all(&frames(&[lie])).await.unwrap();
    asked.stream.flush().await.unwrap();
    let banned = async { while events.recv().await != Ok(SwarmEvent::Banned(liar.peer_id())) {} };
    within("a ban", banned).await;
    assert!(crowd.members().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_for_what_is_not_here_is_answered_with_nothing_and_an_end() {
    let source = source(5).await;
    let (asker, _data) = node().await;
    let manifest = Hash::of(b"not here");
    let mut stream = say(&asker, &source.node, &frames(&[SwarmTell::Join { manifest }])).await;
    assert_eq!(read(&mut stream).await, SwarmTell::Nothing);
    let end = within("an end", stream.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    // A blob that is here and is no manifest, too.
    let manifest = source.map.blobs()[0].hash;
    let mut stream = say(&asker, &source.node, &frames(&[SwarmTell::Join { manifest }])).await;
    assert_eq!(read(&mut stream).await, SwarmTell::Nothing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_never_reads_costs_nobody_anything() {
    const COUNT: u32 = 400;
    let source = source(COUNT).await;
    let ((a, _a), (b, _b), (silent, _c)) = (node().await, node().await, node().await);
    let (at_a, _facts_a) = source.enter(&a, &[]);
    let manifest = source.manifest;
    let _unread = say(&silent, &a, &frames(&[SwarmTell::Join { manifest }])).await;
    until("the silent member", || a.sharing().takes_part(manifest) == 1).await;
    let (at_b, mut facts_b) = source.enter(&b, &[]);
    meet(&at_b, a.swarm()).await;
    hear(&mut facts_b, Fact::Joined(a.swarm().peer_id())).await;
    let every = (0..COUNT - 1).step_by(2);
    every.clone().for_each(|shard| at_a.got(shard..shard + 1));
    add_up(&mut facts_b, a.swarm().peer_id(), &every.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_talks_is_not_read_faster_than_the_fetch_listens() {
    let source = source(400).await;
    let ((a, _a), (talker, _b)) = (node().await, node().await);
    let (at_a, mut facts) = source.enter(&a, &[]);
    let manifest = source.manifest;
    let one = |first| SwarmTell::Got(vec![ShardRun { first, count: 1 }]);
    let talk: Vec<SwarmTell> = (0..400).map(one).collect();
    let all = [frames(&[SwarmTell::Join { manifest }]), frames(&talk)].concat();
    let _stream = say(&talker, &a, &all).await;
    until("the talker", || at_a.members().len() == 1).await;
    assert!(facts.max_capacity() == FACTS_MAX);
    // Nothing is lost, however late we listen.
    add_up(&mut facts, talker.swarm().peer_id(), &(0..399).collect()).await;
}
