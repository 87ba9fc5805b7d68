//! Numbers and tables as people read them. Everything is plain text: it reads the same without colour.

use std::time::Duration;

use node::http::messages::Wanted;
use node::library::RepoView;
use node::progress::grouped;
use protocol::{RepoRef, Verdict};

/// An amount of bytes: `512 B`, `1.0 KiB`, `91.1 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // From 1023.95 on, one digit behind the point would show 1024.0.
    while amount >= 1023.95 {
        amount /= 1024.0;
        unit = units.next();
    }
    format!("{amount:.1} {}", unit.unwrap_or(&"EiB"))
}

/// An amount of bytes in a time: `220.1 MiB/s`; `None`: the time is too short to say.
pub(crate) fn rate(bytes: u64, seconds: f64) -> Option<String> {
    (seconds > 0.001 && bytes > 0).then(|| format!("{}/s", size((bytes as f64 / seconds) as u64)))
}

/// Bytes a second: `220.1 MiB/s`; `None`: less than one.
pub(crate) fn per_second(bytes_s: f64) -> Option<String> {
    (bytes_s >= 1.0).then(|| format!("{}/s", size(bytes_s as u64)))
}

/// The most bytes there may be a second: `2.0 MiB/s` or `none`.
pub(crate) fn limit(bytes_s: Option<u64>) -> String {
    bytes_s.map_or_else(|| "none".to_owned(), |bytes_s| format!("{}/s", size(bytes_s)))
}

/// A text of at most `len` characters: of a longer one, both ends.
pub(crate) fn shortened(text: &str, len: usize) -> String {
    let long = text.chars().count();
    if long <= len {
        return text.to_owned();
    }
    let end = len / 3;
    let start = text.chars().take(len.saturating_sub(end + 1));
    start.chain(['…']).chain(text.chars().skip(long - end)).collect()
}

/// A time: `0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let whole = seconds.round() as u64;
    if seconds < 9.995 {
        format!("{seconds:.2} s")
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else if whole < 86_400 {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    } else {
        format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600)
    }
}

/// A time given in seconds; what is no time counts as none.
pub(crate) fn seconds(seconds: f64) -> String {
    time(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A time that is a guess, without parts of seconds: `2 s`, `3 min 20 s`.
pub(crate) fn about(seconds: f64) -> String {
    if seconds < 59.5 {
        format!("{} s", seconds.ceil() as u64)
    } else {
        self::seconds(seconds)
    }
}

/// A count and its noun: `1 file`, `2 files`.
pub(crate) fn count(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// A large number in short: `950`, `22.7 M`, `1.2 B`.
pub(crate) fn short_count(count: u64) -> String {
    match count {
        0..1_000_000 => grouped(count),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        count => format!("{:.1} B", count as f64 / 1e9),
    }
}

/// A day: `2026-01-31`, in UTC, from Unix seconds.
pub(crate) fn day(unix: u64) -> String {
    // Howard Hinnant's days-to-civil, for years from 1970 on.
    let days = unix / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// What a validation came to, in a word.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::NotDone => "not validated",
    }
}

/// What a user types to mean this repo again: with its alias if it has one.
pub(crate) fn name(view: &RepoView) -> String {
    match (&view.repo, &view.alias) {
        (Some(id), Some(alias)) => format!("{alias}/{}", id.name),
        (Some(id), None) => id.to_string(),
        (None, _) => Wanted::Repo(RepoRef::Content(view.manifest)).to_string(),
    }
}

/// Text of others without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Lays out rows in columns, two spaces apart, without blanks at the end. Without rows there is no heading either.
pub(crate) fn table<const N: usize>(heading: [(&str, Side); N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut widths = heading.map(|(name, _)| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lay = |cells: [&str; N]| {
        let mut line = String::new();
        for ((cell, width), (_, side)) in cells.iter().zip(widths).zip(heading) {
            let padded = match side {
                Side::Left => format!("{cell:<width$}  "),
                Side::Right => format!("{cell:>width$}  "),
            };
            line.push_str(&padded);
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    let mut text = lay(heading.map(|(name, _)| name));
    for row in rows {
        text.push_str(&lay(row.each_ref().map(String::as_str)));
    }
    text
}

/// Lays out words and what belongs to them: one pair a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs
        .iter()
        .map(|(word, _)| word.chars().count())
        .max()
        .unwrap_or(0);
    pairs
        .iter()
        .map(|(word, what)| format!("{word:<width$}  {what}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_show_1024() {
        let table = [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (1024 * 1024, "1.0 MiB"),
            (95_525_478, "91.1 MiB"),
            (2 * 1024 * 1024 * 1024, "2.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn times_are_short() {
        let table = [
            (0, "0.00 s"),
            (420, "0.42 s"),
            (9_990, "9.99 s"),
            (9_999, "10.0 s"),
            (12_340, "12.3 s"),
            (59_999, "1 min 0 s"),
            (200_000, "3 min 20 s"),
            (3_600_000, "1 h 0 min"),
            (7_500_000, "2 h 5 min"),
            (90_000_000, "1 d 1 h"),
        ];
        for (ms, text) in table {
            assert_eq!(time(Duration::from_millis(ms)), text, "{ms} ms");
        }
        assert_eq!(seconds(f64::NAN), "0.00 s");
        assert_eq!(seconds(-1.0), "0.00 s");
    }

    #[test]
    fn rates_need_time_and_bytes() {
        assert_eq!(rate(1024 * 1024, 0.5).as_deref(), Some("2.0 MiB/s"));
        assert_eq!(rate(0, 1.0), None);
        assert_eq!(rate(1, 0.0), None);
        assert_eq!(rate(1, f64::NAN), None);
    }

    #[test]
    fn limits_and_speeds_are_by_the_second() {
        assert_eq!(per_second(2048.9).as_deref(), Some("2.0 KiB/s"));
        assert_eq!((per_second(0.9), per_second(f64::NAN)), (None, None));
        assert_eq!(
            (limit(None), limit(Some(2048))),
            ("none".to_owned(), "2.0 KiB/s".to_owned())
        );
    }

    #[test]
    fn long_texts_keep_both_ends() {
        assert_eq!(shortened("äbcdefghi", 9), "äbcdefghi");
        assert_eq!(shortened("äbcdefghij", 9), "äbcde…hij");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let table = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
            (4_107_542_400, "2100-03-01"),
        ];
        for (unix, text) in table {
            assert_eq!(day(unix), text, "{unix}");
        }
    }

    #[test]
    fn columns_stand_under_their_headings() {
        let heading = [("SIZE", Side::Right), ("NAME", Side::Left)];
        let rows = [
            ["1".to_owned(), "ä".to_owned()],
            ["12345".to_owned(), String::new()],
        ];
        assert_eq!(table(heading, &rows), " SIZE  NAME\n    1  ä\n12345\n");
        assert_eq!(table(heading, &[]), "");
        assert_eq!(
            pairs(&[("a", "1".to_owned()), ("bcd", "2".to_owned())]),
            "a    1\nbcd  2\n"
        );
    }

    #[test]
    fn words_of_others_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(
            (count(1, "file"), count(0, "file")),
            ("1 file".to_owned(), "0 files".to_owned())
        );
    }
}
