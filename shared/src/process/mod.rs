//! What a service needs to be a process: settings, logs and metrics, the stop, the connection to NATS.
//!
//! Imports nothing else of this crate.

pub mod config;
pub mod panics;
pub mod output;
pub mod log_writer;
pub mod readings;
pub mod worker_backlog;
pub mod replicas;
pub mod metric_names;
pub mod line_limit;
pub mod log_levels;
pub mod telemetry;
pub mod allocator;
pub mod descriptors;
pub mod shutdown;
mod nats_credentials;
pub mod nats;
