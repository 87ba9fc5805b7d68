//! Choosing the next token from what the model expects.

use super::wire::Fault;

/// Highest temperature: beyond it, all tokens are as good as equal.
const TEMPERATURE_MAX: f64 = 100.0;

/// Chooses tokens. The same logits in the same order, and the same seed, give the same tokens on every machine where the logits are
/// the same.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f64,
    top_p: f64,
    /// The state of splitmix64.
    state: u64,
}

impl Sampler {
    /// Begins to choose.
    ///
    /// - `temperature`: 0 takes the likeliest always; 1 draws by the model's own probabilities.
    /// - `top_p`: draws only from the likeliest tokens that make up this share, which is never less than one; `None`: from all.
    ///
    /// # Errors
    /// [`Fault::Ask`]: temperature is not 0 to 100, or `top_p` not 0 to 1.
    pub(crate) fn new(temperature: f64, top_p: Option<f64>, seed: u64) -> Result<Sampler, Fault> {
        if !(0.0..=TEMPERATURE_MAX).contains(&temperature) {
            return Err(Fault::Ask(format!(
                "temperature is {temperature}: 0 to {TEMPERATURE_MAX} can be"
            )));
        }
        let top_p = top_p.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&top_p) {
            return Err(Fault::Ask(format!("top_p is {top_p}: 0 to 1 can be")));
        }
        Ok(Sampler {
            temperature,
            top_p,
            state: seed,
        })
    }

    /// Chooses a token. Of equally likely ones, the one with the lower number is the likelier.
    ///
    /// # Errors
    /// [`Fault::NotANumber`]: a logit is none, or there are no logits.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Result<u32, Fault> {
        if let Some(token) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(Fault::NotANumber(format!(
                "{} as the logit of token {token}",
                logits[token]
            )));
        }
        let likeliest = (0u32..)
            .zip(logits)
            .reduce(|best, other| if other.1 > best.1 { other } else { best });
        let (likeliest, max) = likeliest.ok_or_else(|| Fault::NotANumber("no logits".to_owned()))?;
        if self.temperature == 0.0 {
            return Ok(likeliest);
        }
        let weight = |logit: &f32| (f64::from(logit - max) / self.temperature).exp();
        let mut weights: Vec<(u32, f64)> = (0u32..).zip(logits.iter().map(weight)).collect();
        if self.top_p < 1.0 {
            self.keep_top(&mut weights);
        }
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut left = self.uniform() * sum;
        let drawn = weights.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a crumb behind the last.
        Ok(drawn.map_or(likeliest, |(token, _)| *token))
    }

    /// Keeps the likeliest tokens that make up `top_p`, likeliest first.
    fn keep_top(&self, weights: &mut Vec<(u32, f64)>) {
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        // Tokens below this make up less than what is cut off, all together: they need no sorting. Half of it, for rounding.
        let least = (1.0 - self.top_p) * sum / weights.len() as f64 / 2.0;
        weights.retain(|(_, weight)| *weight >= least);
        weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut share = 0.0;
        let enough = weights.iter().position(|(_, weight)| {
            share += weight;
            share >= self.top_p * sum
        });
        weights.truncate(enough.map_or(weights.len(), |last| last + 1));
    }

    /// The next number of splitmix64, as one of 2^53 in [0, 1).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw(logits: &[f32], temperature: f64, top_p: Option<f64>, seed: u64, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(temperature, top_p, seed).unwrap();
        (0..count).map(|_| sampler.next(logits).unwrap()).collect()
    }

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-30f32..30.0, 1..60)
    }

    proptest! {
        #[test]
        fn greedy_takes_the_first_of_the_likeliest(logits in logits(), seed: u64) {
            let token = draw(&logits, 0.0, None, seed, 1)[0] as usize;
            prop_assert!(logits.iter().all(|logit| *logit <= logits[token]));
            prop_assert!(logits[..token].iter().all(|logit| *logit < logits[token]));
        }

        #[test]
        fn one_seed_draws_the_same_tokens(logits in logits(), seed: u64, temperature in 0.01f64..100.0, top_p in prop::option::of(0f64..=1.0)) {
            prop_assert_eq!(draw(&logits, temperature, top_p, seed, 9), draw(&logits, temperature, top_p, seed, 9));
        }

        #[test]
        fn top_p_draws_only_from_the_likeliest_that_make_it_up(logits in logits(), seed: u64, top_p in 0f64..=1.0) {
            let weights: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for token in draw(&logits, 1.0, Some(top_p), seed, 20) {
                let likelier: f64 = weights.iter().filter(|weight| **weight > weights[token as usize]).sum();
                prop_assert!(likelier / sum < top_p.max(1e-9) + 1e-9);
            }
        }

        #[test]
        fn a_logit_that_is_no_number_is_a_fault(mut logits in logits(), at: prop::sample::Index, bad in prop::sample::select(vec![
            f32::NAN, f32::INFINITY, f32::NEG_INFINITY,
        ]), temperature in prop::sample::select(vec![0.0, 0.7])) {
            let at = at.index(logits.len());
            logits[at] = bad;
            let found = Sampler::new(temperature, None, 1).unwrap().next(&logits);
            prop_assert!(matches!(found, Err(Fault::NotANumber(_))));
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_the_model_expects_them() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let drawn = draw(&logits, 1.0, None, 42, 80_000);
        for (token, share) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            let found = drawn.iter().filter(|drawn| **drawn == token).count() as f64 / 80_000.0;
            // Five times the standard deviation.
            assert!((found - share).abs() < 0.009, "{token}: {found}");
        }
        let hot = draw(&logits, 2.0, None, 42, 80_000)
            .iter()
            .filter(|drawn| **drawn == 2)
            .count();
        assert!((0.45..0.50).contains(&(hot as f64 / 80_000.0)), "{hot}");
    }

    #[test]
    fn what_is_no_temperature_or_share_is_refused() {
        for (temperature, top_p) in [
            (-0.1, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (101.0, None),
        ] {
            assert!(matches!(Sampler::new(temperature, top_p, 0), Err(Fault::Ask(_))));
        }
        for top_p in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(Sampler::new(1.0, Some(top_p), 0), Err(Fault::Ask(_))));
        }
        assert!(matches!(
            Sampler::new(1.0, None, 0).unwrap().next(&[]),
            Err(Fault::NotANumber(_))
        ));
    }
}
