//! `POST /api/events`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;
use shared::domain::name::check_name;
use utoipa::ToSchema;

use super::LegacyError;
use crate::app::App;
use crate::domain::form::field_errors::FieldErrors;
use crate::domain::form::json::HALF_A_PAIR;
use crate::event::MAX_EVENT_BYTES;
use crate::event::json::{RawFields, check_depth};
use crate::event::{Identity, NewEvent, check_event_type};
use crate::http::admission::callers::Producer;
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::http::request::event_headers::merge_idempotency_header;
use crate::routes::openapi::refusals::{LegacyFormRefusals, LegacyKeyRefusals};

/// An event in this API's form.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "it documents what `parse` reads without building it")]
pub(crate) struct LegacyEvent {
    /// For example `order.created`: 1 to 255 bytes without white space, control characters, `*` or `>`.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\s*>]+$")]
    event_type: String,
    #[serde(flatten)]
    payload: LegacyPayload,
    /// An event that repeats it within 24 hours is not delivered again.
    #[schema(
        required = false,
        nullable,
        min_length = 1,
        max_length = 255,
        pattern = r"^\S+$"
    )]
    dedup_id: Option<String>,
}

/// The payload under either of its names: any JSON, up to 64 levels deep.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it documents what `parse` reads without building it")]
pub(crate) enum LegacyPayload {
    Payload { payload: serde_json::Value },
    Data { data: serde_json::Value },
}

/// The answer to an accepted event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LegacyAccepted {
    /// The id under which it is stored.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// `accepted`.
    status: &'static str,
}

/// The answer to a repeat.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Duplicate {
    /// What is wrong, for a person.
    error: &'static str,
    /// As it was sent.
    dedup_id: String,
}

/// Sends one event. 202 means that it is on disk and will be delivered.
#[utoipa::path(
    post,
    path = "/api/events",
    operation_id = "zapier_send_event",
    tag = "zapier",
    security(("api_key" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 257, pattern = r"^[!-~]+$", description = "As on `POST /v1/events`: a quoted string (RFC 9651), or bare. A repeat is answered 202 with the same id, unless it has a `dedup_id`."),
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`, or one around the other; `identity` means none. Limits count the decompressed bytes. A decompressed body of more than 256 KiB may be at most 500 times as large as the compressed one."),
    ),
    request_body = LegacyEvent,
    responses(
        (status = 202, description = "The event is on disk.", body = LegacyAccepted),
        LegacyKeyRefusals, LegacyFormRefusals,
        (status = 403, description = "The key lacks the scope `ingest`.", body = LegacyError),
        (status = 409, description = "An event with this `dedup_id` was accepted within 24 hours.", body = Duplicate),
        (status = 413, description = "Larger than 256 KiB.", body = LegacyError),
        (status = 429, description = "The rate limit is used up, or the quota of the month is.", body = LegacyError),
        (status = 503, description = "The event cannot be stored now; try again after `Retry-After`.", body = LegacyError),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    producer: Producer,
    mut body: RequestBody,
) -> Result<Response, ApiError> {
    body.require_json()?;
    // The body is dropped before its event waits: the queue counts its own copy.
    let (id, encoded, may_repeat) = {
        let bytes = body.read(MAX_EVENT_BYTES).await?;
        let mut event = parse(&bytes)?;
        let has_dedup_id = event.identity != Identity::Unique;
        merge_idempotency_header(&mut event, &body.headers, "dedup_id")?;
        producer.own(&mut event)?;
        let trace = body.trace();
        let (id, encoded) = event.encode(producer.realm.org_id, UnixMicros::now(), trace.context());
        if has_dedup_id
            && let Identity::Key(dedup_id) = &event.identity
            && app.recent_ids.holds(id, Instant::now())
        {
            let duplicate = Duplicate {
                error: "an event with this dedup_id was accepted within 24 hours",
                dedup_id: dedup_id.clone().into_owned(),
            };
            return Ok((StatusCode::CONFLICT, Json(duplicate)).into_response());
        }
        (id, encoded, event.identity != Identity::Unique)
    };
    let enqueued = app.publisher.enqueue(encoded);
    body.publishing(id).until_stored(enqueued).await?;
    if may_repeat {
        app.recent_ids.remember(id, Instant::now());
    }
    let accepted = LegacyAccepted {
        id,
        status: "accepted",
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

/// Reads and checks an event. Fields that this API does not know are ignored, as they always were.
fn parse(body: &[u8]) -> Result<NewEvent<'_>, ApiError> {
    let fields = RawFields::read(body, "a JSON object with `type` and `payload`")?;
    let event_type = match fields.string("type") {
        Ok(raw) => raw
            .ok_or("is missing")
            .and_then(|raw| text(raw, check_event_type)),
        Err(detail) => Err(detail),
    };
    let dedup_id = fields
        .nullable_string("dedup_id")
        .and_then(|raw| raw.map(|raw| text(raw, check_name)).transpose());
    let payload_name = if fields.0.contains_key("data") && !fields.0.contains_key("payload") {
        "data"
    } else {
        "payload"
    };
    let mut errors = FieldErrors::default();
    let event_type = errors.check("type", event_type);
    let payload = errors.check(payload_name, payload(&fields, payload_name));
    let dedup_id = errors.check("dedup_id", dedup_id).flatten();
    errors.finish()?;
    // A missing or wrong field was refused above, so no default is used.
    Ok(NewEvent {
        identity: dedup_id.map_or(Identity::Unique, |key| Identity::Key(key.into())),
        ..NewEvent::of_json(
            event_type.unwrap_or_default(),
            payload.map_or("", RawValue::get).as_bytes(),
        )
    })
}

fn payload<'a>(fields: &RawFields<'a>, name: &str) -> Result<&'a RawValue, String> {
    if fields.0.contains_key("payload") && fields.0.contains_key("data") {
        return Err("must not stand beside `data`".to_owned());
    }
    let raw = fields.value(name)?.ok_or("is missing")?;
    check_depth(raw.get())?;
    Ok(raw)
}

fn text(raw: &RawValue, check: fn(&str) -> Result<(), &'static str>) -> Result<String, &'static str> {
    let text: String = serde_json::from_str(raw.get()).map_err(|_| HALF_A_PAIR)?;
    check(&text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn explain(body: &str) -> String {
        parse(body.as_bytes()).unwrap_err().in_words()
    }

    #[test]
    fn the_payload_keeps_its_bytes_under_either_name() {
        for data in [
            r#"{"b":1e400, "a":12345678901234567890}"#,
            r#""\u0000\ud800""#,
            "null",
        ] {
            for name in ["payload", "data"] {
                let body = format!(r#"{{"{name}":{data},"type":"a","dedup_id":"k","source":"old"}}"#);
                let event = parse(body.as_bytes()).unwrap();
                assert_eq!(&*event.data, data.as_bytes());
                assert_eq!(event.identity, Identity::Key("k".into()));
            }
        }
    }

    #[test]
    fn an_event_without_a_dedup_id_is_its_own() {
        for body in [
            r#"{"type":"a","payload":1}"#,
            r#"{"type":"a","payload":1,"dedup_id":null}"#,
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap().identity, Identity::Unique);
        }
    }

    #[test]
    fn wrong_events_are_explained() {
        insta::assert_snapshot!(explain("{}"), @"422 type: is missing; payload: is missing");
        insta::assert_snapshot!(explain(r#"{"type":5,"payload":1}"#), @"422 type: must be a string");
        insta::assert_snapshot!(explain(r#"{"type":"a b","payload":1}"#), @"422 type: must not contain white space or control characters");
        insta::assert_snapshot!(explain(r#"{"type":"a","type":"b","payload":1}"#), @"422 type: stands more than once");
        insta::assert_snapshot!(explain(r#"{"type":"a","payload":1,"data":2}"#), @"422 payload: must not stand beside `data`");
        insta::assert_snapshot!(explain(r#"{"type":"a","payload":1,"dedup_id":""}"#), @"422 dedup_id: must not be empty");
        insta::assert_snapshot!(explain(r#"{"type":"a","payload":1,"dedup_id":7}"#), @"422 dedup_id: must be a string");
        insta::assert_snapshot!(explain(r#"{"type":"a","data":1,"data":2}"#), @"422 data: stands more than once");
        insta::assert_snapshot!(explain(r#"{"type":"\ud800","data":1}"#), @"422 type: holds half of a surrogate pair");
        insta::assert_snapshot!(explain("[]"), @"422 body: must be a JSON object with `type` and `payload`");
        insta::assert_snapshot!(explain("{"), @"400 the body is not valid JSON: EOF while parsing an object at line 1 column 1");
        let deep = format!(r#"{{"type":"a","payload":{}{}}}"#, "[".repeat(65), "]".repeat(65));
        insta::assert_snapshot!(explain(&deep), @"422 payload: nested deeper than 64 levels");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body);
        }
    }
}
