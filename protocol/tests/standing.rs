//! Where a publisher stands follows from what was seen, not from who shouts most: T-ROT of the reliability plan.

use crate::fixture::{NOW, introduce, publisher, recover, revoke, rotate, stated, statements};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use protocol::key::{Cut, ForkKind, Passage, Seen, Standing, keep};
use protocol::limits::{KEY_STATEMENTS_MAX, KEY_STEPS_MAX};
use protocol::{Publisher, Reason, Statement};

/// The publisher that is asked about, and keys that its owner goes on to.
const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;
const D: u8 = 4;
/// The owner's recovery key, and another one of theirs.
const R: u8 = 8;
const S: u8 = 9;
/// A thief's key and recovery key.
const T: u8 = 20;
const X: u8 = 21;

fn seen(order: u64, statement: Statement) -> Seen {
    Seen {
        statement: stated(statement),
        order,
    }
}

/// What a row expects: the keys from `A` on, the recovery key, who revoked the last key, which forks there are, whether it goes in a circle, and
/// whether releases of the last key are followed.
struct Expected {
    keys: &'static [u8],
    recovery: Option<u8>,
    revoked: Option<u8>,
    forks: &'static [ForkKind],
    cycle: bool,
    followed: bool,
}

const SOUND: Expected = Expected {
    keys: &[A],
    recovery: Some(R),
    revoked: None,
    forks: &[],
    cycle: false,
    followed: true,
};

/// What a row is about, what was said and in which order, and what follows.
type Row = (&'static str, Vec<(u64, Statement)>, Expected);

fn rows() -> Vec<Row> {
    use ForkKind::{Introductions, Recoveries, Rotations};
    let none = Expected {
        recovery: None,
        ..SOUND
    };
    vec![
        ("nothing was ever said", vec![], Expected { ..none }),
        ("a recovery key is introduced", vec![(1, introduce(A, R))], SOUND),
        (
            "a second introduction does not displace the first",
            vec![(1, introduce(A, R)), (2, introduce(A, X))],
            Expected {
                forks: &[Introductions],
                ..SOUND
            },
        ),
        (
            "of two introductions at once neither counts",
            vec![(1, introduce(A, R)), (1, introduce(A, X)), (2, recover(A, T, X))],
            Expected {
                recovery: None,
                forks: &[Introductions],
                ..SOUND
            },
        ),
        (
            "the same introduction twice is one",
            vec![(1, introduce(A, R)), (2, introduce(A, R))],
            SOUND,
        ),
        (
            "a rotation is followed",
            vec![(1, rotate(A, B))],
            Expected {
                keys: &[A, B],
                recovery: None,
                ..SOUND
            },
        ),
        (
            "rotations are followed one after the other, and the recovery key stays",
            vec![
                (1, introduce(A, R)),
                (2, rotate(A, B)),
                (2, rotate(B, C)),
                (3, rotate(C, D)),
            ],
            Expected {
                keys: &[A, B, C, D],
                ..SOUND
            },
        ),
        (
            "the recovery key of a later key does not displace that of the first",
            vec![
                (1, introduce(A, R)),
                (2, rotate(A, B)),
                (3, introduce(B, X)),
                (4, recover(B, T, X)),
            ],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a later key may introduce the first recovery key",
            vec![(1, rotate(A, B)), (2, introduce(B, S)), (3, recover(B, C, S))],
            Expected {
                keys: &[A, B, C],
                recovery: Some(S),
                ..SOUND
            },
        ),
        (
            "two rotations are a fork, and neither is followed",
            vec![(1, introduce(A, R)), (2, rotate(A, B)), (3, rotate(A, T))],
            Expected {
                forks: &[Rotations],
                ..SOUND
            },
        ),
        (
            "a recovery settles a fork of rotations",
            vec![
                (1, introduce(A, R)),
                (2, rotate(A, B)),
                (3, rotate(A, T)),
                (4, recover(A, C, R)),
            ],
            Expected {
                keys: &[A, C],
                ..SOUND
            },
        ),
        (
            "a recovery beats a rotation that was followed",
            vec![(1, introduce(A, R)), (2, rotate(A, T)), (3, recover(A, B, R))],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a recovery and a rotation to the same key agree",
            vec![(1, introduce(A, R)), (2, rotate(A, B)), (3, recover(A, B, R))],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a recovery by a key that nobody introduced is nothing",
            vec![(1, introduce(A, R)), (2, recover(A, T, X))],
            SOUND,
        ),
        (
            "a recovery without any introduction is nothing",
            vec![(1, recover(A, T, X))],
            Expected { ..none },
        ),
        (
            "two recoveries are a fork, and no rotation is followed either",
            vec![
                (1, introduce(A, R)),
                (2, recover(A, B, R)),
                (3, recover(A, T, R)),
                (4, rotate(A, C)),
            ],
            Expected {
                forks: &[Recoveries],
                ..SOUND
            },
        ),
        (
            "a key revokes itself",
            vec![(1, introduce(A, R)), (2, revoke(A, A))],
            Expected {
                revoked: Some(A),
                followed: false,
                ..SOUND
            },
        ),
        (
            "the recovery key revokes, and is named before the key itself",
            vec![(1, introduce(A, R)), (2, revoke(A, A)), (3, revoke(A, R))],
            Expected {
                revoked: Some(R),
                followed: false,
                ..SOUND
            },
        ),
        (
            "a stranger revokes nothing",
            vec![(1, introduce(A, R)), (2, revoke(A, X))],
            SOUND,
        ),
        (
            "a rotation that was seen before the revocation stands",
            vec![(1, introduce(A, R)), (2, rotate(A, B)), (3, revoke(A, A))],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a rotation that was seen after the revocation is nothing",
            vec![(1, introduce(A, R)), (2, revoke(A, R)), (3, rotate(A, T))],
            Expected {
                revoked: Some(R),
                followed: false,
                ..SOUND
            },
        ),
        (
            "a rotation that was seen together with the revocation is nothing",
            vec![(1, introduce(A, R)), (2, revoke(A, A)), (2, rotate(A, T))],
            Expected {
                revoked: Some(A),
                followed: false,
                ..SOUND
            },
        ),
        (
            "a second rotation after the revocation does not unsettle the first",
            vec![
                (1, introduce(A, R)),
                (2, rotate(A, B)),
                (3, revoke(A, A)),
                (4, rotate(A, T)),
            ],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a recovery leads out of a revocation, in whatever order they came",
            vec![(1, introduce(A, R)), (2, recover(A, B, R)), (3, revoke(A, A))],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a newcomer who gets all at once follows the recovery",
            vec![
                (1, introduce(A, R)),
                (1, revoke(A, A)),
                (1, recover(A, B, R)),
                (1, rotate(A, T)),
            ],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a recovery undoes a stolen rotation that stood before the revocation",
            vec![
                (1, introduce(A, R)),
                (2, rotate(A, T)),
                (3, revoke(A, R)),
                (4, recover(A, B, R)),
            ],
            Expected {
                keys: &[A, B],
                ..SOUND
            },
        ),
        (
            "a revoked key introduces no recovery key",
            vec![(1, revoke(A, A)), (2, introduce(A, X)), (3, recover(A, T, X))],
            Expected {
                recovery: None,
                revoked: Some(A),
                followed: false,
                ..SOUND
            },
        ),
        (
            "the successor is revoked by the recovery key of the first",
            vec![(1, introduce(A, R)), (2, rotate(A, B)), (3, revoke(B, R))],
            Expected {
                keys: &[A, B],
                revoked: Some(R),
                followed: false,
                ..SOUND
            },
        ),
        (
            "the successor is recovered by the recovery key of the first",
            vec![
                (1, introduce(A, R)),
                (2, rotate(A, B)),
                (3, rotate(B, T)),
                (4, recover(B, C, R)),
            ],
            Expected {
                keys: &[A, B, C],
                ..SOUND
            },
        ),
        (
            "a circle ends where it would close",
            vec![(1, introduce(A, R)), (2, rotate(A, B)), (3, rotate(B, A))],
            Expected {
                keys: &[A, B],
                cycle: true,
                ..SOUND
            },
        ),
        (
            "a recovery leads out of a circle",
            vec![
                (1, introduce(A, R)),
                (2, rotate(A, B)),
                (3, rotate(B, A)),
                (4, recover(B, C, R)),
            ],
            Expected {
                keys: &[A, B, C],
                ..SOUND
            },
        ),
        (
            "what is about other keys is nothing",
            vec![(1, introduce(B, X)), (2, rotate(B, C)), (3, revoke(C, C))],
            Expected { ..none },
        ),
    ]
}

fn check(what: &str, standing: &Standing, expected: &Expected) {
    let keys: Vec<Publisher> = standing.steps.iter().map(|step| step.key).collect();
    let wanted: Vec<Publisher> = expected.keys.iter().map(|number| publisher(*number)).collect();
    assert_eq!(keys, wanted, "{what}");
    assert_eq!(standing.current(), *wanted.last().unwrap(), "{what}");
    assert_eq!(standing.recovery, expected.recovery.map(publisher), "{what}");
    let by = standing.revoked().map(|revoked| revoked.by);
    assert_eq!(by, expected.revoked.map(publisher), "{what}");
    let forks: Vec<ForkKind> = standing.forks.iter().map(|fork| fork.kind).collect();
    assert_eq!(forks, expected.forks, "{what}");
    assert_eq!(standing.cut.is_some(), expected.cycle, "{what}");
    assert_eq!(standing.follows(standing.current()), expected.followed, "{what}");
    for earlier in &keys[..keys.len() - 1] {
        assert!(!standing.follows(*earlier), "{what}");
    }
}

#[test]
fn keys_stand_as_the_table_says() {
    let rows = rows();
    assert!(rows.len() >= 24);
    for (what, said, expected) in &rows {
        let all: Vec<Seen> = said
            .iter()
            .map(|(order, statement)| seen(*order, statement.clone()))
            .collect();
        check(what, &Standing::of(publisher(A), &all), expected);
        let turned: Vec<Seen> = all.iter().rev().cloned().collect();
        check(what, &Standing::of(publisher(A), &turned), expected);
        // The same from what is kept, offered one by one.
        check(
            what,
            &Standing::of(publisher(A), &kept_one_by_one(&all)),
            expected,
        );
    }
}

/// Offers statements in the order of the slice to the keeper of each key, as a node does.
fn kept_one_by_one(all: &[Seen]) -> Vec<Seen> {
    let mut kept: Vec<Seen> = Vec::new();
    for one in all {
        kept.push(one.clone());
        let recovery = Standing::of(publisher(A), &kept).recovery;
        kept = (0..40)
            .flat_map(|number| keep(publisher(number), &kept, recovery))
            .collect();
    }
    kept
}

#[test]
fn passages_and_revocations_are_told_of_each_key() {
    let all = [
        seen(1, introduce(A, R)),
        seen(2, rotate(A, B)),
        seen(3, revoke(A, A)),
        seen(4, recover(B, C, R)),
    ];
    let standing = Standing::of(publisher(A), &all);
    let passages: Vec<Option<Passage>> = standing.steps.iter().map(|step| step.by).collect();
    assert_eq!(passages, [None, Some(Passage::Rotated), Some(Passage::Recovered)]);
    let revoked = standing.step(publisher(A)).unwrap().revoked.unwrap();
    assert_eq!(
        (revoked.by, revoked.since, revoked.reason),
        (publisher(A), NOW, Reason::Compromised)
    );
    assert_eq!(standing.step(publisher(B)).unwrap().revoked, None);
    assert_eq!(standing.step(publisher(D)), None);
}

#[test]
fn fork_keeps_two_statements_as_evidence() {
    let all = [
        seen(5, rotate(A, T)),
        seen(2, rotate(A, B)),
        seen(7, rotate(A, D)),
    ];
    let standing = Standing::of(publisher(A), &all);
    let [fork] = &standing.forks[..] else {
        panic!("{standing:?}");
    };
    assert_eq!(fork.key, publisher(A));
    assert_eq!(fork.statements, [stated(rotate(A, B)), stated(rotate(A, T))]);
}

#[test]
fn publisher_goes_on_sixteen_times_and_no_more() {
    let steps = u8::try_from(KEY_STEPS_MAX).unwrap();
    let chain = |count: u8| -> Vec<Seen> { (1..=count).map(|key| seen(1, rotate(key, key + 1))).collect() };
    let standing = Standing::of(publisher(1), &chain(steps));
    assert_eq!(standing.current(), publisher(17));
    assert_eq!(standing.cut, None);
    assert!(standing.follows(publisher(17)));
    let standing = Standing::of(publisher(1), &chain(steps + 1));
    assert_eq!(standing.current(), publisher(17));
    assert_eq!(standing.cut, Some(Cut::TooLong));
    assert!(!standing.follows(publisher(17)));
}

#[test]
fn earliest_of_several_revocations_is_told_whatever_order_they_came_in() {
    let at = |issued, reason| Statement::Revoke {
        key: publisher(A),
        by: publisher(A),
        reason,
        issued,
    };
    let all = [seen(1, at(9, Reason::Lost)), seen(2, at(5, Reason::Retired))];
    let revoked = *Standing::of(publisher(A), &all).revoked().unwrap();
    assert_eq!((revoked.since, revoked.reason), (5, Reason::Retired));
    // It counts from when the first of them was seen.
    let all = [&all[..], &[seen(2, rotate(A, T))]].concat();
    assert_eq!(Standing::of(publisher(A), &all).current(), publisher(A));
    let kept = keep(publisher(A), &all, None);
    assert_eq!(Standing::of(publisher(A), &kept).current(), publisher(A));
}

/// What everybody who can sign anything may send about `A`: the thief has its key, and any number of other keys.
fn flood() -> Vec<Statement> {
    (22..39)
        .flat_map(|other| {
            [
                introduce(A, other),
                rotate(A, other),
                recover(A, other - 1, other),
                revoke(A, other),
                Statement::Revoke {
                    key: publisher(A),
                    by: publisher(A),
                    reason: Reason::Retired,
                    issued: NOW + u64::from(other),
                },
            ]
        })
        .collect()
}

#[test]
fn flood_pushes_out_nothing_that_matters() {
    let mut kept = keep(publisher(A), &[seen(1, introduce(A, R))], None);
    let mut order = 2;
    let mut offer = |kept: &mut Vec<Seen>, statement: Statement| {
        kept.push(seen(order, statement));
        order += 1;
        *kept = keep(publisher(A), kept, None);
        assert!(kept.len() <= KEY_STATEMENTS_MAX, "{}", kept.len());
    };
    for statement in flood() {
        offer(&mut kept, statement);
    }
    for statement in [revoke(A, R), recover(A, B, R)] {
        offer(&mut kept, statement);
    }
    for statement in flood() {
        offer(&mut kept, statement);
    }
    let standing = Standing::of(publisher(A), &kept);
    assert_eq!(standing.recovery, Some(publisher(R)));
    assert_eq!(standing.current(), publisher(B));
    let revoked = standing.step(publisher(A)).unwrap().revoked.unwrap();
    assert_eq!(revoked.by, publisher(R));
    assert_eq!(standing.forks.len(), 1);
    assert_eq!(standing.forks[0].statements[0], stated(introduce(A, R)));
}

#[test]
fn flood_before_the_introduction_is_bounded_and_then_gone() {
    let mut all: Vec<Seen> = flood()
        .into_iter()
        .filter(|statement| {
            matches!(statement, Statement::Recover { .. }) || statement.signers().0 != publisher(A)
        })
        .zip(1..)
        .map(|(statement, order)| seen(order, statement))
        .collect();
    let kept = keep(publisher(A), &all, Some(publisher(S)));
    assert_eq!(kept.len(), 8);
    all.extend([
        seen(100, introduce(A, R)),
        seen(101, revoke(A, R)),
        seen(102, recover(A, B, R)),
    ]);
    let kept = keep(publisher(A), &all, None);
    assert_eq!(kept.len(), 3);
    // The most that is ever kept.
    let mut most: Vec<Seen> = flood().into_iter().map(|statement| seen(1, statement)).collect();
    most.extend([revoke(A, S), recover(A, B, S), recover(A, C, S)].map(|statement| seen(1, statement)));
    assert_eq!(
        keep(publisher(A), &most, Some(publisher(S))).len(),
        KEY_STATEMENTS_MAX
    );
}

/// Statements among which no revocation meets a rotation of the same key: the one case where it matters what came first.
fn without_a_race(all: Vec<Statement>) -> Vec<Statement> {
    let revoked: Vec<Publisher> = all
        .iter()
        .filter(|statement| matches!(statement, Statement::Revoke { .. }))
        .map(Statement::about)
        .collect();
    all.into_iter()
        .filter(|statement| {
            let raced = matches!(statement, Statement::Rotate { .. } | Statement::Introduce { .. });
            !(raced && revoked.contains(&statement.about()))
        })
        .collect()
}

fn shuffled<T: Clone>(all: &[T], swaps: &[Index]) -> Vec<T> {
    let mut all = all.to_vec();
    for (at, swap) in swaps.iter().enumerate().take(all.len()) {
        let other = swap.index(all.len());
        all.swap(at, other);
    }
    all
}

proptest! {
    #[test]
    fn standing_does_not_depend_on_the_order_of_the_slice(
        all in vec((0..4_u64, statements()), 0..20),
        swaps in vec(any::<Index>(), 20),
    ) {
        let all: Vec<Seen> = all.into_iter().map(|(order, statement)| seen(order, statement)).collect();
        for number in 0..5 {
            let standing = Standing::of(publisher(number), &all);
            prop_assert_eq!(&standing, &Standing::of(publisher(number), &shuffled(&all, &swaps)));
        }
    }

    #[test]
    fn standing_does_not_depend_on_the_order_of_arrival(
        all in vec(statements(), 0..20),
        swaps in vec(any::<Index>(), 20),
    ) {
        let introductions = (0..5).map(|number| seen(0, introduce(number, 8)));
        let introductions: Vec<Seen> = introductions.collect();
        let all = without_a_race(all);
        let arrived = |all: &[Statement]| -> Vec<Seen> {
            let numbered = (1..).zip(all);
            let later = numbered.map(|(order, statement)| seen(order, statement.clone()));
            introductions.iter().cloned().chain(later).collect()
        };
        for number in 0..5 {
            let one = Standing::of(publisher(number), &arrived(&all));
            let other = Standing::of(publisher(number), &arrived(&shuffled(&all, &swaps)));
            prop_assert_eq!(&one.steps, &other.steps);
            prop_assert_eq!((one.recovery, one.cut), (other.recovery, other.cut));
            let kinds = |standing: &Standing| -> Vec<(Publisher, ForkKind)> {
                standing.forks.iter().map(|fork| (fork.key, fork.kind)).collect()
            };
            prop_assert_eq!(kinds(&one), kinds(&other));
        }
    }

    #[test]
    fn what_is_kept_stands_as_everything_does(all in vec((1..9_u64, statements()), 0..40)) {
        let mut all: Vec<Seen> = all.into_iter().map(|(order, statement)| seen(order, statement)).collect();
        all.extend((0..5).map(|number| seen(0, introduce(number, 8))));
        let kept: Vec<Seen> = (0..9)
            .flat_map(|number| keep(publisher(number), &all, Some(publisher(8))))
            .collect();
        for number in 0..5 {
            let of_kept = Standing::of(publisher(number), &kept);
            prop_assert_eq!(Standing::of(publisher(number), &all), of_kept);
        }
    }

    #[test]
    fn no_standing_goes_in_circles_or_follows_a_revoked_key(all in vec((0..4_u64, statements()), 0..40)) {
        let all: Vec<Seen> = all.into_iter().map(|(order, statement)| seen(order, statement)).collect();
        for number in 0..5 {
            let standing = Standing::of(publisher(number), &all);
            let mut keys: Vec<Publisher> = standing.steps.iter().map(|step| step.key).collect();
            let count = keys.len();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), count);
            prop_assert!(count <= KEY_STEPS_MAX + 1);
            for step in &standing.steps {
                prop_assert!(!(step.revoked.is_some() && standing.follows(step.key)));
            }
            prop_assert!(keep(publisher(number), &all, Some(publisher(8))).len() <= KEY_STATEMENTS_MAX);
        }
    }
}
