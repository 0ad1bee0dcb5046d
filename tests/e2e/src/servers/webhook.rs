//! What arrives at a receiver, and what it answers.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::id::{EndpointId, EventId};

/// What a receiver answers to one webhook.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: &'static str,
    pub(crate) delay: Duration,
    pub(crate) held: bool,
}

impl Answer {
    /// An empty answer with a status, at once.
    ///
    /// # Panics
    /// When it is no status.
    pub fn status(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("the status is one"),
            headers: Vec::new(),
            body: "",
            delay: Duration::ZERO,
            held: false,
        }
    }

    /// With a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let value = value.parse().expect("the header's value is one");
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }

    /// After a delay.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Not before [`Receiver::release`](crate::Receiver::release).
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }
}

/// A webhook that arrived.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The endpoint it was sent to.
    pub endpoint: EndpointId,
    /// Its `webhook-id`.
    pub id: EventId,
    /// Its `webhook-timestamp`, in Unix seconds.
    pub timestamp: i64,
    /// All its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// When it arrived.
    pub arrived: Instant,
    /// Which arrival this is of its event at its endpoint, from 1.
    pub number: usize,
    /// What it was answered; nothing when its sender did not wait for the answer.
    pub answered: Option<StatusCode>,
    pub(crate) signature: Result<(), String>,
}

/// A webhook's body. `data` are the producer's bytes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body<'a> {
    /// The event's id.
    pub id: EventId,
    /// The event's type.
    pub r#type: String,
    /// When the event was accepted (RFC 3339).
    pub timestamp: &'a str,
    /// Whose event it is, at an endpoint of all tenants.
    pub tenant: Option<String>,
    /// The payload.
    #[serde(borrow)]
    pub data: &'a RawValue,
}

impl Webhook {
    /// Takes the body apart.
    ///
    /// # Panics
    /// When it is not what receivers are promised.
    pub fn parse(&self) -> Body<'_> {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the webhook {:?}", self.body))
    }

    /// Whether it was answered with a status that means success.
    pub fn was_taken(&self) -> bool {
        self.answered.is_some_and(|status| status.is_success())
    }
}

/// A webhook, as far as a history needs it.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The event.
    pub id: EventId,
    /// The payload that arrived.
    pub data: Vec<u8>,
    /// Whether it was answered with success.
    pub taken: bool,
    /// How many webhooks had arrived when it was; 0 where nobody has counted them.
    pub arrived_by_then: usize,
}

impl From<&Webhook> for Receipt {
    fn from(webhook: &Webhook) -> Self {
        Self {
            id: webhook.id,
            data: webhook.parse().data.get().as_bytes().to_vec(),
            taken: webhook.was_taken(),
            arrived_by_then: 0,
        }
    }
}
