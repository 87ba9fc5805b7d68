//! What a model expects, in few numbers: of all the logits behind a position, the likeliest, and enough to know the probability of the
//! token that came.

use candle_core::Tensor;
use protocol::Hash;

use super::super::wire::{Fault, Row};

/// Rows as they are computed, and the hash of all logits.
#[derive(Debug)]
pub(crate) struct Rows {
    rows: Vec<Row>,
    /// The tokens behind those whose rows are not there yet.
    next: std::vec::IntoIter<u32>,
    top: usize,
    hash: blake3::Hasher,
}

/// Returns the rows of all logits, `[ids.len(), vocab]`, and the BLAKE3 of them as little-endian 32 bits floats.
///
/// # Errors
/// [`Fault::NotANumber`] where a logit is none.
#[cfg(test)]
pub(crate) fn rows(logits: &Tensor, ids: &[u32], top: usize) -> Result<(Vec<Row>, Hash), Fault> {
    let mut rows = Rows::new(ids, top);
    rows.add(logits)?;
    Ok(rows.end())
}

impl Rows {
    /// Begins with the tokens that are read, and how many of the likeliest are said for each.
    pub(crate) fn new(ids: &[u32], top: usize) -> Rows {
        Rows {
            rows: Vec::with_capacity(ids.len()),
            next: ids.get(1..).unwrap_or_default().to_vec().into_iter(),
            top,
            hash: blake3::Hasher::new(),
        }
    }

    /// Adds the logits of the next positions, `[n, vocab]`.
    ///
    /// # Errors
    /// [`Fault::NotANumber`] where a logit is none.
    pub(crate) fn add(&mut self, logits: &Tensor) -> Result<(), Fault> {
        let logits = logits
            .to_vec2::<f32>()
            .map_err(|error| Fault::Ask(format!("logits: {error}")))?;
        for logits in logits {
            let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
            self.hash.update(&bytes);
            let next = self.next.next();
            self.rows.push(row(&logits, next, self.top, self.rows.len())?);
        }
        Ok(())
    }

    /// Returns the rows, and the hash.
    pub(crate) fn end(self) -> (Vec<Row>, Hash) {
        (self.rows, self.hash.finalize().into())
    }
}

fn row(logits: &[f32], next: Option<u32>, top: usize, position: usize) -> Result<Row, Fault> {
    if let Some(token) = logits.iter().position(|logit| !logit.is_finite()) {
        let what = format!(
            "{} as the logit of token {token} behind position {position}",
            logits[token]
        );
        return Err(Fault::NotANumber(what));
    }
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let lse = (f64::from(max) + sum.ln()) as f32;
    Ok(Row {
        top: likeliest(logits, top),
        lse,
        next: next.and_then(|id| logits.get(id as usize).copied()),
    })
}

/// Returns the likeliest tokens, likeliest first; of equals the one with the lower number first.
fn likeliest(logits: &[f32], top: usize) -> Vec<(u32, f32)> {
    let before = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    let top = top.min(all.len());
    if top == 0 {
        return Vec::new();
    }
    all.select_nth_unstable_by(top - 1, before);
    all.truncate(top);
    all.sort_unstable_by(before);
    all
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    fn tensor(rows: &[Vec<f32>]) -> Tensor {
        Tensor::new(rows.to_vec(), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_row_says_the_likeliest_the_sum_and_the_token_that_came() {
        let logits = tensor(&[vec![1.0, 3.0, 3.0, -2.0], vec![0.0, 0.0, 0.0, 0.0]]);
        let (rows, digest) = rows(&logits, &[7, 2], 2).unwrap();
        assert_eq!(rows[0].top, [(1, 3.0), (2, 3.0)]);
        assert_eq!(rows[0].next, Some(3.0));
        assert!((rows[1].lse - 4f32.ln()).abs() < 1e-6);
        assert_eq!(rows[1].next, None);
        let bytes: Vec<u8> = [1f32, 3.0, 3.0, -2.0, 0.0, 0.0, 0.0, 0.0]
            .iter()
            .flat_map(|f| f.to_le_bytes())
            .collect();
        assert_eq!(digest, Hash::of(&bytes));
    }

    #[test]
    fn a_logit_that_is_no_number_is_a_fault_wherever_it_is() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..3 {
                let mut logits = vec![1.0, 2.0, 3.0];
                logits[at] = bad;
                let found = rows(&tensor(&[vec![0.0; 3], logits]), &[0, 1], 1);
                assert!(
                    matches!(&found, Err(Fault::NotANumber(_))),
                    "{bad} at {at}: {found:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn rows_do_not_depend_on_how_logits_are_cut(
            logits in prop::collection::vec(prop::collection::vec(-50f32..50.0, 5), 1..9), cut in 0usize..9, top in 0usize..7,
        ) {
            let ids: Vec<u32> = (0..logits.len() as u32).map(|id| id % 5).collect();
            let whole = rows(&tensor(&logits), &ids, top).unwrap();
            let mut cut_rows = Rows::new(&ids, top);
            let (one, other) = logits.split_at(cut.min(logits.len()));
            for part in [one, other] {
                if !part.is_empty() {
                    cut_rows.add(&tensor(part)).unwrap();
                }
            }
            prop_assert_eq!(&whole, &cut_rows.end());
            for row in &whole.0 {
                prop_assert_eq!(row.top.len(), top.min(5));
                prop_assert!(row.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
                prop_assert!(row.top.iter().all(|(_, logit)| *logit <= row.lse));
            }
        }
    }
}
