//! The settings of an endpoint.

use std::time::Duration;

use shared::credentials::Credentials;
use shared::domain::endpoint::{EndpointStatus, Format, OnExhausted, StoredFormat, WebhookMethod};
use shared::domain::event_type::EventTypePattern;
use shared::domain::headers::CustomHeaders;
use shared::signatures::Signatures;
use time::OffsetDateTime;

use crate::domain::template::TemplateSettings;

/// The settings of an endpoint, as its owner made them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub url: Option<String>,
    pub description: String,
    pub event_types: Vec<EventTypePattern>,
    pub filter: Option<String>,
    pub headers: CustomHeaders,
    pub format: Format,
    pub method: WebhookMethod,
    /// None for what is usual.
    pub signatures: Option<Signatures>,
    pub auth: Option<Auth>,
    pub template: Option<TemplateSettings>,
    pub retry: RetrySettings,
    pub limits: Limits,
    /// Most deliveries of a pull endpoint that are leased at once.
    pub max_leased: Option<i32>,
    pub rate_limit_per_second: Option<i32>,
    pub ordered: bool,
    pub on_exhausted: OnExhausted,
    pub status: EndpointStatus,
}

/// An endpoint's credentials.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    pub credentials: Credentials,
    /// Of a client certificate.
    pub certificate_expires_at: Option<OffsetDateTime>,
}

impl Settings {
    /// When its client certificate expires, if it has one.
    pub(crate) fn certificate_expires_at(&self) -> Option<OffsetDateTime> {
        self.auth.as_ref()?.certificate_expires_at
    }

    /// The format as it is stored: with a mark when an earlier release would leave some of the settings out.
    pub(crate) fn stored_format(&self) -> StoredFormat {
        StoredFormat {
            format: self.format,
            has_more: self.method != WebhookMethod::Post
                || self.signatures.is_some()
                || self.auth.is_some()
                || self.template.is_some(),
        }
    }
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
