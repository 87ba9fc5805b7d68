//! What a child hears and says: lines of JSON, within bounds.

use std::{
    io::{self, BufRead, Read, Write},
    process::exit,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use crate::engine::wire::{Ask, Fault, LINE_LEN_MAX, Said};

/// Asks that were heard and not answered yet, at most: one is answered, one waits.
const ASKS_MAX: usize = 1;

/// Exit code of a child that nobody hears, or that was asked nothing sensible.
pub(super) const UNHEARD: u8 = 3;

/// Nobody hears, or nothing sensible is asked.
#[derive(Debug)]
pub(super) struct Unheard;

/// The asks, as they come on stdin.
pub(super) struct Asks(Receiver<Ask>);

impl Asks {
    /// Listens from now on, in a thread of its own: whatever the process is doing, it ends when nobody is there to ask any more.
    pub(super) fn listen() -> Asks {
        let (pass_on, asks) = sync_channel(ASKS_MAX);
        thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            while let Some(ask) = read(&mut stdin) {
                if pass_on.send(ask).is_err() {
                    return;
                }
            }
            exit(0);
        });
        Asks(asks)
    }

    pub(super) fn next(&self) -> Result<Ask, Unheard> {
        self.0.recv().map_err(|_| Unheard)
    }
}

/// Reads a line; `None`: there is none, or it is none of ours.
fn read(from: &mut impl BufRead) -> Option<Ask> {
    let mut line = Vec::new();
    let max = LINE_LEN_MAX as u64;
    let len = from.take(max).read_until(b'\n', &mut line).ok()?;
    if len == 0 || line.last() != Some(&b'\n') {
        return None;
    }
    serde_json::from_slice(&line).ok()
}

/// What is said, on stdout.
pub(super) struct Voice;

impl Voice {
    /// Says a line, and waits until it is out.
    pub(super) fn say(&self, said: &Said) -> Result<(), Unheard> {
        let too_long = || {
            Said::Failed(Fault::Ask(format!(
                "the answer is longer than {LINE_LEN_MAX} bytes"
            )))
        };
        let mut line = line(said)?;
        if line.len() > LINE_LEN_MAX {
            line = self::line(&too_long())?;
        }
        let mut stdout = io::stdout().lock();
        let out = stdout.write_all(&line).and_then(|()| stdout.flush());
        out.map_err(|_| Unheard)
    }

    /// Says a line in the middle of work, which ends with the process when nobody hears it.
    pub(super) fn murmur(&self, said: &Said) {
        if self.say(said).is_err() {
            exit(UNHEARD.into());
        }
    }
}

fn line(said: &Said) -> Result<Vec<u8>, Unheard> {
    let mut line = serde_json::to_vec(said).map_err(|_| Unheard)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_cut_garbled_or_endless_are_no_asks() {
        let good = "{\"tokens\":{\"text\":\"a\",\"special\":true}}\n";
        assert!(matches!(
            read(&mut good.as_bytes()),
            Some(Ask::Tokens { special: true, .. })
        ));
        for bad in [
            "",
            "{\"tokens\":{\"text\":\"a\",\"special\":true}}",
            "\n",
            "{}\n",
            "[1]\n",
        ] {
            assert!(read(&mut bad.as_bytes()).is_none(), "{bad:?}");
        }
        let mut endless = io::BufReader::new(io::repeat(b'['));
        assert!(read(&mut endless).is_none());
    }
}
