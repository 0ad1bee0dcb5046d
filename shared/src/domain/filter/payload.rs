//! A payload filter: its text, read and checked.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use thiserror::Error;

use super::condition::{Condition, conditions};
use super::pointer::Pointer;

/// Longest filter, in bytes.
pub const MAX_BYTES: usize = 4_096;

/// Most conditions in one filter.
pub const MAX_CONDITIONS: usize = 32;

/// How many bytes of a filter's text count as one step of its evaluation.
const BYTES_OF_A_STEP: usize = 16;

/// A filter that was read and can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadFilter {
    pub(super) clauses: Vec<(Pointer, Vec<Condition>)>,
    steps: u32,
}

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

impl PayloadFilter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`], with the pointer that is wrong.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        // As texts: numbers are compared as they are written.
        let object: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|_| FilterError::NotAnObject)?;
        if text.len() > MAX_BYTES || object.is_empty() || object.len() > MAX_CONDITIONS {
            return Err(FilterError::Size);
        }
        let clauses = object.into_iter().map(|(pointer, value)| {
            let steps = Pointer::parse(&pointer).ok_or_else(|| FilterError::Pointer(pointer.clone()))?;
            let conditions =
                conditions(value.get()).map_err(|detail| FilterError::Condition { pointer, detail })?;
            Ok((steps, conditions))
        });
        let clauses: Vec<_> = clauses.collect::<Result<_, _>>()?;
        let conditions: usize = clauses.iter().map(|(_, conditions)| conditions.len()).sum();
        let steps = conditions + text.len() / BYTES_OF_A_STEP;
        Ok(Self {
            clauses,
            steps: u32::try_from(steps).unwrap_or(u32::MAX),
        })
    }

    /// The most that evaluating it takes, whatever the payload is, in steps of some ten nanoseconds.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// How many pointers it has.
    pub fn pointers(&self) -> usize {
        self.clauses.len()
    }
}
