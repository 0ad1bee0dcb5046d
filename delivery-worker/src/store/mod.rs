//! The tables that several folders write: events, quarantine, partitions and usage, and the connections to Postgres.
//!
//! Imports nothing else of this crate but one type of `endpoints`.

pub(crate) mod events;
pub(crate) mod partitions;
pub(crate) mod quarantine;
pub(crate) mod usage;
pub(crate) mod warm;
