//! Fields of a change, in which null is a value: JSON merge patch (RFC 7396).

use serde::{Deserialize, Deserializer};

/// What a change says about one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Field<T> {
    /// Nothing: it stays as it is.
    #[default]
    Absent,
    /// It goes back to its default.
    Null,
    /// It becomes this.
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

    /// Carries the change out on a field with a default.
    pub(crate) fn apply(self, field: &mut T, default: T) {
        match self {
            Self::Absent => {}
            Self::Null => *field = default,
            Self::Value(value) => *field = value,
        }
    }

    /// Carries the change out on a field that may be missing.
    pub(crate) fn apply_to_option(self, field: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Null => *field = None,
            Self::Value(value) => *field = Some(value),
        }
    }
}

/// A field that is there; serde's `default` gives the absent one.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}
