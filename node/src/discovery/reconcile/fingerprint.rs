//! Fingerprints of parts of a set, under a key that only the two of one session know, once both sets are fixed.
//!
//! An item becomes a number below p = 2¹²⁷ − 1, a linear function of its five words with secret coefficients; a part of a set
//! becomes the product of (point + number) over its items; its fingerprint is a keyed BLAKE3 of product and count.
//! Why two different parts, prepared before the key was drawn, don't look the same:
//! two items get one number with probability 2⁻¹²⁴ at most, any two of 2²³ with less than 2⁻⁷⁸. If none do, the products are two different
//! polynomials in the secret point, of degree 2²² at most, and agree at no more than 2²² of its 2¹²⁷ values. What is left is chance
//! in the 64 bits that are sent, for each part compared; and it is drawn anew in the next session.
//! A plain sum of hashes has no such argument: who may choose many items finds some that cancel out.

use super::super::set::{Item, Snapshot};
use std::ops::Range;

/// Bytes of each side's nonce.
pub(crate) const NONCE_LEN: usize = 16;

/// What a side draws at random for a session, after its snapshot is taken.
pub(crate) type Nonce = [u8; NONCE_LEN];

/// Bytes of a fingerprint and of a mark.
pub(super) const FINGERPRINT_LEN: usize = 8;

/// What a part of the set looks like in this session.
pub(super) type Fingerprint = [u8; FINGERPRINT_LEN];

/// What an item looks like in this session: the low half of its number.
pub(super) type Mark = u64;

/// What the key of a session begins with.
const CONTEXT: &[u8] = b"shoal reconcile 1";

/// The modulus, a Mersenne prime: to reduce is to shift and add.
const PRIME: u128 = (1 << 127) - 1;

/// Bits of a coefficient: sums of five products then fit into two words of 128 bits.
const COEFFICIENT: u128 = (1 << 124) - 1;

/// Words of an item: its time, and four of its id.
const WORDS: usize = 5;

/// The secrets of a session.
pub(super) struct SessionKey {
    coefficients: [(u64, u64); WORDS],
    point: u128,
    finish: [u8; 32],
}

/// The product of a part of the set, and how many items it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fold {
    product: u128,
    pub(super) count: u64,
}

impl SessionKey {
    /// Returns the key of a session: 128 bytes of BLAKE3's output make the coefficients, the point and the key of the last step.
    pub(super) fn new(opener: &Nonce, answerer: &Nonce) -> SessionKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(CONTEXT).update(opener).update(answerer);
        let mut output = hasher.finalize_xof();
        let mut number = || {
            let mut bytes = [0; 16];
            output.fill(&mut bytes);
            u128::from_le_bytes(bytes)
        };
        let coefficients = std::array::from_fn(|_| split(number() & COEFFICIENT));
        let point = number() & PRIME;
        let mut finish = [0; 32];
        output.fill(&mut finish);
        SessionKey {
            coefficients,
            point,
            finish,
        }
    }

    /// The secrets as text, for the golden bytes: numbers as 16 bytes.
    #[cfg(test)]
    pub(super) fn numbers(&self) -> Vec<(String, String)> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let coefficients = self.coefficients.iter().enumerate().map(|(at, (upper, lower))| {
            let number = u128::from(*upper) << 64 | u128::from(*lower);
            (format!("coefficient {at}"), hex(&number.to_le_bytes()))
        });
        let rest = [
            ("point".to_owned(), hex(&self.point.to_le_bytes())),
            ("last key".to_owned(), hex(&self.finish)),
        ];
        coefficients.chain(rest).collect()
    }

    /// The item's number: Σ word · coefficient mod p. No sum overflows: `low` is less than 2⁶⁷, `high` less than 2¹²⁷.
    fn number(&self, item: &Item) -> u128 {
        let (words, _) = item.id().as_chunks::<8>();
        let words = [0, 1, 2, 3].map(|at: usize| u64::from_le_bytes(words[at]));
        let words = [item.issued(), words[0], words[1], words[2], words[3]];
        let (mut low, mut high) = (0u128, 0u128);
        for (word, (upper, lower)) in words.into_iter().zip(self.coefficients) {
            let (carry, rest) = split(wide(word, lower));
            low = low.wrapping_add(u128::from(rest));
            high = high
                .wrapping_add(u128::from(carry))
                .wrapping_add(wide(word, upper));
        }
        let number = fold(low.wrapping_add(shifted(high)));
        if number >= PRIME { number - PRIME } else { number }
    }

    /// The item's mark. Two items have the same one with probability 2⁻⁶⁰ at most.
    pub(super) fn mark(&self, item: &Item) -> Mark {
        split(self.number(item)).1
    }

    /// Multiplies up the items of a range of ranks.
    pub(super) fn fold(&self, set: &Snapshot, ranks: Range<usize>) -> Fold {
        // Two products side by side: each waits for its own last step only.
        let (mut even, mut odd) = (1, 1);
        let mut count = 0;
        for slice in set.slices(ranks) {
            count += slice.len() as u64;
            let (pairs, rest) = slice.as_chunks::<2>();
            for [one, other] in pairs {
                even = times(even, fold(self.point.wrapping_add(self.number(one))));
                odd = times(odd, fold(self.point.wrapping_add(self.number(other))));
            }
            for item in rest {
                even = times(even, fold(self.point.wrapping_add(self.number(item))));
            }
        }
        Fold {
            product: times(even, odd),
            count,
        }
    }

    /// The fingerprint of a part whose product is known.
    pub(super) fn fingerprint(&self, part: Fold) -> Fingerprint {
        let product = if part.product >= PRIME {
            part.product - PRIME
        } else {
            part.product
        };
        let mut input = [0; 24];
        input[..16].copy_from_slice(&product.to_le_bytes());
        input[16..].copy_from_slice(&part.count.to_le_bytes());
        let mut print = [0; FINGERPRINT_LEN];
        print.copy_from_slice(&blake3::keyed_hash(&self.finish, &input).as_bytes()[..FINGERPRINT_LEN]);
        print
    }
}

impl Fold {
    /// The empty part.
    pub(super) const EMPTY: Fold = Fold { product: 1, count: 0 };

    /// This part and another that shares no item with it.
    pub(super) fn join(self, other: Fold) -> Fold {
        let product = times(self.product, other.product);
        Fold {
            product,
            count: self.count + other.count,
        }
    }
}

// The sums below are bounded as said beside them; wrapping, since checks would cost a third of the time.

/// The upper and the lower half.
fn split(number: u128) -> (u64, u64) {
    ((number >> 64) as u64, number as u64)
}

fn wide(a: u64, b: u64) -> u128 {
    u128::from(a).wrapping_mul(u128::from(b))
}

/// A number that is `number` mod p, and p + 1 at most.
fn fold(number: u128) -> u128 {
    (number & PRIME).wrapping_add(number >> 127)
}

/// A number that is `number` · 2⁶⁴ mod p, and less than 2¹²⁷ + 2⁶⁵.
fn shifted(number: u128) -> u128 {
    const LOW: u128 = (1 << 63) - 1;
    ((number & LOW) << 64).wrapping_add(number >> 63)
}

/// A number that is a · b mod p, and p + 1 at most. Neither factor may be more than that.
fn times(a: u128, b: u128) -> u128 {
    let ((a_high, a_low), (b_high, b_low)) = (split(a), split(b));
    // Each at most 2¹²⁷, since the upper halves are at most 2⁶³.
    let middle = wide(a_high, b_low).wrapping_add(wide(a_low, b_high));
    // 2¹²⁸ is 2 mod p. At most 2¹²⁷ + 2¹²⁷ − 1, as p + 1 has no lower half.
    let ends = fold(wide(a_low, b_low)).wrapping_add(wide(a_high, b_high) << 1);
    fold(fold(ends).wrapping_add(shifted(middle)))
}

#[cfg(test)]
mod tests {
    use super::super::super::set::KnownSet;
    use super::{Fold, Item, PRIME, SessionKey, fold, times};
    use proptest::{collection::btree_set, prelude::*};

    /// Bit by bit, as nobody gets it wrong.
    fn slow(a: u128, b: u128) -> u128 {
        let mut sum = 0;
        for bit in (0..128).rev() {
            sum = (sum * 2) % PRIME;
            if b >> bit & 1 == 1 {
                sum = (sum + a % PRIME) % PRIME;
            }
        }
        sum
    }

    #[test]
    fn edges_multiply_rightly() {
        let edges = [
            0,
            1,
            2,
            (1 << 63) - 1,
            1 << 63,
            1 << 64,
            u64::MAX.into(),
            PRIME - 1,
            PRIME,
            PRIME + 1,
        ];
        for a in edges {
            for b in edges {
                let product = times(a, b);
                assert!(product <= PRIME + 1);
                assert_eq!(product % PRIME, slow(a, b), "{a} times {b}");
            }
        }
        assert_eq!(fold(u128::MAX) % PRIME, u128::MAX % PRIME);
    }

    fn items(words: impl IntoIterator<Item = (u64, [u8; 32])>) -> Vec<Item> {
        words
            .into_iter()
            .map(|(issued, id)| Item::new(issued, id).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn numbers_multiply_rightly(a in 0..=PRIME + 1, b in 0..=PRIME + 1) {
            prop_assert_eq!(times(a, b) % PRIME, slow(a, b));
        }

        #[test]
        fn number_is_the_sum_of_words_times_coefficients(issued in 0u64..1 << 53, id: [u8; 32], nonces: [[u8; 16]; 2]) {
            let key = SessionKey::new(&nonces[0], &nonces[1]);
            let mut expected = 0;
            let words = id.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            for (word, (upper, lower)) in std::iter::once(issued).chain(words).zip(key.coefficients) {
                let coefficient = u128::from(upper) << 64 | u128::from(lower);
                expected = (expected + slow(coefficient, word.into())) % PRIME;
            }
            prop_assert_eq!(key.number(&Item::new(issued, id).unwrap()), expected);
        }

        #[test]
        fn parts_join_to_the_whole_wherever_they_are_cut(
            set in btree_set((0u64..9, any::<[u8; 32]>()), 0..80), at in 0usize..90, nonces: [[u8; 16]; 2],
        ) {
            let key = SessionKey::new(&nonces[0], &nonces[1]);
            let set = KnownSet::build(items(set)).unwrap().snapshot();
            let whole = key.fold(&set, 0..set.len());
            let at = at.min(set.len());
            let joined = key.fold(&set, 0..at).join(key.fold(&set, at..set.len()));
            prop_assert_eq!(key.fingerprint(joined), key.fingerprint(whole));
            prop_assert_eq!(whole.count, set.len() as u64);
            prop_assert_eq!(whole.join(Fold::EMPTY).product % PRIME, whole.product % PRIME);
        }

        #[test]
        fn one_bit_or_another_nonce_changes_the_fingerprint(
            set in btree_set((0u64..9, any::<[u8; 32]>()), 1..80), which: prop::sample::Index, bit in 0usize..256, nonces: [[u8; 16]; 2],
        ) {
            let key = SessionKey::new(&nonces[0], &nonces[1]);
            let print = |key: &SessionKey, items: Vec<Item>| {
                let set = KnownSet::build(items).unwrap().snapshot();
                key.fingerprint(key.fold(&set, 0..set.len()))
            };
            let before = print(&key, items(set.clone()));
            let mut changed: Vec<_> = set.clone().into_iter().collect();
            let which = which.index(changed.len());
            changed[which].1[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(before, print(&key, items(changed)));
            prop_assert_ne!(before, print(&SessionKey::new(&nonces[1], &nonces[0]), items(set.clone())));
            let mut nonce = nonces[1];
            nonce[bit / 16] ^= 1;
            prop_assert_ne!(before, print(&SessionKey::new(&nonces[0], &nonce), items(set)));
        }
    }

    /// In a sum of hashes that are products of pairs of words, the corners of this cube cancel out under every key.
    #[test]
    fn corners_of_a_cube_do_not_cancel_out() {
        let corner = |bits: u8| {
            let mut id = [0; 32];
            (0..3).for_each(|axis| id[axis * 8] = bits >> axis & 1);
            (7, id)
        };
        let key = SessionKey::new(&[1; 16], &[2; 16]);
        let side = |odd| {
            let set = (0..8)
                .filter(|bits: &u8| bits.count_ones() % 2 == odd)
                .map(corner);
            let set = KnownSet::build(items(set)).unwrap().snapshot();
            key.fingerprint(key.fold(&set, 0..4))
        };
        assert_ne!(side(0), side(1));
    }
}
