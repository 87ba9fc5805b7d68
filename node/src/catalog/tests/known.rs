//! Known releases: their signed bytes and their cards come back, whatever stands in them.

use proptest::prelude::*;
use protocol::card::Summary;
use protocol::release::{ReleaseId, id_of};
use protocol::{Release, SignedRelease, Upstream};

use super::super::{engine::Change, known, record};
use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn release(seed: u8, name: &str) -> Release {
    Release {
        publisher: publisher(seed),
        name: RepoName::new(name).unwrap(),
        kind: Kind::Model,
        manifest: hash(1),
        seq: 1,
        prev: None,
        issued: 1_700_000_000,
        expires: 1_700_000_001,
        upstream: None,
        card: None,
    }
}

fn signed(seed: u8, release: Release) -> SignedRelease {
    SignedRelease::sign(release, &key(seed)).unwrap()
}

fn row(seed: u8, name: &str, arrived: u64) -> KnownRow {
    KnownRow::of(&signed(seed, release(seed, name)), None, arrived)
}

/// A card of the longest texts that one may have.
fn fullest_card() -> Summary {
    let texts = |count: usize, start: &str| (0..count).map(|n| format!("{start}-é-{n}-\"-{start}")).collect();
    Summary {
        base_model: (0..4).map(|n| format!("{}/{n}", "o".repeat(90))).collect(),
        base_relation: Some("merge".to_owned()),
        bytes: Some(1 << 53),
        description: Some("\"é".repeat(400)),
        dtype: Some("d".repeat(64)),
        formats: vec!["gguf".to_owned(), "f".repeat(64)],
        languages: (0..64).map(|n| format!("l{n}")).collect(),
        library: Some("transformers".to_owned()),
        license: Some("mit".to_owned()),
        parameters: Some(1 << 53),
        tags: texts(64, "tag"),
        task: Some("text-generation".to_owned()),
    }
    .fit()
}

prop_compose! {
    fn any_card()(
        words in proptest::collection::vec("[a-z]{1,3}|[!-~]{1,20}|transformers|text-generation|\\PC{1,30}", 6..40),
        (base, bytes, parameters) in (any::<bool>(), any::<Option<u64>>(), any::<Option<u64>>()),
        description in proptest::option::of("\\PC{0,300}"),
        (first, second, third) in (1_usize..6, 0_usize..6, 0_usize..6),
    ) -> Summary {
        let word = |at: usize| words.get(at).cloned();
        let some = |count: usize, from: usize| words.iter().skip(from).take(count).cloned().collect::<Vec<_>>();
        Summary {
            base_model: if base { vec!["meta-llama/Llama-3.1-8B".to_owned()] } else { some(second, 2) },
            base_relation: word(0),
            bytes,
            description,
            dtype: word(1),
            formats: some(second, 3),
            languages: some(third, 1),
            library: word(2),
            license: word(3),
            parameters,
            tags: some(first * 6, 0),
            task: word(4),
        }
        .fit()
    }
}

prop_compose! {
    fn any_release()(
        seed in 1_u8..5,
        name in "[A-Za-z0-9_]{1,96}|[a-z]{1,8}-[0-9]{1,3}[.][0-9]",
        kind in prop_oneof![Just(Kind::Model), Just(Kind::Dataset), Just(Kind::Space)],
        (manifest, prev) in (any::<[u8; 32]>(), any::<Option<[u8; 32]>>()),
        (seq, issued, life) in (1_u64..1 << 53, 0_u64..1 << 52, 1_u64..400 * 24 * 60 * 60),
        (copy, hub, owner) in (0_u8..5, "huggingface[.]co|[a-z.:-]{1,40}", "[A-Za-z0-9_-]{1,40}"),
        commit in "[0-9a-f]{40}|[0-9a-f]{64}",
        card in proptest::option::of(any_card()),
        kept: bool,
    ) -> (u8, Release, Option<Summary>) {
        let repo = match copy {
            0 | 1 => format!("{owner}/{name}"),
            2 => owner.clone(),
            _ => format!("{owner}/other"),
        };
        let release = Release {
            publisher: publisher(seed),
            name: RepoName::new(&name).unwrap(),
            kind,
            manifest: Hash::from_bytes(manifest),
            seq,
            prev: prev.map(Hash::from_bytes),
            issued,
            expires: issued + life,
            upstream: (copy < 4).then_some(Upstream { commit, hub, repo }),
            card: card.as_ref().map(|card| card.hash().unwrap()),
        };
        (seed, release, card.filter(|_| kept))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn signed_bytes_and_cards_are_made_again_from_rows(
        (seed, release, card) in any_release(),
        arrived: u64,
        older in prop_oneof![Just(0), any::<u64>()],
    ) {
        let signed = signed(seed, release);
        let mut row = KnownRow::of(&signed, card.clone(), arrived);
        row.created = row.created.saturating_sub(older);
        let bytes = known::encode(&row);
        prop_assert!(bytes.len() <= KNOWN_ROW_LEN_MAX);
        let id = id_of(&signed);
        let read = known::decode(&id.name_half(), &bytes);
        prop_assert_eq!(read.as_ref(), Ok(&row));
        let read = read.unwrap();
        prop_assert_eq!(read.encoding(), signed.encode());
        prop_assert_eq!(read.signed().unwrap(), signed);
        prop_assert_eq!(read.id(), id);
        prop_assert_eq!(read.card.map(|card| card.encode().unwrap()), card.map(|card| card.encode().unwrap()));
        let item = known::decode_item(&id.name_half(), &bytes);
        prop_assert_eq!(item, Ok(KnownItem { id, issued: row.release.issued, arrived, publisher: row.release.publisher }));
    }

    #[test]
    fn no_bytes_make_a_row_panic(
        key in proptest::collection::vec(any::<u8>(), 14..18),
        mut value in proptest::collection::vec(any::<u8>(), 0..400),
        known_version: bool,
    ) {
        if let Some(version) = value.first_mut().filter(|_| known_version) {
            *version = record::VERSION;
        }
        let _ = known::decode(&key, &value);
        let _ = known::decode_item(&key, &value);
    }

    #[test]
    fn changed_row_is_another_or_none(at in 0_usize..1_000, bit in 0_u8..8) {
        let row = KnownRow::of(&signed(1, release(1, "a")), None, 7);
        let mut bytes = known::encode(&row);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert_ne!(known::decode(&row.key(), &bytes), Ok(row));
    }
}

#[test]
fn largest_release_fits_a_row() {
    let card = fullest_card();
    assert!(card.encode().unwrap().len() > 1_900);
    let largest = Release {
        prev: Some(hash(2)),
        seq: 1 << 53,
        issued: 1 << 53,
        expires: (1 << 53) + 400 * 24 * 60 * 60,
        upstream: Some(Upstream {
            commit: "a".repeat(64),
            hub: "h".repeat(253),
            repo: format!("{}/{}", "o".repeat(96), "r".repeat(96)),
        }),
        card: card.hash().ok(),
        ..release(1, &"n".repeat(96))
    };
    // No release may be issued so late that it expires past the largest number.
    let largest = Release {
        issued: largest.issued - 400 * 24 * 60 * 60,
        expires: 1 << 53,
        ..largest
    };
    let mut row = KnownRow::of(&signed(1, largest), Some(card.clone()), u64::MAX);
    row.created = 0;
    assert_eq!(row.card, Some(card));
    let len = known::encode(&row).len();
    assert!((2_000..=KNOWN_ROW_LEN_MAX).contains(&len), "{len} bytes");
}

#[test]
fn card_of_another_release_is_left_out_and_its_hash_stays() {
    let named = Release {
        card: Some(hash(9)),
        ..release(1, "a")
    };
    let row = KnownRow::of(&signed(1, named), Some(fullest_card()), 1);
    assert_eq!(row.card, None);
    let read = known::decode(&row.key(), &known::encode(&row)).unwrap();
    assert_eq!(read.release.card, Some(hash(9)));
}

#[test]
fn row_under_the_key_of_another_name_is_unreadable() {
    let (row, other) = (row(1, "a", 1), row(1, "b", 1));
    let bytes = known::encode(&row);
    assert_eq!(known::decode(&row.key(), &bytes), Ok(row.clone()));
    assert_eq!(known::decode(&other.key(), &bytes), Err(record::Unreadable));
    assert_eq!(known::decode(&row.key()[..15], &bytes), Err(record::Unreadable));
    assert_eq!(
        known::decode_item(&row.key()[..15], &bytes),
        Err(record::Unreadable)
    );
    let newer = [&[record::VERSION + 1], &bytes[1..]].concat();
    let longer = [&bytes[..], &[0]].concat();
    for bytes in [&newer, &longer] {
        assert_eq!(known::decode(&row.key(), bytes), Err(record::Unreadable));
    }
}

#[test]
fn known_releases_are_put_walked_replaced_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog");
    let catalog = built(&path);
    let rows: Vec<KnownRow> = (0..50)
        .map(|n| row(1 + n % 3, &format!("r{n}"), u64::from(n)))
        .collect();
    let written = catalog.write(|batch| {
        rows.iter().try_for_each(|row| batch.put_known(row))?;
        assert_eq!(batch.known(rows[7].key())?, Some(rows[7].clone()));
        Ok(())
    });
    written.unwrap();
    let tally = |names, arrived| Tally { names, arrived };
    assert_eq!(catalog.tally().unwrap(), tally(50, 49));
    let mut sorted = rows.clone();
    sorted.sort_by_key(KnownRow::key);
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = catalog.knowns(after, 7).unwrap();
        let items = catalog.known_items(after, 7).unwrap();
        let ids: Vec<ReleaseId> = page.iter().map(|(_, row)| row.id()).collect();
        assert_eq!(items.iter().map(|item| item.id).collect::<Vec<_>>(), ids);
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        seen.extend(page.into_iter().map(|(_, row)| row));
    }
    assert_eq!(seen, sorted);

    let newer = KnownRow {
        arrived: 99,
        ..rows[3].clone()
    };
    // Twice in one batch is one name.
    let fresh = row(1, "fresh", 98);
    let written = catalog.write(|batch| {
        [&newer, &fresh, &fresh]
            .iter()
            .try_for_each(|row| batch.put_known(row))
    });
    written.unwrap();
    catalog.seal().unwrap();
    let Opened { catalog, state } = Catalog::open(&path).unwrap();
    assert_eq!(state, OpenState::Good);
    assert_eq!(catalog.known(rows[3].key()).unwrap(), Some(newer));
    assert_eq!(catalog.known_items(None, 100).unwrap().len(), 51);
    assert_eq!(catalog.tally().unwrap(), tally(51, 99));
    assert_eq!(name_key(&rows[5].release.repo()), rows[5].key());
}

#[test]
fn rows_of_a_build_that_kept_no_tally_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = built(&folder.path().join("catalog"));
    assert_eq!(catalog.tally().unwrap(), Tally::default());
    let put = |rows: &[KnownRow]| catalog.write(|batch| rows.iter().try_for_each(|row| batch.put_known(row)));
    put(&[row(1, "a", 3), row(1, "b", 2)]).unwrap();
    let forgotten = Change {
        value: None,
        ..known::tallied(&Tally::default())
    };
    let forget = || {
        let live = catalog.0.engine.read().unwrap();
        live.as_ref().unwrap().engine.apply(&[forgotten]).unwrap();
    };
    forget();
    assert_eq!(catalog.tally().unwrap(), Tally { names: 2, arrived: 3 });
    put(&[row(2, "a", 4)]).unwrap();
    assert_eq!(catalog.tally().unwrap(), Tally { names: 3, arrived: 4 });
}
