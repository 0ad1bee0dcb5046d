//! Fields of a change, in which null is a value: JSON merge patch (RFC 7396).

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// What a change says about one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field<T> {
    /// The field stays as it is.
    #[default]
    Absent,
    /// The field gets its default.
    Null,
    /// The field gets this value.
    Value(T),
}

impl<T> Field<T> {
    /// Whether the change names the field.
    pub(crate) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The new value, when there is one.
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// The same with another value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Absent => Field::Absent,
            Self::Null => Field::Null,
            Self::Value(value) => Field::Value(change(value)),
        }
    }

    /// Changes a field with a default.
    pub(crate) fn apply(self, field: &mut T, default: T) {
        match self {
            Self::Absent => {}
            Self::Null => *field = default,
            Self::Value(value) => *field = value,
        }
    }

    /// Changes a field that may be missing.
    pub(crate) fn apply_to_option(self, field: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Null => *field = None,
            Self::Value(value) => *field = Some(value),
        }
    }
}

/// Reads a field that is there. For an absent one, serde takes the default.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

/// Reads a field of a change that has no default: `#[serde(default, deserialize_with = "field::required")]`.
///
/// # Errors
/// When it is null, or no `T`.
pub(crate) fn required<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value: Option<T> = Option::deserialize(deserializer)?;
    value
        .map(Some)
        .ok_or_else(|| D::Error::custom("must not be null"))
}
