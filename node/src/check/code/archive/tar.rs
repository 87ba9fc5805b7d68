//! Tars: their headers lie between the files, so that as much of one is looked through as is seen of its beginning.

use super::{Archive, CodeKind, HEAD_LEN, Names, has_numpy_objects, pickle};

/// Bytes of a block: a header is one, and files are filled up to the next.
const BLOCK: usize = 512;
/// Where in a header its sum is.
const SUM: std::ops::Range<usize> = 148..156;

/// What of a tar can run code, as far as it is seen. `None`: it is none.
pub(super) fn detect(head: &[u8]) -> Option<Archive> {
    if !is_header(head.get(..BLOCK)?) {
        return None;
    }
    let (mut names, mut holds) = (Names::default(), false);
    // Whatever looks like a header counts, also where a loader would see something else in it.
    let blocks = head.chunks_exact(BLOCK).enumerate();
    for (at, block) in blocks.filter(|(_, block)| is_header(block)) {
        let data = head.get((at + 1) * BLOCK..).unwrap_or_default();
        let text = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        names.add(&block[..text(&block[..100])]);
        match block.get(156) {
            // The next one's name, which is too long for its header, by itself or on a line of the form `18 path=a/b.pkl`.
            Some(b'L' | b'x' | b'g') => {
                let lines = data[..text(data)].split(|byte| *byte == b'\n');
                lines.for_each(|name| names.add(name));
            }
            _ => holds |= pickle::is_one(data),
        }
    }
    let code = match () {
        () if names.pickle || holds => Some(CodeKind::ArchivedPickle),
        () if has_numpy_objects(head) => Some(CodeKind::NumpyObjects),
        // There may be more of it than is seen.
        () if head.len() as u64 >= HEAD_LEN => Some(CodeKind::Archive),
        () => None,
    };
    Some(Archive { code })
}

/// Whether a block is a header: by its mark, or by its sum, which those of the oldest have alone.
fn is_header(block: &[u8]) -> bool {
    let (mut sum, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if SUM.contains(&at) { b' ' } else { *byte };
        sum += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    let known = block.get(SUM).and_then(number);
    block.get(257..262) == Some(b"ustar") || known.is_some_and(|known| known == sum || known == signed)
}

/// A number as Python reads one in a header: octal digits up to a zero byte, or the bytes of it behind one that is
/// `80` or, where it is negative, `ff`.
fn number(field: &[u8]) -> Option<i64> {
    if let [sign @ (0x80 | 0xff), bytes @ ..] = field {
        let sign = if *sign == 0xff { -1 } else { 0 };
        return Some(bytes.iter().fold(sign, |sum, byte| sum << 8 | i64::from(*byte)));
    }
    let text = field.split(|byte| *byte == 0).next()?;
    let text = std::str::from_utf8(text).ok()?.trim().replace('_', "");
    let digits = text.strip_prefix("0o").or(text.strip_prefix("0O"));
    i64::from_str_radix(digits.unwrap_or(&text), 8).ok()
}
