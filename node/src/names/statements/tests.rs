//! What was seen stays seen: over restarts, damage, replays and floods.

use std::fs;
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use protocol::key::Passage;
use protocol::{Reason, Statement};

use super::*;

const NOW: u64 = 1_800_000_000;

fn key(seed: u16) -> SigningKey {
    let mut secret = [7; 32];
    secret[..2].copy_from_slice(&seed.to_le_bytes());
    SigningKey::from_bytes(&secret)
}

fn id(seed: u16) -> Publisher {
    key(seed).verifying_key().into()
}

fn signed(statement: Statement, keys: &[u16]) -> SignedStatement {
    let keys: Vec<SigningKey> = keys.iter().map(|seed| key(*seed)).collect();
    SignedStatement::sign(statement, &keys.iter().collect::<Vec<_>>()).unwrap()
}

fn introduce(of: u16, recovery: u16) -> SignedStatement {
    let statement = Statement::Introduce {
        key: id(of),
        recovery: id(recovery),
        issued: NOW,
    };
    signed(statement, &[of, recovery])
}

fn rotate(from: u16, to: u16) -> SignedStatement {
    let statement = Statement::Rotate {
        from: id(from),
        to: id(to),
        issued: NOW,
    };
    signed(statement, &[from, to])
}

fn recover(from: u16, to: u16, recovery: u16) -> SignedStatement {
    let statement = Statement::Recover {
        from: id(from),
        to: id(to),
        recovery: id(recovery),
        issued: NOW,
    };
    signed(statement, &[recovery, to])
}

fn revoke(of: u16, by: u16) -> SignedStatement {
    let statement = Statement::Revoke {
        key: id(of),
        by: id(by),
        reason: Reason::Compromised,
        issued: NOW,
    };
    signed(statement, &[by])
}

fn open(data: &Path, roots: &[u16]) -> Statements {
    let statements = Statements::open(data).unwrap();
    statements
        .concern(roots.iter().map(|root| id(*root)).collect())
        .unwrap();
    statements
}

fn file(data: &Path, seed: u16, name: &str) -> PathBuf {
    data.join("releases").join(id(seed).to_string()).join(name)
}

const OWN: u16 = 1_000;

#[test]
fn followed_key_leads_to_its_successor_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let statements = open(data.path(), &[OWN, 1]);
    let told = [rotate(1, 2), introduce(1, 9), introduce(2, 9)];
    assert_eq!(statements.take(&told).unwrap().len(), 3);
    for statements in [statements, open(data.path(), &[OWN, 1])] {
        let standing = statements.standing(id(1));
        assert_eq!((standing.current(), standing.recovery), (id(2), Some(id(9))));
        // The same publisher, by any of its keys.
        assert_eq!(statements.standing(id(2)), standing);
        assert_eq!(statements.home(id(2)), Some(id(1)));
        assert_eq!(statements.about(id(2)), [introduce(2, 9)]);
        // Told again it is not new.
        assert_eq!(statements.take(&told).unwrap(), []);
    }
}

#[test]
fn recovery_beats_a_thief_and_a_revocation_outlives_everything() {
    let data = tempfile::tempdir().unwrap();
    let statements = open(data.path(), &[OWN, 1]);
    statements.take(&[introduce(1, 9)]).unwrap();
    statements.take(&[rotate(1, 66)]).unwrap();
    assert_eq!(statements.standing(id(1)).current(), id(66));
    // The thief's key introduces a recovery key of its own, which counts for nothing here.
    statements
        .take(&[introduce(66, 67), introduce(1, 67), recover(1, 68, 67)])
        .unwrap();
    assert_eq!(statements.standing(id(1)).current(), id(66));
    statements.take(&[recover(1, 2, 9)]).unwrap();
    let standing = statements.standing(id(1));
    assert_eq!(
        (standing.current(), standing.steps[1].by),
        (id(2), Some(Passage::Recovered))
    );
    assert_eq!(statements.home(id(66)), None);
    statements.take(&[revoke(1, 9), revoke(2, 9)]).unwrap();
    for statements in [statements, open(data.path(), &[OWN, 1])] {
        let standing = statements.standing(id(1));
        assert!(standing.revoked().is_some() && !standing.follows(id(2)));
        // Nothing that comes later undoes it.
        statements
            .take(&[rotate(2, 3), introduce(2, 2_000), rotate(1, 66)])
            .unwrap();
        assert!(statements.standing(id(1)).revoked().is_some());
    }
}

#[test]
fn order_of_what_was_seen_outlives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let statements = open(data.path(), &[OWN, 1]);
    statements.take(&[rotate(1, 2)]).unwrap();
    drop(statements);
    let statements = open(data.path(), &[OWN, 1]);
    statements.take(&[revoke(1, 1)]).unwrap();
    // It went on before it was revoked, and so it does for ever.
    for statements in [statements, open(data.path(), &[OWN, 1])] {
        assert_eq!(statements.standing(id(1)).current(), id(2));
        assert!(statements.standing(id(1)).follows(id(2)));
    }
    let data = tempfile::tempdir().unwrap();
    open(data.path(), &[OWN, 1]).take(&[revoke(1, 1)]).unwrap();
    let statements = open(data.path(), &[OWN, 1]);
    statements.take(&[rotate(1, 2)]).unwrap();
    assert_eq!(statements.standing(id(1)).current(), id(1), "revoked first");
}

#[test]
fn statements_in_any_order_with_any_repeats_come_to_the_same_once_the_recovery_key_spoke() {
    let data = tempfile::tempdir().unwrap();
    let all = [
        introduce(1, 9),
        rotate(1, 2),
        rotate(1, 66),
        recover(1, 3, 9),
        introduce(3, 9),
        revoke(1, 9),
        revoke(1, 1),
        recover(1, 67, 68),
        revoke(3, 66),
    ];
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..40 {
        let folder = data.path().join(round.to_string());
        let statements = open(&folder, &[OWN, 1]);
        // The first introduction is what decides who may speak: a thief who is quicker than it is another matter.
        statements.take(&all[..1]).unwrap();
        let mut left: Vec<_> = all.iter().chain(&all).cloned().collect();
        while !left.is_empty() {
            let count = 1 + next(3).min(left.len() - 1);
            let some: Vec<_> = (0..count).map(|_| left.swap_remove(next(left.len()))).collect();
            statements.take(&some).unwrap();
        }
        for statements in [statements, open(&folder, &[OWN, 1])] {
            let standing = statements.standing(id(1));
            let keys: Vec<_> = standing.steps.iter().map(|step| step.key).collect();
            assert_eq!(keys, [id(1), id(3)], "round {round}");
            assert!(standing.step(id(1)).unwrap().revoked.is_some());
            assert!(standing.follows(id(3)), "round {round}");
        }
    }
}

#[test]
fn flipped_bit_does_not_bring_a_revoked_key_back_and_two_of_them_stop_everything() {
    let data = tempfile::tempdir().unwrap();
    open(data.path(), &[OWN, 1]).take(&[revoke(1, 1)]).unwrap();
    let (kept, copy) = (file(data.path(), 1, "@keys"), file(data.path(), 1, "@keys-copy"));
    let whole = fs::read(&kept).unwrap();
    assert_eq!(whole, fs::read(&copy).unwrap());
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&kept, flipped).unwrap();
        let statements = open(data.path(), &[OWN, 1]);
        assert!(statements.standing(id(1)).revoked().is_some(), "byte {at}");
        assert!(statements.check(id(1)).is_ok());
    }
    fs::write(&copy, &whole[..whole.len() - 1]).unwrap();
    let statements = open(data.path(), &[OWN, 1]);
    let refused = statements.check(id(1));
    assert!(
        matches!(refused, Err(NamesError::KeysDamaged { publisher, .. }) if publisher == id(1)),
        "{refused:?}"
    );
    // Neither is what was there written over.
    statements.take(&[rotate(1, 2)]).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), whole[..whole.len() - 1]);
    assert!(statements.check(id(2)).is_ok(), "another publisher");
}

#[test]
fn strangers_take_no_room_on_the_disk_and_little_in_memory_until_they_are_followed() {
    let data = tempfile::tempdir().unwrap();
    let statements = open(data.path(), &[OWN]);
    statements.take(&[introduce(1, 9)]).unwrap();
    assert!(!file(data.path(), 1, "@keys").exists());
    for stranger in 2_000..2_000 + STRANGERS_MAX as u16 - 1 {
        statements.take(&[revoke(stranger, stranger)]).unwrap();
    }
    // Heard of last, so that it is not the one to go.
    statements.take(&[rotate(1, 2)]).unwrap();
    for stranger in 10_000..10_010 {
        statements.take(&[revoke(stranger, stranger)]).unwrap();
    }
    let count = statements.0.state.lock().unwrap().about.len();
    assert_eq!(count, STRANGERS_MAX);
    assert_eq!(statements.about(id(1)).len(), 2);
    assert_eq!(statements.about(id(2_000)), []);
    statements.concern(vec![id(OWN), id(1)]).unwrap();
    assert!(file(data.path(), 1, "@keys").exists());
    assert_eq!(open(data.path(), &[OWN, 1]).standing(id(1)).current(), id(2));
}

#[test]
fn flood_about_a_followed_key_does_not_push_out_its_revocation() {
    let data = tempfile::tempdir().unwrap();
    let statements = open(data.path(), &[OWN, 1]);
    statements.take(&[introduce(1, 9), revoke(1, 9)]).unwrap();
    for thief in 100..160 {
        statements
            .take(&[
                rotate(1, thief),
                introduce(1, thief),
                recover(1, thief, thief + 1),
                revoke(1, thief),
            ])
            .unwrap();
    }
    assert!(statements.about(id(1)).len() <= protocol::limits::KEY_STATEMENTS_MAX);
    let standing = statements.standing(id(1));
    assert!(standing.revoked().is_some_and(|revoked| revoked.by == id(9)));
    assert_eq!(standing.current(), id(1));
}

#[test]
fn publisher_goes_on_sixteen_times_and_no_further() {
    let data = tempfile::tempdir().unwrap();
    let statements = open(data.path(), &[OWN, 0]);
    // All at once, the last ones first: each is known to concern the user only through the one before.
    let all: Vec<_> = (0..20).rev().map(|at| rotate(at, at + 1)).collect();
    for some in all.chunks(16).rev() {
        statements.take(some).unwrap();
    }
    let standing = statements.standing(id(0));
    assert_eq!(standing.current(), id(KEY_STEPS_MAX as u16));
    assert!(!standing.follows(standing.current()));
    assert_eq!(open(data.path(), &[OWN, 0]).standing(id(0)), standing);
}
