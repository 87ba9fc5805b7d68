//! What a stretch of work took: time, CPU, memory, of the whole process that it is asked in.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{fs, time::Instant};

/// Clock ticks of `/proc/PID/stat` a second: 100 on every Linux there is.
const TICKS: f64 = 100.0;

/// What a stretch of work took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Time, in seconds.
    pub(crate) seconds: f64,
    /// CPU of all threads, in user mode and in the kernel, in seconds.
    pub(crate) cpu: f64,
    /// The most memory that was resident meanwhile, in bytes.
    pub(crate) peak: u64,
}

/// Measures from its start on.
pub(crate) struct Meter {
    begun: Instant,
    cpu: f64,
}

impl Meter {
    pub(crate) fn start() -> Result<Meter> {
        forget_peak("self");
        Ok(Meter {
            cpu: cpu_of("self")?,
            begun: Instant::now(),
        })
    }

    pub(crate) fn stop(self) -> Result<Measured> {
        let seconds = self.begun.elapsed().as_secs_f64();
        Ok(Measured {
            seconds,
            cpu: cpu_of("self")? - self.cpu,
            peak: peak_of("self")?,
        })
    }
}

/// Forgets the peak so far of a process, named as in `/proc`. Where it cannot, the peak is that since the process began: no less.
pub(super) fn forget_peak(process: &str) {
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// CPU seconds of a process, named as in `/proc`.
pub(super) fn cpu_of(process: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; user and system time are the 12th and 13th fields behind it.
    let (_, fields) = stat.rsplit_once(')').context("a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |index: usize| Ok::<f64, anyhow::Error>(fields.get(index).context("too few fields")?.parse()?);
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// The most memory that was resident, in bytes, of a process named as in `/proc`.
pub(super) fn peak_of(process: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn work_and_memory_are_seen() {
        let meter = Meter::start().unwrap();
        let memory = vec![1u8; 64 << 20];
        let mut rounds = 0;
        while meter.begun.elapsed().as_millis() < 60 || rounds == 0 {
            assert!(black_box(&memory).iter().step_by(4096).all(|byte| *byte == 1));
            rounds += 1;
        }
        let measured = meter.stop().unwrap();
        assert!(measured.seconds >= 0.06 && measured.cpu >= 0.01, "{measured:?}");
        assert!(measured.peak >= 64 << 20, "{measured:?}");
    }
}
