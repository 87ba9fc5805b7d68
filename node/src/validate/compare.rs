//! Comparing numbers: pure, and written so that what is no number never passes. A difference is `None` where there is none to speak of:
//! other lengths, NaN, infinity.

use crate::engine::wire::Row;

/// Largest difference of an element of an embedding that counts as the same, for computations in 32 bits floats: a hundred times what
/// processors, threads and programs were measured to differ by; the same for the other two.
pub(super) const EMBED: f64 = 1e-4;
/// Largest difference of a logit.
pub(super) const LOGITS: f64 = 1e-2;
/// Largest difference of the mean negative log-likelihood of a token, in nats.
pub(super) const NLL: f64 = 1e-3;
/// Largest margin between the two likeliest tokens that may be called a tie.
pub(super) const TIE: f64 = 5e-2;

/// Whether a difference is within a tolerance.
pub(super) fn within(difference: Option<f64>, tolerance: f64) -> bool {
    difference.is_some_and(|difference| difference <= tolerance)
}

/// The difference of two numbers.
pub(super) fn difference(a: f64, b: f64) -> Option<f64> {
    let difference = (a - b).abs();
    difference.is_finite().then_some(difference)
}

/// The larger of two differences, if both are numbers.
pub(super) fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (a, b) = (a?, b?);
    Some(if a >= b { a } else { b })
}

/// The largest difference of the elements of two vectors.
pub(super) fn largest(found: &[f32], declared: &[f32]) -> Option<f64> {
    if found.len() != declared.len() || found.is_empty() {
        return None;
    }
    let differences = found.iter().zip(declared);
    differences
        .map(|(a, b)| difference(f64::from(*a), f64::from(*b)))
        .fold(Some(0.0), larger)
}

/// The largest difference of declared logits from those of a row, and of the declared sum from the row's. A declared token that is not
/// among the row's likeliest makes it `None`.
pub(super) fn logits(row: &Row, declared: &[(u32, f32)], lse: f64) -> Option<f64> {
    let logit = |(id, logit): &(u32, f32)| {
        let found = row.top.iter().find(|(found, _)| found == id)?;
        difference(f64::from(found.1), f64::from(*logit))
    };
    let tokens = declared.iter().map(logit).fold(Some(0.0), larger);
    larger(tokens, difference(f64::from(row.lse), lse))
}

/// The negative log-likelihood of all tokens but the first, in nats, and how many these are; the last row, which foretells nothing that
/// is known, counts nothing.
pub(super) fn nll(rows: &[Row]) -> Option<(f64, usize)> {
    let (_, known) = rows.split_last()?;
    let mut sum = 0.0;
    for row in known {
        sum += f64::from(row.lse) - f64::from(row.next?);
    }
    sum.is_finite().then_some((sum, known.len()))
}

/// What became of a declared continuation, each token of it judged behind the declared ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continued {
    /// Each token is the likeliest; at so many places up to a tie.
    Same {
        /// The places with a tie.
        ties: usize,
    },
    /// At this place, counted from 0, another token is likelier.
    Differs {
        /// The place.
        at: usize,
    },
    /// There are not the rows there must be, or what is in them is no number.
    NoNumbers,
}

/// Judges a continuation: `rows` are those of the prompt and the tokens together, of which the last `tokens.len() + 1` matter. At a
/// place where the declared or our own margin is below `tie`, the declared token need not be the likeliest: only within `tie` of it.
pub(super) fn continued(rows: &[Row], tokens: &[u32], margins: &[f64], tie: f64) -> Continued {
    let first = rows.len().checked_sub(tokens.len() + 1);
    let Some(rows) = first.and_then(|first| rows.get(first..rows.len() - 1)) else {
        return Continued::NoNumbers;
    };
    if tokens.len() != margins.len() {
        return Continued::NoNumbers;
    }
    let mut ties = 0;
    for (at, ((row, token), margin)) in rows.iter().zip(tokens).zip(margins).enumerate() {
        let (Some((best, logit)), Some(next)) = (row.top.first(), row.next) else {
            return Continued::NoNumbers;
        };
        let behind = f64::from(*logit) - f64::from(next);
        if !behind.is_finite() {
            return Continued::NoNumbers;
        }
        let ours = row
            .top
            .get(1)
            .map(|second| f64::from(*logit) - f64::from(second.1));
        let tied = *margin < tie || ours.is_some_and(|ours| ours < tie);
        if best == token {
            continue;
        }
        if !(tied && behind <= tie) {
            return Continued::Differs { at };
        }
        ties += 1;
    }
    Continued::Same { ties }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(top: &[(u32, f32)], lse: f32, next: Option<f32>) -> Row {
        Row {
            top: top.to_vec(),
            lse,
            next,
        }
    }

    #[test]
    fn what_is_no_number_is_within_no_tolerance() {
        assert!(within(Some(1e-4), EMBED) && !within(Some(1.1e-4), EMBED));
        assert!(!within(None, f64::INFINITY) && !within(Some(f64::NAN), f64::INFINITY));
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(difference(wrong, 1.0), None);
            assert_eq!(difference(1.0, wrong), None);
        }
        assert_eq!(difference(f64::INFINITY, f64::INFINITY), None);
        assert_eq!(larger(Some(1.0), None), None);
        assert_eq!(larger(None, Some(1.0)), None);
    }

    #[test]
    fn vectors_of_other_lengths_or_with_nan_anywhere_have_no_difference() {
        assert_eq!(largest(&[1.0, 2.0], &[1.0, 2.5]), Some(0.5));
        assert_eq!(largest(&[1.0], &[1.0, 2.5]), None);
        assert_eq!(largest(&[], &[]), None);
        for at in 0..3 {
            let mut wrong = [1.0, 2.0, 3.0];
            wrong[at] = f32::NAN;
            assert_eq!(largest(&wrong, &[1.0, 2.0, 3.0]), None);
            assert_eq!(largest(&[1.0, 2.0, 3.0], &wrong), None);
            assert_eq!(largest(&wrong, &wrong), None);
        }
    }

    #[test]
    fn logits_are_compared_token_by_token() {
        let found = row(&[(7, 17.0), (2, 14.0), (9, 13.0)], 17.25, None);
        let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-6);
        assert_eq!(logits(&found, &[(7, 17.0), (2, 14.0)], 17.25), Some(0.0));
        // The order does not matter, what belongs to which token does.
        assert_eq!(logits(&found, &[(2, 14.0), (7, 17.0)], 17.25), Some(0.0));
        assert!(near(logits(&found, &[(7, 14.0), (2, 17.0)], 17.25), 3.0));
        assert!(near(logits(&found, &[(7, 17.0)], 17.5), 0.25));
        assert_eq!(logits(&found, &[(8, 17.0)], 17.25), None);
        assert_eq!(logits(&found, &[(7, f32::NAN)], 17.25), None);
        assert_eq!(
            logits(&row(&[(7, 17.0)], f32::NAN, None), &[(7, 17.0)], 17.25),
            None
        );
    }

    #[test]
    fn likelihood_needs_every_token() {
        let rows = [
            row(&[], 3.0, Some(1.0)),
            row(&[], 2.0, Some(1.5)),
            row(&[], 9.0, None),
        ];
        assert_eq!(nll(&rows), Some((2.5, 2)));
        assert_eq!(nll(&[]), None);
        let mut cut = rows.clone();
        cut[0].next = None;
        assert_eq!(nll(&cut), None);
        let mut nan = rows;
        nan[1].lse = f32::NAN;
        assert_eq!(nll(&nan), None);
    }

    #[test]
    fn continuation_is_judged_token_by_token_and_up_to_ties() {
        // A prompt of two tokens, then 5, 6, 7: the rows of the last prompt token and of each of them.
        let rows = [
            row(&[(1, 9.0), (0, 1.0)], 9.0, Some(9.0)),
            row(&[(5, 9.0), (0, 1.0)], 9.0, Some(9.0)),
            row(&[(6, 9.0), (0, 1.0)], 9.0, Some(9.0)),
            row(&[(7, 9.0), (8, 8.999)], 9.0, Some(9.0)),
            row(&[(3, 9.0), (0, 1.0)], 9.0, None),
        ];
        let (tokens, margins) = ([5, 6, 7], [8.0, 8.0, 8.0]);
        let judged = |rows: &[Row], tokens: &[u32], tie| continued(rows, tokens, &margins, tie);
        assert_eq!(judged(&rows, &tokens, 2e-3), Continued::Same { ties: 0 });
        let with = |at: usize, changed: Row| {
            let mut rows = rows.clone();
            rows[at] = changed;
            rows
        };
        // The declared token 7 is the second here, by 0.001: a tie, unless none is allowed.
        let tied = with(3, row(&[(8, 9.0), (7, 8.999)], 9.0, Some(8.999)));
        assert_eq!(judged(&tied, &tokens, 2e-3), Continued::Same { ties: 1 });
        assert_eq!(judged(&tied, &tokens, 1e-4), Continued::Differs { at: 2 });
        // A margin that is declared small does not let any token pass.
        let far = with(2, row(&[(0, 9.0), (6, 8.0)], 9.0, Some(8.0)));
        assert_eq!(
            continued(&far, &tokens, &[8.0, 0.0, 8.0], 2e-3),
            Continued::Differs { at: 1 }
        );
        let nan = with(2, row(&[(6, f32::NAN), (0, 1.0)], 9.0, Some(f32::NAN)));
        assert_eq!(judged(&nan, &tokens, 2e-3), Continued::NoNumbers);
        let empty = with(2, row(&[], 9.0, Some(1.0)));
        assert_eq!(judged(&empty, &tokens, 2e-3), Continued::NoNumbers);
        assert_eq!(judged(&rows[..3], &tokens, 2e-3), Continued::NoNumbers);
        assert_eq!(continued(&rows, &tokens, &[8.0], 2e-3), Continued::NoNumbers);
    }
}
