//! Whatever happens to a node, the numbers it follows only grow, and it follows no side of a fork.

use crate::fixture::{NOW, key, plain_release};
use protocol::limits::{CLOCK_SKEW_MAX, SEQ_JUMP_MAX};
use protocol::ratchet::{Decision, decide};
use protocol::{Kind, SignedRelease};

/// Numbers of the releases that a history draws from. Each exists in three versions.
const SEQS: [u64; 9] = [
    1,
    2,
    3,
    4,
    5,
    8,
    SEQ_JUMP_MAX,
    SEQ_JUMP_MAX + 1,
    2 * SEQ_JUMP_MAX + 6,
];

const VERSIONS: u8 = 3;

const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * 60;

/// A small generator with a fixed seed (splitmix64): a history that fails is found again by its number.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn pool() -> Vec<SignedRelease> {
    let mut pool = Vec::new();
    for seq in SEQS {
        for version in 0..VERSIONS {
            let signed = SignedRelease::sign(plain_release(1, seq, version), &key(1)).unwrap();
            pool.push(SignedRelease::decode(&signed.encode()).unwrap());
        }
    }
    pool
}

#[test]
fn accepted_numbers_only_grow_and_forks_are_never_followed() {
    let pool = pool();
    let mut accepted = 0_u64;
    let mut forks = 0_u64;
    for history in 0..200_000 {
        let mut random = Random(history);
        // The disk is written before the node acts; a crash in between leaves the number on disk and the act undone.
        let mut disk: Option<&SignedRelease> = None;
        let mut acted: Vec<&SignedRelease> = Vec::new();
        for _ in 0..12 {
            let at = random.below(u64::try_from(pool.len()).unwrap());
            let offered = &pool[usize::try_from(at).unwrap()];
            let now = match random.below(8) {
                0 => NOW - TEN_YEARS,
                1 => NOW + TEN_YEARS,
                _ => NOW,
            };
            match decide(disk, offered, now) {
                Decision::Accept => match random.below(8) {
                    0 => {}
                    1 => disk = Some(offered),
                    _ => {
                        disk = Some(offered);
                        acted.push(offered);
                        accepted += 1;
                    }
                },
                Decision::Fork => {
                    forks += 1;
                    let followed = disk.unwrap();
                    assert_eq!(followed.release().seq, offered.release().seq);
                    assert_ne!(followed, offered);
                }
                Decision::Older {
                    have,
                    offered: number,
                } => {
                    assert!(number < have, "history {history}");
                    assert_eq!(number, offered.release().seq);
                }
                Decision::Same => assert_eq!(disk, Some(offered), "history {history}"),
                Decision::JumpTooLarge => {
                    let have = disk.map_or(0, |it| it.release().seq);
                    assert!(offered.release().seq - have > SEQ_JUMP_MAX);
                }
                Decision::NotYetIssued => assert_eq!(now, NOW - TEN_YEARS),
                Decision::OtherRepo => panic!("history {history} is of one repo"),
            }
        }
        let grows = acted
            .windows(2)
            .all(|pair| pair[0].release().seq < pair[1].release().seq);
        assert!(grows, "history {history} went back");
    }
    assert!(accepted > 200_000, "only {accepted} releases were accepted");
    assert!(forks > 10_000, "only {forks} forks were seen");
}

#[test]
fn node_leaves_a_fork_behind_by_a_higher_number() {
    let release = |seq, content| SignedRelease::sign(plain_release(1, seq, content), &key(1)).unwrap();
    let (ours, theirs, next) = (release(5, 1), release(5, 2), release(6, 3));
    assert_eq!(decide(Some(&ours), &theirs, NOW), Decision::Fork);
    assert_eq!(decide(Some(&ours), &next, NOW), Decision::Accept);
    let older = Decision::Older { have: 6, offered: 5 };
    assert_eq!(decide(Some(&next), &theirs, NOW), older);
}

#[test]
fn one_number_with_another_kind_is_a_fork() {
    let ours = SignedRelease::sign(plain_release(1, 5, 1), &key(1)).unwrap();
    let mut other = plain_release(1, 5, 1);
    other.kind = Kind::Space;
    let other = SignedRelease::sign(other, &key(1)).unwrap();
    assert_eq!(decide(Some(&ours), &other, NOW), Decision::Fork);
}

#[test]
fn jump_is_measured_from_what_the_node_follows() {
    let release = |seq| SignedRelease::sign(plain_release(1, seq, 1), &key(1)).unwrap();
    let max = SEQ_JUMP_MAX;
    assert_eq!(decide(None, &release(max), NOW), Decision::Accept);
    assert_eq!(decide(None, &release(max + 1), NOW), Decision::JumpTooLarge);
    let three = release(3);
    assert_eq!(decide(Some(&three), &release(max + 3), NOW), Decision::Accept);
    assert_eq!(
        decide(Some(&three), &release(max + 4), NOW),
        Decision::JumpTooLarge
    );
}

#[test]
fn release_from_the_future_waits_and_an_expired_one_does_not() {
    let release = SignedRelease::sign(plain_release(1, 1, 1), &key(1)).unwrap();
    let earliest = NOW - CLOCK_SKEW_MAX;
    assert_eq!(decide(None, &release, earliest), Decision::Accept);
    assert_eq!(decide(None, &release, earliest - 1), Decision::NotYetIssued);
    assert_eq!(decide(None, &release, 0), Decision::NotYetIssued);
    assert_eq!(decide(None, &release, u64::MAX), Decision::Accept);
}

#[test]
fn wrong_clock_hides_no_fork() {
    let release = |content| SignedRelease::sign(plain_release(1, 1, content), &key(1)).unwrap();
    assert_eq!(decide(Some(&release(1)), &release(2), 0), Decision::Fork);
}

#[test]
fn release_of_another_repo_is_none_of_its_business() {
    let ours = SignedRelease::sign(plain_release(1, 1, 1), &key(1)).unwrap();
    let stranger = SignedRelease::sign(plain_release(2, 2, 1), &key(2)).unwrap();
    assert_eq!(decide(Some(&ours), &stranger, NOW), Decision::OtherRepo);
    let mut renamed = plain_release(1, 2, 1);
    renamed.name = crate::fixture::name("n");
    let renamed = SignedRelease::sign(renamed, &key(1)).unwrap();
    assert_eq!(decide(Some(&ours), &renamed, NOW), Decision::OtherRepo);
}
