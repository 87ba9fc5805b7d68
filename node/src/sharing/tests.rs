//! Sessions between real nodes on loopback, and with peers that do not keep to the rules.

use super::*;
use crate::{
    Config, Node, limits::MEMBERS_MAX, progress::Progress, publish::PublishRequest, swarm::SwarmEvent,
};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Stream, StreamProtocol};
use protocol::{ShardRun, SwarmTell, wire};
use std::collections::BTreeSet;
use tempfile::TempDir;

mod hostile;

/// Longest wait for anything: generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

async fn node() -> (Node, TempDir) {
    let data = TempDir::new().unwrap();
    (Node::start(Config::loopback(data.path())).await.unwrap(), data)
}

/// A node that published a folder of `shards` files.
struct Source {
    node: Node,
    manifest: Hash,
    map: Arc<ShardMap>,
    _folders: [TempDir; 2],
}

async fn source(shards: u32) -> Source {
    let (node, data) = node().await;
    let folder = TempDir::new().unwrap();
    for shard in 0..shards {
        std::fs::write(folder.path().join(shard.to_string()), format!("shard {shard}")).unwrap();
    }
    let request = PublishRequest::new(folder.path());
    let published = node
        .library()
        .publish(request, &Progress::default())
        .await
        .unwrap();
    let manifest = published.manifest;
    let content = node.library().store().manifest(manifest).await.unwrap();
    let map = Arc::new(ShardMap::new(&content).unwrap());
    assert_eq!(map.count(), shards);
    Source {
        node,
        manifest,
        map,
        _folders: [data, folder],
    }
}

fn set(count: u32, runs: &[Range<u32>]) -> FixedBitSet {
    let mut set = FixedBitSet::with_capacity(count as usize);
    runs.iter()
        .for_each(|run| set.insert_range(crate::runs::span(run)));
    set
}

impl Source {
    fn enter(&self, node: &Node, have: &[Range<u32>]) -> (Crowd, mpsc::Receiver<Fact>) {
        let have = set(self.map.count(), have);
        node.sharing().enter(self.manifest, Arc::clone(&self.map), have)
    }
}

async fn meet(crowd: &Crowd, swarm: &Swarm) {
    let peer = swarm.peer_id();
    let connected = crowd.sharing.swarm().connect(peer, swarm.listeners());
    within("a connection", connected).await.unwrap();
    crowd.meet(peer);
}

async fn hear(facts: &mut mpsc::Receiver<Fact>, wanted: Fact) {
    let hearing = async {
        while let Some(fact) = facts.recv().await {
            if fact == wanted {
                return;
            }
        }
        panic!("the crowd is over");
    };
    within(&format!("{wanted:?}"), hearing).await;
}

/// Waits until a member's shards add up to what is wanted.
async fn add_up(facts: &mut mpsc::Receiver<Fact>, peer: PeerId, wanted: &BTreeSet<u32>) {
    let mut found = BTreeSet::new();
    let hearing = async {
        while found != *wanted {
            match facts.recv().await.expect("the crowd is there") {
                Fact::Has(from, runs) if from == peer => found.extend(runs.into_iter().flatten()),
                Fact::HasAll(from) if from == peer => panic!("it has not everything"),
                _ => {}
            }
            assert!(found.is_subset(wanted), "{found:?}");
        }
    };
    within("the shards of a member", hearing).await;
}

/// Waits for something that no event tells of.
async fn until(what: &str, mut state: impl FnMut() -> bool) {
    within(what, async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_fetch_hears_that_the_source_has_everything() {
    let source = source(9).await;
    let (fetcher, _data) = node().await;
    let (crowd, mut facts) = source.enter(&fetcher, &[]);
    meet(&crowd, source.node.swarm()).await;
    let peer = source.node.swarm().peer_id();
    hear(&mut facts, Fact::Joined(peer)).await;
    hear(&mut facts, Fact::HasAll(peer)).await;
    assert_eq!(crowd.members(), [peer]);
    assert_eq!(source.node.sharing().takes_part(source.manifest), 1);
    // The source goes: the fetch hears it.
    source.node.shutdown().await;
    hear(&mut facts, Fact::Left(peer)).await;
    fetcher.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_out_who_takes_part() {
    let source = source(3).await;
    let (asker, _data) = node().await;
    asker
        .swarm()
        .dial(source.node.listeners()[0].clone())
        .await
        .unwrap();
    let peer = source.node.swarm().peer_id();
    assert!(asker.sharing().probe(peer, source.manifest).await);
    assert!(!asker.sharing().probe(peer, Hash::of(b"nobody has this")).await);
    assert!(!asker.sharing().probe(PeerId::random(), source.manifest).await);
    // Who fetches takes part, with nothing too.
    let (other, _data) = node().await;
    let (_crowd, _facts) = source.enter(&other, &[]);
    asker.swarm().dial(other.listeners()[0].clone()).await.unwrap();
    assert!(
        asker
            .sharing()
            .probe(other.swarm().peer_id(), source.manifest)
            .await
    );
    until("the probes to be forgotten", || {
        source.node.sharing().takes_part(source.manifest) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_told_as_they_land_and_everything_in_the_end() {
    let source = source(40).await;
    let ((a, _a), (b, _b)) = (node().await, node().await);
    let (at_a, mut facts_a) = source.enter(&a, &[0..3]);
    let (at_b, mut facts_b) = source.enter(&b, &[10..11]);
    meet(&at_b, a.swarm()).await;
    hear(&mut facts_b, Fact::Has(a.swarm().peer_id(), vec![0..3])).await;
    hear(&mut facts_a, Fact::Has(b.swarm().peer_id(), vec![10..11])).await;
    at_a.got(5..7);
    hear(&mut facts_b, Fact::Has(a.swarm().peer_id(), vec![5..7])).await;
    (20..30).for_each(|shard| at_b.got(shard..shard + 1));
    add_up(&mut facts_a, b.swarm().peer_id(), &(20..30).collect()).await;
    at_b.got(0..40);
    hear(&mut facts_a, Fact::HasAll(b.swarm().peer_id())).await;
    // The fetch is over; what it brought is still told.
    drop((at_b, facts_b));
    assert_eq!(b.sharing().takes_part(source.manifest), 1);
    drop(at_a);
    let (at_a, mut facts_a) = source.enter(&a, &[0..3, 5..7]);
    hear(&mut facts_a, Fact::Joined(b.swarm().peer_id())).await;
    hear(&mut facts_a, Fact::HasAll(b.swarm().peer_id())).await;
    // A crowd that is dropped ends.
    b.sharing().drop_crowd(source.manifest);
    hear(&mut facts_a, Fact::Left(b.swarm().peer_id())).await;
    assert!(at_a.members().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_meet_each_other_at_once_keep_one_session() {
    let source = source(4).await;
    let ((a, _a), (b, _b)) = (node().await, node().await);
    a.swarm().dial(b.listeners()[0].clone()).await.unwrap();
    for _ in 0..5 {
        let (at_a, mut facts_a) = source.enter(&a, &[0..1]);
        let (at_b, mut facts_b) = source.enter(&b, &[3..4]);
        at_a.meet(b.swarm().peer_id());
        at_b.meet(a.swarm().peer_id());
        hear(&mut facts_a, Fact::Has(b.swarm().peer_id(), vec![3..4])).await;
        hear(&mut facts_b, Fact::Has(a.swarm().peer_id(), vec![0..1])).await;
        until("one stream", || {
            [&a, &b].iter().all(|node| {
                node.sharing().index().streams_total == 1 && node.sharing().takes_part(source.manifest) == 1
            })
        })
        .await;
        at_a.got(1..2);
        hear(&mut facts_b, Fact::Has(a.swarm().peer_id(), vec![1..2])).await;
        at_b.got(2..3);
        hear(&mut facts_a, Fact::Has(b.swarm().peer_id(), vec![2..3])).await;
        a.sharing().drop_crowd(source.manifest);
        b.sharing().drop_crowd(source.manifest);
        until("no stream", || {
            [&a, &b]
                .iter()
                .all(|node| node.sharing().index().streams_total == 0)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_know_only_the_source_find_each_other() {
    let source = source(30).await;
    let ((a, _a), (b, _b)) = (node().await, node().await);
    let (at_a, mut facts_a) = source.enter(&a, &[]);
    meet(&at_a, source.node.swarm()).await;
    hear(&mut facts_a, Fact::Joined(source.node.swarm().peer_id())).await;
    let (at_b, mut facts_b) = source.enter(&b, &[]);
    meet(&at_b, source.node.swarm()).await;
    hear(&mut facts_b, Fact::Joined(a.swarm().peer_id())).await;
    hear(&mut facts_a, Fact::Joined(b.swarm().peer_id())).await;
    assert_eq!(at_b.members().len(), 2);
    assert_eq!(source.node.sharing().takes_part(source.manifest), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_source_shows_two_fetches_different_shards() {
    let source = source(200).await;
    let peer = source.node.swarm().peer_id();
    let ((a, _a), (b, _b)) = (node().await, node().await);
    let (at_a, mut facts_a) = source.enter(&a, &[]);
    meet(&at_a, source.node.swarm()).await;
    // The first is alone: it sees everything. A third then shares the rest with the second.
    hear(&mut facts_a, Fact::HasAll(peer)).await;
    let (at_b, mut facts_b) = source.enter(&b, &[]);
    meet(&at_b, source.node.swarm()).await;
    let mut shown = BTreeSet::new();
    let hearing = async {
        while shown.len() < 4 {
            if let Some(Fact::Has(from, runs)) = facts_b.recv().await
                && from == peer
            {
                shown.extend(runs.into_iter().flatten());
            }
        }
    };
    within("an offer", hearing).await;
    assert!(shown.len() < 100);
    let shard = *shown.first().unwrap();
    let blob = source.map.blobs()[source.map.blob_of(shard).unwrap()];
    let sharing = source.node.sharing();
    assert!(sharing.asked(b.swarm().peer_id(), blob.hash, 0..blob.len));
    assert!(
        !sharing.asked(a.swarm().peer_id(), blob.hash, 0..blob.len),
        "it is being sent to another"
    );
    assert!(
        !sharing.asked(PeerId::random(), blob.hash, 0..blob.len),
        "a stranger"
    );
    assert!(
        !sharing.asked(b.swarm().peer_id(), Hash::of(b"other"), 0..9),
        "another blob"
    );
    sharing.sent(b.swarm().peer_id(), blob.hash, 0..blob.len);
    assert!(
        !sharing.asked(b.swarm().peer_id(), blob.hash, 0..blob.len),
        "a second copy"
    );
    // A second complete member: nothing is held back.
    at_a.got(0..200);
    hear(&mut facts_b, Fact::HasAll(peer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_of_a_manifest_that_was_begun_is_shared() {
    let source = source(9).await;
    let ((fetcher, _a), (begun, _b)) = (node().await, node().await);
    let content = source
        .node
        .library()
        .store()
        .manifest(source.manifest)
        .await
        .unwrap();
    let store = begun.library().store();
    let _manifest = store.put_manifest(&content).await.unwrap();
    let (crowd, mut facts) = source.enter(&fetcher, &[]);
    fetcher.swarm().dial(begun.listeners()[0].clone()).await.unwrap();
    let peer = begun.swarm().peer_id();
    assert!(
        !fetcher.sharing().probe(peer, source.manifest).await,
        "nothing is here"
    );
    let here = [2, 3, 7].map(|shard| format!("shard {shard}"));
    let numbers = here.each_ref().map(|bytes| {
        let blob = source.map.find(Hash::of(bytes.as_bytes())).unwrap();
        source.map.blobs()[blob].first
    });
    let _blobs = store
        .put_small(here.map(bytes::Bytes::from).to_vec())
        .await
        .unwrap();
    let _held = store.hold(source.manifest);
    meet(&crowd, begun.swarm()).await;
    add_up(&mut facts, peer, &numbers.into()).await;
}

/// The crowd of a manifest with `count` shards, all of them here.
fn complete(count: u32) -> Gathering {
    let file = protocol::FileEntry {
        path: "large.bin".parse().unwrap(),
        size: u64::from(count) * protocol::SHARD_LEN,
        blake3: Hash::of(b"large"),
        sha256: None,
        sha1: None,
    };
    let manifest = protocol::Manifest::new(vec![file]).unwrap();
    let map = Arc::new(ShardMap::new(&manifest).unwrap());
    let have = set(count, &[0..count]);
    Gathering::new(manifest.hash(), map, PeerId::random(), have, 1)
}

#[test]
fn a_full_crowd_takes_another_member_only_in_place_of_a_complete_one() {
    let crowd = complete(10);
    let peers: Vec<PeerId> = (0..MEMBERS_MAX).map(|_| PeerId::random()).collect();
    for (number, peer) in (0..).zip(&peers) {
        assert!(crowd.seat(*peer, *peer, number).is_some());
    }
    let late = PeerId::random();
    assert!(crowd.seat(late, late, 100).is_none());
    crowd.has(peers[7], &[0..10]);
    assert!(crowd.seat(late, late, 101).is_some());
    let members = crowd.members();
    assert!(members.len() == MEMBERS_MAX && members.contains(&late) && !members.contains(&peers[7]));
    assert!(crowd.take(&peers[7], 7).is_none(), "its session ends");
    assert!(crowd.leave(&peers[7], 7).is_none(), "it has left");
}

#[test]
fn of_two_sessions_with_one_member_that_of_the_smaller_id_or_the_newer_stays() {
    let (crowd, peer) = (complete(10), PeerId::random());
    let (small, large) = (PeerId::random(), PeerId::random());
    let (small, large) = (small.min(large), small.max(large));
    assert!(crowd.seat(peer, large, 1).is_some());
    assert!(crowd.seat(peer, small, 2).is_some());
    assert!(crowd.take(&peer, 1).is_none());
    assert!(crowd.seat(peer, large, 3).is_none());
    assert!(crowd.seat(peer, small, 4).is_some());
    assert!(crowd.leave(&peer, 2).is_none());
    // All that it was shown is said again on the new stream.
    let batch = crowd.take(&peer, 4).unwrap();
    assert_eq!(batch.frames, [SwarmTell::Everything]);
    assert!(crowd.leave(&peer, 4).is_some());
    assert!(crowd.members().is_empty());
}

#[test]
fn a_member_that_does_not_read_costs_one_set_of_shards() {
    let mut outbox = outbox::Outbox::new(1_000, true);
    for _ in 0..10_000 {
        (0..1_000)
            .step_by(2)
            .for_each(|shard| outbox.add(&(shard..shard + 1)));
    }
    let frames = outbox.take().frames;
    assert_eq!(frames.len(), 2, "an answer and all runs");
    assert!(outbox.take().frames.is_empty());
}
