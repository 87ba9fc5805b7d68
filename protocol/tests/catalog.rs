//! Messages of the catalog are refused at their counts; an id tells its name; a fingerprint tells sets apart.

use crate::fixture::{
    golden_known, golden_release, golden_signed, introduce, key, name, plain_release, publisher, stated,
};
use protocol::limits::{CARD_LEN_MAX, FRAME_LEN_MAX, IDS_MAX, RECONCILE_LEN_MAX, RELEASE_LEN_MAX, SCOPE_MAX};
use protocol::release::{id_of, key_of};
use protocol::wire::{CATALOG_VERSION, KnownError, decode_frame, encode_frame};
use protocol::{
    CardError, CatalogAsk, CatalogTell, Hash, Known, ReleaseId, RepoId, SignedRelease, WireError,
};
use serde::Serialize;

/// What becomes of a message that its sender did not check.
fn read_ask(ask: &CatalogAsk) -> Result<(), WireError> {
    decode_frame::<CatalogAsk>(&encode_frame(ask).unwrap()).map(|_| ())
}

fn read_tell(tell: &CatalogTell) -> Result<(), WireError> {
    decode_frame::<CatalogTell>(&encode_frame(tell).unwrap()).map(|_| ())
}

#[test]
fn messages_are_refused_at_their_counts() {
    let id = id_of(&golden_signed());
    let ids = |count| vec![id; count];
    let reconcile = |of, len| CatalogAsk::Reconcile {
        of: vec![publisher(7); of],
        message: vec![0; len],
    };
    let known = |release, card| Known {
        release: vec![0; release],
        card: Some(vec![0; card]),
    };
    let many = |count| CatalogTell::Known(vec![known(0, 0); count]);
    let one = |release, card| CatalogTell::Known(vec![known(release, card)]);
    let keys = |count, len| CatalogTell::Keys(vec![vec![0; len]; count]);
    let heard = |count, len| CatalogAsk::Heard(vec![vec![0; len]; count]);
    let told = |len| CatalogTell::Reconcile(vec![0; len]);
    for ask in [
        CatalogAsk::Get(ids(IDS_MAX)),
        CatalogAsk::Have(ids(IDS_MAX)),
        reconcile(SCOPE_MAX, RECONCILE_LEN_MAX),
        heard(16, 1024),
    ] {
        assert_eq!(read_ask(&ask), Ok(()));
    }
    for ask in [
        CatalogAsk::Get(ids(IDS_MAX + 1)),
        CatalogAsk::Have(ids(IDS_MAX + 1)),
        reconcile(0, RECONCILE_LEN_MAX + 1),
        reconcile(SCOPE_MAX + 1, 0),
        heard(17, 0),
        heard(1, 1025),
    ] {
        assert_eq!(read_ask(&ask), Err(WireError::Message));
    }
    for tell in [
        many(IDS_MAX),
        one(RELEASE_LEN_MAX, CARD_LEN_MAX),
        keys(16, 1024),
        told(RECONCILE_LEN_MAX),
    ] {
        assert_eq!(read_tell(&tell), Ok(()));
    }
    for tell in [
        many(IDS_MAX + 1),
        one(RELEASE_LEN_MAX + 1, 0),
        one(0, CARD_LEN_MAX + 1),
        keys(17, 0),
        keys(1, 1025),
        told(RECONCILE_LEN_MAX + 1),
    ] {
        assert_eq!(read_tell(&tell), Err(WireError::Message));
    }
}

#[test]
fn count_that_nothing_stands_behind_takes_no_room() {
    // The variant, then a count of 2^35 - 1, then the end.
    let frame = |variant| [&6_u32.to_le_bytes()[..], &[variant, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat();
    for variant in [4, 5] {
        let read = decode_frame::<CatalogAsk>(&frame(variant));
        assert_eq!(read, Err(WireError::Message), "ask {variant}");
    }
    for variant in [2, 3, 4, 6] {
        let read = decode_frame::<CatalogTell>(&frame(variant));
        assert_eq!(read, Err(WireError::Message), "tell {variant}");
    }
}

#[test]
fn node_of_version_1_cannot_read_the_new_asks() {
    /// The asks as they were.
    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    enum First {
        Release(protocol::Publisher, protocol::RepoName),
        Version,
        Attestations(Hash),
    }
    let asks = [
        CatalogAsk::Get(Vec::new()),
        CatalogAsk::Have(Vec::new()),
        CatalogAsk::Keys {
            publisher: publisher(1),
        },
        CatalogAsk::Heard(Vec::new()),
    ];
    for ask in asks {
        let frame = encode_frame(&ask).unwrap();
        assert_eq!(decode_frame::<First>(&frame), Err(WireError::Message));
    }
    let frame = encode_frame(&CatalogAsk::Version).unwrap();
    assert_eq!(
        decode_frame::<First>(&frame),
        Ok(Some((First::Version, frame.len())))
    );
    assert_eq!(CATALOG_VERSION, 2);
}

#[test]
fn known_releases_fill_a_frame_and_no_more() {
    let large = Known {
        release: vec![1; RELEASE_LEN_MAX],
        card: Some(vec![2; CARD_LEN_MAX]),
    };
    let fitting = Known::fitting(std::iter::repeat_n(large.clone(), 500));
    assert_eq!(
        fitting.len(),
        FRAME_LEN_MAX / (RELEASE_LEN_MAX + CARD_LEN_MAX + 5)
    );
    assert!(encode_frame(&CatalogTell::Known(fitting)).is_ok());
    // What does not fit ends it, so that what is told is the beginning of what was asked.
    let small = golden_known();
    let mixed = [
        vec![large.clone(); 102],
        vec![small.clone(); 1],
        vec![large; 1],
        vec![small.clone(); 1],
    ]
    .concat();
    let fitting = Known::fitting(mixed.clone());
    assert_eq!(fitting, mixed[..fitting.len()]);
    // As many releases as may be asked for at once fit with the summaries that most cards make.
    let fitting = Known::fitting(std::iter::repeat_n(small, IDS_MAX + 9));
    assert_eq!(fitting.len(), IDS_MAX);
    assert!(encode_frame(&CatalogTell::Known(fitting)).is_ok());
    let tiny = Known {
        release: Vec::new(),
        card: None,
    };
    assert_eq!(Known::fitting(std::iter::repeat_n(tiny, 5000)).len(), IDS_MAX);
}

#[test]
fn known_release_is_verified_with_its_summary() {
    let known = golden_known();
    let (signed, summary) = known.verify().unwrap();
    assert_eq!(signed.encode(), known.release);
    assert_eq!(summary.unwrap().hash().unwrap(), signed.release().card.unwrap());
    let bare = Known {
        card: None,
        ..known.clone()
    };
    assert_eq!(bare.verify().unwrap().1, None);
    let other = Known {
        release: golden_signed().encode(),
        ..known
    };
    assert!(matches!(
        other.verify(),
        Err(KnownError::Card(CardError::OtherCard { .. }))
    ));
    let statement = Known {
        release: stated(introduce(7, 8)).encode().to_vec(),
        card: None,
    };
    assert!(matches!(statement.verify(), Err(KnownError::Release(_))));
}

#[test]
fn id_is_half_of_the_name_and_half_of_the_release() {
    let signed = golden_signed();
    let id = id_of(&signed);
    let repo: RepoId = golden_release().repo();
    let key_bytes = key_of(repo.publisher, &repo.name);
    assert_eq!(id.name_half()[..], key_bytes[..16]);
    assert_eq!(id.content_half()[..], Hash::of(&signed.encode()).as_bytes()[..16]);
    assert_eq!(id.name_half(), ReleaseId::half_of(&repo));
    assert_eq!(
        [id.name_half(), id.content_half()].concat(),
        id.as_bytes().to_vec()
    );
    assert_eq!(ReleaseId::from_bytes(*id.as_bytes()), id);
    let next = |seq, text: &str| {
        let mut release = plain_release(1, seq, 1);
        release.name = name(text);
        id_of(&SignedRelease::sign(release, &key(1)).unwrap())
    };
    assert_eq!(next(1, "a").name_half(), next(2, "a").name_half());
    assert_ne!(next(1, "a").content_half(), next(2, "a").content_half());
    assert_ne!(next(1, "a").name_half(), next(1, "b").name_half());
    assert_eq!(postcard::to_stdvec(&id).unwrap(), id.as_bytes());
    assert_eq!(
        serde_json::from_str::<ReleaseId>(&serde_json::to_string(&id).unwrap()).unwrap(),
        id
    );
}
