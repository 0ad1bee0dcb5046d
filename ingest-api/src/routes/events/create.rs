//! `POST /v1/events`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::domain::clock::UnixMicros;
use shared::domain::event::JSON;
use shared::domain::id::EventId;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::scope::Scope;
use crate::event::{NewEvent, traceparent};
use crate::event::{cloudevents, envelope};
use crate::http::admission::Admitted;
use crate::http::error::{ApiError, Problem};
use crate::routes::body;
use crate::routes::events::batch::{self, BatchForm, BatchOutcome};
use crate::routes::refusals::IngestRefusals;

/// Largest event, envelope included, in bytes.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Media type of a CloudEvent in structured mode.
pub const CLOUDEVENT: &str = "application/cloudevents+json";

/// Media type of a batch of CloudEvents.
pub const CLOUDEVENT_BATCH: &str = "application/cloudevents-batch+json";

/// What every other media type of CloudEvents starts with.
const CLOUDEVENTS_PREFIX: &str = "application/cloudevents";

/// Penstock's own form of an event.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it documents what `validate` reads without building it")]
pub struct EventRequest {
    /// For example `order.created`: 1 to 255 bytes without white space, control characters, `*` or `>`.
    #[schema(rename = "type", min_length = 1, max_length = 255, pattern = r"^[^\s*>]+$")]
    event_type: String,
    /// The payload: any JSON, up to 64 levels deep. It is delivered byte for byte.
    data: serde_json::Value,
    /// Makes a repeat within 24 hours a repeat: it gets the same id and is delivered once.
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
}

/// A CloudEvent 1.0 in the JSON format, with any extension attributes beside these.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "it documents what `cloudevents` reads without building it"
)]
pub struct CloudEventRequest {
    /// With `source` it names the event: a repeat within 24 hours is a repeat.
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

/// The answer to an accepted event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// The id under which it is stored, and which receivers see as `webhook-id`.
    #[schema(value_type = String, format = Uuid)]
    pub id: EventId,
}

/// The answer when everything was accepted.
#[derive(Debug, ToSchema)]
#[schema(no_recursion)]
#[serde(untagged)]
#[expect(dead_code, reason = "it documents that one route has two kinds of answer")]
pub enum AcceptedOrOutcome {
    /// To one event.
    Event(Accepted),
    /// To a batch of CloudEvents.
    Batch(BatchOutcome),
}

/// How a request carries its event.
enum Form {
    Envelope,
    Structured,
    Binary,
    Batch,
}

fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let media_type = body::media_type(headers);
    match media_type.as_deref() {
        Some(CLOUDEVENT) => Ok(Form::Structured),
        Some(CLOUDEVENT_BATCH) => Ok(Form::Batch),
        Some(other) if other.starts_with(CLOUDEVENTS_PREFIX) => {
            let detail = format!("of CloudEvents' own types, send {CLOUDEVENT} or {CLOUDEVENT_BATCH}");
            Err(ApiError::UnsupportedMediaType(detail.into()))
        }
        _ if cloudevents::is_binary(headers) => Ok(Form::Binary),
        Some(JSON) => Ok(Form::Envelope),
        _ => {
            let detail = format!("send `Content-Type: {JSON}`, or a CloudEvent");
            Err(ApiError::UnsupportedMediaType(detail.into()))
        }
    }
}

/// Sends one event. 202 means that it is on disk and will be delivered.
///
/// The body is Penstock's own form, or a CloudEvent 1.0 in structured, binary or batched mode.
#[utoipa::path(
    post,
    path = "/v1/events",
    operation_id = "send_event",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "As `idempotency_key` in the body: a quoted string (RFC 9651), or bare. Not for CloudEvents, whose `source` and `id` are the key."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, passed on to receivers."),
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`, or one around the other; `identity` is none. Limits count what comes out, of which more than 256 KiB must not be more than 500 times what was sent."),
    ),
    request_body(content(
        (EventRequest = "application/json"),
        (CloudEventRequest = "application/cloudevents+json"),
        (Vec<CloudEventRequest> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "The event is on disk. For a batch of CloudEvents: all of them are.", body = AcceptedOrOutcome),
        (status = 207, description = "Some events of a batch of CloudEvents were refused.", body = BatchOutcome),
        IngestRefusals,
        (status = 413, description = "Larger than 256 KiB.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not a media type that carries an event, or a content coding other than gzip and zstd.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    request: Request,
) -> Result<Response, ApiError> {
    let (Parts { headers, .. }, request_body) = request.into_parts();
    let org_id = admitted.organization_with(Scope::Ingest)?;
    let form = form(&headers)?;
    if matches!(form, Form::Batch) {
        // In a box: it is rare, and would make every request's future larger.
        let batch = batch::accept(&app, &admitted, &headers, request_body, BatchForm::CloudEvents);
        return Box::pin(batch).await;
    }
    if !matches!(form, Form::Envelope) {
        let instead = "is not for CloudEvents: their `source` and `id` are the key";
        envelope::refuse_idempotency_header(&headers, instead)?;
    }
    // The body is dropped before its event waits: the queue counts its own copy.
    let (id, encoded) = {
        let bytes = body::read(&headers, request_body, MAX_EVENT_BYTES, &app.bodies).await?;
        let event: NewEvent<'_> = match form {
            Form::Structured => cloudevents::parse_structured(&bytes)?,
            Form::Binary => cloudevents::parse_binary(&headers, &bytes)?,
            Form::Envelope | Form::Batch => {
                let mut event = envelope::parse(&bytes)?;
                envelope::merge_idempotency_header(&mut event, &headers, "idempotency_key")?;
                event
            }
        };
        event.encode(org_id, UnixMicros::now(), traceparent(&headers))
    };
    app.publisher.publish(org_id, encoded).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { id })).into_response())
}

/// The handshake of CloudEvents' HTTP 1.1 Web Hooks: says that this URL takes events.
pub async fn handshake(headers: HeaderMap) -> Response {
    const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
    const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");
    let mut response = StatusCode::OK.into_response();
    let answer = response.headers_mut();
    answer.insert(ALLOW, HeaderValue::from_static("POST"));
    if let Some(origin) = headers.get("webhook-request-origin") {
        answer.insert(ALLOWED_ORIGIN, origin.clone());
        // What a sender may send is its organisation's rate limit, which every answer states.
        answer.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
    }
    answer.remove(CONTENT_TYPE);
    response
}
