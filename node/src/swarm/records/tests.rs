use ed25519_dalek::SigningKey;
use libp2p::kad::{self, ProviderRecord, store::RecordStore};
use protocol::{Hash, Kind as RepoKind, Publisher, Release, Upstream};

use super::*;

const START: u64 = 1_800_000_000;

fn records(limits: Limits) -> Records {
    Records::with_limits(PeerId::random(), START, limits, StdRng::seed_from_u64(7))
}

fn key(n: u32) -> Key {
    *blake3::hash(&n.to_be_bytes()).as_bytes()
}

fn net(n: u8) -> Option<Net> {
    Net::of([8, 8, n, 8].into())
}

fn release_of(seed: u8, seq: u64, content: &[u8]) -> (Key, Vec<u8>) {
    let secret = SigningKey::from_bytes(&[seed; 32]);
    let release = Release {
        publisher: Publisher::from_bytes(*secret.verifying_key().as_bytes()).unwrap(),
        name: "model".parse().unwrap(),
        kind: RepoKind::Model,
        manifest: Hash::of(content),
        seq,
        prev: None,
        issued: START,
        expires: START + 30 * 24 * 60 * 60,
        upstream: None,
        card: None,
    };
    let key = release.key();
    (key, SignedRelease::sign(release, &secret).unwrap().encode())
}

fn providers_of(records: &Records, key: &Key) -> HashSet<PeerId> {
    RecordStore::providers(records, &kad::RecordKey::new(key))
        .into_iter()
        .map(|record| record.provider)
        .collect()
}

fn provide(records: &mut Records, key: &Key) {
    let local = records.local;
    records
        .add_provider(ProviderRecord::new(kad::RecordKey::new(key), local, Vec::new()))
        .unwrap();
}

#[test]
fn junk_from_one_source_neither_evicts_ours_nor_refuses_another() {
    let (mut records, flood, honest) = (records(Limits::default()), PeerId::random(), PeerId::random());
    provide(&mut records, &key(0));
    let (own_key, own_bytes) = release_of(1, 1, b"ours");
    records.put_own_value(&own_key, &own_bytes).unwrap();
    for n in 1..=100_000 {
        let _ = records.offer_provider(&key(n), flood, Vec::new(), net(1));
    }
    assert_eq!(
        records.providers.len(),
        1 << 14,
        "the flood is held at one peer's quota"
    );
    records
        .offer_provider(&key(200_000), honest, Vec::new(), net(2))
        .unwrap();
    assert!(providers_of(&records, &key(200_000)).contains(&honest));
    assert!(providers_of(&records, &key(0)).contains(&records.local));
    assert_eq!(records.value(&own_key), Some(&*own_bytes));
}

#[test]
fn a_flood_from_many_sources_is_its_own_victim() {
    let limits = Limits {
        providers: 1_000,
        providers_by: Quota {
            per_peer: 100,
            per_net: 1_000_000,
        },
        ..Limits::default()
    };
    let mut records = records(limits);
    let honest: Vec<_> = (0..100).map(|n| (key(n), PeerId::random())).collect();
    for (key, peer) in &honest {
        records.offer_provider(key, *peer, Vec::new(), net(1)).unwrap();
    }
    for _ in 0..100 {
        let sybil = PeerId::random();
        for n in 0..100 {
            let _ = records.offer_provider(&key(1_000 + n), sybil, Vec::new(), net(2));
            let _ = records.offer_provider(&key(2_000 + n), sybil, Vec::new(), None);
        }
    }
    assert!(records.providers.len() <= 1_000);
    let left = honest
        .iter()
        .filter(|(key, peer)| providers_of(&records, key).contains(peer))
        .count();
    assert!(
        left >= 95,
        "{left} of 100 honest records outlived 10,000 records of 100 identities"
    );
}

#[test]
fn a_full_key_takes_newcomers_at_random_and_stays_at_its_cap() {
    let (mut records, wanted) = (records(Limits::default()), key(1));
    let first: Vec<_> = (0..64).map(|_| PeerId::random()).collect();
    for (n, peer) in first.iter().enumerate() {
        records
            .offer_provider(&wanted, *peer, Vec::new(), net(n as u8))
            .unwrap();
    }
    for n in 0..64_u8 {
        records
            .offer_provider(&wanted, PeerId::random(), Vec::new(), net(100 + n))
            .unwrap();
    }
    assert_eq!(records.providers.places(&wanted).len(), 64);
    let stayed = first
        .iter()
        .filter(|peer| records.provider_place(&wanted, peer).is_some())
        .count();
    assert!(
        (10..40).contains(&stayed),
        "about 64 / e of the first stay: {stayed}"
    );
}

#[test]
fn one_network_cannot_take_over_a_key() {
    let (mut records, wanted) = (records(Limits::default()), key(1));
    let honest: Vec<_> = (0..50).map(|_| PeerId::random()).collect();
    for (n, peer) in honest.iter().enumerate() {
        records
            .offer_provider(&wanted, *peer, Vec::new(), net(n as u8))
            .unwrap();
    }
    for _ in 0..10_000 {
        records
            .offer_provider(&wanted, PeerId::random(), Vec::new(), net(200))
            .unwrap();
    }
    assert!(
        honest
            .iter()
            .all(|peer| records.provider_place(&wanted, peer).is_some())
    );
    assert_eq!(records.providers.places(&wanted).len(), 58);
}

#[test]
fn answers_hold_at_most_twenty_and_not_always_the_same() {
    let (mut records, wanted) = (records(Limits::default()), key(1));
    provide(&mut records, &wanted);
    for _ in 0..60 {
        records
            .offer_provider(&wanted, PeerId::random(), Vec::new(), None)
            .unwrap();
    }
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let answer = providers_of(&records, &wanted);
        assert!(answer.len() == 20 && answer.contains(&records.local));
        seen.extend(answer);
    }
    assert_eq!(seen.len(), 61);
}

#[test]
fn a_network_quota_does_not_hold_on_a_lan() {
    let limits = Limits {
        providers_by: Quota {
            per_peer: 10,
            per_net: 20,
        },
        ..Limits::default()
    };
    let mut records = records(limits);
    let mut taken = |net| {
        (0..30)
            .filter(|n| {
                records
                    .offer_provider(&key(*n), PeerId::random(), Vec::new(), net)
                    .is_ok()
            })
            .count()
    };
    assert_eq!((taken(net(1)), taken(None)), (20, 30));
}

#[test]
fn copies_lie_under_their_upstreams_too_the_last_of_two() {
    let mut records = records(Limits::default());
    let peer = PeerId::random();
    let secret = SigningKey::from_bytes(&[1; 32]);
    let copy = |name: &str, issued| {
        let release = Release {
            name: name.parse().unwrap(),
            issued,
            upstream: Some(Upstream {
                commit: "0".repeat(40),
                hub: "hub.example".to_owned(),
                repo: "acme/tiny".to_owned(),
            }),
            ..SignedRelease::decode(&release_of(1, 1, b"one").1)
                .unwrap()
                .release()
                .clone()
        };
        let keys = (release.key(), release.copy_key().unwrap());
        (keys, SignedRelease::sign(release, &secret).unwrap().encode())
    };
    let ((own, under), first) = copy("first", START - 20);
    let ((_, same), second) = copy("second", START - 10);
    assert_eq!(under, same);
    for key in [own, under] {
        assert_eq!(records.offer_value(&key, &first, peer, None), Ok(Kept::Stored));
        assert_eq!(records.value(&key), Some(&*first));
    }
    let (other, _) = release_of(1, 1, b"one");
    let refused = records.offer_value(&other, &first, peer, None);
    assert_eq!(refused, Err(Refusal::WrongKey));
    assert_eq!(
        records.offer_value(&own, &second, peer, None),
        Err(Refusal::WrongKey)
    );
    assert_eq!(records.offer_value(&under, &second, peer, None), Ok(Kept::Stored));
    assert_eq!(
        records.offer_value(&under, &first, peer, None),
        Err(Refusal::Older)
    );
    assert_eq!(records.value(&under), Some(&*second));
}

#[test]
fn only_a_valid_release_under_its_own_key_is_kept() {
    let (mut records, peer) = (records(Limits::default()), PeerId::random());
    let (own_key, bytes) = release_of(1, 1, b"one");
    let (other_key, _) = release_of(2, 1, b"two");
    assert_eq!(
        records.offer_value(&other_key, &bytes, peer, None),
        Err(Refusal::WrongKey)
    );
    assert_eq!(
        records.offer_value(&own_key[..31], &bytes, peer, None),
        Err(Refusal::Key)
    );
    assert_eq!(
        records.offer_value(&own_key, &vec![0; VALUE_LEN_MAX + 1], peer, None),
        Err(Refusal::TooLong)
    );
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
        assert_eq!(
            records.offer_value(&own_key, &flipped, peer, None),
            Err(Refusal::NotARelease),
            "byte {place}"
        );
    }
    assert_eq!(records.counts(), (0, 0));
    assert_eq!(
        records.offer_value(&own_key, &bytes, peer, None),
        Ok(Kept::Stored)
    );
    assert_eq!(
        records.offer_value(&own_key, &bytes, peer, None),
        Ok(Kept::Refreshed)
    );
}

#[test]
fn an_old_release_never_takes_a_newer_ones_place_and_a_fork_changes_nothing() {
    let (mut records, peer) = (records(Limits::default()), PeerId::random());
    let (wanted, one) = release_of(1, 1, b"one");
    let (_, two) = release_of(1, 2, b"two");
    let (_, fork) = release_of(1, 2, b"another two");
    let (_, jump) = release_of(1, 1 << 40, b"far ahead");
    records.offer_value(&wanted, &one, peer, None).unwrap();
    assert_eq!(records.offer_value(&wanted, &two, peer, None), Ok(Kept::Stored));
    assert_eq!(
        records.offer_value(&wanted, &one, peer, None),
        Err(Refusal::Older)
    );
    assert_eq!(
        records.offer_value(&wanted, &fork, peer, None),
        Err(Refusal::Fork)
    );
    assert_eq!(
        records.offer_value(&wanted, &jump, peer, None),
        Err(Refusal::TooNew)
    );
    assert_eq!(records.put_own_value(&wanted, &one), Err(Refusal::Older));
    assert_eq!(records.value(&wanted), Some(&*two));
    assert_eq!(records.counts(), (0, 1));
}

#[test]
fn what_is_ours_stays_ours_when_a_stranger_brings_the_next_one() {
    let limits = Limits {
        values: 4,
        ..Limits::default()
    };
    let (mut records, peer) = (records(limits), PeerId::random());
    let (wanted, one) = release_of(1, 1, b"one");
    let (_, two) = release_of(1, 2, b"two");
    records.put_own_value(&wanted, &one).unwrap();
    records.offer_value(&wanted, &two, peer, None).unwrap();
    for seed in 2..40 {
        let (key, bytes) = release_of(seed, 1, b"junk");
        records.offer_value(&key, &bytes, peer, None).unwrap();
    }
    assert_eq!(records.value(&wanted), Some(&*two));
    assert_eq!((records.own_values, records.values.len()), (1, 5));
}

#[test]
fn values_are_held_to_their_quotas() {
    let limits = Limits {
        values_by: Quota {
            per_peer: 3,
            per_net: 5,
        },
        ..Limits::default()
    };
    let mut records = records(limits);
    let (a, b) = (PeerId::random(), PeerId::random());
    let mut put = |seed, peer| {
        let (key, bytes) = release_of(seed, 1, b"x");
        records.offer_value(&key, &bytes, peer, net(1))
    };
    (1..=3).for_each(|seed| assert_eq!(put(seed, a), Ok(Kept::Stored)));
    assert_eq!(put(4, a), Err(Refusal::PeerQuota));
    (4..=5).for_each(|seed| assert_eq!(put(seed, b), Ok(Kept::Stored)));
    assert_eq!(put(6, b), Err(Refusal::NetQuota));
    assert_eq!(put(1, a), Ok(Kept::Refreshed), "what is there already may stay");
}

#[test]
fn everything_of_strangers_is_over_in_time_and_ours_is_not() {
    let (mut records, peer) = (records(Limits::default()), PeerId::random());
    provide(&mut records, &key(0));
    records.offer_provider(&key(1), peer, Vec::new(), None).unwrap();
    let (wanted, bytes) = release_of(1, 1, b"one");
    records.offer_value(&wanted, &bytes, peer, None).unwrap();
    records.advance(START + PROVIDER_LIFE_S - 1);
    records.sweep();
    assert_eq!(records.counts(), (2, 1));
    records.advance(START + PROVIDER_LIFE_S);
    assert!(
        providers_of(&records, &key(1)).is_empty(),
        "over even before the sweep"
    );
    records.sweep();
    assert_eq!(records.counts(), (1, 1));
    records.offer_value(&wanted, &bytes, peer, None).unwrap();
    records.advance(START + PROVIDER_LIFE_S + VALUE_LIFE_S);
    assert_eq!(records.value(&wanted), None);
    records.sweep();
    assert_eq!(records.counts(), (1, 0));
    assert_eq!(records.sources.iter().count(), 0);
    records.advance(START + 31 * 24 * 60 * 60);
    assert_eq!(
        records.offer_value(&wanted, &bytes, peer, None),
        Err(Refusal::Expired)
    );
}

#[test]
fn a_snapshot_brings_back_what_is_not_over_and_nothing_of_ours() {
    let mut records = records(Limits::default());
    let (local, peer, address) = (
        records.local,
        PeerId::random(),
        "/ip4/8.8.8.8/tcp/1".parse::<Multiaddr>().unwrap(),
    );
    provide(&mut records, &key(0));
    records
        .offer_provider(&key(1), peer, vec![address.clone()], net(1))
        .unwrap();
    let (theirs, their_bytes) = release_of(1, 1, b"theirs");
    let (ours, our_bytes) = release_of(2, 1, b"ours");
    records.offer_value(&theirs, &their_bytes, peer, net(1)).unwrap();
    records.put_own_value(&ours, &our_bytes).unwrap();
    records.advance(START + 12 * 60 * 60);
    records
        .offer_provider(&key(2), peer, vec![address.clone()], net(1))
        .unwrap();
    assert!(records.is_dirty());
    let saved = records.encode();
    assert!(!records.is_dirty());

    let restore = |now| {
        let mut restored = Records::with_limits(local, now, Limits::default(), StdRng::seed_from_u64(7));
        restored.restore(&saved).unwrap();
        restored
    };
    let mut soon = restore(START + 12 * 60 * 60);
    assert_eq!(soon.counts(), (2, 2));
    assert_eq!(soon.addresses_of(&peer), [address]);
    assert_eq!(soon.value(&theirs), Some(&*their_bytes));
    assert_eq!(
        soon.sources
            .count(soon.sources.find(&peer).unwrap(), Kind::Provider),
        2
    );
    assert_eq!(soon.put_own_value(&ours, &our_bytes), Ok(Kept::Refreshed));
    assert_eq!(soon.own_values, 1);
    assert_eq!(restore(START + PROVIDER_LIFE_S).counts(), (1, 2));
    assert_eq!(restore(START + 100 * 24 * 60 * 60).counts(), (0, 0));
    let past = restore(START - 1_000_000);
    let longest = past.providers.rows().iter().map(|row| row.until).max();
    assert_eq!(
        longest,
        Some(START - 1_000_000 + PROVIDER_LIFE_S),
        "a clock that went back makes nothing immortal"
    );
}

#[test]
fn a_senseless_snapshot_is_refused_whole_or_in_part_and_never_panics() {
    let mut source = records(Limits::default());
    source
        .offer_provider(&key(1), PeerId::random(), Vec::new(), None)
        .unwrap();
    let saved = source.encode();
    for place in 0..saved.len() {
        for bit in [1, 0x80] {
            let mut flipped = saved.clone();
            flipped[place] ^= bit;
            let _ = records(Limits::default()).restore(&flipped);
        }
        let _ = records(Limits::default()).restore(&saved[..place]);
    }
    assert!(
        records(Limits::default())
            .restore(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
            .is_none()
    );
}
