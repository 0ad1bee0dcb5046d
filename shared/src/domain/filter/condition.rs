//! Conditions on one value.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::domain::filter::decimal::Decimal;
use crate::domain::filter::value::{Found, Scalar};

/// What must hold for the value that a pointer leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// It is this.
    Equal(Scalar<'static>),
    /// It is something else, or not there.
    NotEqual(Scalar<'static>),
    /// It is one of these, which are in order.
    In(Vec<Scalar<'static>>),
    /// It is there, or not.
    Exists(bool),
    /// It is a number that, compared with this one, comes out as one of these.
    Compared(Decimal<'static>, &'static [Ordering]),
}

/// Reads what stands at a pointer in a filter.
///
/// # Errors
/// With what is wrong.
pub(super) fn conditions(json: &str) -> Result<Vec<Condition>, &'static str> {
    if !json.starts_with('{') {
        return Ok(vec![Condition::Equal(scalar(json)?)]);
    }
    let operators: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|_| "has an operator that is no text")?;
    if operators.is_empty() {
        return Err("has no operator");
    }
    let conditions = operators.into_iter();
    conditions
        .map(|(operator, operand)| Condition::parse(&operator, operand.get()))
        .collect()
}

fn scalar(json: &str) -> Result<Scalar<'static>, &'static str> {
    let scalar = Scalar::parse(json).map(Scalar::into_owned);
    scalar.ok_or("compares with a string, a number, a boolean or null")
}

impl Condition {
    fn parse(operator: &str, operand: &str) -> Result<Self, &'static str> {
        let compared = |orderings| match Decimal::parse(operand) {
            Some(number) => Ok(Self::Compared(number.into_owned(), orderings)),
            None => Err("compares with a number"),
        };
        match operator {
            "eq" => scalar(operand).map(Self::Equal),
            "ne" => scalar(operand).map(Self::NotEqual),
            "exists" => match operand {
                "true" => Ok(Self::Exists(true)),
                "false" => Ok(Self::Exists(false)),
                _ => Err("`exists` is true or false"),
            },
            "in" => {
                let values: Vec<&RawValue> = serde_json::from_str(operand).map_err(|_| "`in` is an array")?;
                let values = values.into_iter().map(|value| scalar(value.get()));
                let mut values: Vec<_> = values.collect::<Result<_, _>>()?;
                values.sort_unstable();
                Ok(Self::In(values))
            }
            "gt" => compared(&[Ordering::Greater]),
            "gte" => compared(&[Ordering::Greater, Ordering::Equal]),
            "lt" => compared(&[Ordering::Less]),
            "lte" => compared(&[Ordering::Less, Ordering::Equal]),
            _ => Err("has an operator other than eq, ne, in, exists, gt, gte, lt, lte"),
        }
    }

    /// Whether it holds. Takes no longer than reading the condition, however long the value is.
    pub(super) fn holds(&self, found: Option<&Found<'_>>) -> bool {
        match self {
            Self::Equal(value) => is(found, value),
            Self::NotEqual(value) => found != Some(&Found::Unreadable) && !is(found, value),
            Self::In(values) => match found {
                Some(Found::Scalar(found)) => values.binary_search_by(|value| value.cmp(found)).is_ok(),
                _ => false,
            },
            Self::Exists(wanted) => found.is_some() == *wanted,
            Self::Compared(number, orderings) => match found {
                Some(Found::Scalar(Scalar::Number(found))) => orderings.contains(&found.cmp(number)),
                _ => false,
            },
        }
    }
}

fn is(found: Option<&Found<'_>>, value: &Scalar<'_>) -> bool {
    matches!(found, Some(Found::Scalar(found)) if found == value)
}
