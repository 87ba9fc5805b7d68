use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn some() -> Probes {
    let embed = Probe::Embed(Embed {
        text: Some("a".to_owned()),
        ids: vec![101, 1037, 102],
        expect: vec![0.5, -0.25],
        tol_abs: 1e-4,
    });
    let logits = Probe::Logits(Logits {
        text: None,
        ids: vec![504, 3575],
        top: vec![(7042, 17.03125), (260, 14.125)],
        lse: 21.3,
        tol_abs: 1e-2,
    });
    let greedy = Probe::Greedy(Greedy {
        text: None,
        ids: vec![504],
        n: 2,
        tokens: vec![1, 2],
        margins: vec![0.25, 0.0],
        tie: 2e-3,
    });
    let nll = Probe::Nll(Nll {
        text: Some("abc".to_owned()),
        text_hash: Some(Hash::of(b"abc")),
        ids: vec![1, 2, 3],
        sum_nll: 3.5,
        n: 2,
        tol_per_token: 1e-3,
    });
    let probes = vec![embed, logits, greedy, nll];
    Probes::new(Some(Hash::of(b"w")), None, "a test", probes).unwrap()
}

fn value() -> Value {
    serde_json::from_slice(&some().encode()).unwrap()
}

/// Changes a sound file, and returns why it is refused then.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut value = value();
    change(&mut value);
    let bytes = serde_json::to_vec(&value).unwrap();
    Probes::decode(&bytes).unwrap_err().to_string()
}

#[test]
fn file_returns_and_has_a_line_for_each_probe() {
    let bytes = some().encode();
    assert_eq!(Probes::decode(&bytes).unwrap(), some());
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 6);
}

#[test]
fn file_as_others_write_it_is_read() {
    let expect = BASE64.encode(&[1.0_f32.to_le_bytes(), 0.5_f32.to_le_bytes()].concat());
    let file = json!({"schema": "probes/1", "runtime": "f32", "made_with": "torch 2.15", "probes": [
        {"kind": "embed", "ids": [101, 102], "expect": expect},
        {"kind": "greedy", "ids": [1], "n": 1, "tokens": [2], "margins": [0.1], "tie": 0.002},
    ]});
    let probes = Probes::decode(file.to_string().as_bytes()).unwrap();
    let Probe::Embed(embed) = &probes.probes[0] else {
        panic!("{probes:?}");
    };
    assert_eq!((embed.expect.as_slice(), embed.tol_abs), (&[1.0, 0.5][..], 1e-4));
}

#[test]
fn what_this_build_does_not_compare_is_nobodys_fault() {
    for (field, word) in [("schema", "probes/2"), ("runtime", "bf16")] {
        let mut value = value();
        value[field] = json!(word);
        value["later"] = json!(1);
        let error = Probes::decode(value.to_string().as_bytes()).unwrap_err();
        assert!(matches!(&error, ProbesError::Unsupported(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn every_rule_is_broken_once() {
    let floats = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        json!(BASE64.encode(&bytes))
    };
    let table: Vec<(&str, Value, &str)> = vec![
        ("/probes", json!([]), "0 probes"),
        (
            "/probes",
            Value::Array(vec![value()["probes"][2].clone(); 65]),
            "65 probes",
        ),
        ("/probes/0/ids", json!([]), "ids"),
        ("/probes/0/ids", json!(vec![1; 2049]), "ids"),
        ("/probes/0/ids", json!([-1]), "invalid"),
        ("/probes/0/ids", json!([4_294_967_296_u64]), "invalid"),
        ("/probes/0/text", json!("a".repeat(16_385)), "too long"),
        ("/probes/0/expect", json!("*"), "invalid"),
        ("/probes/0/expect", json!("AAAA"), "four bytes"),
        ("/probes/0/expect", json!(""), "elements"),
        ("/probes/0/expect", floats(&[1.0; 16_385]), "elements"),
        ("/probes/0/expect", floats(&[1.0, f32::NAN]), "no number"),
        ("/probes/0/expect", floats(&[f32::INFINITY]), "no number"),
        ("/probes/0/tol_abs", json!(1.1e-4), "tolerance"),
        ("/probes/0/tol_abs", json!(0.0), "tolerance"),
        ("/probes/0/tol_abs", json!(-1.0), "tolerance"),
        ("/probes/0/tol_abs", Value::Null, "invalid"),
        ("/probes/1/top", json!([]), "logits"),
        ("/probes/1/top", json!(vec![(1, 1.0); 65]), "logits"),
        ("/probes/1/top", json!([[1, 1e300]]), "no number"),
        ("/probes/1/top", json!([[1]]), "invalid length"),
        ("/probes/1/tol_abs", json!(0.011), "tolerance"),
        ("/probes/2/tokens", json!([]), "continuation"),
        ("/probes/2/tokens", json!([1]), "another n"),
        ("/probes/2/tokens", json!(vec![1; 257]), "continuation"),
        ("/probes/2/n", json!(3), "another n"),
        ("/probes/2/margins", json!([0.25]), "another n"),
        ("/probes/2/margins", json!([0.25, -0.1]), "margin"),
        ("/probes/2/tie", json!(0.06), "tie"),
        ("/probes/2/tie", json!(-0.1), "tie"),
        ("/probes/3/n", json!(3), "another n"),
        ("/probes/3/ids", json!([1]), "another n"),
        ("/probes/3/text", json!("abd"), "its hash"),
        ("/probes/3/sum_nll", json!(-1.0), "likelihood"),
        ("/probes/3/tol_per_token", json!(0.0011), "tolerance"),
        ("/probes/3/kind", json!("exec"), "unknown variant"),
        ("/probes/3/kind", json!("embed"), "unknown field"),
        ("/model", json!("00"), "digest"),
        ("/made_with", json!(1), "invalid"),
    ];
    for (place, new, word) in table {
        let shown = new.to_string();
        let error = refused(|value| *value.pointer_mut(place).unwrap() = new);
        let short: String = shown.chars().take(60).collect();
        assert!(error.contains(word), "{place} {short}: {error}");
    }
    assert!(refused(|value| value["extra"] = json!(1)).contains("unknown field"));
    assert!(refused(|value| value["probes"][1]["extra"] = json!(1)).contains("unknown field"));
    let long = refused(|value| {
        let probe = value["probes"][2].clone();
        let many = vec![1; 2048];
        let mut one = probe.clone();
        one["ids"] = json!(many);
        value["probes"] = Value::Array(vec![one; 9]);
    });
    assert!(long.contains("more than 16384"), "{long}");
}

#[test]
fn file_that_is_no_json_or_too_long_is_refused() {
    for bytes in [
        &b""[..],
        b"{",
        b"[]",
        b"{\"schema\":\"probes/1\"}",
        b"\xff",
        &[b'['; 100_000],
    ] {
        assert!(matches!(Probes::decode(bytes), Err(ProbesError::Wrong(_))));
    }
    let long = vec![b' '; LEN_MAX as usize + 1];
    assert!(
        Probes::decode(&long)
            .unwrap_err()
            .to_string()
            .contains("more than")
    );
    let twice = String::from_utf8(some().encode())
        .unwrap()
        .replacen("{", "{\"runtime\":\"f32\",", 1);
    assert!(Probes::decode(twice.as_bytes()).is_err());
    // What is written as a number and is too large for one.
    let huge = String::from_utf8(some().encode())
        .unwrap()
        .replace("21.3", "1e999");
    assert!(Probes::decode(huge.as_bytes()).is_err());
}

#[test]
fn weights_are_named_by_all_their_files() {
    let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
    assert_eq!((weights_id(&[]), weights_id(&[a])), (None, Some(a)));
    assert_ne!(weights_id(&[a, b]), weights_id(&[b, a]));
    let spelled = [&b"shoal weights 1"[..], a.as_bytes(), b.as_bytes()].concat();
    assert_eq!(weights_id(&[a, b]), Some(Hash::of(&spelled)));
    let mut probes = some();
    (probes.model, probes.tokenizer) = (weights_id(&[a, b]), Some(a));
    assert_eq!(probes.fits(&[a, b], Some(a)), Ok(()));
    assert!(probes.fits(&[a], Some(a)).is_err() && probes.fits(&[a, b], Some(b)).is_err());
    assert!(probes.fits(&[a, b], None).is_err());
    (probes.model, probes.tokenizer) = (None, None);
    assert_eq!(probes.fits(&[], None), Ok(()));
}

proptest! {
    #[test]
    fn arbitrary_and_changed_bytes_panic_no_reader(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>(),
    ) {
        let _ = Probes::decode(&bytes);
        let mut changed = some().encode();
        let len = changed.len();
        changed[at % len] = byte;
        let _ = Probes::decode(&changed);
        changed.truncate(cut % len);
        prop_assert!(Probes::decode(&changed).is_err());
    }
}
