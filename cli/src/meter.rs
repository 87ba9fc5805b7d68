//! How far a long verb is, for a person who waits: a bar on a terminal, a plain line now and then elsewhere.

use std::fmt::Write as _;
use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use node::progress::{Phase, Snapshot};
use tokio::sync::watch;

use crate::context::Context;
use crate::output;

/// Time between two looks at the work.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Work that is done sooner shows no bar.
const BAR_AFTER: Duration = Duration::from_millis(500);

/// Time before the first plain line.
const LINE_AFTER: Duration = Duration::from_secs(3);

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Over how much time the rate is evened out.
const RATE_OVER: Duration = Duration::from_secs(3);

/// Shows one verb's progress.
pub(crate) struct Meter {
    style: Style,
    rate: Rate,
    started: Instant,
}

enum Style {
    Silent,
    /// No bar yet: the work may be done at once.
    Bar(Option<ProgressBar>),
    Lines {
        next: Instant,
    },
}

impl Meter {
    pub(crate) fn new(context: &Context<'_>) -> Meter {
        let started = Instant::now();
        let style = match (context.json || context.quiet, context.io.is_terminal) {
            (true, _) => Style::Silent,
            (false, true) => Style::Bar(None),
            (false, false) => Style::Lines {
                next: started + LINE_AFTER,
            },
        };
        Meter {
            style,
            rate: Rate::default(),
            started,
        }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, snapshot: &Snapshot, context: &mut Context<'_>) {
        let now = Instant::now();
        self.rate.saw(snapshot, now);
        match &mut self.style {
            Style::Silent => {}
            Style::Bar(bar) => {
                if now - self.started >= BAR_AFTER {
                    let bar = bar.get_or_insert_with(new_bar);
                    bar.set_length(snapshot.bytes_total.max(1));
                    bar.set_position(snapshot.bytes.min(snapshot.bytes_total));
                    bar.set_message(describe(snapshot, self.rate.per_second));
                }
            }
            Style::Lines { next } => {
                if now >= *next {
                    *next = now + LINE_EVERY;
                    // If nobody hears it, the work still goes on.
                    let _ = writeln!(context.io.stderr, "{}", describe(snapshot, self.rate.per_second));
                }
            }
        }
    }

    /// Waits for `work`, and shows how far it is.
    pub(crate) async fn watch<T>(
        mut self,
        snapshots: watch::Receiver<Snapshot>,
        work: impl Future<Output = T>,
        context: &mut Context<'_>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                _ = looks.tick() => {
                    let snapshot = snapshots.borrow().clone();
                    self.show(&snapshot, context);
                }
            }
        }
    }
}

impl Drop for Meter {
    /// Takes the bar off the terminal.
    fn drop(&mut self) {
        if let Style::Bar(Some(bar)) = &self.style {
            bar.finish_and_clear();
        }
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:12} {wide_msg}").expect("the template is right");
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// Bytes per second, evened out, from snapshots as they come. A new phase begins anew.
#[derive(Default)]
struct Rate {
    last: Option<(Phase, u64, Instant)>,
    per_second: Option<f64>,
}

impl Rate {
    fn saw(&mut self, snapshot: &Snapshot, now: Instant) {
        let Snapshot { phase, bytes, .. } = *snapshot;
        match self.last {
            Some((last, before, at)) if last == phase && bytes >= before => {
                let seconds = now.saturating_duration_since(at).as_secs_f64();
                if seconds < 0.05 {
                    return;
                }
                let fresh = (bytes - before) as f64 / seconds;
                let weight = 1.0 - (-seconds / RATE_OVER.as_secs_f64()).exp();
                let even = self.per_second.map_or(fresh, |old| old + weight * (fresh - old));
                self.per_second = Some(even);
            }
            Some(_) | None => self.per_second = None,
        }
        self.last = Some((phase, bytes, now));
    }
}

fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Reading => "reading",
        Phase::Storing => "storing",
        Phase::Resolving => "resolving the name",
        Phase::Finding => "looking for providers",
        Phase::Fetching => "fetching",
        Phase::Checking => "checking",
        Phase::HandingOut => "handing out",
        Phase::Announcing => "announcing",
        Phase::Validating => "validating",
        Phase::Loading => "loading",
    }
}

/// `fetching 12.0 MiB of 91.1 MiB (11 of 92 shards have no provider), 40.0 MiB/s, 2 s left, 2 peers, 3 of 12 files`: what of
/// it is known, the most wanted first, for a narrow terminal cuts the end.
fn describe(snapshot: &Snapshot, rate: Option<f64>) -> String {
    let Snapshot {
        phase,
        bytes,
        bytes_total,
        files,
        files_total,
        peers,
        ..
    } = *snapshot;
    let mut text = verb(phase).to_owned();
    let mut add =
        |part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("writing to a string cannot fail");
    if bytes_total > 0 {
        add(format_args!(
            " {} of {}",
            output::size(bytes),
            output::size(bytes_total)
        ));
    } else if bytes > 0 {
        add(format_args!(" {}", output::size(bytes)));
    }
    if let Some(note) = &snapshot.note {
        add(format_args!(" ({})", output::printable(note)));
    }
    if let Some((rate, even)) = rate.and_then(|rate| Some((rate, output::per_second(rate)?))) {
        add(format_args!(", {even}"));
        let left = bytes_total.saturating_sub(bytes) as f64 / rate;
        if left > 0.5 {
            add(format_args!(", {} left", output::about(left)));
        }
    }
    if peers > 0 {
        add(format_args!(", {}", output::count(peers.into(), "peer")));
    }
    if files_total > 1 {
        add(format_args!(", {files} of {files_total} files"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn fetching(bytes: u64) -> Snapshot {
        Snapshot {
            phase: Phase::Fetching,
            bytes,
            bytes_total: 100 * MIB,
            files: 1,
            files_total: 3,
            peers: 2,
            note: None,
        }
    }

    #[test]
    fn progress_says_what_is_known_and_no_more() {
        let text = describe(&fetching(20 * MIB), Some(40.0 * MIB as f64));
        assert_eq!(
            text,
            "fetching 20.0 MiB of 100.0 MiB, 40.0 MiB/s, 2 s left, 2 peers, 1 of 3 files"
        );
        assert_eq!(describe(&Snapshot::default(), None), "starting");
        let note = Snapshot {
            phase: Phase::Finding,
            note: Some("nobody\nyet".to_owned()),
            ..Snapshot::default()
        };
        assert_eq!(
            describe(&note, Some(0.0)),
            "looking for providers (nobody\u{fffd}yet)"
        );
        let waiting = Snapshot {
            note: Some("11 of 4,096 shards have no provider".to_owned()),
            ..fetching(20 * MIB)
        };
        assert_eq!(
            describe(&waiting, None),
            "fetching 20.0 MiB of 100.0 MiB (11 of 4,096 shards have no provider), 2 peers, 1 of 3 files"
        );
    }

    #[test]
    fn rate_evens_out_and_begins_anew_with_a_phase() {
        let (mut rate, mut now) = (Rate::default(), Instant::now());
        let mut bytes = 50 * MIB;
        // What was there before counts for nothing.
        rate.saw(&fetching(bytes), now);
        assert_eq!(rate.per_second, None);
        for _ in 0..20 {
            now += Duration::from_secs(1);
            bytes += MIB;
            rate.saw(&fetching(bytes), now);
        }
        let even = rate.per_second.unwrap();
        assert!((even - MIB as f64).abs() < 1.0, "{even}");
        now += Duration::from_secs(1);
        rate.saw(&fetching(bytes), now);
        let slower = rate.per_second.unwrap();
        assert!(slower > 0.5 * even && slower < even, "{slower}");
        rate.saw(
            &Snapshot {
                phase: Phase::Checking,
                ..fetching(0)
            },
            now,
        );
        assert_eq!(rate.per_second, None);
    }
}
