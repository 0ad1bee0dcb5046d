//! The parts that all routes share: errors, extractors, admission, rooms for bodies and answers, headers and metrics.
//!
//! Imports `app` and what stands below the routes; the routes import it.

pub(crate) mod error;
pub(crate) mod admission;
pub(crate) mod trace;
pub(crate) mod metrics;
pub(crate) mod request_ids;
pub mod answers;
pub(crate) mod request;
