//! The tables that several rooms write: events, quarantine and partitions, and the connections to Postgres.
//!
//! Imports nothing else of this crate.

pub(crate) mod events;
pub(crate) mod partitions;
pub(crate) mod quarantine;
pub(crate) mod warm;
