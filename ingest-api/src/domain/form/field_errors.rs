//! The wrong fields of a request, and the checks that several requests share.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Serialize;
use utoipa::ToSchema;

/// Most wrong fields that are listed for one request, or for one event of a batch.
const MAX_TOLD: usize = 20;

/// Longest name of a key, an organisation or a tenant, in characters.
const MAX_NAME_CHARS: usize = 200;

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

/// The wrong fields of a body, at least one.
#[derive(Debug)]
pub struct WrongFields(pub Vec<FieldError>);

/// The wrong fields of a body so far. A body may hold any number of them; those beyond the first 20 are only counted.
#[derive(Debug, Default)]
pub(crate) struct FieldErrors {
    told: Vec<FieldError>,
    more: usize,
}

impl FieldErrors {
    /// Adds a wrong field.
    pub(crate) fn push(&mut self, field: &str, detail: impl Into<String>) {
        if self.told.len() < MAX_TOLD {
            self.told.push(FieldError::new(field, detail));
        } else {
            self.more += 1;
        }
    }

    /// The value that was read from a field. None for an error, which counts as a wrong field.
    pub(crate) fn check<T, E: Into<String>>(&mut self, field: &str, outcome: Result<T, E>) -> Option<T> {
        outcome.map_err(|detail| self.push(field, detail)).ok()
    }

    /// Ends the check.
    ///
    /// # Errors
    /// With the wrong fields, when there are some.
    pub(crate) fn finish(mut self) -> Result<(), WrongFields> {
        if self.told.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            let detail = format!("has {} more wrong fields", self.more);
            self.told.push(FieldError::new("body", detail));
        }
        Err(WrongFields(self.told))
    }
}

/// Checks that a number is in a range.
///
/// # Errors
/// The text names what is allowed.
pub(crate) fn check_range<T: PartialOrd + Display>(
    value: &T,
    range: &RangeInclusive<T>,
) -> Result<(), String> {
    if range.contains(value) {
        Ok(())
    } else {
        Err(format!("must be {} to {}", range.start(), range.end()))
    }
}

/// Checks the name of a key, an organisation or a tenant.
///
/// # Errors
/// The text names what is allowed.
pub(crate) fn check_display_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if (1..=MAX_NAME_CHARS).contains(&length) && !name.contains('\0') {
        return Ok(());
    }
    Err(format!(
        "must have 1 to {MAX_NAME_CHARS} characters, none of them NUL"
    ))
}
