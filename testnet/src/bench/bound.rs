//! How fast a swarm could be at best. Pure.

/// Rates of a swarm's lines, in bits a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// What all sources together send at most.
    pub(super) source_up: u64,
    /// What each receiver sends at most.
    pub(super) up: u64,
    /// What each receiver receives at most.
    pub(super) down: u64,
}

impl Lines {
    /// The shortest time in which `receivers` can all have `size` bytes, in seconds: nobody has them before the source has sent
    /// them once, nor before they passed its own line, and all that is received, somebody sends.
    pub(super) fn bound(self, size: u64, receivers: usize) -> f64 {
        let bits = size as f64 * 8.0;
        let receivers = receivers as f64;
        let all = self.source_up as f64 + receivers * self.up as f64;
        (bits / self.source_up as f64)
            .max(bits / self.down as f64)
            .max(receivers * bits / all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1_000_000;

    fn bound(source_up: u64, up: u64, down: u64, receivers: usize) -> f64 {
        Lines { source_up, up, down }.bound(125 * M, receivers)
    }

    #[test]
    fn the_tightest_line_decides() {
        // 125 MB are 1,000 Mbit.
        assert_eq!(bound(50 * M, 50 * M, 50 * M, 8), 20.0, "the source");
        assert_eq!(bound(100 * M, 50 * M, 20 * M, 2), 50.0, "the line down");
        assert_eq!(bound(10 * M, 10 * M, 50 * M, 8), 100.0, "the source");
        assert_eq!(bound(50 * M, 10 * M, 50 * M, 8), 8_000.0 / 130.0, "all lines up");
        assert_eq!(bound(50 * M, 50 * M, 50 * M, 1), 20.0, "one alone");
    }
}
