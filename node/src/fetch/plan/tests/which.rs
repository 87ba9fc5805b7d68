//! Which shards are asked for, and how the end goes.

use super::*;
use crate::limits::{MANY_BLOBS, MANY_LEN};

#[test]
fn what_a_reader_waits_for_comes_first_and_in_its_order() {
    let mut bench = Bench::new(&[100 * SHARD_LEN], &[1, 2]);
    bench.plan.want(0..2, true);
    bench.plan.read_next(70..72);
    bench.plan.read_next(30..32);
    bench.plan.read_next(70..71);
    let runs: Vec<Range<u32>> = bench.asks().into_iter().map(|(_, _, run)| run).collect();
    assert_eq!(runs, [70..71, 71..72, 30..31, 31..32]);
}

#[test]
fn what_a_reader_waits_for_is_taken_from_a_peer_that_is_late() {
    let mut bench = Bench::new(&[1000 * SHARD_LEN], &[1]);
    bench.plan.read_next(500..510);
    assert_eq!(bench.asks()[0].2, 500..501);
    bench.join(2);
    for _ in 0..12 {
        bench.serve(2, 1, SECOND);
    }
    assert!((500..510).all(|shard| bench.plan.shards.is_here(shard)));
}

#[test]
fn first_ones_come_before_the_rest() {
    let mut bench = Bench::new(&[100 * SHARD_LEN, 10], &[1, 2]);
    bench.plan.want(0..1, true);
    bench.plan.want(99..101, true);
    let mut firsts: Vec<u32> = bench
        .asks()
        .into_iter()
        .map(|(_, _, run)| run.start)
        .take(3)
        .collect();
    firsts.sort_unstable();
    assert_eq!(firsts, [0, 99, 100]);
}

#[test]
fn rarest_comes_first() {
    let mut bench = Bench::new(&[64 * SHARD_LEN], &[1]);
    for peer in 2..6 {
        bench.plan.peer_joined(peer, bench.now);
        bench.plan.peer_has(peer, 0..40);
        bench.plan.peer_has(peer, 42..64);
    }
    let asked = bench.asks();
    let mut of_source: Vec<u32> = asked
        .iter()
        .filter(|(_, peer, _)| *peer == 1)
        .map(|(.., run)| run.start)
        .collect();
    of_source.sort_unstable();
    assert_eq!(of_source, [40, 41]);
}

#[test]
fn equals_come_in_another_order_with_another_seed() {
    let order = |seed| {
        let mut bench = Bench::new(&[1000 * SHARD_LEN], &[]);
        bench.plan = FetchPlan::new(map_of(&[1000 * SHARD_LEN]), seed);
        bench.plan.want(0..1000, false);
        bench.join(1);
        bench.asks()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn request_stays_in_one_long_blob_or_among_short_ones() {
    let lens = [10, SHARD_LEN, 20 * SHARD_LEN, 5, 6, 2 * SHARD_LEN, 7];
    let mut bench = Bench::new(&lens, &[1]);
    let blobs = bench.plan.shards.map().blobs().to_vec();
    while let Some(request) = {
        bench.decide();
        bench.request_of(1)
    } {
        let run = bench.running[&request].1.clone();
        let touched: Vec<_> = blobs
            .iter()
            .filter(|blob| blob.shards().start < run.end && run.start < blob.shards().end)
            .collect();
        assert!(
            touched.len() == 1 || touched.iter().all(|blob| blob.len <= SHARD_LEN),
            "{run:?}"
        );
        bench.now += 10 * MS;
        bench.finish(request);
    }
    assert_eq!(bench.plan.missing().shards, 0);
}

#[test]
fn small_blobs_go_together_within_the_bounds_of_one_request() {
    let mut bench = Bench::new(&[100; 5000], &[1]);
    assert_eq!(
        bench.asks().iter().map(|(.., run)| run.len()).max(),
        Some(MANY_BLOBS)
    );
    let mut bench = Bench::new(&[SHARD_LEN; 500], &[1]);
    bench.serve(1, 20, 5 * MS);
    bench.decide();
    let longest = bench
        .running
        .values()
        .map(|(_, run)| run.len() as u64 * SHARD_LEN)
        .max();
    assert_eq!(longest, Some(MANY_LEN));
}

#[test]
fn remaining_shards_stay_in_whole_blocks() {
    let mut bench = Bench::new(&[2000 * SHARD_LEN], &[1]);
    bench.serve(1, 60, 10 * MS);
    let missing: Vec<bool> = (0..2000).map(|shard| !bench.plan.shards.is_here(shard)).collect();
    let runs = missing.chunk_by(|a, b| a == b).filter(|run| run[0]).count();
    assert!(runs < 60, "{runs} runs");
}

#[test]
fn begun_blobs_are_finished_before_more_are_begun() {
    let mut bench = Bench::new(&[2 * SHARD_LEN; 200], &[1]);
    // Of each blob one shard comes, the other is had by nobody else.
    for blob in 0..64 {
        bench.plan.landed(2 * blob..2 * blob + 1);
    }
    assert!(bench.asks().iter().all(|(.., run)| run.start < 128));
    bench.plan.landed(0..100);
    bench.now += SECOND;
    bench.decide();
    bench.serve(1, 100, 10 * MS);
    assert!(bench.plan.shards.begun() <= 65);
}

#[test]
fn idle_peer_takes_the_back_half_and_the_other_is_stopped_when_all_is_here() {
    let mut bench = Bench::new(&[1000 * SHARD_LEN], &[1]);
    bench.serve(1, 30, 10 * MS);
    bench.decide();
    let under: Vec<_> = bench.running.clone().into_iter().collect();
    let (request, (_, run)) = under[0].clone();
    // All else is here; then the peer gets slow.
    bench.plan.landed(0..run.start);
    bench.plan.landed(run.end..1000);
    for _ in 0..4 {
        bench.now += SECOND;
        bench.decide();
    }
    assert_eq!(bench.running.len(), 1);
    bench.join(2);
    let taken = bench.asks();
    assert_eq!(taken.len(), 1, "it is new");
    assert_eq!((taken[0].1, taken[0].2.clone()), (2, run.end - 1..run.end));
    bench.now += 20 * MS;
    bench.finish(taken[0].0);
    let (asked, stopped) = bench.decide();
    assert_eq!((asked[0].1, asked[0].2.end), (2, run.end - 1));
    assert!(asked[0].2.len() > 2, "it is fast: {asked:?}");
    assert!(stopped.is_empty(), "it still brings its own half");
    bench.plan.landed(run);
    assert!(bench.decide().1.contains(&request));
    assert_eq!(bench.plan.next(bench.now), Action::Done);
}

#[test]
fn no_shard_is_in_three_requests() {
    let mut bench = Bench::new(&[SHARD_LEN], &[1]);
    bench.decide();
    bench.now += 5 * SECOND;
    bench.decide();
    for peer in 2..8 {
        bench.join(peer);
    }
    assert_eq!(bench.asks().len(), 1);
    bench.now += 4 * SECOND;
    assert_eq!(bench.asks().len(), 0);
}

#[test]
fn nothing_is_taken_from_a_peer_that_is_about_as_fast() {
    let mut bench = Bench::new(&[40 * SHARD_LEN], &[1, 2]);
    for _ in 0..19 {
        bench.decide();
        bench.now += 500 * MS;
        for peer in [1, 2] {
            let request = bench.request_of(peer).unwrap();
            bench.finish(request);
        }
    }
    bench.decide();
    let total: usize = bench.running.values().map(|(_, run)| run.len()).sum();
    assert_eq!(total as u32, bench.plan.missing().shards, "each is asked once");
}

#[test]
fn request_of_which_all_is_here_is_stopped() {
    let mut bench = Bench::new(&[SHARD_LEN, SHARD_LEN], &[1]);
    let asked = bench.asks();
    bench.plan.landed(0..2);
    assert_eq!(bench.decide().1, NO_STOP, "it may be about to say so itself");
    bench.now += 2 * SECOND;
    let stopped = bench.decide().1;
    assert!(asked.iter().all(|(request, ..)| stopped.contains(request)));
    assert_eq!(bench.plan.next(bench.now), Action::Done);
}

#[test]
fn request_is_not_cut_when_a_shard_in_its_middle_comes_from_elsewhere() {
    let mut bench = Bench::new(&[1000 * SHARD_LEN], &[1]);
    bench.serve(1, 30, 10 * MS);
    bench.decide();
    let (_, run) = bench.running.values().next().cloned().unwrap();
    bench.plan.landed(run.start + 1..run.start + 2);
    bench.now += 2 * SECOND;
    assert_eq!(bench.decide().1, NO_STOP);
}
