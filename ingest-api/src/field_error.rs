//! What is wrong with the fields of a request.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;

/// Most wrong fields of one request, or of one event of a batch, that are told one by one.
const MAX_TOLD: usize = 20;

/// What is wrong with one field of a body.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's path, for example `idempotency_key`.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    /// An error of one field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            detail: detail.into(),
        }
    }
}

/// What is wrong with a body, gathered field by field. A body may hold any number of wrong fields: those that are told
/// are kept, the others only counted.
#[derive(Debug, Default)]
pub struct FieldErrors {
    told: Vec<FieldError>,
    more: usize,
}

impl FieldErrors {
    /// One more wrong field.
    pub fn push(&mut self, field: &str, detail: impl Into<String>) {
        if self.told.len() < MAX_TOLD {
            self.told.push(FieldError::new(field, detail));
        } else {
            self.more += 1;
        }
    }

    /// A field that is wrong when it was refused.
    pub fn check<E: Into<String>>(&mut self, field: &str, outcome: Result<(), E>) {
        if let Err(detail) = outcome {
            self.push(field, detail);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl From<FieldErrors> for ApiError {
    fn from(FieldErrors { mut told, more }: FieldErrors) -> Self {
        if more > 0 {
            told.push(FieldError::new("body", format!("has {more} more wrong fields")));
        }
        Self::Invalid(told)
    }
}
