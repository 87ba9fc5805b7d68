//! The ratchet over restarts, forks, damage and races.

use std::fs;
use std::thread;

use ed25519_dalek::SigningKey;
use protocol::{Kind, Publisher, Release, RepoName};

use super::*;

const NOW: u64 = 1_800_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn release(name: &str, seq: u64, content: u8) -> SignedRelease {
    let release = Release {
        publisher: key(1).verifying_key().into(),
        name: RepoName::new(name).unwrap(),
        kind: Kind::Model,
        manifest: Hash::of(&[content]),
        seq,
        prev: None,
        issued: NOW - 100,
        expires: NOW + 1_000,
        upstream: None,
        card: None,
    };
    SignedRelease::sign(release, &key(1)).unwrap()
}

fn repo(name: &str) -> RepoId {
    release(name, 1, 0).release().repo()
}

fn file(data: &Path, name: &str) -> PathBuf {
    let publisher: Publisher = key(1).verifying_key().into();
    data.join("releases").join(publisher.to_string()).join(name)
}

#[test]
fn accepted_release_is_followed_after_reopening_and_an_older_one_refused() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    assert_eq!(names.get(&repo("a")).unwrap(), None);
    assert_eq!(names.accept(&release("a", 3, 1), NOW).unwrap(), Accepted::New);
    assert_eq!(names.accept(&release("a", 3, 1), NOW).unwrap(), Accepted::Same);
    assert_eq!(names.accept(&release("a", 5, 2), NOW).unwrap(), Accepted::New);

    let names = Names::open(data.path()).unwrap();
    let older = names.accept(&release("a", 4, 9), NOW);
    assert!(matches!(
        older,
        Err(NamesError::Older {
            have: 5,
            offered: 4,
            ..
        })
    ));
    let replayed = names.accept(&release("a", 3, 1), NOW);
    assert!(matches!(
        replayed,
        Err(NamesError::Older {
            have: 5,
            offered: 3,
            ..
        })
    ));
    assert_eq!(names.get(&repo("a")).unwrap(), Some(release("a", 5, 2)));
    let history = names.history(&repo("a")).unwrap();
    assert_eq!(history, [release("a", 5, 2), release("a", 3, 1)]);
}

#[test]
fn jumps_and_releases_from_the_future_are_refused_and_leave_no_file() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    let jump = names.accept(&release("a", 1 << 40, 1), NOW);
    assert!(matches!(jump, Err(NamesError::JumpTooLarge { .. })));
    let early = names.accept(&release("a", 1, 1), NOW - 10_000);
    assert!(matches!(early, Err(NamesError::NotYetIssued { .. })));
    assert_eq!(names.all().unwrap().count(), 0);
}

#[test]
fn fork_is_kept_as_evidence_and_not_followed() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    names.accept(&release("a", 3, 1), NOW).unwrap();
    names.accept(&release("a", 4, 1), NOW).unwrap();
    for content in 10..16 {
        let fork = names.accept(&release("a", 4, content), NOW);
        let Err(NamesError::Fork { seq: 4, evidence, .. }) = fork else {
            panic!("{fork:?}")
        };
        assert_eq!(evidence.is_some(), content < 14);
    }
    // The same one again is told again, and kept once.
    let again = names.accept(&release("a", 4, 10), NOW);
    assert!(matches!(
        again,
        Err(NamesError::Fork {
            evidence: Some(_),
            ..
        })
    ));

    let names = Names::open(data.path()).unwrap();
    assert_eq!(names.get(&repo("a")).unwrap(), Some(release("a", 4, 1)));
    let forks = names.forks(&repo("a")).unwrap();
    assert_eq!(forks.len(), FORKS_KEPT_MAX);
    assert!(forks.contains(&release("a", 4, 10)));
    assert_eq!(names.all().unwrap().count(), 1);

    // So is a fork of a number that is not the current one any more.
    let late = names.accept(&release("a", 3, 20), NOW);
    assert!(matches!(late, Err(NamesError::Fork { seq: 3, .. })));
    // A higher number goes on.
    assert_eq!(names.accept(&release("a", 5, 1), NOW).unwrap(), Accepted::New);
}

#[test]
fn concurrent_accepts_keep_the_highest() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    thread::scope(|scope| {
        for start in 1..=8 {
            let names = names.clone();
            scope.spawn(move || {
                for step in 0..8 {
                    let seq = (start * 7 + step * 11) % 64 + 1;
                    match names.accept(&release("a", seq, 1), NOW) {
                        Ok(_) | Err(NamesError::Older { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    let followed = names.get(&repo("a")).unwrap().unwrap();
                    assert!(followed.release().seq >= seq);
                }
            });
        }
    });
    let highest = (1..=8).flat_map(|start| (0..8).map(move |step| (start * 7 + step * 11) % 64 + 1));
    let followed = names.get(&repo("a")).unwrap().unwrap();
    assert_eq!(followed.release().seq, highest.max().unwrap());
}

#[test]
fn history_keeps_the_last_ones() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    let newest = HISTORY_KEPT_MAX as u64 + 4;
    for seq in 1..=newest {
        names.accept(&release("a", seq, seq as u8), NOW).unwrap();
    }
    let history = names.history(&repo("a")).unwrap();
    let seqs: Vec<_> = history.iter().map(|kept| kept.release().seq).collect();
    assert_eq!(seqs, (5..=newest).rev().collect::<Vec<_>>());
}

#[test]
fn names_with_dots_and_digits_do_not_share_files() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    for name in ["llama", "llama.3", "llama.release", "llama.3.release"] {
        names.accept(&release(name, 3, 1), NOW).unwrap();
    }
    assert_eq!(names.all().unwrap().filter_map(Result::ok).count(), 4);
    assert_eq!(names.history(&repo("llama")).unwrap().len(), 1);
}

#[test]
fn damaged_current_release_does_not_set_the_ratchet_back() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    names.accept(&release("a", 3, 1), NOW).unwrap();
    names.accept(&release("a", 5, 2), NOW).unwrap();
    let current = file(data.path(), "a.release");
    let whole = fs::read(&current).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let other = release("b", 9, 1).encode();
    for damage in [flipped, whole[..70].to_vec(), vec![], other] {
        fs::write(&current, damage).unwrap();
        assert_eq!(names.get(&repo("a")).unwrap(), Some(release("a", 5, 2)));
        let older = names.accept(&release("a", 4, 9), NOW);
        assert!(matches!(older, Err(NamesError::Older { have: 5, .. })));
    }
    fs::remove_file(&current).unwrap();
    assert_eq!(names.get(&repo("a")).unwrap(), Some(release("a", 5, 2)));
    assert_eq!(names.accept(&release("a", 6, 3), NOW).unwrap(), Accepted::New);
    assert_eq!(fs::read(&current).unwrap(), release("a", 6, 3).encode());
}

#[test]
fn repo_without_a_readable_file_is_reported_and_others_go_on() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    for name in ["a", "b", "c"] {
        names.accept(&release(name, 1, 1), NOW).unwrap();
    }
    for name in ["b.release", "b@1.release"] {
        fs::write(file(data.path(), name), b"rubbish").unwrap();
    }
    fs::write(file(data.path(), "not a name.release"), b"rubbish").unwrap();
    fs::create_dir(data.path().join("releases/not-a-publisher")).unwrap();
    let damaged = names.get(&repo("b"));
    assert!(matches!(damaged, Err(NamesError::Damaged { .. })));
    let refused = names.accept(&release("b", 2, 1), NOW);
    assert!(matches!(refused, Err(NamesError::Damaged { .. })));
    let all: Vec<_> = names.all().unwrap().collect();
    assert_eq!(all.len(), 3);
    assert_eq!(all.iter().filter(|read| read.is_err()).count(), 1);
}

#[test]
fn what_a_crash_left_half_written_is_swept() {
    let data = tempfile::tempdir().unwrap();
    let names = Names::open(data.path()).unwrap();
    names.accept(&release("a", 1, 1), NOW).unwrap();
    let litter = file(data.path(), ".unfinished-abc");
    fs::write(&litter, b"half").unwrap();
    let names = Names::open(data.path()).unwrap();
    assert!(!litter.exists());
    assert_eq!(names.all().unwrap().count(), 1);
}
