//! Why an event was refused.

use crate::domain::form::field_errors::{FieldError, WrongFields};

/// Why an event, or a whole batch of them, was refused.
#[derive(Debug)]
pub enum EventError {
    /// It is not JSON.
    NotJson(serde_json::Error),
    /// It can be read, but these fields are wrong.
    Invalid(Vec<FieldError>),
    /// It is larger than an event may be.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The batch holds more events than it may.
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl EventError {
    /// One wrong field.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, detail)])
    }
}

impl From<WrongFields> for EventError {
    fn from(wrong: WrongFields) -> Self {
        Self::Invalid(wrong.0)
    }
}
