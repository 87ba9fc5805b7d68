//! A peer that does not play by the rules.

use libp2p::{
    kad::{self, Quorum, store::MemoryStore},
    swarm::NetworkBehaviour,
};

use super::*;
use crate::swarm::{address::Carrier, behaviour::KAD_PROTOCOL};

#[derive(NetworkBehaviour)]
struct Liar {
    kad: kad::Behaviour<MemoryStore>,
}

fn liar() -> libp2p::Swarm<Liar> {
    let key = Keypair::generate_ed25519();
    let id = key.public().to_peer_id();
    let (transport, _) = transport::build(&key, Carrier::Tcp).unwrap();
    let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(KAD_PROTOCOL));
    kad.set_mode(Some(kad::Mode::Server));
    libp2p::Swarm::new(
        transport,
        Liar { kad },
        id,
        libp2p::swarm::Config::with_tokio_executor(),
    )
}

/// Works until the liar has been cut off.
async fn lie(liar: &mut libp2p::Swarm<Liar>, victim: PeerId, value: &[u8]) {
    let kad = &mut liar.behaviour_mut().kad;
    for n in 0..200_u32 {
        let key = kad::RecordKey::new(blake3::hash(&n.to_le_bytes()).as_bytes());
        kad.put_record_to(
            kad::Record::new(key, value.to_vec()),
            [victim].into_iter(),
            Quorum::One,
        );
    }
    while let Some(event) = liar.next().await {
        if matches!(event, libp2p::swarm::SwarmEvent::ConnectionClosed { .. }) {
            return;
        }
    }
}

#[tokio::test]
async fn who_keeps_sending_impossible_records_is_banned() {
    for value in [&b"no release"[..], &dht::signed(1).1.encode(), &[7; 9_000]] {
        let (victim, _) = start(config(&[TCP])).await;
        let mut events = victim.subscribe();
        let mut liar = liar();
        liar.behaviour_mut()
            .kad
            .add_address(&victim.peer_id(), victim.listeners()[0].clone());
        within("ban", lie(&mut liar, victim.peer_id(), value)).await;
        let banned = within("event", async {
            loop {
                if let SwarmEvent::Banned(peer) = events.recv().await.unwrap() {
                    break peer;
                }
            }
        });
        assert_eq!(banned.await, *liar.local_peer_id());
        assert_eq!(victim.counts().await.releases, 0);
    }
}

#[tokio::test]
async fn a_flood_of_provider_records_leaves_room_for_the_honest() {
    let (victim, _) = start(config(&[TCP])).await;
    let mut liar = liar();
    let kad = &mut liar.behaviour_mut().kad;
    kad.add_address(&victim.peer_id(), victim.listeners()[0].clone());
    for n in 0..500_u32 {
        kad.start_providing(kad::RecordKey::new(blake3::hash(&n.to_le_bytes()).as_bytes()))
            .unwrap();
    }
    let lying = tokio::spawn(async move {
        loop {
            liar.next().await;
        }
    });
    until("500 records", &victim, || async {
        victim.counts().await.provider_records == 500
    })
    .await;
    let (honest, _) = start(SwarmConfig {
        peers: victim.listeners(),
        ..config(&[TCP])
    })
    .await;
    until("routing", &honest, || async {
        honest.counts().await.routing >= 1
    })
    .await;
    assert!(within("announce", honest.start_providing([9; 32])).await.unwrap());
    until("501 records", &victim, || async {
        victim.counts().await.provider_records == 501
    })
    .await;
    lying.abort();
}
