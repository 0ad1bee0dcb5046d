//! Patterns of event types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use utoipa::ToSchema;

use crate::domain::event::OPERATIONAL_TYPES;

/// Longest event type, and longest pattern.
pub const MAX_EVENT_TYPE_BYTES: usize = 255;

/// An event type, or a prefix of event types and `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(into = "String", try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 255, pattern = r"^[^\s*>\x00-\x1f\x7f-\x9f]*\*?$")]
pub struct EventTypePattern(Box<str>);

/// A text that is no [`EventTypePattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an event type nor a prefix that ends in `*`")]
pub struct NoPattern(String);

impl EventTypePattern {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `*`; `None` for an exact type.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }
}

/// Whether an endpoint with these patterns gets events of a type: without any it gets all that producers send, as with `*`.
/// Operational events go only to endpoints that name them.
pub fn wants(patterns: &[EventTypePattern], event_type: &str) -> bool {
    let matches = |pattern: &EventTypePattern| match pattern.prefix() {
        Some("") => false,
        Some(prefix) => event_type.starts_with(prefix),
        None => pattern.as_str() == event_type,
    };
    let takes_all = patterns.is_empty() || patterns.iter().any(|pattern| pattern.as_str() == "*");
    takes_all && !OPERATIONAL_TYPES.contains(&event_type) || patterns.iter().any(matches)
}

impl FromStr for EventTypePattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let is_name = |c: char| !c.is_control() && !c.is_whitespace() && c != '*' && c != '>';
        if text.is_empty() || text.len() > MAX_EVENT_TYPE_BYTES || !name.chars().all(is_name) {
            return Err(NoPattern(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for EventTypePattern {
    type Error = NoPattern;

    fn try_from(text: String) -> Result<Self, NoPattern> {
        text.parse()
    }
}

impl From<EventTypePattern> for String {
    fn from(pattern: EventTypePattern) -> Self {
        pattern.0.into()
    }
}

impl fmt::Display for EventTypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Type<Postgres> for EventTypePattern {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(other: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(other)
    }
}

impl PgHasArrayType for EventTypePattern {
    fn array_type_info() -> PgTypeInfo {
        <&str as PgHasArrayType>::array_type_info()
    }

    fn array_compatible(other: &PgTypeInfo) -> bool {
        <&str as PgHasArrayType>::array_compatible(other)
    }
}

impl Encode<'_, Postgres> for EventTypePattern {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(&*self.0, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for EventTypePattern {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(<&str as Decode<'r, Postgres>>::decode(value)?.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_type_or_a_prefix_with_one_star_at_its_end() {
        for (text, prefix) in [
            ("order.created", None),
            ("order.*", Some("order.")),
            ("*", Some("")),
        ] {
            let pattern: EventTypePattern = text.parse().unwrap();
            assert_eq!((pattern.as_str(), pattern.prefix()), (text, prefix));
        }
        let long = "a".repeat(MAX_EVENT_TYPE_BYTES + 1);
        for text in ["", "a b", "a\u{0}", "*.created", "a**", "a.>", &long] {
            assert!(text.parse::<EventTypePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_of_a_later_release_is_an_error_that_names_it() {
        let error = serde_json::from_str::<EventTypePattern>("\"order.{created,paid}.*.x\"").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#""order.{created,paid}.*.x" is neither an event type nor a prefix that ends in `*`"#
        );
    }
}
