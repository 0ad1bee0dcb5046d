//! The commands that a person runs: they end by themselves.
//!
//! Imports `config` and `store`, and one file each of `intake` and `chores`.

pub(crate) mod audit;
pub(crate) mod explain;
pub(crate) mod requeue;
pub(crate) mod reseal;
pub(crate) mod secrets_keys;
