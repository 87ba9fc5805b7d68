//! How many answers are sent at once: climbs to where more of them bring no more bytes a second.

use crate::limits::{SLOTS_MAX, SLOTS_MIN};

/// Seconds between a trial that brought nothing and the next one.
const REST: u32 = 10;
/// More slots must bring so much more to be kept: less is within what rates vary by themselves.
const WORTHWHILE: f64 = 1.05;
/// Fewer slots may cost so much and are kept.
const BEARABLE: f64 = 0.97;

/// The number of slots, and what is being tried. It changes only while every slot is taken and somebody waits.
pub(super) struct Climb {
    slots: usize,
    fixed: bool,
    up: bool,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Not everybody was busy in the last second.
    Idle,
    /// So many seconds until the next trial.
    Rest(u32),
    /// The number was just changed: in the first second buffers fill, which says nothing of the line.
    Settle(Trial),
    /// The second that counts.
    Measure(Trial),
}

#[derive(Clone, Copy)]
struct Trial {
    from: usize,
    /// Bytes a second before it.
    rate: f64,
}

impl Climb {
    /// Begins at the least number, or stays at a fixed one.
    pub(super) fn new(fixed: Option<usize>) -> Climb {
        Climb {
            slots: fixed.unwrap_or(SLOTS_MIN),
            fixed: fixed.is_some(),
            up: true,
            phase: Phase::Idle,
        }
    }

    /// The number of slots.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// A second passed, in which bytes went at this `rate`; `full` when every slot is taken and somebody waits.
    pub(super) fn second(&mut self, rate: f64, full: bool) {
        if self.fixed {
            return;
        }
        self.phase = match self.phase {
            Phase::Settle(trial) | Phase::Measure(trial) if !full => {
                self.slots = trial.from;
                Phase::Idle
            }
            Phase::Idle | Phase::Rest(_) if !full => Phase::Idle,
            Phase::Idle => Phase::Rest(0),
            Phase::Rest(0) => self.begin(rate),
            Phase::Rest(seconds) => Phase::Rest(seconds - 1),
            Phase::Settle(trial) => Phase::Measure(trial),
            Phase::Measure(trial) => self.end(trial, rate),
        };
    }

    /// Tries half as many more: one more could not be told from chance. Or a quarter fewer.
    fn begin(&mut self, rate: f64) -> Phase {
        let from = self.slots;
        let tried = |up| match up {
            true => (from + from.div_ceil(2)).min(SLOTS_MAX),
            false => (from - from.div_ceil(4)).max(SLOTS_MIN),
        };
        if tried(self.up) == from {
            self.up = !self.up;
        }
        self.slots = tried(self.up);
        Phase::Settle(Trial { from, rate })
    }

    fn end(&mut self, trial: Trial, rate: f64) -> Phase {
        let ratio = rate / trial.rate.max(1.0);
        if self.up && ratio >= WORTHWHILE {
            return self.begin(rate);
        }
        if self.up || ratio < BEARABLE {
            self.slots = trial.from;
        }
        self.up = !self.up;
        Phase::Rest(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for some seconds on a line that gives `rate(slots)`; returns the numbers of slots.
    fn run(climb: &mut Climb, seconds: usize, rate: impl Fn(usize) -> f64) -> Vec<usize> {
        let second = |_| {
            climb.second(rate(climb.slots()), true);
            climb.slots()
        };
        (0..seconds).map(second).collect()
    }

    #[test]
    fn slots_grow_where_each_peer_is_slow() {
        let mut climb = Climb::new(None);
        let slots = run(&mut climb, 30, |slots| 1e6 * slots as f64);
        assert_eq!(slots.last(), Some(&SLOTS_MAX));
        assert!(
            run(&mut climb, 200, |slots| 1e6 * slots as f64)
                .iter()
                .all(|slots| *slots >= 24)
        );
    }

    #[test]
    fn slots_stay_few_where_the_line_is_full() {
        let mut climb = Climb::new(None);
        let slots = run(&mut climb, 200, |_| 1e7);
        assert!(
            slots
                .iter()
                .all(|slots| (SLOTS_MIN..=SLOTS_MIN * 3 / 2).contains(slots))
        );
        let trying = slots.iter().filter(|slots| **slots > SLOTS_MIN).count();
        assert!((10..60).contains(&trying), "{trying} seconds of 200");
    }

    #[test]
    fn slots_find_the_middle_and_come_back_down() {
        let mut climb = Climb::new(None);
        let slots = run(&mut climb, 300, |slots| 1e6 * slots.min(18) as f64);
        let near = slots[50..]
            .iter()
            .filter(|slots| (14..=28).contains(*slots))
            .count();
        assert!(near > 200, "{slots:?}");
        let slots = run(&mut climb, 300, |_| 1e6);
        assert!(
            slots[250..].iter().all(|slots| *slots <= SLOTS_MIN * 3 / 2),
            "{slots:?}"
        );
    }

    #[test]
    fn nothing_is_tried_while_nobody_waits_and_a_fixed_number_stays() {
        let mut climb = Climb::new(None);
        for second in 0..100 {
            climb.second(1e6 * f64::from(second), false);
            assert_eq!(climb.slots(), SLOTS_MIN);
        }
        climb.second(1e6, true);
        climb.second(1e6, true);
        assert!(climb.slots() > SLOTS_MIN);
        climb.second(1e9, false);
        assert_eq!(climb.slots(), SLOTS_MIN);
        let mut fixed = Climb::new(Some(1));
        assert!(
            run(&mut fixed, 100, |slots| slots as f64)
                .iter()
                .all(|slots| *slots == 1)
        );
    }
}
