//! Numbers that are numbers: what is measured and then compared within a tolerance.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A 64 bits float that is neither NaN nor infinite nor negative zero, so that equal numbers have equal bits.
///
/// Text: the bits as 16 lower-case hex digits, highest first. Canonical JSON has no fractions, and this is exact.
#[derive(Clone, Copy, PartialEq)]
pub struct Finite(f64);

/// Why a text is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FiniteError {
    /// It is not 16 lower-case hex digits.
    #[error("number is not 16 lower-case hex digits")]
    Digits,
    /// The bits are NaN, infinite or negative zero.
    #[error("number is not finite, or a zero with a sign")]
    NotANumber,
}

impl Finite {
    /// Takes a number; negative zero becomes zero. `None`: it is NaN or infinite.
    pub fn new(number: f64) -> Option<Finite> {
        number
            .is_finite()
            .then_some(Finite(if number == 0.0 { 0.0 } else { number }))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

// It is never NaN.
impl Eq for Finite {}

impl fmt::Display for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.to_bits())
    }
}

impl fmt::Debug for Finite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Finite {
    type Err = FiniteError;

    fn from_str(text: &str) -> Result<Finite, FiniteError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(FiniteError::Digits);
        }
        let bits = u64::from_str_radix(text, 16).map_err(|_| FiniteError::Digits)?;
        let number = f64::from_bits(bits);
        let one = Finite::new(number).filter(|finite| finite.0.to_bits() == bits);
        one.ok_or(FiniteError::NotANumber)
    }
}

/// In JSON of ours that is for people: a plain number.
impl Serialize for Finite {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Finite, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Finite::new(number).ok_or_else(|| D::Error::custom(FiniteError::NotANumber))
    }
}
