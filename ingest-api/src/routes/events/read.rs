//! `GET /v1/events` and `GET /v1/events/{id}`: what became of events.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderValue};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::event::is_json;
use shared::id::{EndpointId, EventId};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::admission::Admitted;
use crate::cursor::Cursor;
use crate::error::{ApiError, FieldError, Problem};
use crate::extract::{Params, PathId};
use crate::router::App;
use crate::scope::Scope;
use crate::store::{AttemptRow, DeliveryRow, EventFilter, EventRow};

const MAX_LIMIT: i64 = 100;
const DEFAULT_LIMIT: i64 = 50;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// It will be tried, or tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was given up, and is kept.
    Dead,
}

impl DeliveryStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Only events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only events accepted at this time or later (RFC 3339).
    #[serde(default, with = "time::serde::rfc3339::option")]
    from: Option<OffsetDateTime>,
    /// Only events accepted before this time (RFC 3339).
    #[serde(default, with = "time::serde::rfc3339::option")]
    to: Option<OffsetDateTime>,
    /// Only events with a delivery in this status.
    #[param(inline)]
    status: Option<DeliveryStatus>,
    /// Only events with a delivery to this endpoint.
    #[param(value_type = Option<String>, format = Uuid)]
    endpoint: Option<EndpointId>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{32}$")]
    cursor: Option<String>,
    /// Most events on the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

impl ListParams {
    fn filter(&self, admitted: &Admitted) -> Result<EventFilter<'_>, ApiError> {
        let wrong = |field: &str, detail: &str| ApiError::Invalid(vec![FieldError::new(field, detail)]);
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(wrong("limit", "must be 1 to 100"));
        }
        if self
            .event_type
            .as_deref()
            .is_some_and(|event_type| event_type.contains('\0'))
        {
            return Err(wrong("type", "must not contain NUL"));
        }
        let after = match &self.cursor {
            None => None,
            Some(text) => {
                Some(Cursor::decode(text).ok_or_else(|| wrong("cursor", "is not a `next_cursor`"))?)
            }
        };
        Ok(EventFilter {
            org_id: admitted.organization_with(Scope::Manage)?,
            event_type: self.event_type.as_deref(),
            from: self.from,
            to: self.to,
            status: self.status.map(DeliveryStatus::name),
            endpoint_id: self.endpoint,
            after,
            limit,
        })
    }
}

/// A page of events, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// The events.
    data: Vec<EventView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// An event and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// Its type.
    #[serde(rename = "type")]
    event_type: String,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    accepted_at: OffsetDateTime,
    /// Media type of its payload.
    content_type: String,
    /// The key that its producer sent; of a CloudEvent, its `source` and `id` as a JSON array.
    idempotency_key: Option<String>,
    /// The context attributes of a CloudEvent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    cloudevent: Option<Box<RawValue>>,
    /// The payload, byte for byte, when it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The payload in base64 when it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    data_base64: Option<String>,
    /// One for each endpoint that wanted the event.
    deliveries: Vec<DeliveryView>,
}

/// A delivery of an event to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    /// The endpoint.
    #[schema(value_type = String, format = Uuid)]
    endpoint_id: EndpointId,
    /// `pending`, `delivered` or `dead`.
    status: String,
    /// How many attempts have ended.
    attempts: i32,
    /// When the next attempt begins; null when there is none, or one is in progress.
    #[serde(with = "time::serde::rfc3339::option")]
    next_attempt_at: Option<OffsetDateTime>,
    /// When it was delivered or given up.
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    /// The attempts in order; only when one event is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    attempt_log: Option<Vec<AttemptView>>,
}

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// From 1.
    number: i32,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    /// How long it took, in milliseconds.
    duration_ms: i32,
    /// `delivered`, or the class of the failure: `status`, `timeout`, `connect`, `network` or `refused`.
    outcome: String,
    /// The receiver's HTTP status.
    response_status: Option<i16>,
    /// The first 4 KiB of the receiver's answer; bytes that are not UTF-8 are replaced.
    response_body: Option<String>,
    /// What went wrong before there was an answer.
    error: Option<String>,
}

impl From<AttemptRow> for AttemptView {
    fn from(row: AttemptRow) -> Self {
        Self {
            number: row.number,
            started_at: row.started_at,
            duration_ms: row.duration_ms,
            outcome: row.outcome,
            response_status: row.response_status,
            response_body: row
                .response_body
                .map(|body| String::from_utf8_lossy(&body).into_owned()),
            error: row.error,
        }
    }
}

impl From<DeliveryRow> for DeliveryView {
    fn from(row: DeliveryRow) -> Self {
        Self {
            endpoint_id: row.endpoint_id,
            status: row.status,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            finished_at: row.finished_at,
            attempt_log: None,
        }
    }
}

impl EventView {
    fn new(row: EventRow, deliveries: Vec<DeliveryView>) -> Result<Self, ApiError> {
        let (data, data_base64) = payload(&row.content_type, row.data)?;
        Ok(Self {
            id: row.id,
            event_type: row.event_type,
            accepted_at: row.accepted_at,
            content_type: row.content_type,
            idempotency_key: row.idempotency_key,
            cloudevent: row.cloudevent.map(raw_json).transpose()?,
            data,
            data_base64,
            deliveries,
        })
    }
}

/// A stored payload as it is shown: byte for byte when it is JSON, else in base64.
///
/// # Errors
/// When the stored bytes are not what their media type says.
pub fn payload(
    content_type: &str,
    data: Vec<u8>,
) -> Result<(Option<Box<RawValue>>, Option<String>), ApiError> {
    if !is_json(content_type) {
        return Ok((None, Some(BASE64.encode(&data))));
    }
    let text = String::from_utf8(data).map_err(|error| ApiError::Internal(error.into()))?;
    Ok((Some(raw_json(text)?), None))
}

fn raw_json(text: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(text).map_err(|error| ApiError::Internal(error.into()))
}

/// Lists events, newest first. An event appears when a worker has stored it, usually milliseconds after its 202.
///
/// A page may hold fewer events than `limit` when their payloads are large.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(ListParams),
    responses(
        (status = 200, description = "A page of events.", body = EventPage),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `manage`.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    Params(params): Params<ListParams>,
) -> Result<(HeaderMap, Json<EventPage>), ApiError> {
    let filter = params.filter(&admitted)?;
    let (events, more) = app.store.list_events(&filter).await?;
    let mut deliveries: HashMap<_, Vec<_>> = HashMap::new();
    for row in app.store.list_deliveries(filter.org_id, &events).await? {
        deliveries
            .entry((row.event_id, row.accepted_at))
            .or_default()
            .push(row.into());
    }
    let last = events.last().filter(|_| more);
    let next_cursor = last.map(|event| {
        Cursor {
            at: event.accepted_at,
            id: event.id.as_uuid(),
        }
        .encode()
    });
    let data = events.into_iter().map(|event| {
        let deliveries = deliveries
            .remove(&(event.id, event.accepted_at))
            .unwrap_or_default();
        EventView::new(event, deliveries)
    });
    let data = data.collect::<Result<_, _>>()?;
    let link = next_cursor
        .as_deref()
        .map(|cursor| next_link("/v1/events", cursor));
    Ok((
        link.into_iter().map(|link| (LINK, link)).collect(),
        Json(EventPage { data, next_cursor }),
    ))
}

/// `Link: <…>; rel="next"` (RFC 8288). The other parameters of the request have to be sent again.
pub fn next_link(path: &str, cursor: &str) -> HeaderValue {
    let link = format!("<{path}?cursor={cursor}>; rel=\"next\"");
    HeaderValue::try_from(link).expect("paths and cursors are ASCII")
}

/// Shows an event with its deliveries and their attempts.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    operation_id = "show_event",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The id that the 202 carried.")),
    responses(
        (status = 200, description = "The event.", body = EventView),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `manage`.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The organisation has no such event, or no worker has stored it yet.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    PathId(id): PathId<EventId>,
) -> Result<Json<EventView>, ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    let event = app
        .store
        .find_event(org_id, id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let mut attempts: HashMap<_, Vec<_>> = HashMap::new();
    for row in app.store.list_attempts(org_id, &event).await? {
        attempts.entry(row.endpoint_id).or_default().push(row.into());
    }
    let deliveries = app
        .store
        .list_deliveries(org_id, std::slice::from_ref(&event))
        .await?;
    let deliveries = deliveries.into_iter().map(|row| {
        let attempt_log = Some(attempts.remove(&row.endpoint_id).unwrap_or_default());
        DeliveryView {
            attempt_log,
            ..row.into()
        }
    });
    Ok(Json(EventView::new(event, deliveries.collect())?))
}
