//! What a validation says: a line for each level, and what its behaviour came to.

use protocol::{Challenge, Differences, Finite, Hash, Publisher, Verdict};
use serde::{Deserialize, Serialize};

use crate::progress::grouped;

/// What a validation came to on one level, in a word and in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The word.
    pub verdict: Verdict,
    /// What was seen, what is wrong, or why it was not done.
    pub text: String,
}

impl Line {
    pub(super) fn passed(text: impl Into<String>) -> Line {
        let (verdict, text) = (Verdict::Passed, text.into());
        Line { verdict, text }
    }

    pub(super) fn failed(text: impl Into<String>) -> Line {
        let (verdict, text) = (Verdict::Failed, text.into());
        Line { verdict, text }
    }

    pub(super) fn not_done(text: impl Into<String>) -> Line {
        let (verdict, text) = (Verdict::NotDone, text.into());
        Line { verdict, text }
    }
}

/// What came of the behaviour of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Behaviour {
    pub(super) line: Line,
    pub(super) differences: Differences,
    /// Our own first.
    pub(super) challenges: Vec<Challenge>,
    pub(super) bits_per_byte: Option<Finite>,
}

impl Behaviour {
    /// Nothing came of it.
    pub(super) fn only(line: Line) -> Behaviour {
        Behaviour {
            line,
            differences: Differences::default(),
            challenges: Vec::new(),
            bits_per_byte: None,
        }
    }
}

/// What a validation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The revision.
    pub manifest: Hash,
    /// The files are what their formats ask for.
    pub structure: Line,
    /// The weights are numbers.
    pub numbers: Line,
    /// The model does what its publisher declares.
    pub behaviour: Line,
    /// The hash of the declared probes.
    pub probes: Option<Hash>,
    /// The largest differences to what they declare: of embeddings, logits, and likelihoods.
    pub differences: [Option<f64>; 3],
    /// Bits for each byte of the fixed text.
    pub bits_per_byte: Option<f64>,
    /// How the results compare with those of others.
    pub compared: Vec<Compared>,
    /// Doors of the engine's process that this system cannot close, in words.
    pub open: Vec<String>,
    /// Who signed it: us.
    pub by: Publisher,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl Report {
    /// Whether no level failed.
    pub fn ok(&self) -> bool {
        self.lines()
            .iter()
            .all(|(_, line)| line.verdict != Verdict::Failed)
    }

    /// The levels by their names, lowest first.
    pub fn lines(&self) -> [(&'static str, &Line); 3] {
        [
            ("structure", &self.structure),
            ("numbers", &self.numbers),
            ("behaviour", &self.behaviour),
        ]
    }
}

/// How our results compare with those of somebody else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Whose.
    pub by: Publisher,
    /// Whether they are the same, within the tolerance.
    pub agrees: bool,
    /// The largest difference, where both did the same challenge.
    pub difference: Option<f64>,
}

/// A count and its noun: `22,713,216 numbers`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        let table = [
            (0, "0 as"),
            (1, "1 a"),
            (999, "999 as"),
            (1000, "1,000 as"),
            (22_713_216, "22,713,216 as"),
        ];
        for (count, text) in table {
            assert_eq!(counted(count, "a"), text);
        }
    }
}
