//! `POST /v1/events/batch`: many events in one request, each with an outcome of its own.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::domain::clock::UnixMicros;
use shared::domain::event::JSON;
use shared::domain::id::EventId;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::scope::Scope;
use crate::event::json::{array_items, without_mark};
use crate::event::{NewEvent, traceparent};
use crate::event::{cloudevents, envelope};
use crate::http::admission::Admitted;
use crate::http::error::{ApiError, Problem};
use crate::publish::error::PublishError;
use crate::routes::body;
use crate::routes::events::create::{CLOUDEVENT_BATCH, CloudEventRequest, EventRequest, MAX_EVENT_BYTES};
use crate::routes::refusals::IngestRefusals;

/// Most events in a batch.
const MAX_EVENTS: usize = 1_000;

/// Largest batch, in bytes.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Media type of one JSON event a line.
const NDJSON: &str = "application/x-ndjson";

/// How a request carries its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchForm {
    /// A JSON array of events.
    Array,
    /// One event a line.
    Lines,
    /// A JSON array of CloudEvents.
    CloudEvents,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchOutcome {
    /// How many events are on disk.
    accepted: usize,
    /// How many are not.
    refused: usize,
    /// One for each event, in the order of the request.
    results: Vec<ItemOutcome>,
}

/// What became of one event of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ItemOutcome {
    /// It is on disk.
    Accepted {
        /// 202.
        status: u16,
        /// The id under which it is stored.
        #[schema(value_type = String, format = Uuid)]
        id: EventId,
    },
    /// It was refused; the others were not spoiled.
    Refused(Problem),
}

/// Sends up to 1 000 events, or 4 MiB, at once.
///
/// 202 when all were accepted, 207 when some were refused: `results` tells which, in the order of the request. A
/// batch costs the rate limit its number of events.
#[utoipa::path(
    post,
    path = "/v1/events/batch",
    operation_id = "send_batch",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`, or one around the other; `identity` is none. Limits count what comes out, of which more than 256 KiB must not be more than 500 times what was sent."),
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
        (status = 422, description = "The body is not an array, or is empty; or there is an `Idempotency-Key`, which stands in each event.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit has less left than the batch costs.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No event can be stored now; try again after `Retry-After`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    headers: HeaderMap,
    request_body: Body,
) -> Result<Response, ApiError> {
    let form = match body::media_type(&headers).as_deref() {
        Some(JSON) => BatchForm::Array,
        Some(NDJSON) => BatchForm::Lines,
        Some(CLOUDEVENT_BATCH) => BatchForm::CloudEvents,
        _ => {
            let detail = format!("send `Content-Type: {JSON}`, `{NDJSON}` or `{CLOUDEVENT_BATCH}`");
            return Err(ApiError::UnsupportedMediaType(detail.into()));
        }
    };
    accept(&app, &admitted, &headers, request_body, form).await
}

/// Takes a batch in.
///
/// # Errors
/// As [`create`].
pub async fn accept(
    app: &App,
    admitted: &Admitted,
    headers: &HeaderMap,
    request_body: Body,
    form: BatchForm,
) -> Result<Response, ApiError> {
    let org_id = admitted.organization_with(Scope::Ingest)?;
    envelope::refuse_idempotency_header(
        headers,
        "would name every event of the batch: put it into the events",
    )?;
    let bytes = body::read(headers, request_body, MAX_BATCH_BYTES, &app.bodies).await?;
    let events = parse(&bytes, form)?;
    admitted.charge(events.len() as u64 - 1)?;
    let (now, traceparent) = (UnixMicros::now().get(), traceparent(headers));
    // A microsecond apart, so that their order survives wherever events are ordered by time.
    let mut times = (now..).map(UnixMicros::new);
    let mut encoded = Vec::with_capacity(events.len());
    let ids: Vec<_> = events
        .into_iter()
        .map(|event| {
            event.map(|event| {
                let accepted_at = times.next().expect("the range has no end");
                let (id, event) = event.encode(org_id, accepted_at, traceparent);
                encoded.push(event);
                id
            })
        })
        .collect();
    // The queue counts its own copy. A body of little but white space would be held while that waits and cost nothing.
    drop(bytes);
    let mut published = app.publisher.publish_all(org_id, encoded).await.into_iter();
    let mut unavailable = None;
    let results = ids.into_iter().map(|id| {
        let outcome = id.and_then(|id| match published.next() {
            Some(Ok(())) => Ok(id),
            failed => {
                let error = failed.and_then(Result::err).unwrap_or(PublishError::Stopping);
                unavailable = Some(error);
                Err(error.into())
            }
        });
        match outcome {
            Ok(id) => ItemOutcome::Accepted {
                status: StatusCode::ACCEPTED.as_u16(),
                id,
            },
            Err(error) => ItemOutcome::Refused(error.into()),
        }
    });
    let results: Vec<_> = results.collect();
    let refused = results
        .iter()
        .filter(|result| matches!(result, ItemOutcome::Refused(_)))
        .count();
    let accepted = results.len() - refused;
    if let (0, Some(error)) = (accepted, unavailable) {
        return Err(error.into());
    }
    let status = if refused == 0 {
        StatusCode::ACCEPTED
    } else {
        StatusCode::MULTI_STATUS
    };
    Ok((
        status,
        Json(BatchOutcome {
            accepted,
            refused,
            results,
        }),
    )
        .into_response())
}

/// An event of a batch, or why it is none.
pub type Item<'a> = Result<NewEvent<'a>, ApiError>;

/// Reads a batch; its items are read one by one, and none spoils another.
///
/// # Errors
/// When the whole cannot be read as a batch, or is too large for one.
pub fn parse(body: &[u8], form: BatchForm) -> Result<Vec<Item<'_>>, ApiError> {
    let items: Vec<&[u8]> = match form {
        BatchForm::Lines => body
            .split(|&byte| byte == b'\n')
            // In front of each line, as it stands where files were put one after the other.
            .map(|line| without_mark(line.trim_ascii()))
            .filter(|l| !l.is_empty())
            .take(MAX_EVENTS + 1)
            .collect(),
        BatchForm::Array | BatchForm::CloudEvents => raw_items(body)?,
    };
    match items.len() {
        0 => {
            return Err(ApiError::invalid("body", "must hold at least one event"));
        }
        1..=MAX_EVENTS => {}
        _ => return Err(ApiError::TooManyEvents { limit: MAX_EVENTS }),
    }
    let parse_one = |item| match form {
        BatchForm::CloudEvents => cloudevents::parse_structured(item),
        BatchForm::Array | BatchForm::Lines => envelope::parse(item),
    };
    let bounded = |item: &'_ [u8]| item.len() <= MAX_EVENT_BYTES;
    let too_large = || ApiError::TooLarge {
        limit: MAX_EVENT_BYTES,
    };
    Ok(items
        .into_iter()
        .map(|item| {
            if bounded(item) {
                parse_one(item)
            } else {
                Err(too_large())
            }
        })
        .collect())
}

fn raw_items(body: &[u8]) -> Result<Vec<&[u8]>, ApiError> {
    let (items, read) = array_items(without_mark(body), MAX_EVENTS);
    match read {
        _ if items.len() > MAX_EVENTS => Err(ApiError::TooManyEvents { limit: MAX_EVENTS }),
        Ok(()) => Ok(items),
        Err(error) if error.is_data() => Err(ApiError::invalid("body", "must be a JSON array of events")),
        Err(error) => Err(ApiError::not_json(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(body: &[u8], form: BatchForm) -> String {
        match parse(body, form) {
            Err(error) => format!("whole: {}", error.status().as_u16()),
            Ok(items) => {
                let texts = items.iter().map(|item| match item {
                    Ok(event) => event.event_type.to_string(),
                    Err(error) => error.status().as_u16().to_string(),
                });
                texts.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn one_bad_item_does_not_spoil_the_others() {
        let array = br#"[{"type":"a","data":1},{"type":"b"},7,{"type":"c","data":null}]"#;
        assert_eq!(outcomes(array, BatchForm::Array), "a 422 422 c");
        let lines = b"{\"type\":\"a\",\"data\":1}\r\n\n{broken\n{\"type\":\"c\",\"data\":[]}";
        assert_eq!(outcomes(lines, BatchForm::Lines), "a 400 c");
        let marked = "\u{feff}{\"type\":\"a\",\"data\":1}\n\u{feff}{\"type\":\"b\",\"data\":1}\n\u{feff}\n";
        assert_eq!(outcomes(marked.as_bytes(), BatchForm::Lines), "a b");
        let marked = "\u{feff}[{\"type\":\"a\",\"data\":1}]";
        assert_eq!(outcomes(marked.as_bytes(), BatchForm::Array), "a");
        let cloudevents =
            br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{"specversion":"1.0"}]"#;
        assert_eq!(outcomes(cloudevents, BatchForm::CloudEvents), "t 422");
    }

    #[test]
    fn a_batch_that_is_none_is_refused_as_a_whole() {
        assert_eq!(outcomes(b"{}", BatchForm::Array), "whole: 422");
        assert_eq!(outcomes(b"[]", BatchForm::Array), "whole: 422");
        assert_eq!(outcomes(b"[", BatchForm::Array), "whole: 400");
        assert_eq!(outcomes(b"\n\n", BatchForm::Lines), "whole: 422");
        assert_eq!(
            outcomes("1\n".repeat(1_001).as_bytes(), BatchForm::Lines),
            "whole: 413"
        );
    }

    #[test]
    fn what_follows_the_first_event_too_many_is_not_read() {
        let unread = |events: usize, separator| format!("[{}!", vec!["1"; events].join(separator));
        assert_eq!(
            outcomes(unread(1_000, ",").as_bytes(), BatchForm::Array),
            "whole: 400"
        );
        for form in [BatchForm::Array, BatchForm::CloudEvents] {
            assert_eq!(outcomes(unread(1_001, ",").as_bytes(), form), "whole: 413");
        }
    }

    #[test]
    fn an_item_larger_than_an_event_may_be_is_refused_alone() {
        let large = format!(
            r#"[{{"type":"a","data":"{}"}},{{"type":"b","data":1}}]"#,
            "x".repeat(MAX_EVENT_BYTES)
        );
        assert_eq!(outcomes(large.as_bytes(), BatchForm::Array), "413 b");
    }
}
