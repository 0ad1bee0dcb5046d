//! What operators see and do, and what the services do on their own.

mod audit_log;
pub(crate) mod commands;
mod log_lines;
pub(crate) mod metrics;
mod nats_users;
pub(crate) mod organizations;
mod presence;
pub(crate) mod retention;
mod rotation;
mod traces;
mod usage;
