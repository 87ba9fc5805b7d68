//! Pickles whose heads do not tell what they are: they have no mark, and their first things are longer than what is looked at of
//! every file. Few files begin like one, so of these more is read, up to a bound.

use std::ops::Range;

use super::Machine;

/// Bytes that are read at once of what goes on behind the head: a shard, which a fetch brings whole.
const STEP_LEN: u64 = protocol::SHARD_LEN;
/// Bytes that are read so altogether, at most. What goes on even then is taken for a pickle: nothing else is known to, but a line of
/// 8 MB that begins with a capital `P` or `V`.
const FURTHER_LEN_MAX: u64 = 16 * STEP_LEN;

/// Whether a file of `len` bytes is a pickle whose head does not tell: it has no mark, and its first things go on behind the head.
///
/// - `read`: the bytes of a range that lies within the file. Behind a thing with a length it goes on without what lies between.
pub(in crate::check::code) fn goes_on<B: AsRef<[u8]>, E>(
    head: &[u8],
    len: u64,
    mut read: impl FnMut(Range<u64>) -> Result<B, E>,
) -> Result<bool, E> {
    let mut machine = Machine::new(head);
    let mut end = machine.run();
    // It doubles where a line does not end within it, as none does within the head: then the first is one step.
    let (mut begin, mut window, mut left) = (0, STEP_LEN / 2, FURTHER_LEN_MAX);
    let mut bytes;
    loop {
        let whole = begin + machine.window.len() as u64 >= len;
        if let Some(told) = machine.tells(end, whole) {
            return Ok(told);
        }
        let through = machine.through();
        begin = u64::saturating_add(begin, through);
        // No loader goes on behind the end of the file.
        if whole || begin >= len {
            return Ok(false);
        }
        window = match through {
            0 => window * 2,
            _ => STEP_LEN,
        };
        left = match u64::checked_sub(left, window) {
            Some(left) => left,
            None => return Ok(true),
        };
        let kept = machine.without_bytes();
        bytes = read(begin..((begin / window + 1) * window).min(len))?;
        machine = kept;
        machine.goes_over(bytes.as_ref());
        end = machine.run();
    }
}
