//! The handlers, by resource.
//!
//! Imports `app` and what stands below it.

pub(crate) mod openapi;

pub(crate) mod page;
pub(crate) mod events;
pub(crate) mod audit_log;
pub(crate) mod organizations;
pub(crate) mod tenants;
pub(crate) mod portal;
pub(crate) mod stats;
pub(crate) mod usage;
pub(crate) mod keys;
pub(crate) mod endpoints;
pub(crate) mod pull;
pub(crate) mod legacy;
pub(crate) mod trials;
