//! Conditions on one value.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::domain::filter::decimal::Decimal;
use crate::domain::filter::value::{Found, Scalar};

/// What must hold for a value that a filter asks about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    test: Test,
    /// It holds when the test fails. What is no text passes neither.
    negated: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// It is this.
    Equal(Scalar<'static>),
    /// It is one of these, which are in order.
    In(Vec<Scalar<'static>>),
    /// It is there.
    Exists,
    /// It is a number that, compared with this one, comes out as one of these.
    Compared(Decimal<'static>, &'static [Ordering]),
    /// It is a text with this one in it.
    Text(Part, Box<str>),
    /// The same tests of texts in small letters.
    Folded(FoldedTest),
}

#[derive(Clone, Debug, PartialEq)]
enum FoldedTest {
    In(Vec<Scalar<'static>>),
    Text(Part, Box<str>),
}

/// Where in a text.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Start,
    End,
    Anywhere,
}

/// A condition with the name of its operator; a plain value has none.
pub(super) type Named = (Option<String>, Condition);

/// Reads what stands at a pointer in a filter.
///
/// # Errors
/// With what is wrong.
pub(super) fn conditions(json: &str) -> Result<Vec<Named>, &'static str> {
    if !json.starts_with('{') {
        let equal = Test::Equal(scalar(json)?);
        return Ok(vec![(None, Condition::of(equal))]);
    }
    let mut operators: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|_| "has an operator that is no text")?;
    let folds = match operators.remove("ignore_case").map(RawValue::get) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err("`ignore_case` is true or false"),
    };
    if operators.is_empty() {
        return Err("has no operator");
    }
    let conditions = operators.into_iter();
    let conditions: Vec<Named> = conditions
        .map(|(operator, operand)| {
            let condition = Condition::parse(&operator, operand.get())?;
            Ok((Some(operator), if folds { condition.folded() } else { condition }))
        })
        .collect::<Result<_, &'static str>>()?;
    let is_folded = |(_, condition): &Named| matches!(condition.test, Test::Folded(_));
    if folds && !conditions.iter().any(is_folded) {
        return Err("`ignore_case` stands beside eq, ne, in, prefix, suffix or contains");
    }
    Ok(conditions)
}

fn scalar(json: &str) -> Result<Scalar<'static>, &'static str> {
    let scalar = Scalar::parse(json).map(Scalar::into_owned);
    scalar.ok_or("compares with a string, a number, a boolean or null")
}

impl Condition {
    fn of(test: Test) -> Self {
        Self { test, negated: false }
    }

    fn parse(operator: &str, operand: &str) -> Result<Self, &'static str> {
        let compared = |orderings| match Decimal::parse(operand) {
            Some(number) => Ok(Test::Compared(number.into_owned(), orderings)),
            None => Err("compares with a number"),
        };
        let looked_for = |part| match Scalar::parse(operand) {
            Some(Scalar::Text(text)) => Ok(Test::Text(part, text.into())),
            _ => Err("looks for a string"),
        };
        let test = match operator {
            "eq" => Test::Equal(scalar(operand)?),
            "ne" => return Ok(Self::of(Test::Equal(scalar(operand)?)).negated(true)),
            "exists" => match operand {
                "true" => Test::Exists,
                "false" => return Ok(Self::of(Test::Exists).negated(true)),
                _ => return Err("`exists` is true or false"),
            },
            "in" => {
                let values: Vec<&RawValue> = serde_json::from_str(operand).map_err(|_| "`in` is an array")?;
                let values = values.into_iter().map(|value| scalar(value.get()));
                let mut values: Vec<_> = values.collect::<Result<_, _>>()?;
                values.sort_unstable();
                Test::In(values)
            }
            "gt" => compared(&[Ordering::Greater])?,
            "gte" => compared(&[Ordering::Greater, Ordering::Equal])?,
            "lt" => compared(&[Ordering::Less])?,
            "lte" => compared(&[Ordering::Less, Ordering::Equal])?,
            "prefix" => looked_for(Part::Start)?,
            "suffix" => looked_for(Part::End)?,
            "contains" => looked_for(Part::Anywhere)?,
            _ => {
                return Err(
                    "has an operator other than eq, ne, in, exists, gt, gte, lt, lte, prefix, suffix, contains, \
                     ignore_case",
                );
            }
        };
        Ok(Self::of(test))
    }

    /// Holds when this one does not, if `negated`.
    pub(super) fn negated(self, negated: bool) -> Self {
        Self {
            negated: self.negated != negated,
            ..self
        }
    }

    /// The same of texts in small letters. Tests of other things stay.
    fn folded(self) -> Self {
        let test = match self.test {
            Test::Equal(text @ Scalar::Text(_)) => Test::Folded(FoldedTest::In(vec![folded_scalar(text)])),
            Test::In(values) => {
                let mut values: Vec<_> = values.into_iter().map(folded_scalar).collect();
                values.sort_unstable();
                Test::Folded(FoldedTest::In(values))
            }
            Test::Text(part, text) => Test::Folded(FoldedTest::Text(part, fold(&text).into())),
            other => other,
        };
        Self { test, ..self }
    }

    /// Whether it searches the whole of a text, however long that is.
    pub(super) fn searches(&self) -> bool {
        matches!(
            self.test,
            Test::Text(Part::Anywhere, _) | Test::Folded(FoldedTest::Text(Part::Anywhere, _))
        )
    }

    /// Whether it holds. Unless it [searches](Self::searches), that takes no longer than reading the condition, however long
    /// the value is.
    pub(super) fn holds(&self, found: Option<&Found<'_>>) -> bool {
        let passes = match (&self.test, found) {
            (Test::Exists, found) => found.is_some(),
            (_, Some(Found::Unreadable)) => return false,
            (Test::Equal(value), Some(Found::Scalar(found))) => found == value,
            (Test::In(values), Some(Found::Scalar(found))) => {
                values.binary_search_by(|value| value.cmp(found)).is_ok()
            }
            (Test::Compared(number, orderings), Some(Found::Scalar(Scalar::Number(found)))) => {
                orderings.contains(&found.cmp(number))
            }
            (Test::Text(part, text), Some(Found::Scalar(Scalar::Text(found)))) => match part {
                Part::Start => found.starts_with(&**text),
                Part::End => found.ends_with(&**text),
                Part::Anywhere => found.contains(&**text),
            },
            (Test::Folded(test), Some(Found::Scalar(found))) => test.passes(found),
            _ => false,
        };
        passes != self.negated
    }
}

impl FoldedTest {
    fn passes(&self, found: &Scalar<'_>) -> bool {
        match (self, found) {
            (Self::In(values), Scalar::Text(found)) => values.iter().any(|value| match value {
                Scalar::Text(value) => small(found).eq(value.chars()),
                _ => false,
            }),
            (Self::In(values), other) => values.binary_search_by(|value| value.cmp(other)).is_ok(),
            (Self::Text(part, text), Scalar::Text(found)) => match part {
                Part::Start => begins(small(found), text.chars()),
                Part::End => begins(small(found).rev(), text.chars().rev()),
                Part::Anywhere => fold(found).contains(&**text),
            },
            (Self::Text(..), _) => false,
        }
    }
}

/// The characters of a text in small letters, one by one, whatever stands beside them. It is not the case folding of Unicode, by
/// which `ß` is `ss`: the standard library has none.
fn small(text: &str) -> impl DoubleEndedIterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    small(text).collect()
}

fn folded_scalar(value: Scalar<'static>) -> Scalar<'static> {
    match value {
        Scalar::Text(text) => Scalar::Text(fold(&text).into()),
        other => other,
    }
}

fn begins(mut text: impl Iterator<Item = char>, mut beginning: impl Iterator<Item = char>) -> bool {
    beginning.all(|char| text.next() == Some(char))
}
