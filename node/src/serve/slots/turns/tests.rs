use super::*;
use crate::limits::SERVED_PER_PEER;
use std::time::Duration;

fn peers(count: usize) -> Vec<PeerId> {
    (0..count).map(|_| PeerId::random()).collect()
}

/// Everything that can begin; nothing is to be closed.
fn begun(turns: &mut Turns) -> Vec<u64> {
    std::iter::from_fn(|| turns.next())
        .map(|next| match next {
            Next::Begin(id) => id,
            Next::Close(id) => panic!("{id} is closed"),
        })
        .collect()
}

/// Serves for some turns with every peer always asking for more, each answer as long as any; returns the turns of each.
fn serve(turns: &mut Turns, peers: &[(PeerId, usize, bool)], rounds: usize) -> HashMap<PeerId, usize> {
    let mut owner = HashMap::new();
    let mut running = std::collections::VecDeque::new();
    let mut had: HashMap<PeerId, usize> = HashMap::new();
    for (peer, asks, first_copy) in peers {
        for _ in 0..*asks {
            owner.insert(turns.enter(*peer, *first_copy), (*peer, *first_copy));
        }
    }
    for _ in 0..rounds {
        for id in begun(turns) {
            *had.entry(owner[&id].0).or_default() += 1;
            running.push_back(id);
        }
        let done = running.pop_front().unwrap();
        turns.leave(done);
        let (peer, first_copy) = owner[&done];
        owner.insert(turns.enter(peer, first_copy), (peer, first_copy));
    }
    had
}

#[test]
fn slots_bound_what_runs_and_rotate_among_peers() {
    let mut turns = Turns::new(4);
    let peers = peers(8);
    let all: Vec<_> = peers.iter().map(|peer| (*peer, 3, false)).collect();
    let had = serve(&mut turns, &all, 400);
    assert!(peers.iter().all(|peer| (45..=55).contains(&had[peer])), "{had:?}");
    assert_eq!(turns.count(|state| state == State::Running), 3);
}

#[test]
fn who_asks_for_more_gets_no_more() {
    let peers = peers(5);
    let mut all: Vec<_> = peers.iter().map(|peer| (*peer, 1, false)).collect();
    all[0].1 = SERVED_PER_PEER;
    let had = serve(&mut Turns::new(2), &all, 500);
    // But for the turns of who has waited longest.
    assert!(had[&peers[0]] < 170, "{had:?}");
    assert!(peers[1..].iter().all(|peer| had[peer] > 75), "{had:?}");
}

#[test]
fn nobody_has_a_second_answer_before_another_has_a_first() {
    let mut turns = Turns::new(3);
    let [a, b, c] = peers(3).try_into().unwrap();
    let a: Vec<u64> = (0..4).map(|_| turns.enter(a, false)).collect();
    let b = turns.enter(b, false);
    let c = turns.enter(c, false);
    assert_eq!(begun(&mut turns), [a[0], b, c]);
    turns.leave(b);
    turns.leave(c);
    // Alone, it may have all slots.
    assert_eq!(begun(&mut turns), [a[1], a[2]]);
}

#[test]
fn a_newcomer_is_next() {
    let mut turns = Turns::new(1);
    let known = peers(3);
    serve(
        &mut turns,
        &known.iter().map(|peer| (*peer, 2, false)).collect::<Vec<_>>(),
        8,
    );
    let newcomer = turns.enter(PeerId::random(), false);
    let running = turns
        .entries
        .iter()
        .find(|(_, entry)| entry.state == State::Running);
    if let Some(running) = running.map(|(id, _)| *id) {
        turns.leave(running);
    }
    assert_eq!(begun(&mut turns), [newcomer]);
}

#[test]
fn first_copies_go_first_and_starve_nobody() {
    let peers = peers(4);
    let mut all: Vec<_> = peers.iter().map(|peer| (*peer, 4, true)).collect();
    all[3].2 = false;
    let had = serve(&mut Turns::new(2), &all, 800);
    let other = had[&peers[3]];
    assert!((20..=100).contains(&other), "{had:?}");
    assert!(peers[..3].iter().all(|peer| had[peer] > 200), "{had:?}");
}

#[test]
fn newcomers_without_end_starve_nobody() {
    let mut turns = Turns::new(1);
    let known = PeerId::random();
    let mut running = turns.enter(known, false);
    assert_eq!(begun(&mut turns), [running]);
    let waiting = turns.enter(known, false);
    for _ in 0..2 * PATIENCE {
        turns.enter(PeerId::random(), false);
    }
    let mut until = 0;
    while running != waiting {
        turns.enter(PeerId::random(), false);
        turns.leave(running);
        running = begun(&mut turns)[0];
        until += 1;
    }
    assert!(until <= PATIENCE, "{until}");
}

#[test]
fn one_that_is_stuck_gives_its_slot_away_and_goes_on_later() {
    let mut turns = Turns::new(1);
    let [a, b] = peers(2).try_into().unwrap();
    let (a, b) = (turns.enter(a, false), turns.enter(b, false));
    assert_eq!(begun(&mut turns), [a]);
    assert!(turns.full());
    turns.stuck(a, Instant::now());
    assert_eq!(begun(&mut turns), [b]);
    assert!(!turns.awaited() && !turns.full());
    turns.again(a);
    assert!(begun(&mut turns).is_empty());
    turns.leave(b);
    assert_eq!(begun(&mut turns), [a]);
}

#[test]
fn of_too_many_answers_the_one_stuck_longest_is_closed() {
    let mut turns = Turns::new(1);
    let begin = Instant::now();
    let at = |index: usize| begin + Duration::from_secs(if index == 40 { 0 } else { 1 });
    let stuck: Vec<u64> = (0..ANSWERS_MAX)
        .map(|index| {
            let id = turns.enter(PeerId::random(), false);
            assert_eq!(begun(&mut turns), [id]);
            turns.stuck(id, at(index));
            id
        })
        .collect();
    let next = turns.enter(PeerId::random(), false);
    assert_eq!(turns.next(), Some(Next::Close(stuck[40])));
    assert_eq!(turns.next(), Some(Next::Begin(next)));
    assert_eq!(turns.next(), None);
    // Where none is stuck, the one that waits longest to go on is.
    stuck.iter().for_each(|id| turns.again(*id));
    turns.leave(next);
    let fresh: Vec<u64> = (0..2).map(|_| turns.enter(PeerId::random(), true)).collect();
    assert_eq!(turns.next(), Some(Next::Begin(fresh[0])));
    turns.leave(fresh[0]);
    turns.enter(PeerId::random(), true);
    turns.set_slots(2);
    assert_eq!(turns.next(), Some(Next::Begin(fresh[1])));
    assert_eq!(turns.next(), Some(Next::Close(stuck[0])));
}

#[test]
fn what_is_remembered_of_peers_is_bounded() {
    let mut turns = Turns::new(1);
    for _ in 0..REMEMBERED + 50 {
        let id = turns.enter(PeerId::random(), false);
        assert_eq!(begun(&mut turns), [id]);
        turns.leave(id);
    }
    assert_eq!(turns.last.len(), REMEMBERED);
}
