use super::*;
use ed25519_dalek::SigningKey;

fn wanted(publisher: u8, name: &str, issued: u64) -> Wanted {
    Wanted {
        repo: RepoId {
            publisher: SigningKey::from_bytes(&[publisher; 32]).verifying_key().into(),
            name: name.parse().unwrap(),
        },
        manifest: Hash::of(format!("{publisher}{name}{issued}").as_bytes()),
        seq: 1,
        issued,
    }
}

/// Looks all up that may be looked up, with these answers.
fn look_all(queue: &mut Queue, now: Instant, providers: impl Fn(&Wanted) -> usize) {
    while let Some(wanted) = queue.look(now) {
        let count = providers(&wanted);
        queue.looked(&wanted, count, now);
    }
}

#[test]
fn rarest_comes_first_over_all_publishers_and_the_newest_of_those_alike() {
    let now = Instant::now();
    let all = [
        (wanted(1, "common", 9), 8),
        (wanted(2, "nowhere", 9), 0),
        (wanted(1, "rare-old", 3), 1),
        (wanted(2, "rare-new", 4), 1),
        (wanted(2, "some", 1), 3),
    ];
    let mut queue = Queue::default();
    queue.want(all.iter().map(|(wanted, _)| wanted.clone()).collect(), now);
    assert_eq!(queue.next(now), None, "nobody knows yet which is the rarest");
    look_all(&mut queue, now, |wanted| {
        all.iter().find(|(one, _)| one == wanted).unwrap().1
    });
    let order: Vec<_> = std::iter::from_fn(|| queue.next(now))
        .map(|wanted| wanted.repo.name.to_string())
        .collect();
    assert_eq!(order, ["rare-new", "rare-old", "some", "common", "nowhere"]);
}

#[test]
fn few_are_looked_up_at_once_and_no_more_than_are_compared() {
    let now = Instant::now();
    let mut queue = Queue::default();
    let all: Vec<_> = (0..200)
        .map(|number| wanted(1, &format!("r{number}"), number))
        .collect();
    queue.want(all, now);
    let looking: Vec<_> = std::iter::from_fn(|| queue.look(now)).collect();
    let issued: Vec<_> = looking.iter().map(|wanted| wanted.issued).collect();
    assert_eq!(issued, [199, 198, 197, 196], "the newest first");
    assert_eq!(queue.next(now), None, "a lookup is under way");
    for wanted in &looking {
        queue.looked(wanted, 1, now);
    }
    look_all(&mut queue, now, |_| 2);
    assert_eq!(queue.next(now).unwrap().issued, 199);
    assert!(queue.look(now).is_some(), "the pool is filled up again");
    let known = queue.rows.values().filter(|row| row.counted(now).is_some());
    assert_eq!(known.count(), POOL);
}

#[test]
fn what_fails_waits_ever_longer_and_others_go_on() {
    let start = Instant::now();
    let (one, two) = (wanted(1, "one", 2), wanted(1, "two", 1));
    let mut queue = Queue::default();
    queue.want(vec![one.clone(), two.clone()], start);
    look_all(&mut queue, start, |_| 1);
    assert_eq!(queue.next(start).as_ref(), Some(&one));
    queue.failed(&one, 0.0, start);
    assert_eq!(queue.next(start).as_ref(), Some(&two));
    queue.done(&two);
    let mut now = start;
    let mut pauses = Vec::new();
    for _ in 0..14 {
        assert_eq!((queue.look(now), queue.next(now)), (None, None));
        let due = queue.next_due(now).unwrap();
        pauses.push((due - now).as_secs());
        now = due;
        look_all(&mut queue, now, |_| 1);
        assert_eq!(queue.next(now).as_ref(), Some(&one));
        queue.failed(&one, 0.0, now);
    }
    assert_eq!(pauses[..5], [15, 30, 60, 120, 240]);
    assert_eq!(pauses.last(), Some(&(6 * 60 * 60)));
    queue.reconsider(now);
    assert!(queue.look(now).is_none(), "room does not bring back who has it");
    let now = queue.next_due(now).unwrap();
    look_all(&mut queue, now, |_| 1);
    assert_eq!(queue.next(now).as_ref(), Some(&one));
    queue.refused(&one, 0.0, now);
    assert_eq!((queue.look(now), queue.next(now)), (None, None));
    queue.reconsider(now);
    look_all(&mut queue, now, |_| 1);
    assert_eq!(queue.next(now), Some(one));
}

#[test]
fn newer_release_takes_the_place_of_what_is_being_brought() {
    let now = Instant::now();
    let (old, new, gone) = (wanted(1, "a", 1), wanted(1, "a", 2), wanted(1, "b", 1));
    let mut queue = Queue::default();
    queue.want(vec![old.clone(), gone.clone()], now);
    look_all(&mut queue, now, |_| 1);
    queue.next(now).unwrap();
    queue.next(now).unwrap();
    let ended = queue.want(vec![new.clone()], now);
    assert_eq!(ended, [old.repo.clone(), gone.repo.clone()]);
    // What comes of the old one is nothing to the new one.
    assert!(queue.wants(&new) && !queue.wants(&old));
    queue.failed(&old, 1.0, now);
    queue.done(&old);
    look_all(&mut queue, now, |_| 1);
    assert_eq!(queue.next(now), Some(new.clone()));
    assert!(queue.want(vec![new.clone()], now).is_empty(), "it goes on");
    queue.broke(&new.repo, 0.0, now);
    assert_eq!(queue.next_due(now), Some(now + PAUSE_MAX));
    queue.done(&new);
    assert_eq!((queue.next(now), queue.next_due(now)), (None, None));
}
