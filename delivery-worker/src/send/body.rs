//! An event on its way to receivers, and the bodies in which they get it.

use std::sync::OnceLock;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::domain::clock::{Timestamp, UnixMicros};
use shared::domain::endpoint::Format;
use shared::domain::event::{self, Event};
use shared::domain::id::{EventId, OrgId};

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
    /// W3C trace context to pass on.
    pub traceparent: Option<String>,
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
}

impl From<&Event<'_>> for Outgoing {
    fn from(event: &Event<'_>) -> Self {
        Self {
            id: event.id,
            org_id: event.org_id,
            event_type: event.event_type.to_owned(),
            accepted_at: event.accepted_at,
            content_type: event.content_type.to_owned(),
            traceparent: event.traceparent.map(str::to_owned),
            cloudevent: event.cloudevent.map(str::to_owned),
            ordering_key: event.ordering_key.map(str::to_owned),
            tenant: event.tenant.map(str::to_owned),
            data: event.data.to_vec(),
            bodies: Bodies::default(),
        }
    }
}

impl Outgoing {
    /// The body in a format. `data` stands in it byte for byte, or in base64 when it is not JSON. An endpoint that gets the
    /// events of all tenants is told whose it is.
    pub(crate) fn body(&self, format: Format, names_tenant: bool) -> &Bytes {
        let (bodies, tenant) = (&self.bodies, self.tenant.as_deref().filter(|_| names_tenant));
        match (format, tenant) {
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
        let own = self.cloudevent.as_deref().and_then(own_attributes);
        let mut attributes = own.unwrap_or_else(|| self.attributes());
        if !self.is_json() {
            // Without the attribute it would be taken for JSON.
            let content_type = attributes.entry("datacontenttype");
            content_type.or_insert_with(|| self.content_type.clone().into());
        }
        if let Some(tenant) = tenant {
            attributes.insert("tenant".to_owned(), tenant.into());
        }
        self.around_data(&attributes)
    }

    /// The attributes of an event that did not come as a CloudEvent.
    fn attributes(&self) -> Map<String, Value> {
        let source = format!("urn:penstock:organization:{}", self.org_id);
        let attributes = [
            ("specversion", Some("1.0".to_owned())),
            ("id", Some(self.id.to_string())),
            ("source", Some(source)),
            ("type", Some(self.event_type.clone())),
            ("time", Some(self.timestamp())),
            ("datacontenttype", Some(self.content_type.clone())),
            ("partitionkey", self.ordering_key.clone()),
        ];
        let present = attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        present.collect()
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

/// The attributes in a JSON text; `None` when it is not what the ingest API writes.
fn own_attributes(text: &str) -> Option<Map<String, Value>> {
    let attributes: Map<_, _> = serde_json::from_str(text).ok()?;
    attributes.contains_key("specversion").then_some(attributes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event<'a>(event_type: &'a str, data: &'a [u8]) -> Event<'a> {
        Event {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            org_id: "01890a5d-0000-774b-bcce-b302099a8057".parse().unwrap(),
            event_type,
            accepted_at: UnixMicros::new(1_700_000_000_123_456),
            data,
            ..Event::sample()
        }
    }

    fn body(event: &Event<'_>, format: Format) -> String {
        String::from_utf8(Outgoing::from(event).body(format, true).to_vec()).unwrap()
    }

    #[test]
    fn a_body_is_the_envelope_around_the_producers_bytes() {
        let event = event("order.created", br#"{"n":1e400,  "s":"\u0000"}"#);
        insta::assert_snapshot!(
            body(&event, Format::Standard),
            @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"order.created","timestamp":"2023-11-14T22:13:20.123456Z","data":{"n":1e400,  "s":"\u0000"}}"#
        );
        insta::assert_snapshot!(
            body(&Event { ordering_key: Some("order-7"), ..event }, Format::CloudEvents),
            @r#"{"datacontenttype":"application/json","id":"01890a5d-ac96-774b-bcce-b302099a8057","partitionkey":"order-7","source":"urn:penstock:organization:01890a5d-0000-774b-bcce-b302099a8057","specversion":"1.0","time":"2023-11-14T22:13:20.123456Z","type":"order.created","data":{"n":1e400,  "s":"\u0000"}}"#
        );
    }

    #[test]
    fn a_payload_that_is_not_json_goes_out_in_base64() {
        let event = Event {
            content_type: "text/plain",
            ..event("note", b"hi \xff")
        };
        insta::assert_snapshot!(
            body(&event, Format::Standard),
            @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"note","timestamp":"2023-11-14T22:13:20.123456Z","content_type":"text/plain","data_base64":"aGkg/w=="}"#
        );
        insta::assert_snapshot!(
            body(&event, Format::CloudEvents),
            @r#"{"datacontenttype":"text/plain","id":"01890a5d-ac96-774b-bcce-b302099a8057","source":"urn:penstock:organization:01890a5d-0000-774b-bcce-b302099a8057","specversion":"1.0","time":"2023-11-14T22:13:20.123456Z","type":"note","data_base64":"aGkg/w=="}"#
        );
    }

    #[test]
    fn a_cloudevent_goes_out_with_its_own_attributes() {
        let event = Event {
            cloudevent: Some(
                r#"{"id":"1","source":"/s","specversion":"1.0","subject":"ü","type":"t","vip":true}"#,
            ),
            content_type: "application/octet-stream",
            ..event("t", b"\x00")
        };
        insta::assert_snapshot!(
            body(&event, Format::CloudEvents),
            @r#"{"datacontenttype":"application/octet-stream","id":"1","source":"/s","specversion":"1.0","subject":"ü","type":"t","vip":true,"data_base64":"AA=="}"#
        );
        let json = Event {
            content_type: event::JSON,
            data: b"[1]",
            ..event
        };
        insta::assert_snapshot!(
            body(&json, Format::CloudEvents),
            @r#"{"id":"1","source":"/s","specversion":"1.0","subject":"ü","type":"t","vip":true,"data":[1]}"#
        );
    }

    #[test]
    fn only_an_endpoint_of_all_tenants_is_told_whose_event_it_is() {
        let event = Event {
            tenant: Some("acme"),
            ..event("a", b"1")
        };
        insta::assert_snapshot!(
            body(&event, Format::Standard),
            @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"a","timestamp":"2023-11-14T22:13:20.123456Z","tenant":"acme","data":1}"#
        );
        insta::assert_snapshot!(
            body(&event, Format::CloudEvents),
            @r#"{"datacontenttype":"application/json","id":"01890a5d-ac96-774b-bcce-b302099a8057","source":"urn:penstock:organization:01890a5d-0000-774b-bcce-b302099a8057","specversion":"1.0","tenant":"acme","time":"2023-11-14T22:13:20.123456Z","type":"a","data":1}"#
        );
        let (of_tenant, of_none) = (
            Outgoing::from(&event),
            Outgoing::from(&Event {
                tenant: None,
                ..event
            }),
        );
        for format in [Format::Standard, Format::CloudEvents] {
            assert_eq!(of_tenant.body(format, false), of_none.body(format, true));
        }
    }

    #[test]
    fn a_body_is_rendered_once() {
        let outgoing = Outgoing::from(&event("a", b"1"));
        for format in [Format::Standard, Format::CloudEvents] {
            let body = || outgoing.body(format, false).as_ptr();
            assert_eq!(body(), body());
        }
    }

    proptest! {
        #[test]
        fn every_body_is_json_whatever_the_type_and_the_attributes(
            event_type in ".{1,40}",
            cloudevent in proptest::option::of(r"\{?.{0,40}\}?"),
        ) {
            let event = Event { cloudevent: cloudevent.as_deref(), ..event(&event_type, b"[1]") };
            for format in [Format::Standard, Format::CloudEvents] {
                let body: Value = serde_json::from_str(&body(&event, format)).unwrap();
                prop_assert_eq!(body["type"].as_str(), Some(event_type.as_str()));
            }
        }
    }
}
