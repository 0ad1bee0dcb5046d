//! Rate limits: one limit for an organisation, and one for a tenant, over all replicas. And quotas that are used up.
//!
//! Imports `domain`. Knows no HTTP.

pub mod gcra;
pub mod cluster;
pub mod limiter;
pub(crate) mod refusals;
pub(crate) mod tenants;
pub(crate) mod quotas;
pub(crate) mod message;
mod peers;
pub(crate) mod exchange;
