//! The exam: which questions a model is asked, in which order, and what its answers come to. It does no I/O: whoever holds the engine
//! asks what [`Exam::next`] says, and gives the answer to [`Exam::take`].
//!
//! First the declared probes, each with its text for the tokenizer; then the challenges; then the fixed text. A wrong answer does not end it: what else
//! is wrong is said too, and what others can repeat is computed in any case.

use std::collections::VecDeque;

use protocol::{Challenge, Differences, Finite, Hash, Verdict, attestation::NONCE_LEN};

use super::{
    challenge::{self, Asked},
    compare::{self, Continued},
    probes::{Probe, Probes},
    report::{Behaviour, Line, counted},
    text,
};
use crate::engine::wire::{Fault, Row, Task};

/// Wrong answers that are described; the others are counted.
const NAMED_MAX: usize = 3;

/// Likeliest tokens asked for beyond those that are declared: two that are equally likely may have changed places at the end.
const TOP_MORE: usize = 8;

/// A question to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Which tokens this text is, with what the tokenizer puts around it.
    Tokens(String),
    /// The embedding of these tokens.
    Embed(Vec<u32>),
    /// What is expected at each of these tokens, with so many of the likeliest.
    Logits(Vec<u32>, usize),
}

/// An answer of the engine.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Tokens(Vec<u32>),
    Embedding(Vec<f32>),
    Logits(Vec<Row>, Hash),
    /// It cannot be done.
    Fault(Fault),
}

/// What the model is, as far as the exam needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Examinee {
    pub(super) manifest: Hash,
    pub(super) task: Task,
    /// Tokens it has an embedding for, if that is known.
    pub(super) vocabulary: Option<u32>,
    /// Tokens it can look back on.
    pub(super) context: usize,
}

/// What is asked next.
enum Step {
    /// The tokens of a probe's text.
    Text(usize),
    /// What a probe declares.
    Probe(usize),
    /// The next prompt of a challenge.
    Prompt(usize),
    /// The tokens of the fixed text.
    FixedText,
    /// How likely they are.
    Bits(Vec<u32>),
}

/// An exam under way.
pub(super) struct Exam {
    examinee: Examinee,
    probes: Vec<Probe>,
    steps: VecDeque<Step>,
    challenges: Vec<Asked>,
    /// Challenges with a result.
    done: Vec<Challenge>,
    wrong: Vec<String>,
    /// Texts that are other tokens than declared.
    retokenized: usize,
    ties: usize,
    differences: [Option<f64>; 3],
    bits_per_byte: Option<Finite>,
    /// What could not be computed for this kind of model.
    left_out: Vec<String>,
}

impl Exam {
    /// Sets the questions. `nonces` are those of the challenges, our own first.
    pub(super) fn new(examinee: Examinee, probes: Option<&Probes>, nonces: &[[u8; NONCE_LEN]]) -> Exam {
        let probes = probes.map(|probes| probes.probes.clone()).unwrap_or_default();
        let mut steps = VecDeque::new();
        for (at, probe) in probes.iter().enumerate() {
            if probe.text().0.is_some() {
                steps.push_back(Step::Text(at));
            }
            steps.push_back(Step::Probe(at));
        }
        let mut left_out = Vec::new();
        let mut challenges = Vec::new();
        match examinee.vocabulary {
            None => left_out.push("it has no table of tokens that is known".to_owned()),
            Some(_) if examinee.context < challenge::TOKENS => {
                left_out.push(format!("it looks back on only {} tokens", examinee.context));
            }
            Some(vocabulary) => {
                for (at, nonce) in nonces.iter().enumerate() {
                    challenges.push(Asked::new(examinee.manifest, *nonce, vocabulary));
                    steps.extend((0..challenge::PROMPTS).map(|_| Step::Prompt(at)));
                }
            }
        }
        if examinee.task == Task::Generate {
            steps.push_back(Step::FixedText);
        }
        Exam {
            examinee,
            probes,
            steps,
            challenges,
            done: Vec::new(),
            wrong: Vec::new(),
            retokenized: 0,
            ties: 0,
            differences: [None; 3],
            bits_per_byte: None,
            left_out,
        }
    }

    /// How many questions are left, at least.
    pub(super) fn left(&self) -> usize {
        self.steps.len()
    }

    /// What to ask; `None`: it is over.
    pub(super) fn next(&self) -> Option<Question> {
        Some(match self.steps.front()? {
            Step::Text(at) => {
                let (text, _) = self.probes[*at].text();
                Question::Tokens(text.unwrap_or_default().to_owned())
            }
            Step::Probe(at) => question(&self.probes[*at]),
            Step::Prompt(at) => {
                let prompt = self.challenges[*at].prompt().unwrap_or_default().to_vec();
                match self.examinee.task {
                    Task::Embed => Question::Embed(prompt),
                    Task::Generate => Question::Logits(prompt, 1),
                }
            }
            Step::FixedText => Question::Tokens(text::TEXT.to_owned()),
            Step::Bits(ids) => Question::Logits(ids.clone(), 1),
        })
    }

    /// Takes the answer to what [`Exam::next`] said.
    pub(super) fn take(&mut self, answer: Answer) {
        match self.steps.pop_front() {
            Some(Step::Text(at)) => self.text(at, answer),
            Some(Step::Probe(at)) => self.probe(at, answer),
            Some(Step::Prompt(at)) => self.prompt(at, answer),
            Some(Step::FixedText) => match answer {
                Answer::Tokens(ids) if ids.len() < 2 => {
                    self.wrong.push("the fixed text is no tokens".to_owned())
                }
                Answer::Tokens(ids) if ids.len() > self.examinee.context => {
                    self.left_out.push("the fixed text is too long for it".to_owned());
                }
                Answer::Tokens(ids) => self.steps.push_back(Step::Bits(ids)),
                other => self.cannot("the fixed text", &other),
            },
            Some(Step::Bits(_)) => match answer {
                Answer::Logits(rows, _) => match text::bits_per_byte(&rows).and_then(Finite::new) {
                    Some(bits) => self.bits_per_byte = Some(bits),
                    None => self
                        .wrong
                        .push("the fixed text: what comes out is no number".to_owned()),
                },
                other => self.cannot("the fixed text", &other),
            },
            None => {}
        }
    }

    /// What it all comes to.
    pub(super) fn finish(mut self) -> Behaviour {
        for (number, asked) in (1..).zip(std::mem::take(&mut self.challenges)) {
            match asked.finish() {
                Some(challenge) => self.done.push(challenge),
                None => self
                    .wrong
                    .push(format!("challenge {number}: what comes out is no number")),
            }
        }
        let finite = |number: Option<f64>| number.and_then(Finite::new);
        let [embed, logits, nll] = self.differences.map(finite);
        let line = self.line();
        if line.verdict == Verdict::NotDone {
            return Behaviour::only(line);
        }
        Behaviour {
            line,
            differences: Differences { embed, logits, nll },
            challenges: self.done,
            bits_per_byte: self.bits_per_byte,
        }
    }

    fn line(&self) -> Line {
        let mut wrong = self.wrong.clone();
        if self.retokenized > 0 {
            let texts = counted(self.retokenized as u64, "text");
            wrong.insert(
                0,
                format!("the tokenizer differs: {texts} of the probes are other tokens"),
            );
        }
        if !wrong.is_empty() {
            let more = wrong.len().saturating_sub(NAMED_MAX);
            wrong.truncate(NAMED_MAX);
            if more > 0 {
                wrong.push(format!("and {more} more"));
            }
            return Line::failed(wrong.join("; "));
        }
        let mut said = match self.probes.len() {
            0 => vec!["no probes are declared".to_owned()],
            probes => vec![format!("{} as declared", counted(probes as u64, "probe"))],
        };
        if self.ties > 0 {
            said.push(format!("up to {}", counted(self.ties as u64, "tie")));
        }
        let largest = self
            .differences
            .iter()
            .flatten()
            .copied()
            .fold(None, |largest: Option<f64>, one| {
                Some(largest.map_or(one, |largest| largest.max(one)))
            });
        if let Some(largest) = largest {
            said.push(format!("max difference {largest:.1e}"));
        }
        if !self.done.is_empty() {
            said.push(counted(self.done.len() as u64, "challenge"));
        }
        if let Some(bits) = self.bits_per_byte {
            said.push(format!("{:.3} bits per byte", bits.get()));
        }
        said.extend(self.left_out.iter().cloned());
        match self.done.is_empty() {
            // What nobody can repeat is not passed.
            true => Line::not_done(said.join(", ")),
            false => Line::passed(said.join(", ")),
        }
    }

    fn text(&mut self, at: usize, answer: Answer) {
        let (_, declared) = self.probes[at].text();
        match answer {
            Answer::Tokens(ids) => self.retokenized += usize::from(ids != declared),
            other => self.cannot(&format!("the text of probe {}", at + 1), &other),
        }
    }

    fn probe(&mut self, at: usize, answer: Answer) {
        let name = format!("probe {}", at + 1);
        match (self.probes[at].clone(), answer) {
            (Probe::Embed(probe), Answer::Embedding(values)) => {
                let difference = compare::largest(&values, &probe.expect);
                self.judge(0, &name, difference, probe.tol_abs);
            }
            (Probe::Logits(probe), Answer::Logits(rows, _)) => {
                let row = rows.last().filter(|_| rows.len() == probe.ids.len());
                let difference = row.and_then(|row| compare::logits(row, &probe.top, probe.lse));
                self.judge(1, &name, difference, probe.tol_abs);
            }
            (Probe::Nll(probe), Answer::Logits(rows, _)) => {
                let sum = compare::nll(&rows).filter(|(_, tokens)| *tokens == probe.n);
                let difference = sum.and_then(|(sum, _)| compare::difference(sum, probe.sum_nll));
                let mean = difference.map(|difference| difference / probe.n as f64);
                self.judge(2, &name, mean, probe.tol_per_token);
            }
            (Probe::Greedy(probe), Answer::Logits(rows, _)) => {
                let there = rows.len() == probe.ids.len() + probe.tokens.len();
                let rows = if there { rows.as_slice() } else { &[] };
                match compare::continued(rows, &probe.tokens, &probe.margins, probe.tie) {
                    Continued::Same { ties } => self.ties += ties,
                    Continued::Differs { at } => self.wrong.push(format!(
                        "{name}: {at} of {} declared tokens follow, and then another one does",
                        probe.n
                    )),
                    Continued::NoNumbers => self.wrong.push(format!("{name}: what comes out is no number")),
                }
            }
            (_, other) => self.cannot(&name, &other),
        }
    }

    fn judge(&mut self, kind: usize, name: &str, difference: Option<f64>, tolerance: f64) {
        let Some(difference) = difference else {
            self.wrong.push(format!(
                "{name}: what comes out is no number, or of another shape"
            ));
            return;
        };
        let before = self.differences[kind].unwrap_or(0.0);
        self.differences[kind] = Some(before.max(difference));
        if !compare::within(Some(difference), tolerance) {
            let what = ["the embedding", "the logits", "the likelihood of a token"][kind];
            self.wrong.push(format!(
                "{name}: {what} differs by {difference:.1e}, more than {tolerance:.0e}"
            ));
        }
    }

    fn prompt(&mut self, at: usize, answer: Answer) {
        let asked = &mut self.challenges[at];
        match answer {
            Answer::Embedding(values) => asked.embedding(&values),
            Answer::Logits(rows, digest) => asked.logits(&rows, digest),
            other => {
                // A number short, it comes to nothing; what follows of it is not asked.
                self.steps
                    .retain(|step| !matches!(step, Step::Prompt(other) if *other == at));
                self.cannot(&format!("challenge {}", at + 1), &other);
            }
        }
    }

    fn cannot(&mut self, what: &str, answer: &Answer) {
        let why = match answer {
            Answer::Fault(fault) => fault.to_string(),
            Answer::Tokens(_) | Answer::Embedding(_) | Answer::Logits(..) => {
                "another answer than asked for".to_owned()
            }
        };
        self.wrong.push(format!("{what}: {why}"));
    }
}

fn question(probe: &Probe) -> Question {
    match probe {
        Probe::Embed(probe) => Question::Embed(probe.ids.clone()),
        Probe::Logits(probe) => Question::Logits(probe.ids.clone(), probe.top.len() + TOP_MORE),
        Probe::Nll(probe) => Question::Logits(probe.ids.clone(), 1),
        // Each declared token is judged behind the declared ones before it: one that differs changes none of the others.
        Probe::Greedy(probe) => Question::Logits([&probe.ids[..], &probe.tokens].concat(), 2),
    }
}

#[cfg(test)]
mod tests;
