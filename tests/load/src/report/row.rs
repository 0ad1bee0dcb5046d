//! What one subject did under one load.

use std::collections::BTreeMap;

use serde::Serialize;

/// One subject under one load.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) section: &'static str,
    pub(crate) load: String,
    pub(crate) subject: String,
    /// Accepted events a second.
    pub(crate) per_second: f64,
    pub(crate) latency: Option<Latency>,
    /// Processor seconds a thousand events, by process.
    pub(crate) cpu: BTreeMap<String, f64>,
    /// Requests that were not answered 202.
    pub(crate) failed: u64,
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// Latency at quantiles.
    pub(crate) curve: Vec<(f64, f64)>,
}
