//! Syncs with peers that tell what no publisher signed.

use std::{future::Future, path::Path};

use libp2p::identity::Keypair;
use protocol::{SignedRelease, release::id_of};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};

use super::*;
use crate::{
    Config,
    discovery::{
        reconcile::Answerer,
        samples::{forged, signed, told},
        set::{KnownSet, Snapshot},
    },
    swarm::{Protocol, Swarm, SwarmConfig},
};

/// Longest wait for anything: generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

async fn node(data: &Path) -> Node {
    Node::start(Config::loopback(data)).await.unwrap()
}

/// Waits until so many releases are known.
async fn knows(node: &Node, count: usize) {
    let mut news = node.discovery().news();
    let known = async {
        while node.discovery().len() < count {
            // Who missed some looks as well.
            let _ = news.recv().await;
        }
    };
    within("what is told to be known", known).await;
    assert_eq!(node.discovery().len(), count);
}

/// A peer that syncs as the protocol has it, whatever the releases are that it tells.
struct Teller {
    swarm: Swarm,
    /// How many syncs others have opened with it.
    syncs: watch::Receiver<usize>,
    /// How often it was asked for releases.
    gets: watch::Receiver<usize>,
    // Aborted when dropped.
    _answering: JoinSet<()>,
}

/// What it tells, and by which id.
type Told = Vec<(ReleaseId, u64, Known)>;

fn item(release: &SignedRelease, known: Known) -> (ReleaseId, u64, Known) {
    (id_of(release), release.release().issued, known)
}

fn good(seed: u8, count: usize) -> Told {
    let releases = (0..count).map(|number| signed(seed, &format!("good-{number}"), 1));
    releases.map(|release| item(&release, told(&release))).collect()
}

fn false_ones(seed: u8, count: usize) -> Told {
    let releases = (0..count).map(|number| signed(seed, &format!("false-{number}"), 1));
    releases.map(|release| item(&release, forged(&release))).collect()
}

impl Teller {
    async fn start(key: Keypair, tells: Told) -> Teller {
        let config = SwarmConfig {
            listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()],
            protocols: vec![Protocol::anywhere(wire::CATALOG_PROTOCOL)],
            ..SwarmConfig::new(key)
        };
        let (swarm, mut inbound) = Swarm::start(config).await.unwrap();
        let mut streams = inbound.remove(0).1;
        let items = tells
            .iter()
            .map(|(id, issued, _)| Item::new(*issued, *id.as_bytes()).unwrap());
        let snapshot = KnownSet::build(items.collect()).unwrap().snapshot();
        let ((count, syncs), (got, gets)) = (watch::channel(0), watch::channel(0));
        let (tells, counts) = (Arc::new(tells), Arc::new((count, got)));
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            let mut all = JoinSet::new();
            while let Some(inbound) = streams.recv().await {
                let (tells, snapshot, counts) = (tells.clone(), snapshot.clone(), counts.clone());
                all.spawn(async move {
                    // Whoever goes away is not our concern.
                    let _ = answer(inbound.stream, &tells, snapshot, &counts).await;
                });
            }
        });
        Teller {
            swarm,
            syncs,
            gets,
            _answering: answering,
        }
    }

    async fn meets(&self, node: &Node) {
        let met = node.swarm().connect(self.swarm.peer_id(), self.swarm.listeners());
        within("a connection", met).await.unwrap();
    }

    /// Says that something is new.
    async fn says(&self, node: &Node, id: ReleaseId) {
        let protocol = StreamProtocol::new(wire::CATALOG_PROTOCOL);
        let told = async {
            let (peer, at) = (node.swarm().peer_id(), node.listeners());
            self.swarm.connect(peer, at).await.unwrap();
            let opened = self.swarm.open_stream(peer, protocol).await;
            let mut stream = opened.unwrap();
            frame::send(&mut stream, &CatalogAsk::Have(vec![id]))
                .await
                .unwrap();
            let heard: CatalogTell = frame::read(&mut stream).await.unwrap();
            assert!(matches!(heard, CatalogTell::Have), "{heard:?}");
        };
        within("news to be heard", told).await;
    }
}

async fn answer(
    mut stream: Stream,
    tells: &Told,
    snapshot: Snapshot,
    (count, got): &(watch::Sender<usize>, watch::Sender<usize>),
) -> Result<(), FrameError> {
    let mut answerer = None;
    while let Some(ask) = frame::next(&mut stream).await? {
        let tell = match ask {
            CatalogAsk::Version => CatalogTell::Version(CATALOG_VERSION),
            CatalogAsk::Reconcile { message, .. } => {
                let answerer = answerer.get_or_insert_with(|| {
                    count.send_modify(|count| *count += 1);
                    Answerer::new(snapshot.clone(), rand::random())
                });
                CatalogTell::Reconcile(answerer.take(&message).unwrap())
            }
            CatalogAsk::Get(ids) => {
                got.send_modify(|got| *got += 1);
                let known = tells.iter().filter(|(id, ..)| ids.contains(id));
                let known: Vec<Known> = known.map(|(.., known)| known.clone()).collect();
                if known.is_empty() {
                    // It said that it has it, and never tells.
                    std::future::pending::<()>().await;
                }
                CatalogTell::Known(known)
            }
            CatalogAsk::Have(_) | CatalogAsk::Heard(_) => CatalogTell::Have,
            CatalogAsk::Keys { .. } => CatalogTell::Keys(Vec::new()),
            CatalogAsk::Attestations { .. } => CatalogTell::Attestations(Vec::new()),
            CatalogAsk::Release { .. } => CatalogTell::Release(None),
        };
        frame::send(&mut stream, &tell).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_false_releases_among_good_ones_end_no_sync() {
    let data = TempDir::new().unwrap();
    let node = node(data.path()).await;
    let tells = [
        false_ones(1, FALSE_MAX / 2),
        good(2, 40),
        false_ones(3, FALSE_MAX / 2),
    ]
    .concat();
    let teller = Teller::start(Keypair::generate_ed25519(), tells).await;
    teller.meets(&node).await;
    knows(&node, 40).await;
    // What was false is offered again, and the sync ends well again.
    let again = within("a sync", node.sync_with(teller.swarm.peer_id())).await;
    assert_eq!(again.unwrap(), 0);
    assert_eq!(node.discovery().len(), 40);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_false_releases_end_the_sync_and_the_peer_is_not_asked_again_even_if_it_comes_anew() {
    let data = TempDir::new().unwrap();
    let node = node(data.path()).await;
    let key = Keypair::generate_ed25519();
    let tells = [good(1, 40), false_ones(2, FALSE_MAX + 1)].concat();
    let mut liar = Teller::start(key.clone(), tells.clone()).await;
    liar.meets(&node).await;
    let asked = liar.syncs.wait_for(|syncs| *syncs > 0);
    drop(within("a sync", asked).await.unwrap());
    // What is good stays.
    knows(&node, 40).await;
    within("a stop", liar.swarm.shutdown()).await;

    let liar = Teller::start(key, tells).await;
    liar.meets(&node).await;
    // Who comes after it is asked, and tells what is new.
    liar.says(&node, good(4, 1)[0].0).await;
    let honest = Teller::start(Keypair::generate_ed25519(), good(3, 5)).await;
    honest.meets(&node).await;
    knows(&node, 45).await;
    let asked = (*liar.syncs.borrow(), *liar.gets.borrow());
    assert_eq!(asked, (0, 0), "it was asked again, or for its news");
    let asked = within("a sync", node.sync_with(liar.swarm.peer_id())).await;
    assert!(matches!(asked, Err(SyncError::False)), "{asked:?}");
    assert_eq!(node.discovery().len(), 45);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_much_and_tells_nothing_is_asked_once_and_holds_up_nobody() {
    let data = TempDir::new().unwrap();
    let node = node(data.path()).await;
    let silent = Teller::start(Keypair::generate_ed25519(), Told::new()).await;
    silent.meets(&node).await;
    let promised = good(2, 2 * HEARD_MAX + 1);
    for (id, ..) in &promised {
        silent.says(&node, *id).await;
    }
    // Who has one of them is asked for it in the end.
    let honest = Teller::start(Keypair::generate_ed25519(), promised[..1].to_vec()).await;
    honest.meets(&node).await;
    honest.says(&node, promised[0].0).await;
    knows(&node, 1).await;
    assert_eq!(*silent.gets.borrow(), 1);
    node.shutdown().await;
}

#[test]
fn a_liar_waits_longest_and_a_broken_line_least() {
    let silent = SyncError::Reconcile(ReconcileError::Silent);
    for error in [SyncError::False, SyncError::Unasked, silent] {
        assert_eq!(Ended::of(&Err(error)), Ended::False);
    }
    let closed = Err(SyncError::Open(OpenError::Closed));
    assert_eq!(Ended::of(&closed), Ended::Broken);
    for asked in [Ok(3), Err(SyncError::Timeout)] {
        assert_eq!(Ended::of(&asked), Ended::Well);
    }
    assert_eq!(Ended::False.pause(3), FALSE_PAUSE);
    assert_eq!(Ended::Broken.pause(3), BROKEN_PAUSE);
    assert_eq!(Ended::Well.pause(3), SYNC_AGAIN);
    // With many peers each is asked less often, and somebody as often as before.
    assert_eq!(Ended::Well.pause(400), 400 * SYNC_EACH);
    assert_eq!(Ended::Broken.pause(400), BROKEN_PAUSE);
}

#[test]
fn who_is_shunned_is_asked_later_and_many_cannot_make_the_list_grow() {
    let (shunned, now) = (Shunned::default(), Instant::now());
    let (liar, until) = (PeerId::random(), now + FALSE_PAUSE);
    shunned.add(liar, until, now);
    assert_eq!(shunned.first(liar, now), until);
    assert!(shunned.has(liar, now) && !shunned.has(liar, until));
    assert_eq!(shunned.first(PeerId::random(), now), now);
    assert_eq!(shunned.first(liar, until + SYNC_AGAIN), until + SYNC_AGAIN);
    for _ in 0..PEERS_MAX + 10 {
        shunned.add(PeerId::random(), until, now);
    }
    assert_eq!(shunned.peers().len(), PEERS_MAX);
    let late = until + SYNC_AGAIN;
    shunned.add(liar, late + FALSE_PAUSE, late);
    assert_eq!(shunned.peers().len(), 1);
}
