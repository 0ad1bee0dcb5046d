//! Endpoints as this worker knows them: what they want, how many deliveries they may have, when they are tried again.
//!
//! Imports `store`, and of `send` how an endpoint's webhooks are rendered, signed and authenticated.

pub(crate) mod endpoint;
pub(crate) mod lazy;
pub(crate) mod event_types;
pub(crate) mod subscribers;
pub(crate) mod directory;
pub(crate) mod permits;
pub(crate) mod retry;
pub(crate) mod breaker;
pub(crate) mod attempt_counts;
