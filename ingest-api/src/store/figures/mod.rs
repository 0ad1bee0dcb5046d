//! What goes on in a realm, and who works.
//!
//! Imports `domain`, and the pools of `store`.

pub(super) mod stats;
pub(super) mod history;
pub(super) mod tail;
pub(super) mod workers;
