//! Integers in forms, in any spelling: for JSON Schema, and so for the contract, `64.0` and `2e3` are integers.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::form::json::in_words;

/// No form allows a number with more digits.
const MAX_DIGITS: usize = 30;

/// Reads a field that holds an integer: `#[serde(deserialize_with = "whole::read")]`. The field's type may be any that reads
/// integers, such as `Option<u32>` or `Field<i32>`.
///
/// # Errors
/// When it is something else, or out of the type's range.
pub(crate) fn read<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    let text = raw.get();
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let plain = if is_number {
        integer(text).ok_or_else(|| D::Error::custom("must be an integer"))?
    } else {
        text.into()
    };
    serde_json::from_str(&plain).map_err(|error| {
        let detail = match in_words(&error) {
            _ if !is_number => "must be an integer".to_owned(),
            // serde_json reads an integer that no type holds as a floating point number.
            text if text.contains("floating point") => "is out of range".to_owned(),
            text => text,
        };
        D::Error::custom(detail)
    })
}

/// A number of JSON as digits, when it is an integer.
fn integer(number: &str) -> Option<Cow<'_, str>> {
    if !number.contains(['.', 'e', 'E']) && number != "-0" {
        return Some(number.into());
    }
    let (sign, number) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Some("0".into());
    }
    // Zeros behind the last significant digit; negative when that digit stands behind the point.
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let zeros = i64::try_from(trailing).ok()? - i64::try_from(fraction.len()).ok()?;
    let zeros = match exponent.parse::<i64>() {
        Ok(exponent) => zeros.saturating_add(exponent),
        Err(_) if exponent.starts_with('-') => i64::MIN,
        Err(_) => i64::MAX,
    };
    let zeros = usize::try_from(zeros).ok()?.min(MAX_DIGITS);
    Some(format!("{sign}{significant}{}", "0".repeat(zeros)).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_integer_is_one_in_any_spelling() {
        for (number, plain) in [
            ("64", "64"),
            ("64.0", "64"),
            ("2e3", "2000"),
            ("2E+3", "2000"),
            ("1.5e1", "15"),
            ("120.00e-1", "12"),
            ("-7.0", "-7"),
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("0e999999999999999999999", "0"),
            ("9007199254740993.0", "9007199254740993"),
        ] {
            assert_eq!(integer(number).as_deref(), Some(plain), "{number}");
        }
        for number in [
            "64.5",
            "1e-1",
            "64.00000000000000000001",
            "1e-99999999999999999999",
        ] {
            assert_eq!(integer(number), None, "{number}");
        }
        let huge = integer("1e999999999999999999999").unwrap();
        assert_eq!(huge.len(), 1 + MAX_DIGITS);
    }

    #[derive(Debug, Deserialize)]
    struct Form {
        #[serde(default, deserialize_with = "read")]
        count: Option<u8>,
    }

    #[test]
    fn what_is_no_integer_or_too_large_is_told() {
        let count = |text: &str| {
            let form = serde_json::from_str::<Form>(&format!(r#"{{"count":{text}}}"#));
            form.map(|form| form.count).map_err(|error| in_words(&error))
        };
        assert_eq!(count("2.55e2"), Ok(Some(255)));
        assert_eq!(count("null"), Ok(None));
        insta::assert_snapshot!(count("1.5").unwrap_err(), @"must be an integer");
        insta::assert_snapshot!(count("\"64\"").unwrap_err(), @"must be an integer");
        insta::assert_snapshot!(count("256").unwrap_err(), @"invalid value: integer `256`, expected u8");
        insta::assert_snapshot!(count("1e400").unwrap_err(), @"is out of range");
    }

    proptest! {
        #[test]
        fn an_integer_keeps_its_value(value in any::<i32>(), zeros in 0usize..4, shift in 0usize..6) {
            let shifted = format!("{value}{}.{}e-{shift}", "0".repeat(shift), "0".repeat(zeros + 1));
            let plain = integer(&shifted).map(|plain| plain.parse::<i32>());
            prop_assert_eq!(plain, Some(Ok(value)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "-?[0-9.eE+-]{0,12}") {
            let _ = integer(&text);
        }
    }
}
