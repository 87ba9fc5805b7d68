//! A key statement is bounded, canonical, and signed by every key that its kind asks for.

use crate::fixture::{
    NOW, golden_attested, golden_signed, introduce, key, publisher, recover, revoke, rotate, stated,
};
use ed25519_dalek::Signer;
use protocol::key::{KeyBundleError, decode_bundle, encode_bundle};
use protocol::limits::{KEY_BUNDLE_LEN_MAX, KEY_STATEMENT_LEN_MAX, KEY_STATEMENTS_MAX};
use protocol::{JsonError, KeyError, Reason, SignedAttestation, SignedRelease, SignedStatement, Statement};

/// Signs any JSON as if it were a statement, with these keys in this order.
fn forge(json: &str, keys: &[u8]) -> Vec<u8> {
    let signed = [b"shoal key statement 1\n", json.as_bytes()].concat();
    let mut bytes = vec![u8::try_from(keys.len()).unwrap()];
    for number in keys {
        bytes.extend_from_slice(&key(*number).sign(&signed).to_bytes());
    }
    [bytes, json.as_bytes().to_vec()].concat()
}

fn json_of(statement: Statement) -> String {
    let signed = stated(statement);
    let bytes = signed.encode();
    let start = 1 + 64 * usize::from(bytes[0]);
    String::from_utf8(bytes[start..].to_vec()).unwrap()
}

/// Each kind, and the keys that sign it: publisher 1, successor 2, recovery key 3.
fn kinds() -> [(Statement, &'static [u8]); 5] {
    [
        (introduce(1, 3), &[1, 3]),
        (rotate(1, 2), &[1, 2]),
        (recover(1, 2, 3), &[3, 2]),
        (revoke(1, 1), &[1]),
        (revoke(1, 3), &[3]),
    ]
}

/// Replaces a part of a statement, signs the result with the right keys, and returns why it is refused.
fn refused(kind: usize, old: &str, new: &str) -> KeyError {
    let (statement, keys) = kinds()[kind].clone();
    let json = json_of(statement);
    let changed = json.replacen(old, new, 1);
    assert_ne!(changed, json, "nothing was replaced");
    SignedStatement::decode(&forge(&changed, keys)).unwrap_err()
}

#[test]
fn forge_makes_what_sign_makes_and_every_kind_names_its_signers() {
    for (statement, keys) in kinds() {
        let signed = stated(statement.clone());
        assert_eq!(forge(&json_of(statement.clone()), keys), signed.encode());
        assert_eq!(SignedStatement::decode(signed.encode()).unwrap(), signed);
        let (first, second) = statement.signers();
        let named: Vec<_> = [Some(first), second].into_iter().flatten().collect();
        let wanted: Vec<_> = keys.iter().map(|number| publisher(*number)).collect();
        assert_eq!(named, wanted);
        assert_eq!(statement.about(), publisher(1));
    }
}

#[test]
fn every_signer_has_to_sign() {
    for (statement, keys) in kinds() {
        let json = json_of(statement.clone());
        for (at, number) in keys.iter().enumerate() {
            let mut others = keys.to_vec();
            others[at] = 30;
            let error = SignedStatement::decode(&forge(&json, &others)).unwrap_err();
            let wanted = publisher(*number);
            assert!(
                matches!(error, KeyError::Signature { signer } if signer == wanted),
                "{error:?}"
            );
            let given: Vec<_> = keys
                .iter()
                .filter(|it| *it != number)
                .map(|it| key(*it))
                .collect();
            let error =
                SignedStatement::sign(statement.clone(), &given.iter().collect::<Vec<_>>()).unwrap_err();
            assert!(matches!(error, KeyError::NoKey { wanted: it } if it == wanted));
        }
        if let [first, second] = keys {
            let error = SignedStatement::decode(&forge(&json, &[*second, *first])).unwrap_err();
            assert!(matches!(error, KeyError::Signature { .. }));
        }
    }
}

#[test]
fn count_of_signatures_is_that_of_the_kind() {
    for (statement, keys) in kinds() {
        let json = json_of(statement);
        let wrong: &[u8] = if keys.len() == 1 { &[1, 1] } else { &keys[..1] };
        let error = SignedStatement::decode(&forge(&json, wrong)).unwrap_err();
        assert!(matches!(error, KeyError::Count { .. }), "{error:?}");
        for count in [0, 3, 255] {
            let mut bytes = forge(&json, keys);
            bytes[0] = count;
            let error = SignedStatement::decode(&bytes).unwrap_err();
            assert!(matches!(error, KeyError::Count { found } if found == count));
        }
    }
}

#[test]
fn signature_for_another_purpose_does_not_fit() {
    let json = json_of(revoke(1, 1));
    for domain in [
        "",
        "shoal key statement 2\n",
        "shoal key statement 1",
        "shoal key 1",
        "shoal release 1\n",
    ] {
        let signed = [domain.as_bytes(), json.as_bytes()].concat();
        let bytes = [&[1], &key(1).sign(&signed).to_bytes()[..], json.as_bytes()].concat();
        assert!(
            matches!(SignedStatement::decode(&bytes), Err(KeyError::Signature { .. })),
            "{domain:?}"
        );
    }
    for (statement, _) in kinds() {
        let bytes = stated(statement).encode().to_vec();
        for skip in [0, 1, 65] {
            assert!(SignedRelease::decode(&bytes[skip..]).is_err());
            assert!(SignedAttestation::decode(&bytes[skip..]).is_err());
        }
    }
    for bytes in [golden_signed().encode(), golden_attested().encode().to_vec()] {
        assert!(SignedStatement::decode(&bytes).is_err());
        assert!(SignedStatement::decode(&[&[1][..], &bytes].concat()).is_err());
    }
}

#[test]
fn statement_moved_to_another_key_or_kind_is_refused() {
    let moved = |statement: Statement, from: String, to: String| {
        let bytes = stated(statement.clone()).encode().to_vec();
        let json = json_of(statement);
        let changed = json.replace(&from, &to);
        assert_ne!(changed, json);
        let head = &bytes[..bytes.len() - json.len()];
        SignedStatement::decode(&[head, changed.as_bytes()].concat()).unwrap_err()
    };
    for (from, to) in [(1, 9), (2, 9)] {
        let error = moved(
            rotate(1, 2),
            publisher(from).to_string(),
            publisher(to).to_string(),
        );
        assert!(matches!(error, KeyError::Signature { .. }));
    }
    // The same two keys, another kind.
    let error = moved(rotate(1, 2), json_of(rotate(1, 2)), json_of(introduce(1, 2)));
    assert!(matches!(error, KeyError::Signature { .. }));
    let error = moved(revoke(1, 3), publisher(1).to_string(), publisher(2).to_string());
    assert!(matches!(error, KeyError::Signature { .. }));
}

#[test]
fn one_key_does_not_serve_two_purposes() {
    for statement in [
        introduce(1, 1),
        rotate(1, 1),
        recover(1, 1, 3),
        recover(1, 3, 3),
        recover(1, 2, 1),
    ] {
        let error = SignedStatement::sign(statement, &[&key(1), &key(2), &key(3)]).unwrap_err();
        assert!(matches!(error, KeyError::SameKey));
    }
    let error = refused(1, &publisher(2).to_string(), &publisher(1).to_string());
    // The second signature is that of key 2.
    assert!(matches!(error, KeyError::Signature { .. }));
    let same = json_of(rotate(1, 2)).replace(&publisher(2).to_string(), &publisher(1).to_string());
    let error = SignedStatement::decode(&forge(&same, &[1, 1])).unwrap_err();
    assert!(matches!(error, KeyError::SameKey));
}

#[test]
fn fields_belong_to_their_kind() {
    let field = |kind, old: &str, new: &str, wanted: &str| {
        let error = refused(kind, old, new);
        assert!(
            matches!(error, KeyError::Field { field } if field == wanted),
            "{new}: {error:?}"
        );
    };
    let other = publisher(5);
    field(
        0,
        "\"issued\"",
        &format!("\"from\":\"{other}\",\"issued\""),
        "from",
    );
    field(
        1,
        "\"say\"",
        &format!("\"recovery\":\"{other}\",\"say\""),
        "recovery",
    );
    field(1, "\"from\"", &format!("\"by\":\"{other}\",\"from\""), "by");
    field(2, "\"recovery\"", "\"reason\":\"lost\",\"recovery\"", "reason");
    field(2, "\"recovery\"", "\"key\"", "recovery");
    field(3, "\"shoal\":1", &format!("\"shoal\":1,\"to\":\"{other}\""), "to");
    field(3, "\"reason\":\"compromised\",", "", "reason");
    assert!(matches!(
        refused(0, "introduce", "bless"),
        KeyError::Say { found } if found == "bless"
    ));
    assert!(matches!(
        refused(3, "compromised", "bored"),
        KeyError::Reason(error) if error.found == "bored"
    ));
    assert!(matches!(
        refused(0, &publisher(3).to_string(), "me"),
        KeyError::Key {
            field: "recovery",
            ..
        }
    ));
    let late = format!("\"issued\":{}", (1_u64 << 53) + 1);
    assert!(matches!(
        refused(1, &format!("\"issued\":{NOW}"), &late),
        KeyError::Issued { .. }
    ));
    for reason in ["compromised", "lost", "retired", "superseded"] {
        assert_eq!(reason.parse::<Reason>().unwrap().to_string(), reason);
    }
}

#[test]
fn form_is_the_one_form() {
    assert!(matches!(
        refused(0, "\"shoal\":1", "\"shoal\":2"),
        KeyError::Version { found: 2 }
    ));
    assert!(matches!(
        refused(1, "\"issued\":", "\"issued\": "),
        KeyError::NotCanonical
    ));
    assert!(matches!(
        refused(1, "\"issued\":", "\"issued\":1,\"issued\":"),
        KeyError::Json(JsonError::DuplicateField { .. })
    ));
    assert!(matches!(
        refused(2, "\"issued\":", "\"extra\":[[[]]],\"issued\":"),
        KeyError::Json(JsonError::UnknownField { .. })
    ));
    assert!(matches!(
        refused(3, "\"key\":", "\"from\":null,\"key\":"),
        KeyError::NotCanonical
    ));
}

#[test]
fn every_flipped_bit_and_every_prefix_is_refused() {
    for (statement, _) in kinds() {
        let bytes = stated(statement).encode().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SignedStatement::decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(SignedStatement::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        let longer = [&bytes[..], b" "].concat();
        assert!(matches!(
            SignedStatement::decode(&longer),
            Err(KeyError::Signature { .. })
        ));
    }
    let error = SignedStatement::decode(&[0; KEY_STATEMENT_LEN_MAX + 1]).unwrap_err();
    assert!(matches!(error, KeyError::TooLong { .. }));
    assert!(matches!(
        SignedStatement::decode(&[]),
        Err(KeyError::TooShort { len: 0 })
    ));
}

#[test]
fn record_is_whole_or_refused() {
    let all: Vec<_> = kinds()
        .into_iter()
        .map(|(statement, _)| stated(statement))
        .collect();
    let bytes = encode_bundle(&all);
    assert_eq!(decode_bundle(&bytes).unwrap(), all);
    assert_eq!(decode_bundle(&encode_bundle(&[])).unwrap(), []);
    assert!(matches!(decode_bundle(b""), Err(KeyBundleError::Heading)));
    assert!(matches!(
        decode_bundle(&bytes[..bytes.len() - 1]),
        Err(KeyBundleError::Cut { number: 5 })
    ));
    let mut spoiled = bytes.clone();
    *spoiled.last_mut().unwrap() ^= 1;
    assert!(matches!(
        decode_bundle(&spoiled),
        Err(KeyBundleError::Statement { number: 5, .. })
    ));
    let long = [b"shoal keys 1\n", &[0xff, 0xff][..], &[0; 10_000]].concat();
    assert!(matches!(
        decode_bundle(&long),
        Err(KeyBundleError::Statement {
            number: 1,
            source: KeyError::TooLong { .. }
        })
    ));
    let heading = b"shoal keys 1\n".to_vec();
    let one = encode_bundle(&all[..1])[heading.len()..].to_vec();
    let many = [heading, one.repeat(KEY_STATEMENTS_MAX + 1)].concat();
    assert!(matches!(
        decode_bundle(&many),
        Err(KeyBundleError::TooMany { .. })
    ));
    assert!(matches!(
        decode_bundle(&vec![0; KEY_BUNDLE_LEN_MAX + 1]),
        Err(KeyBundleError::TooLong { .. })
    ));
}
