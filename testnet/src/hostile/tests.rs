//! A hostile provider, seen from the other end of the wire: exactly what it promises to do, and nothing else wrong.

use super::*;
use crate::fixture;
use bao_tree::{BaoTree, ChunkNum, ChunkRanges, io::sync::decode_ranges};
use futures::{AsyncReadExt, AsyncWriteExt};
use iroh_blobs::{
    protocol::{GetManyRequest, GetRequest, Request},
    store::IROH_BLOCK_SIZE,
};
use libp2p::{Stream, StreamProtocol};
use node::{
    fetch::{FetchRequest, FetchWhat},
    progress::Progress,
    publish::PublishRequest,
};
use protocol::{CatalogAsk, CatalogTell, Hash, SwarmTell, WireError, wire};
use std::time::Duration;
use tempfile::TempDir;

const FILES: [(&str, u64); 4] = [("empty", 0), ("one", 1), ("small", 9_000), ("large", 2_100_000)];

/// A hostile provider, and somebody connected to it.
struct Pair {
    hostile: Hostile,
    asker: Swarm,
    _folder: TempDir,
}

async fn pair(behaviour: Behaviour) -> Pair {
    pair_with(behaviour, None).await
}

async fn pair_with(behaviour: Behaviour, holds: Option<Range<u32>>) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    fixture::folder(folder.path(), 11, &FILES).unwrap();
    let options = HostileOptions {
        holds,
        ..HostileOptions::new(folder.path(), behaviour)
    };
    let hostile = Hostile::start_with(options).await.unwrap();
    let (asker, _) = Swarm::start(SwarmConfig::new(Keypair::generate_ed25519()))
        .await
        .unwrap();
    asker
        .connect(hostile.peer_id(), hostile.addresses())
        .await
        .unwrap();
    Pair {
        hostile,
        asker,
        _folder: folder,
    }
}

impl Pair {
    async fn open(&self, protocol: &'static str) -> Stream {
        let stream = self
            .asker
            .open_stream(self.hostile.peer_id(), StreamProtocol::new(protocol));
        within(DEADLINE, "a stream", stream).await.unwrap().unwrap()
    }

    async fn request(&self, request: &Request) -> Stream {
        let mut stream = self.open(BLOBS_PROTOCOL).await;
        stream
            .write_all(&postcard::to_stdvec(request).unwrap())
            .await
            .unwrap();
        stream.close().await.unwrap();
        stream
    }

    /// Asks for something and reads the answer to its end.
    async fn get(&self, request: &Request) -> Vec<u8> {
        let mut stream = self.request(request).await;
        let mut answer = Vec::new();
        // An end without a close is an end too.
        let _ = within(DEADLINE, "an answer", stream.read_to_end(&mut answer))
            .await
            .unwrap();
        answer
    }

    async fn ask<A: Serialize, T: serde::de::DeserializeOwned>(&self, protocol: &'static str, ask: &A) -> T {
        let mut stream = self.open(protocol).await;
        stream.write_all(&wire::encode_frame(ask).unwrap()).await.unwrap();
        stream.close().await.unwrap();
        let mut answer = Vec::new();
        within(DEADLINE, "a tell", stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let (tell, len) = wire::decode_frame(&answer).unwrap().unwrap();
        assert_eq!(len, answer.len(), "one tell");
        tell
    }

    /// Opens a session about a manifest.
    async fn session(&self, manifest: Hash) -> Stream {
        let mut stream = self.open(SWARM_PROTOCOL).await;
        let join = wire::encode_frame(&SwarmTell::Join { manifest }).unwrap();
        stream.write_all(&join).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// Opens a session about its folder and reads what it says first.
    async fn claim(&self) -> Result<SwarmTell, WireError> {
        hear(&mut self.session(self.hostile.manifest().hash()).await).await
    }

    /// Whether a whole file is answered rightly for.
    async fn gives(&self, name: &str) -> bool {
        let answer = self.get(&get(self.hash(name))).await;
        decode(self.hash(name), &ChunkRanges::all(), &mut &answer[..]).is_some()
    }

    fn hash(&self, name: &str) -> Hash {
        self.hostile.manifest().file(name).unwrap().blake3
    }
}

/// Reads one frame of a session.
async fn hear(stream: &mut Stream) -> Result<SwarmTell, WireError> {
    let frame = async {
        let mut prefix = [0; wire::PREFIX_LEN];
        stream.read_exact(&mut prefix).await.unwrap();
        let mut body = vec![0; wire::frame_len(prefix)?];
        stream.read_exact(&mut body).await.unwrap();
        wire::decode_body(&body)
    };
    within(DEADLINE, "a frame", frame).await.unwrap()
}

fn get(hash: Hash) -> Request {
    GetRequest::blob(iroh_blobs::Hash::from_bytes(*hash.as_bytes())).into()
}

/// Takes the answer for one whole blob off the front, and returns its bytes if they verify.
fn decode(hash: Hash, ranges: &ChunkRanges, answer: &mut &[u8]) -> Option<Vec<u8>> {
    let (size, rest) = answer.split_first_chunk()?;
    *answer = rest;
    // Garbage says anything.
    let size = Some(u64::from_le_bytes(*size)).filter(|size| *size <= 4 << 20)?;
    let mut outboard = bao_tree::io::outboard::EmptyOutboard {
        tree: BaoTree::new(size, IROH_BLOCK_SIZE),
        root: hash.into(),
    };
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    decode_ranges(&mut *answer, ranges, &mut bytes, &mut outboard).ok()?;
    Some(bytes)
}

fn expected(name: &str) -> Vec<u8> {
    let len = FILES.iter().find(|(file, _)| *file == name).unwrap().1;
    fixture::bytes(11, name, usize::try_from(len).unwrap())
}

#[tokio::test]
async fn an_honest_provider_answers_for_every_blob() {
    let pair = pair(Behaviour::Honest).await;
    let all = ChunkRanges::all();
    for (name, _) in FILES {
        let answer = pair.get(&get(pair.hash(name))).await;
        let mut rest = &answer[..];
        assert!(
            decode(pair.hash(name), &all, &mut rest) == Some(expected(name)),
            "{name}"
        );
        assert!(rest.is_empty(), "{name}");
    }
    let manifest = pair.hostile.manifest();
    let answer = pair.get(&get(manifest.hash())).await;
    assert_eq!(
        decode(manifest.hash(), &all, &mut &answer[..]),
        Some(manifest.encode())
    );
}

#[tokio::test]
async fn an_honest_provider_answers_for_ranges_and_for_many() {
    let pair = pair(Behaviour::Honest).await;
    let ranges = ChunkRanges::from(ChunkNum(1024)..ChunkNum(2048));
    let hash = iroh_blobs::Hash::from_bytes(*pair.hash("large").as_bytes());
    let answer = pair
        .get(&GetRequest::blob_ranges(hash, ranges.clone()).into())
        .await;
    let shard = 1024 * 1024..2 * 1024 * 1024;
    let decoded = decode(pair.hash("large"), &ranges, &mut &answer[..]).unwrap();
    assert!(decoded[shard.clone()] == expected("large")[shard]);

    let names = ["small", "empty", "one"];
    let hashes = names.map(|name| iroh_blobs::Hash::from_bytes(*pair.hash(name).as_bytes()));
    let many = GetManyRequest::builder();
    let many = hashes
        .iter()
        .fold(many, |many, hash| many.hash(*hash, ChunkRanges::all()))
        .build();
    let order: Vec<Hash> = many
        .hashes
        .iter()
        .map(|hash| Hash::from_bytes(*hash.as_bytes()))
        .collect();
    let answer = pair.get(&many.into()).await;
    let mut rest = &answer[..];
    for hash in order {
        let bytes = decode(hash, &ChunkRanges::all(), &mut rest).unwrap();
        assert_eq!(Hash::of(&bytes), hash);
    }
    assert!(rest.is_empty());
}

#[tokio::test]
async fn lies_do_not_verify_but_the_manifest_does() {
    for behaviour in [
        Behaviour::WrongBytes,
        Behaviour::WrongSize,
        Behaviour::Garbage,
        Behaviour::Resets,
    ] {
        let pair = pair(behaviour).await;
        for name in ["one", "small", "large"] {
            let answer = pair.get(&get(pair.hash(name))).await;
            let decoded = decode(pair.hash(name), &ChunkRanges::all(), &mut &answer[..]);
            assert!(decoded.is_none(), "{name} of {behaviour:?}");
        }
        let manifest = pair.hostile.manifest().hash();
        let answer = pair.get(&get(manifest)).await;
        assert!(
            decode(manifest, &ChunkRanges::all(), &mut &answer[..]).is_some(),
            "{behaviour:?}"
        );
    }
}

#[tokio::test]
async fn too_many_are_behind_a_right_answer() {
    let pair = pair(Behaviour::TooMany).await;
    let answer = pair.get(&get(pair.hash("large"))).await;
    let mut rest = &answer[..];
    assert!(decode(pair.hash("large"), &ChunkRanges::all(), &mut rest) == Some(expected("large")));
    assert_eq!(rest.len(), answer::MORE);
}

#[tokio::test]
async fn a_stall_comes_after_half_or_at_once_and_lasts() {
    for (behaviour, wanted) in [(Behaviour::Nothing, 0), (Behaviour::StallsHalf, 4_504)] {
        let pair = pair(behaviour).await;
        let mut stream = pair.request(&get(pair.hash("small"))).await;
        let mut half = vec![0; wanted];
        within(DEADLINE, "the first half", stream.read_exact(&mut half))
            .await
            .unwrap()
            .unwrap();
        pair.hostile.until_asked(|asked| asked.blobs == 1).await.unwrap();
        let more = within(Duration::from_millis(300), "more", stream.read(&mut [0; 1])).await;
        assert!(more.is_err(), "{behaviour:?} sent more, or ended: {more:?}");
    }
}

#[tokio::test]
async fn a_slow_provider_sends_right_bytes() {
    let pair = pair(Behaviour::OneBytePerSecond).await;
    let answer = pair.get(&get(pair.hash("empty"))).await;
    assert_eq!(answer, 0u64.to_le_bytes());
}

#[tokio::test]
async fn it_claims_all_of_its_folder_and_tells_the_releases_it_was_given() {
    let pair = pair(Behaviour::Nothing).await;
    let manifest = pair.hostile.manifest().hash();
    assert_eq!(pair.claim().await, Ok(SwarmTell::Everything));
    let mut other = pair.session(Hash::of(b"other")).await;
    assert_eq!(hear(&mut other).await, Ok(SwarmTell::Nothing));

    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let old = fixture::release(&key, "toy", manifest, 1);
    let RepoId { publisher, name } = old.release().repo();
    let ask = CatalogAsk::Release { publisher, name };
    assert_eq!(
        pair.ask::<_, CatalogTell>(CATALOG_PROTOCOL, &ask).await,
        CatalogTell::Release(None)
    );
    pair.hostile.tell(old.clone());
    let told: CatalogTell = pair.ask(CATALOG_PROTOCOL, &ask).await;
    assert_eq!(told, CatalogTell::Release(Some(old.encode())));
    assert_eq!(
        pair.hostile.asked(),
        Asked {
            have: 2,
            blobs: 0,
            releases: 2
        }
    );
}

#[tokio::test]
async fn one_with_a_part_says_which_and_gives_no_other() {
    // The shards of `large` are 0, 1 and 2, then come `one` and `small`.
    let pair = pair_with(Behaviour::Honest, Some(1..2)).await;
    let told = pair.claim().await.unwrap();
    assert_eq!(told.runs().collect::<Vec<_>>(), vec![1..2]);
    let hash = iroh_blobs::Hash::from_bytes(*pair.hash("large").as_bytes());
    for (chunks, given) in [
        (1024..2048, true),
        (1040..1056, true),
        (0..1024, false),
        (1024..2049, false),
    ] {
        let ranges = ChunkRanges::from(ChunkNum(chunks.start)..ChunkNum(chunks.end));
        let answer = pair
            .get(&GetRequest::blob_ranges(hash, ranges.clone()).into())
            .await;
        let decoded = decode(pair.hash("large"), &ranges, &mut &answer[..]);
        assert_eq!(decoded.is_some(), given, "{chunks:?}");
    }
    assert!(!pair.gives("large").await && !pair.gives("small").await);
    assert!(pair.gives("empty").await, "it has no shard");
}

#[tokio::test]
async fn one_that_lies_in_its_bits_gives_the_first_half() {
    let pair = pair(Behaviour::LiesInBits).await;
    assert_eq!(pair.claim().await, Ok(SwarmTell::Everything));
    assert!(pair.gives("large").await);
    assert!(!pair.gives("one").await && !pair.gives("small").await);
}

#[tokio::test]
async fn frames_are_bad_in_the_way_they_are_to_be_and_bytes_are_right() {
    for (behaviour, error) in [
        (Behaviour::GarbageFrames, WireError::Message),
        (
            Behaviour::OversizePrefix,
            wire::frame_len(u32::MAX.to_le_bytes()).unwrap_err(),
        ),
    ] {
        let pair = pair(behaviour).await;
        assert_eq!(pair.claim().await, Err(error), "{behaviour:?}");
        assert!(pair.gives("small").await, "{behaviour:?}");
    }
    let pair = pair(Behaviour::OutOfRange).await;
    let told = pair.claim().await.unwrap();
    assert!(
        matches!(told.check(5), Err(WireError::Shard { count: 5, .. })),
        "{told:?}"
    );
    assert!(pair.gives("small").await);
}

#[tokio::test]
async fn a_flood_does_not_end_before_its_reader() {
    let pair = pair(Behaviour::FloodsGot).await;
    let mut session = pair.session(pair.hostile.manifest().hash()).await;
    let first = hear(&mut session).await.unwrap();
    assert!(matches!(first, SwarmTell::Bits { .. }) && first.runs().next().is_none());
    for _ in 0..10_000 {
        let told = hear(&mut session).await.unwrap();
        assert!(matches!(told, SwarmTell::Got(_)) && told.check(5).is_ok());
    }
    drop(session);
    assert!(pair.gives("small").await);
}

#[tokio::test]
async fn it_joins_and_speaks_until_the_other_ends_it() {
    let Pair { hostile, .. } = pair(Behaviour::Honest).await;
    let config = SwarmConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        protocols: vec![Protocol::anywhere(SWARM_PROTOCOL)],
        ..SwarmConfig::new(Keypair::generate_ed25519())
    };
    let (node, mut inbound) = Swarm::start(config).await.unwrap();
    hostile
        .swarm()
        .connect(node.peer_id(), node.listeners())
        .await
        .unwrap();
    let (_, mut streams) = inbound.remove(0);
    let answering = async {
        let mut stream = streams.recv().await.unwrap().stream;
        let manifest = hostile.manifest().hash();
        assert_eq!(hear(&mut stream).await, Ok(SwarmTell::Join { manifest }));
        assert_eq!(hear(&mut stream).await, Ok(SwarmTell::Everything));
        stream.close().await.unwrap();
    };
    let both = async { tokio::join!(hostile.join(node.peer_id()), answering) };
    let (joined, ()) = within(DEADLINE, "a session", both).await.unwrap();
    joined.unwrap();
    hostile.stop().await;
}

#[tokio::test]
async fn it_is_found_once_it_announced_itself() {
    let Pair { hostile, asker, .. } = pair(Behaviour::Nothing).await;
    let meeting_point = hostile.addresses();
    let config = SwarmConfig {
        peers: meeting_point,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        dht: DhtRole::Server,
        ..SwarmConfig::new(Keypair::generate_ed25519())
    };
    let (third, _) = Swarm::start(config).await.unwrap();
    hostile.announce().await.unwrap();
    let key = provider_key(hostile.manifest().hash());
    let mut found = third.providers(key, 8).await.unwrap();
    let first = within(DEADLINE, "a provider", found.recv()).await.unwrap();
    assert_eq!(first, Some(hostile.peer_id()));
    asker.shutdown().await;
    hostile.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_fetches_from_an_honest_one_what_it_would_have_published() {
    let folder = tempfile::tempdir().unwrap();
    fixture::folder(folder.path(), 12, &fixture::telling_sizes()).unwrap();
    let hostile = Hostile::start(folder.path(), Behaviour::Honest, Vec::new())
        .await
        .unwrap();
    let mut net = crate::nodes::Testnet::start(1).await.unwrap();
    let mut request = FetchRequest::new(FetchWhat::Ticket(hostile.ticket()));
    request.to = Some(net.scratch().join("fetched"));
    let fetched = net.node(0).fetch(request, &Progress::default()).await.unwrap();
    assert_eq!(fetched.manifest, hostile.manifest().hash());
    fixture::assert_same(folder.path(), &net.scratch().join("fetched"));

    let request = PublishRequest::new(folder.path());
    let request = PublishRequest {
        name: Some("sizes".parse().unwrap()),
        ..request
    };
    let published = net
        .node(0)
        .library()
        .publish(request, &Progress::default())
        .await
        .unwrap();
    assert_eq!(published.manifest, hostile.manifest().hash());
    net.stop_all().await;
}
