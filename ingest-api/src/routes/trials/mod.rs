//! What is tried out before any event meets it: filters and templates.
//!
//! Imports what stands below the routes, and of them endpoints and the document's refusals.

pub(crate) mod filters;
pub(crate) mod templates;
pub(crate) mod sample_event;
