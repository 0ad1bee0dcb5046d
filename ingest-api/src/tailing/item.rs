//! What a tail tells.

use serde::Serialize;
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, EventId};
use time::OffsetDateTime;

use crate::store::{TailedDelivery, TailedEvent};

/// The kinds, as the server-sent events are named.
const EVENT: &str = "event";
const ATTEMPT: &str = "attempt";
const SKIPPED: &str = "skipped";

/// One thing that a tail tells.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its kind.
    pub kind: &'static str,
    /// The event's type; empty when it is about no event.
    pub event_type: Box<str>,
    /// Where the attempt was made.
    pub endpoint_id: Option<EndpointId>,
    /// Where the delivery stands after the attempt.
    pub status: Option<DeliveryStatus>,
    /// All of it, as JSON.
    pub text: Box<str>,
}

#[derive(Serialize)]
struct Stored<'a> {
    id: EventId,
    #[serde(rename = "type")]
    event_type: &'a str,
    tenant: Option<&'a str>,
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    accepted_at: OffsetDateTime,
}

#[derive(Serialize)]
struct Attempt<'a> {
    event_id: EventId,
    #[serde(rename = "type")]
    event_type: &'a str,
    tenant: Option<&'a str>,
    endpoint_id: EndpointId,
    number: i32,
    outcome: Option<Outcome>,
    response_status: Option<i16>,
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    started_at: Option<OffsetDateTime>,
    duration_ms: Option<i32>,
    status: DeliveryStatus,
}

#[derive(Serialize)]
struct Skipped {
    count: Option<u64>,
}

fn json(value: &impl Serialize) -> Box<str> {
    let text = serde_json::to_string(value);
    text.expect("plain fields can be written as JSON").into()
}

impl Item {
    /// An event was stored.
    pub(super) fn event(event: &TailedEvent) -> Self {
        Self {
            kind: EVENT,
            event_type: event.event_type.as_str().into(),
            endpoint_id: None,
            status: None,
            text: json(&Stored {
                id: event.id,
                event_type: &event.event_type,
                tenant: event.tenant.as_deref(),
                accepted_at: event.accepted_at,
            }),
        }
    }

    /// An attempt to deliver it has ended.
    pub(super) fn attempt(event: &TailedEvent, delivery: &TailedDelivery) -> Self {
        Self {
            kind: ATTEMPT,
            event_type: event.event_type.as_str().into(),
            endpoint_id: Some(delivery.endpoint_id),
            status: Some(delivery.status),
            text: json(&Attempt {
                event_id: event.id,
                event_type: &event.event_type,
                tenant: event.tenant.as_deref(),
                endpoint_id: delivery.endpoint_id,
                number: delivery.attempts,
                outcome: delivery.last_outcome,
                response_status: delivery.response_status,
                started_at: delivery.started_at,
                duration_ms: delivery.duration_ms,
                status: delivery.status,
            }),
        }
    }

    /// So many were not told; None is an unknown number.
    pub(super) fn skipped(count: Option<u64>) -> Self {
        Self {
            kind: SKIPPED,
            event_type: Box::default(),
            endpoint_id: None,
            status: None,
            text: skipped(count),
        }
    }

    /// Whether it only says that others were not told.
    pub(crate) fn is_skipped(&self) -> bool {
        self.kind == SKIPPED
    }
}

/// The name and the data of what says that so many were not told; None is an unknown number.
pub(crate) fn told_skipped(count: Option<u64>) -> (&'static str, Box<str>) {
    (SKIPPED, skipped(count))
}

fn skipped(count: Option<u64>) -> Box<str> {
    json(&Skipped { count })
}
