//! How values are written in requests.
//!
//! Imports nothing else of this crate.

pub(crate) mod field;
pub(crate) mod field_errors;
pub(crate) mod json;
pub(crate) mod object;
pub(crate) mod whole;
pub(crate) mod utc;
pub(crate) mod day;
