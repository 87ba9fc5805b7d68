//! Pickles of all protocols, told by going through their operations as a loader would, without carrying any of them out: nothing is
//! kept but what is on the stack, a byte for each. Where loaders differ, or take more than anybody writes, so much is taken here too:
//! what one of them runs must not end here. Source: Lib/pickletools.py and Modules/_pickle.c of Python 3.14.

/// Operations that bytes without a protocol's mark must go through before they are taken for the beginning of a pickle.
const SURE_OPS: u32 = 64;
/// Longest thing in a pickle that is believed, in bytes: nobody has a larger one.
const THING_LEN_MAX: u64 = 1 << 40;

/// Whether a loader would take these bytes, the first of a file, for a pickle.
///
/// A pickle runs what it has up to an operation that does not read, so one that imports something counts whatever comes after.
pub(super) fn is_one(head: &[u8]) -> bool {
    is_one_counted(head, &mut 0)
}

/// As [`is_one`]; adds how many bytes were looked at.
pub(super) fn is_one_counted(head: &[u8], looked: &mut usize) -> bool {
    let marked = matches!(head, [0x80, 0..=5, ..]);
    let mut machine = Machine {
        bytes: head,
        marked,
        ..Machine::default()
    };
    let end = machine.run();
    *looked += head.len() - machine.bytes.len() - machine.skipped;
    let whole = end == End::Stop && machine.bytes.is_empty();
    match marked {
        // Its first thing may be longer than what is here.
        true => machine.imports || (matches!(end, End::Stop | End::Cut) && head.len() > 2),
        false => {
            let calls = machine.imports && (machine.calls || end == End::Stop);
            calls || (whole && machine.ops >= 3) || (end == End::Cut && machine.ops >= SURE_OPS)
        }
    }
}

/// How going through it ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the operation that ends a pickle.
    Stop,
    /// With the last of the bytes.
    Cut,
    /// With something that no loader goes on from.
    Wrong,
}

/// What is on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Mark,
    Thing,
    /// Something that may be a name.
    Name,
}

/// What a loader keeps in mind, but for values.
#[derive(Default)]
struct Machine<'a> {
    /// What is still to come.
    bytes: &'a [u8],
    /// How much was gone over without a look at it.
    skipped: usize,
    stack: Vec<Slot>,
    /// It begins with its protocol.
    marked: bool,
    ops: u32,
    /// Something was imported by its name.
    imports: bool,
    /// Something was called.
    calls: bool,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> End {
        loop {
            match self.step() {
                Ok(()) => self.ops += 1,
                Err(end) => return end,
            }
        }
    }

    fn step(&mut self) -> Result<(), End> {
        let op = self.take(1)?.first().copied().ok_or(End::Cut)?;
        match op {
            b'(' => self.stack.push(Slot::Mark),
            b'.' => {
                self.pop(1)?;
                self.ops += 1;
                return Err(End::Stop);
            }
            b'0' => drop(self.stack.pop().ok_or(End::Wrong)?),
            b'1' => drop(self.drop_to_mark()?),
            b'2' => {
                let top = self.stack.last().copied();
                self.need(1)?;
                self.stack.extend(top);
            }
            b'F' => self.number(|text| text.replace('_', "").parse::<f64>().is_ok())?,
            b'I' | b'L' => self.number(is_whole)?,
            b'S' => {
                let line = self.line()?;
                let quoted = matches!(line, [b'\'', .., b'\''] | [b'"', .., b'"']);
                self.push_if(quoted)?;
                self.named();
            }
            // Any line is one, with whatever is in it, but that a name is ASCII.
            b'V' | b'P' => {
                let line = self.line()?;
                self.push_if(op == b'V' || line.is_ascii())?;
                self.named();
            }
            b'g' => {
                self.number(is_whole)?;
                self.named();
            }
            b'p' => {
                self.need(1)?;
                self.number(is_whole)?;
                self.stack.pop();
            }
            b'c' => {
                self.import()?;
                self.push();
            }
            b'i' => {
                self.import()?;
                self.drop_to_mark()?;
                self.push();
                self.calls = true;
            }
            b'J' => self.plain(4)?,
            b'K' => self.plain(1)?,
            b'j' | b'h' => {
                self.plain(if op == b'j' { 4 } else { 1 })?;
                self.named();
            }
            b'M' => self.plain(2)?,
            b'G' => self.plain(8)?,
            b'N' | b'}' | b']' | b')' | 0x88 | 0x89 | 0x8f | 0x97 => self.push(),
            b'B' | 0x8b => self.counted(4, false)?,
            b'C' | 0x8a => self.counted(1, false)?,
            b'T' | b'U' => {
                self.counted(if op == b'T' { 4 } else { 1 }, false)?;
                self.named();
            }
            b'X' => self.counted(4, true)?,
            0x8c => self.counted(1, true)?,
            0x8d => self.counted(8, true)?,
            0x8e | 0x96 => self.counted(8, false)?,
            b'Q' | 0x85 => self.change(1, 1)?,
            0x86 => self.change(2, 1)?,
            0x87 => self.change(3, 1)?,
            b'R' | b'b' | 0x81 => self.call(2)?,
            0x92 => self.call(3)?,
            b'o' => {
                if self.drop_to_mark()? == 0 {
                    return Err(End::Wrong);
                }
                self.push();
                self.calls = true;
            }
            b'a' => self.change(2, 1)?,
            b's' => self.change(3, 1)?,
            b'e' | b'u' | 0x90 => {
                self.drop_to_mark()?;
                self.need(1)?;
            }
            b'd' | b'l' | b't' | 0x91 => {
                self.drop_to_mark()?;
                self.push();
            }
            b'q' => {
                self.take(1)?;
                self.need(1)?;
            }
            b'r' => {
                self.take(4)?;
                self.need(1)?;
            }
            0x94 | 0x98 => self.need(1)?,
            0x80 => {
                let protocol = self.take(1)?;
                if !matches!(protocol, [0..=5]) {
                    return Err(End::Wrong);
                }
            }
            // Numbers stand for names that were agreed on.
            0x82 => self.agreed(1)?,
            0x83 => self.agreed(2)?,
            0x84 => self.agreed(4)?,
            0x93 => {
                if !matches!(self.stack.as_slice(), [.., Slot::Name, Slot::Name]) {
                    return Err(End::Wrong);
                }
                self.change(2, 1)?;
                self.imports = true;
            }
            0x95 => {
                let len = self.len(8)?;
                if len > THING_LEN_MAX {
                    return Err(End::Wrong);
                }
            }
            _ => return Err(End::Wrong),
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], End> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(End::Cut)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a [u8], End> {
        let Some(len) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            self.bytes = &[];
            return Err(End::Cut);
        };
        let line = self.take(len)?;
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self) {
        self.stack.push(Slot::Thing);
    }

    /// What was pushed last may be a name.
    fn named(&mut self) {
        if let Some(last) = self.stack.last_mut() {
            *last = Slot::Name;
        }
    }

    fn push_if(&mut self, right: bool) -> Result<(), End> {
        match right {
            true => {
                self.push();
                Ok(())
            }
            false => Err(End::Wrong),
        }
    }

    /// A line with a number: it ends with a zero byte too, and has blanks around it.
    fn number(&mut self, is_one: impl Fn(&str) -> bool) -> Result<(), End> {
        let line = self.line()?;
        let text = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map(str::trim);
        self.push_if(text.is_ok_and(is_one))
    }

    /// Something of a fixed length.
    fn plain(&mut self, len: usize) -> Result<(), End> {
        self.take(len)?;
        self.push();
        Ok(())
    }

    /// A name that was agreed on, by its number.
    fn agreed(&mut self, len: usize) -> Result<(), End> {
        self.plain(len)?;
        // Three bytes of chance are too few to tell one by.
        self.imports |= self.marked;
        Ok(())
    }

    /// A length.
    fn len(&mut self, len: usize) -> Result<u64, End> {
        let taken = self.take(len)?;
        let mut eight = [0; 8];
        eight.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        Ok(u64::from_le_bytes(eight))
    }

    /// Something behind its length.
    fn counted(&mut self, len: usize, text: bool) -> Result<(), End> {
        let len = self.len(len)?;
        if len > THING_LEN_MAX {
            return Err(End::Wrong);
        }
        let all = usize::try_from(len).unwrap_or(usize::MAX);
        let (here, rest) = self.bytes.split_at_checked(all).unwrap_or((self.bytes, &[]));
        self.bytes = rest;
        let cut = here.len() < all;
        match text {
            true if !is_text(here, cut) => return Err(End::Wrong),
            true => {}
            false => self.skipped += here.len(),
        }
        if cut {
            return Err(End::Cut);
        }
        self.push();
        if text {
            self.named();
        }
        Ok(())
    }

    /// Two lines: a module, and what is in it.
    fn import(&mut self) -> Result<(), End> {
        for _ in 0..2 {
            let name = self.line()?;
            let letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
            let mut parts = name.split(|byte| *byte == b'.');
            let is_part = |part: &[u8]| {
                part.iter().all(letter) && part.first().is_some_and(|first| !first.is_ascii_digit())
            };
            // Python takes any name that something has. Behind a mark they need not look like one.
            if !self.marked && !parts.all(is_part) {
                return Err(End::Wrong);
            }
        }
        self.imports = true;
        Ok(())
    }

    /// Takes what is called, and with what, and leaves what comes of it.
    fn call(&mut self, takes: usize) -> Result<(), End> {
        self.change(takes, 1)?;
        self.calls = true;
        Ok(())
    }

    fn change(&mut self, takes: usize, leaves: usize) -> Result<(), End> {
        self.pop(takes)?;
        (0..leaves).for_each(|_| self.push());
        Ok(())
    }

    fn need(&self, things: usize) -> Result<(), End> {
        let top = self.stack.iter().rev().take(things);
        match top.filter(|slot| **slot != Slot::Mark).count() == things {
            true => Ok(()),
            false => Err(End::Wrong),
        }
    }

    fn pop(&mut self, things: usize) -> Result<(), End> {
        self.need(things)?;
        self.stack.truncate(self.stack.len() - things);
        Ok(())
    }

    /// Takes everything down to the last mark; returns how much.
    fn drop_to_mark(&mut self) -> Result<usize, End> {
        let mark = self.stack.iter().rposition(|slot| *slot == Slot::Mark);
        let mark = mark.ok_or(End::Wrong)?;
        let things = self.stack.len() - mark - 1;
        self.stack.truncate(mark);
        Ok(things)
    }
}

/// Whether a text is a whole number as Python reads one: of any base, with `_` between digits.
fn is_whole(text: &str) -> bool {
    let text = text.trim_end_matches('L').trim_start_matches(['-', '+']);
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0o") => (&lower[2..], 8),
        Some("0b") => (&lower[2..], 2),
        _ => (lower.as_str(), 10),
    };
    let mut digits = digits.chars().filter(|digit| *digit != '_').peekable();
    digits.peek().is_some() && digits.all(|digit| digit.is_digit(base))
}

/// Whether bytes are UTF-8, or that with halves of pairs (surrogates) in it, which Python writes and reads. `cut`: a letter may be cut at
/// their end.
fn is_text(bytes: &[u8], cut: bool) -> bool {
    let mut rest = bytes;
    loop {
        let Err(error) = std::str::from_utf8(rest) else {
            return true;
        };
        rest = rest.get(error.valid_up_to()..).unwrap_or_default();
        rest = match rest {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..] => rest,
            [0xed] | [0xed, 0xa0..=0xbf] => return cut,
            _ => return cut && error.error_len().is_none(),
        };
    }
}
