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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cmp(one: &str, two: &str) -> Ordering {
        Decimal::parse(one).unwrap().cmp(&Decimal::parse(two).unwrap())
    }

    #[test]
    fn numbers_that_say_the_same_are_equal() {
        let long = "9".repeat(60);
        for (one, two) in [
            ("1e16", "10000000000000000"),
            ("-0", "0"),
            ("-0.0e-5", "0E+99999999999999999999999999999999999999999999"),
            ("120", "120.0"),
            ("120", "1.20e2"),
            ("0.05", "5e-2"),
            ("0.0500", "0.5e-1"),
            ("123456789012345678901", "123456789012345678901.000"),
            ("10e999999999999999999", "1e1000000000000000000"),
            // Where exponents change from one form into the other.
            (
                &format!("10e{}", "9".repeat(37)),
                &format!("1e1{}", "0".repeat(37)),
            ),
            (
                &format!("0.1e1{}", "0".repeat(37)),
                &format!("1e{}", "9".repeat(37)),
            ),
            (
                &format!("0.01e-{}", "9".repeat(37)),
                &format!("1e-1{}1", "0".repeat(36)),
            ),
            (
                &format!("10e-1{}", "0".repeat(37)),
                &format!("1e-{}", "9".repeat(37)),
            ),
            (&format!("10e{long}"), &format!("1e1{}", "0".repeat(60))),
        ] {
            assert_eq!(cmp(one, two), Ordering::Equal, "{one} {two}");
        }
    }

    #[test]
    fn numbers_are_in_their_order_at_any_size() {
        let huge = format!("1e{}", "9".repeat(200_000));
        let ordered = [
            "-1e400",
            "-1780921717355446273",
            "-1780921717355446272",
            "-1e-400",
            "-0",
            "1e-99999999999999999999999999999999999999999999999999",
            "1e-99999999999999999999999999999999999999999999999998",
            "1e-999999999",
            "0.1",
            "0.10000000000000000000000000000000001",
            "9",
            "10",
            "1780921717355446272",
            "1780921717355446273",
            "123456789012345678901",
            "123456789012345678902",
            "1e400",
            "1e999999999",
            "9e999999999",
            "1e99999999999999999999999999999999999999999999999999",
            "2e99999999999999999999999999999999999999999999999999",
            &huge,
        ];
        for (one, lower) in ordered.iter().enumerate() {
            for (two, upper) in ordered.iter().enumerate() {
                assert_eq!(cmp(lower, upper), one.cmp(&two), "{lower} {upper}");
            }
        }
    }

    fn length(text: &str) -> i32 {
        i32::try_from(text.len()).unwrap()
    }

    /// A whole number and what power of ten to divide it by, as plain digits: 60 before the point, 60 after it.
    fn written_out(number: &str) -> (bool, String) {
        let (is_negative, number) = (number.starts_with('-'), number.trim_start_matches('-'));
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let point = length(whole) + exponent.parse::<i32>().unwrap();
        let mut places = vec![b'0'; 120];
        for (index, digit) in (0..).zip(whole.bytes().chain(fraction.bytes())) {
            if digit != b'0' {
                places[usize::try_from(60 - point + index).unwrap()] = digit;
            }
        }
        (is_negative, String::from_utf8(places).unwrap())
    }

    fn naive(one: &str, two: &str) -> Ordering {
        let ((one_negative, one), (two_negative, two)) = (written_out(one), written_out(two));
        let zero = "0".repeat(120);
        match (one_negative && one != zero, two_negative && two != zero) {
            (false, false) => one.cmp(&two),
            (true, true) => two.cmp(&one),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_numbers_written_out(
            one in "-?(0|[1-9][0-9]{0,12})(\\.[0-9]{1,12})?([eE][+-]?0{0,2}[0-2]?[0-9])?",
            two in "-?(0|[1-9]0{0,3}[0-9]{0,2})(\\.0{0,3}[0-9]{1,2})?([eE][+-]?[0-9])?",
            zeros in 0..5_usize,
        ) {
            prop_assert_eq!(cmp(&one, &two), naive(&one, &two));
            // The same number in another spelling.
            let (mantissa, exponent) = two.split_once(['e', 'E']).unwrap_or((&two, "0"));
            let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
            let shifted = exponent.parse::<i32>().unwrap() - length(fraction) - i32::try_from(zeros).unwrap();
            let other = format!("{whole}{fraction}{}e{shifted}", "0".repeat(zeros));
            prop_assert_eq!(cmp(&two, &other), Ordering::Equal, "{}", other);
            prop_assert_eq!(cmp(&one, &other), naive(&one, &two), "{}", other);
        }

        #[test]
        fn an_exponent_of_any_length_is_compared_exactly(start in "[1-9][0-9]{34,37}", negative: bool, more in -50..50_i64) {
            let sum = start.parse::<i128>().unwrap() + i128::from(more);
            let sign = if negative { "-" } else { "" };
            let (low, high) = (format!("1e{sign}{start}"), format!("1e{sign}{sum}"));
            let order = if negative { 0.cmp(&more) } else { more.cmp(&0) };
            prop_assert_eq!(cmp(&high, &low), order);
            if more > 0 && !negative {
                let zeros = "0".repeat(usize::try_from(more).unwrap());
                prop_assert_eq!(cmp(&format!("1{zeros}{}", &low[1..]), &high), Ordering::Equal);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "", "-", ".5", "1e", "1e+", "1x", "+1", "1e1.5", "NaN", "--1", "1ee1",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}
