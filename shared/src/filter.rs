//! Payload filters: which of the events whose type matches an endpoint also gets, by what stands in their `data`.
//!
//! A filter is a JSON object. Its keys are JSON pointers (RFC 6901) into `data`, its values conditions, and all of
//! them must hold:
//!
//! ```json
//! {"/total": {"gte": 100, "lt": 500}, "/currency": {"in": ["EUR", "CHF"]}, "/test": {"exists": false}, "/shop": 7}
//! ```
//!
//! A plain value is short for `{"eq": value}`. A payload is searched, not parsed into a tree, and one that is not
//! JSON matches no filter.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thiserror::Error;

/// Longest filter, in bytes.
pub const MAX_BYTES: usize = 4_096;

/// Most conditions in one filter.
pub const MAX_CONDITIONS: usize = 32;

/// A filter that was read and can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadFilter(Vec<(Pointer, Vec<Condition>)>);

/// What is wrong with a filter.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// Not JSON, or not an object.
    #[error("must be a JSON object of pointers and conditions")]
    NotAnObject,
    /// Too long.
    #[error("must have 1 to {MAX_CONDITIONS} pointers and at most {MAX_BYTES} bytes")]
    Size,
    /// A key is not a JSON pointer.
    #[error("{0:?} is not a JSON pointer, such as \"/order/total\"")]
    Pointer(String),
    /// A condition is not understood.
    #[error("{pointer:?}: {detail}")]
    Condition {
        /// Whose condition.
        pointer: String,
        /// What is wrong with it.
        detail: &'static str,
    },
}

/// A JSON pointer's steps, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pointer(Vec<String>);

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Equal(Value),
    NotEqual(Value),
    In(Vec<Value>),
    Exists(bool),
    /// The payload's number, compared with this one, must come out as one of these.
    Compared(f64, &'static [Ordering]),
}

impl PayloadFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`], with the pointer that is wrong.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| FilterError::NotAnObject)?;
        if text.len() > MAX_BYTES || object.is_empty() || object.len() > MAX_CONDITIONS {
            return Err(FilterError::Size);
        }
        let clauses = object.into_iter().map(|(pointer, value)| {
            let steps = Pointer::parse(&pointer).ok_or_else(|| FilterError::Pointer(pointer.clone()))?;
            let conditions =
                conditions(value).map_err(|detail| FilterError::Condition { pointer, detail })?;
            Ok((steps, conditions))
        });
        clauses.collect::<Result<_, _>>().map(Self)
    }

    /// Whether every condition holds for this JSON text.
    pub fn matches(&self, data: &[u8]) -> bool {
        let Ok(document) = serde_json::from_slice::<&RawValue>(data) else {
            return false;
        };
        self.0.iter().all(|(pointer, conditions)| {
            let found = pointer.find(document);
            conditions.iter().all(|condition| condition.holds(found))
        })
    }
}

fn conditions(value: Value) -> Result<Vec<Condition>, &'static str> {
    let Value::Object(operators) = value else {
        return Ok(vec![Condition::Equal(scalar(value)?)]);
    };
    if operators.is_empty() {
        return Err("has no operator");
    }
    operators
        .into_iter()
        .map(|(operator, operand)| Condition::parse(&operator, operand))
        .collect()
}

fn scalar(value: Value) -> Result<Value, &'static str> {
    match value {
        Value::Array(_) | Value::Object(_) => Err("compares with a string, a number, a boolean or null"),
        scalar => Ok(scalar),
    }
}

impl Condition {
    fn parse(operator: &str, operand: Value) -> Result<Self, &'static str> {
        let compared = |orderings| {
            let number = operand.as_f64().ok_or("compares with a number");
            number.map(|number| Self::Compared(number, orderings))
        };
        match operator {
            "eq" => scalar(operand).map(Self::Equal),
            "ne" => scalar(operand).map(Self::NotEqual),
            "exists" => operand
                .as_bool()
                .map(Self::Exists)
                .ok_or("`exists` is true or false"),
            "in" => match operand {
                Value::Array(values) => Ok(Self::In(
                    values.into_iter().map(scalar).collect::<Result<_, _>>()?,
                )),
                _ => Err("`in` is an array"),
            },
            "gt" => compared(&[Ordering::Greater]),
            "gte" => compared(&[Ordering::Greater, Ordering::Equal]),
            "lt" => compared(&[Ordering::Less]),
            "lte" => compared(&[Ordering::Less, Ordering::Equal]),
            _ => Err("has an operator other than eq, ne, in, exists, gt, gte, lt, lte"),
        }
    }

    fn holds(&self, found: Option<&RawValue>) -> bool {
        match self {
            Self::Equal(value) => found.is_some_and(|found| equals(found, value)),
            Self::NotEqual(value) => !found.is_some_and(|found| equals(found, value)),
            Self::In(values) => found.is_some_and(|found| values.iter().any(|value| equals(found, value))),
            Self::Exists(wanted) => found.is_some() == *wanted,
            Self::Compared(number, orderings) => found
                .and_then(as_number)
                .and_then(|found| found.partial_cmp(number))
                .is_some_and(|ordering| orderings.contains(&ordering)),
        }
    }
}

fn equals(found: &RawValue, value: &Value) -> bool {
    match value {
        // As numbers, so that 1, 1.0 and 1e0 are equal; beyond 2^53 digits decide that a double would lose.
        Value::Number(number) => {
            found.get() == number.to_string()
                || as_number(found).is_some_and(|found| {
                    number
                        .as_f64()
                        .is_some_and(|number| number.total_cmp(&found).is_eq())
                        && found.abs() < 9_007_199_254_740_992.0
                })
        }
        Value::String(text) => {
            serde_json::from_str::<Cow<'_, str>>(found.get()).is_ok_and(|found| found == *text)
        }
        Value::Bool(value) => found.get() == if *value { "true" } else { "false" },
        Value::Null => found.get() == "null",
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// A number's value, infinite when a double cannot hold it.
fn as_number(value: &RawValue) -> Option<f64> {
    let text = value.get();
    let starts_a_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    starts_a_number.then(|| text.parse().ok()).flatten()
}

impl Pointer {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        let steps = text.strip_prefix('/')?.split('/').map(unescape);
        steps.collect::<Option<_>>().map(Self)
    }

    fn find<'a>(&self, document: &'a RawValue) -> Option<&'a RawValue> {
        self.0.iter().try_fold(document, |value, step| {
            let mut reader = serde_json::Deserializer::from_str(value.get());
            reader.deserialize_any(Child { step }).ok().flatten()
        })
    }
}

/// Reverses RFC 6901's escapes; nothing for another one.
fn unescape(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let rest = match part.split_at_checked(1)? {
            ("0", rest) => {
                plain.push('~');
                rest
            }
            ("1", rest) => {
                plain.push('/');
                rest
            }
            _ => return None,
        };
        plain.push_str(rest);
    }
    Some(plain)
}

/// Reads one member or element of a value and skips the others. Of a repeated name the last one counts, as in most
/// parsers.
struct Child<'p> {
    step: &'p str,
}

impl<'de> Visitor<'de> for Child<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == self.step {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Self::Value, S::Error> {
        let is_index = self.step == "0" || !self.step.starts_with(['0', '+']);
        let index: Option<usize> = is_index.then(|| self.step.parse().ok()).flatten();
        let mut found = None;
        for place in 0.. {
            if index == Some(place) {
                match elements.next_element()? {
                    Some(element) => found = Some(element),
                    None => break,
                }
            } else if elements.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORDER: &str = r#"{"total":120.0,"lines":[{"sku":"a"},{"sku":"b"}],"shop":7,"a/b":{"~":true},"note":null,
        "big":12345678901234567890,"huge":1e400,"name":"\u0065va"}"#;

    fn matches(filter: &str) -> bool {
        PayloadFilter::parse(filter).unwrap().matches(ORDER.as_bytes())
    }

    #[test]
    fn conditions_hold_for_what_stands_in_the_payload() {
        for filter in [
            r#"{"/total":{"gte":120,"lt":121}}"#,
            r#"{"/total":120}"#,
            r#"{"/lines/1/sku":"b"}"#,
            r#"{"/a~1b/~0":true}"#,
            r#"{"/note":null}"#,
            r#"{"/missing":{"exists":false},"/note":{"exists":true}}"#,
            r#"{"/shop":{"in":["x",7]}}"#,
            r#"{"/shop":{"ne":8}}"#,
            r#"{"/missing":{"ne":8}}"#,
            r#"{"/big":12345678901234567890}"#,
            r#"{"/huge":{"gt":5}}"#,
            r#"{"/name":"eva"}"#,
            r#"{"":{"exists":true}}"#,
        ] {
            assert!(matches(filter), "{filter}");
        }
    }

    #[test]
    fn conditions_fail_for_what_does_not() {
        for filter in [
            r#"{"/total":{"gt":120}}"#,
            r#"{"/total":120,"/shop":8}"#,
            r#"{"/lines/01/sku":"b"}"#,
            r#"{"/lines/2":{"exists":true}}"#,
            r#"{"/shop":"7"}"#,
            r#"{"/note":{"gt":-1}}"#,
            r#"{"/missing":{"in":[null]}}"#,
            r#"{"/big":12345678901234567891}"#,
            r#"{"/shop/x":{"exists":true}}"#,
        ] {
            assert!(!matches(filter), "{filter}");
        }
    }

    #[test]
    fn a_payload_that_is_not_json_matches_nothing() {
        let filter = PayloadFilter::parse(r#"{"/a":{"exists":false}}"#).unwrap();
        assert!(filter.matches(b"{}"));
        assert!(!filter.matches(b"hello"));
        assert!(!filter.matches(b"\xff"));
    }

    #[test]
    fn a_wrong_filter_is_explained() {
        let error = |text: &str| PayloadFilter::parse(text).unwrap_err().to_string();
        assert_eq!(error("[]"), "must be a JSON object of pointers and conditions");
        assert_eq!(error("{}"), "must have 1 to 32 pointers and at most 4096 bytes");
        assert_eq!(
            error(r#"{"total":1}"#),
            r#""total" is not a JSON pointer, such as "/order/total""#
        );
        assert_eq!(
            error(r#"{"/a~2":1}"#),
            r#""/a~2" is not a JSON pointer, such as "/order/total""#
        );
        assert_eq!(
            error(r#"{"/a":{"like":1}}"#),
            r#""/a": has an operator other than eq, ne, in, exists, gt, gte, lt, lte"#
        );
        assert_eq!(error(r#"{"/a":{"gt":"5"}}"#), r#""/a": compares with a number"#);
        assert_eq!(error(r#"{"/a":{}}"#), r#""/a": has no operator"#);
    }

    proptest! {
        #[test]
        fn no_filter_and_no_payload_panic(filter in ".{0,60}", data in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(filter) = PayloadFilter::parse(&filter) {
                let _ = filter.matches(&data);
            }
            let filter = PayloadFilter::parse(r#"{"/a/0":{"gt":1},"":{"ne":"x"}}"#).unwrap();
            let _ = filter.matches(&data);
        }
    }
}
