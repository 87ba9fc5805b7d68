//! What a peer can do wrong, and what comes of it.

use super::*;
use crate::limits::STALL;

#[test]
fn silent_peer_loses_its_requests_to_others_and_is_asked_again_after_a_pause() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1, 2]);
    let asked = bench.asks();
    let of_silent: Vec<Request> = asked
        .iter()
        .filter(|(_, peer, _)| *peer == 1)
        .map(|(request, ..)| *request)
        .collect();
    for _ in 0..9 {
        bench.serve(2, 1, SECOND);
    }
    assert_eq!(bench.requests_of(1), 2);
    bench.now += SECOND;
    let (asked, stopped) = bench.decide();
    assert_eq!(stopped, of_silent);
    assert!(asked.iter().all(|(_, peer, _)| *peer == 2));
    bench.now += STALL - MS;
    let other = bench.request_of(2).unwrap();
    bench.finish(other);
    assert!(bench.asks().iter().all(|(_, peer, _)| *peer == 2));
    bench.now += MS;
    assert!(bench.asks().iter().any(|(_, peer, _)| *peer == 1));
}

#[test]
fn silent_peer_keeps_for_a_minute_what_nobody_else_has() {
    let mut bench = Bench::new(&[SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.now += 59 * SECOND;
    assert_eq!(bench.decide(), (vec![], vec![]));
    bench.now += SECOND;
    assert_eq!(bench.decide(), (vec![], vec![asked[0].0]));
    bench.now += STALL;
    assert_eq!(bench.asks().len(), 1, "it is asked again");
}

#[test]
fn silent_peer_loses_its_requests_when_another_comes() {
    let mut bench = Bench::new(&[SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.now += 30 * SECOND;
    bench.decide();
    bench.join(2);
    bench.now += SECOND;
    let (new, stopped) = bench.decide();
    assert_eq!(stopped, [asked[0].0]);
    assert_eq!(new[0].1, 2);
}

#[test]
fn peer_of_which_nothing_was_asked_is_not_silent() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1, 2]);
    bench.plan.set_paused(true);
    bench.decide();
    bench.now += 1000 * SECOND;
    bench.plan.set_paused(false);
    assert_eq!(bench.asks().len(), 4);
    bench.now += STALL - MS;
    assert_eq!(bench.decide().1, NO_STOP);
}

/// Peer 1 gives a group a second, peer 2, if it is there, a shard.
fn drip(bench: &mut Bench) {
    for _ in 0..31 {
        bench.decide();
        bench.now += SECOND;
        if let Some(slow) = bench.request_of(1) {
            bench.plan.progressed(slow, 16 * 1024, bench.now);
        }
        if let Some(fast) = bench.request_of(2) {
            bench.finish(fast);
        }
    }
    bench.decide();
}

#[test]
fn slow_peer_loses_its_requests_while_others_are_faster() {
    let mut bench = Bench::new(&[200 * SHARD_LEN], &[1, 2]);
    drip(&mut bench);
    assert_eq!(bench.requests_of(1), 0);
    assert!(bench.requests_of(2) > 0);
}

#[test]
fn slow_peer_goes_on_when_nobody_is_faster() {
    let mut bench = Bench::new(&[200 * SHARD_LEN], &[1]);
    drip(&mut bench);
    assert!(bench.requests_of(1) > 0);
}

#[test]
fn liar_is_never_asked_again_and_its_requests_are_stopped() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.fail(asked[0].0, Fault::Lied);
    assert_eq!(bench.decide(), (vec![], vec![asked[1].0]));
    bench.plan.peer_left(1, bench.now);
    bench.join(1);
    bench.now += 1000 * SECOND;
    assert_eq!(bench.asks(), []);
    assert!(bench.plan.peers().all(|view| view.banned));
}

#[test]
fn peer_that_breaks_sits_out_a_pause_that_doubles_up_to_a_minute() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1]);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        bench.decide();
        while let Some(request) = bench.request_of(1) {
            bench.plan.progressed(request, 1, bench.now);
            bench.fail(request, Fault::Broke);
        }
        bench.now += seconds * SECOND - MS;
        assert_eq!(bench.asks(), [], "within {seconds} s");
        bench.now += MS;
        assert_ne!(bench.asks(), [], "after {seconds} s");
    }
}

#[test]
fn success_shortens_the_pause() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1]);
    for _ in 0..3 {
        bench.decide();
        while let Some(request) = bench.request_of(1) {
            bench.plan.progressed(request, 1, bench.now);
            bench.fail(request, Fault::Broke);
        }
        bench.now += 60 * SECOND;
    }
    bench.serve(1, 5, 100 * MS);
    bench.decide();
    while let Some(request) = bench.request_of(1) {
        bench.fail(request, Fault::Broke);
    }
    bench.now += SECOND;
    assert_ne!(bench.asks(), []);
}

#[test]
fn what_broke_without_a_byte_is_not_believed_until_it_is_told_again() {
    let mut bench = Bench::new(&[SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.fail(asked[0].0, Fault::Broke);
    bench.now += 4 * SECOND;
    assert_eq!(bench.asks(), []);
    assert_eq!(bench.plan.unprovided(), 1);
    bench.plan.peer_has(1, 0..1);
    assert_eq!(bench.asks().len(), 1);
}

#[test]
fn doubt_ends_by_itself() {
    let mut bench = Bench::new(&[SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.fail(asked[0].0, Fault::Broke);
    let Action::Wait(Some(_)) = bench.plan.next(bench.now) else {
        panic!("it has to look again")
    };
    bench.now += DOUBT;
    assert_eq!(bench.asks().len(), 1);
}

#[test]
fn requests_of_a_peer_that_leaves_go_to_others() {
    let mut bench = Bench::new(&[2 * SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.plan.peer_left(1, bench.now);
    bench.join(2);
    let (again, stopped) = bench.decide();
    assert_eq!(stopped, [asked[0].0, asked[1].0]);
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|(_, peer, _)| *peer == 2));
}

#[test]
fn leaving_and_coming_back_does_not_end_a_pause() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.fail(asked[0].0, Fault::Broke);
    bench.plan.peer_left(1, bench.now);
    bench.join(1);
    assert_eq!(bench.asks(), []);
    bench.now += SECOND;
    assert_ne!(bench.asks(), []);
}

#[test]
fn what_is_told_of_a_stopped_request_is_ignored() {
    let mut bench = Bench::new(&[2 * SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.plan.peer_left(1, bench.now);
    bench.decide();
    bench.plan.progressed(asked[0].0, 5, bench.now);
    bench.plan.finished(asked[0].0, bench.now);
    bench.plan.failed(asked[1].0, Fault::Lied, bench.now);
    bench.join(1);
    assert_eq!(bench.asks().len(), 2);
}
