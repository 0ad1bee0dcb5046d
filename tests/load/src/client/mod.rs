//! The client that sends events, and what it remembers of them.
//!
//! Imports the keys that it sends with.

pub(super) mod connection;
pub(super) mod drive;
pub(super) mod request;
pub(super) mod ledger;
