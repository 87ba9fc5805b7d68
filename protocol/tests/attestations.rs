//! An attestation is bounded, canonical and signed by the key it names; it fits no other model, key or kind of statement.

use crate::fixture::{
    NOW, finite, golden_attestation, golden_attested, golden_signed, key, plain_attestation, publisher,
};
use ed25519_dalek::Signer;
use protocol::attestation::{BundleError, decode_bundle, encode_bundle};
use protocol::limits::{ATTESTATION_LEN_MAX, BUNDLE_LEN_MAX, BUNDLED_MAX};
use protocol::{
    Attestation, AttestationError, CatalogTell, Challenge, Finite, Hash, JsonError, SignedAttestation,
    SignedRelease, Verdict, WireError, wire,
};

/// Signs any JSON as if it were an attestation.
fn forge(json: &str, key_number: u8) -> Vec<u8> {
    let signed = [b"shoal attestation 1\n", json.as_bytes()].concat();
    let signature = key(key_number).sign(&signed).to_bytes();
    [&signature, json.as_bytes()].concat()
}

fn json_of(attestation: Attestation) -> String {
    let signed = SignedAttestation::sign(attestation, &key(7)).unwrap();
    String::from_utf8(signed.encode()[64..].to_vec()).unwrap()
}

/// Replaces a part of a sound attestation, signs the result, and returns why it is refused.
fn refused(old: &str, new: &str) -> AttestationError {
    let json = json_of(golden_attestation());
    let changed = json.replacen(old, new, 1);
    assert_ne!(changed, json, "nothing was replaced");
    SignedAttestation::decode(&forge(&changed, 7)).unwrap_err()
}

/// Changes a sound attestation, and returns the rule it breaks then.
fn rule(change: impl FnOnce(&mut Attestation)) -> &'static str {
    let mut attestation = golden_attestation();
    change(&mut attestation);
    match SignedAttestation::sign(attestation, &key(7)) {
        Err(AttestationError::Rule { what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn forge_makes_what_sign_makes() {
    assert_eq!(
        forge(&json_of(golden_attestation()), 7),
        golden_attested().encode()
    );
}

#[test]
fn only_the_key_it_names_can_sign() {
    let error = SignedAttestation::sign(plain_attestation(1), &key(2)).unwrap_err();
    assert!(matches!(error, AttestationError::OtherKey { by } if by == publisher(1)));
    let error = SignedAttestation::decode(&forge(&json_of(plain_attestation(7)), 2)).unwrap_err();
    assert!(matches!(error, AttestationError::Signature));
}

#[test]
fn attestation_moved_to_another_model_or_key_is_refused() {
    let bytes = golden_attested().encode().to_vec();
    let json = String::from_utf8(bytes[64..].to_vec()).unwrap();
    let moved = |from: &str, to: &str| {
        let changed = json.replace(from, to);
        assert_ne!(changed, json);
        SignedAttestation::decode(&[&bytes[..64], changed.as_bytes()].concat()).unwrap_err()
    };
    let manifest = golden_attestation().manifest.to_string();
    let error = moved(&manifest, &Hash::of(b"another model").to_string());
    assert!(matches!(error, AttestationError::Signature), "{error}");
    let error = moved(&publisher(7).to_string(), &publisher(8).to_string());
    assert!(matches!(error, AttestationError::Signature), "{error}");
    let error = moved("\"behaviour\":\"passed\"", "\"behaviour\":\"failed\"");
    assert!(matches!(error, AttestationError::Signature), "{error}");
}

#[test]
fn signature_for_another_purpose_does_not_fit() {
    let json = json_of(golden_attestation());
    for domain in [
        "",
        "shoal attestation 2\n",
        "shoal attestation 1",
        "shoal attestation 1\n\n",
        "shoal release 1\n",
    ] {
        let signed = [domain.as_bytes(), json.as_bytes()].concat();
        let bytes = [&key(7).sign(&signed).to_bytes(), json.as_bytes()].concat();
        assert!(
            matches!(
                SignedAttestation::decode(&bytes),
                Err(AttestationError::Signature)
            ),
            "{domain:?}"
        );
    }
}

#[test]
fn neither_a_release_nor_a_bundle_is_an_attestation() {
    let error = SignedAttestation::decode(&golden_signed().encode()).unwrap_err();
    assert!(matches!(
        error,
        AttestationError::Json(JsonError::MissingField { .. })
    ));
    assert!(SignedRelease::decode(golden_attested().encode()).is_err());
    assert!(SignedAttestation::decode(&encode_bundle(&[golden_attested()])).is_err());
    assert!(matches!(
        decode_bundle(golden_attested().encode()),
        Err(BundleError::Heading)
    ));
}

#[test]
fn signature_is_checked_before_anything_but_the_key_is_read() {
    let json = json_of(golden_attestation()).replace("\"issued\":", "\"issued\":\"\",\"zzz\":");
    let mut bytes = forge(&json, 7);
    assert!(matches!(
        SignedAttestation::decode(&bytes),
        Err(AttestationError::Json(_))
    ));
    bytes[3] ^= 1;
    assert!(matches!(
        SignedAttestation::decode(&bytes),
        Err(AttestationError::Signature)
    ));
}

#[test]
fn every_flipped_bit_and_every_prefix_is_refused() {
    let bytes = golden_attested().encode().to_vec();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(SignedAttestation::decode(&flipped).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(SignedAttestation::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    let longer = [&bytes[..], b" "].concat();
    assert!(matches!(
        SignedAttestation::decode(&longer),
        Err(AttestationError::Signature)
    ));
}

#[test]
fn newer_version_is_named() {
    let error = refused("\"shoal\":1", "\"shoal\":2");
    assert!(matches!(error, AttestationError::Version { found: 2 }));
    let json = format!("{{\"by\":\"{}\",\"format\":[{{}}],\"shoal\":7}}", publisher(1));
    let error = SignedAttestation::decode(&forge(&json, 1)).unwrap_err();
    assert!(matches!(error, AttestationError::Version { found: 7 }));
}

#[test]
fn fields_are_checked_by_name() {
    let manifest = golden_attestation().manifest.to_string();
    let bad_hex = |old: &str, new: &str, wanted: &str| {
        let error = refused(old, new);
        let right = matches!(&error, AttestationError::BadHex { field, .. } if *field == wanted);
        assert!(right, "{wanted}: {error:?}");
    };
    bad_hex(&manifest, &manifest[1..], "manifest");
    bad_hex(&Hash::of(b"the probes").to_string(), "00", "probes");
    bad_hex(&Hash::of(&[3]).to_string(), &"A".repeat(64), "digest");
    bad_hex(&"03".repeat(16), &"03".repeat(15), "nonce");
    bad_hex(&"03".repeat(16), &"0G".repeat(16), "nonce");
    for (old, new) in [
        ("\"structure\":\"passed\"", "\"structure\":\"Passed\""),
        ("\"numbers\":\"passed\"", "\"numbers\":\"\""),
        ("\"behaviour\":\"passed\"", "\"behaviour\":\"not done\""),
    ] {
        assert!(matches!(refused(old, new), AttestationError::Verdict(_)), "{new}");
    }
    let json = |old: &str, new: &str| refused(old, new);
    assert!(matches!(
        json("\"issued\":", "\"issued\":1,\"issued\":"),
        AttestationError::Json(JsonError::DuplicateField { .. })
    ));
    assert!(matches!(
        json("\"issued\":", "\"signed\":"),
        AttestationError::Json(JsonError::UnknownField { .. })
    ));
    assert!(matches!(
        json("\"issued\":", "\"issued\": "),
        AttestationError::NotCanonical
    ));
    assert!(matches!(
        json(",\"probes\":", ",\"probes\":null,\"probes\":"),
        AttestationError::Json(_)
    ));
    assert!(matches!(
        json(&publisher(7).to_string(), &"y".repeat(52)),
        AttestationError::By(_)
    ));
    let late = format!("\"issued\":{}", (1_u64 << 53) + 1);
    assert!(matches!(
        json(&format!("\"issued\":{NOW}"), &late),
        AttestationError::Issued { .. }
    ));
}

#[test]
fn what_is_no_number_is_refused_in_every_place() {
    let places = [
        finite(5.5e-5).to_string(),
        finite(0.75).to_string(),
        finite(-1.0).to_string(),
    ];
    let wrong = [
        f64::NAN.to_bits(),
        f64::INFINITY.to_bits(),
        f64::NEG_INFINITY.to_bits(),
        (-0.0_f64).to_bits(),
    ];
    for place in &places {
        for bits in wrong {
            let error = refused(place, &format!("{bits:016x}"));
            assert!(matches!(error, AttestationError::Number(_)), "{error:?}");
        }
        for text in ["", "0", "7ff", "3FE8000000000000", "+fe8000000000000"] {
            let error = refused(place, text);
            assert!(matches!(error, AttestationError::Number(_)), "{text}: {error:?}");
        }
    }
    assert_eq!(Finite::new(f64::NAN), None);
    assert_eq!(Finite::new(-0.0).unwrap().to_string(), "0".repeat(16));
}

#[test]
fn statement_that_nobody_can_repeat_or_that_says_nothing_is_refused() {
    let undone = |attestation: &mut Attestation| {
        attestation.behaviour = Verdict::NotDone;
        attestation.challenges.clear();
        attestation.bits_per_byte = None;
        attestation.differences = Default::default();
    };
    assert!(rule(|it| it.challenges.clear()).contains("nobody can repeat"));
    assert!(rule(|it| it.behaviour = Verdict::NotDone).contains("not looked at"));
    for keep in 0..3 {
        let what = rule(|it| {
            let whole = it.clone();
            undone(it);
            match keep {
                0 => it.challenges = whole.challenges,
                1 => it.bits_per_byte = whole.bits_per_byte,
                _ => it.differences = whole.differences,
            }
        });
        assert!(what.contains("not looked at"), "{keep}: {what}");
    }
    assert!(
        rule(|it| {
            undone(it);
            (it.structure, it.numbers) = (Verdict::NotDone, Verdict::NotDone);
        })
        .contains("no level")
    );
    assert!(rule(|it| it.probes = None).contains("does not name"));
    assert!(rule(|it| it.differences.nll = Finite::new(-1e-9)).contains("below 0"));
    assert!(rule(|it| it.bits_per_byte = Finite::new(-1.0)).contains("below 0"));
}

#[test]
fn parts_have_bounds() {
    let challenge = |nonce, count| Challenge {
        nonce: [nonce; 16],
        digest: Hash::of(b""),
        numbers: vec![finite(1.0); count],
    };
    assert!(
        rule(|it| it.challenges = (0..4).map(|nonce| challenge(nonce, 1)).collect()).contains("too many")
    );
    assert!(rule(|it| it.challenges = vec![challenge(1, 0)]).contains("numbers"));
    assert!(rule(|it| it.challenges = vec![challenge(1, 33)]).contains("numbers"));
    assert!(rule(|it| it.challenges = vec![challenge(1, 1), challenge(1, 1)]).contains("twice"));
    for text in [
        "",
        "a\n",
        "é",
        "a\u{7f}",
        &"r".repeat(65),
        "\u{1b}[2J",
        &" ".repeat(257),
    ] {
        assert!(rule(|it| it.runtime = text.to_owned()).contains("runtime"));
    }
    assert!(rule(|it| it.features = "f".repeat(257)).contains("features"));
    assert!(rule(|it| it.features = "a\tb".to_owned()).contains("features"));
    // The largest that follows the rules fits: backslashes take twice their room in JSON.
    let mut largest = golden_attestation();
    largest.challenges = (0..3).map(|nonce| challenge(nonce, 32)).collect();
    largest.runtime = "\\".repeat(64);
    largest.features = "x".repeat(256);
    largest.differences.embed = Finite::new(1.0);
    let signed = SignedAttestation::sign(largest, &key(7)).unwrap();
    assert!(
        signed.encode().len() <= ATTESTATION_LEN_MAX,
        "{}",
        signed.encode().len()
    );
}

#[test]
fn long_record_is_refused_unread() {
    let bytes = vec![b' '; ATTESTATION_LEN_MAX + 1];
    let error = SignedAttestation::decode(&bytes).unwrap_err();
    assert!(matches!(
        error,
        AttestationError::TooLong { len: 4097, max: 4096 }
    ));
    assert!(matches!(
        SignedAttestation::decode(&[0; 63]),
        Err(AttestationError::TooShort { len: 63 })
    ));
}

#[test]
fn bundle_is_whole_or_refused() {
    let two = [
        golden_attested(),
        SignedAttestation::sign(plain_attestation(1), &key(1)).unwrap(),
    ];
    let bytes = encode_bundle(&two);
    assert_eq!(decode_bundle(&bytes).unwrap(), two);
    assert!(decode_bundle(&encode_bundle(&[])).unwrap().is_empty());
    let ends = [21, 21 + 2 + two[0].encode().len()];
    for len in 0..bytes.len() {
        if ends.contains(&len) {
            continue;
        }
        let error = decode_bundle(&bytes[..len]).unwrap_err();
        let right = matches!(error, BundleError::Heading) && len < 21
            || matches!(error, BundleError::Cut { .. }) && len > 21;
        assert!(right, "{len}: {error:?}");
    }
    let mut spoiled = bytes.clone();
    *spoiled.last_mut().unwrap() ^= 1;
    assert!(matches!(
        decode_bundle(&spoiled),
        Err(BundleError::Attestation { number: 2, .. })
    ));
    let long = [b"shoal attestations 1\n", &[0xff, 0xff][..], &[0; 70_000]].concat();
    assert!(matches!(
        decode_bundle(&long),
        Err(BundleError::Attestation { number: 1, .. })
    ));
    let many = [
        b"shoal attestations 1\n".to_vec(),
        bytes[21..ends[1]].repeat(BUNDLED_MAX + 1),
    ]
    .concat();
    assert!(matches!(decode_bundle(&many), Err(BundleError::TooMany { .. })));
    assert!(matches!(
        decode_bundle(&vec![0; BUNDLE_LEN_MAX + 1]),
        Err(BundleError::TooLong { .. })
    ));
}

#[test]
fn answer_with_too_many_attestations_is_refused_at_its_count() {
    let told = |count| wire::encode_frame(&CatalogTell::Attestations(vec![Vec::new(); count])).unwrap();
    assert!(wire::decode_frame::<CatalogTell>(&told(64)).is_ok());
    assert_eq!(
        wire::decode_frame::<CatalogTell>(&told(65)),
        Err(WireError::Message)
    );
}
