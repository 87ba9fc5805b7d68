//! Why a command ends with another code than 0, as the user sees it: once, at the top.

use std::error::Error;
use std::io::{self, Write};

use node::http::messages::{ErrorAnswer, FAILED, NOT_VERIFIED};

/// What went wrong, the next step, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What went wrong, and what that came from.
    pub(crate) chain: Vec<String>,
    pub(crate) hint: Option<String>,
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Failure {
        Failure {
            chain: vec![what.into()],
            hint: None,
            code: FAILED,
        }
    }

    /// Bytes or a signature are not what they should be.
    pub(crate) fn not_verified(self) -> Failure {
        Failure {
            code: NOT_VERIFIED,
            ..self
        }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Puts what was being done before why it was not.
    pub(crate) fn context(mut self, what: impl Into<String>) -> Failure {
        self.chain.insert(0, what.into());
        self
    }

    /// Prints `error: a: b: c` and `hint: d`. Nothing, if all that happened is that nobody reads on.
    pub(crate) fn print(&self, stderr: &mut dyn Write) {
        if self.chain.is_empty() {
            return;
        }
        let hint = self.hint.as_ref().map(|hint| format!("hint: {hint}\n"));
        let text = format!("error: {}\n{}", self.chain.join(": "), hint.unwrap_or_default());
        // Nobody is left to tell if that goes wrong.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let io = (&error as &(dyn Error + 'static)).downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            // `shoal ls | head`: the reader has enough.
            return Failure {
                chain: Vec::new(),
                hint: None,
                code: 0,
            };
        }
        Failure::told(ErrorAnswer::of(&error))
    }
}

impl Failure {
    /// What a daemon said.
    pub(crate) fn told(answer: ErrorAnswer) -> Failure {
        let ErrorAnswer { error, hint, code } = answer;
        Failure {
            chain: error,
            hint,
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(failure: &Failure) -> String {
        let mut text = Vec::new();
        failure.print(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn chain_is_printed_once_and_the_hint_on_its_own_line() {
        let failure = Failure::new("c").context("b").context("a");
        assert_eq!(printed(&failure), "error: a: b: c\n");
        assert_eq!(
            printed(&failure.hint("do this")),
            "error: a: b: c\nhint: do this\n"
        );
    }

    #[test]
    fn reader_that_has_enough_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((printed(&failure).as_str(), failure.code), ("", 0));
        let failure = Failure::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(failure.code, FAILED);
        assert!(printed(&failure).contains("hint: "), "{failure:?}");
    }

    #[test]
    fn failed_verification_has_its_own_code() {
        assert_eq!(Failure::new("x").not_verified().code, 3);
    }
}
