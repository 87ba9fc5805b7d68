//! What the demo tells: a line for each step, with its time and speed, and in the end whether all held.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output;

/// One step that was made.
pub(super) struct Step {
    name: &'static str,
    took: Duration,
    bytes: Option<u64>,
    held: bool,
    text: String,
}

/// What `demo --json` prints of a step.
#[derive(Serialize)]
struct Printed<'a> {
    step: &'a str,
    ok: bool,
    seconds: f64,
    bytes: Option<u64>,
    text: &'a str,
}

/// The steps so far.
pub(super) struct Steps<'a, 'b> {
    context: &'a mut Context<'b>,
    begun: Instant,
    failed: Vec<&'static str>,
}

impl Step {
    /// A step that began then and is over now.
    pub(super) fn new(name: &'static str, begun: Instant) -> Step {
        Step {
            name,
            took: begun.elapsed(),
            bytes: None,
            held: true,
            text: String::new(),
        }
    }

    /// How much was moved or read: gives a speed.
    pub(super) fn bytes(self, bytes: u64) -> Step {
        Step {
            bytes: Some(bytes),
            ..self
        }
    }

    /// Whether what was promised came true.
    pub(super) fn held(self, held: bool) -> Step {
        Step { held, ..self }
    }

    /// What to say of it.
    pub(super) fn text(self, text: String) -> Step {
        Step { text, ..self }
    }
}

impl<'a, 'b> Steps<'a, 'b> {
    pub(super) fn new(context: &'a mut Context<'b>) -> Steps<'a, 'b> {
        Steps {
            context,
            begun: Instant::now(),
            failed: Vec::new(),
        }
    }

    /// What the steps print to.
    pub(super) fn context(&mut self) -> &mut Context<'b> {
        self.context
    }

    /// Prints a step.
    pub(super) fn done(&mut self, step: Step) -> Result<(), Failure> {
        let seconds = step.took.as_secs_f64();
        if !step.held {
            self.failed.push(step.name);
        }
        if self.context.json {
            let Step {
                name,
                bytes,
                held,
                text,
                ..
            } = &step;
            let printed = Printed {
                step: name,
                ok: *held,
                seconds,
                bytes: *bytes,
                text,
            };
            return Ok(self.context.print_json(&printed)?);
        }
        let mark = if step.held { "ok    " } else { "FAILED" };
        let rate = step.bytes.and_then(|bytes| output::rate(bytes, seconds));
        let rate = rate.map(|rate| format!(", {rate}")).unwrap_or_default();
        Ok(self.context.print(format_args!(
            "{mark} {:>8}  {}{rate}",
            output::time(step.took),
            step.text
        ))?)
    }

    /// Prints the end; an error if a step did not hold.
    pub(super) fn all_held(&mut self) -> Result<(), Failure> {
        let took = self.begun.elapsed();
        if !self.failed.is_empty() {
            let what = self.failed.join(", ");
            return Err(Failure::new(format!("what shoal promises did not hold: {what}"))
                .hint("this is a fault of shoal: please report it"));
        }
        match self.context.json {
            true => {
                let printed = Printed {
                    step: "end",
                    ok: true,
                    seconds: took.as_secs_f64(),
                    bytes: None,
                    text: "all held",
                };
                self.context.print_json(&printed)?;
            }
            false => self
                .context
                .print(format_args!("all held, in {}", output::time(took)))?,
        }
        Ok(())
    }
}
