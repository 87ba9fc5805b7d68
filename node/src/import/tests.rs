use super::*;
use ed25519_dalek::SigningKey;
use protocol::{Kind, Publisher};

fn cached(kind: Kind, id: &str) -> CachedRepo {
    let (owner, name) = match id.split_once('/') {
        Some((owner, name)) => (Some(owner.to_owned()), name),
        None => (None, id),
    };
    CachedRepo {
        folder: PathBuf::from("/c"),
        kind,
        owner,
        name: name.to_owned(),
    }
}

fn released(name: &str, kind: Kind, upstream: Option<&str>) -> Release {
    Release {
        publisher: Publisher::from(SigningKey::from_bytes(&[7; 32]).verifying_key()),
        name: name.parse().unwrap(),
        kind,
        manifest: Hash::EMPTY,
        seq: 1,
        prev: None,
        issued: 1,
        expires: 2,
        upstream: upstream.map(|repo| Upstream {
            commit: "a".repeat(40),
            hub: HUB.to_owned(),
            repo: repo.to_owned(),
        }),
        card: None,
    }
}

fn chosen(repos: &[(Kind, &str)], ours: &[Release]) -> Vec<String> {
    let repos: Vec<CachedRepo> = repos.iter().map(|(kind, id)| cached(*kind, id)).collect();
    let names = names_of(&repos, ours).into_iter();
    names
        .map(|name| name.map_or_else(|| "-".to_owned(), |name| name.to_string()))
        .collect()
}

#[test]
fn names_are_the_upstreams_and_keep_the_owner_where_two_collide() {
    use Kind::{Dataset, Model};
    assert_eq!(
        chosen(&[(Model, "gpt2"), (Model, "a/x"), (Dataset, "b/y")], &[]),
        ["gpt2", "x", "y"]
    );
    assert_eq!(chosen(&[(Model, "a/x"), (Model, "b/x")], &[]), ["a-x", "b-x"]);
    assert_eq!(
        chosen(&[(Model, "a/x"), (Dataset, "a/x")], &[]),
        ["a-x", "a-x-dataset"]
    );
    assert_eq!(
        chosen(&[(Model, "gpt2"), (Model, "a/gpt2")], &[]),
        ["gpt2", "a-gpt2"]
    );
    assert_eq!(chosen(&[(Model, "a/x..y__-")], &[]), ["x.y__"]);
    assert_eq!(chosen(&[(Model, "a/---")], &[]), ["a"]);
}

#[test]
fn names_stay_what_they_were_and_take_nobody_elses() {
    use Kind::{Dataset, Model};
    // Imported before under another name: it stays, whoever comes now.
    let before = [released("mine", Model, Some("a/x"))];
    assert_eq!(
        chosen(&[(Model, "a/x"), (Model, "b/x")], &before),
        ["mine", "b-x"]
    );
    // What the user published of their own, and what is a copy of something else, is not written over.
    for taken in [None, Some("c/x")] {
        assert_eq!(chosen(&[(Model, "a/x")], &[released("x", Model, taken)]), ["a-x"]);
    }
    let all = ["x", "a-x", "a-x-model"].map(|name| released(name, Dataset, None));
    assert_eq!(chosen(&[(Model, "a/x")], &all), ["-"]);
}

#[test]
fn bytes_are_held_against_the_names_of_their_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("blob");
    std::fs::write(&place, b"hello\n").unwrap();
    // `git hash-object` and `sha256sum` of "hello\n".
    let git = "ce013625030ba8dba906f756967f9e9ca394464a";
    let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    let entry = FileEntry {
        path: "f".parse().unwrap(),
        size: 6,
        blake3: Hash::of(b"hello\n"),
        sha256: Some(sha.parse().unwrap()),
        sha1: None,
    };
    let wrong = "0".repeat(40);
    let table = [
        (Claim::Sha256(sha.parse().unwrap()), 1),
        (Claim::Sha256("0".repeat(64).parse().unwrap()), 0),
        (Claim::Git(git.parse().unwrap()), 1),
        (Claim::Git(wrong.parse().unwrap()), 0),
    ];
    for (claim, right) in table {
        for sha1 in [None, Some(git.parse().unwrap())] {
            let entry = FileEntry {
                sha1,
                ..entry.clone()
            };
            let claims = HashMap::from([(entry.path.clone(), ("name".to_owned(), claim))]);
            let (verified, damaged) = judge(&[entry], std::slice::from_ref(&place), &claims);
            assert_eq!(
                (verified, damaged.len()),
                (right, 1 - right as usize),
                "{claim:?}"
            );
            assert!(
                damaged
                    .iter()
                    .all(|text| text.contains("f: ") && text.contains("blobs/name"))
            );
        }
    }
}
