//! `POST /v1/events/batch`: many events in one request, each with a result of its own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::domain::clock::UnixMicros;
use shared::domain::event::JSON;
use shared::domain::id::EventId;
use utoipa::ToSchema;

use crate::app::App;
use crate::event::NewEvent;
use crate::event::batch::{self, BatchForm};
use crate::event::envelope::EventRequest;
use crate::event::error::EventError;
use crate::http::admission::callers::Producer;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::event_headers::refuse_idempotency_header;
use crate::routes::events::request::{CLOUDEVENT_BATCH, CloudEventRequest, NDJSON};
use crate::routes::openapi::refusals::IngestRefusals;

/// Largest batch, in bytes.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The results of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchOutcome {
    /// How many events are on disk.
    accepted: usize,
    /// How many events were refused.
    refused: usize,
    /// One result for each event, in the order of the request.
    results: Vec<ItemOutcome>,
}

/// The result of one event of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ItemOutcome {
    /// The event is on disk.
    Accepted {
        /// 202.
        status: u16,
        /// The id under which it is stored.
        #[schema(value_type = String, format = Uuid)]
        id: EventId,
    },
    /// The event was refused. The others are not affected.
    Refused(Problem),
}

/// Sends up to 1 000 events, or 4 MiB, at once.
///
/// The answer is 202 when all events were accepted, and 207 when some were refused. `results` tells which, in the order
/// of the request. Each event counts as one request of the rate limit.
#[utoipa::path(
    post,
    path = "/v1/events/batch",
    operation_id = "send_batch",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`, or one around the other; `identity` means none. Limits count the decompressed bytes. A decompressed body of more than 256 KiB may be at most 500 times as large as the compressed one."),
    ),
    request_body(content(
        (Vec<EventRequest> = "application/json"),
        (String = "application/x-ndjson"),
        (Vec<CloudEventRequest> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "All events are on disk.", body = BatchOutcome),
        (status = 207, description = "Some events were refused.", body = BatchOutcome),
        IngestRefusals,
        (status = 413, description = "Larger than 4 MiB, or more than 1 000 events.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not a media type that carries a batch, or a content coding other than gzip and zstd.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The body is not an array, or is an empty one, or the request has an `Idempotency-Key` header: in a batch each event has a key of its own.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The batch has more events than the rate limit has requests left, or the quota of the month is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No event can be stored now; try again after `Retry-After`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    producer: Producer,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let form = match body.media_type().as_deref() {
        Some(JSON) => BatchForm::Array,
        Some(NDJSON) => BatchForm::Lines,
        Some(CLOUDEVENT_BATCH) => BatchForm::CloudEvents,
        _ => {
            let detail = format!("send `Content-Type: {JSON}`, `{NDJSON}` or `{CLOUDEVENT_BATCH}`");
            return Err(ApiError::UnsupportedMediaType(detail.into()));
        }
    };
    accept(&app, &producer, body, form).await
}

/// Takes a batch in.
///
/// # Errors
/// As [`create`].
pub(crate) async fn accept(
    app: &App,
    producer: &Producer,
    mut body: RequestBody,
    form: BatchForm,
) -> Result<Response, ApiError> {
    refuse_idempotency_header(
        &body.headers,
        "would name every event of the batch: put it into the events",
    )?;
    let waiting: Vec<_> = {
        // The queue counts its own copy, so the body is dropped before the events wait. Otherwise a body that is mostly
        // white space would hold memory that nobody counts.
        let bytes = body.read(MAX_BATCH_BYTES).await?;
        let events = batch::parse(&bytes, form)?;
        producer.admitted.charge(events.len() as u64 - 1)?;
        let (mut now, trace) = (UnixMicros::now().get(), body.trace());
        let mut enqueue = |event: Result<NewEvent<'_>, EventError>| {
            let mut event = event?;
            producer.own(&mut event)?;
            let at = UnixMicros::new(now);
            let (id, encoded) = event.encode(producer.realm.org_id, at, trace.context());
            // A microsecond apart, so that their order survives wherever events are ordered by time.
            now += 1;
            let publishing = body.publishing(id);
            Ok::<_, ApiError>((id, app.publisher.enqueue(encoded), publishing))
        };
        events.into_iter().map(&mut enqueue).collect()
    };
    let (mut results, mut accepted, mut unavailable) = (Vec::with_capacity(waiting.len()), 0, None);
    for event in waiting {
        results.push(match event {
            Err(error) => ItemOutcome::refused(error),
            Ok((id, enqueued, publishing)) => match publishing.until_stored(enqueued).await {
                Ok(()) => {
                    accepted += 1;
                    ItemOutcome::accepted(id)
                }
                Err(error) => {
                    unavailable = Some(error);
                    ItemOutcome::refused(error)
                }
            },
        });
    }
    if let (0, Some(error)) = (accepted, unavailable) {
        return Err(error.into());
    }
    let refused = results.len() - accepted;
    let status = if refused == 0 {
        StatusCode::ACCEPTED
    } else {
        StatusCode::MULTI_STATUS
    };
    let outcome = BatchOutcome {
        accepted,
        refused,
        results,
    };
    Ok((status, Json(outcome)).into_response())
}

impl ItemOutcome {
    fn accepted(id: EventId) -> Self {
        Self::Accepted {
            status: StatusCode::ACCEPTED.as_u16(),
            id,
        }
    }

    fn refused(error: impl Into<ApiError>) -> Self {
        Self::Refused(error.into().into())
    }
}
