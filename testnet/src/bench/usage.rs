//! What the machine and other processes spend, read from `/proc`: of this process, of a child, of all.

use super::meter::{cpu_of, peak_of};
use anyhow::{Context, Result};
use std::{fs, thread::available_parallelism, time::Instant};

/// What a process spent until now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    /// CPU in user mode and in the kernel, in seconds.
    pub(super) cpu: f64,
    /// The most memory that was resident, in bytes.
    pub(super) peak: u64,
}

impl Spent {
    /// Reads it of a child that runs, or ended and was not yet reaped.
    pub(super) fn of(process: u32) -> Result<Spent> {
        let process = process.to_string();
        Ok(Spent {
            cpu: cpu_of(&process)?,
            peak: peak_of(&process)?,
        })
    }
}

/// The machine's clock ticks since it was started.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    fn read() -> Result<Ticks> {
        let stat = fs::read_to_string("/proc/stat")?;
        Ticks::parse(&stat).context("the first line of /proc/stat")
    }

    /// Reads the line of all cores: user, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen.
    fn parse(stat: &str) -> Option<Ticks> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let all = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some(Ticks {
            busy: all - idle,
            all,
        })
    }
}

/// Watches the machine from its start on.
pub(super) struct Watch {
    begun: Instant,
    ticks: Ticks,
    ours: f64,
}

/// Shares of all cores' time, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shares {
    /// Everything that ran, whoever's it was.
    pub(super) machine: f64,
    /// The processes that were measured.
    pub(super) nodes: f64,
    /// This process: the link emulator, and what the kernel does for it.
    pub(super) emulator: f64,
}

impl Watch {
    pub(super) fn start() -> Result<Watch> {
        Ok(Watch {
            begun: Instant::now(),
            ticks: Ticks::read()?,
            ours: cpu_of("self")?,
        })
    }

    /// Ends it, given the CPU seconds that the measured processes spent meanwhile.
    pub(super) fn stop(self, nodes: f64) -> Result<Shares> {
        let now = Ticks::read()?;
        let cores = available_parallelism().map_or(1, usize::from) as f64;
        let time = self.begun.elapsed().as_secs_f64() * cores;
        let all = (now.all - self.ticks.all).max(1) as f64;
        Ok(Shares {
            machine: (now.busy - self.ticks.busy) as f64 / all,
            nodes: nodes / time,
            emulator: (cpu_of("self")? - self.ours) / time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_waiting_for_disks_are_not_busy() {
        let stat = "cpu  10 20 30 400 50 6 7 8 900 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(Ticks::parse(stat), Some(Ticks { busy: 81, all: 531 }));
        assert_eq!(Ticks::parse("cpu 1 2"), None);
        assert_eq!(Ticks::parse(""), None);
    }

    #[test]
    fn work_of_this_process_is_seen_as_the_emulators() {
        let watch = Watch::start().unwrap();
        let begun = Instant::now();
        while begun.elapsed().as_millis() < 100 {
            std::hint::black_box(begun);
        }
        let shares = watch.stop(0.0).unwrap();
        assert!(
            shares.emulator > 0.1 && shares.machine > 0.0 && shares.nodes == 0.0,
            "{shares:?}"
        );
        assert!(Spent::of(std::process::id()).unwrap().peak > 0);
    }
}
