//! A delivery as consumers get it.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::domain::cloudevent;
use shared::domain::endpoint::Format;
use shared::domain::event::Event;
use shared::domain::id::{EventId, LeaseToken, OrgId};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::lease::Lease;
use crate::http::error::ApiError;
use crate::routes::events::view::{payload, raw_json};
use crate::store::PulledRow;

/// The version of CloudEvents, which all of them have.
const SPECVERSION: &str = "1.0";

/// A leased delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledDelivery {
    /// The event's id in Penstock, which a CloudEvent of a producer does not tell.
    #[schema(value_type = String, format = Uuid)]
    event_id: EventId,
    /// The event, in the endpoint's `format`.
    event: PulledForm,
    /// The token that `POST /v1/endpoints/{id}/ack`, `nack` and `extend` take.
    lease: String,
    /// When the lease ends and others may lease the delivery.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    lease_expires_at: OffsetDateTime,
    /// The number of this attempt, from 1. Each lease that ran out or was given back was an attempt.
    attempt: i32,
}

/// An event in one of the formats.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum PulledForm {
    Standard(Box<PulledEvent>),
    CloudEvents(Box<PulledCloudEvent>),
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

impl PulledDelivery {
    /// A delivery of an organisation that is leased under a token.
    ///
    /// # Errors
    /// When what is stored cannot be shown.
    pub(super) fn new(
        org_id: OrgId,
        format: Format,
        row: PulledRow,
        token: LeaseToken,
    ) -> Result<Self, ApiError> {
        let lease = Lease {
            event_id: row.event_id,
            accepted_at: row.accepted_at,
            token,
        };
        Ok(Self {
            event_id: row.event_id,
            lease: lease.encode(),
            lease_expires_at: row.lease_expires_at,
            attempt: row.attempts + 1,
            event: match format {
                Format::Standard => PulledForm::Standard(Box::new(PulledEvent::new(row)?)),
                Format::CloudEvents => PulledForm::CloudEvents(Box::new(PulledCloudEvent::new(org_id, row)?)),
                Format::Raw => {
                    let error =
                        anyhow::anyhow!("a pull endpoint has the format `raw`, which is one of webhooks");
                    return Err(ApiError::Internal(error));
                }
            },
        })
    }
}

impl PulledEvent {
    fn new(row: PulledRow) -> Result<Self, ApiError> {
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
    fn new(org_id: OrgId, row: PulledRow) -> Result<Self, ApiError> {
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
