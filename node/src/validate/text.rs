//! The fixed text: how well a model foretells it, in bits for each *byte*, since tokenizers cut it differently. It is the beginning of
//! Darwin's "On the Origin of Species" (1859), which is in the public domain, and it never changes: numbers of other days would not
//! compare. (A model that was trained on it foretells it well; the number compares runs of one model, and does not rank models.)

use super::compare;
use crate::engine::wire::Row;

/// The text: ASCII without line breaks within it.
pub(super) const TEXT: &str = include_str!("text.txt");

/// Bits for each byte of the text, from what a model expects at each of the text's tokens; the first token counts nothing. `None`: it is no number.
pub(super) fn bits_per_byte(rows: &[Row]) -> Option<f64> {
    let (sum, tokens) = compare::nll(rows)?;
    let bits = sum / std::f64::consts::LN_2 / TEXT.len() as f64;
    (tokens > 0 && bits.is_finite() && bits >= 0.0).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_it_was() {
        assert_eq!(TEXT.len(), 1010);
        assert!(TEXT.is_ascii() && TEXT.ends_with("decision."));
        assert_eq!(
            protocol::Hash::of(TEXT.as_bytes()).to_string(),
            "75acb1516a2198564df71280fbab8dd6812f09dd69e2f2dc97b11ca90a2d14a1"
        );
    }

    #[test]
    fn bits_are_those_of_the_tokens_behind_the_first() {
        let row = |lse, next| Row {
            top: Vec::new(),
            lse,
            next,
        };
        // Each of 1,010 tokens behind the first is foretold with a probability of one half.
        let half = std::f32::consts::LN_2;
        let mut rows = vec![row(half, Some(0.0)); TEXT.len()];
        rows.push(row(7.0, None));
        let bits = bits_per_byte(&rows).unwrap();
        assert!((bits - 1.0).abs() < 1e-6, "{bits}");
        assert_eq!(bits_per_byte(&[row(1.0, None)]), None);
        assert_eq!(bits_per_byte(&[row(f32::NAN, Some(0.0)), row(1.0, None)]), None);
    }
}
