//! Events, as their owner sees them: one that was stored, and one that was pulled, in both of its forms.

use data_encoding::BASE64;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::domain::cloudevent;
use shared::domain::event::{Event, is_json};
use shared::domain::id::{EventId, OrgId};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::routes::events::delivery_view::{Deliveries, DeliveryView};
use crate::store::{EventRow, PulledRow};

/// The version of CloudEvents, which all of them have.
const SPECVERSION: &str = "1.0";

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

/// An event as consumers get it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledEvent {
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
    /// The key that its producer sent; of a CloudEvent, its `source` and `id` as a JSON array.
    idempotency_key: Option<String>,
    /// The producer's ordering key. Pulled deliveries come in no order.
    ordering_key: Option<String>,
    /// The organisation's customer whose event it is.
    tenant: Option<String>,
    /// W3C trace context of the request that brought it.
    traceparent: Option<String>,
    /// What tracing systems added to that context.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    tracestate: Option<String>,
    /// W3C Baggage of that request, where Penstock is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    baggage: Option<String>,
    /// The context attributes of a CloudEvent, its extensions included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    cloudevent: Option<Box<RawValue>>,
    /// The payload, byte for byte, when it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The payload in base64 when it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    data_base64: Option<String>,
}

/// An event as a structured CloudEvent 1.0: the attributes of its producer, or those that a webhook in the format
/// `cloudevents` has. The extensions `tenant`, `traceparent` and `tracestate` are added where the event has them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledCloudEvent {
    /// The version of the specification: `1.0`.
    specversion: &'static str,
    #[serde(flatten)]
    #[schema(ignore)]
    attributes: Map<String, Value>,
    /// The payload, byte for byte, when it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The payload in base64 when it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    data_base64: Option<String>,
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

impl PulledEvent {
    /// The event of a leased delivery.
    ///
    /// # Errors
    /// When what is stored cannot be shown.
    pub(crate) fn new(row: PulledRow) -> Result<Self, ApiError> {
        let (data, data_base64) = payload(&row.content_type, row.data)?;
        Ok(Self {
            id: row.event_id,
            event_type: row.event_type,
            accepted_at: row.accepted_at,
            content_type: row.content_type,
            idempotency_key: row.idempotency_key,
            ordering_key: row.ordering_key,
            tenant: row.tenant,
            traceparent: row.traceparent,
            tracestate: row.tracestate,
            baggage: row.baggage,
            cloudevent: row.cloudevent.map(raw_json).transpose()?,
            data,
            data_base64,
        })
    }
}

impl PulledCloudEvent {
    /// The event of a leased delivery, which is of this organisation.
    ///
    /// # Errors
    /// When what is stored cannot be shown.
    pub(crate) fn new(org_id: OrgId, row: PulledRow) -> Result<Self, ApiError> {
        let at = row.accepted_at.into();
        let mut attributes = cloudevent::attributes(&Event {
            content_type: &row.content_type,
            cloudevent: row.cloudevent.as_deref(),
            ordering_key: row.ordering_key.as_deref(),
            ..Event::of_json(row.event_id, org_id, &row.event_type, at, &row.data)
        });
        attributes.remove("specversion");
        let added = [
            ("tenant", row.tenant),
            ("traceparent", row.traceparent),
            ("tracestate", row.tracestate),
        ];
        for (name, value) in added {
            if let Some(value) = value {
                attributes.entry(name).or_insert(value.into());
            }
        }
        let (data, data_base64) = payload(&row.content_type, row.data)?;
        Ok(Self {
            specversion: SPECVERSION,
            attributes,
            data,
            data_base64,
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
fn raw_json(text: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(text).map_err(|error| ApiError::Internal(error.into()))
}
