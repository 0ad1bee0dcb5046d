//! The commands that a person runs: they end by themselves.
//!
//! Imports `store` and `intake`.

pub(crate) mod audit;
pub(crate) mod explain;
pub(crate) mod requeue;
pub(crate) mod reseal;
pub(crate) mod secrets_keys;
