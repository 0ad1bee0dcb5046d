//! What is tried out before any event meets it: filters and templates.

pub(crate) mod filters;
pub(crate) mod templates;
pub(crate) mod sample_event;
