//! Many peers at once, over loopback: turns, limits, and readers that do not read.

use super::*;
use crate::{
    Limits,
    swarm::{DhtRole, Protocol, Swarm, SwarmConfig},
};
use futures::future::join_all;
use libp2p::identity::Keypair;
use std::collections::HashMap;
use tokio::time::Instant;

/// Longest wait for anything: generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const MIB: usize = 1024 * 1024;

/// Notes what it is told of.
#[derive(Default)]
struct Recorder {
    asked: Mutex<Vec<(PeerId, Hash, Range<u64>)>>,
    sent: Mutex<Vec<(PeerId, Hash, Range<u64>)>>,
}

impl Watcher for Recorder {
    fn asked(&self, peer: PeerId, blob: Hash, bytes: Range<u64>) -> bool {
        self.asked.lock().unwrap().push((peer, blob, bytes));
        false
    }

    fn sent(&self, peer: PeerId, blob: Hash, bytes: Range<u64>) {
        self.sent.lock().unwrap().push((peer, blob, bytes));
    }
}

/// A server on a swarm of its own.
struct Serving {
    server: Server,
    swarm: Swarm,
    recorder: Arc<Recorder>,
    _data: TempDir,
}

impl Serving {
    async fn start(slots: usize, limits: Limits) -> Serving {
        let data = TempDir::new().unwrap();
        let library = Library::open(data.path()).await.unwrap();
        let (swarm, mut inbound) = Swarm::start(SwarmConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            dht: DhtRole::Server,
            protocols: vec![Protocol::direct(wire::BLOBS_PROTOCOL)],
            ..SwarmConfig::new(library.keypair())
        })
        .await
        .unwrap();
        let recorder = Arc::<Recorder>::default();
        let discovery = Discovery::alone(library.clone()).await.unwrap();
        let server = Server::new(
            library,
            discovery,
            Throttle::new(limits),
            Some(slots),
            recorder.clone(),
        );
        tokio::spawn(server.clone().answer(wire::BLOBS_PROTOCOL, inbound.remove(0).1));
        Serving {
            server,
            swarm,
            recorder,
            _data: data,
        }
    }

    /// Publishes one file; returns its name and its bytes.
    async fn publish(&self, len: usize) -> (Hash, Vec<u8>) {
        let (folder, bytes) = (TempDir::new().unwrap(), content(len));
        std::fs::write(folder.path().join("file"), &bytes).unwrap();
        let mut request = PublishRequest::new(folder.path());
        request.copy = true;
        let library = &self.server.0.library;
        library.publish(request, &Progress::default()).await.unwrap();
        (Hash::of(&bytes), bytes)
    }

    /// A peer that is connected and serves nothing.
    async fn asker(&self) -> Swarm {
        let asker = Swarm::start(SwarmConfig::new(Keypair::generate_ed25519()));
        let (asker, _) = asker.await.unwrap();
        asker.dial(self.swarm.listeners()[0].clone()).await.unwrap();
        asker
    }

    async fn fetch(&self, asker: &Swarm, hash: Hash) -> Vec<u8> {
        let (store, unlimited) = (self.server.0.library.store(), Throttle::new(Limits::default()));
        let link = transfer::Link::over(asker, store, &unlimited, self.swarm.peer_id());
        let fetched = transfer::blob(&link, hash, 1 << 30);
        let fetched = timeout(DEADLINE, fetched).await.expect("a turn comes in time");
        fetched.unwrap().to_vec()
    }

    /// Asks for a whole blob and reads nothing of the answer. A stream that is refused may break while it is asked.
    async fn request(&self, asker: &Swarm, hash: Hash) -> Stream {
        let protocol = StreamProtocol::new(wire::BLOBS_PROTOCOL);
        let mut stream = asker.open_stream(self.swarm.peer_id(), protocol).await.unwrap();
        let request = GetRequest::blob(iroh_blobs::Hash::from_bytes(*hash.as_bytes()));
        let request = [&[GET][..], &postcard::to_stdvec(&request).unwrap()].concat();
        if stream.write_all(&request).await.is_ok() {
            let _ = stream.close().await;
        }
        stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_peers_at_once_are_all_served_by_few_slots() {
    let serving = Serving::start(2, Limits::default()).await;
    let (hash, bytes) = serving.publish(3 * MIB + 5).await;
    let askers = join_all((0..8).map(|_| serving.asker())).await;
    let answers = join_all(askers.iter().map(|asker| serving.fetch(asker, hash))).await;
    assert!(answers.iter().all(|answer| *answer == bytes));
    // The stream ends before its sending is noted.
    let noted = async {
        while serving.recorder.sent.lock().unwrap().len() < 8 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, noted).await.unwrap();
    let told = |told: &Mutex<Vec<(PeerId, Hash, Range<u64>)>>| {
        let mut told = told.lock().unwrap().clone();
        told.sort_by_key(|(peer, ..)| *peer);
        told
    };
    let mut expected: Vec<_> = askers
        .iter()
        .map(|asker| (asker.peer_id(), hash, 0..u64::MAX))
        .collect();
    expected.sort_by_key(|(peer, ..)| *peer);
    assert_eq!(told(&serving.recorder.asked), expected);
    assert_eq!(told(&serving.recorder.sent), expected);
    let ups = serving.server.serving();
    let by_peer: HashMap<&str, &PeerUp> = ups.iter().map(|up| (up.peer.as_str(), up)).collect();
    assert_eq!(by_peer.len(), 8);
    assert!(
        ups.iter()
            .all(|up| up.bytes > bytes.len() as u64 && up.bytes_s > 0.0)
    );
    assert_eq!(serving.server.sent(), ups.iter().map(|up| up.bytes).sum::<u64>());
    assert!(serving.server.rate_up() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_and_may_be_lifted_on_the_way() {
    let rate = 2 * MIB as u64;
    let limits = Limits {
        up: Some(rate),
        ..Limits::default()
    };
    let serving = Serving::start(4, limits).await;
    let (hash, bytes) = serving.publish(2 * MIB).await;
    let (a, b) = (serving.asker().await, serving.asker().await);
    let begun = Instant::now();
    let (x, y) = tokio::join!(serving.fetch(&a, hash), serving.fetch(&b, hash));
    let took = begun.elapsed().as_secs_f64();
    assert!(x == bytes && y == bytes);
    assert!(
        serving.server.sent() as f64 / took <= 1.2 * rate as f64,
        "{took} s"
    );

    let (slow, bytes) = serving.publish(4 * MIB).await;
    serving.server.0.throttle.set(Limits {
        peer_up: Some(1),
        ..Limits::default()
    });
    let fetching = serving.fetch(&a, slow);
    tokio::pin!(fetching);
    assert!(timeout(Duration::from_millis(300), &mut fetching).await.is_err());
    serving.server.0.throttle.set(Limits::default());
    assert!(fetching.await == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_do_not_read_stop_nobody_and_may_go_on_later() {
    let serving = Serving::start(1, Limits::default()).await;
    let (hash, bytes) = serving.publish(8 * MIB).await;
    let (idle, busy) = (serving.asker().await, serving.asker().await);
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(serving.request(&idle, hash).await);
    }
    assert!(serving.fetch(&busy, hash).await == bytes);
    for mut stream in unread {
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(assert_decodes(&answer, &bytes, &ChunkRanges::all()).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_a_bounded_number_of_requests() {
    let serving = Serving::start(SERVED_PER_PEER + 1, Limits::default()).await;
    // More than fits on the way: none is over before it is read.
    let (hash, bytes) = serving.publish(8 * MIB).await;
    let (greedy, other) = (serving.asker().await, serving.asker().await);
    let mut streams = join_all((0..100).map(|_| serving.request(&greedy, hash))).await;
    let firsts = streams.iter_mut().map(|stream| async {
        let read = timeout(DEADLINE, stream.read(&mut [0]))
            .await
            .expect("an answer or an end");
        read.unwrap_or(0)
    });
    assert_eq!(join_all(firsts).await.iter().sum::<usize>(), SERVED_PER_PEER);
    assert!(serving.fetch(&other, hash).await == bytes);
}
