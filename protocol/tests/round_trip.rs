//! Decoding undoes encoding, one value has one encoding, and no bytes at all make a decoder panic.

use std::fmt::Debug;

use crate::fixture::{
    Change, catalog_asks, catalog_tells, change, changes, denylists, manifests, proofs, repo_ids, repo_paths,
    signed_attestations, signed_releases, stated, statements, summaries, swarm_tells, tickets,
};
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::attestation::{decode_bundle, encode_bundle};
use protocol::key;
use protocol::wire::{decode_frame, encode_frame};
use protocol::{
    Alias, CatalogAsk, CatalogTell, Denied, Denylist, Hash, Kind, Manifest, Proof, Publisher, RepoId,
    RepoName, RepoPath, RepoRef, Sha256, SignedAttestation, SignedRelease, SignedStatement, Summary,
    SwarmTell, Ticket, WireError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Checks that whatever a decoder accepts is the one encoding of what it means.
fn one_encoding(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
    }
    if let Ok(signed) = SignedRelease::decode(bytes) {
        assert_eq!(signed.encode(), bytes);
    }
    if let Ok(signed) = SignedAttestation::decode(bytes) {
        assert_eq!(signed.encode(), bytes);
    }
    if let Ok(bundle) = decode_bundle(bytes) {
        assert_eq!(encode_bundle(&bundle), bytes);
    }
    if let Ok(summary) = Summary::decode(bytes) {
        assert_eq!(summary.encode().unwrap(), bytes);
    }
    if let Ok(signed) = SignedStatement::decode(bytes) {
        assert_eq!(signed.encode(), bytes);
    }
    if let Ok(bundle) = key::decode_bundle(bytes) {
        assert_eq!(key::encode_bundle(&bundle), bytes);
    }
    // A denylist may be written in many ways, and means one thing in each.
    if let Ok(list) = Denylist::decode(bytes) {
        assert_eq!(Denylist::decode(&list.encode().unwrap()).unwrap(), list);
    }
    if let Ok(proof) = Proof::decode(bytes) {
        assert_eq!(proof.encode(), bytes);
    }
    if let Ok(text) = str::from_utf8(bytes) {
        one_spelling::<Ticket>(text);
        one_spelling::<Hash>(text);
        one_spelling::<Sha256>(text);
        one_spelling::<Publisher>(text);
        one_spelling::<RepoName>(text);
        one_spelling::<Alias>(text);
        one_spelling::<Kind>(text);
        one_spelling::<RepoId>(text);
        one_spelling::<RepoRef>(text);
        one_spelling::<RepoPath>(text);
        one_spelling::<Denied>(text);
    }
    bounded_frame::<CatalogAsk>(bytes);
    bounded_frame::<CatalogTell>(bytes);
    bounded_frame::<SwarmTell>(bytes);
}

fn one_spelling<T: std::str::FromStr + ToString>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

fn bounded_frame<T: DeserializeOwned>(bytes: &[u8]) {
    if let Ok(Some((_, used))) = decode_frame::<T>(bytes) {
        assert!(used <= bytes.len());
    }
}

fn frame_returns<T>(message: &T, behind: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let frame = encode_frame(message).unwrap();
    let bytes = [&frame, behind].concat();
    let (back, used) = decode_frame::<T>(&bytes).unwrap().unwrap();
    assert_eq!(&back, message);
    assert_eq!(used, frame.len());
    for len in 0..frame.len() {
        assert_eq!(decode_frame::<T>(&frame[..len]), Ok(None), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn manifest_returns(manifest in manifests()) {
        let bytes = manifest.encode();
        prop_assert_eq!(Hash::of(&bytes), manifest.hash());
        prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
    }

    #[test]
    fn manifest_does_not_depend_on_the_order_of_its_files(manifest in manifests(), by in any::<usize>()) {
        let mut files = manifest.files().to_vec();
        let by = by % files.len();
        files.rotate_left(by);
        files.reverse();
        prop_assert_eq!(Manifest::new(files).unwrap(), manifest);
    }

    #[test]
    fn release_returns(signed in signed_releases()) {
        prop_assert_eq!(SignedRelease::decode(&signed.encode()).unwrap(), signed);
    }

    #[test]
    fn attestation_returns(signed in signed_attestations()) {
        prop_assert_eq!(SignedAttestation::decode(signed.encode()).unwrap(), signed);
    }

    #[test]
    fn bundle_returns(attestations in vec(signed_attestations(), 0..5)) {
        prop_assert_eq!(decode_bundle(&encode_bundle(&attestations)).unwrap(), attestations);
    }

    #[test]
    fn release_returns_from_its_parts(signed in signed_releases()) {
        prop_assert_eq!(signed.release().encode_with(&signed.signature()), signed.encode());
    }

    #[test]
    fn summary_returns(summary in summaries()) {
        let summary = summary.fit();
        let bytes = summary.encode().unwrap();
        prop_assert_eq!(Hash::of(&bytes), summary.hash().unwrap());
        prop_assert_eq!(Summary::decode(&bytes).unwrap(), summary.clone());
        let binary = postcard::to_stdvec(&summary).unwrap();
        prop_assert_eq!(postcard::from_bytes(&binary).ok(), Some(summary));
    }

    #[test]
    fn key_statement_returns(statement in statements()) {
        let signed = stated(statement.clone());
        prop_assert_eq!(signed.statement(), &statement);
        prop_assert_eq!(SignedStatement::decode(signed.encode()).unwrap(), signed);
    }

    #[test]
    fn record_of_key_statements_returns(all in vec(statements().prop_map(stated), 0..5)) {
        prop_assert_eq!(key::decode_bundle(&key::encode_bundle(&all)).unwrap(), all);
    }

    #[test]
    fn denylist_returns(list in denylists()) {
        prop_assert_eq!(Denylist::decode(&list.encode().unwrap()).unwrap(), list);
    }

    #[test]
    fn ticket_returns(ticket in tickets()) {
        prop_assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
    }

    #[test]
    fn frames_return(
        messages in (catalog_asks(), catalog_tells(), swarm_tells()),
        behind in vec(any::<u8>(), 0..9),
    ) {
        frame_returns(&messages.0, &behind);
        frame_returns(&messages.1, &behind);
        frame_returns(&messages.2, &behind);
    }

    #[test]
    fn names_return(id in repo_ids(), path in repo_paths(), hash in any::<[u8; 32]>()) {
        let hash = Hash::from_bytes(hash);
        prop_assert_eq!(id.to_string().parse(), Ok(id.clone()));
        prop_assert_eq!(id.to_string().parse(), Ok(RepoRef::Id(id.clone())));
        prop_assert_eq!(RepoRef::Content(hash).to_string().parse(), Ok(RepoRef::Content(hash)));
        prop_assert_eq!(path.as_str().parse(), Ok(path.clone()));
        let json = serde_json::to_string(&(&id, &path, hash)).unwrap();
        prop_assert_eq!(serde_json::from_str(&json).ok(), Some((id.clone(), path.clone(), hash)));
        let binary = postcard::to_stdvec(&(&id, &path, hash)).unwrap();
        prop_assert_eq!(postcard::from_bytes(&binary).ok(), Some((id, path, hash)));
    }

    #[test]
    fn arbitrary_bytes_panic_no_decoder(bytes in vec(any::<u8>(), 0..400)) {
        one_encoding(&bytes);
    }

    #[test]
    fn arbitrary_text_panics_no_decoder(text in "\\PC{0,80}", prefix in "(|shoal:|blake3/|/|[{])") {
        one_encoding(format!("{prefix}{text}").as_bytes());
    }

    #[test]
    fn changed_manifest_panics_no_decoder(manifest in manifests(), changes in changes()) {
        check_changed(manifest.encode(), &changes);
    }

    #[test]
    fn changed_release_panics_no_decoder(signed in signed_releases(), changes in changes()) {
        check_changed(signed.encode(), &changes);
    }

    #[test]
    fn changed_attestation_panics_no_decoder(signed in signed_attestations(), changes in changes()) {
        check_changed(signed.encode().to_vec(), &changes);
    }

    #[test]
    fn changed_bundle_panics_no_decoder(attestations in vec(signed_attestations(), 0..3), changes in changes()) {
        check_changed(encode_bundle(&attestations), &changes);
    }

    #[test]
    fn changed_summary_panics_no_decoder(summary in summaries(), changes in changes()) {
        check_changed(summary.fit().encode().unwrap(), &changes);
    }

    #[test]
    fn changed_key_statement_panics_no_decoder(statement in statements(), changes in changes()) {
        check_changed(stated(statement).encode().to_vec(), &changes);
    }

    #[test]
    fn changed_record_of_key_statements_panics_no_decoder(
        all in vec(statements().prop_map(stated), 0..3),
        changes in changes(),
    ) {
        check_changed(key::encode_bundle(&all), &changes);
    }

    #[test]
    fn changed_denylist_panics_no_decoder(list in denylists(), changes in changes()) {
        check_changed(list.encode().unwrap(), &changes);
    }

    #[test]
    fn changed_ticket_panics_no_decoder(ticket in tickets(), changes in changes()) {
        check_changed(ticket.to_string().into_bytes(), &changes);
    }

    #[test]
    fn changed_frames_panic_no_decoder(
        messages in (catalog_asks(), catalog_tells(), swarm_tells()),
        changes in changes(),
    ) {
        check_changed(encode_frame(&messages.0).unwrap(), &changes);
        check_changed(encode_frame(&messages.1).unwrap(), &changes);
        check_changed(encode_frame(&messages.2).unwrap(), &changes);
    }
}

proptest! {
    // Each case hashes some MiB.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn proof_returns(proof in proofs()) {
        prop_assert_eq!(Proof::decode(&proof.encode()).unwrap(), proof);
    }

    #[test]
    fn changed_proof_panics_no_decoder(proof in proofs(), changes in vec(changes(), 40)) {
        let bytes = proof.encode();
        for changes in changes {
            check_changed(bytes.clone(), &changes);
        }
    }
}

fn check_changed(mut bytes: Vec<u8>, changes: &[Change]) {
    change(&mut bytes, changes);
    one_encoding(&bytes);
}

#[test]
fn frame_is_refused_before_its_body_is_there() {
    let len = u32::try_from(protocol::limits::FRAME_LEN_MAX).unwrap();
    let frame = |len: u32| decode_frame::<SwarmTell>(&len.to_le_bytes());
    assert_eq!(frame(len), Ok(None));
    let too_long = |len| WireError::TooLong {
        len,
        max: protocol::limits::FRAME_LEN_MAX,
    };
    let over = usize::try_from(len).unwrap() + 1;
    assert_eq!(frame(len + 1), Err(too_long(over)));
    assert_eq!(frame(u32::MAX), Err(too_long(usize::try_from(u32::MAX).unwrap())));
}

#[test]
fn message_that_fits_no_frame_is_not_encoded() {
    let tell = CatalogTell::Release(Some(vec![0; protocol::limits::FRAME_LEN_MAX]));
    assert!(matches!(encode_frame(&tell), Err(WireError::TooLong { .. })));
}

#[test]
fn frame_with_bytes_behind_its_message_is_refused() {
    let mut frame = encode_frame(&SwarmTell::Nothing).unwrap();
    frame.push(0);
    frame[0] += 1;
    assert_eq!(
        decode_frame::<SwarmTell>(&frame),
        Err(WireError::Trailing { len: 1 })
    );
}
