//! Amounts as they are typed: rates and sizes, which may be `none`, and times.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use node::config::parse_size;

/// The most that there may be of something, in bytes or bytes a second; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtMost(pub(crate) Option<NonZeroU64>);

impl AtMost {
    /// What holds where `said` goes before what `was`.
    pub(crate) fn over(said: Option<AtMost>, was: Option<u64>) -> Option<u64> {
        said.map_or(was, |AtMost(most)| most.map(NonZeroU64::get))
    }
}

impl FromStr for AtMost {
    type Err = String;

    fn from_str(text: &str) -> Result<AtMost, String> {
        if text == "none" {
            return Ok(AtMost(None));
        }
        let bytes = parse_size(text).map_err(|wrong| wrong.to_string())?;
        match NonZeroU64::new(bytes) {
            Some(bytes) => Ok(AtMost(Some(bytes))),
            None => Err("nothing would ever end; `none` is no limit".to_owned()),
        }
    }
}

/// Reads a time of a second or more: a whole number and its unit, `s`, `m`, `h` or `d`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time such as 90s, 10m or 2h".to_owned();
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or_else(wrong)?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    match number.checked_mul(unit) {
        Some(0) => Err("too short: at least 1s".to_owned()),
        seconds => seconds.map(Duration::from_secs).ok_or_else(wrong),
    }
}

/// Reads a size in bytes, which is not 0.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match parse_size(text).map_err(|wrong| wrong.to_string())? {
        0 => Err("nothing fits into that".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Reads a temperature.
pub(super) fn temperature(text: &str) -> Result<f64, String> {
    between(text, 0.0, 2.0)
}

/// Reads a share of a whole.
pub(super) fn share(text: &str) -> Result<f64, String> {
    between(text, 0.0, 1.0)
}

fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    let inside = number.filter(|number| (least..=most).contains(number));
    inside.ok_or_else(|| format!("not a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_that_make_no_sense_are_refused() {
        assert_eq!(
            (temperature("0"), temperature("2.0"), share("0.9")),
            (Ok(0.0), Ok(2.0), Ok(0.9))
        );
        for text in ["", "NaN", "inf", "-0.1", "2.1", "warm"] {
            assert!(temperature(text).is_err(), "{text}");
        }
        assert!(share("1.1").is_err());
        assert_eq!(size("4G"), Ok(4 << 30));
        for text in ["0", "none", "-1", ""] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mosts_are_amounts_or_none_but_never_nothing() {
        let some = |text: &str| NonZeroU64::new(parse_size(text).unwrap());
        for text in ["4096", "512K", "2M", "10G"] {
            assert_eq!(text.parse(), Ok(AtMost(some(text))), "{text}");
        }
        assert_eq!("none".parse(), Ok(AtMost(None)));
        for text in ["", "0", "0K", "-1", "2X", "None", "fast", "99999999999999999999"] {
            assert!(text.parse::<AtMost>().is_err(), "{text}");
        }
        assert_eq!(AtMost::over(None, Some(7)), Some(7));
        assert_eq!(AtMost::over(Some(AtMost(None)), Some(7)), None);
        assert_eq!(AtMost::over(Some(AtMost(NonZeroU64::new(9))), None), Some(9));
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        let wrong = [
            "",
            "s",
            "90",
            "0s",
            "-1s",
            "+1s",
            "1.5h",
            "1 h",
            "1w",
            "10ms",
            "99999999999999999999s",
            "999999999999999999d",
        ];
        for text in wrong {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
