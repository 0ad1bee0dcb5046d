//! Filters: which of the events whose type matches an endpoint it gets, by what stands in their `data`, and by their type and
//! tenant.
//!
//! A filter is a JSON object. Its keys are JSON pointers (RFC 6901) into `data`, its values conditions, and all of
//! them must hold:
//!
//! ```json
//! {"/total": {"gte": 100, "lt": 500}, "/currency": {"in": ["EUR", "CHF"]}, "/test": {"exists": false}, "/shop": 7}
//! ```
//!
//! A plain value is short for `{"eq": value}`. Beside pointers stand `type` and `tenant` with a condition, `any` and `all` with
//! a list of filters, and `not` with a filter:
//!
//! ```json
//! {"type": {"prefix": "order."}, "any": [{"/total": {"gte": 100}}, {"not": {"/coupon": {"contains": "TEST", "ignore_case": true}}}]}
//! ```
//!
//! A payload is not parsed into a tree: it is [read once](FilterSet::scan) for all filters, and one that is not JSON matches
//! none that asks about it. What cannot be read makes no condition true, also none that says what is not there.

mod condition;
mod decimal;
mod value;
mod pointer;
mod plan;
mod scan;
mod payload;
mod set;

pub use self::payload::{FilterError, MAX_BYTES, MAX_CONDITIONS, MAX_DEPTH, PayloadFilter};
pub use self::scan::{Scan, Unreadable, Values};
pub use self::set::{Asked, Decision, FilterSet, Judging, Progress};

#[cfg(test)]
mod tests;
