//! An event on its way to receivers, and the bodies in which they get it.

use std::sync::OnceLock;

use bytes::Bytes;
use data_encoding::BASE64;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use serde::Serialize;
use shared::domain::clock::{Timestamp, UnixMicros};
use shared::domain::cloudevent;
use shared::domain::endpoint::Format;
use shared::domain::event::{self, Event};
use shared::domain::headers::without_blanks;
use shared::domain::id::{EventId, OrgId};

use crate::send::content::carried::Carried;

/// An event with its bodies, each rendered when the first endpoint asks for it and then shared by all.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The event's id: `webhook-id`.
    pub id: EventId,
    /// The organisation whose event it is.
    pub org_id: OrgId,
    /// Its type.
    pub event_type: String,
    /// When it was accepted.
    pub accepted_at: UnixMicros,
    /// Media type of its payload.
    pub content_type: String,
    /// The trace that it belongs to.
    pub trace: Carried,
    /// The attributes of an event that came as a CloudEvent, as a JSON object.
    pub cloudevent: Option<String>,
    /// The producer's ordering key.
    pub ordering_key: Option<String>,
    /// The organisation's customer whose event it is.
    pub tenant: Option<String>,
    /// Its payload.
    pub data: Vec<u8>,
    /// What was rendered so far.
    pub bodies: Bodies,
}

/// A body for each format, once it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    standard: OnceLock<Bytes>,
    cloudevents: OnceLock<Bytes>,
    standard_with_tenant: OnceLock<Bytes>,
    cloudevents_with_tenant: OnceLock<Bytes>,
    raw: OnceLock<Bytes>,
}

impl From<&Event<'_>> for Outgoing {
    fn from(event: &Event<'_>) -> Self {
        Self {
            id: event.id,
            org_id: event.org_id,
            event_type: event.event_type.to_owned(),
            accepted_at: event.accepted_at,
            content_type: event.content_type.to_owned(),
            trace: Carried::of(event),
            cloudevent: event.cloudevent.map(str::to_owned),
            ordering_key: event.ordering_key.map(str::to_owned),
            tenant: event.tenant.map(str::to_owned),
            data: event.data.to_vec(),
            bodies: Bodies::default(),
        }
    }
}

impl Outgoing {
    /// The event, without the producer's idempotency key, which no receiver sees.
    pub(crate) fn as_event(&self) -> Event<'_> {
        Event {
            id: self.id,
            org_id: self.org_id,
            event_type: &self.event_type,
            accepted_at: self.accepted_at,
            content_type: &self.content_type,
            idempotency_key: None,
            traceparent: self.trace.traceparent.as_deref(),
            tracestate: self.trace.tracestate.as_deref(),
            baggage: self.trace.baggage.as_deref(),
            cloudevent: self.cloudevent.as_deref(),
            ordering_key: self.ordering_key.as_deref(),
            only_to: None,
            tenant: self.tenant.as_deref(),
            data: &self.data,
        }
    }

    /// The body in a format. `data` stands in it byte for byte, or in base64 when it is not JSON; a raw body is `data` alone. In
    /// the others an endpoint that gets the events of all tenants is told whose it is.
    pub(crate) fn body(&self, format: Format, names_tenant: bool) -> &Bytes {
        let (bodies, tenant) = (&self.bodies, self.tenant.as_deref().filter(|_| names_tenant));
        match (format, tenant) {
            (Format::Raw, _) => bodies.raw.get_or_init(|| Bytes::copy_from_slice(&self.data)),
            (Format::Standard, None) => bodies.standard.get_or_init(|| self.render_standard(None)),
            (Format::CloudEvents, None) => bodies.cloudevents.get_or_init(|| self.render_cloudevent(None)),
            (Format::Standard, tenant) => bodies
                .standard_with_tenant
                .get_or_init(|| self.render_standard(tenant)),
            (Format::CloudEvents, tenant) => bodies
                .cloudevents_with_tenant
                .get_or_init(|| self.render_cloudevent(tenant)),
        }
    }

    /// The media type of a body.
    ///
    /// # Errors
    /// When the payload's own one cannot stand in a header.
    pub(crate) fn media_type(&self, format: Format) -> Result<HeaderValue, InvalidHeaderValue> {
        match format {
            Format::Standard => Ok(HeaderValue::from_static(event::JSON)),
            Format::CloudEvents => Ok(HeaderValue::from_static("application/cloudevents+json")),
            Format::Raw => HeaderValue::from_bytes(without_blanks(&self.content_type).as_bytes()),
        }
    }

    /// `{"id","type","timestamp","tenant","data"}`, or `"content_type","data_base64"` instead of `data`.
    fn render_standard(&self, tenant: Option<&str>) -> Bytes {
        #[derive(Serialize)]
        struct Envelope<'a> {
            id: EventId,
            r#type: &'a str,
            timestamp: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            tenant: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            content_type: Option<&'a str>,
        }
        self.around_data(&Envelope {
            id: self.id,
            r#type: &self.event_type,
            timestamp: self.timestamp(),
            tenant,
            content_type: (!self.is_json()).then_some(&self.content_type),
        })
    }

    /// A structured CloudEvent. One that came as a CloudEvent keeps the attributes that its producer gave it.
    fn render_cloudevent(&self, tenant: Option<&str>) -> Bytes {
        let mut attributes = cloudevent::attributes(&self.as_event());
        if let Some(tenant) = tenant {
            attributes.insert("tenant".to_owned(), tenant.into());
        }
        self.around_data(&attributes)
    }

    /// Writes a JSON object that is not empty, with the payload as its last member.
    fn around_data(&self, envelope: &impl Serialize) -> Bytes {
        let mut body = Vec::with_capacity(self.data.len() + self.event_type.len() + 256);
        serde_json::to_writer(&mut body, envelope).expect("strings can be written to a Vec as JSON");
        body.pop();
        if self.is_json() {
            body.extend_from_slice(b",\"data\":");
            body.extend_from_slice(&self.data);
        } else {
            body.extend_from_slice(b",\"data_base64\":\"");
            body.extend_from_slice(BASE64.encode(&self.data).as_bytes());
            body.push(b'"');
        }
        body.push(b'}');
        body.into()
    }

    fn is_json(&self) -> bool {
        event::is_json(&self.content_type)
    }

    fn timestamp(&self) -> String {
        Timestamp(self.accepted_at.to_date_time()).to_string()
    }
}

#[cfg(test)]
mod tests;
