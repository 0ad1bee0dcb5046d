//! The handlers, by resource.
//!
//! Imports `app` and what stands below it.

pub(crate) mod openapi;

pub(crate) mod narrowed;
pub(crate) mod page;
pub(crate) mod refusals;
pub(crate) mod events;
pub(crate) mod audit_log;
pub(crate) mod organizations;
pub(crate) mod tenants;
pub(crate) mod portal;
pub(crate) mod stats;
pub(crate) mod tail;
pub(crate) mod usage;
pub(crate) mod keys;
pub(crate) mod endpoints;
pub(crate) mod sample_event;
pub(crate) mod filters;
pub(crate) mod templates;
pub(crate) mod pull;
pub(crate) mod legacy;
