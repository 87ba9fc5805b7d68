//! The options that benchmarks on the link emulator share, and how their values are written.

use super::Transport;
use clap::Args;
use node::config::parse_size;
use std::{path::PathBuf, time::Duration};
use testnet::netns::CONGESTION;

/// Shortest queue before a rate, in bytes: a few dozen packets, whatever the rate.
const QUEUE_MIN: u64 = 64 * 1024;

/// How long a queue is in crowds, as time at its rate: what common home routers hold.
const QUEUE_TIME: Duration = Duration::from_millis(80);

#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Bytes of the file; K, M and G at the end count in 1,024s.
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = parse_size)]
    pub(super) size: u64,
    /// How often it is measured.
    #[arg(long, default_value_t = 3)]
    pub(super) rounds: usize,
    /// Over which transport.
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(super) transport: Transport,
    /// Bytes that wait before each rate [default: 80 ms worth of the rate; for a long link, rate times RTT].
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(super) queue: Option<u64>,
    /// Longest packet, in bytes.
    #[arg(long, default_value_t = 1500)]
    pub(super) mtu: u16,
    /// Let hosts hand over runs of packets at once, as to a network card: the emulator then takes far less of the machine.
    #[arg(long)]
    pub(super) offload: bool,
    /// How TCP finds its rate, by the kernel's name for it, such as bbr: one of those in the machine's net.ipv4.tcp_allowed_congestion_control.
    #[arg(long, value_name = "NAME", default_value = CONGESTION)]
    pub(super) congestion: String,
    /// Where the files are made, and removed again; by default where the system keeps such.
    #[arg(long, value_name = "FOLDER")]
    pub(super) dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Common {
    /// Bytes that wait before a rate: as told, or 80 ms worth of it.
    pub(super) fn queue(&self, bits_per_s: u64) -> u64 {
        self.queue.unwrap_or_else(|| worth(bits_per_s, QUEUE_TIME))
    }
}

/// The bytes that a rate carries in a time, and at least 64 KiB.
pub(super) fn worth(bits_per_s: u64, time: Duration) -> u64 {
    let bytes = u128::from(bits_per_s) * time.as_nanos() / 8 / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX).max(QUEUE_MIN)
}

/// Reads a rate in bits a second; K, M and G at the end count in 1,000s, as those who sell lines do.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok().filter(|number| *number > 0);
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("{text} is not a rate, such as 50M"))
}

/// Reads a time, such as `20ms` or `1.5s`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 0.001),
        None => (text.strip_suffix('s').unwrap_or(""), 1.0),
    };
    let seconds = digits.parse::<f64>().ok().map(|number| number * unit);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{text} is not a time, such as 20ms"))
}

/// Reads a share, such as `30%` or `0.3`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(digits) => digits.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text} is not a share, such as 30%"))
}

/// Names a rate as people do.
pub(super) fn megabits(bits_per_s: u64) -> String {
    format!("{} Mbit/s", bits_per_s as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_times_and_shares_have_units() {
        assert_eq!(rate("50M"), Ok(50_000_000));
        assert_eq!(rate("8"), Ok(8));
        assert_eq!(rate("1G"), Ok(1_000_000_000));
        assert!(
            ["", "M", "0M", "5X", "-1", "99999999999G"]
                .iter()
                .all(|text| rate(text).is_err())
        );
        assert_eq!(time("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(
            ["", "5", "ms", "-1s", "1m"]
                .iter()
                .all(|text| time(text).is_err())
        );
        assert_eq!(share("30%"), Ok(0.3));
        assert_eq!(share("0.3"), Ok(0.3));
        assert!(["", "130%", "-1", "x"].iter().all(|text| share(text).is_err()));
        assert_eq!(megabits(50_000_000), "50 Mbit/s");
    }

    #[test]
    fn a_queue_is_worth_its_time_and_never_tiny() {
        assert_eq!(worth(50_000_000, QUEUE_TIME), 500_000);
        assert_eq!(worth(400_000_000, Duration::from_millis(50)), 2_500_000);
        assert_eq!(worth(1_000_000, QUEUE_TIME), QUEUE_MIN);
    }
}
