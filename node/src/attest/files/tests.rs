use super::*;
use crate::attest::standing::tests::{NOW, key, publisher, signed};
use protocol::Attestation;
use tempfile::TempDir;

fn valued() -> Valued {
    Valued {
        own: publisher(0),
        followed: (1..=3).map(publisher).collect(),
    }
}

fn open(data: &TempDir) -> Attestations {
    Attestations::open(data.path()).unwrap()
}

fn about(number: u16, model: u16, issued: u64) -> SignedAttestation {
    signed(number, |attestation| {
        attestation.manifest = model_of(model);
        attestation.issued = issued;
    })
}

fn model_of(model: u16) -> Hash {
    Hash::of(&model.to_le_bytes())
}

fn keys(attestations: &Attestations, model: u16) -> Vec<Publisher> {
    let of = attestations.of(model_of(model), &valued()).unwrap();
    of.iter().map(|signed| signed.attestation().by).collect()
}

#[test]
fn latest_of_a_key_stays_over_restarts() {
    let data = tempfile::tempdir().unwrap();
    let attestations = open(&data);
    let keep = |attestations: &Attestations, issued| {
        attestations.keep(&about(9, 1, issued), &valued(), NOW).unwrap()
    };
    assert_eq!(keep(&attestations, NOW - 10), Kept::New);
    assert_eq!(keep(&attestations, NOW - 10), Kept::Known);
    assert_eq!(keep(&attestations, NOW - 20), Kept::Known);
    assert_eq!(keep(&attestations, NOW - 5), Kept::New);
    let again = open(&data);
    assert_eq!(keep(&again, NOW - 6), Kept::Known);
    let of = again.of(model_of(1), &valued()).unwrap();
    assert_eq!((of.len(), of[0].attestation().issued), (1, NOW - 5));
    assert_eq!(again.manifests(), [model_of(1)]);
}

#[test]
fn clock_ahead_is_allowed_ten_minutes() {
    let data = tempfile::tempdir().unwrap();
    let attestations = open(&data);
    assert!(attestations.keep(&about(9, 1, NOW + 600), &valued(), NOW).is_ok());
    let error = attestations
        .keep(&about(8, 1, NOW + 601), &valued(), NOW)
        .unwrap_err();
    assert!(matches!(error, KeepError::NotYetIssued { issued, .. } if issued == NOW + 601));
    // A clock at the end of time is no overflow.
    assert!(attestations.keep(&about(7, 1, NOW), &valued(), u64::MAX).is_ok());
}

#[test]
fn own_and_followed_come_first_and_strangers_are_few() {
    let data = tempfile::tempdir().unwrap();
    let attestations = open(&data);
    let keep = |number| attestations.keep(&about(number, 1, NOW), &valued(), NOW);
    for stranger in 100..100 + OTHERS_MAX as u16 {
        assert_eq!(keep(stranger).unwrap(), Kept::New);
    }
    let error = keep(200).unwrap_err();
    assert!(
        matches!(error, KeepError::Crowded { max: OTHERS_MAX, .. }),
        "{error}"
    );
    // One that is here already may say something newer.
    let newer = about(100, 1, NOW + 1);
    assert_eq!(attestations.keep(&newer, &valued(), NOW).unwrap(), Kept::New);
    for valued in [2, 0, 1] {
        assert_eq!(keep(valued).unwrap(), Kept::New);
    }
    let keys = keys(&attestations, 1);
    assert_eq!(keys.len(), OTHERS_MAX + 3);
    assert_eq!(keys[0], publisher(0));
    assert!(keys[1..3].iter().all(|key| valued().followed.contains(key)));
    // Of the others the newest.
    assert_eq!(keys[3], publisher(100));
}

#[test]
fn stranger_fills_no_more_than_its_share() {
    let data = tempfile::tempdir().unwrap();
    let attestations = open(&data);
    // What the index says is enough: the files themselves are not looked at for that.
    {
        let mut index = attestations.lock();
        for model in 0..PER_OTHER_MAX as u16 {
            index
                .models
                .entry(model_of(model))
                .or_default()
                .insert(publisher(9));
        }
    }
    let keep = |number, model| attestations.keep(&about(number, model, NOW), &valued(), NOW);
    let error = keep(9, 5000).unwrap_err();
    assert!(
        matches!(
            error,
            KeepError::Crowded {
                max: PER_OTHER_MAX,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(keep(8, 5000).unwrap(), Kept::New);
    assert_eq!(keep(1, 5000).unwrap(), Kept::New);
}

#[test]
fn strangers_give_way_where_all_is_full() {
    let data = tempfile::tempdir().unwrap();
    let attestations = open(&data);
    assert_eq!(
        attestations.keep(&about(9, 1, NOW), &valued(), NOW).unwrap(),
        Kept::New
    );
    {
        let mut index = attestations.lock();
        let all = (0..).map(|model: u32| Hash::of(&model.to_le_bytes()));
        for model in all.take(ALL_MAX - 1) {
            index.models.entry(model).or_default().insert(publisher(1));
        }
    }
    let keep = |number, model| attestations.keep(&about(number, model, NOW), &valued(), NOW);
    assert!(matches!(keep(8, 2), Err(KeepError::Crowded { max: ALL_MAX, .. })));
    assert_eq!(keep(2, 3).unwrap(), Kept::New);
    assert_eq!(keys(&attestations, 1), Vec::<Publisher>::new());
    assert!(matches!(keep(2, 4), Err(KeepError::Crowded { max: ALL_MAX, .. })));
    // Our own has room in any case.
    assert_eq!(keep(0, 4).unwrap(), Kept::New);
}

#[test]
fn file_that_does_not_read_counts_as_none_and_is_replaced() {
    let data = tempfile::tempdir().unwrap();
    let attestations = open(&data);
    let keep = |attestation: &SignedAttestation| attestations.keep(attestation, &valued(), NOW).unwrap();
    keep(&about(1, 1, NOW));
    keep(&about(2, 1, NOW));
    let path = |number| attestations.0.file(model_of(1), publisher(number));
    let mut bytes = fs::read(path(1)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path(1), &bytes).unwrap();
    // Somebody else's under this name is none either, nor is one about another model.
    fs::write(path(2), about(3, 1, NOW).encode()).unwrap();
    assert_eq!(keys(&attestations, 1), Vec::<Publisher>::new());
    fs::write(path(2), about(2, 7, NOW).encode()).unwrap();
    assert_eq!(keys(&attestations, 1), Vec::<Publisher>::new());
    assert_eq!(keep(&about(1, 1, NOW - 50)), Kept::New);
    fs::write(path(2), vec![b' '; 1 << 20]).unwrap();
    fs::write(data.path().join("attestations/litter"), b"x").unwrap();
    assert_eq!(keys(&open(&data), 1), [publisher(1)]);
}

#[test]
fn peers_are_asked_now_and_then() {
    let data = tempfile::tempdir().unwrap();
    let attestations = open(&data);
    let (begun, pause) = (Instant::now(), Duration::from_secs(60));
    assert!(attestations.ask_now(model_of(1), pause, begun));
    assert!(!attestations.ask_now(model_of(1), pause, begun + pause / 2));
    assert!(attestations.ask_now(model_of(2), pause, begun));
    assert!(attestations.ask_now(model_of(1), pause, begun + pause));
    for model in 0..3000 {
        assert!(attestations.ask_now(model_of(model + 10), pause, begun + pause));
    }
    assert!(attestations.lock().asked.len() <= ASKED_MAX);
}

#[test]
fn signature_of_an_attestation_is_that_of_its_key() {
    let attestation: Attestation = signed(5, |_| {}).attestation().clone();
    assert_eq!(attestation.by, publisher(5));
    assert!(SignedAttestation::sign(attestation, &key(6)).is_err());
}
