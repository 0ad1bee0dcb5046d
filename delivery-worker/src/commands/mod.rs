//! The commands that a person runs: they end by themselves.
//!
//! Imports `store` and `intake`.

pub(crate) mod audit;
pub(crate) mod requeue;
