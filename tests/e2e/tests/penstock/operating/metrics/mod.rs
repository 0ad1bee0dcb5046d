//! What the services measure: how far behind they are, what waits, and whether the figures are right.

mod backlog;
mod counting;
mod pending;
mod promtool;
pub(crate) mod readiness;
mod signals;
