//! Rate limits: one limit for an organisation over all replicas.
//!
//! Imports nothing else of this crate. Knows no HTTP.

pub mod gcra;
pub mod limiter;
pub(crate) mod message;
pub(crate) mod exchange;
