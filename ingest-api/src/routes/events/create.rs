//! `POST /v1/events`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::domain::clock::UnixMicros;
use shared::domain::event::JSON;
use shared::domain::id::EventId;
use utoipa::ToSchema;

use crate::app::App;
use crate::event::MAX_EVENT_BYTES;
use crate::event::batch::BatchForm;
use crate::event::cloudevents;
use crate::event::envelope::{self, EventRequest};
use crate::http::admission::callers::Producer;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::event_headers::{
    is_binary_cloudevent, merge_idempotency_header, read_binary_cloudevent, refuse_idempotency_header,
};
use crate::routes::events::batch::{self, BatchOutcome};
use crate::routes::events::request::{CLOUDEVENT, CLOUDEVENT_BATCH, CloudEventRequest};
use crate::routes::openapi::refusals::IngestRefusals;

/// The beginning of every media type of CloudEvents.
const CLOUDEVENTS_PREFIX: &str = "application/cloudevents";

/// The answer to an accepted event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The id under which it is stored, and which receivers see as `webhook-id`.
    #[schema(value_type = String, format = Uuid)]
    pub id: EventId,
}

/// The answer when everything was accepted.
#[derive(Debug, ToSchema)]
#[schema(no_recursion)]
#[serde(untagged)]
#[expect(dead_code, reason = "it documents that one route has two kinds of answer")]
pub(crate) enum AcceptedOrOutcome {
    /// The answer to one event.
    Event(Accepted),
    /// The answer to a batch of CloudEvents.
    Batch(BatchOutcome),
}

/// The form of a request's body.
enum Carried {
    One(Form),
    Batch,
}

/// The form of one event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Envelope,
    Structured,
    Binary,
}

fn carried(body: &RequestBody) -> Result<Carried, ApiError> {
    let media_type = body.media_type();
    match media_type.as_deref() {
        Some(CLOUDEVENT) => Ok(Carried::One(Form::Structured)),
        Some(CLOUDEVENT_BATCH) => Ok(Carried::Batch),
        Some(other) if other.starts_with(CLOUDEVENTS_PREFIX) => {
            let detail = format!("of CloudEvents' own types, send {CLOUDEVENT} or {CLOUDEVENT_BATCH}");
            Err(ApiError::UnsupportedMediaType(detail.into()))
        }
        _ if is_binary_cloudevent(&body.headers) => Ok(Carried::One(Form::Binary)),
        Some(JSON) => Ok(Carried::One(Form::Envelope)),
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
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 257, pattern = r"^[!-~]+$", description = "As `idempotency_key` in the body: a quoted string (RFC 9651), or bare. Not for CloudEvents, whose `source` and `id` are the key."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, passed on to receivers, as is `tracestate`."),
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`, or one around the other; `identity` means none. Limits count the decompressed bytes. A decompressed body of more than 256 KiB may be at most 500 times as large as the compressed one."),
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
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    producer: Producer,
    mut body: RequestBody,
) -> Result<Response, ApiError> {
    let form = match carried(&body)? {
        Carried::One(form) => form,
        // In a box: it is rare, and would make every request's future larger.
        Carried::Batch => {
            return Box::pin(batch::accept(&app, &producer, body, BatchForm::CloudEvents)).await;
        }
    };
    if form != Form::Envelope {
        let instead = "is not for CloudEvents: their `source` and `id` are the key";
        refuse_idempotency_header(&body.headers, instead)?;
    }
    // The body is dropped before its event waits: the queue counts its own copy.
    let (id, encoded) = {
        let bytes = body.read(MAX_EVENT_BYTES).await?;
        let mut event = match form {
            Form::Structured => cloudevents::parse_structured(&bytes)?,
            Form::Binary => read_binary_cloudevent(&body.headers, &bytes)?,
            Form::Envelope => {
                let mut event = envelope::parse(&bytes)?;
                merge_idempotency_header(&mut event, &body.headers, "idempotency_key")?;
                event
            }
        };
        producer.own(&mut event)?;
        event.encode(producer.realm.org_id, UnixMicros::now(), body.trace().context())
    };
    let enqueued = app.publisher.enqueue(encoded);
    body.publishing(id).until_stored(enqueued).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { id })).into_response())
}

/// The handshake of CloudEvents' HTTP 1.1 Web Hooks: says that this URL takes events.
pub(crate) async fn handshake(headers: HeaderMap) -> Response {
    const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
    const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");
    let mut response = StatusCode::OK.into_response();
    let answer = response.headers_mut();
    answer.insert(ALLOW, HeaderValue::from_static("POST"));
    if let Some(origin) = headers.get("webhook-request-origin") {
        answer.insert(ALLOWED_ORIGIN, origin.clone());
        // The handshake has no key, so it names no rate. Every answer to an event states the organisation's rate limit.
        answer.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
    }
    answer.remove(CONTENT_TYPE);
    response
}
