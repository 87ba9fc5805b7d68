use super::*;
use futures::FutureExt;

const KIB: u64 = 1024;

fn up(rate: u64) -> Throttle {
    Throttle::new(Limits {
        up: Some(rate),
        ..Limits::default()
    })
}

/// Sends `bytes` in steps and returns how long it took.
async fn send(throttle: &Throttle, peer: PeerId, bytes: u64) -> Duration {
    let begun = Instant::now();
    let mut left = bytes as usize;
    while left > 0 {
        let step = left.min(throttle.up_step());
        throttle.up(peer, step).await;
        left -= step;
    }
    begun.elapsed()
}

fn assert_about(took: Duration, seconds: f64) {
    let took = took.as_secs_f64();
    assert!(
        (took - seconds).abs() <= seconds * 0.02 + 0.01,
        "{took} s instead of {seconds} s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_from_the_first_byte() {
    for rate in [3 * KIB, 100 * KIB, 5_000_000, 2_000_000_000] {
        let took = send(&up(rate), PeerId::random(), rate * 10).await;
        assert_about(took, 10.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_saves_up_no_more_than_a_burst() {
    let (throttle, peer) = (up(1_000_000), PeerId::random());
    send(&throttle, peer, 1_000_000).await;
    sleep(Duration::from_secs(60)).await;
    assert_about(send(&throttle, peer, 1_000_000).await, 0.75);
}

#[tokio::test(start_paused = true)]
async fn many_together_keep_the_rate_and_take_turns() {
    let (throttle, begun) = (up(100 * KIB), Instant::now());
    let sending = (0..10).map(|_| {
        let throttle = throttle.clone();
        async move { send(&throttle, PeerId::random(), 100 * KIB).await }
    });
    let took = futures::future::join_all(sending).await;
    assert_about(begun.elapsed(), 10.0);
    // All advance together: the first to be done is done near the end.
    assert!(took.iter().all(|took| took.as_secs_f64() > 8.0), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_a_change() {
    let (throttle, peer) = (up(1), PeerId::random());
    let waiting = tokio::spawn({
        let throttle = throttle.clone();
        async move { throttle.up(peer, 100_000).await }
    });
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    throttle.set(Limits {
        up: Some(100_000),
        ..Limits::default()
    });
    sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    throttle.set(Limits::default());
    waiting.await.unwrap();
    assert_about(begun.elapsed(), 0.5);
}

#[tokio::test(start_paused = true)]
async fn a_new_limit_holds_for_who_sends_already() {
    let (throttle, peer) = (up(1_000_000), PeerId::random());
    let sending = tokio::spawn({
        let throttle = throttle.clone();
        async move { send(&throttle, peer, 1_100_000).await }
    });
    // In the middle of the last step, of 100,000 bytes.
    sleep(Duration::from_millis(1_050)).await;
    throttle.set(Limits {
        up: Some(10_000),
        ..Limits::default()
    });
    let took = sending.await.unwrap().as_secs_f64();
    assert!((9.0..=11.2).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn each_peer_has_its_own_limit_within_that_of_all() {
    let throttle = Throttle::new(Limits {
        up: Some(150_000),
        peer_up: Some(100_000),
        ..Limits::default()
    });
    let (a, b) = (PeerId::random(), PeerId::random());
    assert_about(send(&throttle, a, 500_000).await, 5.0);
    let begun = Instant::now();
    tokio::join!(send(&throttle, a, 300_000), send(&throttle, b, 300_000));
    // A peer's limit alone would take 3 s.
    assert!(
        begun.elapsed() >= Duration::from_millis(3_700),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(throttle.0.up.peers.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_waits_for_its_own_limit_holds_nobody_up() {
    let throttle = Throttle::new(Limits {
        up: Some(1_000_000),
        peer_up: Some(10_000),
        ..Limits::default()
    });
    let slow = tokio::spawn({
        let throttle = throttle.clone();
        async move { throttle.up(PeerId::random(), 1_000_000).await }
    });
    assert_about(send(&throttle, PeerId::random(), 20_000).await, 2.0);
    assert!(!slow.is_finished());
    slow.abort();
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_the_scale() {
    let peer = PeerId::random();
    let slowest = up(1);
    assert_eq!(slowest.up_step(), 1);
    assert_about(send(&slowest, peer, 20).await, 20.0);
    assert_eq!(up(0).limits(), slowest.limits());
    let fastest = up(u64::MAX);
    assert_eq!(fastest.limits().up, Some(u64::MAX));
    assert_about(send(&fastest, peer, u64::MAX / 8).await, 0.125);
    let free = Throttle::new(Limits::default());
    assert_eq!((free.up_step(), free.down_step()), (usize::MAX, usize::MAX));
    assert!(free.up(peer, usize::MAX).now_or_never().is_some());
    // The other direction is not touched.
    assert!(slowest.down(peer, usize::MAX).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn buckets_of_peers_are_bounded_unless_in_use() {
    let throttle = Throttle::new(Limits {
        peer_down: Some(1),
        ..Limits::default()
    });
    let peers: Vec<PeerId> = (0..PEERS_MAX + 10).map(|_| PeerId::random()).collect();
    let waiting = throttle.down(peers[0], 10);
    tokio::pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    for peer in &peers[1..] {
        assert!(throttle.down(*peer, 1).now_or_never().is_none());
    }
    let kept = throttle.0.down.peers.lock().unwrap();
    assert!(kept.len() <= PEERS_MAX && kept.contains_key(&peers[0]));
}
