//! The schedule, by a clock that the tests turn.

use super::*;

fn schedule() -> Schedule {
    Schedule {
        rng: StdRng::seed_from_u64(7),
        ..Schedule::default()
    }
}

fn item(n: u16) -> Item {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    Item::Provider(key)
}

#[test]
fn a_new_item_goes_out_at_once_and_again_within_twelve_hours() {
    let (mut schedule, start) = (schedule(), Instant::now());
    schedule.add(item(1), start);
    assert_eq!(schedule.next(start), Some(item(1)));
    assert_eq!(schedule.next(start), None);
    schedule.finished(item(1), true, REQUESTS_USUAL, start);
    assert_eq!(schedule.next(start + AGAIN_MAX / 2 - SOON), None);
    assert_eq!(schedule.next(start + AGAIN_MAX), Some(item(1)));
}

#[test]
fn what_reached_nobody_goes_out_when_a_node_turns_up() {
    let (mut schedule, start) = (schedule(), Instant::now());
    schedule.add(item(1), start);
    schedule.next(start).unwrap();
    schedule.finished(item(1), false, REQUESTS_USUAL, start);
    assert_eq!(schedule.next(start + SOON * 2), None);
    schedule.node_joined(1_000, start);
    assert_eq!(schedule.next(start + SOON * 2), Some(item(1)));
}

#[test]
fn a_small_network_tells_its_new_nodes_and_a_large_one_waits() {
    let (mut schedule, start) = (schedule(), Instant::now());
    schedule.add(item(1), start);
    schedule.next(start).unwrap();
    schedule.finished(item(1), true, REQUESTS_USUAL, start);
    schedule.node_joined(1_000, start);
    assert_eq!(schedule.next(start + 2 * PAUSE), None);
    schedule.node_joined(3, start);
    assert_eq!(
        schedule.next(start + PAUSE / 2),
        None,
        "not more often than once a minute"
    );
    assert_eq!(schedule.next(start + 2 * PAUSE), Some(item(1)));
}

#[test]
fn a_removed_item_never_goes_out() {
    let (mut schedule, start) = (schedule(), Instant::now());
    schedule.add(item(1), start);
    schedule.add(item(2), start);
    schedule.remove(item(1));
    assert_eq!(schedule.next(start), Some(item(2)));
    schedule.remove(item(2));
    schedule.finished(item(2), true, REQUESTS_USUAL, start);
    assert_eq!(
        (
            schedule.next(start + AGAIN_MAX * 2),
            schedule.len(),
            schedule.order.len(),
            schedule.unheard
        ),
        (None, 0, 0, 0)
    );
}

#[test]
fn an_item_on_its_way_is_not_started_twice() {
    let (mut schedule, start) = (schedule(), Instant::now());
    schedule.add(item(1), start);
    schedule.next(start).unwrap();
    schedule.add(item(1), start);
    assert_eq!(schedule.next(start), None);
}

#[test]
fn no_more_than_the_bound_are_on_their_way() {
    let (mut schedule, start) = (schedule(), Instant::now());
    (0..100).for_each(|n| schedule.add(item(n), start));
    let out: Vec<_> = std::iter::from_fn(|| schedule.next(start)).collect();
    assert_eq!(out.len(), RUNNING_MAX);
    let later = start + Duration::from_secs(60);
    assert_eq!(schedule.next(later), None);
    schedule.finished(out[0], true, REQUESTS_USUAL, later);
    assert!(schedule.next(later).is_some());
}

#[test]
fn what_is_asked_for_last_overtakes_thousands_that_wait() {
    let (mut schedule, start) = (schedule(), Instant::now());
    (0..10_000).for_each(|n| schedule.add(item(n), start));
    while let Some(item) = schedule.next(start) {
        schedule.finished(item, true, REQUESTS_USUAL, start);
    }
    let later = start + Duration::from_millis(10);
    schedule.add(item(20_000), later);
    assert_eq!(schedule.next(later), None, "the pace holds");
    assert_eq!(schedule.next(later + schedule.gap()), Some(item(20_000)));
}

#[test]
fn where_announcements_cost_less_more_go_out() {
    let (mut schedule, start) = (schedule(), Instant::now());
    (0..1_000).for_each(|n| schedule.add(item(n), start));
    let usual = schedule.gap();
    let first = schedule.next(start).unwrap();
    schedule.finished(first, true, 4, start);
    let less = usual * 4 / REQUESTS_USUAL;
    assert_eq!(schedule.gap(), less);
    let second = schedule.next(start).unwrap();
    schedule.finished(second, false, 0, start);
    assert_eq!(schedule.gap(), less, "who reaches nobody tells nothing");
}

/// What went out, by the minute.
struct Told {
    minutes: Vec<u64>,
    /// When each thing went out.
    times: HashMap<Item, Vec<Duration>>,
}

/// Announces so many things from the same moment on, for so many hours; each takes two seconds and [`REQUESTS_USUAL`].
fn announce(count: u16, hours: u64) -> Told {
    let (mut schedule, start) = (schedule(), Instant::now());
    (0..count).for_each(|n| schedule.add(item(n), start));
    let (mut minutes, mut times) = (
        vec![0; hours as usize * 60],
        HashMap::<Item, Vec<Duration>>::new(),
    );
    let mut running = std::collections::VecDeque::new();
    for second in 0..hours * 3_600 {
        let now = start + Duration::from_secs(second);
        while running.front().is_some_and(|(ends, _)| *ends <= second) {
            let (_, item) = running.pop_front().unwrap();
            schedule.finished(item, true, REQUESTS_USUAL, now);
        }
        while let Some(item) = schedule.next(now) {
            running.push_back((second + 2, item));
            minutes[second as usize / 60] += 1;
            times.entry(item).or_default().push(now - start);
        }
    }
    Told { minutes, times }
}

/// The most within an hour, and within a minute, from this hour on.
fn most(told: &Told, from: usize) -> (u64, u64) {
    let minutes = &told.minutes[from * 60..];
    let hour = minutes.windows(60).map(|hour| hour.iter().sum()).max();
    (hour.unwrap(), *minutes.iter().max().unwrap())
}

fn longest_wait(told: &Told) -> Duration {
    let waits = told
        .times
        .values()
        .flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]));
    waits.max().unwrap()
}

/// Announcements that the budget has room for in an hour.
const HOUR_MAX: u64 = (REQUESTS_PER_HOUR_MAX / REQUESTS_USUAL) as u64;

#[test]
fn two_days_of_ten_thousand_manifests_and_their_names_stay_within_the_budget_without_bursts() {
    let told = announce(20_000, 48);
    assert_eq!(told.times.len(), 20_000, "everything went out");
    let first = told.times.values().map(|times| times[0]).max().unwrap();
    assert!(first < ROUND, "the first time after {first:?}");
    let (hour, minute) = most(&told, 0);
    assert!(hour <= HOUR_MAX + u64::from(BURST), "{hour} in an hour");
    assert!(minute <= HOUR_MAX / 60 + u64::from(BURST), "{minute} in a minute");
    // From then on one is said again every nine hours.
    let mean = 20_000 / 9;
    let (hour, minute) = most(&told, 12);
    assert!(hour < mean * 3 / 2, "{hour} in an hour");
    assert!(minute < mean / 60 * 2, "{minute} in a minute");
    let longest = longest_wait(&told);
    assert!(
        longest < AGAIN_MAX + Duration::from_secs(60),
        "{longest:?} between two"
    );
}

#[test]
fn a_thousand_manifests_are_said_within_the_hour_and_then_now_and_then() {
    let told = announce(1_000, 48);
    let first = told.times.values().map(|times| times[0]).max().unwrap();
    assert!(
        first < Duration::from_secs(20 * 60),
        "the first time after {first:?}"
    );
    let (hour, minute) = most(&told, 24);
    assert!(hour < 1_000 / 9 * 2, "{hour} in an hour");
    assert!(minute <= 12, "{minute} in a minute");
    assert!(longest_wait(&told) < AGAIN_MAX + Duration::from_secs(60));
}

#[test]
fn more_than_the_budget_has_room_for_is_still_said_before_it_is_forgotten() {
    let told = announce(60_000, 24);
    let first = told.times.values().map(|times| times[0]).max().unwrap();
    assert!(
        first < ROUND + Duration::from_secs(60),
        "the first time after {first:?}"
    );
    let longest = longest_wait(&told);
    assert!(longest < AGAIN_MAX + ROUND, "{longest:?} between two");
}
