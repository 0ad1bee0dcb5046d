//! A CloudEvent as a body, for the OpenAPI document, and the media types of bodies that carry events.

use utoipa::ToSchema;

/// Media type of a CloudEvent in structured mode.
pub(crate) const CLOUDEVENT: &str = "application/cloudevents+json";

/// Media type of a batch of CloudEvents.
pub(crate) const CLOUDEVENT_BATCH: &str = "application/cloudevents-batch+json";

/// Media type of one JSON event a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// A CloudEvent 1.0 in the JSON format, with any extension attributes beside these.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "it documents what `cloudevents` reads without building it"
)]
pub(crate) struct CloudEventRequest {
    /// With `source` it names the event. An event that repeats both within 24 hours is not delivered again.
    #[schema(min_length = 1, max_length = 4096)]
    id: String,
    /// Where the event came from: a URI reference.
    #[schema(min_length = 1, max_length = 4096)]
    source: String,
    /// The version of the specification.
    #[schema(pattern = r"^1\.0$")]
    specversion: String,
    /// The event type.
    #[schema(rename = "type", min_length = 1, max_length = 255, pattern = r"^[^\s*>]+$")]
    event_type: String,
    /// Media type of `data`; `application/json` unless set.
    #[schema(required = false)]
    datacontenttype: Option<String>,
    /// The ordering key, of the partitioning extension.
    #[schema(required = false, min_length = 1, max_length = 255, pattern = r"^\S+$")]
    partitionkey: Option<String>,
    /// The payload.
    #[schema(required = false)]
    data: Option<serde_json::Value>,
    /// The payload in base64, in place of `data`.
    #[schema(required = false)]
    data_base64: Option<String>,
}
