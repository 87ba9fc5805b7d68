//! Lines of JSON in which one string may be very long: base64, which is decoded on the way and never held whole. The rest of a
//! line is given back as text, with an empty string in the place of the long one.

use std::io::{self, BufRead, Write};

use data_encoding::BASE64;

/// Longest string that stays in its line, in bytes. Longer ones are base64.
const INLINE_LEN_MAX: usize = 64 * 1024;
/// Longest line without its long string, in bytes.
const LINE_LEN_MAX: usize = 256 * 1024;
/// Digits that are decoded at once; a multiple of four.
const BLOCK: usize = 64 * 1024;

/// A line.
#[derive(Debug)]
pub(super) struct Line<W> {
    /// Its JSON.
    pub(super) text: Vec<u8>,
    /// What its long string says, if it has one.
    pub(super) long: Option<W>,
}

/// Why a line does not read.
#[derive(Debug)]
pub(super) enum LineError {
    /// It is no such line, for this reason.
    Wrong(&'static str),
    /// It did not come, or its content could not be kept.
    Io(io::Error),
}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> LineError {
        LineError::Io(error)
    }
}

enum State<W> {
    Outside,
    /// In a string whose text begins here.
    Inside {
        start: usize,
        escaped: bool,
    },
    Long(Decoder<W>),
}

/// Reads the next line that is not empty; `None` at the end. `open` makes what takes a long string's bytes.
pub(super) fn next<W: Write>(
    from: &mut impl BufRead,
    mut open: impl FnMut() -> W,
) -> Result<Option<Line<W>>, LineError> {
    let mut text = Vec::new();
    let mut long = None;
    let mut state = State::Outside;
    loop {
        let piece = from.fill_buf()?;
        if piece.is_empty() {
            return match state {
                State::Outside if text.is_empty() => Ok(None),
                State::Outside => Ok(Some(Line { text, long })),
                State::Inside { .. } | State::Long(_) => Err(LineError::Wrong("a string does not end")),
            };
        }
        let mut used = 0;
        while let Some(&byte) = piece.get(used) {
            used += 1;
            state = match state {
                State::Outside if byte == b'\n' => {
                    if !text.is_empty() {
                        from.consume(used);
                        return Ok(Some(Line { text, long }));
                    }
                    State::Outside
                }
                State::Outside => {
                    text.push(byte);
                    match byte {
                        b'"' => State::Inside {
                            start: text.len(),
                            escaped: false,
                        },
                        _ => State::Outside,
                    }
                }
                State::Inside { .. } if byte == b'\n' => {
                    return Err(LineError::Wrong("a string does not end in its line"));
                }
                State::Inside { start, escaped } => {
                    text.push(byte);
                    if byte == b'"' && !escaped {
                        State::Outside
                    } else if text.len() - start <= INLINE_LEN_MAX {
                        let escaped = byte == b'\\' && !escaped;
                        State::Inside { start, escaped }
                    } else if long.is_some() {
                        return Err(LineError::Wrong("two very long strings in one line"));
                    } else {
                        let mut decoder = Decoder::new(open());
                        decoder.feed(&text[start..])?;
                        text.truncate(start);
                        State::Long(decoder)
                    }
                }
                State::Long(mut decoder) => {
                    let rest = &piece[used - 1..];
                    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\n'));
                    decoder.feed(&rest[..end.unwrap_or(rest.len())])?;
                    match end {
                        Some(end) => {
                            used += end;
                            if rest[end] == b'\n' {
                                return Err(LineError::Wrong("a string does not end in its line"));
                            }
                            text.push(b'"');
                            long = Some(decoder.finish()?);
                            State::Outside
                        }
                        None => {
                            used = piece.len();
                            State::Long(decoder)
                        }
                    }
                }
            };
            if text.len() > LINE_LEN_MAX {
                return Err(LineError::Wrong("a line is too long"));
            }
        }
        from.consume(used);
    }
}

/// Decodes base64 as it comes, with slashes escaped or not, as JSON allows.
struct Decoder<W> {
    digits: Vec<u8>,
    bytes: Vec<u8>,
    escaped: bool,
    padded: bool,
    to: W,
}

impl<W: Write> Decoder<W> {
    fn new(to: W) -> Decoder<W> {
        Decoder {
            digits: Vec::with_capacity(BLOCK),
            bytes: vec![0; BLOCK],
            escaped: false,
            padded: false,
            to,
        }
    }

    fn feed(&mut self, mut text: &[u8]) -> Result<(), LineError> {
        while !text.is_empty() {
            let room = BLOCK - self.digits.len();
            let (part, rest) = text.split_at(text.len().min(room));
            text = rest;
            if self.escaped || part.contains(&b'\\') {
                for byte in part {
                    match (self.escaped, byte) {
                        (false, b'\\') => self.escaped = true,
                        (true, b'/') | (false, _) => {
                            self.escaped = false;
                            self.digits.push(*byte);
                        }
                        (true, _) => return Err(LineError::Wrong("the content is not base64")),
                    }
                }
            } else {
                self.digits.extend_from_slice(part);
            }
            if self.digits.len() == BLOCK {
                self.decode()?;
            }
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<(), LineError> {
        let wrong = LineError::Wrong("the content is not base64");
        // What is padded is the end.
        if std::mem::replace(&mut self.padded, self.digits.ends_with(b"=")) && !self.digits.is_empty() {
            return Err(wrong);
        }
        let digits = &self.digits;
        let (body, _) = digits.split_at(digits.len().saturating_sub(2));
        if body.contains(&b'=') {
            return Err(wrong);
        }
        let len = BASE64.decode_len(digits.len()).ok();
        let bytes = len.and_then(|len| self.bytes.get_mut(..len));
        let decoded = bytes.and_then(|bytes| {
            let len = BASE64.decode_mut(digits, bytes).ok()?;
            bytes.get(..len)
        });
        self.to.write_all(decoded.ok_or(wrong)?)?;
        self.digits.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<W, LineError> {
        if self.escaped {
            return Err(LineError::Wrong("the content is not base64"));
        }
        self.decode()?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};
    use std::io::BufReader;

    type Read = Result<Vec<(String, Option<Vec<u8>>)>, LineError>;

    fn read(text: &[u8], buffer: usize) -> Read {
        let mut from = BufReader::with_capacity(buffer, text);
        let mut lines = Vec::new();
        while let Some(Line { text, long }) = next(&mut from, Vec::new)? {
            lines.push((String::from_utf8(text).unwrap(), long));
        }
        Ok(lines)
    }

    fn base64(bytes: &[u8]) -> String {
        BASE64.encode(bytes)
    }

    #[test]
    fn short_strings_stay_and_long_ones_are_decoded_however_they_are_cut() {
        let long: Vec<u8> = (0..200_003_u32).map(|number| (number * 7 / 3) as u8).collect();
        let text = format!(
            "{{\"a\":\"b\\\"\\\\\"}}\n\n{{\"c\":\"{}\",\"d\":\"e\"}}\n{{\"f\":\"{}\"}}",
            base64(&long),
            base64(&long).replace('/', "\\/"),
        );
        for buffer in [1, 3, 4096, 1 << 20] {
            let lines = read(text.as_bytes(), buffer).unwrap();
            let wanted = [
                ("{\"a\":\"b\\\"\\\\\"}", None),
                ("{\"c\":\"\",\"d\":\"e\"}", Some(&long)),
                ("{\"f\":\"\"}", Some(&long)),
            ];
            assert_eq!(lines.len(), wanted.len());
            for (line, (text, long)) in lines.iter().zip(wanted) {
                assert_eq!((line.0.as_str(), line.1.as_ref()), (text, long), "{buffer}");
            }
        }
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        let digits = "A".repeat(INLINE_LEN_MAX + 8);
        let table = [
            "{\"a".to_owned(),
            "{\"a\nb\"}".to_owned(),
            format!("\"{digits}"),
            format!("\"{digits}\n"),
            format!("\"{digits}!\""),
            format!("\"{digits}A\""),
            format!("\"{digits}\\n\""),
            format!("\"{digits}\\\"\""),
            format!("\"AA=={}\"", "A".repeat(BLOCK)),
            format!("\"{digits}\"\"{digits}\""),
            "1".repeat(LINE_LEN_MAX + 1),
        ];
        for text in table {
            let end = text.len().saturating_sub(20);
            assert!(
                matches!(read(text.as_bytes(), 4096), Err(LineError::Wrong(_))),
                "{}",
                &text[end..]
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), buffer in 1..100_usize) {
            let mut from = BufReader::with_capacity(buffer, bytes.as_slice());
            while let Ok(Some(_)) = next(&mut from, Vec::new) {}
        }

        #[test]
        fn decoding_undoes_encoding(bytes in prop::collection::vec(any::<u8>(), 49_200..50_000)) {
            let lines = read(format!("\"{}\"", base64(&bytes)).as_bytes(), 1000).unwrap();
            prop_assert_eq!(&lines[0].1, &Some(bytes));
        }
    }
}
