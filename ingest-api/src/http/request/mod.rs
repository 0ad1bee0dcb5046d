//! How a request is read: its headers, its body, and the memory that bodies take.
//!
//! Imports `app`, `domain`, `event`, and of `http` admission, errors and traces.

pub(crate) mod body;
pub(crate) mod body_limits;
pub(crate) mod decompress;
pub(crate) mod guarded_body;
pub(crate) mod event_headers;
pub(crate) mod extract;
pub(crate) mod room;
