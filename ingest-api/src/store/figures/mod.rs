//! What goes on in a realm, and who works.

pub(super) mod stats;
pub(super) mod history;
pub(super) mod tail;
pub(super) mod workers;
