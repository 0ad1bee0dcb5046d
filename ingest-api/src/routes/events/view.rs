//! Events, deliveries and attempts, as their owner sees them.

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::event::is_json;
use shared::domain::id::{EndpointId, EventId};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::store::{AttemptRow, DeliveryRow, EventRow};

/// An event and its deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// Its type.
    #[serde(rename = "type")]
    event_type: String,
    /// When it was accepted.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    accepted_at: OffsetDateTime,
    /// Media type of its payload.
    content_type: String,
    /// Ordered endpoints get the events of one key one after another.
    ordering_key: Option<String>,
    /// The organisation's customer whose event it is.
    tenant: Option<String>,
    /// The key that its producer sent; of a CloudEvent, its `source` and `id` as a JSON array.
    idempotency_key: Option<String>,
    /// The context attributes of a CloudEvent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    cloudevent: Option<Box<RawValue>>,
    /// When its payload was removed.
    #[serde(
        serialize_with = "shared::domain::clock::optional_timestamp",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(required = false)]
    expunged_at: Option<OffsetDateTime>,
    /// The payload, byte for byte, when it is JSON; null when it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The payload in base64 when it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    data_base64: Option<String>,
    /// One delivery for each endpoint that wanted the event, oldest endpoint first. At most 100 in a list, and 1 000
    /// when one event is asked for.
    deliveries: Vec<DeliveryView>,
    /// How many there are.
    deliveries_total: i64,
}

/// A delivery of an event to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    /// The endpoint.
    #[schema(value_type = String, format = Uuid)]
    endpoint_id: EndpointId,
    /// `pending`, `delivered` or `dead`.
    status: DeliveryStatus,
    /// How many attempts have ended.
    attempts: i32,
    /// How the last attempt ended, or why the delivery ended without one.
    last_outcome: Option<Outcome>,
    /// When the next attempt begins; null when there is none, or one is in progress.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    next_attempt_at: Option<OffsetDateTime>,
    /// When it was delivered or given up.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    finished_at: Option<OffsetDateTime>,
    /// The newest attempts in order, 100 at the most, and fewer where an event has more than ten deliveries; only when
    /// one event is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    attempt_log: Option<Vec<AttemptView>>,
    /// How many attempts are recorded; only when one event is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    attempts_recorded: Option<i64>,
}

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptView {
    /// From 1.
    number: i32,
    /// When it began.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    started_at: OffsetDateTime,
    /// How long it took, in milliseconds.
    duration_ms: i32,
    /// How it ended.
    outcome: Outcome,
    /// The receiver's HTTP status.
    response_status: Option<i16>,
    /// The first 4 KiB of the receiver's answer; bytes that are not UTF-8 are replaced.
    response_body: Option<String>,
    /// What went wrong before there was an answer.
    error: Option<String>,
}

impl From<AttemptRow> for AttemptView {
    fn from(row: AttemptRow) -> Self {
        Self {
            number: row.number,
            started_at: row.started_at,
            duration_ms: row.duration_ms,
            outcome: row.outcome,
            response_status: row.response_status,
            response_body: row
                .response_body
                .map(|body| String::from_utf8_lossy(&body).into_owned()),
            error: row.error,
        }
    }
}

/// The shown deliveries of an event, while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    shown: Vec<DeliveryView>,
    total: i64,
}

impl Deliveries {
    /// Adds the next delivery, with its attempts when they are shown.
    pub(crate) fn add(&mut self, row: DeliveryRow, attempts: Option<Attempts>) {
        let (log, recorded) = attempts.map(|attempts| (attempts.shown, attempts.total)).unzip();
        self.total = row.of_event;
        self.shown.push(DeliveryView {
            endpoint_id: row.endpoint_id,
            status: row.status,
            attempts: row.attempts,
            last_outcome: row.last_outcome,
            next_attempt_at: row.next_attempt_at,
            finished_at: row.finished_at,
            attempt_log: log,
            attempts_recorded: recorded,
        });
    }
}

/// The shown attempts of a delivery, while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    shown: Vec<AttemptView>,
    total: i64,
}

impl Attempts {
    /// Adds the next attempt.
    pub(crate) fn add(&mut self, row: AttemptRow) {
        self.total = row.of_delivery;
        self.shown.push(row.into());
    }
}

impl EventView {
    /// A stored event with its deliveries.
    ///
    /// # Errors
    /// When what is stored cannot be shown.
    pub(crate) fn new(row: EventRow, deliveries: Deliveries) -> Result<Self, ApiError> {
        let (data, data_base64) = match row.expunged_at {
            None => payload(&row.content_type, row.data)?,
            Some(_) => (Some(null()), None),
        };
        Ok(Self {
            id: row.id,
            event_type: row.event_type,
            accepted_at: row.accepted_at,
            content_type: row.content_type,
            ordering_key: row.ordering_key,
            tenant: row.tenant,
            expunged_at: row.expunged_at,
            idempotency_key: row.idempotency_key,
            cloudevent: row.cloudevent.map(raw_json).transpose()?,
            data,
            data_base64,
            deliveries: deliveries.shown,
            deliveries_total: deliveries.total,
        })
    }
}

/// A stored payload as it is shown: byte for byte when it is JSON, else in base64. An empty JSON payload was removed,
/// and is shown as null.
///
/// # Errors
/// When the stored bytes are not what their media type says.
pub(crate) fn payload(
    content_type: &str,
    data: Vec<u8>,
) -> Result<(Option<Box<RawValue>>, Option<String>), ApiError> {
    if !is_json(content_type) {
        return Ok((None, Some(BASE64.encode(&data))));
    }
    if data.is_empty() {
        return Ok((Some(null()), None));
    }
    let text = String::from_utf8(data).map_err(|error| ApiError::Internal(error.into()))?;
    Ok((Some(raw_json(text)?), None))
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// A stored text that is JSON.
///
/// # Errors
/// When it is not.
pub(crate) fn raw_json(text: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(text).map_err(|error| ApiError::Internal(error.into()))
}
