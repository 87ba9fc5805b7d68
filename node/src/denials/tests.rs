//! `denied.toml`: what is kept, and every way it can be wrong. And what follows from what the user and the lists say.

use super::*;
use ed25519_dalek::SigningKey;
use std::collections::HashMap;
use std::fs;

const NOW: u64 = 1_000;

fn publisher(seed: u8) -> Publisher {
    SigningKey::from_bytes(&[seed; 32]).verifying_key().into()
}

const OWN: u8 = 1;

fn repo(seed: u8, name: &str) -> RepoId {
    RepoId {
        publisher: publisher(seed),
        name: name.parse().unwrap(),
    }
}

fn denial(what: Denied, expires: Option<u64>) -> Denial {
    Denial {
        what,
        reason: "spam".to_owned(),
        since: 7,
        expires,
    }
}

fn list(of: &RepoId, seq: u64, entries: &[Denial]) -> List {
    List {
        repo: of.clone(),
        seq,
        issued: seq,
        entries: entries.to_vec(),
    }
}

/// What is denied by names alone.
fn rules(denials: &Denials) -> Rules {
    Rules::new(denials.base())
}

#[test]
fn denials_exceptions_and_lists_are_there_after_reopening() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    let (what, other) = (Denied::Repo(repo(2, "model")), Denied::Blob(Hash::of(b"x")));
    let said = Denial {
        reason: r#"it says "C:\x" – ü"#.to_owned(),
        ..denial(what.clone(), Some(9_000_000_000))
    };
    assert!(denials.deny(said.clone()).unwrap());
    assert!(!denials.deny(said.clone()).unwrap(), "it was denied like this");
    denials.deny(denial(other.clone(), None)).unwrap();
    assert!(denials.subscribe(&repo(3, "denylist"), 8).unwrap());
    assert!(!denials.subscribe(&repo(3, "denylist"), 9).unwrap());

    let again = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    let why = again.repo(&repo(2, "model")).unwrap();
    assert_eq!((why.reason, why.since), (said.reason.clone(), 7));
    assert_eq!(again.file(Hash::of(b"x")).unwrap().by, None);
    assert_eq!(again.lists()[0].since, 8);

    // A new reason for the same thing; since when it is denied stays.
    again
        .deny(Denial {
            since: 99,
            ..denial(what.clone(), None)
        })
        .unwrap();
    assert_eq!(rules(&again).repo(&repo(2, "model"), NOW).unwrap().since, 7);
    let allowed = again.allow(&what, NOW).unwrap();
    assert_eq!((allowed.lifted, allowed.despite), (true, None));
    let allowed = again.allow(&what, NOW).unwrap();
    assert_eq!((allowed.lifted, allowed.despite), (false, None));
    assert!(again.unsubscribe(&repo(3, "denylist")).unwrap());
    assert!(!again.unsubscribe(&repo(3, "denylist")).unwrap());
    let last = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    assert_eq!(last.view(true, NOW).denials.len(), 1);
    assert!(last.lists().is_empty() && last.file(Hash::of(b"x")).is_some());
}

#[test]
fn edits_by_hand_are_noticed_and_mistakes_in_them_change_nothing() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    assert!(!denials.reread(), "there is no file");
    let path = data.path().join("denied.toml");
    let by_hand = format!("# mine\n[[deny]]\nwhat = 'publisher:{}'\n", publisher(2));
    fs::write(&path, &by_hand).unwrap();
    assert!(denials.reread());
    assert!(!denials.reread(), "nobody edited it since");
    let why = rules(&denials).repo(&repo(2, "any"), NOW).unwrap();
    assert_eq!((why.reason.as_str(), why.expires), (NO_REASON, None));
    // One that is written, and says what it said, changes nothing.
    fs::write(&path, by_hand.replace("mine", "still mine")).unwrap();
    assert!(!denials.reread());
    fs::write(&path, "[[deny").unwrap();
    assert!(!denials.reread());
    assert!(
        rules(&denials).repo(&repo(2, "any"), NOW).is_some(),
        "it is obeyed on"
    );
    let wrong = denials.view(false, NOW).wrong.unwrap();
    assert!(wrong.contains("denied.toml, line 1"), "{wrong}");
    let refused = denials.deny(denial(Denied::Blob(Hash::EMPTY), None));
    assert!(matches!(refused, Err(DenialsError::Malformed { line: 1, .. })));
    assert_eq!(fs::read(&path).unwrap(), b"[[deny");
    fs::remove_file(&path).unwrap();
    assert!(denials.reread(), "who removes the file allows everything");
    assert!(denials.view(false, NOW).wrong.is_none() && rules(&denials).is_empty());
}

#[test]
fn bad_files_are_refused_with_their_line() {
    let good = format!("[[deny]]\nwhat = \"publisher:{}\"\n", publisher(2));
    let deny = |rest: &str| format!("{good}[[deny]]\n{rest}\n");
    let blob = format!("blob:{}", Hash::EMPTY);
    let list = format!("[[list]]\nrepo = \"{}\"\n", repo(2, "denylist"));
    let table = [
        ("no toml", deny("what = = 3"), 4, ""),
        (
            "unknown key",
            deny(&format!("what = '{blob}'\ncolour = 1")),
            5,
            "colour",
        ),
        ("unknown table", format!("{good}[forbid]\n"), 3, "forbid"),
        ("nothing named", deny("reason = 'x'"), 3, "what"),
        ("no such kind", deny("what = 'song:x'"), 4, "song"),
        ("no hash", deny("what = 'blob:12'"), 4, "wrong hash"),
        (
            "empty reason",
            deny(&format!("what = '{blob}'\nreason = ''")),
            4,
            "reason of 0 bytes",
        ),
        (
            "two lines",
            deny(&format!("what = '{blob}'\nreason = \"a\\nb\"")),
            4,
            "control character",
        ),
        (
            "long reason",
            deny(&format!("what = '{blob}'\nreason = '{}'", "x".repeat(201))),
            4,
            "201 bytes",
        ),
        (
            "ends first",
            deny(&format!("what = '{blob}'\nsince = 9\nexpires = 9")),
            4,
            "expires is 9",
        ),
        ("negative", deny(&format!("what = '{blob}'\nexpires = -9")), 5, ""),
        ("twice", deny(&good[9..]), 4, "twice"),
        (
            "denied and allowed",
            format!("{good}[[allow]]\n{}", &good[9..]),
            4,
            "both denied and allowed",
        ),
        ("no list", format!("{good}[[list]]\nrepo = 'meta/llama'\n"), 4, ""),
        ("list twice", format!("{list}{list}"), 4, "twice"),
    ];
    for (case, text, line, word) in table {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("denied.toml"), &text).unwrap();
        match Denials::open(data.path(), BTreeSet::from([publisher(OWN)])) {
            Err(DenialsError::Malformed { line: at, why, .. }) => {
                assert_eq!(at, line, "{case}: {why}\n{text}");
                assert!(why.contains(word), "{case}: {why}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("denied.toml");
    fs::write(&path, vec![b'#'; DENIED_LEN_MAX as usize + 1]).unwrap();
    let opened = Denials::open(data.path(), BTreeSet::from([publisher(OWN)]));
    assert!(matches!(opened, Err(DenialsError::TooLong { .. })));
    fs::write(&path, b"# \xff").unwrap();
    let opened = Denials::open(data.path(), BTreeSet::from([publisher(OWN)]));
    assert!(matches!(opened, Err(DenialsError::Malformed { line: 1, .. })));
    let many: String = (0..=DENIED_MAX)
        .map(|n| format!("[[deny]]\nwhat = 'blob:{}'\n", Hash::of(&n.to_le_bytes())))
        .collect();
    fs::write(&path, many).unwrap();
    let opened = Denials::open(data.path(), BTreeSet::from([publisher(OWN)]));
    assert!(matches!(opened, Err(DenialsError::Malformed { why, .. }) if why.contains("more than")));
}

#[test]
fn reason_that_is_none_is_refused_before_anything_is_written() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    for reason in ["", "a\nb", "\u{202e}x"] {
        let refused = denials.deny(Denial {
            reason: reason.to_owned(),
            ..denial(Denied::Blob(Hash::EMPTY), None)
        });
        assert!(matches!(refused, Err(DenialsError::Unfit { .. })), "{reason:?}");
    }
    assert!(!data.path().join("denied.toml").exists());
}

#[test]
fn denial_ends_by_the_clock_alone() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    let model = repo(2, "model");
    denials
        .deny(denial(Denied::Repo(model.clone()), Some(NOW)))
        .unwrap();
    denials
        .deny(denial(Denied::Publisher(publisher(2)), Some(NOW + 5)))
        .unwrap();
    let rules = rules(&denials);
    assert_eq!(rules.repo(&model, NOW - 1).unwrap().expires, Some(NOW));
    let publisher = rules.repo(&model, NOW).unwrap();
    assert_eq!(
        publisher.expires,
        Some(NOW + 5),
        "its publisher is denied for longer"
    );
    assert_eq!(rules.repo(&model, NOW + 5), None);
    let base = rules.base();
    assert_eq!(
        (base.next(7), base.next(NOW), base.next(NOW + 5)),
        (Some(NOW), Some(NOW + 5), None)
    );
    let states: Vec<_> = denials
        .view(false, NOW)
        .denials
        .iter()
        .map(|denial| denial.state)
        .collect();
    assert_eq!(states, [DenialState::Ended, DenialState::InForce]);
}

#[test]
fn what_the_user_allows_goes_before_lists_and_before_what_it_belongs_to() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    let (by, model, other) = (repo(3, "denylist"), repo(2, "model"), repo(2, "other"));
    denials.subscribe(&by, 1).unwrap();
    let entries = [denial(Denied::Repo(model.clone()), None)];
    assert!(denials.put_list(&by, Some(list(&by, 1, &entries)), None));
    denials
        .deny(denial(Denied::Publisher(publisher(2)), None))
        .unwrap();
    denials.put(rules(&denials));
    assert_eq!(denials.repo(&model).unwrap().by, Some(by.clone()));
    assert_eq!(denials.repo(&other).unwrap().by, None);

    let allowed = denials.allow(&Denied::Repo(model.clone()), NOW).unwrap();
    assert_eq!((allowed.lifted, allowed.despite.unwrap().by), (false, Some(by)));
    denials.put(rules(&denials));
    assert_eq!(denials.repo(&model), None);
    assert!(denials.repo(&other).is_some(), "its publisher is denied on");
    assert_eq!(denials.view(true, NOW).allowed.len(), 1);
    let again = denials.allow(&Denied::Repo(model.clone()), NOW).unwrap();
    assert_eq!((again.lifted, again.despite), (false, None));
    // Denying it takes the exception back.
    denials.deny(denial(Denied::Repo(model.clone()), None)).unwrap();
    denials.put(rules(&denials));
    assert!(denials.repo(&model).is_some() && denials.view(true, NOW).allowed.is_empty());
    // And allowing it again leaves nothing that denies it: the list and the publisher were not forgotten.
    let allowed = denials.allow(&Denied::Repo(model.clone()), NOW).unwrap();
    assert!(allowed.lifted && allowed.despite.is_some());
    assert_eq!(rules(&denials).repo(&model, NOW), None);
}

#[test]
fn lists_do_not_withhold_what_is_the_users_own_and_this_is_said() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    let (by, second) = (repo(3, "denylist"), repo(4, "denylist"));
    denials.subscribe(&by, 1).unwrap();
    denials.subscribe(&second, 1).unwrap();
    let entries = [
        denial(Denied::Publisher(publisher(OWN)), None),
        denial(Denied::Repo(repo(OWN, "mine")), None),
        denial(Denied::Publisher(publisher(4)), None),
        denial(Denied::Blob(Hash::of(b"x")), None),
    ];
    denials.put_list(&by, Some(list(&by, 1, &entries)), None);
    denials.put(rules(&denials));
    assert_eq!(denials.repo(&repo(OWN, "mine")), None);
    assert_eq!(denials.publisher(publisher(OWN)), None);
    assert_eq!(denials.repo(&second), None, "the user follows this list");
    assert!(denials.repo(&repo(4, "model")).is_some() && denials.file(Hash::of(b"x")).is_some());
    let view = denials.view(false, NOW);
    assert_eq!(
        (
            view.lists[0].entries,
            view.lists[0].in_force,
            view.lists[0].spared
        ),
        (4, 2, 2)
    );
    assert!(
        view.denials
            .iter()
            .all(|denial| denial.state == DenialState::Spared)
    );
    assert_eq!(view.denials.len(), 2);
    assert_eq!(denials.view(true, NOW).denials.len(), 4);
    // What the user says of their own counts.
    denials
        .deny(denial(Denied::Repo(repo(OWN, "mine")), None))
        .unwrap();
    assert!(rules(&denials).repo(&repo(OWN, "mine"), NOW).is_some());
    // The user's keys may become more.
    denials.put_list(
        &by,
        Some(list(&by, 2, &[denial(Denied::Publisher(publisher(5)), None)])),
        None,
    );
    assert!(rules(&denials).repo(&repo(5, "next"), NOW).is_some());
    denials.set_own([OWN, 5].map(publisher).into());
    assert_eq!(rules(&denials).repo(&repo(5, "next"), NOW), None);
}

#[test]
fn of_two_lists_the_one_that_denies_longer_counts_and_older_releases_do_not_come_back() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    let (one, other) = (repo(3, "denylist"), repo(4, "denylist"));
    denials.subscribe(&one, 1).unwrap();
    denials.subscribe(&other, 1).unwrap();
    let model = repo(2, "model");
    let until = |end| [denial(Denied::Repo(model.clone()), Some(end))];
    denials.put_list(&one, Some(list(&one, 3, &until(NOW + 9))), None);
    denials.put_list(&other, Some(list(&other, 1, &until(NOW + 5))), None);
    assert_eq!(rules(&denials).repo(&model, NOW).unwrap().by, Some(one.clone()));
    assert!(
        !denials.put_list(&one, Some(list(&one, 2, &[])), None),
        "it is older"
    );
    assert!(!denials.put_list(&one, None, Some("release 4 is not obeyed: nonsense".to_owned())));
    assert_eq!(denials.list_in_force(&one), Some((3, false)));
    assert!(denials.is_troubled(&one) && !denials.is_troubled(&other));
    assert!(rules(&denials).repo(&model, NOW + 8).is_some());
    assert!(denials.put_list(&one, Some(list(&one, 5, &[])), None));
    assert_eq!(rules(&denials).repo(&model, NOW).unwrap().by, Some(other.clone()));
    denials.unsubscribe(&other).unwrap();
    assert_eq!(rules(&denials).repo(&model, NOW), None);
    assert_eq!(denials.list_in_force(&other), None, "it is forgotten");
}

#[test]
fn blob_is_withheld_with_its_manifest_and_as_the_encoding_of_one() {
    let data = tempfile::tempdir().unwrap();
    let denials = Denials::open(data.path(), BTreeSet::from([publisher(OWN)])).unwrap();
    denials
        .deny(denial(Denied::Repo(repo(2, "model")), Some(NOW + 1)))
        .unwrap();
    let base = denials.base();
    let why = Why::new(&denial(Denied::Repo(repo(2, "model")), Some(NOW + 1)), None);
    let (manifest, blob, other) = (Hash::of(b"m"), Hash::of(b"b"), Hash::of(b"o"));
    let reach = Reach {
        manifests: HashMap::from([(manifest, why.clone())]),
        ..Reach::default()
    };
    let blobs = Blobs::new(HashMap::from([(blob, 0)]), vec![why], Default::default());
    let rules = Rules::with(base, Arc::new(reach), Arc::new(blobs));
    for hash in [manifest, blob] {
        assert!(rules.blob(hash, NOW).is_some());
        assert_eq!(rules.blob(hash, NOW + 1), None, "its time is over");
    }
    assert_eq!(
        (rules.blob(other, NOW), rules.explicit(Key::Blob(blob), NOW)),
        (None, None)
    );
}

#[test]
fn things_are_named_as_people_name_them() {
    let hash = "ab".repeat(32);
    let key = publisher(2);
    let table = [
        ("meta/llama".to_owned(), "meta/llama".to_owned()),
        (format!("{key}/llama"), format!("{key}/llama")),
        (format!("repo:{key}/llama"), format!("{key}/llama")),
        (format!("blake3/{hash}"), format!("blake3/{hash}")),
        (format!("manifest:{hash}"), format!("blake3/{hash}")),
        (format!("blob:{hash}"), format!("blob:{hash}")),
        (format!("publisher:{key}"), format!("publisher:{key}")),
        ("publisher:meta".to_owned(), "publisher:meta".to_owned()),
    ];
    for (text, shown) in table {
        assert_eq!(text.parse::<What>().unwrap().to_string(), shown, "{text}");
    }
    for text in [
        "",
        "llama",
        "blob:12",
        "song:x",
        "publisher:",
        "repo:meta/llama",
        "blob:",
        "a/b/c",
    ] {
        assert!(text.parse::<What>().is_err(), "{text}");
    }
}
