//! The parts that all routes share: errors, extractors, admission, rooms for bodies and answers, headers and metrics.
//!
//! Imports `app` and what stands below the routes; the routes import it.

pub(crate) mod error;
pub(crate) mod causes;
pub(crate) mod etag;
pub(crate) mod extract;
pub(crate) mod event_headers;
pub(crate) mod admitted;
pub(crate) mod portal_routes;
pub(crate) mod portal;
pub(crate) mod admission;
pub(crate) mod callers;
pub(crate) mod guarded_body;
pub(crate) mod trace;
pub(crate) mod trace_context;
pub(crate) mod live;
pub(crate) mod body;
pub(crate) mod room;
pub(crate) mod body_limits;
pub(crate) mod decompress;
pub(crate) mod large_json;
pub(crate) mod gzip;
pub mod rate_headers;
pub(crate) mod cors;
pub(crate) mod metrics;
pub(crate) mod panics;
pub(crate) mod default_headers;
pub(crate) mod request_ids;
pub(crate) mod answers;
