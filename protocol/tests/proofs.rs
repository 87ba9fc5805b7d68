//! A proof is sound when made and when read, and says what is wrong with it otherwise.

use crate::fixture::{
    golden_files, golden_manifest, golden_proof, golden_signed, key, plain_release, values_of,
};
use protocol::limits::PROOF_LEN_MAX;
use protocol::{
    ChainingValue, FileEntry, Hash, Manifest, ManifestError, Proof, ProofError, ReleaseError, SignedRelease,
};

fn values() -> Vec<Vec<ChainingValue>> {
    golden_files().iter().map(|(_, bytes)| values_of(bytes)).collect()
}

/// Cuts the golden proof into its first line, manifest with length, release with length, and values.
fn parts() -> [Vec<u8>; 4] {
    let bytes = golden_proof().encode();
    let manifest = 14 + 4 + golden_manifest().encode().len();
    let release = manifest + 4 + golden_signed().encode().len();
    [
        bytes[..14].to_vec(),
        bytes[14..manifest].to_vec(),
        bytes[manifest..release].to_vec(),
        bytes[release..].to_vec(),
    ]
}

fn refused(parts: [Vec<u8>; 4]) -> ProofError {
    Proof::decode(&parts.concat()).unwrap_err()
}

#[test]
fn proof_needs_no_release() {
    let proof = Proof::new(golden_manifest(), None, values()).unwrap();
    assert_eq!(Proof::decode(&proof.encode()).unwrap(), proof);
    assert!(proof.release().is_none());
    assert_eq!(proof.shards()[3].len(), 3);
}

#[test]
fn release_of_another_manifest_does_not_fit() {
    let other = SignedRelease::sign(plain_release(1, 1, 1), &key(1)).unwrap();
    let error = Proof::new(golden_manifest(), Some(other.clone()), values()).unwrap_err();
    assert!(matches!(error, ProofError::OtherManifest { named, .. } if named == Hash::from_bytes([1; 32])));
    let [line, manifest, _, values] = parts();
    let encoding = other.encode();
    let len = u32::try_from(encoding.len()).unwrap().to_le_bytes();
    let error = refused([line, manifest, [&len[..], &encoding].concat(), values]);
    assert!(matches!(error, ProofError::OtherManifest { .. }));
}

#[test]
fn values_have_to_fit_the_files() {
    let new = |values| Proof::new(golden_manifest(), None, values).unwrap_err();
    let mut bad = values();
    bad.pop();
    assert!(matches!(new(bad), ProofError::FileCount { wanted: 4, found: 3 }));
    let mut bad = values();
    bad[3].pop();
    assert!(matches!(
        new(bad),
        ProofError::ShardCount {
            wanted: 3,
            found: 2,
            ..
        }
    ));
    let mut bad = values();
    bad[0].push(ChainingValue([0; 32]));
    assert!(matches!(
        new(bad),
        ProofError::ShardCount {
            wanted: 0,
            found: 1,
            ..
        }
    ));
    let mut bad = values();
    bad[3].swap(0, 1);
    assert!(matches!(new(bad), ProofError::Root { path } if path.as_str() == "weights/größe.safetensors"));
}

#[test]
fn proof_says_what_is_wrong_with_it() {
    let [line, manifest, release, values] = parts();
    assert!(matches!(Proof::decode(b""), Err(ProofError::Magic)));
    assert!(matches!(Proof::decode(b"shoal proof 1"), Err(ProofError::Magic)));
    assert!(matches!(
        Proof::decode(b"shoal proof x\n"),
        Err(ProofError::Magic)
    ));
    assert!(matches!(
        Proof::decode(b"shoal proof 2\nanything"),
        Err(ProofError::Version { found: 2 })
    ));
    assert!(matches!(
        Proof::decode(b"shoal proof 12\n"),
        Err(ProofError::Version { found: 12 })
    ));
    let cut = |part: &'static str, bytes: &[&[u8]]| {
        let error = Proof::decode(&bytes.concat()).unwrap_err();
        assert!(
            matches!(error, ProofError::Truncated { part: it } if it == part),
            "{error}"
        );
    };
    cut("length", &[&line]);
    cut("length", &[&line, &manifest[..3]]);
    cut("manifest", &[&line, &manifest[..9]]);
    cut("length", &[&line, &manifest]);
    cut("release", &[&line, &manifest, &release[..9]]);
    cut("shards", &[&line, &manifest, &release]);
    cut("shards", &[&line, &manifest, &release, &values[..95]]);
    let error = refused([
        line.clone(),
        manifest.clone(),
        release.clone(),
        [&values[..], &[0]].concat(),
    ]);
    assert!(matches!(error, ProofError::Trailing { len: 1 }));
    let mut wrong = values.clone();
    wrong[0] ^= 1;
    assert!(matches!(
        refused([line.clone(), manifest.clone(), release.clone(), wrong]),
        ProofError::Root { .. }
    ));
    let mut wrong = manifest.clone();
    wrong[5] = b' ';
    let error = refused([line.clone(), wrong, release.clone(), values.clone()]);
    assert!(matches!(error, ProofError::Manifest(ManifestError::Json(_))));
    let mut wrong = release.clone();
    wrong[9] ^= 1;
    let error = refused([line, manifest, wrong, values]);
    assert!(matches!(error, ProofError::Release(ReleaseError::Signature)));
}

#[test]
fn lengths_are_bounded_before_anything_is_read() {
    let [line, manifest, _, _] = parts();
    let over = |part: &'static str, bytes: &[&[u8]]| {
        let error = Proof::decode(&bytes.concat()).unwrap_err();
        assert!(
            matches!(error, ProofError::PartTooLong { part: it, .. } if it == part),
            "{error}"
        );
    };
    over("manifest", &[&line, &(32 * 1024 * 1024 + 1_u32).to_le_bytes()]);
    over("manifest", &[&line, &u32::MAX.to_le_bytes()]);
    over("release", &[&line, &manifest, &8193_u32.to_le_bytes()]);
    let error = Proof::decode(&vec![0; PROOF_LEN_MAX + 1]).unwrap_err();
    assert!(matches!(error, ProofError::TooLong { .. }));
}

#[test]
fn proof_of_more_than_it_can_hold_is_not_made() {
    // 4 TiB need 128 MiB of values, and the manifest stands before them. The values are none; their number is what counts.
    let values = vec![ChainingValue([7; 32]); 1 << 22];
    let root = protocol::shard::root_of_shards(1 << 42, &values).unwrap();
    let file = FileEntry {
        path: "big".parse().unwrap(),
        size: 1 << 42,
        blake3: root,
        sha256: None,
        sha1: None,
    };
    let manifest = Manifest::new(vec![file]).unwrap();
    let error = Proof::new(manifest, None, vec![values]).unwrap_err();
    assert!(matches!(
        error,
        ProofError::TooLong {
            max: PROOF_LEN_MAX,
            ..
        }
    ));
}

#[test]
fn proof_of_a_terabyte_can_be_made() {
    let values = vec![ChainingValue([7; 32]); 1 << 20];
    let root = protocol::shard::root_of_shards(1 << 40, &values).unwrap();
    let files = ["a", "b"].map(|at| FileEntry {
        path: at.parse().unwrap(),
        size: 1 << 40,
        blake3: root,
        sha256: None,
        sha1: None,
    });
    let manifest = Manifest::new(files.to_vec()).unwrap();
    let proof = Proof::new(manifest, None, vec![values.clone(), values]).unwrap();
    assert_eq!(Proof::decode(&proof.encode()).unwrap(), proof);
}
