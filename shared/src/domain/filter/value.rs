//! What conditions compare: the single values of JSON.

use std::borrow::Cow;

use crate::domain::filter::decimal::Decimal;

/// A value of a filter or of a payload that is no array and no object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar<'a> {
    /// `null`
    Null,
    /// `false` and `true`
    Bool(bool),
    /// A number, whatever its size.
    Number(Decimal<'a>),
    /// A string, without its escapes.
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// Reads the JSON text of a value. `None` for an array or an object, and for a string that has half of a surrogate
    /// pair in it: it is no text.
    pub fn parse(json: &'a str) -> Option<Self> {
        match json {
            "null" => Some(Self::Null),
            "false" => Some(Self::Bool(false)),
            "true" => Some(Self::Bool(true)),
            _ if json.starts_with('"') => string(json).map(Self::Text),
            _ => Decimal::parse(json).map(Self::Number),
        }
    }

    /// The same, with text of its own.
    pub fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::Null => Scalar::Null,
            Self::Bool(value) => Scalar::Bool(value),
            Self::Number(number) => Scalar::Number(number.into_owned()),
            Self::Text(text) => Scalar::Text(text.into_owned().into()),
        }
    }
}

/// Reads a JSON string with its quotes; `None` when it has half of a surrogate pair in it.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(json).ok()
    } else {
        Some(inner.into())
    }
}

/// What stands at a place that a filter asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A value to compare with.
    Scalar(Scalar<'a>),
    /// An array or an object.
    Nested,
    /// A string that is no text: it equals nothing, and nothing is known to differ from it.
    Unreadable,
}
