//! Rate limits: one limit for an organisation, and one for a tenant, over all replicas.
//!
//! Imports nothing else of this crate. Knows no HTTP.

pub mod gcra;
pub mod limiter;
pub(crate) mod tenants;
pub(crate) mod message;
pub(crate) mod exchange;
