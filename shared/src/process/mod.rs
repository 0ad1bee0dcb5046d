//! What a service needs to be a process: settings, logs and metrics, the stop, the connection to NATS.
//!
//! Imports nothing else of this crate.

pub mod config;
pub mod panics;
pub mod output;
pub mod worker_backlog;
pub mod replicas;
pub mod metric_names;
pub mod telemetry;
pub mod allocator;
pub mod descriptors;
pub mod shutdown;
pub mod nats;
