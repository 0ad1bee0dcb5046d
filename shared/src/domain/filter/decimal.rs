//! Numbers as JSON writes them, compared as what they say: exactly, at any length, without computing them.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A number: 0.d₁d₂d₃… × 10^`exponent`. d₁ and the last digit are not zero, and zero has no digits, so that equal
/// numbers are equal here.
#[derive(Clone, Debug)]
pub struct Decimal<'a> {
    is_negative: bool,
    exponent: Exponent,
    /// The digits before the point, and those after it.
    digits: [Cow<'a, [u8]>; 2],
}

/// Any whole number, each in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exponent {
    /// Less than [`LARGE`], up or down.
    Small(i128),
    /// The others, with their digits.
    Large { is_negative: bool, digits: Vec<u8> },
}

/// 10^37. A number of 37 or 38 digits fits into an `i128`.
const LARGE: i128 = 10_i128.pow(37);
const LARGE_DIGITS: usize = 38;

impl<'a> Decimal<'a> {
    /// Reads a JSON number. Takes time and, only for an exponent of more than 37 digits, memory in proportion to the
    /// text.
    pub fn parse(number: &'a str) -> Option<Self> {
        let (is_negative, unsigned) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let (point, fraction) = if whole.is_empty() {
            let significant = fraction.trim_start_matches('0');
            (places(significant) - places(fraction), significant)
        } else {
            (places(whole), fraction)
        };
        let fraction = fraction.trim_end_matches('0');
        let whole = if fraction.is_empty() {
            whole.trim_end_matches('0')
        } else {
            whole
        };
        let exponent = Exponent::parse(exponent, point)?;
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            is_negative: is_negative && !is_zero,
            exponent: if is_zero { Exponent::Small(0) } else { exponent },
            digits: [whole, fraction].map(|digits| digits.as_bytes().into()),
        })
    }

    /// The same, with digits of its own.
    pub fn into_owned(self) -> Decimal<'static> {
        Decimal {
            is_negative: self.is_negative,
            exponent: self.exponent,
            digits: self.digits.map(|digits| digits.into_owned().into()),
        }
    }

    fn digits(&self) -> impl Iterator<Item = &u8> {
        let [whole, fraction] = &self.digits;
        whole.iter().chain(fraction.iter())
    }

    /// -1, 0 or 1.
    fn sign(&self) -> i8 {
        match self.digits().next() {
            None => 0,
            Some(_) if self.is_negative => -1,
            Some(_) => 1,
        }
    }
}

fn places(digits: &str) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sign().cmp(&other.sign()).then_with(|| {
            let exponents = self.exponent.cmp(&other.exponent);
            let magnitudes = exponents.then_with(|| self.digits().cmp(other.digits()));
            if self.is_negative {
                magnitudes.reverse()
            } else {
                magnitudes
            }
        })
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal<'_> {}

impl Exponent {
    /// Reads an exponent and adds to it.
    fn parse(text: &str, more: i64) -> Option<Self> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0');
        let sign = if is_negative { -1 } else { 1 };
        if digits.len() < LARGE_DIGITS {
            let value: i128 = if digits.is_empty() {
                0
            } else {
                digits.parse().ok()?
            };
            return Some(Self::of(sign * value + i128::from(more)));
        }
        let digits = add(digits.as_bytes(), sign * i128::from(more));
        if digits.len() < LARGE_DIGITS {
            let value: i128 = std::str::from_utf8(&digits).ok()?.parse().ok()?;
            return Some(Self::Small(sign * value));
        }
        Some(Self::Large { is_negative, digits })
    }

    fn of(value: i128) -> Self {
        if value.abs() < LARGE {
            return Self::Small(value);
        }
        Self::Large {
            is_negative: value < 0,
            digits: value.unsigned_abs().to_string().into_bytes(),
        }
    }
}

impl Ord for Exponent {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |exponent: &Self| match exponent {
            Self::Small(_) => 0,
            Self::Large {
                is_negative: true, ..
            } => -1,
            Self::Large {
                is_negative: false, ..
            } => 1,
        };
        sign(self).cmp(&sign(other)).then_with(|| match (self, other) {
            (Self::Small(one), Self::Small(two)) => one.cmp(two),
            (
                Self::Large {
                    is_negative,
                    digits: one,
                },
                Self::Large { digits: two, .. },
            ) => {
                let magnitudes = one.len().cmp(&two.len()).then_with(|| one.cmp(two));
                if *is_negative {
                    magnitudes.reverse()
                } else {
                    magnitudes
                }
            }
            _ => Ordering::Equal,
        })
    }
}

impl PartialOrd for Exponent {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The digits of a number with something added that is less than the number, up or down.
fn add(digits: &[u8], more: i128) -> Vec<u8> {
    let (mut sum, mut carry) = (digits.to_vec(), more);
    for digit in sum.iter_mut().rev() {
        if carry == 0 {
            break;
        }
        let value = i128::from(*digit - b'0') + carry;
        *digit = b"0123456789"[usize::try_from(value.rem_euclid(10)).unwrap_or(0)];
        carry = value.div_euclid(10);
    }
    if carry > 0 {
        sum.splice(0..0, carry.to_string().into_bytes());
    }
    let zeros = sum.iter().take_while(|digit| **digit == b'0').count();
    sum.split_off(zeros)
}

#[cfg(test)]
mod tests;
