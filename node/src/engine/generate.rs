//! Going on with a text: token after token, until the model or a stop text ends it, or enough has come. It knows tokens' texts only
//! by what it is given.

use std::{ops::ControlFlow, time::Instant};

use super::{
    decoder::Decoder,
    sample::Sampler,
    wire::{End, Fault, Generated},
};

/// Most stop texts: four times what OpenAI's API takes.
pub(crate) const STOPS_MAX: usize = 16;
/// Longest stop text, in bytes: text is held back while it may become one.
pub(crate) const STOP_LEN_MAX: usize = 1024;

/// What ends a generation, and what is drawn.
#[derive(Debug)]
pub(crate) struct Limits<'a> {
    /// Most tokens to generate.
    pub(crate) max_tokens: usize,
    /// Tokens that end it, besides those that the model's files say.
    pub(crate) stop_ids: &'a [u32],
    /// Texts that end it; neither they nor what follows is given.
    pub(crate) stop: &'a [String],
}

/// Forgets all that `decoder` has read, reads `prompt`, and goes on from there.
///
/// - `text`: the text that a token adds: whole characters, empty while one is not whole. Asked with `None` at the end, for what is left.
/// - `sink`: takes pieces of text and their tokens in order; text that may be the beginning of a stop text is held back until it is
///   known. [`ControlFlow::Break`] ends the generation at once: nobody wants it any more.
///
/// # Errors
/// [`Fault::Ask`]: the prompt is empty or leaves no room in what the model can look back on, or a stop text is empty, too long, or one too many.
/// [`Fault::NotANumber`]: the model computes none. And what `text` says.
pub(crate) fn generate(
    decoder: &mut Decoder,
    sampler: &mut Sampler,
    prompt: &[u32],
    limits: &Limits,
    text: impl FnMut(Option<u32>) -> Result<String, Fault>,
    sink: impl FnMut(&str, &[u32]) -> ControlFlow<()>,
) -> Result<Generated, Fault> {
    decoder.reset();
    let context = decoder.settings().context;
    if prompt.len() >= context {
        return Err(Fault::Ask(format!(
            "a prompt of {} tokens leaves no room in the {context} that the model can look back on",
            prompt.len()
        )));
    }
    let ends: Vec<u32> = decoder
        .settings()
        .stops
        .iter()
        .chain(limits.stop_ids)
        .copied()
        .collect();
    let most = limits.max_tokens.min(context - prompt.len());
    let going = Going {
        prompt_tokens: prompt.len(),
        most,
        stop: limits.stop,
    };
    going.on(
        |id| ends.contains(&id),
        text,
        sink,
        |last| {
            let logits = decoder.last(last.map_or(prompt, std::slice::from_ref))?;
            sampler.next(&logits)
        },
    )
}

/// The loop, whatever the tokens come from.
struct Going<'a> {
    prompt_tokens: usize,
    most: usize,
    stop: &'a [String],
}

/// What became of a piece of text.
#[derive(PartialEq, Eq)]
enum Given {
    /// It was taken, or is held back.
    Taken,
    /// A stop text came: what is before it was given.
    Stopped,
    /// Nobody wants any more.
    Unwanted,
}

impl Going<'_> {
    /// `next` gives the first token for `None`, and the one behind a token for it.
    fn on(
        self,
        ends: impl Fn(u32) -> bool,
        mut text: impl FnMut(Option<u32>) -> Result<String, Fault>,
        mut sink: impl FnMut(&str, &[u32]) -> ControlFlow<()>,
        mut next: impl FnMut(Option<&u32>) -> Result<u32, Fault>,
    ) -> Result<Generated, Fault> {
        if self.stop.len() > STOPS_MAX {
            return Err(Fault::Ask(format!(
                "{} stop texts: {STOPS_MAX} can be",
                self.stop.len()
            )));
        }
        if self
            .stop
            .iter()
            .any(|stop| stop.is_empty() || stop.len() > STOP_LEN_MAX)
        {
            return Err(Fault::Ask(format!(
                "a stop text is empty, or longer than {STOP_LEN_MAX} bytes"
            )));
        }
        let started = Instant::now();
        let mut prompt_s = None;
        let mut held = Held::default();
        let (mut tokens, mut last, mut end, mut given) = (0, None, End::Length, Given::Taken);
        while tokens < self.most && given == Given::Taken {
            let id = next(last.as_ref())?;
            prompt_s.get_or_insert_with(|| started.elapsed().as_secs_f64());
            if ends(id) {
                end = End::Stop;
                break;
            }
            tokens += 1;
            last = Some(id);
            held.ids.push(id);
            held.text.push_str(&text(Some(id))?);
            given = held.give(self.stop, &mut sink);
        }
        if given == Given::Taken {
            held.text.push_str(&text(None)?);
            given = held.give(self.stop, &mut sink);
        }
        match given {
            Given::Taken => held.give_all(&mut sink),
            Given::Stopped | Given::Unwanted => end = End::Stop,
        }
        let prompt_s = prompt_s.unwrap_or_default();
        Ok(Generated {
            end,
            prompt_tokens: self.prompt_tokens,
            tokens,
            prompt_s,
            tokens_s: (started.elapsed().as_secs_f64() - prompt_s).max(0.0),
        })
    }
}

/// What has come and was not given yet.
#[derive(Debug, Default)]
struct Held {
    text: String,
    ids: Vec<u32>,
}

impl Held {
    /// Gives what is surely no part of a stop text, with all tokens that came.
    fn give(&mut self, stop: &[String], sink: &mut impl FnMut(&str, &[u32]) -> ControlFlow<()>) -> Given {
        let found = stop.iter().filter_map(|stop| self.text.find(stop.as_str())).min();
        let sure = found.unwrap_or_else(|| self.text.len() - self.beginning(stop));
        let sunk = match sure {
            0 => ControlFlow::Continue(()),
            sure => sink(&self.text[..sure], &std::mem::take(&mut self.ids)),
        };
        self.text.drain(..sure);
        match (found, sunk) {
            (Some(_), _) => Given::Stopped,
            (None, ControlFlow::Break(())) => Given::Unwanted,
            (None, ControlFlow::Continue(())) => Given::Taken,
        }
    }

    /// Gives what was held back: it became no stop text.
    fn give_all(self, sink: &mut impl FnMut(&str, &[u32]) -> ControlFlow<()>) {
        if !self.text.is_empty() || !self.ids.is_empty() {
            // It is the last piece whether it is wanted or not.
            let _ = sink(&self.text, &self.ids);
        }
    }

    /// Returns how many bytes at the end may be the beginning of a stop text.
    fn beginning(&self, stop: &[String]) -> usize {
        let of = |stop: &String| {
            let longest = self.text.len().min(stop.len() - 1);
            (1..=longest)
                .rev()
                .find(|len| self.text.as_bytes().ends_with(&stop.as_bytes()[..*len]))
        };
        stop.iter().filter_map(of).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goes on with tokens whose texts are given; returns the text, the tokens, and the end.
    fn run(
        texts: &[&str],
        most: usize,
        stop: &[&str],
        unwanted_after: usize,
    ) -> (String, Vec<u32>, Generated) {
        let stop: Vec<String> = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let (mut said, mut ids, mut pieces) = (String::new(), Vec::new(), 0);
        let going = Going {
            prompt_tokens: 3,
            most,
            stop: &stop,
        };
        let end = texts.len() as u32;
        let text = |id: Option<u32>| Ok(id.map_or(String::new(), |id| texts[id as usize].to_owned()));
        let sink = |text: &str, of: &[u32]| {
            said.push_str(text);
            ids.extend_from_slice(of);
            pieces += 1;
            if pieces == unwanted_after {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let generated = going.on(
            |id| id == end,
            text,
            sink,
            |last| Ok(last.map_or(0, |last| last + 1)),
        );
        (said, ids, generated.unwrap())
    }

    #[test]
    fn it_ends_where_the_model_says_so_and_at_the_most_tokens() {
        let (said, ids, end) = run(&["a", "b", "c"], 9, &[], 0);
        assert_eq!(
            (said.as_str(), ids.as_slice(), end.end, end.tokens),
            ("abc", &[0, 1, 2][..], End::Stop, 3)
        );
        let (said, _, end) = run(&["a", "b", "c"], 2, &[], 0);
        assert_eq!(
            (said.as_str(), end.end, end.tokens, end.prompt_tokens),
            ("ab", End::Length, 2, 3)
        );
        assert_eq!(run(&["a"], 0, &[], 0).2.tokens, 0);
    }

    #[test]
    fn a_stop_text_ends_it_wherever_tokens_are_cut() {
        let cuts: [&[&str]; 4] = [
            &["one STOP two"],
            &["one S", "TOP two"],
            &["one ", "S", "T", "O", "P", " two"],
            &["one STO", "P", "x"],
        ];
        for texts in cuts {
            let (said, _, end) = run(texts, 9, &["nothing", "STOP"], 0);
            assert_eq!((said.as_str(), end.end), ("one ", End::Stop), "{texts:?}");
        }
        // The earlier of two counts, and what only begins like one is given.
        assert_eq!(run(&["a b c"], 9, &["c", "b"], 0).0, "a ");
        assert_eq!(run(&["STO", "STO"], 9, &["STOP"], 0).0, "STOSTO");
    }

    #[test]
    fn nothing_is_computed_for_whom_nobody_listens_to() {
        let (said, _, end) = run(&["a", "b", "c", "d"], 9, &[], 2);
        assert_eq!((said.as_str(), end.tokens, end.end), ("ab", 2, End::Stop));
    }

    #[test]
    fn a_stop_text_that_is_empty_or_too_long_is_refused() {
        for stop in [
            vec![String::new()],
            vec!["x".repeat(STOP_LEN_MAX + 1)],
            vec!["x".to_owned(); STOPS_MAX + 1],
        ] {
            let going = Going {
                prompt_tokens: 1,
                most: 1,
                stop: &stop,
            };
            let found = going.on(
                |_| false,
                |_| Ok(String::new()),
                |_, _| ControlFlow::Continue(()),
                |_| Ok(0),
            );
            assert!(matches!(found, Err(Fault::Ask(_))));
        }
    }

    proptest! {
        #[test]
        fn what_is_given_is_what_came_up_to_the_first_stop_text(
            texts in prop::collection::vec("[abé]{0,3}", 0..12), stop in prop::collection::vec("[abé]{1,4}", 0..3),
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let stop: Vec<&str> = stop.iter().map(String::as_str).collect();
            let whole = texts.concat();
            let at = stop.iter().filter_map(|stop| whole.find(stop)).min();
            let (said, ids, end) = run(&texts, 100, &stop, 0);
            // With one token after another, a stop text that ends first may not be the one that begins first.
            match (at, stop.len()) {
                (None, _) => {
                    prop_assert_eq!(&said, &whole);
                    prop_assert_eq!(ids.len(), texts.len());
                }
                (Some(at), 1) => prop_assert_eq!(&said, &whole[..at]),
                (Some(_), _) => prop_assert!(whole.starts_with(&said) && !stop.iter().any(|stop| said.contains(stop))),
            }
            prop_assert_eq!(end.end, End::Stop);
        }
    }
}
