//! A release is bounded, canonical and signed by the publisher it names; nothing else is one.

use crate::fixture::{NOW, golden_release, golden_signed, key, name, plain_release, publisher};
use ed25519_dalek::Signer;
use protocol::limits::RELEASE_LEN_MAX;
use protocol::release::{key_of, provider_key};
use protocol::{Hash, JsonError, Release, ReleaseError, SignedRelease, Upstream};

/// Signs any JSON as if it were a release.
fn forge(json: &str, key_number: u8) -> Vec<u8> {
    let signed = [b"shoal release 1\n", json.as_bytes()].concat();
    let signature = key(key_number).sign(&signed).to_bytes();
    [&signature, json.as_bytes()].concat()
}

fn json_of(release: Release) -> String {
    let bytes = SignedRelease::sign(release, &key(1)).unwrap().encode();
    String::from_utf8(bytes[64..].to_vec()).unwrap()
}

fn plain_json() -> String {
    json_of(plain_release(1, 5, 9))
}

/// Replaces a part of a sound release, signs the result, and returns why it is refused.
fn refused(old: &str, new: &str) -> ReleaseError {
    let json = plain_json();
    let changed = json.replacen(old, new, 1);
    assert_ne!(changed, json, "nothing was replaced");
    SignedRelease::decode(&forge(&changed, 1)).unwrap_err()
}

#[test]
fn forge_makes_what_sign_makes() {
    let signed = SignedRelease::sign(plain_release(1, 5, 9), &key(1)).unwrap();
    assert_eq!(forge(&plain_json(), 1), signed.encode());
}

#[test]
fn only_the_publisher_can_sign() {
    let error = SignedRelease::sign(plain_release(1, 1, 1), &key(2)).unwrap_err();
    assert!(matches!(error, ReleaseError::OtherKey { publisher: it } if it == publisher(1)));
    let error = SignedRelease::decode(&forge(&plain_json(), 2)).unwrap_err();
    assert!(matches!(error, ReleaseError::Signature));
}

#[test]
fn signature_for_another_purpose_does_not_fit() {
    let json = plain_json();
    for domain in [
        "",
        "shoal release 2\n",
        "shoal release 1",
        "shoal release 1\n\n",
        "shoal attestation 1\n",
    ] {
        let signed = [domain.as_bytes(), json.as_bytes()].concat();
        let bytes = [&key(1).sign(&signed).to_bytes(), json.as_bytes()].concat();
        assert!(
            matches!(SignedRelease::decode(&bytes), Err(ReleaseError::Signature)),
            "{domain:?}"
        );
    }
}

#[test]
fn signature_is_checked_before_anything_but_the_key_is_read() {
    let json = plain_json().replace("\"seq\":5", "\"seq\":0,\"zzz\":[1]");
    let mut bytes = forge(&json, 1);
    assert!(matches!(
        SignedRelease::decode(&bytes),
        Err(ReleaseError::Json(_))
    ));
    bytes[3] ^= 1;
    assert!(matches!(
        SignedRelease::decode(&bytes),
        Err(ReleaseError::Signature)
    ));
}

#[test]
fn signature_with_a_second_form_of_its_number_is_refused() {
    // S + L, the malleable twin of an Ed25519 signature.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = golden_signed().encode();
    let mut carry = 0;
    for (byte, add) in bytes[32..64].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert!(matches!(
        SignedRelease::decode(&bytes),
        Err(ReleaseError::Signature)
    ));
}

#[test]
fn newer_version_is_named() {
    let error = refused("\"shoal\":1", "\"shoal\":2");
    assert!(matches!(error, ReleaseError::Version { found: 2 }));
    let json = format!(
        "{{\"format\":[{{}}],\"publisher\":\"{}\",\"shoal\":7}}",
        publisher(1)
    );
    let error = SignedRelease::decode(&forge(&json, 1)).unwrap_err();
    assert!(matches!(error, ReleaseError::Version { found: 7 }));
}

#[test]
fn numbers_have_bounds() {
    let (seq, issued, expires) = ("\"seq\":5", "\"issued\":1800000000", "\"expires\":1800000001");
    let number = |old, new: String, field| {
        let error = refused(old, &new);
        let right = matches!(error, ReleaseError::Number { field: it, .. } if it == field);
        assert!(right, "{new}: {error:?}");
    };
    number(seq, "\"seq\":0".to_owned(), "seq");
    number(seq, format!("\"seq\":{}", (1_u64 << 53) + 1), "seq");
    number(seq, format!("\"seq\":{}", u64::MAX), "seq");
    number(issued, format!("\"issued\":{}", u64::MAX), "issued");
    number(issued, "\"issued\":1800000001".to_owned(), "expires");
    number(issued, "\"issued\":1800000002".to_owned(), "expires");
    number(
        expires,
        format!("\"expires\":{}", NOW + 400 * 86_400 + 1),
        "expires",
    );
    number(expires, format!("\"expires\":{}", u64::MAX), "expires");
    number(expires, "\"expires\":0".to_owned(), "expires");
    let mut longest = plain_release(1, 5, 9);
    longest.expires = NOW + 400 * 86_400;
    assert!(SignedRelease::sign(longest, &key(1)).is_ok());
}

#[test]
fn number_out_of_bounds_is_not_signed_either() {
    let mut release = plain_release(1, 0, 1);
    let error = SignedRelease::sign(release.clone(), &key(1)).unwrap_err();
    assert!(matches!(error, ReleaseError::Number { field: "seq", .. }));
    release.seq = 1;
    release.expires = release.issued;
    let error = SignedRelease::sign(release, &key(1)).unwrap_err();
    assert!(matches!(error, ReleaseError::Number { field: "expires", .. }));
}

#[test]
fn fields_are_checked_by_name() {
    let hash = Hash::from_bytes([9; 32]).to_string();
    let error = refused(&hash, &hash[1..]);
    assert!(matches!(
        error,
        ReleaseError::BadHex {
            field: "manifest",
            ..
        }
    ));
    let error = refused("\"publisher\"", "\"prev\":\"00\",\"publisher\"");
    assert!(matches!(error, ReleaseError::BadHex { field: "prev", .. }));
    let error = refused("{\"expires\"", "{\"card\":\"zz\",\"expires\"");
    assert!(matches!(error, ReleaseError::BadHex { field: "card", .. }));
    assert!(matches!(refused("\"model\"", "\"Model\""), ReleaseError::Kind(_)));
    assert!(matches!(
        refused("\"name\":\"m\"", "\"name\":\"../m\""),
        ReleaseError::Name(_)
    ));
    assert!(matches!(
        refused("\"seq\":5,", ""),
        ReleaseError::Json(JsonError::MissingField { .. })
    ));
    assert!(matches!(
        refused("\"seq\":5", "\"seq\":5,\"seq\":5"),
        ReleaseError::Json(JsonError::DuplicateField { .. })
    ));
    assert!(matches!(
        refused("\"seq\":5", "\"serial\":5"),
        ReleaseError::Json(JsonError::UnknownField { .. })
    ));
    assert!(matches!(
        refused("\"seq\":5", "\"seq\":5.0"),
        ReleaseError::Json(JsonError::Syntax { .. })
    ));
    assert!(matches!(
        refused("\"seq\":5", "\"seq\": 5"),
        ReleaseError::NotCanonical
    ));
}

#[test]
fn publisher_that_is_no_key_is_refused() {
    let json = plain_json().replace(&publisher(1).to_string(), &"y".repeat(52));
    let error = SignedRelease::decode(&forge(&json, 1)).unwrap_err();
    assert!(matches!(error, ReleaseError::Publisher(_)));
}

#[test]
fn upstream_is_checked() {
    let good = golden_release().upstream.unwrap();
    let sign = |upstream: Upstream| {
        let mut release = plain_release(1, 1, 1);
        release.upstream = Some(upstream);
        SignedRelease::sign(release, &key(1))
    };
    assert!(sign(good.clone()).is_ok());
    assert!(
        sign(Upstream {
            commit: "a".repeat(64),
            repo: "gpt2".to_owned(),
            ..good.clone()
        })
        .is_ok()
    );
    assert!(
        sign(Upstream {
            hub: "localhost:8080".to_owned(),
            ..good.clone()
        })
        .is_ok()
    );
    let wrong = |upstream: Upstream, field| {
        let shown = format!("{upstream:?}");
        let error = sign(upstream).unwrap_err();
        assert!(
            matches!(error, ReleaseError::Upstream { field: it } if it == field),
            "{shown}"
        );
    };
    for commit in ["", "main", &"a".repeat(39), &"A".repeat(40), &"g".repeat(40)] {
        wrong(
            Upstream {
                commit: commit.to_owned(),
                ..good.clone()
            },
            "commit",
        );
    }
    for hub in ["", "Hugging.co", "https://x", "a b", "x\n", &"a".repeat(254)] {
        wrong(
            Upstream {
                hub: hub.to_owned(),
                ..good.clone()
            },
            "hub",
        );
    }
    for repo in [
        "",
        "/",
        "a/",
        "/a",
        "a/b/c",
        "..",
        "../a",
        "a/..",
        "a b",
        "ä",
        &"a".repeat(194),
    ] {
        wrong(
            Upstream {
                repo: repo.to_owned(),
                ..good.clone()
            },
            "repo",
        );
    }
}

#[test]
fn longest_fields_fit_into_a_record() {
    let mut release = golden_release();
    release.name = name(&"n".repeat(96));
    release.upstream = Some(Upstream {
        commit: "f".repeat(64),
        hub: "h".repeat(253),
        repo: format!("{}/{}", "o".repeat(96), "r".repeat(96)),
    });
    release.seq = 1 << 53;
    let signed = SignedRelease::sign(release, &key(7)).unwrap();
    assert!(signed.encode().len() <= RELEASE_LEN_MAX / 4);
}

#[test]
fn long_record_is_refused_unread() {
    let bytes = vec![b' '; RELEASE_LEN_MAX + 1];
    let error = SignedRelease::decode(&bytes).unwrap_err();
    assert!(matches!(error, ReleaseError::TooLong { len: 8193, max: 8192 }));
}

#[test]
fn keys_of_the_network_depend_on_every_part() {
    let base = key_of(publisher(1), &name("a"));
    assert_ne!(base, key_of(publisher(2), &name("a")));
    assert_ne!(base, key_of(publisher(1), &name("b")));
    let manifest = Hash::of(b"m");
    assert_ne!(provider_key(manifest), *manifest.as_bytes());
    let spelled = [&b"shoal provider 1"[..], manifest.as_bytes()].concat();
    assert_eq!(provider_key(manifest), *Hash::of(&spelled).as_bytes());
    let spelled = [&b"shoal name 1"[..], publisher(1).as_bytes(), b"a"].concat();
    assert_eq!(base, *Hash::of(&spelled).as_bytes());
}
