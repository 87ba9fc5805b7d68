//! The loops that a token takes its time in, in a crate of their own: it is optimised in every profile, so that tests with real
//! models do not take minutes, and all else in the room is compiled as fast as before. It knows nothing of tensors or models.
//!
//! Nothing is generic here, or it would be compiled where it is used.

/// Sums that are taken side by side: enough to keep vector units busy while additions take their time.
const LANES: usize = 16;

/// Multiplies `states` with rows of as many weights each, one row behind the other: a number for each row. The order of a row's sum
/// depends on nothing but its length, so it has the same bits wherever the row lies, and with whatever instructions.
///
/// Rows without a number, and numbers without a row, are left as they are; so is all where `states` is empty.
#[inline(never)] // Else it might be compiled where it is used.
pub fn multiply(states: &[f32], weights: &[f32], product: &mut [f32]) {
    if states.is_empty() {
        return;
    }
    for (number, row) in product.iter_mut().zip(weights.chunks_exact(states.len())) {
        *number = dot(states, row);
    }
}

/// The sum of products of equally many numbers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_left), (b, b_left)) = (a.as_chunks(), b.as_chunks());
    let mut sums = lanes(a, b);
    for ((sum, a), b) in sums.iter_mut().zip(a_left).zip(b_left) {
        *sum += a * b;
    }
    let mut left = LANES;
    while left > 1 {
        left /= 2;
        for lane in 0..left {
            sums[lane] += sums[lane + left];
        }
    }
    sums[0]
}

/// The sums of products, lane by lane. On its own: together with what adds the lanes up, the compiler makes no vectors of them.
#[inline(never)]
fn lanes(a: &[[f32; LANES]], b: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_same_bits_wherever_it_lies_and_nothing_else_is_touched() {
        for width in [1, LANES - 1, LANES, LANES + 1, 3 * LANES + 5] {
            let number = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
            let states: Vec<f32> = (0..width).map(number).collect();
            let weights: Vec<f32> = (0..3 * width).map(|i| number(i + width)).collect();
            let mut product = [9.0; 4];
            multiply(&states, &weights, &mut product);
            assert_eq!(product[3], 9.0);
            for (found, row) in product.iter().zip(weights.chunks(width)) {
                let mut alone = [0.0];
                multiply(&states, row, &mut alone);
                assert_eq!(found.to_bits(), alone[0].to_bits());
                let exact: f64 = states
                    .iter()
                    .zip(row)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum();
                assert!((f64::from(*found) - exact).abs() <= 1e-6 * width as f64);
            }
        }
        multiply(&[], &[1.0], &mut [0.0]);
    }
}
