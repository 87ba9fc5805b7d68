//! `following.toml`: what is kept, and every way it can be wrong.

use super::*;
use ed25519_dalek::SigningKey;
use std::fs;

fn publisher(seed: u8) -> Publisher {
    SigningKey::from_bytes(&[seed; 32]).verifying_key().into()
}

fn alias(text: &str) -> Alias {
    Alias::new(text).unwrap()
}

#[test]
fn followed_publisher_is_there_after_reopening() {
    let data = tempfile::tempdir().unwrap();
    let following = Following::open(data.path()).unwrap();
    let (one, two) = (publisher(1), publisher(2));
    assert_eq!(following.follow(one, &alias("meta"), 7).unwrap(), Followed::New);
    assert_eq!(following.follow(two, &alias("qwen.2"), 8).unwrap(), Followed::New);
    assert_eq!(following.follow(one, &alias("meta"), 9).unwrap(), Followed::Same);
    let taken = following.follow(two, &alias("meta"), 9);
    assert!(matches!(taken, Err(FollowingError::AliasTaken { publisher, .. }) if publisher == one));

    let following = Following::open(data.path()).unwrap();
    assert_eq!(following.by_alias(&alias("meta")), Some(one));
    assert_eq!(following.alias_of(two), Some(alias("qwen.2")));
    assert_eq!(following.all()[0].since, 7);
    let from = alias("meta");
    let renamed = following.follow(one, &alias("llama"), 9).unwrap();
    assert_eq!(renamed, Followed::Renamed { from });
    assert_eq!(following.all()[0].since, 7);
    assert_eq!(following.by_alias(&alias("meta")), None);
    assert!(following.unfollow(two).unwrap());
    assert!(!following.unfollow(two).unwrap());
    assert_eq!(Following::open(data.path()).unwrap().all().len(), 1);
}

#[test]
fn edits_by_hand_are_kept_and_mistakes_in_them_stop_a_change() {
    let data = tempfile::tempdir().unwrap();
    let following = Following::open(data.path()).unwrap();
    let path = data.path().join("following.toml");
    let by_hand = format!("[[publisher]]\nalias = 'a'\nkey = '{}'\n", publisher(1));
    fs::write(&path, &by_hand).unwrap();
    following.follow(publisher(2), &alias("b"), 5).unwrap();
    assert_eq!(following.all().len(), 2);
    fs::write(&path, "[[publisher").unwrap();
    let refused = following.unfollow(publisher(1));
    assert!(matches!(refused, Err(FollowingError::Malformed { line: 1, .. })));
    assert_eq!(following.all().len(), 2);
    assert_eq!(fs::read(&path).unwrap(), b"[[publisher");
}

#[test]
fn bad_files_are_refused_with_their_line() {
    let (one, two) = (publisher(1), publisher(2));
    let entry = |alias: &str, key: &str| format!("[[publisher]]\nalias = \"{alias}\"\nkey = \"{key}\"\n");
    let good = entry("a", &one.to_string());
    let rest = entry("b", &two.to_string());
    let cut = &two.to_string()[1..];
    let shouted = two.to_string().to_uppercase();
    let table = [
        ("no toml", format!("{good}alias = = 3\n"), 4, ""),
        ("not closed", format!("{good}alias = \"b\n"), 4, ""),
        ("unknown key", format!("{good}colour = 1\n"), 4, "colour"),
        ("unknown table", format!("{good}[node]\n"), 4, "node"),
        ("publisher is no list", "publisher = 3\n".into(), 1, ""),
        (
            "no alias",
            format!("{good}[[publisher]]\nkey = \"{two}\"\n"),
            4,
            "alias",
        ),
        (
            "no key",
            format!("{good}[[publisher]]\nalias = \"b\"\n"),
            4,
            "key",
        ),
        (
            "alias twice",
            format!("{good}{}", entry("a", &two.to_string())),
            5,
            "twice",
        ),
        (
            "publisher twice",
            format!("{good}{}", entry("b", &one.to_string())),
            6,
            "twice",
        ),
        ("key twice", format!("{good}key = \"{two}\"\n"), 4, ""),
        (
            "alias is a number",
            format!("{good}{rest}[[publisher]]\nalias = 7\nkey = \"{two}\"\n"),
            8,
            "",
        ),
        (
            "empty alias",
            format!("{good}{}", entry("", &two.to_string())),
            5,
            "",
        ),
        (
            "alias with a slash",
            format!("{good}{}", entry("a/b", &two.to_string())),
            5,
            "'/'",
        ),
        (
            "upper-case alias",
            format!("{good}{}", entry("Meta", &two.to_string())),
            5,
            "upper-case",
        ),
        (
            "reserved alias",
            format!("{good}{}", entry("blake3", &two.to_string())),
            5,
            "blake3",
        ),
        (
            "long alias",
            format!("{good}{}", entry(&"a".repeat(40), &two.to_string())),
            5,
            "40",
        ),
        (
            "alias outside ASCII",
            format!("{good}{}", entry("mεta", &two.to_string())),
            5,
            "ε",
        ),
        ("short key", format!("{good}{}", entry("b", cut)), 6, "51"),
        (
            "upper-case key",
            format!("{good}{}", entry("b", &shouted)),
            6,
            "z-base-32",
        ),
        (
            "weak key",
            format!("{good}{}", entry("b", &"y".repeat(52))),
            6,
            "weak",
        ),
        ("quota alone", format!("{good}quota = 5\n"), 4, "without mirror"),
        (
            "empty quota",
            format!("{good}mirror = \"*\"\nquota = 0\n"),
            5,
            "nothing fits",
        ),
        (
            "negative quota",
            format!("{good}mirror = \"*\"\nquota = -1\n"),
            5,
            "",
        ),
        ("no glob", format!("{good}mirror = \"[\"\n"), 4, "pattern"),
        ("empty glob", format!("{good}mirror = \"\"\n"), 4, "pattern"),
        ("negative time", format!("{good}since = -1\n"), 4, ""),
        ("fractional time", format!("{good}since = 1.5\n"), 4, ""),
    ];
    let data = tempfile::tempdir().unwrap();
    for (case, text, wanted, word) in table {
        fs::write(data.path().join("following.toml"), &text).unwrap();
        let error = Following::open(data.path()).expect_err(case);
        let FollowingError::Malformed { line, why, .. } = error else {
            panic!("{case}: {error}")
        };
        assert_eq!(line, wanted, "{case}: {why}");
        assert!(why.contains(word), "{case}: {why}");
    }
}

#[test]
fn bytes_that_are_no_text_and_endless_files_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("following.toml");
    fs::write(&path, b"# fine\n\xff\n").unwrap();
    let error = Following::open(data.path()).expect_err("not UTF-8");
    assert!(matches!(error, FollowingError::Malformed { line: 2, .. }));
    fs::write(&path, vec![b'\n'; FOLLOWING_LEN_MAX as usize + 1]).unwrap();
    let error = Following::open(data.path()).expect_err("too long");
    assert!(matches!(error, FollowingError::TooLong { .. }));
    fs::write(&path, b"").unwrap();
    assert_eq!(Following::open(data.path()).unwrap().all(), []);
}

#[test]
fn mirror_is_kept_through_a_new_alias_and_ends_with_the_following() {
    let data = tempfile::tempdir().unwrap();
    let following = Following::open(data.path()).unwrap();
    let (one, two) = (publisher(1), publisher(2));
    following.follow(one, &alias("a"), 7).unwrap();
    let mirror = Mirror {
        names: r#"{"llama","qwen"}-[0-9]*\-x"#.parse().unwrap(),
        quota: Some(i64::MAX as u64),
    };
    following.set_mirror(one, Some(mirror.clone())).unwrap();
    let absent = following.set_mirror(two, Some(mirror.clone()));
    assert!(matches!(absent, Err(FollowingError::NotFollowed { publisher }) if publisher == two));
    following.follow(one, &alias("a"), 8).unwrap();
    following.follow(one, &alias("b"), 8).unwrap();
    let following = Following::open(data.path()).unwrap();
    assert_eq!(following.all()[0].mirror, Some(mirror));
    let without_quota = Mirror {
        names: "*".parse().unwrap(),
        quota: None,
    };
    following.set_mirror(one, Some(without_quota.clone())).unwrap();
    let reopened = Following::open(data.path()).unwrap();
    assert_eq!(reopened.all()[0].mirror, Some(without_quota));
    following.set_mirror(one, None).unwrap();
    assert_eq!(Following::open(data.path()).unwrap().all()[0].mirror, None);
    following.unfollow(one).unwrap();
    following.follow(one, &alias("a"), 9).unwrap();
    assert_eq!(following.all()[0].mirror, None);
}

#[test]
fn patterns_match_names_and_nothing_else_passes_for_one() {
    let pattern: NamePattern = "llama-*".parse().unwrap();
    let matches = |name: &str| pattern.matcher().is_match(&name.parse().unwrap());
    assert!(matches("llama-3") && matches("llama-3-x") && !matches("llama") && !matches("a-llama-3"));
    for text in ["", "[", "a\nb", "{a", &"a".repeat(PATTERN_LEN_MAX + 1)] {
        assert!(text.parse::<NamePattern>().is_err(), "{text:?}");
    }
}
