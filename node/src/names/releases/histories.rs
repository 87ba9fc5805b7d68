//! Random histories of one name: what a node follows only moves forward and never into a fork, whatever it is offered, in whatever order, by whatever
//! clock. As a pure matter very often, and through the files less often.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use protocol::limits::CLOCK_SKEW_MAX;
use protocol::{Kind, RepoName};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;

const HISTORIES: u64 = 200_000;
const HISTORIES_ON_DISK: u64 = 200;
const STEPS: usize = 12;
/// Releases that are remembered: fewer than the files keep, so that some are forgotten.
const KEPT: usize = 4;
const NOW: u64 = 1_800_000_000;
const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * 60;

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// Every release that a publisher, and a thief who has its key, signed in one history.
fn signed_by_both(rng: &mut StdRng, template: &Release) -> Vec<Release> {
    let mut seq = 0;
    let mut all = Vec::new();
    for _ in 0..rng.random_range(1..8) {
        // Mostly the next number; sometimes one already used, far off, or the very last.
        seq = match rng.random_range(0..20) {
            0 => rng.random_range(1..=seq.max(1)),
            1 => seq + (1 << 33),
            2 => protocol::limits::RELEASE_NUMBER_MAX,
            _ => seq + rng.random_range(1..3),
        };
        let issued = match rng.random_range(0..10) {
            0 => NOW + TEN_YEARS,
            1 => NOW - TEN_YEARS,
            _ => NOW + rng.random_range(0..1_000),
        };
        let seq_now = seq.min(protocol::limits::RELEASE_NUMBER_MAX);
        for _ in 0..if rng.random_bool(0.2) { 2 } else { 1 } {
            all.push(Release {
                seq: seq_now,
                issued,
                expires: issued + 1_000,
                manifest: Hash::of(&[rng.random_range(0..4)]),
                ..template.clone()
            });
        }
        seq = seq_now.min(1 << 40);
    }
    all
}

/// What happens in one step.
enum Step {
    Offer(usize),
    Clock(u64),
    Restart,
}

fn step(rng: &mut StdRng, releases: usize, reachable: usize) -> Step {
    match rng.random_range(0..10) {
        0 => Step::Restart,
        1 => Step::Clock(match rng.random_range(0..3) {
            0 => NOW - TEN_YEARS,
            1 => NOW + TEN_YEARS,
            _ => NOW,
        }),
        // Half of the network is cut off for a while: only what is on this side comes.
        _ => Step::Offer(rng.random_range(0..releases.min(reachable.max(1)))),
    }
}

/// Checks one step against what must hold; `accepted` is what was followed before.
fn check(accepted: &[Release], offered: &Release, decision: Decision, now: u64, seed: u64) {
    let highest = accepted.last();
    let twin = |old: &&Release| old.seq == offered.seq && *old != offered;
    if decision == Decision::Accept {
        assert!(
            highest.is_none_or(|old| offered.seq > old.seq),
            "seed {seed}: back to {offered:?}"
        );
        assert!(!accepted.iter().any(|old| twin(&old)), "seed {seed}: into a fork");
        assert!(
            offered.issued <= now + CLOCK_SKEW_MAX,
            "seed {seed}: from the future"
        );
        let have = highest.map_or(0, |old| old.seq);
        assert!(
            offered.seq - have <= protocol::limits::SEQ_JUMP_MAX,
            "seed {seed}: a jump"
        );
    }
    if highest.is_some_and(|old| old.seq == offered.seq && old != offered) {
        assert_eq!(decision, Decision::Fork, "seed {seed}: a fork is not told");
    }
}

fn template() -> Release {
    Release {
        publisher: signer().verifying_key().into(),
        name: RepoName::new("a").unwrap(),
        kind: Kind::Model,
        manifest: Hash::of(b""),
        seq: 1,
        prev: None,
        issued: NOW,
        expires: NOW + 1_000,
        upstream: None,
        card: None,
    }
}

#[test]
fn two_hundred_thousand_random_histories_only_move_forward_and_never_into_a_fork() {
    let template = template();
    let (mut accepts, mut forks) = (0_u64, 0_u64);
    for seed in 0..HISTORIES {
        let mut rng = StdRng::seed_from_u64(seed);
        let releases = signed_by_both(&mut rng, &template);
        // What is on disk: the newest few by number, as in the files.
        let mut kept: BTreeMap<u64, Release> = BTreeMap::new();
        let (mut accepted, mut now): (Vec<Release>, u64) = (Vec::new(), NOW);
        let reachable = if rng.random_bool(0.3) {
            releases.len() / 2
        } else {
            releases.len()
        };
        for number in 0..STEPS {
            // It heals halfway.
            let reachable = if number < STEPS / 2 {
                reachable
            } else {
                releases.len()
            };
            match step(&mut rng, releases.len(), reachable) {
                // All that counts is on disk.
                Step::Restart => {}
                Step::Clock(then) => now = then,
                Step::Offer(which) => {
                    let offered = &releases[which];
                    let current = kept.last_key_value().map(|(_, current)| current);
                    let decision = judge(current, kept.get(&offered.seq), offered, now);
                    check(&accepted, offered, decision, now, seed);
                    forks += u64::from(decision == Decision::Fork);
                    if decision == Decision::Accept {
                        accepts += 1;
                        accepted.push(offered.clone());
                        kept.insert(offered.seq, offered.clone());
                        if kept.len() > KEPT {
                            kept.pop_first();
                        }
                    }
                }
            }
        }
    }
    // The histories were worth something.
    assert!(accepts > HISTORIES && forks > HISTORIES / 20, "{accepts} {forks}");
}

#[test]
fn random_histories_through_the_files_only_move_forward_and_keep_every_fork_as_evidence() {
    let template = template();
    let repo = template.repo();
    let data = tempfile::tempdir().unwrap();
    let (mut accepts, mut forks) = (0_u64, 0_u64);
    for seed in 0..HISTORIES_ON_DISK {
        let mut rng = StdRng::seed_from_u64(seed);
        let folder = data.path().join(seed.to_string());
        let mut names = Names::open(&folder).unwrap();
        let releases: Vec<SignedRelease> = signed_by_both(&mut rng, &template)
            .into_iter()
            .map(|release| SignedRelease::sign(release, &signer()).unwrap())
            .collect();
        let (mut accepted, mut now): (Vec<Release>, u64) = (Vec::new(), NOW);
        for _ in 0..STEPS {
            match step(&mut rng, releases.len(), releases.len()) {
                Step::Restart => {
                    // The current file may be lost as well: the history stands in.
                    if rng.random_bool(0.3) && !accepted.is_empty() {
                        let _ = fs::remove_file(names.0.files.current_file(&repo));
                    }
                    names = Names::open(&folder).unwrap();
                }
                Step::Clock(then) => now = then,
                Step::Offer(which) => {
                    let offered = &releases[which];
                    let decision = match names.accept(offered, now) {
                        Ok(Accepted::New) => Decision::Accept,
                        Ok(Accepted::Same) => Decision::Same,
                        Err(NamesError::Fork { evidence, .. }) => {
                            assert!(evidence.is_none_or(|path| path.exists()));
                            forks += 1;
                            Decision::Fork
                        }
                        Err(NamesError::Older { have, offered, .. }) => Decision::Older { have, offered },
                        Err(NamesError::JumpTooLarge { .. }) => Decision::JumpTooLarge,
                        Err(NamesError::NotYetIssued { .. }) => Decision::NotYetIssued,
                        Err(other) => panic!("seed {seed}: {other}"),
                    };
                    check(&accepted, offered.release(), decision, now, seed);
                    if decision == Decision::Accept {
                        accepts += 1;
                        accepted.push(offered.release().clone());
                    }
                }
            }
            let followed = names.get(&repo).unwrap();
            assert_eq!(
                followed.as_ref().map(SignedRelease::release),
                accepted.last(),
                "seed {seed}"
            );
        }
    }
    assert!(accepts > HISTORIES_ON_DISK && forks > 5, "{accepts} {forks}");
}

/// The moves of a publisher's keys, and of a thief's, in one history of statements.
#[test]
fn random_orders_of_releases_and_a_revocation_never_follow_what_was_revoked() {
    use protocol::key::{Standing, keep};
    use protocol::{Reason, Seen, SignedStatement, Statement};

    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let id = |seed: u8| Publisher::from(key(seed).verifying_key());
    let sign = |statement: Statement, keys: &[u8]| {
        let keys: Vec<_> = keys.iter().map(|seed| key(*seed)).collect();
        SignedStatement::sign(statement, &keys.iter().collect::<Vec<_>>()).unwrap()
    };
    let issued = NOW;
    let introduce = sign(
        Statement::Introduce {
            key: id(1),
            recovery: id(9),
            issued,
        },
        &[1, 9],
    );
    let revoke = sign(
        Statement::Revoke {
            key: id(1),
            by: id(9),
            reason: Reason::Compromised,
            issued,
        },
        &[9],
    );
    let recover = sign(
        Statement::Recover {
            from: id(1),
            to: id(2),
            recovery: id(9),
            issued,
        },
        &[9, 2],
    );
    let thief = sign(
        Statement::Rotate {
            from: id(1),
            to: id(6),
            issued,
        },
        &[1, 6],
    );
    let thief_again = sign(
        Statement::Rotate {
            from: id(1),
            to: id(7),
            issued,
        },
        &[1, 7],
    );
    let all = [revoke.clone(), recover.clone(), thief, thief_again];
    for seed in 0..HISTORIES / 10 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut kept = vec![Seen {
            statement: introduce.clone(),
            order: 0,
        }];
        let (mut revoked, mut recovered) = (false, false);
        for order in 1..8 {
            let statement = all.choose(&mut rng).expect("there are some").clone();
            revoked |= statement == revoke;
            recovered |= statement == recover;
            kept.push(Seen { statement, order });
            kept = keep(id(1), &kept, None);
            let standing = Standing::of(id(1), &kept);
            assert!(
                !(revoked && standing.follows(id(1))),
                "seed {seed}: a revoked key is followed"
            );
            if recovered {
                assert!(
                    standing.follows(id(2)),
                    "seed {seed}: a thief beats the recovery key"
                );
            }
        }
    }
}
