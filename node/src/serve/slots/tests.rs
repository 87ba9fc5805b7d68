use super::*;
use futures::FutureExt;

#[tokio::test(start_paused = true)]
async fn a_turn_passes_on_when_it_is_dropped_shared_or_stuck() {
    let slots = Slots::new(Some(1));
    let mut a = slots.enter(PeerId::random(), false);
    let mut b = slots.enter(PeerId::random(), false);
    a.begin().await.unwrap();
    assert!(b.begin().now_or_never().is_none());
    a.stuck();
    b.begin().await.unwrap();
    {
        let again = a.again();
        tokio::pin!(again);
        assert!(again.as_mut().now_or_never().is_none());
        // The one that shares waits in turn.
        let share = b.share();
        tokio::pin!(share);
        assert!(share.as_mut().now_or_never().is_none());
        again.await.unwrap();
    }
    drop(a);
    b.begin().await.unwrap();
    // Nobody waits: it stays.
    b.share().now_or_never().unwrap().unwrap();
    assert!(b.closed().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn one_that_gives_up_waiting_leaves_the_line() {
    let slots = Slots::new(Some(1));
    let mut a = slots.enter(PeerId::random(), false);
    let b = slots.enter(PeerId::random(), false);
    let mut c = slots.enter(PeerId::random(), false);
    a.begin().await.unwrap();
    drop(b);
    drop(a);
    c.begin().await.unwrap();
    drop(c);
    assert!(slots.0.lock().unwrap().told.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_longest_stuck_of_too_many_is_told_to_end() {
    let slots = Slots::new(Some(1));
    let mut stuck = Vec::new();
    for _ in 0..crate::limits::ANSWERS_MAX {
        let mut turn = slots.enter(PeerId::random(), false);
        turn.begin().await.unwrap();
        turn.stuck();
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        stuck.push(turn);
    }
    let mut next = slots.enter(PeerId::random(), false);
    next.begin().await.unwrap();
    stuck[0].closed().now_or_never().unwrap();
    assert!(stuck[0].again().now_or_never().unwrap().is_err());
    assert!(stuck[1].closed().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn slots_adapt_by_the_bytes_of_each_second() {
    let slots = Slots::new(None);
    let mut turns: Vec<Turn> = (0..40).map(|_| slots.enter(PeerId::random(), false)).collect();
    let begun = |turns: &mut Vec<Turn>| {
        let begun = turns.iter_mut().map(|turn| turn.begin().now_or_never().is_some());
        begun.filter(|begun| *begun).count()
    };
    assert_eq!(begun(&mut turns), crate::limits::SLOTS_MIN);
    let mut sent = 0;
    for _ in 0..30 {
        sent += 1_000_000 * begun(&mut turns) as u64;
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        slots.second(sent);
    }
    assert_eq!(begun(&mut turns), crate::limits::SLOTS_MAX);
}
