//! What operators see, and what the services do on their own: gauges, audits, retention.

pub(crate) mod audit;
mod backlog;
mod counting;
mod nats_users;
mod partitions;
mod pending;
mod readiness;
mod removals;
mod requeue;
pub(crate) mod retention;
