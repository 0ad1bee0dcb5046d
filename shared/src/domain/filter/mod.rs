//! Payload filters: which of the events whose type matches an endpoint also gets, by what stands in their `data`.
//!
//! A filter is a JSON object. Its keys are JSON pointers (RFC 6901) into `data`, its values conditions, and all of
//! them must hold:
//!
//! ```json
//! {"/total": {"gte": 100, "lt": 500}, "/currency": {"in": ["EUR", "CHF"]}, "/test": {"exists": false}, "/shop": 7}
//! ```
//!
//! A plain value is short for `{"eq": value}`. A payload is not parsed into a tree: it is [read once](FilterSet::scan)
//! for all filters, and one that is not JSON matches none. What cannot be read makes no condition true, also none that
//! says what is not there.

mod condition;
mod decimal;
mod value;
mod pointer;
mod scan;
mod payload;
mod set;

pub use self::payload::{FilterError, MAX_BYTES, MAX_CONDITIONS, PayloadFilter};
pub use self::scan::{Scan, Unreadable, Values};
pub use self::set::FilterSet;

#[cfg(test)]
mod tests;
