//! Pickles of all protocols, told by going through their operations as a loader would, without carrying any of them out: nothing is
//! kept but what is on the stack, a byte for each. Where loaders differ, or take more than anybody writes, so much is taken here too:
//! what one of them runs must not end here. Source: Lib/pickletools.py and Modules/_pickle.c of Python 3.14.

mod further;

pub(super) use further::goes_on;

/// Turns, of one operation to another, that bytes without a protocol's mark must take before they are taken for the beginning of a
/// pickle. The same again tells nothing: words that all begin with `V` are so many texts.
const SURE_TURNS: u32 = 64;
/// Longest thing in a pickle that is believed, in bytes: nobody has a larger one.
const THING_LEN_MAX: u64 = 1 << 40;
/// Longest name of a module, in bytes: as long as a path may be.
const MODULE_LEN_MAX: usize = 4_096;
/// Longest beginning of a number that need not look like one yet, such as `-infini`, in bytes.
const NUMBER_BEGIN_LEN: usize = 16;

/// Whether a loader would take these bytes, the first of a file, for a pickle.
///
/// A pickle runs what it has up to an operation that does not read, so one that imports something counts whatever comes after.
pub(super) fn is_one(head: &[u8]) -> bool {
    is_one_counted(head, &mut 0)
}

/// As [`is_one`]; adds how many bytes were looked at.
pub(super) fn is_one_counted(head: &[u8], looked: &mut usize) -> bool {
    let mut machine = Machine::new(head);
    let end = machine.run();
    *looked += head.len() - machine.bytes.len() - machine.skipped;
    machine.tells(end, true).unwrap_or(false)
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
    /// The bytes that it goes over.
    window: &'a [u8],
    /// What of them is still to come.
    bytes: &'a [u8],
    /// The same when the operation under way began.
    op: &'a [u8],
    /// How much of the last thing lies behind the window.
    beyond: u64,
    /// How much was gone over without a look at it.
    skipped: usize,
    stack: Vec<Slot>,
    /// It begins with its protocol.
    marked: bool,
    ops: u32,
    /// How often it went on with another operation than the last one.
    turns: u32,
    last: u8,
    /// Something was imported by its name.
    imports: bool,
    /// Something was called.
    calls: bool,
}

impl<'a> Machine<'a> {
    fn new(head: &'a [u8]) -> Machine<'a> {
        let mut machine = Machine {
            marked: matches!(head, [0x80, 0..=5, ..]),
            ..Machine::default()
        };
        machine.goes_over(head);
        machine
    }

    /// Has it go on with these bytes.
    fn goes_over(&mut self, window: &'a [u8]) {
        (self.window, self.bytes, self.op) = (window, window, window);
    }

    /// The same, before it is told what to go on with.
    fn without_bytes(self) -> Machine<'static> {
        Machine {
            window: &[],
            bytes: &[],
            op: &[],
            beyond: 0,
            skipped: 0,
            stack: self.stack,
            marked: self.marked,
            ops: self.ops,
            turns: self.turns,
            last: self.last,
            imports: self.imports,
            calls: self.calls,
        }
    }

    /// How far from the window's beginning it has to go on: where the operation begins that was cut off, or behind the last thing.
    fn through(&self) -> u64 {
        match self.beyond {
            0 => (self.window.len() - self.op.len()) as u64,
            beyond => self.window.len() as u64 + beyond,
        }
    }

    /// Whether that was a pickle, by how it ended; `None`: what comes next tells. `whole`: nothing comes behind the window.
    fn tells(&self, end: End, whole: bool) -> Option<bool> {
        if self.marked {
            // Its first thing may be longer than what is here.
            return Some(self.imports || (end != End::Wrong && self.window.len() > 2));
        }
        match end {
            _ if self.imports && (self.calls || end == End::Stop) => Some(true),
            End::Stop => Some(whole && self.bytes.is_empty() && self.ops >= 3),
            End::Wrong => Some(false),
            End::Cut => (self.turns >= SURE_TURNS).then_some(true),
        }
    }

    fn run(&mut self) -> End {
        loop {
            self.op = self.bytes;
            match self.step() {
                Ok(()) => self.ops += 1,
                Err(end) => return end,
            }
        }
    }

    fn step(&mut self) -> Result<(), End> {
        let op = self.take(1)?.first().copied().ok_or(End::Cut)?;
        self.turns += u32::from(op != self.last);
        self.last = op;
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
                self.line(|line, cut| match line {
                    [] => cut,
                    [b'\'' | b'"'] => cut,
                    [first @ (b'\'' | b'"'), .., last] => cut || first == last,
                    _ => false,
                })?;
                self.push();
                self.named();
            }
            // Any line is one, with whatever is in it, but that a name is ASCII.
            b'V' | b'P' => {
                self.line(|line, _| op == b'V' || line.is_ascii())?;
                self.push();
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

    /// A line that fits: as far as it is here, where it is cut.
    fn line(&mut self, fits: impl Fn(&[u8], bool) -> bool) -> Result<(), End> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = self.bytes.split_at(end.unwrap_or(self.bytes.len()));
        self.bytes = rest.get(1..).unwrap_or_default();
        match (fits(line, end.is_none()), end) {
            (false, _) => Err(End::Wrong),
            (true, None) => Err(End::Cut),
            (true, Some(_)) => Ok(()),
        }
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

    /// A line with a number: it ends with a zero byte too, and has blanks around it.
    fn number(&mut self, is_one: impl Fn(&str) -> bool) -> Result<(), End> {
        self.line(|line, cut| {
            let mut texts = line.split(|byte| *byte == 0);
            let text = std::str::from_utf8(texts.next().unwrap_or_default());
            let begins = |text: &str| text.len() < NUMBER_BEGIN_LEN || is_one(&format!("{text}0"));
            let cut = cut && texts.next().is_none();
            text.map(str::trim)
                .is_ok_and(|text| is_one(text) || (cut && begins(text)))
        })?;
        self.push();
        Ok(())
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
        self.push();
        if text {
            self.named();
        }
        if cut {
            // What is behind it is gone on with.
            self.beyond = len - here.len() as u64;
            self.ops += 1;
            return Err(End::Cut);
        }
        Ok(())
    }

    /// Two lines: a module, and what is in it.
    fn import(&mut self) -> Result<(), End> {
        let marked = self.marked;
        for longest in [MODULE_LEN_MAX, usize::MAX] {
            // Python takes any name that something has. Behind a mark they need not look like one.
            self.line(|name, cut| marked || (name.len() <= longest && is_name(name, cut)))?;
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

/// Whether a line is a name, or several with dots between them. `cut`: the last one may go on.
fn is_name(line: &[u8], cut: bool) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    line.split(|byte| *byte == b'.').all(|part| {
        let begins = part.first().map_or(cut, |first| !first.is_ascii_digit());
        begins && part.iter().all(letter)
    })
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
