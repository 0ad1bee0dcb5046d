//! An accepted event, as it travels from the ingest API to the workers.

use serde::{Deserialize, Serialize};

use crate::domain::clock::UnixMicros;
use crate::domain::id::{EndpointId, EventId, OrgId};

/// The content type of an event whose `data` came inside a JSON envelope.
pub const JSON: &str = "application/json";

/// The types of the events that Penstock itself sends about an organisation's endpoints and quotas. Producers cannot send them.
pub const OPERATIONAL_TYPES: [&str; 9] = [
    ENDPOINT_CERTIFICATE_EXPIRING,
    ENDPOINT_FAILING,
    ENDPOINT_DISABLING_SOON,
    ENDPOINT_DISABLED,
    ENDPOINT_RECOVERED,
    DELIVERY_DEAD,
    PARTITION_KEPT,
    ORGANIZATION_QUOTA,
    TENANT_QUOTA,
];

/// An endpoint keeps failing: its circuit has opened.
pub const ENDPOINT_FAILING: &str = "endpoint.failing";

/// An endpoint has failed for half the time after which it is disabled.
pub const ENDPOINT_DISABLING_SOON: &str = "endpoint.disabling_soon";

/// An endpoint was disabled, by its receiver or because it failed for too long.
pub const ENDPOINT_DISABLED: &str = "endpoint.disabled";

/// An endpoint that had failed for a while took a delivery again.
pub const ENDPOINT_RECOVERED: &str = "endpoint.recovered";

/// The client certificate of an endpoint expires soon.
pub const ENDPOINT_CERTIFICATE_EXPIRING: &str = "endpoint.certificate_expiring";

/// A delivery was given up.
pub const DELIVERY_DEAD: &str = "delivery.dead";

/// An endpoint's pending deliveries keep a day of events longer than it should be.
pub const PARTITION_KEPT: &str = "partition.kept";

/// An organisation has used up its quota of the month, or nearly so.
pub const ORGANIZATION_QUOTA: &str = "organization.quota";

/// A tenant has, its own one.
pub const TENANT_QUOTA: &str = "tenant.quota";

/// Whether a media type, its parameters ignored, says that the payload is JSON.
pub fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case(JSON)
        || media_type
            .rsplit_once('+')
            .is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
        || media_type.eq_ignore_ascii_case("text/json")
}

/// An event that was authenticated and validated. It borrows from the request on the way in and from the
/// stream's message on the way out: `data` is never parsed and never copied on its way.
///
/// Fields are named on the wire, so that a reader of another release skips what it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    /// What the producer's 202 carried.
    pub id: EventId,
    /// The organisation whose key sent it.
    #[serde(rename = "org")]
    pub org_id: OrgId,
    /// The event type, for example `order.created`; 1 to 255 bytes without white space or control characters.
    #[serde(rename = "type")]
    pub event_type: &'a str,
    /// When the ingest API accepted it.
    #[serde(rename = "at")]
    pub accepted_at: UnixMicros,
    /// Media type of `data`.
    pub content_type: &'a str,
    /// The producer's idempotency key, when it sent one; `id` is derived from it then.
    #[serde(default, rename = "key", skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<&'a str>,
    /// W3C trace context of the request that brought the event: the span before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    /// What tracing systems added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<&'a str>,
    /// What the producer gave its receivers along, as W3C Baggage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baggage: Option<&'a str>,
    /// The context attributes of an event that came as a CloudEvent, as a JSON object.
    #[serde(default, rename = "ce", skip_serializing_if = "Option::is_none")]
    pub cloudevent: Option<&'a str>,
    /// Ordered endpoints get the events of one key in the order in which they were accepted; 1 to 255 bytes.
    #[serde(default, rename = "order", skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<&'a str>,
    /// The one endpoint that it goes to, whatever its filters say; else it goes to all that want it.
    #[serde(default, rename = "to", skip_serializing_if = "Option::is_none")]
    pub only_to: Option<EndpointId>,
    /// The organisation's customer whose event it is. It goes to that one's endpoints, and to those of all tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    /// The payload, byte for byte as the producer sent it.
    #[serde(with = "serde_bytes")]
    pub data: &'a [u8],
}

/// The headers by which an event carries its trace on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext<'a> {
    /// As [`Event::traceparent`].
    pub traceparent: Option<&'a str>,
    /// As [`Event::tracestate`].
    pub tracestate: Option<&'a str>,
    /// As [`Event::baggage`].
    pub baggage: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// An event with JSON and nothing else, for every endpoint of no tenant.
    pub fn of_json(
        id: EventId,
        org_id: OrgId,
        event_type: &'a str,
        accepted_at: UnixMicros,
        data: &'a [u8],
    ) -> Self {
        Self {
            id,
            org_id,
            event_type,
            accepted_at,
            content_type: JSON,
            idempotency_key: None,
            traceparent: None,
            tracestate: None,
            baggage: None,
            cloudevent: None,
            ordering_key: None,
            only_to: None,
            tenant: None,
            data,
        }
    }
}

impl Event<'static> {
    /// An event for tests, unlike any other in its id and its organisation.
    #[doc(hidden)]
    pub fn sample() -> Self {
        let accepted_at = UnixMicros::new(1_700_000_000_000_000);
        Self::of_json(
            EventId::at(accepted_at),
            OrgId::generate(),
            "a",
            accepted_at,
            b"1",
        )
    }
}
