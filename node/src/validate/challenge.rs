//! The challenge: prompts that follow from a manifest and a nonce, which no publisher could prepare for, and what is kept of the
//! results. Specified in `protocol/README.md` §11.

use protocol::{Challenge, Finite, Hash, attestation::NONCE_LEN};

use super::compare;
use crate::engine::wire::Row;

/// Prompts in a challenge.
pub(super) const PROMPTS: usize = 16;

/// Tokens in a prompt.
pub(super) const TOKENS: usize = 32;

/// Largest difference of two numbers of a challenge that counts as the same: that of a token's mean likelihood.
pub(super) const TOLERANCE: f64 = 1e-3;

/// Largest difference of bits per byte that counts as the same: that of a token's mean likelihood in bits, for tokens of a byte each.
pub(super) const BITS_TOLERANCE: f64 = 2e-3;

/// What a challenge draws from.
struct Stream(blake3::OutputReader);

impl Stream {
    fn new(manifest: Hash, nonce: &[u8; NONCE_LEN]) -> Stream {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"shoal challenge 1");
        hasher.update(manifest.as_bytes());
        hasher.update(nonce);
        Stream(hasher.finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Adds up elements, each with a sign that is drawn.
    fn signed_sum(&mut self, values: &[f32]) -> f64 {
        let mut sum = 0.0;
        for values in values.chunks(64) {
            let mut bits = self.next();
            for value in values {
                sum += if bits & 1 == 0 {
                    f64::from(*value)
                } else {
                    -f64::from(*value)
                };
                bits >>= 1;
            }
        }
        sum
    }
}

/// A challenge under way: prompts in their order, and what came of them.
pub(super) struct Asked {
    nonce: [u8; NONCE_LEN],
    prompts: Vec<Vec<u32>>,
    /// Behind the prompts.
    stream: Stream,
    hasher: blake3::Hasher,
    numbers: Vec<f64>,
}

impl Asked {
    /// Draws the prompts. `vocabulary` is how many tokens the model has an embedding for, at least 1.
    pub(super) fn new(manifest: Hash, nonce: [u8; NONCE_LEN], vocabulary: u32) -> Asked {
        let mut stream = Stream::new(manifest, &nonce);
        let vocabulary = u64::from(vocabulary.max(1));
        let mut prompt = || {
            let mut token = || (stream.next() % vocabulary) as u32;
            (0..TOKENS).map(|_| token()).collect()
        };
        let prompts = (0..PROMPTS).map(|_| prompt()).collect();
        Asked {
            nonce,
            prompts,
            stream,
            hasher: blake3::Hasher::new(),
            numbers: Vec::new(),
        }
    }

    /// The next prompt that has no result yet.
    pub(super) fn prompt(&self) -> Option<&[u32]> {
        self.prompts.get(self.numbers.len() / 2).map(Vec::as_slice)
    }

    /// Takes what a model that goes on with texts makes of the next prompt.
    pub(super) fn logits(&mut self, rows: &[Row], digest: Hash) {
        self.hasher.update(digest.as_bytes());
        let lse: f64 = rows.iter().map(|row| f64::from(row.lse)).sum();
        let known = rows.split_last().map(|(_, known)| known).unwrap_or_default();
        let next: Option<f64> = known.iter().map(|row| row.next.map(f64::from)).sum();
        self.numbers.push(lse / rows.len() as f64);
        self.numbers.push(next.unwrap_or(f64::NAN) / known.len() as f64);
    }

    /// Takes what a model that makes embeddings makes of the next prompt.
    pub(super) fn embedding(&mut self, values: &[f32]) {
        for value in values {
            self.hasher.update(&value.to_le_bytes());
        }
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        for _ in 0..2 {
            let sum = self.stream.signed_sum(values);
            self.numbers.push(sum / squares.sqrt());
        }
    }

    /// What an attestation keeps of it. `None`: there are results missing, or one is no number.
    pub(super) fn finish(self) -> Option<Challenge> {
        let numbers: Option<Vec<Finite>> = self.numbers.into_iter().map(Finite::new).collect();
        let numbers = numbers.filter(|numbers| numbers.len() == 2 * PROMPTS)?;
        Some(Challenge {
            nonce: self.nonce,
            digest: Hash::from_bytes(*self.hasher.finalize().as_bytes()),
            numbers,
        })
    }
}

/// The largest difference between the results of one challenge. `None`: it is another challenge, or there are other numbers of them.
pub(crate) fn difference(a: &Challenge, b: &Challenge) -> Option<f64> {
    if a.nonce != b.nonce || a.numbers.len() != b.numbers.len() {
        return None;
    }
    let differences = a.numbers.iter().zip(&b.numbers);
    differences
        .map(|(a, b)| compare::difference(a.get(), b.get()))
        .fold(Some(0.0), compare::larger)
}

/// Whether results of one challenge are the same, within the tolerance.
pub(crate) fn agree(a: &Challenge, b: &Challenge) -> bool {
    compare::within(difference(a, b), TOLERANCE)
}

/// Whether bits per byte are the same, within the tolerance.
pub(crate) fn bits_agree(a: Finite, b: Finite) -> bool {
    compare::within(compare::difference(a.get(), b.get()), BITS_TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(manifest: u8, nonce: u8, vocabulary: u32) -> Vec<Vec<u32>> {
        Asked::new(Hash::from_bytes([manifest; 32]), [nonce; 16], vocabulary).prompts
    }

    fn rows(lse: f32) -> Vec<Row> {
        let row = |at| Row {
            top: vec![(at, 1.0)],
            lse,
            next: (at + 1 < TOKENS as u32).then_some(0.5),
        };
        (0..TOKENS as u32).map(row).collect()
    }

    fn causal(lse: impl Fn(usize) -> f32) -> Option<Challenge> {
        let mut asked = Asked::new(Hash::of(b"m"), [1; 16], 100);
        for prompt in 0..PROMPTS {
            assert!(asked.prompt().is_some_and(|prompt| prompt.len() == TOKENS));
            asked.logits(&rows(lse(prompt)), Hash::of(b"logits"));
        }
        assert!(asked.prompt().is_none());
        asked.finish()
    }

    #[test]
    fn prompts_follow_from_the_manifest_and_the_nonce_and_nothing_else() {
        let one = prompts(1, 1, 30_522);
        assert_eq!((one.len(), one[0].len()), (PROMPTS, TOKENS));
        assert_eq!(one, prompts(1, 1, 30_522));
        assert_ne!(one, prompts(2, 1, 30_522));
        assert_ne!(one, prompts(1, 2, 30_522));
        assert!(one.iter().flatten().all(|token| *token < 30_522));
        assert!(prompts(1, 1, 3).iter().flatten().all(|token| *token < 3));
        assert!(prompts(1, 1, 0).iter().flatten().all(|token| *token == 0));
        // Frozen: other tokens would be another challenge.
        assert_eq!(one[0][..4], FROZEN);
    }

    const FROZEN: [u32; 4] = [15_508, 1_236, 16_609, 3_379];

    #[test]
    fn results_are_means_and_a_digest_of_all() {
        let challenge = causal(|_| 2.0).unwrap();
        assert_eq!(challenge.numbers.len(), 32);
        assert_eq!(
            (challenge.numbers[0].get(), challenge.numbers[1].get()),
            (2.0, 0.5)
        );
        let digests = Hash::of(b"logits").as_bytes().repeat(PROMPTS);
        assert_eq!(challenge.digest, Hash::of(&digests));
        assert_eq!(difference(&challenge, &causal(|_| 2.0).unwrap()), Some(0.0));
        let near = causal(|prompt| if prompt == 15 { 2.0005 } else { 2.0 }).unwrap();
        let far = causal(|prompt| if prompt == 15 { 2.01 } else { 2.0 }).unwrap();
        assert!(agree(&challenge, &near) && !agree(&challenge, &far));
    }

    #[test]
    fn result_that_is_no_number_or_missing_is_none() {
        assert_eq!(causal(|prompt| if prompt == 3 { f32::NAN } else { 1.0 }), None);
        assert_eq!(causal(|_| f32::INFINITY), None);
        let mut asked = Asked::new(Hash::of(b"m"), [1; 16], 100);
        asked.logits(&rows(1.0), Hash::of(b""));
        assert_eq!(asked.finish(), None);
        for wrong in [vec![], vec![0.0; 8], vec![f32::NAN; 8]] {
            let mut asked = Asked::new(Hash::of(b"m"), [1; 16], 100);
            (0..PROMPTS).for_each(|_| asked.embedding(&wrong));
            assert_eq!(asked.finish(), None, "{wrong:?}");
        }
    }

    #[test]
    fn embeddings_are_summed_up_with_signs_that_nobody_knew() {
        let embedding = |change: f32| {
            let mut asked = Asked::new(Hash::of(b"m"), [1; 16], 100);
            for prompt in 0..PROMPTS {
                let mut values: Vec<f32> = (0..384).map(|at| ((at + prompt) as f32).sin()).collect();
                values[100] += change;
                asked.embedding(&values);
            }
            asked.finish().unwrap()
        };
        let (same, near, far) = (embedding(0.0), embedding(1e-4), embedding(0.5));
        assert_eq!(same, embedding(0.0));
        assert!(agree(&same, &near) && same.digest != near.digest);
        assert!(!agree(&same, &far));
    }

    #[test]
    fn results_of_other_challenges_do_not_agree() {
        let one = causal(|_| 2.0).unwrap();
        let mut other = one.clone();
        other.nonce = [2; 16];
        assert!(!agree(&one, &other));
        let mut fewer = one.clone();
        fewer.numbers.pop();
        assert!(!agree(&one, &fewer));
        assert!(bits_agree(
            Finite::new(1.0).unwrap(),
            Finite::new(1.0015).unwrap()
        ));
        assert!(!bits_agree(
            Finite::new(1.0).unwrap(),
            Finite::new(1.003).unwrap()
        ));
        let huge = Finite::new(f64::MAX).unwrap();
        assert!(!bits_agree(huge, Finite::new(-f64::MAX).unwrap()));
    }
}
