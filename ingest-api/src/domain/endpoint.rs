//! What an organisation sets of an endpoint.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::domain::headers::CustomHeaders;
use utoipa::ToSchema;

/// How an endpoint's deliveries reach their owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum EndpointKind {
    /// They are sent to its URL.
    #[default]
    Push,
    /// Their owner fetches them.
    Pull,
}

/// What the body of a webhook is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Format {
    /// `{"id", "type", "timestamp", "data"}`.
    #[default]
    Standard,
    /// A CloudEvent in structured mode.
    CloudEvents,
}

/// What follows in an ordered endpoint when a delivery is out of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum OnExhausted {
    /// It is dead, and the next one of its key goes out.
    #[default]
    Skip,
    /// It is tried until it succeeds, and its key waits.
    Block,
}

/// Whether an endpoint gets deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum EndpointStatus {
    /// It does.
    #[default]
    Enabled,
    /// What waits for it stays where it is, and it gets no further events.
    Disabled,
}

/// What its owner sets of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub url: Option<String>,
    pub description: String,
    pub event_types: Vec<String>,
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

/// An endpoint's own retry policy; what it does not set is the workers'.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetrySettings {
    pub attempts: Option<i32>,
    pub initial: Option<Duration>,
    pub factor: Option<f64>,
    pub max: Option<Duration>,
    pub max_age: Option<Duration>,
}

/// What an attempt, and all of them at once, may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
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
