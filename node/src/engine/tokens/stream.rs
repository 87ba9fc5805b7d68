//! Text out of tokens that come one by one, in whole characters: a token may end within one.

use super::Tokens;
use crate::engine::wire::Fault;

/// Tokens that may wait for the rest of a character: one has at most 4 bytes, a token at least 1, and special ones may stand
/// between. What is none by then never becomes one, and goes out as U+FFFD.
const WAITING_MAX: usize = 8;

/// Tokens on their way out.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The tokens that went out last, which what comes next may depend on (a space between words), then those that wait.
    pub(super) ids: Vec<u32>,
    /// How many went out.
    out: usize,
    /// Their text.
    text: String,
}

impl Stream {
    /// Takes a token, and returns the text that is whole now: empty where it goes on within a character, or the token is a special
    /// one, which has no text.
    ///
    /// # Errors
    /// As [`Tokens::decode`].
    pub(crate) fn push(&mut self, tokens: &Tokens, id: u32) -> Result<String, Fault> {
        self.ids.push(id);
        let text = tokens.decode(&self.ids)?;
        let waits = text.ends_with(char::REPLACEMENT_CHARACTER) && self.ids.len() - self.out < WAITING_MAX;
        match waits || text.len() <= self.text.len() {
            true => Ok(String::new()),
            false => self.give(tokens, &text),
        }
    }

    /// Returns what waits still, as far as it is text.
    ///
    /// # Errors
    /// As [`Tokens::decode`].
    pub(crate) fn finish(&mut self, tokens: &Tokens) -> Result<String, Fault> {
        let text = tokens.decode(&self.ids)?;
        self.give(tokens, &text)
    }

    fn give(&mut self, tokens: &Tokens, text: &str) -> Result<String, Fault> {
        let new = match text.strip_prefix(self.text.as_str()) {
            Some(new) => new.to_owned(),
            // The tokens before look otherwise with those behind them: what went out cannot be taken back.
            None => text.chars().skip(self.text.chars().count()).collect(),
        };
        self.ids.drain(..self.out);
        self.out = self.ids.len();
        self.text = tokens.decode(&self.ids)?;
        Ok(new)
    }
}
