//! Bytes counted as they pass, and how fast they passed over the last few seconds.

use std::sync::Mutex;
use tokio::time::{Duration, Instant};

/// The last seconds, cut into cells of this length.
const CELL: Duration = Duration::from_millis(250);
/// Cells that a rate is taken over: 4 s.
const CELLS: usize = 16;

/// Counts bytes. What is counted is added a few times a second to a few thousand times, under a lock that hardly anybody shares.
pub(crate) struct Meter {
    begun: Instant,
    count: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    total: u64,
    cells: [u64; CELLS],
    /// The cell written last, counted from the beginning.
    cell: u64,
}

impl Count {
    /// Empties the cells that time went past.
    fn pass_to(&mut self, cell: u64) {
        for passed in self.cell + 1..=cell.min(self.cell + CELLS as u64) {
            self.cells[passed as usize % CELLS] = 0;
        }
        self.cell = self.cell.max(cell);
    }
}

impl Meter {
    /// Begins at 0.
    pub(crate) fn new() -> Meter {
        Meter {
            begun: Instant::now(),
            count: Mutex::default(),
        }
    }

    /// Counts bytes that passed now.
    pub(crate) fn add(&self, bytes: u64) {
        let cell = self.cell();
        let mut count = self.count.lock().expect("nothing panics while it holds this");
        count.pass_to(cell);
        count.total += bytes;
        let at = count.cell as usize % CELLS;
        count.cells[at] += bytes;
    }

    /// Bytes since the beginning.
    pub(crate) fn total(&self) -> u64 {
        self.count
            .lock()
            .expect("nothing panics while it holds this")
            .total
    }

    /// Bytes a second over the last 4 s, or since the beginning if that is later; at least a cell's time is looked at.
    pub(crate) fn rate(&self) -> f64 {
        let cell = self.cell();
        let mut count = self.count.lock().expect("nothing panics while it holds this");
        count.pass_to(cell);
        let bytes: u64 = count.cells.iter().sum();
        // The cell that is being filled counts with the time that it had.
        let window = CELL * (CELLS as u32 - 1) + self.begun.elapsed().saturating_sub(CELL * cell as u32);
        bytes as f64 / self.begun.elapsed().clamp(CELL, window.max(CELL)).as_secs_f64()
    }

    fn cell(&self) -> u64 {
        (self.begun.elapsed().as_millis() / CELL.as_millis()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_last_seconds() {
        let meter = Meter::new();
        assert_eq!(meter.rate(), 0.0);
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(100)).await;
            meter.add(1_000);
        }
        assert!((meter.rate() - 10_000.0).abs() < 500.0, "{}", meter.rate());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!((meter.rate() - 5_000.0).abs() < 500.0, "{}", meter.rate());
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert_eq!((meter.rate(), meter.total()), (0.0, 100_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_beginning_is_not_watered_down() {
        let meter = Meter::new();
        tokio::time::advance(Duration::from_secs(1)).await;
        meter.add(1_000);
        assert!((meter.rate() - 1_000.0).abs() < 50.0, "{}", meter.rate());
    }
}
