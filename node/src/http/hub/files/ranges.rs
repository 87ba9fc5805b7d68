//! Which bytes of a file a request is for, by its `Range` and `If-Range` headers alone.

use std::ops::Range;

use axum::http::{HeaderMap, header};
use headers::{ETag, HeaderMapExt, IfRange};
use http_range_header::{SyntacticallyCorrectRange as Spec, parse_range_header};

/// What is to be sent of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// One run of it, which is not empty and lies within it.
    Part(Range<u64>),
    /// A run of an empty file: clients ask for its first byte to learn how long it is, and take 416 for an error.
    OfNothing,
    /// A run that begins behind its end.
    Outside,
}

/// Reads what is asked for of a file of `len` bytes.
///
/// A header that does not read, or names another unit, counts as none; and who asks for several runs gets the whole, as RFC 9110
/// allows.
pub(super) fn wanted(headers: &HeaderMap, tag: &ETag, len: u64) -> Wanted {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return Wanted::Whole;
    };
    let parsed = range.to_str().ok().and_then(|text| parse_range_header(text).ok());
    let Some(parsed) = parsed else {
        return Wanted::Whole;
    };
    if !is_current(headers, tag) {
        return Wanted::Whole;
    }
    if len == 0 {
        return Wanted::OfNothing;
    }
    let [spec] = parsed.into_ranges()[..] else {
        return Wanted::Whole;
    };
    let (start, end) = match spec {
        Spec::FromStart(start) => (start, len),
        Spec::FromLast(count) => (len.saturating_sub(count), len),
        Spec::Indexed(start, last) => (start, last.saturating_add(1).min(len)),
    };
    match start < end {
        true => Wanted::Part(start..end),
        false => Wanted::Outside,
    }
}

/// Whether what the client has a part of is what we have. We tell no times, so a time never is.
fn is_current(headers: &HeaderMap, tag: &ETag) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    let condition = headers.typed_get::<IfRange>();
    condition.is_some_and(|condition| !condition.is_modified(Some(tag), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(header::HeaderName, &str)], len: u64) -> Wanted {
        let tag = "\"abc\"".parse().unwrap();
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        wanted(&headers.collect(), &tag, len)
    }

    fn range(text: &str, len: u64) -> Wanted {
        ask(&[(header::RANGE, text)], len)
    }

    #[test]
    fn one_range_is_cut_at_the_end_of_the_file() {
        let table = [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-4", Wanted::Part(2..5)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=9-9", Wanted::Part(9..10)),
            ("bytes=0-100000", Wanted::Part(0..10)),
            ("bytes=3-99999999999999999999", Wanted::Part(3..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-11", Wanted::Part(0..10)),
            ("Bytes=1-1", Wanted::Part(1..2)),
            ("bytes=10-", Wanted::Outside),
            ("bytes=10-12", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
        ];
        for (text, wanted) in table {
            assert_eq!(range(text, 10), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_single_range_gets_the_whole() {
        let table = [
            "bytes=0-1,3-4",
            "bytes=5-2",
            "bytes=",
            "bytes=a-b",
            "bytes=--1",
            "bytes 0-1",
            "lines=0-1",
            "",
        ];
        for text in table {
            assert_eq!(range(text, 10), Wanted::Whole, "{text}");
        }
        let twice = [(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=3-4")];
        assert_eq!(ask(&twice[..1], 10), Wanted::Part(0..2));
        let mut headers = HeaderMap::new();
        for (name, value) in twice {
            headers.append(name, value.parse().unwrap());
        }
        assert_eq!(wanted(&headers, &"\"abc\"".parse().unwrap(), 10), Wanted::Whole);
    }

    #[test]
    fn any_range_of_an_empty_file_is_answered() {
        for text in ["bytes=0-0", "bytes=0-", "bytes=-1", "bytes=5-9", "bytes=0-1,3-4"] {
            assert_eq!(range(text, 0), Wanted::OfNothing, "{text}");
        }
        assert_eq!(range("bytes=x", 0), Wanted::Whole);
    }

    #[test]
    fn part_of_another_file_is_not_completed() {
        let with = |condition: &str| ask(&[(header::RANGE, "bytes=2-"), (header::IF_RANGE, condition)], 10);
        assert_eq!(with("\"abc\""), Wanted::Part(2..10));
        for other in ["\"abd\"", "W/\"abc\"", "Sat, 29 Oct 1994 19:43:31 GMT", "abc"] {
            assert_eq!(with(other), Wanted::Whole, "{other}");
        }
    }
}
