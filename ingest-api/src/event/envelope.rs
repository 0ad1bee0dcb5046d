//! The fields of an event, from its producer to the frame: Penstock's own form `{"type", "data", "idempotency_key",
//! "ordering_key", "tenant"}`, and what is accepted, whichever form it came in. The envelope is read, `data` is not: it stays the
//! bytes that the producer sent.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;
use shared::domain::clock::UnixMicros;
use shared::domain::event::{Event, JSON, TraceContext};
use shared::domain::id::{EndpointId, EventId, OrgId};
use shared::domain::name::check_name;
use shared::wire::frame::EncodedEvent;
use utoipa::ToSchema;

use crate::domain::form::field_errors::FieldErrors;
use crate::domain::form::json::HALF_A_PAIR;
use crate::event::check_event_type;
use crate::event::error::EventError;
use crate::event::json::{RawFields, check_depth, without_mark};

/// An event as its producer described it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    idempotency_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    ordering_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tenant: Option<Cow<'a, str>>,
}

/// Penstock's own form of an event.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it documents what is read as an `Envelope`")]
pub(crate) struct EventRequest {
    /// For example `order.created`: 1 to 255 bytes without white space, control characters, `*` or `>`.
    #[schema(rename = "type", min_length = 1, max_length = 255, pattern = r"^[^\s*>]+$")]
    event_type: String,
    /// The payload: any JSON, up to 64 levels deep. It is delivered byte for byte.
    data: serde_json::Value,
    /// An event that repeats the key within 24 hours gets the id of the first one and is not delivered again.
    #[schema(
        required = false,
        nullable,
        min_length = 1,
        max_length = 255,
        pattern = r"^\S+$"
    )]
    idempotency_key: Option<String>,
    /// Ordered endpoints get the events of one key one after another, in the order of their acceptance.
    #[schema(
        required = false,
        nullable,
        min_length = 1,
        max_length = 255,
        pattern = r"^\S+$"
    )]
    ordering_key: Option<String>,
    /// The organisation's customer whose event it is: it goes to the endpoints of this tenant, and to those of all tenants.
    /// With a key that is bound to a tenant, that one unless given.
    #[schema(
        required = false,
        nullable,
        min_length = 1,
        max_length = 255,
        pattern = r"^\S+$"
    )]
    tenant: Option<String>,
}

/// What makes a repeat of an event a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// No key: each time it is sent it is a new event.
    Unique,
    /// The producer's idempotency key.
    Key(Cow<'a, str>),
    /// A CloudEvent's `source` and `id`.
    CloudEvent {
        /// `source`.
        source: Cow<'a, str>,
        /// `id`.
        id: Cow<'a, str>,
    },
}

/// An event that may be accepted.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// Its type.
    pub event_type: Cow<'a, str>,
    /// Media type of `data`.
    pub content_type: Cow<'a, str>,
    /// The payload's bytes.
    pub data: Cow<'a, [u8]>,
    /// What makes a repeat a repeat.
    pub identity: Identity<'a>,
    /// The context attributes of a CloudEvent, as a JSON object.
    pub cloudevent: Option<String>,
    /// Ordered endpoints get the events of one key one after another.
    pub ordering_key: Option<Cow<'a, str>>,
    /// The only endpoint that gets it. None: every endpoint that wants it.
    pub only_to: Option<EndpointId>,
    /// The organisation's customer whose event it is.
    pub tenant: Option<Cow<'a, str>>,
}

impl<'a> NewEvent<'a> {
    /// A JSON event for every endpoint of no tenant, in no order and unlike any other.
    pub fn of_json(event_type: impl Into<Cow<'a, str>>, data: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            event_type: event_type.into(),
            content_type: JSON.into(),
            data: data.into(),
            identity: Identity::Unique,
            cloudevent: None,
            ordering_key: None,
            only_to: None,
            tenant: None,
        }
    }
}

impl NewEvent<'_> {
    /// Gives the event its id and its wire form.
    pub fn encode(
        &self,
        org_id: OrgId,
        accepted_at: UnixMicros,
        trace: TraceContext<'_>,
    ) -> (EventId, EncodedEvent) {
        let tenant = self.tenant.as_deref();
        let (id, key) = match &self.identity {
            Identity::Unique => (EventId::at(accepted_at), None),
            Identity::Key(key) => (
                EventId::for_key(org_id, tenant, key),
                Some(Cow::Borrowed(key.as_ref())),
            ),
            Identity::CloudEvent { source, id } => {
                let key = serde_json::to_string(&[source, id]).expect("strings can be written as JSON");
                (
                    EventId::for_cloudevent(org_id, tenant, source, id),
                    Some(Cow::Owned(key)),
                )
            }
        };
        let event = Event {
            id,
            org_id,
            event_type: &self.event_type,
            accepted_at,
            content_type: &self.content_type,
            idempotency_key: key.as_deref(),
            traceparent: trace.traceparent,
            tracestate: trace.tracestate,
            baggage: trace.baggage,
            cloudevent: self.cloudevent.as_deref(),
            ordering_key: self.ordering_key.as_deref(),
            only_to: self.only_to,
            tenant,
            data: &self.data,
        };
        (id, EncodedEvent::new(&event))
    }
}

/// Reads and checks an event.
///
/// # Errors
/// When it is not JSON, or with every wrong field.
pub fn parse(body: &[u8]) -> Result<NewEvent<'_>, EventError> {
    let body = without_mark(body);
    let read = if body.trim_ascii_start().starts_with(b"[") {
        // Otherwise serde reads the fields from it, by their places.
        Err(serde_json::Error::custom("an array"))
    } else {
        serde_json::from_slice(body)
    };
    let envelope: Envelope<'_> = read.map_err(|error| explain(body, error))?;
    let mut errors = FieldErrors::default();
    errors.check("type", check_event_type(&envelope.event_type));
    errors.check("data", check_depth(envelope.data.get()));
    let names = [
        ("idempotency_key", &envelope.idempotency_key),
        ("ordering_key", &envelope.ordering_key),
        ("tenant", &envelope.tenant),
    ];
    for (field, name) in names {
        if let Some(name) = name {
            errors.check(field, check_name(name));
        }
    }
    errors.finish()?;
    Ok(NewEvent {
        identity: envelope.idempotency_key.map_or(Identity::Unique, Identity::Key),
        ordering_key: envelope.ordering_key,
        tenant: envelope.tenant,
        ..NewEvent::of_json(envelope.event_type, envelope.data.get().as_bytes())
    })
}

/// Says what is wrong with a body, field by field. It reads the body again, but only bodies that failed come here.
fn explain(body: &[u8], error: serde_json::Error) -> EventError {
    if let Err(invalid) = serde_json::from_slice::<&RawValue>(body) {
        // A wrong field may stand before the place that is not JSON; then `error` is about that field.
        return EventError::NotJson(if error.is_data() { invalid } else { error });
    }
    let fields = match RawFields::read(body, "a JSON object with `type` and `data`") {
        Ok(fields) => fields,
        Err(error) => return error,
    };
    let mut errors = FieldErrors::default();
    for name in fields.0.keys() {
        let outcome = match name.as_ref() {
            "type" => fields.string(name).and_then(is_text),
            "data" => fields.value(name),
            "idempotency_key" | "ordering_key" | "tenant" => fields.nullable_string(name).and_then(is_text),
            _ => fields.value(name).and(Err("is not a field of an event")),
        };
        errors.check(name, outcome);
    }
    for required in ["type", "data"] {
        if !fields.0.contains_key(required) {
            errors.push(required, "is missing");
        }
    }
    match errors.finish() {
        Err(wrong) => wrong.into(),
        Ok(()) => EventError::invalid("body", error.to_string()),
    }
}

fn is_text(value: Option<&RawValue>) -> Result<Option<&RawValue>, &'static str> {
    match value.map(|value| serde_json::from_str::<Cow<'_, str>>(value.get())) {
        Some(Err(_)) => Err(HALF_A_PAIR),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests;
