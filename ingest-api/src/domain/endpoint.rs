//! The settings of an endpoint.

use std::time::Duration;

use shared::domain::endpoint::{EndpointStatus, Format, OnExhausted};
use shared::domain::event_type::EventTypePattern;
use shared::domain::headers::CustomHeaders;

/// The settings of an endpoint, as its owner made them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub url: Option<String>,
    pub description: String,
    pub event_types: Vec<EventTypePattern>,
    pub filter: Option<String>,
    pub headers: CustomHeaders,
    pub format: Format,
    pub retry: RetrySettings,
    pub limits: Limits,
    pub rate_limit_per_second: Option<i32>,
    pub ordered: bool,
    pub on_exhausted: OnExhausted,
    pub status: EndpointStatus,
}

/// An endpoint's own retry policy. For a field that is None, the workers' policy holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RetrySettings {
    pub attempts: Option<i32>,
    pub initial: Option<Duration>,
    pub factor: Option<f64>,
    pub max: Option<Duration>,
    pub max_age: Option<Duration>,
}

/// How long an attempt may take, and how many may be in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub timeout_ms: i32,
    pub max_in_flight: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_ms: 15_000,
            max_in_flight: 64,
        }
    }
}
